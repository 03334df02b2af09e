"""Tables: data from CSV, Parquet and npy files, and which of their columns are features."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.base.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# The comma last: where numbers have decimal commas, fields are told apart by something else.
_SEPARATORS = ("\t", ";", "|", ",")
_SAMPLE_LINES = 20
_UNNAMED = re.compile(r"Unnamed: \d+")  # what pandas calls a column without a name


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
    """

    features: pd.DataFrame
    weights: Any
    labels: Any
    classes: tuple[str, ...]
    left_out: dict[str, str]


def read_table(path: str | os.PathLike[str], *, header: bool | None = None) -> pd.DataFrame:
    """Read a table.

    The ending says what it is: ``.parquet`` and ``.npy`` are these, everything else is text with a
    separator: tab, semicolon, bar, comma or blanks.

    Parameters
    ----------
    path : path
    header : bool, optional
        Whether the first line of a text has names; by default it has if not all of it is numbers.

    Returns
    -------
    DataFrame
        Columns without names are called ``x1 ... xD``, a single one ``x``.

    Raises
    ------
    DataError
        There is no such file, or it is no table; the message says what is wrong with it.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        raise DataError(f"{str(source)!r} is a folder. Give the path of a file with data.")
    read = {".parquet": _parquet, ".npy": _npy}.get(source.suffix.lower())
    try:
        table = _text(source, header) if read is None else read(source)
    except OSError as error:
        raise DataError(f"{str(source)!r} cannot be read: {error.strerror or error}.") from error
    if table.empty:
        raise DataError(f"{str(source)!r} has no rows. Give a file with at least one.")
    if not table.columns.is_unique:
        twice = sorted(set(table.columns[table.columns.duplicated()]))
        raise DataError(f"Columns of {str(source)!r} must have different names, got {twice} twice.")
    return table


def choose_columns(
    table: pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    weights: str | None = None,
    labels: str | None = None,
) -> Columns:
    """Choose the features, sample weights and labels among the columns of a table.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str, optional
        The features, in this order; by default every column of numbers that has a name and no
        other purpose.
    exclude : sequence of str
        Columns that are no features.
    weights, labels : str, optional
        The columns of sample weights and of known components. Labels that are text are numbered in
        alphabetical order.

    Raises
    ------
    DataError
        There is no such column, a chosen one has text, or no feature is left.
    """
    for name in (*(columns or ()), *exclude, *filter(None, (weights, labels))):
        if name not in table.columns:
            raise DataError(f"There is no column {name!r}; there are {list(table.columns)}.")
    if columns is not None:
        left_out: dict[str, str] = {}
        features = _chosen(table, columns)
    else:
        taken = {*exclude, weights, labels}
        features, left_out = _usable([name for name in table.columns if name not in taken], table)
    known, classes = (None, ()) if labels is None else _numbered(table[labels])
    return Columns(
        table[features],
        None if weights is None else _numbers(table, weights, "sample weights"),
        known,
        classes,
        left_out,
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
        elif reason := _no_number(table[name]):
            left_out[name] = reason
    features = [name for name in names if name not in left_out]
    if not features:
        reasons = "".join(f"\n  {name!r} {reason}" for name, reason in left_out.items())
        raise DataError(f"No column is left that can be a feature.{reasons}")
    return features, left_out


def _numbers(table: pd.DataFrame, name: str, purpose: str) -> Any:
    if reason := _no_number(table[name]):
        raise DataError(
            f"Column {name!r} cannot be {purpose}: it {reason}. Choose others, or correct the file."
        )
    return table[name].to_numpy(dtype=float, na_value=np.nan)


def _no_number(column: pd.Series[Any]) -> str:
    """Why a column is not one of numbers; empty if it is."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        return ""
    values = column.astype(object)
    text = [v for v in values[pd.to_numeric(values, errors="coerce").isna()] if isinstance(v, str)]
    return f"has text, such as {text[0]!r}" if text else f"has values of type {column.dtype}"


def _numbered(column: pd.Series[Any]) -> tuple[Any, tuple[str, ...]]:
    """Labels as numbers of components, and their names where they were text."""
    import pandas as pd

    if not _no_number(column):
        return column.to_numpy(dtype=float, na_value=np.nan), ()
    codes, classes = pd.factorize(column, sort=True)
    return codes, tuple(map(str, classes))


