"""End processes at random moments: PYTHONPATH=tests python -m robustness.kills.

Each trial starts one work in a process of its own, with temporary and output folders of its own,
ends it by a signal after a random time, and looks 30 seconds long for what is left: processes that
mention the folders, temporary folders, unfinished files, a file that was there and is no more
whole. A faulty trial is printed.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from stangmm.cmdstan.find import defect

HEAD = """
import warnings; warnings.simplefilter("ignore")
import sys
from pathlib import Path
import stangmm as sg
X = sg.datasets.faithful()
out = Path(sys.argv[1])
model = sg.GaussianMixture(2)
print("ready", flush=True)
"""
WORKS = {
    "em": "sg.GaussianMixture(3).fit(X, sg.EM(restarts=200), seed=1)",
    "optimize": "model.fit(X, 'optimize', seed=1)",
    "advi": "model.fit(X, 'advi', seed=1)",
    "nuts": "model.fit(X, sg.NUTS(chains=2, draws=2000), seed=1)",
    "pathfinder": "model.fit(X, 'pathfinder', seed=1)",
    "laplace": "model.fit(X, 'laplace', seed=1)",
    "save": "fit = sg.load(out / 'before.nc')\nfor _ in range(30): fit.save(out / 'before.nc')",
    "report": "sg.load(out / 'before.nc').report(out / 'before.html')",
    "select": "sg.select_components(X, [1, 2], method=sg.NUTS(chains=2, draws=200), seed=1, jobs=2)",
    "compare": "sg.compare(model, X, ['em', 'optimize', 'advi'], seed=1)",
    "compile": (
        "from stangmm.cmdstan import compile_stan, find_cmdstan\n"
        "(out / 'one.stan').write_text('parameters { real x; } model { x ~ std_normal(); }')\n"
        "import os; os.environ['STANGMM_CACHE'] = str(out / 'cache')\n"
        "compile_stan(out / 'one.stan', cmdstan=find_cmdstan())"
    ),
    "install": (
        "from stangmm.cmdstan import install_cmdstan\n"
        "install_cmdstan('pypi', directory=out / 'cmdstan', jobs=1, progress=False)"
    ),
    "command line": (
        "from stangmm.cli import main\nX.to_csv(out / 'x.csv', index=False)\n"
        "main(['fit', str(out / 'x.csv'), '-k', '2', '--draws', '500', '--out', str(out / 'before.nc')])"
    ),
}  # fmt: skip
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
PATIENCE = 30.0


def _with_default_signals() -> None:
    """What runs in a shell's background, or by nohup, ignores some of them, and so would these."""
    for each in SIGNALS[1:]:
        signal.signal(each, signal.SIG_DFL)


def mentioning(folder: Path) -> list[str]:
    """Processes whose command line or working directory names a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and (
                str(folder) in " ".join(process.cmdline()) or str(folder) in process.cwd()
            ):
                found.append(" ".join(process.cmdline())[:150])
        except psutil.Error:
            continue
    return found


def left(folder: Path, before: dict[str, bytes]) -> list[str]:
    """What should not be there, or should and is not."""
    faults = [f"process {line}" for line in mentioning(folder)]
    faults += [f"temporary {path.name}" for path in (folder / "tmp").iterdir()]
    out = folder / "out"
    allowed = {"before.nc", "before.html", "one.stan", "x.csv", "cache", "one.hpp", "cmdstan"}
    faults += [f"file {path.name}" for path in out.iterdir() if path.name not in allowed]
    cache = out / "cache" / "models"
    if cache.exists():
        # What a kill leaves in the middle of publishing is cleared by nobody else.
        faults += [f"cache {path.name}" for path in cache.iterdir() if path.name.startswith(".")]
    if (installed := out / "cmdstan").exists():
        allowed = {".install.lock", *(p.name for p in installed.iterdir() if defect(p) is None)}
        faults += [f"install {p.name}" for p in installed.iterdir() if p.name not in allowed]
    for name, content in before.items():
        now = (out / name).read_bytes()
        if now != content and not (
            now.endswith(b"stangmm-index\r\n") or now.rstrip().endswith(b"</html>")
        ):
            faults.append(f"{name} is not whole")
    return faults


def trial(work: str, seed: int, longest: dict[str, float], saved: Path) -> tuple[str, list[str]]:
    """One work, one signal, one look."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        (folder / "out").mkdir()
        shutil.copy(saved, folder / "out" / "before.nc")
        before = {"before.nc": saved.read_bytes()}
        env = dict(os.environ, TMPDIR=str(folder / "tmp"), MPLBACKEND="agg")
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + WORKS[work], str(folder / "out")],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=_with_default_signals,
        )  # fmt: skip
        assert process.stdout is not None
        if rng.random() < 0.85:
            process.stdout.readline()
            began = time.monotonic()
        wait = (
            rng.uniform(0.0, longest.get(work, 4.0)) if rng.random() < 0.8 else rng.uniform(0, 0.5)
        )
        end = rng.choice(SIGNALS)
        try:
            process.wait(wait)
            what = "ended before"
            longest[work] = min(longest.get(work, 4.0), time.monotonic() - began + 0.5)
        except subprocess.TimeoutExpired:
            if rng.random() < 0.2:
                os.killpg(process.pid, end)  # as a terminal does, and `timeout`
            else:
                process.send_signal(end)
            what = end.name
            longest[work] = max(longest.get(work, 4.0), min(wait * 1.3, 40.0))
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return what, [f"it went on for {PATIENCE:.0f} s"]
        deadline = time.monotonic() + PATIENCE
        while (faults := left(folder, before)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return what, faults


def main() -> None:
    """Run the trials, each work as often as the others; print each and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--works", nargs="*", default=list(WORKS))
    arguments = parser.parse_args()
    counted: collections.Counter[tuple[str, str]] = collections.Counter()
    longest: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        saved = Path(name) / "fit.nc"
        program = HEAD + "model.fit(X, sg.EM(restarts=5), seed=1).save(out)"
        subprocess.run([sys.executable, "-c", program, str(saved)], check=True, capture_output=True)
        for number in range(arguments.trials):
            work = arguments.works[number % len(arguments.works)]
            what, faults = trial(work, arguments.seed * 100_000 + number, longest, saved)
            counted[work, what] += 1
            counted[work, "FAULT"] += bool(faults)
            print(
                f"{work}, trial {number}, {what}{f': FAULT {faults}' if faults else ''}", flush=True
            )
    print(sum(n for (_, what), n in counted.items() if what.startswith("SIG")), "signals sent")
    for (work, what), n in sorted(counted.items()):
        print(f"{n:6d}  {work}: {what}")


if __name__ == "__main__":
    main()
