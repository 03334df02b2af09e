"""EM finds the published optima, climbs all the way, and knows a collapsed component from one."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from fitting import fit_quick
from random_mixtures import (
    COVARIANCE_TYPES,
    SKLEARN_TYPES,
    PlainMixture,
    most_likely_covariances,
    random_mixture,
)
from scipy.special import softmax
from scipy.stats import ortho_group
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as SklearnMixture
from threadpoolctl import threadpool_info, threadpool_limits

import stangmm as sg
from stangmm.base.blas import one_blas_thread
from stangmm.data.dataset import Dataset
from stangmm.methods.draws import RestartInfo
from stangmm.methods.em.steps import EMSpace
from stangmm.model.covariance import structure_named
from stangmm.model.problem import Problem


def em(
    X: Any,
    k: int,
    covariance_type: str,
    *,
    seed: int = 1,
    sample_weight: Any = None,
    **settings: Any,
) -> sg.Fit:
    """Fit by EM; that it may say of itself that other optima are near does not matter here."""
    model = sg.GaussianMixture(k, covariance_type)
    method = sg.EM(**settings)
    return fit_quick(model, X, method, seed=seed, sample_weight=sample_weight)


def facts(fit: sg.Fit) -> RestartInfo:
    assert isinstance(fit.info, RestartInfo)
    return fit.info


def log_likelihood(fit: sg.Fit) -> float:
    return float(fit.total_log_likelihood.item())


# ---- published optima ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize(
    ("data", "k", "covariance_type", "published"),
    [
        # mclust 6.1 vignette; the third is -1126.326 there, -1126.3159 with a tighter tolerance.
        ("galaxies", 3, "diag", -203.1792),
        ("faithful", 2, "full", -1130.2640),
        ("faithful", 3, "tied", -1126.3159),
    ],
)
def test_published_optima_are_found(
    data: str, k: int, covariance_type: str, published: float, seed: int
) -> None:
    fit = em(getattr(sg.datasets, data)(), k, covariance_type, seed=seed)
    assert log_likelihood(fit) == pytest.approx(published, abs=1e-3)
    checks = fit.diagnose()
    assert checks["converged"].verdict == "ok"
    assert checks["restarts at the best optimum"].verdict == "ok"


def test_the_same_seed_gives_the_same_answer_and_another_seed_other_paths() -> None:
    first, second, other = (
        em(sg.datasets.faithful(), 2, "full", seed=s, restarts=20) for s in (4, 4, 5)
    )
    np.testing.assert_array_equal(first.means, second.means)
    np.testing.assert_array_equal(first.covariances, second.covariances)
    np.testing.assert_array_equal(facts(first).values, facts(second).values)
    assert not np.array_equal(facts(first).values, facts(other).values)


# ---- the climb -------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("k", [2, 5])
def test_the_likelihood_never_decreases_along_any_path(covariance_type: str, k: int) -> None:
    rng = np.random.default_rng(k)
    x = random_mixture(rng, covariance_type, 4, 2, spread=1.5).sample(rng, 150)
    for weight in (None, rng.uniform(0, 3, 150)):
        info = facts(em(x, k, covariance_type, sample_weight=weight, restarts=16))
        assert len(info.paths) == len(info.values) <= 16
        assert max(len(path) for path in info.paths) > 5
        for path, value in zip(info.paths, info.values, strict=True):
            assert path[-1] == value
            assert (np.diff(path) >= -1e-11 * np.abs(path[1:])).all()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_optimum_is_a_fixed_point_of_the_moments(covariance_type: str) -> None:
    rng = np.random.default_rng(12)
    truth = random_mixture(rng, covariance_type, 3, 2)
    x, weight = truth.sample(rng, 400), rng.uniform(0.2, 2, 400)
    fit = em(x, 3, covariance_type, sample_weight=weight, tolerance=1e-12)
    found = PlainMixture(fit.weights, fit.means, fit.covariances)

    joint = found.component_log_density(x) + np.log(found.weights)[:, np.newaxis]
    held = softmax(joint, axis=0) * weight
    counts = held.sum(axis=1)
    means = held @ x / counts[:, np.newaxis]
    # About the component's own weighted mean.
    own = np.array([np.cov(x.T, bias=True, aweights=r) for r in held])
    each = most_likely_covariances(covariance_type, counts, own)
    np.testing.assert_allclose(fit.weights, counts / counts.sum(), atol=1e-6)
    np.testing.assert_allclose(fit.means, means, atol=1e-5)
    np.testing.assert_allclose(fit.covariances, each, atol=1e-5)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_one_component_is_the_sample_mean_and_covariance(covariance_type: str) -> None:
    rng = np.random.default_rng(13)
    x = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)) + 5
    fit = em(x, 1, covariance_type)
    covariance = np.cov(x.T, bias=True)
    expected = covariance
    if covariance_type.endswith("diag"):
        expected = np.diag(np.diag(covariance))
    if covariance_type.endswith("spherical"):
        expected = np.eye(3) * np.trace(covariance) / 3
    np.testing.assert_allclose(fit.means[0], x.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(fit.covariances[0], expected, rtol=1e-9, atol=1e-12)
    plain = PlainMixture(np.ones(1), x.mean(axis=0)[np.newaxis], expected[np.newaxis])
    assert log_likelihood(fit) == pytest.approx(plain.log_density(x).sum(), rel=1e-12)


# ---- against scikit-learn --------------------------------------------------------------------


def sklearn_data(name: str) -> tuple[np.ndarray, int]:
    """Scikit-learn's own generated data: separated, of unequal spread, stretched, in 5 features."""
    if name == "5 features":
        return make_blobs(600, n_features=5, centers=4, random_state=3)[0], 4
    if name == "unequal":
        return make_blobs(600, centers=3, cluster_std=[1.0, 2.5, 0.5], random_state=170)[0], 3
    x, _ = make_blobs(600, centers=3, random_state=170)
    return (x @ [[0.6, -0.6], [-0.4, 0.8]] if name == "stretched" else x), 3


