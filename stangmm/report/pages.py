"""The pages: what the templates are given, and how a file is written."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from stangmm import plots
from stangmm.base.files import checked_target, write_whole
from stangmm.base.progress import progress_bar
from stangmm.judge.diagnostics import diagnose
from stangmm.judge.leave_one_out import has_loo, psis_loo
from stangmm.plots.shown import Compared
from stangmm.plots.style import color
from stangmm.posterior.fitted import Fitted
from stangmm.posterior.summary import summary
from stangmm.report.comparison_pictures import method_parts, overview_pictures
from stangmm.report.comparison_tables import (
    best_values,
    comparison_priors,
    shown_columns,
)
from stangmm.report.description import description
from stangmm.report.numbers import count, fixed, number
from stangmm.report.pictures import (
    Picture,
    density_picture,
    forest_pictures,
    further_pictures,
    predictive_pictures,
    prior_pictures,
    profile_pictures,
    projection_pictures,
    row_pictures,
    run_pictures,
)
from stangmm.report.tables import (
    comparison_call,
    fit_call,
    priors_words,
    settings_words,
    undecided_rows,
)
from stangmm.report.words import (
    closing_words,
    comparison_answer,
    components_words,
    data_words,
    decided_words,
    fitting_words,
    leading_method,
    loo_left_out,
    loo_words,
    method_words,
    opening_words,
    solutions_of,
    undecided_words,
)

_UNBROKEN = 28  # letters of a name that a line of a phone has room for
_SHORT = 14  # letters of one that a table's column on a phone has room for
_BADGES: dict[str, tuple[str, str]] = {
    "ok": ("✓", "passed every check"),
    "warn": ("!", "use with care"),
    "fail": ("✕", "do not rely on it"),
    "error": ("✕", "did not run"),
}


def fit_report(fit: Fitted, path: str | os.PathLike[str], *, progress: bool = True) -> Path:
    """Write the report of one fit.

    Parameters
    ----------
    fit : Fit
    path : path
        The HTML file; one that is there is replaced at once, when the new one is complete.
    progress : bool
        Whether to show progress when it takes longer than a second.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ModelError
        The folder does not exist, or the path is a folder.
    OSError
        The file could not be written; what was there before is unchanged.
    """
    target = checked_target(path, "report.html")
    loo = cache(partial(psis_loo, fit)) if has_loo(fit) else None
    diagnosis, parameters = diagnose(fit), summary(fit)
    solutions, modes = solutions_of(fit, parameters)
    pooled = modes == 1  # else no number of all draws together means anything
    undecided = undecided_rows(fit) if pooled and fit.model.n_components > 1 else None
    if pooled:
        pictures = {
            "mixture": [density_picture(fit), *projection_pictures(fit)],
            "components": [*profile_pictures(fit), *forest_pictures(fit)],
            "rows": list(row_pictures(fit)) if undecided and undecided.count else [],
            "predictive": list(predictive_pictures(fit, loo)),
        }
    else:
        pictures = {"mixture": [density_picture(each.fit, each.title) for each in solutions]}
    passed = diagnosis.computation.verdict == "ok"
    pictures["runs"] = list(run_pictures(fit, brief=passed))
    failed = {check.name for check in diagnosis.computation if check.verdict != "ok"}
    pictures["runs"] += further_pictures(fit, failed)
    priors_decided = decided_words(fit) if pooled and passed else ""
    if pooled and not priors_decided:
        pictures["priors"] = list(prior_pictures(fit))
    advance = progress_bar("pictures", sum(map(len, pictures.values())), shown=progress)
    page = environment().get_template("fit.html.j2")
    html = page.render(
        svg=drawing(advance),
        names=fit.dataset.feature_names,
        title=f"{components_words(fit.model.n_components)} fitted by {method_words(fit.method)}",
        fit=fit,
        facts=data_words(fit),
        verdict=diagnosis.verdict,
        badge_of="",
        opening=opening_words(fit, modes),
        solutions=solutions,
        closing=" ".join(closing_words(fit, diagnosis, undecided, modes)),
        pooled=pooled,
        pictures=pictures,
        fitting=fitting_words(fit),
        priors_decided=priors_decided,
        intervals=fit.kind != "point",
        undecided=undecided,
        undecided_words=undecided_words(undecided) if undecided else "",
        checks=list(diagnosis),
        # Asked for when the picture is drawn, since it may take seconds.
        loo_words=lambda: loo_words(fit, loo()) if loo else loo_left_out(fit),
        parameters=parameters,
        description=description(fit),
        call=fit_call(fit),
        settings=settings_words(fit.settings),
        priors=priors_words(fit),
    )
    write_whole(target, html.encode())
    return target


def comparison_report(
    comparison: Compared, path: str | os.PathLike[str], *, progress: bool = True
) -> Path:
    """Write the report of a comparison.

    Parameters
    ----------
    comparison : Comparison
    path : path
        The HTML file; one that is there is replaced at once, when the new one is complete.
    progress : bool
        Whether to show progress when it takes longer than a second.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ModelError
        The folder does not exist, or the path is a folder.
    OSError
        The file could not be written; what was there before is unchanged.
    """
    target = checked_target(path, "report.html")
    table = comparison.table
    leading, status = leading_method(comparison)
    overview, parts = list(overview_pictures(comparison)), list(method_parts(comparison))
    drawn = len(overview) + sum(len(part.pictures) for part in parts)
    advance = progress_bar("pictures", drawn, shown=progress)
    page = environment().get_template("comparison.html.j2")
    columns = shown_columns(comparison)
    any_fit = next(iter(comparison.fits.values()), None)
    html = page.render(
        svg=drawing(advance),
        names=comparison.dataset.feature_names,
        title=f"{components_words(comparison.model.n_components)} fitted in "
        f"{count(len(table), 'way')}",
        comparison=comparison,
        facts=data_words(comparison),
        verdict=status,
        badge_of=f"{leading}: " if leading else "",
        answer=" ".join(comparison_answer(comparison)),
        table=table.reset_index().to_dict("records"),
        columns=columns,
        best={column.name: best_values(comparison, column) for column in columns},
        overview=overview,
        parts=parts,
        priors=comparison_priors(comparison),
        versions=any_fit.versions if any_fit else {},
        call=comparison_call(comparison),
    )
    write_whole(target, html.encode())
    return target


@cache
def environment() -> jinja2.Environment:
    """Templates, compiled once, with the filters and names that they use.

    They are given ``names``, of features, and ``svg``, see `drawing`.
    """
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("stangmm.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["named"] = _with_names
    made.filters["number"] = number
    made.filters["fixed"] = fixed
    made.filters["method"] = method_words
    made.globals.update(badges=_BADGES, color=color)
    return made


def drawing(
    advance: Callable[[int], None] = lambda drawn: None,
) -> Callable[[Picture, str], Markup]:
    """What draws a picture for a template; each that is drawn is told."""

    def svg(picture: Picture, prefix: str) -> Markup:
        with _collector_waiting():
            drawn = plots.inline_svg(picture.draw(), picture.alt, prefix)
        advance(1)
        return Markup(drawn)  # noqa: S704 (an XML writer has escaped all text in it)

    return svg


@jinja2.pass_context
def _with_names(context: jinja2.runtime.Context, text: str) -> Markup:
    """A text in which names of features are not broken, or long ones only between their parts."""
    longest_first = sorted(filter(str.strip, context["names"]), key=len, reverse=True)
    known = "|".join(map(re.escape, longest_first))
    pieces = re.split(rf"(?<!\w)({known})(?!\w)", text) if known else [text]
    marked = Markup("")
    for place, piece in enumerate(pieces):
        if place % 2:
            long = len(piece) > _SHORT
            parts = Markup("<wbr>").join(re.split(r"(?<=[_./])", piece) if long else [piece])
            whole = len(piece) <= _UNBROKEN
            marked += Markup('<span class="name">{}</span>').format(parts) if whole else parts
        else:
            marked += escape(piece)
    return marked


@contextmanager
def _collector_waiting() -> Iterator[None]:
    """Have no garbage collected meanwhile.

    A figure is tens of thousands of objects that refer to each other. Collected while it is drawn,
    they are taken for long-lived, and then all objects of the process are looked through again and
    again, a seventh of a report's time. Afterwards they are all young, and go at once.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
