"""Ctrl-C for work in threads: it reaches the main thread only, which tells the others here."""

from __future__ import annotations

import threading
from contextvars import ContextVar

# Whoever makes fits in threads sets an event here, in each of them: when it is set, what they run
# ends at once.
stop_requested: ContextVar[threading.Event | None] = ContextVar("stop_requested", default=None)


def is_stopped() -> bool:
    """Whether whoever started this thread wants it to end."""
    stop = stop_requested.get()
    return stop is not None and stop.is_set()
