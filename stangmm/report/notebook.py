"""How objects show themselves in a notebook: small HTML in the notebook's own colours."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from stangmm.judge.candidates import components_of, type_of
from stangmm.judge.diagnostics import diagnose
from stangmm.model.spec import MixtureSpec
from stangmm.plots.shown import Compared, ModelsCompared, Selected
from stangmm.posterior.fitted import Fitted
from stangmm.report.comparison_tables import shown_columns
from stangmm.report.numbers import count, fixed
from stangmm.report.pages import drawing, environment
from stangmm.report.pictures import components_picture, density_picture
from stangmm.report.words import (
    comparison_answer,
    components_words,
    data_words,
    listed,
    method_words,
    modes_words,
    solutions_of,
)

_WHOLE = ("n_parameters", "bad_k", "smallest_rows")  # numbers of a selection without decimals
_SHARES = ("probability", "probability_se")
_MOST_FEATURES = 4  # whose means and scales are listed


def model_html(model: MixtureSpec) -> str:
    """Number of components, covariances and priors of a model."""
    given = {f.name: getattr(model.priors, f.name) for f in fields(model.priors)}
    resolution = given.pop("resolution")
    default = "default, scaled by the data"
    return _rendered(
        "model",
        components=count(model.n_components, "component"),
        covariance_type=model.covariance_type,
        priors={
            **{f"prior of the {name}": (prior, default) for name, prior in given.items()},
            "resolution of the data": (resolution, "as the data show"),
        },
    )


def fit_html(fit: Fitted) -> str:
    """Picture, components, verdict and open checks of a fit."""
    diagnosis = diagnose(fit)
    solutions, modes = solutions_of(fit)
    # Of several features, density_picture would be three times the size, or many panels.
    draw = density_picture if fit.dataset.n_features == 1 else components_picture
    return _rendered(
        "fit",
        title=f"{components_words(fit.model.n_components)} fitted by {method_words(fit.method)}",
        verdict=diagnosis.verdict,
        facts=data_words(fit),
        seconds=fit.seconds,
        divided=modes_words(modes) if modes > 1 else "",
        solutions=[(each.title, each.components, draw(each.fit)) for each in solutions],
        # Ids must differ between the outputs of a notebook, and stay when it is run again.
        prefix=f"stangmm-{zlib.crc32(fit.weights.tobytes() + fit.means.tobytes()):08x}",
        intervals=fit.kind != "point",
        n_features=fit.dataset.n_features,
        most=_MOST_FEATURES,
        checks=[check for check in diagnosis if check.verdict != "ok"],
    )


def comparison_html(comparison: Compared) -> str:
    """Table of a comparison, what follows from it, and what the checks said."""
    table = comparison.table
    columns = shown_columns(comparison)
    k = components_words(comparison.model.n_components)
    return _rendered(
        "comparison",
        title=f"{k} fitted in {count(len(table), 'way')}",
        facts=data_words(comparison),
        head="Method",
        columns={column.name: column.title for column in columns},
        table=_texts(table, {column.name: column.text for column in columns}),
        reference=comparison.reference,
        answer=" ".join(comparison_answer(comparison)),
    )


def models_html(comparison: ModelsCompared) -> str:
    """Table of compared models, and what the checks said."""
    table = comparison.table
    decimals = {"n_parameters": 0, "bad_k": 0, "weight": 2, "log_likelihood": 2}
    columns = [
        str(c) for c in table if c not in ("kind", "status", "note") and table[c].notna().any()
    ]
    data = comparison.dataset
    return _rendered(
        "comparison",
        title=f"{count(len(table), 'fit')} of one data set, the best first",
        facts=f"{data.n_rows:,} rows, {count(data.n_features, 'feature')} "
        f"({listed(data.feature_names)}); seed {comparison.seed}",
        head="Model",
        columns={c: c.replace("_", " ") for c in columns},
        table=_texts(
            table.rename_axis("method"),
            {c: partial(fixed, decimals=decimals.get(c, 1)) for c in columns},
        ),
        reference=table.index[0],
        answer="",
    )


def selection_html(selection: Selected) -> str:
    """The choice, why, and the table of a selection."""
    table = selection.table.dropna(axis="columns", how="all")
    columns = [name for name in table.columns if name not in ("chosen", "status", "note")]
    decimals = {name: 0 if name in _WHOLE else 2 for name in columns}
    decimals |= {name: 3 for name in columns if name in _SHARES}
    written = {name: partial(fixed, decimals=digits) for name, digits in decimals.items()}
    rule = selection.rule
    chosen = components_words(components_of(selection.chosen))
    covariance_type = type_of(selection.chosen)
    return _rendered(
        "selection",
        title=f"{chosen}{f' ({covariance_type})' if covariance_type else ''} by "
        f"{rule.label.replace('_', ' ')} ({rule.direction})",
        why=selection.why,
        columns=columns,
        table=_texts(table, written),
        over_types=bool(covariance_type),
    )


def _texts(table: Any, written: Mapping[str, Callable[[float], str]]) -> list[dict[str, Any]]:
    """Rows of a table, their numbers written; what does not apply is a dash."""
    numbers = table.astype(dict.fromkeys(written, float)).reset_index()
    rows: list[dict[str, Any]] = numbers.to_dict("records")
    for row in rows:
        row.update({name: text(row[name]) for name, text in written.items()})
    return rows


def _rendered(template: str, **values: Any) -> str:
    return (
        environment().get_template(f"notebook/{template}.html.j2").render(svg=drawing(), **values)
    )
