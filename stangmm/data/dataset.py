"""Dataset: the user's table, checked once, as numbers with names, weights and units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.brief import Brief
from stangmm.base.checked import MOST, check_choice, shown
from stangmm.base.errors import DataError, ModelError
from stangmm.data.frames import (
    check_numeric,
    column_names,
    eager,
    index_of,
    is_chunked,
    is_table,
    numbers_of,
    what_it_holds,
)
from stangmm.data.resolution import resolution

if TYPE_CHECKING:
    from stangmm.data.chunks import Chunks

Missing: TypeAlias = Literal["error", "marginalize"]

_BLOCK = 2**15  # numbers that a pass over the data holds at once, so that they stay in cache
# A feature whose range is this few units in the last place of its values holds no usable numbers.
_MIN_RESOLVED_STEPS = 100
_OF_A_FIT = 'missing="marginalize" uses what these rows have. Or remove or impute them.'
_OF_NEW_ROWS = (
    'Fit the model with missing="marginalize", and it uses what these rows have. Or remove them, '
    "or fill them in first (Fit.impute)."
)


@dataclass(frozen=True, eq=False, repr=False)
class AllRows(Brief):
    """What is known of data of which a `Dataset` holds a sample; in a file there is no more.

    Attributes
    ----------
    n_rows : int
    low, high, mean, sd : ndarray, shape (D,)
        Smallest and largest value, mean and population standard deviation of each feature.
    at_hand : bool
        Whether the rows themselves can be read.
    """

    n_rows: int
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    sd: FloatArray
    at_hand: ClassVar[bool] = False

    def there(self) -> Chunks:
        """Give the rows themselves.

        Raises
        ------
        ModelError
            A file has only a sample of them.
        """
        raise ModelError(
            f"The file has only a sample of the {self.n_rows:,} rows, but this needs all of them. "
            "Fit the data again."
        )


@dataclass(frozen=True, repr=False)
class Dataset(Brief):
    """Observations that have passed every check.

    Attributes
    ----------
    x : ndarray, shape (N, D)
        The observations, in the user's units; NaN where a value is missing. Of Dask data with many
        rows it is a random sample.
    feature_names : tuple of str, length D
        Column names of a DataFrame, else ``x1 ... xD`` (``x`` when D = 1).
    sample_weight : ndarray, shape (N,), or None
        How often each row counts (a frequency); None when every row counts once.
    named : bool
        Whether the user gave the names.
    missing : {"error", "marginalize"}
        Whether rows may miss values.
    labels : ndarray of int, shape (N,), or None
        The component that each row is known to come from, -1 where it is unknown; None when all
        are.
    all_rows : AllRows or None
        The data of which ``x`` is a sample; None where it is all of them.
    index : Index or None
        That of the pandas table which the rows came from, for tables of them; None where it just
        counts the rows from 0. Files do not hold it.
    """

    x: FloatArray
    feature_names: tuple[str, ...]
    sample_weight: FloatArray | None = None
    named: bool = False
    missing: Missing = "error"
    labels: IntArray | None = None
    all_rows: AllRows | None = None
    index: Any = None

    @classmethod
    def from_input(
        cls,
        X: Any,
        sample_weight: Any = None,
        *,
        missing: Missing = "error",
        labels: Any = None,
    ) -> Dataset:
        """Check a table and wrap it.

        Parameters
        ----------
        X : array, list, DataFrame or Series, shape (N, D) or (N,)
            Observations in rows; those of Dask are read chunk by chunk. A Dataset is returned as it
            is.
        sample_weight : array, shape (N,), optional
            Non-negative frequencies, whose sum is at most 2**53.
        missing : {"error", "marginalize"}
            What NaN means: a mistake, or a value that is integrated out.
        labels : array, shape (N,), optional
            Known components, from 0; -1 or NaN where unknown.

        Raises
        ------
        DataError
            Empty, not numeric, not finite, wrong number of dimensions, a constant feature, a row
            without any value, or weights or labels of the wrong length or range.
        ModelError
            ``missing`` is neither of the two.
        """
        if isinstance(X, Dataset):
            return X
        check_choice("missing", missing, get_args(Missing))
        if is_chunked(X):
            from stangmm.data.chunks import dataset_of_chunks

            return dataset_of_chunks(X, sample_weight, missing, labels)
        X = eager(X)
        x, names = as_table(X, missing)
        if missing == "marginalize":
            _check_no_blank_rows(x)
        weight = None if sample_weight is None else as_sample_weight(sample_weight, len(x))
        known = None if labels is None else _as_labels(labels, len(x))
        named = column_names(X) is not None
        dataset = cls(x, names, weight, named, missing, known, index=index_of(X))
        check_features(names, *dataset.range(), len(dataset.counted().x))
        return dataset

    def same_as(self, other: Dataset) -> bool:
        """Whether both hold the same rows with the same weights and labels."""
        if self.n_rows != other.n_rows:
            return False
        pairs = (
            (self.x, other.x),
            (self.sample_weight, other.sample_weight),
            (self.labels, other.labels),
        )
        return all(
            np.array_equal(own, its, equal_nan=True)
            if own is not None and its is not None
            else own is its
            for own, its in pairs
        )

    @property
    def n_observations(self) -> int:
        """N, the number of rows of ``x``."""
        return int(self.x.shape[0])

    @property
    def n_rows(self) -> int:
        """Rows of the data: N, or more where ``x`` is a sample of them."""
        return self.n_observations if self.all_rows is None else self.all_rows.n_rows

    @property
    def sample_note(self) -> str:
        """Say what shows a sample of the rows; empty where ``x`` is all of them."""
        if self.all_rows is None:
            return ""
        return f"Pictures and tables of rows show a random sample of {self.n_observations:,} rows."

    @property
    def n_features(self) -> int:
        """D, the number of columns."""
        return int(self.x.shape[1])

    @property
    def total_weight(self) -> float:
        """Sum of the sample weights: `n_rows` when every row counts once."""
        if self.sample_weight is None:
            return float(self.n_rows)
        return float(self.sample_weight.sum())

    @cached_property
    def incomplete(self) -> bool:
        """Whether a value is missing."""
        return self.missing == "marginalize" and bool(np.isnan(self.x).any())

    @property
    def labelled_components(self) -> IntArray:
        """The components that have rows of known label and positive weight, ascending."""
        labels = self.counted().labels
        return np.unique(labels[labels >= 0]) if labels is not None else np.empty(0, dtype=int)

    def free_components(self, n_components: int) -> IntArray:
        """The components that no label names, ascending."""
        return np.setdiff1d(np.arange(n_components), self.labelled_components)

    def counted(self) -> Dataset:
        """Give the rows of positive weight: those that the fit sees."""
        return self._counted

    @cached_property
    def resolution(self) -> FloatArray:
        """How finely each feature was recorded, shape (D,); see `stangmm.data.resolution`.

        Of data of which this is a sample, how finely the sample and the extremes were.
        """
        counted = self.counted()
        if self.all_rows is not None:
            return resolution(np.vstack([self.x, self.all_rows.low, self.all_rows.high]))
        return resolution(counted.x, counted.sample_weight)

    def in_memory(self) -> Dataset:
        """Give a dataset of all rows, which are read if this holds a sample of them.

        Raises
        ------
        ModelError
            They do not fit into memory, or a file has only the sample.
        """
        if self.all_rows is None:
            return self
        x = self.all_rows.there().read(self.n_rows, self.n_features)
        return replace(self, x=x, all_rows=None)

    def mean_and_sd(self) -> tuple[FloatArray, FloatArray]:
        """Weighted mean and population standard deviation of each feature, both (D,).

        They have the same bits on every processor.
        """
        return self._moments[2:]

    def range(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest value of each feature among the rows that count, both (D,)."""
        return self._moments[:2]

    @cached_property
    def _counted(self) -> Dataset:
        if self.sample_weight is None or (self.sample_weight > 0).all():
            return self
        counts = self.sample_weight > 0
        labels = None if self.labels is None else self.labels[counts]
        weight = self.sample_weight[counts]
        index = None if self.index is None else self.index[counts]
        return replace(self, x=self.x[counts], sample_weight=weight, labels=labels, index=index)

    @cached_property
    def _moments(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        if self.all_rows is not None:
            of_all = self.all_rows
            return of_all.low, of_all.high, of_all.mean, of_all.sd
        counted = self.counted()
        if not self.incomplete:
            return moments(counted.x, counted.sample_weight)
        each = []
        for column in counted.x.T:
            seen = ~np.isnan(column)
            weight = None if counted.sample_weight is None else counted.sample_weight[seen]
            each.append(moments(column[seen, np.newaxis], weight))
        low, high, mean, sd = (np.concatenate(parts) for parts in zip(*each, strict=True))
        return low, high, mean, sd

    def check_components(self, n_components: int) -> None:
        """Raise DataError for labels beyond K, or fewer distinct rows than components."""
        x = self.counted().x
        if self.labels is not None and self.labels.max() >= n_components:
            raise DataError(
                f"labels must name components 0 to {n_components - 1} (or be -1 where unknown), "
                f"got {self.labels.max()}. Renumber them, or use more components."
            )
        if len(x) < n_components:
            raise DataError(
                f"{n_components} components need at least {n_components} "
                f"{'rows' if self.sample_weight is None else 'distinct rows of positive weight'}, "
                f"got {len(x)}. "
                "Use fewer components or more data."
            )
        # Nearly always one feature of the first rows settles it; rows are compared if not.
        distinct = len(np.unique(x[: 100 * n_components, 0]))
        if distinct < n_components:  # infinity stands for what is missing
            distinct = len(np.unique(np.where(np.isnan(x), np.inf, x), axis=0))
        if distinct < n_components:
            raise DataError(
                f"{n_components} components need at least {n_components} distinct rows, got "
                f"{distinct} distinct among {len(x)}. Use fewer components or more data."
            )


def moments(
    x: FloatArray, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Smallest and largest value, mean and standard deviation of each feature."""
    if not len(x):
        nothing = np.full(x.shape[1], np.nan)
        return nothing, nothing, nothing, nothing
    share = np.full(len(x), 1.0 / len(x)) if weight is None else weight / weight.sum()
    step = max(1, _BLOCK // x.shape[1])
    blocks = [slice(first, first + step) for first in range(0, len(x), step)]

    def columns(block: slice) -> FloatArray:
        # numpy loops along a row inside: for short rows it pays to turn the block round.
        return x[block].T if x.shape[1] >= 16 else np.array(x[block].T, order="C")

    extremes = [(c.min(axis=1), c.max(axis=1)) for c in map(columns, blocks)]
    low: FloatArray = np.stack([smallest for smallest, _ in extremes]).min(axis=0)
    high: FloatArray = np.stack([largest for _, largest in extremes]).max(axis=0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        size = high - low  # zero or infinite only until the features are checked
        # Sums, not products with the shares: BLAS adds in another order on every processor.
        mean, variance = low.copy(), np.zeros_like(low)
        for block in blocks:
            mean += ((columns(block) - low[:, np.newaxis]) * share[block]).sum(axis=1)
        for block in blocks:
            deviation: FloatArray = columns(block) - mean[:, np.newaxis]
            deviation *= (1.0 / size)[:, np.newaxis]  # squares of these are no overflow
            variance += (np.square(deviation, out=deviation) * share[block]).sum(axis=1)
        return low, high, mean, np.sqrt(variance) * size


def as_table(X: Any, missing: Missing = "error") -> tuple[FloatArray, tuple[str, ...]]:
    """Turn what the user gave into numbers (N, D) and feature names.

    All are finite, except for NaN with ``missing="marginalize"``.

    Raises
    ------
    DataError
        Not numeric, not finite, empty, or not one- or two-dimensional.
    """
    x, names = _read(X)
    names = names or default_names(x.shape[1])
    _check_finite(x, names, missing, _OF_A_FIT)
    return x, names


def _read(X: Any) -> tuple[FloatArray, tuple[str, ...] | None]:
    """Numbers (N, D), finite or not, and names if there are any."""
    X = eager(X)
    if X is None:
        raise DataError("X must be a table of numbers (N rows, D features), got None.")
    names = column_names(X)
    check_numeric(_columns_without_numbers(X))
    try:
        x = as_numbers(X)
    except DataError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"X must be a table of real numbers (N rows, D features), got {type(X).__name__} "
            f"that cannot be read as one ({error})."
        ) from error
    if x.ndim == 1:
        x = x[:, np.newaxis]
    if x.ndim != 2:
        raise DataError(
            f"X must have shape (N, D), or (N,) for one feature, got {x.ndim} dimensions "
            f"with shape {x.shape}. Reshape it."
        )
    if x.size == 0:
        raise DataError(f"X must have at least one row and one feature, got shape {x.shape}.")
    return x, names


def default_names(d: int) -> tuple[str, ...]:
    """Give names to features that have none."""
    return ("x",) if d == 1 else tuple(f"x{j + 1}" for j in range(d))


def as_new_rows(X: Any, fitted: Dataset) -> FloatArray:
    """Check rows given to a fitted model: numbers with the features of the fit.

    They may miss values if those of the fit may.

    One flat row of D > 1 numbers is an error as in scikit-learn, since it could be a column.

    Raises
    ------
    DataError
        As `as_table`, or the number or names of the features differ from the fit's.
    """
    X = eager(X)
    x, names = _read(X)
    feature_names = fitted.feature_names
    if x.shape[1] != len(feature_names):
        raise DataError(
            f"The model was fitted to {len(feature_names)} features {list(feature_names)}, got "
            f"{x.shape[1]}. Give rows of shape (N, {len(feature_names)})."
        )
    if fitted.named and is_table(X) and names != feature_names:
        raise DataError(
            f"The model was fitted to features {list(feature_names)}, got columns "
            f"{list(names or default_names(x.shape[1]))}. "
            "Select and order the columns as in the fit."
        )
    _check_finite(x, feature_names, fitted.missing, _OF_NEW_ROWS)
    return x


def as_numbers(values: Any) -> FloatArray:
    """A copy as doubles, C-ordered; masked entries become NaN.

    numpy would read digits in text as numbers and ignore masks; here both mean what they say.
    """
    table = numbers_of(values)
    if table is not None:
        return table
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError("a sparse matrix; give X.toarray()")
    raw = np.asarray(values)
    kind = raw.dtype.kind
    if kind in "cmM":
        raise TypeError(what_it_holds(raw.dtype))
    if kind in "UST" or (kind == "O" and any(isinstance(v, str | bytes) for v in raw.flat)):
        raise TypeError("text")
    if kind == "O":  # what pandas writes where a number is missing
        raw = np.where([type(v).__name__ == "NAType" for v in raw.flat], np.nan, raw.ravel())
        raw = raw.reshape(np.shape(values))
    return np.array(raw, dtype=np.float64, order="C")


def _columns_without_numbers(X: Any) -> dict[str, str]:
    """Columns of a pandas table that hold no numbers, and what they hold."""
    if not hasattr(X, "iloc") or not hasattr(X, "columns"):
        return {}
    columns = enumerate(zip(X.columns, X.dtypes, strict=True))
    return {
        str(name): what_it_holds(dtype)
        for j, (name, dtype) in columns
        if not _holds_numbers(X.iloc[:, j], dtype)
    }


def _holds_numbers(column: Any, dtype: Any) -> bool:
    if dtype == np.dtype(object):  # may still hold numbers, and None where one is missing
        return all(value is None or isinstance(value, Real) for value in column)
    return getattr(dtype, "kind", "O") in "fiub"


def _check_finite(x: FloatArray, names: tuple[str, ...], missing: Missing, advice: str) -> None:
    accepted = np.isfinite(x) if missing == "error" else ~np.isinf(x)
    if accepted.all():
        return
    rows, columns = np.nonzero(~accepted)
    n_missing = int(np.isnan(x[rows, columns]).sum())
    kinds = [("missing (NaN)", n_missing), ("infinite", len(rows) - n_missing)]
    what = " and ".join(f"{n} {kind}" for kind, n in kinds if n)
    each = [(n_missing, advice), (len(rows) - n_missing, "Remove or replace infinite values.")]
    raise DataError(
        f"X must be finite, got {what} among its values, in {len(set(rows.tolist()))} of {len(x)} "
        f"rows, the first in row {rows[0]}, feature {names[columns[0]]!r}. "
        f"{' '.join(a for n, a in each if n)}"
    )


def _check_no_blank_rows(x: FloatArray) -> None:
    blank = np.flatnonzero(np.isnan(x).all(axis=1))
    if len(blank):
        raise DataError(
            f"Every row must have a value, got {len(blank)} rows without any, the first row "
            f"{blank[0]}. They say nothing about the mixture: remove them."
        )


def check_features(names: tuple[str, ...], low: FloatArray, high: FloatArray, n: int) -> None:
    """Raise DataError for names that are equal, and features that n rows do not let vary."""
    if len(set(names)) < len(names):
        raise DataError(f"Feature names must differ, got {list(names)}. Rename the columns.")
    unseen = [n for n, v in zip(names, low, strict=True) if np.isnan(v)]
    if unseen:
        raise DataError(f"Every feature must have values, got none in {unseen}. Drop them.")
    with np.errstate(over="ignore"):
        size = high - low
    if n == 1:
        raise DataError(
            "There is only one row, so every feature is constant. Give at least two that differ."
        )
    constant = [n for n, s in zip(names, size, strict=True) if s == 0]
    if constant:
        raise DataError(
            f"Every feature must vary, got constant {constant} over {n} rows. "
            "Drop constant features."
        )
    huge = [n for n, s in zip(names, size, strict=True) if not np.isfinite(s) or s > 1e150]
    if huge:
        raise DataError(f"Features {huge} span more than 1e150. Rescale them.")
    step = np.spacing(np.maximum(np.abs(low), np.abs(high)))
    lost = [n for n, s, u in zip(names, size, step, strict=True) if s < _MIN_RESOLVED_STEPS * u]
    tiny = [n for n, s in zip(names, size, strict=True) if s < 1e-150]
    if tiny:
        raise DataError(
            f"Features {tiny} span less than 1e-150; double precision does not resolve their "
            "squares. Rescale them."
        )
    if lost:
        raise DataError(
            f"Features {lost} vary by less than double precision resolves at their size. Subtract "
            "their offset before the data are rounded, or rescale them."
        )


def as_sample_weight(sample_weight: Any, n: int) -> FloatArray:
    """Check sample weights: N finite numbers, none negative, not all zero, of 2**53 in all."""
    try:
        weight = as_numbers(sample_weight)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"sample_weight must be numbers, got {shown(sample_weight)}.") from error
    if weight.shape != (n,):
        raise DataError(
            f"sample_weight must have one entry per row, shape ({n},), got {weight.shape}."
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise DataError(
            "sample_weight must be finite and not negative (a frequency), got "
            f"{int((~(weight >= 0) | np.isinf(weight)).sum())} entries that are not."
        )
    if not (weight > 0).any():
        raise DataError("sample_weight must have a positive entry, got only zeros.")
    with np.errstate(over="ignore"):
        total = weight.sum()
    if total > MOST:
        raise DataError(
            "sample_weight says how often each row counts, so that its sum must be at most 2**53, "
            f"got {total:.3g}. Rescale the weights."
        )
    return weight


def _as_labels(labels: Any, n: int) -> IntArray:
    try:
        values = as_numbers(labels)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            "labels must be numbers of components, from 0, with -1 or NaN where unknown, got "
            f"{shown(labels)}. Number the classes first, as numpy.unique(..., return_inverse=True) "
            "does."
        ) from error
    if values.shape != (n,):
        raise DataError(f"labels must have one entry per row, shape ({n},), got {values.shape}.")
    values = np.where(np.isnan(values), -1.0, values)
    wrong = (values < -1) | (values != np.floor(values)) | (values > 1e6)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            "labels must be numbers of components, from 0, with -1 or NaN where unknown, got "
            f"{values[row]:g} in row {row}."
        )
    return values.astype(int)
