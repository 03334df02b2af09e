"""The E step of EM over rows that have the same features and share what is known of them.

Where features are missing at random, the E step adds to the responsibilities the conditional means
and covariances of what is missing (Ghahramani & Jordan 1994, "Supervised learning from incomplete
data via an EM approach", https://proceedings.neurips.cc/paper/1993/hash/
f2201f5191c4e92cc5af043eebfd0946-Abstract.html; Lin, Lee & Ho 2006,
doi:10.1016/j.patcog.2005.12.014). Both are linear in the features that a row has, so that the sums
over these features are gathered as if the rows were complete, and completed in one go afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.data.groups import RowGroup
from stangmm.methods.em.algebra import NEGLIGIBLE, EMParameters, Sums, algebra_for
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import LOG_2PI
from stangmm.model.noise import Box

_BLOCK = 2**16  # numbers that one pass touches at once: 0.5 MB, so that they stay in cache


class EMRows:
    """Rows of one group in EM's coordinates.

    Parameters
    ----------
    x : ndarray, shape (N, D)
        Of the problem; NaN in the features that the group has not.
    sample_weight : ndarray, shape (N,), or None
    frame : ndarray, shape (D, D), or None
        EM's coordinates of complete rows are ``frame^-1 x``.
    structure : CovarianceStructure
    group : RowGroup
    box : Box or None
        Where the noise lies, of the problem.
    """

    def __init__(
        self,
        x: FloatArray,
        sample_weight: FloatArray | None,
        frame: FloatArray | None,
        structure: CovarianceStructure,
        group: RowGroup,
        box: Box | None,
    ) -> None:
        self.component = group.component
        self._completion: Completion | None = None
        if len(group.observed) < x.shape[1]:
            x, n_features = x[:, group.observed], x.shape[1]
            if frame is None:
                self._completion = IndependentCompletion(group.observed, n_features)
            else:
                seen = frame[group.observed]
                frame = np.asarray(np.linalg.cholesky(seen @ seen.T), dtype=np.float64)
                projection = np.asarray(np.linalg.solve(frame, seen), dtype=np.float64)
                self._completion = CorrelatedCompletion(projection, pooled=structure.pooled)
        self._sample_weight = sample_weight
        self.n_rows, self._n_observed = x.shape
        total = float(self.n_rows if sample_weight is None else sample_weight.sum())
        log_unit = 0.0 if frame is None else float(np.log(np.diag(frame)).sum())
        self._log_jacobian = -total * log_unit
        self._log_noise: float | None = None  # log density of noise, in EM's coordinates
        if box is not None and self.component is None:
            self._log_noise = float(box.log_density[group.observed].sum()) + log_unit
        noise = self._log_noise is not None
        self._algebra = algebra_for(x, frame, sample_weight, structure, noise=noise)

    @property
    def is_incomplete(self) -> bool:
        """Whether the rows miss values."""
        return self._completion is not None

    def filled(self) -> FloatArray:
        """Rows (N, D) with what is missing at its mean, given the rest, over all data."""
        columns = self._algebra.columns
        return columns.T if self._completion is None else self._completion.filled(columns)

    def expectation(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        """E step: log likelihoods (R,), and the sums over rows that the M step needs.

        With a known component, ``parameters`` are those of this component alone.
        """
        if self._completion is None:
            return self._expectation(parameters)
        marginal = self._completion.marginal(parameters)
        log_lik, sums = self._expectation(marginal)
        return log_lik, self._completion.completed(sums, marginal, parameters)

    def _expectation(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        narrow = self._algebra.narrow(parameters.covariances)
        if narrow.all() or not narrow.any():
            return self._pass(parameters, bool(narrow.any()))
        log_lik = np.empty(len(narrow))
        parts = [
            (index, *self._pass(parameters[index], own))
            for own in (False, True)
            for index in [np.flatnonzero(narrow == own)]
        ]
        for index, value, _ in parts:
            log_lik[index] = value
        return log_lik, Sums.of_parts([(index, sums) for index, _, sums in parts], len(narrow))

    def _pass(self, parameters: EMParameters, narrow: bool) -> tuple[FloatArray, Sums]:
        r, k = parameters.weights.shape
        means, covariances = parameters.means, parameters.covariances
        distances, log_det = self._algebra.distances(means, covariances, narrow)
        with np.errstate(divide="ignore"):
            log_weights = np.log(parameters.weights)
            log_noise = np.log(parameters.noise_weight)[:, np.newaxis] + (self._log_noise or 0.0)
        constant = (log_weights - log_det - 0.5 * self._n_observed * LOG_2PI)[..., np.newaxis]
        log_lik = np.zeros(r)
        # Moments of incomplete rows are completed about zero, so these stay there.
        own_origin = narrow and self._completion is None
        sums = self._algebra.no_sums(r, k, means if own_origin else None)
        size = max(64, _BLOCK // self._algebra.numbers_per_row(r, k))
        for first in range(0, self.n_rows, size):
            block = slice(first, first + size)
            log_joint = distances(block)
            log_joint *= -0.5
            log_joint += constant
            peak = log_joint.max(axis=1)
            if self._log_noise is not None:
                np.maximum(peak, log_noise, out=peak)
            log_joint -= peak[:, np.newaxis]
            np.maximum(log_joint, NEGLIGIBLE, out=log_joint)
            joint = np.exp(log_joint, out=log_joint)
            total = joint.sum(axis=1)
            if self._log_noise is not None:
                total += np.exp(log_noise - peak)
            weight = None if self._sample_weight is None else self._sample_weight[block]
            joint *= (1.0 / total if weight is None else weight / total)[:, np.newaxis]
            log_density = np.log(total, out=total)
            log_density += peak
            log_lik += log_density.sum(axis=1) if weight is None else log_density @ weight
            self._algebra.add(sums, joint, block)
        return log_lik + self._log_jacobian, sums


@dataclass(frozen=True, eq=False)
class ChunkStep:
    """The E step as a function of complete rows of the problem, shape (n, D)."""

    parameters: EMParameters
    frame: FloatArray | None
    structure: CovarianceStructure
    box: Box | None

    def __call__(self, x: FloatArray) -> tuple[FloatArray, ...]:
        """Log likelihoods (R,), and the arrays of `Sums`."""
        log_lik, sums = self.sums_of(x)
        return log_lik, sums.counts, sums.first, sums.second

    def sums_of(self, x: FloatArray) -> tuple[FloatArray, Sums]:
        """Log likelihoods (R,), and the sums over rows that the M step needs."""
        everything = RowGroup(slice(0, len(x)), np.arange(x.shape[1]))
        rows = EMRows(x, None, self.frame, self.structure, everything, self.box)
        return rows.expectation(self.parameters)


class Completion(ABC):
    """From the features that rows have to all features, given a mixture."""

    @abstractmethod
    def marginal(self, parameters: EMParameters) -> EMParameters:
        """Mixtures of the observed features."""

    @abstractmethod
    def completed(self, sums: Sums, marginal: EMParameters, parameters: EMParameters) -> Sums:
        """Expected sums over all features, from those over the observed ones."""

    @abstractmethod
    def filled(self, columns: FloatArray) -> FloatArray:
        """Rows (N, D) of columns (O, N), with mean 0 and variance 1 for all data."""


class IndependentCompletion(Completion):
    """Diagonal covariances: what is missing is as the component has it, whatever is observed."""

    def __init__(self, observed: IntArray, n_features: int) -> None:
        self._observed = observed
        self._n_features = n_features

    def marginal(self, parameters: EMParameters) -> EMParameters:
        """Leave the other features out."""
        return EMParameters(
            parameters.weights,
            parameters.means[..., self._observed],
            parameters.covariances[..., self._observed],
        )

    def completed(self, sums: Sums, marginal: EMParameters, parameters: EMParameters) -> Sums:
        """Means, and squares of means plus variances, as often as the component has rows."""
        counts, means = sums.counts[..., np.newaxis], parameters.means
        first, second = counts * means, counts * (means**2 + parameters.covariances)
        first[..., self._observed] = sums.first
        second[..., self._observed] = sums.second
        return Sums(sums.counts, first, second)

    def filled(self, columns: FloatArray) -> FloatArray:
        """Zeros are the means."""
        rows = np.zeros((columns.shape[1], self._n_features))
        rows[:, self._observed] = columns.T
        return rows


class CorrelatedCompletion(Completion):
    """Covariance matrices: regression of all coordinates on those observed, y = B z.

    With S_y = B S B', given y a coordinate has mean m + G (y - B m), G = S B' S_y^-1, and the
    covariance S - G B S.

    Parameters
    ----------
    projection : ndarray, shape (O, D)
        B, whose rows are orthonormal.
    pooled : bool
        Whether the components share their covariance.
    """

    def __init__(self, projection: FloatArray, *, pooled: bool) -> None:
        self._projection = projection
        self._pooled = pooled

    def marginal(self, parameters: EMParameters) -> EMParameters:
        """B m and B S B'."""
        b = self._projection
        return EMParameters(
            parameters.weights, parameters.means @ b.T, b @ parameters.covariances @ b.T
        )

    def completed(self, sums: Sums, marginal: EMParameters, parameters: EMParameters) -> Sums:
        """Sums of G y + a, a = m - G B m, and of its products plus the conditional covariance."""
        covariances = parameters.covariances
        crossed = self._projection @ covariances  # B S
        slope = np.linalg.solve(marginal.covariances, crossed)  # G'
        left = covariances - np.swapaxes(crossed, -1, -2) @ slope

        def regressed(rows: FloatArray) -> FloatArray:
            return np.asarray((rows[..., np.newaxis, :] @ slope)[..., 0, :])

        counts = sums.counts[..., np.newaxis]
        constant = parameters.means - regressed(marginal.means)
        of_observed = regressed(sums.first)
        first = of_observed + counts * constant
        # sum (G y + a)(G y + a)' = G sum(y y') G' + sum(G y) a' + a (sum(G y) + N_k a)'
        products = of_observed[..., np.newaxis] * constant[..., np.newaxis, :]
        products += constant[..., np.newaxis] * first[..., np.newaxis, :]
        if self._pooled:
            products = products.sum(axis=1, keepdims=True)
            counts = counts.sum(axis=1, keepdims=True)
        products += np.swapaxes(slope, -1, -2) @ sums.second @ slope
        products += counts[..., np.newaxis] * left
        # Rounding differs on the two sides of the diagonal, and iterations would let that grow.
        products += np.swapaxes(products, -1, -2)
        products *= 0.5
        return Sums(sums.counts, first, products)

    def filled(self, columns: FloatArray) -> FloatArray:
        """B' y: the regression where the covariance is one."""
        return np.asarray(columns.T @ self._projection)
