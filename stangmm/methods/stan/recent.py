"""Methods that CmdStan has only since some version: refused before anything starts."""

from __future__ import annotations

from typing import ClassVar

from stangmm.base.errors import ModelError
from stangmm.cmdstan.compile import CompiledModel
from stangmm.cmdstan.find import find_cmdstan
from stangmm.methods.base import Run
from stangmm.methods.stan.shared import StanMethod


class RecentStanMethod(StanMethod):
    """Base of the methods that need a newer CmdStan than the oldest that stangmm works with."""

    since: ClassVar[tuple[int, int]]  # the first CmdStan that has the method

    def compiled(self, run: Run) -> CompiledModel:
        """Compile the model, or find it compiled; ModelError where CmdStan is too old for it."""
        self.check_available()
        return super().compiled(run)

    def check_available(self) -> None:
        """Check that CmdStan has the method.

        Raises
        ------
        ModelError
            CmdStan is too old; nothing was compiled or run.
        """
        found = find_cmdstan(self.cmdstan)
        if found.version[:2] < self.since:
            major, minor = self.since
            raise ModelError(
                f'method="{self.name}" needs CmdStan {major}.{minor} or newer, and the one in '
                f"{found.path} is {found.version_string}. Run `stangmm install-cmdstan --source "
                'github` for the newest, or use method="advi" or "nuts", which every CmdStan has.'
            )
