"""Rows that miss values, each in its own way, under many mixtures with correlated features.

A factorization for each pattern of missing values and each mixture, in Python or by LAPACK, takes
ten to a hundred times as long as the numbers do where nearly every row has a pattern of its own.
Here rows that miss equally many values are factored together, whatever these are, as one array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray

# Rows of one pattern that are worth a factorization of their own.
MANY_OF_A_PATTERN = 12
# Numbers that one pass touches at once: 1 MB, so that they stay in the cache.
BLOCK = 2**17
# A pivot is at least so much of its variance: smaller ones are rounding.
_LEAST_PIVOT = 1e-13


@dataclass(frozen=True, eq=False)
class AlikeRows:
    """Rows that have equally many features.

    Attributes
    ----------
    rows : ndarray of int, shape (n,)
        Which they are.
    order : ndarray of int, shape (D, n)
        For each row the features that it has, then those that it misses, both ascending.
    observed : ndarray, shape (O, n)
        The values that are there.
    """

    rows: IntArray
    order: IntArray
    observed: FloatArray

    def blocks(self, size: int) -> Iterator[AlikeRows]:
        """So many of the rows at a time."""
        for first in range(0, len(self.rows), size):
            part = slice(first, first + size)
            yield AlikeRows(self.rows[part], self.order[:, part], self.observed[:, part])


def alike_rows(x: FloatArray) -> list[AlikeRows]:
    """Rows (N, D) by how many features they have; NaN where a value is missing."""
    seen = ~np.isnan(x)
    parts = []
    for o in np.unique(seen.sum(axis=1)):
        rows = np.flatnonzero(seen.sum(axis=1) == o)
        order = np.argsort(~seen[rows], axis=1, kind="stable").T
        parts.append(AlikeRows(rows, order, x[rows, order[:o]]))
    return parts


@dataclass(frozen=True, eq=False)
class Whitened:
    """n rows under R mixtures, from the Cholesky factors of the features that each has.

    Attributes
    ----------
    deviations : ndarray, shape (O, n, R, K)
        What is observed, less the mean, divided by the factor.
    factor : ndarray, shape (D, O, n, R, C)
        Its columns, in the rows' order of the features: those of the features that are missing are
        their covariances with the others, divided by the factor.
    matrices : ndarray, shape (D, D, n, R, C)
        The covariances in that order, correct where both features are missing.
    means : ndarray, shape (D, n, R, K)
        The means in that order.
    """

    deviations: FloatArray
    factor: FloatArray
    matrices: FloatArray
    means: FloatArray

    @classmethod
    def of(cls, alike: AlikeRows, means: FloatArray, covariances: FloatArray) -> Whitened:
        """Factor and solve.

        Parameters
        ----------
        alike : AlikeRows
        means : ndarray, shape (D, R, K)
        covariances : ndarray, shape (D, D, R, C)
            C is K, or 1 where all components share one.
        """
        o, order = len(alike.observed), alike.order
        place = means[order]
        matrices = covariances[order[:, np.newaxis], order]
        least = _LEAST_PIVOT * np.einsum("iinrc->inrc", matrices[:o, :o])
        for j in range(o):
            column = matrices[j:, j]
            column -= np.einsum("iknrc,knrc->inrc", matrices[j:, :j], matrices[j, :j])
            np.maximum(column[0], least[j], out=column[0])
            column *= 1.0 / np.sqrt(column[0])
        factor = matrices[:, :o]
        deviations = alike.observed[..., np.newaxis, np.newaxis] - place[:o]
        for j in range(o):
            if j:
                deviations[j] -= (factor[j, :j] * deviations[:j]).sum(axis=0)
            deviations[j] /= factor[j, j]
        return cls(deviations, factor, matrices, place)

    @property
    def log_density(self) -> FloatArray:
        """Of what is observed, shape (n, R, K)."""
        o = len(self.deviations)
        log_det = np.log(np.einsum("iinrc->inrc", self.factor[:o])).sum(axis=0)
        distances = np.einsum("inrk,inrk->nrk", self.deviations, self.deviations)
        return np.asarray(-0.5 * (distances + o * np.log(2.0 * np.pi)) - log_det)

    @property
    def missing_means(self) -> FloatArray:
        """Conditional means of what is missing, shape (Q, n, R, K)."""
        o = len(self.deviations)
        return np.asarray(self.means[o:] + (self.factor[o:] * self.deviations).sum(axis=1))

    @property
    def missing_covariances(self) -> FloatArray:
        """Conditional covariances of what is missing, shape (Q, Q, n, R, C)."""
        o = len(self.deviations)
        told = np.einsum("iknrc,jknrc->ijnrc", self.factor[o:], self.factor[o:])
        return np.asarray(self.matrices[o:, o:] - told)


def log_density(x: FloatArray, means: FloatArray, covariances: FloatArray) -> FloatArray:
    """Log densities (B, N) of what rows (N, D) have, under B normals (B, D) and (B, D, D)."""
    b, d = means.shape
    result = np.empty((b, len(x)))
    some = max(1, min(b, BLOCK // (8 * d * d)))
    for first in range(0, b, some):
        part = slice(first, first + some)
        place = np.ascontiguousarray(means[part].T)[..., np.newaxis]
        matrices = np.ascontiguousarray(np.moveaxis(covariances[part], 0, -1))[..., np.newaxis]
        size = max(8, BLOCK // (place.shape[1] * d * d))
        for alike in (block for each in alike_rows(x) for block in each.blocks(size)):
            found = Whitened.of(alike, place, matrices).log_density
            result[part, alike.rows] = found[..., 0].T
    return result


def in_large_groups(x: FloatArray) -> BoolArray:
    """Which rows (N, D) share their pattern of missing values with many others, or miss none."""
    missing = np.isnan(x)
    _, member, counts = np.unique(missing, axis=0, return_inverse=True, return_counts=True)
    return np.asarray((counts >= MANY_OF_A_PATTERN)[member.ravel()] | ~missing.any(axis=1))
