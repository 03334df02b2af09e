"""Diagnostics, summaries and the way to ArviZ."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import LazyFits
from fitting import ALL, fit_and_listen, fit_quick

import stangmm as sg
from stangmm.arviz_bridge import arviz

pytestmark = pytest.mark.stan

az = arviz()


def test_default_chains_on_real_data_pass_every_check(fits: LazyFits) -> None:
    diagnosis = fits["nuts"].diagnose()
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


def test_an_approximation_that_did_not_converge_is_not_believed() -> None:
    hasty = sg.ADVI(iterations=20, evaluate_every=10, tolerance=1e-9)
    model = sg.GaussianMixture(2, "full")
    fit, warned = fit_and_listen(model, sg.datasets.faithful(), hasty)
    assert any("ELBO" in message and "iterations" in message for message in warned)
    assert fit.diagnose()["ELBO"].verdict == "fail"


def test_em_that_runs_out_of_iterations_says_so() -> None:
    model = sg.GaussianMixture(2, "full")
    fit, warned = fit_and_listen(model, sg.datasets.faithful(), sg.EM(max_iterations=3))
    assert any("max_iterations" in message for message in warned)
    assert fit.diagnose()["converged"].verdict == "fail"


@pytest.mark.parametrize("method", ALL)
def test_the_summary_has_a_row_for_each_number(fits: LazyFits, method: str) -> None:
    fit = fits[method]
    table = fit.summary()
    expected = ["mean", "sd", "q5", "q95"]
    if fit.kind == "mcmc":
        expected += ["mcse", "ess_bulk", "ess_tail", "r_hat"]
    assert list(table.columns) == expected
    k, names = fit.model.n_components, list(fits.X.columns)
    rows = [f"weights[{i}]" for i in range(k)]
    rows += [f"{p}[{i}, {n}]" for p in ("means", "scales") for i in range(k) for n in names]
    assert list(table.index) == rows
    np.testing.assert_allclose(table["mean"].iloc[:k], fit.weights)
    if fit.kind == "point":
        assert table[["sd", "q5", "q95"]].isna().all().all()
    else:
        draws = fit.posterior["means"].values[:, :, 0, 0].ravel()
        row = table.loc[f"means[0, {names[0]}]"]
        values = [draws.std(ddof=1), *np.quantile(draws, [0.05, 0.95])]
        np.testing.assert_allclose(row[["sd", "q5", "q95"]].to_numpy(float), values, rtol=1e-10)


@pytest.mark.parametrize("method", ALL)
def test_arviz_gets_the_groups_it_knows(fits: LazyFits, method: str) -> None:
    fit = fits[method]
    data = fit.to_arviz()
    groups = {"posterior", "log_likelihood", "observed_data"}
    assert set(data.groups()) == groups | ({"sample_stats"} if fit.kind == "mcmc" else set())
    n = len(fits.X)
    assert data["log_likelihood"]["x"].shape == (*fit.lp.shape, n)
    np.testing.assert_array_equal(data["observed_data"]["x"].values, fits.X.to_numpy())
    by_row = data["log_likelihood"]["x"].sum("row").values
    np.testing.assert_allclose(by_row, fit.total_log_likelihood, rtol=1e-8)


def test_leave_one_out_is_arvizs(fits_faithful: LazyFits) -> None:
    fit = fits_faithful["nuts"]
    ours, theirs = fit.loo(), az.loo(fit.to_arviz())
    assert ours.elpd_loo == pytest.approx(theirs.elpd_loo)
    # By hand: importance weights 1 / p(x_n | draw) leave row n out; heavy tails are ArviZ's care.
    by_row = fit.log_likelihood()
    harmonic = -np.log(np.exp(-by_row).mean(axis=0)).sum()
    assert ours.elpd_loo == pytest.approx(harmonic, abs=0.5)
    assert ours.elpd_loo < fit.log_density(fits_faithful.X).sum()


def test_the_energy_and_steps_of_the_chains_are_kept(fits_galaxies: LazyFits) -> None:
    stats = fits_galaxies["nuts"].to_arviz()["sample_stats"]
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
