"""The pictures and numbers of the pages, made by the package: EM, ADVI and NUTS on the galaxies.

`conf.py` calls `build` and `facts`; the pages take in what they leave in ``out/docs-parts``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import stamps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import stangmm as sg
from stangmm import cli
from stangmm.base import thresholds
from stangmm.judge.allocations import SEARCHED
from stangmm.plots import estimates, layers
from stangmm.plots.style import INK, METHODS, MUTED, color, legend_below, new_axes, styled, tidy

FOLDER = stamps.PARTS / "pictures"
BENCHMARKS = stamps.ROOT / "benchmarks" / "README.md"
MODEL = sg.GaussianMixture(3, "diag")

# Three starts of EM that end in three maxima, and one that leads nowhere.
STARTS = {"best": [[15], [20], [25]], "second": [[10], [20], [23]], "third": [[19], [20], [23]]}
STEPS = (1, 5, 20)
# What k-hat means, by whether it is below the threshold: the page follows its own number.
K_HAT_WORDS = {
    True: "That is below the threshold: `fit.resample()` gives corrected draws.",
    False: "That is not below the threshold: `fit.resample()` refuses to correct the draws.",
}
VIEW = (7.5, 36.0)


class Fits:
    """What the pictures show: one model, one data set, all methods; each fit made once."""

    @cached_property
    def data(self) -> Any:
        """The galaxies, in 1000 km/s."""
        return sg.datasets.galaxies()

    @cached_property
    def all_methods(self) -> sg.Comparison:
        """Every method at its defaults."""
        methods = ["em", "optimize", "advi", "nuts"]
        return sg.compare(MODEL, self.data, methods=methods, seed=1, progress=False)

    @cached_property
    def maxima(self) -> dict[str, sg.Fit]:
        """EM from each of the starts."""
        return {name: self.em_from(start) for name, start in STARTS.items()}

    @cached_property
    def fine_elbo(self) -> sg.Fit:
        """ADVI that looks at its ELBO often, so that the picture has more than three points."""
        settings = sg.ADVI(evaluate_every=20, tolerance=0.1)
        return MODEL.fit(self.data, settings, seed=1, progress=False)

    def em_from(self, start: list[list[int]], iterations: int = 1000) -> sg.Fit:
        """EM from means given by hand, stopped after so many iterations."""
        settings = sg.EM(max_iterations=iterations)
        return MODEL.fit(self.data, settings, init=start, seed=1, progress=False)


@styled
def em_steps(fits: Fits) -> Figure:
    """The mixture after some iterations of EM, and at its end."""
    last = len(fits.maxima["best"].info.paths[0])
    fig = new_axes(4.6).figure
    fig.clear()
    for i, (ax, steps) in enumerate(
        zip(fig.subplots(2, 2, sharex=True, sharey=True).flat, (*STEPS, last), strict=True)
    ):
        fit = fits.em_from(STARTS["best"], steps)
        _mixture(ax, fit, VIEW)
        times = "once" if steps == 1 else f"{steps} times"
        ax.set_title(f"{times}: log likelihood {fit.total_log_likelihood.item():.2f}", loc="left")
        if i == 2:
            ax.set_xlabel("velocity (1000 km/s)")
    return fig


@styled
def em_maxima(fits: Fits) -> Figure:
    """Three maxima of one likelihood."""
    fig = new_axes(4.9).figure
    fig.clear()
    axes = fig.subplots(3, 1, sharex=True, sharey=True)
    for ax, (name, fit) in zip(axes, fits.maxima.items(), strict=True):
        _mixture(ax, fit, VIEW)
        start = ", ".join(str(mean) for (mean,) in STARTS[name])
        value = fit.total_log_likelihood.item()
        ax.set_title(f"start at {start}: log likelihood {value:.2f}", loc="left")
    axes[-1].set_xlabel("velocity (1000 km/s)")
    return fig


def _mixture(ax: Axes, fit: sg.Fit, view: tuple[float, float]) -> None:
    """Histogram, components and their sum."""
    tallest = layers.histogram(ax, fit.dataset.x[:, 0], None)
    points = np.linspace(*view, 400)
    curves = layers.component_curves(fit.mixture, points)
    for k, curve in enumerate(curves):
        ax.fill_between(points, curve, color=color(k), alpha=0.3, linewidth=0)
        ax.plot(points, curve, color=color(k), linewidth=1.6)
    ax.plot(points, curves.sum(axis=0), color=INK, linewidth=1.1)
    ax.set_xlim(view)
    ax.set_ylim(0, 1.25 * tallest)
    ax.set_yticks([])
    tidy(ax, left=False)


@styled
def third_component(fits: Fits) -> Axes:
    """The mean and the scale of component 2: draws of two methods, and EM's three maxima."""
    ax = new_axes(3.9)
    for name, shade, shape, label in (
        ("nuts", MUTED, "o", "NUTS: draws from the posterior"),
        ("advi", METHODS[2], "s", "ADVI: draws from the approximation"),
    ):
        some = layers.thinned(fits.all_methods.fits[name].mixture, 700)
        ax.scatter(
            some.means[:, 2, 0], some.scales[:, 2, 0], s=9, marker=shape, color=shade,
            alpha=0.45, linewidths=0, rasterized=True, label=label,
        )  # fmt: skip
    for i, fit in enumerate(fits.maxima.values()):
        k = _broad(fit)
        ax.plot(
            fit.means[k, 0], fit.scales[k, 0], "*", color=METHODS[0], markersize=15,
            markeredgecolor="white", label="EM: maxima of the likelihood" if i == 0 else None,
        )  # fmt: skip
    ax.set_yscale("log")
    ax.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    ax.minorticks_off()
    ax.set_xlabel("mean of component 2 (1000 km/s)")
    ax.set_ylabel("its scale (1000 km/s)")
    tidy(ax)
    for handle in legend_below(ax, columns=1).legend_handles[:2]:
        handle.set(alpha=1.0, sizes=[36])
    return ax


