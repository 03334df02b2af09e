"""Goodness of fit: whether the mixture describes the data, where it does not, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import betainc

from stangmm.base.arrays import FloatArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.thresholds import (
    GOODNESS_NATS_FAIL,
    GOODNESS_P_FAIL,
    GOODNESS_P_OK,
    NARROW_AS_ROUNDING,
)
from stangmm.data.groups import group_rows
from stangmm.judge.beside import Rows
from stangmm.judge.misfits import Misfit, far, is_far, misfit_of
from stangmm.judge.smooth import SmoothTests, Test
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.posterior.fitted import Fitted, once

if TYPE_CHECKING:
    import pandas as pd

# As many rows are looked at; of more, so many are drawn.
MOST_ROWS = 10_000
# Where rows miss values in more ways than this, which are gone through one by one, fewer.
_MANY_PATTERNS, _MOST_OF_MANY = 200, 1000
FEWEST_ROWS = 10.0
# With fewer rows for each parameter, a fit may follow the rows so closely that the smooth tests,
# which take it to be near the truth, are wrong.
_ROWS_PER_PARAMETER = 1.0
# A value is a heap when it comes so often, and so many times as often as the mixture has it, and
# as values around it come.
_HEAP, _HEAP_EXCESS = 5.0, float(np.log(3.0))
_NEIGHBOURS = 5  # values on either side


class Asked(NamedTuple):
    """One test: its subject, its p-value adjusted for all tests (Holm 1979), its nats per row."""

    kind: str
    features: str
    p_value: float
    nats: float


@dataclass(frozen=True, eq=False, repr=False)
class GoodnessOfFit:
    """Whether the mixture describes the data; made by `Fit.goodness_of_fit`.

    Attributes
    ----------
    p_value : float
        Of the test that the data come from the mixture; adjusted for the number of tests, and for
        the fact that the same data were fitted.
    nats : float
        How much the log likelihood of a row could grow, on average, for the largest misfit; 0 if
        there is none. In nats, units of the natural logarithm: one nat is a factor of 2.7.
    misfits : tuple of Misfit
        The largest first.
    asked : tuple of Asked
        What was tested.
    n_rows : int
        How many rows were used; more than 10,000 are sampled at random.
    mixture : Mixture
        What the rows were compared with: the estimate, or the centre of the draws.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1)
    >>> found = fit.goodness_of_fit()
    >>> print(found.verdict, found.misfits[0].kind, found.misfits[0].features)
    warn skewness ('eruption_min',)
    """

    p_value: float
    nats: float
    misfits: tuple[Misfit, ...]
    asked: tuple[Asked, ...]
    n_rows: int
    mixture: Mixture

    @property
    def asked_shape(self) -> bool:
        """Whether the distributions of the features were tested: not of few rows."""
        return any(one.kind == "feature" for one in self.asked)

    @property
    def verdict(self) -> Literal["ok", "warn", "fail"]:
        """Whether there is a misfit, and whether it is more than slight."""
        if self.p_value >= GOODNESS_P_OK:
            return "ok"
        clear = self.p_value < GOODNESS_P_FAIL and self.nats >= GOODNESS_NATS_FAIL
        return "fail" if clear else "warn"

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each test."""
        import pandas as pd

        return pd.DataFrame(self.asked)

    def __str__(self) -> str:
        lines = [f"goodness of fit: {self.verdict}, p = {self.p_value:.2g}"]
        lines += [f"  {misfit.words} {misfit.advice}" for misfit in self.misfits]
        return "\n".join(lines)

    __repr__ = __str__


@once
def goodness_of_fit(fit: Fitted) -> GoodnessOfFit | None:
    """Compare the data with the fitted mixture; None for fewer than ten rows.

    Neyman's smooth tests of each feature and of the joint density, tests of the moments that the
    covariance type leaves out, of the farthest row and of repeated values, together by Holm's
    method. With few rows for so many parameters, only the last two. See `stangmm.judge.smooth`.
    """
    rows = _rows(fit)
    if rows.total < FEWEST_ROWS:
        return None
    with one_blas_thread(), np.errstate(all="ignore"):
        tests, found = smooth_tests(fit), list[Test]()
        if rows.total >= _ROWS_PER_PARAMETER * fit.model.n_parameters(fit.dataset.n_features):
            found += [*tests.features(), *tests.moments()]
            if fit.dataset.n_features > 1:
                found.append(tests.density())
        farthest = _farthest(tests.mixture, rows)
        heaps = [_heap(tests, d) for d in range(fit.dataset.n_features)]
        names = fit.dataset.feature_names
        p = [test.p for test in found] + [farthest.p, *(heap.p for heap in heaps)]
        adjusted = _holm(np.nan_to_num(p, nan=1.0))
        misfits = []
        everything = [*found, farthest, *heaps]
        for test, corrected in zip(everything, adjusted, strict=True):
            if corrected < GOODNESS_P_OK:
                misfits.append(misfit_of(fit, tests, rows, test, float(corrected)))
    asked = tuple(
        Asked(test.kind, ", ".join(names[d] for d in test.features), float(corrected), test.nats)
        for test, corrected in zip(everything, adjusted, strict=True)
    )
    misfits.sort(key=lambda one: -one.nats)
    return GoodnessOfFit(
        float(adjusted.min()),
        max((one.nats for one in misfits), default=0.0),
        tuple(misfits),
        asked,
        round(tests.data.rows.total),
        tests.mixture,
    )


