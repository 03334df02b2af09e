"""Fill the disk at each write: python -m robustness.disks, as root (it mounts small file systems).

Every work gets a temporary or output folder on a file system of a few sizes, from none to nearly
enough. It must end by an error of stangmm or by an OSError that names the path and what to do,
and leave nothing but what was there before.
"""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEAD = """
import os, sys, warnings; warnings.simplefilter("ignore")
from pathlib import Path
import stangmm as sg
X = sg.datasets.faithful()
small, roomy = map(Path, sys.argv[1:])
model = sg.GaussianMixture(2)
try:
    {work}
except sg.StangmmError as error:
    print("stangmm", type(error).__name__, str(error))
except OSError as error:
    print("OSError", str(error))
else:
    print("fine")
"""
# What is small: the temporary folder, or where results or compiled models go.
WORKS = {
    "optimize": ("tmp", "model.fit(X, 'optimize', seed=1)"),
    "advi": ("tmp", "model.fit(X, 'advi', seed=1)"),
    "nuts": ("tmp", "model.fit(X, sg.NUTS(chains=2, draws=500), seed=1)"),
    "keep": ("out", "model.fit(X, sg.NUTS(chains=2, draws=500, keep=small / 'kept'), seed=1)"),
    "save": ("out", "model.fit(X, 'em', seed=1).save(small / 'fit.nc')"),
    "report": ("out", "model.fit(X, 'em', seed=1).report(small / 'fit.html')"),
    "picture": ("out", "from stangmm.cli import main; X.to_csv(roomy / 'x.csv', index=False); "
                "sys.exit(main(['select', str(roomy / 'x.csv'), '--method', 'em', '--max-k', '2', '--quiet', "
                "'--picture', str(small / 'x.png')]))"),
    "compile": ("cache", "from stangmm.cmdstan import compile_stan, find_cmdstan; "
                "(roomy / 'x.stan').write_text('parameters { real x; } model { x ~ std_normal(); }'); "
                "compile_stan(roomy / 'x.stan', cmdstan=find_cmdstan())"),
}  # fmt: skip
SIZES = {"tmp": [4, 16, 64, 256], "out": [4, 16, 40, 200], "cache": [4, 64, 512, 1024]}  # kB


@contextmanager
def small_disk(kilobytes: int) -> Iterator[Path]:
    """A file system of a size."""
    with tempfile.TemporaryDirectory(prefix="disk-") as name:
        options = f"size={kilobytes}k,nr_inodes=200"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def main() -> None:
    """Each work on each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--works", nargs="*", default=list(WORKS))
    arguments = parser.parse_args()
    counted: collections.Counter[str] = collections.Counter()
    for work in arguments.works:
        which, program = WORKS[work]
        for kilobytes in SIZES[which]:
            with small_disk(kilobytes) as small, tempfile.TemporaryDirectory() as roomy:
                env = dict(os.environ, TMPDIR=roomy, MPLBACKEND="agg")
                if which == "tmp":
                    env["TMPDIR"] = str(small)
                if which == "cache":
                    env["STANGMM_CACHE"] = str(small)
                done = subprocess.run(
                    [sys.executable, "-c", HEAD.format(work=program), str(small), roomy],
                    env=env, capture_output=True, text=True, timeout=300, check=False,
                )  # fmt: skip
                said = (done.stdout + done.stderr).strip()
                last = said.splitlines()[0] if said else f"code {done.returncode}"
                remains = [p.name for p in small.iterdir() if p.name not in ("locks", "models")]
                remains = [] if last == "fine" or (done.returncode == 0 and not said) else remains
                helps = any(
                    word in said for word in ("Make room", "TMPDIR", "STANGMM_CACHE", "No space")
                )
                fault = (
                    "Traceback" in said
                    or bool(remains)
                    or not (last == "fine" or not said or helps)
                )
                counted["FAULT" if fault else "said" if helps else "fine"] += 1
                print(
                    f"{'FAULT ' if fault else ''}{work} with {kilobytes} kB: {said[:400]} {remains}",
                    flush=True,
                )
    print(dict(counted))


if __name__ == "__main__":
    main()
