"""What an entry of a file may hold: type, shape and range of what was read.

Each check is given a value and the sizes that are known so far, by letter; it says whether the
value can be what it should, and notes the sizes that it saw first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

Sizes: TypeAlias = dict[str, Any]  # by letter; "..." is a tuple, of all leading axes
Content: TypeAlias = Callable[[Any, Sizes], bool]


def text(value: Any, sizes: Sizes) -> bool:
    """A text."""
    return isinstance(value, str)


def flag(value: Any, sizes: Sizes) -> bool:
    """True or false."""
    return isinstance(value, bool)


def integer(value: Any, sizes: Sizes) -> bool:
    """A whole number that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number(value: Any, sizes: Sizes) -> bool:
    """A number; it may be infinite or none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def count(letter: str) -> Content:
    """Give the check of a whole number that is a size."""

    def accepts(value: Any, sizes: Sizes) -> bool:
        return integer(value, sizes) and value == sizes.setdefault(letter, value)

    return accepts


def word(*known: str) -> Content:
    """Give the check of one of some words."""
    return lambda value, sizes: isinstance(value, str) and value in known


def or_null(content: Content) -> Content:
    """Give the check of something that may be left out."""
    return lambda value, sizes: value is None or content(value, sizes)


def tuple_of(content: Content, letter: str | None = None) -> Content:
    """Give the check of a tuple of things, as many as a size says."""

    def accepts(value: Any, sizes: Sizes) -> bool:
        if not isinstance(value, tuple):
            return False
        counted = letter is None or len(value) == sizes.setdefault(letter, len(value))
        return counted and all(content(item, sizes) for item in value)

    return accepts


def mapping_of(key: Content, item: Content) -> Content:
    """Give the check of a mapping."""
    return lambda value, sizes: (
        isinstance(value, Mapping)
        and all(key(k, sizes) and item(v, sizes) for k, v in value.items())
    )


def has_shape(shape: tuple[Any, ...], letters: tuple[str, ...], sizes: Sizes) -> bool:
    """Whether a shape has an axis for each letter, of the size that is known of it."""
    return len(shape) == len(letters) and all(
        n == sizes.setdefault(letter, n) for letter, n in zip(letters, shape, strict=True)
    )


def array(
    kinds: str, *axes: str, within: tuple[float, float] | None = None, missing: bool = False
) -> Content:
    """Give the check of an array.

    Parameters
    ----------
    kinds : str
        The kinds of numbers, as `numpy.dtype.kind` has them.
    *axes : str
        Letters of sizes, one for each axis; "..." first: any leading axes.
    within : tuple of float, optional
        The smallest and the largest number; by default they need not even be finite.
    missing : bool
        Whether numbers may be NaN all the same.
    """

    def accepts(value: Any, sizes: Sizes) -> bool:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            return False
        shape: tuple[Any, ...] = value.shape
        if axes[0] == "...":
            lead = max(0, value.ndim - len(axes) + 1)
            shape = (shape[:lead], *shape[lead:])
        if not has_shape(shape, axes, sizes):
            return False
        if within is None:
            return True
        inside = (value >= within[0]) & (value <= within[1])
        return bool((inside | np.isnan(value)).all() if missing else inside.all())

    return accepts


def numbers(
    *axes: str, within: tuple[float, float] | None = None, missing: bool = False
) -> Content:
    """Give the check of an array of numbers; see `array`."""
    return array("fiub", *axes, within=within, missing=missing)


def integers(*axes: str, within: tuple[float, float] | None = None) -> Content:
    """Give the check of an array of whole numbers; see `array`."""
    return array("iu", *axes, within=within)


def flags(*axes: str) -> Content:
    """Give the check of an array of truth values."""
    return array("b", *axes)
