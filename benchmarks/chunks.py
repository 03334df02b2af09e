"""EM and Laplace on data that are never whole in memory, and many fits on a Dask cluster.

Run as ``python benchmarks/chunks.py [--gigabytes G] [--folder FOLDER] [--method M] [--json FILE]
[--quick]``.

The first part writes G gigabytes of D=8 features as Parquet, chunk by chunk, fits K=3 full
covariances on two workers (processes of one thread), and removes the files. A pass is one
reading of all rows: one for checks, means and the sample, then one for each step of EM. Memory is
the largest that one worker, and this process, held (resident). The seconds at 1e8 rows are
those per row and pass, times 1e8.

The second part selects among 32 models of Old Faithful by EM on a cluster of one worker and on one
of two, in turns, in threads, and on the cluster of two with one worker killed on the way, and
compares the tables.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import joblib
import numpy as np
import pandas as pd
import psutil
from common import Table, argument_parser, conclude, machine
from dask.distributed import Client, LocalCluster

import stangmm as sg
from stangmm.data.chunks import Chunks

D, K = 8, 3
ROWS_A_CHUNK = 1_000_000
TYPES = ["full", "tied", "diag", "spherical"]
NAMES = [f"x{j + 1}" for j in range(D)]
_INTERVAL = 0.2


@contextlib.contextmanager
def cluster(workers: int, memory: str = "auto") -> Iterator[Client]:
    """Give a cluster of processes with one thread each."""
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        LocalCluster(processes=True, memory_limit=memory, silence_logs=50, **options) as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


def write(folder: Path, n_rows: int) -> None:
    """Write the rows, a chunk at a time."""
    rng = np.random.default_rng(0)
    means = np.zeros((K, D))
    means[1], means[2, ::2] = 2.0, -3.0
    factors = [np.tril(rng.normal(size=(D, D)) * 0.3) + np.eye(D) for _ in range(K)]
    for i, first in enumerate(range(0, n_rows, ROWS_A_CHUNK)):
        n = min(ROWS_A_CHUNK, n_rows - first)
        own = np.random.default_rng([1, i])
        z = own.choice(K, n, p=[0.5, 0.3, 0.2])
        x = own.normal(size=(n, D))
        for k in range(K):
            x[z == k] = x[z == k] @ factors[k].T + means[k]
        frame = pd.DataFrame(x, columns=NAMES)
        frame.to_parquet(folder / f"{i:05}.parquet", compression=None, index=False)


class Passes:
    """Counts the passes over all chunks, and their seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._own = Chunks._reduced

    def __enter__(self) -> Passes:
        def timed(chunks: Chunks, *arguments: Any) -> Any:
            began = time.perf_counter()
            result = self._own(chunks, *arguments)
            self.seconds.append(time.perf_counter() - began)
            print(f"pass {len(self.seconds)}: {self.seconds[-1]:.1f} s", file=sys.stderr)
            return result

        Chunks._reduced = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Chunks._reduced = self._own  # type: ignore[method-assign]


class Memory:
    """Watches what this process and those it started hold."""

    def __init__(self, pids: list[int]) -> None:
        self.here, self.largest_worker = 0, 0
        self._pids, self._over = pids, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL):
            self.here = max(self.here, psutil.Process().memory_info().rss)
            for pid in self._pids:
                with contextlib.suppress(psutil.Error):
                    held = psutil.Process(pid).memory_info().rss
                    self.largest_worker = max(self.largest_worker, held)


