"""What the pictures of checks and of posteriors show is what the fits say."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from scipy.stats import norm

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.plots import checks, posteriors, style
from stangmm.predict import averages as predict

OF_ANY_FIT = (checks.ppc, posteriors.responsibilities, posteriors.forest)


def fit_em(X: Any, k: int, sample_weight: Any = None, **known: Any) -> sg.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return sg.GaussianMixture(k, "diag").fit(
            X,
            method=sg.EM(restarts=5),
            seed=1,
            sample_weight=sample_weight,
            progress=False,
            **known,
        )


def blobs(n: int, k: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(n + 10 * k + d)
    centers = rng.normal(0, 8, (k, d))
    return centers[rng.integers(k, size=n)] + rng.normal(size=(n, d))


def drawn(ax: Axes) -> None:
    """Draw for real, so that what fails only when rendered fails here."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()


def legend_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def intervals_of(ax: Axes) -> np.ndarray:
    """Vertical intervals, shape (bars, 2), from left to right."""
    paths = [
        p.vertices for c in ax.collections if isinstance(c, LineCollection) for p in c.get_paths()
    ]
    ordered = np.array(sorted((p[0, 0], p[:, 1].min(), p[:, 1].max()) for p in paths))
    return ordered[:, 1:]


def test_rank_bars_count_the_draws_of_a_chain_among_all() -> None:
    values = np.random.default_rng(3).normal(size=(3, 60)) + np.array([[0.0], [0.5], [0.0]])
    bars = checks.rank_bars(values)
    bins = bars.shape[1]
    cuts = np.sort(values.ravel())[:: values.size // bins]  # lowest draw of each bin
    for chain, heights in zip(values, bars, strict=True):
        counts = [(np.searchsorted(cuts, chain, side="right") == b + 1).sum() for b in range(bins)]
        np.testing.assert_allclose(heights, np.array(counts) / (60 / bins))
    np.testing.assert_allclose(bars.mean(axis=0), 1.0)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_band_of_ranks_holds_99_percent_of_the_bars_of_chains_that_agree(
    correlation: float,
) -> None:
    rng = np.random.default_rng(4)
    inside = []
    for _ in range(40):
        values = np.empty((4, 500))
        values[:, 0] = rng.normal(size=4)
        for t in range(1, 500):
            step = np.sqrt(1 - correlation**2) * rng.normal(size=4)
            values[:, t] = correlation * values[:, t - 1] + step
        half = checks.rank_band(values)
        inside.append(np.abs(checks.rank_bars(values) - 1) <= half)
    assert 0.97 < np.mean(inside) < 0.999


def test_a_chain_of_another_mode_leaves_the_band_of_ranks() -> None:
    values = np.random.default_rng(5).normal(size=(4, 500))
    values[2] += 1.0
    away = np.abs(checks.rank_bars(values) - 1) > checks.rank_band(values)
    assert away[2].mean() > 0.5


def test_a_chain_that_never_moved_has_a_band() -> None:
    assert np.isfinite(checks.rank_band(np.zeros((2, 50))))


@pytest.mark.stan
def test_rank_shows_every_chain_of_every_component(fits_faithful: Any) -> None:
    fit = fits_faithful["nuts"]
    ax = checks.rank(fit)
    drawn(ax)
    assert len(ax.child_axes) == 1 + 2 + 2 + 1  # weights, means and scales, log joint
    first = [p for p in ax.child_axes[0].patches if isinstance(p, StepPatch)]
    assert len(first) == 2 * fit.lp.shape[0]
    for k in (0, 1):
        shown = np.stack([p.get_data()[0] for p in first[k::2]])
        expected = checks.rank_bars(fit.posterior["weights"].values[..., k])
        np.testing.assert_array_equal(shown, expected)


@pytest.mark.stan
def test_ranks_of_one_chain_say_to_run_more(fits_galaxies: Any) -> None:
    with pytest.raises(sg.ModelError, match="chains=4"):
        checks.rank(fits_galaxies["nuts"].select_chains([0]))


@pytest.mark.parametrize("picture", [checks.rank, checks.loo, posteriors.pairs])
def test_a_picture_of_draws_says_which_method_to_use(fits_galaxies: Any, picture: Any) -> None:
    with pytest.raises(sg.ModelError, match='Use method="nuts"'):
        picture(fits_galaxies["em"])


def test_replicated_counts_have_the_shares_of_the_normal_distributions(fits_galaxies: Any) -> None:
    fit = fits_galaxies["em"]
    edges = np.linspace(5, 40, 15)
    counts = checks.replicated_counts(fit.mixture, edges, 5000, np.random.default_rng(6))
    share = fit.weights @ np.diff(
        norm.cdf(edges, fit.means, fit.scales), axis=-1
    )  # means (K, 1) against edges
    sd = np.sqrt(share * (1 - share) / 5000)
    np.testing.assert_allclose(
        counts.mean(axis=0) / 5000, share, atol=4.5 * float(sd.max()) / np.sqrt(len(counts))
    )
    np.testing.assert_allclose(counts.std(axis=0) / 5000, sd, rtol=0.25, atol=1e-5)


@pytest.mark.stan
def test_replicated_counts_are_those_of_replicated_data_sets(fits_galaxies: Any) -> None:
    fit = fits_galaxies["nuts"]
    edges = np.linspace(8, 35, 10)
    counts = checks.replicated_counts(fit.mixture, edges, 82, np.random.default_rng(7))
    draws, x = predict.replicated(fit.shaped, 82, np.random.default_rng(8))
    other = np.array([np.histogram(one, edges)[0] for one in x.reshape(-1, 82)])
    # Given the draws that they are from, counts are binomial: errors of 18 means, none above 5.
    for these, mixture in (
        (counts, predict.thinned(fit.mixture, len(counts))),
        (other, fit.shaped[:, draws].reshape(-1)),
    ):
        below = norm.cdf(edges[:, None, None], mixture.means[..., 0], mixture.scales[..., 0])
        share = np.diff((mixture.weights * below).sum(axis=-1), axis=0).mean(axis=1)
        error = np.sqrt(82 * share * (1 - share) / len(these))
        assert (np.abs(these.mean(axis=0) - 82 * share) < 5 * error).all()
    assert counts.std(axis=0) == pytest.approx(other.std(axis=0), rel=0.35)


def test_ppc_bars_are_the_data_and_most_lie_within_the_intervals() -> None:
    x = np.random.default_rng(9).normal(size=2000)
    ax = checks.ppc(fit_em(x, 1))
    drawn(ax)
    heights, edges, _ = ax.patches[0].get_data()
    np.testing.assert_allclose(heights, np.histogram(x, edges, density=True)[0])
    low, high = intervals_of(ax)[2:-2].T  # two bins on each side have no data
    outside = (heights < low - 1e-9) | (heights > high + 1e-9)
    assert outside.mean() < 0.2
    assert f"{int(outside.sum())} of {len(heights) + 4} bars outside" in legend_of(ax)[-1]


def test_ppc_shows_a_model_that_does_not_fit() -> None:
    x = np.random.default_rng(10).exponential(size=2000)
    said = legend_of(checks.ppc(fit_em(x, 1)))[-1]
    outside, bars = said.split("; ")[1].split(" bars")[0].split(" of ")
    assert int(outside) > 0.35 * int(bars)  # of a model that fits, at most a tenth


def test_ppc_of_weights_is_that_of_repeated_rows() -> None:
    x = blobs(200, 2, 1)
    weight = np.random.default_rng(11).integers(0, 4, 200).astype(float)
    weighted = fit_em(x, 2, weight)
    repeated = replace(
        weighted, dataset=Dataset.from_input(np.repeat(x, weight.astype(int), axis=0))
    )
    a, b = checks.ppc(weighted), checks.ppc(repeated)
    np.testing.assert_allclose(a.patches[0].get_data()[0], b.patches[0].get_data()[0])
    np.testing.assert_allclose(intervals_of(a), intervals_of(b))


def test_ppc_of_missing_values_has_as_many_as_are_there() -> None:
    x = blobs(400, 2, 2)
    x[np.random.default_rng(12).random(400) < 0.75, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        fit = sg.GaussianMixture(2, "diag").fit(
            x, method=sg.EM(restarts=3), seed=1, missing="marginalize", progress=False
        )
    ax = checks.ppc(fit)
    drawn(ax)
    heights, edges, _ = ax.child_axes[0].patches[0].get_data()
    seen = x[~np.isnan(x[:, 0]), 0]
    np.testing.assert_allclose(heights, np.histogram(seen, edges, density=True)[0])
    steps = intervals_of(ax.child_axes[0]) * len(seen) * np.diff(edges)[0]
    assert np.abs(2 * steps - np.round(2 * steps)).max() < 0.2  # quantiles of whole numbers


def test_ppc_shows_at_most_six_features_and_says_so() -> None:
    ax = checks.ppc(fit_em(blobs(100, 2, 10), 2))
    assert len([p for p in ax.child_axes if p.axison]) == 6
    assert "first 6 of 10 features" in legend_of(ax)[-1]


@pytest.mark.stan
def test_loo_shows_the_pareto_k_of_every_row(fits_faithful: Any) -> None:
    fit = fits_faithful["nuts"]
    ax = checks.loo(fit)
    drawn(ax)
    expected = fit.loo()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), expected.pareto_k)
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), expected.good_k)
    assert legend_of(ax)[0].startswith("272 of 272 rows")


