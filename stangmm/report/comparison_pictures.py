"""Which pictures the report of a comparison shows, with what they mean and how to read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stangmm import plots
from stangmm.judge.diagnostics import diagnose
from stangmm.methods.draws import McmcInfo, RestartInfo, VariationalInfo
from stangmm.plots.comparisons import ESTIMATE_FEATURES
from stangmm.plots.shown import Compared
from stangmm.plots.style import SCATTER_ROWS
from stangmm.posterior.fitted import Fitted
from stangmm.report.numbers import count, number
from stangmm.report.pictures import Picture, density_picture, run_pictures
from stangmm.report.tables import settings_words

if TYPE_CHECKING:
    from stangmm.judge.diagnostics import Check


def overview_pictures(comparison: Compared) -> Iterator[Picture]:
    """All methods beside each other; nothing when every method failed."""
    if not comparison.fits:
        return
    yield _densities_picture(comparison)
    yield _estimates_picture(comparison)
    if comparison.reference is not None and len(comparison.fits) > 1:
        yield _time_accuracy_picture(comparison, comparison.reference)


def _densities_picture(comparison: Compared) -> Picture:
    many, dataset = count(len(comparison.fits), "method"), comparison.dataset
    one, reference = dataset.n_features == 1, comparison.reference
    draws = any(fit.kind != "point" for fit in comparison.fits.values())
    if one:
        alt = f"The data with the mixture densities by {many}, in one picture" + (
            f", that of {reference} with its 90% band." if reference else "."
        )
        caption = (
            "Where a line leaves the reference's band, that method describes the data differently "
            "from the posterior."
            if reference and comparison.table.loc[reference, "status"] != "fail"
            else "Where the lines separate, the methods describe the data differently."
        )
    else:
        alt = f"The data with the mixture density, a panel for each of {many}."
        caption = (
            "The same data and the same model in each panel: ellipses hold 50% and 95% of a "
            "component" + ("; thin ones are single draws." if draws else ".")
        )
        if dataset.n_features > 2:
            caption += (
                f" Of {dataset.n_features} features, the two in which the components differ most "
                "are shown."
            )
        if dataset.n_observations > SCATTER_ROWS:
            caption += f" {SCATTER_ROWS:,} of the rows are shown, chosen at random."
    return Picture("The densities", lambda: plots.densities(comparison), alt, caption)


def _estimates_picture(comparison: Compared) -> Picture:
    d, several = comparison.dataset.n_features, comparison.model.n_components > 1
    shown = (
        f" The first {count(ESTIMATE_FEATURES, 'feature')} of {d} are shown."
        if d > ESTIMATE_FEATURES
        else ""
    )
    return Picture(
        "The estimates",
        lambda: plots.estimates(comparison),
        f"{'Weights, means' if several else 'Means'} and scales of each component by "
        f"{count(len(comparison.fits), 'method')}, with 90% intervals where there are draws.",
        "Each component has a row, and each method a marker. Lines are 90% intervals; a point "
        f"estimate has none. A scale is a standard deviation within the component.{shown}",
    )


def _time_accuracy_picture(comparison: Compared, reference: str) -> Picture:
    fits, distances = comparison.fits, comparison.table["distance"].to_dict()
    where = "; ".join(
        f"{label}: {number(fit.seconds)} s, {number(distances[label])} posterior "
        "standard deviations away"
        for label, fit in fits.items()
        if label != reference
    )
    caption = (
        "The largest distance of a method's estimates from the reference's means, and the time it "
        "took. The lower left is best: fast and near. The reference is drawn at its own Monte "
        "Carlo error; distances in the grey area below cannot be told from zero. These are "
        "distances of estimates; the SD ratio says whether intervals are right."
        if comparison.table.loc[reference, "status"] != "fail"
        else "The largest distance of a method's estimates from the reference's means, and the "
        "time it took. The reference failed its checks, so being near it proves nothing."
    )
    return Picture(
        "Time against accuracy",
        lambda: plots.time_accuracy(comparison),
        f"Seconds and distance to {reference}, which took {number(fits[reference].seconds)} s. "
        f"{where}.",
        caption,
    )


@dataclass(frozen=True)
class MethodPart:
    """What the report says of one method that ran.

    Attributes
    ----------
    label : str
    fit : Fit
    status : str
    checks : list of Check
        Those that were not passed.
    settings : dict
        Name and value.
    pictures : list of Picture
    """

    label: str
    fit: Fitted
    status: str
    checks: list[Check]
    settings: dict[str, str]
    pictures: list[Picture]


def method_parts(comparison: Compared) -> Iterator[MethodPart]:
    """Every method by itself, in the order of the fits."""
    shown: set[type] = set()
    for label, fit in comparison.fits.items():
        diagnosis = diagnose(fit).computation
        yield MethodPart(
            label,
            fit,
            diagnosis.verdict,
            [check for check in diagnosis if check.verdict != "ok"],
            settings_words(fit.settings),
            list(_method_pictures(label, fit, first=type(fit.info) not in shown)),
        )
        shown.add(type(fit.info))


def _method_pictures(label: str, fit: Fitted, *, first: bool) -> Iterator[Picture]:
    """What the method did, and the mixture by the first method of each kind.

    The mixture of more than two features is many panels: `plots.densities` shows it well enough.
    """
    runs = list(run_pictures(fit))
    words = {
        RestartInfo: f"The data with the mixture density, by {label}",
        VariationalInfo: f"The variational density, by {label}",
        McmcInfo: f"The density with its uncertainty band, by {label}",
    }
    density = density_picture(fit, words[type(fit.info)])
    if runs and (fit.dataset.n_features > 2 or not first):
        yield from runs[-1:]
    elif isinstance(fit.info, RestartInfo):
        yield from (density, *runs)
    else:
        yield from (*runs, density)
