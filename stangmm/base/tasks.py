"""Tasks of one kind, side by side: in threads, or where joblib's ``parallel_config`` sends them."""

from __future__ import annotations

import io
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from stangmm.base.errors import ConvergenceWarning, InferenceError
from stangmm.base.interrupt import stop_requested
from stangmm.base.processors import n_processors

T = TypeVar("T")

_LOOK_SECONDS = 0.5
_TRIES = 4  # of tasks whose process was killed; Dask tries as often


@dataclass(frozen=True, eq=False)
class Workers:
    """Where tasks run.

    Attributes
    ----------
    at_a_time : int
        How many tasks.
    processors : int
        How many each of them may keep busy.
    backend : object or None
        joblib's, which the user has chosen; None: threads of this process.
    """

    at_a_time: int
    processors: int
    backend: Any = None

    @classmethod
    def of(
        cls,
        n_tasks: int,
        needed: Callable[[int], int] = lambda available: 1,
        jobs: int | None = None,
    ) -> Workers:
        """Give workers for some tasks, as many as fill the processors and no more.

        Parameters
        ----------
        n_tasks : int
        needed : callable
            How many of the available processors a task that runs alone keeps busy.
        jobs : int, optional
            Tasks at a time, at most.
        """
        available = n_processors()
        backend, chosen = _chosen()
        if backend is None:
            at_a_time = min(n_tasks, jobs or max(1, available // needed(available)))
            return cls(at_a_time, max(1, available // at_a_time))
        at_a_time = min(n_tasks, jobs or n_tasks, backend.effective_n_jobs(chosen or -1))
        # A task of a cluster has one processor, and those of this machine share its processors.
        here = type(backend).__module__.startswith("joblib.")
        here &= not hasattr(backend, "client")
        threads = bool(getattr(backend, "uses_threads", False))
        return cls(
            at_a_time,
            max(1, available // at_a_time) if here else 1,
            None if threads else backend,
        )

    @classmethod
    def here(cls) -> Workers:
        """Give this thread, for tasks that keep all processors busy by themselves."""
        return cls(1, n_processors())


def is_chosen() -> bool:
    """Whether the user has chosen where tasks run."""
    return _chosen()[0] is not None


def run_tasks(
    function: Callable[..., T], shared: Any, tasks: Sequence[tuple[Any, ...]], workers: Workers
) -> Iterator[tuple[int, T]]:
    """Give results of ``function(shared, *task)`` as they are ready, with the number of the task.

    Parameters
    ----------
    function : callable
        Of a module, so that other processes find it.
    shared : object
        What all tasks need. Another process gets it once, and what comes back refers to this one.
    tasks : sequence of tuple
        The longest first.
    workers : Workers

    Raises
    ------
    InferenceError
        Processes were killed again and again.
    """
    if workers.backend is None:
        return _in_threads(function, shared, tasks, workers.at_a_time)
    if hasattr(workers.backend, "client"):
        return _on_dask(function, shared, tasks, workers.backend.client)
    return _by_joblib(function, shared, tasks, workers)


def _chosen() -> tuple[Any, int | None]:
    """The backend of the active ``joblib.parallel_config``, and its number of jobs."""
    if "joblib" not in sys.modules:  # whoever chooses has imported it
        return None, None
    from joblib.parallel import get_active_backend

    (backend, jobs), (other, _) = (get_active_backend(p) for p in ("threads", "processes"))
    return (backend, jobs) if type(backend) is type(other) else (None, None)


def _in_threads(
    function: Callable[..., T], shared: Any, tasks: Sequence[tuple[Any, ...]], at_a_time: int
) -> Iterator[tuple[int, T]]:
    if at_a_time == 1:  # in this thread, so that Ctrl-C ends what runs at once
        for i, task in enumerate(tasks):
            yield i, function(shared, *task)
        return
    stop = threading.Event()
    with ThreadPoolExecutor(at_a_time, initializer=stop_requested.set, initargs=(stop,)) as pool:
        futures: dict[Future[T], int] = {}
        try:
            for i, task in enumerate(tasks):
                futures[pool.submit(function, shared, *task)] = i
            waiting = set(futures)
            while waiting:  # looking up now and then: Ctrl-C may have reached another thread
                ended, waiting = wait(waiting, _LOOK_SECONDS, FIRST_COMPLETED)
                for future in sorted(ended, key=futures.__getitem__):
                    yield futures[future], future.result()
        except BaseException:  # Ctrl-C: what runs ends at once, and what waits does not start
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _by_joblib(
    function: Callable[..., T], shared: Any, tasks: Sequence[tuple[Any, ...]], workers: Workers
) -> Iterator[tuple[int, T]]:
    """Large arrays go to a file that joblib's processes map into memory."""
    from joblib import Parallel, delayed

    at_once = getattr(workers.backend, "supports_return_generator", False)
    how = "generator_unordered" if at_once else "list"
    left = list(range(len(tasks)))
    for attempt in range(_TRIES):
        calls = [delayed(_answer)(i, function, shared, tasks[i]) for i in left]
        parallel = Parallel(workers.at_a_time, return_as=how, batch_size=1)
        try:
            for i, answer in parallel(calls):
                left.remove(i)
                yield i, _unpacked(answer, shared)
            return
        except BrokenExecutor as error:  # all processes are gone; those done have given an answer
            if attempt == _TRIES - 1:
                raise _lost(len(left)) from error


def _on_dask(
    function: Callable[..., T], shared: Any, tasks: Sequence[tuple[Any, ...]], client: Any
) -> Iterator[tuple[int, T]]:
    """Ask the client directly, since joblib's way to it is not safe.

    It loses scattered data with a worker, and waits for ever for a task that has cost too many.
    """
    from distributed import KilledWorker, as_completed

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        # The scheduler keeps it, so that a worker that is lost takes nothing with it.
        sent = client.submit(_same, shared, pure=False)
        futures = {
            client.submit(_answer_on_dask, i, function, sent, task, pure=False): i
            for i, task in enumerate(tasks)
        }
    try:
        for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]
            try:
                i, answer = future.result()
            except KilledWorker as error:
                raise _lost(sum(not one.done() for one in futures) + 1) from error
            yield i, _unpacked(answer, shared)
    finally:
        client.cancel([sent, *futures])


def _lost(n: int) -> InferenceError:
    return InferenceError(
        f"Processes were killed {_TRIES} times, and {n} {'task' if n == 1 else 'tasks'} could not "
        "be finished. Memory may have run out. Use fewer jobs, or more memory for each worker."
    )


def _same(value: T) -> T:
    return value


def _answer(
    i: int, function: Callable[..., Any], shared: Any, task: tuple[Any, ...]
) -> tuple[int, bytes]:
    with warnings.catch_warnings():  # said by the checks of what comes back
        warnings.simplefilter("ignore", ConvergenceWarning)
        return i, _packed(function(shared, *task), shared)


def _answer_on_dask(
    i: int, function: Callable[..., Any], shared: Any, task: tuple[Any, ...]
) -> tuple[int, bytes]:
    from distributed import get_worker

    worker = get_worker()
    before = stop_requested.set(_Cancelled(worker, worker.get_current_task()))
    try:
        return _answer(i, function, shared, task)
    except KeyboardInterrupt:  # it was cancelled; the worker goes on
        return i, b""
    finally:
        stop_requested.reset(before)


class _Cancelled(threading.Event):
    """Whether a task of this Dask worker is no longer wanted."""

    def __init__(self, worker: Any, key: Any) -> None:
        super().__init__()
        self._worker, self._key = worker, key

    def is_set(self) -> bool:
        """Ask the worker."""
        task = self._worker.state.tasks.get(self._key)
        return task is None or task.state == "cancelled"


def _packed(outcome: Any, shared: Any) -> bytes:
    from cloudpickle import Pickler

    class Packer(Pickler):  # type: ignore[misc]
        def persistent_id(self, value: Any) -> str | None:
            return "shared" if value is shared else None

    file = io.BytesIO()
    Packer(file).dump(outcome)
    return file.getvalue()


def _unpacked(answer: bytes, shared: Any) -> Any:
    class Unpacker(pickle.Unpickler):
        def persistent_load(self, name: str) -> Any:
            return shared

    return Unpacker(io.BytesIO(answer)).load()
