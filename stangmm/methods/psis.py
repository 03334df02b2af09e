"""Pareto-smoothed importance sampling of many rows at once, on plain arrays.

Vehtari, Simpson, Gelman, Yao & Gabry 2024 (https://jmlr.org/papers/v25/19-556.html), each number as
ArviZ 0.23 gives it. A generalized Pareto distribution is fitted to the largest weights of a row as
in Zhang & Stephens 2009 (doi:10.1198/tech.2009.08017).
"""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.methods.draws import VariationalInfo
from stangmm.model.mixture import log_sum_exp

_ROWS = 16  # at a time: for each some 10,000 numbers, which stay in a core's cache
_FEWEST = 5  # weights to which a distribution is fitted
_SMALLEST = float(np.log(np.finfo(float).tiny))
_PRIOR_BS, _PRIOR_K = 3.0, 10.0


def smoothed(log_ratios: FloatArray, efficiency: float) -> tuple[FloatArray, FloatArray]:
    """Smoothed, normalized log weights of log ratios (N, S).

    Parameters
    ----------
    log_ratios : ndarray, shape (N, S)
    efficiency : float
        Effective draws for each draw.

    Returns
    -------
    log_weights : ndarray, shape (N, S)
    k : ndarray, shape (N,)
        Shape of the distribution of the largest weights; inf for rows that have no such tail, as
        where all ratios are equal: these are not smoothed.
    """
    n_rows, n_draws = log_ratios.shape
    n_tail = int(np.ceil(min(n_draws / 5.0, 3 * (n_draws / efficiency) ** 0.5)))
    out, k = np.empty((n_rows, n_draws)), np.empty(n_rows)
    with np.errstate(all="ignore"):  # of rows without a tail
        for first in range(0, n_rows, _ROWS):
            rows = slice(first, first + _ROWS)
            out[rows], k[rows], regular = _smoothed(log_ratios[rows], n_tail)
            for row in first + np.flatnonzero(~regular):
                out[row], k[row] = _with_care(log_ratios[row], n_tail)
    return out, k


def _with_care(log_ratios: FloatArray, n_tail: int) -> tuple[FloatArray, float]:
    """One row with ties at the cutoff: its tail is what lies above."""
    x = log_ratios - log_ratios.max()
    cutoff = max(np.sort(x)[-n_tail - 1], _SMALLEST) if n_tail < len(x) else 0.0
    log_weights, k, regular = _smoothed(x[np.newaxis], int((x > cutoff).sum()))
    if regular[0]:
        return log_weights[0], float(k[0])
    return x - log_sum_exp(x, axis=0), float("inf")


def _smoothed(log_ratios: FloatArray, n_tail: int) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Smooth the largest weights of some rows; which rows have so many above the others."""
    if not _FEWEST <= n_tail < log_ratios.shape[1]:
        n_rows = len(log_ratios)
        return log_ratios, np.full(n_rows, np.inf), np.zeros(n_rows, dtype=bool)
    x = log_ratios - log_ratios.max(axis=1, keepdims=True)
    largest = np.argpartition(x, -n_tail - 1, axis=1)[:, -n_tail - 1 :]
    values = np.take_along_axis(x, largest, axis=1)
    order = np.argsort(values, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    places = np.take_along_axis(largest, order, axis=1)[:, 1:]
    cutoff, tail = values[:, :1], np.exp(values[:, 1:]) - np.exp(values[:, :1])
    k, sigma = _pareto_fit(tail)
    share = np.arange(0.5, n_tail) / n_tail
    quantiles = sigma * np.expm1(-k * np.log1p(-share)) / k
    np.put_along_axis(x, places, np.minimum(np.log(quantiles + np.exp(cutoff)), 0.0), axis=1)
    regular = (values[:, 1:2] > np.maximum(cutoff, _SMALLEST)) & (sigma > 0) & np.isfinite(k)
    return x - log_sum_exp(x, axis=1)[:, np.newaxis], k[:, 0], regular[:, 0]


def _pareto_fit(tail: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shape k and scale sigma, each (N, 1), of generalized Pareto draws (N, n), rising."""
    n = tail.shape[1]
    grid = 30 + int(n**0.5)
    b = 1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    b = b / (_PRIOR_BS * tail[:, int(n / 4 + 0.5) - 1, np.newaxis]) + 1 / tail[:, -1:]
    k = np.log1p(-b[:, :, np.newaxis] * tail[:, np.newaxis, :]).mean(axis=2)
    log_likelihood = n * (np.log(-b / k) - k - 1)
    weights = np.exp(log_likelihood - log_sum_exp(log_likelihood, axis=1)[:, np.newaxis])
    weights[weights < 10 * np.finfo(float).eps] = 0.0
    b_mean = ((b * weights).sum(axis=1) / weights.sum(axis=1))[:, np.newaxis]
    k_mean = np.log1p(-b_mean * tail).mean(axis=1, keepdims=True)
    return (n * k_mean + _PRIOR_K / 2) / (n + _PRIOR_K), -k_mean / b_mean


def pareto_k(info: VariationalInfo) -> float:
    """PSIS k-hat of an approximation (Yao et al. 2018, doi:10.48550/arXiv.1802.02538)."""
    return importance_weights(info)[1]


def importance_weights(info: VariationalInfo) -> tuple[FloatArray, float]:
    """Pareto-smoothed weights (S,) of an approximation's draws, and their k-hat."""
    return weights_of(info.log_p - info.log_q)


def weights_of(log_ratios: FloatArray) -> tuple[FloatArray, float]:
    """Pareto-smoothed weights (S,) that sum to 1, of log ratios (S,), and their k-hat.

    A ratio may be zero. K-hat is infinite where a ratio is no number or infinite.
    """
    if np.isnan(log_ratios).any() or not np.isfinite(log_ratios.max()):
        return np.full(len(log_ratios), 1.0 / len(log_ratios)), float("inf")
    log_weights, k = smoothed((log_ratios - log_ratios.max())[np.newaxis], 1.0)
    weights = np.exp(log_weights[0])
    return weights / weights.sum(), float(k[0])
