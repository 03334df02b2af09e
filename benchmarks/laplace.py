"""Laplace's method against NUTS: seconds, and how far means, deviations and evidence agree.

Run as ``python benchmarks/laplace.py [--sizes N ...] [--nuts-up-to N] [--seed S] [--json FILE]
[--quick]``. Galaxies, faithful, and generated data of D=2 features and K=3 components well apart.
Every fit is a process of its own; imports are not counted, the checks after the fit and the
evidence are. Differences of means are in posterior standard deviations by NUTS, and the largest of
all weights, means and log scales is given; so is that of the standard deviations, as a ratio.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
from common import Clock, Table, argument_parser, conclude, machine, mixture_data

D, K = 2, 3
SIZES = [1000, 10_000, 100_000, 1_000_000]
HEADINGS = [
    "data",
    "laplace, s",
    "processor s",
    "MB",
    "k-hat",
    "effective",
    "evidence",
    "error",
    "NUTS, s",
    "processor s",
    "evidence",
    "error",
    "NUTS / laplace",
    "means",
    "deviations",
]


def data_named(name: str) -> tuple[Any, int, str]:
    """Rows, components and covariance type."""
    import stangmm as sg

    if name == "galaxies":
        return sg.datasets.galaxies(), 3, "diag"
    if name == "faithful":
        return sg.datasets.faithful(), 2, "full"
    return mixture_data(int(name), D, K), K, "full"


def fit_here(name: str, method: str, seed: int) -> dict[str, Any]:
    """Fit once in this process."""
    import cmdstanpy  # noqa: F401 - imports are not timed

    import stangmm as sg
    from stangmm.methods.psis import importance_weights

    warnings.simplefilter("ignore", sg.ConvergenceWarning)
    x, k, covariance_type = data_named(name)
    clock = Clock()
    fit = sg.GaussianMixture(k, covariance_type).fit(x, method, seed=seed, progress=False)
    fit.diagnose()
    times = clock.times()
    few = int(name) <= 10_000 if name.isdigit() else True
    evidence = fit.log_evidence(progress=False) if method == "laplace" or few else None
    mixture = fit.mixture
    parts = [mixture.weights, mixture.means, np.log(mixture.scales)]
    draws = np.concatenate([part.reshape(fit.lp.size, -1) for part in parts], axis=1)
    result: dict[str, Any] = {
        **times,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "verdict": fit.diagnose().computation.verdict,
        "mean": draws.mean(axis=0).tolist(),
        "sd": draws.std(axis=0).tolist(),
    }
    if evidence is not None:
        result |= {"evidence": float(evidence), "error": evidence.standard_error}
    if method == "laplace":
        weights, k_hat = importance_weights(fit.info)
        result |= {"k_hat": k_hat, "effective": float(1.0 / (weights**2).sum())}
    return result


def fit_apart(name: str, method: str, seed: int) -> dict[str, Any]:
    """Fit in a process of its own."""
    command = [sys.executable, __file__, "--one", name, method, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compared(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Largest difference of the means in standard deviations, and ratio of deviations from 1."""
    sd = np.array(other["sd"])
    varies = sd > 0
    off = np.abs(np.array(one["mean"]) - other["mean"])[varies] / sd[varies]
    ratio = np.array(one["sd"])[varies] / sd[varies]
    return float(off.max()), float(ratio[np.argmax(np.abs(np.log(ratio)))])


def main() -> None:
    """Fit all data by both methods, and print the table."""
    if sys.argv[1:2] == ["--one"]:
        name, method, seed = sys.argv[2:]
        print(json.dumps(fit_here(name, method, int(seed))))
        return
    parser = argument_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument(
        "--nuts-up-to", type=int, default=1_000_000, help="rows that NUTS is run on"
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sizes = [1000] if arguments.quick else arguments.sizes
    named = ["faithful"] if arguments.quick else ["galaxies", "faithful"]
    table = Table(HEADINGS)
    results, times = [], []
    for name in [*named, *map(str, sizes)]:
        own = fit_apart(name, "laplace", arguments.seed)
        result = {"data": name, "laplace": own}
        row = [
            name if not name.isdigit() else f"N={int(name):,}",
            f"{own['seconds']:.2f}",
            f"{own['cpu_seconds']:.2f}",
            f"{own['mb']:.0f}",
            f"{own['k_hat']:.2f}",
            f"{own['effective']:.0f}",
            f"{own['evidence']:.2f}",
            f"{own['error']:.3f}",
        ]
        if name.isdigit():
            times.append((int(name), own["cpu_seconds"]))
        if not name.isdigit() or int(name) <= arguments.nuts_up_to:
            nuts = fit_apart(name, "nuts", arguments.seed)
            result["nuts"] = nuts
            means, deviations = compared(own, nuts)
            row += [
                f"{nuts['seconds']:.2f}",
                f"{nuts['cpu_seconds']:.2f}",
                f"{nuts['evidence']:.2f}" if "evidence" in nuts else "",
                f"{nuts['error']:.3f}" if "error" in nuts else "",
                f"{nuts['seconds'] / own['seconds']:.1f}",
                f"{means:.3f}",
                f"{deviations:.3f}",
            ]
        else:
            row += [""] * 7
        table.row(row)
        results.append(result)
    large = np.array([each for each in times if each[0] >= 100_000])
    if len(large) > 1:
        exponent = np.polyfit(*np.log(large).T, 1)[0]
        print(f"Processor seconds by Laplace's method grow as N^{exponent:.2f} from N=1e5 on.")
    conclude(arguments, machine(["stangmm", "numpy", "scipy", "cmdstanpy"]), results)


if __name__ == "__main__":
    main()
