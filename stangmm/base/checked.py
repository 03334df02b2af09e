"""Checks of arguments: each raises ModelError with what was expected and what came."""

from __future__ import annotations

from typing import Any

import numpy as np

from stangmm.base.errors import ModelError


def check_count(name: str, value: Any, minimum: int = 1) -> None:
    """Raise ModelError unless value is a whole number of at least ``minimum``."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < minimum:
        raise ModelError(f"{name} must be a whole number of at least {minimum}, got {value!r}.")


def check_positive(name: str, value: Any, below: float = float("inf")) -> None:
    """Raise ModelError unless value is a number in (0, below)."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < float(value) < below:
        limit = "" if below == float("inf") else f" and below {below:g}"
        raise ModelError(f"{name} must be a positive number{limit}, got {value!r}.")


def check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise ModelError unless value is one of the known names, which the message lists."""
    if value not in known:
        raise ModelError(f"{name} must be one of {list(known)}, got {value!r}.")
