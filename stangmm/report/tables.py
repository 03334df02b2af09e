"""What the reports list: components, settings, priors, and the call that gives the same again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.data import Dataset
from stangmm.draws import RestartInfo
from stangmm.report.numbers import number

if TYPE_CHECKING:
    from stangmm.comparison import Comparison
    from stangmm.fit import Fit


def component_rows(fit: Fit) -> Iterator[dict[str, Any]]:
    """Weight, means and scales of each component with intervals, from the summary's rows."""
    table, k, d = fit.summary(), fit.model.n_components, fit.dataset.n_features
    cells = [
        {"mean": float(m), "low": float(lo), "high": float(hi)}
        for m, lo, hi in zip(table["mean"], table["q5"], table["q95"], strict=True)
    ]
    for component in range(k):
        yield {
            "k": component,
            "weight": cells[component],
            "features": [
                {
                    "name": fit.dataset.feature_names[j],
                    "mean": cells[k + component * d + j],
                    "scale": cells[k + k * d + component * d + j],
                    "unit": float(fit.scales[component, j]),
                }
                for j in range(d)
            ],
        }


def settings_words(settings: Any) -> dict[str, str]:
    """Name and value of each of a method's settings."""
    return {f.name: repr(getattr(settings, f.name)) for f in fields(settings)}


def priors_words(fit: Fit) -> dict[str, str]:
    """Priors that were used; none for methods that maximize the likelihood."""
    if isinstance(fit.info, RestartInfo) and fit.info.objective == "log likelihood":
        return {}
    used = {f.name: getattr(fit.priors, f.name) for f in fields(fit.priors)}
    if fit.model.covariance_type not in ("full", "tied") or fit.dataset.n_features == 1:
        used.pop("correlation", None)
    return {name: _prior_words(prior) for name, prior in used.items()}


def _prior_words(prior: Any) -> str:
    parts = [f"{f.name} {_array_words(getattr(prior, f.name))}" for f in fields(prior)]
    return f"{type(prior).__name__}: {', '.join(parts)}"


def _array_words(value: Any) -> str:
    array = np.asarray(value, dtype=float)
    if array.size == 0 or (array == array.flat[0]).all():
        return number(float(array.flat[0])) if array.size else ""
    if array.ndim == 2 and (array == array[:1]).all():
        array = array[0]
    shown = ", ".join(number(float(v)) for v in array.ravel()[:6])
    return f"({shown}{', …' if array.size > 6 else ''})"


def as_call(value: Any) -> str:
    """Python that makes a settings object again; what has its default value is left out."""
    if not is_dataclass(value):
        return repr(value.tolist()) if isinstance(value, np.ndarray) else repr(value)
    changed = []
    for f in fields(value):
        given, default = getattr(value, f.name), _default(f)
        if type(given) is not type(default) or repr(given) != repr(default):
            changed.append(f"{f.name}={as_call(given)}")
    return f"sg.{type(value).__name__}({', '.join(changed)})"


def _default(field: Any) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def fit_call(fit: Fit) -> str:
    """Python that makes the fit again, given the data."""
    given = _given(fit.dataset) + (", init=init" if fit.started_by_hand else "")
    return (
        "import stangmm as sg\n\n"
        f"model = {as_call(fit.model)}\n"
        f"fit = model.fit(X, method={as_call(fit.settings)}, seed={fit.seed}{given})"
    )


def comparison_call(comparison: Comparison) -> str:
    """Python that makes the comparison again, given the data."""
    methods = ",\n    ".join(as_call(fit.settings) for fit in comparison.fits.values())
    return (
        "import stangmm as sg\n\n"
        f"model = {as_call(comparison.model)}\n"
        f"methods = [\n    {methods},\n]\n"
        f"comparison = sg.compare(model, X, methods=methods, seed={comparison.seed}"
        f"{_given(comparison.dataset)})"
    )


def _given(dataset: Dataset) -> str:
    """Arguments beside X that the data need."""
    arrays = ("sample_weight", "labels")
    given = "".join(f", {a}={a}" for a in arrays if getattr(dataset, a) is not None)
    return given + (f", missing={dataset.missing!r}" if dataset.missing != "error" else "")
