"""The steps of EM: data in coordinates of their own, starting points, E step and M step.

All restarts advance together as one array with leading axis R. One pass over blocks of rows that
fit the cache does the E step and gathers the moments for the M step, so that nothing of size
N x K is ever stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stangmm.arrays import BoolArray, FloatArray, IntArray
from stangmm.covariance import CovarianceStructure
from stangmm.density import LOG_2PI, Mixture
from stangmm.methods.restarts import degenerate
from stangmm.problem import Problem

_BLOCK = 2**17  # numbers in the largest temporary of one pass: 1 MB, so that it stays in cache
_STORED_FEATURES = 2**25  # moments' features are kept between iterations up to 256 MB


@dataclass(frozen=True, eq=False)
class EMParameters:
    """R running mixtures in EM's own space: covariances as variances or matrices."""

    weights: FloatArray  # (R, K)
    means: FloatArray  # (R, K, D)
    covariances: FloatArray  # (R, C, D) or (R, C, D, D), C = K or 1

    def __getitem__(self, index: BoolArray | IntArray) -> EMParameters:
        return EMParameters(self.weights[index], self.means[index], self.covariances[index])

    def assign(self, index: IntArray, other: EMParameters) -> None:
        self.weights[index] = other.weights
        self.means[index] = other.means
        self.covariances[index] = other.covariances


