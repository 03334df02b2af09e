"""Sums over all rows of which only some were visited: the difference estimator, and its errors.

Magnusson, Andersen, Jonasson & Vehtari 2019 (https://proceedings.mlr.press/v97/magnusson19a.html)
and 2020 (https://proceedings.mlr.press/v108/magnusson20a.html). Every row has an approximation.
What rows drawn at random are above theirs, scaled up to all rows, is added to the sum of all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray

_SEED = 1  # one for all fits, so that fits of the same data visit the same rows


@dataclass(frozen=True, eq=False)
class Subsample:
    """The rows that leave-one-out visited, where these are not all, and what stands for the others.

    Attributes
    ----------
    drawn : ndarray of int, shape (m,)
        Rows drawn at random, in order; the same in every fit of the same data.
    certain : ndarray of int, shape (q,)
        Rows visited in any case: those on which the posterior depends most. Some are also drawn.
    approx_i : ndarray, shape (N,)
        An approximation of each row's part of the elpd. It is exact for the certain rows.
    rough_i : ndarray, shape (m,)
        The approximations of the drawn rows, made as for rows that were not visited. Those in
        ``approx_i`` are better.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="nuts", seed=1)
    >>> loo = fit.loo(subsample=200)
    >>> len(loo.subsample.drawn), len(loo.subsample.certain), loo.subsampling_se < 0.1
    (150, 50, True)
    """

    drawn: IntArray
    certain: IntArray
    approx_i: FloatArray
    rough_i: FloatArray

    @property
    def visited(self) -> IntArray:
        """The rows that were visited, in order."""
        return np.union1d(self.drawn, self.certain)

    def with_certain(self, elpd_i: FloatArray) -> Subsample:
        """Take the certain rows' parts from an array (N,) of parts."""
        approx, rough = self.approx_i.copy(), self.rough_i.copy()
        approx[self.certain] = elpd_i[self.certain]
        also = np.isin(self.drawn, self.certain)
        rough[also] = elpd_i[self.drawn[also]]
        return replace(self, approx_i=approx, rough_i=rough)


def subsample_words(subsample: Subsample, subsampling_se: float) -> str:
    """Say in one sentence that not all rows were visited, and what error that adds."""
    return (
        f"Leave-one-out visited {len(subsample.visited):,} of {len(subsample.approx_i):,} rows, "
        f"which adds a standard error of {subsampling_se:.2g}."
    )


class Parts(NamedTuple):
    """The rows' parts of a sum: each (N,), NaN where it was not visited, and the subsample."""

    each: FloatArray
    subsample: Subsample | None = None


class Sum(NamedTuple):
    """A sum over rows, each as often as it counts.

    Attributes
    ----------
    value : float
    se : float
        Standard error over new samples of rows.
    subsampling_se : float
        Standard error over which rows are drawn; 0 where all were visited.
    """

    value: float
    se: float
    subsampling_se: float

    @property
    def error(self) -> float:
        """Both errors in one."""
        return float(np.hypot(self.se, self.subsampling_se))


def pooled(pointwise: FloatArray, sample_weight: FloatArray | None) -> tuple[float, float]:
    """Sum of values of the rows, shape (N,), and its standard error over new samples of rows.

    The error is sqrt(N) times the standard deviation between rows; with weights, N is their sum.
    """
    weight = _weights(pointwise, sample_weight)
    total = float(weight.sum())
    mean = float(weight @ pointwise) / total
    variance = float(weight @ (pointwise - mean) ** 2) / total
    return mean * total, float(np.sqrt(total * variance))


def summed(parts: Parts, sample_weight: FloatArray | None) -> Sum:
    """Sum of the rows' parts, estimated where not all rows were visited."""
    each, subsample = parts
    if subsample is None:
        return Sum(*pooled(each, sample_weight), 0.0)
    drawn = subsample.drawn
    return _estimated(each[drawn], _approx(parts), _rough(parts), drawn, sample_weight)


