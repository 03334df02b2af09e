"""Time of one log density and gradient: stangmm's kernels against the textbook, JAX and stanli.

Run as ``python benchmarks/gradient.py [--json FILE] [--quick] [--before FOLDER]``.
Every program evaluates the same
posterior (checked) at the same point, on one core, in turns. The table shows medians of the
processor's time, in which other programs on the machine do not count; the ratio to the roofline is
between least times. What a second core gains is by the clock: of one thread to two, the ratio of
least times, and the median over the rounds, which has to do with how much of the second core the
host gives; and the median for two independent copies of the program, a core for each, which no
threads can better but by luck. "Alone" is what threads cannot share, Stan's transforms, priors and
tape and the kernel's own sums at the end: the least time of an evaluation of eight rows.

The roofline is the least the machine could need: a vectorized exp for each observation and
component, and the multiply-adds of value and gradient at the peak rate, both measured in the same
run. Per observation and component these are D(D+1) + 4D for full covariances (subtract the mean,
whiten, square, weigh, sum first and second moments) and 6D for diagonal ones.

With ``--before``, a folder that holds another version of the package (``git worktree add``), only
the native kernels of both versions take turns, and the table shows how much longer today's takes,
and how much longer with a noise component.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

ALL_CORES = os.sched_getaffinity(0)
os.sched_setaffinity(0, {max(ALL_CORES)})  # inherited by every program; before JAX starts threads

import cmdstanpy  # noqa: E402
import numpy as np  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
KERNELS = ROOT / "stan" / "kernel"
DRIVERS = ROOT / "tests" / "kernel"
MODEL = ROOT / "stan" / "gaussian_mixture.stan"
sys.path[:0] = [str(HERE), str(DRIVERS)]

from gradient_peers import JaxPeer, StanliPeer, Timing  # noqa: E402
from model_driver import mixture_problem, write_variables  # noqa: E402

SIZES = [(1000, 1, 2), (1000, 2, 3), (10000, 2, 3), (10000, 8, 5), (100000, 8, 5), (10000, 32, 3)]
COVARIANCE_TYPES = ["diag", "full"]
ALONE = "native, 8 rows"
COLUMNS = ["native", "native, 2 threads", "portable", "textbook", "jax", "stanli"]


class Peer(Protocol):
    """Something that evaluates the posterior's log density and gradient."""

    value: float

    def time(self, repeats: int) -> Timing: ...


class StanPeer:
    """A compiled Stan model, driven by tests/kernel/model_driver.cpp."""

    def __init__(
        self, program: Path, data: Path, point: Path, threads: int = 1, core: int | None = None
    ) -> None:
        # Stan counts the cores that it may use when it starts.
        one = max(ALL_CORES) if core is None else core
        os.sched_setaffinity(0, ALL_CORES if threads > 1 else {one})
        self._process = subprocess.Popen(
            [program, data, point],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "STAN_NUM_THREADS": str(threads)},
        )
        os.sched_setaffinity(0, {max(ALL_CORES)})
        self.value = float(self._line().split()[0])

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the model's program ended")
        return line

    def ask(self, repeats: int) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{repeats}\n")
        self._process.stdin.flush()

    def answer(self) -> Timing:
        return Timing(*map(float, self._line().split()))

    def time(self, repeats: int) -> Timing:
        self.ask(repeats)
        return self.answer()

    def close(self) -> None:
        self._process.communicate()


