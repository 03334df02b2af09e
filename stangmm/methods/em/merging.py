"""Small clusters merged into K by the likelihood of what they make (Fraley 1998).

Model-based agglomeration (doi:10.1137/S1064827596311451) merges, step by step, the two clusters
whose union costs least classification likelihood. It starts here from a few dozen clusters instead
of single rows, which takes milliseconds for any number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.model.covariance import CovarianceStructure

_CLUSTERS_PER_COMPONENT, _FEWEST, _MOST = 5, 15, 60


def n_small_clusters(n_components: int, n_rows: int) -> int:
    """How many clusters to merge: several for each component, and of two rows at least."""
    wanted = min(max(_CLUSTERS_PER_COMPONENT * n_components, _FEWEST), _MOST)
    return max(n_components, min(max(wanted, 2 * n_components), n_rows // 2))


def merged(
    x: FloatArray,
    z: IntArray,
    weight: FloatArray,
    n_components: int,
    structure: CovarianceStructure,
) -> IntArray:
    """Partition into ``n_components`` parts from a finer one.

    Parameters
    ----------
    x : ndarray, shape (N, D)
    z : ndarray of int, shape (N,)
        Small clusters, any labels.
    weight : ndarray, shape (N,)
    structure : CovarianceStructure
        Of the components, which says what a merger costs.
    """
    _, z = np.unique(z, return_inverse=True)
    parts = _Parts.of(x, z, weight)
    cost = _Cost(parts, structure, x.shape[1])
    own = cost(parts)
    m = len(own)
    loss = np.full((m, m), np.inf)
    i, j = np.triu_indices(m, 1)
    loss[i, j] = loss[j, i] = cost(parts.joined(i, j)) - own[i] - own[j]
    group = np.arange(m)
    left = np.ones(m, dtype=bool)
    for _ in range(m - n_components):
        a, b = divmod(int(np.argmin(loss.round(6))), m)
        both = parts.joined(np.array([a]), np.array([b]))
        parts.counts[a], parts.means[a], parts.scatter[a] = (
            both.counts[0],
            both.means[0],
            both.scatter[0],
        )
        own[a] = cost(both)[0]
        left[b] = False
        group[group == b] = a
        loss[b] = loss[:, b] = np.inf
        others = np.flatnonzero(left)
        others = others[others != a]
        if len(others):
            each = cost(parts.joined(np.full(len(others), a), others))
            loss[a, others] = loss[others, a] = each - own[a] - own[others]
    return np.asarray(np.unique(group, return_inverse=True)[1][z])


@dataclass(eq=False)
class _Parts:
    counts: FloatArray  # (M,)
    means: FloatArray  # (M, D)
    scatter: FloatArray  # (M, D, D): sums of products of deviations from the mean

    @classmethod
    def of(cls, x: FloatArray, z: IntArray, weight: FloatArray) -> _Parts:
        counts = np.asarray(np.bincount(z, weight), dtype=np.float64)
        inside = (z == np.arange(len(counts))[:, np.newaxis]) * weight
        means = inside @ x / counts[:, np.newaxis]
        y = x - means[z]
        scatter = np.stack([(w[:, np.newaxis] * y).T @ y for w in inside])
        return cls(counts, means, scatter)

    def joined(self, i: IntArray, j: IntArray) -> _Parts:
        """Unions of parts i[m] and j[m]."""
        n_i, n_j = self.counts[i], self.counts[j]
        n = n_i + n_j
        gap = self.means[i] - self.means[j]
        between = (n_i * n_j / n)[:, np.newaxis, np.newaxis]
        between = between * gap[:, :, np.newaxis] * gap[:, np.newaxis, :]
        share = (n_i / n)[:, np.newaxis]
        means = share * self.means[i] + (1 - share) * self.means[j]
        return _Parts(n, means, self.scatter[i] + self.scatter[j] + between)


class _Cost:
    """Twice the negative log likelihood of parts, up to a constant, shape (M,).

    Each part leans on a few rows of the average covariance within the first clusters.
    """

    def __init__(self, parts: _Parts, structure: CovarianceStructure, d: int) -> None:
        self._structure = structure
        within = parts.scatter.sum(axis=0) / parts.counts.sum()
        self._prior = within + 1e-6 * np.diag(parts.means.var(axis=0) + within.diagonal())
        self._held = d + 2.0 if structure.correlated else 2.0

    def __call__(self, parts: _Parts) -> FloatArray:
        if self._structure.pooled:  # Ward's criterion, in units of the first clusters
            prior = self._prior
            if not self._structure.correlated:
                prior = np.diag(prior.diagonal())
            if self._structure.one_scale:
                prior = np.eye(len(prior)) * np.trace(prior) / len(prior)
            inverse = np.linalg.inv(prior)
            return np.asarray(np.einsum("mij,ji->m", parts.scatter, inverse))
        n = parts.counts[:, np.newaxis, np.newaxis]
        covariances = (parts.scatter + self._held * self._prior) / (n + self._held)
        if self._structure.correlated:
            return np.asarray(parts.counts * np.linalg.slogdet(covariances)[1])
        variances = np.diagonal(covariances, axis1=-2, axis2=-1)
        if self._structure.one_scale:
            variances = np.broadcast_to(variances.mean(axis=-1, keepdims=True), variances.shape)
        return np.asarray(parts.counts * np.log(variances).sum(axis=-1))
