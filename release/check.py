"""Check what is released: an sdist, a wheel for every platform, one with the compiled model.

    python release/check.py out/dist

Looks at the metadata, the files and the platform that the compiled programs need, then installs
each wheel in an environment of its own, without a compiler and without CmdStan, and fits.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 2_500_000
IN_EVERY_WHEEL = (
    r"stangmm/__init__\.py",
    r"stangmm/py\.typed",
    r"stangmm/stan/gaussian_mixture\.stan",
    r"stangmm/stan/kernel/native/mixture_lpdf\.hpp",
    r"stangmm/stan/kernel/portable/mixture_lpdf\.stan",
    r"stangmm-[^/]+\.dist-info/licenses/LICENSE",
)
COMPILED = (r"stangmm/stan/compiled/.*/gaussian_mixture",) * 2
IN_THE_SDIST = (r"pyproject\.toml", r"stan/gaussian_mixture\.stan", r"tests/conftest\.py")
UNWANTED = r"\.png$|\.pyc$|^out/|\.venv"

FIT = """\
import sys, time
start = time.perf_counter()
import stangmm as sg
fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), sys.argv[1], seed=1, progress=False)
took = time.perf_counter() - start
assert fit.diagnose().computation.verdict == "ok", fit.diagnose()
print(f"  fit by {sys.argv[1]}: {took:.1f} s, means", fit.means.round(2).tolist())
"""

# The kernel chooses instructions when it runs, by what the C compiler's library knows.
KERNEL = """\
import resource
import numpy as np, stangmm as sg
x = np.random.default_rng(1).normal(size=(20_000, 8)) + 5 * (np.arange(20_000) % 2)[:, None]
sg.GaussianMixture(2).fit(x, sg.NUTS(chains=1, draws=100), seed=1, progress=False)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)
"""


def main() -> None:
    """Check all that is in the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="has the sdist and the wheels")
    directory = parser.parse_args().directory
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    sdist = directory / f"stangmm-{version}.tar.gz"
    pure = directory / f"stangmm-{version}-py3-none-any.whl"
    (platform,) = directory.glob(f"stangmm-{version}-py3-none-manylinux*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, (sdist, pure, platform)))
    with tarfile.open(sdist) as archive:
        check_files(sdist, [name.partition("/")[2] for name in archive.getnames()], IN_THE_SDIST)
    for wheel, expected in ((pure, ()), (platform, COMPILED)):
        check_files(wheel, zipfile.ZipFile(wheel).namelist(), IN_EVERY_WHEEL + expected)
    check_platform(platform)
    for wheel, method in ((pure, "em"), (platform, "nuts")):
        check_install(wheel, version, method)


def check_files(archive: Path, names: list[str], expected: tuple[str, ...]) -> None:
    """Look for what must be there and what must not, and at the size."""
    size = archive.stat().st_size
    print(f"{archive.name}: {size / 1e3:.0f} kB, {len(names)} files")
    found = {p: sum(re.fullmatch(p, name) is not None for name in names) for p in expected}
    lacking = [pattern for pattern in expected if found[pattern] < expected.count(pattern)]
    unwanted = [name for name in names if re.search(UNWANTED, name)]
    if lacking or unwanted or size > MOST_BYTES:
        sys.exit(f"  lacking: {lacking}, unwanted: {unwanted}, at most {MOST_BYTES / 1e3:.0f} kB")


def check_platform(wheel: Path) -> None:
    """Ask auditwheel which platform the programs need."""
    told = run(sys.executable, "-m", "auditwheel", "show", str(wheel))
    tag = wheel.stem.rpartition("-")[2]
    print(f"  auditwheel: {' '.join(told.split())}")
    if f'"{tag}"' not in told:
        sys.exit(f"  which is not {tag}")


def check_install(wheel: Path, version: str, method: str) -> None:
    """Install a wheel in a fresh environment, and fit where there is no compiler."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
        print(f"{wheel.name}: installed in {time.perf_counter() - start:.0f} s")
        bare = {"PATH": f"{folder}/bin", "HOME": folder, "TMPDIR": folder}
        bare |= {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS")}
        printed = run(f"{folder}/bin/stangmm", "--version", env=bare)
        if printed.split() != ["stangmm", version]:
            sys.exit(f"  stangmm --version printed {printed!r}")
        print(run(python, "-c", FIT, method, env=bare, cwd=folder), end="")
        if method == "nuts" and " avx2 " in Path("/proc/cpuinfo").read_text():
            plain = bare | {"STANGMM_INSTRUCTION_SET": "plain"}
            fast, slow = (
                float(run(python, "-W", "ignore", "-c", KERNEL, env=e, cwd=folder))
                for e in (bare, plain)
            )
            print(f"  NUTS with the best instructions: {fast:.1f} s, with plain ones: {slow:.1f} s")
            if fast > slow / 2:
                sys.exit("  which should be several times slower: does the kernel see AVX2?")


def run(*command: str, env: dict[str, str] | None = None, cwd: str | None = None) -> str:
    """Run a command; give what it printed, or end with that if it failed."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
