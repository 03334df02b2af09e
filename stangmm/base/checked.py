"""Checks of arguments: each raises ModelError with what was expected and what came."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from stangmm.base.errors import DataError, ModelError

MOST = 2**53  # of anything that is counted
_MOST_SEED = 2**128
_WORDS = 200  # letters of a value in a message


def shown(value: Any) -> str:
    """Give a value as a message shows it: by its beginning, if it is long."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return f"a number of some {round(np.log10(2.0) * value.bit_length())} digits"
    if isinstance(value, str | bytes | bytearray):  # not all of it is looked at
        value = value[:_WORDS]
    elif hasattr(value, "__len__") and hasattr(value, "__getitem__") and _length(value) > _WORDS:
        return f"{type(value).__name__} of length {_length(value)}"
    text = repr(value)
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}…"


def _length(value: Any) -> int:
    try:
        return len(value)
    except TypeError:  # an array without axes
        return 0


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, and no truth value."""
    # Durations are whole numbers to numpy.
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def check_count(name: str, value: Any, minimum: int = 1, most: int = MOST) -> None:
    """Raise ModelError unless value is a whole number of at least ``minimum``."""
    if not is_whole(value) or value < minimum:
        raise ModelError(
            f"{name} must be a whole number of at least {minimum}, got {shown(value)}."
        )
    if value > most:
        raise ModelError(f"{name} must be at most {most}, got {shown(value)}.")


def check_positive(name: str, value: Any, below: float = float("inf")) -> None:
    """Raise ModelError unless value is a number in (0, below)."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool | complex)
    if not number or np.iscomplexobj(value) or not 0 < value < below:
        limit = "" if below == float("inf") else f" and below {below:g}"
        raise ModelError(f"{name} must be a positive number{limit}, got {shown(value)}.")


def check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise ModelError unless value is one of the known names, which the message lists."""
    if not isinstance(value, str) or value not in known:
        raise ModelError(f"{name} must be one of {list(known)}, got {shown(value)}.")


def check_flag(name: str, value: Any) -> None:
    """Raise ModelError unless value is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ModelError(f"{name} must be True or False, got {shown(value)}.")


def check_seed(seed: Any) -> None:
    """Raise ModelError unless it can be a seed."""
    check_count("seed", seed, minimum=0, most=_MOST_SEED)


def random_generator(seed: int | None) -> np.random.Generator:
    """Random numbers from a seed that the user gave, or others each time."""
    if seed is not None:
        check_seed(seed)
    return np.random.default_rng(seed)


def seed_at(seed: int, place: int) -> int:
    """Seed of one of several fits that are made together, so that their draws are independent."""
    return int(np.random.default_rng([seed, place]).integers(2**31))


def listed(values: Any) -> list[Any]:
    """What a sequence, or anything else that has members, holds; nothing where it has none."""
    try:
        return list(values)
    except TypeError:
        return []


def whole_numbers(name: str, values: Any, below: int) -> list[int]:
    """Give whole numbers from 0 to before ``below`` as a list; at least one."""
    numbers = listed(values)
    if not numbers or not all(is_whole(n) and 0 <= n < below for n in numbers):
        raise ModelError(
            f"{name} must be a list of numbers from 0 to {below - 1}, got {shown(values)}."
        )
    return [int(n) for n in numbers]


def checked_path(path: Any) -> Path:
    """Give a path, with ``~`` for the home.

    Raises
    ------
    DataError
        It is not a valid path: of another type, empty, too long, or with a NUL in it.
    """
    try:
        text = os.fspath(path)
        text = os.fsdecode(text)
    except (TypeError, UnicodeError) as error:
        raise DataError(f"A path must be text or a Path, got {shown(path)}.") from error
    if not text or "\0" in text:
        raise DataError(f"A path must not be empty or contain a NUL, got {shown(text)}.")
    try:
        os.fsencode(text)
        found = Path(text).expanduser()
        found.exists()  # a name may be longer than any that the system has
    except (OSError, RuntimeError, UnicodeError) as error:
        if isinstance(error, PermissionError):
            return Path(text).expanduser()
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{shown(text)} is not a valid path: {why}. Give another one.") from error
    return found
