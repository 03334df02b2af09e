"""One battery over every method, and each method against what is known about its answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import LazyFits
from fitting import ALL, DRAWING, QUICK, fit_quick
from random_mixtures import COVARIANCE_TYPES, SKLEARN_TYPES, PlainMixture, random_mixture
from sklearn.mixture import GaussianMixture as SklearnMixture

import stangmm as sg
from stangmm.methods import METHODS, Method
from stangmm.model.covariance import structure_named
from stangmm.model.joint import log_joint
from stangmm.model.mixture import Mixture

pytestmark = pytest.mark.stan


def test_every_method_is_in_the_battery() -> None:
    assert set(ALL) == set(QUICK) == set(METHODS) - {"auto"} > set(LazyFits.names)


# ---- seeds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL)
def test_the_same_seed_gives_the_same_draws_bit_for_bit(method: str) -> None:
    model, X = sg.GaussianMixture(2, "full"), sg.datasets.faithful()
    first, second, other = (fit_quick(model, X, method, seed=s) for s in (3, 3, 4))
    for name in first.posterior.data_vars:
        np.testing.assert_array_equal(first.posterior[name].values, second.posterior[name].values)
    np.testing.assert_array_equal(first.permutations, second.permutations)
    if method in DRAWING:
        different = first.posterior["means"].values != other.posterior["means"].values
        assert different.mean() > 0.99
    assert first.seed == 3


@pytest.mark.parametrize("method", ALL)
def test_without_a_seed_one_is_drawn_and_kept(method: str) -> None:
    X = sg.datasets.faithful()
    model = sg.GaussianMixture(1, "diag")
    free = fit_quick(model, X, method, seed=None)
    again = fit_quick(model, X, method, seed=free.seed)
    np.testing.assert_array_equal(free.lp, again.lp)


# ---- the form of the answer ------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL)
def test_the_posterior_has_named_dimensions(fits: LazyFits, method: str) -> None:
    fit = fits[method]
    k, names = fit.model.n_components, list(fits.X.columns)
    shapes = {"point": (1, 1), "approximation": (1, 4000), "mcmc": (4, 2000)}
    chains, draws = shapes[METHODS[method].kind]
    dims = {
        "weights": ("chain", "draw", "component"),
        "means": ("chain", "draw", "component", "feature"),
        "scales": ("chain", "draw", "component", "feature"),
        "covariances": ("chain", "draw", "component", "feature", "feature_bis"),
        "lp": ("chain", "draw"),
    }
    posterior = fit.posterior
    sizes = {"chain": chains, "draw": draws, "component": k, "feature": len(names)}
    assert dict(posterior.sizes) == {**sizes, "feature_bis": len(names)}
    assert {name: tuple(posterior[name].dims) for name in posterior.data_vars} == dims
    for name in dims:
        assert posterior[name].dtype == np.float64
        assert np.isfinite(posterior[name].values).all()
    assert list(posterior["feature"].values) == names
    assert list(posterior["feature_bis"].values) == names
    assert list(posterior["component"].values) == list(range(k))
    assert (fit.method, fit.kind) == (method, METHODS[method].kind)
    assert posterior.attrs == {"method": method, "kind": fit.kind, "seed": 1}
    assert fit.seconds > 0
    assert fit.versions["stangmm"] == sg.__version__


@pytest.mark.parametrize("method", ALL)
def test_every_draw_is_a_mixture(fits: LazyFits, method: str) -> None:
    posterior = fits[method].posterior
    weights, covariances = posterior["weights"].values, posterior["covariances"].values
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-12)
    assert (weights >= 0).all()
    np.testing.assert_allclose(covariances, np.swapaxes(covariances, -1, -2), rtol=1e-12)
    assert np.linalg.eigvalsh(covariances).min() > 0
    scales = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    np.testing.assert_allclose(scales, posterior["scales"].values, rtol=1e-10)


@pytest.mark.parametrize("method", ALL)
def test_weights_means_and_covariances_are_posterior_means(fits: LazyFits, method: str) -> None:
    fit = fits[method]
    for name in ("weights", "means", "scales", "covariances"):
        average = fit.posterior[name].values.mean(axis=(0, 1))
        np.testing.assert_allclose(getattr(fit, name), average, rtol=1e-10)


@pytest.mark.parametrize("method", ALL)
def test_lp_and_log_likelihood_are_those_of_the_draws_in_the_users_units(
    fits: LazyFits, method: str
) -> None:
    """Three ways lead to one number: Stan's, numpy's on the posterior, and scipy's."""
    fit = fits[method]
    posterior = fit.posterior
    every = slice(None, None, max(1, posterior.sizes["draw"] // 50))
    weights, means, covariances = (
        posterior[name].values[:, every] for name in ("weights", "means", "covariances")
    )
    x = fits.X.to_numpy()
    if fit.model.covariance_type == "diag":
        mixture = Mixture(weights, means, np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1)))
    else:
        mixture = Mixture.from_covariances(weights, means, covariances)
    structure = structure_named(fit.model.covariance_type)
    lp = log_joint(mixture, x, None, fit.priors, structure)
    np.testing.assert_allclose(fit.lp[:, every], lp, rtol=1e-8)
    np.testing.assert_array_equal(posterior["lp"].values, fit.lp)

    by_row = fit.log_likelihood()
    assert by_row.shape == (fit.lp.size, len(x))
    np.testing.assert_allclose(by_row.sum(axis=1), fit.total_log_likelihood.ravel(), rtol=1e-8)
    first = PlainMixture(weights[0, 0], means[0, 0], covariances[0, 0])
    np.testing.assert_allclose(by_row[0], first.log_density(x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", ALL)
def test_predictions_average_over_the_draws(fits: LazyFits, method: str) -> None:
    fit, x = fits[method], fits.X.to_numpy()[::10]
    draws = fit.posterior.stack(s=("chain", "draw")).isel(s=slice(None, None, 40))
    few = draws.transpose("s", ...)
    mixtures = [
        PlainMixture(w, m, c)
        for w, m, c in zip(
            few["weights"].values, few["means"].values, few["covariances"].values, strict=True
        )
    ]
    k = fit.model.n_components
    proba, density = fit.predict_proba(x), fit.log_density(x)
    labels = fit.predict(x)
    assert proba.shape == (len(x), k)
    assert density.shape == labels.shape == (len(x),)
    assert labels.dtype.kind == "i"
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(labels, proba.argmax(axis=1))
    joint = np.stack([m.component_log_density(x) + np.log(m.weights)[:, None] for m in mixtures])
    each = np.exp(joint - joint.max(axis=1, keepdims=True))
    each /= each.sum(axis=1, keepdims=True)
    # Exactly for a point; for draws up to the Monte Carlo error of every fortieth.
    tolerance = 1e-9 if fit.kind == "point" else 0.05
    np.testing.assert_allclose(proba, each.mean(axis=0).T, atol=tolerance)
    predictive = np.log(np.exp([m.log_density(x) for m in mixtures]).mean(axis=0))
    np.testing.assert_allclose(density, predictive, atol=10 * tolerance)


@pytest.mark.parametrize("method", ALL)
def test_predictions_of_any_block_of_rows_are_the_same(fits: LazyFits, method: str) -> None:
    fit, X = fits[method], fits.X
    whole = fit.predict_proba(X)
    np.testing.assert_allclose(fit.predict_proba(X.iloc[5:9]), whole[5:9], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(fit.predict_proba(X.to_numpy()[5:9]), whole[5:9], atol=1e-14)
    np.testing.assert_allclose(fit.log_density(X.iloc[:3]), fit.log_density(X)[:3], rtol=1e-10)


@pytest.mark.parametrize("method", ALL)
def test_samples_have_the_moments_of_the_predictive_distribution(
    fits: LazyFits, method: str
) -> None:
    fit = fits[method]
    n = 40_000
    x, labels = fit.sample(n, seed=3)
    assert x.shape == (n, len(fits.X.columns))
    share = np.bincount(labels, minlength=fit.model.n_components) / n
    error = np.sqrt(fit.weights * (1 - fit.weights) / n)
    assert (np.abs(share - fit.weights) < 5 * error).all()
    # Each component's first two moments about its mean, averaged over draws by their weights.
    weights = fit.posterior["weights"].values[..., np.newaxis]
    deviation = fit.posterior["means"].values - fit.means
    second = fit.posterior["covariances"].values + np.einsum(
        "cski,cskj->cskij", deviation, deviation
    )
    first = (weights * deviation).sum(axis=(0, 1)) / weights.sum(axis=(0, 1))
    second = (weights[..., np.newaxis] * second).sum(axis=(0, 1))
    second = second / weights.sum(axis=(0, 1))[..., np.newaxis]
    for k in range(fit.model.n_components):
        own = x[labels == k] - fit.means[k]
        products = own[:, :, np.newaxis] * own[:, np.newaxis, :]
        for values, expected in ((own, first[k]), (products, second[k])):
            error = values.std(axis=0) / np.sqrt(len(values))
            assert (np.abs(values.mean(axis=0) - expected) < 5 * error).all()
    again, _ = fit.sample(n, seed=3)
    np.testing.assert_array_equal(x, again)


# ---- every shape of model --------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(
    ("covariance_type", "k", "d"),
    [(c, 2, 2) for c in COVARIANCE_TYPES]
    + [(c, k, d) for c in SKLEARN_TYPES for k, d in [(1, 2), (2, 1), (1, 1)]],
)
def test_every_covariance_type_and_size_runs(
    method: str, covariance_type: str, k: int, d: int
) -> None:
    rng = np.random.default_rng(31)
    truth = PlainMixture(
        np.array([0.4, 0.6])[:k] / np.array([0.4, 0.6])[:k].sum(),
        np.array([[-4.0, 3.0], [4.0, -3.0]])[:k, :d],
        np.tile(np.eye(2), (2, 1, 1))[:k, :d, :d],
    )
    x = truth.sample(rng, 80)
    fit = fit_quick(sg.GaussianMixture(k, covariance_type), x, method)
    np.testing.assert_allclose(fit.means, truth.means, atol=1.0)
    covariances = fit.posterior["covariances"].values
    if covariance_type.endswith(("diag", "spherical")):
        off = covariances[..., ~np.eye(d, dtype=bool)]
        assert (off == 0).all()
    if covariance_type.endswith("spherical"):
        assert np.ptp(fit.posterior["scales"].values, axis=-1).max() == 0
    if covariance_type in ("tied", "tied_diag", "tied_spherical"):
        assert np.ptp(covariances, axis=2).max() == 0
    free = {"full": k, "tied": 1, "tied_correlation": 1}
    correlations = free.get(covariance_type, 0) * d * (d - 1) // 2
    assert len(fit.summary()) == k + 2 * k * d + correlations


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(
    ("scale", "offset", "tolerance"), [(1e-12, 0.0, 1e-6), (1e12, 0.0, 1e-6), (1.0, 1e8, 1e-3)]
)
def test_the_units_of_the_data_do_not_matter(
    method: str, scale: float, offset: float, tolerance: float
) -> None:
    rng = np.random.default_rng(32)
    x = random_mixture(rng, "full", 2, 2, spread=5.0).sample(rng, 100)
    model = sg.GaussianMixture(2, "full")
    reference = fit_quick(model, x, method)
    moved = fit_quick(model, offset + scale * x, method)
    # Trajectories of a sampler part after many steps for the last bit's sake: its draws are others,
    # and their means are compared in posterior standard deviations.
    wide = reference.posterior["means"].values.reshape(-1, 2, 2).std(axis=0).max()
    loose = {"mcmc": 0.6 * wide, "approximation": 0.3 * wide}.get(reference.kind, tolerance)
    np.testing.assert_allclose((moved.means - offset) / scale, reference.means, atol=loose)
    np.testing.assert_allclose(moved.weights, reference.weights, atol=max(tolerance, loose))
    close = {"rtol": tolerance} if loose <= 1e-3 else {"rtol": 0.2, "atol": wide}
    np.testing.assert_allclose(moved.covariances / scale**2, reference.covariances, **close)
    jacobian = -len(x) * 2 * np.log(scale)
    # Of 11 parameters: a standard deviation of about (11 / 2)^(1/2), and some hundred draws.
    near = 4 * np.sqrt(2 * 5.5 / 100) if method in DRAWING else 0.01
    expected = reference.total_log_likelihood.mean()
    assert moved.total_log_likelihood.mean() - jacobian == pytest.approx(expected, abs=near)
    assert (moved.predict(offset + scale * x) == reference.predict(x)).mean() > 0.98


@pytest.mark.parametrize("method", ALL)
def test_priors_that_name_components_keep_their_order(method: str) -> None:
    """Components are told apart by their prior means, here in descending order."""
    rng = np.random.default_rng(33)
    x = np.r_[rng.normal(-5, 1, 40), rng.normal(5, 1, 60)]
    priors = sg.Priors(means=sg.Normal([[5.0], [-5.0]], 0.5))
    fit = fit_quick(sg.GaussianMixture(2, "diag", priors), x, method)
    assert (fit.permutations == [0, 1]).all()
    if method != "em":  # which does not use them
        np.testing.assert_allclose(fit.means[:, 0], [5, -5], atol=1.0)


# ---- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (sg.EM, {"restarts": 0}),
        (sg.EM, {"restarts": 2.5}),
        (sg.EM, {"tolerance": 0.0}),
        (sg.EM, {"tolerance": -1e-6}),
        (sg.EM, {"tolerance": float("nan")}),
        (sg.EM, {"tolerance": float("inf")}),
        (sg.EM, {"max_iterations": 0}),
        (sg.Optimize, {"objective": "ml"}),
        (sg.Optimize, {"restarts": -1}),
        (sg.Optimize, {"tolerance": "small"}),
        (sg.Optimize, {"max_iterations": True}),
        (sg.Optimize, {"kernel": "fast"}),
        (sg.ADVI, {"algorithm": "full-rank"}),
        (sg.ADVI, {"iterations": 0}),
        (sg.ADVI, {"gradient_samples": 0}),
        (sg.ADVI, {"elbo_samples": 0}),
        (sg.ADVI, {"evaluate_every": 0}),
        (sg.ADVI, {"tolerance": 0}),
        (sg.ADVI, {"draws": 1}),
        (sg.NUTS, {"chains": 0}),
        (sg.NUTS, {"warmup": -5}),
        (sg.NUTS, {"draws": 0}),
        (sg.NUTS, {"adapt_delta": 0.0}),
        (sg.NUTS, {"adapt_delta": 1.0}),
        (sg.NUTS, {"max_tree_depth": 0}),
        (sg.NUTS, {"parallel_chains": 0}),
        (sg.NUTS, {"kernel": None}),
    ],
)
def test_settings_that_make_no_sense_are_refused_when_made(
    make: type[Method], settings: dict[str, Any]
) -> None:
    (name,) = settings
    with pytest.raises(sg.ModelError, match=name):
        make(**settings)


