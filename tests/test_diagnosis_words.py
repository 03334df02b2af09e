"""What checks say is right where K is right, weights are shares, or values are never seen."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fitting import fit_and_listen, fit_quick
from made_fits import known_mixture, made_fit, rows_of
from sklearn.datasets import load_wine

import stangmm as sg
from stangmm.judge.counting import parameters_words

SMALLEST = "rows in the smallest component"


# ---- many free parameters --------------------------------------------------------------------


def test_many_free_numbers_are_named_and_what_halves_them() -> None:
    """Wine, K = 3, full: three clusters, each with 104 free parameters and some 60 rows."""
    fit = fit_quick(sg.GaussianMixture(3), load_wine().data, sg.EM(restarts=5))
    check = fit.diagnose()[SMALLEST]
    assert check.verdict == "warn"
    assert "314 free parameters for 178 rows" in check.advice
    assert 'covariance_type="tied_correlation" has 158' in check.advice
    assert "fewer components" not in str(fit.diagnose())


@pytest.mark.parametrize(
    ("k", "d", "covariance_type", "words"),
    [
        (2, 6, "full", 'covariance_type="diag" has 25'),  # of 55; tied has 34
        (6, 2, "diag", 'covariance_type="tied_spherical" has 18'),  # of 29; tied_diag has 19
        (2, 8, "tied", 'covariance_type="tied_diag" has 25'),  # of 53; diag has 33
        (5, 3, "spherical", 'covariance_type="tied_spherical" has 20'),  # of 24
        (5, 3, "tied_spherical", "no covariance_type has fewer"),
    ],
)
def test_the_covariance_type_nearest_to_half_the_free_numbers_is_named(
    k: int, d: int, covariance_type: str, words: str
) -> None:
    x = rows_of(known_mixture(k, d, None, seed=2), 40 * k, seed=3)
    fit = fit_quick(sg.GaussianMixture(k, covariance_type), x, "em")
    assert words in parameters_words(fit)


def test_only_a_component_without_rows_is_one_too_many() -> None:
    x = np.random.default_rng(1).normal(50, 9, (40, 2))
    empty = made_fit("mcmc", known_mixture(3, 2, [0.6, 0.399, 0.001], 1), x, "ab")
    few = made_fit("mcmc", known_mixture(3, 2, [0.6, 0.35, 0.05], 1), x, "ab")
    assert "fewer components describe the data as well" in empty.diagnose()[SMALLEST].advice
    assert "17 free parameters for 40 rows" in few.diagnose()[SMALLEST].advice
    assert "fewer components" not in few.diagnose()[SMALLEST].advice


# ---- sample weights --------------------------------------------------------------------------


def two_blobs(n: int = 200, d: int = 2) -> np.ndarray:
    half = np.repeat([[0.0], [8.0]], n // 2, axis=0)
    return np.random.default_rng(7).normal(size=(n, d)) + half


def test_weights_that_are_shares_are_said_to_be_none_by_em() -> None:
    x = two_blobs()
    fit, said = fit_and_listen(sg.GaussianMixture(2), x, sg.EM(restarts=5))
    assert not said
    assert "sum of the sample weights" not in {check.name for check in fit.diagnose()}
    weight = np.full(200, 1 / 200)
    shares, said = fit_and_listen(sg.GaussianMixture(2), x, sg.EM(), sample_weight=weight)
    assert any("multiply them by the number of rows, 200" in each for each in said)
    check = shares.diagnose()["sum of the sample weights"]
    assert (check.verdict, round(check.value, 9)) == ("warn", 1.0)
    counts = fit_quick(sg.GaussianMixture(2), x, "em", sample_weight=np.full(200, 0.5))
    assert counts.diagnose()["sum of the sample weights"].verdict == "ok"


@pytest.mark.stan
def test_a_posterior_of_shares_is_the_prior_and_fails() -> None:
    weight = np.full(200, 1 / 200)
    fit, said = fit_and_listen(
        sg.GaussianMixture(2, "diag"), two_blobs(), sg.NUTS(chains=2), sample_weight=weight
    )
    assert any("the posterior is nearly the prior" in each for each in said)
    assert fit.diagnose()["sum of the sample weights"].verdict == "fail"


# ---- correlations that no row shows ----------------------------------------------------------


def never_together(rows_of_both: int = 0) -> np.ndarray:
    """Three features, of which the first two are seen together in so many rows only."""
    x = two_blobs(200, 3)
    x[::2, 0] = np.nan
    x[1::2, 1] = np.nan
    x[:rows_of_both, :2] = two_blobs(200, 3)[:rows_of_both, :2]
    return x


def test_features_that_are_never_seen_together_are_named() -> None:
    fit, said = fit_and_listen(
        sg.GaussianMixture(2), never_together(), sg.EM(), missing="marginalize"
    )
    (words,) = [each for each in said if "features seen together" in each]
    assert "x1 and x2. Their correlation within a component is arbitrary" in words
    check = fit.diagnose()["features seen together"]
    assert (check.value, check.verdict) == (1, "warn")


@pytest.mark.parametrize(("covariance_type", "rows"), [("diag", 0), ("full", 30), ("tied", 30)])
def test_nothing_is_said_where_there_are_no_correlations_or_rows_show_them(
    covariance_type: str, rows: int
) -> None:
    fit = fit_quick(
        sg.GaussianMixture(2, covariance_type),
        never_together(rows),
        "em",
        missing="marginalize",
    )
    assert "features seen together" not in {check.name for check in fit.diagnose()}


@pytest.mark.stan
def test_a_posterior_knows_such_correlations_from_the_prior() -> None:
    fit = fit_quick(sg.GaussianMixture(2), never_together(), "nuts", missing="marginalize")
    assert "comes from the prior" in fit.diagnose()["features seen together"].meaning
    table = fit.summary()
    # LKJ(2) of three features: correlations have sd 1 / sqrt(6), narrowed by the other two.
    assert table.loc["correlations[0, x1, x2]", "sd"] > 0.3
    assert table.loc["correlations[0, x1, x3]", "sd"] < 0.2


# ---- Python's warnings -----------------------------------------------------------------------


def test_what_can_change_a_conclusion_is_a_python_warning_and_what_cannot_is_none() -> None:
    rng = np.random.default_rng(0)  # left and right, or up and down: nearly the same
    corners = np.array([[-2.0, -2.1], [-2.0, 2.1], [2.0, -2.1], [2.0, 2.1]])
    x = (corners[:, np.newaxis] + rng.normal(0, 0.3, (5, 2))).reshape(-1, 2)
    with pytest.warns(sg.ConvergenceWarning, match="gap to the next optimum") as caught:
        sg.GaussianMixture(2, "diag").fit(x, "em", seed=1, progress=False)
    assert all("rows in the smallest" not in str(each.message) for each in caught)
    few = rows_of(known_mixture(2, 3, None, seed=1), 30, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = sg.GaussianMixture(2).fit(few, "em", seed=1, progress=False)
    assert fit.diagnose()[SMALLEST].verdict == "warn"
    assert fit.diagnose().serious == ()
