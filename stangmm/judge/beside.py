"""Rows beside a mixture: what it makes of each, and rows of its own that are like them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.data.groups import group_rows
from stangmm.data.resolution import rounding_error
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import Mixture

SIMULATED = 4000
SEED = 20370101
# A feature is coarse where its step is more than this share of its standard deviation given the
# others, in some component; and how much of a variance may be rounding errors.
_COARSE, _MOST_OFF = 0.3, 0.9
_FARTHEST = 1e6  # deviations beyond it count as this, so that products of them stay numbers


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows beside a mixture.

    Attributes
    ----------
    x : ndarray, shape (N, D)
        NaN where a value is missing.
    weight : ndarray, shape (N,)
        How often each counts.
    labels : ndarray of int, shape (N,)
        Known components, -1 where unknown.
    """

    x: FloatArray
    weight: FloatArray
    labels: IntArray

    @property
    def total(self) -> float:
        """How many there are, counted by their weights."""
        return float(self.weight.sum())

    def some(self, most: int) -> Rows:
        """At most so many of them, drawn at random by their weights."""
        if self.total <= most:
            return self
        rng = np.random.default_rng(SEED)
        which = rng.choice(int(self.total), most, replace=False)
        rows = np.searchsorted(np.cumsum(self.weight), which, side="right")
        kept, times = np.unique(np.minimum(rows, len(self.x) - 1), return_counts=True)
        return Rows(self.x[kept], times.astype(float), self.labels[kept])

    def without_labels(self) -> Rows:
        """The same rows as if no component were known."""
        return replace(self, labels=np.full(len(self.x), -1))


@dataclass(frozen=True, eq=False)
class Seen:
    """Rows as a mixture sees them.

    Attributes
    ----------
    rows : Rows
    responsibility : ndarray, shape (N, K)
    deviation : ndarray, shape (N, K, D)
        Expected deviation from a component's mean, given what the row has, in its scales.
    second : ndarray, shape (G, K, D, D)
        Expected products of the deviations, for rows from the component, that miss the same.
    group : ndarray of int, shape (N,)
        Which of the G a row is in.
    distance : ndarray, shape (N, K)
        Squared Mahalanobis distances.
    observed : ndarray, shape (N,)
        How many features a row has.
    """

    rows: Rows
    responsibility: FloatArray
    deviation: FloatArray
    second: FloatArray
    group: IntArray
    distance: FloatArray
    observed: FloatArray


