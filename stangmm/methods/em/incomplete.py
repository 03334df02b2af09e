"""The E step of EM over rows that miss values, each in its own way: all patterns at once.

What it computes is what `stangmm.methods.em.rows` computes pattern by pattern (Ghahramani & Jordan
1994; Lin, Lee & Ho 2006, doi:10.1016/j.patcog.2005.12.014): responsibilities, and given the
features that a row has, conditional means and covariances of those that it misses. Where nearly
every row has a pattern of its own, a factorization for each pattern, in Python, takes a hundred
times as long as the numbers do. Here rows that miss equally many values are factored together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.sparse import csc_array

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.methods.em.algebra import NEGLIGIBLE, EMParameters, Sums
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.incomplete import BLOCK, AlikeRows, Whitened, alike_rows
from stangmm.model.mixture import LOG_2PI
from stangmm.model.noise import Box


class IncompleteRows(ABC):
    """Rows that share what is known of their component, whatever features they miss.

    Parameters
    ----------
    x : ndarray, shape (N, D)
        Of the problem; NaN where a value is missing.
    sample_weight : ndarray, shape (N,), or None
    box : Box or None
        Where the noise lies, of the problem.
    component : int or None
        The component that the rows are known to come from.
    """

    is_incomplete: ClassVar[bool] = True

    def __init__(
        self,
        x: FloatArray,
        sample_weight: FloatArray | None,
        box: Box | None,
        component: int | None,
    ) -> None:
        self.component = component
        self._x = x
        self._weight = sample_weight
        self._seen = ~np.isnan(x)
        self._log_noise: FloatArray | None = None  # log density of noise, shape (N,)
        if box is not None and component is None:
            self._log_noise = np.where(self._seen, box.log_density, 0.0).sum(axis=1)

    @abstractmethod
    def filled(self) -> FloatArray:
        """Rows (N, D) with what is missing at its mean, given the rest, over all data."""

    @abstractmethod
    def expectation(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        """E step: log likelihoods (R,), and the sums over rows that the M step needs."""

    def _shared(
        self, log_joint: FloatArray, parameters: EMParameters, rows: IntArray | slice
    ) -> tuple[FloatArray, FloatArray]:
        """Log likelihoods (R,) and responsibilities, from log joint densities (N, R, K) of rows.

        Responsibilities are times the sample weights.
        """
        with np.errstate(divide="ignore"):
            log_joint = log_joint + np.log(parameters.weights)
            log_noise = np.log(parameters.noise_weight)
        peak = log_joint.max(axis=-1)
        if self._log_noise is not None:
            log_noise = log_noise + self._log_noise[rows, np.newaxis]
            peak = np.maximum(peak, log_noise)
        joint = np.exp(np.maximum(log_joint - peak[..., np.newaxis], NEGLIGIBLE))
        total = joint.sum(axis=-1)
        if self._log_noise is not None:
            total += np.exp(log_noise - peak)
        weight = np.ones(len(peak)) if self._weight is None else self._weight[rows]
        share = joint * (weight[:, np.newaxis] / total)[..., np.newaxis]
        return weight @ (np.log(total) + peak), share


class IndependentIncompleteRows(IncompleteRows):
    """Diagonal covariances: what is missing is as the component has it, whatever is observed.

    The sums are linear in x, x^2 and whether x is there: one product for a block of rows.
    """

    @cached_property
    def _features(self) -> FloatArray:
        """Whether each value is there, the value and its square, zero where not: (3 D, N)."""
        zeroed = np.where(self._seen, self._x, 0.0)
        return np.concatenate([self._seen, zeroed, zeroed**2], axis=1).T.copy()

    def filled(self) -> FloatArray:
        """Zeros are the means."""
        return np.where(self._seen, self._x, 0.0)

    def expectation(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        """E step: log likelihoods (R,), and the sums over rows that the M step needs."""
        means = parameters.means
        r, k, d = means.shape
        variances = np.broadcast_to(parameters.covariances, means.shape)
        sums = np.zeros((r * k, 1 + 3 * d))
        log_lik = np.zeros(r)
        for block in self._blocks(r * k):
            log_lik_of, share = self._shared(
                self._log_density(means, variances, block), parameters, block
            )
            log_lik += log_lik_of
            flat = share.reshape(-1, r * k).T
            sums[:, 0] += flat.sum(axis=1)
            sums[:, 1:] += flat @ self._features[:, block].T
        counts = sums[:, 0].reshape(r, k)
        seen, first, second = np.moveaxis(sums[:, 1:].reshape(r, k, 3, d), 2, 0)
        missing = counts[..., np.newaxis] - seen
        first = first + missing * means
        second = second + missing * (means**2 + variances)
        return log_lik, Sums(counts, first, second)

    def _blocks(self, mixtures: int) -> Iterator[slice]:
        d, n = self._x.shape[1], len(self._x)
        size = max(64, BLOCK // (mixtures * d))
        return (slice(first, first + size) for first in range(0, n, size))

    def _log_density(self, means: FloatArray, variances: FloatArray, block: slice) -> FloatArray:
        """Of the rows under each component, (N, R, K); differences from means lose no digits."""
        seen, x = self._seen[block], np.where(self._seen[block], self._x[block], 0.0)
        constant = (np.log(variances) + LOG_2PI).reshape(-1, means.shape[-1])
        of_seen = (seen @ constant.T).reshape(-1, *means.shape[:2])
        deviations = x[:, np.newaxis, np.newaxis] - means
        deviations *= seen[:, np.newaxis, np.newaxis] / np.sqrt(variances)
        distances = np.einsum("nrkd,nrkd->nrk", deviations, deviations)
        return np.asarray(-0.5 * (distances + of_seen))


class CorrelatedIncompleteRows(IncompleteRows):
    """Covariance matrices: each row's own Cholesky factor, of many rows at a time.

    Parameters
    ----------
    x, sample_weight, box, component
        See `IncompleteRows`.
    frame : ndarray, shape (D, D)
        EM's coordinates are ``frame^-1 x``.
    structure : CovarianceStructure
    """

    def __init__(
        self,
        x: FloatArray,
        sample_weight: FloatArray | None,
        box: Box | None,
        component: int | None,
        frame: FloatArray,
        structure: CovarianceStructure,
    ) -> None:
        super().__init__(x, sample_weight, box, component)
        self._frame, self._pooled = frame, structure.pooled
        self._alike = alike_rows(x)

    def filled(self) -> FloatArray:
        """The regression on what a row has, where the covariance is that of all data."""
        d = self._x.shape[1]
        covariance = (self._frame @ self._frame.T)[..., np.newaxis, np.newaxis]
        whole = np.empty_like(self._x)
        for alike in self._alike:
            whitened = Whitened.of(alike, np.zeros((d, 1, 1)), covariance)
            whole[alike.rows] = _complete(alike, whitened)[:, :, 0, 0].T
        return np.asarray(np.linalg.solve(self._frame, whole.T).T)

    def expectation(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        """E step: log likelihoods (R,), and the sums over rows that the M step needs."""
        frame = self._frame
        means = parameters.means @ frame.T
        covariances = frame @ parameters.covariances @ frame.T
        r, k, d = means.shape
        c = covariances.shape[1]
        log_lik, counts, first = np.zeros(r), np.zeros((r, k)), np.zeros((r, k, d))
        second = np.zeros((r, c, d, d))
        features_first = (
            np.ascontiguousarray(np.moveaxis(means, 2, 0)),
            np.ascontiguousarray(np.moveaxis(covariances, (2, 3), (0, 1))),
        )
        size = max(8, BLOCK // (r * c * d * d))
        for alike in (block for each in self._alike for block in each.blocks(size)):
            whitened = Whitened.of(alike, *features_first)
            value, share = self._shared(whitened.log_density, parameters, alike.rows)
            complete, left = _complete(alike, whitened), whitened.missing_covariances
            log_lik += value
            counts += share.sum(axis=0)
            weighted = complete * share
            first += np.moveaxis(weighted.sum(axis=1), 0, -1)
            products = np.moveaxis(weighted, (2, 3), (0, 1)) @ np.moveaxis(
                complete, (2, 3, 1), (0, 1, 2)
            )
            if self._pooled:
                products = products.sum(axis=1, keepdims=True)
                share = share.sum(axis=2, keepdims=True)
            second += products
            if left.size:
                of_pairs = _summed(alike, (left * share).reshape(*left.shape[:3], r * c))
                second += of_pairs.T.reshape(r, c, d, d)
        back = np.linalg.inv(frame)
        second = back @ second @ back.T
        # Rounding differs on the two sides of the diagonal, and iterations would let that grow.
        second += np.swapaxes(second, -1, -2)
        second *= 0.5
        return log_lik, Sums(counts, first @ back.T, second)


def _summed(alike: AlikeRows, of_pairs: FloatArray) -> FloatArray:
    """Sums over rows, for all D^2 pairs of features, of numbers of those that each row misses.

    From (Q, Q, n, B) to (D^2, B).
    """
    d, o = len(alike.order), len(alike.observed)
    missing = alike.order[o:]
    at = (missing[:, np.newaxis] * d + missing).ravel()
    where = csc_array((np.ones(at.size), at, np.arange(at.size + 1)), shape=(d * d, at.size))
    return np.asarray(where @ of_pairs.reshape(at.size, -1))


def _complete(alike: AlikeRows, whitened: Whitened) -> FloatArray:
    """Rows with what is missing at its conditional mean, shape (D, n, R, K)."""
    o, row = len(alike.observed), np.arange(len(alike.rows))
    complete = np.empty_like(whitened.means)
    complete[alike.order[:o], row] = alike.observed[..., np.newaxis, np.newaxis]
    complete[alike.order[o:], row] = whitened.missing_means
    return complete
