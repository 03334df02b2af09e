"""The curvature at an optimum: scores against finite differences, the metric against draws."""

from __future__ import annotations

import numpy as np
import pytest
from random_mixtures import COVARIANCE_TYPES

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.em.em import EM
from stangmm.methods.stan import curvature, mode
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem


def _problem(
    covariance_type: str, k: int = 3, d: int = 3, n: int = 3000, resolution: float | None = None
) -> Problem:
    rng = np.random.default_rng(1)
    factor = np.eye(d) + 0.4 * np.eye(d, k=1)
    x = 4.0 * rng.normal(size=(k, d))[rng.integers(k, size=n)] + rng.normal(size=(n, d)) @ factor
    structure = structure_named(covariance_type)
    return Problem.build(Dataset.from_input(x), k, structure, sg.Priors(resolution=resolution))


def _cholesky(u: np.ndarray, d: int) -> np.ndarray:
    """Stan's transform of canonical partial correlations, from its definition."""
    factor, partial = np.zeros((d, d)), iter(np.tanh(u))
    for i in range(d):
        left = 1.0
        for j in range(i):
            factor[i, j] = next(partial) * np.sqrt(left)
            left -= factor[i, j] ** 2
        factor[i, i] = np.sqrt(left)
    return factor


def _partial(factor: np.ndarray) -> list[float]:
    out = []
    for i in range(len(factor)):
        left = 1.0
        for j in range(i):
            out.append(float(np.arctanh(factor[i, j] / np.sqrt(left))))
            left -= factor[i, j] ** 2
    return out


def _simplex(u: np.ndarray) -> np.ndarray:
    """Stan's stick-breaking, from its definition."""
    weights, left = [], 1.0
    for j, value in enumerate(u):
        share = 1.0 / (1.0 + np.exp(-(value - np.log(len(u) - j))))
        weights.append(left * share)
        left *= 1.0 - share
    return np.array([*weights, left])


def _sticks(weights: np.ndarray) -> np.ndarray:
    left = np.cumsum(weights[::-1])[::-1][:-1]
    share = weights[:-1] / left
    return np.log(share / (1 - share)) + np.log(np.arange(len(weights) - 1, 0, -1))


@pytest.mark.parametrize("resolution", [0.0, 1.5])  # no bound; bounds of half the scales
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_scores_are_the_derivatives_of_each_rows_log_density(
    covariance_type: str, resolution: float
) -> None:
    problem = _problem(covariance_type, n=200, resolution=resolution)
    k, d = problem.n_components, problem.n_features
    c, s = problem.structure.scale_shape(k, d)
    r, pairs = problem.structure.n_correlations(k, d), d * (d - 1) // 2
    start = EM(restarts=10).search(problem, Run(1)).best.mixture
    # Half the rounding with correlations, since rounding errors may cancel.
    error = resolution / np.sqrt(12) / problem.unit * (0.5 if r else 1.0)
    floor = error[:s]

    def bounds(factors: np.ndarray | None) -> np.ndarray:
        if factors is None:
            return np.broadcast_to(floor, (c, s))
        precision = np.linalg.inv(factors @ np.swapaxes(factors, -1, -2))
        return np.asarray(floor * np.sqrt(np.einsum("rii->ri", precision)))

    chol = None if start.corr_chol is None else start.corr_chol[:r]
    excess = start.scales[:c, :s] - bounds(chol)
    at = [*_sticks(start.weights), *start.means.ravel(), *np.log(excess).ravel()]
    if start.corr_chol is not None:
        for factor in start.corr_chol[:r]:
            at += _partial(factor)

    def mixture(u: np.ndarray) -> Mixture:
        weights, means, scales, chol = np.split(u, np.cumsum([k - 1, k * d, c * s]))
        corr = each = None
        if r:
            each = np.stack([_cholesky(part, d) for part in chol.reshape(r, pairs)])
            corr = np.broadcast_to(each, (k, d, d))
        spread = np.broadcast_to(np.exp(scales.reshape(c, s)) + bounds(each), (k, d))
        return Mixture(_simplex(weights), means.reshape(k, d), np.array(spread), corr)

    step, u = 1e-5, np.array(at)
    numeric = np.stack(
        [
            (mixture(u + e).log_density(problem.x) - mixture(u - e).log_density(problem.x))
            / (2 * step)
            for e in step * np.eye(len(u))
        ],
        axis=1,
    )
    transforms = (
        curvature.weights_jacobian(start.weights, True),
        curvature.correlation_jacobians(start),
    )
    scores, _ = curvature.scores(start, problem, problem.x, transforms)
    np.testing.assert_allclose(scores, numeric, atol=1e-6 * np.abs(numeric).max())


