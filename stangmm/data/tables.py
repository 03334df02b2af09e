"""Tables: data from files of many kinds, and which of their columns are features."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.base.checked import checked_path
from stangmm.base.errors import DataError
from stangmm.data.formats import STDIN, table_of
from stangmm.data.texts import Reading, is_nearly_a_number

if TYPE_CHECKING:
    import pandas as pd

_UNNAMED = re.compile(r"Unnamed: \d+")  # what pandas calls a column without a name
# Names of columns that number the rows, where all their values differ.
_NUMBERING = re.compile(
    r"(|.*[_. ])(id|ids|index|idx|row|rows|row[_. ]?names?|row[_. ]?(id|nr|no|number)|obs|"
    r"observation|nr|no|case|key|uuid)",
    re.IGNORECASE,
)
_MANY_ROWS = 10  # so many numbers in a row are no chance


@dataclass(frozen=True)
class Columns:
    """What each column of a table is for; made by `choose_columns`.

    Attributes
    ----------
    features : DataFrame, shape (N, D)
    weights : ndarray, shape (N,), or None
    labels : ndarray, shape (N,), or None
        Components from 0; -1 or NaN where unknown.
    classes : tuple of str
        Names of the components, where the labels were text: component k is ``classes[k]``.
    left_out : mapping of str to str
        Columns that were not chosen by the user and cannot be features, with the reason.
    read : mapping of str to object
        How the file was understood.
    """

    features: pd.DataFrame
    weights: Any
    labels: Any
    classes: tuple[str, ...]
    left_out: dict[str, str]
    read: dict[str, Any]


def read_table(
    path: str | os.PathLike[str],
    *,
    sep: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    na: Sequence[str] = (),
    header: bool | None = None,
    skip: int = 0,
) -> pd.DataFrame:
    """Read a table.

    The first bytes say what it is: Parquet, npy, npz, Feather, Excel, Stata, JSON, and any of these
    packed in gzip, bzip2, xz or zip; everything else is text with a separator: tab, semicolon,
    bar, comma or blanks. What is not given is worked out from a text, if there is one answer.

    Parameters
    ----------
    path : path
        "-" is standard input.
    sep, decimal, thousands : str, optional
        What separates the fields of a text (a character, "tab" or "blanks"), the decimal mark, and
        the separator of thousands.
    na : sequence of str
        What a missing value is written as, besides nothing, NA, NaN and the like.
    header : bool, optional
        Whether the first line of a text has names; by default it has if words stand above numbers.
    skip : int
        How many lines to skip at the beginning.

    Returns
    -------
    DataFrame
        Columns without names are called ``x1 ... xD``, a single one ``x``. Its ``attrs`` have what
        was understood, and the line of each row.

    Raises
    ------
    DataError
        There is no such file, it is not a table, or it can be read in several ways; the message
        says what is wrong with it.
    """
    for name, sign in (("decimal", decimal), ("thousands", thousands)):
        if sign is not None and len(sign) != 1:
            raise DataError(f"--{name} must be one character, got {sign!r}.")
    if decimal is not None and decimal not in ".,":
        raise DataError(f"--decimal must be a point or a comma, got {decimal!r}.")
    if skip < 0:
        raise DataError(f"--skip must be a number of lines, got {skip}.")
    source = path if path == STDIN else checked_path(path)
    shown = "standard input" if path == STDIN else repr(str(source))
    how = Reading(sep, decimal, thousands, tuple(na), header, skip)
    try:
        table, understood = table_of(source, how)
    except OSError as error:
        raise DataError(f"{shown} cannot be read: {error.strerror or error}.") from error
    except (ValueError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shown} cannot be read: {error or 'it is too large'}.") from error
    if table.empty:
        raise DataError(f"{shown} has no rows. Give a file with at least one.")
    lines = table.attrs.get("lines")
    table = table.set_axis([str(name) for name in table.columns], axis="columns")
    if not table.columns.is_unique:
        twice = sorted(set(table.columns[table.columns.duplicated()]))
        raise DataError(f"Columns of {shown} must have different names, got {twice} twice.")
    table.attrs = {"understood": understood, "lines": lines}
    return table


def choose_columns(
    table: pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    index: Sequence[str] = (),
    weights: str | None = None,
    labels: str | None = None,
) -> Columns:
    """Choose the features, sample weights and labels among the columns of a table.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str, optional
        The features, in this order; by default every column of numbers that has a name and no
        other purpose, and does not number the rows.
    exclude, index : sequence of str
        Columns that are not features; those of an index name the rows.
    weights, labels : str, optional
        The columns of sample weights and of known components. Labels that are text are numbered in
        alphabetical order.

    Raises
    ------
    DataError
        There is no such column, a chosen one has text, one has text among its numbers, or no
        feature is left.
    """
    for name in (*(columns or ()), *exclude, *index, *filter(None, (weights, labels))):
        if name not in table.columns:
            raise DataError(f"There is no column {name!r}; there are {list(table.columns)}.")
    left_out: dict[str, str] = {}
    if columns is not None:
        twice = sorted({name for name in columns if list(columns).count(name) > 1})
        if twice:
            raise DataError(f"A feature must be named once, got {twice} twice.")
        features = _chosen(table, columns)
    else:
        taken = {*exclude, *index, weights, labels}
        features, left_out = _usable([name for name in table.columns if name not in taken], table)
    known, classes = (None, ()) if labels is None else _numbered(table, labels)
    understood = table.attrs.get("understood")
    return Columns(
        table[features],
        None if weights is None else _numbers(table, weights, "sample weights"),
        known,
        classes,
        left_out,
        {} if understood is None else dict(understood.facts),
    )


def _chosen(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    for name in columns:
        _numbers(table, name, "a feature")
    return list(columns)


def _usable(names: list[str], table: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """Columns that can be features, and why the others cannot."""
    left_out = {}
    for name in names:
        if _UNNAMED.fullmatch(name):
            left_out[name] = "has no name in the file; it may number the rows"
        elif fault := _fault_among_numbers(table, name):
            raise DataError(fault)
        elif reason := _no_number(table[name]):
            left_out[name] = reason
        elif _numbers_rows(table, name):
            left_out[name] = "numbers the rows; --columns takes it nevertheless"
    features = [name for name in names if name not in left_out]
    if not features:
        reasons = "".join(f"\n  {name!r} {reason}" for name, reason in left_out.items())
        raise DataError(f"No column is left that can be a feature.{reasons}")
    return features, left_out


def _numbers_rows(table: pd.DataFrame, name: str) -> bool:
    """Whether a column has a number for each row and no measurement."""
    values = table[name].to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(values).any() or (values != np.round(values)).any():
        return False
    if _NUMBERING.fullmatch(name.strip()):
        return len(np.unique(values)) == len(values)
    understood = table.attrs.get("understood")
    unnamed = understood is not None and understood.facts.get("header") is False
    first = unnamed and name == table.columns[0] and len(values) >= _MANY_ROWS
    return bool(first and values[0] in (0, 1) and (np.diff(values) == 1).all())


def _numbers(table: pd.DataFrame, name: str, purpose: str) -> Any:
    if fault := _fault_among_numbers(table, name):
        raise DataError(f"{fault} So it cannot be {purpose}.")
    if reason := _no_number(table[name]):
        raise DataError(
            f"Column {name!r} cannot be {purpose}: it {reason}. Choose others, or correct the file."
        )
    return table[name].to_numpy(dtype=float, na_value=np.nan)


def _fault_among_numbers(table: pd.DataFrame, name: str) -> str:
    """What is wrong with a column most of whose cells are numbers, or nearly; empty if nothing."""
    import pandas as pd

    column = table[name]
    if pd.api.types.is_numeric_dtype(column.dtype) or not _holds_text(column):
        return ""
    values = column.astype(object)
    texts = values[pd.to_numeric(values, errors="coerce").isna() & values.notna()]
    nearly = [isinstance(v, str) and is_nearly_a_number(v) for v in texts]
    numbers = int(values.notna().sum()) - len(texts)
    if not len(texts) or 2 * (numbers + sum(nearly)) < numbers + len(texts):
        return ""
    row, cell = values.to_list().index(texts.iloc[0]), str(texts.iloc[0])
    lines = table.attrs.get("lines")
    where = f"in line {lines[row]}" if lines is not None else f"in row {row}"
    quoted = shlex.quote(name)
    advice = f"correct the file, or leave the column out: --exclude {quoted}"
    if nearly[0] and "," in cell:
        advice = f"say what a comma is (--decimal , or --thousands ,), {advice}"
    elif not nearly[0]:
        advice = (
            f"say that it is missing (--na {shlex.quote(cell)} --missing marginalize), {advice}"
        )
    understood = table.attrs.get("understood")
    where += f" and in {len(texts) - 1} more" if len(texts) > 1 else ""
    return f"Column {name!r} has text, such as {cell!r}, among its numbers, {where}: {advice}." + (
        f" (Understood: {understood}; columns {list(table.columns)}.)" if understood else ""
    )


def _holds_text(column: pd.Series[Any]) -> bool:
    return any(isinstance(value, str) for value in column)


def _no_number(column: pd.Series[Any]) -> str:
    """Why a column is not one of numbers; empty if it is."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        return ""
    values = column.astype(object)
    text = [v for v in values[pd.to_numeric(values, errors="coerce").isna()] if isinstance(v, str)]
    return f"has text, such as {text[0]!r}" if text else f"has values of type {column.dtype}"


def _numbered(table: pd.DataFrame, name: str) -> tuple[Any, tuple[str, ...]]:
    """Labels as numbers of components, and their names where they were text."""
    import pandas as pd

    column = table[name]
    if not _no_number(column):
        return column.to_numpy(dtype=float, na_value=np.nan), ()
    codes, classes = pd.factorize(column, sort=True)
    return codes, tuple(map(str, classes))
