"""What the pictures show is what the fits say."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from scipy.stats import chi2

import stangmm as sg
from stangmm import plots
from stangmm.data.dataset import Dataset
from stangmm.many.comparison import Comparison
from stangmm.plots import layers, style
from stangmm.report.notebook import fit_html


def line_labelled(ax: Axes, label: str) -> Any:
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def fit_em(
    X: Any, k: int, covariance_type: str = "full", sample_weight: Any = None, restarts: int = 5
) -> sg.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return sg.GaussianMixture(k, covariance_type).fit(
            X, method=sg.EM(restarts=restarts), seed=1, sample_weight=sample_weight, progress=False
        )


def blobs(n: int, k: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(n + 10 * k + d)
    centers = rng.normal(0, 8, (k, d))
    return centers[rng.integers(k, size=n)] + rng.normal(size=(n, d))


def comparison_of(fits: Any, names: tuple[str, ...]) -> Comparison:
    made = {name: fits[name] for name in names}
    return Comparison(fits.model, made[names[0]].dataset, made, {}, 1)


def drawn(ax: Axes) -> None:
    """Draw for real, so that what fails only when rendered fails here."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()


def test_notebooks_and_windows_show_new_figures_and_no_others(
    fits_galaxies: Any, tmp_path: Path
) -> None:
    fit = fits_galaxies["em"]
    ax = fit.plot.density()
    assert ax.get_figure() is plt.gcf()
    assert len(plt.get_fignums()) == 1
    assert fit.plot.components(ax) is ax
    fit.report(tmp_path / "r.html", progress=False)
    plots.density(fit)
    assert fit_html(fit)
    assert len(plt.get_fignums()) == 1


def test_drawn_density_is_the_predictive_density_and_integrates_to_one(fits_galaxies: Any) -> None:
    fit = fits_galaxies["em"]
    x, y = line_labelled(plots.density(fit), "mixture density").get_data()
    np.testing.assert_allclose(y, np.exp(fit.log_density(x)), rtol=1e-10)
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.stan
@pytest.mark.parametrize("method", ["advi", "nuts"])
def test_density_of_draws_has_a_band_around_the_curve(fits_galaxies: Any, method: str) -> None:
    fit = fits_galaxies[method]
    ax = plots.density(fit)
    x, y = line_labelled(ax, "mixture density").get_data()
    np.testing.assert_allclose(y, np.exp(fit.log_density(x)), rtol=1e-8)
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=5e-3)
    (band,) = [c for c in ax.collections if isinstance(c, FillBetweenPolyCollection)]
    bottom, top = layers.density_band(fit.mixture, x)
    np.testing.assert_allclose(band.get_paths()[0].vertices[:, 1].max(), top.max())
    high = y > 0.05 * y.max()  # far out, the mean of a skew distribution can leave its quantiles
    assert ((bottom <= y) & (y <= top))[high].all()
    assert (bottom < top)[high].all()


def test_component_curves_sum_to_the_mixture(fits_galaxies: Any) -> None:
    fit = fits_galaxies["em"]
    points = np.linspace(5, 40, 200)
    curves = layers.component_curves(fit.mixture, points)
    np.testing.assert_allclose(
        curves.sum(axis=0), np.exp(fit.log_density(points)), rtol=1e-12, atol=1e-300
    )
    assert [np.trapezoid(c, points) for c in curves] == pytest.approx(fit.weights, abs=1e-6)


