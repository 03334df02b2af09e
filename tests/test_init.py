"""Starting values by hand: where a search begins, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fitting import fit_quick
from scipy.special import logsumexp
from scipy.stats import norm

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.draws import McmcInfo, RestartInfo, VariationalInfo
from stangmm.methods.em.em import EM
from stangmm.methods.stan.shared import given_start, jittered, plausible_optima, plausible_starts
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

# For K = 2 the best optimum joins the left and the middle group, a lesser one the other two.
LEFT, MIDDLE, RIGHT = -6.0, -1.0, 6.0


def three_groups() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.normal(m, 0.5, 40) for m in (LEFT, MIDDLE, RIGHT)])[:, np.newaxis]


def problem_from(*means: float) -> Problem:
    """Two components, starting at these means."""
    data = Dataset.from_input(three_groups())
    problem = Problem.build(data, 2, structure_named("diag"), sg.Priors())
    start = Mixture(np.full(2, 0.5), np.array(means)[:, np.newaxis], np.full((2, 1), 1.0))
    return replace(problem, start=problem.from_user_units(start))


def facts(fit: sg.Fit) -> RestartInfo:
    assert isinstance(fit.info, RestartInfo)
    return fit.info


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_em_climbs_to_the_optimum_of_the_starts_basin(order: tuple[int, int]) -> None:
    """The worse split, that ten restarts do not prefer, in the order of the start."""
    free = replace(problem_from(0, 0), start=None)
    best = EM(restarts=10).search(free, Run(1)).best.objective
    means = np.array([LEFT, (MIDDLE + RIGHT) / 2])[list(order)]
    info = EM(restarts=10).search(problem_from(*means), Run(1))
    assert info.values.shape == (1,)
    assert info.best.restarts == 1
    assert info.best.converged
    assert info.best.objective < best - 1
    found = free.to_user_units(info.best.mixture)
    np.testing.assert_allclose(found.means[order[0], 0], LEFT, atol=0.5)
    np.testing.assert_allclose(found.means[order[1], 0], (MIDDLE + RIGHT) / 2, atol=0.5)


def test_the_first_step_is_at_the_start() -> None:
    problem = problem_from(LEFT, RIGHT)
    (start,) = given_start(problem)
    x = three_groups()[:, 0]
    parts = [np.log(0.5) + norm(m, 1.0).logpdf(x) for m in (LEFT, RIGHT)]
    expected = logsumexp(parts, axis=0).sum()
    offset = problem.log_likelihood_offset
    assert start.objective + offset == pytest.approx(expected, rel=1e-12)
    path = EM().search(problem, Run(1)).best.path
    assert path[0] + offset == pytest.approx(expected, rel=1e-12)


def test_a_start_is_not_searched_for_among_some_of_the_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stangmm.methods.em.em.SEARCH_ROWS", 50)
    monkeypatch.setattr("stangmm.methods.em.em.SEARCH_ROWS_PER_PARAMETER", 1)
    problem = problem_from(LEFT, RIGHT)
    assert EM().search(problem, Run(1)).rows_searched == 120
    assert EM().search(replace(problem, start=None), Run(1)).rows_searched == 50


def test_stan_methods_start_at_the_start_and_measure_at_the_optimum_reached() -> None:
    problem = problem_from(LEFT, RIGHT)
    (start,) = plausible_starts(problem, Run(1))
    assert start.mixture is problem.start
    assert start.restarts == 0
    (reached,) = plausible_optima(problem, Run(1))
    assert reached.objective > start.objective + 1
    starts = EM(restarts=7).starting_points(problem, Run(1))
    assert starts.batch_shape == (1,)
    assert problem.start is not None
    np.testing.assert_allclose(starts.means[0], problem.start.means, rtol=1e-12)
    moved = jittered(start.mixture, problem, np.random.default_rng(1))
    assert 0 < np.abs(moved.means - problem.start.means).max() < 1


def test_the_answer_from_a_start_does_not_depend_on_the_seed() -> None:
    problem = problem_from(LEFT, RIGHT)
    one, two = (EM().search(problem, Run(seed)).best.mixture for seed in (1, 2))
    np.testing.assert_array_equal(one.means, two.means)
    np.testing.assert_array_equal(one.scales, two.scales)


def test_a_start_that_collapses_is_an_error_that_says_so() -> None:
    x = np.vstack([np.random.default_rng(2).normal(size=(50, 1)), [[9.0]]])
    model = sg.GaussianMixture(2, "diag")
    with pytest.raises(sg.InferenceError, match=r"led there\. Give another init") as caught:
        model.fit(x, "em", init=np.array([0.0, 9.0]), progress=False)
    assert "too many" not in str(caught.value)
    with pytest.raises(sg.InferenceError, match=r"Outside the range of the data .* components: 1"):
        model.fit(x, "em", init=np.array([0.0, 500.0]), progress=False)


@pytest.mark.parametrize("method", ["em", "optimize", "advi", "nuts", "laplace"])
def test_starts_that_lead_nowhere_are_refused_by_every_method(method: Any) -> None:
    x = np.random.default_rng(2).normal(size=(50, 2))
    x[25:] += 6.0
    model = sg.GaussianMixture(2)
    for init, words in (
        ([[0, 1], [0, 1]], "must differ, got .* components 0 and 1"),
        ([[0, 0], [0, 1e6]], "component 1 is far outside the data: 1e\\+06 in feature 'x2'"),
        ([[0, 0], [0, 1e150]], "component 1 is far outside"),
        (model.fit(1e6 * x + 1e9, "em", seed=1), "far outside the data"),
    ):
        with pytest.raises(sg.DataError, match=words):
            model.fit(x, method, init=init, progress=False)


def test_known_labels_tell_components_of_equal_starts_apart() -> None:
    x = three_groups()
    labels = np.repeat([0, 1, -1], 40)
    fit = sg.GaussianMixture(2, "diag").fit(x, "em", init=[0.0, 0.0], labels=labels, progress=False)
    assert abs(fit.means[1, 0] - fit.means[0, 0]) > 0.5


def test_means_labels_and_fits_lead_to_the_same_optimum() -> None:
    x = three_groups()
    model = sg.GaussianMixture(3, "tied")

    def fit(init: Any) -> sg.Fit:
        return model.fit(x, sg.EM(tolerance=1e-10), init=init, seed=1, progress=False)

    by_means = fit(np.array([[RIGHT], [LEFT], [MIDDLE]]))
    by_labels = fit(np.repeat([1, 2, 0], 40))
    by_fit = fit(by_means)
    assert len(facts(by_means).values) == 1
    for other in (by_labels, by_fit):
        np.testing.assert_allclose(other.means, by_means.means, atol=1e-5)
    assert len(facts(by_fit).best.path) < len(facts(by_means).best.path)


@pytest.mark.stan
def test_the_optimizer_climbs_to_the_optimum_of_the_starts_basin() -> None:
    middle = (MIDDLE + RIGHT) / 2
    model, init = sg.GaussianMixture(2, "diag"), np.array([LEFT, middle])
    fit = fit_quick(model, three_groups(), sg.Optimize(objective="mle"), init=init)
    assert facts(fit).values.shape == (1,)
    np.testing.assert_allclose(np.sort(fit.means[:, 0]), [LEFT, middle], atol=0.5)


@pytest.mark.stan
@pytest.mark.parametrize("method", ["advi", "nuts"])
def test_draws_start_at_the_start_and_reach_the_posterior(method: str) -> None:
    x = three_groups()
    init = np.array([LEFT - 0.3, MIDDLE + 0.3, RIGHT])
    model = sg.GaussianMixture(3, "tied")
    fit = fit_quick(model, x, method, init=init)
    assert isinstance(fit.info, McmcInfo | VariationalInfo)
    for start in fit.info.starts:
        np.testing.assert_allclose(start.mixture.means[:, 0], init, rtol=1e-10)
    np.testing.assert_allclose(np.sort(fit.means[:, 0]), [LEFT, MIDDLE, RIGHT], atol=0.3)
    again = fit_quick(model, x, method, init=init)
    np.testing.assert_array_equal(fit.means, again.means)