@pytest.mark.stan
def test_loo_marks_and_names_rows_of_high_k_that_count(fits_galaxies: Any) -> None:
    fit = fits_galaxies["nuts"]
    with warnings.catch_warnings():  # chance may bring a row's k above 0.7
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        result = fit.loo()
    k = np.minimum(result.pareto_k, 0.5)
    k[[3, 40, 41]] = [0.9, 1.4, 2.0]
    result = replace(result, pareto_k=k)
    weight = np.ones(82)
    weight[41] = 0.0
    fit = replace(fit, dataset=replace(fit.dataset, sample_weight=weight))
    ax = checks.loo(fit, result=result)
    drawn(ax)
    assert list(ax.lines[1].get_xdata()) == [3, 40]
    assert sorted(t.get_text() for t in ax.texts) == ["3", "40"]
    assert len(ax.lines[0].get_xdata()) == 79
    assert legend_of(ax)[0].startswith("79 of 81 rows")
    assert legend_of(ax)[1] == "2 of high k; loo(refit=True) computes them: 3, 40"
    assert ax.get_ylim()[1] < 2.0  # the row that does not count does not set the view


@pytest.mark.stan
def test_forest_shows_means_and_quantiles(fits_galaxies: Any) -> None:
    fit = fits_galaxies["nuts"]
    ax = posteriors.forest(fit)
    drawn(ax)
    parts = (fit.mixture.weights, fit.mixture.means[..., 0], fit.mixture.scales[..., 0])
    for panel, values in zip(ax.child_axes, parts, strict=True):
        wide, narrow = panel.collections
        for bars, ends in ((wide, (0.05, 0.95)), (narrow, (0.25, 0.75))):
            shown = np.array([path.vertices[:, 0] for path in bars.get_paths()])
            np.testing.assert_allclose(shown, np.quantile(values, ends, axis=0).T)
        dots = [line.get_xdata()[0] for line in panel.lines if line.get_marker() != "None"]
        np.testing.assert_allclose(dots, values.mean(axis=0))


