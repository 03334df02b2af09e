"""Run CmdStan so that nothing is left behind: no process, no file, whatever ends the run.

Every fit gets a temporary directory of its own, and everything it starts writes there. cmdstanpy
works in a thread while the calling thread waits, so that Ctrl-C arrives at once; then the
processes of that directory are killed. A `Watchdog` does the same if this process dies.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.environment import unchanged_environment
from stangmm.base.errors import InferenceError
from stangmm.base.interrupt import is_stopped, stop_requested

from .watchdog import (
    Watchdog,
    end_processes,
    guarded_directory,
    processes_using,
    processor_time,
)

if TYPE_CHECKING:
    from cmdstanpy import CmdStanModel

T = TypeVar("T")

# What cmdstanpy raises when a run fails. A TypeError would be a mistake of ours: it passes.
_FAILURES = (RuntimeError, ValueError, OSError)
_LOG_LINES = 60
_JSON_ROWS = 10_000  # rows of an array that are turned into text at once
_CSV_BYTES = 2**20  # of CSV that are turned into numbers at once
_WATCH_SECONDS = 0.2
_LOOK_SECONDS = 2.0
# A run that neither computes nor writes for so long will never end.
IDLE_SECONDS = 30.0
_NO_SPACE, _FULL = "No space left", 2**20  # what a full disk says, and has left
_REMEDY = "Make room there, or set the environment variable TMPDIR to another folder."
_CHANGED = ("STAN_NUM_THREADS", "CMDSTAN")  # by cmdstanpy, for its children and for good

_quiet_lock = threading.Lock()
_quiet_runs = 0
_logger_before: tuple[list[logging.Handler], bool, bool] = ([], True, False)
_reading, _reader_before = 0, None
_import_lock = threading.Lock()
_exe_infos: dict[tuple[Path, int], dict[str, str]] = {}
_watchdog_of_cmdstanpy: Watchdog | None = None


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
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(function(_model(self.exe)))
            except BaseException as error:  # handed to the calling thread, whatever it is
                errors.append(error)
            finally:
                done.set()

        worker = threading.Thread(target=work, name="stangmm-cmdstan", daemon=True)
        pause = _WATCH_SECONDS if watch or stop_requested.get() else _LOOK_SECONDS
        idle = _Idle(self.directory)
        with _quiet_cmdstanpy(self._messages), unchanged_environment(*_CHANGED):
            worker.start()
            try:
                # Not worker.join(): interrupted, it takes the thread for ended (Python 3.11).
                while not done.wait(pause):
                    if is_stopped():
                        raise KeyboardInterrupt
                    if watch:
                        watch()
                    if idle.too_long():
                        raise InferenceError(
                            f"CmdStan has neither computed nor written anything for "
                            f"{IDLE_SECONDS:.0f} s, so it was stopped. Was it suspended by a "
                            "signal, or is the disk unavailable? Fit again.",
                            log=self.console(),
                        )
            finally:
                if not done.is_set():  # Ctrl-C, or an exception out of a signal handler
                    self._stop(done)
        if not errors:
            return results[0]
        if isinstance(errors[0], _FAILURES):
            told, log = _first_lines(str(errors[0])), self.console()
            if _NO_SPACE in told + log or shutil.disk_usage(self.directory).free < _FULL:
                told += f"\n{_full(self.directory)}"
            raise InferenceError(f"CmdStan failed: {told}", log=log) from errors[0]
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


def _model(exe: Path) -> CmdStanModel:
    """Give cmdstanpy's model, which asks the program only once what it was compiled with."""
    from cmdstanpy import CmdStanModel

    model = CmdStanModel(exe_file=exe)

    def exe_info() -> dict[str, str]:
        compiled = (exe, exe.stat().st_mtime_ns)
        if not _exe_infos.get(compiled):
            _exe_infos[compiled] = CmdStanModel.exe_info(model)
        return _exe_infos[compiled]

    model.exe_info = exe_info  # type: ignore[method-assign]
    return model


