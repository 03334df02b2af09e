"""The resolution of data is the step of the grid on which they were recorded."""

from __future__ import annotations

import numpy as np
import pytest

import stangmm as sg
from stangmm.data.resolution import resolution, rounding_error


def of(values: np.ndarray, weight: np.ndarray | None = None) -> float:
    return float(resolution(np.asarray(values, dtype=float)[:, np.newaxis], weight)[0])


@pytest.mark.parametrize("step", [1e-3, 0.1, 1.0, 100.0])
def test_rounded_values_have_the_decimal_step_of_their_rounding(step: float) -> None:
    x = np.random.default_rng(1).normal(0, 30 * step, 200)
    assert of(np.round(x / step) * step) == pytest.approx(step)


def test_ties_on_a_grid_that_is_not_decimal_give_its_step() -> None:
    minutes = np.random.default_rng(2).integers(60, 400, 300) / 60
    assert of(minutes) == pytest.approx(1 / 60)
    assert of(np.random.default_rng(3).integers(2, size=50)) == 1.0


def test_zeros_beside_continuous_values_have_the_smallest_gap() -> None:
    rng = np.random.default_rng(4)
    x = np.concatenate([np.zeros(60), rng.normal(5, 1, 140)])
    assert of(x) == np.diff(np.unique(x)).min()
    assert 0 < of(x) < 0.01


@pytest.mark.parametrize(("scale", "offset"), [(1e-12, 0.0), (1.0, 0.0), (1.0, 1e8), (1e12, 1e20)])
def test_continuous_values_have_the_resolution_of_a_double(scale: float, offset: float) -> None:
    x = offset + scale * np.random.default_rng(5).normal(size=500)
    assert of(np.unique(x)) <= 1e-15 * np.abs(x).max()


def test_errors_of_single_precision_make_no_values_of_one() -> None:
    """Stata's numbers are of four bytes, and their differences have errors of 1e-7."""
    rate = np.random.default_rng(12).integers(30, 90, 200).astype(np.float32) / np.float32(10)
    change = np.diff(rate).astype(np.float64)
    assert len(np.unique(change)) > 1.3 * len(np.unique(change.round(4)))
    assert of(change) == pytest.approx(0.1, rel=1e-4)
    assert of(np.append(change, 0.100003)) == pytest.approx(0.1, rel=1e-4)


def test_times_close_together_are_values() -> None:
    """Steps of 1e-6 of the size, with a gap: a sequence, and no value written differently."""
    time = 2000 + np.r_[np.arange(100), np.arange(300, 400)] / 365.0
    assert of(np.append(time, time[0])) == pytest.approx(1 / 365, rel=1e-6)
    assert of(np.append(time * 10 + 1e6, time[0] * 10 + 1e6)) == pytest.approx(10 / 365, rel=1e-4)


@pytest.mark.parametrize("n_clusters", [2, 30])
def test_narrow_clusters_far_apart_are_no_values(n_clusters: int) -> None:
    rng = np.random.default_rng(13)
    x = 1e6 * rng.permutation(100)[:n_clusters].repeat(300 // n_clusters) + rng.normal(size=300)
    assert of(np.append(x, x[0])) < 0.1
    beside_others = np.concatenate([rng.normal(size=100), 1e8 * rng.normal(5, 1, 100)])
    assert of(np.append(beside_others, beside_others[0])) < 0.1


def test_values_that_a_double_can_hardly_tell_apart_have_its_resolution() -> None:
    """Near 1e8 doubles are 1.5e-8 apart: a tie says no more than that."""
    for scale in (1e-7, 1e-4):
        x = 1e8 + scale * np.random.default_rng(8).normal(size=2000)
        assert len(np.unique(x)) < len(x)
        assert of(x) < max(0.02 * scale, 2 * np.spacing(1e8))


@pytest.mark.parametrize("value", [-9999.0, 1e20, 9.96921e36])
def test_a_value_far_out_says_nothing_about_the_others(value: float) -> None:
    x = np.random.default_rng(9).normal(size=200)
    assert of(np.append(x, value)) <= 1e-15
    assert of(np.append(np.round(x, 1), value)) == pytest.approx(0.1)
    assert of(np.append(np.round(x, 1), [value, value])) == pytest.approx(0.1)


def test_a_row_of_weight_three_is_three_rows_and_missing_values_are_none() -> None:
    x = np.random.default_rng(6).normal(size=40)
    count = np.random.default_rng(7).integers(1, 4, 40)
    assert of(x, count.astype(float)) == of(np.repeat(x, count)) > 1e-9
    assert of(x, np.full(40, 0.7)) == of(x)
    both = np.column_stack([x, np.where(np.arange(40) % 2, np.nan, np.round(x, 1))])
    np.testing.assert_allclose(resolution(both), [of(x), 0.1])


def test_the_floor_is_the_standard_deviation_of_the_rounding_error() -> None:
    x = sg.datasets.faithful().to_numpy()
    error = np.random.default_rng(8).uniform(-0.5, 0.5, 100_000)
    floor = rounding_error(resolution(x))
    assert floor[1] == pytest.approx(error.std(), rel=0.01)  # waiting: whole minutes