def _npy(source: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        array = np.load(source, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{str(source)!r} is no array of numbers in npy format: {error}") from error
    if array.dtype.names:
        return pd.DataFrame(array)
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise DataError(
            f"{str(source)!r} must hold an array of shape (N, D) or (N,), got {array.shape}."
        )
    return pd.DataFrame(array, columns=_default_names(array.shape[1]))


def _parquet(source: Path) -> pd.DataFrame:
    import pandas as pd

    source.open("rb").close()  # whether it can be read at all, said as for every other file
    if find_spec("pyarrow") is None:
        raise DataError(
            "Parquet files are read by pyarrow, which is not installed. Run `pip install pyarrow`, "
            "or save the data as CSV."
        )
    try:
        table = pd.read_parquet(source, engine="pyarrow")
    except Exception as error:  # pyarrow's own errors, which cannot be named without it
        raise DataError(f"{str(source)!r} is no Parquet file: {error}") from error
    return table.set_axis([str(name) for name in table.columns], axis="columns")


def _text(source: Path, header: bool | None) -> pd.DataFrame:
    import pandas as pd

    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(source)!r} is no text in UTF-8 ({error.reason} at byte {error.start}). Save it "
            "as CSV in UTF-8; the endings .parquet and .npy are for these formats."
        ) from error
    if "\0" in text:
        raise DataError(f"{str(source)!r} is no text: it has null bytes.")
    sample = list(islice((line for line in io.StringIO(text) if line.strip()), _SAMPLE_LINES))
    if not sample:
        raise DataError(f"{str(source)!r} is empty. Give a file with data.")
    separator = _separator(sample)
    first = _fields(sample[0], separator)
    decimal = _decimal(sample, separator)
    named = header
    if named is None:
        named = not all(_is_number(field, decimal) for field in first)
    try:
        _check_widths(source, text, separator)
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator or r"\s+",
            decimal=decimal,
            header=0 if named else None,
            names=None if named else _default_names(len(first)),
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
        )
    except (csv.Error, pd.errors.ParserError) as error:
        raise DataError(f"{str(source)!r} cannot be read as a table: {error}") from error
    return table.rename(columns=str.strip)


def _separator(sample: list[str]) -> str:
    """What tells fields apart; empty for blanks."""
    for separator in _SEPARATORS:
        if len(_fields(sample[0], separator)) > 1:
            return separator
    widths = {len(line.split()) for line in sample}
    return "" if len(widths) == 1 and widths != {1} else ","


def _decimal(sample: list[str], separator: str) -> str:
    """What stands before the decimals: a comma where no field is told apart by it."""
    if separator == ",":
        return "."
    fields = [field for line in sample for field in _fields(line, separator)]
    commas = any(_is_number(field, ",") and "," in field for field in fields)
    points = any(_is_number(field, ".") and "." in field for field in fields)
    return "," if commas and not points else "."


def _fields(line: str, separator: str) -> list[str]:
    if not separator:
        return line.split()
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _is_number(field: str, decimal: str) -> bool:
    """Whether a field holds a number, or nothing."""
    text = field.strip().replace(decimal, ".")
    if text.lower() in ("", "na", "n/a"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_widths(source: Path, text: str, separator: str) -> None:
    """Raise for rows of different lengths, which pandas would fill up or take for names of rows."""
    lines = io.StringIO(text, newline="")
    if separator:
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    else:
        reader = csv.reader((" ".join(line.split()) for line in lines), delimiter=" ")
    width = 0
    for row in reader:
        width = width or len(row)
        if row and len(row) != width:  # a blank line is an empty row
            raise DataError(
                f"Every row of {str(source)!r} must have {width} values as the first has, got "
                f"{len(row)} in line {reader.line_num}. Correct the file"
                + (f" (fields are told apart by {separator!r})." if separator else ".")
            )


def _default_names(n_columns: int) -> list[str]:
    """Names that data without any get everywhere; see `Dataset`."""
    return ["x"] if n_columns == 1 else [f"x{j + 1}" for j in range(n_columns)]