@pytest.mark.parametrize("name", ["blobs", "unequal", "stretched", "5 features"])
@pytest.mark.parametrize("covariance_type", SKLEARN_TYPES)
def test_the_optimum_is_scikit_learns(covariance_type: str, name: str) -> None:
    x, k = sklearn_data(name)
    ours = em(x, k, covariance_type, restarts=20, tolerance=1e-9)
    precisions = np.linalg.inv(ours.covariances)
    start = {
        "full": precisions,
        "tied": precisions[0],
        "diag": np.diagonal(precisions, axis1=1, axis2=2),
        "spherical": precisions[:, 0, 0],
    }[covariance_type]
    same_start = SklearnMixture(
        k,
        covariance_type=covariance_type,
        weights_init=ours.weights / ours.weights.sum(),
        means_init=ours.means,
        precisions_init=start,
        reg_covar=0,
        tol=1e-12,
        max_iter=2000,
    ).fit(x)
    theirs = same_start.score(x) * len(x)
    assert log_likelihood(ours) == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(ours.means, same_start.means_, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.weights, same_start.weights_, rtol=1e-4)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a restart of theirs may run out of iterations
        own_start = SklearnMixture(
            k, covariance_type=covariance_type, n_init=5, reg_covar=0, tol=1e-9, max_iter=2000,
            random_state=0,
        ).fit(x)  # fmt: skip
    best = own_start.score(x) * len(x)
    assert log_likelihood(ours) >= best - 1e-6 * abs(best)
    assert ours.bic() <= own_start.bic(x) + 2e-6 * abs(best)
    assert ours.bic() == pytest.approx(same_start.bic(x), rel=1e-6)


# ---- collapse --------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_a_component_on_repeated_rows_is_seen_as_collapsed_and_never_returned(
    covariance_type: str,
) -> None:
    rng = np.random.default_rng(14)
    x = np.vstack([rng.normal(size=(150, 2)), np.tile([[0.5, 0.5]], (15, 1))])
    fit = em(x, 2, covariance_type)
    info = facts(fit)
    assert info.collapsed.any()
    assert not info.collapsed.all()
    for optimum in info.optima:
        variances = np.linalg.eigvalsh(optimum.mixture.covariances)
        assert variances.min() > 1e-6  # of a spike: 1e-10 and less
    # The spike's likelihood has no bound: a fit that took the highest value would show it.
    assert info.values[info.collapsed].max() > info.best.objective
    counted = info.converged & ~info.collapsed
    assert sum(o.restarts for o in info.optima) == counted.sum()


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_a_component_on_two_neighbouring_rows_is_never_returned(covariance_type: str) -> None:
    rng = np.random.default_rng(15)
    x = rng.normal(size=(60, 2))
    x[1] = x[0] + 1e-3
    for k in (2, 4):
        fit = em(x, k, covariance_type)
        held = fit.weights * len(x)
        assert held.min() > 2
        assert np.linalg.eigvalsh(fit.covariances).min() > 1e-6


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_a_cluster_that_is_flat_in_one_feature_is_as_narrow_as_its_resolution(
    covariance_type: str,
) -> None:
    rng = np.random.default_rng(16)
    flat = np.column_stack([rng.normal(6, 1, 40), np.ones(40)])
    x = np.vstack([rng.normal(size=(80, 2)), flat])
    fit = em(x, 2, covariance_type)
    k = int(np.argmax(fit.means[:, 0]))
    assert fit.weights[k] * 120 == pytest.approx(40, abs=0.1)
    np.testing.assert_allclose(fit.means[k], [flat[:, 0].mean(), 1.0], atol=1e-3)
    step = np.diff(np.unique(x[:, 1])).min() / (2 if covariance_type == "full" else 1)
    np.testing.assert_allclose(fit.scales[k], [flat[:, 0].std(), step / np.sqrt(12)], rtol=1e-3)


