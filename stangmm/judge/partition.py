"""Partition: the rows in clusters, by the posterior of which rows belong together.

No label is used. In a draw, rows i and j share a component with probability sum_k r_ik r_jk; the
mean over draws is the posterior similarity matrix. Components of every row, drawn from the
responsibilities, are draws of partitions, and the partition that is nearest to them on average, in
variation of information, stands for all (Wade & Ghahramani 2018, doi:10.1214/17-BA1073).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import xlogy

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.errors import DataError
from stangmm.base.printed import PrintedTable
from stangmm.model.mixture import Mixture
from stangmm.posterior.fitted import Fitted
from stangmm.predict import averages as predict

if TYPE_CHECKING:
    import pandas as pd

# Among so many rows the best partition is searched; of more, so many are drawn.
SEARCHED = 2000
# Draws of partitions: so many, but fewer where more numbers than these would be held (128 MB).
_DRAWS, _FEWEST_DRAWS = 500, 50
_CELLS = 2**24
_BALL = 0.95
_REFINED = 3  # the best candidates that are improved row by row
_SWEEPS = 50
_ROWS = 256  # looked at together
_TOGETHER = 64  # draws in one matrix product
_FOR_STRATA = 20  # draws by which rows are sorted before some are drawn
# A loss is lower if it is lower by this, so that the last bits decide nothing.
_LESS = 1e-10
_DIGITS = 9  # of distances that are compared in hierarchical clustering

# A term of a loss, of shares of the rows.
_Term = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """The rows in clusters; made by `Fit.partition` and `Stack.partition`.

    It is the partition of least posterior expected variation of information (Wade & Ghahramani
    2018, doi:10.1214/17-BA1073), as far as it was found. No labels of components are used, so that
    they need not be settled, and the number of clusters may differ from K: a component may hold no
    row, and components that overlap may be one cluster.

    Attributes
    ----------
    labels : ndarray of int, shape (N,)
        Cluster of each row, from 0, in the order of the clusters' means in the first feature.
    certainty : ndarray, shape (N,)
        Probability that the row shares a component with another row of its cluster, averaged over
        the cluster. For a row alone in its cluster: 1 less the largest ``affinity`` to another.
    affinity : ndarray, shape (N, C)
        Probability that the row shares a component with another row of each cluster, averaged over
        the cluster; NaN for a row and the cluster that it is alone in.
    searched : ndarray of int, shape (n,)
        The rows among which the partition was searched, and over which the figures below are: all
        of positive weight, or 2000 of more, about as many of each component, weighted accordingly.
        Every other row joined the cluster for which the expected loss is least.
    similarity : ndarray, shape (n, n)
        Probability that two of the rows ``searched`` share a component, averaged over the draws; 1
        on the diagonal.
    expected_vi : float
        Posterior mean of the variation of information between this partition and the true one, in
        nats: from 0 for equal partitions to log N.
    expected_binder : float
        Posterior mean of Binder's loss: the share of pairs of rows that are together in one of the
        two partitions and apart in the other.
    credible_radius : float
        The ball of partitions that are no further from this one, in variation of information, has
        posterior probability 0.95.
    n_draws : int
        How many draws of partitions were used, about 500 at most.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1)
    >>> found = fit.partition()
    >>> found.n_clusters
    2
    >>> print(found.table[["rows", "certainty"]].round(2).to_string())
             rows  certainty
    cluster
    0          97        1.0
    1         175        1.0
    """

    labels: IntArray
    certainty: FloatArray
    affinity: FloatArray
    searched: IntArray
    similarity: FloatArray
    expected_vi: float
    expected_binder: float
    credible_radius: float
    n_draws: int

    @property
    def n_clusters(self) -> int:
        """C, the number of clusters."""
        return int(self.affinity.shape[1])

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each cluster.

        ``rows`` is how many it has, ``certainty`` their mean certainty, ``least_certain`` the
        smallest one; ``nearest`` is the cluster to which its rows have the largest mean
        ``affinity``, after their own, and ``affinity`` is that. Missing for a single cluster.
        """
        import pandas as pd

        rows = []
        for c in range(self.n_clusters):
            own = self.labels == c
            other = self.affinity[own].mean(axis=0)
            other[c] = -1.0
            alone = self.n_clusters == 1
            rows.append(
                {
                    "rows": int(own.sum()),
                    "certainty": float(self.certainty[own].mean()),
                    "least_certain": float(self.certainty[own].min()),
                    "nearest": pd.NA if alone else int(other.argmax()),
                    "affinity": np.nan if alone else float(other.max()),
                }
            )
        index = pd.RangeIndex(self.n_clusters, name="cluster")
        return PrintedTable(pd.DataFrame(rows, index=index).astype({"nearest": "Int64"}))

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each row of the data: ``cluster``, ``certainty``, ``nearest``, ``affinity``.

        ``nearest`` is the other cluster to which the row has the largest ``affinity``; missing for
        a single cluster.
        """
        import pandas as pd

        others = np.where(np.arange(self.n_clusters) == self.labels[:, None], -1.0, self.affinity)
        alone = self.n_clusters == 1
        nearest = pd.array(others.argmax(axis=1), dtype="Int64")
        if alone:
            nearest[:] = pd.NA
        return pd.DataFrame(
            {
                "cluster": self.labels,
                "certainty": self.certainty,
                "nearest": nearest,
                "affinity": np.nan if alone else others.max(axis=1),
            },
            index=pd.RangeIndex(len(self.labels), name="row"),
        )

    def distance(self, labels: Any) -> float:
        """Variation of information between this partition of the rows and another one, in nats.

        Parameters
        ----------
        labels : array, shape (N,)
            A cluster for each row: numbers or text, which rows of a cluster share.

        Raises
        ------
        DataError
            There is not one entry for each row.
        """
        _, other = np.unique(np.asarray(labels), return_inverse=True)
        n = len(self.labels)
        if np.shape(labels) != (n,):
            raise DataError(
                f"labels must have one entry a row, shape ({n},), got shape {np.shape(labels)}."
            )
        joint = _joint(self.labels, other[np.newaxis], np.full(n, 1.0 / n), int(other.max()) + 1)
        return float(_losses(joint, _entropic)[0])

    def __str__(self) -> str:
        few = len(self.searched) < len(self.labels)
        some = f", by {len(self.searched)} of them" if few else ""
        count = "1 cluster" if self.n_clusters == 1 else f"{self.n_clusters} clusters"
        return (
            f"{len(self.labels)} rows in {count}{some}; expected variation of information "
            f"{self.expected_vi:.3g} nats (95% ball: {self.credible_radius:.3g}), expected Binder "
            f"loss {self.expected_binder:.3g}\n"
            f"{self.table.to_string(float_format='{:.3f}'.format, na_rep='-')}"
        )

    __repr__ = __str__


def partition_of(fit: Fitted, *, progress: bool = True) -> Partition:
    """Give the partition of a fit's rows, which is computed once; see `Fit.partition`."""
    if "partition" not in fit.kept:
        fit.kept["partition"] = joint_partition([(fit, 1.0)], progress=progress)
    found: Partition = fit.kept["partition"]
    return found


