"""A row of sample weight w is w rows: each claim compares weights with rows written out.

Data on a grid of repeated values are how weights come about: counts of a histogram.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from random_mixtures import COVARIANCE_TYPES, random_mixture

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.judge.stacking import stacking_weights
from stangmm.methods.em.restarts import collapsed
from stangmm.model.covariance import structure_named
from stangmm.model.joint import log_joint
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.model.problem import Problem
from stangmm.plots import layers
from stangmm.plots.style import new_axes
from stangmm.posterior.relabel import relabelled

K = 2
RNG = np.random.default_rng(8)
X = np.concatenate([RNG.normal(0, 1, (30, 2)), RNG.normal([5, 4], 1, (20, 2))])
WEIGHT = RNG.integers(1, 5, len(X)).astype(float)
WEIGHT[[3, 40]] = 0.0  # rows that do not count
REPEATED = np.repeat(X, WEIGHT.astype(int), axis=0)
SETTINGS = sg.EM(restarts=10, tolerance=1e-9)


def fitted(covariance_type: str = "full", **options: object) -> tuple[sg.Fit, sg.Fit]:
    """The same model fitted with weights and with rows written out."""
    model = sg.GaussianMixture(K, covariance_type)
    method = options.pop("method", SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return (
            model.fit(X, method, seed=1, sample_weight=WEIGHT, progress=False, **options),
            model.fit(REPEATED, method, seed=1, progress=False, **options),
        )


@pytest.fixture(scope="module")
def em() -> tuple[sg.Fit, sg.Fit]:
    return fitted()


@pytest.fixture(scope="module")
def nuts() -> tuple[sg.Fit, sg.Fit]:
    return fitted(method=sg.NUTS(draws=1000))


# Densities and defaults, to rounding.


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_log_joint_density_is_that_of_the_rows_written_out(covariance_type: str) -> None:
    structure = structure_named(covariance_type)
    mixture = random_mixture(np.random.default_rng(2), covariance_type, K, 2).mixture(
        covariance_type
    )
    weighted, repeated = (
        Problem.build(data, K, structure, sg.Priors())
        for data in (Dataset.from_input(X, WEIGHT), Dataset.from_input(REPEATED))
    )
    values = [
        log_joint(mixture, p.x, p.sample_weight, p.priors, structure) for p in (weighted, repeated)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-10)
    assert weighted.log_likelihood_offset == pytest.approx(repeated.log_likelihood_offset)


def test_a_fractional_weight_is_a_power_of_the_density() -> None:
    mixture = random_mixture(np.random.default_rng(2), "full", K, 2).mixture("full")
    weight = np.full(len(X), 0.25)
    expected = 0.25 * mixture.log_density(X).sum()
    assert log_likelihood(mixture, X, weight) == pytest.approx(expected, rel=1e-12)


def test_moments_and_default_priors_are_those_of_the_rows_written_out() -> None:
    weighted, repeated = Dataset.from_input(X, WEIGHT), Dataset.from_input(REPEATED)
    for a, b in zip(
        (*weighted.mean_and_sd(), *weighted.range()),
        (*repeated.mean_and_sd(), *repeated.range()),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    shown = sg.Priors.from_data(X, sample_weight=WEIGHT), sg.Priors.from_data(REPEATED)
    np.testing.assert_allclose(shown[0].scales.scale, shown[1].scales.scale, rtol=1e-12)
    np.testing.assert_allclose(shown[0].means.scale, shown[1].means.scale, rtol=1e-12)


# EM and all that is computed from its optimum.


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_em_finds_the_same_optimum(covariance_type: str) -> None:
    weighted, repeated = fitted(covariance_type)
    assert weighted.total_log_likelihood.item() == pytest.approx(
        repeated.total_log_likelihood.item(), abs=1e-6
    )
    np.testing.assert_allclose(weighted.weights, repeated.weights, atol=1e-5)
    np.testing.assert_allclose(weighted.means, repeated.means, atol=1e-4)
    np.testing.assert_allclose(weighted.covariances, repeated.covariances, atol=1e-4)


@pytest.mark.parametrize("criterion", ["aic", "bic", "icl"])
def test_criteria_are_those_of_the_rows_written_out(
    em: tuple[sg.Fit, sg.Fit], criterion: str
) -> None:
    weighted, repeated = (getattr(fit, criterion)() for fit in em)
    assert weighted == pytest.approx(repeated, abs=1e-4)


def test_diagnosis_counts_rows_as_often_as_they_weigh(em: tuple[sg.Fit, sg.Fit]) -> None:
    values = [
        {check.name: check.value for check in fit.diagnose().checks}[
            "rows in the smallest component"
        ]
        for fit in em
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-3)


def test_a_histogram_shows_each_row_as_often_as_it_weighs() -> None:
    ax = new_axes(3.0)
    layers.histogram(ax, X[:, 0], WEIGHT)
    layers.histogram(ax, REPEATED[:, 0], None)
    weighted, repeated = (bars.get_data() for bars in ax.patches)
    np.testing.assert_allclose(weighted.values, repeated.values)
    np.testing.assert_allclose(weighted.edges, repeated.edges)


def test_stacking_counts_rows_as_often_as_they_weigh() -> None:
    log_p = np.random.default_rng(3).normal(size=(len(X), 3))
    np.testing.assert_allclose(
        stacking_weights(log_p, WEIGHT),
        stacking_weights(np.repeat(log_p, WEIGHT.astype(int), axis=0)),
        atol=1e-6,
    )


def test_select_components_makes_the_same_choice() -> None:
    # With three components equal rows make many optima, of which a few starts find one or other.
    options = {"method": SETTINGS, "criterion": "bic", "seed": 1, "progress": False}
    weighted, repeated = (
        sg.select_components(data, [1, 2], sample_weight=weight, **options).table
        for data, weight in ((X, WEIGHT), (REPEATED, None))
    )
    np.testing.assert_allclose(weighted["bic"], repeated["bic"], atol=1e-3)


# Restarts that collapsed are told from those that did not as with rows written out.


# Counts in bins: of two groups the smaller one is 60 rows in three bins.
BINS = np.concatenate([np.linspace(-3, 3, 61), [9.0, 10.0, 11.0]])
COUNTS = np.concatenate([np.full(61, 40.0), [15.0, 30.0, 15.0]])


def test_a_component_of_a_few_heavy_rows_is_no_collapse() -> None:
    settings = sg.EM(restarts=20)
    weighted = sg.GaussianMixture(2, "diag").fit(
        BINS, settings, seed=1, sample_weight=COUNTS, progress=False
    )
    repeated = sg.GaussianMixture(2, "diag").fit(
        np.repeat(BINS, COUNTS.astype(int)), settings, seed=1, progress=False
    )
    assert weighted.total_log_likelihood.item() == pytest.approx(
        repeated.total_log_likelihood.item(), abs=1e-4
    )
    np.testing.assert_allclose(weighted.means, repeated.means, atol=1e-3)


def test_collapse_is_judged_by_the_weight_that_a_component_holds() -> None:
    fit = sg.GaussianMixture(2, "diag").fit(
        np.repeat(BINS, COUNTS.astype(int)), sg.EM(restarts=20), seed=1, progress=False
    )
    problem = Problem.build(
        Dataset.from_input(BINS, COUNTS), 2, structure_named("diag"), sg.Priors()
    )
    assert not collapsed(problem.from_user_units(fit.mixture), problem).any()


def test_labels_are_settled_by_rows_as_often_as_they_weigh() -> None:
    """Two heavy rows tell the components apart in another way than eight light ones."""
    rng = np.random.default_rng(0)
    x = np.concatenate([[-1.0, 1.0], np.linspace(4.0, 8.0, 8)])[:, np.newaxis]
    weight = np.array([30.0, 30.0, *np.ones(8)])
    means, scales = rng.normal([-1, 1], 0.2, (300, 2)), rng.lognormal(0.0, 1.0, (300, 2))
    swapped = rng.random(300) < 0.5
    means[swapped] = means[swapped][:, ::-1]
    draws = Mixture(np.full((300, 2), 0.5), means[..., np.newaxis], scales[..., np.newaxis])
    written_out = relabelled("stephens", draws, np.repeat(x, weight.astype(int), axis=0), 0)
    np.testing.assert_array_equal(
        relabelled("stephens", draws, x, 0, sample_weight=weight), written_out
    )
    unweighted = relabelled("stephens", draws, x, 0)
    assert (unweighted != written_out).any(axis=1).sum() > 100  # so that the weights do matter


# Stan: the density to rounding, the posterior to Monte Carlo error.


@pytest.mark.stan
def test_stan_gives_the_log_density_of_the_rows_written_out() -> None:
    """Draws of the weighted fit carry Stan's log likelihood; numpy has it of the rows."""
    weighted, _ = fitted(method=sg.NUTS(chains=1, warmup=50, draws=20))
    written_out = log_likelihood(weighted.mixture, REPEATED)
    np.testing.assert_allclose(weighted.total_log_likelihood.ravel(), written_out, rtol=1e-10)


