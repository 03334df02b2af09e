"""What goes to ArviZ and to Stan is enough to go on with there, and says where it comes from."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from either_arviz import IS_OLDER, az, group, group_names
from fitting import QUICK, fit_quick, values_at_start
from made_fits import known_mixture, made_fit, rows_of
from scipy.stats import kstest, norm

import stangmm as sg
from stangmm.cmdstan.compile import compiled_model, stan_directory
from stangmm.cmdstan.run import cmdstan_run
from stangmm.judge.leave_one_out import psis_loo
from stangmm.methods.stan.data import stan_parameters
from stangmm.model.problem import Problem

KEPT = sg.NUTS(chains=2, warmup=200, draws=100, save_warmup=True)
ALWAYS = {
    "posterior",
    "unconstrained_posterior",
    "posterior_predictive",
    "log_likelihood",
    "observed_data",
}
OF_PRIORS = {"prior", "prior_predictive", "log_prior"}


def made(kind: str, d: int = 2, **options: Any) -> sg.Fit:
    mixture = known_mixture(3, d, None, seed=4)
    return made_fit(kind, mixture, rows_of(mixture, 60, seed=5), list("abc")[:d], **options)


@pytest.fixture(scope="module")
def warm() -> sg.Fit:
    """NUTS on Old Faithful with its warm-up."""
    return fit_quick(sg.GaussianMixture(2), sg.datasets.faithful(), KEPT)


# Groups -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["point", "approximation", "mcmc"])
def test_priors_are_there_where_they_were_used(kind: str) -> None:
    expected = ALWAYS | (OF_PRIORS if kind != "point" else set())
    expected |= {"sample_stats"} if kind == "mcmc" else set()
    assert group_names(made(kind).to_arviz()) == expected


@pytest.mark.stan
def test_log_priors_and_log_likelihoods_add_up_to_the_log_joint_density(warm: sg.Fit) -> None:
    data = warm.to_arviz()
    log_prior = group(data, "log_prior")
    assert set(log_prior.data_vars) == {"weights", "means", "scales", "correlations"}
    total = log_prior.to_dataarray().sum("variable") + group(data, "log_likelihood")["x"].sum("row")
    np.testing.assert_allclose(total, warm.lp, rtol=1e-9)
    means, prior = warm.posterior["means"].values, warm.priors.means
    by_scipy = norm(prior.location, prior.scale).logpdf(means).sum(axis=(-2, -1))
    np.testing.assert_allclose(log_prior["means"], by_scipy, rtol=1e-10)


def test_unconstrained_draws_are_all_free_parameters_and_lead_back() -> None:
    fit = made("mcmc")
    free = group(fit.to_arviz(), "unconstrained_posterior")
    sizes = [int(np.prod(values.shape[2:])) for values in free.data_vars.values()]
    assert sum(sizes) == fit.model.n_parameters(2)
    np.testing.assert_array_equal(free["means"], fit.posterior["means"])
    vectors = np.concatenate([v.values.reshape(*fit.lp.shape, -1) for v in free.values()], axis=-1)
    back = fit.priors.space(fit.model.structure).mixtures(vectors)
    for name in ("weights", "scales", "covariances"):
        np.testing.assert_allclose(getattr(back, name), fit.posterior[name], rtol=1e-9)


def test_draws_of_the_prior_are_from_it_and_give_data_sets() -> None:
    fit = made("mcmc")
    data = fit.to_arviz()
    drawn, prior = group(data, "prior"), fit.priors.means
    at = norm(prior.location, prior.scale).cdf(drawn["means"].values)
    for k, d in np.ndindex(3, 2):
        assert kstest(at[..., k, d].ravel(), "uniform").pvalue > 1e-4
    assert drawn["weights"].dims == group(data, "posterior")["weights"].dims
    assert group(data, "prior_predictive")["x"].shape == (1, 1000, 60, 2)


@pytest.mark.stan
def test_every_group_says_where_it_comes_from(warm: sg.Fit) -> None:
    data = warm.to_arviz()
    for name in group_names(data):
        told = group(data, name).attrs
        assert told["inference_library"] == "stangmm"
        assert told["inference_library_version"] == version("stangmm")
        assert told["cmdstan_version"] == compiled_model().cmdstan.version_string
        assert told["sampling_time"] == warm.seconds
        age = datetime.now(UTC) - datetime.fromisoformat(told["created_at"])
        assert 0 <= age.total_seconds() < 3600
    assert data.attrs["inference_library"] == "stangmm"


# What ArviZ does with them ------------------------------------------------------------------------


@pytest.mark.stan
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of ArviZ's own use of pandas
@pytest.mark.filterwarnings("ignore:Estimated shape parameter")  # so few draws
def test_arviz_compares_fits_and_gives_their_order(warm: sg.Fit) -> None:
    two, one = warm, fit_quick(sg.GaussianMixture(1), sg.datasets.faithful(), "nuts")
    by_data = az.compare({"one": one.to_arviz(), "two": two.to_arviz()})
    loo = {"one": psis_loo(one), "two": psis_loo(two)}
    by_loo = az.compare({name: result.to_arviz() for name, result in loo.items()})
    assert list(by_data.index) == list(by_loo.index) == ["two", "one"]
    name = "elpd_loo" if IS_OLDER else "elpd"
    assert by_loo[name]["two"] == pytest.approx(loo["two"].elpd, abs=1e-6 if IS_OLDER else 10)


def test_arviz_finds_the_parameters_that_a_narrow_prior_holds() -> None:
    """Of the weights, by a Dirichlet worth 600 rows where there are 60."""
    fit = made("mcmc", draws=1000)
    weights = sg.Dirichlet(np.full(3, 200.0))
    narrow = replace(fit, priors=replace(fit.priors, weights=weights))

    def sensitivity(fit: sg.Fit) -> float:
        data = fit.to_arviz()
        if IS_OLDER:
            return float(az.psens(data, var_names=["weights"]).max())
        return float(az.psense_summary(data, var_names=["weights"])["prior"].max())

    assert sensitivity(fit) < 0.05 < sensitivity(narrow)


@pytest.mark.stan
@pytest.mark.filterwarnings("ignore::matplotlib.MatplotlibDeprecationWarning")
def test_arviz_draws_replicated_data_and_leaves_each_row_out(warm: sg.Fit) -> None:
    galaxies = fit_quick(sg.GaussianMixture(3, "diag"), sg.datasets.galaxies(), "nuts")
    waiting = warm.to_arviz().sel(feature="waiting_min")
    for data, n in ((galaxies.to_arviz(), 82), (waiting, 272)):
        u = az.loo_pit(data, y="x") if IS_OLDER else az.loo_pit(data)["x"].values
        assert u.shape == (n,)
        assert kstest(u, "uniform").pvalue > 1e-3
        plot = partial(az.plot_ppc, num_pp_samples=50) if IS_OLDER else az.plot_ppc_dist
        with mpl.rc_context({"backend": "agg"}):
            assert plot(data)


def test_a_file_has_the_priors_densities_and_a_hundred_data_sets(tmp_path: Path) -> None:
    fit = made("mcmc")
    data = az.from_netcdf(fit.save(tmp_path / "fit.nc"))
    left_out = {"prior", "prior_predictive", "unconstrained_posterior"}
    whole = fit.to_arviz()
    assert group_names(data) - {"stangmm"} == group_names(whole) - left_out
    assert group(data, "posterior_predictive")["x"].shape == (4, 25, 60, 2)
    assert group(data, "log_prior").equals(group(whole, "log_prior"))
    assert group(data, "posterior").attrs == group(whole, "posterior").attrs


# The warm-up --------------------------------------------------------------------------------------


@pytest.mark.stan
def test_a_kept_warm_up_changes_no_draw_and_ends_where_they_begin(warm: sg.Fit) -> None:
    plain = fit_quick(warm.model, sg.datasets.faithful(), replace(KEPT, save_warmup=False))
    np.testing.assert_array_equal(warm.lp, plain.lp)
    data = warm.to_arviz()
    before, stats = group(data, "warmup_posterior"), group(data, "warmup_sample_stats")
    assert before["means"].shape == (2, 200, 2, 2)
    assert set(stats.data_vars) == set(group(data, "sample_stats").data_vars)
    adapted, settled = stats["step_size"], group(data, "sample_stats")["step_size"]
    assert len(np.unique(adapted)) > 50 > len(np.unique(settled)) == 2
    # Units and labels are those of the draws.
    last = before["means"].isel(draw=slice(100, None)).mean(("chain", "draw"))
    np.testing.assert_allclose(last, warm.means, rtol=0.05)
    other = warm.reordered(np.array([1, 0]))
    swapped = group(other.to_arviz(), "warmup_posterior")["means"].values
    np.testing.assert_array_equal(swapped, before["means"].values[:, :, ::-1])


@pytest.mark.stan
def test_log_densities_of_the_warm_up_are_those_of_its_mixtures(warm: sg.Fit) -> None:
    kept = warm.info.warmup
    with_them = replace(
        warm,
        mixture=kept.mixture.reshape(-1),
        lp=kept.log_likelihood,
    )
    total = with_them.log_likelihood().sum(axis=1).reshape(kept.log_likelihood.shape)
    np.testing.assert_allclose(kept.log_likelihood, total, rtol=1e-8)


@pytest.mark.stan
def test_the_warm_up_is_saved_and_follows_the_chains(warm: sg.Fit, tmp_path: Path) -> None:
    loaded = sg.load(warm.save(tmp_path / "fit.nc"))
    for fit, chains in ((loaded, [0, 1]), (warm.select_chains([1]), [1])):
        ours, theirs = fit.info.warmup, warm.info.warmup
        np.testing.assert_array_equal(ours.mixture.means, theirs.mixture.means[chains])
        np.testing.assert_array_equal(ours.log_likelihood, theirs.log_likelihood[chains])
        energy = theirs.sample_stats["energy"]
        np.testing.assert_array_equal(ours.sample_stats["energy"], energy[chains])
    pieces = warm.select_pieces([(0, 10, 60), (1, 50, 100)])
    assert pieces.info.warmup is None
    assert "warmup_posterior" in group_names(az.from_netcdf(tmp_path / "fit.nc"))


# Stan ---------------------------------------------------------------------------------------------


def translation(arguments: list[str], folder: Path) -> str:
    """The C++ that stanc makes of a program, without its texts: they tell of lines and files."""
    stanc = compiled_model().cmdstan.path / "bin" / "stanc"
    output = folder / "translated.hpp"
    command = [stanc, "--name=mixture", f"--o={output}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return re.sub(r'("[^"]*"\s*)+', '""', output.read_text())


@pytest.mark.stan
@pytest.mark.parametrize("covariance_type", ["full", "spherical"])
def test_stan_reads_the_data_and_finds_the_densities_of_the_fit(
    covariance_type: str, tmp_path: Path
) -> None:
    x = sg.datasets.faithful().to_numpy(copy=True)
    x[3, 1] = np.nan
    model = sg.GaussianMixture(2, covariance_type)
    weight = np.repeat([1.0, 0.0, 3.0], [270, 1, 1])
    fit = fit_quick(model, x, "em", sample_weight=weight, missing="marginalize")
    data = fit.stan_data
    assert (data["N"], data["D"], data["K"]) == (271, 2, 2)
    problem = Problem.build(fit.dataset, 2, model.structure, model.priors)
    start = stan_parameters(problem.from_user_units(fit.mixture[0]), problem.space)
    portable = compiled_model(kernel="portable")  # what `stan_code` is: see the next test
    with cmdstan_run(portable.exe, "test") as run:
        columns, values = values_at_start(
            run,
            run.write_json("data", data),
            run.write_json("start", {name: value for name, value in start.items() if value.size}),
        )
    found = values[0, columns.index("log_likelihood")] + problem.log_likelihood_offset
    assert found == pytest.approx(fit.total_log_likelihood[0, 0], rel=1e-9)


@pytest.mark.stan
def test_the_program_on_its_own_is_that_of_the_portable_kernel(tmp_path: Path) -> None:
    """Its C++ is that of the model compiled with the portable kernel, and so are its densities."""
    fit = made("point")
    alone = tmp_path / "mixture.stan"
    alone.write_text(fit.stan_code)
    sources = stan_directory()
    include = f"--include-paths={sources / 'kernel' / 'portable'}"
    translated = [
        translation([str(alone)], tmp_path),
        translation([include, str(sources / "gaussian_mixture.stan")], tmp_path),
    ]
    assert "log_prob" in translated[0]
    assert translated[0] == translated[1]
    declared = fit.stan_code.partition("\ndata {")[2].partition("\n}")[0]
    assert all(f" {name};" in declared for name in fit.stan_data)


@pytest.mark.stan
@pytest.mark.parametrize("method", ["optimize", "advi", "nuts"])
def test_files_of_cmdstan_are_kept_on_request(method: str, tmp_path: Path) -> None:
    settings = replace(QUICK[method], keep=tmp_path / "new" / "kept")
    fit = fit_quick(sg.GaussianMixture(1), sg.datasets.galaxies(), settings)
    runs = sorted((tmp_path / "new" / "kept").iterdir())
    assert [run.name for run in runs] == [f"{method}-{i + 1}" for i in range(len(runs))]
    for run in runs:
        assert (run / "data.json").stat().st_size
        assert list(run.glob("start*.json"))
        assert list(run.rglob("*.csv"))
    loaded = sg.load(fit.save(tmp_path / "fit.nc"))
    assert loaded.settings.keep is None


@pytest.mark.stan
def test_a_place_where_nothing_can_be_kept_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = sg.NUTS(keep=tmp_path / "file" / "kept")
    with pytest.raises(sg.ModelError, match=r"cannot be kept in .*kept': .*Name another folder"):
        sg.GaussianMixture(1).fit(sg.datasets.galaxies(), settings, progress=False)
