"""Tables of other libraries: their numbers and names on the way in, their kind on the way out.

narwhals knows polars, pyarrow, modin, cuDF, lazy frames and more; whatever else gives an Arrow C
stream goes through it, too. pandas, xarray and numpy are asked directly. No library is imported
here but by rows of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stangmm.base.arrays import FloatArray
from stangmm.base.errors import DataError

_KINDS = {"M": "dates", "m": "durations", "c": "complex numbers"}  # numpy's letters
_OTHERS = "text or other objects"


def column_names(X: Any) -> tuple[str, ...] | None:
    """Names of a table's columns, or of a series; None where it has none."""
    if not _is_plain(X):
        found = _known(X)
        if found is not None:
            return tuple(found.columns) if hasattr(found, "columns") else _one_name(found.name)
    dataset = _xarray_dataset(X)
    if dataset is not None:
        return tuple(map(str, dataset.data_vars))
    columns = getattr(X, "columns", None)
    if columns is not None:
        # What is no valid text (half a character) could be written nowhere, pandas included.
        return tuple(str(c).encode("utf-8", "replace").decode() for c in columns)
    return _one_name(getattr(X, "name", None)) if getattr(X, "ndim", 0) == 1 else None


def index_of(X: Any) -> Any:
    """Index of a pandas table or series; None where it only counts the rows from 0."""
    pd = sys.modules.get("pandas")
    if pd is None or not isinstance(X, pd.DataFrame | pd.Series):
        return None
    index = X.index
    counts = isinstance(index, pd.RangeIndex) and (index.start, index.step) == (0, 1)
    return None if counts and index.name is None else index


def is_chunked(X: Any) -> bool:
    """Whether it is an array, a DataFrame or a Series of Dask, whose rows come chunk by chunk."""
    arrays, frames = sys.modules.get("dask.array"), sys.modules.get("dask.dataframe")
    return (arrays is not None and isinstance(X, arrays.Array)) or (
        frames is not None and isinstance(X, frames.DataFrame | frames.Series)
    )


def is_table(X: Any) -> bool:
    """Whether it has columns with names."""
    return hasattr(X, "columns") if _is_plain(X) else column_names(X) is not None


def eager(X: Any) -> Any:
    """A table that is lazy, computed; everything else as it is."""
    if _is_plain(X):
        return X
    import narwhals as nw

    found = nw.from_native(X, pass_through=True, allow_series=True)
    return found.collect().to_native() if isinstance(found, nw.LazyFrame) else X


def numbers_of(X: Any) -> FloatArray | None:
    """Numbers of a table of a library that numpy does not read itself; None for all others.

    Raises
    ------
    DataError
        A column has no numbers, or the table is none.
    """
    if _is_plain(X):
        return None
    dataset = _xarray_dataset(X)
    if dataset is not None:
        dims = {variable.dims for variable in dataset.data_vars.values()}
        if len(dims) != 1 or len(next(iter(dims))) != 1:
            raise DataError(
                "The variables of an xarray Dataset must all have one dimension, that of the rows, "
                f"got {dict(dataset.sizes)}. Select them, or give a DataArray of two dimensions."
            )
        each = [np.asarray(variable.values) for variable in dataset.data_vars.values()]
        check_numeric({str(name): what_it_holds(v.dtype)
                       for name, v in zip(dataset.data_vars, each, strict=True)
                       if v.dtype.kind not in "fiub"})  # fmt: skip
        return np.stack([np.asarray(v, dtype=np.float64) for v in each], axis=1)
    found = _known(X)
    if found is None:
        return None
    import narwhals as nw

    series = [found[name] for name in found.columns] if hasattr(found, "columns") else [found]
    check_numeric({str(s.name): _what_it_holds(s.dtype) for s in series
                   if not (s.dtype.is_numeric() or s.dtype == nw.Boolean)})  # fmt: skip
    columns = [np.asarray(s.cast(nw.Float64).to_numpy(), dtype=np.float64) for s in series]
    if not hasattr(found, "columns"):
        return columns[0]
    return np.stack(columns, axis=1) if columns else np.empty((len(found), 0))


