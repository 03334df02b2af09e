"""EM on rows that miss values or whose component is known, against sums and moments by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from fitting import fit_quick
from random_mixtures import COVARIANCE_TYPES, most_likely_covariances, random_mixture
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.data.groups import RowGroup
from stangmm.methods.draws import RestartInfo
from stangmm.methods.em.algebra import EMParameters, Sums
from stangmm.methods.em.by_group import em_rows
from stangmm.methods.em.em import EM
from stangmm.methods.em.incomplete import (
    CorrelatedIncompleteRows,
    IncompleteRows,
    IndependentIncompleteRows,
)
from stangmm.methods.em.rows import EMRows
from stangmm.methods.em.starts import Starter
from stangmm.methods.em.steps import EMSpace
from stangmm.methods.stan import curvature
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem


def em(X: Any, k: int, covariance_type: str, **options: Any) -> sg.Fit:
    """Fit by EM; options of the fit beside those of the method."""
    given = {name: options.pop(name) for name in ("labels", "sample_weight") if name in options}
    method = sg.EM(**{"restarts": 4, "tolerance": 1e-10, **options})
    model = sg.GaussianMixture(k, covariance_type)
    return fit_quick(model, X, method, missing="marginalize", **given)


def facts(fit: sg.Fit) -> RestartInfo:
    assert isinstance(fit.info, RestartInfo)
    return fit.info


def with_holes(x: np.ndarray, share: float = 0.2, seed: int = 1) -> np.ndarray:
    """Values missing completely at random, none of them the last of its row."""
    rng = np.random.default_rng(seed)
    gone = rng.random(x.shape) < share
    gone[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] = False
    return np.where(gone, np.nan, x)


def brute_force(
    x: np.ndarray,
    weights: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """Log density of what each row has, row by row, component by component."""
    out = np.empty(len(x))
    for n, row in enumerate(x):
        seen = np.flatnonzero(~np.isnan(row))
        joint = [
            np.log(w) + multivariate_normal(m[seen], c[np.ix_(seen, seen)]).logpdf(row[seen])
            for w, m, c in zip(weights, means, covariances, strict=True)
        ]
        known = -1 if labels is None else int(labels[n])
        out[n] = logsumexp(joint) if known < 0 else joint[known]
    return out


def log_likelihood(fit: sg.Fit) -> float:
    return float(fit.total_log_likelihood.item())


def iris() -> np.ndarray:
    return with_holes(load_iris().data)


@cache
def fit_of_iris(covariance_type: str) -> sg.Fit:
    return em(iris(), 3, covariance_type)


# ---- the likelihood and its maximum ----------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_iris_with_a_fifth_removed_has_the_sum_of_marginal_densities(covariance_type: str) -> None:
    fit = fit_of_iris(covariance_type)
    expected = brute_force(iris(), fit.weights, fit.means, fit.covariances).sum()
    assert log_likelihood(fit) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_no_optimizer_improves_on_the_optimum(covariance_type: str) -> None:
    """From EM's optimum on iris, BFGS on free parameters of its own gains nothing."""
    x, fit = iris(), fit_of_iris(covariance_type)
    k, d = fit.means.shape
    i, j = np.tril_indices(d)
    patterns, member = np.unique(np.isnan(x), axis=0, return_inverse=True)
    shape = 1 if covariance_type.startswith("tied") else k, d
    if covariance_type.endswith("spherical"):
        shape = shape[0], 1

    def likelihood(u: np.ndarray) -> float:
        log_weights = log_softmax(np.append(u[: k - 1], 0.0))
        means = u[k - 1 : k - 1 + k * d].reshape(k, d)
        rest = u[k - 1 + k * d :]
        if covariance_type in ("full", "tied"):
            factors = np.zeros((len(rest) // len(i), d, d))
            factors[:, i, j] = rest.reshape(-1, len(i))
            covariances = factors @ np.swapaxes(factors, 1, 2)
        elif covariance_type == "tied_correlation":
            factor = np.zeros((d, d))
            factor[i, j] = rest[k * d :]
            factor /= np.sqrt((factor**2).sum(axis=1, keepdims=True))
            sd = np.exp(rest[: k * d]).reshape(k, d)
            covariances = (factor @ factor.T) * sd[:, :, np.newaxis] * sd[:, np.newaxis, :]
        else:
            variances = np.exp(np.broadcast_to(rest.reshape(shape), (k, d)))
            covariances = variances[:, :, np.newaxis] * np.eye(d)
        covariances = np.broadcast_to(covariances, (k, d, d))
        total = 0.0
        for p, missing in enumerate(patterns):
            rows = x[member.ravel() == p][:, ~missing]
            each = []
            for m, c in zip(means, covariances, strict=True):
                own = c[np.ix_(~missing, ~missing)]
                deviation = rows - m[~missing]
                squared = (deviation @ np.linalg.inv(own) * deviation).sum(axis=1)
                log_det = np.linalg.slogdet(2 * np.pi * own)[1]
                each.append(-0.5 * (squared + log_det))
            total += logsumexp(np.array(each) + log_weights[:, np.newaxis], axis=0).sum()
        return float(total)

    if covariance_type in ("full", "tied"):
        own = fit.covariances if covariance_type == "full" else fit.covariances[:1]
        spread = np.linalg.cholesky(own)[:, i, j]
    elif covariance_type == "tied_correlation":
        sd = np.sqrt(np.diagonal(fit.covariances, axis1=1, axis2=2))
        correlation = fit.covariances[0] / np.outer(sd[0], sd[0])
        spread = np.concatenate([np.log(sd).ravel(), np.linalg.cholesky(correlation)[i, j]])
    else:
        spread = np.log(np.diagonal(fit.covariances, axis1=1, axis2=2))[: shape[0], : shape[1]]
    logits = np.log(fit.weights[:-1] / fit.weights[-1])
    start = np.concatenate([logits, fit.means.ravel(), spread.ravel()])
    assert likelihood(start) == pytest.approx(log_likelihood(fit), abs=1e-8)
    improved = minimize(lambda u: -likelihood(u), start, method="BFGS", options={"maxiter": 2})
    assert -improved.fun <= log_likelihood(fit) + 1e-6
    worse = start.copy()
    worse[k - 1] += 0.05  # what the bound can see
    assert likelihood(worse) < log_likelihood(fit) - 1e-3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_likelihood_never_decreases(covariance_type: str, weighted: bool) -> None:
    rng = np.random.default_rng(2)
    x = with_holes(random_mixture(rng, covariance_type, 3, 3, spread=1.5).sample(rng, 150), 0.3)
    labels = np.where(rng.random(150) < 0.1, rng.integers(3, size=150), -1)
    weight = rng.uniform(0.1, 3, 150) if weighted else None
    fit = em(x, 3, covariance_type, labels=labels, sample_weight=weight, restarts=6, tolerance=1e-6)
    paths = facts(fit).paths
    assert max(len(path) for path in paths) > 20
    for path in paths:
        assert (np.diff(path) >= -1e-11 * np.abs(path[1:])).all()


def test_one_component_with_missing_values_has_score_zero() -> None:
    """The score of a normal distribution: sums of P (x - mu), and of g g' - P, over the rows."""
    rng = np.random.default_rng(3)
    x = with_holes(rng.normal(size=(80, 3)) @ rng.normal(size=(3, 3)), 0.3)
    fit = em(x, 1, "full", tolerance=1e-13)
    of_mean, of_covariance = np.zeros(3), np.zeros((3, 3))
    size = np.zeros((3, 3))
    for row in x:
        seen = np.flatnonzero(~np.isnan(row))
        precision = np.zeros((3, 3))
        precision[np.ix_(seen, seen)] = np.linalg.inv(fit.covariances[0][np.ix_(seen, seen)])
        g = precision @ np.where(np.isnan(row), 0.0, row - fit.means[0])
        of_mean += g
        of_covariance += np.outer(g, g) - precision
        size += precision
    np.testing.assert_allclose(of_mean, 0, atol=1e-5 * np.sqrt(size.max()))
    np.testing.assert_allclose(of_covariance, 0, atol=1e-5 * size.max())


def test_half_of_a_monotone_pattern_has_the_known_maximum() -> None:
    """Anderson 1957 (doi:10.1080/01621459.1957.10501379): x2 by regression on x1 where it is."""
    rng = np.random.default_rng(4)
    x = rng.multivariate_normal([1.0, -2.0], [[2.0, 1.2], [1.2, 1.5]], 100)
    x[60:, 1] = np.nan
    fit = em(x, 1, "full", tolerance=1e-13)
    slope, intercept = np.polyfit(x[:60, 0], x[:60, 1], 1)
    left = np.var(x[:60, 1] - intercept - slope * x[:60, 0])
    mean, variance = x[:, 0].mean(), x[:, 0].var()
    np.testing.assert_allclose(fit.means[0], [mean, intercept + slope * mean], rtol=1e-6)
    expected = [[variance, slope * variance], [slope * variance, left + slope**2 * variance]]
    np.testing.assert_allclose(fit.covariances[0], expected, rtol=1e-5)


def test_scores_are_the_derivatives_of_each_rows_log_density() -> None:
    """Of the rows of every group; the means', scales' and weights' by central differences."""
    rng = np.random.default_rng(5)
    x = with_holes(random_mixture(rng, "diag", 2, 3, spread=1.0).sample(rng, 60), 0.4)
    labels = np.where(rng.random(60) < 0.3, rng.integers(2, size=60), -1)
    data = Dataset.from_input(x, missing="marginalize", labels=labels)
    for name in ("full", "diag"):
        problem = Problem.build(data, 2, structure_named(name), sg.Priors())
        at = random_mixture(rng, name, 2, 3, spread=1.0).mixture(name)

        def moved(u: np.ndarray, at: Mixture = at) -> Mixture:
            share = 1 / (1 + np.exp(-u[0])) * at.weights[0]
            share /= share + at.weights[1] / (1 + np.exp(u[0]))
            weights = np.array([share, 1 - share])
            means = at.means + u[1:7].reshape(2, 3)
            return replace(
                at, weights=weights, means=means, scales=at.scales * np.exp(u[7:13].reshape(2, 3))
            )

        transforms = (
            curvature.weights_jacobian(at.weights, True),
            curvature.correlation_jacobians(at),
        )
        for group in problem.groups:
            rows = problem.x[group.rows]
            known = None if group.component is None else np.full(len(rows), group.component)
            step = 1e-5 * np.eye(13)
            numeric = [
                (moved(e).log_density(rows, known) - moved(-e).log_density(rows, known)) / 2e-5
                for e in step
            ]
            scores, _ = curvature.scores(at, problem, rows, transforms, group.component)
            np.testing.assert_allclose(scores[:, :13], np.stack(numeric, axis=1), atol=1e-6)


# ---- groups and complete data ----------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_complete_rows_cut_into_groups_take_the_same_steps(covariance_type: str) -> None:
    rng = np.random.default_rng(6)
    truth = random_mixture(rng, covariance_type, 3, 2)
    data = Dataset.from_input(truth.sample(rng, 90), rng.uniform(0.5, 2, 90))
    whole = Problem.build(data, 3, structure_named(covariance_type), sg.Priors())
    every = np.arange(2)
    groups = (RowGroup(slice(0, 40), every), RowGroup(slice(40, 90), every))
    steps = []
    for problem in (whole, replace(whole, groups=groups)):
        space = EMSpace(problem)
        start = problem.from_user_units(truth.mixture(covariance_type))
        value, sums = space.expectation(space.parameters_of(start))
        steps.append((value, space.mixture_of(space.maximization(sums)[0])))
    (one, of_whole), (two, of_groups) = steps
    np.testing.assert_allclose(one, two, rtol=1e-13)
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(
            getattr(of_whole, name), getattr(of_groups, name), rtol=1e-11, atol=1e-13
        )


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("known", [None, 1])
def test_rows_together_take_the_step_of_their_patterns_one_by_one(
    covariance_type: str, known: int | None
) -> None:
    rng = np.random.default_rng(9)
    truth = random_mixture(rng, covariance_type, 3, 5)
    x = with_holes(truth.sample(rng, 80), 0.4)
    data = Dataset.from_input(x, rng.uniform(0.5, 2, 80), missing="marginalize")
    problem = Problem.build(data, 3, structure_named(covariance_type), sg.Priors(), noise=True)
    space, structure, box = EMSpace(problem), problem.structure, problem.space.box
    starts = [random_mixture(rng, covariance_type, 3, 5).mixture(covariance_type) for _ in "ab"]
    parameters = EMParameters.joined(
        [space.parameters_of(problem.from_user_units(start)) for start in starts]
    )
    parameters = replace(parameters, weights=0.9 * parameters.weights)
    if known is not None:
        parameters = parameters.component(known)
    assert problem.sample_weight is not None
    whole, sums = np.zeros(2), Sums.none(parameters)
    filled = np.empty_like(problem.x)
    for group in problem.groups:
        group = replace(group, component=known)
        of_group, weight = problem.x[group.rows], problem.sample_weight[group.rows]
        rows = EMRows(of_group, weight, space.frame, structure, group, box)
        value, part = rows.expectation(parameters)
        whole += value
        sums.add(part)
        filled[group.rows] = rows.filled()
    together: IncompleteRows
    if space.frame is None:
        together = IndependentIncompleteRows(problem.x, problem.sample_weight, box, known)
    else:
        together = CorrelatedIncompleteRows(
            problem.x, problem.sample_weight, box, known, space.frame, structure
        )
    value, found = together.expectation(parameters)
    np.testing.assert_allclose(value, whole, rtol=1e-12)
    np.testing.assert_allclose(together.filled(), filled, atol=1e-12)
    for name in ("counts", "first", "second"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(sums, name), rtol=1e-10, atol=1e-10, err_msg=name
        )


def test_many_patterns_are_taken_together_and_their_rows_keep_their_places() -> None:
    rng = np.random.default_rng(3)
    x = with_holes(rng.normal(size=(120, 6)), 0.3)
    labels = np.where(rng.random(120) < 0.3, rng.integers(2, size=120), -1)
    data = Dataset.from_input(x, labels=labels, missing="marginalize")
    problem = Problem.build(data, 2, structure_named("full"), sg.Priors())
    some = np.sort(rng.choice(120, 80, replace=False))
    for rows in (None, some):
        held = problem.x if rows is None else problem.x[rows]
        space = EMSpace(problem, rows)
        assert space.n_incomplete == np.isnan(held).any(axis=1).sum()
        assert len(em_rows(problem, space.frame, rows)) < 0.2 * len(problem.groups)
        assert space.frame is not None
        there = ~np.isnan(held)
        np.testing.assert_allclose((space.x @ space.frame.T)[there], held[there], atol=1e-12)


def test_covariances_stay_symmetric_over_many_steps() -> None:
    data = Dataset.from_input(iris(), missing="marginalize")
    problem = Problem.build(data, 3, structure_named("full"), sg.Priors())
    space = EMSpace(problem)
    parameters = Starter(space, np.random.default_rng(1)).next(40)[0]
    for _ in range(100):
        updated, spikes = space.maximization(space.expectation(parameters)[1])
        parameters = updated[~spikes]
    assert len(parameters.weights) > 3
    turned = np.swapaxes(parameters.covariances, -1, -2)
    np.testing.assert_allclose(parameters.covariances, turned, rtol=0, atol=1e-13)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_row_of_weight_three_is_three_rows(covariance_type: str) -> None:
    rng = np.random.default_rng(7)
    x = with_holes(random_mixture(rng, covariance_type, 2, 3).sample(rng, 90), 0.25)
    labels = np.where(rng.random(90) < 0.2, 0, -1)
    count = rng.integers(1, 4, 90)
    weighted = em(x, 2, covariance_type, labels=labels, sample_weight=count)
    written_out = np.repeat(x, count, axis=0)
    repeated = em(written_out, 2, covariance_type, labels=np.repeat(labels, count))
    assert log_likelihood(weighted) == pytest.approx(log_likelihood(repeated), abs=1e-8)
    np.testing.assert_allclose(weighted.means, repeated.means, atol=1e-4)


def test_a_search_on_some_of_the_rows_finds_the_optimum_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With so few labelled rows that a random subset would have none of them."""
    rng = np.random.default_rng(8)
    z = rng.integers(2, size=2000)
    x = with_holes(rng.normal(size=(2000, 2)) + 4.0 * z[:, np.newaxis])
    labels = np.full(2000, -1)
    for k in (0, 1):
        labels[np.flatnonzero(z == k)[:2]] = 1 - k
    whole = em(x, 2, "full", labels=labels, tolerance=1e-8)
    monkeypatch.setattr("stangmm.methods.em.em.SEARCH_ROWS", 200)
    monkeypatch.setattr("stangmm.methods.em.em.SEARCH_ROWS_PER_PARAMETER", 1)
    searched = em(x, 2, "full", labels=labels, tolerance=1e-8)
    assert 200 < facts(searched).rows_searched <= 204
    assert log_likelihood(searched) == pytest.approx(log_likelihood(whole), abs=1e-6)
    np.testing.assert_allclose(searched.means, whole.means, atol=1e-3)
    assert searched.means[0, 0] > searched.means[1, 0]


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_a_component_on_repeated_rows_with_holes_is_seen_as_collapsed(covariance_type: str) -> None:
    rng = np.random.default_rng(9)
    x = np.vstack([rng.normal(size=(150, 2)), np.tile([[0.5, 0.5]], (15, 1))])
    x[::7, 0], x[3::7, 1] = np.nan, np.nan
    info = facts(em(x, 2, covariance_type, restarts=50, tolerance=1e-6))
    assert info.collapsed.any()
    assert np.linalg.eigvalsh(info.best.mixture.covariances).min() > 1e-6
    assert info.values[info.collapsed].max() > info.best.objective


# ---- known labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_labels_for_all_rows_give_the_moments_of_each_class(covariance_type: str) -> None:
    rng = np.random.default_rng(10)
    x, labels = rng.normal(size=(60, 2)), rng.permutation(np.repeat([2, 0, 1], [10, 20, 30]))
    x[:, 0] += 5.0 * labels
    weight = rng.uniform(0.5, 2, 60)
    fit = em(x, 3, covariance_type, labels=labels, sample_weight=weight, restarts=2)
    counts = np.bincount(labels, weight)
    own = [(x[labels == k], weight[labels == k]) for k in range(3)]
    each = np.array([np.cov(rows.T, bias=True, aweights=w) for rows, w in own])
    each = most_likely_covariances(covariance_type, counts, each)
    rtol = 1e-6 if covariance_type == "tied_correlation" else 1e-9  # of the test's own optimizer
    np.testing.assert_allclose(fit.weights, counts / counts.sum(), rtol=1e-10)
    means = [np.average(rows, axis=0, weights=w) for rows, w in own]
    np.testing.assert_allclose(fit.means, means, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(fit.covariances, each, rtol=rtol, atol=1e-10)
    expected = weight @ brute_force(x, fit.weights, fit.means, fit.covariances, labels)
    assert log_likelihood(fit) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_half_of_the_labels_and_missing_values_give_the_sum_by_hand(covariance_type: str) -> None:
    x, species = iris(), load_iris().target
    names = np.array([2, 0, 1])[species]
    labels = np.where(np.arange(len(x)) % 2, names, -1)
    fit = em(x, 3, covariance_type, labels=labels)
    expected = brute_force(x, fit.weights, fit.means, fit.covariances, labels).sum()
    assert log_likelihood(fit) == pytest.approx(expected, abs=1e-8)
    petal_length = [np.nanmean(x[names == k, 2]) for k in range(3)]
    np.testing.assert_allclose(fit.means[:, 2], petal_length, atol=0.3)


def test_every_start_gives_labelled_rows_to_their_component() -> None:
    """One labelled row for each of two components, the third one without."""
    x = iris()
    labels = np.full(len(x), -1)
    labels[[60, 10]] = [0, 2]
    data = Dataset.from_input(x, missing="marginalize", labels=labels)
    problem = Problem.build(data, 3, structure_named("diag"), sg.Priors())
    space = EMSpace(problem)
    starts = space.mixture_of(Starter(space, np.random.default_rng(1)).next(20)[0])
    likely = starts.component_log_density((x[[60, 10]] - problem.center) / problem.unit)
    assert (likely[:, 0, 0] > likely[:, 2, 0]).all()
    assert (likely[:, 2, 1] > likely[:, 0, 1]).all()
    assert len(np.unique(starts.means[:, 1, 0])) > 3  # the free component still moves about


def test_the_same_seed_gives_the_same_answer() -> None:
    x = iris()
    first, second = (em(x, 3, "full", restarts=4, tolerance=1e-4) for _ in range(2))
    np.testing.assert_array_equal(first.means, second.means)
    np.testing.assert_array_equal(facts(first).values, facts(second).values)


def test_restarts_are_searched_from_many_places() -> None:
    data = Dataset.from_input(iris(), missing="marginalize")
    problem = Problem.build(data, 3, structure_named("full"), sg.Priors())
    space = EMSpace(problem)
    starts = Starter(space, np.random.default_rng(1)).next(10)[0]
    assert np.isfinite(starts.means).all()
    assert len(np.unique(starts.means[:, 0, 0])) >= 8
    assert EM(restarts=3).name == "em"
