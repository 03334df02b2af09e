"""Rows that come chunk by chunk: Dask arrays and DataFrames, which need not fit into memory.

Each pass reads every chunk once, wherever Dask keeps it, and brings together what is asked of the
chunks in a tree of fixed shape, so that sums are the same to the bit whichever worker comes first.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar, TypeVar

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.errors import DataError
from stangmm.base.memory import check_memory
from stangmm.data.dataset import AllRows, Dataset, as_table, check_features, default_names, moments
from stangmm.data.frames import column_names

T = TypeVar("T")

_LOG = logging.getLogger("stangmm")

# The sample has so many rows, or fewer where these are wide; data of fewer rows are read whole.
_SAMPLE_ROWS, _SAMPLE_NUMBERS, _SAMPLE_LEAST = 2**16, 2**22, 10_000
# The same data give the same sample, whatever the seed of a fit. Small numbers would be those with
# which people simulate data, and the sample must not depend on their random numbers.
_SEED = zlib.crc32(b"sample of the rows")
_MERGED = 8  # results that are brought together at once


def dataset_of_chunks(X: Any, sample_weight: Any, missing: str, labels: Any) -> Dataset:
    """Check Dask data, and give a dataset whose rows are a sample of them; of few rows, all.

    Raises
    ------
    DataError
        As `Dataset.from_input`, with the number of the chunk; weights, labels or missing values.
    """
    given = {"sample_weight": sample_weight is not None, "labels": labels is not None}
    given['missing="marginalize"'] = missing != "error"
    if any(given.values()):
        what = " and ".join(name for name, is_given in given.items() if is_given)
        raise DataError(
            f"{what} cannot be used with Dask data. Leave it out, or give the rows in memory: "
            "X.compute()."
        )
    names = None if hasattr(X, "numblocks") else column_names(X)  # that of an array is Dask's own
    all_rows, sample = Chunks.of(X).looked_through()
    feature_names = names or default_names(sample.shape[1])
    check_features(feature_names, all_rows.low, all_rows.high, all_rows.n_rows)
    is_all = len(sample) == all_rows.n_rows
    return Dataset(
        sample, feature_names, named=names is not None, all_rows=None if is_all else all_rows
    )


@dataclass(frozen=True, eq=False)
class Chunks:
    """Rows in chunks, in the units in which they are given to functions.

    Attributes
    ----------
    parts : tuple
        Of Dask: the tables that hold the rows, one after the other, not yet read.
    center, unit : ndarray, shape (D,), or None
        What is taken off the numbers, and what they are divided by then.
    """

    parts: tuple[Any, ...]
    center: FloatArray | None = None
    unit: FloatArray | None = None

    @classmethod
    def of(cls, X: Any) -> Chunks:
        """Give the chunks of a Dask array, DataFrame or Series.

        Raises
        ------
        DataError
            An array of more than two dimensions.
        """
        if X.ndim > 2:
            raise DataError(
                f"X must have shape (N, D), or (N,) for one feature, got {X.ndim} dimensions "
                f"with shape {X.shape}. Reshape it."
            )
        if X.ndim == 2 and not hasattr(X, "columns") and X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        return cls(tuple(np.ravel(X.to_delayed())))

    def standardized(self, center: FloatArray, unit: FloatArray) -> Chunks:
        """Give the same rows as (x - center) / unit."""
        return replace(self, center=center, unit=unit)

    def sums(
        self, function: Callable[[FloatArray], tuple[FloatArray, ...]]
    ) -> tuple[FloatArray, ...]:
        """Add what a function of the rows of a chunk gives over all chunks.

        Parameters
        ----------
        function : callable
            Gets rows, shape (n, D), and gives a tuple of arrays or numbers.

        Returns
        -------
        tuple of ndarray
            The sums, in an order that depends on the number of chunks alone.
        """
        total = self._reduced(_Ignoring(function), _added)
        return () if total is None else tuple(np.asarray(each) for each in total)

    def looked_through(self) -> tuple[AllRows, FloatArray]:
        """Check all rows and say what they are like, in one pass.

        Returns
        -------
        all_rows : AllRows
        sample : ndarray, shape (M, D)
            Rows at random, each with the same probability, in their order.

        Raises
        ------
        DataError
            There is no row, or a chunk holds anything but finite numbers.
        """
        seen = self._reduced(_look, _merged)
        if seen is None:
            raise DataError("X must have at least one row and one feature, got none in any chunk.")
        order = np.lexsort(seen.number.T[::-1])
        sd = np.sqrt(seen.variance)
        facts = RowsInChunks(seen.n_rows, seen.low, seen.high, seen.mean, sd, self)
        return facts, seen.rows[order]

    def read(self, n_rows: int, n_features: int) -> FloatArray:
        """Read all rows into memory, shape (N, D), and say so in the log.

        Raises
        ------
        ModelError
            They do not fit.
        """
        check_memory(
            f"A fit of {n_rows:,} rows in memory",
            8.0 * 4 * n_rows * n_features,
            'Use method="em" or "laplace", which go through Dask data chunk by chunk, or a sample '
            "of the rows, such as fit.dataset.x of a fit by EM.",
        )
        _LOG.warning("%d rows are read into memory, since the method needs all at once.", n_rows)
        from dask.base import compute
        from dask.delayed import delayed

        read = delayed(_rows)
        tables = compute(*[read(part, i) for i, part in enumerate(self.parts)])  # type: ignore[no-untyped-call]
        return np.concatenate([x for x in tables if x is not None])

    def _reduced(
        self,
        function: Callable[[FloatArray, int], T],
        merge: Callable[[Sequence[T | None]], T | None],
    ) -> T | None:
        """Bring together what a function of each chunk's rows and its number gives."""
        from dask.delayed import delayed

        call, together = delayed(_of_chunk), delayed(merge)
        asked = delayed(function, traverse=False)
        center, unit = (delayed(each, traverse=False) for each in (self.center, self.unit))
        level = [call(asked, part, i, center, unit) for i, part in enumerate(self.parts)]
        while len(level) > 1:
            level = [together(level[i : i + _MERGED]) for i in range(0, len(level), _MERGED)]
        with one_blas_thread():  # as Dask's own workers have it
            result: T | None = level[0].compute()
        return result


