"""Every picture is right as it is printed, in every case: measured on its pixels and its texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from made_fits import known_mixture, made_fit, rows_of
from matplotlib import _pylab_helpers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pictures import BLINDNESS, Picture, drawn_points, inked, printed, seen_as

import stangmm as sg
from stangmm import plots
from stangmm.judge.criteria import Score
from stangmm.many.choice import Selection
from stangmm.many.comparison import Comparison
from stangmm.model.covariance import STRUCTURES
from stangmm.plots import style

TYPES = list(STRUCTURES)
LONG = "mean daily temperature at two metres above the ground (deg C)"
HOSTILE = ("cost in $ and $x_1$", "<script>\nalert(1)</script>")


@dataclass(frozen=True)
class Case:
    """Sizes of a fit, the names of its features, its weights if they matter."""

    k: int
    d: int
    n: int
    names: tuple[str, ...]
    weights: tuple[float, ...] | None = None


TINY = (0.397, 0.25, 0.15, 0.12, 0.08, 0.003)
CASES = {
    "smallest": Case(1, 1, 30, ("length (mm)",)),
    "one feature": Case(6, 1, 400, (LONG,), TINY),
    "pair": Case(6, 2, 400, HOSTILE, TINY),
    "many": Case(12, 10, 400, tuple(f"{j}: {LONG}" for j in range(10))),
    "million": Case(3, 2, 1_000_000, ("length (mm)", "width (mm)")),
}


@cache
def fit_of(case: str, kind: str) -> sg.Fit:
    size = CASES[case]
    mixture = known_mixture(size.k, size.d, size.weights, seed=size.k)
    return made_fit(kind, mixture, rows(case), size.names, draws=100)


@cache
def rows(case: str) -> np.ndarray:
    size = CASES[case]
    return rows_of(known_mixture(size.k, size.d, size.weights, seed=size.k), size.n, seed=2)


def comparison_of(case: str) -> Comparison:
    kinds = {"em": "point", "advi": "approximation", "nuts": "mcmc"}
    fits = {label: fit_of(case, kind) for label, kind in kinds.items()}
    made = Comparison(fits["em"].model, fits["em"].dataset, fits, {}, 1)
    # What else the table says takes minutes for a million rows, and no picture shows it.
    vars(made)["table"] = pd.DataFrame(
        {"ess_bulk": 900.0, "distance": [0.4, 0.02, 0.0], "status": ["ok", "fail", "ok"]},
        index=list(kinds),
    )
    return made


def selection_of(case: str) -> Selection:
    size = CASES[case]
    rng = np.random.default_rng(3)
    scores: dict[Any, Score] = {}
    for name in TYPES if size.d > 2 else [None]:
        for k in range(1, size.k + 3):
            elpd = rng.normal(-3.0 - 0.5 / k - 0.01 * k, 1.0, min(size.n, 1000))
            scores[k if name is None else (name, k)] = Score(float(elpd.sum()), 5.0, elpd)
    dataset = made_fit("point", known_mixture(1, size.d, None, 1), rows(case)[:1000], size.names)
    failed = [(name, size.k + 3) for name in TYPES[:2]] if size.d > 2 else [size.k + 3]
    models: Any = {key: SimpleNamespace(model=model_of(key)) for key in scores}
    return Selection("loo", dataset.dataset, models, scores, dict.fromkeys(failed, "failed"), 1)


def model_of(key: Any) -> sg.GaussianMixture:
    return sg.GaussianMixture(key) if isinstance(key, int) else sg.GaussianMixture(key[1], key[0])


def posterior_of(case: str) -> sg.ModelPosterior:
    size = CASES[case]
    keys: list[Any] = [(name, k) for name in TYPES for k in range(1, size.k + 1)]
    if size.d < 3:
        keys = list(range(1, size.k + 1))
    data = SimpleNamespace(sample_weight=None)
    fits: Any = {key: SimpleNamespace(model=model_of(key), dataset=data) for key in keys}
    values = np.random.default_rng(6).normal(0.0, 1.5, len(keys))
    scores: Any = {key: Score(v, 0.1) for key, v in zip(keys, values, strict=True)}
    made = sg.ModelPosterior(fits, scores, np.full(len(keys), 1 / len(keys)), {})
    share = np.linspace(1.0, 2.0, size.k)
    vars(made)["occupied"] = pd.DataFrame(
        {"probability": share / share.sum(), "probability_se": 0.01},
        index=range(1, size.k + 1),
    )
    return made


def models_of(case: str) -> sg.ModelComparison:
    size = CASES[case]
    made = sg.ModelComparison(fit_of(case, "mcmc").dataset, {"one": fit_of(case, "mcmc")}, {}, 1)
    worse = np.arange(size.k) * 4.0
    vars(made)["table"] = pd.DataFrame(
        {"elpd_loo": -worse, "difference": -worse, "difference_se": 0.4 * worse, "bic": worse},
        index=[f"K = {k} (tied), {LONG}" for k in range(size.k)],
    )
    return made


def loo_of(case: str) -> sg.Loo:
    """As `Fit.loo` gives it: the rows' k, two of them high."""
    k = np.random.default_rng(4).normal(0.1, 0.15, CASES[case].n)
    k[[3, 7]] = 0.9, 1.3
    return sg.Loo("loo", -100.0, 5.0, 3.0, -np.ones(len(k)), 4000, True, k, 0.7)


