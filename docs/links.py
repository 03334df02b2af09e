"""Look at the built site: every internal link leads somewhere, and nothing is loaded from outside.

Use: ``python docs/links.py out/docs``. Prints what is broken; the exit code is 1 if anything is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# A link may lead elsewhere; what a page itself needs may not come from there.
_LOADED = {
    ("img", "src"),
    ("script", "src"),
    ("link", "href"),
    ("iframe", "src"),
    ("source", "src"),
}


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[bool, str]] = []  # whether it is loaded, and where it leads
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag, name) == ("a", "name"):
                self.anchors.add(value)
            if name in ("href", "src"):
                self.links.append(((tag, name) in _LOADED, value))


def broken(site: Path) -> Iterator[str]:
    """Give a line for each link that is broken or loads something from outside."""
    pages = {path: _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site)
        for loaded, link in page.links:
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                if loaded:
                    yield f"{where} loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{where}: {link} is not there"
            elif parts.fragment and target in pages:
                anchors = pages[target].anchors
                if unquote(parts.fragment) not in anchors and parts.fragment not in anchors:
                    yield f"{where}: {link} has no such place"


def main() -> int:
    """Print what is broken."""
    site = Path(sys.argv[1]).resolve()
    lines = list(broken(site))
    print(
        "\n".join(lines)
        or f"{site.name}: every link leads somewhere, nothing is loaded from outside"
    )
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
