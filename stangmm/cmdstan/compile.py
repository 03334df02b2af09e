"""The compiled Gaussian mixture model: which likelihood kernel, and from which sources."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from stangmm.base.errors import CmdStanNotFoundError, CompileError, ModelError

from .build import Build, Sources, models_directory
from .find import CmdStan, find_cmdstan, names_cmdstan

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
        The CmdStan it was compiled with; its folder may be gone.
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


def shipped_directory() -> Path:
    """Name the folder of the programs that came compiled with a wheel; it may not be there."""
    return stan_directory() / "compiled"


def compiled_model(
    *,
    kernel: Kernel = "auto",
    cmdstan_path: str | os.PathLike[str] | None = None,
    threads: bool = False,
    progress: bool = True,
) -> CompiledModel:
    """Give the compiled Gaussian mixture model, compiling it only if it must be.

    A wheel may have brought it compiled with the native kernel, which is taken unless a CmdStan is
    named, by `cmdstan_path` or the environment variable ``CMDSTAN``. Else it is that of the cache,
    or is compiled. Where there is no compiler, or no CmdStan, what the cache has of the same
    sources is taken.

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
        If the model is not compiled and there is no CmdStan, or if the one named cannot be used.
    CompileError
        If the model does not compile; the message ends with the compiler's log.
    ModelError
        If `kernel` is not one of these.
    """
    found = ready_model(kernel=kernel, cmdstan_path=cmdstan_path, threads=threads)
    if found is None:
        found = _compile(_kernels(kernel), find_cmdstan(cmdstan_path), threads, progress)
    if found.note:
        warn_once(found.note)
    return found


def ready_model(
    *,
    kernel: Kernel = "auto",
    cmdstan_path: str | os.PathLike[str] | None = None,
    threads: bool = False,
) -> CompiledModel | None:
    """Give the model that `compiled_model` gives, or None where it would have to be compiled.

    Parameters
    ----------
    kernel, cmdstan_path, threads
        See `compiled_model`.

    Returns
    -------
    CompiledModel or None
        The executable and what it is made of.

    Raises
    ------
    CmdStanNotFoundError
        If the CmdStan named cannot be used.
    ModelError
        If `kernel` is not one of these.
    """
    kernels = _kernels(kernel)
    if not names_cmdstan(cmdstan_path) and shipped_directory().is_dir():
        shipped = _kept(kernels[:1], threads, shipped_directory(), None)
        if shipped is not None:
            return shipped
        if "native" in kernels:
            warn_once(
                "the compiled model that came with stangmm has changed since it was built, so it "
                "is not run. Reinstall stangmm."
            )
    try:
        cmdstan = find_cmdstan(cmdstan_path)
    except CmdStanNotFoundError:
        if names_cmdstan(cmdstan_path):
            raise
        return _kept(kernels, threads, models_directory(), None)
    note = ""
    for name in kernels:
        try:
            build = Build.plan(model_sources(name, threads), cmdstan)
        except CompileError:
            return _kept(kernels, threads, models_directory(), cmdstan)
        if build.is_cached():
            return CompiledModel(build.exe, name, cmdstan, threads, note)
        reason = build.failed_before()
        if not reason:
            return None
        note = _note(reason)
    return None


def _compile(
    kernels: Sequence[str], cmdstan: CmdStan, threads: bool, progress: bool
) -> CompiledModel:
    """Compile with the first kernel that compiles."""
    note = ""
    for name in kernels[:-1]:
        build = Build.plan(model_sources(name, threads), cmdstan)
        reason = build.failed_before()
        if not reason:
            try:
                return CompiledModel(build.ensure(progress), name, cmdstan, threads)
            except CompileError as error:
                reason = build.failed_before() or str(error).partition("\n")[0]
        note = _note(reason)
    exe = Build.plan(model_sources(kernels[-1], threads), cmdstan).ensure(progress)
    return CompiledModel(exe, kernels[-1], cmdstan, threads, note)


def _kept(
    kernels: Sequence[str], threads: bool, directory: Path, cmdstan: CmdStan | None
) -> CompiledModel | None:
    """Find the first of the kernels that was compiled before."""
    for name in kernels:
        found = model_sources(name, threads).compiled_in(directory, cmdstan)
        if found is not None:
            note = _note("") if name != kernels[0] else ""
            return CompiledModel(found.path, name, found.cmdstan, threads, note)
    return None


def _note(reason: str) -> str:
    told = "the native likelihood kernel did not compile, so the portable one is used"
    return f"{told}: {reason}" if reason else f"{told}."


def _kernels(kernel: Kernel) -> tuple[str, ...]:
    """List the kernels that will do, the preferred one first."""
    if kernel not in get_args(Kernel):
        known = ", ".join(map(repr, get_args(Kernel)))
        raise ModelError(f"kernel must be one of {known}, got {kernel!r}.")
    if kernel != "auto":
        return (kernel,)
    folder = stan_directory() / "kernel" / "native"
    has_native = all((folder / f"mixture_lpdf.{ext}").is_file() for ext in ("stan", "hpp"))
    return ("native", "portable") if has_native else ("portable",)


def model_sources(kernel: str, threads: bool) -> Sources:
    """Read the sources of the model with a likelihood kernel, with threads or without."""
    sources = stan_directory()
    folder = sources / "kernel" / kernel
    header = folder / "mixture_lpdf.hpp" if kernel == "native" else None
    return Sources.read(sources / f"{MODEL_NAME}.stan", [folder], header, threads, {})


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
    sources = Sources.read(stan_file, include_paths, user_header, threads, make_options or {})
    try:
        build = Build.plan(sources, cmdstan)
    except CompileError:
        kept = sources.compiled_in(models_directory(), cmdstan)
        if kept is None:
            raise
        return kept.path
    return build.ensure(progress)


@functools.cache
def warn_once(note: str) -> None:
    """Warn, once in a process."""
    message = note[0].upper() + note[1:]
    warnings.warn(message, UserWarning, stacklevel=3)
