"""What is released beside the code says the same as the code."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_recipe_for_conda_has_the_version_and_the_dependencies_of_the_package() -> None:
    recipe = (ROOT / "conda" / "recipe.yaml").read_text()
    assert re.search(r'^  version: "(.*)"$', recipe, re.M)[1] == PROJECT["version"]  # type: ignore[index]
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    found = [re.sub(r"^matplotlib-base\b", "matplotlib", r) for r in re.findall(r"- (.*)", run)]
    here = [re.sub(r"^([\w-]+)", r"\1 ", requirement) for requirement in PROJECT["dependencies"]]
    assert sorted(found[2:]) == sorted(here)
    assert found[:2] == ["python >=${{ python_min }}", "cmdstan >=2.27"]


def test_the_readme_on_an_index_links_to_files_of_the_repository() -> None:
    """What the package was installed with is what an index shows."""
    description = metadata("stangmm")["Description"]
    links = re.findall(r"(!?)\[[^]]*\]\(([^)\s]*)\)", str(description))
    assert [link for _, link in links if not link.startswith("https://")] == []
    start = f"{PROJECT['urls']['Homepage']}/"
    views = [
        (image, *link.removeprefix(start).split("/", 2)) for image, link in links if start in link
    ]
    assert len(views) > 20
    for image, view, tag, path in views:
        assert (view, tag) == ("raw" if image else "blob", f"v{PROJECT['version']}")
        assert (ROOT / path.partition("#")[0]).exists(), path


def test_the_changelog_has_a_section_for_this_version() -> None:
    assert f"\n## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_llms_txt_names_every_page_of_the_documentation_once() -> None:
    docs = ROOT / "docs"
    named = re.findall(r"\]\((\S+)\.html\)", (docs / "llms.txt").read_text())
    pages = [page.relative_to(docs).with_suffix("").as_posix() for page in docs.rglob("*.md")]
    assert sorted([*named, "index"]) == sorted(pages)
