"""Load many files that are damaged or made to mislead: PYTHONPATH=tests python -m robustness.files.

Each batch is loaded in a process of its own, which has a limit of memory and tells its time. A file is
a fault where `load` raises anything but DataError (or OSError), takes more than 30 seconds or the memory, ends the
process, or gives an object that then fails in a question by anything but an error of stangmm.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import stangmm as sg
from robustness.mutations import changed_bytes, changed_tree, rewritten

BATCH = 2500
MEMORY = 3 * 2**30  # of address space, of which libraries take 2 GB
SECONDS = 30.0


def originals(folder: Path) -> list[Path]:
    """A fit, a comparison with draws, and a selection."""
    fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1, progress=False)
    choice = sg.select_components(
        sg.datasets.galaxies(), [1, 2], method="em", seed=1, progress=False
    )
    comparison = sg.load(Path(__file__).parents[1] / "formats" / "2.nc")
    paths = [fit.save(folder / "fit.nc"), choice.save(folder / "selection.nc")]
    return [*paths, comparison.save(folder / "comparison.nc")]


def asked(loaded: Any) -> None:
    """Questions that a user asks first."""
    repr(loaded)
    fits = [loaded] if isinstance(loaded, sg.Fit) else list(loaded.fits.values())
    for fit in fits[:2]:
        fit.diagnose()
        fit.summary()
        fit.predict(fit.dataset.x[:3])
        fit.bic()


def outcome(path: Path, *, ask: bool) -> str:
    """What became of one file."""
    began = time.perf_counter()
    try:
        loaded = sg.load(path)
    except (sg.DataError, OSError) as error:
        said = f"{type(error).__name__}"
        loaded = None
    except Exception as error:
        return f"FAULT {type(error).__name__} in load: {error}"
    if time.perf_counter() - began > SECONDS:
        return f"FAULT {time.perf_counter() - began:.1f} s"
    if loaded is None:
        return said
    if not isinstance(loaded, sg.Fit | sg.Comparison | sg.Selection):
        return f"FAULT a {type(loaded).__name__}"
    if ask:
        try:
            asked(loaded)
        except sg.StangmmError as error:
            return f"loaded, then {type(error).__name__}"
        except Exception as error:
            return f"FAULT {type(error).__name__} in a question: {error}"
    return "loaded"


def batch(kind: str, seed: int, folder: Path) -> None:
    """Load a batch; one line for each file, as it is done."""
    warnings.simplefilter("ignore")
    sources = sorted(folder.glob("*.nc"))
    for source in sources:
        asked(sg.load(source))  # everything is imported before memory is limited
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = random.Random(seed)
    target = folder / f"mutated-{kind}-{seed}"
    contents = [source.read_bytes() for source in sources]
    for number in range(BATCH):
        i = rng.randrange(len(sources))
        if kind == "bytes":
            target.write_bytes(changed_bytes(contents[i], rng))
        else:
            indexed = rng.random() < 0.98  # others take the time of a process
            rewritten(sources[i], target, lambda tree: changed_tree(tree, rng), indexed=indexed)
        print(
            json.dumps([number, sources[i].name, outcome(target, ask=kind == "tree")]), flush=True
        )
    target.unlink()


def main() -> None:
    """Run batches until there are as many files as asked for, and count what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=90_000)
    parser.add_argument("--tree", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", nargs=3, metavar=("KIND", "SEED", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.batch:
        kind, seed, folder = arguments.batch
        batch(kind, int(seed), Path(folder))
        return
    counted: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals(folder)
        for kind, files in (("bytes", arguments.bytes), ("tree", arguments.tree)):
            for first in range(0, files, BATCH):
                seed = arguments.seed * 1_000_000 + first
                command = [
                    sys.executable,
                    "-m",
                    "robustness.files",
                    "--batch",
                    kind,
                    str(seed),
                    name,
                ]
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    timeout=1800,
                    env=dict(os.environ),
                    check=False,
                )
                lines = [json.loads(line) for line in done.stdout.splitlines()]
                for number, source, said in lines:
                    counted[f"{kind}: {said if not said.startswith('FAULT') else 'FAULT'}"] += 1
                    if said.startswith("FAULT"):
                        print(
                            f"{kind} seed {seed} file {number} of {source}: {said[:300]}",
                            flush=True,
                        )
                if done.returncode or len(lines) != BATCH:
                    counted[f"{kind}: FAULT, the process ended"] += 1
                    print(
                        f"{kind} seed {seed}: ended with {done.returncode} after {len(lines)} files: "
                        f"{done.stderr[-300:]}",
                        flush=True,
                    )
    for said, n in sorted(counted.items()):
        print(f"{n:8d}  {said}")


if __name__ == "__main__":
    main()
