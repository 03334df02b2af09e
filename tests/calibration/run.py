"""Simulation-based calibration: run replications, and sum them up.

    PYTHONPATH=tests python -m calibration.run simulate --method nuts --replications 500
    PYTHONPATH=tests python -m calibration.run summary

`simulate` can be stopped at any time; called again it does what is missing. See README.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from joblib import parallel_config

from stangmm.base.processors import n_processors
from stangmm.base.tasks import Workers, run_tasks

from .configurations import CONFIGURATIONS
from .provenance import design, versions
from .records import append, start
from .replication import SETTINGS, replicate_by_name
from .summary import summarize

_REPORT_SECONDS = 30.0


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and do it."""
    arguments = _parser().parse_args(argv)
    if arguments.step == "summary":
        summarize(arguments.directory, arguments.destination)
        return
    arguments.directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(arguments.directory / "lock", timeout=0):
            _simulate(arguments)
    except Timeout:
        raise SystemExit(f"Another run is at work in {arguments.directory}.") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="calibration.run", description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    simulate = steps.add_parser("simulate", help="run the replications that are missing")
    simulate.add_argument("--method", choices=list(SETTINGS), default="nuts")
    simulate.add_argument("--replications", type=int, default=500)
    simulate.add_argument(
        "--configurations", nargs="+", choices=list(CONFIGURATIONS), default=list(CONFIGURATIONS)
    )
    simulate.add_argument("--workers", type=int, default=n_processors(), help="processes")
    simulate.add_argument("--scheduler", help="address of a Dask cluster to work there instead")
    summary = steps.add_parser("summary", help="write the table and the pictures")
    summary.add_argument("--destination", type=Path, default=Path(__file__).parent)
    for step in (simulate, summary):
        step.add_argument("--directory", type=Path, default=Path("out/calibration"))
    return parser


def _simulate(arguments: argparse.Namespace) -> None:
    begun = {
        "design": design(arguments.method),
        "versions": versions(),
        "command": f"PYTHONPATH=tests python -m calibration.run {shlex.join(sys.argv[1:])}",
    }
    folder = arguments.directory / arguments.method
    done = {
        name: start(folder / f"{name}.jsonl", begun).by_replication
        for name in arguments.configurations
    }
    # All configurations advance together, so that a run that is stopped is of use for all.
    missing = [
        (name, replication)
        for replication in range(arguments.replications)
        for name in arguments.configurations
        if replication not in done[name]
    ]
    print(f"{arguments.method}: {len(missing)} replications to do", flush=True)
    began = reported = time.monotonic()
    failed = 0
    with _parallel(arguments):
        workers = Workers.of(len(missing)) if missing else Workers.here()
        results = run_tasks(replicate_by_name, arguments.method, missing, workers)
        for count, (i, record) in enumerate(results, start=1):
            append(folder / f"{missing[i][0]}.jsonl", record)
            failed += "error" in record
            if time.monotonic() - reported > _REPORT_SECONDS or count == len(missing):
                reported = time.monotonic()
                minutes = (reported - began) / count * (len(missing) - count) / 60
                left = f"{failed} failed, {minutes:.0f} min left"
                print(f"{count} of {len(missing)} done, {left}", flush=True)


@contextmanager
def _parallel(arguments: argparse.Namespace) -> Iterator[None]:
    """Choose where replications run."""
    if arguments.scheduler is None:
        # One BLAS thread each: the processes are as many as the processors.
        with parallel_config("loky", n_jobs=arguments.workers, inner_max_num_threads=1):
            yield
        return
    from distributed import Client

    with Client(arguments.scheduler), parallel_config("dask"):
        yield


if __name__ == "__main__":
    main()
