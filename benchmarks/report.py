"""Seconds of a fit's diagnosis, LOO and HTML report, for small tables and a very large one.

Run as ``python benchmarks/report.py [--json FILE] [--quick] [--before FOLDER] [--turns N]``. With
``--beside-fits``: the wall time of reports on small data beside that of their fits by NUTS, the
first of a process, in which libraries are imported, and the median of ``--turns`` later ones.
Galaxies (N = 82, K = 3) by EM, ADVI and NUTS; faithful (272, 2), wine (178 rows, 13 features, 3)
and made data (2000, 3; and of six features 5000, 5) by NUTS; and a million rows of two features
(K = 3) by EM and, with 100 draws of each chain, by NUTS. Each fit is written to a file, and what is
timed begins with a fit just read, of which nothing is known yet. The table has processor seconds,
about the seconds on an idle machine, the best of some turns.

With ``--before``, a folder that holds another version of the package (``git worktree add``), both
versions take turns on the same files, and "gain" is how many times less the report takes now.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import Table, argument_parser, conclude, machine, mixture_data

import stangmm as sg

MEASURED = ("diagnose", "loo", "report")
LARGE = 100_000  # rows, from which on what takes long is done once


def fits(*, quick: bool) -> Iterator[tuple[str, sg.Fit]]:
    """Name of the data and a fit, one after the other."""
    galaxies, model = sg.datasets.galaxies(), sg.GaussianMixture(3, "diag")
    for method in ("em", "advi", "nuts"):
        yield "galaxies", model.fit(galaxies, method, seed=1, progress=False)
    data = [("faithful", 2, sg.datasets.faithful()), ("wine", 3, wine())]
    data += [("made", 3, mixture_data(2000, 2, 3)), ("made", 5, mixture_data(5000, 6, 5))]
    for name, k, x in data:
        if x is not None and not (quick and name == "made"):
            yield name, sg.GaussianMixture(k).fit(x, "nuts", seed=1, progress=False)
    rows = mixture_data(20_000 if quick else 1_000_000, 2, 3)
    for settings in (sg.EM(), sg.NUTS(draws=100)):
        yield "made", sg.GaussianMixture(3).fit(rows, settings, seed=1, progress=False)


def wine() -> Any:
    """The wine data of scikit-learn, or None where that is not installed."""
    try:
        from sklearn.datasets import load_wine
    except ImportError:
        return None
    return load_wine(as_frame=True).data


def measure(path: Path) -> dict[str, float]:
    """Processor seconds and bytes, of the fit in a file, by the package that is imported here."""
    report = path.with_suffix(".html")
    calls: dict[str, Callable[[sg.Fit], object]] = {
        "diagnose": lambda fit: fit.diagnose(),
        "loo": lambda fit: fit.loo(progress=False),
        "report": lambda fit: fit.report(report, progress=False),
    }
    if sg.load(path).kind == "point":
        del calls["loo"]
    warm_up = sg.load(path)
    if warm_up.dataset.n_observations > LARGE:
        warm_up = sg.GaussianMixture(1).fit(sg.datasets.galaxies(), "em", progress=False)
    warm_up.report(report, progress=False)  # libraries are imported once
    found: dict[str, float] = {}
    for name, call in calls.items():
        fit = sg.load(path)
        began, worked = time.perf_counter(), time.process_time()
        call(fit)
        found[name] = time.process_time() - worked
        found["seconds"] = time.perf_counter() - began  # of the last, the report
    return found | {"bytes": report.stat().st_size}


def measured_by(package: Path | None, path: Path) -> dict[str, float]:
    """What `measure` gives in a process of its own, which imports the package from a folder."""
    paths = {"PYTHONPATH": str(package.resolve())} if package else {}
    command = [sys.executable, __file__, "--measure", str(path)]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | paths
    ).stdout
    found: dict[str, float] = json.loads(printed)
    return found


def best_of(turns: list[dict[str, float]]) -> dict[str, float]:
    """The least of each number over some turns."""
    return {name: min(turn[name] for turn in turns) for name in turns[0]}


SMALL = {
    "galaxies": ((2, "diag"), (3, "diag")),
    "faithful": ((1, "full"), (2, "full")),
    "iris": ((2, "diag"), (2, "full"), (3, "full")),
}


def small_data(name: str) -> Any:
    """The rows of one of the small data sets."""
    if name != "iris":
        return getattr(sg.datasets, name)()
    from sklearn.datasets import load_iris

    return load_iris(as_frame=True).data


def fit_and_report(data: Any, k: int, covariance_type: Any, turns: int) -> list[float]:
    """Seconds of a process's first fit and first report, and of later ones."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(turns + 1):
            began = time.perf_counter()
            model = sg.GaussianMixture(k, covariance_type)
            fit = model.fit(data, "nuts", seed=seed, progress=False)
            fitted = time.perf_counter()
            fit.report(Path(folder) / "report.html", progress=False)
            taken.append((fitted - began, time.perf_counter() - fitted))
    later = [statistics.median(each) for each in zip(*taken[1:], strict=True)]
    return [*taken[0], *later]