def joint_partition(parts: Sequence[tuple[Fitted, float]], *, progress: bool = True) -> Partition:
    """Give the partition for a posterior that is an average of several fits' to the same rows.

    Parameters
    ----------
    parts : sequence of (Fitted, float)
        The fits, each with its share; the shares sum to 1.
    progress : bool
    """
    main = max(parts, key=lambda part: part[1])[0]
    rng = np.random.default_rng(main.seed)
    searched, weight = _searched(main, rng)
    with one_blas_thread():
        draws = _Draws.of(parts, searched, weight, rng)
        similarity = draws.similarity()
        labels = _best(draws, similarity)
    joint = draws.joint(labels)
    affinity = _affinity(similarity, labels, weight)
    data = main.dataset
    if len(searched) < data.n_observations:
        rest = np.setdiff1d(np.arange(data.n_observations), searched)
        of_all = np.empty((data.n_observations, affinity.shape[1]))
        of_all[searched] = affinity
        all_labels = np.empty(data.n_observations, dtype=np.intp)
        all_labels[searched] = labels
        all_labels[rest], of_all[rest] = _joined(draws, labels, joint, rest, progress)
        labels, affinity = all_labels, of_all
    order = _by_first_feature(labels, data.x)
    labels, affinity = np.argsort(order)[labels], affinity[:, order]
    losses = _losses(joint, _entropic)
    return Partition(
        labels=labels,
        certainty=_certainty(labels, affinity),
        affinity=affinity,
        searched=searched,
        similarity=similarity,
        expected_vi=float(draws.share @ losses),
        expected_binder=float(draws.share @ _losses(joint, np.square)),
        credible_radius=_quantile(losses, draws.share, _BALL),
        n_draws=len(draws.share),
    )


