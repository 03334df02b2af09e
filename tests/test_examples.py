"""The examples run as they stand and write their reports and pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stangmm as sg
from stangmm.cmdstan import find_cmdstan

pytestmark = pytest.mark.stan

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
REPORTS = {
    "em.py": ["em_galaxies.html"],
    "advi.py": ["advi_faithful.html"],
    "nuts.py": ["nuts_faithful.html"],
    "choose_components.py": ["choose_components.png"],
    "two_modes.py": [],
    "regression.py": ["regression.png"],
    "sensitivity.py": [],
    "sklearn_pipeline.py": [],
    "pictures.py": [
        "density.png",
        "energy.png",
        "priors.png",
        "time_accuracy.png",
        "selection.png",
    ],
    "compare_methods.py": ["compare_galaxies.html", "compare_faithful.html"],
}
SAID = {"sensitivity.py": [", little", "narrow priors of the means: sensitivity 0.", ", too much"]}


@pytest.mark.parametrize("name", REPORTS)
def test_the_example_runs_and_writes_its_report(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for report in REPORTS[name]:
        assert (tmp_path / "out" / report).stat().st_size > 10_000
        assert report in done.stdout
    for words in SAID.get(name, []):
        assert words in done.stdout


def same_draws_as_the_readme() -> bool:
    """Whether draws on this machine are promised to have the bits of those in the README."""
    if os.environ.get("STANGMM_INSTRUCTION_SET") == "plain":
        return False
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    try:
        version = find_cmdstan().version
    except sg.CmdStanNotFoundError:
        return False
    return " avx2 " in flags and " fma " in flags and version == (2, 27, 0)


def printed_table(text: str) -> dict[str, dict[str, str]]:
    """The comparison of the galaxies in a text: by method and column, but for what a clock says."""
    lines = text[text.index("galaxies: Comparison") :].splitlines()[1:7]
    columns = lines[0].split()
    rows = [line.split() for line in lines[2:]]
    of_the_clock = {"seconds", "ess_per_second"}
    return {
        row[0]: {c: v for c, v in zip(columns, row[1:], strict=True) if c not in of_the_clock}
        for row in rows
    }


@pytest.mark.skipif(
    not same_draws_as_the_readme(),
    reason="the README's draws are CmdStan 2.27's on x86-64 with AVX2",
)
def test_the_readme_shows_what_the_demo_prints(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "compare_methods.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    shown = printed_table((EXAMPLES.parent / "README.md").read_text())
    assert list(shown) == ["em", "optimize", "advi", "nuts"]
    assert printed_table(done.stdout) == shown


def test_every_example_is_tested() -> None:
    # The README's picture is made by one that writes into the checkout.
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*REPORTS, "readme_picture.py"}
