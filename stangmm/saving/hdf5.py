"""HDF5 in a process of its own: what a file holds, written to standard output.

A program for `stangmm.saving.reading`. It limits its own time and memory first, since a changed bit
can make HDF5 go round for ever or ask for more memory than there is; it imports little, to start
quickly.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stangmm.saving.reading import seconds_for
from stangmm.saving.tree import FORMAT, GROUP, TEXT, number_type

# Memory beside what the file's size explains.
_MEMORY, _COPIES = 2**28, 6
_WORDS = 500  # letters of the version


def read(source: str) -> None:
    """Read a file by HDF5 and write what it holds to standard output: facts, text and arrays."""
    size, seconds = Path(source).stat().st_size, seconds_for(Path(source))
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    memory = used + _MEMORY + _COPIES * size
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with h5py.File(source, "r") as file:
        if GROUP not in file:
            refused = (
                f"was not saved by stangmm: it has {list(islice(file, 10))}, but no group "
                f"{GROUP!r}. az.from_netcdf may read it."
            )
            _tell({"refused": refused})
            return
        group = _own(file, GROUP)
        facts: dict[str, Any] = {
            "stangmm_version": str(_attribute(group, "stangmm_version"))[:_WORDS],
            "format": int(np.asarray(_attribute(group, "format")).item()),
            "text": 0,
            "arrays": [],
        }
        if facts["format"] != FORMAT:
            _tell(facts)
            return
        text = _own(group, TEXT).asstr()[()].encode()
        names = _attribute(group, "arrays").split()
        # netCDF has no type for true and false, and stores them as int8
        arrays = [_array(group, name).astype(number_type(name)) for name in names]
        facts |= {"sha256": str(_attribute(group, "sha256")), "text": len(text)}
        facts["arrays"] = [[array.dtype.name, array.size] for array in arrays]
        _tell(facts)
        sys.stdout.buffer.write(text)
        for array in arrays:
            sys.stdout.buffer.write(array.data)


def _tell(facts: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n")


def _own(group: h5py.Group, name: str) -> Any:
    """What stands under a name in the file itself: no link to another place or file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is a link")
    return group[name]


def _attribute(group: h5py.Group, name: str) -> Any:
    """A single value; more of them could be more than memory holds."""
    held = h5py.h5a.open(group.id, name.encode()).get_space().get_simple_extent_npoints()
    if held != 1:
        raise ValueError(f"the attribute {name!r} is not a single value")
    return group.attrs[name]


def _array(group: h5py.Group, name: str) -> NDArray[Any]:
    """An array of which each byte stands in the file: not compressed, nor in another file."""
    data = _own(group, name)
    plain = data.chunks is None and data.external is None and not data.is_virtual
    if not plain or data.ndim != 1 or data.id.get_storage_size() != data.nbytes:
        raise ValueError(f"{name!r} is not stored in the file uncompressed")
    return np.asarray(data[...])


if __name__ == "__main__":
    read(sys.argv[1])
