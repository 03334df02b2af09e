"""Processor seconds of EM on rows that miss values at random, beside the same rows complete.

Run as ``python benchmarks/missing.py [--json FILE] [--quick] [--before FOLDER]``. The data are
those of `mixture_data`; "patterns" is how many different sets of features the rows have, and
"below" how many nats the log likelihood of the version before is below that of now.

With ``--before``, a folder that holds another version of the package (``git worktree add``), each
fit is made by both versions, in turns, each in a process of its own with one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from common import (
    Table,
    argument_parser,
    conclude,
    machine,
    mixture_data,
    restart_with_one_thread,
)

restart_with_one_thread()

import numpy as np  # noqa: E402

import stangmm as sg  # noqa: E402

# Rows, features, components, covariances, share of the values that are missing.
CASES = [
    (300, 8, 3, "diag", 0.2),
    (300, 4, 3, "full", 0.2),
    (300, 8, 3, "full", 0.2),
    (1000, 8, 3, "full", 0.3),
    (300, 8, 3, "tied", 0.2),
    (300, 16, 3, "full", 0.2),
]


def fit_once(n: int, d: int, k: int, covariance_type: Any, share: float) -> dict[str, float]:
    """Fit by EM, by the package that is imported here."""
    warnings.simplefilter("ignore")
    x = mixture_data(n, d, k)
    x[np.random.default_rng(1).random(x.shape) < share] = np.nan
    x = x[~np.isnan(x).all(axis=1)]
    model = sg.GaussianMixture(k, covariance_type)
    began = time.process_time()
    fit = model.fit(x, "em", seed=1, missing="marginalize", progress=False)
    return {
        "seconds": time.process_time() - began,
        "log_likelihood": float(fit.total_log_likelihood.max()),
        "patterns": float(len(np.unique(np.isnan(x), axis=0))),
    }


def in_process(case: tuple[Any, ...], folder: Path | None) -> dict[str, float]:
    """The same by a version of the package, in a process of its own."""
    environment = os.environ | ({"PYTHONPATH": str(folder)} if folder else {})
    command = [sys.executable, __file__, "--one", json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--before", type=Path, help="folder of another version of the package")
    parser.add_argument("--one", help="one fit, for this script's own processes")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(fit_once(*json.loads(arguments.one))))
        return
    names = ["(N, D, K)", "type", "missing", "patterns", "complete", "with missing values"]
    old_names = ["before", "gain", "below"] if arguments.before else []
    table, results = Table([*names, *old_names]), []
    for n, d, k, covariance_type, share in CASES[:2] if arguments.quick else CASES:
        complete = in_process((n, d, k, covariance_type, 0.0), None)
        now = in_process((n, d, k, covariance_type, share), None)
        result = now | {"complete": complete["seconds"], "case": [n, d, k, covariance_type, share]}
        cells = [f"({n}, {d}, {k})", covariance_type, f"{share:.0%}", f"{now['patterns']:.0f}"]
        cells += [f"{complete['seconds']:.2f}", f"{now['seconds']:.2f}"]
        if arguments.before:
            old = in_process((n, d, k, covariance_type, share), arguments.before)
            below = now["log_likelihood"] - old["log_likelihood"]
            cells += [f"{old['seconds']:.2f}", f"{old['seconds'] / now['seconds']:.1f}"]
            cells += [f"{below:.2f}"]
            result |= {"before": old["seconds"], "below": below}
        table.row(cells)
        results.append(result)
    conclude(arguments, machine(["stangmm", "numpy", "scipy"]), results)


if __name__ == "__main__":
    main()
