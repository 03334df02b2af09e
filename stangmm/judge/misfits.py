"""Misfits: what a test of goodness of fit has found, where, and what to try, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import chdtrc

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.judge.beside import Rows, squared_distances
from stangmm.judge.smooth import SmoothTests, Test
from stangmm.model.mixture import Mixture
from stangmm.posterior.fitted import Fitted

Kind: TypeAlias = Literal[
    "skewness",
    "heavy tails",
    "light tails",
    "shape",
    "joint density",
    "correlation",
    "scale",
    "far rows",
    "repeated value",
]

# Kind, rows, a sentence, advice.
_Said: TypeAlias = tuple[Kind, IntArray, str, str]
_NO_ROWS = np.empty(0, dtype=np.intp)
_MORE = "more components"
_OTHER_MODEL = f"Try {_MORE}, or another covariance_type."
# Shares of the mixture's rows, the thinnest first, in which the data's are counted.
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
_CLEAR = 0.03  # a share of the rows that can be seen to be too many
# The logarithm is advised where it leaves less than this share of the skewness.
_STRAIGHTENED = 0.5
# Of third and fourth moments, in standard errors; and the share of the fourth that the third
# explains where it is the skewness that one sees (all of it in two points, 2/3 in a gamma).
_MOMENT_ERRORS, _SKEWED = 3.0, 0.4
_TWO_GROUPS = -1.35  # a uniform distribution has an excess kurtosis of -1.2
_FEWEST_ROWS = 10.0
_ROWS_NAMED = 5
_FAR = 0.05  # chance of the farthest of all rows


@dataclass(frozen=True, eq=False)
class Misfit:
    """One way in which the data differ from the mixture.

    Attributes
    ----------
    kind : str
        "skewness", "heavy tails", "light tails" or other "shape" of a feature; "joint density" of
        several; a "correlation" or a "scale" that the covariance type does not have; "far rows";
        a "repeated value".
    features : tuple of str
    p_value : float
        Probability of a misfit at least this large in data from the mixture, adjusted for the
        number of tests (Holm 1979).
    nats : float
        How much the log likelihood of a row could grow, on average.
    rows : ndarray of int
        Rows that show it, those of weight zero left out.
    words : str
        A sentence.
    advice : str
    """

    kind: Kind
    features: tuple[str, ...]
    p_value: float
    nats: float
    rows: IntArray
    words: str
    advice: str


def misfit_of(fit: Fitted, tests: SmoothTests, rows: Rows, test: Test, p: float) -> Misfit:
    """Say what a test has found.

    Parameters
    ----------
    fit : Fit
    tests : SmoothTests
    rows : Rows
        All that count, of which the tests may have seen some.
    test : Test
    p : float
        Adjusted for the number of tests.
    """
    say = {
        "far rows": _far_rows,
        "repeated value": _repeated,
        "correlation": _correlation,
        "scale": _scale,
        "density": _joint,
        "feature": _shape,
    }[test.kind]
    kind, which, words, advice = say(fit, tests, rows, test)
    names = tuple(fit.dataset.feature_names[d] for d in test.features)
    return Misfit(kind, names, p, test.nats, _numbers(fit, which), words, advice)


def advice_on(misfits: Sequence[Misfit]) -> str:
    """What to try, each advice once."""
    each = list(dict.fromkeys(misfit.advice for misfit in misfits))
    for general in (f"Try {_MORE}.", _OTHER_MODEL):
        others = [advice for advice in each if advice != general]
        if any(_MORE in advice for advice in others):
            each = others
    return " ".join(each)


def _numbers(fit: Fitted, which: IntArray) -> IntArray:
    """Numbers in the user's table of some of the rows that count."""
    weight = fit.dataset.sample_weight
    return which if weight is None else np.flatnonzero(weight > 0)[which]


def _far_rows(fit: Fitted, tests: SmoothTests, rows: Rows, test: Test) -> _Said:
    distance, chance = far(tests.mixture, rows)
    which = np.flatnonzero(is_far(chance, rows))
    which = which[np.argsort(-distance[which], kind="stable")]
    many, farthest = len(which) > 1, np.sqrt(distance[which[0]])
    numbers = ", ".join(map(str, _numbers(fit, which[:_ROWS_NAMED]).tolist()))
    words = (
        f"{len(which):,} {'rows lie' if many else 'row lies'} far from every component "
        f"({numbers}{', …' if len(which) > _ROWS_NAMED else ''}), {'up to ' if many else ''}"
        f"{farthest:.3g} standard deviations from the nearest."
    )
    these = "these rows" if many else "this row"
    advice = (
        f"Look at {these}. Remove rows that belong to no group, or model them as noise: noise=True."
    )
    return "far rows", which, words, advice


