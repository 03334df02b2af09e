"""Run tests with the lowest and newest versions of every dependency, and with ArviZ both ways.

Run as ``python tests/version_matrix.py [NAME ...] [--tests FILE ...]``; a name, such as ``3.12`` or
``lowest``, chooses the rows that have it. Each row gets an environment of its own in out/matrix.
Needs a package index, and CmdStan for the tests that run it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "out" / "matrix"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
FIRST_OF_ARVIZ_1 = (3, 12)
TOOLS = ["pytest", "hypothesis", "openpyxl", "psutil"]
TESTS = ["test_exchange.py", "test_psis.py", "test_convergence.py", "test_report.py"]
# What other packages say of one another is not what is asked here.
IGNORED = ["DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"]


@dataclass(frozen=True)
class Row:
    """One environment: an interpreter, and requirements beside the package."""

    name: str
    python: Path
    requirements: tuple[str, ...]

    def run(self, tests: list[str]) -> str:
        """Install and test; the outcome in words."""
        home = ENVIRONMENTS / self.name.replace(" ", "-").replace("<", "before-")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([self.python, "-m", "venv", home], check=True)
        python = home / "bin" / "python"
        quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        installed = subprocess.run(
            [python, *quiet, *TOOLS, *self.requirements, "--editable", ROOT],
            capture_output=True,
            text=True,
        )
        if installed.returncode:
            return f"cannot be installed: {installed.stderr.strip().splitlines()[-1]}"
        warnings = [f"-Wignore::{name}" for name in IGNORED]
        files = [ROOT / "tests" / test for test in tests]
        chosen = ["-m", "not statistical", "-q", "-p", "no:cacheprovider"]
        tested = subprocess.run(
            [python, "-m", "pytest", *chosen, *warnings, *files],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        (home / "tests.txt").write_text(tested.stdout + tested.stderr)
        return tested.stdout.strip().splitlines()[-1]


def rows() -> Iterator[Row]:
    """All environments that can be had here."""
    found = {version: path for version in PYTHONS if (path := interpreter(version))}
    for version in sorted(set(PYTHONS) - set(found)):
        print(f"| {version} | no such Python here |")
    for i, (version, path) in enumerate(found.items()):
        if i == 0:
            yield Row(f"{version} lowest", path, lowest())
        yield Row(f"{version} newest ArviZ<1", path, ("arviz<1",))
        if tuple(map(int, version.split("."))) >= FIRST_OF_ARVIZ_1:
            yield Row(f"{version} newest ArviZ 1", path, ("arviz>=1",))


def interpreter(version: str) -> Path | None:
    """A Python of that version, on the path or of pyenv."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for candidate in [shutil.which(f"python{version}"), *map(str, pyenv)]:
        asked = "import sys; print(*sys.version_info[:2], sep='.')"
        if candidate and _printed([candidate, "-c", asked]) == version:
            return Path(candidate)
    return None


def lowest() -> tuple[str, ...]:
    """Every dependency at the lowest version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = (re.match(r"([\w-]+)>=([\w.]+)", each) for each in project["dependencies"])
    return tuple(f"{each[1]}=={each[2]}" for each in pinned if each)


def _printed(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def main() -> int:
    """Print a table with a line for each environment."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--tests", nargs="+", default=TESTS)
    options = parser.parse_args()
    all_passed = True
    print("| environment | outcome |\n|---|---|")
    for row in rows():
        if all(name in row.name for name in options.names):
            outcome = row.run(options.tests)
            all_passed &= "passed" in outcome and "failed" not in outcome
            print(f"| {row.name} | {outcome} |", flush=True)
    return 0 if all_passed else 1


if __name__ == "__main__":
    sys.exit(main())
