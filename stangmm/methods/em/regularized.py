"""EM where the likelihood has no maximum: the mode under a weak conjugate prior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.draws import RestartInfo
from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.em import EM
from stangmm.methods.em.steps import EMSpace
from stangmm.model.covariance import CovarianceStructure, structure_named
from stangmm.model.priors import Priors
from stangmm.model.problem import Problem

# Standard deviation that regularization leaves in every direction, relative to each feature's size.
_NARROWEST = 0.5e-3
# Along flat directions the likelihood is rounded so coarsely that it does not tell when to end: EM
# ends when no number changes by more than this.
_SETTLED = 1e-8


@dataclass(frozen=True)
class RegularizedEM(EM):
    """EM for data on which the likelihood has no maximum: the mode under a conjugate prior.

    Each component gets one pseudo-row, with the covariance of all data shrunk to a K-th of their
    volume (Fraley & Raftery 2007, doi:10.1007/s00357-007-0004-5). What the data's size is does not
    hang on single values far out. Of several modes the one of highest density is given.
    """

    name: ClassVar[str] = "regularized_em"

    def search(self, problem: Problem, run: Run) -> RestartInfo:
        """Run restarts with pseudo-rows; the best ends with EM's own steps, until nothing moves."""
        found = self.regularized(problem, run)
        space = EMSpace(problem, pseudo_rows=1.0)
        parameters = space.parameters_of(found.best.mixture)
        for _ in range(self.max_iterations):
            updated, _ = space.maximization(space.expectation(parameters)[1])
            settled = _change(parameters, updated) < _SETTLED
            parameters = updated
            if settled:
                break
        best = replace(found.best, mixture=space.mixture_of(parameters)[0])
        return replace(found, optima=(best, *found.optima[1:]))


def _change(old: EMParameters, new: EMParameters) -> float:
    """Largest change of a number, in coordinates in which all data have variance 1."""
    pairs = [(old.weights, new.weights), (old.means, new.means)]
    pairs.append((old.covariances, new.covariances))
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def regularized_problem(
    dataset: Dataset, n_components: int, structure: CovarianceStructure
) -> Problem:
    """Give the problem without priors, whose features may determine one another."""
    if not structure.correlated:
        return Problem.build(dataset, n_components, structure, Priors())
    # Without correlations, features may be anything.
    problem = Problem.build(dataset, n_components, structure_named("diag"), Priors())
    size = np.sqrt(EMSpace(problem).typical)
    floor = np.maximum(structure.scale_floor(problem.priors.resolution), _NARROWEST * size)
    return replace(problem, structure=structure, scale_floor=floor)