def all_estimates(fits: Fits) -> Axes:
    """The estimates of every method, with short names on the axes."""
    ax = estimates(fits.all_methods)
    for panel in ax.child_axes:
        panel.set_xlabel(panel.get_xlabel().partition(" of ")[0])
    return ax


def _broad(fit: sg.Fit) -> int:
    """The component that holds what the others leave: the three fastest galaxies are in it."""
    return int(fit.predict([[33.0]])[0])


def pictures(fits: Fits) -> dict[str, Any]:
    """Every picture of the pages on the three algorithms, by file name."""
    by_method = fits.all_methods.fits
    return {
        "data": lambda: by_method["em"].plot.components(),
        "em-steps": lambda: em_steps(fits),
        "em-maxima": lambda: em_maxima(fits),
        "em-path": lambda: by_method["em"].plot.em_path(),
        "advi-elbo": lambda: fits.fine_elbo.plot.elbo(),
        "advi-density": lambda: by_method["advi"].plot.density(),
        "nuts-trace": lambda: by_method["nuts"].plot.trace(),
        "nuts-density": lambda: by_method["nuts"].plot.density(),
        "third-component": lambda: third_component(fits),
        "prior-predictive": lambda: prior_data_sets().plot(),
        "all-densities": lambda: fits.all_methods.plot(),
        "all-estimates": lambda: all_estimates(fits),
        "noise": lambda: in_noise().plot.components(),
    }


def in_noise() -> sg.Fit:
    """Two clusters in noise, as the page on it makes them."""
    rng = np.random.default_rng(1)
    first = rng.normal([0, 0], [1.0, 0.7], (200, 2))
    second = rng.normal([6, 3], [0.6, 1.0], (200, 2))
    rows = np.vstack([first, second, rng.uniform([-8, -8], [14, 12], (100, 2))])
    return sg.GaussianMixture(2, noise=True).fit(rows, method="em", seed=1)


def prior_data_sets() -> Any:
    """Data sets that the default priors hold possible, for Old Faithful."""
    return sg.GaussianMixture(2).prior_predictive(sg.datasets.faithful(), n=50, seed=1)


def numbers(fits: Fits) -> dict[str, str]:
    """Numbers that the text quotes."""
    em, advi, nuts = (fits.all_methods.fits[name] for name in ("em", "advi", "nuts"))
    table = fits.all_methods.table
    info = em.info
    at = {f"em_{i}_restarts": str(o.restarts) for i, o in enumerate(info.optima)}
    at |= {f"em_{i}": f"{o.objective:.2f}" for i, o in enumerate(info.optima)}
    scales = nuts.mixture.scales[:, 2, 0]
    k_hat = advi.diagnose()["Pareto k-hat"].value
    return at | {
        "em_collapsed": str(int(info.collapsed.sum())),
        "em_iterations": str(len(fits.maxima["best"].info.paths[0])),
        "em_scale": f"{em.scales[2, 0]:.2f}",
        "nuts_scale": f"{scales.mean():.1f}",
        "nuts_scale_low": f"{np.quantile(scales, 0.05):.1f}",
        "nuts_scale_high": f"{np.quantile(scales, 0.95):.1f}",
        "advi_scale": f"{advi.scales[2, 0]:.1f}",
        "advi_scale_high": f"{np.quantile(advi.mixture.scales[:, 2, 0], 0.95):.1f}",
        "advi_k_hat": f"{k_hat:.2f}",
        "advi_k_hat_words": K_HAT_WORDS[k_hat < thresholds.PARETO_K_OK],
        "advi_elbo": f"{advi.info.elbo[-1]:.1f}",
        "advi_sd_ratio": f"{table.loc['advi', 'sd_ratio']:.2f}",
        "advi_elpd": f"{table.loc['advi', 'elpd_loo']:.1f}",
        "nuts_elpd": f"{table.loc['nuts', 'elpd_loo']:.1f}",
        "em_distance": f"{table.loc['em', 'distance']:.1f}",
        "nuts_r_hat": f"{table.loc['nuts', 'r_hat']:.3f}",
        "nuts_ess": f"{table.loc['nuts', 'ess_bulk']:.0f}",
        "nuts_leapfrogs": f"{nuts.info.sample_stats['n_steps'].mean():.0f}",
        "nuts_divergent": str(int(nuts.info.sample_stats["diverging"].sum())),
    }


