"""The examples run as they stand and write their reports and pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stan

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
REPORTS = {
    "em.py": ["em_galaxies.html"],
    "advi.py": ["advi_faithful.html"],
    "nuts.py": ["nuts_faithful.html"],
    "choose_components.py": ["choose_components.png"],
    "two_modes.py": [],
    "regression.py": ["regression.png"],
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


@pytest.mark.parametrize("name", REPORTS)
def test_the_example_runs_and_writes_its_report(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for report in REPORTS[name]:
        assert (tmp_path / "out" / report).stat().st_size > 10_000
        assert report in done.stdout


def test_every_example_is_tested() -> None:
    # The README's picture is made by one that writes into the checkout.
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*REPORTS, "readme_picture.py"}