def test_forest_of_a_point_estimate_has_no_intervals(fits_galaxies: Any) -> None:
    ax = posteriors.forest(fits_galaxies["em"])
    assert not any(panel.collections for panel in ax.child_axes)
    assert legend_of(ax) == ["estimate"]


def test_forest_shows_at_most_three_features_and_says_so() -> None:
    ax = posteriors.forest(fit_em(blobs(100, 2, 10), 2))
    assert len([p for p in ax.child_axes if p.axison]) == 1 + 2 * 3
    assert legend_of(ax) == ["estimate; first 3 of 10 features"]


def stacked(ax: Axes, component: int) -> list[StepPatch]:
    return [p for p in ax.patches if p.get_gid() == f"component-{component}"]


def test_responsibilities_are_those_of_the_fit_in_order_of_certainty() -> None:
    x = np.random.default_rng(14).normal(np.repeat([0.0, 3.0], [200, 300]))
    fit = fit_em(x, 2)
    ax = posteriors.responsibilities(fit)
    drawn(ax)
    expected = np.asarray(fit.predict_proba(x))
    own = expected.argmax(axis=1)
    for k in range(2):
        (block,) = [p for p in stacked(ax, k) if not np.any(p.get_data().baseline)]
        np.testing.assert_allclose(block.get_data().values, np.sort(expected[own == k, k])[::-1])
    total = sum(
        float(((d.values - d.baseline) * np.diff(d.edges)).sum())
        for d in (p.get_data() for p in ax.patches)
    )
    assert total == pytest.approx(500)  # every row sums to one
    undecided = int((expected.max(axis=1) < posteriors.DECIDED).sum())
    assert undecided > 20
    assert legend_of(ax) == [
        f"undecided, below 0.9: {undecided} of 500 rows ({undecided / 5:.1f}%)"
    ]


