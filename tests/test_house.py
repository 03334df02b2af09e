"""The pages for developers say what is true: rooms, files, commands."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "stangmm"
MAKEFILE = (ROOT / "Makefile").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


def layers() -> list[list[str]]:
    """The rooms of the first contract, from the user down to the ground."""
    return [layer.split(" | ") for layer in CONTRACTS["contracts"][0]["layers"]]


def test_the_table_of_the_architecture_is_the_list_of_layers() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    table = re.search(r"^\| room \|.*\n\|.*\n((?:\|.*\n)+)", page, re.M)
    assert table
    rooms = [
        re.findall(r"`([^`]+?)(?:/|\.py)`", row.split("|")[1]) for row in table[1].splitlines()
    ]
    assert rooms == layers()


def test_every_module_has_its_room_and_contracts_see_every_import() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    found |= {path.stem for path in PACKAGE.glob("[!_]*.py")}
    assert sorted(room for layer in layers() for room in layer) == sorted(found)
    assert "exclude_type_checking_imports" not in CONTRACTS


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_files_that_a_page_names_are_there(name: str) -> None:
    page = (ROOT / name).read_text()
    paths = re.findall(r"`([\w./]*/[\w.]+\.(?:py|stan|md|hpp|toml))`", page)
    assert len(paths) > 5
    folders = (ROOT, PACKAGE)
    assert [path for path in paths if not any((f / path).exists() for f in folders)] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="asks make, which is not here")
def test_make_help_names_every_target() -> None:
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.M)
    assert phony
    targets = phony[1].replace("\\\n", " ").split()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    named = re.findall(r"^  ([\w-]+) +\S", shown.stdout, re.M)
    assert sorted(named) == sorted(targets)


def test_hooks_before_a_commit_are_the_checks_of_lint() -> None:
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert lint
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in lint[1].splitlines()]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"^ +entry: (.*)$", hooks, re.M) == commands


def test_only_the_space_of_parameters_asks_how_many_there_are() -> None:
    """A covariance structure is asked for its sizes in one place."""
    asking = re.compile(r"structure(?:_named\(.*?\))?\.(?:scale_shape|n_correlations)\(")
    found = [path.name for path in PACKAGE.rglob("*.py") if asking.search(path.read_text())]
    assert found == ["parameters.py"]


def test_tests_reach_for_no_private_name_of_the_package() -> None:
    reached = re.compile(
        r"from stangmm\S* import (?:.*, )?_\w|setattr\(\w+, \"_\w|\"stangmm[\w.]*\._\w", re.M
    )
    found = {p.name: reached.findall(p.read_text()) for p in (ROOT / "tests").rglob("*.py")}
    assert {name: what for name, what in found.items() if what} == {}