def difference(one: Parts, other: Parts, sample_weight: FloatArray | None) -> Sum:
    """Sum of the differences between two fits' parts, from rows that were drawn for both.

    Its errors are those of the difference, row by row, and not those of two sums.
    """
    if one.subsample is None and other.subsample is None:
        return Sum(*pooled(one.each - other.each, sample_weight), 0.0)
    samples = [parts.subsample.drawn for parts in (one, other) if parts.subsample is not None]
    drawn = np.intersect1d(samples[0], samples[-1])
    exact = one.each[drawn] - other.each[drawn]
    approx, rough = _approx(one) - _approx(other), _rough(one) - _rough(other)
    return _estimated(exact, approx, rough, drawn, sample_weight)


def completed(parts: Parts, sample_weight: FloatArray | None) -> FloatArray:
    """The parts of all rows, (N,): approximations where they were not visited; their sum is kept.

    The estimate of the sum and the sum of approximations differ. The rows that were not visited
    share the difference.
    """
    each, subsample = parts
    if subsample is None:
        return each
    weight = _weights(each, sample_weight)
    out = subsample.approx_i.copy()
    rest = np.ones(len(out), dtype=bool)
    rest[subsample.visited] = False
    out[~rest] = each[~rest]
    out[rest] += (summed(parts, weight).value - weight @ out) / (weight @ rest)
    return out


def draw_rows(counted: IntArray, m: int) -> IntArray:
    """M of the rows that count, at random, in order; of fewer rows all are among those of more."""
    order = np.random.default_rng(_SEED).permutation(len(counted))
    return np.sort(counted[order[:m]])


def _approx(parts: Parts) -> FloatArray:
    """The best approximation of each row, (N,)."""
    return parts.each if parts.subsample is None else parts.subsample.approx_i


def _rough(parts: Parts) -> FloatArray:
    """Approximations that are made alike for drawn rows and for those not visited, (N,)."""
    out = _approx(parts)
    if parts.subsample is not None:
        out = out.copy()
        out[parts.subsample.drawn] = parts.subsample.rough_i
    return out


def _estimated(
    exact: FloatArray,
    approx: FloatArray,
    rough: FloatArray,
    drawn: IntArray,
    sample_weight: FloatArray | None,
) -> Sum:
    """The difference estimator of a sum, and of the squares that its standard error needs.

    Parameters
    ----------
    exact : ndarray, shape (m,)
        Parts of the drawn rows.
    approx : ndarray, shape (N,)
        Approximations of all rows; those of the drawn rows may be better than the others.
    rough : ndarray, shape (N,)
        Approximations that are equally good for all rows.
    drawn : ndarray of int, shape (m,)
    sample_weight : ndarray, shape (N,), or None
    """
    weight = _weights(approx, sample_weight)
    own, size = weight[drawn], float(weight.sum())
    n, m = np.count_nonzero(weight), len(drawn)
    above = own * (exact - approx[drawn])
    value = float(weight @ approx + n / m * above.sum())
    variance = n**2 * (1.0 - m / n) * float(above.var(ddof=1)) / m
    center = float(weight @ rough) / size
    squares = float(weight @ (rough - center) ** 2)
    squares += n / m * float(own @ ((exact - center) ** 2 - (rough[drawn] - center) ** 2))
    spread = squares - ((value - size * center) ** 2 - variance) / size
    return Sum(value, float(np.sqrt(max(spread, 0.0))), float(np.sqrt(variance)))


def _weights(values: FloatArray, sample_weight: FloatArray | None) -> FloatArray:
    return np.ones(len(values)) if sample_weight is None else sample_weight


def counted_rows(chosen: BoolArray, sample_weight: FloatArray | None) -> IntArray:
    """Numbers of the chosen rows (N,) that count: those of no weight do not."""
    return np.flatnonzero(chosen if sample_weight is None else chosen & (sample_weight > 0))
