"""Allocations: draws of every row's component, and how far partitions are from them.

No label is used: of a draw only which rows share a component counts, and in each draw the numbers
of the components may be others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.model.mixture import Mixture
from stangmm.posterior.fitted import Fitted
from stangmm.predict import averages as predict

# Among so many rows the best partition is searched; of more, so many are drawn.
SEARCHED = 2000
# Draws of partitions: so many, but fewer where more numbers than these would be held (128 MB).
_DRAWS, _FEWEST_DRAWS = 500, 50
_CELLS = 2**24
_TOGETHER = 64  # draws in one matrix product
_FOR_STRATA = 20  # draws by which rows are sorted before some are drawn

# A term of a loss, of shares of the rows.
Term = Callable[[FloatArray], FloatArray]


class Part(NamedTuple):
    """Which draws are a fit's, and from which of its mixtures each is."""

    fit: Fitted
    draws: slice
    mixture: Mixture
    source: IntArray


@dataclass(frozen=True, eq=False)
class Allocations:
    """Draws of the searched rows' components.

    Attributes
    ----------
    parts : list of Part
    responsibilities : ndarray, shape (S, n, K)
        K is that of the fit with most; zero beyond a fit's own.
    components : ndarray of int, shape (S, n)
    share : ndarray, shape (S,)
        How much each draw counts; sums to 1.
    weight : ndarray, shape (n,)
        How much each row counts; sums to 1.
    """

    parts: list[Part]
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
    ) -> Allocations:
        """Draw components of some rows, each of a weight, from fits of which each has a share."""
        k = max(fit.mixture.n_weights for fit, _ in parts)
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
            placed.append(Part(fit, where, drawn[chosen], source))
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
        return joint_shares(labels, self.components, self.weight, self.responsibilities.shape[2])

    def expected(self, labels: IntArray) -> float:
        """Expected variation of information of a partition of the rows."""
        return float(self.share @ losses_of(self.joint(labels), entropic))


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


def searched_rows(fit: Fitted, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
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
            n = min(len(stratum), SEARCHED // fit.mixture.n_weights)
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


def joint_shares(labels: IntArray, components: IntArray, weight: FloatArray, k: int) -> FloatArray:
    """Sums of weights by cluster of labels (n,) and component (S, n), shape (S, C, K)."""
    s, c = len(components), int(labels.max()) + 1
    cell = (np.arange(s)[:, np.newaxis] * c + labels) * k + components
    each = np.broadcast_to(weight, components.shape).ravel()
    return sums(cell.ravel(), each, s * c * k).reshape(s, c, k)


def sums(cell: IntArray, weight: FloatArray, n: int) -> FloatArray:
    """Sums of weights by cell, shape (n,)."""
    return np.asarray(np.bincount(cell, weight, n), dtype=np.float64)


def entropic(share: FloatArray) -> FloatArray:
    """Give x log x, 0 at 0."""
    return np.asarray(xlogy(share, share))


def losses_of(joint: FloatArray, term: Term) -> FloatArray:
    """Distances (S,) between two partitions that share rows as in tables (S, C, K).

    With x log x as the term the variation of information, H(c) + H(z) - 2 I(c, z); with the square
    Binder's loss.
    """
    own, other = term(joint.sum(axis=2)).sum(axis=1), term(joint.sum(axis=1)).sum(axis=1)
    return np.asarray(np.maximum(own + other - 2.0 * term(joint).sum(axis=(1, 2)), 0.0))


def growth(share: FloatArray, weight: float) -> FloatArray:
    """What x log x grows by where weight is added to shares."""
    return entropic(share + weight) - entropic(share)
