"""Seconds and memory of predicting a million rows from 4000 draws.

Run as ``python benchmarks/predict.py [--json FILE] [--quick]``. NUTS is fitted to 2000 rows with
D=2 features and K=3 components of full covariance; then probabilities, with and without intervals,
and log densities of new rows are predicted. Every call is a process of its own. "beyond" is the
largest resident memory less what the process held before the call, less the results and the table
checked (a copy of the rows): what the work itself took. "ns" are nanoseconds of processor time for
one row under one component of one draw.

scikit-learn predicts from one mixture: 4000 draws would be 4000 such calls. One is timed, and the
product stands beside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import Table, argument_parser, conclude, machine, mixture_data

D, K = 2, 3
CALLS = {
    "predict_proba": {"results": K},
    "predict_proba, interval=0.9": {"results": 3 * K, "interval": 0.9},
    "predict_proba, interval=0.9, max_draws=400": {
        "results": 3 * K,
        "interval": 0.9,
        "max_draws": 400,
    },
    "log_density": {"results": 1},
}


def fitted(folder: Path, *, quick: bool) -> None:
    """Fit by NUTS, and leave its draws in a file."""
    import stangmm as sg

    draws = 250 if quick else 1000
    x = mixture_data(2000, D, K)
    fit = sg.GaussianMixture(K, "full").fit(x, sg.NUTS(draws=draws), seed=1, progress=False)
    arrays = {name: array for name, array in vars(fit.mixture).items() if array is not None}
    np.savez(folder / "draws.npz", **arrays)


def memory(name: str) -> float:
    """Resident memory of this process in MB: now (VmRSS), or the largest so far (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(s.split()[1]) for s in status.splitlines() if s.startswith(name)) / 1024


def measure(folder: Path, call: str) -> dict[str, float]:
    """Time one call in this process, and what memory it took."""
    from stangmm.data.dataset import Dataset
    from stangmm.model.mixture import Mixture
    from stangmm.predict.predictions import Predictions

    x = np.load(folder / "rows.npy")
    fit = Predictions()
    with np.load(folder / "draws.npz") as draws:
        fit.mixture = Mixture(**draws)
    fit.dataset, fit.seed = Dataset.from_input(x[:100]), 1
    options: dict[str, Any] = dict(CALLS[call])
    results = 8 * len(x) * options.pop("results") / 2**20
    method = getattr(fit, call.split(",")[0])
    method(x[:100], progress=False, **options)  # BLAS and threads take their memory once
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the largest so far
    began, worked = time.perf_counter(), time.process_time()
    method(x, progress=False, **options)
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - worked,
        "peak_mb": memory("VmHWM"),
        "beyond_mb": memory("VmHWM") - before - results - x.nbytes / 2**20,
        "draws": min(fit.mixture.batch_shape[0], options.get("max_draws", sys.maxsize)),
    }


def scikit_learn(n: int) -> tuple[float, float]:
    """Seconds and processor seconds of scikit-learn's `predict_proba`, the best of five calls."""
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianMixture(K, random_state=0).fit(mixture_data(2000, D, K))
    x = mixture_data(n, D, K, seed=2)
    seconds, worked = [], []
    for _ in range(5):
        began, start = time.perf_counter(), time.process_time()
        model.predict_proba(x)
        seconds.append(time.perf_counter() - began)
        worked.append(time.process_time() - start)
    return min(seconds), min(worked)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--call", choices=CALLS, help="measure this call in this process")
    parser.add_argument("--folder", type=Path, help="draws and rows, for --call")
    arguments = parser.parse_args()
    if arguments.call:
        print(json.dumps(measure(arguments.folder, arguments.call)))
        return
    n = 20_000 if arguments.quick else 1_000_000
    facts = machine(["stangmm", "numpy", "scikit-learn"])
    facts["cores used"] = str(len(os.sched_getaffinity(0)))
    print(f"{n} rows, D={D}, K={K}, full covariances\n")
    columns = ["call", "draws", "seconds", "processor s", "ns", "peak MB", "beyond MB"]
    table = Table(columns, [44, *[0] * 6])
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        fitted(Path(folder), quick=arguments.quick)
        np.save(Path(folder) / "rows.npy", mixture_data(n, D, K, seed=2))
        for call in CALLS:
            command = [sys.executable, __file__, "--call", call, "--folder", folder]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = json.loads(printed)
            results.append({"call": call, "n": n, **found})
            nanoseconds = 1e9 * found["processor_seconds"] / (n * found["draws"] * K)
            numbers = [found[name] for name in ("seconds", "processor_seconds")]
            cells = [f"{value:.1f}" for value in numbers] + [f"{nanoseconds:.2f}"]
            cells += [f"{found[name]:.0f}" for name in ("peak_mb", "beyond_mb")]
            table.row([call, found["draws"], *cells])
    draws = results[0]["draws"]
    seconds, worked = scikit_learn(n)
    results.append(
        {"call": "scikit-learn", "n": n, "seconds": seconds, "processor_seconds": worked}
    )
    cells = [f"{seconds:.3f}", f"{worked:.3f}", f"{1e9 * worked / (n * K):.2f}"]
    table.row(["scikit-learn, one mixture", 1, *cells, "", ""])
    cells = [f"{draws * seconds:.0f}", f"{draws * worked:.0f}"]
    table.row(["scikit-learn, as many times", draws, *cells, "", "", ""])
    conclude(arguments, facts, results)


if __name__ == "__main__":
    main()
