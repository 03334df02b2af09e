"""Means that are told relative to a pivot: which components, and that the posterior stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_mixtures import random_mixture
from scipy.integrate import cumulative_trapezoid

import stangmm as sg
from stangmm.base.arrays import FloatArray
from stangmm.data.dataset import Dataset
from stangmm.methods.draws import Optimum
from stangmm.methods.stan.pivots import Pivots
from stangmm.methods.stan.regions import Region, sharing_pivots
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem


def clusters_and(*rows: tuple[float, float]) -> FloatArray:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(120, 2))
    x[60:] += 8.0
    return np.concatenate([x, np.array(rows).reshape(-1, 2)])


def problem_of(x: FloatArray, covariance_type: str, k: int = 3) -> Problem:
    structure = structure_named(covariance_type)
    return Problem.build(Dataset.from_input(x), k, structure, sg.Priors())


def by_parts(problem: Problem, sizes: list[int]) -> Mixture:
    """The mixture of successive rows."""
    parts = np.split(problem.x, np.cumsum(sizes)[:-1])
    weights = np.array(sizes) / len(problem.x)
    means = np.stack([part.mean(axis=0) for part in parts])
    scales = np.stack([np.maximum(part.std(axis=0), 0.01) for part in parts])
    return problem.space.from_free(weights, means, scales)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_locations_lead_back_to_means_with_the_volume_that_is_told(covariance_type: str) -> None:
    rng = np.random.default_rng(1)
    mixture = random_mixture(rng, covariance_type, 3, 2).mixture(covariance_type)
    prior = sg.Normal(rng.normal(size=(3, 2)), rng.lognormal(size=(3, 2)))
    pivots = Pivots(np.array([True, False, True]), rng.normal(size=(3, 2)), prior)
    told = pivots.locations(mixture)
    log_volume = 0.0
    for k in range(3):
        # The posterior of a mean, each feature by itself, given one observation of it, the pivot.
        precision = mixture.scales[k] ** -2 + prior.scale[k] ** -2
        center = pivots.at[k] * mixture.scales[k] ** -2 + prior.location[k] * prior.scale[k] ** -2
        factor = np.diag(precision**-0.5) @ np.diag(1.0 / mixture.scales[k]) @ mixture.cholesky[k]
        back = center / precision + factor @ told[k] if pivots.relative[k] else told[k]
        np.testing.assert_allclose(back, mixture.means[k], rtol=1e-12)
        log_volume += np.log(np.linalg.det(factor)) * pivots.relative[k]
    assert float(pivots.log_volume(mixture)) == pytest.approx(log_volume)
    assert float(Pivots.none(problem_of(np.eye(3)[:, :2], "diag").space).log_volume(mixture)) == 0.0


def test_a_component_of_few_rows_has_the_row_that_is_furthest_from_the_others() -> None:
    problem = problem_of(clusters_and((40.0, -30.0), (39.0, -29.0), (300.0, -300.0)), "diag")
    pivots = Pivots.of(by_parts(problem, [60, 60, 3]), problem)
    np.testing.assert_array_equal(pivots.relative, [False, False, True])
    np.testing.assert_array_equal(pivots.at[2], problem.x[-1])
    np.testing.assert_array_equal(pivots.at[:2], 0.0)


def test_a_value_that_its_row_misses_is_the_components_mean() -> None:
    x = clusters_and((40.0, -30.0), (39.0, -29.0), (300.0, -300.0))
    problem = problem_of(x, "diag")
    mixture = by_parts(problem, [60, 60, 3])
    x[-1, 1] = np.nan
    missing = Dataset.from_input(x, missing="marginalize")
    incomplete = Problem.build(missing, 3, problem.structure, sg.Priors())
    assert Pivots.of(mixture, incomplete).at[2, 1] == mixture.means[2, 1]


@pytest.mark.parametrize("covariance_type", ["tied", "tied_diag"])
def test_components_that_share_their_scales_have_no_pivot(covariance_type: str) -> None:
    problem = problem_of(clusters_and((300.0, -300.0)), covariance_type)
    assert not Pivots.of(by_parts(problem, [60, 60, 1]), problem).relative.any()


def test_components_of_many_rows_or_as_large_as_others_have_no_pivot() -> None:
    problem = problem_of(clusters_and(), "diag", 2)
    assert not Pivots.of(by_parts(problem, [60, 60]), problem).relative.any()
    small = problem_of(clusters_and()[50:70], "diag", 2)
    assert not Pivots.of(by_parts(small, [10, 10]), small).relative.any()


def test_a_pivot_is_left_where_more_than_a_few_draws_are_narrow_and_elsewhere() -> None:
    wide = sg.Normal(np.zeros((2, 1)), np.full((2, 1), 1e6))
    pivots = Pivots(np.array([True, False]), np.zeros((2, 1)), wide)
    n = 1000
    means = np.tile([[0.5], [100.0]], (n, 1, 1))  # the second may be anywhere
    scales = np.ones((n, 2, 1))
    draws = Mixture(np.full((n, 2), 0.5), means, scales)
    assert not pivots.left_by(draws)
    scales[:5, 0] = 0.01  # narrow, half a unit away
    assert not pivots.left_by(draws)
    scales[:50, 0] = 0.01
    assert pivots.left_by(draws)
    means[:50, 0] = 0.005  # narrow, at the pivot
    assert not pivots.left_by(draws)


def region(problem: Problem, mixture: Mixture) -> Region:
    return Region(Optimum(mixture, 0.0, 1, True, np.empty(0)), problem, problem)


def test_chains_elsewhere_number_components_alike_and_share_the_pivots_that_all_have() -> None:
    problem = problem_of(clusters_and((40.0, -30.0), (39.0, -29.0), (300.0, -300.0)), "diag")
    mixture = by_parts(problem, [60, 60, 3])
    other = replace(mixture, means=mixture.means + 0.01).permute(np.array([2, 0, 1]))
    places, pivots = sharing_pivots((region(problem, mixture), region(problem, other)))
    np.testing.assert_array_equal(pivots.relative, [True, False, False])
    np.testing.assert_array_equal(pivots.at[0], problem.x[-1])
    for place in places:
        assert place.optimum.mixture.weights.argmin() == 0
    broad = replace(other, weights=np.array([0.4, 0.3, 0.3]))  # whose component has many rows
    _, pivots = sharing_pivots((region(problem, mixture), region(problem, broad)))
    assert not pivots.relative.any()


@pytest.mark.stan
@pytest.mark.statistical
def test_the_scale_of_a_component_of_one_row_has_its_exact_posterior() -> None:
    """Compare with the integral over the mean, which leaves one dimension.

    With one row x0 the scale s has the density HalfCauchy(s | 1) Normal(x0 | 0, sqrt(s^2 + 500^2)):
    next to the prior's, from a hundredth to hundreds. Other rows hardly ever belong to it.
    """
    x = np.append(np.random.default_rng(2).normal(size=100), 1000.0)
    priors = sg.Priors(means=sg.Normal(0.0, 500.0), scales=sg.HalfCauchy(1.0), resolution=1e-4)
    model = sg.GaussianMixture(2, "diag", priors=priors)
    fit = model.fit(x, method=sg.NUTS(draws=2000, adapt_delta=0.8), seed=3, progress=False)
    assert fit.info.sample_stats["diverging"].mean() < 0.002
    draws = fit.mixture
    lone = np.argmax(draws.means[..., 0], axis=-1)[..., np.newaxis]
    log_scale = np.log(np.take_along_axis(draws.scales[..., 0], lone, axis=-1)[..., 0]).ravel()
    grid = np.linspace(np.log(1e-4), np.log(1e5), 20001)
    s = np.exp(grid)
    density = s / (1.0 + s**2) * np.exp(-0.5 * 1000.0**2 / (s**2 + 500.0**2))
    density /= np.sqrt(s**2 + 500.0**2)
    below = cumulative_trapezoid(density, grid, initial=0.0)
    for probability in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9):
        at = np.interp(probability, below / below[-1], grid)
        share = (log_scale < at).mean()
        effective = fit.diagnose()["tail ESS"].value
        error = np.sqrt(probability * (1.0 - probability) / effective)
        assert abs(share - probability) < 4.0 * error
