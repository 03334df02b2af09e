"""What the reports say in words: the answer, the advice, and how numbers are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stangmm.diagnostics import Verdict
from stangmm.report.numbers import count, number, percent
from stangmm.report.tables import component_rows
from stangmm.thresholds import MEANS_APART, SAME_CLUSTERS, TOO_SURE

if TYPE_CHECKING:
    import pandas as pd

    from stangmm.comparison import Comparison
    from stangmm.fit import Fit

_METHODS = {
    "em": "EM",
    "optimize": "optimization",
    "advi": "ADVI",
    "nuts": "NUTS",
    "pathfinder": "Pathfinder",
    "laplace": "the Laplace approximation",
}


def components_words(k: int) -> str:
    """How many components, to begin a sentence."""
    return count(k, "component").capitalize()


def method_words(name: str) -> str:
    """Name of a method as it is written in a sentence."""
    return _METHODS.get(name, name)


def data_words(of: Fit | Comparison) -> str:
    """The data, the covariance type and the seed in a line."""
    data = of.dataset
    weighted = "" if data.sample_weight is None else f", total weight {data.total_weight:g}"
    if data.incomplete:
        weighted += f", {int(np.isnan(data.x).sum()):,} values missing and integrated out"
    if data.labels is not None:
        weighted += f", {int((data.labels >= 0).sum()):,} rows of known component"
    return (
        f"{data.n_observations:,} rows, {data.n_features} "
        f"{'feature' if data.n_features == 1 else 'features'} ({listed(data.feature_names)})"
        f'{weighted}; covariance type "{of.model.covariance_type}"; seed {of.seed}'
    )


def listed(names: tuple[str, ...], most: int = 6) -> str:
    """Write names in a row, the first six if there are many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def fit_answer(fit: Fit, verdict: Verdict) -> Iterator[str]:
    """The sentences of a fit's answer: what was found, and whether it can be believed."""
    data, k = fit.dataset, fit.model.n_components
    verb = "describes" if k == 1 else "describe"
    features = listed(data.feature_names)
    yield f"{components_words(k)} {verb} {data.n_observations:,} rows of {features}."
    rows = sorted(component_rows(fit), key=lambda row: -row["weight"]["mean"])
    first = rows[0]
    where = ", ".join(
        f"{f['name']} {number(f['mean']['mean'], f['unit'])}" for f in first["features"][:3]
    )
    if k == 1:
        yield f"It lies around {where}."
    else:
        weight = first["weight"]
        interval = (
            f" (90% interval {percent(weight['low'])} to {percent(weight['high'])})"
            if fit.kind != "point"
            else ""
        )
        yield (
            f"The largest, component {first['k']}, holds {percent(weight['mean'])} of the data"
            f"{interval} and lies around {where}."
        )
        shares = [(row["k"], percent(row["weight"]["mean"])) for row in rows[1:4]]
        words = [f"Component {shares[0][0]} holds {shares[0][1]}"]
        words += [f"component {k} {share}" for k, share in shares[1:]]
        words += [f"each of the other {len(rows) - 4} less"] if len(rows) > 4 else []
        yield f"{', '.join(words)}."
    yield _verdict_words(fit, verdict)


def _verdict_words(fit: Fit, verdict: Verdict) -> str:
    open_checks = [check for check in fit.diagnose() if check.verdict != "ok"]
    names = ", ".join(check.name for check in open_checks)
    if verdict == "ok":
        return {
            "mcmc": "Every check was passed: estimates and intervals can be used as they stand.",
            "approximation": "Every check was passed. The draws come from an approximation of the "
            "posterior, so intervals can still be somewhat too narrow.",
            "point": "Every check was passed. This is one best estimate: it does not say how "
            "uncertain it is; NUTS does.",
        }[fit.kind]
    advice = " ".join(dict.fromkeys(check.advice for check in open_checks if check.advice))
    if verdict == "warn":
        return f"Use it with care, for not every check was passed ({names}). {advice}"
    return f"Do not rely on it as it stands: checks failed ({names}). {advice}"


def best_status(table: pd.DataFrame) -> str:
    """The best status that a method of the table has."""
    states = [str(s) for s in table["status"]]
    return next((s for s in ("ok", "warn", "fail") if s in states), "error")


def comparison_answer(comparison: Comparison) -> Iterator[str]:
    """The sentences of a comparison's answer: which method to use, and why."""
    table, reference = comparison.table, comparison.reference
    if comparison.failures:
        names = ", ".join(comparison.failures)
        yield f"{count(len(comparison.failures), 'method').capitalize()} did not run ({names})."
    if not comparison.fits:
        yield "There is nothing to compare; the reasons are in the table."
        return
    if reference is None:
        good = [label for label in comparison.fits if table.loc[label, "status"] == "ok"]
        yield (
            f"No method here draws from the posterior itself, so nothing says how far the others "
            f"are from it. {'Use ' + good[0] + ' for a first look' if good else 'None passed'}"
            f"{'' if good else ' every check'}, and add nuts before intervals are reported."
        )
        return
    status = str(table.loc[reference, "status"])
    seconds = comparison.fits[reference].seconds
    if status == "ok":
        yield (
            f"Use {reference}: it draws from the posterior itself, passed every check and took "
            f"{seconds:.2g} s; its intervals are the ones to report."
        )
    else:
        yield (
            f"{reference} is the reference, but it did not pass every check: settle this before "
            "anything is reported. What the checks said stands below the table."
        )
    alike = (table["agreement"] >= SAME_CLUSTERS) & (table["status"] == "ok")
    same = table[alike].sort_values("seconds")
    if len(same):
        label, row = str(same.index[0]), same.iloc[0]
        yield (
            f"For the clusters alone {label} does as well: {percent(row['agreement'])} of the "
            f"rows are in the same cluster, after {row['seconds']:.2g} s."
        )
    far = table[(table["distance"] > MEANS_APART) & (table.index != reference)]
    if len(far):
        by_how_much = ", ".join(
            f"{label} by {number(d)}" for label, d in far["distance"].to_dict().items()
        )
        yield (
            f"Estimates differ from the reference's posterior means by more than one posterior "
            f"standard deviation for {by_how_much}."
        )
    sure = table[table["sd_ratio"] < TOO_SURE]
    for name, ratio in sure["sd_ratio"].to_dict().items():
        yield (
            f"{name} is too sure: one of its posterior standard deviations is {percent(ratio)} of "
            "the reference's."
        )
