"""The parameters of a mixture: how many there are, what components share, and as which numbers.

The one place that counts parameters. As vectors without constraints, a whole batch at a time and
with the log Jacobian, weights are in isometric log-ratio coordinates (Egozcue et al. 2003,
doi:10.1023/A:1023818214614), scales are logarithms of what they are above their lower bounds,
correlations are inverse hyperbolic tangents of the canonical partial correlations, as Stan has them
(Lewandowski, Kurowicka & Joe 2009, doi:10.1016/j.jmva.2009.04.008).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import Mixture, inverse_lower
from stangmm.model.noise import START_WEIGHT, Box, Noise

# Of a scale: what is above its bound by less cannot be told from it.
_LAST_BITS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class ParameterSpace:
    """The free parameters of the mixtures of one model.

    In the order of an unconstrained vector: one coordinate less than there are weights (K, or K + 1
    with noise), K D means, C S logs of scales above their bounds, and D (D - 1) / 2 coordinates of
    each of R correlation matrices.

    Attributes
    ----------
    n_components, n_features : int
        K and D.
    structure : CovarianceStructure
    scale_floor : ndarray, shape (S,), or float
        Lower bounds of each feature's standard deviation given all others; 0: none.
    box : Box or None
        Where the noise lies; None without noise. Its weight is the last.
    """

    n_components: int
    n_features: int
    structure: CovarianceStructure
    scale_floor: FloatArray | float = 0.0
    box: Box | None = None

    @property
    def n_weights(self) -> int:
        """How many weights there are: K, or K + 1 with noise."""
        return self.n_components + (self.box is not None)

    @property
    def size(self) -> int:
        """P, the number of free parameters."""
        return sum(self._sizes)

    @property
    def size_of_component(self) -> int:
        """How many free parameters only one component's rows determine."""
        k, d = self.n_components, self.n_features

        def of(n_components: int) -> int:
            c, s = self.structure.scale_shape(n_components, d)
            correlations = self.structure.n_correlations(n_components, d) * self.n_pairs
            return c * s + correlations - self.structure.n_constraints(n_components, d)

        return d + of(k + 1) - of(k)  # what one component more would add

    @property
    def scale_shape(self) -> tuple[int, int]:
        """(C, S): how many vectors of free standard deviations, and how many in each."""
        return self.structure.scale_shape(self.n_components, self.n_features)

    @property
    def n_correlations(self) -> int:
        """R, the number of free correlation matrices."""
        return self.structure.n_correlations(self.n_components, self.n_features)

    @property
    def n_pairs(self) -> int:
        """How many correlations a matrix has: D (D - 1) / 2."""
        return self.n_features * (self.n_features - 1) // 2

    @property
    def stan_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the Stan model's parameters, by name."""
        k, d = self.n_components, self.n_features
        return {
            "weights": (self.n_weights,),
            "means": (k, d),
            "scales": self.scale_shape,
            "corr_chol": (self.n_correlations, d, d),
        }

    def free(self, mixture: Mixture) -> dict[str, FloatArray]:
        """Give the free parameters of mixtures (...), named and shaped as in the Stan model."""
        c, s = self.scale_shape
        chol = mixture.corr_chol
        if chol is None or not self.n_correlations:
            chol = np.empty((*mixture.batch_shape, 0, *self.stan_shapes["corr_chol"][1:]))
        return {
            "weights": mixture.all_weights,
            "means": mixture.means,
            "scales": mixture.scales[..., :c, :s],
            "corr_chol": chol[..., : self.n_correlations, :, :],
        }

    def scale_bounds(self, corr_chol: FloatArray | None) -> FloatArray:
        """Lower bounds of the free scales, shape (..., C, S).

        Given all others, feature d has the standard deviation scale_d / sqrt(Q_dd), with Q the
        inverse of the correlation matrix: they leave scale_d > floor_d sqrt(Q_dd).

        Parameters
        ----------
        corr_chol : ndarray, shape (..., R or K, D, D), or None
            Cholesky factors of the correlation matrices; None without correlations.
        """
        floor: FloatArray = np.broadcast_to(self.scale_floor, self.scale_shape)
        if corr_chol is None or not self.n_correlations:
            return floor
        inverse = inverse_lower(corr_chol[..., : self.n_correlations, :, :])
        return np.asarray(floor * np.sqrt((inverse**2).sum(axis=-2)))

    def excess(self, mixture: Mixture) -> FloatArray:
        """How far the free scales are above their bounds, shape (..., C, S), always positive.

        What is on a bound, or below it by its last bits, is brought just above it.
        """
        scales = self.free(mixture)["scales"]
        return np.asarray(
            np.maximum(scales - self.scale_bounds(mixture.corr_chol), _LAST_BITS * scales)
        )

    def share_above(self, mixture: Mixture) -> FloatArray:
        """Which part of the free scales is above their bounds, shape (..., C, S); 1: no bound."""
        return np.asarray(self.excess(mixture) / self.free(mixture)["scales"])

    def from_free(
        self,
        weights: FloatArray,
        means: FloatArray,
        scales: FloatArray,
        corr_chol: FloatArray | None = None,
    ) -> Mixture:
        """Spread free parameters, any leading axes (...), to one value for each component.

        Parameters
        ----------
        weights : ndarray, shape (..., K), or (..., K + 1) with noise
        means : ndarray, shape (..., K, D)
        scales : ndarray, shape (..., C, S)
        corr_chol : ndarray, shape (..., R, D, D), optional
            None, or none of them, without correlations.
        """
        noise = None
        if self.box is not None:
            noise = Noise(weights[..., -1], self.box)
            weights = weights[..., :-1]
        spread = np.array(np.broadcast_to(scales, means.shape))
        if corr_chol is None or not self.n_correlations:
            return Mixture(weights, means, spread, noise=noise)
        shape = (*means.shape, means.shape[-1])
        return Mixture(weights, means, spread, np.array(np.broadcast_to(corr_chol, shape)), noise)

    def with_noise(self, mixture: Mixture, weight: float = START_WEIGHT) -> Mixture:
        """Give a mixture the noise that these have, of some weight if it has none itself."""
        if self.box is not None and mixture.noise is not None:
            return replace(mixture, noise=Noise(mixture.noise.weight, self.box))
        if self.box is None and mixture.noise is None:
            return mixture
        share, noise = 0.0, None
        if self.box is not None:
            share, noise = weight, Noise(np.full(mixture.batch_shape, weight), self.box)
        total = mixture.weights.sum(axis=-1, keepdims=True)
        return replace(mixture, weights=mixture.weights * ((1.0 - share) / total), noise=noise)

    def nearest(self, mixture: Mixture) -> Mixture:
        """The nearest mixture, by its moments, that has the structure's covariances."""
        covariances = mixture.covariances
        if not self.structure.correlated:
            covariances = np.diagonal(covariances, axis1=-2, axis2=-1)
        shape = covariances.shape
        covariances = self.structure.nearest(mixture.weights[np.newaxis], covariances[np.newaxis])
        covariances = np.array(np.broadcast_to(covariances[0], shape))
        same = Mixture.from_covariances(mixture.weights, mixture.means, covariances)
        return replace(same, noise=mixture.noise)

    def coordinates(self, mixture: Mixture) -> dict[str, FloatArray]:
        """Coordinates of mixtures by what they are of, in the order of `vectors`.

        Parameters
        ----------
        mixture : Mixture
            Batch of any shape (...), with the structure's covariances.

        Returns
        -------
        dict of str to ndarray
            ``weights`` (..., K - 1), or (..., K) with noise, ``means`` (..., K, D), ``scales``
            (..., C, S), and, where there are some, ``correlations`` (..., R, D (D - 1) / 2).
        """
        free = self.free(mixture)
        # A weight of zero is at infinity; the smallest double stands for it.
        log_weights = np.log(np.maximum(free["weights"], np.finfo(float).tiny))
        parts = {
            "weights": log_weights @ self._contrasts,
            "means": free["means"],
            "scales": np.log(self.excess(mixture)),
        }
        if self.n_correlations:
            parts["correlations"] = _partial_correlations(free["corr_chol"])
        return parts

    def vectors(self, mixture: Mixture) -> FloatArray:
        """Coordinates of mixtures (...) as vectors, shape (..., P)."""
        parts = self.coordinates(mixture).values()
        return np.concatenate([each.reshape(*mixture.batch_shape, -1) for each in parts], axis=-1)

    def mixtures(self, vectors: FloatArray) -> Mixture:
        """Mixtures (...) at vectors (..., P): the inverse of `vectors`."""
        weights, means, log_excess, correlations = self._parts(vectors)
        corr_chol = None
        if self.n_correlations:
            corr_chol = _correlation_factors(correlations, self.n_features)
        scales = np.exp(log_excess) + self.scale_bounds(corr_chol)
        return self.from_free(np.exp(weights), means, scales, corr_chol)

    def log_jacobian(self, vectors: FloatArray) -> FloatArray:
        """Log |d parameters / d vector|, shape (...), at vectors (..., P).

        The parameters are those that `log_prior` is a density of: all weights but the
        last, means, free scales, and what stands below the diagonals of the correlations'
        Cholesky factors.
        """
        log_weights, _, log_excess, correlations = self._parts(vectors)
        total = 0.5 * np.log(self.n_weights) + log_weights.sum(axis=-1)
        total = total + log_excess.sum(axis=(-2, -1))
        if self.n_correlations:
            # d C_ij / d u_ij = sech(u_ij)^2 times the sech of all before it in the row.
            i, j = np.tril_indices(self.n_features, -1)
            total = total + (_log_sech(correlations) * (1 + i - j)).sum(axis=(-2, -1))
        return np.asarray(total)

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        k, d = self.n_components, self.n_features
        c, s = self.scale_shape
        return self.n_weights - 1, k * d, c * s, self.n_correlations * self.n_pairs

    @cached_property
    def _contrasts(self) -> FloatArray:
        """Orthonormal basis (W, W - 1) of the vectors of W weights that sum to zero."""
        k = self.n_weights
        basis = np.zeros((k, k - 1))
        for j in range(1, k):
            basis[:j, j - 1] = 1.0
            basis[j, j - 1] = -j
            basis[:, j - 1] /= np.sqrt(j * (j + 1.0))
        return basis

    def _parts(self, vectors: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Log weights (..., W), means, log excess (..., C, S), correlations (..., R, pairs)."""
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
            scales.reshape(*batch, *self.scale_shape),
            correlations.reshape(*batch, self.n_correlations, self.n_pairs),
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