def _repeated(fit: Fitted, tests: SmoothTests, rows: Rows, test: Test) -> _Said:
    (d,) = test.features
    column = rows.x[:, d]
    same = column == test.average
    share = rows.weight[same].sum() / rows.weight[~np.isnan(column)].sum()
    end = test.average in (np.nanmin(column), np.nanmax(column))
    words = (
        f"{fit.dataset.feature_names[d]} is exactly {test.average:.6g}"
        f"{', the end of its range,' if end else ''} in {share:.1%} of the rows, far more often "
        "than a mixture of normals would give."
    )
    advice = (
        "Find out what that value stands for. Remove these rows or model them separately or, if "
        "the "
        "values were rounded to a coarser step, give that step: Priors(resolution=...)."
    )
    return "repeated value", np.flatnonzero(same), words, advice


def _correlation(fit: Fitted, tests: SmoothTests, rows: Rows, test: Test) -> _Said:
    names = " and ".join(fit.dataset.feature_names[d] for d in test.features)
    within = _within(fit, test.component)
    if fit.model.structure.correlated:
        words = f"The correlation of {names}{within} is off by {test.average:.2f}."
        return "correlation", _NO_ROWS, words, 'Try covariance_type="full".'
    words = f"{names} have a correlation of {test.average:.2f}{within}, which the model leaves out."
    return "correlation", _NO_ROWS, words, 'Try covariance_type="full" or "tied".'


def _scale(fit: Fitted, tests: SmoothTests, rows: Rows, test: Test) -> _Said:
    name = fit.dataset.feature_names[test.features[0]]
    ratio = np.sqrt(max(test.average, 0.0))
    words = (
        f"The standard deviation of {name}{_within(fit, test.component)} is {ratio:.3g} times that "
        f'under covariance_type="{fit.model.covariance_type}".'
    )
    correlated = fit.model.structure.correlated
    other = '"tied_correlation" or "full"' if correlated else '"diag" or "full"'
    return "scale", _NO_ROWS, words, f"Try covariance_type={other}."


def _within(fit: Fitted, component: int) -> str:
    return f" within component {component}" if fit.model.n_components > 1 else ""


def _joint(fit: Fitted, tests: SmoothTests, rows: Rows, test: Test) -> _Said:
    """Say where in the mixture, by its density, rows are too many."""
    level, share = tests.largest_excess(_LEVELS)
    excess = abs(share - level)
    if excess < _CLEAR:
        words = (
            "With all features together, rows are not as probable as rows of the mixture: within "
            "components they are not normally distributed."
        )
        return "joint density", _NO_ROWS, words, _OTHER_MODEL
    if share > level and level <= 0.25:
        words = (
            f"With all features together, {share:.0%} of the rows lie in the thinnest {level:.0%} "
            "of the mixture: there are heavy tails, or rows away from the components."
        )
        advice = f"Look at the far rows, and remove or model them; or try {_MORE}."
        return "joint density", _NO_ROWS, words, advice
    where = "thinnest" if share > level else "densest"
    if share < level:
        share, level = 1.0 - share, 1.0 - level
    words = (
        f"With all features together, {share:.0%} of the rows lie in the {where} {level:.0%} of "
        "the mixture: within components they are not normally distributed."
    )
    return "joint density", _NO_ROWS, words, _OTHER_MODEL


def far(mixture: Mixture, rows: Rows) -> tuple[FloatArray, FloatArray]:
    """Squared distance to the nearest component (N,), and the chance of more (N,)."""
    distances = squared_distances(mixture, rows.x)
    other = (rows.labels[:, np.newaxis] >= 0) & (
        rows.labels[:, np.newaxis] != np.arange(mixture.n_components)
    )
    distance = np.where(other, np.inf, distances).min(axis=1)
    observed = (~np.isnan(rows.x)).sum(axis=1)
    return distance, np.asarray(chdtrc(observed, distance))


def is_far(chance: FloatArray, rows: Rows) -> BoolArray:
    """Whether rows are farther than any would be, but for one set of data in twenty."""
    return np.asarray(chance < _FAR / rows.total)


