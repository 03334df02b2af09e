"""What notebooks show is small, safe, without scripts, and says what the objects say."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from html_pages import Page

import stangmm as sg
from stangmm.many.comparison import Comparison
from stangmm.report.notebook import (
    comparison_html,
    fit_html,
    model_html,
    models_html,
    selection_html,
)

EVIL = "<script>alert(1)</script> & \"quotes' </svg>"


def assert_safe(html: str) -> None:
    """One element, nothing that runs, nothing from outside, every style of its own."""
    shown = Page(html)
    assert shown.tags[0] == ("div", {"class": "stangmm"})
    for tag, attributes in shown.tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}, tag
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in {"src", "href", "xlink:href", "action"}:
                assert value is not None
                assert value.startswith(("#", "data:image/png;base64,"))
    (style,) = re.findall(r"<style>(.*?)</style>\s*", html.partition("<svg")[0], re.S)
    selectors = re.findall(r"([^{}]+)\{[^{}]*\}", style)
    assert selectors
    for selector in selectors:
        assert all(part.strip().startswith(".stangmm") for part in selector.split(","))
    assert "@import" not in html


def quick(X: Any, k: int = 2, **options: Any) -> sg.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        method = sg.EM(restarts=5)
        return sg.GaussianMixture(k).fit(X, method, seed=1, progress=False, **options)


def blobs(n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(n + d)
    return np.where(rng.random((n, 1)) < 0.4, -4.0, 4.0) + rng.normal(size=(n, d))


def test_a_fit_shows_its_picture_components_and_verdict(fits_galaxies: Any) -> None:
    fit = fits_galaxies["em"]
    html = fit_html(fit)
    assert_safe(html)
    shown = Page(html)
    assert "Three components fitted by EM" in shown.words
    assert "82 rows, 1 feature" in shown.words
    for weight in fit.weights:
        assert f"{weight:.3f}" in shown.cells
    (picture,) = (a for tag, a in shown.tags if tag == "svg")
    assert picture["role"] == "img"
    assert "Histogram of velocity_1000km_s" in str(picture["aria-label"])
    assert len(html) < 60_000
    verdict = {"ok": "passed every check", "warn": "use with care", "fail": "do not rely on it"}
    assert verdict[fit.diagnose().verdict] in shown.words


def test_open_checks_are_said_and_passed_ones_are_not() -> None:
    fit = quick(blobs(60, 2), k=5)
    diagnosis = fit.diagnose()
    words = Page(fit_html(fit)).words
    assert diagnosis.verdict != "ok"
    for check in diagnosis:
        assert (check.meaning in words) == (check.verdict != "ok")


def test_an_output_is_the_same_each_time_and_its_ids_are_its_own(fits_galaxies: Any) -> None:
    html = fit_html(fits_galaxies["em"])
    assert fit_html(fits_galaxies["em"]) == html
    other = fit_html(quick(sg.datasets.galaxies()))
    ids = [{a["id"] for _, a in Page(h).tags if "id" in a} for h in (html, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_feature_may_have_any_name(d: int) -> None:
    names = [EVIL, *(f"{EVIL}{j}" for j in range(1, d))]
    fit = quick(pd.DataFrame(blobs(80, d), columns=names))
    html = fit_html(fit)
    assert_safe(html)
    assert EVIL in Page(html).words
    comparison = Comparison(fit.model, fit.dataset, {"em": fit}, {EVIL: f"{EVIL} failed"}, 1)
    html = comparison_html(comparison)
    assert_safe(html)
    assert f"{EVIL} failed" in Page(html).words


def test_many_features_and_components_stay_compact() -> None:
    html = fit_html(quick(blobs(300, 9), k=2))
    assert_safe(html)
    words = Page(html).words
    assert "The first 4 of 9 features" in words
    assert "x4" in Page(html).cells
    assert "x5" not in Page(html).cells
    assert len(html) < 250_000


def test_a_model_shows_its_priors() -> None:
    html = model_html(sg.GaussianMixture(3, "diag"))
    assert_safe(html)
    words = Page(html).words
    assert "Gaussian mixture of three components" in words
    assert "covariances diag" in words
    assert words.count("default, scaled by the data") == 4
    given = sg.GaussianMixture(2, priors=sg.Priors(weights=sg.Dirichlet(5.0)))
    words = Page(model_html(given)).words
    assert repr(given.priors.weights) in words
    assert words.count("default, scaled by the data") == 3


def test_a_comparison_shows_its_table(fits_galaxies: Any) -> None:
    fit = fits_galaxies["em"]
    failures = {"stan_laplace": "needs <CmdStan> 2.32"}
    comparison = Comparison(fit.model, fit.dataset, {"em": fit}, failures, 1)
    html = comparison_html(comparison)
    assert_safe(html)
    shown = Page(html)
    assert f"{fit.total_log_likelihood.item():.2f}".replace("-", "−") in shown.cells
    assert "needs <CmdStan> 2.32" in shown.words
    assert "One method did not run (stan_laplace)." in shown.words
    rows = [a.get("class") for tag, a in shown.tags if tag == "tr"]
    assert rows == [None, None, None]  # none is the reference


@pytest.mark.stan
def test_intervals_and_the_reference_are_shown(fits_galaxies: Any) -> None:
    fit = fits_galaxies["nuts"]
    html = fit_html(fit)
    assert_safe(html)
    assert len(html) < 100_000
    low, high = fit.summary().loc["weights[0]", ["q5", "q95"]]
    assert f"{low:.3f} to {high:.3f}" in Page(html).words
    fits = {name: fits_galaxies[name] for name in ("em", "nuts")}
    shown = Page(comparison_html(Comparison(fit.model, fit.dataset, fits, {}, 1)))
    rows = [a.get("class") for tag, a in shown.tags if tag == "tr"]
    assert rows == [None, None, "chosen"]


def test_a_selection_shows_its_choice_and_its_failures() -> None:
    X = blobs(60, 1)
    X[:] = np.round(X)  # 12 values: so many components cannot be fitted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        selection = sg.select_components(
            X, [1, 2, 40], method=sg.EM(restarts=5), seed=1, progress=False
        )
    assert list(selection.failures) == [40]
    html = selection_html(selection)
    assert_safe(html)
    shown = Page(html)
    assert "Two components by bic (lower is better)" in shown.words
    assert selection.why in shown.words
    assert f"{selection.fits[2].bic():,.2f}" in shown.cells
    chosen = [a for tag, a in shown.tags if tag == "tr"].index({"class": "chosen"})
    assert chosen == 2  # after the header and K = 1


def test_a_selection_over_types_names_the_type() -> None:
    selection = sg.select_components(
        blobs(60, 1), [1, 2], covariance_type=["full", "tied"], method=sg.EM(restarts=5),
        seed=1, progress=False,
    )  # fmt: skip
    html = selection_html(selection)
    assert_safe(html)
    shown = Page(html)
    assert f"Two components ({selection.covariance_type}) by bic (lower is better)" in shown.words
    chosen = [a for tag, a in shown.tags if tag == "tr"].index({"class": "chosen"})
    assert list(selection.table.index)[chosen - 1] == selection.chosen


def test_compared_models_show_the_best_first() -> None:
    models = {"<one>": sg.GaussianMixture(1), "two": sg.GaussianMixture(2)}
    comparison = sg.compare(models, blobs(60, 1), methods=["em"], seed=1, progress=False)
    html = models_html(comparison)
    assert_safe(html)
    shown = Page(html)
    assert f"{comparison.fits['two'].bic():,.1f}" in shown.cells
    assert [a.get("class") for tag, a in shown.tags if tag == "tr"] == [None, "chosen", None]
    assert comparison.table.index[0] == "two"


def test_colours_are_the_notebooks_own(fits_galaxies: Any) -> None:
    """No fixed black or white text that a dark notebook would swallow, but for the badges."""
    html = fit_html(fits_galaxies["em"])
    style = html.partition("</style>")[0]
    assert "--ink: currentColor" in style
    assert re.findall(r"(?<![-\w])color: ([^;}]+)", style.replace("color: inherit", "")) == [
        "var(--muted)",
        "#fff",
    ]


@pytest.mark.stan
def test_a_printed_summary_leaves_out_no_column(fits_faithful: Any) -> None:
    table = fits_faithful["nuts"].summary()
    printed = str(table).splitlines()
    assert printed[0].split() == list(table.columns)
    (row,) = [line for line in printed if line.startswith("means[1, waiting_min]")]
    mean, _, low, high = (float(number) for number in row.split()[2:6])
    assert low < mean < high
    assert mean == pytest.approx(table.loc["means[1, waiting_min]", "mean"], abs=1e-4)
    assert type(table[["mean"]]) is pd.DataFrame


def test_a_fit_says_when_it_shows_some_features_only() -> None:
    assert "features" not in repr(quick(blobs(60, 4)))
    assert repr(quick(blobs(60, 6))).endswith("(the first 4 of 6 features; summary() has all)")


@pytest.mark.parametrize("method", ["em", "nuts"])
def test_what_a_fit_holds_prints_in_a_few_lines(fits_galaxies: Any, method: str) -> None:
    fit = fits_galaxies[method]
    for held in (fit, fit.dataset, fit.mixture, fit.info):
        assert len(repr(held)) < 800, repr(held)
    n = len(fit.dataset.x)
    assert f"x=<array of shape ({n}, 1)>" in repr(fit.dataset)
    assert "noise" not in repr(fit.mixture)  # there is none
    if method == "em":
        assert f"{fit.mixture.weights[0, 0]:.3f}" in repr(fit.mixture)
