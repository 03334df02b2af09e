"""Run CmdStan so that nothing is left behind: no process, no file, whatever ends the run.

Every fit gets a temporary directory of its own, and everything it starts writes there. cmdstanpy
works in a thread while the calling thread waits, so that Ctrl-C arrives at once; then the
processes of that directory are killed. A `Watchdog` does the same if this process dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np

from stangmm.base.errors import InferenceError
from stangmm.base.interrupt import is_stopped, stop_requested

from .watchdog import Watchdog, end_processes

if TYPE_CHECKING:
    from cmdstanpy import CmdStanModel

T = TypeVar("T")

# What cmdstanpy raises when a run fails. A TypeError would be a mistake of ours: it passes.
_FAILURES = (RuntimeError, ValueError, OSError)
_LOG_LINES = 60
_JSON_ROWS = 10_000  # rows of an array that are turned into text at once
_WATCH_SECONDS = 0.2

_quiet_lock = threading.Lock()
_quiet_runs = 0
_guarded_runs = 0
_value_before: str | None = None
_logger_before: tuple[list[logging.Handler], bool, bool] = ([], True, False)
_scratch_owner: int | None = None


class CmdStanRun:
    """One guarded run; made by `cmdstan_run`.

    Parameters
    ----------
    exe : Path
        The compiled model.
    directory : Path
        The run's own directory.

    Attributes
    ----------
    exe : Path
        The compiled model.
    directory : Path
        Where all output must go: pass it on as ``output_dir``. It is removed when the run ends,
        so whatever is needed of the files must be read before.
    """

    def __init__(self, exe: Path, directory: Path) -> None:
        self.exe = exe
        self.directory = directory
        self._messages: list[str] = []

    def write_json(self, name: str, values: Mapping[str, Any]) -> str:
        """Write data or initial values into the run's directory, in Stan's JSON.

        Parameters
        ----------
        name : str
            The file's name without ``.json``.
        values : mapping
            Finite numbers and arrays of them, by variable.

        Returns
        -------
        str
            The file's path, for cmdstanpy's ``data=`` and ``inits=``.
        """
        path = self.directory / f"{name}.json"
        with path.open("wb") as file:
            for i, (variable, value) in enumerate(values.items()):
                file.write(b"{" if i == 0 else b",\n")
                file.write(_json(variable) + b":")
                _write_json_value(file, value)
            file.write(b"}")
        return str(path)

    def call(
        self, function: Callable[[CmdStanModel], T], watch: Callable[[], None] | None = None
    ) -> T:
        """Call cmdstanpy, guarded.

        Parameters
        ----------
        function : callable
            Gets the `cmdstanpy.CmdStanModel` and returns the result, such as
            ``lambda model: model.sample(data=data, output_dir=run.directory)``. It runs in a
            thread of its own.
        watch : callable, optional
            Called several times a second while CmdStan works, to show how far it is.

        Returns
        -------
        object
            What `function` returned.

        Raises
        ------
        InferenceError
            If cmdstanpy reports a failure; its ``log`` is `console`. The output files that exist
            may still be read.
        """
        from cmdstanpy import CmdStanModel

        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(function(CmdStanModel(exe_file=self.exe)))
            except BaseException as error:  # handed to the calling thread, whatever it is
                errors.append(error)
            finally:
                done.set()

        worker = threading.Thread(target=work, name="stangmm-cmdstan", daemon=True)
        with _quiet_cmdstanpy(self._messages), unchanged_environment("STAN_NUM_THREADS"):
            worker.start()
            try:
                # Not worker.join(): interrupted, it takes the thread for ended (Python 3.11).
                while not done.wait(_WATCH_SECONDS if watch or stop_requested.get() else None):
                    if is_stopped():
                        raise KeyboardInterrupt
                    if watch:
                        watch()
            finally:
                if not done.is_set():  # Ctrl-C, or an exception out of a signal handler
                    self._stop(done)
        if not errors:
            return results[0]
        if isinstance(errors[0], _FAILURES):
            raise InferenceError(
                f"CmdStan failed: {_first_lines(str(errors[0]))}", log=self.console()
            ) from errors[0]
        raise errors[0]

    def console(self) -> str:
        """Give what CmdStan and cmdstanpy have printed so far, the last lines of each file."""
        parts = []
        for path in sorted(self.directory.glob("*.txt")):
            text = path.read_text(encoding="utf-8", errors="replace")
            parts.append("\n".join([f"{path.name}:", *text.splitlines()[-_LOG_LINES:]]))
        return "\n".join([*parts, *self._messages])

    def _stop(self, done: threading.Event) -> None:
        deadline = time.monotonic() + 10.0
        # cmdstanpy may start the next chain when one is killed: go on until it gives up.
        while not done.is_set() and time.monotonic() < deadline:
            end_processes(self.directory, seconds=1.0)
            done.wait(0.05)


@contextlib.contextmanager
def cmdstan_run(exe: Path, prefix: str) -> Iterator[CmdStanRun]:
    """Run CmdStan in a fresh directory, leaving no process and no file behind.

    Parameters
    ----------
    exe : Path
        The compiled model, from `compiled_model` or `compile_stan`.
    prefix : str
        The method's name, to be seen in the directory's name.

    Yields
    ------
    CmdStanRun
        Has the directory and makes the calls.

    Examples
    --------
    >>> with cmdstan_run(model.exe, "nuts") as run:  # doctest: +SKIP
    ...     data = run.write_json("data", stan_data)
    ...     mcmc = run.call(lambda m: m.sample(data=data, output_dir=run.directory, seed=1))
    ...     draws = mcmc.draws()
    """
    directory = Path(tempfile.mkdtemp(prefix=f"stangmm-{prefix}-")).resolve()
    try:
        watchdog = Watchdog(directory, also=_cmdstanpy_scratch())
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    clean = False
    try:
        yield CmdStanRun(exe, directory)
        clean = True
    finally:
        if not clean:
            end_processes(directory)
        shutil.rmtree(directory, ignore_errors=True)
        watchdog.release()


def _cmdstanpy_scratch() -> Sequence[str]:
    """Name the directory that cmdstanpy makes on import and forgets when it is killed.

    It is named only if it was made here: one imported by the user's own code may be shared with
    the process that this one was forked from.
    """
    global _scratch_owner
    if "cmdstanpy" not in sys.modules:
        _scratch_owner = os.getpid()
    import cmdstanpy

    scratch = getattr(cmdstanpy, "_TMPDIR", None)
    return (scratch,) if scratch is not None and _scratch_owner == os.getpid() else ()


class _Collector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


@contextlib.contextmanager
def _quiet_cmdstanpy(messages: list[str]) -> Iterator[None]:
    """Send cmdstanpy's messages to a list; several runs may overlap, and all hear all of them."""
    global _quiet_runs, _logger_before
    from cmdstanpy.utils import get_logger

    logger = get_logger()
    collector = _Collector(messages)
    with _quiet_lock:
        if _quiet_runs == 0:
            _logger_before = (list(logger.handlers), logger.propagate, logger.disabled)
            logger.handlers.clear()
            logger.propagate = logger.disabled = False
        _quiet_runs += 1
        logger.addHandler(collector)
    try:
        yield
    finally:
        with _quiet_lock:
            logger.removeHandler(collector)
            _quiet_runs -= 1
            if _quiet_runs == 0:
                logger.handlers[:], logger.propagate, logger.disabled = _logger_before


@contextlib.contextmanager
def unchanged_environment(name: str) -> Iterator[None]:
    """Put a variable back as it was: cmdstanpy sets it for its children in this process.

    Where runs overlap, the first remembers it and the last puts it back.
    """
    global _guarded_runs, _value_before
    with _quiet_lock:
        if _guarded_runs == 0:
            _value_before = os.environ.get(name)
        _guarded_runs += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _guarded_runs -= 1
            if _guarded_runs == 0 and _value_before is None:
                os.environ.pop(name, None)
            elif _guarded_runs == 0 and _value_before is not None:
                os.environ[name] = _value_before


def _write_json_value(file: BinaryIO, value: Any) -> None:
    """Write a number or an array; a long array by blocks of rows, so that no copy is held."""
    if np.ndim(value) == 0 or len(value) <= _JSON_ROWS:
        file.write(_json(value))
        return
    for first in range(0, len(value), _JSON_ROWS):
        file.write(b"[" if first == 0 else b",")
        file.write(_json(value[first : first + _JSON_ROWS])[1:-1])
    file.write(b"]")


def _json(value: Any) -> bytes:
    import orjson

    array = np.ascontiguousarray(value) if np.ndim(value) else value
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def _first_lines(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[:lines])
