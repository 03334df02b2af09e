"""Relabelling restores one labelling and changes nothing but the order of the components."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
from random_mixtures import COVARIANCE_TYPES, PlainMixture, random_mixture
from scipy.optimize import linear_sum_assignment
from scipy.special import expit
from scipy.stats import norm

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.judge.labelling import Labelling
from stangmm.methods.draws import Draws, VariationalInfo
from stangmm.model.labels import assign
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.posterior.fitted import record_of
from stangmm.posterior.relabel import (
    Relabelling,
    by_first_mean,
    exchange_probabilities,
    match,
    relabelled,
    representative_rows,
)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_permutations_are_those_of_scipys_assignment(k: int) -> None:
    agreement = np.random.default_rng(k).normal(size=(200, k, k))
    expected = [linear_sum_assignment(each, maximize=True)[1] for each in agreement]
    np.testing.assert_array_equal(assign(agreement), expected)


def separated(rng: np.random.Generator, covariance_type: str, k: int, d: int) -> PlainMixture:
    """Components whose means are ten standard deviations or more apart."""
    plain = random_mixture(rng, covariance_type, k, d)
    means = plain.means * 0.2
    means[:, 0] += 20.0 * rng.permutation(k)
    return PlainMixture(plain.weights, means, plain.covariances)


def draws_around(
    rng: np.random.Generator, plain: PlainMixture, covariance_type: str, n_draws: int
) -> Mixture:
    """A posterior with one labelling: every parameter moves a little from draw to draw."""
    one = plain.mixture(covariance_type)
    k, d = plain.means.shape
    weights = rng.dirichlet(50 * plain.weights + 1, n_draws)
    means = one.means + rng.normal(0, 0.2, (n_draws, k, d))
    scales = one.scales * rng.lognormal(0, 0.1, (n_draws, k, d))
    chol = None if one.corr_chol is None else np.tile(one.corr_chol, (n_draws, 1, 1, 1))
    return Mixture(weights, means, scales, chol)


def random_permutations(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1)


@pytest.mark.parametrize("how", ["stephens", "ecr", "means"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("k", "d"), [(2, 1), (3, 2), (5, 2)])
def test_labels_permuted_at_random_are_restored_exactly(
    how: Relabelling, covariance_type: str, k: int, d: int
) -> None:
    rng = np.random.default_rng([k, d])
    plain = separated(rng, covariance_type, k, d)
    x = plain.sample(rng, 150)
    original = draws_around(rng, plain, covariance_type, 200)
    scrambled = original.permute(random_permutations(rng, 200, k))
    permutation = relabelled(how, scrambled, x, pivot=int(rng.integers(200)))
    restored = scrambled.permute(permutation)
    # One labelling: the same reordering of the original in every draw.
    order = match(original[0], restored[0], x)
    np.testing.assert_array_equal(restored.means, original.means[:, order])
    np.testing.assert_array_equal(restored.weights, original.weights[:, order])
    np.testing.assert_array_equal(restored.scales, original.scales[:, order])


@pytest.mark.parametrize("how", ["stephens", "ecr", "means"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_no_draws_mixture_density_changes(how: Relabelling, covariance_type: str) -> None:
    rng = np.random.default_rng(2)
    plain = random_mixture(rng, covariance_type, 4, 2, spread=1.0)  # overlapping on purpose
    x = plain.sample(rng, 100)
    draws = draws_around(rng, plain, covariance_type, 100)
    scrambled = draws.permute(random_permutations(rng, 100, 4))
    permutation = relabelled(how, scrambled, x, pivot=0)
    np.testing.assert_array_equal(np.sort(permutation, axis=1), np.tile(np.arange(4), (100, 1)))
    settled = scrambled.permute(permutation)
    np.testing.assert_allclose(
        settled.log_density(x), scrambled.log_density(x), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("labels", ["switched", "as they are"])
# With 19 and 22 the labels as they are suit the pivot best, but not the average of all draws.
@pytest.mark.parametrize("seed", [1, 7, 19, 22])
def test_the_result_is_a_fixed_point_of_stephens_steps(labels: str, seed: int) -> None:
    """No other assignment of any draw is closer to the average of the relabelled draws."""
    rng = np.random.default_rng(seed)
    plain = random_mixture(rng, "full", 3, 2, spread=0.3)  # components that overlap
    x = plain.sample(rng, 120)
    draws = draws_around(rng, plain, "full", 60)
    if labels == "switched":
        draws = draws.permute(random_permutations(rng, 60, 3))
    for pivot in range(0, 60, 10):
        settled = draws.permute(relabelled("stephens", draws, x, pivot)).responsibilities(
            x
        )  # (S, K, N)
        log_average = np.log(settled.mean(axis=0))
        chosen = (settled * log_average).sum(axis=(1, 2))
        for order in itertools.permutations(range(3)):
            other = (settled[:, order] * log_average).sum(axis=(1, 2))
            assert (chosen >= other - 1e-9).all()


@pytest.mark.parametrize("labels", ["switched", "as they are"])
@pytest.mark.parametrize("seed", range(3))
def test_the_result_is_a_fixed_point_of_ecr_steps(labels: str, seed: int) -> None:
    """No other assignment of any draw agrees with the most frequent allocation on more rows."""
    rng = np.random.default_rng(seed)
    plain = random_mixture(rng, "full", 3, 2, spread=0.3)
    x = plain.sample(rng, 120)
    draws = draws_around(rng, plain, "full", 60)
    if labels == "switched":
        draws = draws.permute(random_permutations(rng, 60, 3))
    for pivot in range(0, 60, 10):
        settled = draws.permute(relabelled("ecr", draws, x, pivot))
        allocations = settled.responsibilities(x).argmax(axis=1)  # (S, N)
        counts = np.stack([(allocations == k).sum(axis=0) for k in range(3)])
        most_frequent = counts.argmax(axis=0)
        chosen = (allocations == most_frequent).sum(axis=1)
        for order in itertools.permutations(range(3)):
            assert (chosen >= (np.array(order)[allocations] == most_frequent).sum(axis=1)).all()


@pytest.mark.parametrize("how", ["stephens", "ecr"])
def test_the_answer_does_not_depend_on_how_labels_were_switched(how: Relabelling) -> None:
    rng = np.random.default_rng(4)
    plain = random_mixture(rng, "diag", 3, 2, spread=1.5)
    x = plain.sample(rng, 120)
    draws = draws_around(rng, plain, "diag", 80)
    pivot = 7
    results = []
    for _ in range(3):
        permutation = random_permutations(rng, 80, 3)
        permutation[pivot] = [0, 1, 2]
        scrambled = draws.permute(permutation)
        results.append(scrambled.permute(relabelled(how, scrambled, x, pivot)).means)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("how", ["stephens", "ecr", "means"])
def test_one_draw_or_one_component_stays_as_it_is(how: Relabelling) -> None:
    rng = np.random.default_rng(5)
    plain = random_mixture(rng, "full", 3, 2)
    x = plain.sample(rng, 20)
    one_draw = draws_around(rng, plain, "full", 1)
    np.testing.assert_array_equal(relabelled(how, one_draw, x, 0), [[0, 1, 2]])
    single = random_mixture(rng, "full", 1, 2)
    one_component = draws_around(rng, single, "full", 9)
    np.testing.assert_array_equal(relabelled(how, one_component, x, 0), np.zeros((9, 1)))


@pytest.mark.parametrize("how", ["stephens", "ecr"])
def test_many_draws_rows_and_components_take_bounded_memory(how: Relabelling) -> None:
    rng = np.random.default_rng(6)
    plain = separated(rng, "full", 6, 2)
    x = plain.sample(rng, 1000)
    draws = draws_around(rng, plain, "full", 4000).permute(random_permutations(rng, 4000, 6))
    tracemalloc.start()
    permutation = relabelled(how, draws, x, pivot=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 190e6  # the responsibilities of all draws and rows alone would be 192 MB
    means = draws.permute(permutation).means
    assert means[..., 0].std(axis=0).max() < 1.0


def test_a_component_of_few_rows_is_not_lost_among_the_rows_that_stand_for_all() -> None:
    rng = np.random.default_rng(7)
    plain = separated(rng, "diag", 3, 2)
    plain = PlainMixture(np.array([0.9985, 0.001, 0.0005]), plain.means, plain.covariances)
    x = plain.sample(rng, 20_000)
    mixture = plain.mixture("diag")
    rows = representative_rows(mixture, x, 300)
    assert len(rows) <= 300
    of_each = mixture.responsibilities(rows).sum(axis=1)
    in_all = mixture.responsibilities(x).sum(axis=1)
    assert of_each[1:] == pytest.approx(in_all[1:], abs=0.01)  # every one of them


def test_two_components_with_one_posterior_can_be_exchanged_and_a_third_cannot() -> None:
    rng = np.random.default_rng(8)
    means = rng.normal(0.0, 1.0, (4000, 3, 1)) + np.array([[[0.0], [0.0], [50.0]]])
    weights = rng.dirichlet([30.0, 30.0, 40.0], 4000)
    probability = exchange_probabilities(
        Mixture(weights, means, rng.lognormal(0, 0.1, (4000, 3, 1)))
    )
    assert probability[0, 1] == pytest.approx(0.5, abs=0.02)
    assert probability[[0, 1], 2].max() < 1e-6
    np.testing.assert_array_equal(probability, probability.T)


@pytest.mark.parametrize("correlation", [0.0, 0.98, -0.98])
def test_exchange_probability_of_two_normals_is_that_of_the_overlap(correlation: float) -> None:
    """With means N(0, S) and N(d, S) alone: the average of expit(-m^2 - m z), m^2 = d S^-1 d."""
    rng = np.random.default_rng(9)
    n, shift = 20_000, np.array([0.8, 1.5])
    covariance = np.array([[1.0, correlation], [correlation, 1.0]])
    means = rng.multivariate_normal(np.zeros(2), covariance, (n, 2))
    means[:, 1] += shift
    same = np.ones((n, 2))
    probability = exchange_probabilities(
        Mixture(same / 2, means, np.ones((n, 2, 2))),
    )
    distance = np.sqrt(shift @ np.linalg.solve(covariance, shift))
    z = np.linspace(-10, 10, 20_001)
    z_density = norm.pdf(z, scale=np.sqrt(2.0))
    expected = np.trapezoid(expit(-(distance**2) - distance * z) * z_density, z)
    assert probability[0, 1] == pytest.approx(expected, abs=0.01)


def test_match_finds_the_order_of_another_fits_components() -> None:
    rng = np.random.default_rng(7)
    mixture = separated(rng, "full", 4, 2).mixture("full")
    x = separated(rng, "full", 4, 2).sample(rng, 5)
    x = np.vstack([x, mixture.means])
    order = np.array([2, 0, 3, 1])
    permutation = match(mixture.permute(order), mixture, x)
    np.testing.assert_array_equal(mixture.permute(order).permute(permutation).means, mixture.means)


def test_components_are_shown_by_their_first_mean_then_the_next() -> None:
    means = np.array([[2.0, 0.0], [1.0, 5.0], [1.0, -5.0]])
    np.testing.assert_array_equal(by_first_mean(means), [2, 1, 0])


# ---- in a fit --------------------------------------------------------------------------------


def switched(rng: np.random.Generator) -> tuple[Mixture, Mixture, np.ndarray]:
    """Draws (2 chains of 50) without and with switched labels, and data."""
    plain = separated(rng, "full", 3, 2)
    draws = draws_around(rng, plain, "full", 100)
    scrambled = draws.permute(random_permutations(rng, 100, 3))
    return draws.reshape(2, 50), scrambled.reshape(2, 50), plain.sample(rng, 200)


def fit_given(
    mixture: Mixture,
    x: np.ndarray,
    priors: sg.Priors | None = None,
    *,
    covariance_type: str = "full",
    relabel: Relabelling | None = "stephens",
) -> sg.Fit:
    """A fit of given draws, as of a sampler with label switching."""
    model = sg.GaussianMixture(3, covariance_type, priors or sg.Priors())
    dataset = Dataset.from_input(x)
    resolved = model.priors.resolve(dataset, model.structure, 3)
    nothing, equal = np.empty(0), np.zeros(mixture.weights[..., 0].size)
    info = VariationalInfo(nothing, nothing, True, equal, equal, ())
    draws = Draws(mixture, log_likelihood(mixture, x), info)
    return record_of(
        sg.Fit, model, dataset, sg.ADVI(), draws,
        priors=resolved, relabel=relabel, seed=1, seconds=0.0, versions={},
    )  # fmt: skip


def test_a_fit_has_settled_labels_in_order_and_keeps_the_permutations() -> None:
    original, scrambled, x = switched(np.random.default_rng(8))
    fit = fit_given(scrambled, x)
    assert fit.permutations.shape == (2, 50, 3)
    assert (np.diff(fit.means[:, 0]) > 0).all()
    order = by_first_mean(original[0, 0].means)
    np.testing.assert_array_equal(fit.posterior["means"].values, original.means[..., order, :])
    again = scrambled.permute(fit.permutations)
    np.testing.assert_array_equal(fit.posterior["weights"].values, again.weights)
    np.testing.assert_array_equal(fit.posterior["scales"].values, again.scales)
    np.testing.assert_allclose(fit.posterior["covariances"].values, again.covariances, rtol=1e-13)


def test_relabelling_leaves_lp_and_densities_of_a_fit_alone() -> None:
    original, scrambled, x = switched(np.random.default_rng(9))
    one, other = fit_given(original, x), fit_given(scrambled, x)
    np.testing.assert_allclose(one.lp, other.lp, rtol=1e-12)
    np.testing.assert_allclose(one.log_likelihood(), other.log_likelihood(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        other.log_likelihood().sum(axis=1).reshape(2, 50), other.total_log_likelihood, rtol=1e-10
    )


@pytest.mark.parametrize(
    "priors",
    [
        sg.Priors(means=sg.Normal([[0.0, 0.0], [20.0, 0.0], [40.0, 0.0]], 5.0)),
        sg.Priors(weights=sg.Dirichlet([1.0, 1.0, 2.0])),
        sg.Priors(means=sg.Normal(0.0, [[1.0, 1.0], [1.0, 1.0], [1.0, 2.0]])),
        sg.Priors(scales=sg.HalfCauchy([[1.0, 1.0], [1.0, 1.0], [9.0, 1.0]])),
        sg.Priors(scales=sg.InverseGamma([[2.0], [2.0], [3.0]], 1.0)),
    ],
    ids=["locations", "concentrations", "widths", "scales", "shapes"],
)
def test_priors_that_tell_components_apart_leave_labels_alone(priors: sg.Priors) -> None:
    _, scrambled, x = switched(np.random.default_rng(10))
    fit = fit_given(scrambled, x, priors)
    assert not fit.priors.exchangeable
    assert (fit.permutations == np.arange(3)).all()
    np.testing.assert_array_equal(fit.posterior["means"].values, scrambled.means)


@pytest.mark.parametrize("how", ["ecr", "means", None])
def test_a_fit_is_relabelled_afterwards_as_if_it_had_been_so_from_the_start(
    how: Relabelling | None,
) -> None:
    _, scrambled, x = switched(np.random.default_rng(12))
    later = fit_given(scrambled, x).relabel(how)
    first = fit_given(scrambled, x, relabel=how)
    assert later.relabelling == first.relabelling == how
    np.testing.assert_array_equal(later.permutations, first.permutations)
    np.testing.assert_array_equal(later.posterior["means"].values, first.posterior["means"].values)
    if how is None:
        np.testing.assert_array_equal(later.posterior["means"].values, scrambled.means)
        assert (later.permutations == np.arange(3)).all()


def test_labels_say_how_many_draws_were_permuted_and_what_it_changed() -> None:
    rng = np.random.default_rng(13)
    original, _, x = switched(rng)
    permutation = np.tile(np.arange(3), (2, 50, 1))
    permutation[0, :20] = [1, 0, 2]
    labels = fit_given(original.permute(permutation), x).labelling
    assert labels.permuted == pytest.approx(0.2)
    assert labels.settled
    assert labels.table.loc["parameters, as drawn", "r_hat"] > 1.2
    assert labels.table.loc["parameters, relabelled", "r_hat"] < 1.1
    free = labels.table.loc[["lp", "log likelihood", "sorted weights"], "r_hat"].max()
    assert labels.label_free["r_hat"] == free < 1.1
    assert "can be told apart" in str(labels)


def test_components_that_no_labelling_separates_are_said_to_be_so() -> None:
    rng = np.random.default_rng(14)
    n = 200
    means = np.stack([rng.normal(0, 1, (n, 2)), rng.normal(0, 1, (n, 2)) + 30], axis=1)
    means = np.concatenate([means, rng.normal(0, 1, (n, 1, 2))], axis=1)
    mixture = Mixture(rng.dirichlet([9, 20, 9], n), means, rng.lognormal(0, 0.2, (n, 3, 2)))
    x = np.concatenate([rng.normal(0, 1.5, (60, 2)), rng.normal(30, 1, (60, 2))])
    fit = fit_given(mixture.reshape(2, 100), x, covariance_type="diag")
    i, j = fit.labelling.least_settled
    assert abs(fit.means[i, 0]) < 3 > abs(fit.means[j, 0])
    check = fit.diagnose()["labelling"]
    assert check.verdict == "warn"
    assert check.value == fit.labelling.exchange[i, j] > 0.05
    assert f"components {i} and {j}" in check.meaning
    assert "sorted weights" in check.advice
    assert "cannot be told apart" in str(fit.labelling)


def test_labels_of_components_without_rows_are_not_in_doubt() -> None:
    """Both follow the prior, so that no pair is hard to tell apart but those with the first."""
    rng = np.random.default_rng(15)
    n = 200
    means = np.stack([rng.normal(mean, 5.0, (n, 1)) for mean in (1.0, 0.0, 0.0)], axis=1)
    means[:, 0] = rng.normal(0.0, 0.1, (n, 1))
    x = rng.normal(0.0, 1.0, (60, 1))
    for held, settled in ((0.2, True), (20.0, False)):
        weights = rng.dirichlet(np.array([100.0, held, held]), n)
        mixture = Mixture(weights, means, rng.lognormal(0, 0.2, (n, 3, 1)))
        fit = fit_given(mixture.reshape(2, 100), x, covariance_type="diag")
        assert fit.labelling.settled is settled
        assert (fit.diagnose()["labelling"].verdict == "ok") is settled


def test_an_unknown_way_to_relabel_is_refused_before_anything_starts() -> None:
    model = sg.GaussianMixture(2)
    with pytest.raises(sg.ModelError, match="'stephens', 'ecr', 'means', None"):
        model.fit([0.0, 1.0, 2.0, 5.0], relabel="kmeans")  # type: ignore[arg-type]


def test_priors_that_differ_between_features_only_are_exchangeable() -> None:
    _, scrambled, x = switched(np.random.default_rng(11))
    priors = sg.Priors(means=sg.Normal([0.0, 5.0], [30.0, 9.0]), scales=sg.HalfCauchy([1.0, 2.0]))
    fit = fit_given(scrambled, x, priors)
    assert fit.priors.exchangeable
    assert not (fit.permutations == np.arange(3)).all()


def test_where_all_are_apart_the_hardest_pair_is_a_pair_still() -> None:
    model, x = sg.GaussianMixture(3, "diag"), sg.datasets.galaxies()
    named = np.full(82, -1)
    named[0] = 0
    for labels, pair in ((None, (0, 1)), (named, (1, 2))):
        with warnings.catch_warnings():  # a component of three galaxies
            warnings.simplefilter("ignore", sg.ConvergenceWarning)
            fit = model.fit(x, "em", seed=1, labels=labels, progress=False)
        assert Labelling(fit, 0.0, np.zeros((3, 3))).least_settled == pair
