"""The same seed gives the same draws on every x86-64 processor with AVX2, to the bit.

Other processors are played on this one (`processors.py`), each in a program of its own. Where a
machine has nothing to leave out, the comparison is of a program with itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processors import PERSONALITIES, personality

import stangmm as sg

PROGRAM = """
import sys, warnings
import numpy as np
import stangmm as sg

def wide():
    rng = np.random.default_rng(20261125)
    means = rng.normal(0.0, 3.0, (3, 8))
    mix = np.linalg.cholesky(0.5 * np.eye(8) + 0.5)
    return means[rng.integers(3, size=3_000)] + rng.normal(size=(3_000, 8)) @ mix.T

def holes():
    x = sg.datasets.faithful().to_numpy()
    x[::7, 0] = np.nan
    return x

few = sg.NUTS(chains=3, warmup=20, draws=10, thin=1, adapt_delta=0.8)
short = sg.NUTS(warmup=80, draws=60, thin=1)
CASES = {
    "galaxies": [(sg.GaussianMixture(3, "diag"), sg.datasets.galaxies, "nuts")],
    "faithful": [(sg.GaussianMixture(2, "full"), sg.datasets.faithful, "nuts")],
    "wide": [(sg.GaussianMixture(3, "full"), wide, short)],
    # Far from normal, with several modes, and with components that hold no row.
    "several": [
        (sg.GaussianMixture(6, "diag"), sg.datasets.galaxies, few),
        (sg.GaussianMixture(3, "full"), sg.datasets.faithful, few),
        (sg.GaussianMixture(3, "tied"), sg.datasets.faithful, few),
        (sg.GaussianMixture(2, "full"), holes, few),
    ],
}
case, methods, file = sys.argv[1:]
warnings.simplefilter("ignore", sg.ConvergenceWarning)
arrays = {}
runs = [(i, name, *each) for i, each in enumerate(CASES[case]) for name in methods.split()]
for i, name, model, data, nuts in runs:
    chosen = {"method": nuts if name == "nuts" else name, "missing": "marginalize"}
    fit = model.fit(data(), **chosen, seed=1, progress=False)
    method = f"{i} {name}"
    arrays[f"{method} weights"] = fit.mixture.weights
    arrays[f"{method} means"] = fit.mixture.means
    arrays[f"{method} scales"] = fit.mixture.scales
    if fit.mixture.corr_chol is not None:
        arrays[f"{method} corr_chol"] = fit.mixture.corr_chol
    arrays[f"{method} log_likelihood"] = fit.total_log_likelihood
    arrays[f"{method} lp"] = fit.lp
np.savez(file, **arrays)
"""


def draws(processor: str, case: str, methods: str, folder: Path) -> dict[str, np.ndarray]:
    """All that fits on a processor give, by method and name."""
    file = folder / f"{processor}.npz"
    command = [sys.executable, "-c", PROGRAM, case, methods, str(file)]
    # These tests themselves may run as on another processor.
    own = {name: value for name, value in os.environ.items() if name not in personality("plain")}
    done = subprocess.run(command, env=own | personality(processor), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(file) as arrays:
        return dict(arrays)


@pytest.mark.stan
@pytest.mark.parametrize(
    "case",
    ["galaxies", "faithful", "several", pytest.param("wide", marks=pytest.mark.statistical)],
)
def test_stan_gives_the_same_draws_with_avx512_and_with_avx2(case: str, tmp_path: Path) -> None:
    methods = "nuts" if case == "several" else "optimize advi nuts"
    here, there = (draws(name, case, methods, tmp_path) for name in ("native", "avx2"))
    exact = [name for name in here if not name.endswith(" lp")]
    assert len(exact) > 10
    assert [name for name in exact if (here[name] != there[name]).any()] == []
    # lp holds the prior's density by numpy, whose logarithm differs in its last bit.
    for name in here:
        assert here[name] == pytest.approx(there[name], rel=1e-12)


@pytest.mark.parametrize("processor", ["avx2", "plain"])
@pytest.mark.parametrize("case", ["galaxies", "faithful"])
def test_em_differs_between_processors_by_rounding_alone(
    processor: str, case: str, tmp_path: Path
) -> None:
    here, there = (draws(name, case, "em", tmp_path) for name in ("native", processor))
    for name, values in here.items():
        assert there[name] == pytest.approx(values, rel=1e-9), name


def test_a_processor_is_played() -> None:
    show = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(f['X86_V4'])"
    if "X86_V4" not in np._core._multiarray_umath.__cpu_dispatch__:
        pytest.skip("this numpy does not choose by X86_V4")
    done = subprocess.run(
        [sys.executable, "-c", show],
        env=os.environ | personality("avx2"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANGMM_INSTRUCTION_SET", "avx3")
    with pytest.raises(sg.ModelError, match=r"STANGMM_INSTRUCTION_SET must be one of .*avx2"):
        sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="optimize", seed=1)


def test_every_processor_has_its_variables() -> None:
    assert [bool(personality(name)) for name in PERSONALITIES] == [False, True, True, True]