class EMSpace:
    """The data in the coordinates in which EM works, and its two steps.

    EM does not depend on the units of the data. For correlated structures the data are whitened
    by their total covariance, for the others each feature is scaled; then "small" has one meaning:
    a component's variance is compared with 1, the variance of all data.
    """

    def __init__(self, problem: Problem, rows: IntArray | None = None) -> None:
        self.problem = problem
        self.structure: CovarianceStructure = problem.structure
        self.n_components = problem.n_components
        x = problem.x
        weight = problem.sample_weight
        self.center = np.average(x, axis=0, weights=weight)
        self.frame = (
            np.linalg.cholesky(problem.total_covariance()) if self.structure.correlated else None
        )
        if rows is not None:
            x = x[rows]
            weight = None if weight is None else weight[rows]
        deviation = x - self.center
        if self.frame is not None:
            deviation = np.linalg.solve(self.frame, deviation.T).T
        self.x = np.ascontiguousarray(deviation)
        self.columns = np.ascontiguousarray(deviation.T)  # (D, N)
        self.sample_weight = weight
        self.n_rows, self.n_features = self.x.shape
        self.total = float(self.n_rows if weight is None else weight.sum())
        log_unit = 0.0 if self.frame is None else np.log(np.diag(self.frame)).sum()
        self.log_jacobian = -self.total * float(log_unit)
        self._pairs = np.tril_indices(self.n_features)
        n_moments = 1 + self.n_features + len(self._pairs[0])
        self._stored = (
            self._features(self.x) if self.n_rows * n_moments <= _STORED_FEATURES else None
        )

    def subset(self, rows: IntArray) -> EMSpace:
        """The same coordinates with some of the rows."""
        return EMSpace(self.problem, rows)

    def starts(self, n_starts: int, rng: np.random.Generator) -> EMParameters:
        """Half k-means++ (one hard assignment to the nearest centre), half random rows."""
        n_plus = (n_starts + 1) // 2
        k, d = self.n_components, self.n_features
        share = None if self.sample_weight is None else self.sample_weight / self.total
        centers = np.empty((n_starts, k, d))
        centers[:n_plus] = self._k_means_plus_plus(n_plus, share, rng)
        for r in range(n_plus, n_starts):
            centers[r] = self.x[rng.choice(self.n_rows, k, replace=False, p=share)]
        everything = np.cov(self.columns, bias=True, aweights=self.sample_weight).reshape(d, d)
        if not self.structure.correlated:
            everything = np.diag(everything).copy()
        c = self.structure.scale_shape(k, d)[0]
        covariances = np.array(np.broadcast_to(everything, (n_starts, c, *everything.shape)))
        weights = np.full((n_starts, k), 1.0 / k)
        start = EMParameters(weights, centers, covariances)
        # For k-means++: a first M step with each row given to its nearest centre, by making the
        # common covariance so small that responsibilities become hard assignments. A centre left
        # with too few rows keeps the covariance of all data.
        plus = start[np.arange(n_plus)]
        sharp = EMParameters(plus.weights, plus.means, plus.covariances * 1e-6)
        _, moments = self.expectation(sharp)
        fitted, spikes = self.maximization(moments)
        good = np.flatnonzero(~spikes)
        weights[good], centers[good] = fitted.weights[good], fitted.means[good]
        covariances[good] = fitted.covariances[good]
        return EMParameters(weights, centers, covariances)

    def _k_means_plus_plus(
        self, n_starts: int, share: FloatArray | None, rng: np.random.Generator
    ) -> FloatArray:
        """Centres by D^2 sampling, shape (R, K, D)."""
        k = self.n_components
        first = rng.choice(self.n_rows, n_starts, p=share)
        centers = np.empty((n_starts, k, self.n_features))
        centers[:, 0] = self.x[first]
        nearest = np.full((n_starts, self.n_rows), np.inf)
        for j in range(1, k):
            for r in range(n_starts):
                distance = ((self.columns - centers[r, j - 1, :, np.newaxis]) ** 2).sum(axis=0)
                np.minimum(nearest[r], distance, out=nearest[r])
                cumulative = np.cumsum(nearest[r] if share is None else nearest[r] * share)
                target = rng.random() * cumulative[-1]
                pick = min(int(np.searchsorted(cumulative, target, "right")), self.n_rows - 1)
                centers[r, j] = self.x[pick]
        return centers

    def expectation(self, parameters: EMParameters) -> tuple[FloatArray, FloatArray]:
        """E step: log likelihoods (R,), and moments (R, K, 1 + D + F) for the M step."""
        r, k = parameters.weights.shape
        whitening, shift, constant = self._whitening(parameters)
        log_lik = np.zeros(r)
        moments = np.zeros((r * k, self._n_moments()))
        rows = max(64, _BLOCK // (r * k * max(1, self.n_features)))
        for block in self._blocks(rows):
            log_joint = self._squared_distances(whitening, shift, self.columns[:, block])
            log_joint *= -0.5
            log_joint += constant
            peak = log_joint.max(axis=1)
            log_joint -= peak[:, np.newaxis]
            joint = np.exp(log_joint, out=log_joint)
            total = joint.sum(axis=1)
            weight = None if self.sample_weight is None else self.sample_weight[block]
            joint *= (1.0 / total if weight is None else weight / total)[:, np.newaxis]
            log_density = np.log(total, out=total)
            log_density += peak
            log_lik += log_density.sum(axis=1) if weight is None else log_density @ weight
            features = (
                self._features(self.x[block]) if self._stored is None else self._stored[block]
            )
            moments += joint.reshape(r * k, -1) @ features
        return log_lik + self.log_jacobian, moments.reshape(r, k, -1)

    def maximization(
        self, moments: FloatArray, pseudo_rows: float = 0.0
    ) -> tuple[EMParameters, BoolArray]:
        """M step: new parameters, and which restarts have become degenerate."""
        d = self.n_features
        counts = moments[..., 0]
        tiny = np.finfo(float).tiny
        first = moments[..., 1 : 1 + d] / np.maximum(counts, tiny)[..., np.newaxis]
        second = moments[..., 1 + d :] / np.maximum(counts, tiny)[..., np.newaxis]
        if self.structure.correlated:
            full = np.empty((*second.shape[:-1], d, d))
            full[..., self._pairs[0], self._pairs[1]] = second
            full[..., self._pairs[1], self._pairs[0]] = second
            second = full
        covariances = self.structure.covariance(counts, first, second)
        if pseudo_rows:
            share = self._shrinkage(counts, pseudo_rows, covariances.ndim)
            covariances = (1 - share) * covariances + share * self._target(covariances)
            return EMParameters(counts / self.total, first, covariances), np.zeros(
                len(counts), bool
            )
        rows = counts * (self.n_rows / self.total)  # sample weights brought to an average of one
        return (
            EMParameters(counts / self.total, first, covariances),
            degenerate(self.structure, rows, covariances),
        )

    def _shrinkage(self, counts: FloatArray, pseudo_rows: float, ndim: int) -> FloatArray:
        """Share of the target in each regularized covariance, ready to broadcast."""
        c = self.structure.scale_shape(self.n_components, self.n_features)[0]
        held = counts if c == self.n_components else counts.sum(axis=1, keepdims=True)
        share = pseudo_rows / (held * (self.n_rows / self.total) + pseudo_rows)
        return share.reshape(*share.shape, *(1,) * (ndim - 2))

    def _target(self, covariances: FloatArray) -> FloatArray:
        """Covariance of all data (the unit of EM's coordinates), shrunk to a K-th of its volume."""
        unit = np.eye(self.n_features) if self.structure.correlated else np.ones(self.n_features)
        return np.broadcast_to(unit, covariances.shape) / self.n_components ** (2 / self.n_features)

    def mixture_of(self, parameters: EMParameters) -> Mixture:
        """Bring mixtures from EM's coordinates back to the problem's."""
        k = self.n_components
        means, covariances = parameters.means, parameters.covariances
        if self.frame is not None:
            means = means @ self.frame.T
            covariances = self.frame @ covariances @ self.frame.T
        covariances = np.repeat(covariances, k // covariances.shape[1], axis=1)
        return Mixture.from_covariances(parameters.weights, means + self.center, covariances)

    def parameters_of(self, mixture: Mixture) -> EMParameters:
        """Bring one mixture from the problem's coordinates to EM's, with a leading axis of 1."""
        c = self.structure.scale_shape(self.n_components, self.n_features)[0]
        means = mixture.means - self.center
        if self.frame is None:
            covariances = mixture.scales[:c] ** 2
        else:
            inverse = np.linalg.inv(self.frame)
            means = means @ inverse.T
            covariances = inverse @ mixture.covariances[:c] @ inverse.T
        return EMParameters(mixture.weights[None], means[None], covariances[None])

    def _n_moments(self) -> int:
        d = self.n_features
        return 1 + d + (len(self._pairs[0]) if self.structure.correlated else d)

    def _features(self, x: FloatArray) -> FloatArray:
        """Columns 1, x and x^2 (or all products of features): what the M step averages."""
        second = x[:, self._pairs[0]] * x[:, self._pairs[1]] if self.structure.correlated else x**2
        return np.concatenate([np.ones((len(x), 1)), x, second], axis=1)

    def _blocks(self, size: int) -> Iterator[slice]:
        for first in range(0, self.n_rows, size):
            yield slice(first, first + size)

    def _whitening(self, parameters: EMParameters) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Matrices or factors W, shifts W mu, and log constants, such that y = W x - W mu."""
        with np.errstate(divide="ignore"):
            log_weights = np.log(parameters.weights)
        if self.structure.correlated:
            factor = np.linalg.cholesky(parameters.covariances)
            whitening = np.linalg.inv(factor)
            log_det = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
            shift = np.einsum(
                "rkij,rkj->rki",
                np.broadcast_to(whitening, (*parameters.means.shape, self.n_features)),
                parameters.means,
            )
        else:
            whitening = 1.0 / np.sqrt(parameters.covariances)
            log_det = -np.log(whitening).sum(axis=-1)
            shift = whitening * parameters.means
        constant = log_weights - log_det - 0.5 * self.n_features * LOG_2PI
        return whitening, shift, constant[..., np.newaxis]

    def _squared_distances(
        self, whitening: FloatArray, shift: FloatArray, columns: FloatArray
    ) -> FloatArray:
        """Squared Mahalanobis distances, shape (R, K, B), of B columns (D, B)."""
        if self.structure.correlated:
            r, c, d, _ = whitening.shape
            y = (whitening.reshape(-1, d) @ columns).reshape(r, c, d, -1)
            y = (
                y - shift[..., np.newaxis]
                if c < shift.shape[1]
                else np.subtract(y, shift[..., np.newaxis], out=y)
            )
        else:
            y = whitening[..., np.newaxis] * columns
            y -= shift[..., np.newaxis]
        return np.einsum("rkdb,rkdb->rkb", y, y)