# ---- point estimates -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "k", "covariance_type", "published"),
    [
        ("galaxies", 3, "diag", -203.1792),
        ("faithful", 2, "full", -1130.2640),
        ("faithful", 3, "tied", -1126.3159),
    ],
)
def test_maximum_likelihood_by_stan_is_that_of_em(
    data: str, k: int, covariance_type: str, published: float
) -> None:
    X = getattr(sg.datasets, data)()
    model = sg.GaussianMixture(k, covariance_type)
    by_em = model.fit(X, method="em", seed=1, progress=False)
    mle = model.fit(X, method=sg.Optimize("mle"), seed=1, progress=False)
    assert float(mle.total_log_likelihood.item()) == pytest.approx(
        float(by_em.total_log_likelihood.item()), abs=1e-4
    )
    assert float(mle.total_log_likelihood.item()) == pytest.approx(published, abs=1e-3)
    np.testing.assert_allclose(mle.means, by_em.means, rtol=2e-2)


@pytest.mark.parametrize("data", ["galaxies", "faithful"])
def test_the_posterior_mode_is_higher_than_any_other_point(
    data: str, request: pytest.FixtureRequest
) -> None:
    fits = request.getfixturevalue(f"fits_{data}")
    mode = float(fits["optimize"].lp.item())
    for other in ("em", "advi", "nuts"):
        assert mode >= fits[other].lp.max() - 1e-3


