"""Partitions of rows by clustering that is quick: k-means, and balls around rows.

Coordinates are rounded first, and a row whose component is known (labels, -1 where it is not) stays
with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray

_LLOYD_STEPS = 20
_CANDIDATES = 8  # rows of which the one in the densest place is taken
_BALL_SHARES = (0.1, 0.2, 0.4)  # of the rows that each component had if all had as many
_DECIMALS = 9


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
    known = np.full(len(y), -1) if labels is None else labels
    centers = _far_rows(y, k, weight, known, rng)
    weighted = weight[:, np.newaxis] * y
    z = np.full(len(y), -1)
    for _ in range(1 if (known >= 0).any() else _LLOYD_STEPS):
        distance = (centers**2).sum(axis=1) - 2.0 * (y @ centers.T)
        nearest = np.where(known >= 0, known, distance.argmin(axis=1))
        if (nearest == z).all():
            break
        z = nearest
        inside = (z[:, np.newaxis] == np.arange(k)).astype(np.float64)
        held = (weight @ inside)[:, np.newaxis]
        centers = np.where(held > 0, inside.T @ weighted / np.maximum(held, 1e-300), centers)
    return z


def _far_rows(
    y: FloatArray, k: int, weight: FloatArray, labels: IntArray, rng: np.random.Generator
) -> FloatArray:
    """Centres by D^2 sampling, beside the means of components of which rows are known."""
    centers = np.empty((k, y.shape[1]))
    nearest = np.full(len(y), np.inf)
    known = np.unique(labels[labels >= 0])
    for j in known:
        own = labels == j
        centers[j] = np.average(y[own], axis=0, weights=weight[own])
        np.minimum(nearest, ((y - centers[j]) ** 2).sum(axis=1), out=nearest)
    for j in np.setdiff1d(np.arange(k), known):
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
    centers = _far_rows(y, k, weight, np.full(n, -1), rng)
    size = int(min(max(2.0 * least, rng.choice(_BALL_SHARES) * n / k), n / k))
    distance = (centers**2).sum(axis=1) - 2.0 * (y @ centers.T) + (y**2).sum(axis=1)[:, np.newaxis]
    nearest = distance[:, :-1].argmin(axis=1)
    z = np.full(n, k - 1)
    for j in range(k - 1):
        own = np.flatnonzero(nearest == j)
        z[own[np.argsort(distance[own, j], kind="stable")[:size]]] = j
    return z


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
        size = int(max(2.0 * least, 2.0, rng.uniform(0.1, 0.5) * n / k))
        if len(free) < size:
            break
        balls = []
        for center in rng.choice(free, min(_CANDIDATES, len(free)), replace=False):
            far = ((y[free] - y[center]) ** 2).sum(axis=1)
            balls.append(free[np.argsort(far, kind="stable")[:size]])
        z[min(balls, key=lambda ball: round(volume(ball), 6))] = j
    return np.where(z >= 0, z, k - 1)
