"""One compilation of a Stan program, and its place in the user's cache of compiled models.

A program is compiled once for each combination of its sources, the compiler and its flags, and the
CmdStan. Where the compiler or CmdStan is gone, what was compiled from the same sources is taken. A
program is built in a temporary folder, which gets its place in the cache by being renamed: what
stands in the cache is whole. Nothing global is changed: `make` is called directly, not
through cmdstanpy, which would change the working directory and the environment of the process.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stangmm.base.errors import CompileError

from .command import Workshop, build_environment, check_tools, locked, make_program, step
from .executable import Executable, fill_folder
from .find import CmdStan
from .watchdog import guarded_directory

# Names that GNU make or its shell would take apart.
_UNSAFE = re.compile(r"[^\w./+,@-]")
# Failures that say something about the moment, not about the sources.
_PASSING = re.compile(r"Killed|[Oo]ut of memory|No space left|[Cc]annot allocate|Permission denied")
_REASON_LINES = 12
_FLAGS = ["CXX", "CXXFLAGS", "CPPFLAGS", "CXXFLAGS_PROGRAM", "LDFLAGS", "LDLIBS", "STANCFLAGS"]


def cache_directory() -> Path:
    """Name the cache of compiled models: ``STANGMM_CACHE`` if set, else the user's own."""
    if os.environ.get("STANGMM_CACHE"):
        return Path(os.environ["STANGMM_CACHE"]).expanduser().absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("stangmm"))


def models_directory() -> Path:
    """Name the folder of the cache that has a folder for each compiled program."""
    return cache_directory() / "models"


@dataclass(frozen=True)
class Sources:
    """What a program is made of, whatever compiles it."""

    name: str
    files: tuple[tuple[str, bytes], ...]  # path in the build folder, content
    include_paths: tuple[str, ...]  # in the build folder
    user_header: str | None  # in the build folder
    options: tuple[str, ...]  # VARIABLE=value for make

    @classmethod
    def read(
        cls,
        stan_file: Path,
        include_paths: Sequence[Path],
        user_header: Path | None,
        threads: bool,
        make_options: Mapping[str, str],
    ) -> Sources:
        """Read them; the parameters are those of `compile_stan`."""
        files = {}
        try:
            files[stan_file.name] = stan_file.read_bytes()
            for i, folder in enumerate(include_paths):
                files |= _read_all(folder, f"include{i}", (".stan", ".stanfunctions"))
            if user_header is not None:
                files[f"header/{user_header.name}"] = user_header.read_bytes()
                files |= _read_all(user_header.parent, "header", (".h", ".hpp"))
        except OSError as error:
            raise CompileError(f"A source of {stan_file.name} cannot be read: {error}") from error
        options = dict(make_options) | ({"STAN_THREADS": "TRUE"} if threads else {})
        return cls(
            name=stan_file.stem,
            files=tuple(files.items()),
            include_paths=tuple(f"include{i}" for i in range(len(include_paths))),
            user_header=f"header/{user_header.name}" if user_header is not None else None,
            options=tuple(f"{name}={value}" for name, value in sorted(options.items())),
        )

    @property
    def key(self) -> str:
        """Digest of the sources, the options and the kind of processor."""
        files = {name: hashlib.sha256(text).hexdigest() for name, text in self.files}
        return _digest([self.name, files, self.options, platform.machine()])

    def compiled_in(self, directory: Path, cmdstan: CmdStan | None = None) -> Executable | None:
        """Give the newest program of these sources in a directory, whatever compiled it.

        Parameters
        ----------
        directory : Path
            Has a folder for each program.
        cmdstan : CmdStan, optional
            Take only what was compiled with this one.
        """
        folders = sorted(directory.glob(f"{self.name}-{self.key}-*"), key=_changed, reverse=True)
        found = (Executable.in_folder(folder, self.name) for folder in folders)
        return next((f for f in found if f is not None and cmdstan in (None, f.cmdstan)), None)