class Beside:
    """A mixture and rows that may be from it.

    Parameters
    ----------
    mixture : Mixture
        Without leading axes.
    structure : CovarianceStructure
    rows : Rows
    step : ndarray, shape (D,)
        How finely each feature was recorded.
    narrow : ndarray of bool, shape (K,)
        Components as narrow in some feature as the rounding lets them be, whose scales the
        likelihood does not determine.
    """

    def __init__(
        self,
        mixture: Mixture,
        structure: CovarianceStructure,
        rows: Rows,
        step: FloatArray,
        narrow: BoolArray,
    ) -> None:
        self.mixture, self.structure, self.step, self.narrow = mixture, structure, step, narrow
        inverse = np.asarray(np.linalg.inv(mixture.cholesky), dtype=np.float64)
        given_others = 1.0 / np.sqrt((inverse**2).sum(axis=-2))  # standard deviations, (K, D)
        self.coarse: BoolArray = np.asarray((step > _COARSE * given_others).any(axis=0))
        self.unrounded = _before_rounding(mixture, np.where(self.coarse, step, 0.0), inverse)
        # Where the grid of a coarse feature lies: all its values are on it.
        self._origin = np.array([next(iter(c[~np.isnan(c)]), 0.0) for c in rows.x.T])
        self._rng = np.random.default_rng(SEED)
        self.data = self._seen(rows)
        self.simulated = self._seen(self._simulate(rows))

    @property
    def both(self) -> tuple[Seen, Seen]:
        """The data and the simulated rows."""
        return self.data, self.simulated

    def drawn(self, component: IntArray) -> FloatArray:
        """Rows of some components, -1 for noise, rounded where the data are, shape (n, D)."""
        mixture = self.unrounded
        x = self._rng.standard_normal((len(component), mixture.n_features))
        if mixture.corr_chol is not None:
            x = np.einsum("nij,nj->ni", mixture.corr_chol[component], x)
        x = mixture.means[component] + mixture.scales[component] * x
        if mixture.noise is not None:
            x[component < 0] = mixture.noise.box.draw(int((component < 0).sum()), self._rng)
        for d in np.flatnonzero(self.coarse):
            steps = np.round((x[:, d] - self._origin[d]) / self.step[d])
            x[:, d] = self._origin[d] + self.step[d] * steps
        return x

    def components(self) -> IntArray:
        """Components of as many rows as are simulated, drawn by their weights; -1 for noise."""
        share = self.mixture.all_weights / self.mixture.all_weights.sum()
        component = self._rng.choice(len(share), SIMULATED, p=share)
        return np.where(component == self.mixture.n_components, -1, component)

    def _simulate(self, like: Rows) -> Rows:
        """Rows of the mixture that miss what some rows miss, and have their known labels."""
        which = self._rng.choice(len(like.x), SIMULATED, p=like.weight / like.total)
        known = like.labels[which]
        x = self.drawn(np.where(known >= 0, known, self.components()))
        x[np.isnan(like.x[which])] = np.nan
        return Rows(x, np.ones(SIMULATED), known)

    def _seen(self, rows: Rows) -> Seen:
        mixture, x = self.mixture, rows.x
        n, k, d = len(x), mixture.n_components, mixture.n_features
        deviation = np.zeros((n, k, d))
        order, groups = group_rows(x)
        second = np.zeros((len(groups), k, d, d))
        group_of = np.empty(n, dtype=int)
        for g, group in enumerate(groups):
            own, seen = order[group.rows], group.observed
            group_of[own] = g
            part = mixture.marginal(seen)
            raw = (x[np.ix_(own, seen)][:, np.newaxis] - part.means) / part.scales
            raw = np.clip(raw, -_FARTHEST, _FARTHEST)
            # What the observed features say of all: these themselves, and of others a regression.
            gain = np.zeros((k, d, len(seen)))
            gain[:, seen, np.arange(len(seen))] = 1.0
            correlation = np.broadcast_to(np.eye(len(seen)), (k, len(seen), len(seen)))
            if mixture.corr_chol is not None and part.corr_chol is not None:
                correlation = part.corr_chol @ np.swapaxes(part.corr_chol, -1, -2)
                with_all = mixture.corr_chol[:, seen] @ np.swapaxes(mixture.corr_chol, -1, -2)
                if len(seen) < d:
                    gain = np.swapaxes(np.linalg.pinv(correlation) @ with_all, -1, -2)
            deviation[own] = raw if len(seen) == d else np.einsum("kij,nkj->nki", gain, raw)
            second[g] = gain @ correlation @ np.swapaxes(gain, -1, -2)
        return Seen(
            rows,
            mixture.responsibilities(x, rows.labels).T[:, :k],
            deviation,
            second,
            group_of,
            squared_distances(mixture, x),
            (~np.isnan(x)).sum(axis=1).astype(float),
        )

    def cdf(self, feature: int, values: FloatArray, labels: IntArray | None = None) -> FloatArray:
        """Probability of less than some values of a feature, shape (N,)."""
        mixture = self.unrounded
        share: FloatArray = mixture.weights
        if labels is not None and (labels >= 0).any():
            own = np.arange(mixture.n_components) == labels[:, np.newaxis]
            share = np.where(labels[:, np.newaxis] >= 0, own, share)
        z = (values[:, np.newaxis] - mixture.means[:, feature]) / mixture.scales[:, feature]
        below = (share * ndtr(z)).sum(axis=1)
        if mixture.noise is not None:
            left = 1.0 - np.sum(share, axis=-1)  # nothing where the component is known
            below += left * mixture.noise.box.cdf(feature, values)
        return np.asarray(np.clip(below, 0.0, 1.0))

    def cell(self, rows: Rows, feature: int) -> tuple[FloatArray, FloatArray]:
        """Probabilities between which values lie that were rounded, each (N,)."""
        values, half = rows.x[:, feature], 0.5 * self.step[feature]
        return (
            self.cdf(feature, values - half, rows.labels),
            self.cdf(feature, values + half, rows.labels),
        )

    def transform(self, rows: Rows, feature: int) -> tuple[FloatArray, FloatArray]:
        """Between which probabilities values lie; one where the rounding does not matter."""
        if self.coarse[feature]:
            return self.cell(rows, feature)
        at = self.cdf(feature, rows.x[:, feature], rows.labels)
        return at, at


def _before_rounding(mixture: Mixture, step: FloatArray, inverse: FloatArray) -> Mixture:
    """The mixture of values that were rounded to multiples of a step, 0 for those that were not.

    The errors are in the variances, not in the covariances (Sheppard 1898). Where components are as
    narrow as the errors, as much is taken off as leaves a positive covariance.

    Parameters
    ----------
    mixture : Mixture
    step : ndarray, shape (D,)
    inverse : ndarray, shape (K, D, D)
        Of the Cholesky factors of the covariances.
    """
    if not step.any():
        return mixture
    variance = rounding_error(step) ** 2
    share = np.linalg.eigvalsh(inverse * variance @ np.swapaxes(inverse, -1, -2))[:, -1]
    off = np.minimum(1.0, _MOST_OFF / share)[:, np.newaxis] * variance  # (K, D)
    if mixture.corr_chol is None:
        return replace(mixture, scales=np.sqrt(mixture.scales**2 - off))
    covariances = mixture.covariances - off[:, np.newaxis] * np.eye(len(step))
    rounded = Mixture.from_covariances(mixture.weights, mixture.means, covariances)
    return replace(rounded, noise=mixture.noise)


def squared_distances(mixture: Mixture, x: FloatArray) -> FloatArray:
    """Squared Mahalanobis distances of rows from the components, shape (N, K)."""
    out = np.empty((len(x), mixture.n_components))
    order, groups = group_rows(x)
    for group in groups:
        own, part = order[group.rows], mixture.marginal(group.observed)
        highest = part.component_log_density(part.means).diagonal()
        density = part.component_log_density(x[np.ix_(own, group.observed)])
        out[own] = np.clip(2.0 * (highest - density.T), 0.0, _FARTHEST**2)
    return out
