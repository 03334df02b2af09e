"""Reports of a fit or a comparison: one HTML file each. Computes nothing, only asks and lays out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.diagnostics import Verdict
from stangmm.draws import McmcInfo, RestartInfo, VariationalInfo
from stangmm.errors import ModelError

if TYPE_CHECKING:
    import jinja2
    import pandas as pd
    from matplotlib.axes import Axes

    from stangmm.comparison import Comparison
    from stangmm.fit import Fit

_BADGES: dict[str, tuple[str, str]] = {
    "ok": ("✓", "passed every check"),
    "warn": ("!", "use with care"),
    "fail": ("✕", "do not rely on it"),
    "error": ("✕", "did not run"),
}
_METHODS = {"em": "EM", "optimize": "optimization", "advi": "ADVI", "nuts": "NUTS"}
_NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split()
_SAME_CLUSTERS = 0.98  # share of rows; from here on a method "gives the same clusters" in words


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes
    ----------
    title : str
    draw : callable
        Gives the Axes.
    alt : str
        What is seen, for those who do not see it.
    caption : str
        What it means and how to read it.
    """

    title: str
    draw: Callable[[], Axes]
    alt: str
    caption: str


def fit_report(fit: Fit, path: str | os.PathLike[str]) -> Path:
    """Write the report of one fit.

    Parameters
    ----------
    fit : Fit
    path : path
        The HTML file; one that is there is replaced at once, when the new one is complete.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ModelError
        The folder does not exist, or the path is a folder.
    """
    target = _checked_path(path)
    diagnosis = fit.diagnose()
    page = _environment().get_template("fit.html.j2")
    html = page.render(
        title=f"{_components(fit.model.n_components)} fitted by {_method(fit.method)}",
        fit=fit,
        facts=_data_words(fit),
        verdict=diagnosis.verdict,
        answer=" ".join(_fit_answer(fit, diagnosis.verdict)),
        mixture=[_density_picture(fit)],
        components=list(_component_rows(fit)),
        intervals=fit.kind != "point",
        checks=list(diagnosis),
        runs=list(_run_pictures(fit)),
        parameters=fit.summary(),
        call=_call(fit),
        settings=_settings(fit.settings),
        priors=_priors(fit),
    )
    return _write(target, html)