class _Part(NamedTuple):
    """Which draws are a fit's, and from which of its mixtures each is."""

    fit: Fitted
    draws: slice
    mixture: Mixture
    source: IntArray


@dataclass(frozen=True, eq=False)
class _Draws:
    """Draws of the searched rows' components.

    Attributes
    ----------
    parts : list of _Part
    responsibilities : ndarray, shape (S, n, K)
        K is that of the fit with most; zero beyond a fit's own.
    components : ndarray of int, shape (S, n)
    share : ndarray, shape (S,)
        How much each draw counts; sums to 1.
    weight : ndarray, shape (n,)
        How much each row counts; sums to 1.
    """

    parts: list[_Part]
    responsibilities: FloatArray
    components: IntArray
    share: FloatArray
    weight: FloatArray

    @classmethod
    def of(
        cls,
        parts: Sequence[tuple[Fitted, float]],
        rows: IntArray,
        weight: FloatArray,
        rng: np.random.Generator,
    ) -> _Draws:
        k = max(fit.model.n_components for fit, _ in parts)
        n_draws = int(np.clip(_CELLS // (k * len(rows)), _FEWEST_DRAWS, _DRAWS))
        spaced = [
            _spaced(fit.lp.size, max(_FEWEST_DRAWS, round(n_draws * share))) for fit, share in parts
        ]
        responsibilities = np.zeros((sum(map(len, spaced)), len(rows), k))
        placed, shares, first = [], [], 0
        for (fit, share), numbers in zip(parts, spaced, strict=True):
            drawn, count = fit.drawn.reshape(-1), len(numbers)  # as drawn: any labels would do
            chosen, source = np.unique(numbers, return_inverse=True)
            where = slice(first, first + count)
            placed.append(_Part(fit, where, drawn[chosen], source))
            shares.append(np.full(count, share / count))
            for some, each in _blocks(drawn[chosen], fit, rows):
                responsibilities[where, some, : len(each)] = each.transpose(2, 1, 0)[source]
            first += count
        return cls(
            placed,
            responsibilities,
            _drawn_components(responsibilities, rng),
            np.concatenate(shares),
            weight,
        )

    def similarity(self) -> FloatArray:
        """Probability that two rows share a component, shape (n, n)."""
        n = self.responsibilities.shape[1]
        out = np.zeros((n, n))
        for first in range(0, len(self.share), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            root = np.sqrt(self.share[some, np.newaxis, np.newaxis])
            each = (root * self.responsibilities[some]).transpose(1, 0, 2).reshape(n, -1)
            out += each @ each.T
        np.fill_diagonal(out, 1.0)
        return np.minimum(out, 1.0)

    def joint(self, labels: IntArray) -> FloatArray:
        """Shares of the rows by cluster and component, shape (S, C, K)."""
        return _joint(labels, self.components, self.weight, self.responsibilities.shape[2])

    def expected(self, labels: IntArray) -> float:
        """Expected variation of information of a partition of the rows."""
        return float(self.share @ _losses(self.joint(labels), _entropic))


def _spaced(n_draws: int, wanted: int) -> IntArray:
    """About as many numbers of draws as wanted: evenly spaced, or each draw several times."""
    if n_draws > wanted:
        return np.linspace(0, n_draws - 1, wanted).round().astype(np.intp)
    return np.repeat(np.arange(n_draws), round(wanted / n_draws))


def _blocks(mixture: Mixture, fit: Fitted, rows: IntArray) -> Iterator[tuple[IntArray, FloatArray]]:
    labels = fit.dataset.labels
    known = None if labels is None else labels[rows]
    size = mixture.weights.size
    return predict.responsibility_blocks(
        mixture, fit.dataset.x[rows], known, max(1, predict.SHORT // size)
    )


def _searched(fit: Fitted, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """The rows to search among, and how much each counts; the sum is 1."""
    data = fit.dataset
    weight = np.ones(data.n_observations) if data.sample_weight is None else data.sample_weight
    rows = np.flatnonzero(weight > 0)
    counts = weight.copy()
    if len(rows) > SEARCHED:
        some = predict.thinned(fit.mixture, _FOR_STRATA)
        component = predict.responsibilities(some, data.x[rows]).argmax(axis=1)
        chosen = []
        for k in np.unique(component):
            stratum = rows[component == k]
            n = min(len(stratum), SEARCHED // fit.model.n_components)
            drawn = rng.choice(stratum, n, replace=False)
            counts[drawn] *= weight[stratum].sum() / weight[drawn].sum()
            chosen.append(drawn)
        rows = np.sort(np.concatenate(chosen))
    return rows, counts[rows] / counts[rows].sum()


def _drawn_components(responsibilities: FloatArray, rng: np.random.Generator) -> IntArray:
    """A component for each row (S, n), drawn by its responsibilities (S, n, K)."""
    cumulative = np.cumsum(responsibilities, axis=2)
    level = rng.random((*responsibilities.shape[:2], 1)) * cumulative[..., -1:]
    return np.asarray((level >= cumulative[..., :-1]).sum(axis=2))


def _joint(labels: IntArray, components: IntArray, weight: FloatArray, k: int) -> FloatArray:
    """Sums of weights by cluster of labels (n,) and component (S, n), shape (S, C, K)."""
    s, c = len(components), int(labels.max()) + 1
    cell = (np.arange(s)[:, np.newaxis] * c + labels) * k + components
    each = np.broadcast_to(weight, components.shape).ravel()
    return _sums(cell.ravel(), each, s * c * k).reshape(s, c, k)


def _sums(cell: IntArray, weight: FloatArray, n: int) -> FloatArray:
    """Sums of weights by cell, shape (n,)."""
    return np.asarray(np.bincount(cell, weight, n), dtype=np.float64)


def _entropic(share: FloatArray) -> FloatArray:
    return np.asarray(xlogy(share, share))


def _losses(joint: FloatArray, term: _Term) -> FloatArray:
    """Distances (S,) between two partitions that share rows as in tables (S, C, K).

    With x log x as the term the variation of information, H(c) + H(z) - 2 I(c, z); with the square
    Binder's loss.
    """
    own, other = term(joint.sum(axis=2)).sum(axis=1), term(joint.sum(axis=1)).sum(axis=1)
    return np.asarray(np.maximum(own + other - 2.0 * term(joint).sum(axis=(1, 2)), 0.0))


def _best(draws: _Draws, similarity: FloatArray) -> IntArray:
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


def _candidates(draws: _Draws, similarity: FloatArray) -> Iterator[IntArray]:
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


def _improved(draws: _Draws, labels: IntArray) -> IntArray:
    """Move single rows, to new clusters too, until no move makes the expected loss less."""
    labels = _numbered(labels)
    every = np.arange(len(draws.share))
    for _ in range(_SWEEPS):
        joint = draws.joint(labels)
        joint = np.concatenate([joint, np.zeros_like(joint[:, :1])], axis=1)  # one is empty
        size = _sums(labels, draws.weight, joint.shape[1])
        moved = False
        for i in np.flatnonzero(_gains(draws, labels, joint, size) > _LESS).tolist():
            own, weight = int(labels[i]), float(draws.weight[i])
            cell = every, slice(None), draws.components[:, i]
            shared = joint[cell]  # (S, C): with the rows of each cluster in its component
            shared[:, own] = np.maximum(shared[:, own] - weight, 0.0)
            size[own] = max(size[own] - weight, 0.0)
            loss = _added(size, weight) - 2.0 * (draws.share @ _added(shared, weight))
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


def _gains(draws: _Draws, labels: IntArray, joint: FloatArray, size: FloatArray) -> FloatArray:
    """How much the best move of each row, with the others where they are, makes it less (n,)."""
    out = np.empty(len(labels))
    every = np.arange(len(draws.share))[:, np.newaxis]
    for weight in np.unique(draws.weight):
        grown = _added(joint, weight)
        smaller = np.maximum(joint - weight, 0.0)
        shrunk = _added(smaller, weight)
        grown_size, shrunk_size = _added(size, weight), _added(np.maximum(size - weight, 0), weight)
        same = np.flatnonzero(draws.weight == weight)
        for rows in np.array_split(same, -(-len(same) // _ROWS)):
            own, components = labels[rows], draws.components[:, rows]
            added = np.tensordot(draws.share, grown[every, :, components], axes=1)  # (m, C)
            taken = draws.share @ shrunk[every, own, components]
            change = grown_size - 2.0 * added
            change[np.arange(len(rows)), own] = np.inf
            out[rows] = shrunk_size[own] - 2.0 * taken - change.min(axis=1)
    return out


def _added(share: FloatArray, weight: float) -> FloatArray:
    """What x log x grows by where weight is added to shares."""
    return _entropic(share + weight) - _entropic(share)


def _affinity(similarity: FloatArray, labels: IntArray, weight: FloatArray) -> FloatArray:
    """Mean similarity of each row with the other rows of each cluster, shape (n, C)."""
    member = np.eye(int(labels.max()) + 1)[labels] * weight[:, np.newaxis]
    own = np.arange(len(labels)), labels
    shared, size = similarity @ member, np.tile(member.sum(axis=0), (len(labels), 1))
    shared[own] -= weight
    size[own] -= weight
    alone = np.bincount(labels)[labels] == 1
    size[own] = np.where(alone, np.nan, size[own])
    return np.asarray(np.clip(shared / size, 0.0, 1.0))


def _certainty(labels: IntArray, affinity: FloatArray) -> FloatArray:
    own = np.arange(len(labels)), labels
    others = affinity.copy()
    others[own] = 0.0
    return np.where(np.isnan(affinity[own]), 1.0 - others.max(axis=1), affinity[own])


def _joined(
    draws: _Draws, labels: IntArray, joint: FloatArray, rest: IntArray, progress: bool
) -> tuple[IntArray, FloatArray]:
    """Clusters of rows that were not searched (m,), and their affinity to all of them (m, C)."""
    c = joint.shape[1]
    size = _sums(labels, draws.weight, c)
    unit = 1.0 / draws.parts[0].fit.dataset.n_observations
    member = np.eye(c)[labels] * (draws.weight / size[labels])[:, np.newaxis]
    soft = np.einsum("snk,nc->skc", draws.responsibilities, member, optimize=True)
    change = _added(joint, unit).transpose(0, 2, 1)
    wanted = draws.share[:, np.newaxis, np.newaxis] * np.concatenate([soft, change], axis=2)
    out = np.zeros((len(rest), 2 * c))
    for fit, where, mixture, source in draws.parts:
        known = None if fit.dataset.labels is None else fit.dataset.labels[rest]
        weights = np.zeros((len(mixture.weights), fit.model.n_components, 2 * c))
        np.add.at(weights, source, wanted[where, : fit.model.n_components])
        out += predict.weighed_responsibilities(
            mixture, fit.dataset.x[rest], known, weights, progress=progress
        )
    loss = _added(size, unit) - 2.0 * out[:, c:]
    return loss.argmin(axis=1), np.clip(out[:, :c], 0.0, 1.0)


def _by_first_feature(labels: IntArray, x: FloatArray) -> IntArray:
    """The clusters in the order of their means in the first feature; those without values last."""
    seen = ~np.isnan(x[:, 0])
    n = int(labels.max()) + 1
    count = np.bincount(labels[seen], minlength=n)
    total = _sums(labels[seen], x[seen, 0], n)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.inf)
    return np.argsort(mean, kind="stable")


def _quantile(values: FloatArray, share: FloatArray, q: float) -> float:
    """The smallest value that is not below so large a share of the values."""
    order = np.argsort(values, kind="stable")
    at = int(np.searchsorted(np.cumsum(share[order]), q - _LESS))
    return float(values[order[min(at, len(order) - 1)]])
