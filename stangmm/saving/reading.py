"""Reading: text and arrays out of a file, in time and memory that the file's size bounds.

At its end a file says where its text and arrays stand, so that their bytes are read as they are.
HDF5 reads only files without such an index, from before there was one or changed by another
program since: in a process of its own, which is ended where a damaged file keeps it for ever or
makes it ask for more memory than there is (a changed bit can do both).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stangmm.base.errors import DataError
from stangmm.saving.tree import FORMAT, GROUP, checksum, number_type

END = b"\x89stangmm-index\r\n"  # the last bytes of a file with an index
_LENGTH = 8  # bytes before them: how long the index is
_SIGNATURE = b"\x89HDF\r\n\x1a\n"  # of HDF5, which netCDF-4 is
_SECONDS, _SECONDS_A_BYTE = 5, 1e-7
_WORDS = 500  # letters of what a file says of itself in a message

REMEDY = (
    "Load it with that version, or fit and save again. az.from_netcdf reads its draws in any case."
)


@dataclass(frozen=True)
class Stored:
    """What a file holds of an object."""

    text: str
    arrays: Mapping[str, NDArray[Any]]
    written_by: str  # the version of stangmm


def stored(source: Path) -> Stored:
    """Read text and arrays.

    Raises
    ------
    DataError
        The file is damaged, was not saved by stangmm, or has another format.
    OSError
        There is no such file, or it may not be read.
    """
    shown = repr(str(source))
    if source.exists() and not source.is_file():  # a pipe could keep us waiting for ever
        what = "a folder" if source.is_dir() else "not a file but a pipe, a device or the like"
        raise DataError(f"{shown} is {what}. Give the path of a file that stangmm saved.")
    with source.open("rb") as file:
        head = file.read(len(_SIGNATURE))
        if head != _SIGNATURE:
            what = f"begins with {head!r}" if head else "is empty"
            raise DataError(
                f"{shown} is not a file that stangmm saved: it {what}, but netCDF-4 begins with "
                f"{_SIGNATURE!r}. Give another file, or save the fit again."
            )
        try:
            facts, text, arrays = _by_index(file) or _by_hdf5(source)
            written_in, written_by = int(facts["format"]), str(facts["stangmm_version"])[:_WORDS]
            if written_in == FORMAT and checksum(text, arrays) != facts["sha256"]:
                raise ValueError("its checksum does not match its numbers")
        except DataError as error:
            raise DataError(f"{shown} {error}") from None
        except Exception as error:  # there are many ways in which bytes make no sense
            raise DataError(
                f"{shown} is damaged and cannot be read ({type(error).__name__}: "
                f"{str(error)[:_WORDS]}). Use an intact copy of it, or fit and save again."
            ) from error
    if written_in != FORMAT:
        raise DataError(
            f"{shown} was written by stangmm {written_by} in format {written_in}, but this "
            f"version reads format {FORMAT}. "
            + ("Update stangmm." if written_in > FORMAT else REMEDY)
        )
    return Stored(text, arrays, written_by)


def index_of(content: memoryview | bytes, text: str, facts: Mapping[str, Any]) -> bytes:
    """Give the index of a file, to be written at its end."""
    from io import BytesIO

    import h5py

    whole = BytesIO(content)
    with h5py.File(whole, "r") as file:
        group = file[GROUP]
        arrays = {n: [group[n].id.get_offset() or 0, group[n].size] for n in facts["arrays"]}
    told = text.encode()
    place = [whole.getvalue().index(told), len(told)]
    index = json.dumps({**facts, "text": place, "arrays": arrays}).encode()
    return index + len(index).to_bytes(_LENGTH, "little") + END


_Read = tuple[dict[str, Any], str, dict[str, NDArray[Any]]]


def _by_index(file: BinaryIO) -> _Read | None:
    """What the index at a file's end leads to; None where there is none."""
    size = file.seek(0, 2)
    tail = _LENGTH + len(END)
    file.seek(max(0, size - tail))
    end = file.read(tail)
    if len(end) < tail or end[_LENGTH:] != END:
        return None
    length = int.from_bytes(end[:_LENGTH], "little")

    def part(start: Any, n: Any) -> bytes:
        if not (isinstance(start, int) and isinstance(n, int) and 0 <= start <= start + n <= size):
            raise ValueError(f"the index leads to {n} bytes at {start} of {size}")
        file.seek(start)
        return file.read(n)

    index = json.loads(part(size - tail - length, length))
    text = part(*index["text"]).decode()
    arrays, left = {}, 2 * size
    for name, (start, n) in index["arrays"].items():
        dtype = number_type(name)
        arrays[name] = np.frombuffer(bytearray(part(start, n * dtype.itemsize)), dtype)
        left -= arrays[name].nbytes
        if left < 0:
            raise ValueError("its arrays are larger than the file")
    return index, text, arrays


def _by_hdf5(source: Path) -> _Read:
    """What HDF5 reads in a process of its own, within its limits."""
    size = _hdf5_size(source)
    if source.stat().st_size != size:
        raise ValueError(f"it has {source.stat().st_size} bytes, and {size} without its index")
    # -P: modules that lie beside the user's data are not ours.
    command = [sys.executable, "-P", "-m", "stangmm.saving.hdf5", str(source.absolute())]
    here = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    seconds = 3 * seconds_for(source)
    try:
        done = subprocess.run(  # noqa: S603 - this package's: no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=seconds,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(here)},
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"HDF5 did not finish within {seconds} s") from None
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(told[-1] if told else f"HDF5 was ended by code {done.returncode}")
    head, _, rest = done.stdout.partition(b"\n")
    facts = json.loads(head)
    if "refused" in facts:
        raise DataError(facts["refused"])
    text, at = rest[: facts["text"]].decode(), facts["text"]
    arrays = {}
    for name, n in facts["arrays"]:
        dtype = number_type(name)
        arrays[name] = np.frombuffer(bytearray(rest[at : at + n * dtype.itemsize]), dtype)
        at += n * dtype.itemsize
    return facts, text, arrays


def seconds_for(source: Path) -> int:
    """How many seconds of a processor HDF5 may take for a file."""
    return int(_SECONDS + source.stat().st_size * _SECONDS_A_BYTE)


def _hdf5_size(source: Path) -> int:
    """How long a file is by its superblock, of which HDF5 has versions; HDF5 checks the rest."""
    with open(source, "rb") as file:
        head = file.read(48)
    at = 28 if head[len(_SIGNATURE)] >= 2 else 40
    return int.from_bytes(head[at : at + 8], "little")
