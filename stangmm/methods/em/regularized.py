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
from stangmm.methods.em.restarts import effective_rows
from stangmm.methods.em.steps import EMSpace
from stangmm.model.problem import Problem

# Variance that regularization leaves in every direction, relative to each feature's own.
_RIDGE = 1e-6
# Regularized EM ends when no number changes by more than this.
_SETTLED = 1e-8


@dataclass(frozen=True)
class RegularizedEM(EM):
    """EM for data on which the likelihood has no maximum: the mode under a conjugate prior.

    Each component gets one pseudo-row, with the covariance of all data shrunk to a K-th of their
    volume (Fraley & Raftery 2007, doi:10.1007/s00357-007-0004-5). Of several modes the one of
    highest likelihood is given.
    """

    name: ClassVar[str] = "regularized_em"

    def search(self, problem: Problem, run: Run) -> RestartInfo:
        """Run all restarts, and bring the best to convergence on all rows."""
        found = self.regularized(problem, run)
        space = EMSpace(problem)
        # One row is one unit of sample weight, so that a weight of three is three rows.
        one_row = effective_rows(space.n_rows, space.total) / space.total
        parameters = space.parameters_of(found.best.mixture)
        path: list[float] = []
        converged = False
        # What grows is the posterior density, not the likelihood, so the parameters must settle.
        while not converged and len(path) < self.max_iterations:
            log_lik, sums = space.expectation(parameters)
            path.append(float(log_lik[0]))
            updated, _ = space.maximization(sums, one_row)
            converged = _change(parameters, updated) < _SETTLED
            parameters = updated
        best = replace(
            found.best,
            mixture=space.mixture_of(parameters)[0],
            objective=path[-1],
            converged=converged,
            path=np.array(path),
        )
        return found.polished((best,), [best.restarts], found.rows_searched)


def _change(old: EMParameters, new: EMParameters) -> float:
    """Largest change of a number, in coordinates in which all data have variance 1."""
    pairs = [(old.weights, new.weights), (old.means, new.means)]
    pairs.append((old.covariances, new.covariances))
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def spread_out(dataset: Dataset) -> Dataset:
    """Add pairs of rows of next to no weight, so that no features determine one another.

    Each pair is one standard deviation to either side of the mean, in one feature.
    """
    mean, sd = dataset.mean_and_sd()
    pairs = np.concatenate([mean + np.diag(sd), mean - np.diag(sd)])
    counted = np.ones(len(dataset.x)) if dataset.sample_weight is None else dataset.sample_weight
    share = np.full(len(pairs), 0.5 * _RIDGE * dataset.total_weight)
    return Dataset.from_input(np.concatenate([dataset.x, pairs]), np.concatenate([counted, share]))
