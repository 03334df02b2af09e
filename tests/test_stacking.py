"""Stacking weights against a search over a grid, and the average of fits against its parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import LazyFits
from fitting import fit_quick
from scipy.special import logsumexp

import stangmm as sg
from stangmm.judge.leave_one_out import psis_loo
from stangmm.judge.stacking import stacking_weights
from stangmm.many.averaging import Stack, stack


def score(log_p: np.ndarray, weights: np.ndarray, count: np.ndarray | None = None) -> Any:
    """Mean over rows of the log of the averaged density, for weights (..., M)."""
    with np.errstate(divide="ignore"):
        mixed = logsumexp(log_p + np.log(weights)[..., np.newaxis, :], axis=-1)
    return np.average(mixed, axis=-1, weights=count)


def simplex(n_models: int, step: float) -> np.ndarray:
    """Every point of a grid over the simplex, shape (points, M)."""
    axes = np.meshgrid(*[np.arange(0, 1 + step / 2, step)] * (n_models - 1), indexing="ij")
    points = np.stack([a.ravel() for a in axes], axis=1)
    points = points[points.sum(axis=1) <= 1 + 1e-12]
    return np.column_stack([points, np.maximum(1 - points.sum(axis=1), 0)])


@pytest.mark.parametrize(("n_models", "step"), [(2, 1e-4), (3, 1 / 250)])
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_weights_are_the_best_of_a_fine_grid(n_models: int, step: float, spread: float) -> None:
    log_p = np.random.default_rng(n_models).normal(0.0, spread, (40, n_models))
    grid = simplex(n_models, step)
    values = np.concatenate([score(log_p, part) for part in np.array_split(grid, 100)])
    weights = stacking_weights(log_p)
    assert score(log_p, weights) >= values.max() - 1e-12
    assert score(log_p, weights) < values.max() + 0.01 * spread
    near = grid[values > values.max() - 1e-7 * spread]
    assert (np.abs(near - weights).max(axis=1) < 2 * step + 0.01).all()


@pytest.mark.parametrize("seed", range(20))
def test_no_direction_on_the_simplex_improves_the_weights(seed: int) -> None:
    """Concave: the slope towards every single model is at most zero, to 1e-8 nats per row."""
    rng = np.random.default_rng(seed)
    log_p = rng.normal(-3.0, rng.choice([0.01, 0.3, 2.0, 30.0]), (rng.integers(5, 300), 6))
    count = rng.poisson(2.0, len(log_p)) + (np.arange(len(log_p)) == 0)
    weights = stacking_weights(log_p, count)
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    assert (weights >= 0).all()
    relative = np.exp(log_p - score(log_p[:, np.newaxis], weights)[:, np.newaxis])
    assert np.average(relative, axis=0, weights=count).max() <= 1 + 1e-8


def test_two_models_of_two_outcomes_have_the_weights_of_the_closed_form() -> None:
    # The share 2/3 of the first kind of rows is matched: 0.1 + 0.8 w = 2/3, so w = 17/24.
    log_p = np.log([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    np.testing.assert_allclose(stacking_weights(log_p), [17 / 24, 7 / 24], rtol=1e-9)


def test_a_row_of_weight_w_is_w_rows_for_the_weights() -> None:
    rng = np.random.default_rng(1)
    log_p, count = rng.normal(size=(30, 3)), rng.poisson(1.5, 30)
    repeated = stacking_weights(np.repeat(log_p, count, axis=0))
    np.testing.assert_allclose(stacking_weights(log_p, count), repeated, atol=1e-7)


def test_models_that_predict_alike_share_their_weight() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 50))
    two = stacking_weights(np.column_stack([first, second]))
    three = stacking_weights(np.column_stack([first, second, second]))
    np.testing.assert_allclose(three, [two[0], two[1] / 2, two[1] / 2], atol=1e-5)
    np.testing.assert_allclose(stacking_weights(np.column_stack([first] * 4)), 0.25, rtol=1e-12)


def test_a_model_that_is_better_in_every_row_gets_all_the_weight() -> None:
    log_p = np.random.default_rng(3).normal(-1000.0, 3.0, (50, 1)) - [0.0, 0.1, 50.0]
    np.testing.assert_allclose(stacking_weights(log_p), [1, 0, 0], atol=1e-12)


def test_impossible_rows_of_one_model_are_no_obstacle() -> None:
    weights = stacking_weights(np.array([[-np.inf, -1.0], [-1.0, -np.inf], [-1.0, -np.inf]]))
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3], rtol=1e-9)


@pytest.mark.parametrize(
    ("log_p", "weight", "words"),
    [
        (np.zeros(3), None, "shape"),
        (np.zeros((0, 2)), None, "shape"),
        ([[-np.inf, -np.inf], [0.0, 0.0]], None, "1 rows have density zero"),
        ([[np.nan, 0.0], [0.0, 0.0]], None, "1 rows have density zero"),
        (np.zeros((3, 2)), [1.0, 1.0], "sample_weight must be 3"),
        (np.zeros((3, 2)), [1.0, -1.0, 1.0], "sample_weight must be 3"),
        (np.zeros((3, 2)), [0.0, 0.0, 0.0], "sample_weight must be 3"),
    ],
)
def test_log_densities_that_cannot_be_stacked_are_refused(
    log_p: Any, weight: Any, words: str
) -> None:
    with pytest.raises(sg.ModelError, match=words):
        stacking_weights(log_p, weight)


# ---- stacks of fits --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_fits() -> dict[int, sg.Fit]:
    """K = 1 and K = 2 of two bumps that overlap."""
    rng = np.random.default_rng(4)
    x = np.r_[rng.normal(-1.2, 1.0, 60), rng.normal(1.2, 1.0, 60)]
    return {k: fit_quick(sg.GaussianMixture(k, "diag"), x, sg.NUTS(draws=500)) for k in (1, 2)}


@pytest.mark.stan
def test_a_stack_averages_the_densities_of_its_fits(two_fits: dict[int, sg.Fit]) -> None:
    stacked = stack(two_fits)
    assert list(stacked.weights.index) == [1, 2]
    assert stacked.weights.sum() == pytest.approx(1.0)
    grid = np.linspace(-12, 12, 2001)
    densities = np.exp([fit.log_density(grid) for fit in two_fits.values()])
    expected = stacked.weights.to_numpy() @ densities
    np.testing.assert_allclose(np.exp(stacked.log_density(grid)), expected, rtol=1e-10)
    assert np.trapezoid(np.exp(stacked.log_density(grid)), grid) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.stan
def test_a_stack_predicts_left_out_rows_at_least_as_well_as_each_fit(
    two_fits: dict[int, sg.Fit],
) -> None:
    stacked = stack(list(two_fits.values()))
    by_row = np.stack([psis_loo(fit).elpd_i for fit in two_fits.values()], axis=1)
    assert list(stacked.weights.index) == [0, 1]
    np.testing.assert_allclose(stacked.weights, stacking_weights(by_row))
    assert stacked.elpd >= by_row.sum(axis=0).max() - 1e-8
    assert stacked.elpd == pytest.approx(len(by_row) * score(by_row, stacked.weights.to_numpy()))
    assert "weight" in repr(stacked)


@pytest.mark.stan
def test_a_stack_of_one_fit_twice_is_that_fit(fits_faithful: LazyFits) -> None:
    fit = fits_faithful["nuts"]
    stacked = stack({"a": fit, "b": fit})
    np.testing.assert_allclose(stacked.weights, [0.5, 0.5])
    rows = fits_faithful.X.to_numpy()[::5]
    np.testing.assert_allclose(stacked.log_density(rows), fit.log_density(rows), rtol=1e-12)
    assert stacked.elpd == pytest.approx(psis_loo(fit).elpd)
    assert stacked.standard_error == pytest.approx(psis_loo(fit).se)


@pytest.mark.stan
def test_samples_of_a_stack_come_from_its_fits_by_their_weights(
    two_fits: dict[int, sg.Fit],
) -> None:
    made = stack(two_fits)
    stacked = Stack(made.fits, made.weights * 0 + [0.3, 0.7], made.elpd, made.standard_error)
    x, source = stacked.sample(40_000, seed=5)
    assert x.shape == (40_000, 1)
    assert (source == 1).mean() == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / 40_000))
    grid = np.linspace(-12, 12, 2001)
    cumulative = np.cumsum(np.exp(stacked.log_density(grid))) * (grid[1] - grid[0])
    drawn = np.searchsorted(np.sort(x[:, 0]), grid) / len(x)
    assert np.abs(drawn - cumulative).max() < 1.95 / np.sqrt(40_000) + 0.003  # Kolmogorov, 0.1%
    np.testing.assert_array_equal(x, stacked.sample(40_000, seed=5)[0])


@pytest.mark.stan
def test_only_posteriors_of_the_same_rows_can_be_stacked(
    two_fits: dict[int, sg.Fit], fits_galaxies: LazyFits
) -> None:
    point, other = fits_galaxies["em"], fits_galaxies["nuts"]
    with pytest.raises(sg.ModelError, match='by "em" is a single point'):
        stack([point])
    with pytest.raises(sg.DataError, match="same rows"):
        stack([two_fits[1], other])
    x = two_fits[1].dataset.x
    weighted = fit_quick(sg.GaussianMixture(1, "diag"), x, "nuts", sample_weight=np.full(120, 2.0))
    with pytest.raises(sg.DataError, match="same rows, sample weights"):
        stack([two_fits[1], weighted])
    nothing: list[sg.Fit] = []
    with pytest.raises(sg.ModelError, match="at least one"):
        stack(nothing)
    for wrong in (two_fits[1], 3, [3]):
        with pytest.raises(sg.ModelError, match="fits must"):
            stack(wrong)  # type: ignore[arg-type]


@pytest.mark.stan
def test_a_stack_says_on_which_unreliable_rows_its_weights_rest() -> None:
    x = np.append(np.random.default_rng(9).normal(0.0, 1.0, 13), 9.0)
    fit = fit_quick(sg.GaussianMixture(1, "diag"), x, sg.NUTS(draws=500))
    with pytest.warns(sg.ConvergenceWarning, match=r"one \(1\)\. With refit=True"):
        approximate = stack({"one": fit})
    exact = stack({"one": fit}, refit=True, progress=False)
    assert abs(exact.elpd - approximate.elpd) > 0.05