def prior_of(case: str) -> sg.prior_predictive.PriorPredictive:
    size = CASES[case]
    return sg.GaussianMixture(size.k, "diag").prior_predictive(
        fit_of(case, "point").dataset if size.n < 1000 else rows(case)[:1000], seed=5
    )


def of_fit(picture: Callable[..., Axes], kind: str, *more: Any) -> Callable[..., Axes]:
    return lambda case, ax: picture(fit_of(case, kind), *more, ax)


# How each public picture is drawn for a case; with "point" and so on where its layers differ.
PICTURES: dict[str, Callable[[str, Axes | None], Axes]] = {
    "components": of_fit(plots.components, "point"),
    "densities": lambda case, ax: plots.densities(comparison_of(case), ax),
    "density": of_fit(plots.density, "mcmc"),
    "elbo": of_fit(plots.elbo, "approximation"),
    "em_path": of_fit(plots.em_path, "point"),
    "energy": of_fit(plots.energy, "mcmc"),
    "estimates": lambda case, ax: plots.estimates(comparison_of(case), ax),
    "forest": of_fit(plots.forest, "mcmc"),
    "loo": lambda case, ax: plots.loo(fit_of(case, "mcmc"), ax, result=loo_of(case)),
    "merge_path": of_fit(plots.merge_path, "point"),
    "model_choice": lambda case, ax: plots.model_choice(selection_of(case), ax),
    "model_differences": lambda case, ax: plots.model_differences(models_of(case), ax),
    "model_probabilities": lambda case, ax: plots.model_probabilities(posterior_of(case), ax),
    "pairs": of_fit(plots.pairs, "mcmc"),
    "partition": lambda case, ax: plots.partition(fit_of(case, "point").partition(), ax),
    "pit": of_fit(plots.pit, "mcmc"),
    "ppc": of_fit(plots.ppc, "mcmc"),
    "prior_predictive": lambda case, ax: plots.prior_predictive(prior_of(case), ax),
    "priors": of_fit(plots.priors, "mcmc"),
    "profile": of_fit(plots.profile, "mcmc"),
    "projection": of_fit(plots.projection, "mcmc"),
    "rank": of_fit(plots.rank, "mcmc"),
    "regression": of_fit(plots.regression, "mcmc", 1, 0),
    "responsibilities": of_fit(plots.responsibilities, "mcmc"),
    "time_accuracy": lambda case, ax: plots.time_accuracy(comparison_of(case), ax),
    "trace": of_fit(plots.trace, "mcmc"),
}
# Where one feature has a layout of its own; of the others, the smallest case is of one feature too.
OF_ONE = {"components", "densities", "density"}
OF_PAIRS = {"projection", "regression"}
ALL = [
    (picture, case)
    for picture in PICTURES
    for case, size in CASES.items()
    if (case != "one feature" or picture in OF_ONE) and (size.d > 1 or picture not in OF_PAIRS)
]

# Those with a component's colour on whatever belongs to it, or with colours of another meaning.
COLORED = {"components", "density", "forest", "priors", "profile", "projection", "rank"}
COLORED |= {"responsibilities", "trace"}


@cache
def axes_of(picture: str, case: str) -> Axes:
    return PICTURES[picture](case, None)


