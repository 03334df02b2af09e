"""Folders that are made again only when something that they were made from has changed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ROOT / "out" / "docs-parts"
_SUFFIXES = {".py", ".stan", ".hpp", ".csv", ".j2", ".css"}


def made(folder: Path, sources: Iterable[Path], make: Callable[[Path], None]) -> None:
    """Make a folder by ``make(folder)``, unless it is there and its sources are the same.

    Parameters
    ----------
    folder : Path
    sources : iterable of Path
        Files, or folders with all the source files in them.
    make : callable
        Fills the empty folder.
    """
    stamp, digest = folder / ".stamp", _digest(sources)
    if stamp.is_file() and stamp.read_text() == digest:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder)
    stamp.write_text(digest)


def _digest(sources: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for source in sources:
        inside = sorted(file for file in source.rglob("*") if file.suffix in _SUFFIXES)
        for file in [source] if source.is_file() else inside:
            total.update(f"{file.relative_to(ROOT)}\n".encode())
            total.update(file.read_bytes())
    return total.hexdigest()