class TwoCopies:
    """Two independent programs at once, each on a core of its own: what the machine can do."""

    def __init__(self, program: Path, data: Path, point: Path) -> None:
        self._copies = [StanPeer(program, data, point, core=core) for core in sorted(ALL_CORES)[:2]]
        self.value = self._copies[0].value

    def time(self, repeats: int) -> Timing:
        """Both do half of the evaluations."""
        for copy in self._copies:
            copy.ask(max(1, repeats // 2))
        both = [copy.answer() for copy in self._copies]
        return Timing(*(max(values) for values in zip(*both, strict=True)))

    def close(self) -> None:
        for copy in self._copies:
            copy.close()


def make(
    folder: Path,
    name: str,
    source: Path,
    *,
    kernels: Path = KERNELS,
    flags: str = "",
    threads: bool = False,
) -> Path:
    """Compile a C++ program with CmdStan's flags."""
    command = ["make", "-f", str(DRIVERS / "driver.mk"), f"PROGRAM={folder / name}"]
    command += [f"SOURCE={source}", f"INCLUDES=-I{kernels / 'native'} {flags}", str(folder / name)]
    if threads:
        command.append("STAN_THREADS=TRUE")
    done = subprocess.run(command, cwd=cmdstanpy.cmdstan_path(), capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "rror" in line]
        raise RuntimeError(f"{name}: " + "\n".join(errors[:10]))
    return folder / name


def make_model(folder: Path, name: str, root: Path = ROOT) -> Path:
    """Compile model_driver.cpp around one of the Stan programs, of a version of the package."""
    stan = root / "stan"
    source = HERE / "textbook.stan" if name == "textbook" else stan / MODEL.name
    kernel = "native" if name.startswith("native") else "portable"
    header = folder / f"{name}.hpp"
    stanc = [f"{cmdstanpy.cmdstan_path()}/bin/stanc", "--name=gaussian_mixture_model"]
    stanc += [f"--o={header}", f"--include-paths={stan / 'kernel' / kernel}"]
    flags = f'-DMODEL="\\"{header}\\""'
    if kernel == "native":
        stanc.append("--allow-undefined")
        flags += f" -include {stan / 'kernel' / 'native' / 'mixture_lpdf.hpp'}"
    subprocess.run([*stanc, str(source)], check=True)
    return make(
        folder,
        name,
        DRIVERS / "model_driver.cpp",
        kernels=stan / "kernel",
        flags=flags,
        threads=name.endswith("threads"),
    )


def build(folder: Path) -> dict[str, Path]:
    """Compile everything, two at a time."""
    os.sched_setaffinity(0, ALL_CORES)
    with ThreadPoolExecutor(2) as pool:
        names = ["native", "native_threads", "portable", "textbook"]
        programs = {name: pool.submit(make_model, folder, name) for name in names}
        programs["roofline"] = pool.submit(make, folder, "roofline", HERE / "roofline.cpp")
        built = {name: program.result() for name, program in programs.items()}
    os.sched_setaffinity(0, {max(ALL_CORES)})
    return built


def peers(
    programs: dict[str, Path], folder: Path, data: dict[str, Any], point: dict[str, Any]
) -> tuple[dict[str, Peer], dict[str, str]]:
    """Every peer that can be had, and for the others why not."""
    files = write_variables(folder / "data", data), write_variables(folder / "point", point)
    makers: dict[str, Callable[[], Peer]] = {
        "native": lambda: StanPeer(programs["native"], *files),
        "native, 2 threads": lambda: StanPeer(programs["native_threads"], *files, threads=2),
        "native, 2 copies": lambda: TwoCopies(programs["native"], *files),
        "portable": lambda: StanPeer(programs["portable"], *files),
        "textbook": lambda: StanPeer(programs["textbook"], *files),
        "jax": lambda: JaxPeer(data, point),
        "stanli": lambda: StanliPeer(data, point, MODEL, KERNELS / "portable"),
    }
    found: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    for name, maker in makers.items():
        try:
            found[name] = maker()
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return found, missing


def measure(found: Mapping[str, Peer], rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Microseconds of one evaluation by each peer, from rounds taken in turns.

    "gain" is the median over the rounds of how many times as fast as "native" a peer was.
    """
    repeats = {}
    for name, peer in found.items():
        repeats[name] = max(1, int(seconds / max(peer.time(2).least, 1e-7)))
    times: dict[str, list[Timing]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, peer in found.items():
            times[name].append(peer.time(repeats[name]))
    clocks = {name: [t.clock / repeats[name] for t in times[name]] for name in found}
    native = clocks["native"]
    return {
        name: {
            "processor": 1e6 * statistics.median(t.processor for t in timings) / repeats[name],
            "clock": 1e6 * statistics.median(clocks[name]),
            "least": 1e6 * min(t.least for t in timings),
            "gain": statistics.median(a / b for a, b in zip(native, clocks[name], strict=True)),
        }
        for name, timings in times.items()
    }


def roofline(program: Path, seconds: float) -> dict[str, Any]:
    """Nanoseconds of a vectorized exp and of a multiply-add."""
    output = subprocess.run([program, str(seconds)], capture_output=True, text=True, check=True)
    exp_ns, fma_ns, instruction_set = output.stdout.split()
    return {"exp_ns": float(exp_ns), "fma_ns": float(fma_ns), "instruction_set": instruction_set}


def roofline_microseconds(rates: dict[str, Any], n: int, d: int, k: int, kind: str) -> float:
    """Least time of one gradient."""
    multiply_adds = d * (d + 1) + 4 * d if kind == "full" and d > 1 else 6 * d
    return float(1e-3 * n * k * (rates["exp_ns"] + multiply_adds * rates["fma_ns"]))


def processor() -> str:
    """Name of the processor, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def row(result: dict[str, Any]) -> str:
    """One line of the table."""
    times = result["microseconds"]
    columns = {name: t["clock" if "2" in name else "processor"] for name, t in times.items()}
    native, least = columns["native"], times["native"]["least"]
    cells = [f"({result['N']}, {result['D']}, {result['K']})", result["covariance_type"]]
    cells += [number(columns[c]) if c in columns else "-" for c in COLUMNS]
    cells += [f"{result['roofline']:.1f}", f"{least / result['roofline']:.2f}"]
    ratios = ["portable", "textbook", "jax", "stanli"]
    cells += [f"{columns[c] / native:.1f}" if c in columns else "-" for c in ratios]
    if "native, 2 threads" in times:
        threads = times["native, 2 threads"]
        cells += [f"{least / threads['least']:.2f}", f"{threads['gain']:.2f}"]
    else:
        cells += ["-", "-"]
    cells.append(f"{times['native, 2 copies']['gain']:.2f}" if "native, 2 copies" in times else "-")
    cells.append(f"{times[ALONE]['least']:.1f}")
    return "| " + " | ".join(cells) + " |"


def header() -> str:
    """The table's first two lines."""
    cells = ["(N, D, K)", "type", *COLUMNS, "roofline", "native / roofline"]
    cells += [f"{c} / native" for c in ("portable", "textbook", "jax", "stanli")]
    cells += ["gain by 2 threads, least times", "median", "gain by 2 copies", "alone"]
    return "| " + " | ".join(cells) + " |\n|" + "---|" * len(cells)


def compare_with(before: Path, rounds: int, seconds: float) -> None:
    """Time the native kernel of another version and this one's, in turns, and print both."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        programs = {"native": make_model(folder, "native")}
        programs["before"] = make_model(folder, "native_before", before)
        print(
            "| (N, D, K) | type | before, µs | now, µs | now / before, least times | medians "
            "| with noise / without, least times | medians |\n"
            "|---|---|---|---|---|---|---|---|"
        )
        for n, d, k in SIZES:
            for kind in COVARIANCE_TYPES:
                data, point = mixture_problem(n, d, k, kind)
                files = write_variables(folder / "data", data), write_variables(folder / "p", point)
                found = {name: StanPeer(p, *files) for name, p in programs.items()}
                noisy = mixture_problem(n, d, k, kind, noise=True)
                files = (
                    write_variables(folder / "data", noisy[0]),
                    write_variables(folder / "p", noisy[1]),
                )
                found["noise"] = StanPeer(programs["native"], *files)
                times = measure(found, rounds, seconds)
                now, then, noise = times["native"], times["before"], times["noise"]
                cells = [f"({n}, {d}, {k})", kind, number(then["least"]), number(now["least"])]
                cells += [f"{now[t] / then[t]:.3f}" for t in ("least", "processor")]
                cells += [f"{noise[t] / now[t]:.3f}" for t in ("least", "processor")]
                print("| " + " | ".join(cells) + " |", flush=True)
                for peer in found.values():
                    peer.close()
    print(f"processor: {processor()}")


def main() -> None:
    """Build, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--quick", action="store_true", help="three small sizes, few rounds")
    parser.add_argument("--before", type=Path, help="another version, whose kernel takes turns")
    arguments = parser.parse_args()
    rounds, seconds = (5, 0.03) if arguments.quick else (21, 0.05)
    if arguments.before:
        compare_with(arguments.before.resolve(), rounds, seconds)
        return
    results: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        programs = build(folder)
        print(f"microseconds per log density and gradient, median of {rounds} rounds\n")
        print(header())
        for n, d, k in SIZES[:3] if arguments.quick else SIZES:
            for kind in COVARIANCE_TYPES:
                data, point = mixture_problem(n, d, k, kind)
                found, missing = peers(programs, folder, data, point)
                absent.update(missing)
                for name, peer in found.items():
                    if not np.isclose(peer.value, found["portable"].value, rtol=1e-9):
                        raise RuntimeError(f"{name} evaluates another posterior: {peer.value}")
                few = mixture_problem(8, d, k, kind)
                files = [write_variables(folder / f"few-{i}", v) for i, v in enumerate(few)]
                found[ALONE] = StanPeer(programs["native"], *files)
                before = roofline(programs["roofline"], 4 * seconds)
                times = measure(found, rounds, seconds)
                after = roofline(programs["roofline"], 4 * seconds)
                rates = {
                    **before,
                    **{key: min(before[key], after[key]) for key in ("exp_ns", "fma_ns")},
                }
                results.append({
                    "N": n, "D": d, "K": k, "covariance_type": kind, "microseconds": times,
                    "roofline": roofline_microseconds(rates, n, d, k, kind), "rates": rates,
                })  # fmt: skip
                print(row(results[-1]), flush=True)
                for peer in found.values():
                    if isinstance(peer, StanPeer | TwoCopies):
                        peer.close()
    for name, reason in absent.items():
        print(f"{name} is missing: {reason}")
    machine = {
        "processor": processor(),
        "cores": len(ALL_CORES),
        "python": platform.python_version(),
    }
    machine["cmdstan"] = Path(cmdstanpy.cmdstan_path()).name
    machine["instruction_set"] = results[0]["rates"]["instruction_set"]
    print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