def posterior_agrees(weighted: sg.Fit, repeated: sg.Fit, errors: float = 4.5) -> None:
    """Posterior means of the means and weights within so many standard errors of both."""
    tables = [fit.summary() for fit in (weighted, repeated)]
    gap = np.abs(tables[0]["mean"] - tables[1]["mean"])
    error = np.hypot(*(table["sd"] / np.sqrt(table["ess_bulk"]) for table in tables))
    assert (tables[0]["ess_bulk"] > 400).all()
    assert (gap < errors * error).all(), (gap / error).max()
    assert np.abs(np.log(tables[0]["sd"] / tables[1]["sd"])).max() < 0.25


@pytest.mark.stan
@pytest.mark.statistical
def test_the_posterior_is_that_of_the_rows_written_out(nuts: tuple[sg.Fit, sg.Fit]) -> None:
    posterior_agrees(*nuts)


@pytest.mark.stan
@pytest.mark.statistical
@pytest.mark.parametrize("criterion", ["loo", "waic"])
def test_elpd_is_that_of_the_rows_written_out(nuts: tuple[sg.Fit, sg.Fit], criterion: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        weighted, repeated = (getattr(fit, criterion)() for fit in nuts)
    assert weighted.elpd == pytest.approx(repeated.elpd, abs=0.5)
    assert weighted.p == pytest.approx(repeated.p, abs=0.5)
    assert weighted.se == pytest.approx(repeated.se, rel=0.02)


@pytest.mark.stan
@pytest.mark.statistical
def test_the_evidence_is_that_of_the_rows_written_out(nuts: tuple[sg.Fit, sg.Fit]) -> None:
    weighted, repeated = (fit.log_evidence(seed=1) for fit in nuts)
    error = np.hypot(weighted.standard_error, repeated.standard_error)
    assert weighted.log_evidence == pytest.approx(repeated.log_evidence, abs=4.5 * error)


@pytest.mark.stan
@pytest.mark.parametrize("method", [sg.Optimize(restarts=4), sg.ADVI()], ids=["optimize", "advi"])
def test_optimize_and_advi_see_each_row_as_often_as_it_weighs(method: object) -> None:
    weighted, repeated = fitted(method=method)
    # ADVI stops at random: within about a third of a posterior standard deviation.
    tolerance = 1e-3 if weighted.kind == "point" else 0.12
    np.testing.assert_allclose(weighted.means, repeated.means, atol=tolerance)
    np.testing.assert_allclose(weighted.weights, repeated.weights, atol=tolerance)
