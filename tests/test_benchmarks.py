"""The benchmarks' short forms run to their end and write what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stan

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.parametrize(
    "command",
    [
        "predict.py --quick",
        "scaling.py --quick",
        "nuts.py --data galaxies --tools stangmm --seeds 1",
    ],
)
def test_a_short_benchmark_writes_what_it_measured(command: str, tmp_path: Path) -> None:
    script, *options = command.split()
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *options, "--json", tmp_path / "results.json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "results.json").read_text())
    assert int(written["machine"]["cores"]) >= 1
    assert len(written["results"]) >= 1
    assert all(result["seconds"] > 0 for result in written["results"])
