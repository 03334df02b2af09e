"""Progress of long work on standard error, in terminals and notebooks."""

from __future__ import annotations

import sys
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
    has gone and that is left: steps should take about equally long. It disappears when ``total`` is
    reached, or when the function is forgotten, as it is where the work fails. Where nobody watches,
    there is none.
    """
    if not shown or not is_watched():
        return lambda steps: None
    bar = find_tqdm()(
        total=total,
        desc=label,
        delay=_DELAY,
        leave=False,
        mininterval=0.2,
        miniters=0,
        # The mean speed so far: tqdm's moving average leaves out the time between steps, when only
        # the clock is looked at.
        smoothing=0.0,
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]",
    )
    lock, over = threading.Lock(), threading.Event()

    def advance(steps: int) -> None:
        with lock:
            bar.update(steps)
            if bar.n >= total:
                bar.close()
                over.set()

    seen = weakref.ref(bar, lambda _: over.set())
    ticking = threading.Thread(
        target=_tick, args=(seen, lock, over), name="stangmm-progress", daemon=True
    )
    ticking.start()
    return advance


def is_watched() -> bool:
    """Whether standard error is a terminal or a notebook: in a file a bar would be lines of it."""
    stream = sys.stderr
    try:
        return "ipykernel" in sys.modules or (stream is not None and stream.isatty())
    except ValueError:  # it is closed
        return False


def _tick(bar: weakref.ref[Any], lock: threading.Lock, over: threading.Event) -> None:
    """Keep the clock of a bar going until it is closed or forgotten."""
    while not over.wait(TICK):
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

    # Without tqdm's own thread, which would stay when the work is done.
    return type("Bar", (tqdm,), {"monitor_interval": 0})
