"""The benchmarks' short forms run to their end and write what they measured."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.stan
@pytest.mark.parametrize(
    "command",
    [
        "predict.py --quick",
        "scaling.py --quick",
        "warmup.py --quick",
        "loo.py sizes --quick",
        "choice.py --quick --data galaxies --max-k 2",
        "nuts.py --data galaxies --tools stangmm --seeds 1",
        "small.py --part nuts --quick",
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


def test_the_short_benchmark_of_missing_values_writes_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    command = [sys.executable, BENCHMARKS / "missing.py", "--quick", "--json", file]
    subprocess.run(command, capture_output=True, check=True)
    results = json.loads(file.read_text())["results"]
    assert all(result["seconds"] > 0 and result["patterns"] > 1 for result in results)


def test_the_short_benchmark_of_em_reaches_what_scikit_learn_reaches(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    command = [sys.executable, BENCHMARKS / "em.py", "--quick", "--json", file]
    subprocess.run(command, capture_output=True, check=True)
    for result in json.loads(file.read_text())["results"]:
        reached = result["log_likelihood"]
        assert reached["stangmm"] == pytest.approx(reached["scikit-learn"], rel=1e-6)


def test_the_calibration_of_the_goodness_of_fit_counts_verdicts() -> None:
    command = [sys.executable, BENCHMARKS / "goodness.py", "calibration", "--sets", "4"]
    command += ["--only", "50,1,2,diag"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = done.stdout.strip().splitlines()[-1].strip("| ").split(" | ")
    assert row[:6] == ["50", "1", "2", "diag", "em", "4"]


def field(folder: Path, *options: object) -> str:
    done = subprocess.run(
        [
            sys.executable,
            BENCHMARKS / "field.py",
            *map(str, options),
            "--known",
            folder / "known.json",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(file: Path) -> list[dict[str, Any]]:
    first, *rows = map(json.loads, file.read_text().splitlines())
    assert int(first["machine"]["cores"]) >= 1
    return rows


def test_the_field_trial_has_em_at_the_best_known_optimum(tmp_path: Path) -> None:
    out = tmp_path / "em.jsonl"
    methods = ["--methods", "em", "scikit-learn"]
    field(tmp_path, "em", "--quick", "--seeds", 1, *methods, "--out", out)
    rows = rows_of(out)
    assert not [row["failure"] for row in rows if row.get("failure")]
    best = json.loads((tmp_path / "known.json").read_text())
    assert len(best) == 2
    for row in rows:
        if row["method"] == "em":
            assert row["log_likelihood"] >= best[row["case"]]["log_likelihood"] - 0.1
            assert 0 < row["cpu_seconds"] < math.inf
    # What is measured is not measured again, and a run beside itself differs in nothing.
    field(tmp_path, "em", "--quick", "--seeds", 1, *methods, "--out", out)
    assert rows_of(out) == rows
    table = field(tmp_path, "compare", out, out)
    assert [line.split("|")[-3].strip() for line in table.splitlines() if "-3-diag" in line] == [
        "1.00"
    ]


def test_a_field_trial_that_hangs_or_fails_is_a_row(tmp_path: Path) -> None:
    out = tmp_path / "em.jsonl"
    options = ["em", "--cases", "tiny", "--methods", "em", "--seeds", 1]
    table = field(tmp_path, *options, "--limit", 0.01, "--out", out)
    assert [row["failure"] for row in rows_of(out)] == ["not finished within 0 s"]
    assert "not finished" in table


@pytest.mark.stan
@pytest.mark.parametrize(("task", "number"), [("nuts", "r_hat"), ("advi", "k_hat")])
def test_the_field_trial_of_draws_gives_verdicts(task: str, number: str, tmp_path: Path) -> None:
    out = tmp_path / "draws.jsonl"
    field(tmp_path, task, "--cases", "faithful-2-full", "--seeds", 1, "--out", out)
    (row,) = rows_of(out)
    assert row["verdict"] in ("ok", "warn", "fail")
    assert math.isfinite(row[number])
