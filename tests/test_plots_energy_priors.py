"""The pictures of energy and of priors show the sampler's energies, and priors by other hands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_fits import known_mixture, made_fit, rows_of
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from scipy import stats

import stangmm as sg
from stangmm import plots
from stangmm.model.covariance import structure_named
from stangmm.plots import style


def fit_of(kind: str, k: int = 2, d: int = 1, **options: Any) -> sg.Fit:
    mixture = known_mixture(k, d, None, seed=4)
    return made_fit(kind, mixture, rows_of(mixture, 150, 1), [f"x{j}" for j in range(d)], **options)


def with_energies(fit: sg.Fit, energies: np.ndarray) -> sg.Fit:
    return replace(fit, info=replace(fit.info, sample_stats={"energy": energies}))


def with_priors(fit: sg.Fit, covariance_type: str = "full", **given: Any) -> sg.Fit:
    structure, k = structure_named(covariance_type), fit.model.n_components
    return replace(fit, priors=sg.Priors(**given).resolve(fit.dataset, structure, k))


def drawn(ax: Axes) -> None:
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()


def prior_lines(panel: Axes) -> list[Any]:
    return [line for line in panel.lines if line.get_gid() == "prior"]


def histograms(panel: Axes) -> list[StepPatch]:
    """The posteriors' outlines, a component each."""
    return [p for p in panel.patches if isinstance(p, StepPatch)][1::2]


def legend_of(ax: Axes) -> list[str]:
    return [" ".join(text.get_text().split()) for text in ax.get_legend().get_texts()]


def slow_chain(draws: int, seed: int) -> np.ndarray:
    """Energies that move little from draw to draw."""
    steps = np.random.default_rng(seed).normal(size=draws)
    return np.convolve(steps, 0.97 ** np.arange(200))[:draws]


def test_each_panel_of_the_energy_names_the_e_bfmi_of_its_chain() -> None:
    energies = np.random.default_rng(2).normal(size=(3, 400)) * [[1.0], [5.0], [2.0]]
    energies[1] = slow_chain(400, 3)
    ax = plots.energy(with_energies(fit_of("mcmc", chains=3, draws=400), 50 + energies))
    drawn(ax)
    # Betancourt 2016, equation (3): squared changes over squared deviations.
    expected = (np.diff(energies) ** 2).sum(axis=1) / (
        (energies - energies.mean(axis=1, keepdims=True)) ** 2
    ).sum(axis=1)
    titles = [panel.get_title() for panel in ax.child_axes if panel.axison]
    for chain, (title, value) in enumerate(zip(titles, expected, strict=True)):
        name, shown = title.split(": ")
        assert name == f"chain {chain}"
        assert float(shown) == pytest.approx(value, abs=0.02)
    assert expected[1] < 0.3
    bold = [panel.title.get_fontweight() for panel in ax.child_axes if panel.axison]
    assert bold == ["normal", "bold", "normal"]


def test_energies_are_centred_and_their_changes_are_those_between_draws() -> None:
    energies = np.random.default_rng(5).normal(900.0, 3.0, (1, 2000))
    (panel,) = plots.energy(
        with_energies(fit_of("mcmc", chains=1, draws=2000), energies)
    ).child_axes
    filled, outline = (p for p in panel.patches if isinstance(p, StepPatch))
    for patch, sd in ((filled, 3.0), (outline, 3.0 * np.sqrt(2))):
        heights, edges, _ = patch.get_data()
        at, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
        assert heights.sum() * width == pytest.approx(1.0)
        assert abs((heights * at).sum() * width) < 0.3
        spread = np.sqrt((heights * at**2).sum() * width)
        assert spread == pytest.approx(sd, rel=0.06)


def test_of_many_chains_those_of_lowest_e_bfmi_are_shown() -> None:
    energies = np.random.default_rng(6).normal(size=(11, 200))
    energies[9] = slow_chain(200, 7)
    ax = plots.energy(with_energies(fit_of("mcmc", chains=11, draws=200), energies))
    titles = [panel.get_title() for panel in ax.child_axes if panel.axison]
    assert len(titles) == 8
    assert any(title.startswith("chain 9:") for title in titles)
    assert "8 of 11 chains" in legend_of(ax)[-1]


def test_energy_of_a_fit_without_chains_says_what_to_use() -> None:
    with pytest.raises(sg.ModelError, match='method="nuts"'):
        plots.energy(fit_of("approximation"))


