"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from stangmm.base.errors import ModelError


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
        The folder does not exist, or the path is a folder.
    """
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise ModelError(
            f"The folder {str(target.parent)!r} does not exist. Create it, or give another path."
        )
    if target.is_dir():
        raise ModelError(
            f"{str(target)!r} is a folder. Give the path of a file, such as "
            f"{str(target / example)!r}."
        )
    return target


def write_whole(target: Path, content: bytes | memoryview) -> None:
    """Write beside the target, then take its place at once, so that no one sees half a file.

    Where the target is a link, the file that it leads to is replaced.

    Raises
    ------
    OSError
        It could not be written. What was at the target before is still there.
    """
    real = Path(os.path.realpath(target))
    unfinished = real.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(real)
    except OSError as error:
        kept = "the file that was there is as it was" if real.exists() else "there is no file"
        raise OSError(
            error.errno,
            f"{str(target)!r} could not be written, {kept}: {error.strerror}. Make room, get the "
            "right to write there, or give another path",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
