"""Leave-one-out by subsampling: how good the approximations are, whether its errors hold, seconds.

Run as ``python benchmarks/loo.py [approximations] [coverage] [sizes] [--json FILE] [--quick]``.

``approximations``: what a row's part of LOO is above each of several approximations of it, as the
standard error in nats that 1000 rows drawn at random of N would leave. ``coverage``: of many
subsamples, how far the estimate is from LOO of all rows, beside the error that it states; for two
models and for their difference. ``sizes``: seconds and memory at growing N, each in a process of
its own; "beyond" is the largest resident memory less what the process held before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import FloatArray, Table, argument_parser, conclude, machine, mixture_data
from predict import memory

import stangmm as sg
from stangmm.judge.leave_one_out import psis_loo, subsampled_loo
from stangmm.judge.subsampling import difference
from stangmm.model.mixture import Mixture
from stangmm.predict.averages import log_density_draws

PARTS = ("approximations", "coverage", "sizes")
FEW = 64
ROWS = 1000


def fitted(x: Any, k: int, covariance_type: Any = "full", draws: int = 1000) -> sg.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = sg.NUTS(draws=draws)
        return sg.GaussianMixture(k, covariance_type).fit(x, settings, seed=1, progress=False)


def data_sets(*, quick: bool) -> Iterator[tuple[str, sg.Fit]]:
    """Small and large data; a component of few rows, heavy tails, many parameters."""
    rng, scale = np.random.default_rng(1), 20 if quick else 1
    draws = 1000 // scale + 50
    yield "faithful, K = 2", fitted(sg.datasets.faithful(), 2, draws=draws)
    yield "D = 2, K = 3", fitted(mixture_data(20_000 // scale, 2, 3), 3, draws=draws)
    if quick:
        return
    rare = np.vstack([rng.normal(0.0, 1.0, (9950, 2)), rng.normal(8.0, 0.5, (50, 2))])
    yield "50 rows of 10,000 apart, K = 2", fitted(rare, 2)
    yield "Student t of 4 df, K = 3", fitted(rng.standard_t(4, (8000, 2)), 3)
    yield "D = 8, K = 3", fitted(mixture_data(5000, 8, 3), 3)


def at_the_mean(mixture: Mixture) -> Mixture:
    """The mixture whose parameters are the posterior means, batch of one."""
    covariances = mixture.covariances.mean(axis=0)
    scales = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    correlations = covariances / scales[..., np.newaxis] / scales[..., np.newaxis, :]
    chol = None if mixture.corr_chol is None else np.linalg.cholesky(correlations)
    return Mixture(mixture.weights.mean(0), mixture.means.mean(0), scales, chol).reshape(1)


def approximations(fit: sg.Fit) -> dict[str, FloatArray]:
    """Each row's part by each of several approximations, (N,); 0 errors where it is visited."""
    exact = psis_loo(fit, fit.dataset.n_observations).elpd_i
    each = fit.log_likelihood()
    few = each[np.linspace(0, len(each) - 1, FEW).round().astype(int)]
    mean, variance = each.mean(axis=0), few.var(axis=0)
    point = log_density_draws(at_the_mean(fit.mixture), fit.dataset.x)[0]
    ours = mean - 0.5 * variance
    visited = ours.copy()
    certain = np.argsort(-variance)[: len(exact) // 32]
    visited[certain] = exact[certain]

    def average(log_values: FloatArray) -> FloatArray:
        peak = log_values.max(axis=0)
        return np.asarray(np.log(np.exp(log_values - peak).mean(axis=0)) + peak)

    less = f"less half of the variance over {FEW} draws"
    made = {
        "log density at the posterior mean": point,
        f"log density at the posterior mean, {less}": point - 0.5 * variance,
        f"log mean density of {FEW} draws": average(few),
        f"importance sampling of {FEW} draws": -average(-few),
        "mean log density of all draws": mean,
        f"mean log density of all draws, {less}": ours,
        "the same, and a row in 32 visited in any case": visited,
    }
    return {name: exact - approximation for name, approximation in made.items()}


def compare_approximations(*, quick: bool) -> list[dict[str, Any]]:
    found: dict[str, dict[str, FloatArray]] = {}
    began = time.perf_counter()
    for name, fit in data_sets(quick=quick):
        found[name] = approximations(fit)
    table = Table(["approximation", *found])
    results = []
    for approximation in next(iter(found.values())):
        errors = {
            name: len(e[approximation]) * float(e[approximation].std()) / np.sqrt(ROWS)
            for name, e in found.items()
        }
        table.row([approximation, *(f"{error:.2g}" for error in errors.values())])
        results.append({"approximation": approximation, **errors})
    print()
    return [{**result, "seconds": time.perf_counter() - began} for result in results]


def cover(*, quick: bool) -> list[dict[str, Any]]:
    """Of many subsamples, errors as they are and as they are stated."""
    n, repeats = (1000, 20) if quick else (20_000, 200)
    x = mixture_data(n, 2, 3)
    draws = 50 if quick else 1000
    fits = [fitted(x, 3, draws=draws), fitted(x, 3, "tied", draws=draws)]
    whole = [psis_loo(fit, n) for fit in fits]
    gap = difference(whole[0].parts, whole[1].parts, None)
    table = Table(["visited", "of", "LOO of all rows", "its error", "real", "stated", "within two"])
    results: list[dict[str, Any]] = []
    rng = np.random.default_rng(1)
    for visited in (200, 1000):
        began, ends = time.perf_counter(), []
        for _ in range(repeats):
            drawn = np.sort(rng.choice(n, visited - visited // 4, replace=False))
            made = [subsampled_loo(fit, drawn, visited // 4) for fit in fits]
            apart = difference(made[0].parts, made[1].parts, None)
            ends.append([
                *((m.elpd - w.elpd, m.subsampling_se) for m, w in zip(made, whole, strict=True)),
                (apart.value - gap.value, apart.subsampling_se),
            ])  # fmt: skip
        miss, error = np.moveaxis(ends, -1, 0)
        facts = [(w.elpd, w.se) for w in whole] + [(gap.value, gap.se)]
        for i, name in enumerate(("full", "tied", "full - tied")):
            result = {
                "visited": visited,
                "of": name,
                "elpd": facts[i][0],
                "se": facts[i][1],
                "real": float(np.sqrt(np.mean(miss[:, i] ** 2))),
                "stated": float(np.sqrt(np.mean(error[:, i] ** 2))),
                "covered": float((np.abs(miss[:, i]) < 2 * error[:, i]).mean()),
            }
            cells = [f"{result[c]:.1f}" for c in ("elpd", "se")]
            cells += [f"{result[c]:.3f}" for c in ("real", "stated")]
            table.row([visited, name, *cells, f"{result['covered']:.0%}"])
            results.append({**result, "seconds": time.perf_counter() - began})
    print()
    return results


def measure(path: Path, subsample: int | None) -> dict[str, float]:
    """LOO of the fit in a file: seconds, memory and what it says."""
    fit = sg.load(path)
    fit.select_chains([0, 1]).loo(subsample=100, progress=False)  # libraries are there
    fit = sg.load(path)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the largest so far
    began, worked = time.perf_counter(), time.process_time()
    result = fit.loo(subsample=subsample, progress=False)
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - worked,
        "beyond_mb": memory("VmHWM") - before,
        "draws": fit.lp.size,
        "visited": result.n_visited,
        "elpd": result.elpd,
        "se": result.se,
        "subsampling_se": result.subsampling_se,
    }


def grow(keep: Path | None, *, quick: bool) -> list[dict[str, Any]]:
    """Seconds and memory by the number of rows."""
    sizes = (1000, 4000) if quick else (20_000, 100_000, 1_000_000)
    columns = ["N", "draws", "visited", "LOO", "its error", "by subsampling"]
    table = Table([*columns, "seconds", "processor s", "beyond, MB"])
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        for n in sizes:
            path = (keep or Path(temporary)) / f"loo-{n}.nc"
            if not path.exists():
                fitted(mixture_data(n, 2, 3), 3, draws=50 if quick else 1000).save(path)
            for rows in (n, 400 if quick else None) if n == sizes[0] else (None,):
                command = [sys.executable, __file__, "--measure", str(path)]
                command += ["--subsample", str(rows)] if rows else []
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                result = {"n": n, **json.loads(done.stdout)}
                cells = [f"{result[c]:.1f}" for c in ("elpd", "se")]
                cells += [f"{result['subsampling_se']:.3f}"]
                cells += [f"{result[c]:.1f}" for c in ("seconds", "processor_seconds")]
                cells += [f"{result['beyond_mb']:.0f}"]
                table.row([f"{n:,}", result["draws"], f"{result['visited']:,}", *cells])
                results.append(result)
    return results


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--keep", type=Path, help="a folder for the fits of `sizes`")
    parser.add_argument("--measure", type=Path, help="measure LOO of the fit in this file")
    parser.add_argument("--subsample", type=int, help="rows to visit, for --measure")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.subsample)))
        return
    quick, parts = arguments.quick, arguments.parts or PARTS
    results: list[dict[str, Any]] = []
    if "approximations" in parts:
        results += compare_approximations(quick=quick)
    if "coverage" in parts:
        results += cover(quick=quick)
    if "sizes" in parts:
        results += grow(arguments.keep, quick=quick)
    conclude(arguments, machine(["stangmm", "numpy"]), results)


if __name__ == "__main__":
    main()
