"""Objects of stangmm as a tree of JSON values with the arrays apart, and back.

An object is its class's name and its fields, whichever they are: a field that a class gains later
is kept without a change here. What JSON does not know is a mapping with one key that says what it
is, such as ``{"tuple": [1, 2]}``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stangmm.base.errors import ModelError
from stangmm.model.covariance import CovarianceStructure, structure_named

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


def encode(value: Any, arrays: PackedArrays) -> Tree:
    """Give the tree of a value; its arrays go to ``arrays``.

    Raises
    ------
    ModelError
        There is something in it that is neither stangmm's own nor plain.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        return arrays.add(value)
    if isinstance(value, list):
        return [encode(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        pairs = [[encode(key, arrays), encode(item, arrays)] for key, item in value.items()]
        return {"mapping": pairs}
    if isinstance(value, os.PathLike):
        return {"path": os.fspath(value)}
    if isinstance(value, CovarianceStructure):
        return {"structure": value.name}
    cls = type(value)
    if cls.__module__.partition(".")[0] != "stangmm":
        raise ModelError(
            f"Only what is made of stangmm's own objects can be saved, got a {cls.__qualname__} "
            f"of {cls.__module__}."
        )
    return {"type": cls.__name__, "fields": _fields(value, arrays)}


def _fields(value: Any, arrays: PackedArrays) -> Tree:
    """Encode the attributes of an object, but for what is computed once from the others."""
    return {
        field.name: encode(getattr(value, field.name), arrays)
        for field in fields(value)
        if field.init
    }


def decode(tree: Tree, arrays: Mapping[str, NDArray[Any]], classes: Mapping[str, type]) -> Any:
    """Make the value of a tree again.

    Parameters
    ----------
    tree : JSON value
    arrays : mapping of str to ndarray
        As `PackedArrays.packed` gave them.
    classes : mapping of str to type
        The classes that may be made, by name.

    Raises
    ------
    KeyError, TypeError, ValueError
        The tree is none, or its objects have other fields than the classes.
    """

    def made(tree: Tree) -> Any:
        if isinstance(tree, list):
            return [made(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        kind, *_ = tree
        content = tree[kind]
        if kind == "type":
            return _made_of(classes[content], {n: made(f) for n, f in tree["fields"].items()})
        if kind == "array":
            name, start, laid, axes = content
            flat = arrays[name][start : start + math.prod(laid)].copy()
            return flat.reshape(laid).transpose(np.argsort(axes))
        if kind == "tuple":
            return tuple(map(made, content))
        if kind == "mapping":
            return {made(key): made(item) for key, item in content}
        return _PLAIN[kind](content)

    return made(tree)


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "float": float,
    "path": Path,
    "structure": structure_named,
}


def _made_of(cls: type, fields: dict[str, Any]) -> Any:
    if is_dataclass(cls):
        return cls(**fields)
    thing: Any = object.__new__(cls)
    vars(thing).update(fields)
    return thing
