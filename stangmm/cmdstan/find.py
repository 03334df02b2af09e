"""Find a CmdStan to work with: the one asked for, that of CMDSTAN, or the newest one installed."""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from stangmm.base.errors import CmdStanNotFoundError

MINIMUM_VERSION = (2, 27, 0)
INSTALL_HINT = "Run `stangmm install-cmdstan` to install one."

_VERSION_LINE = re.compile(r"^CMDSTAN_VERSION\s*:?=\s*(\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)


@dataclass(frozen=True)
class CmdStan:
    """A CmdStan that is built and new enough.

    Parameters
    ----------
    path : Path
        Its folder, absolute.
    version : tuple of int
        Major, minor and patch number, as its makefile gives them.
    """

    path: Path
    version: tuple[int, int, int]

    @property
    def version_string(self) -> str:
        """The version as people write it, such as ``"2.27.0"``."""
        return ".".join(map(str, self.version))


def read_version(folder: Path) -> tuple[int, int, int] | None:
    """Read the version from a CmdStan folder's makefile.

    Parameters
    ----------
    folder : Path
        The folder that may be a CmdStan.

    Returns
    -------
    tuple of int or None
        Major, minor and patch number; None where there is no CmdStan makefile.
    """
    try:
        text = (folder / "makefile").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = _VERSION_LINE.search(text)
    if match is None:
        return None
    return int(match[1]), int(match[2]), int(match[3] or 0)


def defect(folder: Path) -> str | None:
    """Say why a folder cannot be used as CmdStan.

    Parameters
    ----------
    folder : Path
        The folder that may be a CmdStan.

    Returns
    -------
    str or None
        What is wrong with it, as the end of the sentence "<folder> …"; None for a good CmdStan.
    """
    if not folder.is_dir():
        return "does not exist" if not folder.exists() else "is not a folder"
    version = read_version(folder)
    if version is None:
        return "has no makefile that sets CMDSTAN_VERSION, so it is not a CmdStan folder"
    if version < MINIMUM_VERSION:
        needed, found = (".".join(map(str, v)) for v in (MINIMUM_VERSION, version))
        return f"is CmdStan {found}, but stangmm needs CmdStan {needed} or newer"
    if not os.access(folder / "bin" / "stanc", os.X_OK):
        return "has no executable bin/stanc: this CmdStan was unpacked but never built"
    return None


def find_cmdstan(path: str | os.PathLike[str] | None = None) -> CmdStan:
    """Find CmdStan, without starting anything.

    The first of these that is set decides: the argument, then the environment variable
    ``CMDSTAN``. Where neither is, the newest good one of `default_directory` is taken (where
    `install_cmdstan` and cmdstanpy install), then that of the active conda environment.

    Parameters
    ----------
    path : path-like, optional
        A CmdStan folder.

    Returns
    -------
    CmdStan
        Its folder and version.

    Raises
    ------
    CmdStanNotFoundError
        If there is none, or if the folder asked for is not a CmdStan of version 2.27 or newer
        that has been built.
    """
    if path is not None:
        return _checked(Path(path), "the argument cmdstan_path")
    if os.environ.get("CMDSTAN"):
        return _checked(Path(os.environ["CMDSTAN"]), "the environment variable CMDSTAN")

    rejected = []
    base = default_directory()
    own = installed_in(base) if base.parent == Path.home() or is_private(base) else []
    for folder in [*own, *_conda_folders()]:
        reason = defect(folder)
        if reason is None:
            return _cmdstan(folder)
        rejected.append(f"  {folder} {reason}.")
    message = (
        "No usable CmdStan was found: the environment variable CMDSTAN is not set, and neither "
        f"{_short(base)} nor the active conda environment has one. {INSTALL_HINT}"
    )
    if rejected:
        message += "\nFolders that were searched:\n" + "\n".join(rejected)
    raise CmdStanNotFoundError(message)


def names_cmdstan(path: str | os.PathLike[str] | None) -> bool:
    """Whether a CmdStan is named, by the argument or the environment variable ``CMDSTAN``."""
    return path is not None or bool(os.environ.get("CMDSTAN"))


def default_directory() -> Path:
    """Where CmdStan is installed: ``~/.cmdstan``, if make can work there.

    Make cannot handle a home whose path has spaces; then it is a folder of the user's own in
    ``/var/tmp``, which is used only if nobody else can write there.
    """
    home = Path.home() / ".cmdstan"
    if not re.search(r"\s", str(home)):
        return home
    return Path("/var/tmp") / f"stangmm-{os.getuid()}"  # noqa: S108 - see `is_private`


def is_private(directory: Path) -> bool:
    """Whether a folder is this user's, and nobody else's to write; nor is it a link."""
    try:
        facts = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o022


def _short(path: Path) -> str:
    home = str(Path.home())
    text = str(path)
    return f"~{text.removeprefix(home)}" if text.startswith(f"{home}/") else text


def installed_in(directory: Path) -> list[Path]:
    """List the folders ``cmdstan-*`` of a directory, the newest version first.

    Parameters
    ----------
    directory : Path
        Where CmdStans are installed side by side, such as ``~/.cmdstan``.

    Returns
    -------
    list of Path
        The folders; those without a version come last.
    """
    if not directory.is_dir():
        return []
    return sorted(
        directory.glob("cmdstan-*"),
        key=lambda folder: (read_version(folder) or (0, 0, 0), folder.name),
        reverse=True,
    )


def _conda_folders() -> list[Path]:
    prefixes = dict.fromkeys([os.environ.get("CONDA_PREFIX"), sys.prefix])
    folders = [Path(prefix) / "bin" / "cmdstan" for prefix in prefixes if prefix]
    return [folder for folder in folders if folder.exists()]


def _checked(folder: Path, origin: str) -> CmdStan:
    folder = folder.expanduser()
    reason = defect(folder)
    if reason is not None:
        raise CmdStanNotFoundError(
            f"{origin[0].upper()}{origin[1:]} must name a built CmdStan folder, but {folder} "
            f"{reason}. Correct it, or leave it out to use an installed CmdStan. {INSTALL_HINT}"
        )
    return _cmdstan(folder)


def _cmdstan(folder: Path) -> CmdStan:
    version = read_version(folder)
    assert version is not None  # noqa: S101 - `defect` returned None for this folder
    return CmdStan(folder.resolve(), version)
