"""How far data reach: values far out do not say how large the bulk of them is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

import stangmm as sg
from stangmm.base.arrays import FloatArray
from stangmm.data.dataset import Dataset
from stangmm.data.reach import bulk, reach
from stangmm.methods.em.steps import EMSpace
from stangmm.model.covariance import structure_named
from stangmm.model.problem import Problem


def clusters(*far: tuple[int, int, float], n_features: int = 2) -> FloatArray:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, n_features))
    x[150:] += 5.0
    for row, feature, value in far:
        x[row, feature] = value
    return x


def test_the_reach_is_ten_scales_around_the_median() -> None:
    x = clusters()
    low, high = reach(x, None)
    scale = median_abs_deviation(x, scale="normal", axis=0)
    np.testing.assert_allclose(high - low, 20.0 * scale, rtol=1e-3)
    np.testing.assert_allclose(0.5 * (low + high), np.median(x, axis=0))


def test_a_row_of_weight_three_reaches_as_far_as_three_rows() -> None:
    rng = np.random.default_rng(4)
    x, weight = rng.normal(size=(50, 2)), rng.integers(1, 4, size=50)
    repeated = np.repeat(x, weight, axis=0)
    np.testing.assert_allclose(reach(x, weight.astype(float)), reach(repeated, None))


def test_missing_values_and_values_that_do_not_vary_are_left_aside() -> None:
    x = np.column_stack([clusters(), np.full(300, 7.0)])
    holes = np.concatenate([x, np.full((20, 3), np.nan)])
    np.testing.assert_array_equal(reach(holes, None), reach(x, None))
    assert [bound[2] for bound in reach(x, None)] == [7.0, 7.0]


@pytest.mark.parametrize("value", [-9999.0, 1e5, 1e12])
def test_the_bulk_is_what_the_data_would_be_without_single_values(value: float) -> None:
    x, whole = clusters((7, 0, value)), clusters()
    mean, sd = x.mean(axis=0), x.std(axis=0)
    same = bulk(whole, None, whole.mean(axis=0), whole.std(axis=0))
    np.testing.assert_array_equal(same[:2], [whole.mean(axis=0), whole.std(axis=0)])
    assert not same[2].any()
    center, size, far_out = bulk(x, None, mean, sd)
    assert list(far_out) == [True, False]
    np.testing.assert_array_equal(center, [np.median(x[:, 0]), mean[1]])
    assert size[1] == sd[1]
    ratio = size / whole.std(axis=0)
    # One value of 300 at the reach adds 28% here; a power of two may be off by its root.
    assert (ratio > 0.99 / np.sqrt(2.0)).all()
    assert (ratio < 1.29 * np.sqrt(2.0)).all()


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_clusters_are_of_the_order_of_one_beside_a_value_far_out(covariance_type: str) -> None:
    x = clusters((7, 0, -9999.0))
    structure = structure_named(covariance_type)
    problem = Problem.build(Dataset.from_input(x), 3, structure, sg.Priors())
    rest = np.delete(problem.x, 7, axis=0)
    assert (np.abs(rest.std(axis=0) - 1.0) < 0.5).all()


@pytest.mark.parametrize("value", [-9999.0, 1e12])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_far_out_hardly_count_in_the_covariance_of_all_data(
    value: float, weighted: bool
) -> None:
    x, near = clusters((7, 0, value)), clusters()
    weight = np.where(np.arange(300) < 20, 2.0, 1.0) if weighted else None
    data = Dataset.from_input(x, sample_weight=weight)
    problem = Problem.build(data, 3, structure_named("full"), sg.Priors())
    near[7, 0] = reach(x, weight)[value > 0][0]
    expected = np.cov(near.T, aweights=weight, ddof=0)
    unit = np.outer(problem.unit, problem.unit)
    np.testing.assert_allclose(problem.total_covariance * unit, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("x", "few"),
    [
        (clusters(), False),
        (clusters((7, 0, 60.0)), True),
        (clusters(*((row, 1, -999.0) for row in range(15))), True),  # a twentieth
        (clusters(*((row, 1, 900.0 + row) for row in range(60))), False),  # a group
    ],
    ids=["none", "one", "a twentieth", "a fifth"],
)
def test_few_rows_far_out_are_noticed(x: FloatArray, few: bool) -> None:
    problem = Problem.build(Dataset.from_input(x), 3, structure_named("full"), sg.Priors())
    space = EMSpace(problem)
    assert space.has_few_rows_far_out is few
    tied = Problem.build(Dataset.from_input(x), 3, structure_named("tied"), sg.Priors())
    assert not EMSpace(tied).has_few_rows_far_out  # a row can be a component there