def beside_fits(arguments: Namespace) -> None:
    """Print the table of fits and reports of small data, each line from its own process."""
    if arguments.one:
        name, k, covariance_type = arguments.one
        print(
            json.dumps(fit_and_report(small_data(name), int(k), covariance_type, arguments.turns))
        )
        return
    names = ["first fit", "its report", "later fit", "later report"]
    table, results = Table(["data", "K", "covariance", *names]), []
    for data, models in SMALL.items():
        for k, covariance_type in models:
            command = [sys.executable, __file__, "--beside-fits", "--turns", str(arguments.turns)]
            command += ["--one", data, str(k), covariance_type]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds = json.loads(printed)
            table.row([data, k, covariance_type, *(f"{each:.2f}" for each in seconds)])
            results.append(
                {"data": data, "K": k, "covariance": covariance_type}
                | dict(zip(names, seconds, strict=True))
            )
    conclude(arguments, machine(["stangmm", "matplotlib", "arviz"]), results)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--beside-fits", action="store_true", help="small data, fit and report")
    parser.add_argument("--one", nargs=3, help="data, K and covariance type, in this process")
    parser.add_argument("--measure", type=Path, help="measure this fit in this process")
    parser.add_argument("--before", type=Path, help="folder of another version of the package")
    parser.add_argument("--turns", type=int, default=3, help="of which the best is taken")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", sg.ConvergenceWarning)
    if arguments.beside_fits:
        beside_fits(arguments)
        return
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    columns = ["data", "rows", "method", "draws", "fit", *MEASURED]
    before = [f"{name} before" for name in MEASURED] + ["gain"] if arguments.before else []
    table = Table([*columns, "kB", *before])
    results = []
    for name, fit in fits(quick=arguments.quick):
        large = fit.dataset.n_observations > LARGE
        versions = {"now": None} | ({"before": arguments.before} if arguments.before else {})
        taken: dict[str, list[dict[str, float]]] = {version: [] for version in versions}
        with tempfile.TemporaryDirectory() as folder:
            path = fit.save(Path(folder) / "fit.nc")
            for _ in range(1 if large or arguments.quick else arguments.turns):
                for version, package in versions.items():
                    taken[version].append(measured_by(package, path))
        best = {version: best_of(turns) for version, turns in taken.items()}
        now, old = best["now"], best.get("before", {})
        about = {
            "data": name,
            "rows": fit.dataset.n_observations,
            "method": fit.method,
            "draws": fit.lp.size,
            "fit": round(fit.seconds, 2),
        }
        cells = [*about.values(), *written(now), round(now["bytes"] / 1e3)]
        if old:
            cells += [*written(old), f"{old['report'] / now['report']:.2f}"]
        table.row(cells)
        results.append(about | now | {f"{key}_before": value for key, value in old.items()})
    conclude(arguments, machine(["stangmm", "matplotlib", "arviz"]), results)


def written(found: dict[str, float]) -> list[str]:
    """Seconds as they stand in the table; empty for LOO where there is none."""
    return [f"{found[name]:.3f}" if name in found else "" for name in MEASURED]


if __name__ == "__main__":
    main()