@dataclass(frozen=True, eq=False)
class RowsInChunks(AllRows):
    """All rows, where they can be read."""

    chunks: Chunks
    at_hand: ClassVar[bool] = True

    def there(self) -> Chunks:
        """Give the rows themselves."""
        return self.chunks


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is known of some rows, and a random sample of them."""

    n_rows: int
    low: FloatArray  # (D,)
    high: FloatArray
    mean: FloatArray
    variance: FloatArray
    rows: FloatArray  # (M, D), those of the smallest keys
    keys: FloatArray  # (M,), random
    number: IntArray  # (M, 2): chunk and row


@dataclass(frozen=True)
class _Ignoring:
    """A function of rows alone."""

    function: Callable[[FloatArray], tuple[FloatArray, ...]]

    def __call__(self, x: FloatArray, number: int) -> tuple[FloatArray, ...]:
        return self.function(x)


def _rows(table: Any, number: int) -> FloatArray | None:
    """Numbers (n, D) of a chunk; None where it has no rows, as after a selection."""
    if len(table) == 0:
        return None
    try:
        return as_table(table)[0]
    except DataError as error:
        raise DataError(f"In chunk {number}: {error}") from error


def _of_chunk(
    function: Callable[[FloatArray, int], T],
    table: Any,
    number: int,
    center: FloatArray | None,
    unit: FloatArray | None,
) -> T | None:
    x = _rows(table, number)
    if x is None:
        return None
    if center is not None and unit is not None:
        x -= center
        x /= unit
    return function(x, number)


def _look(x: FloatArray, number: int) -> _Seen:
    n, d = x.shape
    low, high, mean, sd = moments(x, None)
    keys = np.asarray(np.random.default_rng([_SEED, number]).random(n))
    kept = _smallest(keys, d)
    numbers = np.stack([np.full(len(kept), number), kept], axis=1)
    return _Seen(n, low, high, mean, sd**2, x[kept], keys[kept], numbers)


def _smallest(keys: FloatArray, n_features: int) -> IntArray:
    """Positions of so many of the smallest as the sample has rows."""
    m = min(_SAMPLE_ROWS, max(_SAMPLE_LEAST, _SAMPLE_NUMBERS // n_features))
    return np.arange(len(keys)) if len(keys) <= m else np.argpartition(keys, m - 1)[:m]


def _merged(parts: Sequence[_Seen | None]) -> _Seen | None:
    seen = [part for part in parts if part is not None]
    return reduce(_both, seen) if seen else None


def _both(one: _Seen, other: _Seen) -> _Seen:
    """Put two samples together; moments by Chan, Golub & LeVeque (1983)."""
    if one.rows.shape[1] != other.rows.shape[1]:
        raise DataError(
            f"All chunks must have the same features, got {one.rows.shape[1]} and "
            f"{other.rows.shape[1]} columns (chunk {int(other.number[0, 0])})."
        )
    n = one.n_rows + other.n_rows
    share = other.n_rows / n
    shift = other.mean - one.mean
    within = (1.0 - share) * one.variance + share * other.variance
    keys: FloatArray = np.concatenate([one.keys, other.keys])
    kept = _smallest(keys, one.rows.shape[1])
    return _Seen(
        n,
        np.minimum(one.low, other.low),
        np.maximum(one.high, other.high),
        one.mean + share * shift,
        within + share * (1.0 - share) * shift**2,
        np.concatenate([one.rows, other.rows])[kept],
        keys[kept],
        np.concatenate([one.number, other.number])[kept],
    )


def _added(parts: Sequence[tuple[FloatArray, ...] | None]) -> tuple[FloatArray, ...] | None:
    given = [part for part in parts if part is not None]
    return tuple(reduce(np.add, each) for each in zip(*given, strict=True)) if given else None
