"""Goodness of fit: data from the model pass, others do not, and what is wrong with them is said."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
from fitting import fit_and_listen, fit_quick
from scipy import stats

import stangmm as sg
from stangmm.base.thresholds import GOODNESS_NATS_FAIL, GOODNESS_P_OK
from stangmm.judge.beside import Rows
from stangmm.judge.goodness import GoodnessOfFit, goodness_of_fit, transform_curves
from stangmm.judge.smooth import SmoothTests
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.sklearn import StanGaussianMixture

QUICK = sg.EM(restarts=5)


def two_groups(n: int, rng: np.random.Generator, steps: Any = None) -> np.ndarray:
    """Two groups of two features, eight apart in the first."""
    steps = rng.normal(size=(n, 2)) if steps is None else steps
    return np.where(rng.random((n, 1)) < 0.4, -4.0, 4.0) * np.array([1.0, 0.0]) + steps


def found_in(x: Any, k: int, kind: str = "full", **options: Any) -> GoodnessOfFit:
    found = fit_quick(sg.GaussianMixture(k, kind), x, QUICK, **options).goodness_of_fit()
    assert found is not None
    return found


def p_of_shape(x: np.ndarray) -> float:
    """P-value of the smooth test of one normal distribution at its maximum likelihood."""
    at = Mixture(np.ones(1), np.array([[x.mean()]]), np.array([[x.std()]]))
    rows = Rows(x[:, np.newaxis], np.ones(len(x)), np.full(len(x), -1))
    tests = SmoothTests(at, structure_named("diag"), rows, np.full(1, 1e-12), np.zeros(1, bool))
    return tests.features()[0].p


def test_the_p_value_is_that_of_refitted_data_sets() -> None:
    """By parametric bootstrap: data sets from the fit, fitted again, show as much as often."""
    rng = np.random.default_rng(4)
    reference = np.array([p_of_shape(rng.normal(size=60)) for _ in range(1000)])
    for level in (0.02, 0.1, 0.3, 0.6):  # none depends on location and scale
        error = 4 * np.sqrt(level * (1 - level) / 1000)
        assert np.mean(reference <= level) == pytest.approx(level, abs=error + 0.1 * level)
    assert p_of_shape(stats.gamma(2).rvs(60, random_state=1)) < reference.min() + 0.01


@pytest.mark.statistical
@pytest.mark.parametrize(("n", "k", "kind"), [(60, 2, "diag"), (120, 1, "full")])
def test_data_from_the_model_rarely_raise_an_alarm(n: int, k: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    sets = 150
    p = np.empty(sets)
    for i in range(sets):
        x = rng.normal(size=(n, 2)) * rng.uniform(0.5, 2.0, 2)
        x += np.array([[-3.0, 0.0], [3.0, 0.0]])[rng.integers(k, size=n)]
        p[i] = found_in(x, k, kind).p_value
    # Bounds that a check of these levels breaks once in a thousand runs.
    for level in (0.01, 0.05):
        assert (p < level).sum() <= stats.binom(sets, level).ppf(0.999)
    assert (p < 0.5).mean() > 0.1  # it does say something


def test_skewed_data_under_one_normal_fail_and_the_logarithm_is_named() -> None:
    x = np.random.default_rng(1).lognormal(size=300)
    fit, warned = fit_and_listen(sg.GaussianMixture(1), x, QUICK)
    check = fit.diagnose()["goodness of fit"]
    assert fit.diagnose().verdict == check.verdict == "fail"
    assert fit.diagnose().computation.verdict == "ok"
    assert "skewed to the right" in check.meaning
    assert "logarithm" in check.advice
    assert ["goodness of fit" in message for message in warned] == [True]
    with pytest.warns(sg.MisfitWarning, match="skewed to the right"):
        sg.GaussianMixture(1).fit(x, QUICK, seed=1, progress=False)
    assert found_in(np.log(x), 1).verdict == "ok"


RNG = np.random.default_rng(6)
HAZE = two_groups(400, RNG, 0.3 * RNG.normal(size=(400, 2)))
HAZE[:24] = RNG.uniform(-10, 10, (24, 2))
FAR = RNG.normal(size=300)
FAR[17] = 9.0
HEAPED = np.round(10 * RNG.normal(size=500), 2)
HEAPED[:150] = 5 * np.round(HEAPED[:150] / 5)
ANGLE = 2 * np.pi * RNG.random(300)
CORRELATED = np.linalg.cholesky([[1.0, 0.6], [0.6, 1.0]])


@pytest.mark.parametrize(
    ("x", "k", "kind", "said"),
    [
        (RNG.gamma(2.0, size=300), 1, "diag", {"skewness"}),
        (RNG.standard_t(3, size=400), 1, "diag", {"heavy tails", "far rows"}),
        (RNG.random(400), 1, "diag", {"light tails"}),
        (two_groups(300, RNG), 1, "full", {"light tails", "joint density"}),
        (HAZE, 2, "full", {"joint density"}),
        (FAR, 1, "diag", {"far rows"}),
        (np.minimum(RNG.normal(size=300), 0.8), 1, "diag", {"repeated value"}),
        (HEAPED, 1, "diag", {"repeated value"}),
        (np.c_[np.cos(ANGLE), np.sin(ANGLE)], 1, "full", {"joint density"}),
        (
            two_groups(400, RNG, RNG.normal(size=(400, 2)) @ CORRELATED.T),
            2,
            "diag",
            {"correlation"},
        ),
        (two_groups(400, RNG, RNG.normal(size=(400, 2)) * [1, 1.7]), 2, "spherical", {"scale"}),
    ],
)
def test_what_is_wrong_is_said(x: np.ndarray, k: int, kind: str, said: set[str]) -> None:
    found = found_in(x, k, kind)
    assert found.verdict != "ok"
    assert said <= {misfit.kind for misfit in found.misfits}


def test_the_rows_that_do_not_fit_are_named() -> None:
    far = next(one for one in found_in(FAR, 1).misfits if one.kind == "far rows")
    assert far.rows.tolist() == [17]
    assert "(17)" in far.words
    weight = np.ones(301)
    weight[0] = 0.0  # numbers are those of the user's table
    found = found_in(np.append(0.0, FAR), 1, sample_weight=weight)
    far = next(one for one in found.misfits if one.kind == "far rows")
    assert far.rows.tolist() == [18]
    capped = found_in(np.minimum(FAR, 0.8), 1).misfits
    heap = next(one for one in capped if one.kind == "repeated value")
    assert heap.rows.tolist() == np.flatnonzero(FAR >= 0.8).tolist()
    assert "the end of its range" in heap.words


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
def test_rounding_alone_is_no_misfit(step: float) -> None:
    rng = np.random.default_rng(21)
    x = np.round(two_groups(400, rng) / step) * step
    assert found_in(x, 2).verdict == "ok"
    assert found_in(x / 60.0, 2).verdict == "ok"  # a grid that is not decimal


def test_a_heap_with_a_component_of_its_own_is_no_misfit() -> None:
    x = np.random.default_rng(2).normal(5.0, 1.0, 200)
    x[:60] = 0.0
    assert found_in(x, 2, "diag").verdict == "ok"
    assert found_in(x, 1, "diag").verdict == "fail"


def test_weights_count_rows() -> None:
    rng = np.random.default_rng(5)
    x = np.round(rng.gamma(3.0, size=80), 1)
    values, counts = np.unique(x, return_counts=True)
    repeated, weighted = found_in(np.sort(x), 1), found_in(values, 1, sample_weight=counts)
    assert weighted.p_value == pytest.approx(repeated.p_value, rel=0.3)
    assert weighted.nats == pytest.approx(repeated.nats, rel=0.1)


def test_missing_values_and_known_labels_are_allowed_for() -> None:
    rng = np.random.default_rng(8)
    x = two_groups(400, rng, rng.normal(size=(400, 2)) @ CORRELATED.T)
    labels = np.where(rng.random(400) < 0.3, (x[:, 0] > 0).astype(int), -1)
    x[rng.random(x.shape) < 0.25] = np.nan
    keep = ~np.isnan(x).all(axis=1)
    options = {"missing": "marginalize", "labels": labels[keep]}
    assert found_in(x[keep], 2, **options).verdict == "ok"
    skewed = np.exp(x[keep] / 2)
    assert found_in(skewed, 2, **options).verdict != "ok"


@pytest.mark.parametrize("which", ["easy", "hard"])
def test_labels_may_be_known_where_rows_are_easy_or_hard_to_tell_apart(which: str) -> None:
    rng = np.random.default_rng(3)
    z = np.repeat([0, 1], 150)
    x = rng.normal(3.0 * z, 1.0)
    known = (x < 0) | (x > 3) if which == "easy" else (x > 1) & (x < 2)
    assert found_in(x, 2, labels=np.where(known, z, -1)).verdict == "ok"


def test_where_all_labels_are_known_each_group_is_asked_and_shares_are_those_of_rows() -> None:
    rng = np.random.default_rng(3)
    z = np.repeat([0, 1], 150)
    assert found_in(rng.normal(3.0 * z, 1.0), 2, labels=z).verdict == "ok"
    skewed = found_in(rng.gamma(2.0, size=300) + 8.0 * z, 2, labels=z)
    assert skewed.verdict != "ok"
    said = [float(each) for each in re.findall(r"(-?[\d.]+)%", str(skewed))]
    assert len(said) >= 2
    assert all(0.0 <= each <= 100.0 for each in said)


def test_the_logarithm_is_named_only_where_it_helps() -> None:
    x = np.random.default_rng(0).exponential(size=300)
    far = found_in(x + 1000.0, 1)
    assert "Try a transformation of it" in str(far)
    assert "logarithm" not in str(far)


def test_with_more_parameters_than_rows_shapes_are_not_asked_for() -> None:
    x = np.random.default_rng(1).normal(size=(32, 11))
    x[16:] += 8.0 / np.sqrt(11.0)
    found = found_in(x, 2)
    assert not found.asked_shape
    assert {one.kind for one in found.asked} == {"far rows", "repeated value"}
    assert found_in(x[:, :2], 2).asked_shape


def test_advice_is_given_once() -> None:
    x = np.random.default_rng(2).normal(size=(100, 2)) + 6.0 * (np.arange(100) < 40)[:, np.newaxis]
    fit = fit_quick(sg.GaussianMixture(1), x, QUICK)
    advice = fit.diagnose()["goodness of fit"].advice
    assert advice.count("more components") == 1


def test_a_slight_misfit_of_many_rows_is_a_warning_that_says_so() -> None:
    x = np.random.default_rng(3).standard_t(12, size=40_000)
    fit = fit_quick(sg.GaussianMixture(1), x, QUICK)
    check = fit.diagnose()["goodness of fit"]
    found = fit.goodness_of_fit()
    assert found is not None
    assert check.verdict == "warn"
    assert check.value < 1e-6
    assert 0.0 < found.nats < GOODNESS_NATS_FAIL
    assert "slight misfit" in check.meaning
    assert found.n_rows == 10_000
    assert "used 10,000 rows" in check.meaning


@pytest.mark.parametrize(("n", "d", "k", "kind"), [(30, 8, 1, "full"), (60, 40, 2, "diag")])
def test_more_parameters_than_rows_are_no_misfit(n: int, d: int, k: int, kind: str) -> None:
    x = np.random.default_rng(9).normal(size=(n, d))
    x[: n // 2] += 5.0 * (k - 1)
    assert found_in(x, k, kind).verdict == "ok"


def test_too_few_rows_say_nothing() -> None:
    fit = fit_quick(sg.GaussianMixture(1), np.arange(9.0) ** 3, QUICK)
    assert fit.goodness_of_fit() is None
    assert "goodness of fit" not in {check.name for check in fit.diagnose()}
    with pytest.raises(sg.ModelError, match="10 rows"):
        fit.plot.pit()


def test_all_tests_are_in_the_table_adjusted_together() -> None:
    found = found_in(two_groups(200, np.random.default_rng(3)), 2, "spherical")
    table = found.to_dataframe()
    kinds = ["feature"] * 2 + ["correlation", "scale", "density", "far rows"]
    assert list(table["kind"]) == [*kinds, "repeated value", "repeated value"]
    assert found.p_value == table["p_value"].min()
    assert found.misfits == ()
    assert found.p_value >= GOODNESS_P_OK


def test_the_curve_is_the_distribution_function_of_the_transform() -> None:
    x = np.random.default_rng(7).normal(size=500)
    fit = fit_quick(sg.GaussianMixture(1), x, QUICK)
    levels = np.linspace(0.1, 0.9, 9)
    ((difference, half),) = transform_curves(fit, [0], levels)
    u = stats.norm(fit.means[0, 0], fit.scales[0, 0]).cdf(x)
    by_hand = (u[:, np.newaxis] < levels).mean(axis=0) - levels
    # At the maximum likelihood nothing is taken off, up to what its scores leave.
    np.testing.assert_allclose(difference, by_hand, atol=1e-3)
    assert (np.abs(difference) < half).all()
    # The band is narrower than that of a known distribution (Lilliefors 1967): 1.36 / sqrt(N).
    assert 0.7 < np.sqrt(500) * half.max() < 1.25


def test_the_report_does_not_say_that_all_is_well(tmp_path: Any) -> None:
    x = np.random.default_rng(1).lognormal(size=300)
    fit = fit_quick(sg.GaussianMixture(1), x, QUICK)
    page = fit.report(tmp_path / "fit.html", progress=False).read_text()
    assert "The mixture does not describe these data" in page
    assert "do not rely on it" in page
    assert "passed every check" not in page
    assert "One component was fitted to 300 rows" in page
    assert "Are the data distributed like the mixture?" in page


def test_scikit_learn_is_told_of_the_computation() -> None:
    x = np.random.default_rng(1).lognormal(size=(300, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = StanGaussianMixture(1, random_state=1).fit(x)
    assert caught == []
    assert estimator.converged_
    assert estimator.fit_.diagnose().verdict == "fail"


@pytest.mark.stan
@pytest.mark.parametrize("method", ["advi", "nuts", "optimize"])
def test_every_method_is_told_the_same(method: str) -> None:
    rng = np.random.default_rng(14)
    good, skewed = two_groups(200, rng), two_groups(200, rng, rng.gamma(1.5, size=(200, 2)))
    for x, verdict in ((good, {"ok"}), (skewed, {"warn", "fail"})):
        by_em = found_in(x, 2)
        fit = fit_quick(sg.GaussianMixture(2), x, method)
        found = goodness_of_fit(fit)
        assert found is not None
        assert {by_em.verdict, found.verdict} <= verdict
        assert abs(found.nats - by_em.nats) < 0.05


def test_a_component_that_no_simulated_row_shows_says_nothing_of_the_others() -> None:
    """As in a draw in which the component of one row far out holds none."""
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(size=(300, 2)), [[12.0, 12.0]]])
    means = np.array([[0.0, 0.0], [12.0, 12.0]])
    at = Mixture(np.array([1.0 - 1e-7, 1e-7]), means, np.array([[1.0, 1.0], [0.4, 1e-4]]))
    rows = Rows(x, np.ones(len(x)), np.full(len(x), -1))
    tests = SmoothTests(at, structure_named("diag"), rows, np.full(2, 1e-12), np.zeros(2, bool))
    (found,) = tests.moments()
    assert found.p > 0.01
    assert found.nats < 0.1