def comparison_report(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write the report of a comparison.

    Parameters
    ----------
    comparison : Comparison
    path : path
        The HTML file; one that is there is replaced at once, when the new one is complete.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ModelError
        The folder does not exist, or the path is a folder.
    """
    target = _checked_path(path)
    table = comparison.table
    reference = comparison.reference
    status = str(table.loc[reference, "status"]) if reference else _best_status(table)
    page = _environment().get_template("comparison.html.j2")
    any_fit = next(iter(comparison.fits.values()), None)
    html = page.render(
        title=f"{_components(comparison.model.n_components)} fitted in {_count(len(table), 'way')}",
        comparison=comparison,
        facts=_data_words(comparison),
        verdict=status,
        answer=" ".join(_comparison_answer(comparison)),
        table=table.reset_index().to_dict("records"),
        overview=list(_comparison_pictures(comparison)),
        parts=list(_parts_pictures(comparison)),
        versions=any_fit.versions if any_fit else {},
        call=_comparison_call(comparison),
    )
    return _write(target, html)


# --- words ---------------------------------------------------------------------------------------


def _count(n: int, noun: str) -> str:
    word = _NUMBERS[n] if n < len(_NUMBERS) else f"{n:,}"
    return f"{word} {noun}{'' if n == 1 else 's'}"


def _components(k: int) -> str:
    return _count(k, "component").capitalize()


def _method(name: str) -> str:
    return _METHODS.get(name, name)


def _data_words(of: Fit | Comparison) -> str:
    data = of.dataset
    weighted = "" if data.sample_weight is None else f", total weight {data.total_weight:g}"
    return (
        f"{data.n_observations:,} rows, {data.n_features} "
        f"{'feature' if data.n_features == 1 else 'features'} ({_listed(data.feature_names)})"
        f'{weighted}; covariance type "{of.model.covariance_type}"; seed {of.seed}'
    )


def _listed(names: tuple[str, ...], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def number(value: float, scale: float = 0.0) -> str:
    """Write a number with three digits below its leading one, or as its scale asks.

    Parameters
    ----------
    scale : float
        A typical size of differences of such numbers; 0 takes the number's own.
    """
    if not np.isfinite(value):
        return "–" if np.isnan(value) else "∞" if value > 0 else "−∞"
    size = scale if scale > 0 and np.isfinite(scale) else abs(value)
    if size == 0:
        return "0"
    order = int(np.floor(np.log10(size)))
    if -4 <= order <= 5 and abs(value) < 1e9:
        text = f"{value:,.{min(max(2 - order, 0), 6)}f}"
    else:
        digits = 3 + max(0, int(np.floor(np.log10(max(abs(value), size) / size))))
        text = f"{value:.{digits}g}"
    return text.replace("-", "−")


def _fixed(value: float, decimals: int) -> str:
    """Write a number with so many decimals; what does not apply is a dash."""
    return f"{value:,.{decimals}f}".replace("-", "−") if np.isfinite(value) else "–"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share < 0.1 else f"{100 * share:.0f}%"


def _fit_answer(fit: Fit, verdict: Verdict) -> Iterator[str]:
    data, k = fit.dataset, fit.model.n_components
    verb = "describes" if k == 1 else "describe"
    yield f"{_components(k)} {verb} {data.n_observations:,} rows of {_listed(data.feature_names)}."
    rows = sorted(_component_rows(fit), key=lambda row: -row["weight"]["mean"])
    first = rows[0]
    where = ", ".join(
        f"{f['name']} {number(f['mean']['mean'], f['unit'])}" for f in first["features"][:3]
    )
    if k == 1:
        yield f"It lies around {where}."
    else:
        weight = first["weight"]
        interval = (
            f" (90% interval {_percent(weight['low'])} to {_percent(weight['high'])})"
            if fit.kind != "point"
            else ""
        )
        yield (
            f"The largest, component {first['k']}, holds {_percent(weight['mean'])} of the data"
            f"{interval} and lies around {where}."
        )
        shares = [(row["k"], _percent(row["weight"]["mean"])) for row in rows[1:4]]
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


def _best_status(table: pd.DataFrame) -> str:
    states = [str(s) for s in table["status"]]
    return next((s for s in ("ok", "warn", "fail") if s in states), "error")


def _comparison_answer(comparison: Comparison) -> Iterator[str]:
    table, reference = comparison.table, comparison.reference
    if comparison.failures:
        names = ", ".join(comparison.failures)
        yield f"{_count(len(comparison.failures), 'method').capitalize()} did not run ({names})."
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
    seconds = number(float(table.loc[reference, "seconds"]))
    if status == "ok":
        yield (
            f"Use {reference}: it draws from the posterior itself, passed every check and took "
            f"{seconds} s; its intervals are the ones to report."
        )
    else:
        yield (
            f"{reference} is the reference, but it did not pass every check: settle this before "
            f"anything is reported. {table.loc[reference, 'note']}"
        )
    same = table[(table["agreement"] >= _SAME_CLUSTERS)].sort_values("seconds")
    if len(same):
        label, row = same.index[0], same.iloc[0]
        yield (
            f"For the clusters alone {label} does as well: {_percent(row['agreement'])} of the "
            f"rows are in the same cluster, after {number(row['seconds'])} s."
        )
    far = table[(table["distance"] > 1.0) & (table.index != reference)]
    if len(far):
        listed = ", ".join(f"{label} by {number(d)}" for label, d in far["distance"].items())
        yield (
            f"Estimates differ from the reference's posterior means by more than one posterior "
            f"standard deviation for {listed}."
        )


# --- tables --------------------------------------------------------------------------------------


def _component_rows(fit: Fit) -> Iterator[dict[str, Any]]:
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


def _settings(settings: Any) -> dict[str, str]:
    return {f.name: repr(getattr(settings, f.name)) for f in fields(settings)}


def _priors(fit: Fit) -> dict[str, str]:
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


# --- the call that gives the same again -----------------------------------------------------------


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


def _call(fit: Fit) -> str:
    weight = "" if fit.dataset.sample_weight is None else ", sample_weight=sample_weight"
    return (
        "import stangmm as sg\n\n"
        f"model = {as_call(fit.model)}\n"
        f"fit = model.fit(X, method={as_call(fit.settings)}, seed={fit.seed}{weight})"
    )


def _comparison_call(comparison: Comparison) -> str:
    weight = "" if comparison.dataset.sample_weight is None else ", sample_weight=sample_weight"
    methods = ",\n    ".join(as_call(fit.settings) for fit in comparison.fits.values())
    return (
        "import stangmm as sg\n\n"
        f"model = {as_call(comparison.model)}\n"
        f"methods = [\n    {methods},\n]\n"
        f"comparison = sg.compare(model, X, methods=methods, seed={comparison.seed}{weight})"
    )


# --- pictures ------------------------------------------------------------------------------------


def _density_picture(fit: Fit, title: str = "The mixture and the data") -> Picture:
    from stangmm import plots

    d, k = fit.dataset.n_features, fit.model.n_components
    names = _listed(fit.dataset.feature_names)
    draws = fit.kind != "point"
    if d == 1:
        alt = f"Histogram of {names} with the density of {_count(k, 'component')} together" + (
            " and its 90% band." if draws else "."
        )
        caption = "Bars: the data. Black line: the density of the mixture. " + (
            "Coloured lines: what each component adds to it." if k > 1 else ""
        )
        if draws:
            caption += " Grey band: where the density lies with 90% probability at each point."
    else:
        alt = f"Scatter of {names}, rows coloured by component, with an ellipse for each of " + (
            f"{_count(k, 'component')}."
        )
        caption = (
            "Each row has the colour of its likeliest component, paler where that is uncertain. "
            "Ellipses hold 50% and 95% of a component; grey shades 50%, 80% and 95% of the "
            "mixture."
        )
        if draws:
            caption += " Thin ellipses are single draws: how far they scatter is the uncertainty."
    return Picture(title, lambda: plots.density(fit), alt, caption)


def _components_picture(fit: Fit) -> Picture:
    from stangmm import plots

    return Picture(
        f"The components, by {_method(fit.method)}",
        lambda: plots.components(fit),
        f"The {_count(fit.model.n_components, 'component')} apart, each labelled with its weight.",
        "Each component alone, at its weight: the number is the share of the data that it holds. "
        "Rows have the colour of their likeliest component.",
    )


def _run_pictures(fit: Fit) -> Iterator[Picture]:
    """Pictures of what the method did, by what it is."""
    from stangmm import plots

    info = fit.info
    if isinstance(info, McmcInfo):
        chains, draws = fit.lp.shape
        yield Picture(
            "The chains",
            lambda: plots.trace(fit),
            f"Traces of {chains} chains of {draws:,} draws for weights, means, scales and the log "
            "joint density, with the density that each chain gives beside them.",
            "Each chain should look like the next: the same level, the same width, no drift. At "
            "the right the chains' densities should lie on each other.",
        )
    elif isinstance(info, VariationalInfo):
        yield Picture(
            "The evidence lower bound",
            lambda: plots.elbo(fit),
            f"The ELBO over {number(float(info.elbo_iterations[-1])) if len(info.elbo) else 0} "
            f"iterations; it {'converged' if info.converged else 'did not converge'}.",
            "The bound that the approximation raises. It should have levelled off; the remaining "
            "jumps are Monte Carlo noise of the estimate. A flat end says that the approximation "
            "is as good as its family allows, not that it is good: the k-hat check says that.",
        )
    else:
        yield _components_picture(fit)
        collapsed = int(info.collapsed.sum())
        yield Picture(
            "The restarts",
            lambda: plots.em_path(fit),
            f"The {info.objective} of {len(info.values)} restarts; {info.best.restarts} reached "
            f"the best optimum and {collapsed} collapsed.",
            f"Every start climbs to one of {_count(len(info.optima), 'optimum').replace('optimums', 'optima')}. "
            "The more starts reach the best one, the safer it is that none better exists. A "
            "collapsed restart has a component on a few rows; its likelihood has no meaning.",
        )


def _comparison_pictures(comparison: Comparison) -> Iterator[Picture]:
    from stangmm import plots

    if not comparison.fits:
        return
    many = _count(len(comparison.fits), "method")
    one = comparison.dataset.n_features == 1
    band = ", the reference's with its 90% band" if comparison.reference else ""
    yield Picture(
        "The densities",
        lambda: plots.densities(comparison),
        f"The data with the mixture densities by {many}"
        + (f", in one picture{band}." if one else ", a panel for each."),
        "Where the lines leave the reference's band, a method says something else about the data "
        "than the posterior does."
        if one
        else "The same data and the same model in each panel: ellipses hold 50% and 95% of a "
        "component, thin ones are single draws.",
    )
    yield Picture(
        "The estimates",
        lambda: plots.estimates(comparison),
        f"Weights, means and scales of each component by {many}, with 90% intervals.",
        "Each component in its row, each method with its marker. Lines are 90% intervals; point "
        "estimates have none.",
    )


def _parts_pictures(comparison: Comparison) -> Iterator[Picture]:
    """What each method did, in the order of the fits; each kind of picture once."""
    seen: set[type] = set()
    for label, fit in comparison.fits.items():
        if type(fit.info) in seen:
            continue
        seen.add(type(fit.info))
        words = {
            RestartInfo: f"The data with the mixture density, by {label}",
            VariationalInfo: f"The variational density, by {label}",
            McmcInfo: f"The density with its uncertainty band, by {label}",
        }
        density = _density_picture(fit, words[type(fit.info)])
        if isinstance(fit.info, RestartInfo):
            yield density
            yield from _run_pictures(fit)
        else:
            yield from _run_pictures(fit)
            yield density


# --- the page ------------------------------------------------------------------------------------


def _environment() -> jinja2.Environment:
    import jinja2
    from markupsafe import Markup

    from stangmm import plots
    from stangmm.plots.style import color

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stangmm", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def svg(picture: Picture, prefix: str) -> Markup:
        drawn = plots.inline_svg(picture.draw(), picture.alt, prefix)
        return Markup(drawn)  # noqa: S704 (an XML writer has escaped all text in it)

    environment.filters["number"] = number
    environment.filters["fixed"] = _fixed
    environment.filters["method"] = _method
    environment.globals.update(svg=svg, badges=_BADGES, color=color)
    return environment


def _checked_path(path: str | os.PathLike[str]) -> Path:
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise ModelError(
            f"The folder {str(target.parent)!r} for the report does not exist. Create it, or give "
            "another path."
        )
    if target.is_dir():
        raise ModelError(
            f"{str(target)!r} is a folder. Give the path of a file, such as "
            f"{str(target / 'report.html')!r}."
        )
    return target


def _write(target: Path, html: str) -> Path:
    """Write beside the target and rename, so that no one ever sees half a report."""
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_text(html, encoding="utf-8")
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target
