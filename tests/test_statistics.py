"""The methods against quadrature, known parameters and each other, within Monte Carlo error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import LazyFits
from either_arviz import az
from fitting import fit_quick
from random_mixtures import COVARIANCE_TYPES, random_mixture
from scipy import stats

import stangmm as sg

pytestmark = [pytest.mark.stan, pytest.mark.statistical]


def assert_within_monte_carlo_error(
    draws: np.ndarray, expected: np.ndarray | float, errors: float = 4.5, min_ess: float = 400
) -> None:
    """Draws (chains, draws, ...): first enough of them, then the mean within its error."""
    flat = draws.reshape(*draws.shape[:2], -1)
    ess = np.array([az.ess(flat[..., i], method="mean") for i in range(flat.shape[-1])])
    assert ess.min() > min_ess
    mcse = flat.std(axis=(0, 1)) / np.sqrt(ess)
    off = np.abs(flat.mean(axis=(0, 1)) - np.ravel(expected)) / mcse
    assert (off < errors).all(), f"{off.max():.1f} standard errors away"


@pytest.mark.parametrize("family", ["half-Cauchy", "half-normal", "inverse gamma"])
def test_nuts_agrees_with_quadrature_for_one_normal(family: str) -> None:
    """K = 1, D = 1: the posterior of mean and sd by brute force on a grid."""
    x = np.array([20.0, 22.5, 23.0, 28.0, 35.0])
    location, width, size = 15.0, 10.0, 4.0
    prior: Any = {
        "half-Cauchy": sg.HalfCauchy(size),
        "half-normal": sg.HalfNormal(size),
        "inverse gamma": sg.InverseGamma(3.0, size**2),
    }[family]
    priors = sg.Priors(means=sg.Normal(location, width), scales=prior)
    settings = sg.NUTS(chains=4, warmup=1000, draws=4000, adapt_delta=0.95)
    fit = sg.GaussianMixture(1, "diag", priors).fit(x, method=settings, seed=1, progress=False)

    mean = np.linspace(-60, 90, 1501)[:, np.newaxis]
    log_sd = np.linspace(np.log(0.3), np.log(400), 1501)
    sd = np.exp(log_sd)
    by_family = {
        "half-Cauchy": stats.halfcauchy(scale=size).logpdf(sd),
        "half-normal": stats.halfnorm(scale=size).logpdf(sd),
        "inverse gamma": stats.invgamma(3.0, scale=size**2).logpdf(sd**2) + np.log(2 * sd),
    }[family]
    log_posterior = stats.norm(location, width).logpdf(mean) + by_family + log_sd
    for value in x:
        log_posterior = log_posterior + stats.norm(mean, sd).logpdf(value)
    mass = np.exp(log_posterior - log_posterior.max())
    mass /= mass.sum()
    for function in (lambda m, s: m, lambda m, s: np.log(s), lambda m, s: 1.0 * (s > 6)):
        draws = function(fit.posterior["means"].values, fit.posterior["scales"].values)
        exact = (mass * function(mean, sd)).sum()
        assert_within_monte_carlo_error(draws, exact)
    centre = (mass * mean).sum()
    spread = (fit.posterior["means"].values - centre) ** 2
    assert_within_monte_carlo_error(spread, (mass * (mean - centre) ** 2).sum())


def test_nuts_agrees_with_quadrature_for_two_components() -> None:
    """K = 2, D = 1, one shared sd and fixed weights: quantities without labels, on a grid."""
    x = np.array([-2.0, -1.5, -0.2, 1.0, 2.4])
    priors = sg.Priors(
        weights=sg.Dirichlet(1e6),  # weights of one half, as good as fixed
        means=sg.Normal(0.0, 2.0),
        scales=sg.HalfNormal(1.0),
    )
    settings = sg.NUTS(chains=4, warmup=1000, draws=6000, adapt_delta=0.95)
    fit = fit_quick(sg.GaussianMixture(2, "tied", priors), x, settings)

    grid = np.linspace(-8, 8, 161)
    sd = np.exp(np.linspace(np.log(0.02), np.log(6), 160))
    density = stats.norm(grid[:, None], sd).pdf(x[:, None, None])  # (row, mean, sd)
    log_posterior = np.log(0.5 * density[:, :, None] + 0.5 * density[:, None, :] + 1e-300).sum(
        axis=0
    )
    log_mean = stats.norm(0, 2).logpdf(grid)
    log_posterior += log_mean[:, None, None] + log_mean[None, :, None]
    log_posterior += stats.halfnorm(scale=1).logpdf(sd) + np.log(sd)
    mass = np.exp(log_posterior - log_posterior.max())
    mass /= mass.sum()
    distance = np.abs(grid[:, None] - grid[None, :])[:, :, None]
    means, scales = fit.posterior["means"].values[..., 0], fit.posterior["scales"].values[..., 0, 0]
    assert_within_monte_carlo_error(scales, (mass * sd).sum())
    total = grid[:, None, None] + grid[None, :, None]
    assert_within_monte_carlo_error(means.sum(axis=-1), (mass * total).sum())
    assert_within_monte_carlo_error(
        np.abs(np.diff(means, axis=-1)[..., 0]), (mass * distance).sum()
    )


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_nuts_recovers_the_parameters_of_generated_data(covariance_type: str) -> None:
    rng = np.random.default_rng(41)
    # Well apart: of two that overlap, the posterior may well leave one without any rows.
    means = np.array([[-6.0, 0.0], [0.0, 6.0], [6.0, -2.0]])
    truth = replace(random_mixture(rng, covariance_type, 3, 2), means=means)
    x = truth.sample(rng, 600)
    fit = sg.GaussianMixture(3, covariance_type).fit(x, method="nuts", seed=1, progress=False)
    assert fit.diagnose()["R-hat"].verdict == "ok"
    assert fit.diagnose()["bulk ESS"].verdict == "ok"
    true_scales = np.sqrt(np.diagonal(truth.covariances, axis1=1, axis2=2))
    z = []
    for name, value in [
        ("weights", truth.weights),
        ("means", truth.means),
        ("scales", true_scales),
        ("covariances", truth.covariances),
    ]:
        draws = fit.posterior[name].values
        sd = draws.std(axis=(0, 1))
        moves = sd > 1e-12
        z.append(np.abs(draws.mean(axis=(0, 1)) - value)[moves] / sd[moves])
    scores = np.concatenate(z)
    assert scores.max() < 4.5
    assert np.sqrt((scores**2).mean()) < 1.8


@pytest.mark.parametrize("algorithm", ["meanfield", "fullrank"])
def test_advi_means_lie_within_a_posterior_sd_of_nuts(
    fits_faithful: LazyFits, algorithm: Any
) -> None:
    nuts = fits_faithful["nuts"]
    settings = sg.ADVI(algorithm=algorithm)
    advi = fit_quick(fits_faithful.model, fits_faithful.X, settings)
    for name in ("weights", "means", "scales"):
        sd = nuts.posterior[name].values.std(axis=(0, 1))
        assert (np.abs(getattr(advi, name) - getattr(nuts, name)) < sd).all()
        ratio = advi.posterior[name].values.std(axis=(0, 1)) / sd
        assert (ratio > 0.2).all()
        assert (ratio < 2.0).all()


def test_a_sample_weight_of_three_is_three_rows() -> None:
    rng = np.random.default_rng(42)
    x = np.r_[rng.normal(-3, 1, 25), rng.normal(3, 1.5, 35)]
    model = sg.GaussianMixture(2, "diag", sg.Priors(means=sg.Normal(0, 5), scales=sg.HalfNormal(3)))
    weighted, repeated = (
        model.fit(data, method="nuts", seed=seed, sample_weight=weight, progress=False)
        for data, weight, seed in [(x, np.full(60, 3.0), 1), (np.repeat(x, 3), None, 2)]
    )
    for name in ("weights", "means", "scales"):
        one, two = weighted.posterior[name], repeated.posterior[name]
        error = np.hypot(az.mcse(one)[name].values, az.mcse(two)[name].values)
        off = np.abs(one.mean(("chain", "draw")) - two.mean(("chain", "draw"))).values / error
        assert off.max() < 4.5
        ratio = (one.std(("chain", "draw")) / two.std(("chain", "draw"))).values
        assert (np.abs(np.log(ratio)) < 0.15).all()
    plain = model.fit(x, method="nuts", seed=1, progress=False)
    sd = {f: f.posterior["means"].values.std(axis=(0, 1)) for f in (plain, weighted)}
    assert (sd[plain] / sd[weighted] > 1.4).all()  # about sqrt(3)


def test_weighted_leave_one_out_is_that_of_repeated_rows() -> None:
    X = pd.DataFrame({"x": np.random.default_rng(43).normal(size=50)})
    count = np.tile([1.0, 2.0], 25)
    model = sg.GaussianMixture(1, "diag")
    weighted = model.fit(X, method="nuts", seed=1, sample_weight=count, progress=False)
    # Leaving out one copy of a row weighs it as the others; the predictive density is one row's.
    repeated = model.fit(
        X.loc[np.repeat(X.index, count.astype(int))], method="nuts", seed=1, progress=False
    )
    assert weighted.loo().elpd == pytest.approx(repeated.loo().elpd, abs=0.3)
    assert weighted.loo().se == pytest.approx(repeated.loo().se, rel=0.05)
