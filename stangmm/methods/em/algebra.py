"""The arithmetic of EM's two steps, for covariances with and without correlations.

Each class answers the same two questions about blocks of rows: how far each row is from each
component, and what the M step needs of a block. Both work on R running mixtures at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.model.covariance import CovarianceStructure

# Variances, relative to that of all data, above which nothing is taken about the components' own
# means: squared distances are expanded, x^2/v - 2 x m/v + m^2/v, or rows are whitened before the
# mean is taken off, and moments are about zero. This loses six of sixteen digits at the most.
_EXPANDED_ABOVE = 1e-4
_WHITENED_ABOVE = 1e-8
# The same of variances relative to the largest square, where values lie far out: ten digits.
_OF_LARGEST_SQUARE = 1e-10

# From so many features on, the products of one component fill the cache.
_ONE_BY_ONE_FROM = 16

_TRANSPOSED_ROWS = 1024

# Responsibilities are at least exp of this: of no weight, and no subnormal number, which is slow.
NEGLIGIBLE = -600.0

Distances: TypeAlias = Callable[[slice], FloatArray]


@dataclass(frozen=True, eq=False)
class EMParameters:
    """R running mixtures in EM's own space: covariances as variances or matrices.

    With noise, its weight is what the others leave of one.
    """

    weights: FloatArray  # (R, K)
    means: FloatArray  # (R, K, D)
    covariances: FloatArray  # (R, C, D) or (R, C, D, D), C = K or 1

    @classmethod
    def joined(cls, parts: Sequence[EMParameters]) -> EMParameters:
        """The mixtures of all parts, one after the other."""
        return cls(
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.means for part in parts]),
            np.concatenate([part.covariances for part in parts]),
        )

    def __getitem__(self, index: BoolArray | IntArray) -> EMParameters:
        return EMParameters(self.weights[index], self.means[index], self.covariances[index])

    @property
    def noise_weight(self) -> FloatArray:
        """What the components' weights leave, shape (R,)."""
        return np.asarray(np.maximum(1.0 - self.weights.sum(axis=1), 0.0))

    def component(self, k: int) -> EMParameters:
        """One component of each mixture, with its weight as it is."""
        one = slice(k, k + 1)
        shared = self.covariances.shape[1] == 1
        covariances = self.covariances if shared else self.covariances[:, one]
        return EMParameters(self.weights[:, one], self.means[:, one], covariances)

    def assign(self, index: IntArray, other: EMParameters) -> None:
        """Overwrite some of the mixtures."""
        self.weights[index] = other.weights
        self.means[index] = other.means
        self.covariances[index] = other.covariances


