"""Small fits: a fresh process, a second fit in it, and a thousand fits, against other tools.

Run as ``python benchmarks/small.py [--json FILE] [--quick] [--seeds N] [--fits N] [--part PART]``.

- nuts: galaxies (82 rows, K = 3) and faithful (272 rows of two features, K = 2). "Process" is a
  fresh Python with one fit, imports and the peers' compilation included; "second" is one more fit,
  with all compiled (stangmm: the call of `fit`, with labels and checks; peers: warm-up and draws
  alone). The peers' models are those of benchmarks/nuts.py, and so are the effective sample sizes.
  What a peer's process takes to make its data by stangmm is taken off.
- many: data sets of 200 rows of two features by EM, on one core: `stangmm.fit_many` at its
  defaults and with ten restarts, scikit-learn with one start and ten. "Short of the best" counts
  the data sets of which a log likelihood is more than 0.1 nats below the highest of all searches.

Tools take turns. Processor seconds, of all cores, are less disturbed by other work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Clock, FloatArray, Table, argument_parser, conclude, failure_of, machine

TOOLS = ("stangmm", "numpyro", "nutpie")
LIMIT = 600.0  # seconds for one process
ROWS, BLOCK = 200, 25  # of a data set; data sets between turns
SHORT = 0.1  # nats
R_HAT_OK = 1.01
# Means of the components, nearly two standard deviations apart, and far apart.
PLACES = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
DISTANCES = (2.5, 4.0)


def first_fit(name: str, seed: int) -> None:
    """What a user writes who wants one fit by NUTS."""
    import stangmm as sg

    table, k, covariance_type = {
        "galaxies": (sg.datasets.galaxies, 3, "diag"),
        "faithful": (sg.datasets.faithful, 2, "full"),
    }[name]
    sg.GaussianMixture(k, covariance_type).fit(table(), seed=seed, progress=False)


def work(tool: str, name: str, seed: int, out: Path) -> None:
    """Fit in this process, and save the seconds and the draws of the second fit."""
    warnings.simplefilter("ignore")
    began = Clock()
    found: dict[str, Any] = {}
    if tool == "stangmm":
        first_fit(name, seed)
        found |= {f"process_{key}": value for key, value in began.times().items()}
    from nuts import TOOLS as RUNS
    from nuts import problem_named

    problem = problem_named(name)
    setup = began.times()
    found |= RUNS[tool](name, problem, seed)
    if tool != "stangmm":
        whole = began.times()
        found |= {f"process_{key}": whole[key] - setup[key] for key in whole}
    np.savez(out, **found)


def start_seconds() -> dict[str, float]:
    """Seconds of a Python that does nothing, which each process takes besides."""
    clock = Clock()
    failure_of([sys.executable, "-c", "pass"], LIMIT)
    return clock.times()


def run_apart(tool: str, name: str, seed: int) -> dict[str, Any]:
    """Fit in a fresh process, and judge its draws."""
    from nuts import judge, problem_named

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "draws.npz"
        start = start_seconds()
        failure = failure_of([sys.executable, __file__, "--worker", tool, name, seed, out], LIMIT)
        if failure:
            return {"failure": failure}
        with np.load(out) as arrays:
            draws = dict(arrays)
    found = judge(draws, problem_named(name))
    process = {f"process_{key}": float(draws[f"process_{key}"]) + start[key] for key in start}
    second = float(draws.get("call_seconds", draws["seconds"]))
    return found | process | {"seconds": second}


def measure_nuts(arguments: argparse.Namespace, tools: list[str]) -> list[dict[str, Any]]:
    """Every tool on both data sets, seeds outermost."""
    columns = ["data", "tool", "process s", "cpu s", "second s", "cpu s", "ESS free", "ESS relab."]
    for per in ("process s", "second s", "second cpu s"):
        columns += [f"free / {per}", f"relab. / {per}"]
    table = Table([*columns, "converged"])
    results: list[dict[str, Any]] = []
    for name in ("galaxies",) if arguments.quick else ("galaxies", "faithful"):
        runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
        for seed in range(1, arguments.seeds + 1):
            for tool in tools:
                runs[tool].append(run_apart(tool, name, seed))
                results.append({"data": name, "tool": tool, "seed": seed, **runs[tool][-1]})
        for tool in tools:
            table.row([name, tool, *summary(runs[tool])])
    return results


def summary(runs: list[dict[str, Any]]) -> list[str]:
    """Medians over the seeds of one tool."""
    done = [run for run in runs if "failure" not in run]
    if not done:
        return [runs[0]["failure"], *[""] * 12]

    def median(value: Callable[[dict[str, Any]], float], digits: int) -> str:
        return f"{statistics.median(value(run) for run in done):.{digits}f}"

    times = ("process_seconds", "process_cpu_seconds", "seconds", "cpu_seconds")
    sizes = ("ess_label_free", "ess_relabelled")
    by = ("process_seconds", "seconds", "cpu_seconds")
    rates = [(size, time) for time in by for size in sizes]
    return [
        *(median(lambda run, t=t: run[t], 2) for t in times),  # type: ignore[misc]
        *(median(lambda run, s=s: run[s], 0) for s in sizes),  # type: ignore[misc]
        *(median(lambda run, s=s, t=t: run[s] / run[t], 0) for s, t in rates),  # type: ignore[misc]
        f"{sum(run['r_hat'] <= R_HAT_OK for run in done)} of {len(runs)}",
    ]


def samples(k: int, distance: float, n: int) -> list[FloatArray]:
    """Data sets (200, 2) of k components of equal weight and unit variance."""
    rng = np.random.default_rng([k, round(10 * distance)])
    labels = rng.integers(0, k, (n, ROWS))
    return list(rng.standard_normal((n, ROWS, 2)) + distance * PLACES[labels])


def searches(k: int) -> dict[str, Callable[[list[FloatArray]], list[float]]]:
    """Functions from data sets to the log likelihoods that are reached."""
    import stangmm as sg

    def ours(settings: sg.EM) -> Callable[[list[FloatArray]], list[float]]:
        def fit(data: list[FloatArray]) -> list[float]:
            many = sg.fit_many(sg.GaussianMixture(k), data, settings, seed=1, progress=False)
            return [float(fit.total_log_likelihood.item()) for fit in many.fits.values()]

        return fit

    found = {"stangmm": ours(sg.EM()), "stangmm, 10 restarts": ours(sg.EM(restarts=10))}
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        print("scikit-learn is missing: pip install scikit-learn")
        return found
    for n_init in (1, 10):

        def theirs(data: list[FloatArray], n_init: int = n_init) -> list[float]:
            model = GaussianMixture(k, n_init=n_init, random_state=1)
            return [ROWS * float(model.fit(x).score(x)) for x in data]

        found[f"scikit-learn, n_init={n_init}"] = theirs
    return found


def measure_many(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Many data sets by each search, some at a time in turns."""
    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    columns = ["K", "distance", "search", "fits", "fits a processor s", "ms a fit"]
    table = Table([*columns, "short of the best", "by nats, at most"])
    results = []
    for k in (2, 3):
        for distance in DISTANCES:
            data = samples(k, distance, arguments.fits)
            each = searches(k)
            cpu = dict.fromkeys(each, 0.0)
            reached: dict[str, list[float]] = {name: [] for name in each}
            with threadpool_limits(1):
                for search in each.values():
                    search(data[:1])  # so that libraries are imported
                for first in range(0, len(data), BLOCK):
                    for name, search in each.items():
                        began = time.process_time()
                        reached[name] += search(data[first : first + BLOCK])
                        cpu[name] += time.process_time() - began
            best = np.max(list(reached.values()), axis=0)
            for name, values in reached.items():
                short = best - values
                rate = len(data) / cpu[name]
                missed = f"{np.mean(short > SHORT):.1%}"
                cells = [k, distance, name, len(data), f"{rate:.1f}", f"{1e3 / rate:.1f}"]
                table.row([*cells, missed, f"{short.max():.1f}"])
                facts = {"k": k, "distance": distance, "search": name, "fits": len(data)}
                rates = {"seconds": cpu[name], "short": float(np.mean(short > SHORT))}
                results.append(facts | rates | {"most_nats": float(short.max())})
    return results


def main() -> None:
    if "--worker" in sys.argv:
        tool, name, seed, out = sys.argv[-4:]
        work(tool, name, int(seed), Path(out))
        return
    parser = argument_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fits", type=int, default=1000, help="data sets of each kind")
    parser.add_argument("--part", choices=("nuts", "many"), help="one of the two alone")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.fits = 1, 3
    facts = machine(["stangmm", "cmdstanpy", "numpyro", "jax", "pymc", "nutpie", "scikit-learn"])
    results = []
    if arguments.part != "many":
        there = [tool for tool in TOOLS if facts[tool] != "missing"]
        for tool in sorted({*TOOLS} - {*there}):
            print(f"{tool} is missing: make bench-peers")
        from stangmm.cmdstan import compiled_model

        compiled_model(progress=False)  # so that no run compiles
        results += measure_nuts(arguments, there)
        print()
    if arguments.part != "nuts":
        results += measure_many(arguments)
    conclude(arguments, facts, results)


if __name__ == "__main__":
    main()
