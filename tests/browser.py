"""A headless browser that opens pages and says what is wrong with them.

By hand, for screenshots: ``python tests/browser.py report.html folder``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium on the PATH; install it: sudo apt-get install chromium"
WIDTHS = {"phone": 390, "desktop": 1280}
HEIGHT = 900
SCHEMES = ("light", "dark")
PAPER = 680  # A4 without margins of 15 mm, in CSS pixels

_CHECKS = Path(__file__).with_name("browser_checks.js").read_text(encoding="utf-8")
_FOCUSABLE = "a[href], summary, button, input, select, [tabindex]"


def find_chromium() -> str | None:
    """Path of the distribution's Chromium."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; it is gone afterwards."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, path: Path) -> Iterator[tuple[Page, list[str]]]:
    """Open a file without a network; what it asks for and complains of is added to the list."""
    complaints: list[str] = []
    with browser.new_context(offline=True) as context:
        page = context.new_page()

        def ask(url: str) -> None:
            if url != path.as_uri() and not url.startswith("data:"):
                complaints.append(f"request: {url}")

        def say(level: str, text: str) -> None:
            if level in ("warning", "error"):
                complaints.append(f"console: {text}")

        page.on("request", lambda request: ask(request.url))
        page.on("console", lambda message: say(message.type, message.text))
        page.on("pageerror", lambda error: complaints.append(f"console: {error}"))
        page.goto(path.as_uri())
        yield page, complaints


def faults(browser: Browser, path: Path) -> list[str]:
    """What is wrong with a page, at both widths, in both schemes, by keyboard and on paper."""
    with opened(browser, path) as (page, found):
        found += keyboard_faults(page)  # opens what is folded, so that it is looked at, too
        for scheme in SCHEMES:
            for name, width in WIDTHS.items():
                show(page, scheme, width)
                found += [f"{name}, {scheme}: {fault}" for fault in page.evaluate(_CHECKS, False)]
        page.eval_on_selector_all("details", "all => all.forEach(one => one.open = false)")
        page.emulate_media(media="print", color_scheme="dark")
        page.set_viewport_size({"width": PAPER, "height": HEIGHT})
        found += [f"paper: {fault}" for fault in page.evaluate(_CHECKS, True)]
    return found


def show(page: Page, scheme: str, width: int) -> None:
    """Set the window's width and whether the reader likes it light or dark."""
    page.emulate_media(media="screen", color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": HEIGHT})


def keyboard_faults(page: Page) -> Iterator[str]:
    """Walk through the page with the Tab key, in every fold, and follow its first link."""
    stops = f"[...document.querySelectorAll({_FOCUSABLE!r})].filter(one => one.checkVisibility())"
    at = f"""() => {{
      const [here, style] = [document.activeElement, getComputedStyle(document.activeElement)];
      const box = here.getBoundingClientRect();
      return {{
        index: {stops}.indexOf(here),
        name: `${{here.localName}} ${{here.textContent.trim().slice(0, 30)}}`,
        folded: here.localName === "summary" && !here.parentElement.open,
        outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        shown: box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight,
      }};
    }}"""
    show(page, "light", WIDTHS["desktop"])
    expected = 0
    while expected < page.evaluate(f"{stops}.length"):
        page.keyboard.press("Tab")
        stop = page.evaluate(at)
        if stop["index"] != expected:
            yield f"keyboard: stop {expected} is not reached but {stop['name']}"
            return
        if not (stop["outlined"] and stop["shown"]):
            yield f"keyboard: the focus on {stop['name']} is not seen"
        if stop["folded"]:
            page.keyboard.press("Enter")
            if page.evaluate(at)["folded"]:
                yield f"keyboard: {stop['name']} does not open"
        expected += 1
    yield from _first_link_faults(page)


def _first_link_faults(page: Page) -> Iterator[str]:
    """Follow the first link by keyboard: its target is shown, and Tab goes on from there."""
    page.locator("a").first.focus()
    page.keyboard.press("Enter")
    shown = page.evaluate("""() => {
      const box = document.querySelector(":target")?.getBoundingClientRect();
      return box && box.bottom > 0 && box.top < innerHeight;
    }""")
    page.keyboard.press("Tab")
    beyond = page.evaluate("""() =>
      document.querySelector(":target")?.compareDocumentPosition(document.activeElement)
        & Node.DOCUMENT_POSITION_FOLLOWING
    """)
    if not (shown and beyond):
        yield "keyboard: the first link does not lead to the content"


def screenshots(path: Path, folder: Path) -> Iterator[Path]:
    """Write the whole page as it looks at both widths and in both schemes, and as PDF."""
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser, opened(browser, path) as (page, _):
        for scheme in SCHEMES:
            for name, width in WIDTHS.items():
                show(page, scheme, width)
                target = folder / f"{path.stem}-{name}-{scheme}.png"
                page.screenshot(path=target, full_page=True)
                yield target
        page.emulate_media(media="print")
        page.pdf(path=folder / f"{path.stem}.pdf", prefer_css_page_size=True)
        yield folder / f"{path.stem}.pdf"


if __name__ == "__main__":
    report = Path(sys.argv[1]).resolve()
    for written in screenshots(report, Path(sys.argv[2])):
        print(written)
    with chromium() as found:
        print(*faults(found, report), sep="\n")
