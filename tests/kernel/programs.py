"""Programs that evaluate a likelihood kernel, built with CmdStan's compiler and flags."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_KERNELS = _HERE.parents[1] / "stan" / "kernel"


def key_of_sources(cmdstan: Path) -> str:
    """What the programs depend on, as a short text: sources, CmdStan and its compiler flags."""
    make = subprocess.run(
        ["make", "-s", "print-compiler-flags"], cwd=cmdstan, capture_output=True, check=True
    )
    key = hashlib.sha256(make.stdout + os.fsencode(cmdstan))
    for path in sorted([*_KERNELS.rglob("*.*"), *_HERE.glob("*.*")]):
        key.update(path.read_bytes())
    return key.hexdigest()[:16]


def kernel_sources(cmdstan: Path, folder: Path) -> Path:
    """Put what the drivers include into a folder; gives that of the kernels.

    They are copies, since make cannot work where the checkout's path has blanks.
    """
    kernels = shutil.copytree(_KERNELS, folder / "kernel")
    sources = shutil.copytree(_HERE, folder / "sources")
    stanc = [f"{cmdstan}/bin/stanc", f"--include-paths={kernels / 'portable'}"]
    stanc += ["--name=portable_model", f"--o={folder / 'portable_kernel.hpp'}"]
    subprocess.run([*stanc, str(sources / "kernel_functions.stan")], check=True)
    return kernels


def build_driver(cmdstan: Path, folder: Path, name: str, source: str, flags: str = "") -> Path:
    """Compile a driver in a folder that has been prepared by `kernel_sources`."""
    includes = f"-I{folder} -I{folder / 'kernel' / 'native'} {flags}"
    command = ["make", "-f", str(folder / "sources" / "driver.mk"), f"PROGRAM={folder / name}"]
    command += [f"SOURCE={folder / 'sources' / source}", f"INCLUDES={includes}"]
    command += [str(folder / name)]
    done = subprocess.run(command, cwd=cmdstan, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if "rror" in line]
    assert done.returncode == 0, "\n".join(errors[:20])
    return folder / name
