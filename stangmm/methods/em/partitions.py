"""Partitions of rows by clustering that is quick: k-means, and balls around rows.

Coordinates are rounded first, and a row whose component is known (labels, -1 where it is not) stays
with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import KDTree
from scipy.special import gammaln

from stangmm.base.arrays import BoolArray, FloatArray, IntArray

_LLOYD_STEPS = 20
_CANDIDATES = 8  # rows of which the one in the densest place is taken
_DECIMALS = 9
# Sizes of the balls that are compared with a normal density, each so many times the one before, and
# how many balls of each; up to so many features; radii in standard deviations, at least; and gains
# in nats, at least.
_SIZES, _TIMES, _BEST = 12, 2**0.5, 3
_FEW_FEATURES, _SMALLEST, _WORTH = 6, 1e-2, 2.0
# Standard deviation, of that of all rows, that intervals are given beside their own: narrow ones do
# not win just because they are.
_NARROW = 0.03


def rounded(y: FloatArray) -> FloatArray:
    """Coordinates of the order of 1 without their last digits.

    Which rows are nearest does not hang on the bits in which processors differ then.
    """
    return y.round(_DECIMALS)


def k_means(
    y: FloatArray,
    k: int,
    weight: FloatArray,
    rng: np.random.Generator,
    labels: IntArray | None = None,
) -> IntArray:
    """Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii 2007), a label for each row.

    Centres of known rows stay where these are: a few rows could not hold them against the rest.
    """
    y = rounded(y)
    known = None if labels is None or not (labels >= 0).any() else labels
    centers = _far_rows(y, k, weight, known, rng)
    weighted = weight[:, np.newaxis] * y
    z = np.full(len(y), -1)
    for _ in range(_LLOYD_STEPS if known is None else 1):
        distance = (centers**2).sum(axis=1) - 2.0 * (y @ centers.T)
        nearest = distance.argmin(axis=1)
        if known is not None:
            nearest = np.where(known >= 0, known, nearest)
        if (nearest == z).all():
            break
        z = nearest
        inside = (z[:, np.newaxis] == np.arange(k)).astype(np.float64)
        held = (weight @ inside)[:, np.newaxis]
        centers = np.where(held > 0, inside.T @ weighted / np.maximum(held, 1e-300), centers)
    return z


def _far_rows(
    y: FloatArray, k: int, weight: FloatArray, labels: IntArray | None, rng: np.random.Generator
) -> FloatArray:
    """Centres by D^2 sampling, beside the means of components of which rows are known."""
    centers = np.empty((k, y.shape[1]))
    nearest = np.full(len(y), np.inf)
    known = [] if labels is None else np.unique(labels[labels >= 0]).tolist()
    for j in known:
        own = labels == j
        centers[j] = np.average(y[own], axis=0, weights=weight[own])
        np.minimum(nearest, ((y - centers[j]) ** 2).sum(axis=1), out=nearest)
    for j in sorted(set(range(k)).difference(known)):
        cumulative = np.cumsum(weight if np.isinf(nearest[0]) else nearest * weight)
        target = rng.random() * cumulative[-1]
        centers[j] = y[min(int(np.searchsorted(cumulative, target, "right")), len(y) - 1)]
        np.minimum(nearest, ((y - centers[j]) ** 2).sum(axis=1), out=nearest)
    return centers


def far_balls(
    y: FloatArray, k: int, weight: FloatArray, least: float, rng: np.random.Generator
) -> IntArray:
    """Small balls around rows that are far apart, and one component for all the rest.

    A narrow component grows into what surrounds it; a wide one seldom shrinks onto what it holds.

    Parameters
    ----------
    least : float
        Rows that a component needs.
    """
    y, n = rounded(y), len(y)
    if k == 1:
        return np.zeros(n, dtype=np.int64)
    centers = _far_rows(y, k, weight, None, rng)
    size = ball_size(least, 0.4 * n / k, rng)
    distance = (centers**2).sum(axis=1) - 2.0 * (y @ centers.T) + (y**2).sum(axis=1)[:, np.newaxis]
    nearest = distance[:, :-1].argmin(axis=1)
    z = np.full(n, k - 1)
    for j in range(k - 1):
        own = np.flatnonzero(nearest == j)
        z[own[np.argsort(distance[own, j], kind="stable")[:size]]] = j
    return z


def invariant_axes(y: FloatArray, weight: FloatArray) -> FloatArray:
    """Directions of whitened rows, as columns, from the least to the largest kurtosis.

    Clusters of like size show in the first, small ones and narrow ones in the last (Tyler et al.
    2009, doi:10.1111/j.1467-9868.2009.00706.x).
    """
    fourth = (weight * (y**2).sum(axis=1))[:, np.newaxis] * y
    return np.asarray(np.linalg.eigh(fourth.T @ y)[1])


def denser_than_normal(y: FloatArray, least: float) -> list[BoolArray]:
    """Balls that hold more rows than a normal component would have there, a few of each size.

    More by the scan statistic, the log likelihood ratio of the ball's count (Kulldorff 1997,
    doi:10.1080/03610929708831995). None with many features, where balls are empty.

    Parameters
    ----------
    y : ndarray, shape (N, D)
        Rows in coordinates in which the component is standard normal.
    """
    n, d = y.shape
    low = max(int(1.5 * least), 2)
    sizes = np.unique((low * _TIMES ** np.arange(_SIZES)).astype(int))
    sizes = sizes[sizes <= n // 4].tolist()
    if d > _FEW_FEATURES or not sizes:
        return []
    tree = KDTree(y)
    radius = np.maximum(tree.query(y, k=sizes)[0], _SMALLEST)
    log_volume = d * np.log(radius) + 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1.0)
    log_density = -0.5 * (y**2).sum(axis=1) - 0.5 * d * np.log(2.0 * np.pi)
    log_expected = np.log(n) + log_density[:, np.newaxis] + log_volume
    more = np.log(sizes) - log_expected
    gain = np.where(more > 0, sizes * (more - 1.0) + np.exp(np.minimum(log_expected, 50.0)), 0.0)
    balls = []
    for size, of_rows in zip(sizes, gain.T.round(6), strict=True):
        for _ in range(_BEST):
            center = int(of_rows.argmax())
            if not of_rows[center] > _WORTH:
                break
            ball = np.zeros(n, dtype=bool)
            ball[tree.query(y[center], k=size)[1]] = True
            balls.append(ball)
            of_rows[ball] = 0.0
    return balls


def in_one_feature(x: FloatArray, least: float, n_best: int) -> list[BoolArray]:
    """Rows with values in an interval of one feature, which are another component than the rest.

    For each feature the best of the intervals from its smallest value on, and the best of those of
    some sizes anywhere; of these the best few. What tells is the log likelihood of the two parts,
    each normal in this feature (the classification likelihood, Celeux & Govaert 1992,
    doi:10.1016/0167-9473(92)90042-E).
    Equal values stay together.

    Parameters
    ----------
    x : ndarray, shape (N, D)
    least : float
        Rows that a component needs.
    n_best : int
    """
    n, d = x.shape
    low = max(int(least) + 1, 2)
    if n < 2 * low:
        return []
    y = rounded((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9))
    order = np.argsort(y, axis=0, kind="stable")
    y = np.take_along_axis(y, order, axis=0)
    first, last = _runs_of_equal(y)
    sums, squares = (np.concatenate([np.zeros((1, d)), np.cumsum(a, axis=0)]) for a in (y, y**2))
    sizes = low * 2 ** np.arange(int(np.log2(0.5 * n / low)) + 1)
    sizes = np.append(sizes, 1)  # that of one row, and of all that are equal to it
    begin = np.concatenate([np.arange(n - size + 1) for size in sizes])
    end = np.concatenate([np.arange(size - 1, n) for size in sizes])
    column = np.arange(d)

    def gains(begin: IntArray, end: IntArray) -> FloatArray:
        """Of rows in the intervals (..., D) over the likelihood of all, in nats."""
        held = end - begin
        share = np.clip(held, 1, n - 1) / n
        total = (sums[end, column] - sums[begin, column]) / n
        square = (squares[end, column] - squares[begin, column]) / n
        inside = square / share - (total / share) ** 2
        mean = (sums[-1] / n - total) / (1.0 - share)
        outside = (squares[-1] / n - square) / (1.0 - share) - mean**2
        each = [
            weight * (np.log(weight) - 0.5 * np.log(np.maximum(variance, 0.0) + _NARROW**2))
            for weight, variance in ((share, inside), (1.0 - share, outside))
        ]
        gain = n * (each[0] + each[1])
        return np.where((held < low) | (n - held < low), -np.inf, gain).round(6)

    found: list[tuple[float, BoolArray]] = []
    for b, e in ((np.zeros_like(last), last), (first[begin], last[end])):
        gain = gains(b, e)
        for j, best in enumerate(gain.argmax(axis=0).tolist()):
            if gain[best, j] > _WORTH:
                rows = np.zeros(n, dtype=bool)
                rows[order[b[best, j] : e[best, j], j]] = True
                found.append((float(gain[best, j]), rows))
    found.sort(key=lambda one: -one[0])
    return [rows for _, rows in found[:n_best]]


def _runs_of_equal(y: FloatArray) -> tuple[IntArray, IntArray]:
    """Where the run of equal values begins and ends that each row is in; columns are sorted."""
    n, d = y.shape
    edge = np.ones((1, d), dtype=bool)
    new = np.concatenate([edge, y[1:] != y[:-1], edge])
    at = np.arange(n + 1)[:, np.newaxis]
    first = np.maximum.accumulate(np.where(new, at, 0), axis=0)[:-1]
    last = np.minimum.accumulate(np.where(new, at, n)[::-1], axis=0)[::-1][1:]
    return first, last


def ball_size(least: float, most: float, rng: np.random.Generator) -> int:
    """Rows in a ball, of any order of magnitude: small components are the hardest to see."""
    low = max(2.0 * least, 2.0)
    return int(low * (max(most, low) / low) ** rng.random())


def dense_balls(
    y: FloatArray,
    k: int,
    least: float,
    volume: Callable[[IntArray], float],
    rng: np.random.Generator,
) -> IntArray:
    """As `far_balls`, each ball the one of smallest ``volume`` around a few random rows."""
    y, n = rounded(y), len(y)
    z = np.full(n, -1)
    for j in range(k - 1):
        free = np.flatnonzero(z < 0)
        size = ball_size(least, 0.5 * n / k, rng)
        if len(free) < size:
            break
        balls = []
        for center in rng.choice(free, min(_CANDIDATES, len(free)), replace=False):
            far = ((y[free] - y[center]) ** 2).sum(axis=1)
            balls.append(free[np.argsort(far, kind="stable")[:size]])
        z[min(balls, key=lambda ball: round(volume(ball), 6))] = j
    return np.where(z >= 0, z, k - 1)