@dataclass(eq=False)
class Sums:
    """Sums over rows of responsibilities times 1, x and squares or products of x."""

    counts: FloatArray  # (R, K)
    first: FloatArray  # (R, K, D)
    second: FloatArray  # (R, K, D), (R, K, D, D), or (R or 1, 1, D, D) for one matrix of all
    origin: FloatArray | None = None  # (R, K, D): x is measured from here, not from zero

    @classmethod
    def none(cls, parameters: EMParameters) -> Sums:
        """Zeros, for R mixtures like these."""
        means, covariances = parameters.means, parameters.covariances
        return cls(
            np.zeros_like(parameters.weights),
            np.zeros_like(means),
            np.zeros_like(means if covariances.ndim == 3 else covariances),
        )

    @classmethod
    def of_parts(cls, parts: list[tuple[IntArray, Sums]], n: int) -> Sums:
        """Put the sums of some mixtures and of the others together as those of all n."""
        whole = [
            np.empty((n, *array.shape[1:]))
            for array in (parts[0][1].counts, parts[0][1].first, parts[0][1].second)
        ]
        origin = np.zeros_like(whole[1])
        for index, sums in parts:
            whole[0][index], whole[1][index], whole[2][index] = sums.counts, sums.first, sums.second
            origin[index] = 0.0 if sums.origin is None else sums.origin
        return cls(whole[0], whole[1], whole[2], origin)

    def about_zero(self) -> Sums:
        """The same sums with x measured from zero; cancels digits of narrow components."""
        if self.origin is None:
            return self
        o, n = self.origin, self.counts[..., np.newaxis]
        first = self.first + n * o
        if self.second.ndim == 3:
            return Sums(self.counts, first, self.second + o * (2.0 * self.first + n * o))
        cross = o[..., np.newaxis] * self.first[..., np.newaxis, :]
        second = self.second + cross + np.swapaxes(cross, -1, -2)
        second += n[..., np.newaxis] * o[..., np.newaxis] * o[..., np.newaxis, :]
        return Sums(self.counts, first, second)

    def add(self, other: Sums, component: int | None = None) -> None:
        """Add sums over other rows; when their component is known, they have this one alone."""
        other = other.about_zero()
        own = slice(None) if component is None else slice(component, component + 1)
        self.counts[:, own] += other.counts
        self.first[:, own] += other.first
        self.second[:, slice(None) if self.second.shape[1] == 1 else own] += other.second

    @property
    def means(self) -> FloatArray:
        """Weighted means, shape (R, K, D)."""
        return self._shift if self.origin is None else self.origin + self._shift

    @property
    def _shift(self) -> FloatArray:
        return self.first / np.maximum(self.counts, np.finfo(float).tiny)[..., np.newaxis]

    def covariances(self, structure: CovarianceStructure) -> FloatArray:
        """Maximum-likelihood covariances, shape (R, C, D) or (R, C, D, D)."""
        of_all = self.second.shape[1] < self.counts.shape[1]
        counts = self.counts.sum(axis=1, keepdims=True) if of_all else self.counts
        counts = np.maximum(counts, np.finfo(float).tiny)
        counts = counts.reshape(*counts.shape, *(1,) * (self.second.ndim - 2))
        return structure.covariance(self.counts, self._shift, self.second / counts)


class Algebra(ABC):
    """Rows x (N, D), kept as columns, and what one asks of them."""

    def __init__(self, columns: FloatArray, structure: CovarianceStructure) -> None:
        self.columns = columns  # (D, N)
        self.structure = structure

    @abstractmethod
    def narrow(self, covariances: FloatArray) -> BoolArray:
        """Which of R mixtures have a component so narrow that it must be seen from its mean."""

    @abstractmethod
    def distances(
        self, means: FloatArray, covariances: FloatArray, narrow: bool
    ) -> tuple[Distances, FloatArray]:
        """Function from a block of rows to squared Mahalanobis distances (R, K, B), and log dets.

        Parameters
        ----------
        means : ndarray, shape (R, K, D)
        covariances : ndarray, shape (R, C, D) or (R, C, D, D)
        narrow : bool
            Take differences from the means first; slower.

        Returns
        -------
        callable
        ndarray, shape (R, C)
            Log determinants of the covariances' Cholesky factors.
        """

    @abstractmethod
    def numbers_per_row(self, r: int, k: int) -> int:
        """How many numbers a row of a block stands for, to choose the blocks' size."""

    @abstractmethod
    def no_sums(self, r: int, k: int, origin: FloatArray | None = None) -> Sums:
        """Sums to start from, measured from zero or from an origin (R, K, D)."""

    @abstractmethod
    def add(self, sums: Sums, responsibilities: FloatArray, block: slice) -> None:
        """Add a block of rows; responsibilities (R, K, B) are times the sample weights."""


