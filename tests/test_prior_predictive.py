"""Defaults of the priors shown, and data drawn from the prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from random_mixtures import COVARIANCE_TYPES
from scipy import stats
from scipy.special import gammaln

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.model.covariance import structure_named
from stangmm.model.priors import ScalePrior
from stangmm.prior_predictive import PriorPredictive, prior_predictive

N_DRAWS = 4000
# Of all Kolmogorov-Smirnov tests below together, one in a hundred seeds would fail by chance.
P_VALUE = 1e-4


def agrees(draws: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]) -> bool:
    return bool(stats.kstest(np.ravel(draws), cdf).pvalue > P_VALUE)


def drawn(model: sg.GaussianMixture, X: object, n: int, seed: int = 1) -> PriorPredictive:
    return prior_predictive(model, Dataset.from_input(X), n, np.random.default_rng(seed))


# Draws of each prior against scipy's distribution.


def test_weights_are_drawn_from_the_dirichlet() -> None:
    alpha = np.array([0.5, 2.0, 4.0])
    weights = sg.Dirichlet(alpha).draw(N_DRAWS, np.random.default_rng(1))
    for k in range(3):
        assert agrees(weights[:, k], stats.beta(alpha[k], alpha.sum() - alpha[k]).cdf)
    # A product of Beta variables would have these margins, too.
    assert np.cov(weights.T)[0, 1] == pytest.approx(stats.dirichlet(alpha).cov()[0, 1], abs=2e-3)


def test_means_are_drawn_from_the_normal() -> None:
    prior = sg.Normal([[1.0, -5.0]], [[0.1, 30.0]])
    means = prior.draw(N_DRAWS, np.random.default_rng(2))
    assert means.shape == (N_DRAWS, 1, 2)
    assert agrees(means[:, 0, 0], stats.norm(1.0, 0.1).cdf)
    assert agrees(means[:, 0, 1], stats.norm(-5.0, 30.0).cdf)


@pytest.mark.parametrize(
    ("prior", "cdf"),
    [
        (sg.HalfCauchy([[2.5]]), stats.halfcauchy(scale=2.5).cdf),
        (sg.HalfNormal([[2.5]]), stats.halfnorm(scale=2.5).cdf),
        (sg.InverseGamma([[3.0]], [[2.0]]), lambda s: stats.invgamma(3.0, scale=2.0).cdf(s**2)),
    ],
    ids=["HalfCauchy", "HalfNormal", "InverseGamma"],
)
def test_scales_are_drawn_from_their_family(prior: ScalePrior, cdf: Callable) -> None:
    scales = prior.draw(N_DRAWS, np.random.default_rng(3))
    assert scales.shape == (N_DRAWS, 1, 1)
    assert agrees(scales, cdf)


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("eta", [0.7, 1.0, 4.0])
def test_every_lkj_correlation_has_its_beta_margin(d: int, eta: float) -> None:
    """Lewandowski, Kurowicka & Joe 2009: r ~ Beta(a, a) on (-1, 1) with a = eta - 1 + D / 2."""
    chol = sg.LKJ(eta).draw(N_DRAWS, d, np.random.default_rng(4))
    correlation = chol @ np.swapaxes(chol, 1, 2)
    assert np.allclose(np.diagonal(correlation, axis1=1, axis2=2), 1.0)
    a = eta - 1 + d / 2
    for i, j in zip(*np.tril_indices(d, -1), strict=True):
        assert agrees(correlation[:, i, j], stats.beta(a, a, loc=-1, scale=2).cdf)


def test_the_determinant_of_an_lkj_matrix_has_the_known_moments() -> None:
    """E det R from the normalizing constants: the density is proportional to det(R)^(eta - 1)."""
    eta, d = 2.0, 4
    chol = sg.LKJ(eta).draw(20_000, d, np.random.default_rng(5))
    determinant = np.prod(np.diagonal(chol, axis1=1, axis2=2) ** 2, axis=1)

    def log_constant(shape: float) -> float:  # Theorem 5 for the density of R
        k = np.arange(1, d)
        b = shape + (d - k - 1) / 2
        log_beta = 2 * gammaln(b) - gammaln(2 * b)
        return float((d - k) @ ((2 * shape - 2 + d - k) * np.log(2) + log_beta))

    expected = np.exp(log_constant(eta + 1) - log_constant(eta))
    error = determinant.std() / np.sqrt(len(determinant))
    assert determinant.mean() == pytest.approx(expected, abs=4 * error)


# The defaults, shown.


def test_default_priors_of_data_are_those_of_the_documentation() -> None:
    X = np.array([[0.0, 10.0], [1.0, 30.0], [5.0, 20.0]])
    priors = sg.Priors.from_data(X)
    assert priors.means is not None
    np.testing.assert_allclose(priors.means.location, [2.5, 20.0])  # mid-range
    np.testing.assert_allclose(priors.means.scale, [5.0, 20.0])  # range
    np.testing.assert_allclose(priors.scales.scale, X.std(axis=0))
    assert priors.weights.concentration == 1.0
    assert priors.correlation.shape == 2.0
    spherical = sg.Priors.from_data(X, "spherical").scales
    np.testing.assert_allclose(spherical.scale, [np.sqrt((X.var(axis=0)).mean())])


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_fit_with_the_defaults_written_out_is_the_fit_without(covariance_type: str) -> None:
    X = sg.datasets.faithful()
    dataset, structure = Dataset.from_input(X), structure_named(covariance_type)
    without = sg.Priors().resolve(dataset, structure, 3)
    shown = sg.Priors.from_data(X, covariance_type).resolve(dataset, structure, 3)
    for part in dataclasses.fields(without):
        a, b = getattr(without, part.name), getattr(shown, part.name)
        assert type(a) is type(b)
        if not dataclasses.is_dataclass(a):
            np.testing.assert_array_equal(a, b)
            continue
        for parameter in dataclasses.fields(a):
            np.testing.assert_array_equal(
                getattr(a, parameter.name), getattr(b, parameter.name), err_msg=part.name
            )


def test_printed_priors_name_every_part() -> None:
    text = str(sg.Priors.from_data([1.0, 2.0, 4.0]))
    assert text.splitlines() == [
        "weights      Dirichlet(concentration=1)",
        "means        Normal(location=[2.5], scale=[3])",
        "scales       HalfCauchy(scale=[1.247])",
        "correlation  LKJ(shape=2)",
        "resolution   [1]",
    ]
    assert str(sg.Priors()) == ""


# Data from the prior.


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_data_sets_have_the_shape_of_the_data_and_come_from_their_mixtures(
    covariance_type: str,
) -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(2000, 2))
    priors = sg.Priors(means=sg.Normal(0, 3.0), scales=sg.HalfNormal(1.0))
    model = sg.GaussianMixture(2, covariance_type, priors)
    result = drawn(model, X, 20)
    assert result.x.shape == (20, 2000, 2)
    assert result.mixtures.batch_shape == (20,)
    # Each data set's mean is its own mixture's, within four standard errors.
    expected = np.einsum("sk,skd->sd", result.mixtures.weights, result.mixtures.means)
    error = result.x.std(axis=1) / np.sqrt(2000)
    assert (np.abs(result.x.mean(axis=1) - expected) < 4 * error).all()
    scales = result.mixtures.scales
    if covariance_type in ("tied", "tied_diag", "tied_spherical"):
        np.testing.assert_array_equal(scales[:, 0], scales[:, 1])
    if covariance_type.endswith("spherical"):
        np.testing.assert_array_equal(scales[..., 0], scales[..., 1])
    assert (result.mixtures.corr_chol is None) == (covariance_type.endswith(("diag", "spherical")))


def test_rows_from_the_prior_have_the_variance_that_the_prior_says() -> None:
    """One component: Var x = E variance + Var mean = b / (a - 1) + s^2."""
    priors = sg.Priors(means=sg.Normal(0.0, 2.0), scales=sg.InverseGamma(10.0, 9.0))
    x = drawn(sg.GaussianMixture(1, "diag", priors), np.arange(50.0), 4000).x[:, 0, 0]
    variance = 9.0 / (10.0 - 1.0) + 2.0**2
    error = variance * np.sqrt(2 / len(x)) * 1.2
    assert x.var() == pytest.approx(variance, abs=4 * error)


def test_the_same_seed_gives_the_same_data_sets() -> None:
    model, X = sg.GaussianMixture(2), sg.datasets.galaxies()
    np.testing.assert_array_equal(drawn(model, X, 3).x, drawn(model, X, 3).x)
    assert (drawn(model, X, 3).x != drawn(model, X, 3, seed=2).x).any()


# The picture.


def test_the_picture_shows_the_data_whatever_the_prior_draws() -> None:
    """Half-Cauchy draws may be a million times wider; the view stays near the data."""
    X = np.ravel(sg.datasets.galaxies())
    wide = sg.Priors(scales=sg.HalfCauchy(1e4), means=sg.Normal(0, 1e6))
    for priors in (sg.Priors(), wide):
        result = drawn(sg.GaussianMixture(3, priors=priors), X, 40)
        ax = result.plot()
        low, high = ax.get_xlim()
        assert low < X.min()
        assert high > X.max()
        assert high - low < 5 * np.ptp(X)
        outside = ((result.x < low) | (result.x > high)).mean()
        assert f"{outside:.0%} of the prior's rows" in ax.get_title()


def test_each_feature_has_a_panel_up_to_six() -> None:
    X = np.random.default_rng(7).normal(size=(60, 8))
    ax = drawn(sg.GaussianMixture(2, "diag"), X, 10).plot()
    named = [panel.get_xlabel() for panel in ax.child_axes if panel.get_xlabel()]
    assert named == [f"x{j}" for j in range(1, 7)]
