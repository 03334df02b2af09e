"""Merging: components that overlap joined into clusters, two at a time, from K to one.

Baudry, Raftery, Celeux, Lo & Gottardo 2010 (doi:10.1198/jcgs.2010.08111): each step joins the two
clusters whose union makes the entropy of the rows' membership least.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_count
from stangmm.judge.membership import probabilities_of
from stangmm.posterior.fitted import Fitted, once

if TYPE_CHECKING:
    import pandas as pd

# With two lines through fewer points than this, each number of clusters fits as well.
_FEWEST_FOR_ELBOW = 4
_DIGITS = 9  # of a decrease, relative to the largest: the last bits choose no pair


@dataclass(frozen=True, eq=False, repr=False)
class MergePath:
    """Components joined into clusters where they overlap; made by `Fit.merge_path`.

    A cluster is a union of components, and a row belongs to it with the sum of their posterior
    probabilities t. The entropy of a clustering is -sum_i w_i sum_c t_ic log t_ic, in nats: 0 where
    every row surely belongs to one cluster. Each step joins the two clusters whose union makes it
    least (Baudry, Raftery, Celeux, Lo & Gottardo 2010, doi:10.1198/jcgs.2010.08111). The density of
    the mixture stays what it is.

    Attributes
    ----------
    entropy : ndarray, shape (K,)
        ``entropy[m - 1]`` is that of m clusters.
    clusters : tuple of tuples of tuples of int
        ``clusters[m - 1]`` has the components of each of m clusters.
    probabilities : ndarray, shape (N, K)
        Posterior means of P(z = k given x): what was joined. With noise, a row sums to what the
        noise leaves.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1)
    >>> path = fit.merge_path()
    >>> print(path.entropy.round(2), path.clusters[0])
    [0.   0.69] ((0, 1),)
    """

    entropy: FloatArray
    clusters: tuple[tuple[tuple[int, ...], ...], ...]
    probabilities: FloatArray

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each number of clusters, K first.

        ``joined`` is the clusters, as their components, that the step to this number joined,
        ``entropy`` is in nats, and ``decrease`` is how much the step took away.
        """
        import pandas as pd

        from stangmm.base.printed import PrintedTable

        k = len(self.entropy)
        joined = ["", *(" with ".join(map(_words, self.joined(m))) for m in range(k - 1, 0, -1))]
        entropy = self.entropy[::-1]
        decrease = np.append(np.nan, -np.diff(entropy))
        columns = {"joined": joined, "entropy": entropy, "decrease": decrease}
        return PrintedTable(
            pd.DataFrame(columns, index=pd.Index(range(k, 0, -1), name="n_clusters"))
        )

    @cached_property
    def elbow(self) -> int | None:
        """Number of clusters at which the entropy bends most; None below four components.

        Two straight lines, through the values up to it and through those from it on, fit best there
        by least squares. It is among 2 to K - 1, and means little where the entropy is small at K.
        """
        k = len(self.entropy)
        if k < _FEWEST_FOR_ELBOW:
            return None
        numbers = np.arange(1.0, k + 1.0)
        misfit = [
            _line_misfit(numbers[:m], self.entropy[:m])
            + _line_misfit(numbers[m - 1 :], self.entropy[m - 1 :])
            for m in range(2, k)
        ]
        return 2 + int(np.argmin(np.round(misfit, _DIGITS)))

    def joined(self, n_clusters: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Components of the two clusters that the step to so many clusters joined.

        Parameters
        ----------
        n_clusters : int
            From 1 to K - 1.
        """
        check_count("n_clusters", n_clusters, most=len(self.entropy) - 1)
        after = set(self.clusters[n_clusters - 1])
        first, second = (one for one in self.clusters[n_clusters] if one not in after)
        return first, second

    def labels(self, n_clusters: int) -> IntArray:
        """Most probable of so many clusters for each row, shape (N,); -1 where noise is.

        Parameters
        ----------
        n_clusters : int
            From 1 to K.
        """
        check_count("n_clusters", n_clusters, most=len(self.entropy))
        t, clusters = self.probabilities, self.clusters[n_clusters - 1]
        sums: FloatArray = np.stack([t[:, list(one)].sum(axis=1) for one in clusters], axis=1)
        of_noise = 1.0 - t.sum(axis=1)
        best: IntArray = np.where(of_noise > sums.max(axis=1), -1, sums.argmax(axis=1))
        return best

    def __str__(self) -> str:
        elbow = self.elbow
        words = "no elbow below four components" if elbow is None else f"elbow at {elbow} clusters"
        table = self.table.to_string(float_format="{:.4g}".format, na_rep="-")
        return f"{len(self.entropy)} components joined where they overlap; {words}\n{table}"

    __repr__ = __str__


@once
def merge_path_of(fit: Fitted) -> MergePath:
    """Join the components of a fit; see `Fit.merge_path`."""
    probabilities = probabilities_of(fit)[:, : fit.model.n_components]  # noise is never joined
    weight = fit.dataset.sample_weight
    weight = np.ones(len(probabilities)) if weight is None else weight
    clusters: list[tuple[int, ...]] = [(k,) for k in range(fit.model.n_components)]
    joint = probabilities.copy()
    steps = [(_entropy(joint, weight), tuple(clusters))]
    while len(clusters) > 1:
        a, b = _nearest(joint, weight)
        joint[:, a] += joint[:, b]
        joint = np.delete(joint, b, axis=1)
        clusters[a] = tuple(sorted(clusters[a] + clusters.pop(b)))
        steps.append((_entropy(joint, weight), tuple(clusters)))
    steps.reverse()
    return MergePath(
        np.array([entropy for entropy, _ in steps]),
        tuple(clusters for _, clusters in steps),
        probabilities,
    )


def _entropy(t: FloatArray, weight: FloatArray) -> float:
    return max(0.0, -float(weight @ xlogy(t, t).sum(axis=1)))


def _nearest(t: FloatArray, weight: FloatArray) -> tuple[int, int]:
    """The two columns whose sum makes the entropy least, the smaller number first."""
    own = weight @ xlogy(t, t)
    n = len(own)
    decrease = np.full((n, n), -np.inf)
    for a in range(n - 1):
        both = t[:, a : a + 1] + t[:, a + 1 :]
        decrease[a, a + 1 :] = weight @ xlogy(both, both) - own[a] - own[a + 1 :]
    most = max(float(decrease.max()), 1.0)
    best = int(np.argmax(np.round(decrease / most, _DIGITS)))
    return divmod(best, n)


def _line_misfit(x: FloatArray, y: FloatArray) -> float:
    """Sum of squared residuals of the straight line that fits best."""
    slope, intercept = np.polyfit(x, y, 1)
    return float(np.square(y - slope * x - intercept).sum())


def _words(components: tuple[int, ...]) -> str:
    return "+".join(map(str, components))