def smooth_tests(fit: Fitted) -> SmoothTests:
    """Give the rows, or some of very many, beside the mixture that stands for the fit."""
    rows = _rows(fit)
    patterns = len(group_rows(rows.x)[1]) if fit.dataset.incomplete else 1
    rows = rows.some(MOST_ROWS if patterns <= _MANY_PATTERNS else _MOST_OF_MANY)
    structure = fit.model.structure
    space = fit.priors.space(structure)
    mixture = _centre(fit, rows)
    bounds = NARROW_AS_ROUNDING[fit.kind] * space.scale_bounds(mixture.corr_chol)
    narrow = (space.free(mixture)["scales"] < bounds).any(axis=-1)
    return SmoothTests(
        mixture,
        structure,
        rows,
        np.maximum(fit.dataset.resolution, fit.priors.resolution),
        np.broadcast_to(narrow, (fit.model.n_components,)),
    )


def transform_curves(
    fit: Fitted, features: Sequence[int], levels: FloatArray
) -> list[tuple[FloatArray, FloatArray]]:
    """Distribution functions of transforms, see `SmoothTests.curves`; -1: the density."""
    with one_blas_thread(), np.errstate(all="ignore"):
        return smooth_tests(fit).curves(features, levels)


def _rows(fit: Fitted) -> Rows:
    """The rows that count, with their labels where all are known.

    Where some are, it may be those that are easy to tell, or those that are not. The likelihood is
    right all the same, but these rows are not like rows of their components.
    """
    data = fit.dataset.counted()
    n, labels = len(data.x), data.labels
    weight = np.ones(n) if data.sample_weight is None else data.sample_weight
    known = labels is not None and bool((labels >= 0).all())
    return Rows(data.x, weight, labels if labels is not None and known else np.full(n, -1))


def _centre(fit: Fitted, rows: Rows) -> Mixture:
    """The mean of the draws, or the best of them where that describes the rows better.

    It does where labels are not settled, so that a mean of draws means nothing.
    """
    best = fit.mixture[int(np.argmax(fit.total_log_likelihood))]
    if fit.kind == "point":
        return best
    space = fit.priors.space(fit.model.structure)
    mean = space.mixtures(space.vectors(fit.mixture).mean(axis=0))
    both = (mean, best)
    heights = [log_likelihood(one, rows.x, rows.weight, rows.labels) for one in both]
    return both[int(np.nanargmax(heights))]


def _holm(p: FloatArray) -> FloatArray:
    """Holm's adjusted p-values (1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(adjusted, 1.0)
    return out


def _farthest(mixture: Mixture, rows: Rows) -> Test:
    """Ask whether the row that is farthest from every component may come from one.

    Where there is noise, it need not.
    """
    if mixture.noise is not None:
        return Test("far rows", 1.0, 0.0)
    distance, p = far(mixture, rows)
    beyond = is_far(p, rows)
    observed = (~np.isnan(rows.x)).sum(axis=1)
    gain = 0.5 * rows.weight[beyond] @ (distance - observed)[beyond] / rows.total
    chance = float(-np.expm1(rows.total * np.log1p(-p.min())))
    return Test("far rows", chance, float(gain))


def _heap(tests: SmoothTests, feature: int) -> Test:
    """Ask whether a value comes more often than the mixture and the rounding have it."""
    rows, step = tests.data.rows, tests.step[feature]
    seen = ~np.isnan(rows.x[:, feature])
    values, which = np.unique(rows.x[seen, feature], return_inverse=True)
    counts = np.bincount(which, rows.weight[seen])
    n = float(counts.sum())
    if len(values) < 2:
        return Test("repeated value", 1.0, 0.0, (feature,))
    # A value stands for as much room as values around it have, on any grid.
    padded = np.pad(np.diff(values), _NEIGHBOURS, mode="reflect")
    room = np.median(sliding_window_view(padded, 2 * _NEIGHBOURS + 1), axis=1)
    half = 0.5 * np.maximum(room, step)
    low, high = values - np.append(half[0], half), values + np.append(half, half[-1])
    cell = np.maximum(tests.cdf(feature, high) - tests.cdf(feature, low), 1e-15)
    # Where the mixture has too few rows altogether, the values around come as often.
    cell = np.minimum(np.maximum(cell, _as_neighbours(counts / n, high - low)), 1.0)
    excess = np.log(counts / (n * cell))
    heaps = np.flatnonzero((counts >= _HEAP) & (excess >= _HEAP_EXCESS))
    if not len(heaps):
        return Test("repeated value", 1.0, 0.0, (feature,))
    times = counts[heaps]  # at least so many of n, by the binomial distribution
    chance = betainc(times, n - times + 1.0, cell[heaps]) * len(values)
    # A nat for each row too many at the worst value, since the density of an atom has no bound.
    nats = counts[heaps] / n - cell[heaps]
    return Test(
        "repeated value",
        min(1.0, float(chance.min())),
        float(nats.max()),
        (feature,),
        average=float(values[heaps[int(np.argmax(nats))]]),
    )


def _as_neighbours(share: FloatArray, width: FloatArray) -> FloatArray:
    """Share of the rows that each value would have, were it as frequent as the values around."""
    around = np.ones(2 * _NEIGHBOURS + 1)
    around[_NEIGHBOURS] = 0.0
    rows, room = (np.convolve(each, around, mode="full") for each in (share, width))
    middle = slice(_NEIGHBOURS, _NEIGHBOURS + len(share))
    return np.asarray(rows[middle] / room[middle] * width)
