"""Run every example for the gallery: keep what it prints, its pictures and its reports.

`conf.py` calls `build`. Each example runs in a process and a folder of its own, by this file as a
script; the fit or comparison that it reports is drawn besides.
"""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import stamps

import stangmm as sg

EXAMPLES = stamps.ROOT / "examples"
FOLDER = stamps.PARTS / "gallery"
REPORTS = stamps.PARTS / "gallery-reports"
_NOT_SHOWN = {"readme_picture"}  # writes into the checkout


def names() -> list[str]:
    """The examples of the gallery."""
    return sorted({path.stem for path in EXAMPLES.glob("*.py")} - _NOT_SHOWN)


def build() -> None:
    """Run the examples that have changed since they ran last, or all if the package has."""
    package = [stamps.ROOT / "stangmm", stamps.ROOT / "stan", Path(__file__)]
    for name in names():
        example = EXAMPLES / f"{name}.py"
        stamps.made(FOLDER / name, [example, *package], lambda folder, e=example: _run(e, folder))
    shutil.rmtree(REPORTS, ignore_errors=True)
    (REPORTS / "reports").mkdir(parents=True)
    for report in FOLDER.glob("*/out/*.html"):
        shutil.copy(report, REPORTS / "reports")


def _run(example: Path, folder: Path) -> None:
    command = [sys.executable, __file__, str(example)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{example.name} failed:\n{done.stderr}")
    (folder / "printed.txt").write_text(done.stdout)
    for picture in folder.glob("out/*.png"):
        shutil.copy(picture, folder)


def _run_and_draw(example: Path) -> None:
    """Run an example in this process and draw what it writes reports of."""

    def drawing(cls: type, draw: Any) -> None:
        write = cls.report  # type: ignore[attr-defined]

        def report(self: Any, path: Any) -> Path:
            figure = draw(self).figure
            figure.savefig(f"{Path(path).stem}.png", dpi=160, bbox_inches="tight")
            return write(self, path)

        cls.report = report  # type: ignore[attr-defined]

    drawing(sg.Fit, lambda fit: fit.plot.density())
    drawing(sg.Comparison, lambda comparison: comparison.plot())
    runpy.run_path(str(example), run_name="__main__")


if __name__ == "__main__":
    _run_and_draw(Path(sys.argv[1]))
