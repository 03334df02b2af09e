"""Pareto-smoothed weights are ArviZ's, row by row; rows without a tail are not smoothed."""

from __future__ import annotations

import numpy as np
import pytest
from either_arviz import IS_OLDER, psislw
from scipy.special import log_softmax

from stangmm.methods.psis import smoothed


@pytest.mark.parametrize("efficiency", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("n_draws", [30, 100, 1000, 4000])
@pytest.mark.parametrize("width", [0.01, 1.0, 5.0, 200.0])
def test_weights_and_k_are_those_of_arviz(width: float, n_draws: int, efficiency: float) -> None:
    ratios = width * np.random.default_rng(n_draws).standard_t(3, (20, n_draws))
    wanted = min(n_draws / 5, 3 * np.sqrt(n_draws / efficiency))
    if not IS_OLDER and (wanted % 1 or width > 100):
        pytest.skip("ArviZ 1 rounds the tail's length down, and takes no ratio below -708")
    expected, expected_k = psislw(ratios, efficiency)
    weights, k = smoothed(ratios, efficiency)
    np.testing.assert_allclose(weights, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(k, expected_k, rtol=1e-10, atol=1e-12)


def test_of_ties_at_the_cutoff_the_tail_is_what_lies_above() -> None:
    ratios = np.random.default_rng(1).standard_normal((1, 500))
    tied = np.maximum(ratios, 1.0)  # more than 400 are 1
    n_above = int((tied > 1.0).sum())
    assert 5 < n_above < 3 * np.sqrt(500)
    weights, k = smoothed(tied, 1.0)
    # As if so many had been asked for, which fewer effective draws would do.
    same, same_k = smoothed(tied, 500 * 9.0 / (n_above - 0.5) ** 2)
    np.testing.assert_array_equal(weights, same)
    np.testing.assert_array_equal(k, same_k)
    assert np.isfinite(k).all()


@pytest.mark.parametrize(
    "ratios",
    [
        np.zeros((2, 400)),
        np.where(np.arange(400) < 4, 1.0, 0.0)[np.newaxis] + np.zeros((2, 1)),
        np.random.default_rng(2).standard_normal((3, 15)),  # 3 in the tail
        np.zeros((2, 1)),
    ],
    ids=["equal", "four above", "few draws", "one draw"],
)
def test_rows_without_a_tail_are_not_smoothed_and_never_trusted(ratios: np.ndarray) -> None:
    weights, k = smoothed(ratios, 1.0)
    np.testing.assert_allclose(weights, log_softmax(ratios, axis=1), atol=1e-12)
    assert np.isposinf(k).all()
