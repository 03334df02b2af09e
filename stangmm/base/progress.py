"""Progress of long work on standard error, in terminals and notebooks."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

_DELAY = 1.0  # seconds; shorter work stays silent
TICK = 0.5  # seconds between two looks at the clock


def progress_bar(label: str, total: int, *, shown: bool) -> Callable[[int], None]:
    """Make a function that is told how many more steps are done; any thread may call it.

    The bar appears after a second, whether or not a step is done by then, and shows the time that
    has gone and that is left. It disappears when ``total`` is reached, or when the function is
    forgotten, as it is where the work fails.
    """
    if not shown:
        return lambda steps: None
    bar = find_tqdm()(
        total=total, desc=label, delay=_DELAY, leave=False, mininterval=0.2, miniters=0
    )
    lock = threading.Lock()

    def advance(steps: int) -> None:
        with lock:
            bar.update(steps)
            if bar.n >= total:
                bar.close()

    ticking = threading.Thread(
        target=_tick, args=(weakref.ref(bar), lock), name="stangmm-progress", daemon=True
    )
    ticking.start()
    return advance


def _tick(bar: weakref.ref[Any], lock: threading.Lock) -> None:
    """Keep the clock of a bar going until it is closed or forgotten."""
    pause = threading.Event()
    while not pause.wait(TICK):
        shown = bar()
        if shown is None or shown.disable:
            return
        with lock:
            if not shown.disable:  # closed while this waited for the lock
                shown.update(0)
        del shown


def find_tqdm() -> Any:
    """Tqdm's bar for where we are; in a notebook without widgets it is text, without a warning."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    return tqdm