def test_a_shared_covariance_does_not_collapse_on_ties() -> None:
    rng = np.random.default_rng(16)
    x = np.vstack([rng.normal(size=(80, 2)), np.tile([[6.0, 1.0]], (40, 1))])
    assert not facts(em(x, 2, "tied")).collapsed.any()


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_where_every_restart_collapses_the_answer_is_regularized_and_fails_a_check(
    covariance_type: str,
) -> None:
    x = np.random.default_rng(17).normal(size=(14, 2))
    fit = em(x, 10, covariance_type)
    assert facts(fit).regularized
    check = fit.diagnose()["maximum of the likelihood"]
    assert check.verdict == "fail"
    assert "Use fewer components" in check.advice
    assert fit.total_log_likelihood.item() == pytest.approx(facts(fit).best.objective, rel=1e-12)
    responsibilities = fit.predict_proba(x)
    np.testing.assert_allclose(fit.weights, responsibilities.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("far", [1e3, 1e6])
def test_one_row_far_out_shares_a_long_component_or_has_its_own_that_a_check_names(
    covariance_type: str, k: int, far: float
) -> None:
    rng = np.random.default_rng(18)
    x = np.vstack([rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 8.0])
    x[7] = far
    fit = em(x, k, covariance_type)
    if k == 2:  # a maximum of the likelihood, in which one cluster and the row are together
        assert not facts(fit).regularized
        r = fit.predict_proba(x)
        own = (r.T @ x) / r.sum(axis=0)[:, None]
        np.testing.assert_allclose(fit.means, own, rtol=1e-4, atol=1e-4)
        return
    assert "far from all others" in fit.diagnose()["maximum of the likelihood"].advice
    component = fit.predict(x)
    assert np.flatnonzero(component == component[7]).tolist() == [7]
    cluster = np.delete(np.arange(120) // 60, 7)
    assert adjusted_rand_score(cluster, np.delete(component, 7)) == 1.0


# ---- sample weights --------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_step_with_sample_weights_equals_the_step_with_repeated_rows(
    covariance_type: str,
) -> None:
    rng = np.random.default_rng(18)
    truth = random_mixture(rng, covariance_type, 3, 2)
    x, count = truth.sample(rng, 80), rng.integers(0, 5, 80)
    structure = structure_named(covariance_type)
    steps = []
    for data in (Dataset.from_input(x, count), Dataset.from_input(np.repeat(x, count, axis=0))):
        problem = Problem.build(data, 3, structure, sg.Priors())
        space = EMSpace(problem)
        start = problem.from_user_units(truth.mixture(covariance_type))
        value, moments = space.expectation(space.parameters_of(start))
        updated, _ = space.maximization(moments)
        mixture = problem.to_user_units(space.mixture_of(updated)[0])
        steps.append((value[0] + problem.log_likelihood_offset, mixture))
    (weighted, one), (repeated, two) = steps
    assert weighted == pytest.approx(repeated, rel=1e-10)
    np.testing.assert_allclose(one.weights, two.weights, rtol=1e-10)
    np.testing.assert_allclose(one.means, two.means, rtol=1e-10)
    np.testing.assert_allclose(one.covariances, two.covariances, rtol=1e-10, atol=1e-12)
    expected = truth.log_density(np.repeat(x, count, axis=0)).sum()
    assert weighted == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_sample_weights_give_the_fit_of_repeated_rows(covariance_type: str) -> None:
    rng = np.random.default_rng(19)
    truth = random_mixture(rng, covariance_type, 2, 2)
    x, count = truth.sample(rng, 200), rng.integers(0, 4, 200)
    weighted = em(x, 2, covariance_type, sample_weight=count, tolerance=1e-12)
    repeated = em(np.repeat(x, count, axis=0), 2, covariance_type, tolerance=1e-12)
    assert log_likelihood(weighted) == pytest.approx(log_likelihood(repeated), rel=1e-10)
    np.testing.assert_allclose(weighted.means, repeated.means, atol=1e-5)
    assert weighted.bic() == pytest.approx(repeated.bic(), rel=1e-10)


# ---- units -----------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(
    ("scale", "offset", "tolerance"),
    [(1e-12, 0.0, 1e-9), (1e12, 0.0, 1e-9), (1.0, 1e8, 1e-5), (1e12, 1e20, 1e-5)],
)
def test_the_units_of_the_data_do_not_matter(
    covariance_type: str, scale: float, offset: float, tolerance: float
) -> None:
    rng = np.random.default_rng(20)
    x = random_mixture(rng, covariance_type, 3, 2).sample(rng, 300)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    reference = em(x, 3, covariance_type, tolerance=1e-9)
    moved = em(offset + scale * x, 3, covariance_type, tolerance=1e-9)
    if covariance_type == "tied_correlation":  # whose M step is an iteration
        tolerance = max(tolerance, 1e-7)
    np.testing.assert_allclose(moved.weights, reference.weights, rtol=tolerance)
    np.testing.assert_allclose(
        (moved.means - offset) / scale, reference.means, rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(
        moved.covariances / scale**2, reference.covariances, rtol=tolerance, atol=tolerance
    )
    shift = -len(x) * 2 * np.log(scale)
    assert log_likelihood(moved) == pytest.approx(log_likelihood(reference) + shift, rel=1e-6)
    agree = moved.predict(offset + scale * x) == reference.predict(x)
    assert agree.mean() > 0.99


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_fit_follows_the_maps_that_the_covariance_type_allows(covariance_type: str) -> None:
    rng = np.random.default_rng(21)
    x = random_mixture(rng, covariance_type, 3, 3).sample(rng, 300)
    rotation = ortho_group(3, seed=1).rvs()
    stretch = np.diag([0.01, 3.0, 700.0])
    matrix = stretch  # of each feature, which leaves correlations
    if covariance_type in ("full", "tied"):
        matrix = rotation @ stretch
    if covariance_type.endswith("spherical"):
        matrix = 40.0 * rotation
    shift = np.array([5.0, -300.0, 2e4])
    reference = em(x, 3, covariance_type, tolerance=1e-10)
    mapped = em(x @ matrix.T + shift, 3, covariance_type, tolerance=1e-10)
    order = [
        int(np.argmin(np.linalg.norm(mapped.means - target, axis=1)))
        for target in reference.means @ matrix.T + shift
    ]
    assert sorted(order) == [0, 1, 2]
    jacobian = len(x) * np.linalg.slogdet(matrix)[1]
    expected = log_likelihood(reference) - jacobian
    assert log_likelihood(mapped) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(mapped.weights[order], reference.weights, rtol=1e-4)
    back = np.linalg.inv(matrix)
    np.testing.assert_allclose(
        back @ mapped.covariances[order] @ back.T, reference.covariances, rtol=1e-3, atol=1e-4
    )


# ---- many rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_many_rows_are_searched_by_a_subset_and_fitted_by_all(covariance_type: str) -> None:
    rng = np.random.default_rng(22)
    truth = random_mixture(rng, covariance_type, 3, 2)
    x = truth.sample(rng, 30_000)
    fit = em(x, 3, covariance_type, restarts=10)
    info = facts(fit)
    assert 1000 <= info.rows_searched < 30_000
    assert info.best.converged
    precisions = np.linalg.inv(truth.covariances)
    if covariance_type == "diag":
        precisions = np.diagonal(precisions, axis1=1, axis2=2)
    from_truth = SklearnMixture(
        3,
        covariance_type=covariance_type,
        weights_init=truth.weights / truth.weights.sum(),
        means_init=truth.means,
        precisions_init=precisions,
        reg_covar=0,
        tol=1e-9,
        max_iter=1000,
    ).fit(x)
    assert log_likelihood(fit) >= from_truth.score(x) * len(x) - 1e-2
    assert log_likelihood(fit) == pytest.approx(fit.log_likelihood().sum(), rel=1e-10)
    assert sum(o.restarts for o in info.optima) <= 10


def test_fits_that_overlap_leave_blas_its_threads() -> None:
    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        before = threads()
        first, second = ExitStack(), ExitStack()
        first.enter_context(one_blas_thread())
        second.enter_context(one_blas_thread())
        first.close()
        assert set(threads()) == {1}
        second.close()
        assert threads() == before
        assert max(before) == 2
