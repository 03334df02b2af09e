"""Mixtures as unconstrained vectors and back, with the log Jacobian; a whole batch at a time.

Weights are in isometric log-ratio coordinates (Egozcue et al. 2003, doi:10.1023/A:1023818214614),
scales are logarithms, correlations are inverse hyperbolic tangents of the canonical partial
correlations, as Stan has them (Lewandowski, Kurowicka & Joe 2009, doi:10.1016/j.jmva.2009.04.008).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stangmm.arrays import FloatArray
from stangmm.covariance import CovarianceStructure
from stangmm.density import Mixture
from stangmm.stan_data import mixture_of


@dataclass(frozen=True, eq=False)
class UnconstrainedSpace:
    """The vectors of P numbers that stand for the mixtures of one model.

    In the order of a vector: K - 1 coordinates of the weights, K D means, C S log scales, and
    D (D - 1) / 2 coordinates of each of R correlation matrices.

    Attributes
    ----------
    n_components, n_features : int
        K and D.
    structure : CovarianceStructure
    """

    n_components: int
    n_features: int
    structure: CovarianceStructure

    @property
    def size(self) -> int:
        """P, the number of free numbers."""
        return sum(self._sizes)

    def vectors(self, mixture: Mixture) -> FloatArray:
        """Coordinates of mixtures.

        Parameters
        ----------
        mixture : Mixture
            Batch of any shape (...), with the structure's covariances.

        Returns
        -------
        ndarray, shape (..., P)
        """
        c, s = self.structure.scale_shape(self.n_components, self.n_features)
        batch = mixture.batch_shape
        # A weight of zero is at infinity; the smallest double stands for it.
        log_weights = np.log(np.maximum(mixture.weights, np.finfo(float).tiny))
        parts = [
            log_weights @ self._contrasts,
            mixture.means.reshape(*batch, -1),
            np.log(mixture.scales[..., :c, :s]).reshape(*batch, -1),
        ]
        if self._n_correlations and mixture.corr_chol is not None:
            chol = mixture.corr_chol[..., : self._n_correlations, :, :]
            parts.append(_partial_correlations(chol).reshape(*batch, -1))
        return np.concatenate(parts, axis=-1)

    def mixtures(self, vectors: FloatArray) -> Mixture:
        """Mixtures (...) at vectors (..., P): the inverse of `vectors`."""
        weights, means, log_scales, correlations = self._parts(vectors)
        corr_chol = None
        if self._n_correlations:
            corr_chol = _correlation_factors(correlations, self.n_features)
        return mixture_of(np.exp(weights), means, np.exp(log_scales), corr_chol)

    def log_jacobian(self, vectors: FloatArray) -> FloatArray:
        """Log |d parameters / d vector|, shape (...), at vectors (..., P).

        The parameters are those that `density.log_prior` is a density of: the first K - 1
        weights, means, free scales, and what stands below the diagonals of the correlations'
        Cholesky factors.
        """
        log_weights, _, log_scales, correlations = self._parts(vectors)
        total = 0.5 * np.log(self.n_components) + log_weights.sum(axis=-1)
        total = total + log_scales.sum(axis=(-2, -1))
        if self._n_correlations:
            # d C_ij / d u_ij = sech(u_ij)^2 times the sech of all before it in the row.
            i, j = np.tril_indices(self.n_features, -1)
            total = total + (_log_sech(correlations) * (1 + i - j)).sum(axis=(-2, -1))
        return np.asarray(total)

    @property
    def _n_correlations(self) -> int:
        return self.structure.n_correlations(self.n_components, self.n_features)

    @property
    def _n_pairs(self) -> int:
        return self.n_features * (self.n_features - 1) // 2

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        k, d = self.n_components, self.n_features
        c, s = self.structure.scale_shape(k, d)
        return k - 1, k * d, c * s, self._n_correlations * self._n_pairs

    @cached_property
    def _contrasts(self) -> FloatArray:
        """Orthonormal basis (K, K - 1) of the vectors that sum to zero."""
        k = self.n_components
        basis = np.zeros((k, k - 1))
        for j in range(1, k):
            basis[:j, j - 1] = 1.0
            basis[j, j - 1] = -j
            basis[:, j - 1] /= np.sqrt(j * (j + 1.0))
        return basis

    def _parts(self, vectors: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Log weights (..., K), means, log scales (..., C, S), correlations (..., R, pairs)."""
        k, d = self.n_components, self.n_features
        batch = vectors.shape[:-1]
        weights, means, scales, correlations = np.split(
            vectors, np.cumsum(self._sizes)[:-1], axis=-1
        )
        log_weights = weights @ self._contrasts.T
        log_weights = log_weights - log_weights.max(axis=-1, keepdims=True)
        log_weights -= np.log(np.exp(log_weights).sum(axis=-1, keepdims=True))
        return (
            log_weights,
            means.reshape(*batch, k, d),
            scales.reshape(*batch, *self.structure.scale_shape(k, d)),
            correlations.reshape(*batch, self._n_correlations, self._n_pairs),
        )


def _log_sech(u: FloatArray) -> FloatArray:
    size = np.abs(u)
    return np.asarray(np.log(2.0) - size - np.log1p(np.exp(-2.0 * size)))


def _partial_correlations(chol: FloatArray) -> FloatArray:
    """Coordinates (..., D (D - 1) / 2) of Cholesky factors (..., D, D), row by row.

    With t the tangent hyperbolic of its coordinate, C_ij is t_ij times what the elements before it
    left of the row's unit length. What is left is summed from the row's end, so that nothing
    cancels.
    """
    squares = chol**2
    left = np.cumsum(squares[..., ::-1], axis=-1)[..., ::-1]  # [i, j]: sum of C_im^2 over m >= j
    i, j = np.tril_indices(chol.shape[-1], -1)
    return np.asarray(np.arcsinh(chol[..., i, j] / np.sqrt(left[..., i, j + 1])))


def _correlation_factors(coordinates: FloatArray, n_features: int) -> FloatArray:
    """Cholesky factors (..., D, D) from coordinates (..., D (D - 1) / 2)."""
    d = n_features
    i, j = np.tril_indices(d, -1)
    tangents = np.zeros((*coordinates.shape[:-1], d, d))
    tangents[..., i, j] = np.tanh(coordinates)
    tangents[..., np.arange(d), np.arange(d)] = 1.0
    log_left = np.zeros_like(tangents)
    log_left[..., i, j + 1] = _log_sech(coordinates)
    return np.asarray(tangents * np.exp(np.cumsum(log_left, axis=-1)))