def comparison_table(fits: Fits) -> str:
    """The comparison as a Markdown table, the columns that the text explains."""
    columns = ["kind", "log_likelihood", "elpd_loo", "distance", "sd_ratio", "agreement", "status"]
    rows = [["method", *columns], ["---"] * (len(columns) + 1)]
    for method, row in fits.all_methods.table[columns].iterrows():
        numbers = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in row]
        rows.append([str(method), *("–" if v == "nan" else v for v in numbers)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def command_line(folder: Path) -> dict[str, str]:
    """What the command prints: its helps, and two of its results."""
    commands = ("fit", "compare", "select", "report", "install-cmdstan", "doctor")
    texts = {f"help-{name}": _printed(name, "--help") for name in commands}
    texts["help-stangmm"] = _printed("--help")
    data = folder / "faithful.csv"
    sg.datasets.faithful().to_csv(data, index=False)
    em = (str(data), "--method", "em", "--seed", "1")
    texts["cli-fit"] = _printed("fit", *em, "-k", "2")
    texts["cli-select"] = _printed("select", *em, "--max-k", "4")
    return texts


def _printed(*command: str) -> str:
    os.environ["COLUMNS"] = "80"  # what argparse and the tables ask for the terminal's width
    printed, progress = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(progress),
        contextlib.suppress(SystemExit),
    ):
        cli.main(command)
    return printed.getvalue()


def measured(script: str) -> str:
    """What the page of the benchmarks says of one of them, without its heading."""
    sections = re.split(r"^## .*?(?:benchmarks/(\w+)\.py`.*)?$", BENCHMARKS.read_text(), flags=re.M)
    return sections[sections.index(script) + 1]


def _make(folder: Path) -> None:
    fits = Fits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)  # EM that is stopped early says so
        for name, draw in pictures(fits).items():
            _save(draw(), folder / f"{name}.svg")
        (folder / "comparison.md").write_text(comparison_table(fits))
        (folder / "facts.json").write_text(json.dumps(numbers(fits), indent=1))
    for script in ("gradient", "scaling"):
        (folder / f"measured-{script}.md").write_text(measured(script))
    for name, text in command_line(folder).items():
        (folder / f"{name}.txt").write_text(text)


def _save(drawn: Axes | Figure, path: Path) -> None:
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    figure.savefig(path, bbox_inches="tight", pad_inches=0.08, metadata={"Date": None})


def build() -> None:
    """Make the pictures and numbers, unless they are there."""
    sources = [Path(__file__), stamps.ROOT / "stangmm", stamps.ROOT / "stan", BENCHMARKS]
    stamps.made(FOLDER, sources, _make)


def facts() -> dict[str, str]:
    """Numbers for the pages: those of the fits, the thresholds, the defaults of the settings."""
    of_fits: dict[str, str] = json.loads((FOLDER / "facts.json").read_text())
    limits = {name: _words(value) for name, value in vars(thresholds).items() if name.isupper()}
    limits |= {f"ROWS_{kind}": f"{rows:g}" for kind, rows in thresholds.ROWS_PER_PARAMETER.items()}
    limits |= {f"NARROW_{kind}": f"{t:g}" for kind, t in thresholds.NARROW_AS_ROUNDING.items()}
    limits["SEARCHED"] = f"{SEARCHED:,}"
    em, advi, nuts, optimize = sg.EM(), sg.ADVI(), sg.NUTS(), sg.Optimize()
    defaults = {
        "EM_RESTARTS": em.restarts,
        "EM_TOLERANCE": em.tolerance,
        "OPTIMIZE_RESTARTS": optimize.restarts,
        "ADVI_DRAWS": advi.draws,
        "ADVI_TOLERANCE": advi.tolerance,
        "ADVI_GRADIENT_SAMPLES": advi.gradient_samples,
        "ADVI_ELBO_SAMPLES": advi.elbo_samples,
        "NUTS_CHAINS": nuts.chains,
        "NUTS_DRAWS": nuts.draws,
        "NUTS_MAX_TREE_DEPTH": nuts.at_first().max_tree_depth,
    }
    return of_fits | limits | {name: _words(value) for name, value in defaults.items()}


def _words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    build()
