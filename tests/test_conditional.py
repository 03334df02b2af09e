"""Marginal and conditional mixtures are what scipy's densities and quadrature say."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from mixture_batches import random_batch
from random_mixtures import COVARIANCE_TYPES
from scipy import integrate, optimize, stats

import stangmm as sg
from stangmm import plots
from stangmm.data.dataset import Dataset
from stangmm.model.mixture import Mixture
from stangmm.predict import distribution
from stangmm.predict.conditional import lower_factor
from stangmm.predict.distribution import MixtureDistribution
from stangmm.predict.quantiles import mixture_quantile

GRID = np.linspace(-40.0, 40.0, 40_001)  # the trapezoidal rule is exact here to rounding


def of_one_feature(density: np.ndarray) -> tuple[float, float]:
    """Mean and variance of a density on the grid."""
    mass = integrate.trapezoid(density, GRID)
    mean = integrate.trapezoid(density * GRID, GRID) / mass
    return mean, integrate.trapezoid(density * (GRID - mean) ** 2, GRID) / mass


# ---- densities -------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("given", [[0], [2], [3, 1], [2, 0, 3]])
def test_conditional_density_is_joint_over_marginal(covariance_type: str, given: list[int]) -> None:
    batch = random_batch(1, covariance_type, 4, 3, 4)
    rest = [j for j in range(4) if j not in given]
    rng = np.random.default_rng(2)
    x = rng.normal(0, 3, (20, 4))
    x[:, given] = x[0, given]
    expected = batch.conditional_density(x, rest, given)

    found = batch.distribution.conditional({j: x[0, j] for j in given})
    assert found.feature_names == tuple("abcd"[j] for j in rest)
    np.testing.assert_allclose(found.density(x[:, rest]), expected.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.log_density(x[:, rest]), np.log(expected.mean(axis=0)))
    for bound, q in zip(found.density(x[:, rest], interval=0.5)[1:], [0.25, 0.75], strict=True):
        np.testing.assert_allclose(bound, np.quantile(expected, q, axis=0), rtol=1e-9)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_each_of_many_given_values_has_its_own_row(covariance_type: str) -> None:
    batch = random_batch(3, covariance_type, 4, 3, 4)
    x = np.random.default_rng(4).normal(0, 3, (15, 4))
    found = batch.distribution.conditional({"d": x[:, 3], "b": x[:, 1]})
    expected = batch.conditional_density(x, [0, 2], [3, 1]).mean(axis=0)
    np.testing.assert_allclose(found.density(x[:, [0, 2]]), expected, rtol=1e-9)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("features", [[2], [3, 0], [0, 1], [1, 3, 2]])
def test_marginal_density_is_scipys(covariance_type: str, features: list[int]) -> None:
    batch = random_batch(5, covariance_type, 4, 3, 4)
    x = np.random.default_rng(6).normal(0, 3, (20, 4))
    found = batch.distribution.marginal(features)
    expected = np.exp(batch.marginal_log(x, features)).mean(axis=0)
    np.testing.assert_allclose(found.density(x[:, features]), expected, rtol=1e-9)
    np.testing.assert_allclose(found.weights, batch.mixture.weights.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.means, batch.mixture.means.mean(axis=0)[:, features])
    covariances = np.mean([m.covariances for m in batch.members], axis=0)
    np.testing.assert_allclose(
        found.covariances, covariances[:, features][:, :, features], atol=1e-12
    )


# ---- moments and quantiles -------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_mean_and_covariance_equal_quadrature(covariance_type: str) -> None:
    batch = random_batch(7, covariance_type, 3, 3, 3)
    values = {"a": np.array([-1.0, 0.5, 4.0]), "c": 1.5}
    found = batch.distribution.conditional(values)
    mean, lower, upper = found.mean(interval=0.8)
    assert mean.shape == (3, 1)
    for i, a in enumerate(values["a"]):
        x = np.column_stack([np.full_like(GRID, a), GRID, np.full_like(GRID, 1.5)])
        densities = batch.conditional_density(x, [1], [0, 2])
        expected, variance = of_one_feature(densities.mean(axis=0))
        np.testing.assert_allclose(mean[i, 0], expected, rtol=1e-9)
        np.testing.assert_allclose(found.covariance()[i, 0, 0], variance, rtol=1e-9)
        means = [of_one_feature(density)[0] for density in densities]
        np.testing.assert_allclose(lower[i, 0], np.quantile(means, 0.1), rtol=1e-9)
        np.testing.assert_allclose(upper[i, 0], np.quantile(means, 0.9), rtol=1e-9)
    np.testing.assert_array_equal(found.mean(), mean)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_quantiles_equal_roots_of_the_integrated_density(covariance_type: str) -> None:
    batch = random_batch(8, covariance_type, 3, 3, 2)
    found = batch.distribution.conditional({"a": np.array([-2.0, 1.0])})
    levels = [1e-6, 0.05, 0.5, 0.9]
    quantiles = found.quantile(levels)
    assert quantiles.shape == (4, 2)
    for i, a in enumerate([-2.0, 1.0]):
        x = np.column_stack([np.full_like(GRID, a), GRID])
        density = batch.conditional_density(x, [1], [0]).mean(axis=0)
        cdf = integrate.cumulative_simpson(density, x=GRID, initial=0.0)
        np.testing.assert_allclose(np.interp(quantiles[:, i], GRID, cdf), levels, rtol=2e-3)
        np.testing.assert_allclose(np.interp(quantiles[1:, i], GRID, cdf), levels[1:], rtol=1e-5)
    lower, upper = found.interval(0.9)
    np.testing.assert_allclose(lower[:, 0], quantiles[1])
    np.testing.assert_allclose(upper[:, 0], found.quantile(0.95))


@pytest.mark.parametrize("q", [1e-200, 1e-12, 0.01, 0.3, 0.5, 0.7, 0.999, 1 - 1e-12])
def test_mixture_quantiles_equal_brentq(q: float) -> None:
    """Overlapping, far apart with a gap at q = 0.3, with a rare wide part, and a single part."""
    weights = np.array([[0.4, 0.3, 1 - 1e-9, 1.0], [0.6, 0.7, 1e-9, 0.0]])
    means = np.array([[0.0, -1e6, 5.0, 2.0], [1.0, 1e6, 0.0, 1e300]])
    scales = np.array([[1.0, 2.0, 1e-3, 3.0], [0.5, 0.1, 1e4, 1.0]])
    found = mixture_quantile(weights, means, scales, q)
    side, p = (1.0, q) if q < 0.5 else (-1.0, 1 - q)
    for j, root in enumerate(found):

        def log_cdf(x: float, j: int = j) -> float:
            used = weights[:, j] > 0
            z = side * (x - means[used, j]) / scales[used, j]
            return float(np.logaddexp.reduce(stats.norm.logcdf(z) + np.log(weights[used, j])))

        assert log_cdf(root) == pytest.approx(np.log(p), abs=1e-7)
        bracket = (-2e6, 2e6)
        expected = optimize.brentq(lambda x: log_cdf(x) - np.log(p), *bracket, xtol=1e-13)
        if not (j == 1 and q == 0.3):  # any point of the gap is a quantile
            assert root == pytest.approx(expected, rel=1e-9, abs=1e-9)


# ---- samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_samples_have_the_mean_and_covariance(covariance_type: str) -> None:
    n = 40_000
    found = random_batch(9, covariance_type, 5, 3, 4).distribution.conditional({"b": 0.7})
    x, labels = found.sample(n, seed=1)
    assert x.shape == (n, 3)
    covariance = found.covariance()
    error = np.sqrt(np.diag(covariance) / n)
    assert (np.abs(x.mean(axis=0) - found.mean()) < 4 * error).all()
    spread = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert (np.abs(np.cov(x.T) - covariance) < 0.06 * spread).all()
    share = np.bincount(labels, minlength=3) / n
    assert (np.abs(share - found.weights) < 4 * np.sqrt(0.25 / n)).all()


def test_a_sample_at_many_values_has_each_ones_mean_and_spread() -> None:
    n = 1500
    values = np.array([-3.0, 0.0, 3.0])
    found = random_batch(10, "full", 5, 3, 3).distribution.conditional({"b": values})
    x, labels = found.sample(n, seed=1)
    assert x.shape == (n, 3, 2)
    assert labels.shape == (n, 3)
    variance = np.diagonal(found.covariance(), axis1=1, axis2=2)
    assert (np.abs(x.mean(axis=0) - found.mean()) < 4 * np.sqrt(variance / n)).all()
    np.testing.assert_allclose(x.var(axis=0), variance, rtol=0.15)


def test_a_sample_at_many_values_is_of_one_draw_of_the_parameters() -> None:
    means = np.array([[[0.0, -100.0]], [[0.0, 100.0]]])  # two draws, worlds apart
    mixture = Mixture(np.ones((2, 1)), means, np.ones((2, 1, 2)))
    joint = MixtureDistribution(mixture, Dataset(np.zeros((1, 2)), ("a", "b")), progress=False)
    x, _ = joint.conditional({"a": np.zeros(20)}).sample(30, seed=1)
    sign = np.sign(x[..., 0])
    assert (sign == sign[:, :1]).all()
    assert 0 < (sign[:, 0] > 0).mean() < 1


# ---- how they nest ---------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("value", [0.3, np.array([-1.0, 0.3, 2.0])])
def test_conditional_of_marginal_is_marginal_of_conditional(
    covariance_type: str, value: Any
) -> None:
    joint = random_batch(11, covariance_type, 3, 3, 5).distribution
    one = joint.marginal(["d", "b", "a"]).conditional({"b": value})
    other = joint.conditional({"b": value}).marginal(["d", "a"])
    assert one.feature_names == other.feature_names == ("d", "a")
    for name in ("mean", "covariance", "interval"):
        np.testing.assert_allclose(getattr(one, name)(), getattr(other, name)(), rtol=1e-9)
    x = np.array([[0.0, 1.0], [2.0, 3.0], [-1.0, 0.0]])
    np.testing.assert_allclose(one.log_density(x), other.log_density(x), rtol=1e-9)


def test_conditioning_in_two_steps_is_conditioning_at_once() -> None:
    joint = random_batch(12, "full", 3, 3, 4).distribution
    b, d = np.array([0.1, -0.4]), 2.0
    once = joint.conditional({"d": d, "b": b})
    twice = joint.conditional({"b": b}).conditional({"d": d})
    assert twice.shape == (2,)
    assert list(twice.given) == ["b", "d"]
    np.testing.assert_allclose(once.mean(), twice.mean(), rtol=1e-12)
    np.testing.assert_allclose(once.covariance(), twice.covariance(), rtol=1e-9)


def test_single_values_give_what_arrays_of_them_give() -> None:
    joint = random_batch(13, "full", 4, 3, 4).distribution
    values = np.array([-2.0, 0.0, 2.5])
    many = joint.conditional({"a": values, "c": 0.5})
    for i, value in enumerate(values):
        one = joint.conditional({"a": value, "c": 0.5})
        for name in ("weights", "means"):
            np.testing.assert_allclose(getattr(one, name), getattr(many, name)[i], rtol=1e-12)
        np.testing.assert_allclose(one.covariances, many.covariances, rtol=1e-12)
        for name in ("mean", "covariance"):
            np.testing.assert_allclose(getattr(one, name)(), getattr(many, name)()[i], rtol=1e-12)
        np.testing.assert_allclose(one.interval(0.8), np.stack(many.interval(0.8))[:, i])
        np.testing.assert_allclose(one.mixture.weights, many.mixture.weights[:, i], rtol=1e-12)


# ---- numbers at the edge ---------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_values_where_every_density_underflows_keep_the_right_weights(
    covariance_type: str,
) -> None:
    batch = random_batch(14, covariance_type, 3, 3, 3)
    x = np.array([[60.0, 0.0, -70.0]])
    found = batch.distribution.conditional({"a": 60.0, "c": -70.0})
    for member, weights in zip(batch.members, found.mixture.weights, strict=True):
        columns = np.ix_(range(3), [0, 2], [0, 2])
        logs = np.log(member.weights) + [
            stats.multivariate_normal(mean[[0, 2]], covariance).logpdf(x[0, [0, 2]])
            for mean, covariance in zip(member.means, member.covariances[columns], strict=True)
        ]
        assert (logs < -800).all()  # exp of it is zero
        expected = np.exp(logs - logs.max())
        np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_values_at_the_end_of_the_number_line_give_finite_answers(covariance_type: str) -> None:
    joint = random_batch(15, covariance_type, 3, 3, 3).distribution
    found = joint.conditional({"a": 1e200, "c": -1e200})
    assert np.isfinite(found.weights).all()
    assert found.weights.sum() == pytest.approx(1.0)
    assert np.isfinite(found.mean()).all()


def test_features_that_nearly_determine_each_other_keep_their_digits() -> None:
    """Given either of two features with correlation sqrt(1 - e^2), the other has deviation e."""
    e = 1e-7
    rho = np.sqrt(1 - e**2)
    chol = np.array([[[[1.0, 0.0], [rho, e]]]])
    mixture = Mixture(np.ones((1, 1)), np.zeros((1, 1, 2)), np.ones((1, 1, 2)), chol)
    joint = MixtureDistribution(mixture, Dataset(np.zeros((1, 2)), ("a", "b")), progress=False)
    for given in ("a", "b"):
        found = joint.conditional({given: 2.0})
        assert found.mixture.scales.item() == pytest.approx(e, rel=1e-7)
        assert found.mean().item() == pytest.approx(2.0 * rho, rel=1e-12)


def test_lower_factor_is_choleskys() -> None:
    rows = np.random.default_rng(16).normal(size=(7, 2, 3, 5))
    factor = np.linalg.cholesky(rows @ np.swapaxes(rows, -1, -2))
    np.testing.assert_allclose(lower_factor(rows), factor, atol=1e-12)


def test_memory_stays_bounded_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(17, "full", 100, 3, 3)
    values = np.random.default_rng(18).normal(0, 2, 800)
    found = batch.distribution.conditional({"b": values}).marginal("a")
    whole = [*found.mean(interval=0.9), *found.interval(0.9)]
    monkeypatch.setattr(distribution, "BLOCK", 2**13)
    tracemalloc.start()
    blocks = [*found.mean(interval=0.9), *found.interval(0.9)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    assert peak < 8 * 100 * 3 * len(values)  # less than one array of all weights


# ---- what users give and get -----------------------------------------------------------------


def test_features_go_by_name_or_position() -> None:
    joint = random_batch(19, "full", 2, 2, 3).distribution
    by_name, by_position = joint.conditional({"b": 1.0}), joint.conditional({1: 1.0})
    np.testing.assert_array_equal(by_name.mean(), by_position.mean())
    assert joint.marginal("c").feature_names == joint.marginal(2).feature_names == ("c",)
    rest = joint.conditional({"a": 0.0})
    assert rest.marginal(0).feature_names == ("b",)  # positions are those of what is left


def test_a_name_comes_before_a_position() -> None:
    mixture = random_batch(20, "full", 1, 2, 3).mixture
    years = MixtureDistribution(mixture, Dataset(np.zeros((1, 3)), ("1", "2", "2020"), named=True))
    assert years.marginal(1).feature_names == ("1",)
    assert years.marginal(2020).feature_names == ("2020",)
    assert years.marginal(0).feature_names == ("1",)


def test_pandas_values_and_rows_are_taken() -> None:
    joint = random_batch(21, "full", 2, 2, 3).distribution
    table = pd.DataFrame({"b": [1.0, 2.0], "c": [0.0, 1.0]}, index=["p", "q"])
    found = joint.conditional({"a": pd.Series([1, 2], index=["p", "q"])})
    np.testing.assert_array_equal(found.log_density(table), found.log_density(table.to_numpy()))
    with pytest.raises(sg.DataError, match=r"\['b', 'c'\], got \['c', 'b'\]"):
        found.log_density(table[["c", "b"]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"z": 1.0}, r"no feature 'z' among \['a', 'b', 'c'\]"),
        ({3: 1.0}, "position from 0 to 2"),
        ({-1: 1.0}, "no feature -1"),
        ({True: 1.0}, "no feature True"),
        ({}, "feature: value"),
        ("a", "feature: value"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "At least one feature must be left"),
        ({"a": 1.0, 0: 2.0}, "one value for 'a'"),
        ({"a": np.nan}, "value of 'a' must be a finite number"),
        ({"a": [1.0, np.inf]}, "value of 'a' must be a finite number"),
        ({"a": "1"}, "value of 'a' must be a finite number"),
        ({"a": []}, r"value of 'a' .* got shape \(0,\)"),
        ({"a": [[1.0, 2.0]]}, r"value of 'a' .* got shape \(1, 2\)"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}, r"one length, got \[2, 3\]"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: Any, message: str) -> None:
    joint = random_batch(22, "full", 2, 2, 3).distribution
    with pytest.raises(sg.DataError, match=message):
        joint.conditional(values)


def test_calls_that_make_no_sense_are_refused() -> None:
    joint = random_batch(22, "full", 2, 2, 3).distribution
    with pytest.raises(sg.DataError, match="each once"):
        joint.marginal(["a", 0])
    with pytest.raises(sg.DataError, match="at least one"):
        joint.marginal([])
    with pytest.raises(sg.ModelError, match=r"one feature, got \['a', 'b', 'c'\]"):
        joint.quantile(0.5)
    with pytest.raises(sg.ModelError, match="ends excluded"):
        joint.marginal("a").quantile([0.5, 1.0])
    with pytest.raises(sg.ModelError, match="interval"):
        joint.mean(interval=90)
    with pytest.raises(sg.ModelError, match="probability"):
        joint.interval(1.0)
    with pytest.raises(sg.DataError, match=r"\['a', 'b', 'c'\], got 2"):
        joint.log_density(np.zeros((4, 2)))
    with pytest.raises(sg.DataError, match="2 given values"):
        joint.conditional({"a": [0.0, 1.0]}).log_density(np.zeros((3, 2)))


def test_it_says_what_it_is() -> None:
    joint = random_batch(23, "full", 2, 3, 3).distribution
    assert repr(joint.conditional({"a": 1.25})) == (
        "MixtureDistribution(b, c | a = 1.25; K=3, 2 draws)"
    )
    assert repr(joint.conditional({"a": [1.0, 2.0]}).marginal("c")) == (
        "MixtureDistribution(c | a = 2 values; K=3, 2 draws)"
    )


# ---- fits ------------------------------------------------------------------------------------


def test_a_point_estimate_has_a_regression_line_without_bounds(fits_faithful: Any) -> None:
    fit = fits_faithful["em"]
    line = fit.conditional({"eruption_min": np.array([2.0, 4.5])})
    mean, lower, upper = line.mean(interval=0.9)
    assert (mean[:, 0] > [50, 75]).all()
    assert (mean[:, 0] < [60, 85]).all()
    assert np.isnan([lower, upper]).all()
    inside = [low < m < high for m, low, high in zip(mean, *line.interval(0.9), strict=True)]
    assert all(inside)


@pytest.mark.stan
@pytest.mark.parametrize("method", ["optimize", "advi", "nuts"])
def test_every_method_gives_regressions(fits_faithful: Any, method: str) -> None:
    fit = fits_faithful[method]
    line = fit.conditional({"eruption_min": np.array([2.0, 4.5])})
    np.testing.assert_allclose(
        line.mean(), fits_faithful["em"].conditional({0: [2.0, 4.5]}).mean(), rtol=0.05
    )
    _, lower, upper = line.mean(interval=0.9)
    if fit.kind == "point":
        assert np.isnan(lower).all()
        return
    outer = line.interval(0.9)
    assert (outer[0] < lower).all()
    assert (upper < outer[1]).all()
    assert fit.marginal("waiting_min").quantile(0.5) == pytest.approx(
        np.median(fit.dataset.x[:, 1]), abs=3.0
    )


@pytest.mark.stan
def test_predictive_intervals_cover_the_rows(fits_faithful: Any) -> None:
    fit = fits_faithful["nuts"]
    x = fit.dataset.x
    lower, upper = fit.conditional({"eruption_min": x[:, 0]}).interval(0.8)
    covered = ((lower[:, 0] < x[:, 1]) & (x[:, 1] < upper[:, 0])).mean()
    assert abs(covered - 0.8) < 4 * np.sqrt(0.8 * 0.2 / len(x))


def test_the_picture_draws_the_line_and_the_interval(fits_faithful: Any) -> None:
    fit = fits_faithful["em"]
    ax = plots.regression(fit, "waiting_min", "eruption_min")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("eruption_min", "waiting_min")
    (line,) = [drawn for drawn in ax.lines if drawn.get_label() == "mean"]
    x, y = line.get_data()
    found = fit.conditional({"eruption_min": np.asarray(x)})
    np.testing.assert_allclose(y, found.mean()[:, 0])
    (band,) = [c for c in ax.collections if isinstance(c, FillBetweenPolyCollection)]
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(found.interval(0.9)[1].max())
