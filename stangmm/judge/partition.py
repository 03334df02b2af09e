"""Partition: the rows in clusters, by the posterior of which rows belong together.

No label is used. In a draw, rows i and j share a component with probability sum_k r_ik r_jk; the
mean over draws is the posterior similarity matrix. Components of every row, drawn from the
responsibilities, are draws of partitions, and the partition that is nearest to them on average, in
variation of information, stands for all (Wade & Ghahramani 2018, doi:10.1214/17-BA1073).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.errors import DataError
from stangmm.judge.allocations import (
    Allocations,
    entropic,
    growth,
    joint_shares,
    losses_of,
    searched_rows,
    sums,
)
from stangmm.judge.membership import row_index
from stangmm.judge.nearest import nearest_partition
from stangmm.posterior.fitted import Fitted
from stangmm.predict import averages as predict

if TYPE_CHECKING:
    import pandas as pd

_BALL = 0.95
_ROUNDING = 1e-10  # of sums of shares


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """The rows in clusters; made by `Fit.partition` and `Stack.partition`.

    It is the partition of least posterior expected variation of information (Wade & Ghahramani
    2018, doi:10.1214/17-BA1073), as far as it was found. No labels of components are used, so that
    they need not be settled, and the number of clusters may differ from K: a component may hold no
    row, and components that overlap may be one cluster. Noise counts as a component.

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
    row_index : Index
        Index of the pandas table that was fitted; of other data the number of each row, from 0.

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
    row_index: pd.Index

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

        from stangmm.base.printed import PrintedTable

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

        The index is that of the pandas table that was fitted; of other data, and of a loaded fit,
        rows are counted from 0.

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
            index=self.row_index,
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
        joint = joint_shares(
            self.labels, other[np.newaxis], np.full(n, 1.0 / n), int(other.max()) + 1
        )
        return float(losses_of(joint, entropic)[0])

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
    searched, weight = searched_rows(main, rng)
    with one_blas_thread():
        draws = Allocations.of(parts, searched, weight, rng)
        similarity = draws.similarity()
        labels = nearest_partition(draws, similarity)
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
    losses = losses_of(joint, entropic)
    return Partition(
        labels=labels,
        certainty=_certainty(labels, affinity),
        affinity=affinity,
        searched=searched,
        similarity=similarity,
        expected_vi=float(draws.share @ losses),
        expected_binder=float(draws.share @ losses_of(joint, np.square)),
        credible_radius=_quantile(losses, draws.share, _BALL),
        n_draws=len(draws.share),
        row_index=row_index(data),
    )


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
    draws: Allocations, labels: IntArray, joint: FloatArray, rest: IntArray, progress: bool
) -> tuple[IntArray, FloatArray]:
    """Clusters of rows that were not searched (m,), and their affinity to all of them (m, C)."""
    c = joint.shape[1]
    size = sums(labels, draws.weight, c)
    unit = 1.0 / draws.parts[0].fit.dataset.n_observations
    member = np.eye(c)[labels] * (draws.weight / size[labels])[:, np.newaxis]
    soft = np.einsum("snk,nc->skc", draws.responsibilities, member, optimize=True)
    change = growth(joint, unit).transpose(0, 2, 1)
    wanted = draws.share[:, np.newaxis, np.newaxis] * np.concatenate([soft, change], axis=2)
    out = np.zeros((len(rest), 2 * c))
    for fit, where, mixture, source in draws.parts:
        known = None if fit.dataset.labels is None else fit.dataset.labels[rest]
        weights = np.zeros((len(mixture.weights), mixture.n_weights, 2 * c))
        np.add.at(weights, source, wanted[where, : mixture.n_weights])
        out += predict.weighed_responsibilities(
            mixture, fit.dataset.x[rest], known, weights, progress=progress
        )
    loss = growth(size, unit) - 2.0 * out[:, c:]
    return loss.argmin(axis=1), np.clip(out[:, :c], 0.0, 1.0)


def _by_first_feature(labels: IntArray, x: FloatArray) -> IntArray:
    """The clusters in the order of their means in the first feature; those without values last."""
    seen = ~np.isnan(x[:, 0])
    n = int(labels.max()) + 1
    count = np.bincount(labels[seen], minlength=n)
    total = sums(labels[seen], x[seen, 0], n)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.inf)
    return np.argsort(mean, kind="stable")


def _quantile(values: FloatArray, share: FloatArray, q: float) -> float:
    """The smallest value that is not below so large a share of the values."""
    order = np.argsort(values, kind="stable")
    at = int(np.searchsorted(np.cumsum(share[order]), q - _ROUNDING))
    return float(values[order[min(at, len(order) - 1)]])
