"""Run a build command: its output in a log, its processes ended with ours, its seconds shown."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from stangmm.base.errors import CompileError

from .watchdog import guarded_directory


@contextlib.contextmanager
def step(message: str, *, progress: bool) -> Iterator[None]:
    """Show on stderr that a step is under way, and how long it took.

    On a terminal the seconds are counted while it runs; in a log there is one line.

    Parameters
    ----------
    message : str
        What is being done.
    progress : bool
        Whether to show anything.
    """
    if not progress:
        yield
        return
    start = time.monotonic()
    over = threading.Event()
    live = sys.stderr.isatty()

    def count() -> None:
        while not over.wait(1.0):
            print(f"\r{message} … {time.monotonic() - start:.0f} s", end="", file=sys.stderr)

    print(f"{message} …", end="", file=sys.stderr, flush=True)
    counter = threading.Thread(target=count, daemon=True)
    if live:
        counter.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        over.set()
        if live:
            counter.join()
        lead = f"\r{message} …" if live else ""
        seconds = time.monotonic() - start
        print(f"{lead} {outcome} {seconds:.0f} s", file=sys.stderr, flush=True)


class Workshop:
    """A temporary directory for a build; it and its commands end with this process.

    Use it as a context manager: at the end the directory is removed. If this process is killed,
    a `Watchdog` ends the running command and removes the directory.

    Parameters
    ----------
    parent : Path
        Where the temporary directory is made; it must exist.
    prefix : str
        How its name begins.
    """

    def __init__(self, parent: Path, prefix: str) -> None:
        self.directory, self._watchdog = guarded_directory(parent, prefix)
        self.log = self.directory / "log.txt"

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *exc_info: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self._watchdog.release()

    def run(self, command: Sequence[str], *, cwd: Path, **variables: str) -> int:
        """Run a command to its end, its output going to the log.

        Parameters
        ----------
        command : sequence of str
            The program and its arguments.
        cwd : Path
            The folder to run it in.
        **variables : str
            Environment variables to set.

        Returns
        -------
        int
            The exit code; negative if a signal ended it.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - make, pip, stanc: no shell, no input
                command,
                cwd=cwd,
                env=build_environment(TMPDIR=str(self.directory), **variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a process group of its own, ended as a whole
            )
            self._watchdog.guard_group(process.pid)
            try:
                return process.wait()
            finally:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                self._watchdog.guard_group(0)

    def log_tail(self, lines: int = 40) -> str:
        """Give the last lines of the log."""
        if not self.log.exists():
            return ""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def first_errors(self, lines: int = 5) -> str:
        """Give the first lines that tell of an error, which warnings may have pushed far up."""
        if not self.log.exists():
            return ""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        told = [line for line in text.splitlines() if re.search(r"\berror: ", line)][:lines]
        return "The first errors:\n" + "\n".join(told) + "\n" if told else ""


def build_environment(**changes: str) -> dict[str, str]:
    """Give ``make`` an environment free of what an outer make hands to its children.

    Parameters
    ----------
    **changes : str
        Variables to set.

    Returns
    -------
    dict
        The environment variables.
    """
    # Under `make demo` these would pass the outer make's options and job server on to CmdStan's.
    inherited = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MAKEFILES"}
    kept = {name: value for name, value in os.environ.items() if name not in inherited}
    return kept | changes


def make_program() -> str:
    """Name the make to call: the environment variable ``MAKE``, as in cmdstanpy, or ``make``."""
    # Inside a recipe of an outer make, MAKE is set by that make; its first word is the program.
    return (os.environ.get("MAKE") or "make").split()[0]


def check_tools() -> list[str]:
    """Check that make and the C++ compiler are there.

    Returns
    -------
    list of str
        The programs that CmdStan will call.

    Raises
    ------
    CompileError
        If one of them is missing; the message names the packages.
    """
    # CmdStan's own rule: the variable CXX, or g++ on Linux and clang++ on a Mac.
    default = "clang++" if sys.platform == "darwin" else "g++"
    tools = [make_program(), (os.environ.get("CXX") or default).split()[0]]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        verb = "was" if len(missing) == 1 else "were"
        raise CompileError(
            f"CmdStan needs make and a C++ compiler, but {' and '.join(missing)} {verb} not found. "
            "On Debian or Ubuntu: `sudo apt-get install make g++`."
        )
    return tools


@contextlib.contextmanager
def locked(file: Path, waiting: str, *, progress: bool) -> Iterator[None]:
    """Hold a lock that other processes respect; the system frees it if this one dies.

    Parameters
    ----------
    file : Path
        The lock file; its folder must exist.
    waiting : str
        What to show on stderr while another process holds the lock.
    progress : bool
        Whether to show it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with step(waiting, progress=progress):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