def test_the_posterior_mode_of_one_normal_is_where_the_gradient_vanishes() -> None:
    """K = 1, D = 1, normal prior of the mean, inverse gamma prior of the variance: by Newton."""
    x = np.array([1.0, 2.5, 3.0, 4.2, 7.0])
    a, b, location, width = 3.0, 2.0, 1.0, 2.0
    priors = sg.Priors(means=sg.Normal(location, width), scales=sg.InverseGamma(a, b))
    fit = sg.GaussianMixture(1, "diag", priors).fit(x, method="optimize", seed=1, progress=False)
    mean, sd = fit.means.item(), fit.scales.item()
    n, s = len(x), ((x - fit.means.item()) ** 2).sum()
    # d/d mean and d/d sd of the log joint density, the prior of sd being invgamma(sd^2) 2 sd.
    by_mean = (x - mean).sum() / sd**2 - (mean - location) / width**2
    by_sd = -n / sd + s / sd**3 - 2 * (a + 1) / sd + 2 * b / sd**3 + 1 / sd
    assert by_mean == pytest.approx(0, abs=1e-3)
    assert by_sd == pytest.approx(0, abs=1e-3)


def test_bic_is_scikit_learns_at_the_same_optimum() -> None:
    x = sg.datasets.faithful().to_numpy()
    fit = sg.GaussianMixture(2, "full").fit(x, method="em", seed=1, progress=False)
    theirs = SklearnMixture(2, n_init=5, reg_covar=0, tol=1e-9, random_state=0).fit(x)
    assert fit.bic() == pytest.approx(theirs.bic(x), abs=1e-3)


@pytest.mark.parametrize("method", ["em", "optimize"])
def test_leave_one_out_needs_draws(fits_galaxies: LazyFits, method: str) -> None:
    with pytest.raises(sg.ModelError, match=r"LOO needs draws.*nuts.*bic"):
        fits_galaxies[method].loo()
