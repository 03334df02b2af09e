"""The one way in which files are written: whole or not at all, for fits, reports and pictures."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from stangmm.base.checked import checked_path
from stangmm.base.errors import ModelError

_SYSTEM = ("/dev/", "/proc/")  # what is found here is never replaced


def checked_target(path: str | os.PathLike[str], example: str) -> Path:
    """Give the path of a file that is to be written.

    Parameters
    ----------
    path : path
    example : str
        A file's name for the message.

    Raises
    ------
    ModelError
        The folder does not exist, or the path is a folder or a disk.
    DataError
        It is not a valid path.
    """
    target = checked_path(path)
    if not target.parent.is_dir():
        raise ModelError(
            f"The folder {str(target.parent)!r} does not exist. Create it, or give another path."
        )
    if target.is_dir() or target.is_block_device():
        what, where = ("folder", target) if target.is_dir() else ("disk", Path("~"))
        raise ModelError(
            f"{str(target)!r} is a {what}. Give the path of a file, such as "
            f"{str(where / example)!r}."
        )
    return target


def is_stream(target: Path) -> bool:
    """Whether a path leads to a pipe, a terminal or the like, which takes what it is given."""
    special = target.exists() and not target.is_file()
    return special or os.path.abspath(target).startswith(_SYSTEM)


def write_whole(target: Path, *content: bytes | memoryview) -> None:
    """Write beside the target, then take its place at once, so that no one sees half a file.

    Where the target is a link, the file that it leads to is replaced; one that was there keeps its
    rights. A stream (`is_stream`) cannot be replaced, and is written to.

    Raises
    ------
    OSError
        It could not be written. What was at the target before is still there.
    """
    try:
        if is_stream(target):
            with target.open("wb") as stream:
                stream.writelines(content)
        else:
            _replace(Path(os.path.realpath(target)), content)
    except OSError as error:
        kept = "the existing file is unchanged" if target.is_file() else "no file was made"
        why = error.strerror or error
        raise OSError(
            error.errno,
            f"{str(target)!r} could not be written, {kept}: {why}. Make room, get permission to "
            "write there, or give another path",
        ) from error


def _replace(real: Path, content: Iterable[bytes | memoryview]) -> None:
    unfinished = real.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        with _nameless(real.parent) or unfinished.open("xb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
            if not unfinished.exists():
                _give_name(file.fileno(), unfinished)
        if real.exists():
            shutil.copymode(real, unfinished)
        unfinished.replace(real)
    finally:
        unfinished.unlink(missing_ok=True)


def _nameless(folder: Path) -> BinaryIO | None:
    """A file that nobody sees, and that goes when this process is killed; where there are such."""
    try:
        return os.fdopen(os.open(folder, os.O_WRONLY | os.O_TMPFILE, 0o666), "wb")
    except (OSError, AttributeError):  # another file system, another system, or no right
        return None


def _give_name(descriptor: int, name: Path) -> None:
    # A folder beside the path has Python ask the system to follow the link to the open file.
    beside = os.open(name.parent, os.O_RDONLY)
    try:
        os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=beside, follow_symlinks=True)
    finally:
        os.close(beside)
