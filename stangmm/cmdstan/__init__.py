"""CmdStan: find it, install it, compile the model, run it and leave nothing behind."""

from __future__ import annotations

from .compile import CompiledModel, compile_stan, compiled_model, ready_model, stan_directory
from .find import CmdStan, find_cmdstan
from .install import install_cmdstan
from .run import CmdStanRun, cmdstan_run

__all__ = [
    "CmdStan",
    "CmdStanRun",
    "CompiledModel",
    "cmdstan_run",
    "compile_stan",
    "compiled_model",
    "find_cmdstan",
    "install_cmdstan",
    "ready_model",
    "stan_directory",
]
