"""What the reports list: components, undecided rows, settings, the call that reproduces a fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.data.dataset import Dataset
from stangmm.plots.posteriors import DECIDED
from stangmm.plots.shown import Compared
from stangmm.posterior.fitted import Fitted, has_priors
from stangmm.posterior.summary import summary
from stangmm.predict.averages import responsibilities, thinned
from stangmm.report.numbers import number

if TYPE_CHECKING:
    import pandas as pd


_MOST_UNDECIDED = 10
_FEATURES_OF_ROWS = 5
# Draws over which rows are judged: where the picture shows every row as many as there, so that both
# count the same. The more rows, the narrower the posterior, and the fewer draws will do.
_DRAWS = (20, 200)
_ROWS_TIMES_DRAWS = 2e7


def component_rows(fit: Fitted, table: pd.DataFrame | None = None) -> Iterator[dict[str, Any]]:
    """Weight, means and scales of each component with intervals, from the summary's rows.

    Parameters
    ----------
    fit : Fit
    table : DataFrame, optional
        What ``fit.summary()`` gave, so that it is not computed again.
    """
    table = summary(fit) if table is None else table
    k, d = fit.model.n_components, fit.dataset.n_features
    means = fit.mixture.n_weights  # the first row of a mean
    bounds = ["mean", "q5", "q95"] if "q5" in table else ["mean"] * 3  # of a point: itself
    cells = [
        {"mean": float(m), "low": float(lo), "high": float(hi)}
        for m, lo, hi in table[bounds].to_numpy()
    ]
    for component in range(k):
        yield {
            "k": component,
            "weight": cells[component],
            "features": [
                {
                    "name": fit.dataset.feature_names[j],
                    "mean": cells[means + component * d + j],
                    "scale": cells[means + k * d + component * d + j],
                    "unit": float(fit.scales[component, j]),
                }
                for j in range(d)
            ],
        }


@dataclass(frozen=True)
class UndecidedRows:
    """Rows of which no component is sure.

    Attributes
    ----------
    asked : int
        Rows that count and whose component was not known.
    count : int
        Those of them that are undecided: no component has a probability of 0.9 or more.
    features : tuple of str
        Features that are listed, the first five.
    rows : list of dict
        The most undecided: number of the row, values, and the two likeliest components.
    """

    asked: int
    count: int
    features: tuple[str, ...]
    rows: list[dict[str, Any]]

    @property
    def share(self) -> float:
        """Share of the rows that are undecided."""
        return self.count / max(self.asked, 1)


def undecided_rows(fit: Fitted) -> UndecidedRows:
    """Count the undecided rows and list the most undecided ones."""
    data = fit.dataset
    asked = np.ones(data.n_observations, dtype=bool)
    if data.sample_weight is not None:
        asked &= data.sample_weight > 0
    if data.labels is not None:
        asked &= data.labels < 0
    numbers = np.flatnonzero(asked)
    draws = int(np.clip(_ROWS_TIMES_DRAWS / data.n_observations, *_DRAWS))
    probability = responsibilities(thinned(fit.mixture, draws), data.x[numbers])
    certainty = probability.max(axis=1)
    below = np.flatnonzero(certainty < DECIDED)
    worst = below[np.argsort(certainty[below], kind="stable")[:_MOST_UNDECIDED]]
    features = data.feature_names[:_FEATURES_OF_ROWS]
    rows = []
    for i in worst:
        first, second = np.argsort(-probability[i], kind="stable")[:2].tolist()
        values = data.x[numbers[i], : len(features)]
        units = fit.scales[min(first, fit.model.n_components - 1), : len(features)]
        rows.append({
            "row": int(numbers[i]),
            "values": [number(float(v), float(u)) for v, u in zip(values, units, strict=True)],
            "likeliest": [
                ("noise" if k == fit.model.n_components else k, float(probability[i, k]))
                for k in (first, second)
            ],
        })  # fmt: skip
    return UndecidedRows(len(numbers), len(below), features, rows)


def settings_words(settings: Any) -> dict[str, str]:
    """Name and value of each of a method's settings."""
    return {f.name: repr(getattr(settings, f.name)) for f in fields(settings)}


def priors_words(fit: Fitted) -> dict[str, str]:
    """Priors that were used; none for methods that maximize the likelihood."""
    if not has_priors(fit):
        return {}
    used = {f.name: getattr(fit.priors, f.name) for f in fields(fit.priors)}
    resolution = used.pop("resolution")
    del used["box"]
    if not fit.model.space(fit.dataset.n_features).n_correlations:
        used.pop("correlation", None)
    words = {name: _prior_words(prior) for name, prior in used.items()}
    return words | {"resolution": f"{_array_words(resolution)}: no component is narrower"}


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
    own = type(value).__module__.startswith("stangmm.")
    return f"{'sg.' * own}{type(value).__name__}({', '.join(changed)})"


def _default(field: Any) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def fit_call(fit: Fitted) -> str:
    """Python that makes the fit again, given the data."""
    given = _given(fit.dataset) + (", init=init" if fit.started_by_hand else "")
    return (
        "import stangmm as sg\n\n"
        f"model = {as_call(fit.model)}\n"
        f"fit = model.fit(X, method={as_call(fit.settings)}, seed={fit.seed}{given})"
        + ("\nfit = fit.combined()" if fit.combination is not None else "")
    )


def comparison_call(comparison: Compared) -> str:
    """Python that makes the comparison again, given the data; methods that failed are left out."""
    given, fits = _given(comparison.dataset), comparison.fits.values()
    calls = [
        as_call(fit.settings)
        if fit.seed == comparison.seed
        else f"model.fit(X, method={as_call(fit.settings)}, seed={fit.seed}{given})"
        for fit in fits
    ]
    methods = "".join(f"    {call},\n" for call in calls)
    init = ", init=init" if any(fit.started_by_hand for fit in fits) else ""
    return (
        "import stangmm as sg\n\n"
        f"model = {as_call(comparison.model)}\n"
        f"methods = [\n{methods}]\n"
        f"comparison = sg.compare(model, X, methods=methods, seed={comparison.seed}{given}{init})"
    )


def _given(dataset: Dataset) -> str:
    """Arguments beside X that the data need."""
    arrays = ("sample_weight", "labels")
    given = "".join(f", {a}={a}" for a in arrays if getattr(dataset, a) is not None)
    return given + (f", missing={dataset.missing!r}" if dataset.missing != "error" else "")
