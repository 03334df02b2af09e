"""Results in the form that the rows came in: pandas and xarray keep their index."""

from __future__ import annotations

import sys
from typing import Any

from numpy.typing import NDArray


def like(X: Any, values: NDArray[Any], name: str, columns: str | None = None) -> Any:
    """Give values of rows the index of the rows.

    Parameters
    ----------
    X : array, DataFrame, Series or DataArray
        The rows, as the user gave them.
    values : ndarray, shape (N,) or (N, C)
        One value or C values of each row.
    name : str
        What the values are.
    columns : str, optional
        What the C values of a row are told apart by; they are numbered from 0.

    Returns
    -------
    Series or DataFrame
        For pandas, with the index of X.
    DataArray
        For xarray, with X's first dimension and its coordinates.
    ndarray
        The values as they are, for everything else.
    """
    # Neither library is imported here: rows of theirs cannot come before they are.
    pd, xr = sys.modules.get("pandas"), sys.modules.get("xarray")
    if pd is not None and isinstance(X, pd.DataFrame | pd.Series):
        if columns is None:
            return pd.Series(values, index=X.index, name=name)
        return pd.DataFrame(
            values, index=X.index, columns=pd.RangeIndex(values.shape[1], name=columns)
        )
    if xr is not None and isinstance(X, xr.DataArray):
        row = X.dims[0]
        coords = {label: c for label, c in X.coords.items() if c.dims == (row,)}
        dims = [row] if columns is None else [row, columns]
        if columns is not None:
            coords[columns] = range(values.shape[1])
        return xr.DataArray(values, coords, dims, name)
    return values
