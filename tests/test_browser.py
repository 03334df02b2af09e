"""Reports in a real browser: no text is cut off, overlapping, small, pale or out of reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import HEIGHT, MISSING, chromium, faults, find_chromium, opened
from fitting import fit_quick
from playwright.sync_api import Browser

import stangmm as sg
from stangmm.many.comparison import Comparison
from stangmm.report import comparison_report, fit_report

pytestmark = pytest.mark.skipif(find_chromium() is None, reason=MISSING)

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "one_long_word_of_which_no_browser_knows_where_it_could_be_broken_into_two",
    "a name of many words, as the heads of spreadsheets have them (unit: kg per m²)",
    "速度 ∑ µ₅",
    *("a$b$&c", "{{ 7 * 7 }}", "_", "x", " "),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def hostile() -> sg.Fit:
    """Names that break pages, and more components and features than a page has room for."""
    rng = np.random.default_rng(5)
    means = rng.normal(scale=4, size=(12, len(HOSTILE)))
    rows = means[rng.integers(12, size=500)] + rng.normal(size=(500, len(HOSTILE)))
    return fit_quick(sg.GaussianMixture(12, "diag"), pd.DataFrame(rows, columns=HOSTILE), "em")


def assert_good(browser: Browser, path: Path) -> None:
    found = faults(browser, path)
    assert not found, "\n".join(found)


def test_report_of_em(browser: Browser, fits: Any, tmp_path: Path) -> None:
    assert_good(browser, fit_report(fits["em"], tmp_path / "r.html"))


@pytest.mark.stan
@pytest.mark.parametrize("method", ["optimize", "advi", "nuts"])
def test_report_of_a_fit_by_stan(browser: Browser, fits: Any, method: str, tmp_path: Path) -> None:
    assert_good(browser, fit_report(fits[method], tmp_path / "r.html"))


@pytest.mark.stan
def test_report_of_a_comparison(browser: Browser, fits: Any, tmp_path: Path) -> None:
    failures = {"stan_laplace": "CmdStan 2.27 has no Laplace approximation; 2.32 has."}
    both = Comparison(fits.model, fits["em"].dataset, dict(fits), failures, 1)
    assert_good(browser, comparison_report(both, tmp_path / "r.html"))


def test_report_of_hostile_names(browser: Browser, hostile: sg.Fit, tmp_path: Path) -> None:
    assert_good(browser, fit_report(hostile, tmp_path / "r.html"))


def test_comparison_of_hostile_names(browser: Browser, hostile: sg.Fit, tmp_path: Path) -> None:
    failures = {"nuts": "<b>no</b> " + "x" * 200}
    one = Comparison(hostile.model, hostile.dataset, {"em": hostile}, failures, 1)
    assert_good(browser, comparison_report(one, tmp_path / "r.html"))


def write_page(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(
        "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>A page</title>"
        "<style>:root { color-scheme: light dark; background: Canvas; color: CanvasText }"
        "a { color: inherit } :focus-visible { outline: 3px solid }"
        "@media print { :root { color-scheme: light }"
        "details::details-content { content-visibility: visible } }</style>"
        f"<body><a href='#main'>Skip</a><div style='height: {2 * HEIGHT}px'></div>"
        f"<main id='main'><p>Words.</p>{body}<p><a href='#end'>More</a></p></main>",
        encoding="utf-8",
    )
    return path


GOOD = [
    "<p>Nothing is wrong here.</p>",
    "<div style='overflow-x: auto' tabindex='0'><pre>" + "wide " * 300 + "</pre></div>"
    "<style>@media print { pre { white-space: pre-wrap } }</style>",
    "<details><summary>Fold</summary><p>Folded.</p></details>",
    "<svg viewBox='0 0 200 50'><rect width='99' height='50' fill='#000'/>"
    "<text x='9' y='30' fill='#fff'>dark</text><text x='109' y='30' fill='CanvasText'>paper</text>"
    "</svg>",
]


@pytest.mark.parametrize("body", GOOD)
def test_a_good_page_has_no_faults(browser: Browser, tmp_path: Path, body: str) -> None:
    assert_good(browser, write_page(tmp_path, body))


# Each page, and how the faults begin that must be found in it.
BAD = {
    "console": (
        "<script>console.error('it broke'); console.warn('it may'); throw 'oh'</script>",
        ["console: it broke", "console: it may", "console: oh"],
    ),
    "request": (
        "<img src='http://127.0.0.1:9/x.png' alt=''><link rel=stylesheet href='other.css'>",
        ["request: http://127.0.0.1:9/x.png", "request: file:"],
    ),
    "too wide": (
        "<div style='width: 1300px; height: 1px'></div>",
        ["phone, light: too wide", "desktop, dark: too wide"],
    ),
    "wider than a telephone": (
        "<div style='width: 400px; height: 1px'></div>",
        ["phone, light: too wide", "phone, dark: too wide"],
    ),
    "cut off": (
        f"<p>{'unbroken' * 30}</p><p style='overflow: hidden'>{'hidden' * 40}</p>"
        "<svg viewBox='0 0 99 9' fill='CanvasText' font-size='9'><text x='80' y='8'>beside</text>"
        "<text x='5' y='2'>above</text></svg>"
        f"<div style='overflow: auto; width: 2000px' tabindex='0'>region</div>",
        [
            'phone, light: cut off: "unbroken',
            'desktop, dark: cut off: "hidden',
            'desktop, light: cut off: "beside" by its picture',
            'phone, dark: cut off: "above" by its picture',
            'phone, dark: cut off: the region of "region"',
        ],
    ),
    "overlap": (
        "<p>under</p><p style='margin-top: -30px'>over</p>"
        "<svg viewBox='0 0 99 20' fill='CanvasText'><text x='5' y='15'>one</text>"
        "<text x='15' y='15'>two</text></svg>",
        ['desktop, dark: overlap: "under" and "over"', 'phone, light: overlap: "one" and "two"'],
    ),
    "pale": (
        "<p style='color: #999'>pale by day</p><p style='color: #555'>pale by night</p>"
        "<p style='opacity: 0.5'>half</p><svg viewBox='0 0 99 20'>"
        "<rect width='99' height='20' fill='#333'/><text x='5' y='15' fill='#000'>ink</text></svg>",
        [
            'desktop, light: pale: "pale by day"',
            'phone, dark: pale: "pale by night"',
            'phone, light: pale: "half"',
            'desktop, dark: pale: "ink"',
        ],
    ),
    "small": (
        "<p style='font-size: 7px'>fine print</p><svg viewBox='0 0 2000 20' fill='CanvasText'>"
        "<text x='5' y='15'>far away</text></svg>",
        ['desktop, light: small: "fine print"', 'phone, dark: small: "far away"'],
    ),
    "paper": (
        "<p style='background: #000; color: #fff'>night</p>"
        f"<div style='overflow: auto' tabindex='0'><pre>{'wide ' * 300}</pre></div>"
        "<header style='position: sticky'>Head</header>"
        "<div><style scoped>details::details-content { content-visibility: hidden !important }"
        "</style><details><summary>Fold</summary><p>Folded.</p></details></div>",
        [
            'paper: pale: "night"',
            'paper: cut off: "wide',
            "paper: header does not stay",
            'paper: "Folded." is missing',
        ],
    ),
    "keyboard": (
        "<a href='#a' style='outline: 0'>Faint</a> <a href='#a' tabindex='-1'>Out of reach</a>",
        ["keyboard: the focus on a Faint is not seen", "keyboard: stop 2 is not reached"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_on_purpose_is_found(browser: Browser, tmp_path: Path, name: str) -> None:
    body, expected = BAD[name]
    found = faults(browser, write_page(tmp_path, body))
    for beginning in expected:
        assert any(one.startswith(beginning) for one in found), (beginning, found)


def test_a_first_link_that_leads_nowhere_is_found_out(browser: Browser, tmp_path: Path) -> None:
    path = write_page(tmp_path, "")
    path.write_text(path.read_text().replace("href='#main'", "href='#nowhere'"))
    assert faults(browser, path) == ["keyboard: the first link does not lead to the content"]


def test_a_page_is_opened_without_a_network(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, write_page(tmp_path, "")) as (page, _):
        assert page.evaluate("navigator.onLine") is False
