"""What the benchmarks share: arguments, machine facts, tables, data sets and turns of timing."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def argument_parser(document: str | None) -> argparse.ArgumentParser:
    """Give the arguments that every benchmark has; the first line of its docstring explains it."""
    summary = (document or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    return parser


def restart_with_one_thread() -> None:
    """Run this script again on one core with one BLAS thread, unless it already is.

    The libraries read these variables when they are loaded, and numpy is by now.
    """
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if any(os.environ.get(name) != "1" for name in THREAD_VARIABLES):
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        os.execv(sys.executable, [sys.executable, *sys.argv])


def machine(packages: Sequence[str]) -> dict[str, str]:
    """Facts that a table of times means nothing without."""
    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    cmdstan = os.environ.get("CMDSTAN")
    if cmdstan:
        facts["cmdstan"] = Path(cmdstan).name
    return facts | {name: package_version(name) for name in packages}


def package_version(name: str) -> str:
    """Version of an installed package, or "missing"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def conclude(
    arguments: argparse.Namespace, facts: Mapping[str, str], results: Sequence[Mapping[str, Any]]
) -> None:
    """Print the machine, the versions and the command; write the JSON file if one is asked for."""
    command = shlex.join(["python", *_relative(sys.argv)])
    print()
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    print(f"command: {command}")
    if arguments.json:
        document = {"machine": dict(facts), "command": command, "results": list(results)}
        arguments.json.write_text(json.dumps(document, indent=1, default=float) + "\n")


class Table:
    """A Markdown table that is printed row by row, as the results come in.

    Parameters
    ----------
    columns : sequence of str
    widths : sequence of int, optional
        Least width of each column; by default that of its heading.
    """

    def __init__(self, columns: Sequence[str], widths: Sequence[int] | None = None) -> None:
        floor = widths or [0] * len(columns)
        self._widths = [max(len(c), w) for c, w in zip(columns, floor, strict=True)]
        self.row(columns)
        print("|" + "|".join("-" * (w + 2) for w in self._widths) + "|", flush=True)

    def row(self, cells: Sequence[object]) -> None:
        """Print one row."""
        padded = [f"{c!s:>{w}}" for c, w in zip(cells, self._widths, strict=True)]
        print("| " + " | ".join(padded) + " |", flush=True)


def in_turns(
    functions: Mapping[str, Callable[[], object]], budget: float, least: int = 5, most: int = 51
) -> dict[str, list[float]]:
    """Seconds of each function, called in turns so that a busy machine is unfair to none.

    Parameters
    ----------
    functions : mapping of str to callable
    budget : float
        Seconds for all turns together; between ``least`` and ``most`` turns are taken.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    turns, total = least, 0.0
    while min(map(len, seconds.values())) < turns:
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
            total += seconds[name][-1]
        turns = max(least, min(most, int(budget * len(seconds[name]) / total)))
    return seconds


class Clock:
    """Wall and processor seconds since it was made, those of processes that have ended included."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _processor_seconds()

    def times(self) -> dict[str, float]:
        cpu = _processor_seconds() - self._cpu
        return {"seconds": time.perf_counter() - self._wall, "cpu_seconds": cpu}


def failure_of(command: Sequence[object], limit: float) -> str:
    """Run a command, ended at the limit with all of its own; why it failed, or nothing."""
    import psutil

    with tempfile.TemporaryFile("w+") as log:
        process = psutil.Popen([*map(str, command)], stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait(limit)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            return f"not finished within {limit:.0f} s"
        finally:
            if process.is_running():
                for each in [*process.children(recursive=True), process]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
                process.wait()
        log.seek(0)
        lines = [line for line in log.read().splitlines() if line.strip()]
    return (lines or [f"exit code {code}"])[-1][:200] if code else ""


def mixture_data(n: int, d: int, k: int, *, spread: float = 3.0, seed: int = 1) -> FloatArray:
    """Draw rows from a mixture of correlated components, shape (N, D).

    The components do not depend on N, so that a larger data set is more of the same; their means
    are ``spread`` standard deviations apart, roughly.
    """
    rng = np.random.default_rng([seed, d, k])
    means = spread * rng.standard_normal((k, d))
    factors = np.eye(d) + 0.4 * np.tril(rng.standard_normal((k, d, d)))
    weights = np.arange(k, 0, -1) / (k * (k + 1) / 2)
    labels = rng.choice(k, n, p=weights)
    rows = rng.standard_normal((n, d))
    return np.asarray(means[labels] + np.einsum("nij,nj->ni", factors[labels], rows))


def _processor_seconds() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")


def _relative(argv: Sequence[str]) -> list[str]:
    return ["benchmarks/" + Path(argv[0]).name, *argv[1:]]
