"""Components that hold no row: their part of the posterior is known, started from, and counted."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from fitting import fit_quick
from scipy.special import gammaln, logsumexp
from sklearn.datasets import load_iris

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.judge.evidence import log_evidence
from stangmm.judge.whole import whole_evidence
from stangmm.methods.base import Run
from stangmm.methods.draws import McmcInfo
from stangmm.methods.em.em import EM
from stangmm.methods.stan.mode import laplace_mass, log_posterior, posterior_mode
from stangmm.methods.stan.regions import regions
from stangmm.model.covariance import structure_named
from stangmm.model.empty import empty_share, log_times
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem


def _problem(x: np.ndarray, k: int, covariance_type: str = "full") -> Problem:
    structure = structure_named(covariance_type)
    return Problem.build(Dataset.from_input(x), k, structure, sg.Priors())


def _allocations(n: int, k: int) -> Iterator[np.ndarray]:
    """Counts (k,) of all allocations of n rows to k components."""
    for z in itertools.product(range(k), repeat=n):
        yield np.bincount(z, minlength=k)


def _log_probability(counts: np.ndarray, alpha: float) -> float:
    """Of one allocation under the Dirichlet-multinomial distribution."""
    k, n = len(counts), counts.sum()
    each = gammaln(alpha + counts) - gammaln(alpha)
    return float(gammaln(k * alpha) - gammaln(k * alpha + n) + each.sum())


@pytest.mark.parametrize("alpha", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_share_of_empty_components_is_that_of_the_enumeration(k: int, alpha: float) -> None:
    """With any value of an allocation, here one that depends on the counts that are not zero."""
    n = 6

    def value(counts: np.ndarray) -> float:
        return float(-np.sum(np.sqrt(counts[counts > 0])))

    def of(k: int, occupied: int) -> float:
        logs = [
            _log_probability(counts, alpha) + value(counts)
            for counts in _allocations(n, k)
            if (counts > 0).sum() == occupied
        ]
        return float(logsumexp(logs))

    for m in range(1, k + 1):
        assert of(k, m) == pytest.approx(log_times(k, m, alpha, n) + of(m, m), abs=1e-9)


def test_the_known_bound_for_uniform_weights() -> None:
    """Z(K + 1) >= Z(K) K (K + 1) / (N + K), but for allocations with two empty components."""
    assert np.exp(log_times(3, 2, 1.0, 150)) == pytest.approx(6 / 152)


def test_the_share_of_draws_with_an_empty_component_is_a_probability() -> None:
    """Rows between two equal components: each is in either with probability one half."""
    x = np.zeros((4, 1))
    draws = Mixture(
        np.full((20_000, 2), 0.5), np.tile([[-1.0], [1.0]], (20_000, 1, 1)), np.ones((20_000, 2, 1))
    )
    expected = 2 * 0.5**4
    error = np.sqrt(expected * (1 - expected) / 20_000)
    share = empty_share(draws, x, np.random.default_rng(1))
    assert abs(share - expected) < 4 * error


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_the_mode_is_above_the_optimum_and_flat(covariance_type: str) -> None:
    problem = _problem(load_iris().data, 3, covariance_type)
    optimum = EM().search(problem, Run(1)).best.mixture
    rng = np.random.default_rng(1)
    mode = posterior_mode(optimum, problem, rng)
    at = problem.space.vectors(mode)
    gain = log_posterior(at, problem) - log_posterior(problem.space.vectors(optimum), problem)
    assert gain > (1.0 if covariance_type == "full" else -1e-9)  # elsewhere it is there already
    # No direction is better by more than a tenth of a nat: random ones, some tenths of a sd long.
    steps = 0.02 * rng.standard_normal((200, len(at)))
    assert (log_posterior(at + steps, problem) < log_posterior(at, problem) + 0.1).all()


def test_laplace_is_the_integral_where_the_posterior_is_nearly_normal() -> None:
    """One normal distribution, of 400 rows: the integral over mean and log sd, on a grid."""
    problem = _problem(np.random.default_rng(2).normal(size=400), 1, "diag")
    rng = np.random.default_rng(1)
    optimum = EM().search(problem, Run(1)).best.mixture
    mode = posterior_mode(optimum, problem, rng)
    at = problem.space.vectors(mode)
    step = 0.005
    axis = np.arange(-0.4, 0.4, step)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    integral = logsumexp(log_posterior(at + grid, problem)) + 2 * np.log(step)
    assert laplace_mass(mode, problem, rng) == pytest.approx(integral, abs=0.02)


def test_chains_start_where_the_posterior_is() -> None:
    """Iris: two thirds of the posterior of three components have one of them empty."""
    iris = regions(_problem(load_iris().data, 3), Run(1))
    assert [region.n_empty for region in iris] == [1, 0]
    rng = np.random.default_rng(1)
    start = iris[0].around(rng)
    assert start.weights[2] * 150 < 2.0
    assert start.weights.sum() == pytest.approx(1.0)
    size = iris[0].whole.space.size
    assert iris[0].diagonal_metric(rng, iris[0].pivots).shape == (size,)
    # Its own means are as uncertain as the prior says, to whose Monte Carlo error.
    sd = np.asarray(iris[0].whole.priors.means.scale)[2]
    of_means = iris[0].diagonal_metric(rng, iris[0].pivots)[2 + 2 * 4 : 2 + 3 * 4]
    np.testing.assert_allclose(of_means, sd**2, rtol=0.3)


def test_no_chain_starts_with_an_empty_component_where_each_is_needed() -> None:
    apart = np.random.default_rng(3).normal(size=(200, 2)) + np.repeat([[0.0], [9.0]], 100, axis=0)
    assert [region.n_empty for region in regions(_problem(apart, 2), Run(1))] == [0]


def test_priors_that_tell_components_apart_leave_none_empty_by_exchange() -> None:
    x = np.random.default_rng(3).normal(size=60)
    priors = sg.Priors(means=sg.Normal([[-1.0], [1.0]], 1.0))
    problem = Problem.build(Dataset.from_input(x), 2, structure_named("diag"), priors)
    assert all(region.n_empty == 0 for region in regions(problem, Run(1)))


@pytest.mark.stan
@pytest.mark.statistical
def test_the_evidence_of_iris_has_what_chains_without_empty_components_miss() -> None:
    """Most chains started by hand at three clusters stay there, with a third of the evidence."""
    bunch = load_iris()
    fit = fit_quick(sg.GaussianMixture(3), bunch.data, sg.NUTS(chains=8, thin=1), init=bunch.target)
    stayed = np.flatnonzero(fit.shaped.weights.min(axis=(1, 2)) > 0.15)
    fit = fit.select_chains(stayed[:4])
    two = fit_quick(sg.GaussianMixture(2), bunch.data, sg.NUTS(thin=1))
    seen, whole = log_evidence(fit), whole_evidence(fit, {2: two})
    of_two = log_evidence(two)
    least = float(of_two) + np.log(3 * 2 / (150 + 2))
    assert seen.reliable
    assert float(seen) < least - 0.3  # so that it cannot be the evidence
    assert whole.reliable
    expected = np.logaddexp(float(seen), least)
    assert float(whole) == pytest.approx(expected, abs=4 * whole.standard_error)
    assert whole.added == pytest.approx(float(whole) - float(seen))
    assert "components without rows" in str(whole)
    # Where the fit with fewer components is not reliable, the evidence is said to be a bound.
    poor = two.select_chains([0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        bound = whole_evidence(fit, {2: poor})
    assert not bound.reliable
    assert "lower bound" in bound.why
    assert float(bound) == float(seen)


@pytest.mark.stan
def test_chains_of_iris_are_in_both_parts() -> None:
    fit = fit_quick(sg.GaussianMixture(3), load_iris().data, sg.NUTS(draws=200))
    assert isinstance(fit.info, McmcInfo)
    rng = np.random.default_rng(1)
    empty = [
        empty_share(fit.select_chains([chain]).mixture, fit.dataset.x, rng) for chain in range(4)
    ]
    assert max(empty) > 0.9
    assert min(empty) < 0.1


def flat_clusters(seed: int) -> np.ndarray:
    """Sizes of two species that differ in shape: lengths that all grow with age."""
    rng = np.random.default_rng(seed)
    species = np.repeat([0, 1], 100)
    age, shape = rng.normal(0, 0.3, 200), rng.normal(0, 0.06, (2, 6))
    growth = rng.uniform(0.8, 1.2, 6)
    logs = 2 + age[:, np.newaxis] * growth + shape[species] + rng.normal(0, 0.02, (200, 6))
    return np.exp(logs)


@pytest.mark.parametrize("seed", [28, 6, 7])
def test_an_optimum_that_the_priors_outweigh_is_known(seed: int) -> None:
    # Priors in the features' own units leave little for components as flat as these.
    x = flat_clusters(seed)
    whitened = np.linalg.solve(np.linalg.cholesky(np.cov(x.T)), (x - x.mean(axis=0)).T).T
    for data, is_outweighed in ((x, True), (whitened, False), (sg.datasets.faithful(), False)):
        problem = _problem(data, 2)
        places = regions(problem, Run(1))
        assert {bool(place.outweighed) for place in places} == {is_outweighed}
        if is_outweighed:
            (optimum,) = places[0].outweighed
            em = EM().search(problem, Run(1)).best
            assert optimum.objective == pytest.approx(em.objective, abs=0.1)
            assert optimum.objective > places[0].optimum.objective + 0.5 * problem.space.size
    fit = fit_quick(sg.GaussianMixture(2), x, sg.Laplace(draws=200))
    # Laplace is around modes in which all components hold rows: it tells of the others.
    told = {check.name for check in fit.diagnose().serious}
    assert told & {"optimum of the likelihood", "posterior without rows"}
