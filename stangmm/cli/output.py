"""What the commands print: tables and words for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.report.numbers import number
from stangmm.report.tables import component_rows
from stangmm.report.words import (
    comparison_answer,
    components_words,
    data_words,
    method_words,
    noise_words,
)

if TYPE_CHECKING:
    from stangmm.fit import Fit
    from stangmm.many.choice import Selection
    from stangmm.many.comparison import Comparison


def fit_text(fit: Fit) -> str:
    """A fit in lines: what was fitted, the components, the verdict."""
    diagnosis = fit.diagnose()
    open_checks = ", ".join(check.name for check in diagnosis if check.verdict != "ok")
    k = components_words(fit.model.n_components)
    lines = [
        f"{k} fitted by {method_words(fit.method)} in {fit.seconds:.2f} s",
        *_wrapped(data_words(fit)),
        "",
        *_components(fit),
        *([noise_words(fit)] if fit.model.noise else []),
        "",
        f"log likelihood {fit.total_log_likelihood.mean():.4f}"
        + ("" if fit.kind == "point" else ", averaged over the draws"),
        f"verdict: {diagnosis.verdict}" + (f" ({open_checks})" if open_checks else ""),
    ]
    return printable("\n".join(lines))


def comparison_text(comparison: Comparison) -> str:
    """A comparison in lines: the table, and what follows from it."""
    answer = _wrapped(" ".join(comparison_answer(comparison)))
    return printable("\n".join([repr(comparison), "", *answer]))


def selection_text(selection: Selection) -> str:
    """A selection in lines: the choice, why, and the table."""
    choice, why, table = repr(selection).split("\n", 2)
    lines = [choice, *_wrapped(why), "", table]
    if selection.criterion == "evidence":
        lines += ["", repr(selection.posterior())]
    return printable("\n".join(lines))


def fit_values(fit: Fit) -> dict[str, Any]:
    """A fit as plain values: estimates, criteria and every check."""
    diagnosis = fit.diagnose()
    return {
        "method": fit.method,
        "kind": fit.kind,
        "n_components": fit.model.n_components,
        "covariance_type": fit.model.covariance_type,
        "noise": fit.model.noise,
        "features": fit.dataset.feature_names,
        "n_observations": fit.dataset.n_rows,
        "seed": fit.seed,
        "seconds": fit.seconds,
        "weights": fit.weights,
        "noise_weight": fit.noise_weight,
        "means": fit.means,
        "covariances": fit.covariances,
        "log_likelihood": fit.total_log_likelihood.mean(),
        "aic": fit.aic(),
        "bic": fit.bic(),
        "icl": fit.icl(),
        "summary": fit.summary().to_dict("index"),
        "verdict": diagnosis.verdict,
        "checks": [asdict(check) for check in diagnosis],
        "versions": fit.versions,
    }


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain values: its table, its fits, and what follows from them."""
    return {
        "reference": comparison.reference,
        "answer": " ".join(comparison_answer(comparison)),
        "seed": comparison.seed,
        "table": comparison.table.reset_index().to_dict("records"),
        "fits": {label: fit_values(fit) for label, fit in comparison.fits.items()},
    }


def selection_values(selection: Selection) -> dict[str, Any]:
    """A selection as plain values: the choice, its reasons, its table, and the chosen fit.

    By the evidence, the posterior of the number of components, too, of equally probable models.
    """
    by_evidence = selection.criterion == "evidence"
    of_number = selection.posterior().by_components.reset_index() if by_evidence else None
    return {
        "n_components": selection.n_components,
        "covariance_type": selection.covariance_type,
        "criterion": selection.criterion,
        "better": selection.table.attrs["better"],
        "why": selection.why,
        "seed": selection.seed,
        "table": selection.table.reset_index().to_dict("records"),
        "posterior": None if of_number is None else of_number.to_dict("records"),
        "best": fit_values(selection.best),
    }


def as_json(values: Mapping[str, Any]) -> str:
    """Write JSON that every reader takes: what is no finite number is null."""
    return json.dumps(_plain(values), indent=2, allow_nan=False)


def printable(text: str) -> str:
    """Write what a terminal would obey, such as a name that moves its cursor, as an escape."""
    return "".join(
        c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, str | int | None) else None  # pandas' NA


def _components(fit: Fit) -> list[str]:
    """The table of the components; a scale is a standard deviation."""
    point = fit.kind == "point"
    within = [] if point else ["90% interval"]
    rows = [["component", "weight", *within, "feature", "mean", *within, "scale", *within]]
    for row in component_rows(fit):
        for j, feature in enumerate(row["features"]):
            unit = feature["unit"]
            first = [str(row["k"]), *_cells(row["weight"], 0.1, point)] if j == 0 else []
            rows.append([
                *(first or [""] * (2 + len(within))),
                " ".join(feature["name"].split()),
                *_cells(feature["mean"], unit, point),
                *_cells(feature["scale"], unit, point),
            ])  # fmt: skip
    return _aligned(rows, left={rows[0].index("feature")})


def _cells(cell: Mapping[str, float], scale: float, point: bool) -> list[str]:
    mean, low, high = (
        number(cell[key], scale).replace("−", "-") for key in ("mean", "low", "high")
    )
    return [mean] if point else [mean, f"{low} to {high}"]


def _aligned(rows: Sequence[Sequence[str]], left: set[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if j in left else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _wrapped(text: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, 100)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
