"""Run Stan's own Pathfinder and Laplace on the model, with a Stan that has them, taken from PyPI.

Run as ``python tests/stan_versions/services.py [--battery] [VERSION ...]``. No CmdStan from 2.32 on
can be had from PyPI; `services_driver.cpp` calls the services in the headers of a newer Stan, and
takes and gives what CmdStan does. Settings, cmdstanpy and reading are the package's. Posterior
means and standard deviations of faithful, K = 2, after importance resampling, are compared with
NumPyro's (tests/references). With ``--battery``, the tests that every method must pass run over the
two, on that Stan. Needs what `run.py` needs, and two minutes for each version.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from run import HERE, KERNELS, ROOT, run, unpacked

import stangmm as sg
from stangmm.base.thresholds import PARETO_K_OK
from stangmm.cmdstan.compile import CompiledModel
from stangmm.cmdstan.find import CmdStan
from stangmm.methods.psis import pareto_k
from stangmm.methods.stan.laplace import StanLaplace
from stangmm.methods.stan.pathfinder import Pathfinder
from stangmm.methods.stan.recent import RecentStanMethod

VERSIONS = ["2.35.0", "2.39.0"]
# In posterior standard deviations: 4000 draws, worth about a quarter after resampling.
MEAN_OFF, SD_OFF = 0.15, 0.15


def build(version: str, folder: Path) -> Path:
    """Compile the driver around the model with the native kernel."""
    stan = unpacked(version)
    header, program = folder / "model.hpp", folder / "gaussian_mixture"
    native = KERNELS / "native"
    translate = [f"--include-paths={native}", "--allow-undefined", f"--o={header}"]
    translate += ["--name=gaussian_mixture_model"]
    run([stan / "stanc", *translate, ROOT / "stan" / "gaussian_mixture.stan"])
    flags: list[str | Path] = ["-std=c++17", "-O1", "-w", "-pthread", "-D_REENTRANT"]
    flags += ["-DBOOST_DISABLE_ASSERTS", f"-I{stan / 'include'}", f'-DMODEL="{header}"']
    flags += [f"-DSTAN_MINOR={version.split('.')[1]}", "-include", native / "mixture_lpdf.hpp"]
    sources = [HERE / "services_driver.cpp", stan / "lib" / "libtbb.so.2"]
    run(["g++", *flags, f"-Wl,-rpath,{stan / 'lib'}", "-o", program, *sources])
    return program


def off(fit: sg.Fit) -> tuple[float, float]:
    """Largest error of a mean in posterior sds, and of a relative sd, against the reference."""
    path = HERE.parent / "references" / "faithful.json"
    reference = json.loads(path.read_text())["quantities"]
    means, sds = [], []
    for k in range(2):
        for j in range(2):
            known = reference[f"means[{k}, {j}]"]
            draws = fit.mixture.means[:, k, j]
            means.append((draws.mean() - known["mean"][0]) / known["sd"][0])
            sds.append(draws.std() / known["sd"][0] - 1)
    return float(np.abs(means).max()), float(np.abs(sds).max())


def check(version: str) -> list[str]:
    """What is wrong under one version of Stan; figures are printed."""
    major, minor, patch = map(int, version.split("."))
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        cmdstan = CmdStan(Path(folder), (major, minor, patch))
        compiled = CompiledModel(build(version, Path(folder)), "native", cmdstan, threads=False)
        RecentStanMethod.compiled = lambda *_: compiled  # type: ignore[method-assign]
        for covariance_type in ("full", "tied", "diag", "spherical"):  # without correlations, too
            for method in (Pathfinder(), StanLaplace()):
                model = sg.GaussianMixture(2, covariance_type)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", sg.ConvergenceWarning)
                    fit = model.fit(sg.datasets.faithful(), method, seed=1, progress=False)
                k = pareto_k(fit.info)
                said = f"Stan {version}: {method.name}, {covariance_type}: k-hat {k:.2f}"
                if covariance_type == "full":
                    if not k < PARETO_K_OK:
                        wrong.append(f"{said}, expected below {PARETO_K_OK}")
                        continue
                    mean, sd = off(fit.resample(seed=1))
                    said += f", means off by {mean:.3f} sd, sds by {sd:.1%}"
                    if mean > MEAN_OFF or sd > SD_OFF:
                        wrong.append(said)
                print(said, flush=True)
    return wrong


def battery(version: str) -> list[str]:
    """Which tests of tests/test_methods.py and others fail for Pathfinder and Laplace."""
    with tempfile.TemporaryDirectory() as folder:
        services = f"{version}:{build(version, Path(folder))}"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-k", "pathfinder or laplace"]
        done = subprocess.run(
            # test_pathfinder.py is about a CmdStan that is too old
            [*command, "-m", "stan and not statistical", "--ignore=tests/test_pathfinder.py"],
            cwd=ROOT,
            env=os.environ | {"STANGMM_STAN_SERVICES": services},
        )
    return [f"Stan {version}: the battery"] if done.returncode else []


def main() -> int:
    """Check the versions named on the command line, or all."""
    failed = False
    ask = battery if "--battery" in sys.argv else check
    for version in [word for word in sys.argv[1:] if word != "--battery"] or VERSIONS:
        start = time.perf_counter()
        for problem in ask(version):
            failed = True
            print(f"FAILED: {problem}")
        print(f"Stan {version}: {time.perf_counter() - start:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