@cache
def picture_of(picture: str, case: str) -> Picture:
    return printed(style.root_figure(axes_of(picture, case)))


@cache
def subplot_of(picture: str, case: str) -> tuple[Picture, Figure]:
    """A picture in the upper right of four subplots, whose neighbours are plain areas."""
    figure = Figure(figsize=(13, 11), layout="constrained")
    for ax in figure.subplots(2, 2).flat[[0, 2, 3]]:
        ax.set(facecolor="#eeeeee", xticks=[], yticks=[])
    given = figure.axes[1]
    assert PICTURES[picture](case, given) is given
    return printed(figure), figure


def test_every_public_picture_is_looked_at() -> None:
    pictures = {name for name in plots.__all__ if not name.endswith("Plots")}
    assert pictures - {"inline_svg"} == set(PICTURES)


@pytest.mark.parametrize(("picture", "case"), ALL)
def test_texts_are_whole_and_apart(picture: str, case: str) -> None:
    made = picture_of(picture, case)
    assert made.words
    assert made.outside() == []
    assert made.collisions() == []
    assert made.strays() == []


@pytest.mark.parametrize(("picture", "case"), ALL)
def test_no_panel_is_empty_and_legends_hide_nothing(picture: str, case: str) -> None:
    made = picture_of(picture, case)
    assert made.panels
    assert made.empty() == []
    assert made.hidden() == 0


@pytest.mark.parametrize(("picture", "case"), ALL)
def test_matplotlib_has_nothing_to_complain_of(picture: str, case: str) -> None:
    assert picture_of(picture, case).complaints == []


@pytest.mark.parametrize("picture", sorted(COLORED))
def test_every_component_is_seen_in_its_own_colour(picture: str) -> None:
    made = picture_of(picture, "pair")
    for k in range(CASES["pair"].k):
        assert made.of_color(mpl.colors.to_rgb(style.color(k))).sum() >= 25, k


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colour_blind_readers_tell_the_components_apart(blindness: str) -> None:
    """In CIELAB units, of which a reader sees about two; the closest pairs are 16 apart."""
    made = picture_of("density", "pair")
    seen = []
    for k in range(6):
        pixels = made.pixels[made.of_color(mpl.colors.to_rgb(style.color(k)))]
        darkest = pixels[pixels.sum(axis=1) <= np.quantile(pixels.sum(axis=1), 0.3)]
        seen.append(seen_as(np.median(darkest, axis=0), blindness))
    paper = seen_as(np.ones(3), blindness)
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 14
    assert min(np.linalg.norm(a - paper) for a in seen) > 30


@pytest.mark.parametrize("picture", PICTURES)
def test_a_subplot_holds_the_whole_picture_and_neighbours_stay_as_they_are(picture: str) -> None:
    made, figure = subplot_of(picture, "pair")
    assert len(figure.axes) == 4
    for i in (0, 2, 3):
        neighbour = made.cut(made.panels[made_index(made, figure, i)])
        assert np.ptp(neighbour.reshape(-1, 3), axis=0).max() == 0
    assert made.outside() == []
    assert made.collisions() == []
    assert made.strays() == []
    assert made.hidden() == 0
    assert made.complaints == []
    box = figure.axes[1].get_window_extent()
    assert inked(made.cut(box)).mean() > 0.01


def made_index(made: Picture, figure: Figure, i: int) -> int:
    """Number among the panels of one of the figure's own Axes."""
    box = figure.axes[i].get_window_extent()
    return int(np.argmin([np.abs(p.get_points() - box.get_points()).sum() for p in made.panels]))


@pytest.mark.parametrize("picture", PICTURES)
def test_settings_and_the_state_of_pyplot_stay_as_they_were(picture: str) -> None:
    before, figures = dict(mpl.rcParams), set(_pylab_helpers.Gcf.figs)
    PICTURES[picture]("smallest" if (picture, "smallest") in ALL else "pair", None)
    assert dict(mpl.rcParams) == before
    assert set(_pylab_helpers.Gcf.figs) == figures


@pytest.mark.parametrize("picture", PICTURES)
def test_a_million_rows_make_no_large_picture(picture: str) -> None:
    ax = axes_of(picture, "million")
    assert drawn_points(style.root_figure(ax)) < 100_000
    assert len(plots.inline_svg(ax, "alt", "p").encode()) < 400_000
