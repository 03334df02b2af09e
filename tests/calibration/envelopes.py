"""Statistics of ranks: simultaneous envelopes of their ECDF, p-values, and interval coverage.

If draws and truth come from one distribution, the rank of the truth among L draws is uniform on
0, ..., L. At the L points between these values the number of ranks below is binomial; the test
statistic gamma is the smallest of all their two-sided tail probabilities, and its distribution
makes one statement of all points (Saeilynoja, Buerkner & Vehtari 2022,
doi:10.1007/s11222-022-10090-6). That distribution is computed exactly here, not simulated.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def counts_below(ranks: IntArray, n_draws: int) -> IntArray:
    """Count the ranks below 1, 2, ..., L; shape (L,), for ranks from 0 to L = ``n_draws``."""
    below: IntArray = np.searchsorted(np.sort(ranks), np.arange(1, n_draws + 1), side="left")
    return below


def gamma(ranks: IntArray, n_draws: int) -> float:
    """Smallest two-sided tail probability of the ECDF over its L points; small is bad."""
    below = counts_below(ranks, n_draws)
    binomial = stats.binom(len(ranks), _points(n_draws))
    return float(2.0 * np.minimum(binomial.cdf(below), binomial.sf(below - 1)).min())


def p_value(ranks: IntArray, n_draws: int) -> float:
    """Probability that uniform ranks give a gamma as small as this, exactly."""
    # A little more, since the same tail probability may be rounded in two ways.
    level = gamma(ranks, n_draws) * (1.0 + 1e-9)
    return 1.0 - probability_inside(*_band(level, len(ranks), n_draws), len(ranks))


def probability_inside(low: IntArray, high: IntArray, n_ranks: int) -> float:
    """Probability that the counts of uniform ranks stay within [low, high] at all L points.

    Numbers of ranks with each value are independent Poisson variables, given their sum; so the
    counts are followed from point to point by convolutions.
    """
    steps = np.arange(n_ranks + 1)
    one_value = stats.poisson.pmf(steps, n_ranks / (len(low) + 1))
    reached = np.zeros(n_ranks + 1)
    reached[0] = 1.0
    for least, most in zip(low, high, strict=True):
        reached = np.convolve(reached, one_value)[: n_ranks + 1]
        reached[(steps < least) | (steps > most)] = 0.0
    inside = np.convolve(reached, one_value)[n_ranks]
    return float(min(1.0, inside / stats.poisson.pmf(n_ranks, n_ranks)))


@cache
def envelope(n_ranks: int, n_draws: int, level: float = 0.95) -> tuple[IntArray, IntArray]:
    """Least and most counts, each (L,), that hold all points with probability ``level`` at least.

    The narrowest such band of equal tail probabilities. An ECDF leaves it if and only if its
    `p_value` is at most ``1 - level``.
    """
    narrow, wide = 1.0 - level, 0.0  # gamma's quantile is below that of a single point
    for _ in range(50):
        middle = 0.5 * (narrow + wide)
        if probability_inside(*_band(middle, n_ranks, n_draws), n_ranks) >= level:
            wide = middle
        else:
            narrow = middle
    return _band(wide, n_ranks, n_draws)


def holm(p_values: FloatArray) -> FloatArray:
    """Adjust p-values for their number (Holm 1979), whatever their dependence."""
    n = len(p_values)
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate((n - np.arange(n)) * p_values[order])
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted


def coverage(ranks: IntArray, n_draws: int, level: float) -> float:
    """Share of truths within the central interval between two of the L ordered draws.

    Its probability is ``level`` exactly where (L + 1) (1 - level) / 2 is a whole number.
    """
    tail = (n_draws + 1) * (1.0 - level) / 2.0
    cut = round(tail)
    if abs(tail - cut) > 1e-9:
        raise ValueError(f"no interval between {n_draws} draws holds exactly {level}")
    return float(((ranks >= cut) & (ranks <= n_draws - cut)).mean())


def _points(n_draws: int) -> FloatArray:
    """Probabilities of a rank below 1, ..., L."""
    return np.arange(1, n_draws + 1) / (n_draws + 1)


def _band(level: float, n_ranks: int, n_draws: int) -> tuple[IntArray, IntArray]:
    """Counts whose two-sided tail probability exceeds ``level``, at each point."""
    counts = np.arange(n_ranks + 1)
    binomial = stats.binom(n_ranks, _points(n_draws)[:, np.newaxis])
    tails = 2.0 * np.minimum(binomial.cdf(counts), binomial.sf(counts - 1))
    inside = tails > level
    low = inside.argmax(axis=1)
    high = n_ranks - inside[:, ::-1].argmax(axis=1)
    return low, np.where(inside.any(axis=1), high, -1)  # where none is, the band is empty
