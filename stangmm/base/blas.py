"""One BLAS thread where more do not pay: EM's products are small, and threads wait for each other.

With two threads, EM on 2000 rows of 13 features took as long as with one, and twice the processor.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from stangmm.base.environment import unchanged_environment

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread inside a ``with`` block.

    The limit is that of the process. It ends with the last of blocks that overlap, as those of fits
    in several threads do: each by itself would put back what it found, and one finds the limit.
    """
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()


@cache
def _controller() -> ThreadpoolController:
    """Looking for libraries takes milliseconds, so it is done once."""
    with unchanged_environment("KMP_DUPLICATE_LIB_OK"):  # which threadpoolctl sets
        from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
