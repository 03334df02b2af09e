"""Predictions: what they are, in which form they come, and what they take."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from random_mixtures import COVARIANCE_TYPES, PlainMixture, random_mixture
from scipy.special import logsumexp
from scipy.stats import beta, norm

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.model.mixture import Mixture
from stangmm.predict import averages as predict
from stangmm.predict import quadratic
from stangmm.predict.predictions import Predictions

SIZES = [(3, 2), (1, 2), (2, 1), (1, 1), (2, 5)]


def draws_of(
    rng: np.random.Generator, covariance_type: str, k: int, d: int, s: int
) -> tuple[list[PlainMixture], Mixture]:
    """Mixtures that vary about as much as draws of a small data set's posterior do, twice."""
    plain = random_mixture(rng, covariance_type, k, d)
    each = [
        PlainMixture(
            rng.dirichlet(1 + 30 * plain.weights),
            plain.means + rng.normal(0, 0.3, (k, d)),
            plain.covariances * rng.lognormal(0, 0.2),
        )
        for _ in range(s)
    ]
    return each, stacked([one.mixture(covariance_type) for one in each])


def stacked(mixtures: list[Mixture]) -> Mixture:
    factors = [m.corr_chol for m in mixtures if m.corr_chol is not None]
    return Mixture(
        np.stack([m.weights for m in mixtures]),
        np.stack([m.means for m in mixtures]),
        np.stack([m.scales for m in mixtures]),
        np.stack(factors) if factors else None,
    )


def fitted(mixture: Mixture, X: Any, **options: Any) -> Predictions:
    """What a fit is to its predictions."""
    fit = Predictions()
    fit.mixture, fit.dataset, fit.seed = mixture, Dataset.from_input(X, **options), 1
    return fit


