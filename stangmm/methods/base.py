"""What every method is: settings that are checked when made, and one call that returns draws."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from stangmm.draws import Draws
from stangmm.errors import ModelError
from stangmm.problem import Problem
from stangmm.progress import progress_bar

Kind: TypeAlias = Literal["point", "approximation", "mcmc"]


@dataclass(frozen=True)
class Run:
    """What one run needs besides the problem: its seed, and whom to tell about progress."""

    seed: int
    show_progress: bool = False

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose; the same seed and purpose give the same numbers."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def stan_seed(self, purpose: str) -> int:
        """Seed for CmdStan: at least 1, since 0 and 1 give the same stream before Stan 2.35."""
        return int(self.rng(purpose).integers(1, 2**31 - 1))

    def progress(self, label: str, total: int) -> Callable[[int], None]:
        """Function to call with the number of steps done."""
        return progress_bar(label, total, shown=self.show_progress)


class Method(ABC):
    """Settings of one way to fit; a subclass is a frozen dataclass in a file of its own."""

    name: ClassVar[str]
    kind: ClassVar[Kind]

    def prepare(self, run: Run) -> None:
        """Do what is done once for all fits, such as compiling; not counted as fitting time."""
        return

    @abstractmethod
    def run(self, problem: Problem, run: Run) -> Draws:
        """Fit the problem; draws come in the user's units, labels unsettled."""


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
