"""The process's environment, which libraries change for themselves and which is the user's."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_guards: dict[str, int] = {}
_before: dict[str, str | None] = {}


@contextmanager
def unchanged_environment(*names: str) -> Iterator[None]:
    """Put variables back as they were.

    Where guards of one variable overlap, the first remembers it and the last puts it back.
    """
    with _lock:
        for name in names:
            if not _guards.get(name):
                _before[name] = os.environ.get(name)
            _guards[name] = _guards.get(name, 0) + 1
    try:
        yield
    finally:
        with _lock:
            for name in names:
                _guards[name] -= 1
                value = _before[name]
                if _guards[name] == 0 and value is None:
                    os.environ.pop(name, None)
                elif _guards[name] == 0 and value is not None:
                    os.environ[name] = value
