"""Known labels: rows of known component count with their joint density, and keep their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fitting import ALL, fit_quick
from random_mixtures import COVARIANCE_TYPES, random_mixture
from scipy.special import logsumexp

import stangmm as sg
from stangmm.posterior.relabel import relabelled

METHODS = ["em", *(pytest.param(m, marks=pytest.mark.stan) for m in ALL[1:])]


def half_labelled(seed: int = 1, n: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of three components, their components, and the labels that are told."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    x = rng.normal(size=(n, 2)) + np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])[truth]
    told = np.where(rng.random(n) < 0.3, truth, -1)
    return x, truth, told


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_labelled_row_has_the_joint_density_with_its_label(covariance_type: str) -> None:
    rng = np.random.default_rng(2)
    plain = random_mixture(rng, covariance_type, 3, 2)
    x, labels = plain.sample(rng, 30), rng.integers(-1, 3, 30)
    joint = plain.component_log_density(x) + np.log(plain.weights)[:, np.newaxis]
    expected = np.where(labels < 0, logsumexp(joint, axis=0), joint[labels, np.arange(30)])
    mixture = plain.mixture(covariance_type)
    np.testing.assert_allclose(mixture.log_density(x, labels), expected, rtol=1e-12)
    certain = mixture.responsibilities(x, labels)[:, labels >= 0]
    np.testing.assert_array_equal(certain.argmax(axis=0), labels[labels >= 0])
    np.testing.assert_allclose(certain.max(axis=0), 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_named_components_keep_their_numbers(method: str) -> None:
    """In an order that sorting by means would never give."""
    x, truth, told = half_labelled()
    shuffle = np.array([2, 0, 1])
    labels = np.where(told < 0, -1, shuffle[told])
    fit = fit_quick(sg.GaussianMixture(3), x, method, labels=labels)
    agreement = (fit.predict(x) == shuffle[truth]).mean()
    assert agreement > 0.93
    assert fit.free_components.size == 0
    assert fit.relabelling is None
    np.testing.assert_array_equal(
        fit.permutations, np.broadcast_to(np.arange(3), fit.permutations.shape)
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_log_likelihood_counts_labelled_rows_jointly(method: str) -> None:
    x, _, told = half_labelled()
    fit = fit_quick(sg.GaussianMixture(3), x, method, labels=told)
    joint = fit.mixture.component_log_density(x) + np.log(fit.mixture.weights)[..., np.newaxis]
    rows = np.arange(len(x))
    expected = np.where(told < 0, logsumexp(joint, axis=1), joint[:, told, rows]).sum(axis=-1)
    np.testing.assert_allclose(fit.total_log_likelihood.ravel(), expected, rtol=1e-6)
    np.testing.assert_allclose(fit.log_likelihood().sum(axis=1), expected, rtol=1e-9)


def test_only_components_without_a_name_are_relabelled() -> None:
    rng = np.random.default_rng(4)
    plain = random_mixture(rng, "diag", 4, 2, spread=6.0)
    x = plain.sample(rng, 200)
    one = plain.mixture("diag")
    free = np.array([1, 3])
    orders = np.tile(np.arange(4), (50, 1))
    orders[::2, free] = free[::-1]
    draws = one[np.newaxis].permute(np.zeros((1, 4), dtype=int) + np.arange(4))
    draws = type(one)(
        *(np.repeat(a, 50, axis=0) for a in (draws.weights, draws.means, draws.scales))
    )
    switched = draws.permute(orders)
    for how in ("stephens", "ecr", "means"):
        permutation = relabelled(how, switched, x, 0, free)
        np.testing.assert_array_equal(permutation[:, [0, 2]], np.tile([0, 2], (50, 1)))
        settled = switched.permute(permutation)
        np.testing.assert_array_equal(
            settled.means, np.broadcast_to(settled.means[0], settled.means.shape)
        )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(149), r"shape \(150,\), got \(149,\)"),
        (np.full(150, 3), "components 0 to 2"),
        (np.full(150, -2), "got -2 in row 0"),
        (np.full(150, 0.5), "got 0.5 in row 0"),
        (["setosa"] * 150, "Number the classes first"),
    ],
)
def test_labels_that_make_no_sense_are_refused(labels: Any, message: str, no_cmdstan: None) -> None:
    x, _, _ = half_labelled()
    with pytest.raises(sg.DataError, match=message):
        sg.GaussianMixture(3).fit(x, labels=labels, progress=False)


def test_nan_and_minus_one_both_mean_unknown() -> None:
    x, _, told = half_labelled()
    by_nan = fit_quick(sg.GaussianMixture(3), x, "em", labels=np.where(told < 0, np.nan, told))
    by_minus_one = fit_quick(sg.GaussianMixture(3), x, "em", labels=told)
    np.testing.assert_array_equal(by_nan.means, by_minus_one.means)


@pytest.mark.stan
@pytest.mark.statistical
def test_the_evidence_counts_only_the_labellings_that_are_free() -> None:
    """With one row labelled the posterior is one of the K! copies, and so is the evidence.

    p(x, z_1 = 0) = p(x) P(z_1 = 0 | x), and by symmetry P(z_1 = 0 | x) = 1 / K.
    """
    x, _, _ = half_labelled(seed=3, n=40)
    labels = np.full(40, -1)
    labels[0] = 1
    model, nuts = sg.GaussianMixture(2, "diag"), sg.NUTS(draws=2000)
    free = model.fit(x, nuts, seed=1, progress=False).log_evidence(seed=1)
    named = model.fit(x, nuts, seed=2, labels=labels, progress=False).log_evidence(seed=2)
    error = np.hypot(free.standard_error, named.standard_error)
    assert float(named) == pytest.approx(float(free) - np.log(2), abs=4 * error + 0.01)
