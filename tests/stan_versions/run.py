"""Check the model and the native kernel against several versions of Stan, taken from PyPI.

Run as ``python tests/stan_versions/run.py [VERSION ...]``. The httpstan wheels hold stanc, the
Stan headers and libtbb of one Stan version each. For every version the model is translated and
compiled with both kernels; value and gradient of native and portable must agree. Needs g++,
numpy, and network access the first time (wheels are kept in the user's cache directory).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import platformdirs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KERNELS = ROOT / "stan" / "kernel"
sys.path.insert(0, str(HERE.parent / "kernel"))

from model_driver import mixture_problem, write_variables  # noqa: E402

WHEELS = {  # Stan: httpstan, and the Python its wheel is for
    "2.28.1": ("4.6.1", "3.10"),
    "2.29.2": ("4.7.2", "3.10"),
    "2.30.1": ("4.8.2", "3.10"),
    "2.32.2": ("4.10.1", "3.10"),
    "2.35.0": ("4.13.0", "3.10"),
    "2.39.0": ("4.17.0", "3.12"),
}
STANDARD = {"2.28.1": "c++14", "2.29.2": "c++14", "2.30.1": "c++14"}  # later: C++17
TOLERANCE = 1e-10


def unpacked(version: str) -> Path:
    """Folder with stanc, include/ and lib/ of a Stan version; downloaded if not there yet."""
    httpstan, python = WHEELS[version]
    cache = Path(platformdirs.user_cache_dir("stangmm")) / "stan-versions"
    folder = cache / f"httpstan-{httpstan}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary", ":all:", "--python-version", python]
            subprocess.run([*command, "-d", temporary, f"httpstan=={httpstan}"], check=True)
            (wheel,) = Path(temporary).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(temporary) / "unpacked")
            (Path(temporary) / "unpacked").rename(folder)
    stanc = folder / "httpstan" / "stanc"
    stanc.chmod(0o755)
    return folder / "httpstan"


def run(command: list[str | Path]) -> str:
    """Run a command; on failure raise with its first error lines."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr + done.stdout).splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise RuntimeError(f"{command[0]} failed:\n" + "\n".join(errors[:10]))
    return done.stdout


def build(stan: Path, version: str, kernel: str, folder: Path) -> Path:
    """Compile model_driver.cpp around the model with one of the kernels."""
    header = folder / f"{kernel}.hpp"
    flags: list[str | Path] = [f"--include-paths={KERNELS / kernel}", f"--o={header}"]
    flags += ["--name=gaussian_mixture_model"]
    user_header: list[str | Path] = []
    if kernel == "native":
        flags.append("--allow-undefined")
        user_header = ["-include", KERNELS / "native" / "mixture_lpdf.hpp"]
    run([stan / "stanc", *flags, ROOT / "stan" / "gaussian_mixture.stan"])
    program = folder / kernel
    compile_flags: list[str | Path] = [
        f"-std={STANDARD.get(version, 'c++17')}",
        "-O1",
        "-w",
        "-pthread",
    ]
    compile_flags += ["-D_REENTRANT", "-DBOOST_DISABLE_ASSERTS", f"-I{stan / 'include'}"]
    sources = [HERE.parent / "kernel" / "model_driver.cpp", stan / "lib" / "libtbb.so.2"]
    compile_flags += [*user_header, f'-DMODEL="{header}"', f"-Wl,-rpath,{stan / 'lib'}"]
    run(["g++", *compile_flags, "-o", program, *sources])
    return program


def largest_difference(programs: list[Path], folder: Path) -> float:
    """Largest relative difference between two programs' values and gradients."""
    worst = 0.0
    for i, kind in enumerate(["full", "tied", "diag", "spherical"]):
        for n, d, k, missing in [(700, 3, 2, 0.0), (100, 1, 3, 0.0), (300, 6, 4, 0.2)]:
            data, point = mixture_problem(n, d, k, kind, seed=i, missing=missing)
            files = [write_variables(folder / "data", data)]
            files += [write_variables(folder / "point", point)]
            a, b = (np.array(run([p, *files]).split(), dtype=float) for p in programs)
            if not np.isfinite(a).all():
                return np.inf
            scale = np.maximum(np.abs(b), np.abs(b[1:]).max())
            worst = max(worst, float((np.abs(a - b) / scale).max()))
    return worst


def check(version: str) -> str | None:
    """Build and compare under one version of Stan; the reason why not, if it fails."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            stan = unpacked(version)
            programs = [build(stan, version, kernel, folder) for kernel in ("native", "portable")]
            difference = largest_difference(programs, folder)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            return str(error)
    if not difference <= TOLERANCE:
        return f"native and portable differ by {difference:.1e}, allowed are {TOLERANCE:.0e}"
    print(f"Stan {version}: native and portable agree to {difference:.1e}", end="", flush=True)
    return None


def main() -> int:
    """Check the versions named on the command line, or all."""
    versions = sys.argv[1:] or list(WHEELS)
    unknown = set(versions) - set(WHEELS)
    if unknown:
        print(f"unknown versions {sorted(unknown)}; known are {list(WHEELS)}")
        return 2
    failed = 0
    for version in versions:
        start = time.perf_counter()
        problem = check(version)
        if problem:
            failed += 1
            print(f"Stan {version}: FAILED: {problem}", end="")
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
