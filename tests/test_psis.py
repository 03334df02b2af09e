"""Pareto-smoothed weights are ArviZ's, row by row, and rows that need more care are named."""

from __future__ import annotations

import numpy as np
import pytest

from stangmm.posterior.arviz import arviz, pareto_smoothed
from stangmm.posterior.psis import smoothed

az = arviz()


@pytest.mark.parametrize("efficiency", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("n_draws", [20, 100, 1000, 4000])
@pytest.mark.parametrize("width", [0.01, 1.0, 5.0, 200.0])
def test_weights_and_k_are_those_of_arviz(width: float, n_draws: int, efficiency: float) -> None:
    ratios = width * np.random.default_rng(n_draws).standard_t(3, (20, n_draws))
    ratios[3], ratios[4] = 1.0, np.round(ratios[4])  # all equal, many equal
    with np.errstate(over="ignore"):
        expected, expected_k = az.psislw(ratios, efficiency)
    weights, k = pareto_smoothed(ratios, efficiency)
    np.testing.assert_allclose(weights, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(k, expected_k, rtol=1e-10, atol=1e-12)


def test_rows_of_equal_ratios_are_left_to_arviz() -> None:
    ratios = np.random.default_rng(1).standard_normal((40, 500))
    ratios[7] = 0.0
    _, _, regular = smoothed(ratios, 1.0)
    assert np.flatnonzero(~regular).tolist() == [7]


def test_too_few_draws_are_left_to_arviz() -> None:
    assert not smoothed(np.random.default_rng(2).standard_normal((3, 15)), 1.0)[2].any()