def brute_force(plain: list[PlainMixture], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Responsibilities (S, N, K) and log densities (S, N) by scipy, draw by draw."""
    joint = np.stack([m.component_log_density(x) + np.log(m.weights)[:, np.newaxis] for m in plain])
    total = logsumexp(joint, axis=1)
    return np.swapaxes(np.exp(joint - total[:, np.newaxis]), 1, 2), total


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows and draws, in threads, so that every seam is met."""
    monkeypatch.setattr(quadratic, "BLOCK", 24)
    monkeypatch.setattr(quadratic, "DRAWS", 7)
    monkeypatch.setattr(predict, "SORTED", 200)
    monkeypatch.setattr(predict, "FEWEST", 300)
    monkeypatch.setattr(predict, "SHORT", 0)
    monkeypatch.setattr(predict, "n_processors", lambda: 3)


# ---- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", ["small", "usual", "no polynomials"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("k", "d"), SIZES)
def test_predictions_are_averages_and_quantiles_over_draws(
    covariance_type: str, k: int, d: int, blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks == "small":
        small_blocks(monkeypatch)
    if blocks == "no polynomials":
        monkeypatch.setattr(quadratic, "COEFFICIENTS", 0)
    rng = np.random.default_rng([7, k, d])
    plain, mixture = draws_of(rng, covariance_type, k, d, 30)
    x = plain[0].sample(rng, 37)
    x[5] = 200.0  # far from everything
    each, log_density = brute_force(plain, x)
    fit = fitted(mixture, x)
    close: dict[str, float] = {"rtol": 1e-9, "atol": 1e-12}

    mean = each.mean(axis=0)
    np.testing.assert_allclose(fit.predict_proba(x), mean, **close)
    np.testing.assert_array_equal(fit.predict(x), mean.argmax(axis=1))
    band = fit.predict_proba(x, interval=0.8)
    lower, upper = np.quantile(each, [0.1, 0.9], axis=0)
    for got, expected in zip(band, (mean, lower, upper), strict=True):
        np.testing.assert_allclose(got, expected, **close)

    predictive = logsumexp(log_density, axis=0) - np.log(30)
    np.testing.assert_allclose(fit.log_density(x), predictive, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(fit.density(x), np.exp(predictive), rtol=1e-9)
    bounds = np.quantile(np.exp(log_density), [0.1, 0.9], axis=0)
    band = fit.density(x, interval=0.8)
    for got, expected in zip(band, (np.exp(predictive), *bounds), strict=True):
        np.testing.assert_allclose(got, expected, **close)

    weight = rng.integers(0, 3, len(x)).astype(float)
    assert fit.score(x) == pytest.approx(predictive.mean(), rel=1e-10)
    repeated = np.repeat(predictive, weight.astype(int)).mean()
    assert fit.score(x, weight) == pytest.approx(repeated, rel=1e-10)


def test_a_point_estimate_is_one_draw_and_has_no_bounds() -> None:
    rng = np.random.default_rng(1)
    plain, mixture = draws_of(rng, "full", 3, 2, 1)
    x = plain[0].sample(rng, 50)
    each, log_density = brute_force(plain, x)
    fit = fitted(mixture, x)
    np.testing.assert_allclose(fit.predict_proba(x), each[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.log_density(x), log_density[0], rtol=1e-10)
    for band in (fit.predict_proba(x, interval=0.9), fit.density(x, interval=0.9)):
        assert np.isfinite(band.mean).all()
        assert np.isnan(band.lower).all()
        assert np.isnan(band.upper).all()


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize(
    "case", ["offset", "small unit", "huge unit", "narrow", "a wild draw", "a weight of zero"]
)
def test_predictions_keep_their_digits_where_polynomials_would_lose_them(
    covariance_type: str, case: str
) -> None:
    """Against sums of deviations in extended precision, where long doubles have it."""
    rng = np.random.default_rng(2)
    plain, mixture = draws_of(rng, covariance_type, 2, 2, 20)
    x = np.concatenate([plain[0].sample(rng, 30), 1e3 * plain[0].sample(rng, 3)])
    if case == "offset":
        mixture, x = mixture.in_units(np.full(2, 1e8), np.ones(2)), x + 1e8
    if case == "small unit":
        mixture, x = mixture.in_units(np.zeros(2), np.full(2, 1e-150)), x * 1e-150
    if case == "huge unit":
        mixture, x = mixture.in_units(np.zeros(2), np.full(2, 1e145)), x * 1e145
    if case == "narrow":
        mixture = Mixture(mixture.weights, mixture.means, 1e-6 * mixture.scales, mixture.corr_chol)
    if case == "a wild draw":
        mixture.scales[3, 0] = [1e-200, 1e-3]
        mixture.means[4, 1] = 1e12
    if case == "a weight of zero":
        mixture.weights[6] = [0.0, 1.0]
    wide = np.longdouble
    deviation = (x.astype(wide)[:, np.newaxis, np.newaxis] - mixture.means) / mixture.scales
    log_det = np.log(mixture.scales.astype(wide)).sum(axis=-1)
    if mixture.corr_chol is not None:
        factor = mixture.corr_chol.astype(wide)
        deviation[..., 1] -= factor[..., 1, 0] * deviation[..., 0]
        deviation[..., 1] /= factor[..., 1, 1]
        log_det = log_det + np.log(factor[..., 1, 1])
    with np.errstate(divide="ignore", under="ignore"):
        constant = np.log(mixture.weights.astype(wide)) - log_det - np.log(2 * wide(np.pi))
        joint = constant - 0.5 * (deviation**2).sum(axis=-1)  # (N, S, K)
        total = np.logaddexp(joint[..., 0], joint[..., 1])
        each = np.exp(joint - total[..., np.newaxis])
        peak = total.max(axis=1)
        predictive = np.log(np.exp(total - peak[:, np.newaxis]).mean(axis=1)) + peak
    fit = fitted(mixture, x)
    near = np.abs(predictive) < 1e5
    assert near.any() or case == "narrow"
    density = fit.log_density(x)
    np.testing.assert_allclose(density[near], predictive[near].astype(float), atol=1e-9, rtol=1e-12)
    np.testing.assert_allclose(density, predictive.astype(float), rtol=1e-10)
    proba = fit.predict_proba(x)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba[near], each.mean(axis=1)[near].astype(float), atol=1e-9)


def test_rows_a_million_standard_deviations_away_have_finite_predictions() -> None:
    rng = np.random.default_rng(3)
    plain, mixture = draws_of(rng, "full", 3, 2, 40)
    x = plain[0].sample(rng, 20)
    x[[0, 3]] = [[1e6, -1e6], [-1e200, 1e200]]
    fit = fitted(mixture, np.delete(x, [0, 3], axis=0))
    proba = fit.predict_proba(x)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(fit.log_density(x)).all()
    assert fit.density(x, interval=0.9).upper[3] == 0.0
    np.testing.assert_allclose(np.delete(proba, [0, 3], axis=0), fit.predict_proba(fit.dataset.x))
    assert (fit.outlier_score(x).tail_probability[[0, 3]] == 1 / 10_001).all()


def test_fewer_draws_are_spread_evenly_over_all() -> None:
    rng = np.random.default_rng(4)
    plain, mixture = draws_of(rng, "diag", 2, 2, 21)
    x = plain[0].sample(rng, 10)
    fit = fitted(mixture, x)
    each, log_density = brute_force([plain[i] for i in (0, 5, 10, 15, 20)], x)
    np.testing.assert_allclose(fit.predict_proba(x, max_draws=5), each.mean(axis=0), rtol=1e-9)
    band = fit.predict_proba(x, interval=0.5, max_draws=5)
    np.testing.assert_allclose(band.lower, np.quantile(each, 0.25, axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        fit.log_density(x, max_draws=5), logsumexp(log_density, axis=0) - np.log(5), rtol=1e-10
    )
    np.testing.assert_array_equal(fit.predict_proba(x, max_draws=400), fit.predict_proba(x))


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    plain, mixture = draws_of(rng, "full", 3, 2, 300)
    x = plain[0].sample(rng, 1000)
    fit = fitted(mixture, x)
    asked: list[Callable[[], Any]] = [
        lambda: fit.predict_proba(x),
        lambda: fit.predict_proba(x, interval=0.9),
        lambda: fit.log_density(x),
    ]
    answers = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(predict, "n_processors", lambda cores=cores: cores)
        answers.append([np.asarray(ask()) for ask in asked])
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


# ---- outliers --------------------------------------------------------------------------------


def test_tail_probabilities_are_those_of_the_normal_distribution() -> None:
    """For one normal, density falls with the distance: the tail is a two-sided p-value."""
    mixture = Mixture(np.ones((1, 1)), np.full((1, 1, 1), 3.0), np.full((1, 1, 1), 2.0))
    x = np.array([4.0, 1.0, 6.0, 9.0, -5.0])
    fit = fitted(mixture, x)
    log_density, tail = fit.outlier_score(x)
    np.testing.assert_allclose(log_density, norm(3, 2).logpdf(x), rtol=1e-12)
    expected = 2 * norm.sf(np.abs(x - 3) / 2)
    low, high = beta(10_000 * expected + 1, 10_000 * (1 - expected) + 1).ppf([[1e-5], [1 - 1e-5]])
    assert ((tail > low) & (tail < high)).all()
    np.testing.assert_array_equal(fit.outlier_score(x).tail_probability, tail)


def test_tail_probabilities_of_new_rows_are_uniform() -> None:
    rng = np.random.default_rng(6)
    _, mixture = draws_of(rng, "full", 3, 2, 50)
    x, _ = predict.sample(mixture, 4000, rng)
    tail = np.sort(fitted(mixture, x).outlier_score(x).tail_probability)
    steps = np.arange(1, 4001) / 4000
    # Kolmogorov's statistic of two samples, of 4000 and 10,000; its quantile of 1 - 1e-6 is 2.7.
    assert np.abs(tail - steps).max() < 2.7 * np.sqrt(1 / 4000 + 1 / 10_000)


# ---- missing values --------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_missing_values_are_integrated_out(
    covariance_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    rng = np.random.default_rng(8)
    plain, mixture = draws_of(rng, covariance_type, 2, 3, 15)
    complete = plain[0].sample(rng, 40)
    x = np.where(rng.random(complete.shape) < 0.4, np.nan, complete)
    x[7] = np.nan
    fit = fitted(mixture, complete, missing="marginalize")
    proba, density = fit.predict_proba(x), fit.log_density(x)
    band = fit.predict_proba(x, interval=0.8)
    monkeypatch.undo()
    tail = fit.outlier_score(x).tail_probability
    for n, row in enumerate(x):
        seen = np.flatnonzero(~np.isnan(row))
        if not len(seen):
            continue
        part = [
            PlainMixture(m.weights, m.means[:, seen], m.covariances[:, seen][:, :, seen])
            for m in plain
        ]
        each, total = brute_force(part, row[np.newaxis, seen])
        np.testing.assert_allclose(proba[n], each[:, 0].mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(band.upper[n], np.quantile(each[:, 0], 0.9, axis=0), rtol=1e-8)
        assert density[n] == pytest.approx(logsumexp(total) - np.log(15), abs=1e-9)
        drawn, _ = predict.sample(mixture, 10_000, np.random.default_rng(9))
        reference = logsumexp(brute_force(part, drawn[:, seen])[1], axis=0) - np.log(15)
        # Two independent counts among 10,000.
        assert abs((reference <= density[n]).mean() - tail[n]) < 5 * np.sqrt(0.5 / 10_000)
    np.testing.assert_allclose(proba[7], mixture.weights.mean(axis=0), rtol=1e-12)
    assert density[7] == pytest.approx(0.0, abs=1e-12)
    assert tail[7] == 1.0


def test_missing_values_are_refused_where_the_fit_had_none() -> None:
    rng = np.random.default_rng(10)
    plain, mixture = draws_of(rng, "full", 2, 2, 3)
    fit = fitted(mixture, plain[0].sample(rng, 10))
    with pytest.raises(sg.DataError, match="NaN"):
        fit.predict_proba([[np.nan, 1.0]])


# ---- forms -----------------------------------------------------------------------------------


def named_fit() -> tuple[Predictions, pd.DataFrame]:
    rng = np.random.default_rng(11)
    plain, mixture = draws_of(rng, "full", 3, 2, 10)
    X = pd.DataFrame(
        plain[0].sample(rng, 6), columns=["a", "b"], index=pd.Index(list("uvwxyz"), name="row")
    )
    return fitted(mixture, X), X


def test_pandas_comes_out_with_the_index_it_came_in_with() -> None:
    fit, X = named_fit()
    x = X.to_numpy()
    labels = fit.predict(X)
    assert isinstance(labels, pd.Series)
    assert labels.name == "component"
    assert labels.dtype.kind == "i"
    density = fit.log_density(X)
    assert density.name == "log_density"
    assert fit.density(X).name == "density"
    proba = fit.predict_proba(X)
    assert isinstance(proba, pd.DataFrame)
    assert list(proba.columns) == [0, 1, 2]
    assert proba.columns.name == "component"
    scores = fit.outlier_score(X)
    assert list(scores.columns) == ["log_density", "tail_probability"]
    band = fit.predict_proba(X, interval=0.9)
    assert isinstance(band.upper, pd.DataFrame)
    assert isinstance(fit.density(X, interval=0.9).lower, pd.Series)
    for table in (labels, density, proba, scores, band.mean, band.lower, band.upper):
        pd.testing.assert_index_equal(table.index, X.index)
    np.testing.assert_array_equal(proba.to_numpy(), fit.predict_proba(x))
    np.testing.assert_array_equal(scores.tail_probability, fit.outlier_score(x).tail_probability)
    assert isinstance(fit.predict(x), np.ndarray)
    assert isinstance(fit.predict_proba(x.tolist()), np.ndarray)


def test_a_series_is_rows_of_one_feature() -> None:
    mixture = Mixture(np.ones((1, 1)), np.zeros((1, 1, 1)), np.ones((1, 1, 1)))
    X = pd.Series([0.0, 1.0, 2.5], index=[10, 20, 30], name="x")
    density = fitted(mixture, X).log_density(X)
    np.testing.assert_allclose(density.loc[[10, 20, 30]], norm.logpdf(X), rtol=1e-12)


def test_xarray_comes_out_with_the_coordinates_of_its_rows() -> None:
    fit, table = named_fit()
    X = xr.DataArray(
        table.to_numpy(),
        {"place": list("uvwxyz"), "height": ("place", np.arange(6.0)), "var": ["a", "b"]},
        ("place", "var"),
    )
    proba = fit.predict_proba(X)
    assert proba.dims == ("place", "component")
    np.testing.assert_array_equal(proba, fit.predict_proba(table))
    labels = fit.predict(X)
    assert labels.name == "component"
    assert list(labels.coords) == ["place", "height"]
    assert float(fit.log_density(X).sel(place="w")) == fit.log_density(table)["w"]
    assert fit.outlier_score(X).log_density.dims == ("place",)


# ---- what makes no sense ---------------------------------------------------------------------


@pytest.mark.parametrize("interval", [0, 1, -0.5, 90, "0.9", True, float("nan")])
def test_intervals_outside_of_zero_to_one_are_refused(interval: Any) -> None:
    fit, X = named_fit()
    for ask in (fit.predict_proba, fit.density):
        with pytest.raises(sg.ModelError, match="interval must be"):
            ask(X, interval=interval)


@pytest.mark.parametrize("max_draws", [0, -1, 2.5, "10", True])
def test_numbers_of_draws_below_one_are_refused(max_draws: Any) -> None:
    fit, X = named_fit()
    for ask in (fit.predict, fit.log_density, fit.density, fit.score, fit.outlier_score):
        with pytest.raises(sg.ModelError, match="max_draws must be"):
            ask(X, max_draws=max_draws)


def test_other_features_than_those_of_the_fit_are_refused() -> None:
    fit, X = named_fit()
    for ask in (fit.predict, fit.predict_proba, fit.log_density, fit.density, fit.outlier_score):
        with pytest.raises(sg.DataError, match="fitted to features"):
            ask(X[["b", "a"]])
        with pytest.raises(sg.DataError, match="fitted to 2 features"):
            ask(X.to_numpy()[:, :1])
    with pytest.raises(sg.DataError, match="sample_weight"):
        fit.score(X, [1.0, 2.0])


# ---- memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [None, 0.9])
def test_predictions_take_no_more_memory_than_is_said(interval: float | None) -> None:
    """64 MB beyond rows and results, here with as many coefficients as are ever kept."""
    rng = np.random.default_rng(12)
    one = random_mixture(rng, "full", 4, 6)
    s = quadratic.COEFFICIENTS // (4 * 28)
    jitter = np.exp(0.01 * rng.standard_normal((s, 1, 1)))
    single = one.mixture("full")
    mixture = Mixture(
        np.tile(single.weights, (s, 1)),
        single.means * jitter,
        single.scales * jitter,
        np.broadcast_to(np.asarray(single.corr_chol), (s, 4, 6, 6)),
    )
    x = one.sample(rng, 40)
    fit = fitted(mixture, x)
    tracemalloc.start()
    fit.predict_proba(x, interval=interval)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 30e6 < peak < 64e6


def test_memory_does_not_grow_with_the_rows() -> None:
    rng = np.random.default_rng(13)
    plain, mixture = draws_of(rng, "full", 3, 2, 10)
    x = plain[0].sample(rng, 400_000)
    peaks = []
    for n in (100_000, 400_000):
        tracemalloc.start()
        predict.responsibilities(mixture, x[:n])
        predict.log_density(mixture, x[:n])
        peaks.append(tracemalloc.get_traced_memory()[1] - n * 3 * 8)
        tracemalloc.stop()
    assert max(peaks) < 20e6
    assert peaks[1] < peaks[0] + 4e6


# ---- replicated data -------------------------------------------------------------------------


def test_replicated_data_come_from_their_draw() -> None:
    """Draw s has its mean at s, with a small spread."""
    n_chains, n_draws = 2, 50
    means = np.arange(n_chains * n_draws, dtype=float).reshape(n_chains, n_draws, 1, 1)
    mixture = Mixture(np.ones((n_chains, n_draws, 1)), means, np.full_like(means, 1e-3))
    draws, x = predict.replicated(mixture, 200, np.random.default_rng(1))
    assert x.shape == (2, 50, 200, 1)
    np.testing.assert_allclose(x.mean(axis=(2, 3)), means[..., 0, 0][:, draws], atol=1e-3)
    np.testing.assert_allclose(x.std(axis=(2, 3)), 1e-3, rtol=0.3)


@pytest.mark.parametrize(
    ("chains", "n_draws", "rows", "sets"),
    [(4, 1000, 100, 1000), (1, 1, 100, 1), (1, 1000, 300_000, 13), (4, 9, 10**6, 1)],
)
def test_replicated_data_are_bounded(chains: int, n_draws: int, rows: int, sets: int) -> None:
    shape = (chains, n_draws)
    mixture = Mixture(np.ones((*shape, 1)), np.zeros((*shape, 1, 2)), np.ones((*shape, 1, 2)))
    draws, x = predict.replicated(mixture, rows, np.random.default_rng(1))
    assert x.shape == (chains, sets, rows, 2)
    assert len(np.unique(draws)) == sets
    assert draws.max() < n_draws


def test_replicated_data_are_as_many_as_are_asked_for() -> None:
    mixture = Mixture(np.ones((4, 90, 1)), np.zeros((4, 90, 1, 2)), np.ones((4, 90, 1, 2)))
    draws, x = predict.replicated(mixture, 10, np.random.default_rng(1), most=100)
    assert x.shape == (4, 25, 10, 2)
    assert draws.tolist() == sorted(set(draws.tolist()))
