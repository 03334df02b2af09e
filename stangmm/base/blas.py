"""One BLAS thread where more do not pay: EM's products are small, and threads wait for each other.

With two threads, EM on 2000 rows of 13 features took as long as with one, and twice the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from stangmm.base.environment import unchanged_environment

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread inside a ``with`` block."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Looking for libraries takes milliseconds, so it is done once."""
    with unchanged_environment("KMP_DUPLICATE_LIB_OK"):  # which threadpoolctl sets
        from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
