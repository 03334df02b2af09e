"""Seconds and memory of a whole NUTS fit as the data grow, and where the seconds go.

Run as ``python benchmarks/scaling.py [--max-n N] [--json FILE] [--quick]``. The data have D=2
features and K=3 well separated components; N grows from a thousand to a million. Every fit is a
process of its own, whose tree is watched: memory is the largest sum over its processes, Python and
its libraries included and pages that they share counted once, and beside it the largest of one
CmdStan process and what Python holds before the fit.

The phases, in seconds of the clock: checking and standardizing the table, EM's starting points, the
metric from the curvature there, writing data and initial values, then CmdStan (reading the data,
warm-up and sampling, each as long as for the mean chain, times the number of chains that one core
runs), reading the draws, settling the labels (relabelling), and the checks after the fit. Imports
are not counted.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from common import Table, argument_parser, conclude, machine, mixture_data

SIZES = [1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
D, K = 2, 3
PHASES = [
    "check",
    "EM",
    "metric",
    "write",
    "read",
    "warm-up",
    "sample",
    "draws",
    "labels",
    "diagnose",
]
_INTERVAL = 0.03  # seconds between two looks at the process tree


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


def timed_import(bridge: Any) -> list[float]:
    """Note how long it takes to import ArviZ, which a fit does when its chains have ended."""
    seconds: list[float] = []
    load = bridge.arviz

    def timed() -> Any:
        began = time.perf_counter()
        try:
            return load()
        finally:
            seconds.append(time.perf_counter() - began)

    bridge.arviz = timed
    return seconds


def fit_here(n: int) -> dict[str, Any]:
    """Fit once in this process, with a stopwatch on each phase."""
    import cmdstanpy  # noqa: F401 - the fit would import it; importing is not part of it

    import stangmm as sg
    from stangmm import fit as fit_module
    from stangmm.base.processors import n_processors
    from stangmm.cmdstan.run import CmdStanRun
    from stangmm.data.dataset import Dataset
    from stangmm.methods.draws import McmcInfo
    from stangmm.methods.stan import nuts as nuts_module
    from stangmm.model.problem import Problem
    from stangmm.posterior import arviz as arviz_bridge

    warnings.simplefilter("ignore", sg.ConvergenceWarning)
    x = mixture_data(n, D, K)
    stopwatch = Stopwatch()
    chains: dict[str, float] = {}
    read_draws = nuts_module.NUTS._draws

    def draws(self: Any, mcmc: Any, *args: Any) -> Any:
        chains["warm-up"], chains["sample"] = chain_seconds(mcmc.runset.csv_files)
        return read_draws(self, mcmc, *args)

    setattr(nuts_module.NUTS, "_draws", draws)  # noqa: B010 - it is replaced on purpose
    stopwatch.watch(Dataset, "from_input", "check")
    stopwatch.watch(Problem, "build", "check")
    stopwatch.watch(nuts_module, "regions", "EM")
    stopwatch.watch(nuts_module.NUTS, "_adaptation", "metric")
    stopwatch.watch(CmdStanRun, "write_json", "write")
    stopwatch.watch(CmdStanRun, "call", "read")
    stopwatch.watch(nuts_module.NUTS, "_draws", "draws")
    stopwatch.watch(fit_module.Fit, "_settled", "labels")
    stopwatch.watch(fit_module.Fit, "diagnose", "diagnose")
    imports = timed_import(arviz_bridge)
    settings = sg.NUTS()
    before = memory_of(psutil.Process())
    began = time.perf_counter()
    fit = sg.GaussianMixture(K, "full").fit(x, settings, seed=1, progress=False)
    total = time.perf_counter() - began - sum(imports)
    seconds = stopwatch.seconds
    seconds["diagnose"] -= sum(imports)
    # Chains run in rounds, one a core; what is not warm-up or sampling is reading the data.
    rounds = settings.chains / min(settings.chains, n_processors())
    for phase, each in chains.items():
        seconds[phase] = rounds * each
    seconds["read"] -= seconds["warm-up"] + seconds["sample"]
    assert isinstance(fit.info, McmcInfo)
    steps = fit.info.sample_stats["n_steps"]
    return {
        "N": n,
        "seconds": total,
        "phases": seconds,
        "leapfrogs_per_draw": float(steps.mean()),
        "r_hat": fit.diagnose()["R-hat"].value,
        "data_mb": x.nbytes / 1e6,
        "python_mb": before,
    }


def memory_of(process: Any) -> float:
    """Megabytes of a process, each shared page divided among those that share it (Linux)."""
    try:
        path = f"/proc/{process.pid}/smaps_rollup"
        with open(path, encoding="utf-8") as lines:
            return next(float(x.split()[1]) for x in lines if x.startswith("Pss:")) * 1024 / 1e6
    except (OSError, StopIteration):  # it has ended, or this is no Linux
        with contextlib.suppress(psutil.Error):
            return float(process.memory_info().rss) / 1e6
    return 0.0


def fit_apart(n: int) -> dict[str, Any]:
    """Fit in another process and watch the memory of its tree."""
    peak = {"peak_mb": 0.0, "peak_chain_mb": 0.0}
    with tempfile.TemporaryFile("w+") as output:
        process = psutil.Popen([sys.executable, __file__, "--worker", str(n)], stdout=output)
        while process.poll() is None:
            began = time.perf_counter()
            total = memory_of(process)
            for each in process.children(recursive=True):
                own = memory_of(each)
                total += own
                with contextlib.suppress(psutil.Error):
                    if each.name().startswith("gaussian_mix"):
                        peak["peak_chain_mb"] = max(peak["peak_chain_mb"], own)
            peak["peak_mb"] = max(peak["peak_mb"], total)
            # Looking takes some of the processor that the fit needs: a twentieth at most.
            time.sleep(max(_INTERVAL, 20 * (time.perf_counter() - began)))
        if process.returncode:
            raise RuntimeError(f"the fit of {n} rows ended with exit code {process.returncode}")
        output.seek(0)
        result: dict[str, Any] = json.loads(output.read())
    return result | peak


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
    largest = min(arguments.max_n, 1000) if arguments.quick else arguments.max_n
    facts = machine(["stangmm", "numpy", "cmdstanpy"])
    from stangmm.cmdstan import compiled_model

    compiled_model(progress=False)
    print(f"NUTS at its defaults, D={D}, K={K}, full covariances; seconds by phase\n")
    table = Table(
        ["N", "total", *PHASES, "leapfrogs", "data MB", "peak MB", "chain MB", "before MB"],
        [8, 7, *[6] * len(PHASES), 0, 0, 0, 0, 0],
    )
    results = []
    for n in [size for size in SIZES if size <= largest]:
        result = fit_apart(n)
        results.append(result)
        phases = [f"{result['phases'][phase]:.2f}" for phase in PHASES]
        memory = [f"{result[key]:.0f}" for key in ("peak_mb", "peak_chain_mb", "python_mb")]
        table.row([
            n, f"{result['seconds']:.1f}", *phases, f"{result['leapfrogs_per_draw']:.1f}",
            f"{result['data_mb']:.2f}", *memory,
        ])  # fmt: skip
    print()
    for least in (n for n in (1000, 10_000, 100_000) if n < largest):
        print(f"seconds grow as N^{exponent(results, least):.2f} from N = {least} on")
    conclude(arguments, facts, results)


if __name__ == "__main__":
    main()