def _no_place(directory: Path, error: OSError) -> InferenceError:
    return InferenceError(
        f"The files of CmdStan could not be written or read in {str(directory)!r}: "
        f"{error.strerror or error}. {_REMEDY}"
    )


def _full(directory: Path) -> str:
    return f"The disk of {str(directory)!r} is full. {_REMEDY}"


class _Idle:
    """Watches whether the processes of a directory do anything."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._looked = self._active = time.monotonic()
        self._seen: object = None

    def too_long(self) -> bool:
        """Whether there are such processes, and they have done nothing for `IDLE_SECONDS`."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        busy = [processor_time(pid) for pid in processes_using(self._directory)]
        written = [path.stat().st_size for path in self._directory.glob("*")]
        if not busy or None in busy or self._seen != (busy, written):
            self._seen, self._active = (busy, written), now
        return now - self._active > IDLE_SECONDS


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
    parent = Path(tempfile.gettempdir()).resolve()
    _import_cmdstanpy(parent)
    try:
        directory, watchdog = guarded_directory(parent, f"stangmm-{prefix}-")
    except OSError as error:
        raise _no_place(parent, error) from error
    clean = False
    try:
        with _read_by_numpy():
            yield CmdStanRun(exe, directory)
        clean = True
    except OSError as error:
        raise _no_place(directory, error) from error
    finally:
        if not clean:
            end_processes(directory)
        shutil.rmtree(directory, ignore_errors=True)
        watchdog.release()


@contextlib.contextmanager
def _read_by_numpy() -> Iterator[None]:
    """Have cmdstanpy read draws by numpy; several runs may overlap.

    Where polars is installed it would take that, which waits for ever in a process that was forked
    from one that has used it, and changes the environment.
    """
    global _reading, _reader_before
    from cmdstanpy.utils import stancsv

    with _quiet_lock:
        if _reading == 0:
            _reader_before = stancsv.csv_bytes_list_to_numpy
            stancsv.csv_bytes_list_to_numpy = cast(Any, _as_numbers)
        _reading += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _reading -= 1
            if _reading == 0:
                stancsv.csv_bytes_list_to_numpy = cast(Any, _reader_before)


def _as_numbers(lines: list[bytes]) -> FloatArray:
    """Lines of CSV as numbers, (0, 0) where there are none.

    JSON writes finite numbers in the same way, and its reader takes a third of numpy's time.
    """
    import orjson

    step = max(1, _CSV_BYTES // len(lines[0])) if lines else 1
    blocks = [lines[first : first + step] for first in range(0, len(lines), step)]
    try:
        texts = (b"[[" + b"],[".join(block) + b"]]" for block in blocks)
        read = [np.array(orjson.loads(text), dtype=np.float64) for text in texts]
        numbers = np.concatenate(read) if read else np.empty((0, 0))
    except ValueError:  # infinite numbers, or text
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of lines without numbers
            numbers = np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2)
    return numbers if numbers.size else np.empty((0, 0))


def _import_cmdstanpy(parent: Path) -> None:
    """Import cmdstanpy, which makes a directory for this process and forgets it when it is killed.

    Where it is made here, a `Watchdog` knows of it before it is there, and stays with this process.
    """
    global _watchdog_of_cmdstanpy
    with _import_lock:
        if "cmdstanpy" in sys.modules:
            return
        directory, _watchdog_of_cmdstanpy = guarded_directory(parent, "cmdstanpy-")
        mkdtemp, here = tempfile.mkdtemp, threading.get_ident()

        def ours(*arguments: Any, **options: Any) -> str:
            mine = threading.get_ident() == here and not arguments and not options
            return str(directory) if mine else mkdtemp(*arguments, **options)

        tempfile.mkdtemp = ours  # type: ignore[assignment]
        try:
            import cmdstanpy  # noqa: F401
        finally:
            tempfile.mkdtemp = mkdtemp


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