def like(
    X: Any,
    values: NDArray[Any],
    name: str,
    columns: str | None = None,
    numbers: Sequence[int] | None = None,
) -> Any:
    """Give values of rows the kind and the index of the rows.

    Parameters
    ----------
    X : array or table
        The rows, as the user gave them.
    values : ndarray, shape (N,) or (N, C)
        One value or C values of each row.
    name : str
        What the values are.
    columns : str, optional
        What the C values of a row are told apart by.
    numbers : sequence of int, optional
        What they are called; default: 0 to C - 1.

    Returns
    -------
    Series or DataFrame
        For pandas, with the index of X; for polars, pyarrow and their like, of that library, with
        columns called "0", "1", ...
    DataArray
        For xarray, with X's first dimension and its coordinates.
    ndarray
        The values as they are, for everything else.
    """
    pd, xr = sys.modules.get("pandas"), sys.modules.get("xarray")
    if columns is not None and numbers is None:
        numbers = range(values.shape[1])
    if pd is not None and isinstance(X, pd.DataFrame | pd.Series):
        if columns is None:
            return pd.Series(values, index=X.index, name=name)
        return pd.DataFrame(values, index=X.index, columns=pd.Index(numbers, name=columns))
    if xr is not None and isinstance(X, xr.DataArray | xr.Dataset):
        row = X.dims[0] if isinstance(X, xr.DataArray) else next(iter(X.sizes))
        coords = {label: c for label, c in X.coords.items() if c.dims == (row,)}
        dims = [row] if columns is None else [row, columns]
        if columns is not None:
            coords[columns] = numbers
        return xr.DataArray(values, coords, dims, name)
    found = None if _is_plain(X) else _known(eager(X))
    if found is None:
        return values
    import narwhals as nw

    backend = found.implementation
    if numbers is None:
        return nw.new_series(name, values, backend=backend).to_native()
    return table_like(X, {str(j): values[:, i] for i, j in enumerate(numbers)})


def table_like(X: Any, columns: dict[str, NDArray[Any]]) -> Any:
    """Columns as a table of the library of X; None where that has no columns with names."""
    dataset = _xarray_dataset(X)
    if dataset is not None:
        (row,) = {dim for variable in dataset.data_vars.values() for dim in variable.dims}
        return dataset.assign({name: (row, values) for name, values in columns.items()})
    found = None if _is_plain(X) else _known(eager(X))
    if found is None or not hasattr(found, "columns"):
        return None
    import narwhals as nw

    return nw.from_dict(columns, backend=found.implementation).to_native()


def _is_plain(X: Any) -> bool:
    """Whether numpy, pandas or Dask reads it, or it is nothing that has columns."""
    if isinstance(X, np.ndarray | list | tuple | int | float | str | bytes) or X is None:
        return True
    pd, xr = sys.modules.get("pandas"), sys.modules.get("xarray")
    if is_chunked(X) or (xr is not None and isinstance(X, xr.DataArray)):
        return True
    return pd is not None and isinstance(X, pd.DataFrame | pd.Series)


def _xarray_dataset(X: Any) -> Any:
    xr = sys.modules.get("xarray")
    return X if xr is not None and isinstance(X, xr.Dataset) else None


def _known(X: Any) -> Any:
    """What narwhals makes of a table, or of what gives one; None for everything else."""
    import narwhals as nw

    found = nw.from_native(X, pass_through=True, allow_series=True)
    if isinstance(found, nw.DataFrame | nw.Series):
        return found if hasattr(found, "__len__") and hasattr(found, "to_numpy") else None
    if hasattr(X, "__arrow_c_stream__"):
        return nw.from_arrow(X, backend=_arrow_backend())
    if hasattr(X, "__dataframe__"):
        pd = import_module("pandas")  # the one reader of this protocol that is always there
        return nw.from_native(pd.api.interchange.from_dataframe(X))
    return None


def _arrow_backend() -> Literal["pyarrow", "polars"]:
    if find_spec("pyarrow") is not None:
        return "pyarrow"
    if find_spec("polars") is not None:
        return "polars"
    raise DataError(
        "Arrow streams are read by pyarrow or polars, neither of which is installed. Run `pip "
        "install pyarrow`."
    )


def _one_name(name: Any) -> tuple[str, ...] | None:
    return (name,) if isinstance(name, str) and name else None


def what_it_holds(dtype: Any) -> str:
    """What values of a type of numpy or pandas are, that are no real numbers."""
    if hasattr(dtype, "categories"):
        return "categories"
    return _KINDS.get(getattr(dtype, "kind", "O"), _OTHERS)


def _what_it_holds(dtype: Any) -> str:
    """The same for a type of narwhals."""
    import narwhals as nw

    if isinstance(dtype, nw.Categorical | nw.Enum):
        return "categories"
    if isinstance(dtype, nw.Duration):
        return _KINDS["m"]
    return _KINDS["M"] if isinstance(dtype, nw.Date | nw.Datetime) else _OTHERS


def check_numeric(others: dict[str, str]) -> None:
    """Raise DataError for columns that hold no numbers, given with what they hold."""
    if not others:
        return
    found: dict[str, list[str]] = {}
    for name, what in others.items():
        found.setdefault(what, []).append(name)
    text = ", ".join(f"{what} in {names}" for what, names in found.items())
    raise DataError(
        f"Features must be numbers, got {text}. Drop these columns or encode them as numbers."
    )
