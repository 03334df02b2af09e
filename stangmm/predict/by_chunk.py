"""Predictions for rows of Dask: lazy, chunk by chunk, and of Dask themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np

from stangmm.base.errors import ModelError
from stangmm.data.frames import is_chunked

F = TypeVar("F", bound=Callable[..., Any])


def by_chunk(ask: F) -> F:
    """Have a question about rows answered chunk by chunk where they come from Dask.

    What asks must have ``alone()``, which gives it without all that no prediction needs.
    """

    @functools.wraps(ask)
    def asked(of: Any, X: Any, **options: Any) -> Any:
        if not is_chunked(X):
            return ask(of, X, **options)
        if options.get("interval") is not None:
            raise ModelError(
                "interval cannot be used with Dask rows. Ask for the mean, or give the rows in "
                "memory: X.compute()."
            )
        alone = of.alone()
        quiet = {**options, "progress": False}
        return _lazy(X, _Answer(alone, ask.__name__, quiet), alone.dataset.x)

    return cast(F, asked)


@dataclass(frozen=True, eq=False)
class _Answer:
    """A question, to be asked of the rows of a chunk."""

    of: Any
    name: str
    options: dict[str, Any]
    nothing: Any = None  # the answer for no rows

    def __call__(self, rows: Any) -> Any:
        if self.nothing is None or len(rows):
            return getattr(self.of, self.name)(rows, **self.options)
        return self.nothing.reindex(rows.index) if hasattr(rows, "index") else self.nothing


def _lazy(X: Any, answer: _Answer, example: Any) -> Any:
    """Give the answers for all rows; one row as an example says what kind they are of."""
    if hasattr(X, "npartitions") and hasattr(X, "map_partitions"):  # a DataFrame or Series
        import pandas as pd

        table = hasattr(X, "columns")
        row = pd.DataFrame(example, columns=X.columns) if table else pd.Series(example[:, 0])
        nothing = answer(row).iloc[:0]
        return X.map_partitions(replace(answer, nothing=nothing), meta=nothing)
    if X.ndim == 2 and X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    if X.ndim == 2 and X.shape[1] != example.shape[1]:
        example = np.ones((1, X.shape[1]))  # which is the error that is to be said
    nothing = answer(example)[:0]
    chunks = (X.chunks[0], *((n,) for n in nothing.shape[1:]))
    kept = range(nothing.ndim)
    return X.map_blocks(
        replace(answer, nothing=nothing),
        chunks=chunks,
        drop_axis=[axis for axis in range(X.ndim) if axis not in kept],
        new_axis=[axis for axis in kept if axis >= X.ndim],
        meta=nothing,
    )
