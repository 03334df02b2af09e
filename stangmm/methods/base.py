"""What every method is: settings that are checked when made, and one call that returns draws."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np

from stangmm.base.errors import ModelError
from stangmm.base.processors import n_processors
from stangmm.base.progress import progress_bar
from stangmm.methods.draws import Draws, Info
from stangmm.model.problem import Problem

Kind: TypeAlias = Literal["point", "approximation", "mcmc"]


@dataclass(frozen=True)
class Run:
    """What one run needs besides the problem.

    Attributes
    ----------
    seed : int
    show_progress : bool
        Whether to show progress when it takes longer than a second.
    processors : int or None
        How many may be kept busy; None: all there are.
    """

    seed: int
    show_progress: bool = False
    processors: int | None = None

    def at_a_time(self, tasks: int, threads: int = 1) -> int:
        """How many of some tasks run at a time, where each takes so many threads."""
        processors = self.processors or n_processors()
        return max(1, min(tasks, processors // threads))

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
    any_structure: ClassVar[bool] = False  # whether it fits structures that Stan's model has not
    in_chunks: ClassVar[bool] = False  # whether it needs rows by `Problem.sums` alone
    # Settings of this machine, such as which programs run on it: no file has them, nor sets them.
    local: ClassVar[frozenset[str]] = frozenset()

    def prepare(self, run: Run) -> None:
        """Do what is done once for all fits, such as compiling; not counted as fitting time."""
        return

    def versions(self, run: Run) -> Mapping[str, str]:
        """Versions of the programs that a run needs besides the package's own."""
        return {}

    @property
    def gives_evidence(self) -> bool:
        """Whether the evidence can be had of its draws."""
        return self.kind == "mcmc"

    @property
    def n_draws(self) -> int:
        """Draws of all chains; one for a point estimate."""
        return int(getattr(self, "draws", 1)) * int(getattr(self, "chains", 1))

    def processors(self, available: int) -> int:
        """How many of the processors one run keeps busy, where it is given only one at a time."""
        return 1

    def at_first(self) -> Self:
        """Give settings of a run that `longer` may follow, where many are made to choose from."""
        return self

    def longer(self, info: Info) -> Self | None:
        """Give settings of a second, longer run after one that failed its checks.

        Parameters
        ----------
        info : RestartInfo, VariationalInfo or McmcInfo
            Facts of the run that failed.

        Returns
        -------
        Method or None
            None where a longer run would be no better.
        """
        return None

    @abstractmethod
    def run(self, problem: Problem, run: Run) -> Draws:
        """Fit the problem; draws are of the standardized problem, labels unsettled."""


@dataclass(frozen=True, eq=False)
class ChosenDraws(Draws):
    """Draws of a method that another one chose.

    Attributes
    ----------
    settings : Method
        The one that was chosen.
    reason : str
        Why, in a sentence.
    """

    settings: Method
    reason: str


@dataclass(frozen=True)
class AbsentMethod(Method):
    """What a file says of a method that is not defined here: it can be shown but not run."""

    name: str  # type: ignore[misc]
    kind: Kind  # type: ignore[misc]
    arguments: Mapping[str, Any]

    def run(self, problem: Problem, run: Run) -> Draws:
        """Say that it cannot be run."""
        raise ModelError(
            f"The method {self.name!r} is not defined here. Import the module that defines it, "
            "and load the fit again."
        )
