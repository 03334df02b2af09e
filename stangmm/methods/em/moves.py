"""Split-and-merge moves: from a good optimum to a better one (Ueda et al. 2000).

A local optimum of a mixture often has two components where one is enough and one where two are
needed. A move merges the one pair and splits the other component (doi:10.1162/089976600300015088).
What a split gains is seen after a few steps of EM with one component more; what a merger loses,
from the likelihood with one component less.
"""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, IntArray
from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.climb import climb
from stangmm.methods.em.partitions import k_means, rounded
from stangmm.methods.em.starts import Starter, leaning

_STEPS = 5  # of EM with one component more
_CORES = (0.05, 0.1, 0.2)  # share of a component's rows that a narrow one may take


def moved(starter: Starter, best: EMParameters, n_moves: int) -> EMParameters:
    """Up to ``n_moves`` mixtures near the best one (leading axis 1), most promising first."""
    space = starter.subset
    now, _ = space.expectation(best)
    parts, component = _splits(starter, best)
    if not len(component):
        return best[np.arange(0)]
    reached = climb(space, parts, tolerance=1e-3, max_iterations=_STEPS)
    gain = np.where(reached.collapsed, -np.inf, reached.log_likelihood - now)
    i, j = np.triu_indices(best.weights.shape[1], 1)
    one_scale = space.structure.one_scale
    loss = now - space.expectation(_merged(best, i, j, one_scale))[0]
    total = gain[:, np.newaxis] - loss
    total[(component[:, np.newaxis] == i) | (component[:, np.newaxis] == j)] = -np.inf
    order = np.argsort(-total.round(6), axis=None, kind="stable")[:n_moves]
    order = order[np.isfinite(total.ravel()[order])]
    if not len(order):
        return best[np.arange(0)]
    which, pair = np.unravel_index(order, total.shape)
    return _merged(reached.parameters[which], i[pair], j[pair], one_scale)


def _splits(starter: Starter, best: EMParameters) -> tuple[EMParameters, IntArray]:
    """Mixtures with one component in two, the second half last, and which one that is."""
    z = starter.classified(best)
    least = starter.space.structure.min_rows(starter.space.n_features)
    found: list[tuple[int, EMParameters]] = []
    for k in range(best.weights.shape[1]):
        rows = np.flatnonzero(z == k)
        if k in starter.known or len(rows) < 2 * least + 2:
            continue
        for half in _halves(starter, best, k, rows):
            if min(half.sum(), len(half) - half.sum()) > least:
                found.append((k, _split(starter, best, k, rows, half)))
    if not found:
        return best, np.empty(0, dtype=np.int64)
    every = [p for _, p in found]
    stacked = EMParameters(
        np.concatenate([p.weights for p in every]),
        np.concatenate([p.means for p in every]),
        np.concatenate([p.covariances for p in every]),
    )
    return stacked, np.array([k for k, _ in found])


def _halves(starter: Starter, best: EMParameters, k: int, rows: IntArray) -> list[BoolArray]:
    """By 2-means where the component is round, and where the data are; its core; its middle."""
    x, rng = starter.x[rows], starter.rng
    y = x - best.means[0, k]
    covariance = best.covariances[0, k % best.covariances.shape[1]]
    if covariance.ndim == 1:
        y = y / np.sqrt(covariance)
    else:
        y = y @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    y = rounded(y)
    distance = (y**2).sum(axis=1)
    center = y[rng.integers(len(y))]
    size = max(int(rng.choice(_CORES) * len(y)), 1)
    near = np.zeros(len(y), dtype=bool)
    near[np.argsort(((y - center) ** 2).sum(axis=1), kind="stable")[:size]] = True
    weight = starter.weight[rows]
    return [
        k_means(y, 2, weight, rng) == 0,
        k_means(x, 2, weight, rng) == 0,
        near,
        distance < np.median(distance),
    ]


def _split(
    starter: Starter, best: EMParameters, k: int, rows: IntArray, half: BoolArray
) -> EMParameters:
    structure = starter.space.structure
    weights, means, covariances = best.weights[0], best.means[0], best.covariances[0]
    own = covariances[k % len(covariances)]
    sides = (rows[half], rows[~half])
    counts = np.array([starter.weight[side].sum() for side in sides])
    centers, second = np.empty((2, means.shape[1])), np.empty((2, *own.shape))
    for i, side in enumerate(sides):
        x, w = starter.x[side], starter.weight[side]
        centers[i] = w @ x / counts[i]
        y = x - centers[i]
        second[i] = (w[:, np.newaxis] * y).T @ y if structure.correlated else w @ y**2
    share = counts / counts.sum() * weights[k]
    weights = np.append(weights, share[1])
    weights[k] = share[0]
    means = np.vstack([means, centers[1]])
    means[k] = centers[0]
    if not structure.pooled:
        two = leaning(structure, counts, second, own)
        covariances = np.concatenate([covariances, two[1:]])
        covariances[k] = two[0]
    return EMParameters(weights[np.newaxis], means[np.newaxis], covariances[np.newaxis])


def _merged(mixtures: EMParameters, i: IntArray, j: IntArray, one_scale: bool) -> EMParameters:
    """Mixture r with components i[r] < j[r] as one that has their moments."""
    n, k = len(i), mixtures.weights.shape[1]
    weights, means, covariances = (
        np.broadcast_to(a, (n, *a.shape[1:])).copy()
        for a in (mixtures.weights, mixtures.means, mixtures.covariances)
    )
    r = np.arange(n)
    both = weights[r, i] + weights[r, j]
    share = weights[r, i] / both
    gap = means[r, i] - means[r, j]
    if covariances.ndim == 4:
        across = gap[:, :, np.newaxis] * gap[:, np.newaxis, :]
    else:
        across = gap**2
        if one_scale:
            across = np.broadcast_to(across.mean(axis=-1, keepdims=True), gap.shape)
    column = (n, *(1,) * (covariances.ndim - 2))
    between = (share * (1 - share)).reshape(column) * across
    means[r, i] = share[:, np.newaxis] * means[r, i] + (1 - share)[:, np.newaxis] * means[r, j]
    weights[r, i] = both
    keep = np.ones((n, k), dtype=bool)
    keep[r, j] = False
    if covariances.shape[1] == 1:
        covariances[:, 0] += both.reshape(column) * between
    else:
        own = share.reshape(column) * covariances[r, i]
        covariances[r, i] = own + (1 - share).reshape(column) * covariances[r, j] + between
        covariances = covariances[keep].reshape(n, k - 1, *covariances.shape[2:])
    return EMParameters(
        weights[keep].reshape(n, k - 1), means[keep].reshape(n, k - 1, -1), covariances
    )
