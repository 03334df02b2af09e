"""The model in numpy: mixtures, their densities and responsibilities, the log likelihood.

The Stan model and this file say the same thing twice, on purpose: each is tested against the
other. Only numpy and scipy are used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.brief import Brief
from stangmm.data.groups import group_rows
from stangmm.model import incomplete
from stangmm.model.incomplete import in_large_groups
from stangmm.model.noise import Noise

LOG_2PI = float(np.log(2 * np.pi))
# Deviations beyond this many standard deviations count as this many, so that squares of them and
# their differences stay numbers.
_FARTHEST = 1e140
# Of a factor of correlations with a smaller number on its diagonal, the product is not factored.
_FLAT = 1e-5
# Rows this many standard deviations away lose four of sixteen digits when they are whitened first.
_FAR = 1e4
# Largest block of work, in numbers of 8 bytes: 2 MB, which stay in the cache.
_BLOCK = 2**18


@dataclass(frozen=True, eq=False, repr=False)
class Mixture(Brief):
    """A batch of Gaussian mixtures; the leading axes are draws, chains or nothing at all.

    Attributes
    ----------
    weights : ndarray, shape (..., K)
    means : ndarray, shape (..., K, D)
    scales : ndarray, shape (..., K, D)
        Standard deviations.
    corr_chol : ndarray, shape (..., K, D, D), or None
        Lower Cholesky factors of the correlation matrices; None without correlations.
    noise : Noise or None
        A uniform component beside the K normal ones; its weight is what theirs leave.
    """

    weights: FloatArray
    means: FloatArray
    scales: FloatArray
    corr_chol: FloatArray | None = None
    noise: Noise | None = None

    @classmethod
    def from_covariances(
        cls, weights: FloatArray, means: FloatArray, covariances: FloatArray
    ) -> Mixture:
        """Build from covariance matrices (..., K, D, D), or from variances (..., K, D)."""
        if covariances.ndim == means.ndim:
            return cls(weights, means, np.sqrt(covariances))
        scales = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
        correlation = covariances / (scales[..., :, np.newaxis] * scales[..., np.newaxis, :])
        return cls(weights, means, scales, np.linalg.cholesky(correlation))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes."""
        return tuple(self.weights.shape[:-1])

    @property
    def n_components(self) -> int:
        """K."""
        return int(self.weights.shape[-1])

    @property
    def n_weights(self) -> int:
        """K, or K + 1 with noise."""
        return self.n_components + (self.noise is not None)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.means.shape[-1])

    @property
    def all_weights(self) -> FloatArray:
        """The weights with that of the noise, if there is noise, behind: (..., K) or (..., K + 1).

        They sum to one.
        """
        if self.noise is None:
            return self.weights
        return np.concatenate([self.weights, self.noise.weight[..., np.newaxis]], axis=-1)

    @property
    def cholesky(self) -> FloatArray:
        """Lower Cholesky factors of the covariances, shape (..., K, D, D)."""
        if self.corr_chol is None:
            return self.scales[..., np.newaxis] * np.eye(self.n_features)
        return self.scales[..., np.newaxis] * self.corr_chol

    @property
    def covariances(self) -> FloatArray:
        """Covariance matrices, shape (..., K, D, D)."""
        factor = self.cholesky
        return factor @ np.swapaxes(factor, -1, -2)

    def __getitem__(self, index: Any) -> Mixture:
        """Mixtures at an index of the leading axes."""
        chol = None if self.corr_chol is None else self.corr_chol[index]
        noise = self.noise and replace(self.noise, weight=np.asarray(self.noise.weight[index]))
        return Mixture(self.weights[index], self.means[index], self.scales[index], chol, noise)

    def reshape(self, *batch_shape: int) -> Mixture:
        """Same mixtures with other leading axes."""
        n = len(self.batch_shape)

        def shaped(array: FloatArray) -> FloatArray:
            return array.reshape(*batch_shape, *array.shape[n:])

        chol = None if self.corr_chol is None else shaped(self.corr_chol)
        noise = self.noise and replace(self.noise, weight=shaped(self.noise.weight))
        return Mixture(shaped(self.weights), shaped(self.means), shaped(self.scales), chol, noise)

    def permute(self, permutation: IntArray) -> Mixture:
        """Reorder components: new component k is the old one ``permutation[..., k]``.

        Noise stays noise.
        """
        p = np.broadcast_to(permutation, self.weights.shape)

        def taken(array: FloatArray) -> FloatArray:
            index = p.reshape(*p.shape, *(1,) * (array.ndim - p.ndim))
            return np.take_along_axis(array, index, axis=p.ndim - 1)

        chol = None if self.corr_chol is None else taken(self.corr_chol)
        weights, means, scales = taken(self.weights), taken(self.means), taken(self.scales)
        return Mixture(weights, means, scales, chol, self.noise)

    def in_units(self, center: FloatArray, unit: FloatArray) -> Mixture:
        """Mixtures of ``center + unit * x``, for mixtures of x; both have shape (D,)."""
        noise = self.noise and replace(self.noise, box=self.noise.box.in_units(center, unit))
        means, scales = center + unit * self.means, unit * self.scales
        return Mixture(self.weights, means, scales, self.corr_chol, noise)

    def marginal(self, features: IntArray) -> Mixture:
        """Mixtures of some of the features (indices, any order), the others integrated out."""
        means, scales = self.means[..., features], self.scales[..., features]
        noise = self.noise and replace(self.noise, box=self.noise.box.marginal(features))
        if self.corr_chol is None or len(features) == 1:
            return Mixture(self.weights, means, scales, noise=noise)
        rows = self.corr_chol[..., features, :]
        if np.array_equal(features, np.arange(len(features))):
            return Mixture(self.weights, means, scales, rows[..., : len(features)], noise)
        try:
            factor = np.asarray(np.linalg.cholesky(rows @ np.swapaxes(rows, -1, -2)))
        except np.linalg.LinAlgError:  # a correlation of nearly one, lost in the product
            factor = np.swapaxes(np.linalg.qr(np.swapaxes(rows, -1, -2), mode="r"), -1, -2)
            sign = np.where(np.diagonal(factor, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
            factor = factor * sign[..., np.newaxis, :]
        return Mixture(self.weights, means, scales, factor, noise)

    def component_log_density(self, x: FloatArray) -> FloatArray:
        """Log p(x_n | z_n = k), shape (..., K, N), for rows x of shape (N, D).

        Values that are NaN are integrated out: a row has the density of the features that it has.
        """
        if not np.isnan(x).any():
            return self._component_log_density(x)
        if self.corr_chol is None:
            return self._independent_log_density(x)
        log_density = np.zeros((*self.weights.shape, len(x)))
        many = in_large_groups(x)
        if np.diagonal(self.corr_chol, axis1=-2, axis2=-1).min() < _FLAT:
            many[:] = True  # one by one, where the product of a factor with itself loses too much
        if not many.all():
            means = self.means.reshape(-1, self.n_features)
            covariances = self.covariances.reshape(*means.shape, -1)
            few = incomplete.log_density(x[~many], means, covariances)
            log_density[..., ~many] = few.reshape(*self.weights.shape, -1)
        if many.any():
            order, groups = group_rows(x[many])
            for group in groups:
                if len(group.observed):
                    rows = np.flatnonzero(many)[order[group.rows]]
                    log_density[..., rows] = self.marginal(group.observed)._component_log_density(
                        x[np.ix_(rows, group.observed)]
                    )
        return log_density

    def _independent_log_density(self, x: FloatArray) -> FloatArray:
        """Without correlations, of rows that miss values: what is missing adds nothing."""
        seen = ~np.isnan(x)
        log_density = self._squared_distances_independent(x)
        log_density *= -0.5
        log_density -= np.log(self.scales) @ seen.T
        log_density -= 0.5 * LOG_2PI * seen.sum(axis=1)
        return log_density

    def _component_log_density(self, x: FloatArray) -> FloatArray:
        log_det = np.log(self.scales).sum(axis=-1)
        if self.corr_chol is None:
            log_density = self._squared_distances_independent(x)
        else:
            diagonal = np.diagonal(self.corr_chol, axis1=-2, axis2=-1)
            log_det = log_det + np.log(diagonal).sum(axis=-1)
            log_density = self._squared_distances_correlated(x, inverse_lower(self.corr_chol))
        log_density *= -0.5
        log_density += (-log_det - 0.5 * self.n_features * LOG_2PI)[..., np.newaxis]
        return log_density

    def _squared_distances_independent(self, x: FloatArray) -> FloatArray:
        squared = np.zeros((*self.weights.shape, len(x)))
        for d in range(self.n_features):
            deviation = x[:, d] - self.means[..., d, np.newaxis]
            deviation[..., np.isnan(x[:, d])] = 0.0
            deviation = _standardized(deviation, self.scales[..., d, np.newaxis])
            squared += np.square(deviation, out=deviation)
        return squared

    def _squared_distances_correlated(self, x: FloatArray, inverse: FloatArray) -> FloatArray:
        # All mixtures whiten the rows with one product. The deviation from the mean is taken after
        # it, which costs digits where a component is narrow beside the data's spread.
        origin = self.means.reshape(-1, self.n_features).mean(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            whitening = inverse / self.scales[..., np.newaxis, :]
            farthest = np.abs(x - origin).max() * np.abs(whitening).sum(axis=-1).max()
        if farthest < _FAR:
            shift = whitening @ (self.means - origin)[..., np.newaxis]
            white = whitening.reshape(-1, self.n_features) @ (x - origin).T
            white = white.reshape(*self.means.shape, len(x))
            white -= shift
            return np.asarray(np.einsum("...dn,...dn->...n", white, white))
        deviation = x - self.means[..., np.newaxis, :]
        deviation = _standardized(deviation, self.scales[..., np.newaxis, :])
        white = deviation @ np.swapaxes(inverse, -1, -2)
        return np.asarray(np.einsum("...nd,...nd->...n", white, white))

    def log_density(self, x: FloatArray, labels: IntArray | None = None) -> FloatArray:
        """Log p(x_n), labels summed out, shape (..., N).

        For a row whose component is known (``labels``, shape (N,), not negative) it is
        log p(x_n, z_n).
        """
        return log_sum_exp(self.log_joint(x, labels), axis=-2)

    def responsibilities(self, x: FloatArray, labels: IntArray | None = None) -> FloatArray:
        """P(z_n = k | x_n), shape (..., K, N), or (..., K + 1, N) with noise, which is last.

        Sums to one over k.
        """
        log_joint = self.log_joint(x, labels)
        log_joint -= log_joint.max(axis=-2, keepdims=True)
        joint = np.exp(log_joint)
        joint /= joint.sum(axis=-2, keepdims=True)
        return joint

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, slice]]:
        """Pairs (draws, rows) of slices that cover S mixtures and N rows in bounded memory."""
        per_cell = self.n_components * (self.n_features if self.corr_chol is not None else 2)
        rows = max(1, min(n_rows, _BLOCK // (4 * per_cell)))
        draws = max(1, _BLOCK // (2 * per_cell * rows))
        for first_row in range(0, n_rows, rows):
            for first in range(0, self.batch_shape[0], draws):
                yield slice(first, first + draws), slice(first_row, first_row + rows)

    def log_joint(self, x: FloatArray, labels: IntArray | None = None) -> FloatArray:
        """Log p(x_n, z_n = k), shape (..., K, N), or (..., K + 1, N) with noise, which is last."""
        with np.errstate(divide="ignore"):  # a weight of zero has log -inf, as it should
            log_weights = np.log(self.all_weights)
        log_joint = self.component_log_density(x)
        if self.noise is not None:
            uniform = (~np.isnan(x) @ self.noise.box.log_density)[np.newaxis]
            uniform = np.broadcast_to(uniform, (*self.batch_shape, 1, len(x)))
            log_joint = np.concatenate([log_joint, uniform], axis=-2)
        log_joint += log_weights[..., np.newaxis]
        if labels is not None:
            other = labels != np.arange(log_joint.shape[-2])[:, np.newaxis]
            log_joint[..., other & (labels >= 0)] = -np.inf
        return log_joint


def log_sum_exp(values: FloatArray, axis: int) -> FloatArray:
    """Log of the sum of exponentials along one axis, safe for -inf."""
    peak = values.max(axis=axis, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(values - peak).sum(axis=axis)) + np.squeeze(peak, axis))


def log_likelihood(
    mixture: Mixture,
    x: FloatArray,
    sample_weight: FloatArray | None = None,
    labels: IntArray | None = None,
) -> FloatArray:
    """Sum over rows of weight times log p(x_n), shape (...), in blocks of bounded memory."""
    flat = mixture.reshape(-1)
    total = np.zeros(flat.batch_shape)
    for draws, rows in flat.blocks(len(x)):
        each = flat[draws].log_density(x[rows], None if labels is None else labels[rows])
        weight = None if sample_weight is None else sample_weight[rows]
        total[draws] += each.sum(axis=-1) if weight is None else each @ weight
    return total.reshape(mixture.batch_shape)


def rows_kept(
    before: Mixture, after: Mixture, x: FloatArray, labels: IntArray | None = None
) -> float:
    """Share of its rows that a component keeps from one mixture to another, of the one with least.

    The rows that both give a component, over the most that either gives it: 1 where nothing
    changes, 0 where the component has gone elsewhere. Components keep their numbers, and one that
    never holds a whole row has nothing to keep. ``after`` may have leading axes: the average.
    """
    one = before.responsibilities(x, labels)  # (K, N)
    other = after.responsibilities(x, labels).reshape(-1, *one.shape).mean(axis=0)
    most = np.maximum(one.sum(axis=-1), other.sum(axis=-1))
    both = np.minimum(one, other).sum(axis=-1)
    return float(np.where(most < 1.0, 1.0, both / np.maximum(most, 1.0)).min())


def _standardized(deviation: FloatArray, scales: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        ratio = np.divide(deviation, scales, out=deviation)
    return np.clip(ratio, -_FARTHEST, _FARTHEST, out=ratio)


def inverse_lower(factor: FloatArray) -> FloatArray:
    """Inverse of lower triangular matrices, shape (..., D, D)."""
    if factor.ndim == 2:
        return np.asarray(solve_triangular(factor, np.eye(len(factor)), lower=True))
    return np.tril(np.linalg.inv(factor))
