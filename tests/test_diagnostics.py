"""Diagnostics, summaries and the way to ArviZ."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import LazyFits
from either_arviz import group, group_names
from either_arviz import loo as loo_of_arviz
from fitting import ALL, fit_and_listen, fit_quick

import stangmm as sg
from stangmm.base.arrays import FloatArray
from stangmm.judge.diagnostics import Check, Diagnosis

pytestmark = pytest.mark.stan


def test_chains_on_real_data_pass_every_check(fits: LazyFits) -> None:
    diagnosis = fits["nuts"].diagnose().computation
    assert diagnosis.verdict == "ok", str(diagnosis)
    names = {check.name for check in diagnosis}
    assert {"R-hat", "bulk ESS", "tail ESS", "divergences", "tree depth", "E-BFMI"} <= names


def test_chains_that_are_too_short_are_not_believed() -> None:
    model = sg.GaussianMixture(3, "diag")
    short = sg.NUTS(chains=2, warmup=20, draws=10)
    fit, warned = fit_and_listen(model, sg.datasets.galaxies(), short)
    assert fit.diagnose().verdict == "fail"
    failed = [check.name for check in fit.diagnose().failed]
    assert "bulk ESS" in failed
    assert [message.partition("]")[2].strip().partition(":")[0] for message in warned] == failed


def test_chains_that_diverge_go_on_with_smaller_steps() -> None:
    rng = np.random.default_rng(0)
    along = np.arange(12.0)
    few = np.column_stack([along, along + 0.01 * rng.standard_normal(12)])
    model = sg.GaussianMixture(2, "full")
    large, _ = fit_and_listen(model, few, sg.NUTS(thin=1, adapt_delta=0.8))
    assert large.diagnose()["divergences"].value > 0
    small, _ = fit_and_listen(model, few, sg.NUTS(thin=1))
    assert small.diagnose()["divergences"].value < large.diagnose()["divergences"].value
    steps = [fit.info.sample_stats["step_size"].mean() for fit in (large, small)]
    assert steps[1] < 0.7 * steps[0]


def test_an_approximation_that_did_not_converge_is_not_believed() -> None:
    hasty = sg.ADVI(iterations=20, evaluate_every=10, tolerance=1e-9)
    model = sg.GaussianMixture(2, "full")
    fit, warned = fit_and_listen(model, sg.datasets.faithful(), hasty)
    assert any("ELBO" in message and "iterations" in message for message in warned)
    assert fit.diagnose()["ELBO"].verdict == "fail"


def test_em_that_runs_out_of_iterations_says_so() -> None:
    model = sg.GaussianMixture(2, "full")
    fit, warned = fit_and_listen(model, sg.datasets.faithful(), sg.EM(max_iterations=1))
    assert any("max_iterations" in message for message in warned)
    assert fit.diagnose()["converged"].verdict == "fail"


@pytest.mark.parametrize("method", ALL)
def test_the_summary_has_a_row_for_each_number(fits: LazyFits, method: str) -> None:
    fit = fits[method]
    table = fit.summary()
    expected = ["mean"] if fit.kind == "point" else ["mean", "sd", "q5", "q95"]
    if fit.kind == "mcmc":
        expected += ["mcse", "ess_bulk", "ess_tail", "r_hat"]
    assert list(table.columns) == expected
    k, names = fit.model.n_components, list(fits.X.columns)
    rows = [f"weights[{i}]" for i in range(k)]
    rows += [f"{p}[{i}, {n}]" for p in ("means", "scales") for i in range(k) for n in names]
    if fit.model.covariance_type == "full":
        rows += [f"correlations[{i}, {names[0]}, {names[1]}]" for i in range(k)]
    assert list(table.index) == rows
    np.testing.assert_allclose(table["mean"].iloc[:k], fit.weights)
    if fit.kind != "point":
        draws = fit.posterior["means"].values[:, :, 0, 0].ravel()
        row = table.loc[f"means[0, {names[0]}]"]
        values = [draws.std(ddof=1), *np.quantile(draws, [0.05, 0.95])]
        np.testing.assert_allclose(row[["sd", "q5", "q95"]].to_numpy(float), values, rtol=1e-10)


@pytest.mark.parametrize("method", ALL)
def test_arviz_gets_the_groups_it_knows(fits: LazyFits, method: str) -> None:
    fit = fits[method]
    data = fit.to_arviz()
    assert ("sample_stats" in group_names(data)) is (fit.kind == "mcmc")
    n = len(fits.X)
    assert group(data, "log_likelihood")["x"].shape == (*fit.lp.shape, n)
    np.testing.assert_array_equal(
        group(data, "observed_data")["x"].values, np.squeeze(fits.X.to_numpy())
    )
    by_row = group(data, "log_likelihood")["x"].sum("row").values
    np.testing.assert_allclose(by_row, fit.total_log_likelihood, rtol=1e-8)


def test_leave_one_out_is_arvizs(fits_faithful: LazyFits) -> None:
    fit = fits_faithful["nuts"]
    ours, theirs = fit.loo(), loo_of_arviz(fit.to_arviz())
    assert ours.elpd == pytest.approx(theirs.elpd)
    # By hand: importance weights 1 / p(x_n | draw) leave row n out; heavy tails are smoothed.
    by_row = fit.log_likelihood()
    harmonic = -np.log(np.exp(-by_row).mean(axis=0)).sum()
    assert ours.elpd == pytest.approx(harmonic, abs=0.5)
    assert ours.elpd < fit.log_density(fits_faithful.X).sum()


def test_the_energy_and_steps_of_the_chains_are_kept(fits_galaxies: LazyFits) -> None:
    stats = group(fits_galaxies["nuts"].to_arviz(), "sample_stats")
    names = {"diverging", "tree_depth", "energy", "n_steps", "acceptance_rate", "step_size"}
    assert names <= set(stats.data_vars)
    assert stats["diverging"].dtype == bool
    assert (stats["n_steps"] >= 1).all()
    assert 0.6 < float(stats["acceptance_rate"].mean()) < 1.0


def test_one_chain_is_said_to_have_nothing_to_agree_with() -> None:
    fit = fit_quick(sg.GaussianMixture(2, "full"), sg.datasets.faithful(), sg.NUTS(chains=1))
    check = fit.diagnose()["R-hat"]
    assert check.verdict == "warn"
    assert np.isnan(check.value)
    assert "four chains" in check.advice
    assert "r_hat" not in fit.summary().columns


def test_a_component_that_holds_no_rows_is_pointed_out() -> None:
    # Two clear groups and three components: the third has nothing to say but the prior.
    x = np.concatenate([np.linspace(-1, 1, 60), 8 + np.linspace(-1, 1, 60)])
    priors = sg.Priors(weights=sg.Dirichlet(0.05))
    fit = fit_quick(sg.GaussianMixture(3, "diag", priors), x, "nuts")
    check = fit.diagnose()["rows in the smallest component"]
    assert check.verdict == "warn"
    assert check.value < 5
    assert "fewer components" in check.advice


def overlapping(rho: float, apart: float) -> FloatArray:
    """Two components of 100 rows, correlated within."""
    rng = np.random.default_rng(1)
    factor = np.linalg.cholesky([[1.0, rho], [rho, 1.0]])
    first, second = rng.normal(size=(2, 100, 2)) @ factor.T
    return np.concatenate([first, second + np.array([apart, 0.0])])


def test_advi_on_correlated_components_is_said_to_be_far_from_the_posterior() -> None:
    """Mean-field ADVI takes parameters as independent, which these are not."""
    fit, warnings_said = fit_and_listen(
        sg.GaussianMixture(2, "full"), overlapping(rho=0.95, apart=2.0), sg.ADVI()
    )
    check = fit.diagnose()["Pareto k-hat"]
    assert check.value > 0.7
    assert check.verdict == "fail"
    assert str(check) in warnings_said
    with pytest.raises(sg.ModelError, match=f"k-hat is {check.value:.2f}"):
        fit.resample()


def test_importance_resampling_brings_an_approximation_nearer_to_the_posterior() -> None:
    x = overlapping(rho=0.6, apart=6.0)
    model = sg.GaussianMixture(2, "full")
    advi = fit_quick(model, x, sg.ADVI(draws=4000), seed=2)
    posterior = fit_quick(model, x, sg.NUTS())
    assert advi.diagnose()["Pareto k-hat"].value < 0.7
    resampled = advi.resample(seed=1)
    assert resampled.lp.shape == (1, 4000)
    assert advi.resample(500, seed=1).lp.shape == (1, 500)

    def too_sure(fit: sg.Fit) -> float:
        """How much too small the posterior sds are on average, on the log scale."""
        ratios = [
            getattr(fit.mixture, name).std(axis=0) / getattr(posterior.mixture, name).std(axis=0)
            for name in ("means", "scales")
        ]
        return float(-np.log(ratios).mean())

    # 4000 draws of k-hat near 0.6 give each of the eight sds to some per cent.
    assert too_sure(advi) > 0.08
    assert abs(too_sure(resampled)) < 0.6 * too_sure(advi)
    # Each draw is one of the approximation's, with its own densities.
    places = {float(lp): i for i, lp in enumerate(advi.lp[0])}
    index = [places[float(lp)] for lp in resampled.lp[0]]
    np.testing.assert_array_equal(resampled.mixture.means, advi.mixture.means[index])
    np.testing.assert_array_equal(
        resampled.total_log_likelihood[0], advi.total_log_likelihood[0][index]
    )


def test_only_approximations_are_resampled(fits_faithful: LazyFits) -> None:
    for method in ("em", "nuts"):
        with pytest.raises(sg.ModelError, match="Only an approximation"):
            fits_faithful[method].resample()


def test_optima_that_are_nearly_as_good_are_mentioned() -> None:
    rng = np.random.default_rng(0)  # left and right, or up and down: nearly the same
    corners = np.array([[-2.0, -2.1], [-2.0, 2.1], [2.0, -2.1], [2.0, 2.1]])
    x = (corners[:, np.newaxis] + rng.normal(0, 0.3, (5, 2))).reshape(-1, 2)
    fit = fit_quick(sg.GaussianMixture(2, "diag"), x, sg.EM())
    first, second = fit.info.optima[:2]
    check = fit.diagnose()["gap to the next optimum"]
    assert check.value == pytest.approx(first.objective - second.objective)
    assert check.verdict == "warn"
    assert "nearly as well" in check.advice


def test_a_diagnosis_is_a_table_in_a_notebook_and_escapes_names() -> None:
    nasty = Check("<script>", 1.0, "< 2", "ok", "a & b")
    html = Diagnosis((nasty,)).to_html()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "a &amp; b" in html
    assert "verdict: <strong>ok</strong>" in html