def test_isometric_log_ratios_keep_the_sum_of_the_weights() -> None:
    weights = np.array([0.2, 0.3, 0.5])
    jacobian = curvature.weights_jacobian(weights, stick_breaking=False)
    np.testing.assert_allclose(weights @ jacobian, 0, atol=1e-15)
    assert np.linalg.matrix_rank(jacobian) == 2


def test_no_metric_where_a_component_holds_few_rows() -> None:
    galaxies = Dataset.from_input(sg.datasets.galaxies())
    problem = Problem.build(galaxies, 3, structure_named("diag"), sg.Priors())
    optimum = EM().search(problem, Run(1)).best.mixture
    rng = np.random.default_rng(0)
    assert curvature.inverse_metric(optimum, problem, rng, stick_breaking=True) is None


def _information(problem: Problem, mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return curvature.information(mixture, problem, rng, stick_breaking=True, least_rows=100_000)


def test_information_of_one_normal_is_the_closed_form_whatever_the_rows_are() -> None:
    """Of N rows 1 / sd^2 for a mean and 2 for a log sd each; these rows have no normal's tails."""
    x = np.random.default_rng(2).choice([-1.0, 1.0], (500, 2)) * [1.0, 3.0]
    priors = sg.Priors(resolution=0.0, means=sg.Normal(0.0, 1e6))
    problem = Problem.build(Dataset.from_input(x), 1, structure_named("diag"), priors)
    found, complete = _information(problem, problem.space.mixtures(np.zeros(4)))
    exact = 500.0 * np.array([1.0, 1.0, 2.0, 2.0]) + [0.0, 0.0, 1.0, 1.0]
    np.testing.assert_allclose(np.diag(found), exact, rtol=0.05)
    np.testing.assert_allclose(complete, np.diag(found))
    assert np.abs(found - np.diag(exact)).max() < 0.05 * 1000


def test_information_is_that_of_the_values_that_are_there_and_of_known_components() -> None:
    x = np.random.default_rng(3).normal(size=(400, 2))
    x[:300, 1] = np.nan
    labels = np.r_[np.zeros(100), np.ones(100), np.full(200, -1)].astype(int)
    data = Dataset.from_input(x, missing="marginalize", labels=labels)
    priors = sg.Priors(resolution=0.0, means=sg.Normal(0.0, 1e6))
    problem = Problem.build(data, 2, structure_named("diag"), priors)
    # Two components that are the same: a row of unknown component tells a mean half as much, and
    # so do the scores of two means together, since it may belong to either.
    mixture = Mixture(np.full(2, 0.5), np.zeros((2, 2)), np.ones((2, 2)))
    found, complete = _information(problem, mixture)
    known, unknown = np.array([100.0, 0.0]), np.array([200.0, 100.0])  # of each component, of both
    assert np.diag(found)[1:5] == pytest.approx(np.tile(known + unknown / 4, 2), rel=0.05)
    assert complete[1:5] == pytest.approx(np.tile(known + unknown / 2, 2), rel=0.05)
    assert found[1, 3] == pytest.approx(50.0, rel=0.05)


@pytest.mark.parametrize("d", [2, 4])
def test_the_prior_adds_its_curvature_for_means_and_correlations(d: int) -> None:
    problem = _problem("full", k=2, d=d, resolution=0.0)
    at = np.zeros(problem.space.size)
    step = 1e-3 * np.eye(len(at))
    prior = mode._log_prior(np.concatenate([at + step, at - step, at[np.newaxis]]), problem)
    above, below, here = prior[: len(at)], prior[len(at) : -1], prior[-1]
    exact = (2.0 * here - above - below) / 1e-6
    added = curvature._prior_precision(problem)
    means, correlations = slice(1, 1 + 2 * d), slice(1 + 4 * d, None)
    for part in (means, correlations):
        np.testing.assert_allclose(added[part], exact[part], rtol=1e-3)


@pytest.mark.stan
def test_the_metric_is_the_covariance_of_the_draws() -> None:
    problem = _problem("diag", k=2, d=2)
    x = problem.x
    nuts = sg.NUTS(warmup=300, draws=4000)
    fit = sg.GaussianMixture(2, "diag").fit(x, nuts, seed=1, progress=False)
    optimum = EM().search(problem, Run(1)).best.mixture
    metric = curvature.inverse_metric(
        optimum, problem, np.random.default_rng(0), stick_breaking=True
    )
    assert metric is not None
    order = np.argsort(optimum.means[:, 0])
    of_means = np.diag(metric)[1:5].reshape(2, 2)[order]
    of_scales = np.diag(metric)[5:].reshape(2, 2)[order]
    draws = fit.mixture
    np.testing.assert_allclose(of_means, draws.means.var(axis=0), rtol=0.15)
    np.testing.assert_allclose(of_scales, np.log(draws.scales).var(axis=0), rtol=0.15)
