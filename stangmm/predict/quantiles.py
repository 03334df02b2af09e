"""Quantiles of averages of many normal distributions, by bracketed Newton steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from stangmm.base.arrays import FloatArray
from stangmm.model.mixture import LOG_2PI

_TOLERANCE = 1e-12  # of the log probability
_MOST_STEPS = 500  # ten are usual; halving alone ends a bracket in sixty or so


class Uniform(NamedTuple):
    """A uniform part of M mixtures: its weight in each, (M,), and where it lies."""

    weight: FloatArray
    lower: float
    upper: float


def mixture_quantile(
    weights: FloatArray,
    means: FloatArray,
    scales: FloatArray,
    q: float,
    uniform: Uniform | None = None,
) -> FloatArray:
    """Solve sum_t weights_t Phi((x - means_t) / scales_t) = q for many mixtures at once.

    Parameters
    ----------
    weights, means, scales : ndarray, shape (T, M)
        M mixtures of T normal distributions; weights sum to one over T.
    q : float
        Between 0 and 1.
    uniform : Uniform, optional
        One part more, whose weight is what the others leave.

    Returns
    -------
    ndarray, shape (M,)
    """
    if q > 0.5:  # so that the probability solved for is small, and has all its digits
        turned = uniform and Uniform(uniform.weight, -uniform.upper, -uniform.lower)
        return np.negative(mixture_quantile(weights, -means, scales, 1.0 - q, turned))
    target = float(np.log(q))
    # The quantile of a mixture lies between those of its parts.
    ends = means + scales * ndtri(q)
    low = np.where(weights > 0, ends, np.inf).min(axis=0)
    high = np.where(weights > 0, ends, -np.inf).max(axis=0)
    if uniform is not None:
        end = uniform.lower + q * (uniform.upper - uniform.lower)
        low, high = np.minimum(low, end), np.maximum(high, end)
    x: FloatArray = np.clip((weights * ends).sum(axis=0), low, high)
    out = x.copy()
    active = np.arange(len(x))
    for _ in range(_MOST_STEPS):
        log_cdf, slope = _log_cdf(weights, means, scales, x, uniform)
        gap = log_cdf - target
        out[active] = x
        low, high = np.where(gap < 0, x, low), np.where(gap < 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = x - gap / slope
        last = np.minimum(np.abs(newton - x), high - low) <= 4 * np.spacing(np.abs(x))
        going = ~(last | (np.abs(gap) <= _TOLERANCE))
        if not going.any():
            break
        # Halve the bracket where Newton leaves it.
        inside = (newton > low) & (newton < high)
        x = np.where(inside, newton, 0.5 * low + 0.5 * high)[going]
        active, low, high, weights = active[going], low[going], high[going], weights[:, going]
        means, scales = means[:, going], scales[:, going]
        uniform = uniform and uniform._replace(weight=uniform.weight[going])
    return out


def _log_cdf(
    weights: FloatArray,
    means: FloatArray,
    scales: FloatArray,
    x: FloatArray,
    uniform: Uniform | None,
) -> tuple[FloatArray, FloatArray]:
    """Log of the mixtures' distribution functions at x, shape (M,), and its derivative."""
    standardized = (x - means) / scales
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cdf = (weights * ndtr(standardized)).sum(axis=0)
        density = (weights / scales * np.exp(-0.5 * standardized**2 - 0.5 * LOG_2PI)).sum(axis=0)
        if uniform is not None:
            share = (x - uniform.lower) / (uniform.upper - uniform.lower)
            cdf += uniform.weight * np.clip(share, 0.0, 1.0)
            inside = (share > 0) & (share < 1)
            density += uniform.weight * inside / (uniform.upper - uniform.lower)
        return np.log(cdf), density / cdf