def _shape(fit: Fitted, tests: SmoothTests, rows: Rows, test: Test) -> _Said:
    """Say how a feature's distribution differs, and where rows are too many."""
    (d,) = test.features
    kind, component, size = _shape_of(tests, d)
    within = _within(fit, component)
    if kind == "skewness":
        what = f"is skewed to the {'right' if size > 0 else 'left'}{within} (skewness {size:.2f})"
        helps = np.nanmin(rows.x[:, d]) > 0 and abs(
            _skewness(tests, d, component, np.log)
        ) < _STRAIGHTENED * abs(size)
        change = "its logarithm" if helps else "a transformation of it"
        advice = f"Try {change}, if that makes sense, or {_MORE}."
    elif kind == "heavy tails":
        what = f"has heavier tails than a normal distribution{within} (excess kurtosis {size:.2f})"
        advice = f"Look at the far rows, and remove or model them; or try {_MORE}."
    elif kind == "light tails" and size < _TWO_GROUPS:
        what = f"falls into several groups{within} (excess kurtosis {size:.2f})"
        advice = f"Try {_MORE}."
    elif kind == "light tails":
        what = f"has lighter tails than a normal distribution{within} (excess kurtosis {size:.2f})"
        advice = f"Try {_MORE}, or a transformation if its range has limits."
    else:
        what, advice = "is not distributed like the mixture", _OTHER_MODEL
    low, high, seen, expected = _excess(tests, d)
    which = np.flatnonzero((rows.x[:, d] >= low) & (rows.x[:, d] <= high))
    words = (
        f"{fit.dataset.feature_names[d]} {what}: {seen:.1%} of the rows are between {low:.4g} and "
        f"{high:.4g}, but only {expected:.1%} of the mixture."
    )
    return kind, which, words, advice


def _shape_of(tests: SmoothTests, feature: int) -> tuple[Kind, int, float]:
    """What a feature's moments say: the kind, in which component, and skewness or kurtosis."""
    seen, worst = tests.data, _MOMENT_ERRORS
    found: tuple[Kind, int, float] = ("shape", 0, 0.0)
    there = ~np.isnan(seen.rows.x[:, feature])
    for component in np.flatnonzero(~tests.narrow).tolist():
        r = seen.rows.weight[there] * seen.responsibility[there, component]
        held = float(r.sum())
        if held < _FEWEST_ROWS:
            continue
        t = seen.deviation[there, component, feature]
        t = t - r @ t / held
        t /= np.sqrt(r @ t**2 / held)
        third, fourth = float(r @ t**3) / held, float(r @ t**4) / held - 3.0
        skewed, tailed = abs(third) * np.sqrt(held / 6.0), abs(fourth) * np.sqrt(held / 24.0)
        if max(skewed, tailed) > worst:
            worst = max(skewed, tailed)
            if skewed > _MOMENT_ERRORS and third**2 > _SKEWED * fourth:
                found = "skewness", component, third
            else:
                found = "heavy tails" if fourth > 0 else "light tails", component, fourth
    return found


def _skewness(
    tests: SmoothTests, feature: int, component: int, change: Callable[[FloatArray], FloatArray]
) -> float:
    """Skewness within a component of a feature's values that have been changed."""
    x = tests.data.rows.x[:, feature]
    there = ~np.isnan(x)
    r = tests.data.rows.weight[there] * tests.data.responsibility[there, component]
    y = change(x[there])
    y = y - r @ y / r.sum()
    return float((r @ y**3 / r.sum()) / (r @ y**2 / r.sum()) ** 1.5)


def _excess(tests: SmoothTests, feature: int) -> tuple[float, float, float, float]:
    """The interval of most rows in excess: its ends, the share of the rows, the share expected."""
    rows = tests.data.rows.without_labels()
    seen = ~np.isnan(rows.x[:, feature])
    order = np.argsort(rows.x[seen, feature], kind="stable")
    values = rows.x[seen, feature][order]
    share = np.cumsum(rows.weight[seen][order])
    share = share / share[-1]
    below, above = (end[seen][order] for end in tests.cell(rows, feature))
    before = np.concatenate([[0.0], share[:-1]]) - below  # just below each value
    after = share - above
    lowest = np.minimum.accumulate(before)
    end = int(np.argmax(after - lowest))
    start = int(np.argmin(before[: end + 1]))
    first = share[start - 1] if start else 0.0
    return (
        float(values[start]),
        float(values[end]),
        float(share[end] - first),
        float(above[end] - below[start]),
    )
