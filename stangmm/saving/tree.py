"""Values as a tree of JSON with the arrays apart, and back.

What JSON does not know is a mapping whose first key says what it is, such as ``{"tuple": [1, 2]}``;
an object is its kind and its entries, which the schema knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stangmm.base.errors import ModelError

Tree: TypeAlias = Any  # None, bool, int, str, finite float, list or dict of these
FORMAT = 2
GROUP = "stangmm"  # of a file, and the variable in it that has the tree
TEXT = "json"
_NUMBERS = "biuf"  # kinds of arrays that netCDF can hold
_MOST_COPIES = 16  # of each packed number: equal arrays of several shapes are packed once


def number_type(name: str) -> np.dtype[Any]:
    """Type of numbers of this name.

    Raises
    ------
    ValueError, TypeError
        A file may not hold numbers of this type.
    """
    dtype = np.dtype(name)
    if dtype.kind not in _NUMBERS or dtype.name != name:
        raise ValueError(f"{name!r} is not a type of numbers")
    return dtype


class PackedArrays:
    """Arrays laid one after another, by type of number; equal ones are kept once."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._length: dict[str, int] = {}
        self._starts: dict[tuple[str, bytes], int] = {}

    def add(self, array: NDArray[Any]) -> Tree:
        """Keep an array and say where it is.

        Its memory layout is kept, too: sums and products may be rounded otherwise in another.
        """
        if array.dtype.kind not in _NUMBERS:
            raise ModelError(f"Arrays of {array.dtype} cannot be saved, only arrays of numbers.")
        steps = [s if n > 1 else 0 for n, s in zip(array.shape, array.strides, strict=True)]
        axes = sorted(range(array.ndim), key=lambda axis: -steps[axis])
        laid = array.transpose(axes)
        flat = laid.reshape(-1)
        name = array.dtype.name
        key = name, sha256(np.ascontiguousarray(flat).data).digest()
        if key not in self._starts:
            self._starts[key] = self._length.get(name, 0)
            self._length[name] = self._starts[key] + flat.size
            self._parts.setdefault(name, []).append(flat)
        return {"array": [name, self._starts[key], list(laid.shape), axes]}

    def packed(self) -> dict[str, NDArray[Any]]:
        """Give the arrays by type of number, each of one dimension."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def encode(
    value: Any, arrays: PackedArrays, described: Callable[[Any], tuple[str, Mapping[str, Any]]]
) -> Tree:
    """Give the tree of a value; its arrays go to ``arrays``.

    Parameters
    ----------
    value : object
    arrays : PackedArrays
    described : callable
        Gives the kind and the entries of an object.

    Raises
    ------
    ModelError
        There is something in it that cannot be saved.
    """

    def encoded(value: Any) -> Tree:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": repr(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray):
            return arrays.add(value)
        if isinstance(value, list):
            return [encoded(item) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [encoded(item) for item in value]}
        if isinstance(value, Mapping):
            return {"mapping": [[encoded(key), encoded(item)] for key, item in value.items()]}
        kind, entries = described(value)
        return {"kind": kind, "entries": {name: encoded(item) for name, item in entries.items()}}

    return encoded(value)


def decode(
    tree: Tree, arrays: Mapping[str, NDArray[Any]], made: Callable[[str, Mapping[str, Any]], Any]
) -> Any:
    """Make the value of a tree again.

    Its arrays are copies, one for each that the tree tells apart, and in all no larger than what
    was packed could make them: a tree cannot make much of few bytes.

    Parameters
    ----------
    tree : JSON value
    arrays : mapping of str to ndarray
        As `PackedArrays.packed` gave them.
    made : callable
        Makes an object of its kind and its entries.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is not a tree, or its objects have other entries than their kinds.
    """
    copies: dict[str, NDArray[Any]] = {}
    left = _MOST_COPIES * sum(flat.nbytes for flat in arrays.values())

    def copied(content: Any) -> NDArray[Any]:
        nonlocal left
        name, start, laid, axes = content
        if not all(isinstance(n, int) and n >= 0 for n in (start, *laid)):
            raise ValueError(f"{content} is not the place of an array")
        part = arrays[name][start : start + math.prod(laid)]
        left -= part.nbytes
        if left < 0:
            raise ValueError("its arrays are larger than what they are made of")
        return part.copy().reshape(laid).transpose(np.argsort(axes))

    def decoded(tree: Tree) -> Any:
        if isinstance(tree, list):
            return [decoded(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        what, *_ = tree
        content = tree[what]
        if what == "kind":
            return made(content, {name: decoded(item) for name, item in tree["entries"].items()})
        if what == "array":
            key = repr(content)
            if key not in copies:
                copies[key] = copied(content)
            return copies[key]
        if what == "tuple":
            return tuple(map(decoded, content))
        if what == "mapping":
            return {decoded(key): decoded(item) for key, item in content}
        if what == "path":  # of the machine that wrote it; nothing here is to depend on it
            return None
        if what == "float":
            return float(content)
        raise ValueError(f"{what!r} is not a value")

    return decoded(tree)


def checksum(text: str, packed: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over all that an object is made of."""
    digest = sha256(text.encode())
    for name in sorted(packed):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(packed[name]).data)
    return digest.hexdigest()
