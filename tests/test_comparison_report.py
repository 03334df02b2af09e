"""The report of a comparison marks, draws and advises only what its fits bear out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fitting import fit_quick
from matplotlib.axes import Axes
from pictures import printed
from test_report import Page, assert_accessible, assert_self_contained, page_of

import stangmm as sg
from stangmm import plots
from stangmm.judge.diagnostics import Check, Diagnosis
from stangmm.many.comparison import COLUMNS as TABLE_COLUMNS
from stangmm.many.comparison import Comparison
from stangmm.methods.draws import RestartInfo
from stangmm.plots.comparisons import looks_of
from stangmm.report.comparison_tables import COLUMNS, best_values, shown_columns
from stangmm.report.tables import comparison_call
from stangmm.report.words import comparison_answer, leading_method

KINDS = {"em": "point", "optimize": "point", "advi": "approximation", "nuts": "mcmc"}
BY_NAME = {column.name: column for column in COLUMNS}
OPEN_CHECK = Check("R-hat", 1.3, "< 1.01", "fail", "The chains differ.", "Run longer.")


def comparison_of(rows: dict[str, dict[str, Any]], seconds: float = 5.0) -> Any:
    """A comparison with a table as given, by methods that need not run."""
    fits = {}
    for label, row in rows.items():
        method = label.split()[0]
        row.setdefault("kind", KINDS[method])
        row.setdefault("status", "ok")
        row.setdefault("seconds", seconds)
        objective = {"em": "log likelihood", "optimize": "log joint"}.get(method)
        checks = () if row["status"] == "ok" else (OPEN_CHECK,)
        info = RestartInfo(objective, (), *[np.empty(0)] * 3) if objective else None  # type: ignore[arg-type]
        fits[label] = SimpleNamespace(
            kind=row["kind"],
            seconds=row["seconds"],
            info=info,
            kept={
                "stangmm.judge.diagnostics.diagnose": Diagnosis(checks),
                "stangmm.judge.goodness.goodness_of_fit": None,
            },
        )
    made = Comparison(None, None, fits, {}, 1)  # type: ignore[arg-type]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(TABLE_COLUMNS))
    made.__dict__["table"] = table.rename_axis("method")
    return made


def best(comparison: Any, name: str) -> set[str]:
    return best_values(comparison, BY_NAME[name])


def quick(X: Any, k: int = 2, **options: Any) -> sg.Fit:
    return fit_quick(sg.GaussianMixture(k), X, sg.EM(restarts=5), **options)


def blobs(n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(n + d)
    return np.where(rng.random((n, 1)) < 0.4, -4.0, 4.0) + rng.normal(size=(n, d))


def em_twice(X: Any, **options: Any) -> Comparison:
    model = sg.GaussianMixture(2)
    methods = [sg.EM(restarts=5), sg.EM(restarts=3)]
    return sg.compare(model, X, methods, seed=1, progress=False, **options)


# ---- which values are the best ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("seconds", {"em": 0.1, "em 2": 0.2, "nuts": 9.0}, {"em"}),
        ("ess_bulk", {"nuts": 400.0, "nuts 2": 900.0}, {"nuts 2"}),
        ("ess_per_second", {"nuts": 40.0, "nuts 2": 20.0}, {"nuts"}),
        ("distance", {"nuts": np.nan, "em": 0.4, "advi": 0.1}, {"advi"}),
        ("agreement", {"nuts": np.nan, "em": 0.95, "advi": 0.99}, {"advi"}),
        # Half as wide is as wrong as twice as wide; 1.5 times is nearer than half.
        ("sd_ratio", {"nuts": np.nan, "advi": 0.5, "nuts 2": 1.5}, {"nuts 2"}),
        ("r_hat", {"nuts": 1.03, "nuts 2": 1.004}, {"nuts 2"}),
        ("r_hat", {"nuts": 1.003, "nuts 2": 1.001}, set()),
    ],
)
def test_the_best_of_a_column_is_what_the_column_means(
    name: str, values: dict[str, float], expected: set[str]
) -> None:
    made = comparison_of({label: {name: value} for label, value in values.items()})
    assert best(made, name) == expected


def test_a_method_that_failed_its_checks_is_never_the_best() -> None:
    made = comparison_of({
        "em": {"seconds": 0.01, "status": "fail"},
        "optimize": {"seconds": 0.2},
        "nuts": {"seconds": 3.0},
    })  # fmt: skip
    assert best(made, "seconds") == {"optimize"}


def test_nothing_is_nearest_to_a_reference_that_failed() -> None:
    rows = {"nuts": {"status": "fail"}, "em": {"distance": 0.9}, "em 2": {"distance": 0.1}}
    assert best(comparison_of(rows), "distance") == set()
    rows["nuts"]["status"] = "warn"
    assert best(comparison_of(rows), "distance") == {"em 2"}


def test_log_likelihoods_are_compared_among_maxima_of_it_only() -> None:
    values = {"em": -10.0, "em 2": -11.0, "optimize": -9.0, "nuts": -8.0}
    made = comparison_of({label: {"log_likelihood": value} for label, value in values.items()})
    assert best(made, "log_likelihood") == {"em"}


@pytest.mark.parametrize(("lead", "expected"), [(4.0, set()), (6.0, {"nuts"})])
def test_an_elpd_is_the_best_only_beyond_a_standard_error(lead: float, expected: set[str]) -> None:
    made = comparison_of({
        "advi": {"elpd_loo": -100.0 - lead, "elpd_loo_se": 5.0},
        "nuts": {"elpd_loo": -100.0, "elpd_loo_se": 3.0},
    })  # fmt: skip
    assert best(made, "elpd_loo") == expected


def test_values_that_read_the_same_are_equally_good() -> None:
    made = comparison_of({"em": {"distance": 0.101}, "em 2": {"distance": 0.102}, "nuts": {}})
    assert best(made, "distance") == set()
    made = comparison_of({
        "em": {"distance": 0.101}, "em 2": {"distance": 0.102}, "advi": {"distance": 3.0},
        "nuts": {},
    })  # fmt: skip
    assert best(made, "distance") == {"em", "em 2"}


def test_the_only_value_of_a_column_is_not_the_best_of_it() -> None:
    made = comparison_of({"em": {}, "nuts": {"ess_bulk": 900.0}})
    assert best(made, "ess_bulk") == set()


def test_the_mark_is_more_than_a_colour_and_can_be_heard(tmp_path: Path) -> None:
    comparison = em_twice(blobs(80, 2))
    rows = comparison.table
    rows.loc["em", "seconds"], rows.loc["em 2", "seconds"] = 1.0, 2.0
    html = comparison.report(tmp_path / "r.html", progress=False).read_text()
    assert html.count("(best)") == 1
    assert '<strong><span aria-hidden="true">★</span> 1.00</strong>' in html


def test_columns_without_any_value_are_left_out() -> None:
    names = [column.name for column in shown_columns(em_twice(blobs(80, 2)))]
    assert names == ["seconds", "log_likelihood"]


# ---- which to use and why -----------------------------------------------------------------------


def said(comparison: Any) -> str:
    return " ".join(comparison_answer(comparison))


def test_nothing_is_recommended_by_a_reference_that_failed() -> None:
    rows = {
        "em": {"agreement": 1.0, "distance": 4.0, "seconds": 0.1},
        "advi": {"agreement": 1.0, "distance": 0.1, "sd_ratio": 0.2, "seconds": 1.0},
        "nuts": {"status": "fail", "seconds": 9.0},
    }
    words = said(comparison_of(rows))
    assert "nuts is the reference, but it failed its checks (R-hat)" in words
    assert "Run longer." in words
    for claim in ("Use nuts", "does as well", "too narrow", "posterior means"):
        assert claim not in words
    assert "For a first look, em passed its own checks" in words


def test_another_sampler_that_passed_is_to_be_the_reference() -> None:
    words = said(comparison_of({"nuts": {"status": "fail"}, "nuts 2": {}}))
    assert "nuts 2 passed every check: list it before nuts" in words


def test_a_reference_that_passed_is_recommended_with_its_time() -> None:
    words = said(comparison_of({"em": {"agreement": 0.5}, "nuts": {"seconds": 1234.0}}))
    assert words.startswith("Use nuts: it draws from the posterior itself, passed every check")
    assert "took 1,234 s" in words
    assert "does as well" not in words


@pytest.mark.parametrize(("seconds", "recommended"), [(0.1, True), (7.0, False)])
def test_for_clusters_alone_only_a_quicker_method_is_recommended(
    seconds: float, recommended: bool
) -> None:
    rows = {"em": {"agreement": 0.995, "seconds": seconds}, "nuts": {"seconds": 5.0}}
    assert ("em does as well: it puts 99.5%" in said(comparison_of(rows))) is recommended


def test_wrong_widths_and_means_are_said_in_both_directions() -> None:
    rows = {"em": {"distance": 2.5}, "advi": {"sd_ratio": 0.3}, "nuts": {}, "nuts 2": {}}
    rows["nuts 2"]["sd_ratio"] = 4.0
    words = said(comparison_of(rows))
    assert "em by up to 2.50." in words
    assert "by advi are too narrow: one of its posterior standard deviations is 30%" in words
    assert "by nuts 2 are too wide: one of its posterior standard deviations is 4.00" in words


def test_without_a_reference_the_quickest_method_that_passed_is_for_a_first_look() -> None:
    rows = {"advi": {"seconds": 3.0}, "em": {"seconds": 1.0}, "optimize": {"status": "fail"}}
    made = comparison_of(rows)
    assert "For a first look, em passed its own checks" in said(made)
    assert "Add nuts" in said(made)
    assert leading_method(made) == ("advi", "ok")
    for row in rows.values():
        row["status"] = "fail"
    assert "For a first look" not in said(comparison_of(rows))


# ---- pictures -----------------------------------------------------------------------------------


def marker_of(ax: Axes, label: str) -> Any:
    (found,) = [line for line in ax.lines if str(line.get_label()).startswith(label)]
    return found


def test_time_is_drawn_against_distance_and_the_reference_at_its_error() -> None:
    rows = {
        "em": {"seconds": 0.2, "distance": 1.5},
        "advi": {"seconds": 2.0, "distance": 0.3, "status": "fail"},
        "nuts": {"seconds": 8.0, "ess_bulk": 400.0},
    }
    ax = plots.time_accuracy(comparison_of(rows))
    assert marker_of(ax, "em").get_xydata().tolist() == [[0.2, 1.5]]
    assert marker_of(ax, "nuts (reference)").get_xydata() == pytest.approx(np.array([[8.0, 0.05]]))
    failed = marker_of(ax, "advi (failed its checks)")
    assert failed.get_markerfacecolor() == "none"
    assert marker_of(ax, "em").get_markerfacecolor() != "none"
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert "better" in ax.get_title(loc="left")


def test_within_one_decade_no_label_is_a_power() -> None:
    """Exponents are too small to read on a phone, and only some timings brought them out."""
    rows = {
        "em": {"seconds": 0.23, "distance": 0.2},
        "nuts": {"seconds": 0.61, "ess_bulk": 25.0},
    }
    ax = plots.time_accuracy(comparison_of(rows))
    picture = printed(ax.get_figure())
    assert not [words.text for words in picture.words if "^" in words.text]
    assert {"0.1", "1"} <= {words.text for words in picture.words}


def test_a_distance_of_nothing_is_drawn_within_the_picture() -> None:
    ax = plots.time_accuracy(
        comparison_of({"nuts": {"ess_bulk": 900.0}, "nuts 2": {"distance": 0.0}})
    )
    ((_, distance),) = marker_of(ax, "nuts 2").get_xydata()
    assert distance == ax.get_ylim()[0] > 0


def test_a_reference_that_failed_or_has_too_few_draws_is_no_measure() -> None:
    rows = {"nuts": {"status": "fail", "ess_bulk": np.nan}, "em": {"distance": 0.2}}
    ax = plots.time_accuracy(comparison_of(rows))
    assert "failed its checks" in ax.get_title(loc="left")
    assert marker_of(ax, "nuts").get_ydata() == [1.0]


def test_time_against_accuracy_needs_a_reference() -> None:
    with pytest.raises(sg.ModelError, match='Add "nuts"'):
        em_twice(blobs(60, 1)).plot.time_accuracy()


def test_twelve_methods_differ_in_colour_and_marker_and_in_colour_and_line() -> None:
    labels = ["nuts", "em", *(f"em {i}" for i in range(2, 13))]
    looks = looks_of(comparison_of({label: {} for label in labels}))
    assert len({(shade, mark) for shade, _, mark in looks.values()}) == 13
    assert len({(shade, str(style)) for shade, style, _ in looks.values()}) == 13


@pytest.mark.parametrize("d", [1, 2, 5])
def test_names_of_features_stand_apart_from_each_other(d: int) -> None:
    names = [f"{j}: a name of a feature that is rather long" for j in range(d)]
    ax = em_twice(pd.DataFrame(blobs(80, d), columns=names)).plot.estimates()
    figure = ax.get_figure(root=True)
    figure.draw_without_rendering()
    panels = [panel for panel in ax.child_axes if panel.axison]
    titles = [panel._left_title for panel in panels if panel.get_title(loc="left")]
    assert len(titles) == min(d, 3)
    texts = [*titles, *(p.xaxis.label for p in panels), *ax.get_legend().get_texts()]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[:i])
    said = ax.get_legend().get_title().get_text()
    assert said == ("first 3 of 5 features" if d == 5 else "")


def test_a_single_component_has_no_weight_to_show() -> None:
    fit = quick(blobs(60, 1), k=1)
    ax = Comparison(fit.model, fit.dataset, {"em": fit}, {}, 1).plot.estimates()
    assert [panel.get_xlabel() for panel in ax.child_axes] == ["mean", "scale"]


def test_panels_say_how_many_rows_they_show() -> None:
    ax = em_twice(blobs(6000, 2)).plot.densities()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "data (5,000 of 6,000 rows, at random)" in labels


# ---- the page ----------------------------------------------------------------------------------


def report_of(comparison: Comparison, folder: Path) -> Page:
    return page_of(comparison.report(folder / "r.html", progress=False))


def test_every_fit_has_its_part_and_its_picture(tmp_path: Path) -> None:
    comparison = em_twice(blobs(80, 2))
    page = report_of(comparison, tmp_path)
    assert_self_contained(page)
    # densities, estimates; em: density, components, restarts; em 2: restarts
    assert_accessible(page, pictures=6)
    labels = [svg["aria-label"] for svg in page.all("svg")]
    assert [sum(f"of {n} restarts" in str(label) for label in labels) for n in (5, 3)] == [1, 1]
    assert "Settings of em 2" in page.words
    assert "restarts 3" in page.words


def test_a_comparison_that_was_loaded_gives_the_same_report(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    comparison = em_twice(blobs(80, 1))
    first = comparison.report(tmp_path / "a.html", progress=False).read_text()
    path = comparison.save(tmp_path / "c.nc")
    request.getfixturevalue("no_cmdstan")
    loaded = sg.load(path)
    assert loaded.report(tmp_path / "b.html", progress=False).read_text() == first


@pytest.mark.parametrize("d", [1, 2, 4])
def test_hostile_names_are_only_names(tmp_path: Path, d: int) -> None:
    evil = '"><script>alert(1)</script>'
    fit = quick(pd.DataFrame(blobs(80, d), columns=[f"{evil}{j}" for j in range(d)]))
    made = Comparison(fit.model, fit.dataset, {evil: fit}, {f"{evil} 2": f"{evil} failed"}, 1)
    page = report_of(made, tmp_path)
    assert_self_contained(page)
    assert f"{evil} failed" in page.words
    assert evil in page.words


def test_one_fit_and_methods_that_did_not_run(tmp_path: Path) -> None:
    fit = quick(blobs(80, 1))
    made = Comparison(fit.model, fit.dataset, {"em": fit}, {"nuts": "no CmdStan here"}, 1)
    page = report_of(made, tmp_path)
    assert_accessible(page, pictures=5)
    assert "no CmdStan here" in page.words
    assert "methods that did not run are left out" in page.words
    assert "sg.NUTS" not in page.words


@pytest.mark.parametrize("given", [{}, {"sample_weight": np.arange(60.0)}])
def test_the_call_gives_the_same_comparison(given: dict[str, Any]) -> None:
    X = blobs(60, 2)
    other = quick(X, seed=7, **given)
    methods = [sg.EM(restarts=4), other]
    made = sg.compare(sg.GaussianMixture(2), X, methods, seed=3, progress=False, **given)
    names: dict[str, Any] = {"X": X, **given}
    exec(comparison_call(made), names)  # noqa: S102 (what is tested is that it runs)
    again = names["comparison"]
    assert [fit.seed for fit in again.fits.values()] == [3, 7]
    for label, fit in made.fits.items():
        np.testing.assert_array_equal(again.fits[label].means, fit.means)


def test_the_report_of_many_rows_is_small_and_says_what_it_shows(tmp_path: Path) -> None:
    comparison = em_twice(blobs(30_000, 2))
    path = comparison.report(tmp_path / "r.html", progress=False)
    assert path.stat().st_size < 1_500_000
    assert "5,000 of the rows are shown, chosen at random." in page_of(path).words


@pytest.mark.stan
def test_time_against_accuracy_is_that_of_the_table(fits_faithful: Any, tmp_path: Path) -> None:
    fits = {name: fits_faithful[name] for name in ("em", "advi", "nuts")}
    made = Comparison(fits_faithful.model, fits["em"].dataset, fits, {}, 1)
    ax = made.plot.time_accuracy()
    for label in ("em", "advi"):
        expected = [fits[label].seconds, made.table.loc[label, "distance"]]
        assert marker_of(ax, label).get_xydata()[0] == pytest.approx(expected)
    page = report_of(made, tmp_path)
    assert "Time against accuracy" in page.words
    assert "Dirichlet: concentration" in page.words
