"""Laplace's method with importance weights, and the choice between it and NUTS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitting import fit_quick
from random_mixtures import COVARIANCE_TYPES, random_mixture
from scipy import stats
from scipy.special import logsumexp
from sklearn.datasets import load_iris

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.proposal import Proposal
from stangmm.methods.psis import importance_weights, weights_of
from stangmm.methods.stan.mode import log_posterior
from stangmm.methods.target import Target
from stangmm.model.expansion import Expansion
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.model.problem import Problem

FAITHFUL = sg.datasets.faithful()


def apart(n: int, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = np.array([[-6.0, 0.0], [0.0, 5.0], [6.0, -3.0]])
    return means[rng.integers(3, size=n)] + rng.normal(size=(n, 2))


# ---- the log likelihood near a mixture -------------------------------------------------------


def problem_and_mode(
    covariance_type: str, x: np.ndarray, k: int = 2, **options: Any
) -> tuple[Problem, Mixture]:
    fit = sg.GaussianMixture(k, covariance_type).fit(x, "em", seed=1, progress=False, **options)
    model = fit.model
    problem = Problem.build(fit.dataset, k, model.structure, model.priors, model.noise)
    return problem, problem.from_user_units(fit.mixture)[0]


@pytest.mark.parametrize("rows", ["complete", "missing", "labelled", "weighted"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_what_the_expansion_leaves_out_is_of_third_order(covariance_type: str, rows: str) -> None:
    """Half the distance, an eighth of the error."""
    rng = np.random.default_rng(5)
    truth = random_mixture(rng, covariance_type, 2, 3)
    truth = replace(truth, means=0.5 * rng.normal(size=(2, 3)))  # components that overlap
    x = truth.sample(rng, 80)
    weight = rng.uniform(0.5, 2.0, 80) if rows == "weighted" else None
    labels = rng.integers(-1, 2, 80) if rows == "labelled" else None
    if rows == "missing":
        x[rng.random(x.shape) < 0.2] = np.nan
    structure = sg.GaussianMixture(2, covariance_type).structure
    problem = Problem.build(Dataset.from_input(np.nan_to_num(x)), 2, structure, sg.Priors())
    at = problem.space.vectors(truth.mixture(covariance_type))
    expansion = Expansion.of(problem.space.mixtures(at), x, weight, labels)
    directions = rng.normal(size=(200, len(at)))
    errors = []
    for distance in (0.0, 0.004, 0.002):
        mixture = problem.space.mixtures(at + distance * directions)
        exact = log_likelihood(mixture, x, weight, labels)
        errors.append(np.sqrt(np.mean((expansion.log_likelihood(mixture) - exact) ** 2)))
    assert errors[0] < 1e-11 * np.abs(exact).max()
    assert errors[1] / errors[2] == pytest.approx(8.0, rel=0.1)


def test_the_noise_is_expanded_too() -> None:
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(size=(60, 2)), rng.uniform(-8, 8, (20, 2))])
    model = sg.GaussianMixture(1, noise=True)
    problem = Problem.build(Dataset.from_input(x), 1, model.structure, model.priors, True)
    fit = model.fit(x, "em", seed=1, progress=False)
    mode = problem.from_user_units(fit.mixture)[0]
    at = problem.space.vectors(mode)
    mixture = problem.space.mixtures(at + 0.001 * rng.normal(size=(50, len(at))))
    exact = log_likelihood(mixture, problem.x)
    expanded = Expansion.of(mode, problem.x).log_likelihood(mixture)
    assert expanded == pytest.approx(exact, abs=1e-6)
    assert np.ptp(exact) > 1e-4


def test_many_rows_are_weighed_by_some_of_them_and_the_error_is_told() -> None:
    problem, mode = problem_and_mode("full", apart(20_000), 3)
    target = Target.of(problem, (mode,), Run(1))
    assert sum(len(part.x) for part in target.parts) < problem.n_observations / 4
    rng = np.random.default_rng(1)
    held = mode.weights.min() * problem.n_observations
    vectors = problem.space.vectors(target.modes[0]) + rng.normal(
        size=(100, problem.space.size)
    ) / np.sqrt(held)
    exact = log_posterior(vectors, problem)
    off = target.log_posterior(vectors) - exact
    off -= off.mean()
    assert np.ptp(exact) > 10.0
    assert 0.0 < target.error(vectors) < 0.05
    assert np.sqrt(np.mean(off**2)) < 4 * target.error(vectors)
    assert target.with_more_rows(Run(1)).log_posterior(vectors) == pytest.approx(exact, abs=1e-6)


def test_one_labelling_has_one_kth_factorial_of_the_posterior() -> None:
    """Of vectors with all labellings of a mixture, one has a density."""
    problem, mode = problem_and_mode("diag", apart(200), 3)
    target = Target.of(problem, (mode,), Run(1))
    orders = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    vectors = problem.space.vectors(Mixture(*(
        np.stack([part[order] for order in orders])
        for part in (mode.weights, mode.means, mode.scales)
    )))  # fmt: skip
    assert np.isfinite(target.log_posterior(vectors)).sum() == 1


# ---- proposals -------------------------------------------------------------------------------


def test_a_proposal_has_the_density_of_scipys_t_distributions() -> None:
    rng = np.random.default_rng(2)
    means, shapes = rng.normal(size=(2, 3)), np.stack([np.eye(3), np.eye(3) + 0.5])
    proposal = Proposal(np.array([0.3, 0.7]), means, np.linalg.cholesky(shapes), 5.0)
    x = proposal.sample(1000, rng)
    each = [
        stats.multivariate_t(mean, shape, df=5.0).logpdf(x)
        for mean, shape in zip(means, shapes, strict=True)
    ]
    expected = logsumexp(np.stack(each), axis=0, b=np.array([[0.3], [0.7]]))
    np.testing.assert_allclose(proposal.log_density(x), expected, rtol=1e-10)


def test_a_refitted_proposal_is_nearer_to_what_the_weights_say() -> None:
    """A normal target; weights have a smaller variance each time."""
    rng = np.random.default_rng(3)
    covariance = np.array([[2.0, 1.2], [1.2, 1.0]])
    target = stats.multivariate_normal([1.0, -1.0], covariance)
    proposal = Proposal(np.ones(1), np.zeros((1, 2)), 2.0 * np.eye(2)[np.newaxis], 8.0)
    effective = []
    for _ in range(3):
        x = proposal.sample(4000, rng)
        weights, _ = weights_of(target.logpdf(x) - proposal.log_density(x))
        effective.append(1.0 / (weights**2).sum())
        proposal = proposal.refitted(x, weights)
    assert effective[0] < 1500
    assert effective[2] > 3000


# ---- the posterior ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["half-Cauchy", "half-normal"])
def test_posterior_and_evidence_agree_with_quadrature(family: str) -> None:
    """K = 1, D = 1: the posterior of mean and sd by brute force on a grid."""
    x = np.array([20.0, 22.5, 23.0, 28.0, 35.0, 24.0, 27.0])
    prior: Any = sg.HalfCauchy(4.0) if family == "half-Cauchy" else sg.HalfNormal(4.0)
    priors = sg.Priors(means=sg.Normal(15.0, 10.0), scales=prior, resolution=0.0)
    settings = sg.Laplace(draws=40_000)
    fit = sg.GaussianMixture(1, "diag", priors).fit(x, settings, seed=1, progress=False)
    mean = np.linspace(-60, 90, 1501)[:, np.newaxis]
    log_sd = np.linspace(np.log(0.3), np.log(400), 1501)
    sd = np.exp(log_sd)
    scipys = stats.halfcauchy if family == "half-Cauchy" else stats.halfnorm
    log_joint = stats.norm(15.0, 10.0).logpdf(mean) + scipys(scale=4.0).logpdf(sd) + log_sd
    for value in x:
        log_joint = log_joint + stats.norm(mean, sd).logpdf(value)
    cell = (mean[1, 0] - mean[0, 0]) * (log_sd[1] - log_sd[0])
    exact = float(logsumexp(log_joint) + np.log(cell))
    mass = np.exp(log_joint - logsumexp(log_joint))
    evidence = fit.log_evidence()
    assert evidence.reliable
    assert evidence.standard_error < 0.01
    assert abs(float(evidence) - exact) < 4 * evidence.standard_error
    effective = 1.0 / (importance_weights(fit.info)[0] ** 2).sum()
    draws_of = fit.mixture.means[:, 0, 0], np.log(fit.mixture.scales[:, 0, 0])
    for draws, values in zip(draws_of, (mean + 0 * sd, log_sd + 0 * mean), strict=True):
        center = (mass * values).sum()
        spread = np.sqrt((mass * (values - center) ** 2).sum())
        assert abs(draws.mean() - center) < 5 * spread / np.sqrt(min(effective, 40_000))
        assert draws.std() == pytest.approx(spread, rel=0.03)


def test_old_faithful_passes_and_says_so() -> None:
    fit = sg.GaussianMixture(2).fit(FAITHFUL, "laplace", seed=1, progress=False)
    checks = fit.diagnose()
    assert checks["Pareto k-hat"].value < 0.5
    assert checks["effective draws"].value > 2000
    assert checks.computation.verdict == "ok"
    assert fit.lp.shape == (1, 4000)
    assert len(np.unique(fit.mixture.means[:, 0, 0])) > 2000
    np.testing.assert_allclose(
        fit.total_log_likelihood.ravel(), fit.log_likelihood().sum(axis=1), rtol=1e-10
    )
    with pytest.raises(sg.ModelError, match="already"):
        fit.resample()


@pytest.mark.stan
def test_it_agrees_with_nuts_and_bridge_sampling() -> None:
    model = sg.GaussianMixture(2)
    fit = model.fit(FAITHFUL, "laplace", seed=1, progress=False)
    nuts = model.fit(FAITHFUL, sg.NUTS(draws=2000), seed=2, progress=False)
    for own, other in (
        (fit.mixture.weights, nuts.mixture.weights),
        (fit.mixture.means, nuts.mixture.means),
        (np.log(fit.mixture.scales), np.log(nuts.mixture.scales)),
        (fit.lp.reshape(-1, 1), nuts.lp.reshape(-1, 1)),
    ):
        spread = other.std(axis=0)
        assert (np.abs(own.mean(axis=0) - other.mean(axis=0)) < 0.1 * spread).all()
        np.testing.assert_allclose(own.std(axis=0), spread, rtol=0.1)
    one, two = fit.log_evidence(), nuts.log_evidence()
    assert abs(float(one) - float(two)) < 5 * np.hypot(one.standard_error, two.standard_error)


@pytest.mark.parametrize("rows", ["missing", "labelled", "weighted", "noise"])
def test_every_kind_of_data_goes_through(rows: str) -> None:
    x = apart(150)
    options: dict[str, Any] = {}
    model = sg.GaussianMixture(3, "diag", noise=rows == "noise")
    if rows == "missing":
        x[::10, 0] = np.nan
        options["missing"] = "marginalize"
    if rows == "labelled":
        options["labels"] = np.where(np.arange(150) < 30, np.argmin(
            np.abs(x[:, :1] - [-6.0, 0.0, 6.0]), axis=1), -1)  # fmt: skip
    if rows == "weighted":
        options["sample_weight"] = np.full(150, 2.0)
    fit = fit_quick(model, x, sg.Laplace(draws=1000), **options)
    assert fit.diagnose()["Pareto k-hat"].verdict == "ok"
    np.testing.assert_allclose(np.sort(fit.means[:, 0]), [-6.0, 0.0, 6.0], atol=0.8)
    assert fit.log_evidence().reliable


def test_units_of_the_data_do_not_matter() -> None:
    fits = [
        sg.GaussianMixture(2).fit(scale * FAITHFUL, "laplace", seed=1, progress=False)
        for scale in (1.0, 1e6)
    ]
    np.testing.assert_allclose(fits[1].means, 1e6 * fits[0].means, rtol=1e-6)
    offset = FAITHFUL.size * np.log(1e6)
    evidences = [float(fit.log_evidence()) for fit in fits]
    assert evidences[1] == pytest.approx(evidences[0] - offset, abs=1e-4)


def test_overlapping_components_are_flagged() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(100, 2)) + 0.5 * rng.integers(3, size=(100, 1))
    fit = fit_quick(sg.GaussianMixture(3), x, sg.Laplace(draws=1000))
    assert fit.diagnose().computation.verdict == "fail"
    with pytest.warns(sg.ConvergenceWarning, match="too far from the posterior"):
        assert not fit.log_evidence().reliable


def test_mass_without_rows_is_found_missing() -> None:
    """Iris, K = 3: two thirds of the posterior have a component without rows."""
    x = load_iris().data
    fit = fit_quick(sg.GaussianMixture(3), x, sg.Laplace(draws=2000))
    assert fit.info.missed > 0.3
    assert fit.diagnose()["posterior without rows"].verdict == "fail"


def test_files_and_criteria_know_it(tmp_path: Path) -> None:
    fit = sg.GaussianMixture(2).fit(FAITHFUL, "laplace", seed=1, progress=False)
    again = sg.load(fit.save(tmp_path / "fit.nc"))
    assert again.info.resampled
    assert again.diagnose().computation.verdict == "ok"
    assert float(again.log_evidence()) == float(fit.log_evidence())
    assert "resampled by their importance weights" in again.describe()
    chosen = sg.select_components(
        FAITHFUL,
        [1, 2],
        method=sg.Laplace(draws=1000),
        criterion="evidence",
        seed=1,
        progress=False,
    )
    assert chosen.chosen == 2


def test_dask_data_give_what_rows_in_memory_give() -> None:
    """The same draws to the error of estimating log densities from a sample of the rows."""
    dask, array = pytest.importorskip("dask"), pytest.importorskip("dask.array")
    x = apart(70_000)
    model = sg.GaussianMixture(3)
    with dask.config.set(scheduler="synchronous"):
        chunked = fit_quick(model, array.from_array(x, chunks=(9_000, 2)), sg.Laplace(draws=1000))
        evidence = chunked.log_evidence()
    fit = fit_quick(model, x, sg.Laplace(draws=1000))
    assert chunked.dataset.n_rows == len(x)
    assert chunked.diagnose().computation.verdict == "ok"
    spread = fit.mixture.means.std(axis=0)
    off = chunked.mixture.means.mean(axis=0) - fit.mixture.means.mean(axis=0)
    assert np.abs(off / spread).max() < 0.1
    assert float(evidence) == pytest.approx(float(fit.log_evidence()), abs=0.05)


def test_dask_data_with_two_modes_have_the_density_of_all_rows() -> None:
    """Nothing is estimated from a sample then: each batch of draws is a pass over the chunks."""
    dask, array = pytest.importorskip("dask"), pytest.importorskip("dask.array")
    x = apart(70_000)
    problem, mode = problem_and_mode("diag", x, 3)
    chunked = Dataset.from_input(array.from_array(x, chunks=(9_000, 2)))
    structure, priors = sg.GaussianMixture(3, "diag").structure, sg.Priors()
    in_chunks = Problem.build(chunked, 3, structure, priors)
    modes = (mode, replace(mode, means=mode.means + 0.01))
    vectors = problem.space.vectors(mode) + np.zeros((3, 1)) + [[0.0], [0.01], [0.02]]
    with dask.config.set(scheduler="synchronous"):
        found = Target.of(in_chunks, modes, Run(1)).log_posterior(vectors)
    expected = Target.of(problem, modes, Run(1)).log_posterior(vectors)
    assert np.ptp(expected) > 10.0
    assert found - found[0] == pytest.approx(expected - expected[0], abs=0.05)


# ---- auto ------------------------------------------------------------------------------------


def test_auto_takes_laplace_where_it_will_do() -> None:
    fit = sg.GaussianMixture(2).fit(FAITHFUL, "auto", seed=1, progress=False)
    assert fit.method == "laplace"
    assert fit.settings == sg.Laplace()
    assert "NUTS was not needed" in fit.reason
    assert fit.reason in repr(fit)


@pytest.mark.stan
def test_auto_takes_nuts_where_laplace_will_not_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_t(3, size=(60, 1))
    fit = fit_quick(sg.GaussianMixture(3, "diag"), x, sg.Auto(draws=400))
    assert fit.method == "nuts"
    assert fit.lp.shape == (4, 100)
    assert fit.reason.endswith("so NUTS was run.")
    assert sg.load(fit.save(tmp_path / "fit.nc")).reason == fit.reason
    assert replace(fit.settings, draws=1000) == sg.NUTS()


@pytest.mark.parametrize("settings", [lambda: sg.Laplace(draws=10), lambda: sg.Auto(draws=0)])
def test_settings_are_checked_when_made(settings: Any) -> None:
    with pytest.raises(sg.ModelError, match="draws must be"):
        settings()
