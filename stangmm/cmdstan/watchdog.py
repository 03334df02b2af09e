"""Leave nothing behind: end the processes of a working directory and remove it, whatever happens.

A `Watchdog` is a small process of its own that holds one end of a pipe. When the process at the
other end dies, of SIGTERM or SIGKILL too, the pipe closes, and the watchdog ends what that
process had started and removes its directory.

This file is also the program that the watchdog runs, so it imports from the standard library only,
and what takes time only where it is used: it starts in 10 ms of a processor instead of 18.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # the typing module itself would take as long as all of these
if TYPE_CHECKING:
    from pathlib import Path

_QUIT = b"quit\n"


def processes_using(directory: str | os.PathLike[str]) -> list[int]:
    """List the processes that work in a directory.

    Parameters
    ----------
    directory : path-like
        A directory whose name is used for nothing else (from `tempfile.mkdtemp`).

    Returns
    -------
    list of int
        The ids of the processes that have an argument ``key=<directory>/…``, as every CmdStan
        program has that writes there. (A pager or editor that shows a file has no such argument.)
    """
    mark = os.fsencode(f"={os.fspath(directory)}/")
    return [pid for pid, command in _commands() if mark in command and pid != os.getpid()]


def _commands() -> list[tuple[int, bytes]]:
    commands = []
    if os.path.exists("/proc/self/cmdline"):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                    commands.append((int(entry), file.read()))
        return commands
    import subprocess  # macOS has no /proc

    listing = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,command="], capture_output=True, check=False
    )
    for line in listing.stdout.splitlines():
        pid, _, command = line.strip().partition(b" ")
        commands.append((int(pid), command))
    return commands


def processor_time(pid: int) -> int | None:
    """How long a process has computed, in the clock's ticks; None where that cannot be known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            facts = file.read().rpartition(b")")[2].split()
        return int(facts[11]) + int(facts[12])
    except (OSError, IndexError, ValueError):
        return None


def end_processes(directory: str | os.PathLike[str], seconds: float = 5.0) -> None:
    """Kill the processes that work in a directory, until none is left.

    Parameters
    ----------
    directory : path-like
        See `processes_using`.
    seconds : float
        When to give up.
    """
    deadline = time.monotonic() + seconds
    quiet = 0
    # A child between fork and exec does not show its command line yet: so look more than once.
    while quiet < 3 and time.monotonic() < deadline:
        found = processes_using(directory)
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(0.02)


class Watchdog:
    """A process that cleans up after this one, should this one die.

    Parameters
    ----------
    directory : Path
        The working directory; its processes are ended and it is removed.
    """

    def __init__(self, directory: Path) -> None:
        import subprocess

        read_end, self._pipe = os.pipe()
        try:
            # In a session of its own, so that neither Ctrl-C nor a closed terminal reaches it;
            # -I -S: it needs no packages and starts in half the time.
            self._process = subprocess.Popen(  # noqa: S603 - this file: no shell, no input
                [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(directory)],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(read_end)

    def guard_group(self, group: int) -> None:
        """Name the process group to end as well; 0 takes that back."""
        self._tell(b"group %d\n" % group)

    def release(self) -> None:
        """Send the watchdog away: everything is in order."""
        self._tell(_QUIT)
        os.close(self._pipe)
        self._process.kill()  # it may still be starting; there is nothing to wait for
        self._process.wait()

    def _tell(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, message)


def guarded_directory(parent: Path, prefix: str) -> tuple[Path, Watchdog]:
    """Make a fresh directory that a `Watchdog` has known of since before it was there.

    Parameters
    ----------
    parent : Path
        Where it is made.
    prefix : str
        How its name begins.
    """
    directory = parent / f"{prefix}{os.urandom(8).hex()}"
    watchdog = Watchdog(directory)
    try:
        directory.mkdir(mode=0o700)
    except BaseException:
        watchdog.release()
        raise
    return directory, watchdog


def _watch(parent: int, directory: str) -> None:
    """Wait for the parent to release us or to die; clean up if it died."""
    group = 0
    text = b""
    # A fork of the parent may hold the pipe open after the parent's death: so ask for both.
    while os.getppid() == parent:
        if not select.select([0], [], [], 1.0)[0]:
            continue
        chunk = os.read(0, 4096)
        if not chunk:
            break
        text += chunk
        if text.endswith(_QUIT):
            return
        for line in text.splitlines(keepends=True):
            if line.startswith(b"group ") and line.endswith(b"\n"):
                group = int(line.split()[1])
    if group:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    end_processes(directory)
    import shutil

    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    # What ends the parent politely is often sent to all its kin; we are needed just then.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _watch(int(sys.argv[1]), sys.argv[2])
