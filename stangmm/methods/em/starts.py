"""Where EM starts: partitions of the rows, in several views of the data.

No one coordinate system shows all clusters. With many features, the covariance of all data is that
of the clusters' means, and whitening by it hides them; where features are correlated within
clusters, they hide unless it is divided out. So the rows are looked at in units of each feature,
whitened by all data, whitened by what varies within small clusters (Art, Gnanadesikan & Kettenring
1982), in a few directions, and as ranks, in which values far out do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import cycle

import numpy as np
from scipy.special import ndtri

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.ranks import mean_ranks
from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.merging import merged, n_small_clusters
from stangmm.methods.em.partitions import dense_balls, far_balls, k_means, rounded
from stangmm.methods.em.steps import EMSpace
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.noise import START_WEIGHT

# Partitions are made of so many random rows at least, and so many for each component.
_ROWS, _ROWS_PER_COMPONENT = 2000, 100


class Starter:
    """Makes starting points for one data set, kind after kind.

    Attributes
    ----------
    space : EMSpace
        All rows.
    subset : EMSpace
        The rows that are partitioned.
    x : ndarray, shape (N, D)
        Those rows in EM's coordinates, with guesses where values are missing.
    weight : ndarray, shape (N,)
    labels : ndarray of int, shape (N,)
        Known components, else -1.
    """

    def __init__(self, space: EMSpace, rng: np.random.Generator) -> None:
        self.space, self.rng = space, rng
        n, k = space.n_rows, space.n_components
        wanted = max(_ROWS, _ROWS_PER_COMPONENT * k)
        self.subset = space if n <= wanted else space.subset(space.random_rows(wanted, rng))
        self.x = self.subset.x
        weight = self.subset.sample_weight
        self.weight = np.ones(len(self.x)) if weight is None else weight
        self.known = self.subset.known_rows()
        self.labels = np.full(len(self.x), -1)
        for component, rows in self.known.items():
            self.labels[rows] = component
        self._made = 0

    def next(self, n_starts: int) -> tuple[EMParameters, list[str]]:
        """The next starting points, and the kind of each."""
        kinds = list(self.makers)
        names = [kinds[(self._made + i) % len(kinds)] for i in range(n_starts)]
        self._made += n_starts
        return self.moments([self.makers[name]() for name in names]), names

    @cached_property
    def makers(self) -> dict[str, Callable[[], IntArray]]:
        """What makes a partition, of each kind."""
        k, w, rng = self.space.n_components, self.weight, self.rng
        least = self.space.structure.min_rows(self.space.n_features)

        def clustered(view: Callable[[], FloatArray]) -> Callable[[], IntArray]:
            return lambda: k_means(view(), k, w, rng, self.labels)

        if self.known:
            return {
                "k-means++": clustered(lambda: self.features),
                "k-means++, EM's coordinates": clustered(lambda: self.x),
                "random rows": self._random_rows,
            }
        makers: dict[str, Callable[[], IntArray]] = {"k-means": clustered(lambda: self.features)}
        if self.space.problem.space.n_weights == 1:  # one component, and one optimum
            return makers
        makers |= {
            "merged": lambda: self._merged(self.features),
            "dense balls": lambda: dense_balls(self._ranks, k, least, self._volume, rng),
            "k-means, ranks": clustered(lambda: self._ranks),
        }
        if self.space.n_features > 1:
            makers["k-means, projected"] = clustered(self._projected)
            makers["k-means, one feature"] = clustered(self._one_feature)
        if self.space.n_features > 1 and self.space.structure.correlated:
            makers["k-means, locally whitened"] = clustered(self._locally_whitened)
            makers["k-means, whitened"] = clustered(lambda: self._white)
            makers["merged, whitened"] = lambda: self._merged(self._white)
        makers["far balls"] = lambda: far_balls(self._ranks, k, w, least, rng)
        makers["random rows"] = self._random_rows
        return makers

    # ---- views -------------------------------------------------------------------------------

    @cached_property
    def features(self) -> FloatArray:
        """The rows in the problem's units, in which features have variance 1, shape (N, D)."""
        return self.x if self.space.frame is None else self.x @ self.space.frame.T

    @cached_property
    def _white(self) -> FloatArray:
        """Whitened by the covariance of all data."""
        if self.space.structure.affine:
            return self.x
        every = np.zeros(len(self.x), dtype=np.int64)
        total = _covariance_within(self.x, every, self.weight) + 1e-6 * np.eye(self.x.shape[1])
        return self.x @ np.linalg.inv(np.linalg.cholesky(total)).T

    @cached_property
    def _ranks(self) -> FloatArray:
        """Normal scores of each feature's ranks."""
        ranks = mean_ranks(rounded(self.features).T).T
        return np.asarray(ndtri((ranks - 0.5) / len(ranks)), dtype=np.float64)

    def _projected(self) -> FloatArray:
        """Some leading principal components, or random directions of whitened rows."""
        d, k = self.space.n_features, self.space.n_components
        n_axes = int(self.rng.integers(1, max(2, min(d, k))))
        if self.rng.random() < 0.5:
            return self.features @ self._principal_axes[:, :n_axes]
        axes = self.rng.standard_normal((d, n_axes))
        return np.asarray(self.x @ axes)

    def _one_feature(self) -> FloatArray:
        """One after the other: values in heaps say much, and are lost among many features."""
        feature = next(self._features_in_turn)
        return self.features[:, feature : feature + 1]

    @cached_property
    def _features_in_turn(self) -> Iterator[int]:
        return cycle(self.rng.permutation(self.space.n_features).tolist())

    @cached_property
    def _principal_axes(self) -> FloatArray:
        centred = self.features - self.features.mean(axis=0)
        return np.asarray(np.linalg.eigh(centred.T @ centred)[1][:, ::-1])

    def _locally_whitened(self) -> FloatArray:
        """By the covariance within small clusters, which are found anew in these units."""
        (n, d), k = self.x.shape, self.space.n_components
        n_small = min(max(4 * k, 12), max(k, n // (d + 2)))
        y = self.x
        for _ in range(3):
            z = k_means(y, n_small, self.weight, self.rng)
            within = _covariance_within(self.x, z, self.weight)
            within += 1e-6 * np.eye(d)
            y = self.x @ np.linalg.inv(np.linalg.cholesky(within)).T
        return y

    # ---- partitions --------------------------------------------------------------------------

    def _merged(self, y: FloatArray) -> IntArray:
        k = self.space.n_components
        z = k_means(y, n_small_clusters(k, len(y)), self.weight, self.rng)
        if len(np.unique(z)) <= k:
            return k_means(y, k, self.weight, self.rng)
        return merged(self.x, z, self.weight, k, self.space.structure)

    def _volume(self, rows: IntArray) -> float:
        return float(np.log(self.x[rows].std(axis=0) + 1e-12).sum())

    def _random_rows(self) -> IntArray:
        """K rows; the others belong to nobody, see `moments`."""
        k, n = self.space.n_components, len(self.x)
        rows = self.rng.choice(n, k, replace=False, p=self.weight / self.weight.sum())
        for component, known in self.known.items():
            rows[component] = self.rng.choice(known)
        z = np.full(n, -1)
        z[rows] = np.arange(k)
        return z

    def classified(self, mixture: EMParameters) -> IntArray:
        """The most probable component of each row under one mixture (leading axis 1); -1: noise."""
        likely = without_noise(self.responsibilities(mixture).argmax(axis=0), self.space)
        return np.where(self.labels >= 0, self.labels, likely)

    def responsibilities(self, mixture: EMParameters) -> FloatArray:
        """Of the rows, shape (K or K + 1, N), under one mixture (leading axis 1)."""
        x = self.space.problem.x
        x = x if self.subset.rows is None else x[self.subset.rows]
        return self.space.mixture_of(mixture)[0].responsibilities(x)

    # ---- parameters --------------------------------------------------------------------------

    def single(self) -> EMParameters:
        """All rows as one component, with a leading axis of 1."""
        structure, total = self.space.structure, self.weight.sum()
        mean = self.weight @ self.x / total
        y = self.x - mean
        second = (
            (self.weight[:, np.newaxis] * y).T @ y if structure.correlated else self.weight @ y**2
        )
        counts = np.array([total])
        covariance = leaning(structure, counts, second[np.newaxis], self.space.typical)
        weight = np.full((1, 1), 1.0 - START_WEIGHT * self.space.noise)
        return self.space.bounded(
            EMParameters(weight, mean[np.newaxis, np.newaxis], covariance[np.newaxis])
        )

    def moments(self, partitions: list[IntArray]) -> EMParameters:
        """Mixtures with the moments of the parts of each partition.

        Rows that belong to nobody (-1) are noise. Where the parts are single rows, each covariance
        is that of all data.
        """
        each = [self._moments(z) for z in partitions]
        stacked = (np.stack(arrays) for arrays in zip(*each, strict=True))
        return self.space.bounded(EMParameters(*stacked))

    def _moments(self, z: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        x, w, structure = self.x, self.weight, self.space.structure
        k = self.space.n_components
        typical = self.space.typical
        c = self.space.problem.space.scale_shape[0]
        part = z[:, np.newaxis] == np.arange(k)
        counts = w @ part
        means = (part.T * w) @ x / np.maximum(counts, 1e-300)[:, np.newaxis]
        for j in np.flatnonzero(counts == 0):
            means[j] = x[self.rng.integers(len(x))]
        nobody, noise = z < 0, self.space.noise
        left = 1.0 - START_WEIGHT * noise  # by the noise
        if nobody.any() and (not noise or (part.sum(axis=0) <= 1).all()):
            covariances = np.broadcast_to(typical, (c, *typical.shape)).copy()
            return np.full(k, left / k), means, covariances
        if nobody.any():
            left = min(left, float(counts.sum() / w.sum()))
        y = x - means[z]
        if structure.correlated:
            second = np.stack([(w[own, np.newaxis] * y[own]).T @ y[own] for own in part.T])
        else:
            second = (part.T * w) @ y**2
        within = second.sum(axis=0) / counts.sum() + 1e-6 * typical
        weights = left * (counts + 1.0) / (counts + 1.0).sum()
        if structure.pooled:
            within = np.full_like(within, within.mean()) if structure.one_scale else within
            return weights, means, within[np.newaxis]
        return weights, means, leaning(structure, counts, second, within)


def without_noise(z: IntArray, space: EMSpace) -> IntArray:
    """Components of rows with -1 where that is the noise, which is numbered last."""
    return np.where(z == space.n_components, -1, z)


def leaning(
    structure: CovarianceStructure, counts: FloatArray, second: FloatArray, prior: FloatArray
) -> FloatArray:
    """Covariances of parts with a few rows of a prior one, so that none starts as a spike.

    Parameters
    ----------
    counts : ndarray, shape (K,)
    second : ndarray, shape (K, D) or (K, D, D)
        Sums of squares, or products, of deviations from the means.
    prior : ndarray, shape (D,) or (D, D)
    """
    held = prior.shape[-1] + 1.0 if structure.correlated else 2.0
    n = counts.reshape(-1, *(1,) * prior.ndim)
    covariances = (second + held * prior) / (n + held)
    if structure.one_scale:
        mean = covariances.mean(axis=-1, keepdims=True)
        covariances = np.broadcast_to(mean, covariances.shape).copy()
    return np.asarray(covariances)


def _covariance_within(x: FloatArray, z: IntArray, weight: FloatArray) -> FloatArray:
    """Average covariance within the parts of a partition."""
    counts = np.maximum(np.bincount(z, weight), 1e-300)
    means = np.stack([np.bincount(z, weight * column) / counts for column in x.T], axis=1)
    y = x - means[z]
    return np.asarray((weight[:, np.newaxis] * y).T @ y / weight.sum())
