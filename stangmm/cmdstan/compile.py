"""The compiled Gaussian mixture model: which likelihood kernel, and from which sources."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from stangmm.base.errors import CompileError, ModelError

from .build import Build
from .find import CmdStan, find_cmdstan

Kernel = Literal["auto", "native", "portable"]

MODEL_NAME = "gaussian_mixture"


@dataclass(frozen=True)
class CompiledModel:
    """The compiled Gaussian mixture model.

    Parameters
    ----------
    exe : Path
        The executable.
    kernel : str
        The likelihood kernel in it, ``"native"`` or ``"portable"``.
    cmdstan : CmdStan
        The CmdStan it was compiled with.
    threads : bool
        Whether it was compiled with ``STAN_THREADS``.
    note : str
        Why it is not the kernel that would be preferred; empty if it is.
    """

    exe: Path
    kernel: str
    cmdstan: CmdStan
    threads: bool
    note: str = ""


def stan_directory() -> Path:
    """Find the Stan sources that belong to this package.

    Returns
    -------
    Path
        The folder with ``gaussian_mixture.stan`` and ``kernel/``: inside the package where it was
        installed from a wheel, at the top of the repository in a checkout.

    Raises
    ------
    CompileError
        If the sources are in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    candidates = [package / "stan", package.parent / "stan"]
    for folder in candidates:
        if (folder / f"{MODEL_NAME}.stan").is_file():
            return folder
    raise CompileError(
        f"The Stan sources of stangmm were expected in {candidates[0]} or {candidates[1]}, and are "
        "in neither: the installation is incomplete. Reinstall stangmm."
    )


def compiled_model(
    *,
    kernel: Kernel = "auto",
    cmdstan_path: str | os.PathLike[str] | None = None,
    threads: bool = False,
    progress: bool = True,
) -> CompiledModel:
    """Give the compiled Gaussian mixture model, compiling it if the cache does not have it.

    Parameters
    ----------
    kernel : {"auto", "native", "portable"}
        The likelihood kernel. ``"auto"`` is the native one where it compiles, with a warning and
        the portable one where it does not; that it does not is remembered.
    cmdstan_path : path-like, optional
        A CmdStan folder; see `find_cmdstan`.
    threads : bool
        Whether to compile with ``STAN_THREADS``.
    progress : bool
        Whether to show on stderr that a compiler is running.

    Returns
    -------
    CompiledModel
        The executable and what it is made of.

    Raises
    ------
    CmdStanNotFoundError
        If there is no CmdStan.
    CompileError
        If the model does not compile; the message ends with the compiler's log.
    ModelError
        If `kernel` is none of the known ones.
    """
    if kernel not in get_args(Kernel):
        known = ", ".join(map(repr, get_args(Kernel)))
        raise ModelError(f"kernel must be one of {known}, got {kernel!r}.")
    cmdstan = find_cmdstan(cmdstan_path)
    note = ""
    if kernel == "native" or (kernel == "auto" and _has_native_kernel()):
        native = _plan_model("native", cmdstan, threads)
        reason = native.failed_before()
        if kernel == "native" or not reason:
            try:
                return CompiledModel(native.ensure(progress), "native", cmdstan, threads)
            except CompileError as error:
                if kernel == "native":
                    raise
                reason = native.failed_before() or str(error).partition("\n")[0]
        note = (
            f"the native likelihood kernel did not compile, so the portable one is used: {reason}"
        )
        warn_once(note)
    exe = _plan_model("portable", cmdstan, threads).ensure(progress)
    return CompiledModel(exe, "portable", cmdstan, threads, note)


def is_compiled(*, cmdstan_path: str | os.PathLike[str] | None = None) -> bool:
    """Say whether `compiled_model` would find the model in the cache; compiles nothing.

    Parameters
    ----------
    cmdstan_path : path-like, optional
        A CmdStan folder; see `find_cmdstan`.

    Returns
    -------
    bool
        Whether the model is there, with the kernel that a fit would take.
    """
    cmdstan = find_cmdstan(cmdstan_path)
    if _has_native_kernel():
        native = _plan_model("native", cmdstan, threads=False)
        if native.is_cached():
            return True
        if not native.failed_before():
            return False
    return _plan_model("portable", cmdstan, threads=False).is_cached()


def _has_native_kernel() -> bool:
    folder = stan_directory() / "kernel" / "native"
    return all((folder / f"mixture_lpdf.{ext}").is_file() for ext in ("stan", "hpp"))


def _plan_model(kernel: str, cmdstan: CmdStan, threads: bool) -> Build:
    sources = stan_directory()
    folder = sources / "kernel" / kernel
    header = folder / "mixture_lpdf.hpp" if kernel == "native" else None
    return Build.plan(sources / f"{MODEL_NAME}.stan", [folder], header, cmdstan, threads, {})


def compile_stan(
    stan_file: Path,
    *,
    cmdstan: CmdStan,
    include_paths: Sequence[Path] = (),
    user_header: Path | None = None,
    threads: bool = False,
    make_options: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Path:
    """Compile any Stan program through the same cache.

    Parameters
    ----------
    stan_file : Path
        The program.
    cmdstan : CmdStan
        The CmdStan to compile with.
    include_paths : sequence of Path
        Folders that ``#include`` looks in.
    user_header : Path, optional
        A C++ header that defines the functions which the program only declares. Headers beside it
        may be included by it.
    threads : bool
        Whether to compile with ``STAN_THREADS``.
    make_options : mapping, optional
        Further variables for CmdStan's make, such as ``{"STAN_CPP_OPTIMS": "TRUE"}``.
    progress : bool
        Whether to show on stderr that a compiler is running.

    Returns
    -------
    Path
        The executable, named like the program.

    Raises
    ------
    CompileError
        If it does not compile; the message ends with the compiler's log.
    """
    options = dict(make_options or {})
    return Build.plan(stan_file, include_paths, user_header, cmdstan, threads, options).ensure(
        progress
    )


@functools.cache
def warn_once(note: str) -> None:
    """Warn, once in a process."""
    message = note[0].upper() + note[1:]
    warnings.warn(message, UserWarning, stacklevel=3)