@dataclass(frozen=True)
class Build:
    """One compilation: what goes in, and the place in the cache that follows from it."""

    sources: Sources
    cmdstan: CmdStan
    tools: str  # digest of CmdStan, the compiler and its flags

    @classmethod
    def plan(cls, sources: Sources, cmdstan: CmdStan) -> Build:
        """Ask the toolchain for its flags; nothing is compiled yet.

        Raises
        ------
        CompileError
            There is no compiler.
        """
        flags = toolchain(cmdstan.path, sources.options, _make_environment_key())
        tools = _digest([str(cmdstan.path), cmdstan.version_string, flags])
        return cls(sources, cmdstan, tools)

    @property
    def folder(self) -> Path:
        """Where the cache keeps this compilation."""
        return models_directory() / f"{self.sources.name}-{self.sources.key}-{self.tools}"

    @property
    def exe(self) -> Path:
        """The executable in the cache."""
        return self.folder / self.sources.name

    @property
    def _failure_file(self) -> Path:
        return self.folder.with_suffix(".failed.json")

    def failed_before(self) -> str:
        """Say why this very compilation failed before; empty if it did not."""
        try:
            return str(json.loads(self._failure_file.read_text())["reason"])
        except (OSError, ValueError, KeyError):
            return ""

    def is_cached(self) -> bool:
        """Say whether the cache has it whole."""
        return Executable.in_folder(self.folder, self.sources.name) is not None

    def ensure(self, progress: bool) -> Path:
        """Compile, unless the cache has it already; several processes may ask at once."""
        if self.is_cached():
            return self.exe
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            waiting = f"waiting for another process that is compiling {self.sources.name}.stan"
            with locked(_lock_file(self.folder.name), waiting, progress=progress):
                if not self.is_cached():
                    if self.exe.exists():
                        warnings.warn(
                            f"The compiled model in the cache, {str(self.exe)!r}, has changed "
                            "since it was compiled, so it is compiled again.",
                            UserWarning,
                            stacklevel=2,
                        )
                    self._compile(progress)
        except OSError as error:
            raise CompileError(
                f"The model cannot be compiled in the cache {cache_directory()}: {error}. "
                "Set the environment variable STANGMM_CACHE to a writable folder."
            ) from error
        return self.exe

    def _compile(self, progress: bool) -> None:
        parent = next(
            (
                folder
                for folder in (self.folder.parent, Path(tempfile.gettempdir()))
                if not _UNSAFE.search(str(folder))
            ),
            None,
        )
        for place, path in (("the cache", parent), ("CmdStan", self.cmdstan.path)):
            if path is None or _UNSAFE.search(str(path)):
                raise CompileError(
                    f"make cannot handle the path of {place}, which has a space or another "
                    "special character in it. Set STANGMM_CACHE, or install CmdStan in another "
                    "folder."
                )
        assert parent is not None  # noqa: S101 - for mypy; the loop above has raised
        with Workshop(parent, prefix=".build-") as workshop:
            for name, content in self.sources.files:
                path = workshop.directory / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            command = [
                make_program(),
                *self.sources.options,
                *self._stanc_flags(workshop.directory),
            ]
            if self.sources.user_header is not None:
                command.append(f"USER_HEADER={workshop.directory / self.sources.user_header}")
            command.append(str(workshop.directory / self.sources.name))
            message = f"compiling the Stan model {self.sources.name} (about a minute, once)"
            with step(message, progress=progress), _tree_ready(self.cmdstan, self.sources.options):
                code = workshop.run(command, cwd=self.cmdstan.path, **_link_flags())
            if code != 0:
                self._raise_failure(code, workshop)
            self._publish(workshop.directory / self.sources.name)

    def _stanc_flags(self, directory: Path) -> list[str]:
        # Without a name the C++ namespace would follow the file's path. Messages name the file.
        flags = [f"--name={self.sources.name}_model", f"--filename-in-msg={self.sources.name}.stan"]
        if self.sources.include_paths:
            paths = ",".join(str(directory / folder) for folder in self.sources.include_paths)
            flags.append(f"--include-paths={paths}")
        if self.sources.user_header is not None:
            flags.append("--allow-undefined")
        return [f"STANCFLAGS+={flag}" for flag in flags]

    def _raise_failure(self, code: int, workshop: Workshop) -> None:
        log = workshop.log_tail().replace(f"{workshop.directory}/", "")
        what = (
            f"{self.sources.name}.stan did not compile with CmdStan {self.cmdstan.version_string}"
        )
        hint = ""
        if "precompiled header" in log or "PCH" in log:
            hint = f" Rebuild CmdStan: `make -C {self.cmdstan.path} clean-all build`."
        elif _PASSING.search(log):
            hint = " The machine, not the model, seems to be the cause: see the log."
        elif code > 0:  # not ended by a signal: the compiler has judged the sources
            lines = log.splitlines()
            first = next((i for i, line in enumerate(lines) if "rror" in line), 0)
            reason = "\n".join([f"{what}:", *lines[first : first + _REASON_LINES]])
            self._failure_file.write_text(json.dumps({"reason": reason}))
        raise CompileError(f"{what}.{hint} The end of the log:\n{log}")

    def _publish(self, exe: Path) -> None:
        staging, watchdog = guarded_directory(self.folder.parent, ".publish-")
        try:
            facts = {
                "options": self.sources.options,
                "sources": [name for name, _ in self.sources.files],
            }
            fill_folder(staging, exe, self.cmdstan, facts)
            shutil.rmtree(self.folder, ignore_errors=True)  # a broken one
            os.replace(staging, self.folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            watchdog.release()
        self._failure_file.unlink(missing_ok=True)


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _changed(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime
    return 0.0  # it has just been removed


def _link_flags() -> dict[str, str]:
    """Have the program look beside itself for the libraries of CmdStan, before it looks there."""
    if sys.platform != "linux":
        return {}
    return {"LDFLAGS": f"{os.environ.get('LDFLAGS', '')} -Wl,-rpath,'$$ORIGIN'"}


def _read_all(folder: Path, prefix: str, suffixes: tuple[str, ...]) -> dict[str, bytes]:
    """Read the files of a folder that a compiler may include, by their path in the build folder."""
    return {
        f"{prefix}/{path.name}": path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.suffix in suffixes and path.is_file()
    }


def _make_environment_key() -> tuple[tuple[str, str], ...]:
    """List what may change the flags that CmdStan's makefiles arrive at: any variable at all."""
    return tuple(sorted(build_environment().items()))


@functools.lru_cache(maxsize=32)
def toolchain(
    cmdstan: Path, options: tuple[str, ...], _environment: tuple[tuple[str, str], ...]
) -> str:
    """Ask CmdStan's makefiles for the compiler and its flags, and it for its version."""
    asked = [make_program(), "-s", *options, *(f"print-{flag}" for flag in _FLAGS)]
    try:
        flags = subprocess.run(  # noqa: S603 - make and the compiler: no shell, no input
            asked, cwd=cmdstan, env=build_environment(), capture_output=True, text=True, check=True
        ).stdout
        found = re.search(r"^CXX = (.+)$", flags, re.MULTILINE)
        compiler = shlex.split(found[1]) if found else ["g++"]
        version = subprocess.run(  # noqa: S603
            [*compiler, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        check_tools()  # says it better, if one is missing
        output = getattr(error, "stderr", "")
        raise CompileError(
            f"CmdStan's make does not work in {cmdstan}: {error}\n{output}"
        ) from error
    return flags + version


@contextlib.contextmanager
def _tree_ready(cmdstan: CmdStan, options: tuple[str, ...]) -> Iterator[None]:
    """Keep other compilations away while make completes the CmdStan folder itself.

    The first model that is compiled with a set of options also makes CmdStan's own objects and
    dependency files for it; two makes at once would write the same files.
    """
    suffix = "_threads" if any(option.startswith("STAN_THREADS=") for option in options) else ""
    name = hashlib.sha256(str(cmdstan.path).encode()).hexdigest()[:24]
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(_lock_file(name), "", progress=False))
        main = cmdstan.path / "src" / "cmdstan" / f"main{suffix}.cpp"
        headers = cmdstan.path / "stan" / "src" / "stan" / "model"
        if (
            all(main.with_suffix(ext).exists() for ext in (".o", ".d"))
            and any(headers.glob(f"model_header{suffix}*.gch"))
            and any(headers.glob(f"model_header{suffix}*.d"))
        ):
            stack.close()  # all there: models may be compiled side by side
        yield


def _lock_file(name: str) -> Path:
    folder = cache_directory() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"
