"""Unkind surroundings: python -m robustness.surroundings.

Fits in forked, spawned and loky's processes and in threads, with the same numbers; everything
read-only; a user that has no name; no home; a chain that is killed or stopped; a CmdStan that is
damaged. Each line says what was tried and what happened.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMON = """
import os, sys, signal, threading, time, warnings; warnings.simplefilter("ignore")
from pathlib import Path
import stangmm as sg
X = sg.datasets.faithful()
model = sg.GaussianMixture(2)
NUTS = sg.NUTS(chains=2, draws=200)
def fit(seed):
    return [float(model.fit(X, m, seed=seed, progress=False).lp.sum()) for m in ("em", NUTS)]
"""
POOLS = {
    "one process": "print(fit(1) * 3)",
    "fork": "import multiprocessing as mp\nfit(2)\nwith mp.get_context('fork').Pool(3) as p: print(sum(p.map(fit, [1] * 3), []))",
    "forkserver": "import multiprocessing as mp\nif __name__ == '__main__':\n    with mp.get_context('forkserver').Pool(3) as p: print(sum(p.map(fit, [1] * 3), []))",
    "spawn": "import multiprocessing as mp\nif __name__ == '__main__':\n    with mp.get_context('spawn').Pool(3) as p: print(sum(p.map(fit, [1] * 3), []))",
    "loky": "import joblib\nif __name__ == '__main__': print(sum(joblib.Parallel(3)(joblib.delayed(fit)(1) for _ in range(3)), []))",
    "threads": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(3) as p: print(sum(p.map(fit, [1] * 3), []))",
    "one thread of BLAS": "print(fit(1) * 3)",
}  # fmt: skip
CHAINS = """
from stangmm.cmdstan.watchdog import processes_using
import tempfile
def meddle(number):
    while True:
        for folder in Path(tempfile.gettempdir()).glob("stangmm-nuts-*"):
            pids = processes_using(folder)
            if len(pids) >= 3:
                os.kill(sorted(pids)[1], number)
                return
        time.sleep(0.01)
number = signal.{number}
threading.Thread(target=meddle, args=(number,), daemon=True).start()
began = time.monotonic()
try:
    model.fit(X, sg.NUTS(chains=3, parallel_chains=3, draws=3000), seed=1, progress=False)
except sg.InferenceError as error:
    kept = error.partial.lp.shape if error.partial is not None else None
    print(type(error).__name__, str(error)[:150], getattr(error, "__notes__", []), "kept", kept, f"{{time.monotonic() - began:.0f}} s")
"""


def run(program: str, folder: Path, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a program from a file, which spawned processes can read."""
    file = folder / "program.py"
    file.write_text(COMMON + program)
    file.chmod(0o644)
    return subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **more,
    )  # type: ignore[call-overload]


def pools() -> None:
    """The same numbers everywhere."""
    with tempfile.TemporaryDirectory() as name:
        seen = {}
        for kind, program in POOLS.items():
            env = dict(os.environ, TMPDIR=name)
            if kind.startswith("one thread"):
                env |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            done = run(program, Path(name), env=env)
            seen[kind] = done.stdout.strip() or done.stderr.strip()[-300:]
            left = [
                p.name for p in Path(name).iterdir() if p.name not in ("program.py", "__pycache__")
            ]
            left = [n for n in left if not n.startswith("joblib")]
            same = seen[kind] == seen["one process"]
            print(f"{kind}: {'the same numbers' if same else seen[kind]}, left {left}", flush=True)


def chains() -> None:
    """One chain of three is killed, or stopped for good."""
    for number in ("SIGKILL", "SIGSTOP", "SIGSEGV"):
        with tempfile.TemporaryDirectory() as name:
            done = run(CHAINS.format(number=number), Path(name), env=dict(os.environ, TMPDIR=name))
            print(f"a chain gets {number}: {done.stdout.strip() or done.stderr[-500:]}", flush=True)


def unnamed_user() -> None:
    """A user id that no file knows, whose home cannot be used; as root only.

    The libraries are read before, since only root may read them where this was tried.
    """
    if os.getuid() != 0:
        print("an unknown user: left out, since this needs root")
        return
    program = (
        "fit = model.fit(X, 'em', seed=1); fit.save('first.nc'); fit.report('first.html')\n"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "fit = sg.load('first.nc'); again = model.fit(X, 'em', seed=1)\n"
        "again.save('own.nc'); again.report('own.html'); print(again.bic() == fit.bic())\n"
        "try: again.save('first.nc')\n"
        "except OSError as e: print(type(e).__name__, str(e)[:200])\n"
    )
    for home in ("/nonexistent", "/root"):
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o1777)
            env = dict(os.environ, HOME=home, TMPDIR=name)
            done = run(program, Path(name), env=env, cwd=name)
            told = done.stderr.strip().splitlines()[-1:] if done.stderr else []
            print(f"an unknown user with home {home!r}: {done.stdout.strip()} {told}", flush=True)


def read_only() -> None:
    """A cache and a temporary folder that are read-only; as root, file systems of their own."""
    if os.getuid() != 0:
        print("read-only: left out, since this needs root")
        return
    with tempfile.TemporaryDirectory(prefix="ro-") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", name], check=True)
        try:
            for variable, work in {
                "TMPDIR": "model.fit(X, 'nuts', seed=1)",
                "STANGMM_CACHE": "model.fit(X, 'nuts', seed=1)",
                "OUT": f"model.fit(X, 'em', seed=1).save('{name}/fit.nc')",
            }.items():
                program = f"try:\n    {work}\nexcept (sg.StangmmError, OSError) as e: print(type(e).__name__, str(e)[:250])"
                with tempfile.TemporaryDirectory() as folder:
                    done = run(program, Path(folder), env=os.environ | {variable: name})
                print(
                    f"read-only {variable}: {done.stdout.strip() or done.stderr[-300:]}", flush=True
                )
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def damaged_cmdstan() -> None:
    """A CmdStan whose parts are missing or no programs."""
    from stangmm.cmdstan import find_cmdstan

    own = find_cmdstan().path
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "cmdstan-2.27.0"
        copy.mkdir()
        for entry in own.iterdir():
            if entry.name != "bin":
                (copy / entry.name).symlink_to(entry)
        (copy / "bin").mkdir()
        for damage, content in {
            "no stanc": None,
            "an empty stanc": b"",
            "a stanc of zeros": bytes(5000),
        }.items():
            if content is not None:
                (copy / "bin" / "stanc").write_bytes(content)
                (copy / "bin" / "stanc").chmod(0o755)
            program = (
                "try: model.fit(X, sg.NUTS(chains=1, draws=50, cmdstan=os.environ['OTHER']), seed=1, progress=False)\n"
                "except sg.StangmmError as e: print(type(e).__name__, str(e)[:200].replace(chr(10), ' '))"
            )
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                env = os.environ | {"OTHER": str(copy), "STANGMM_CACHE": f"{folder}/cache"}
                done = run(program, Path(folder), env=env)
            print(f"CmdStan with {damage}: {done.stdout.strip() or done.stderr[-300:]}, "
                  f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
        shutil.rmtree(copy / "bin")


def main() -> None:
    """Each of them."""
    for part in (chains, pools, unnamed_user, read_only, damaged_cmdstan):
        part()


if __name__ == "__main__":
    main()
