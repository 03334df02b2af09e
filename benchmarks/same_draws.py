"""Whether NUTS gives the same draws on every processor, over the field trial's data.

The search that chains start from is numpy's and BLAS's, whose last bits differ between processors.
Each case is fitted with short chains as on AVX-512, on AVX2, and on AVX-512 with the BLAS of AVX2
(`tests/processors.py`), and the draws are compared to the bit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from common import argument_parser, conclude, machine
from field_data import CASES, Case, available

import stangmm as sg

PROCESSORS = {
    "avx512": ("avx512", {}),
    "avx2": ("avx2", {}),
    "avx512, BLAS avx2": ("avx512", {"OPENBLAS_CORETYPE": "Haswell"}),
}
NUTS = sg.NUTS(warmup=20, draws=5, thin=1, adapt_delta=0.8, max_tree_depth=5)
MOST_NUMBERS = 100_000  # in a table
LEFT_OUT = ("digits-10", "digits-40", "digits-60", "wide-60")  # whose search takes long
PLAYED = Path(__file__).parent.parent / "tests" / "processors.py"


def cases(quick: bool) -> list[Case]:
    """Those whose search takes seconds at most."""
    chosen = [c for c in available(CASES)[0] if c.data not in LEFT_OUT]
    if quick:
        chosen = [c for c in chosen if c.data in {"galaxies", "faithful"}]
    return [c for c in chosen if c.source.load().x.size <= MOST_NUMBERS]


def draws(case: Case, seed: int) -> np.ndarray:
    """All means and log densities, in one row."""
    model = sg.GaussianMixture(case.k, case.covariance_type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit(
            case.source.load().x, NUTS, seed=seed, missing="marginalize", progress=False
        )
    return np.concatenate([fit.mixture.means.ravel(), fit.total_log_likelihood.ravel()])


def on(processor: str, seed: int, quick: bool) -> dict[str, np.ndarray]:
    """Draws of every case, from a program that sees such a processor."""
    name, more = PROCESSORS[processor]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "draws.npz"
        command = [sys.executable, str(PLAYED), name, "env", *(f"{k}={v}" for k, v in more.items())]
        command += [sys.executable, __file__, "--seed", str(seed), "--write", str(file)]
        subprocess.run([*command, *(["--quick"] if quick else [])], check=True, env=os.environ)
        with np.load(file) as arrays:
            return dict(arrays)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="write the draws on this processor and end")
    given = parser.parse_args()
    if given.write:
        np.savez(given.write, **{c.name: draws(c, given.seed) for c in cases(given.quick)})
        return
    first, *others = PROCESSORS
    here = on(first, given.seed, given.quick)
    results = []
    for other in others:
        there = on(other, given.seed, given.quick)
        differ = [name for name in here if not np.array_equal(here[name], there[name])]
        results.append({"processors": [first, other], "cases": len(here), "differ": differ})
        print(
            f"{first} and {other}: the same draws to the bit in {len(here) - len(differ)} of "
            f"{len(here)} cases; others: {', '.join(differ) or 'none'}"
        )
    conclude(given, machine(["numpy", "scipy", "cmdstanpy"]), results)


if __name__ == "__main__":
    main()
