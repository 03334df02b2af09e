"""The table of a comparison's report: its columns, what they mean, and which values are best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stangmm.base.thresholds import R_HAT_OK
from stangmm.methods.draws import RestartInfo
from stangmm.plots.shown import Compared
from stangmm.report.numbers import fixed, number
from stangmm.report.tables import priors_words


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes
    ----------
    name : str
        In ``comparison.table``.
    title : str
    decimals : int or None
        None writes three digits.
    loss : callable
        Of a value as written, lower is better; equal losses are equally good.
    meaning : str
        What the number is, and which is better.
    """

    name: str
    title: str
    decimals: int | None
    loss: Callable[[float], float]
    meaning: str

    def text(self, value: float) -> str:
        """The value as it is written; a dash where it does not apply."""
        return number(value) if self.decimals is None else fixed(value, self.decimals)

    def written(self, value: float) -> float:
        """The number that is read: differences that are not shown are none."""
        if self.decimals is not None:
            return round(value, self.decimals)
        return float(f"{value:.3g}")


COLUMNS = (
    Column(
        "seconds",
        "Seconds",
        None,
        lambda v: v,
        "Wall time of the fit, without compiling the model.",
    ),
    Column(
        "log_likelihood",
        "Log likelihood",
        2,
        lambda v: -v,
        "Of the data, in nats (natural logarithms: a difference of one is a factor of 2.7 in "
        "likelihood), at the estimate or averaged over the draws. An average always lies below the "
        "maximum, so the best is marked only among methods that maximize the likelihood.",
    ),
    Column(
        "elpd_loo",
        "ELPD (LOO)",
        1,
        lambda v: -v,
        "Expected log predictive density of rows left out, in nats, with its standard error: how "
        "well new rows are predicted, higher is better. The best is marked only if every other is "
        "lower by more than the largest standard error. With large data, only some rows are "
        "left out in turn; the number in parentheses is the standard error that this adds.",
    ),
    Column(
        "r_hat",
        "Worst R\u2011hat",
        3,
        lambda v: max(v, R_HAT_OK),
        f"Whether the chains agree: below {R_HAT_OK} is fine.",
    ),
    Column(
        "ess_bulk",
        "Smallest ESS",
        0,
        lambda v: -v,
        "Effective sample size of the worst parameter: how many independent draws the chains are "
        "worth.",
    ),
    Column(
        "ess_per_second", "ESS per s", 0, lambda v: -v, "The smallest ESS, divided by the seconds."
    ),
    Column(
        "distance",
        "Distance",
        2,
        lambda v: v,
        "The largest difference between an estimate (a posterior mean, if there are draws) and the "
        "posterior mean of the reference, in posterior standard deviations of the reference; "
        "smaller is nearer.",
    ),
    Column(
        "sd_ratio",
        "SD ratio",
        2,
        lambda v: abs(np.log(v)) if v > 0 else np.inf,
        "The posterior standard deviation that differs most from the reference's, as a ratio to "
        "it: 1 is right; below 1 the method's intervals are too narrow.",
    ),
    Column(
        "agreement",
        "Agreement",
        3,
        lambda v: -v,
        "Share of the rows in the same cluster as under the reference.",
    ),
)
_BY_REFERENCE = ("distance", "sd_ratio", "agreement")


def shown_columns(comparison: Compared) -> list[Column]:
    """Columns in which some method has a value."""
    table = comparison.table
    return [column for column in COLUMNS if table[column.name].notna().any()]


def best_values(comparison: Compared, column: Column) -> set[str]:
    """Methods with the best value of a column; none if no value is better than another.

    Methods that failed their checks do not count, and with a reference that failed none is best.
    """
    table, reference = comparison.table, comparison.reference
    by_failed = reference is not None and table.loc[reference, "status"] == "fail"
    if by_failed and column.name in _BY_REFERENCE:
        return set()
    asked = table[table["status"].isin(["ok", "warn"]) & table[column.name].notna()]
    if column.name == "log_likelihood":
        asked = asked.loc[[label for label in asked.index if _is_maximum(comparison, label)]]
    losses = {
        str(label): column.loss(column.written(float(value)))
        for label, value in asked[column.name].items()
    }
    least = min(losses.values(), default=np.inf)
    best = {label for label, loss in losses.items() if loss == least}
    others = [loss for label, loss in losses.items() if label not in best]
    if not others:
        return set()
    if column.name == "elpd_loo" and min(others) - least <= asked["elpd_loo_se"].max():
        return set()
    return best


def _is_maximum(comparison: Compared, label: str) -> bool:
    """Whether a method's log likelihood is what it maximized."""
    info = comparison.fits[label].info
    return isinstance(info, RestartInfo) and info.objective == "log likelihood"


def comparison_priors(comparison: Compared) -> dict[str, str]:
    """Priors of the model, which all methods share that use any."""
    return next((words for f in comparison.fits.values() if (words := priors_words(f))), {})
