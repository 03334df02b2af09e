"""A compiled program in a folder of its own, run only if its hash is that of what was compiled.

Beside the program are the libraries that it takes from CmdStan, so that it runs where there is
neither a compiler nor CmdStan, and ``info.json``, which says what it was made of.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .find import CmdStan

_INFO = "info.json"


@dataclass(frozen=True)
class Executable:
    """A compiled program that is whole: the very bytes that were compiled.

    Parameters
    ----------
    path : Path
        The program.
    cmdstan : CmdStan
        What it was compiled with; its folder may be gone.
    """

    path: Path
    cmdstan: CmdStan

    @classmethod
    def in_folder(cls, folder: Path, name: str) -> Executable | None:
        """Read one; None where there is none, or one that is not what was compiled.

        Parameters
        ----------
        folder : Path
            Its folder.
        name : str
            The program's name.
        """
        try:
            info = json.loads((folder / _INFO).read_text())
            hashes = dict(info["sha256"])
            major, minor, patch = map(int, info["cmdstan"].split("."))
            cmdstan = CmdStan(Path(info["path"]), (major, minor, patch))
            whole = name in hashes and all(_hash(folder / f) == h for f, h in hashes.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        program = folder / name
        return cls(program, cmdstan) if whole and os.access(program, os.X_OK) else None


def fill_folder(folder: Path, program: Path, cmdstan: CmdStan, facts: Mapping[str, Any]) -> None:
    """Copy a program and its libraries of CmdStan into a folder, with their hashes.

    Parameters
    ----------
    folder : Path
        An empty folder.
    program : Path
        The program.
    cmdstan : CmdStan
        What it was compiled with.
    facts : mapping
        What else ``info.json`` is to say.
    """
    for file in (program, *_libraries(program, cmdstan.path)):
        shutil.copy2(file, folder / file.name)
    info = {
        "cmdstan": cmdstan.version_string,
        "path": str(cmdstan.path),
        **facts,
        "sha256": {file.name: _hash(file) for file in sorted(folder.iterdir())},
    }
    (folder / _INFO).write_text(json.dumps(info, indent=1))


def _libraries(program: Path, within: Path) -> list[Path]:
    """List the shared libraries that a program takes from a folder, where ldd can tell."""
    if shutil.which("ldd") is None:
        return []
    told = subprocess.run(  # noqa: S603 - our own program: no shell, no input
        ["ldd", program],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    found = map(Path, re.findall(r"=> (/.*) \(0x", told.stdout))
    return [library for library in found if library.is_relative_to(within)]


def _hash(file: Path) -> str:
    facts = file.stat()
    return _sha256(file, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@functools.lru_cache(maxsize=32)
def _sha256(file: Path, size: int, changed: int, inode: int) -> str:
    """Hash of a file; read once as long as its size, time and inode stay."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
