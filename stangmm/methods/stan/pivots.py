"""Coordinates in which a sampler moves easily where a component holds few rows.

Given its scale, the mean of a component with n rows is normal around their mean, with the scale
over sqrt(n) as its standard deviation. Where rows are few, the scale may be a hundred times larger
or smaller, and in the coordinates (mean, log scale) the posterior is a funnel (Neal 2003,
doi:10.1214/aos/1056562461): no size of steps is right for both of its ends. Given the scale, one
row, the pivot, and the prior, the mean has a normal distribution; in units of that, it has nearly
the same distribution whatever the scale is: around the pivot where the scale is small, as wide as
the prior where it is large. This is a partially non-centred parametrization (Papaspiliopoulos,
Roberts & Skold 2007, doi:10.1214/088342307000000014).

The pivot is the row that the component keeps when it gets narrow: of its rows the one that the
other components explain least.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.base.rounding import to_grid
from stangmm.model.mixture import Mixture, log_sum_exp
from stangmm.model.parameters import ParameterSpace
from stangmm.model.priors import Normal
from stangmm.model.problem import Problem

# Components with so many rows more than a mean and their correlations take know their scales well.
# One with a larger share, relative to equal weights, has other rows before it gets narrow.
_FEW_ROWS, _SMALL = 20.0, 0.5
# A component has left its pivot where this is as many standard deviations from its mean, which it
# never is from that of a hundred rows to which it belongs; what share of draws is more than a few.
_FAR, _MANY = 10.0, 0.01
_BITS = 20  # binary digits of a starting value, after the point


@dataclass(frozen=True, eq=False)
class Pivots:
    """Which components' means are told relative to a pivot, as it and the prior leave them.

    Attributes
    ----------
    relative : ndarray of bool, shape (K,)
    at : ndarray, shape (K, D)
        The pivots, in the problem's units; zeros elsewhere.
    prior : Normal
        Of the means, in the same units; its parameters have shape (K, D).
    """

    relative: BoolArray
    at: FloatArray
    prior: Normal

    @classmethod
    def none(cls, space: ParameterSpace) -> Pivots:
        """Means are told as they are."""
        k, d = space.n_components, space.n_features
        prior = Normal(np.zeros((k, d)), np.ones((k, d)))  # not looked at
        return cls(np.zeros(k, dtype=bool), np.zeros((k, d)), prior)

    @classmethod
    def of(cls, mixture: Mixture, problem: Problem) -> Pivots:
        """Choose them at an optimum (no leading axes) by how many rows its components hold.

        A component whose scale others share, or which no row prefers, has none.
        """
        found = replace(cls.none(problem.space), prior=problem.priors.means)
        taken = problem.n_features if problem.structure.correlated else 1
        few = mixture.weights * problem.total_weight < taken + _FEW_ROWS
        few &= mixture.weights < _SMALL / problem.n_components
        if problem.space.scale_shape[0] < problem.n_components or not few.any():
            return found
        log_joint = mixture.log_joint(problem.x, problem.labels).round(6)
        preferred = log_joint.argmax(axis=0)
        for k in np.flatnonzero(few):
            rows = np.flatnonzero(preferred == k)
            if not len(rows):
                continue
            others = log_sum_exp(np.delete(log_joint[:, rows], k, axis=0), axis=0)
            row = problem.x[rows[np.argmin(others.round(3))]]
            found.relative[k] = True
            found.at[k] = np.where(np.isnan(row), mixture.means[k], row)
        return found

    def shared_with(self, other: Pivots) -> Pivots:
        """Those that chains elsewhere have, too."""
        same = self.relative & other.relative & (self.at == other.at).all(axis=-1)
        return replace(self, relative=same, at=np.where(same[:, np.newaxis], self.at, 0.0))

    def order(self, other: Pivots) -> dict[int, int]:
        """Which components have the pivots of components of another set: its to this one's."""
        return {
            theirs: ours
            for theirs in np.flatnonzero(other.relative).tolist()
            for ours in np.flatnonzero(self.relative).tolist()
            if (self.at[ours] == other.at[theirs]).all()
        }

    def first_of(self, components: list[int]) -> Pivots:
        """The pivots of some components, numbered from the first; all have one prior."""
        at = np.zeros_like(self.at)
        at[: len(components)] = self.at[components]
        return replace(self, relative=np.arange(len(at)) < len(components), at=at)

    def in_whole(self, problem: Problem) -> Pivots:
        """The same in a problem with more components, whose means are told as they are."""
        more = problem.n_components - len(self.relative)
        at = np.pad(self.at, ((0, more), (0, 0)))
        return Pivots(np.pad(self.relative, (0, more)), at, problem.priors.means)

    def locations(self, mixture: Mixture) -> FloatArray:
        """Where the components of mixtures (...) lie, as the Stan model tells it (..., K, D)."""
        told = mixture.means.copy()
        center, unit = self._given_scales(mixture)
        for k in np.flatnonzero(self.relative):
            away = ((mixture.means - center) / unit)[..., k, :, np.newaxis]
            chol = mixture.corr_chol
            told[..., k, :] = (away if chol is None else np.linalg.solve(chol[..., k, :, :], away))[
                ..., 0
            ]
        return told

    def _given_scales(self, mixture: Mixture) -> tuple[FloatArray, FloatArray]:
        """Mean and sd (..., K, D) of the means if their scales, one row and the prior are known."""
        location, scale = np.asarray(self.prior.location), np.asarray(self.prior.scale)
        share = 1.0 / (1.0 + (mixture.scales / scale) ** 2)
        return location + share * (self.at - location), mixture.scales * np.sqrt(share)

    def left_by(self, mixture: Mixture) -> bool:
        """Whether components are elsewhere than at their pivots in more than a few draws (...).

        Then means are easier told as they are.
        """
        away = np.linalg.norm(self.locations(mixture), axis=-1)[..., self.relative]
        return bool((away > _FAR).any(axis=-1).mean() > _MANY)

    def rounded_locations(self, mixture: Mixture) -> FloatArray:
        """The same with relative ones rounded, so that they have the same bits on every machine."""
        told = self.locations(mixture)
        coarse = to_grid(told, np.ones_like(told), _BITS)
        return np.where(self.relative[:, np.newaxis], coarse, told)

    def log_volume(self, mixture: Mixture) -> FloatArray:
        """Log |d means / d locations|, shape (...)."""
        _, unit = self._given_scales(mixture)
        chosen = np.log(unit[..., self.relative, :]).sum(axis=(-2, -1))
        if mixture.corr_chol is not None:
            diagonal = np.diagonal(mixture.corr_chol[..., self.relative, :, :], axis1=-2, axis2=-1)
            chosen = chosen + np.log(diagonal).sum(axis=(-2, -1))
        return np.asarray(chosen)