def test_a_row_is_as_wide_as_its_weight() -> None:
    weight = np.random.default_rng(13).integers(0, 4, 60).astype(float)
    ax = posteriors.responsibilities(fit_em(blobs(60, 2, 1), 2, weight))
    drawn(ax)
    widths = np.concatenate([np.diff(p.get_data().edges) for p in ax.patches])
    assert sorted(widths) == sorted(np.tile(weight, 2))


def test_rows_of_known_component_are_certain() -> None:
    x = blobs(60, 1, 1)  # one blob, so that nothing but the label tells the component
    labels = np.repeat([0, 1, -1], 20)
    ax = posteriors.responsibilities(fit_em(x, 2, labels=labels))
    certain = sum(
        int((p.get_data().values - p.get_data().baseline == 1.0).sum()) for p in ax.patches
    )
    assert certain >= 40


def test_many_rows_are_thinned_and_the_axis_says_so() -> None:
    ax = posteriors.responsibilities(fit_em(blobs(20_000, 2, 2), 2))
    assert ax.get_xlim()[1] == style.SCATTER_ROWS
    assert "5,000 of 20,000 rows, at random" in ax.get_xlabel()
    assert all(p.get_rasterized() for p in ax.patches)


@pytest.mark.stan
def test_pairs_show_the_draws_of_the_component(fits_galaxies: Any) -> None:
    fit = fits_galaxies["nuts"]
    ax = posteriors.pairs(fit, component=1)
    drawn(ax)
    panel = ax.child_axes[3]  # second row of three, first column: mean against weight
    shown = np.asarray(panel.collections[0].get_offsets())
    every = np.column_stack([fit.mixture.weights[:, 1], fit.mixture.means[:, 1, 0]])
    assert len(shown) == 1000
    assert {tuple(row) for row in shown} <= {tuple(row) for row in every}
    assert legend_of(ax)[0] == "component 1\n1,000 of 8,000 draws"


@pytest.mark.stan
def test_pairs_mark_divergent_draws(fits_galaxies: Any) -> None:
    fit = fits_galaxies["nuts"]
    stats = dict(fit.info.sample_stats)
    stats["diverging"] = np.zeros(fit.lp.shape)
    stats["diverging"][1, 5] = stats["diverging"][3, 7] = 1
    fit = replace(fit, info=replace(fit.info, sample_stats=stats))
    ax = posteriors.pairs(fit, component=0)
    (marks,) = [line for line in ax.child_axes[3].lines if line.get_gid() == "divergent"]
    expected = fit.posterior["weights"].values[[1, 3], [5, 7], 0]
    np.testing.assert_array_equal(marks.get_xdata(), expected)
    assert "divergent (2)" in legend_of(ax)


@pytest.mark.stan
def test_pairs_refuse_a_component_that_is_not_there(fits_galaxies: Any) -> None:
    with pytest.raises(sg.ModelError, match="one of 0 to 2, got 3"):
        posteriors.pairs(fits_galaxies["nuts"], component=3)


@pytest.mark.parametrize(("k", "n", "d"), [(1, 30, 1), (12, 400, 1), (1, 30, 2), (3, 90, 10)])
@pytest.mark.parametrize("picture", OF_ANY_FIT)
def test_pictures_can_be_drawn_for_any_shape(picture: Any, k: int, n: int, d: int) -> None:
    drawn(picture(fit_em(blobs(n, k, d), k)))


@pytest.mark.parametrize(("unit", "offset"), [(1e-12, 0.0), (1e12, 0.0), (1e-3, 1e6)])
@pytest.mark.parametrize("picture", OF_ANY_FIT)
def test_pictures_can_be_drawn_in_any_unit(picture: Any, unit: float, offset: float) -> None:
    drawn(picture(fit_em(offset + unit * blobs(60, 2, 2), 2)))


@pytest.mark.parametrize("picture", OF_ANY_FIT)
def test_hostile_feature_names_are_drawn_and_axes_given_are_returned(picture: Any) -> None:
    names = ["a$b$c$\\frac", "<script>alert(1)</script>"]
    fit = fit_em(pd.DataFrame(blobs(60, 2, 2), columns=names), 2)
    ax = Figure().add_subplot()
    assert picture(fit, ax) is ax
    drawn(ax)
