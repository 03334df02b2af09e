"""EM where the likelihood has no maximum: the mode under a weak conjugate prior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from stangmm.base.blas import one_blas_thread
from stangmm.base.thresholds import GAP_OK
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.draws import RestartInfo
from stangmm.methods.em.em import EM, has_groups_beside_rows_far_out
from stangmm.methods.em.steps import EMSpace
from stangmm.model.covariance import CovarianceStructure, structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.noise import Box
from stangmm.model.priors import Priors
from stangmm.model.problem import Problem

# Standard deviation that regularization leaves in every direction, relative to each feature's size.
_NARROWEST = 0.5e-3


@dataclass(frozen=True)
class RegularizedEM(EM):
    """EM for data on which the likelihood has no maximum: the mode under a conjugate prior.

    It is what `EM` falls back to where every restart collapses, from the start, see
    `EM.regularized`; here features may determine one another, too (`regularized_problem`).
    """

    name: ClassVar[str] = "regularized_em"

    def search(self, problem: Problem, run: Run, *, within: float = 0.0) -> RestartInfo:
        """Run restarts with pseudo-rows only, see `EM.regularized`."""
        return self.regularized(problem, run, within=within)


@one_blas_thread()
def sets_rows_far_out_apart(problem: Problem, regularized: Mixture, plain: Mixture) -> bool:
    """Whether a regularized optimum is right about rows far out, and one of the likelihood is not.

    It has them in components of their own, beside two groups of rows or more, and is clearly more
    probable under the regularizing prior. Mixtures (no leading axes) are in the problem's units.
    """
    space = EMSpace(problem, pseudo_rows=1.0)
    apart, together = (space.parameters_of(each.reshape(1)) for each in (regularized, plain))
    if not has_groups_beside_rows_far_out(space, apart):
        return False
    return bool(space.expectation(apart)[0] > space.expectation(together)[0] + GAP_OK)


def regularized_problem(
    dataset: Dataset, n_components: int, structure: CovarianceStructure, noise: bool | float | Box
) -> Problem:
    """Give the problem without priors, whose features may determine one another."""
    if not structure.correlated:
        return Problem.build(dataset, n_components, structure, Priors(), noise)
    # Without correlations, features may be anything.
    problem = Problem.build(dataset, n_components, structure_named("diag"), Priors(), noise)
    size = np.sqrt(EMSpace(problem).typical)
    floor = np.maximum(structure.scale_floor(problem.priors.resolution), _NARROWEST * size)
    return replace(problem, structure=structure, scale_floor=floor)
