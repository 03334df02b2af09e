"""Seconds and memory of a whole NUTS fit as the data grow, and where the seconds go.

Run as ``python benchmarks/scaling.py [--max-n N] [--json FILE] [--quick]``. The data have D=2
features and K=3 well separated components; N grows from a thousand to a million. Every fit is a
process of its own, whose tree is watched: memory is the largest sum of resident sets, Python and
its libraries included, and beside it the largest of one CmdStan process.

The phases, in seconds of the clock: checking and standardizing the table, EM's starting points,
writing data and initial values, then CmdStan (reading the data, warm-up and sampling, each as long
as for the mean chain, times the number of chains that one core runs), reading the draws, settling
the labels (relabelling), and the checks after the fit.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from common import Table, argument_parser, conclude, machine, mixture_data

SIZES = [1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
D, K = 2, 3
PHASES = ["check", "EM", "write", "read", "warm-up", "sample", "draws", "labels", "diagnose"]
_INTERVAL = 0.02  # seconds between two looks at the process tree


class Stopwatch:
    """Seconds spent in functions of the package, by phase; nested calls count once."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._running = ""

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Replace a function by one that is timed."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            if self._running:
                return function(*args, **options)
            self._running = phase
            began = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds[phase] += time.perf_counter() - began
                self._running = ""

        setattr(owner, name, timed)


def chain_seconds(paths: list[str]) -> tuple[float, float]:
    """Mean seconds of warm-up and of sampling, as CmdStan writes them at the end of its files."""
    pairs = []
    for path in paths:
        tail = subprocess.run(["tail", "-n", "6", path], capture_output=True, text=True, check=True)
        found = re.findall(r"([\d.e+-]+) seconds \((Warm-up|Sampling)\)", tail.stdout)
        numbers = {phase: seconds for seconds, phase in found}
        pairs.append((float(numbers["Warm-up"]), float(numbers["Sampling"])))
    warmup, sampling = np.mean(pairs, axis=0)
    return float(warmup), float(sampling)


def fit_here(n: int) -> dict[str, Any]:
    """Fit once in this process, with a stopwatch on each phase."""
    import stangmm as sg
    from stangmm import fit as fit_module
    from stangmm import model as model_module
    from stangmm.cmdstan.run import CmdStanRun
    from stangmm.data import Dataset
    from stangmm.methods import nuts as nuts_module
    from stangmm.problem import Problem

    warnings.simplefilter("ignore", sg.ConvergenceWarning)
    x = mixture_data(n, D, K)
    stopwatch = Stopwatch()
    chains: dict[str, float] = {}
    read_draws = nuts_module.NUTS._draws

    def draws(self: Any, mcmc: Any, *args: Any) -> Any:
        chains["warm-up"], chains["sample"] = chain_seconds(mcmc.runset.csv_files)
        return read_draws(self, mcmc, *args)

    nuts_module.NUTS._draws = draws  # type: ignore[method-assign]
    stopwatch.watch(Dataset, "from_input", "check")
    stopwatch.watch(Problem, "build", "check")
    stopwatch.watch(nuts_module, "plausible_starts", "EM")
    stopwatch.watch(CmdStanRun, "write_json", "write")
    stopwatch.watch(CmdStanRun, "call", "read")
    stopwatch.watch(nuts_module.NUTS, "_draws", "draws")
    stopwatch.watch(fit_module.Fit, "_settle_labels", "labels")
    stopwatch.watch(model_module.Fit, "diagnose", "diagnose")
    settings = sg.NUTS()
    began = time.perf_counter()
    fit = sg.GaussianMixture(K, "full").fit(x, settings, seed=1, progress=False)
    total = time.perf_counter() - began
    seconds = stopwatch.seconds
    # Chains run in rounds, one a core; what is not warm-up or sampling is reading the data.
    rounds = settings.chains / min(settings.chains, os.cpu_count() or 1)
    for phase, each in chains.items():
        seconds[phase] = rounds * each
    seconds["read"] -= seconds["warm-up"] + seconds["sample"]
    steps = fit.info.sample_stats["n_steps"]
    return {
        "N": n,
        "seconds": total,
        "phases": seconds,
        "leapfrogs_per_draw": float(steps.mean()),
        "r_hat": fit.diagnose()["R-hat"].value,
        "data_mb": x.nbytes / 1e6,
    }


def fit_apart(n: int) -> dict[str, Any]:
    """Fit in another process and watch the memory of its tree."""
    import psutil

    with tempfile.TemporaryFile("w+") as output:
        process = psutil.Popen([sys.executable, __file__, "--worker", str(n)], stdout=output)
        peak, peak_of_child = 0, 0
        over = threading.Event()

        def look() -> None:
            nonlocal peak, peak_of_child
            while not over.wait(_INTERVAL):
                total = 0
                for each in [process, *children(process)]:
                    try:
                        resident = each.memory_info().rss
                    except psutil.NoSuchProcess:
                        continue
                    total += resident
                    if each.pid != process.pid:
                        peak_of_child = max(peak_of_child, resident)
                peak = max(peak, total)

        def children(parent: Any) -> list[Any]:
            try:
                return list(parent.children(recursive=True))
            except psutil.NoSuchProcess:
                return []

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        code = process.wait()
        over.set()
        watcher.join()
        if code:
            raise RuntimeError(f"the fit of {n} rows ended with exit code {code}")
        output.seek(0)
        result: dict[str, Any] = json.loads(output.read())
    return result | {"peak_mb": peak / 1e6, "peak_chain_mb": peak_of_child / 1e6}


def exponent(results: list[dict[str, Any]], least: int) -> float:
    """Slope of log seconds against log N from N = least on."""
    used = [r for r in results if r["N"] >= least]
    if len(used) < 2:
        return float("nan")
    log_n, log_s = np.log([[r["N"], r["seconds"]] for r in used]).T
    return float(np.polyfit(log_n, log_s, 1)[0])


def main() -> None:
    if "--worker" in sys.argv:
        print(json.dumps(fit_here(int(sys.argv[-1]))))
        return
    parser = argument_parser(__doc__)
    parser.add_argument("--max-n", type=int, default=1_000_000)
    arguments = parser.parse_args()
    largest = min(arguments.max_n, 10_000) if arguments.quick else arguments.max_n
    facts = machine(["stangmm", "numpy", "cmdstanpy", "psutil"])
    if facts["psutil"] == "missing":
        print("psutil is missing: pip install psutil")
        return
    from stangmm.cmdstan import compiled_model

    compiled_model(progress=False)
    print(f"NUTS at its defaults, D={D}, K={K}, full covariances; seconds by phase\n")
    table = Table(
        ["N", "total", *PHASES, "leapfrogs", "data MB", "peak MB", "chain MB"],
        [8, 7, *[6] * len(PHASES), 0, 0, 0, 0],
    )
    results = []
    for n in [size for size in SIZES if size <= largest]:
        result = fit_apart(n)
        results.append(result)
        phases = [f"{result['phases'][phase]:.2f}" for phase in PHASES]
        memory = [f"{result[key]:.0f}" for key in ("peak_mb", "peak_chain_mb")]
        table.row([
            n, f"{result['seconds']:.1f}", *phases, f"{result['leapfrogs_per_draw']:.1f}",
            f"{result['data_mb']:.2f}", *memory,
        ])  # fmt: skip
    print()
    for least in (1000, 10_000, 100_000):
        print(f"seconds grow as N^{exponent(results, least):.2f} from N = {least} on")
    conclude(arguments, facts, results)


if __name__ == "__main__":
    main()