def bars_of(x: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    ax = style.new_axes(3)
    tallest = layers.histogram(ax, x, weight)
    (bars,) = [p for p in ax.patches if isinstance(p, StepPatch)]
    heights, edges, _ = bars.get_data()
    assert tallest == heights.max()
    return heights, edges


def test_histogram_has_area_one() -> None:
    heights, edges = bars_of(blobs(300, 2, 1)[:, 0], None)
    assert (heights * np.diff(edges)).sum() == pytest.approx(1.0)


def test_weights_of_the_histogram_are_frequencies() -> None:
    x = blobs(300, 2, 1)[:, 0]
    weight = np.random.default_rng(1).poisson(1.5, 300).astype(float)
    heights, edges = bars_of(x, weight)
    repeated, same_edges = bars_of(np.repeat(x, weight.astype(int)), None)
    np.testing.assert_allclose(edges, same_edges)
    np.testing.assert_allclose(heights, repeated)


@pytest.mark.parametrize("mass", [0.5, 0.95])
def test_ellipses_hold_their_mass(fits_faithful: Any, mass: float) -> None:
    fit = fits_faithful["em"]
    paths = layers.ellipse_paths(fit.mixture[0], mass)
    for path, mean, covariance in zip(paths, fit.means, fit.covariances, strict=True):
        away = path - mean
        squared = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
        np.testing.assert_allclose(squared, chi2.ppf(mass, df=2))


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_marginals_are_those_of_the_mixture(covariance_type: str) -> None:
    mixture = fit_em(blobs(200, 2, 4), 2, covariance_type).mixture
    two = mixture.marginal(np.array([3, 1]))
    chosen = mixture.covariances[..., [3, 1], :][..., [3, 1]]
    np.testing.assert_allclose(two.covariances, chosen, atol=1e-12)
    np.testing.assert_array_equal(mixture.marginal(np.array([2])).scales, mixture.scales[..., [2]])


def test_mass_levels_enclose_the_mass() -> None:
    x = np.linspace(-6, 6, 20_001)
    density = np.exp(-(x**2) / 2)
    level_95, level_50 = layers.mass_levels(density, (0.95, 0.5))
    assert x[density > level_95].max() == pytest.approx(1.96, abs=0.01)
    assert x[density > level_50].max() == pytest.approx(0.6745, abs=0.01)


def test_em_path_shows_every_restart_and_marks_collapsed_ones() -> None:
    fit = fit_em(sg.datasets.galaxies(), 3, "diag", restarts=30)
    collapsed = np.zeros(30, dtype=bool)
    collapsed[np.argsort(fit.info.values)[:4]] = True
    fit = replace(fit, info=replace(fit.info, collapsed=collapsed))
    ax = plots.em_path(fit)
    paths = [line for line in ax.lines if (line.get_gid() or "").startswith("restart-")]
    assert len(paths) == len(fit.info.values) == 30
    for line in paths:
        restart = int(line.get_gid().removeprefix("restart-"))
        np.testing.assert_array_equal(line.get_ydata(), fit.info.paths[restart])
    crosses = [line for line in ax.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert len(crosses) == 4


@pytest.mark.stan
def test_em_path_of_a_method_without_paths_shows_where_restarts_ended(fits_galaxies: Any) -> None:
    fit = fits_galaxies["optimize"]
    ends = [p for p in plots.em_path(fit).lines if (p.get_gid() or "").startswith("restart-")]
    assert sorted(p.get_ydata()[0] for p in ends) == sorted(fit.info.values)


@pytest.mark.stan
def test_elbo_shows_the_trace_and_whether_it_converged(fits_galaxies: Any) -> None:
    fit = fits_galaxies["advi"]
    ax = plots.elbo(fit)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), fit.info.elbo)
    said = " ".join(t.get_text() for t in ax.get_legend().get_texts())
    assert ("stopped before it converged" in said) is not fit.info.converged


def test_elbo_limits_leave_out_a_huge_start() -> None:
    from stangmm.plots.runs import elbo_limits

    low, high = elbo_limits(np.array([-1e9, -1e5, -300.0, -230.0, -229.0, -229.5, -229.2, -229.1]))
    assert -300.0 < low < -230.0
    assert -229.0 < high < -200.0


@pytest.mark.stan
def test_trace_shows_every_chain_of_every_component(fits_faithful: Any) -> None:
    fit = fits_faithful["nuts"]
    ax = plots.trace(fit)
    rows = ax.child_axes[::2]
    assert len(rows) == 1 + 2 + 2 + 1  # weights, means and scales of two features, log joint
    chains = fit.lp.shape[0]
    for row, curves in zip(rows, [2] * 5 + [1], strict=True):
        traces = [line for line in row.lines if (line.get_gid() or "").startswith("chain-")]
        assert len(traces) == chains * curves
    shown, draws = rows[0].lines[0].get_ydata(), fit.posterior["weights"].values[0, :, 0]
    assert len(shown) == 250
    for stretch in np.split(draws, 125):  # no peak is left out
        assert np.isin([stretch.min(), stretch.max()], shown).all()
    assert np.isin(shown, draws).all()


@pytest.mark.parametrize("picture", [plots.trace, plots.elbo])
def test_a_picture_that_makes_no_sense_says_which_method_to_use(
    fits_galaxies: Any, picture: Any
) -> None:
    with pytest.raises(sg.ModelError, match='Use method="'):
        picture(fits_galaxies["em"])


@pytest.mark.stan
def test_em_path_of_chains_says_which_method_to_use(fits_galaxies: Any) -> None:
    with pytest.raises(sg.ModelError, match='Use a fit by method="em"'):
        plots.em_path(fits_galaxies["nuts"])


@pytest.mark.parametrize(("k", "n", "d"), [(1, 30, 1), (12, 400, 1), (1, 30, 2), (3, 90, 10)])
@pytest.mark.parametrize("picture", [plots.density, plots.components, plots.em_path])
def test_pictures_can_be_drawn_for_any_shape(picture: Any, k: int, n: int, d: int) -> None:
    drawn(picture(fit_em(blobs(n, k, d), k, "tied")))


@pytest.mark.parametrize(("unit", "offset"), [(1e-12, 0.0), (1e12, 0.0), (1e-3, 1e6)])
@pytest.mark.parametrize("d", [1, 2])
def test_pictures_can_be_drawn_in_any_unit(unit: float, offset: float, d: int) -> None:
    fit = fit_em(offset + unit * blobs(60, 2, d), 2)
    drawn(plots.density(fit))
    drawn(plots.components(fit))