@pytest.mark.parametrize(
    ("prior", "reference"),
    [
        (sg.HalfCauchy(2.0), stats.halfcauchy(scale=2.0).pdf),
        (sg.HalfNormal(3.0), stats.halfnorm(scale=3.0).pdf),
        (sg.InverseGamma(3.0, 5.0), lambda s: 2 * s * stats.invgamma(3.0, scale=5.0).pdf(s**2)),
    ],
)
def test_priors_are_those_of_scipy(prior: Any, reference: Any) -> None:
    fit = with_priors(
        fit_of("mcmc", k=3),
        weights=sg.Dirichlet(2.0),
        means=sg.Normal(40.0, 7.0),
        scales=prior,
    )
    ax = plots.priors(fit)
    drawn(ax)
    densities = [stats.beta(2.0, 4.0).pdf, stats.norm(40.0, 7.0).pdf, reference]
    for panel, density in zip(ax.child_axes, densities, strict=True):
        (line,) = prior_lines(panel)
        expected = density(line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), expected / expected.max(), rtol=1e-9)


@pytest.mark.parametrize("k", [1, 3])
def test_posteriors_are_histograms_of_the_draws(k: int) -> None:
    fit = fit_of("mcmc", k=k)
    shown = [fit.mixture.weights] if k > 1 else []  # one weight is no parameter
    shown += [fit.mixture.means[..., 0], fit.mixture.scales[..., 0]]
    for panel, draws in zip(plots.priors(fit).child_axes, shown, strict=True):
        assert len(histograms(panel)) == k
        for component, patch in enumerate(histograms(panel)):
            heights, edges, _ = patch.get_data()
            counts, _ = np.histogram(draws[:, component], edges)
            np.testing.assert_allclose(heights, counts / counts.max())
            assert counts.sum() > 0.95 * len(draws)
            assert patch.get_edgecolor()[:3] == pytest.approx(to_rgb(style.color(component)))


def test_priors_that_differ_are_drawn_for_each_component() -> None:
    fit = with_priors(fit_of("mcmc"), means=sg.Normal([[20.0], [60.0]], 3.0))
    _, means, _ = plots.priors(fit).child_axes
    peaks = [line.get_xdata()[np.argmax(line.get_ydata())] for line in prior_lines(means)]
    np.testing.assert_allclose(peaks, [20.0, 60.0], atol=1.0)
    assert [line.get_color() for line in prior_lines(means)] == [style.color(0), style.color(1)]


def test_a_tied_scale_is_drawn_once() -> None:
    fit = with_priors(fit_of("mcmc", d=2), "tied")
    shared = np.repeat(fit.mixture.scales[:, :1], 2, axis=1)
    fit = replace(fit, mixture=replace(fit.mixture, scales=shared))
    panels = plots.priors(fit).child_axes
    assert [len(histograms(panel)) for panel in panels] == [2, 2, 1, 2, 1]


def test_a_long_tail_does_not_hide_the_rest() -> None:
    fit = fit_of("mcmc", k=3)
    scales = fit.mixture.scales.copy()
    scales[:, 2, 0] = stats.halfcauchy(scale=5.0).rvs(len(scales), random_state=1)
    fit = replace(fit, mixture=replace(fit.mixture, scales=scales))
    assert scales.max() > 1000
    assert plots.priors(fit).child_axes[2].get_xlim()[1] < 200


def test_the_first_features_are_shown_and_the_legend_says_so() -> None:
    ax = plots.priors(fit_of("mcmc", d=5))
    drawn(ax)
    labels = [p.get_xlabel() for p in ax.child_axes]
    assert labels == [
        "weight",
        *(f"{what} of x{j}" for j in range(3) for what in ("mean", "scale")),
    ]
    assert legend_of(ax)[0] == "prior; 3 of 5 features"


def test_a_fit_without_priors_says_where_there_are_some() -> None:
    with pytest.raises(sg.ModelError, match="likelihood alone"):
        plots.priors(fit_of("point"))


def test_an_estimate_is_a_line() -> None:
    fit = fit_of("point")
    fit = replace(fit, info=replace(fit.info, objective="log joint"))
    _, means, _ = plots.priors(fit).child_axes
    lines = [line for line in means.lines if line.get_gid() != "prior"]
    np.testing.assert_allclose([line.get_xdata()[0] for line in lines], fit.means[:, 0])
