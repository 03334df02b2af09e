"""The numpy side of the model equals scipy: densities, responsibilities and every prior."""

from __future__ import annotations

import numpy as np
import pytest
from random_mixtures import COVARIANCE_TYPES, random_mixture
from scipy import integrate, stats
from scipy.special import softmax

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.model.covariance import structure_named
from stangmm.model.joint import log_joint, log_prior
from stangmm.model.mixture import Mixture, log_likelihood

SIZES = [(3, 2), (4, 5), (1, 3), (3, 1), (1, 1)]  # (K, D)


# ---- mixtures --------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("k", "d"), SIZES)
def test_densities_and_responsibilities_equal_scipy(covariance_type: str, k: int, d: int) -> None:
    rng = np.random.default_rng(k * 10 + d)
    plain = random_mixture(rng, covariance_type, k, d)
    mixture = plain.mixture(covariance_type)
    x = rng.normal(0, 5, (50, d))

    component = plain.component_log_density(x)
    np.testing.assert_allclose(mixture.component_log_density(x), component, rtol=1e-10)
    np.testing.assert_allclose(mixture.log_density(x), plain.log_density(x), rtol=1e-10)
    joint = component + np.log(plain.weights)[:, np.newaxis]
    np.testing.assert_allclose(
        mixture.responsibilities(x), softmax(joint, axis=0), rtol=1e-8, atol=1e-300
    )
    np.testing.assert_allclose(mixture.covariances, plain.covariances, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_batch_of_mixtures_equals_its_members_one_by_one(covariance_type: str) -> None:
    rng = np.random.default_rng(2)
    members = [random_mixture(rng, covariance_type, 3, 2) for _ in range(6)]
    each = [m.mixture(covariance_type) for m in members]
    flat = Mixture(
        np.stack([m.weights for m in each]),
        np.stack([m.means for m in each]),
        np.stack([m.scales for m in each]),
        None if each[0].corr_chol is None else np.stack([m.corr_chol for m in each]),
    )
    x = rng.normal(0, 4, (20, 2))
    batch = flat.reshape(2, 3)
    assert batch.batch_shape == (2, 3)
    expected = np.stack([m.log_density(x) for m in members]).reshape(2, 3, 20)
    np.testing.assert_allclose(batch.log_density(x), expected, rtol=1e-10)
    components = np.stack([m.component_log_density(x) for m in members]).reshape(2, 3, 3, 20)
    np.testing.assert_allclose(batch.component_log_density(x), components, rtol=1e-10)
    np.testing.assert_allclose(batch.responsibilities(x).sum(axis=-2), 1.0, rtol=1e-12)
    np.testing.assert_allclose(batch[1, 2].log_density(x), expected[1, 2], rtol=1e-10)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_blocks_cover_every_draw_and_row_once(covariance_type: str) -> None:
    one = random_mixture(np.random.default_rng(3), covariance_type, 4, 3).mixture(covariance_type)
    n_draws, n_rows = 300, 70_000
    chol = None if one.corr_chol is None else np.tile(one.corr_chol, (n_draws, 1, 1, 1))
    many = Mixture(
        np.tile(one.weights, (n_draws, 1)),
        np.tile(one.means, (n_draws, 1, 1)),
        np.tile(one.scales, (n_draws, 1, 1)),
        chol,
    )
    seen = np.zeros((n_draws, n_rows), dtype=np.int8)
    blocks = list(many.blocks(n_rows))
    for draws, rows in blocks:
        seen[draws, rows] += 1
        size = seen[draws, rows].size * 4 * 3 * 8  # bytes of an array (draws, K, rows, D)
        assert size <= 2**26
    assert len(blocks) > 1
    assert (seen == 1).all()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_rows_that_miss_values_have_the_density_of_what_they_have(covariance_type: str) -> None:
    rng = np.random.default_rng(5)
    batch = [random_mixture(rng, covariance_type, 2, 5) for _ in range(3)]
    independent = covariance_type.endswith(("diag", "spherical"))
    covariances = np.stack([each.covariances for each in batch])
    mixture = Mixture.from_covariances(
        np.stack([each.weights for each in batch]),
        np.stack([each.means for each in batch]),
        np.diagonal(covariances, axis1=-2, axis2=-1) if independent else covariances,
    )
    x = rng.normal(size=(60, 5))
    x[rng.random(x.shape) < 0.4] = np.nan
    x[:20, 2] = np.nan  # one pattern of many rows beside those of few
    x[:20, [0, 1, 3, 4]] = rng.normal(size=(20, 4))
    x[20] = np.nan
    found = mixture.component_log_density(x)
    for (s, k, n), value in np.ndenumerate(found):
        there = np.flatnonzero(~np.isnan(x[n]))
        mean, covariance = batch[s].means[k][there], batch[s].covariances[k][np.ix_(there, there)]
        expected = 0.0
        if len(there):
            expected = stats.multivariate_normal.logpdf(x[n][there], mean, covariance)
        assert value == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_a_row_that_misses_a_value_keeps_its_digits_under_a_flat_component() -> None:
    # The variance of the second feature given the first is 1e-14 of its own.
    factor = np.array([[1.0, 0.0, 0.0], [1.0, 1e-7, 0.0], [0.0, 0.0, 1.0]])
    mixture = Mixture(np.ones(1), np.zeros((1, 3)), np.ones((1, 3)), factor[np.newaxis])
    x = np.array([[0.3, 0.3 + 0.5e-7, np.nan]])
    expected = stats.norm.logpdf(0.3) + stats.norm.logpdf(0.5) - np.log(1e-7)
    assert mixture.component_log_density(x)[0, 0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_far_outliers_keep_finite_densities_and_responsibilities(covariance_type: str) -> None:
    rng = np.random.default_rng(4)
    plain = random_mixture(rng, covariance_type, 3, 2)
    mixture = plain.mixture(covariance_type)
    x = rng.choice([-1.0, 1.0], (10, 2)) * np.array([[1e3], [1e5]] * 5)
    np.testing.assert_allclose(mixture.log_density(x), plain.log_density(x), rtol=1e-9)
    responsibilities = mixture.responsibilities(x)
    assert np.isfinite(responsibilities).all()
    np.testing.assert_allclose(responsibilities.sum(axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_row_beyond_double_precision_still_has_probabilities(
    covariance_type: str,
) -> None:
    mixture = random_mixture(np.random.default_rng(5), covariance_type, 3, 2).mixture(
        covariance_type
    )
    x = np.array([[1e200, -1e200], [0.0, 1e300]])
    assert (mixture.log_density(x) < -1e270).all()
    responsibilities = mixture.responsibilities(x)
    assert np.isfinite(responsibilities).all()
    np.testing.assert_allclose(responsibilities.sum(axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_component_of_weight_zero_counts_for_nothing(covariance_type: str) -> None:
    rng = np.random.default_rng(6)
    plain = random_mixture(rng, covariance_type, 3, 2)
    weights = np.array([0.4, 0.0, 0.6])
    full = plain.mixture(covariance_type)
    mixture = Mixture(weights, full.means, full.scales, full.corr_chol)
    x = rng.normal(0, 4, (30, 2))
    kept = plain.component_log_density(x)[[0, 2]] + np.log(weights[[0, 2]])[:, np.newaxis]
    np.testing.assert_allclose(mixture.log_density(x), np.logaddexp(*kept), rtol=1e-10)
    assert (mixture.responsibilities(x)[1] == 0).all()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_permuting_components_reorders_every_parameter(covariance_type: str) -> None:
    rng = np.random.default_rng(7)
    mixture = random_mixture(rng, covariance_type, 4, 3).mixture(covariance_type)
    order = np.array([2, 0, 3, 1])
    permuted = mixture.permute(order)
    np.testing.assert_array_equal(permuted.weights, mixture.weights[order])
    np.testing.assert_array_equal(permuted.means, mixture.means[order])
    np.testing.assert_array_equal(permuted.scales, mixture.scales[order])
    np.testing.assert_allclose(permuted.covariances, mixture.covariances[order], rtol=1e-14)


def test_units_change_a_density_by_its_jacobian() -> None:
    rng = np.random.default_rng(8)
    mixture = random_mixture(rng, "full", 3, 2).mixture("full")
    center, unit = np.array([10.0, -3.0]), np.array([0.1, 50.0])
    x = rng.normal(0, 3, (20, 2))
    moved = mixture.in_units(center, unit).log_density(center + unit * x)
    np.testing.assert_allclose(moved, mixture.log_density(x) - np.log(unit).sum(), rtol=1e-10)


def test_sample_weights_multiply_the_rows_log_densities() -> None:
    rng = np.random.default_rng(9)
    plain = random_mixture(rng, "full", 2, 2)
    x, weight = rng.normal(0, 3, (15, 2)), rng.uniform(0, 3, 15)
    expected = float(weight @ plain.log_density(x))
    value = log_likelihood(plain.mixture("full"), x, weight)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


# ---- priors ----------------------------------------------------------------------------------


def _scale_log_density(prior: object, scales: np.ndarray) -> np.ndarray:
    """Log densities of standard deviations by scipy; the inverse gamma is on the variance."""
    if isinstance(prior, sg.HalfCauchy):
        return np.asarray(stats.halfcauchy(scale=prior.scale).logpdf(scales))
    if isinstance(prior, sg.HalfNormal):
        return np.asarray(stats.halfnorm(scale=prior.scale).logpdf(scales))
    assert isinstance(prior, sg.InverseGamma)
    on_variance = stats.invgamma(prior.shape, scale=prior.scale).logpdf(scales**2)
    return np.asarray(on_variance + np.log(2 * scales))


@pytest.mark.parametrize("family", ["HalfCauchy", "HalfNormal", "InverseGamma"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("k", "d"), [(3, 2), (1, 2), (3, 1), (1, 1)])
def test_log_prior_equals_scipy(family: str, covariance_type: str, k: int, d: int) -> None:
    rng = np.random.default_rng(20 + k + d)
    plain = random_mixture(rng, covariance_type, k, d)
    mixture = plain.mixture(covariance_type)
    c = 1 if covariance_type in ("tied", "tied_diag", "tied_spherical") else k
    s = 1 if covariance_type.endswith("spherical") else d
    parameter = [rng.uniform(0.5, 3, (c, s)) for _ in range(2)]
    scale_prior = getattr(sg, family)(*parameter[: 2 if family == "InverseGamma" else 1])
    alpha, eta = rng.uniform(0.3, 3, k), 1.7
    location, width = rng.normal(0, 2, (k, d)), rng.uniform(0.5, 4, (k, d))
    priors = sg.Priors(sg.Dirichlet(alpha), sg.Normal(location, width), scale_prior, sg.LKJ(eta))
    structure = structure_named(covariance_type)
    x = rng.normal(0, 3, (25, d))
    resolved = priors.resolve(Dataset.from_input(x), structure, k)

    scales = np.sqrt(np.diagonal(plain.covariances, axis1=1, axis2=2))[:c, :s]
    expected = stats.norm(location, width).logpdf(plain.means).sum()
    expected += _scale_log_density(scale_prior, scales).sum()
    if k > 1:
        expected += stats.dirichlet(alpha).logpdf(plain.weights)
    if covariance_type in ("full", "tied", "tied_correlation") and d == 2:
        # D = 2: the correlation is (1 + rho) / 2 ~ Beta(eta, eta)
        for r in range(k if covariance_type == "full" else 1):
            sds = np.sqrt(np.diag(plain.covariances[r]))
            rho = plain.covariances[r, 0, 1] / sds.prod()
            expected += stats.beta(eta, eta, loc=-1, scale=2).logpdf(rho)
    value = log_prior(mixture, resolved, structure)
    np.testing.assert_allclose(value, expected, rtol=1e-10)

    weight = rng.uniform(0, 2, 25)
    joint = log_joint(mixture, x, weight, resolved, structure)
    np.testing.assert_allclose(joint, expected + weight @ plain.log_density(x), rtol=1e-10)


def test_the_uniform_dirichlet_allows_the_boundary() -> None:
    value = sg.Dirichlet([1.0, 1.0, 1.0]).log_density(np.array([0.0, 0.3, 0.7]))
    assert value == pytest.approx(np.log(2.0))  # density of the uniform on the simplex: 2!


@pytest.mark.parametrize("eta", [0.6, 1.0, 2.0, 5.5])
def test_lkj_integrates_to_one_for_two_features(eta: float) -> None:
    def density(angle: float) -> float:  # rho = sin(angle), to tame the ends where eta < 1
        rho = np.sin(angle)
        factor = np.array([[[1.0, 0.0], [rho, np.cos(angle)]]])
        return float(np.exp(sg.LKJ(eta).log_density(factor)) * np.cos(angle))

    total, error = integrate.quad(density, -np.pi / 2, np.pi / 2, epsabs=1e-11)
    assert error < 1e-7
    assert total == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("eta", [1.0, 2.0, 4.5])
def test_lkj_integrates_to_one_for_three_features(eta: float) -> None:
    # L21 = sin a; (L31, L32) = sin b (cos c, sin c): Gauss-Legendre in a and b, the trapezoidal
    # rule on the circle c.
    node, weight = np.polynomial.legendre.leggauss(40)
    a, weight_a = node * np.pi / 2, weight * np.pi / 2
    b, weight_b = (node + 1) * np.pi / 4, weight * np.pi / 4
    c = np.arange(16) * 2 * np.pi / 16
    grid_a, grid_b, grid_c = (g.ravel() for g in np.meshgrid(a, b, c, indexing="ij"))
    volume = (
        weight_a[:, None, None] * weight_b[None, :, None] * np.full(16, 2 * np.pi / 16)
    ).ravel()
    factor = np.zeros((len(grid_a), 1, 3, 3))
    factor[:, 0, 0, 0] = 1.0
    factor[:, 0, 1, 0], factor[:, 0, 1, 1] = np.sin(grid_a), np.cos(grid_a)
    factor[:, 0, 2, 0] = np.sin(grid_b) * np.cos(grid_c)
    factor[:, 0, 2, 1] = np.sin(grid_b) * np.sin(grid_c)
    factor[:, 0, 2, 2] = np.cos(grid_b)
    jacobian = np.cos(grid_a) * np.cos(grid_b) * np.sin(grid_b)
    mass = np.exp(sg.LKJ(eta).log_density(factor)) * jacobian * volume
    assert mass.sum() == pytest.approx(1.0, abs=1e-8)
    # Lewandowski, Kurowicka & Joe (2009): each correlation is Beta(eta - 1 + D/2) on (-1, 1),
    # so its variance is 1 / (2 eta + D - 1).
    correlation = factor[:, 0] @ np.swapaxes(factor[:, 0], 1, 2)
    for i, j in [(1, 0), (2, 0), (2, 1)]:
        variance = (mass * correlation[:, i, j] ** 2).sum()
        assert variance == pytest.approx(1 / (2 * eta + 2), abs=1e-8)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("family", [sg.HalfCauchy(2.0), sg.HalfNormal(3.0), sg.InverseGamma(3, 5)])
def test_a_prior_follows_the_data_to_other_units(covariance_type: str, family: object) -> None:
    """Log joints in two units differ by a constant that does not depend on the parameters."""
    rng = np.random.default_rng(11)
    structure = structure_named(covariance_type)
    x = rng.normal(0, 3, (40, 2))
    center = np.array([2.0, -7.0])
    unit = np.array([3.0, 3.0]) if covariance_type == "spherical" else np.array([3.0, 0.2])
    priors = sg.Priors(means=sg.Normal([1.0, 2.0], [3.0, 4.0]), scales=family)  # type: ignore[arg-type]
    old = priors.resolve(Dataset.from_input(x), structure, 3)
    new = old.in_units_of(center, unit)
    differences = []
    for _ in range(5):
        mixture = random_mixture(rng, covariance_type, 3, 2).mixture(covariance_type)
        moved = mixture.in_units(-center / unit, 1 / unit)
        in_old = log_joint(mixture, x, None, old, structure)
        in_new = log_joint(moved, (x - center) / unit, None, new, structure)
        differences.append(float(in_old - in_new))
    c, s = structure.scale_shape(3, 2)
    log_unit = np.log(unit)
    expected = -(len(x) + 3) * log_unit.sum() - c * log_unit[:s].sum()
    np.testing.assert_allclose(differences, expected, rtol=1e-10)