def test_many_rows_are_thinned_and_the_label_says_so() -> None:
    fit = fit_em(blobs(20_000, 2, 2), 2)
    ax = plots.density(fit)
    shown = [c for c in ax.collections if isinstance(c, PathCollection) and len(c.get_offsets())]
    assert sum(len(c.get_offsets()) for c in shown) == style.SCATTER_ROWS
    assert all(c.get_rasterized() for c in shown)
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "data (5,000 of 20,000 rows, at random)" in labels


def test_rows_of_no_weight_are_never_among_the_thinned() -> None:
    x = blobs(20_000, 2, 2)
    weight = (x[:, 0] > np.median(x[:, 0])).astype(float)
    rows, _ = layers.shown_rows(Dataset.from_input(x, weight))
    assert (weight[rows] == 1).all()
    assert len(rows) > 1000


def test_corner_shows_at_most_five_features_and_says_so() -> None:
    ax = plots.density(fit_em(blobs(100, 2, 7), 2, "diag"))
    panels = [p for p in ax.child_axes if p.axison]
    assert len(panels) == 15
    assert ax.get_legend().get_title().get_text() == "first 5 of 7 features"


def test_hostile_feature_names_are_drawn_as_they_are() -> None:
    names = ["a$b$c$\\frac", "<script>alert(1)</script>"]
    ax = plots.density(fit_em(pd.DataFrame(blobs(60, 2, 2), columns=names), 2))
    drawn(ax)
    assert ax.get_xlabel() == names[0]
    assert ax.get_ylabel() == names[1]


def test_drawing_on_a_given_axes_returns_it_and_leaves_settings_alone(fits_galaxies: Any) -> None:
    before = dict(mpl.rcParams)
    ax = Figure().add_subplot()
    assert plots.density(fits_galaxies["em"], ax) is ax
    assert dict(mpl.rcParams) == before


def test_components_have_the_same_colour_in_every_picture(fits_galaxies: Any) -> None:
    fit = fits_galaxies["em"]
    for picture in (plots.density, plots.components):
        boxes = {t.get_text()[0]: t.get_bbox_patch() for t in picture(fit).texts}
        for k in range(3):
            expected = mpl.colors.to_rgba(style.color(k))
            assert boxes[str(k)].get_facecolor() == pytest.approx(expected)


def test_twelve_components_differ_in_colour_or_line() -> None:
    looks = {(style.color(k), str(style.line(k)), style.marker(k)) for k in range(12)}
    assert len(looks) == 12


def test_badges_are_moved_apart_and_keep_their_order() -> None:
    at = style.spread_badges(np.array([5.0, 0.0, 5.1, 5.05]), 1.0)
    assert np.diff(np.sort(at)).min() >= 1.0 - 1e-6
    assert list(np.argsort(at)) == [1, 0, 3, 2]


@pytest.mark.stan
def test_densities_of_a_comparison_are_those_of_the_fits(fits_galaxies: Any) -> None:
    ax = plots.densities(comparison_of(fits_galaxies, ("em", "nuts")))
    for label, method in (("em", "em"), ("nuts (reference)", "nuts")):
        x, y = line_labelled(ax, label).get_data()
        np.testing.assert_allclose(y, np.exp(fits_galaxies[method].log_density(x)), rtol=1e-8)


@pytest.mark.stan
def test_estimates_of_a_comparison_are_means_and_90_percent_intervals(fits_galaxies: Any) -> None:
    fit = fits_galaxies["nuts"]
    weights, means, scales = plots.estimates(
        comparison_of(fits_galaxies, ("em", "nuts"))
    ).child_axes
    table = fit.summary()
    for panel, part in zip((weights, means, scales), np.split(np.arange(9), 3), strict=True):
        np.testing.assert_allclose(panel.lines[1].get_xdata(), table["mean"].iloc[part])
        (bars,) = panel.collections  # the point estimate has none
        ends = np.array([path.vertices[:, 0] for path in bars.get_paths()])
        np.testing.assert_allclose(ends, table[["q5", "q95"]].iloc[part])


@pytest.mark.stan
def test_densities_of_two_features_have_a_panel_for_each_method(fits_faithful: Any) -> None:
    ax = plots.densities(comparison_of(fits_faithful, ("em", "advi", "nuts")))
    drawn(ax)
    titles = [p.get_title(loc="left") for p in ax.child_axes if p.axison]
    assert titles == ["em", "advi", "nuts (reference)"]


def test_a_comparison_without_fits_has_no_picture(fits_galaxies: Any) -> None:
    empty = Comparison(fits_galaxies.model, fits_galaxies["em"].dataset, {}, {"em": "failed"}, 1)
    with pytest.raises(sg.ModelError, match="nothing to draw"):
        plots.densities(empty)
