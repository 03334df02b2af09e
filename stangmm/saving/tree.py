"""Values as a tree of JSON with the arrays apart, and back.

What JSON does not know is a mapping whose first key says what it is, such as ``{"tuple": [1, 2]}``;
an object is its kind and its entries, which the schema knows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stangmm.base.errors import ModelError

Tree: TypeAlias = Any  # None, bool, int, str, finite float, list or dict of these
_NUMBERS = "biuf"  # kinds of arrays that netCDF can hold


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
        if isinstance(value, os.PathLike):
            return {"path": os.fspath(value)}
        kind, entries = described(value)
        return {"kind": kind, "entries": {name: encoded(item) for name, item in entries.items()}}

    return encoded(value)


def decode(
    tree: Tree, arrays: Mapping[str, NDArray[Any]], made: Callable[[str, Mapping[str, Any]], Any]
) -> Any:
    """Make the value of a tree again.

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
        The tree is none, or its objects have other entries than their kinds.
    """

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
            name, start, laid, axes = content
            flat = arrays[name][start : start + math.prod(laid)].copy()
            return flat.reshape(laid).transpose(np.argsort(axes))
        if what == "tuple":
            return tuple(map(decoded, content))
        if what == "mapping":
            return {decoded(key): decoded(item) for key, item in content}
        return _PLAIN[what](content)

    return decoded(tree)


_PLAIN: dict[str, Callable[[Any], Any]] = {"float": float, "path": Path}