def large_data(gigabytes: float, parent: Path | None, method: str) -> dict[str, Any]:
    """Fit rows of so many gigabytes from disk."""
    n_rows = int(gigabytes * 1e9 / (8 * D))
    folder = Path(tempfile.mkdtemp(prefix="stangmm-chunks-", dir=parent))
    try:
        room = shutil.disk_usage(folder).free
        if 8 * D * n_rows > 0.5 * room:
            n_rows = int(0.5 * room / (8 * D))
            print(f"The disk has room for {n_rows:.3g} rows only.")
        began = time.perf_counter()
        write(folder, n_rows)
        written = time.perf_counter() - began
        size = sum(file.stat().st_size for file in folder.iterdir())
        with cluster(2) as client, client.as_current():
            pids = list(client.run(os.getpid).values())
            rows = dd.read_parquet(folder)
            began = time.perf_counter()
            with Passes() as passes, Memory(pids) as memory:
                fit = sg.GaussianMixture(K).fit(rows, method=method, seed=1, progress=False)
            seconds = time.perf_counter() - began
    finally:
        shutil.rmtree(folder)
    per_pass = float(np.median(passes.seconds))
    return {
        "rows": n_rows,
        "gigabytes": size / 1e9,
        "chunks": -(-n_rows // ROWS_A_CHUNK),
        "seconds to write": written,
        "seconds": seconds,
        "passes": len(passes.seconds),
        "seconds a pass": per_pass,
        "seconds at 1e8 rows": seconds / n_rows * 1e8,
        "a pass of 1e8 rows": per_pass / n_rows * 1e8,
        "GB, worker": memory.largest_worker / 1e9,
        "GB, here": memory.here / 1e9,
        "log likelihood a row": float(fit.total_log_likelihood.mean()) / n_rows,
    }


def grid(components: range, types: list[str]) -> tuple[pd.DataFrame, float]:
    """Select among models; give the table, and the seconds it took."""
    began = time.perf_counter()
    chosen = sg.select_components(
        sg.datasets.faithful(),
        components,
        covariance_type=types,  # type: ignore[arg-type]
        method="em",
        seed=1,
        progress=False,
    )
    return chosen.table.drop(columns="seconds"), time.perf_counter() - began


def many_fits(components: range, types: list[str], turns: int) -> list[dict[str, Any]]:
    """Time the grid here, on one worker and on two, and with one of them killed."""
    seconds: dict[str, list[float]] = {}
    expected, _ = grid(components, types)
    same: dict[str, bool] = {}
    with cluster(1) as one, cluster(2) as two:
        for turn in range(turns + 1):
            places = {"threads": None, "one worker": one, "two workers": two}
            for place, client in places.items():
                choice = (
                    contextlib.nullcontext()
                    if client is None
                    else joblib.parallel_config("dask", client=client)
                )
                with choice:
                    table, took = grid(components, types)
                same[place] = same.get(place, True) and table.equals(expected)
                if turn:  # the first imports and fills caches
                    seconds.setdefault(place, []).append(took)
        victim = next(iter(two.run(os.getpid).values()))
        after = 0.4 * min(seconds["two workers"])
        killing = threading.Timer(after, os.kill, (victim, signal.SIGKILL))
        with joblib.parallel_config("dask", client=two):
            killing.start()
            table, took = grid(components, types)
        place = "two workers, one killed"
        two.wait_for_workers(2, timeout=60)
        died = victim not in two.run(os.getpid).values()
        same[place], seconds[place] = died and table.equals(expected), [took]
    return [
        {
            "where": place,
            "fits": len(expected),
            "seconds": float(np.median(took)),
            "same": same[place],
        }
        for place, took in seconds.items()
    ]


def main() -> None:
    """Run both parts."""
    parser = argument_parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="where the rows are written for the time")
    parser.add_argument("--method", choices=("em", "laplace"), default="em")
    parser.add_argument("--part", choices=("data", "fits"), help="only this part")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    if arguments.part != "fits":
        size = 0.05 if arguments.quick else arguments.gigabytes
        found = large_data(size, arguments.folder, arguments.method)
        table = Table(list(found))
        table.row([f"{v:.4g}" if isinstance(v, float) else v for v in found.values()])
        results.append(found)
    if arguments.part != "data":
        quick = arguments.quick
        fits = many_fits(range(1, 3 if quick else 9), TYPES[: 2 if quick else 4], 1 if quick else 3)
        print()
        table = Table(list(fits[0]))
        for row in fits:
            table.row([f"{v:.2f}" if isinstance(v, float) else v for v in row.values()])
        results += fits
    conclude(arguments, machine(["numpy", "dask", "distributed", "joblib", "pyarrow"]), results)


if __name__ == "__main__":
    sys.exit(main())
