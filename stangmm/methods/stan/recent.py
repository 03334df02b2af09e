"""Methods that CmdStan has only since some version: refused before anything starts."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from stangmm.base.errors import ModelError
from stangmm.cmdstan.compile import CompiledModel
from stangmm.cmdstan.find import CmdStan, find_cmdstan
from stangmm.methods.base import Run
from stangmm.methods.stan.shared import StanMethod


class RecentStanMethod(StanMethod):
    """Base of the methods that need a newer CmdStan than the oldest that stangmm works with."""

    since: ClassVar[tuple[int, int]]  # the first CmdStan that has the method

    def compiled(self, run: Run) -> CompiledModel:
        """Compile the model, or find it compiled; ModelError where CmdStan is too old for it."""
        named = replace(self, cmdstan=self.check_available().path)
        return StanMethod.compiled(named, run)

    def check_available(self) -> CmdStan:
        """Check that CmdStan has the method; the model that came with a wheel is no matter here.

        Returns
        -------
        CmdStan
            The one that has it.

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
        return found
