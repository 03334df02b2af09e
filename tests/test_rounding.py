"""Rounded numbers do not show the last bits of what they were rounded from."""

from __future__ import annotations

import numpy as np
import pytest

from stangmm.base.rounding import rounded_covariance, significant, to_grid
from stangmm.methods.stan.shared import rounded
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.parameters import ParameterSpace

RNG = np.random.default_rng(20261125)
NOISE = 1e-14  # relative; sums of many numbers differ by about so much between processors


def noisy(values: np.ndarray) -> np.ndarray:
    return values * (1.0 + NOISE * RNG.uniform(-1.0, 1.0, values.shape))


def test_significant_digits() -> None:
    values = RNG.normal(size=10_000) * 10.0 ** RNG.integers(-300, 300, 10_000)
    result = significant(values)
    assert np.abs(result / values - 1.0).max() <= 2.0**-30
    assert (significant(noisy(values)) == result).all()
    assert (significant(result) == result).all()
    assert significant(0.0) == 0.0


def test_a_grid_is_absolute() -> None:
    size = 10.0 ** RNG.integers(-8, 8, 10_000)
    values = size * RNG.normal(size=10_000)
    values[:100] = 0.0
    result = to_grid(values, size)
    assert (np.abs(result - values) <= 2.0**-30 * size).all()
    near = values + NOISE * size * RNG.uniform(-1.0, 1.0, size.shape)
    assert (to_grid(near, size) == result).all()


def test_values_beyond_the_grid_and_grids_of_no_size_leave_values_alone() -> None:
    assert to_grid(1e30, 1e-30) == 1e30
    assert to_grid(0.1, 0.0) == 0.1


@pytest.mark.parametrize("p", [1, 2, 7, 60, 300])
def test_a_covariance_is_rounded_to_the_same_one_in_any_order_of_summation(p: int) -> None:
    factor = RNG.normal(size=(p, p + 3)) * 10.0 ** RNG.uniform(-3, 3, (p, 1))
    matrix = factor @ factor.T
    result = rounded_covariance(matrix)
    unit = np.sqrt(np.diag(matrix))
    assert np.abs((result - matrix) / np.outer(unit, unit)).max() < 2.0**-12
    # The rounded factor has so few digits that the root gives it back; whole numbers sum exactly.
    root = np.linalg.cholesky(result)
    exponent = np.frexp(np.abs(root).max(axis=1))[1] - 17
    whole = np.rint(np.ldexp(root, -exponent[:, np.newaxis])).astype(np.int64)
    exact = np.ldexp((whole @ whole.T).astype(float), exponent[:, np.newaxis] + exponent)
    assert (exact == result).all()


@pytest.mark.parametrize("nearly_one", [0.0, 1.0 - 1e-14])
def test_a_start_is_a_mixture_near_the_given_one(nearly_one: float) -> None:
    k, d = 4, 3
    weights = np.array([0.7, 0.3 - 2e-9, 1e-9, 1e-9])
    chol = np.tile(np.eye(d), (k, 1, 1))
    chol[:, 1, :2] = [nearly_one, np.sqrt(1 - nearly_one**2)]
    mixture = Mixture(weights, RNG.normal(size=(k, d)), np.exp(RNG.normal(size=(k, d))), chol)
    floor = np.array([1e-3, 1e-5, 0.0])
    space = ParameterSpace(k, d, structure_named("full"), floor)
    start = rounded(mixture, space)
    assert (start.scales > space.scale_bounds(start.corr_chol)).all()
    assert start.weights.sum() == pytest.approx(1.0, abs=1e-15)
    assert start.weights == pytest.approx(weights, rel=2.0**-11)  # rounded, then brought to 1
    given_others = mixture.scales * np.maximum(np.diagonal(chol, axis1=1, axis2=2), 2.0**-20)
    assert (np.abs(start.means - mixture.means) <= 2.0**-12 * given_others).all()
    unbounded = rounded(mixture, ParameterSpace(k, d, structure_named("full")))
    assert unbounded.scales == pytest.approx(mixture.scales, rel=2.0**-12)
    assert start.corr_chol is not None
    assert (start.corr_chol**2).sum(axis=-1) == pytest.approx(1.0, abs=1e-15)
    assert (np.diagonal(start.corr_chol, axis1=1, axis2=2) > 0).all()
    assert start.corr_chol == pytest.approx(chol, abs=2.0**-12)
