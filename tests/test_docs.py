"""The documentation says what is true: its snippets run and print what is shown beneath them."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import stangmm as sg
from stangmm.cli import main, parser

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_BLOCK = re.compile(
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```\n(?P<after>\s*^```output\n)?", re.M | re.S
)
_OUTPUT = re.compile(r"(.*?)^```", re.M | re.S)
_NEEDS_CMDSTAN = re.compile(
    r"\"(nuts|advi|optimize|pathfinder|stan_laplace)\"|sg\.(NUTS|ADVI|Optimize|Pathfinder|StanLaplace)\("
)
_COMPARED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Snippet:
    """A block of a page, and what the page says that it prints (None: it does not say)."""

    language: str
    text: str
    line: int
    printed: str | None


def snippets(page: Path) -> list[Snippet]:
    source = page.read_text()
    found = []
    for match in _BLOCK.finditer(source):
        output = _OUTPUT.match(source, match.end()) if match["after"] else None
        line = source.count("\n", 0, match.start("text"))
        found.append(Snippet(match["language"], match["text"], line, output[1] if output else None))
    return found


def python_of(page: Path) -> list[Snippet]:
    return [snippet for snippet in snippets(page) if snippet.language == "python"]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def with_python() -> list[Any]:
    return [
        pytest.param(
            page,
            id=page_name(page),
            marks=[pytest.mark.stan] * any(_NEEDS_CMDSTAN.search(s.text) for s in found),
        )
        for page in PAGES
        if (found := python_of(page))
    ]


@pytest.mark.parametrize("page", with_python())
def test_every_snippet_runs_and_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    for snippet in python_of(page):
        # Empty lines in front, so that a traceback names the line of the page.
        code = compile("\n" * snippet.line + snippet.text, page_name(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as captured:
            exec(code, namespace)  # noqa: S102
        if snippet.printed is not None:
            check_printed(snippet, captured.getvalue(), page_name(page))


def check_printed(snippet: Snippet, got: str, where: str) -> None:
    checker, example = doctest.OutputChecker(), doctest.Example(snippet.text, snippet.printed or "")
    if not checker.check_output(example.want, got, _COMPARED):
        difference = checker.output_difference(example, got, _COMPARED)
        pytest.fail(f"{where}, line {snippet.line}:\n{difference}", pytrace=False)


def test_a_wrong_output_is_noticed() -> None:
    snippet = Snippet("python", "print(1)\n", 1, "2\n")
    with pytest.raises(pytest.fail.Exception):
        check_printed(snippet, "1\n", "here")


def test_the_pages_have_snippets_with_outputs() -> None:
    all_of_them = [snippet for page in PAGES for snippet in python_of(page)]
    assert len(all_of_them) > 40
    assert sum(snippet.printed is not None for snippet in all_of_them) > 25


def commands() -> list[str]:
    """The calls of ``stangmm`` in blocks of the shell."""
    shown = "\n".join(s.text for page in PAGES for s in snippets(page) if s.language == "console")
    return sorted(set(re.findall(r"^\$ (stangmm [^#\n]*[^#\s])", shown, re.M)))


@pytest.mark.parametrize("command", [c for c in commands() if "--method em" in c])
def test_a_command_that_needs_no_cmdstan_does_what_it_says(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sg.datasets.faithful().to_csv("faithful.csv", index=False)
    assert main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("command", commands())
def test_every_command_shown_is_one_that_the_program_knows(command: str) -> None:
    parser().parse_args(shlex.split(command)[1:])


def test_every_make_target_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|\$ |^    )make ([a-z-]+)", page.read_text(), re.M)
    }
    assert named
    assert named <= targets


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    documented = re.findall(r"^\.\. auto\w+:: stangmm\.(\w+)", reference, re.M)
    assert set(sg.__all__) <= set(documented)
    listed = (DOCS / "api" / "index.md").read_text()
    not_listed = {n for n in sg.__all__ if f"`~stangmm.{n}`" not in listed}
    errors = {n for n in sg.__all__ if n.endswith(("Error", "Warning"))} - {"StangmmError"}
    assert not_listed == errors


def test_every_example_is_in_the_gallery() -> None:
    page = (DOCS / "gallery.md").read_text()
    shown = set(re.findall(r"literalinclude\} \.\./examples/(\w+)\.py", page))
    assert shown == {path.stem for path in (ROOT / "examples").glob("*.py")} - {"readme_picture"}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_file_that_a_page_takes_in_or_links_to_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    paths = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    paths += re.findall(r"^```\{(?:literal)?include\} (\S+)", page.read_text(), re.M)
    # What is built is looked at by `make docs`.
    paths = [path for path in paths if "out/docs-parts" not in path]
    assert [path for path in paths if not (page.parent / path).exists()] == []
