"""Objects that print in a few lines, however many numbers they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

_NUMBERS, _ITEMS = 12, 4  # of which an array's values, or a tuple's items, are shown


class Brief:
    """A dataclass whose print-out gives the shapes of large arrays instead of their numbers.

    What is None or empty is left out.
    """

    def __repr__(self) -> str:
        held = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        shown = [f"{name}={_brief(value)}" for name, value in held.items() if not _is_empty(value)]
        return f"{type(self).__name__}({', '.join(shown)})"


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, np.ndarray | tuple | Mapping) and len(value) == 0)


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        if value.size > _NUMBERS:
            return f"<array of shape {value.shape}>"
        with np.printoptions(precision=5, suppress=True):
            return " ".join(np.array2string(value, separator=", ").split())
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_brief(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple):
        if len(value) > _ITEMS or any(isinstance(each, Brief | np.ndarray) for each in value):
            return f"<{len(value)} of {type(value[0]).__name__}>"
        return repr(value)
    return repr(value)
