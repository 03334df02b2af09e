"""Imputation: the mean and the distribution of what is missing, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from mixture_batches import Batch, random_batch
from random_mixtures import COVARIANCE_TYPES
from scipy import integrate

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.model.mixture import Mixture
from stangmm.predict import imputation
from stangmm.predict.imputation import impute

GRID = np.linspace(-20.0, 20.0, 201)
NAN = np.nan


def filled(batch: Batch, X: Any, how: Any = "mean", **options: Any) -> Any:
    return impute(batch.mixture, batch.dataset, X, how, progress=False, **options)


def with_holes(seed: int, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, (n, d))
    x[rng.random((n, d)) < 0.4] = NAN
    return x


def mean_by_quadrature(batch: Batch, row: np.ndarray) -> np.ndarray:
    """Mean of a row's one or two missing values given the others, averaged over the draws."""
    missing, observed = np.flatnonzero(np.isnan(row)).tolist(), np.flatnonzero(~np.isnan(row))
    axes = np.meshgrid(*[GRID] * len(missing), indexing="ij")
    x = np.tile(row, (axes[0].size, 1))
    x[:, missing] = np.stack([axis.ravel() for axis in axes], axis=1)
    log_density = batch.marginal_log(x, missing + observed.tolist())
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    density = density.reshape(-1, *axes[0].shape)

    def total(values: np.ndarray) -> np.ndarray:
        for _ in missing:
            values = integrate.trapezoid(values, GRID, axis=-1)
        return values

    mass = total(density)
    return np.array([(total(density * axis) / mass).mean() for axis in axes])


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_mean_of_what_is_missing_equals_quadrature(covariance_type: str) -> None:
    batch = random_batch(31, covariance_type, 3, 3, 3)
    x = np.array([[0.5, NAN, -1.0], [NAN, 2.0, NAN], [3.0, 0.1, NAN], [1.0, NAN, NAN]])
    found = filled(batch, x)
    for row, completed in zip(x, found, strict=True):
        missing = np.isnan(row)
        np.testing.assert_allclose(completed[missing], mean_by_quadrature(batch, row), rtol=1e-7)


def test_a_row_without_any_value_gets_the_mean_of_the_mixture() -> None:
    batch = random_batch(32, "full", 4, 3, 3)
    x = np.array([[NAN, NAN, NAN], [1.0, NAN, 0.0], [NAN, NAN, NAN]])
    expected = np.mean([m.weights @ m.means for m in batch.members], axis=0)
    np.testing.assert_allclose(filled(batch, x)[[0, 2]], [expected, expected], rtol=1e-12)


@pytest.mark.parametrize("how", ["mean", "draw"])
def test_observed_values_stay_the_same_to_the_bit(how: str) -> None:
    batch = random_batch(33, "full", 3, 3, 5)
    x = with_holes(34, 200, 5)
    given = x.copy()
    found = filled(batch, x, how, seed=1)
    seen = ~np.isnan(x)
    np.testing.assert_array_equal(found[seen].view(np.int64), x[seen].view(np.int64))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(x, given)  # what the user gave is as it was


def test_rows_are_filled_in_alike_in_chunks_and_in_any_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = random_batch(35, "full", 3, 3, 4)
    x = with_holes(36, 300, 4)
    whole = filled(batch, x)
    order = np.random.default_rng(37).permutation(len(x))
    np.testing.assert_allclose(filled(batch, x[order]), whole[order], rtol=1e-12)
    monkeypatch.setattr(imputation, "ROWS", 7)
    np.testing.assert_allclose(filled(batch, x), whole, rtol=1e-12)
    assert np.isfinite(filled(batch, x, "draw", seed=1)).all()


def test_draws_have_the_conditional_mean_and_spread() -> None:
    n = 1500
    batch = random_batch(38, "full", 5, 3, 3)
    conditional = batch.distribution.conditional({"b": 0.8})
    completed = filled(batch, [[NAN, 0.8, NAN]] * 4, "draw", n=n, seed=1)[:, :, [0, 2]]
    covariance = conditional.covariance()
    for row in range(4):
        x = completed[:, row]
        error = np.sqrt(np.diag(covariance) / n)
        assert (np.abs(x.mean(axis=0) - conditional.mean()) < 4 * error).all()
        spread = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        assert (np.abs(np.cov(x.T) - covariance) < 0.12 * spread).all()


def test_draws_keep_the_correlation_that_means_exaggerate() -> None:
    rho, n = 0.6, 20_000
    chol = np.array([[[[1.0, 0.0], [rho, np.sqrt(1 - rho**2)]]]])
    mixture = Mixture(np.ones((1, 1)), np.zeros((1, 1, 2)), np.ones((1, 1, 2)), chol)
    dataset = Dataset(np.zeros((1, 2)), ("a", "b"))
    rng = np.random.default_rng(39)
    x = rng.normal(size=(n, 2)) @ chol[0, 0].T
    x[rng.random(n) < 0.5, 1] = NAN

    def correlation(how: Any) -> float:
        completed = impute(mixture, dataset, x, how, seed=1, progress=False)
        return float(np.corrcoef(completed.T)[0, 1])

    assert abs(correlation("draw") - rho) < 4 / np.sqrt(n)
    nothing = impute(mixture, dataset, np.full((n, 2), NAN), "draw", seed=1, progress=False)
    assert abs(np.corrcoef(nothing.T)[0, 1] - rho) < 4 / np.sqrt(n)
    # Half the values are on the line: covariance as it was, variance (1 + rho^2) / 2.
    assert correlation("mean") == pytest.approx(rho / np.sqrt((1 + rho**2) / 2), abs=0.02)


