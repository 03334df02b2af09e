"""Mixtures as unconstrained vectors: nothing is lost, and volumes change as the Jacobian says."""

from __future__ import annotations

import numpy as np
import pytest
from random_mixtures import COVARIANCE_TYPES, random_mixture

from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.parameters import ParameterSpace

SIZES = [(3, 2), (2, 4), (4, 3), (1, 3), (3, 1), (1, 1)]  # (K, D)
EACH = [(c, k, d) for c in COVARIANCE_TYPES for k, d in SIZES]


def _batch(covariance_type: str, k: int, d: int, n: int = 5) -> Mixture:
    rng = np.random.default_rng(10 * k + d)
    each = [random_mixture(rng, covariance_type, k, d).mixture(covariance_type) for _ in range(n)]
    chol = None if each[0].corr_chol is None or d == 1 else np.stack([m.corr_chol for m in each])
    return Mixture(
        np.stack([m.weights for m in each]),
        np.stack([m.means for m in each]),
        np.stack([m.scales for m in each]),
        chol,
    )


def _space(covariance_type: str, k: int, d: int, floor: float = 0.1) -> ParameterSpace:
    """With lower bounds of the scales, from so much up."""
    n_scales = 1 if covariance_type.endswith("spherical") else d
    bounds = floor * np.arange(1, n_scales + 1)
    return ParameterSpace(k, d, structure_named(covariance_type), bounds)


def _assert_same(one: Mixture, other: Mixture, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(one.weights, other.weights, rtol=rtol)
    np.testing.assert_allclose(one.means, other.means, rtol=rtol)
    np.testing.assert_allclose(one.scales, other.scales, rtol=rtol)
    assert (one.corr_chol is None) == (other.corr_chol is None)
    if one.corr_chol is not None and other.corr_chol is not None:
        np.testing.assert_allclose(one.corr_chol, other.corr_chol, rtol=rtol, atol=1e-14)


def _free_parameters(mixture: Mixture, space: ParameterSpace) -> np.ndarray:
    """What the prior is a density of, as one vector; without leading axes."""
    k, d = space.n_components, space.n_features
    c, s = space.structure.scale_shape(k, d)
    parts = [mixture.weights[:-1], mixture.means.ravel(), mixture.scales[:c, :s].ravel()]
    if mixture.corr_chol is not None:
        below = np.tril_indices(d, -1)
        n_free = space.structure.n_correlations(k, d)
        parts += [chol[below] for chol in mixture.corr_chol[:n_free]]
    return np.concatenate(parts)


@pytest.mark.parametrize(("covariance_type", "k", "d"), EACH)
def test_a_mixture_comes_back_from_its_vector(covariance_type: str, k: int, d: int) -> None:
    space = _space(covariance_type, k, d, floor=0.01)
    mixture = _batch(covariance_type, k, d)
    vectors = space.vectors(mixture)
    pairs = d * (d - 1) // 2
    covariances = {
        "full": k * (d + pairs),
        "tied": d + pairs,
        "tied_correlation": k * d + pairs,
        "diag": k * d,
        "tied_diag": d,
        "spherical": k,
        "tied_spherical": 1,
    }
    free = k - 1 + k * d + covariances[space.structure.name]
    assert vectors.shape == (5, free)
    assert space.size == free
    _assert_same(space.mixtures(vectors), mixture)


@pytest.mark.parametrize(("covariance_type", "k", "d"), EACH)
def test_a_vector_comes_back_from_its_mixture(covariance_type: str, k: int, d: int) -> None:
    space = _space(covariance_type, k, d)
    vectors = np.random.default_rng(1).normal(0, 2, (2, 3, space.size))
    mixture = space.mixtures(vectors)
    assert mixture.batch_shape == (2, 3)
    np.testing.assert_allclose(mixture.weights.sum(axis=-1), 1.0, rtol=1e-12)
    # The standard deviation of a feature given all others is above the floor.
    precision = np.linalg.inv(mixture.covariances)
    conditional = 1 / np.sqrt(np.diagonal(precision, axis1=-2, axis2=-1))
    assert (conditional >= space.scale_floor * (1 - 1e-9)).all()
    if mixture.corr_chol is not None:
        product = mixture.corr_chol @ np.swapaxes(mixture.corr_chol, -1, -2)
        diagonal = np.diagonal(product, axis1=-2, axis2=-1)
        np.testing.assert_allclose(diagonal, 1.0, rtol=1e-12)
    np.testing.assert_allclose(space.vectors(mixture), vectors, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("covariance_type", "k", "d"), EACH)
def test_the_log_jacobian_is_that_of_numerical_differentiation(
    covariance_type: str, k: int, d: int
) -> None:
    space = _space(covariance_type, k, d)
    vectors = np.random.default_rng(2).normal(0, 0.7, (3, space.size))
    step = 1e-5
    expected = []
    for vector in vectors:
        columns = [
            _free_parameters(space.mixtures(vector + move), space)
            - _free_parameters(space.mixtures(vector - move), space)
            for move in step * np.eye(space.size)
        ]
        expected.append(np.linalg.slogdet(np.array(columns) / (2 * step))[1])
    np.testing.assert_allclose(space.log_jacobian(vectors), expected, rtol=1e-7, atol=1e-6)


def test_correlations_near_one_keep_their_digits() -> None:
    space = _space("tied", 1, 3, floor=0.0)
    vectors = np.zeros((2, space.size))
    vectors[0, -3:] = [9.0, -7.0, 8.0]  # 1 - |correlation| of 3e-8
    vectors[1, -3:] = [100.0, 50.0, -80.0]  # beyond what 1 - tanh can resolve
    mixture = space.mixtures(vectors)
    assert (np.diagonal(mixture.corr_chol, axis1=-2, axis2=-1) > 0).all()
    np.testing.assert_allclose(space.vectors(mixture), vectors, rtol=1e-10)
    assert np.isfinite(space.log_jacobian(vectors)).all()


def test_a_weight_of_zero_has_a_vector() -> None:
    space = _space("diag", 3, 1)
    mixture = Mixture(np.array([0.3, 0.0, 0.7]), np.zeros((3, 1)), np.ones((3, 1)))
    vector = space.vectors(mixture)
    assert np.isfinite(vector).all()
    np.testing.assert_allclose(space.mixtures(vector).weights, [0.3, 0.0, 0.7], atol=1e-300)


def test_a_scale_on_its_bound_has_a_vector_and_comes_back() -> None:
    space = _space("diag", 2, 1, floor=0.25)
    mixture = Mixture(np.full(2, 0.5), np.zeros((2, 1)), np.array([[0.25], [2.0]]))
    vector = space.vectors(mixture)
    assert np.isfinite(vector).all()
    np.testing.assert_allclose(space.mixtures(vector).scales, mixture.scales, rtol=1e-15)
