"""The steps of EM: data in coordinates of their own, starting points, E step and M step.

All restarts advance together as one array with leading axis R. One pass over blocks of rows that
fit the cache does the E step and gathers the moments for the M step, so that nothing of size
N x K is ever stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stangmm.arrays import BoolArray, FloatArray, IntArray
from stangmm.covariance import CovarianceStructure
from stangmm.density import LOG_2PI, Mixture
from stangmm.methods.em_algebra import Sums, algebra_for
from stangmm.methods.restarts import degenerate
from stangmm.problem import Problem

# Responsibilities are at least exp of this: of no weight, and no subnormal number, which is slow.
_NEGLIGIBLE = -600.0
_BLOCK = 2**16  # numbers that one pass touches at once: 0.5 MB, so that they stay in cache


@dataclass(frozen=True, eq=False)
class EMParameters:
    """R running mixtures in EM's own space: covariances as variances or matrices."""

    weights: FloatArray  # (R, K)
    means: FloatArray  # (R, K, D)
    covariances: FloatArray  # (R, C, D) or (R, C, D, D), C = K or 1

    def __getitem__(self, index: BoolArray | IntArray) -> EMParameters:
        return EMParameters(self.weights[index], self.means[index], self.covariances[index])

    def assign(self, index: IntArray, other: EMParameters) -> None:
        """Overwrite some of the mixtures."""
        self.weights[index] = other.weights
        self.means[index] = other.means
        self.covariances[index] = other.covariances


class EMSpace:
    """The data in the coordinates in which EM works, and its two steps.

    EM does not depend on the units of the data. The problem's have mean 0 and variance 1; for
    correlated structures they are whitened by their total covariance besides. Then "small" has one
    meaning: a component's variance is compared with 1, the variance of all data.
    """

    def __init__(self, problem: Problem, rows: IntArray | None = None) -> None:
        self.problem = problem
        self.structure: CovarianceStructure = problem.structure
        self.n_components = problem.n_components
        x = problem.x
        weight = problem.sample_weight
        self.frame: FloatArray | None = None
        if self.structure.correlated:
            self.frame = np.asarray(np.linalg.cholesky(problem.total_covariance), dtype=np.float64)
        if rows is not None:
            x = x[rows]
            weight = None if weight is None else weight[rows]
        self.sample_weight = weight
        self.n_rows, self.n_features = x.shape
        self.total = float(self.n_rows if weight is None else weight.sum())
        log_unit = 0.0 if self.frame is None else np.log(np.diag(self.frame)).sum()
        self.log_jacobian = -self.total * float(log_unit)
        self._algebra = algebra_for(x, self.frame, weight, self.structure)

    @property
    def x(self) -> FloatArray:
        """The rows in EM's coordinates, shape (N, D)."""
        return self._algebra.columns.T

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
        everything: FloatArray = np.cov(self.x.T, bias=True, aweights=self.sample_weight).reshape(
            d, d
        )
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
        _, sums = self.expectation(sharp)
        fitted, spikes = self.maximization(sums)
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
                distance = ((self.x - centers[r, j - 1]) ** 2).sum(axis=1)
                np.minimum(nearest[r], distance, out=nearest[r])
                cumulative = np.cumsum(nearest[r] if share is None else nearest[r] * share)
                target = rng.random() * cumulative[-1]
                pick = min(int(np.searchsorted(cumulative, target, "right")), self.n_rows - 1)
                centers[r, j] = self.x[pick]
        return centers

    def expectation(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        """E step: log likelihoods (R,), and the sums over rows that the M step needs."""
        r, k = parameters.weights.shape
        distances, log_det = self._algebra.distances(parameters.means, parameters.covariances)
        with np.errstate(divide="ignore"):
            log_weights = np.log(parameters.weights)
        constant = (log_weights - log_det - 0.5 * self.n_features * LOG_2PI)[..., np.newaxis]
        log_lik = np.zeros(r)
        sums = self._algebra.no_sums(r, k)
        size = max(64, _BLOCK // self._algebra.numbers_per_row(r, k))
        for first in range(0, self.n_rows, size):
            block = slice(first, first + size)
            log_joint = distances(block)
            log_joint *= -0.5
            log_joint += constant
            peak = log_joint.max(axis=1)
            log_joint -= peak[:, np.newaxis]
            np.maximum(log_joint, _NEGLIGIBLE, out=log_joint)
            joint = np.exp(log_joint, out=log_joint)
            total = joint.sum(axis=1)
            weight = None if self.sample_weight is None else self.sample_weight[block]
            joint *= (1.0 / total if weight is None else weight / total)[:, np.newaxis]
            log_density = np.log(total, out=total)
            log_density += peak
            log_lik += log_density.sum(axis=1) if weight is None else log_density @ weight
            self._algebra.add(sums, joint, block)
        return log_lik + self.log_jacobian, sums

    def maximization(self, sums: Sums, pseudo_rows: float = 0.0) -> tuple[EMParameters, BoolArray]:
        """M step: new parameters, and which restarts have become degenerate."""
        counts, first = sums.counts, sums.means
        covariances = self._algebra.covariances(sums)
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
        return np.asarray(share.reshape(*share.shape, *(1,) * (ndim - 2)))

    def _target(self, covariances: FloatArray) -> FloatArray:
        """Covariance of all data (the unit of EM's coordinates), shrunk to a K-th of its volume."""
        unit = np.eye(self.n_features) if self.structure.correlated else np.ones(self.n_features)
        volume = self.n_components ** (2 / self.n_features)
        return np.asarray(np.broadcast_to(unit, covariances.shape) / volume)

    def mixture_of(self, parameters: EMParameters) -> Mixture:
        """Bring mixtures from EM's coordinates back to the problem's."""
        k = self.n_components
        means, covariances = parameters.means, parameters.covariances
        if self.frame is not None:
            means = means @ self.frame.T
            covariances = self.frame @ covariances @ self.frame.T
        covariances = np.repeat(covariances, k // covariances.shape[1], axis=1)
        return Mixture.from_covariances(parameters.weights, means, covariances)

    def parameters_of(self, mixture: Mixture) -> EMParameters:
        """Bring one mixture from the problem's coordinates to EM's, with a leading axis of 1."""
        c = self.structure.scale_shape(self.n_components, self.n_features)[0]
        means = mixture.means
        if self.frame is None:
            covariances = mixture.scales[:c] ** 2
        else:
            inverse = np.linalg.inv(self.frame)
            means = means @ inverse.T
            covariances = inverse @ mixture.covariances[:c] @ inverse.T
        return EMParameters(mixture.weights[None], means[None], covariances[None])
