"""Compile at once in many processes, and corrupt what is cached: python -m robustness.compiles."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import sys, warnings
from pathlib import Path
from stangmm.cmdstan import compile_stan, find_cmdstan
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(compile_stan(Path(sys.argv[1]), cmdstan=find_cmdstan()))
print([str(w.message)[:60] for w in caught])
"""


def run_all(file: Path, cache: Path, n: int) -> list[tuple[str, str]]:
    """Start n processes; what each said."""
    env = dict(os.environ, STANGMM_CACHE=str(cache))
    command = [sys.executable, "-c", PROGRAM, str(file)]
    running = [
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(n)
    ]
    return [each.communicate(timeout=900) for each in running]


def main() -> None:
    """An empty cache, then each kind of damage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, cache = folder / "one.stan", folder / "cache"
        file.write_text("parameters { real x; } model { x ~ std_normal(); }\n")
        began = time.monotonic()
        said = run_all(file, cache, arguments.processes)
        exes = {out.splitlines()[0] for out, _ in said}
        compiled = sum("compiling the Stan model" in err for _, err in said)
        print(f"{arguments.processes} at once: {compiled} compiled, {len(exes)} executable, "
              f"{time.monotonic() - began:.0f} s")  # fmt: skip
        exe = Path(exes.pop())
        whole = exe.read_bytes()
        damages = {
            "truncated": whole[:1000],
            "empty": b"",
            "zeroed": bytes(len(whole)),
            "replaced by yes": Path("/usr/bin/yes").read_bytes(),
            "one bit": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
        }
        for damage, content in damages.items():
            exe.write_bytes(content)
            exe.chmod(0o755)
            said = run_all(file, cache, 2)
            compiled = sum("compiling the Stan model" in err for _, err in said)
            words = {out.splitlines()[1] for out, _ in said}
            whole_again = exe.read_bytes() != content
            print(f"{damage}: {compiled} compiled, whole again {whole_again}, said {sorted(words)}")
        print("left in the cache:", sorted(p.name for p in (cache / "models").iterdir()))


if __name__ == "__main__":
    main()
