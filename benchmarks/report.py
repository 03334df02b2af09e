"""Seconds and bytes of the HTML report of a fit, for a small and for a very large table.

Run as ``python benchmarks/report.py [--json FILE] [--quick]``. Galaxies (N = 82, K = 3) by EM, ADVI
and NUTS, and a million rows of two features (K = 3, full covariances) by EM and, with 100 draws of
each chain, by NUTS. Fits are not timed. "work" is processor time: about the seconds on
an idle machine.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from common import Table, argument_parser, conclude, machine, mixture_data

import stangmm as sg


def fits(*, quick: bool) -> Iterator[tuple[str, sg.Fit]]:
    """Name of the data and a fit, one after the other."""
    galaxies, model = sg.datasets.galaxies(), sg.GaussianMixture(3, "diag")
    for method in ("em", "advi", "nuts"):
        yield "galaxies", model.fit(galaxies, method, seed=1, progress=False)
    n = 20_000 if quick else 1_000_000
    rows = mixture_data(n, 2, 3)
    for settings in (sg.EM(), sg.NUTS(draws=100)):
        yield "made", sg.GaussianMixture(3).fit(rows, settings, seed=1, progress=False)


def main() -> None:
    arguments = argument_parser(__doc__).parse_args()
    warnings.simplefilter("ignore", sg.ConvergenceWarning)
    table = Table(["data", "rows", "method", "draws", "seconds", "work", "bytes"], [8, 9, *[7] * 5])
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        for i, (name, fit) in enumerate(fits(quick=arguments.quick)):
            if i == 0:
                fit.report(path, progress=False)  # libraries are imported once
            began, worked = time.perf_counter(), time.process_time()
            fit.report(path, progress=False)
            found = {
                "data": name,
                "rows": fit.dataset.n_observations,
                "method": fit.method,
                "draws": fit.lp.size,
                "seconds": round(time.perf_counter() - began, 2),
                "processor_seconds": round(time.process_time() - worked, 2),
                "bytes": path.stat().st_size,
            }
            table.row(list(found.values()))
            results.append(found)
    conclude(arguments, machine(["stangmm", "matplotlib", "arviz"]), results)


if __name__ == "__main__":
    main()
