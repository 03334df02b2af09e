"""Reports are whole, safe and self-contained, and say what the fits say."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from html_pages import Page

import stangmm as sg
from stangmm.judge.leave_one_out import bad_rows, psis_loo
from stangmm.judge.prior_posterior import prior_posterior
from stangmm.many.comparison import Comparison
from stangmm.posterior.fitted import has_priors
from stangmm.report import comparison_report, fit_report
from stangmm.report.numbers import count, number, percent
from stangmm.report.pictures import further_pictures
from stangmm.report.tables import as_call

PLAIN_SVG = {"path", "use", "image", "rect", "clipPath", "defs", "g"}


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def fit_em(X: Any, k: int = 2, **options: Any) -> sg.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return sg.GaussianMixture(k).fit(X, method="em", seed=1, progress=False, **options)


def blobs(n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(n + d)
    return np.where(rng.random((n, 1)) < 0.4, -4.0, 4.0) + rng.normal(size=(n, d))


@pytest.fixture(scope="module")
def em_page(fits_galaxies: Any, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(fit_report(fits_galaxies["em"], tmp_path_factory.mktemp("em") / "r.html"))


@pytest.fixture(scope="module")
def comparison(fits_galaxies: Any) -> Comparison:
    fits = {name: fits_galaxies[name] for name in ("em", "optimize", "advi", "nuts")}
    failures = {"stan_laplace": "needs <CmdStan> 2.32"}
    return Comparison(fits_galaxies.model, fits["em"].dataset, fits, failures, 1)


@pytest.fixture(scope="module")
def comparison_page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(comparison_report(comparison, tmp_path_factory.mktemp("cmp") / "r.html"))


def assert_self_contained(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}, tag
        for key, value in attributes.items():
            if key in {"src", "href", "xlink:href", "action", "srcset"}:
                assert value is not None
                assert value.startswith(("#", "data:image/png;base64,")), (tag, value[:80])
            assert not key.startswith("on")
            assert "url(" not in (value or "") or "url(#" in (value or "")
    assert "@import" not in " ".join(page.styles)


def assert_accessible(page: Page, pictures: int) -> None:
    drawn = page.all("svg")
    assert len(drawn) == pictures
    labels = [svg["aria-label"] for svg in drawn]
    assert all(svg["role"] == "img" for svg in drawn)
    assert all(label and len(label) > 20 for label in labels)
    assert len(page.all("figcaption")) == pictures
    assert all("scope" in header for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert {"main", "header", "footer", "nav"} <= {tag for tag, _ in page.tags}
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids)), "an id stands twice"
    for _, attributes in page.tags:  # links and parts of pictures lead somewhere
        for key in ("href", "xlink:href"):
            target = attributes.get(key) or ""
            if target.startswith("#"):
                assert target[1:] in ids
    (viewport,) = [m for m in page.all("meta") if m.get("name") == "viewport"]
    assert viewport["content"] == "width=device-width, initial-scale=1"


def test_report_of_em_is_whole(em_page: Page, fits_galaxies: Any) -> None:
    assert_self_contained(em_page)
    # the mixture, components and restarts, predictive check
    fit = fits_galaxies["em"]
    assert_accessible(em_page, 4 + shown_only_where_they_tell(fit, em_page))
    words = em_page.words
    assert "Three components fitted by EM" in words
    assert "holds 88% of the data" in words
    for check in fit.diagnose():
        assert check.name in words
        assert check.meaning in words
    for value in fit.versions.values():
        assert value in words


def leave_one_out_is_shown(fit: sg.Fit) -> bool:
    """There is a picture of it where it cannot be trusted for a row, which may be by chance."""
    return fit.kind != "point" and len(bad_rows(fit, psis_loo(fit))) > 0


def shown_only_where_they_tell(fit: sg.Fit, page: Page) -> int:
    """Pictures of a fit that are left out where they show nothing, and words in their place."""
    misfit = fit.goodness_of_fit().verdict != "ok"
    undecided = bool((fit.predict_proba(fit.dataset.x).max(axis=1) < 0.9).any())
    close = fit.kind != "point" and prior_posterior(fit).narrower < 5.0
    priors = has_priors(fit) and (close or fit.kind == "point" or not passed(fit))
    for shown, title, instead in (
        (misfit, "Are the data distributed like the mixture?", "finds no misfit"),
        (undecided, "Every row is a thin vertical bar", "is undecided: each has"),
        (priors, "Prior and posterior", "The data decide" if has_priors(fit) else "None: only"),
    ):
        assert (title in page.words) == shown, title
        assert (instead in page.words) != shown, instead
    return sum((misfit, undecided, priors, leave_one_out_is_shown(fit)))


def passed(fit: sg.Fit) -> bool:
    return fit.diagnose().computation.verdict == "ok"


@pytest.mark.stan
@pytest.mark.parametrize(("method", "pictures"), [("optimize", 4), ("advi", 4), ("nuts", 4)])
def test_report_of_every_method_is_whole(
    fits_faithful: Any, tmp_path: Path, method: str, pictures: int
) -> None:
    fit = fits_faithful[method]
    path = fit_report(fit, tmp_path / "r.html")
    page = page_of(path)
    assert_self_contained(page)
    assert_accessible(page, pictures + shown_only_where_they_tell(fit, page))
    assert path.stat().st_size < 2_000_000
    verdict = {"ok": "passed every check", "warn": "use with care", "fail": "do not rely on it"}
    assert verdict[fit.diagnose().verdict] in page.words


@pytest.mark.stan
def test_report_gives_the_intervals_of_the_summary(fits_galaxies: Any, tmp_path: Path) -> None:
    fit = fits_galaxies["nuts"]
    words = page_of(fit_report(fit, tmp_path / "r.html")).words
    for name in ("weights[0]", "weights[1]", "weights[2]"):
        low, high = fit.summary().loc[name, ["q5", "q95"]]
        assert f"{low:.3f} to {high:.3f}" in words


def two_close_groups() -> np.ndarray:
    rng = np.random.default_rng(8)
    return np.where(rng.random((150, 1)) < 0.4, -1.4, 1.4) + rng.normal(size=(150, 2)) * [1, 2]


def undecided_table(page: Page) -> list[list[str]]:
    """Cells of the table of undecided rows, each row flattened."""
    words = page.words.partition("Second most probable")[2].partition(" Checks ")[0]
    return [re.split(r":? ", row) for row in re.findall(ROW, words)]


ROW = r"\d+ [−\d.]+ [−\d.]+ \d: [\d.]+ \d: [\d.]+"


def test_the_most_undecided_rows_are_those_of_predict_proba(tmp_path: Path) -> None:
    X = two_close_groups()
    fit = fit_em(X)
    page = page_of(fit_report(fit, tmp_path / "r.html"))
    probability = fit.predict_proba(X)
    certainty = probability.max(axis=1)
    below = int((certainty < 0.9).sum())
    assert below > 10
    assert f"{below} of 150 rows" in page.words
    listed = undecided_table(page)
    assert [int(cells[0]) for cells in listed] == list(np.argsort(certainty)[:10])
    for row, x, y, first, p_first, second, p_second in listed:
        n = int(row)
        np.testing.assert_allclose([float(v.replace("−", "-")) for v in (x, y)], X[n], atol=0.006)
        assert float(p_first) == pytest.approx(probability[n, int(first)], abs=0.006)
        assert float(p_second) == pytest.approx(probability[n, int(second)], abs=0.006)
        assert int(first) == probability[n].argmax()


def test_rows_that_do_not_count_or_are_known_are_never_undecided(tmp_path: Path) -> None:
    X = two_close_groups()
    undecided = np.argsort(fit_em(X).predict_proba(X).max(axis=1))[:40]
    weight, labels = np.ones(150), np.full(150, -1)
    weight[undecided[::2]] = 0.0
    labels[undecided[1::2]] = (X[undecided[1::2], 0] > 0).astype(int)
    fit = fit_em(X, sample_weight=weight, labels=labels)
    page = page_of(fit_report(fit, tmp_path / "r.html"))
    assert "of 110 rows" in page.words
    assert not {int(cells[0]) for cells in undecided_table(page)} & set(undecided.tolist())


def test_rows_that_are_all_decided_need_no_table(tmp_path: Path) -> None:
    page = page_of(fit_report(fit_em(blobs(60, 1)), tmp_path / "r.html"))
    assert "None of 60 rows is undecided" in page.words
    assert "Second most probable" not in page.words


def test_one_component_has_no_undecided_rows(tmp_path: Path) -> None:
    page = page_of(fit_report(fit_em(blobs(60, 2), k=1), tmp_path / "r.html"))
    assert_self_contained(page)
    assert "undecided" not in page.words
    assert not [a for a in page.all("a") if a.get("href") == "#rows"]


@pytest.mark.stan
def test_report_gives_leave_one_out_or_says_why_not(
    fits_galaxies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = fits_galaxies["nuts"]
    words = page_of(fit_report(fit, tmp_path / "r.html")).words
    with warnings.catch_warnings():  # chance may bring a row's k above 0.7
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        elpd = fit.loo()
    assert f"{elpd.elpd:.1f} ± {elpd.se:.1f}".replace("-", "−") in words
    monkeypatch.setattr("stangmm.judge.leave_one_out.LARGEST_LOO", 0)
    monkeypatch.setattr("stangmm.judge.leave_one_out.SUBSAMPLE", 40)
    page = page_of(fit_report(fit, tmp_path / "r.html"))
    assert f"Leave-one-out visited {psis_loo(fit).n_visited} of 82 rows" in page.words
    assert len(page.all("svg")) == 4 + shown_only_where_they_tell(fit, page)
    point = page_of(fit_report(fits_galaxies["em"], tmp_path / "r.html"))
    assert "Leave-one-out needs draws" in point.words


@pytest.mark.stan
def test_report_of_a_loaded_fit_is_the_same_and_needs_no_cmdstan(
    fits_galaxies: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fit = fits_galaxies["nuts"]
    again = sg.load(fit.save(tmp_path / "fit.nc"))
    fit_report(fit, tmp_path / "a.html")
    request.getfixturevalue("no_cmdstan")
    fit_report(again, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.stan
def test_report_goes_from_the_answer_to_the_call(fits_galaxies: Any, tmp_path: Path) -> None:
    page = page_of(fit_report(fits_galaxies["nuts"], tmp_path / "r.html"))
    sections = [a["aria-labelledby"] for a in page.all("section") if "aria-labelledby" in a]
    order = ["mixture", "components", "rows", "checks", "run", "predictive", "priors", "again"]
    assert sections == order
    links = [a["href"] for a in page.all("a") if (a.get("href") or "").startswith("#")]
    assert links[1:] == [f"#{name}" for name in order]


@pytest.mark.stan
def test_what_helps_to_find_a_fault_is_shown_only_if_there_is_one(
    fits_galaxies: Any, tmp_path: Path
) -> None:
    good = fits_galaxies["nuts"]
    bad = good.select_chains([0])  # one chain: convergence cannot be judged
    for fit, is_shown in ((good, False), (bad, True)):
        assert (fit.diagnose().computation.verdict != "ok") == is_shown
        words = page_of(fit_report(fit, tmp_path / "r.html")).words
        assert ("Pairs of parameters" in words) == is_shown


@pytest.mark.stan
@pytest.mark.parametrize(
    ("failed", "shown"),
    [
        ({"R-hat", "modes"}, []),  # the traces show it
        ({"labelling"}, []),
        ({"tail ESS"}, ["Pairs of parameters", "The ranks"]),
        ({"E-BFMI"}, ["The energy", "Pairs of parameters"]),
        ({"divergences", "modes"}, ["Pairs of parameters"]),
    ],
)
def test_pictures_of_the_chains_are_those_of_the_checks_that_failed(
    fits_galaxies: Any, failed: set[str], shown: list[str]
) -> None:
    pictures = further_pictures(fits_galaxies["nuts"], failed)
    assert [picture.title for picture in pictures] == shown


def test_the_answer_says_where_each_component_lies(tmp_path: Path) -> None:
    x = pd.DataFrame(blobs(300, 5), columns=["a", "b (kg)", "c", "d", "same"])
    x["same"] = np.random.default_rng(1).normal(size=300)
    page = page_of(fit_report(fit_em(x), tmp_path / "r.html"))
    answer = page.words.partition("Each component has")[2].partition("The mixture")[0]
    lines = re.findall(r"Component (\d) , (\d+)%: (.*?)(?= Component| 100%| Every)", answer)
    assert [(k, int(share) > 50) for k, share, _ in lines] == [("1", True), ("0", False)]
    for (_, _, means), sign in zip(lines, ("", "−"), strict=True):
        assert "same" not in means
        assert len(re.findall(rf"[a-d](?: \(kg\))? {sign}[34]\.\d", means)) == 3


@pytest.mark.stan
def test_report_of_a_comparison_is_whole(comparison_page: Page, comparison: Comparison) -> None:
    assert_self_contained(comparison_page)
    # densities, estimates, time; EM's density, components, restarts; optimize's restarts; ELBO,
    # variational density; chains, NUTS density
    assert_accessible(comparison_page, pictures=11)
    words = comparison_page.words
    for title in (
        "The data with the mixture density",
        "The components, by EM",
        "The evidence lower bound",
        "The variational density",
        "The chains",
        "The density with its uncertainty band",
    ):
        assert title in words
    assert "needs <CmdStan> 2.32" in words
    assert "Use nuts" in words or "nuts is the reference, but" in words
    row = comparison.table.loc["nuts"]
    assert f"{row['r_hat']:.3f}" in words
    assert f"{row['ess_bulk']:,.0f}" in words


@pytest.mark.stan
def test_size_of_a_comparison_is_bounded(fits_faithful: Any, tmp_path: Path) -> None:
    fits = dict(fits_faithful)
    both = Comparison(fits_faithful.model, fits["em"].dataset, fits, {}, 1)
    assert comparison_report(both, tmp_path / "r.html").stat().st_size < 4_000_000


def test_a_comparison_in_which_all_failed_says_why(fits_galaxies: Any, tmp_path: Path) -> None:
    empty = Comparison(
        fits_galaxies.model, fits_galaxies["em"].dataset, {}, {"nuts": "no CmdStan"}, 1
    )
    page = page_of(comparison_report(empty, tmp_path / "r.html"))
    assert "nothing to compare" in page.words
    assert "no CmdStan" in page.words
    assert not page.all("svg")


def test_a_comparison_without_chains_has_no_reference(fits_galaxies: Any, tmp_path: Path) -> None:
    only = Comparison(
        fits_galaxies.model, fits_galaxies["em"].dataset, {"em": fits_galaxies["em"]}, {}, 1
    )
    page = page_of(comparison_report(only, tmp_path / "r.html"))
    assert "No method here draws from the posterior" in page.words


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "a$b$&c"]
)
@pytest.mark.parametrize("d", [1, 2])
def test_a_hostile_feature_name_is_only_a_name(tmp_path: Path, name: str, d: int) -> None:
    names = [name, "other"][:d]
    fit = fit_em(pd.DataFrame(blobs(60, d), columns=names))
    page = page_of(fit_report(fit, tmp_path / "r.html"))
    assert_self_contained(page)
    assert not page.all("img")
    assert " ".join(name.split()) in page.words


def test_a_large_report_stays_small(tmp_path: Path) -> None:
    path = fit_report(fit_em(blobs(100_000, 2)), tmp_path / "r.html")
    assert path.stat().st_size < 1_500_000
    assert "5,000 of 100,000 rows, at random" in page_of(path).words


def test_weights_are_mentioned(tmp_path: Path) -> None:
    fit = fit_em(blobs(80, 1), sample_weight=np.full(80, 2.0))
    words = page_of(fit_report(fit, tmp_path / "r.html")).words
    assert "total weight 160" in words
    assert "sample_weight=sample_weight" in words


def test_a_missing_folder_is_an_error_that_says_what_to_do(
    fits_galaxies: Any, tmp_path: Path
) -> None:
    with pytest.raises(sg.ModelError, match="does not exist"):
        fit_report(fits_galaxies["em"], tmp_path / "nowhere" / "r.html")
    with pytest.raises(sg.ModelError, match="is a folder"):
        fit_report(fits_galaxies["em"], tmp_path)


def test_a_failed_report_leaves_the_old_one_and_nothing_else(
    fits_galaxies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "r.html"
    target.write_text("the old one")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            fit_report(fits_galaxies["em"], target)
    assert target.read_text() == "the old one"
    assert os.listdir(tmp_path) == ["r.html"]
    assert fit_report(fits_galaxies["em"], str(target)) == target
    assert target.read_text().startswith("<!DOCTYPE html>")


def test_the_call_makes_the_same_model_and_method() -> None:
    model = sg.GaussianMixture(
        3,
        "tied",
        sg.Priors(weights=sg.Dirichlet([1.0, 2.0, 3.0]), scales=sg.InverseGamma(2.0, 3.0)),
    )
    methods = [sg.NUTS(chains=2, adapt_delta=0.95), sg.EM(), sg.ADVI(algorithm="fullrank")]
    for value in (model, *methods):
        again = eval(as_call(value), {"sg": sg})  # noqa: S307 (what is tested is that it runs)
        assert repr(again) == repr(value)
    assert as_call(sg.NUTS(chains=2)) == "sg.NUTS(chains=2)"


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (21.3444, 2.17, "21.34"),
        (0.0, 0.0, "0"),
        (-3.14159, 0.0, "−3.14"),
        (1e8 + 0.0123, 1e-3, "100,000,000.01230"),
        (3.217e-12, 1e-13, "3.217e−12"),
        (-4.5e12, 1e10, "−4.5e+12"),
        (float("nan"), 1.0, "–"),
        (float("inf"), 1.0, "∞"),
    ],
)
def test_numbers_have_the_digits_that_their_scale_asks_for(
    value: float, scale: float, text: str
) -> None:
    assert number(value, scale) == text


def test_counts_and_shares_in_words() -> None:
    assert [count(1, "way"), count(4, "way"), count(20, "way")] == [
        "one way",
        "four ways",
        "20 ways",
    ]
    assert [percent(p) for p in (0.045, 0.5, 0.9963, 1.0)] == ["4.5%", "50%", "99.6%", "100%"]


def test_text_in_pictures_follows_the_page(em_page: Page) -> None:
    used = " ".join(a.get("style") or "" for _, a in em_page.tags)
    for variable in ("--ink", "--muted", "--bars"):
        assert f"var({variable})" in used
    assert not re.search(r"#1b2026|#68707a", used)