class IndependentAlgebra(Algebra):
    """Diagonal covariances: everything is linear in 1, x and x^2, so each step is one product."""

    def __init__(self, x: FloatArray, structure: CovarianceStructure) -> None:
        n, d = x.shape
        self._features = np.empty((1 + 2 * d, n))
        super().__init__(self._features[1 : 1 + d], structure)
        self._features[0] = 1.0
        for first in range(0, n, _TRANSPOSED_ROWS):  # in blocks that stay in the cache
            block = slice(first, first + _TRANSPOSED_ROWS)
            self.columns[:, block] = x[block].T
        squares = np.square(self.columns, out=self._features[1 + d :])
        far = _OF_LARGEST_SQUARE * squares.max(axis=1, initial=0.0)
        self._expanded_above = np.maximum(_EXPANDED_ABOVE, far)

    def narrow(self, covariances: FloatArray) -> BoolArray:
        """Where expanded squares would lose digits."""
        return np.asarray((covariances <= self._expanded_above).any(axis=(1, 2)))

    def distances(
        self, means: FloatArray, covariances: FloatArray, narrow: bool
    ) -> tuple[Distances, FloatArray]:
        """Expand where that is exact enough, else take differences."""
        r, k, _ = means.shape
        log_det = 0.5 * np.log(covariances).sum(axis=-1)
        precision = np.broadcast_to(1.0 / covariances, means.shape)
        if not narrow:
            constant = (means**2 * precision).sum(axis=-1, keepdims=True)
            linear = np.concatenate([constant, -2.0 * means * precision, precision], axis=-1)
            coefficients = linear.reshape(r * k, -1)
            return lambda block: (coefficients @ self._features[:, block]).reshape(
                r, k, -1
            ), log_det
        root = np.sqrt(precision)[..., np.newaxis]
        shift = root * means[..., np.newaxis]

        def differences(block: slice) -> FloatArray:
            y = root * self.columns[:, block]
            y -= shift
            return np.asarray(np.einsum("rkdb,rkdb->rkb", y, y))

        return differences, log_det

    def numbers_per_row(self, r: int, k: int) -> int:
        """Log densities, or the features if they are more; products with these are quick."""
        return max(r * k, len(self._features) // 2)

    def no_sums(self, r: int, k: int, origin: FloatArray | None = None) -> Sums:
        """Zeros."""
        d = len(self.columns)
        return Sums(np.zeros((r, k)), np.zeros((r, k, d)), np.zeros((r, k, d)), origin)

    def add(self, sums: Sums, responsibilities: FloatArray, block: slice) -> None:
        """One product with the features 1, x, x^2."""
        r, k, _ = responsibilities.shape
        d = len(self.columns)
        if sums.origin is not None:
            sums.counts += responsibilities.sum(axis=-1)
            for index in np.ndindex(r, k):
                y = self.columns[:, block] - sums.origin[index][:, np.newaxis]
                sums.first[index] += y @ responsibilities[index]
                sums.second[index] += np.square(y, out=y) @ responsibilities[index]
            return
        total = responsibilities.reshape(r * k, -1) @ self._features[:, block].T
        total = total.reshape(r, k, -1)
        sums.counts += total[..., 0]
        sums.first += total[..., 1 : 1 + d]
        sums.second += total[..., 1 + d :]


class CorrelatedAlgebra(Algebra):
    """Covariance matrices: rows are whitened by the inverse Cholesky factor."""

    def __init__(
        self,
        x: FloatArray,
        frame: FloatArray,
        sample_weight: FloatArray | None,
        structure: CovarianceStructure,
        noise: bool,
    ) -> None:
        n, d = x.shape
        self._affine = np.empty((d + 1, n))  # with a row of ones: it takes the mean off below
        super().__init__(self._affine[:d], structure)
        np.matmul(np.linalg.inv(frame), x.T, out=self.columns)
        self._affine[d] = 1.0
        far = _OF_LARGEST_SQUARE * np.abs(self.columns).max(axis=1, initial=0.0) ** 2
        self._whitened_above = np.maximum(_WHITENED_ABOVE, far)
        weighted = self.columns if sample_weight is None else self.columns * sample_weight
        # What all components share is that of all rows, unless some are noise.
        self._total = None if noise else weighted @ self.columns.T

    def narrow(self, covariances: FloatArray) -> BoolArray:
        """Where the mean taken off after whitening would lose digits."""
        variances = np.diagonal(covariances, axis1=-2, axis2=-1)
        return np.asarray((variances <= self._whitened_above).any(axis=(1, 2)))

    def distances(
        self, means: FloatArray, covariances: FloatArray, narrow: bool
    ) -> tuple[Distances, FloatArray]:
        """Whiten each block with one product for all R mixtures."""
        r, k, d = means.shape
        factor = np.linalg.cholesky(covariances)
        whitening = np.linalg.inv(factor)
        log_det = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
        if narrow:
            each = np.broadcast_to(whitening, (r, k, d, d))

            def from_means(block: slice) -> FloatArray:
                columns = self.columns[:, block]
                squared = np.empty((r, k, columns.shape[1]))
                for index in np.ndindex(r, k):
                    y = each[index] @ (columns - means[index][:, np.newaxis])
                    np.einsum("db,db->b", y, y, out=squared[index])
                return squared

            return from_means, log_det
        affine = np.empty((r, k, d, d + 1))
        affine[..., :d] = whitening
        affine[..., d:] = -(whitening @ means[..., np.newaxis])
        stacked = affine.reshape(-1, d + 1)

        def squared(block: slice) -> FloatArray:
            y = (stacked @ self._affine[:, block]).reshape(r, k, d, -1)
            return np.asarray(np.einsum("rkdb,rkdb->rkb", y, y))

        return squared, log_det

    def numbers_per_row(self, r: int, k: int) -> int:
        """Whitened deviations."""
        return r * k * len(self.columns)

    def no_sums(self, r: int, k: int, origin: FloatArray | None = None) -> Sums:
        """Zeros; the pooled second moment is that of all data, whatever the responsibilities."""
        d = len(self.columns)
        if self.structure.pooled:
            pooled = np.zeros((r, 1, d, d)) if self._total is None else self._total[None, None]
            return Sums(np.zeros((r, k)), np.zeros((r, k, d)), pooled)
        return Sums(np.zeros((r, k)), np.zeros((r, k, d)), np.zeros((r, k, d, d)), origin)

    def add(self, sums: Sums, responsibilities: FloatArray, block: slice) -> None:
        """Products of weighted columns with rows, all mixtures at once."""
        r, k, b = responsibilities.shape
        columns = self.columns[:, block]
        sums.counts += responsibilities.sum(axis=-1)
        if sums.origin is not None:
            for index in np.ndindex(r, k):
                y = columns - sums.origin[index][:, np.newaxis]
                sums.first[index] += y @ responsibilities[index]
                sums.second[index] += (responsibilities[index] * y) @ y.T
            return
        sums.first += (responsibilities.reshape(r * k, b) @ columns.T).reshape(r, k, -1)
        if self.structure.pooled:
            if self._total is None:
                share = responsibilities.sum(axis=1)
                sums.second[:, 0] += (share[:, np.newaxis] * columns) @ columns.T
            return
        if len(columns) < _ONE_BY_ONE_FROM:
            weighted = responsibilities[:, :, np.newaxis] * columns
            sums.second += (weighted.reshape(-1, b) @ columns.T).reshape(sums.second.shape)
            return
        for index in np.ndindex(r, k):
            sums.second[index] += (responsibilities[index] * columns) @ columns.T


def algebra_for(
    x: FloatArray,
    frame: FloatArray | None,
    sample_weight: FloatArray | None,
    structure: CovarianceStructure,
    *,
    noise: bool,
) -> Algebra:
    """Choose by whether features may be correlated within a component.

    With a frame (D, D), rows are whitened: frame^-1 x takes the place of x. With noise, rows belong
    to the components in parts.
    """
    if frame is None:
        return IndependentAlgebra(x, structure)
    return CorrelatedAlgebra(x, frame, sample_weight, structure, noise)