def test_a_completion_takes_one_draw_of_the_parameters_for_all_rows() -> None:
    means = np.array([[[0.0, -100.0]], [[0.0, 100.0]]])  # two draws, worlds apart
    mixture = Mixture(np.ones((2, 1)), means, np.ones((2, 1, 2)))
    x = np.array([[0.0, NAN], [1.0, NAN], [NAN, NAN]])
    dataset = Dataset(np.zeros((1, 2)), ("a", "b"))
    for seed in range(1, 7):
        completed = impute(mixture, dataset, x, "draw", n=2, seed=seed, progress=False)
        sign = np.sign(completed[:, :, 1])
        assert (sign == sign[:, :1]).all()
        assert sign[0, 0] == -sign[1, 0]  # and no draw twice while there are others


def test_a_data_frame_keeps_index_columns_and_types() -> None:
    batch = random_batch(40, "full", 3, 3, 4)
    table = pd.DataFrame(
        {
            "a": np.array([0.1, np.nan, 0.3], dtype=np.float32),
            "b": [1, 2, 3],
            "c": [np.nan, 1.0, 2.0],
            "d": pd.array([1, None, 3], dtype="Int64"),
        },
        index=["x", "y", "z"],
    )
    before = table.copy()
    found = filled(batch, table)
    pd.testing.assert_frame_equal(table, before)
    assert list(found.index) == ["x", "y", "z"]
    assert found.dtypes.astype(str).to_dict() == {
        "a": "float32",
        "b": "int64",
        "c": "float64",
        "d": "float64",
    }
    assert not found.isna().any(axis=None)
    for name in "abcd":
        seen = table[name].notna()
        assert (found.loc[seen, name] == table.loc[seen, name]).all()
    plain = filled(batch, table.to_numpy(dtype=float, na_value=np.nan))
    np.testing.assert_allclose(found.to_numpy(), plain, rtol=1e-6)


@pytest.mark.parametrize("kind", ["frame", "series", "array", "list", "flat"])
def test_what_comes_back_is_like_what_was_given(kind: str) -> None:
    batch = random_batch(41, "full", 3, 3, 1)
    series = pd.Series([1.0, NAN, 2.0], index=[5, 6, 7], name="a")
    X = {
        "frame": series.to_frame(),
        "series": series,
        "array": series.to_numpy()[:, np.newaxis],
        "list": [[1.0], [NAN], [2.0]],
        "flat": series.to_numpy(),
    }[kind]
    found, several = filled(batch, X), filled(batch, X, "draw", n=3, seed=1)
    assert np.shape(found) == np.shape(X)
    assert len(several) == 3
    if kind in ("frame", "series"):
        assert all(type(each) is type(X) for each in [found, *several])
        assert list(found.index) == [5, 6, 7]
    else:
        assert several.shape[:2] == (3, 3)
    one = filled(batch, X, "draw", seed=1)
    assert np.shape(one) == np.shape(X)


def test_complete_rows_come_back_as_they_are() -> None:
    batch = random_batch(42, "full", 2, 2, 2)
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(filled(batch, x), x)
    np.testing.assert_array_equal(filled(batch, x, "draw"), x)


def test_a_seed_gives_the_same_draw_again() -> None:
    batch = random_batch(43, "full", 5, 3, 3)
    x = with_holes(44, 30, 3)
    one, same, other = (filled(batch, x, "draw", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_calls_that_make_no_sense_are_refused() -> None:
    batch = random_batch(45, "full", 2, 2, 2)
    x = np.array([[1.0, NAN]])
    with pytest.raises(sg.ModelError, match=r"\['mean', 'draw'\], got 'median'"):
        filled(batch, x, "median")
    with pytest.raises(sg.ModelError, match='how="draw" only'):
        filled(batch, x, n=3)
    with pytest.raises(sg.ModelError, match="n must be a whole number"):
        filled(batch, x, "draw", n=0)
    with pytest.raises(sg.DataError, match="2 features"):
        filled(batch, np.array([[1.0, NAN, 2.0]]))
    with pytest.raises(sg.DataError, match="infinite"):
        filled(batch, np.array([[np.inf, NAN]]))


def test_a_fit_fills_in_rows_near_where_they_were(fits_faithful: Any) -> None:
    fit = fits_faithful["em"]
    table = sg.datasets.faithful()
    holes = table.copy()
    holes.loc[::3, "waiting_min"] = NAN
    found = fit.impute(holes)
    assert isinstance(found, pd.DataFrame)
    error = (found - table).loc[::3, "waiting_min"]
    assert error.std() < 0.5 * table["waiting_min"].std()
    pd.testing.assert_series_equal(found["eruption_min"], table["eruption_min"])
    completed = fit.impute(holes, "draw", n=2, seed=1)
    assert [type(each) for each in completed] == [pd.DataFrame] * 2


@pytest.mark.stan
@pytest.mark.parametrize("method", ["optimize", "advi", "nuts"])
def test_every_method_imputes(fits_faithful: Any, method: str) -> None:
    fit, em = fits_faithful[method], fits_faithful["em"]
    x = [[2.0, NAN], [NAN, 80.0], [NAN, NAN]]
    np.testing.assert_allclose(fit.impute(x), em.impute(x), rtol=0.05)
    assert np.isfinite(fit.impute(x, "draw", n=5, seed=1)).all()
