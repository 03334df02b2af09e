"""The partition that is nearest to draws of allocations, on average: candidates, then single moves.

Nearest in variation of information (Wade & Ghahramani 2018, doi:10.1214/17-BA1073). From a table of
clusters by components for each draw follows what a move of a row changes (as in Dahl, Johnson &
Müller 2022, doi:10.1080/10618600.2022.2069779).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.judge.allocations import Allocations, growth, sums

_REFINED = 3  # the best candidates that are improved row by row
_SWEEPS = 50
_ROWS = 256  # looked at together
# A loss is lower if it is lower by this, so that the last bits decide nothing.
_LESS = 1e-10
_DIGITS = 9  # of distances that are compared in hierarchical clustering


def nearest_partition(draws: Allocations, similarity: FloatArray) -> IntArray:
    """The partition of least expected variation of information that is found."""
    scored: list[tuple[float, IntArray]] = []
    for labels in _candidates(draws, similarity):
        if not any(np.array_equal(labels, other) for _, other in scored):
            scored.append((draws.expected(labels), labels))
    scored.sort(key=lambda pair: round(pair[0], _DIGITS))
    best, least = scored[0][1], np.inf
    for _, labels in scored[:_REFINED]:
        improved = _improved(draws, labels)
        loss = draws.expected(improved)
        if loss < least - _LESS:
            best, least = improved, loss
    return best


def _candidates(draws: Allocations, similarity: FloatArray) -> Iterator[IntArray]:
    """Partitions to begin from, numbered as clusters come."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    n, k = draws.responsibilities.shape[1:]
    yield np.zeros(n, dtype=np.intp)
    if k == 1 or n == 1:
        return
    for each in draws.responsibilities[:: max(1, len(draws.share) // 10)]:
        yield _numbered(each.argmax(axis=1))
    apart = squareform(np.round(1.0 - similarity, _DIGITS), checks=False)
    for how in ("average", "complete"):
        tree = linkage(apart, how)
        for c in range(2, min(2 * k, n) + 1):
            yield _numbered(fcluster(tree, c, "maxclust").astype(np.intp))


def _numbered(labels: IntArray) -> IntArray:
    """Labels (n,) numbered from 0 in the order in which they come."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse])


def _improved(draws: Allocations, labels: IntArray) -> IntArray:
    """Move single rows, to new clusters too, until no move makes the expected loss less."""
    labels = _numbered(labels)
    every = np.arange(len(draws.share))
    for _ in range(_SWEEPS):
        joint = draws.joint(labels)
        joint = np.concatenate([joint, np.zeros_like(joint[:, :1])], axis=1)  # one is empty
        size = sums(labels, draws.weight, joint.shape[1])
        moved = False
        for i in np.flatnonzero(_gains(draws, labels, joint, size) > _LESS).tolist():
            own, weight = int(labels[i]), float(draws.weight[i])
            cell = every, slice(None), draws.components[:, i]
            shared = joint[cell]  # (S, C): with the rows of each cluster in its component
            shared[:, own] = np.maximum(shared[:, own] - weight, 0.0)
            size[own] = max(size[own] - weight, 0.0)
            loss = growth(size, weight) - 2.0 * (draws.share @ growth(shared, weight))
            to = int(loss.argmin())
            if loss[to] >= loss[own] - _LESS:
                to = own
            shared[:, to] += weight
            size[to] += weight
            joint[cell] = shared
            labels[i] = to
            moved |= to != own
        labels = _numbered(labels)
        if not moved:
            break
    return labels


def _gains(draws: Allocations, labels: IntArray, joint: FloatArray, size: FloatArray) -> FloatArray:
    """How much the best move of each row, with the others where they are, makes it less (n,)."""
    out = np.empty(len(labels))
    every = np.arange(len(draws.share))[:, np.newaxis]
    for weight in np.unique(draws.weight):
        grown = growth(joint, weight)
        smaller = np.maximum(joint - weight, 0.0)
        shrunk = growth(smaller, weight)
        grown_size, shrunk_size = growth(size, weight), growth(np.maximum(size - weight, 0), weight)
        same = np.flatnonzero(draws.weight == weight)
        for rows in np.array_split(same, -(-len(same) // _ROWS)):
            own, components = labels[rows], draws.components[:, rows]
            added = np.tensordot(draws.share, grown[every, :, components], axes=1)  # (m, C)
            taken = draws.share @ shrunk[every, own, components]
            change = grown_size - 2.0 * added
            change[np.arange(len(rows)), own] = np.inf
            out[rows] = shrunk_size[own] - 2.0 * taken - change.min(axis=1)
    return out
