"""What a file of data is by its first bytes, and the table that is in it, which pandas reads."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from stangmm.base.errors import DataError
from stangmm.data.texts import Reading, Understood, as_text, default_names, text_table

if TYPE_CHECKING:
    import pandas as pd

STDIN = "-"
_LARGEST = 2**31  # bytes of what is unpacked, or comes from a pipe

# What begins so is no table; why, and what to do.
_REFUSED = {
    b"\x89HDF\r\n\x1a\n": "is HDF5 or netCDF. What stangmm saved is read by `stangmm report` and "
    "sg.load. A table in HDF5 is read by pandas.read_hdf: save it as CSV or Parquet.",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "is an old Excel file (.xls). Save it as .xlsx or CSV.",
    b"SQLite format 3\0": "is a database. Export the table as CSV.",
    b"%PDF": "is a PDF. Save the table as CSV.",
    b"RDX": "is an R data file. In R: write.csv(x, 'x.csv', row.names = FALSE).",
    b"$FL2": "is an SPSS file. Save it as CSV.",
    b"MATLAB 5.0": "is a MATLAB file. In MATLAB: writematrix(x, 'x.csv').",
    b"\x80\x02": "is a pickle, which could run any program. Save the table as CSV or Parquet.",
    b"\x80\x03": "is a pickle, which could run any program. Save the table as CSV or Parquet.",
    b"\x80\x04": "is a pickle, which could run any program. Save the table as CSV or Parquet.",
    b"\x80\x05": "is a pickle, which could run any program. Save the table as CSV or Parquet.",
}
_BY_ENDING = {".parquet": b"PAR1", ".npy": b"\x93NUMPY", ".npz": b"PK", ".feather": b"ARROW1"}


def table_of(path: Path | str, how: Reading) -> tuple[pd.DataFrame, Understood]:
    """Read a file, or standard input.

    Raises
    ------
    DataError
        It is no table; the message says what it is.
    OSError
        It cannot be read.
    """
    if path == STDIN:
        return _read("standard input", _all(sys.stdin.buffer), "", how)
    source = Path(path)
    shown = repr(str(source))
    if source.is_dir():
        raise DataError(f"{shown} is a folder. Give the path of a file with data.")
    with source.open("rb") as file:
        regular = stat.S_ISREG(source.stat().st_mode)
        head = file.read(8)
        if regular and (head.startswith(b"PAR1") or source.suffix.lower() == ".parquet"):
            return _parquet(shown, source), Understood({"format": "Parquet"})
        content = head + (file.read() if regular else _all(file))
    return _read(shown, content, source.suffix.lower(), how)


def _all(file: IO[bytes]) -> bytes:
    content = file.read(_LARGEST)
    if len(content) == _LARGEST:
        raise DataError(f"More than {_LARGEST / 1e9:.0f} GB came through a pipe. Give a file.")
    return content


def _read(shown: str, content: bytes, ending: str, how: Reading) -> tuple[pd.DataFrame, Understood]:
    content, packed = _unpacked(shown, content)
    for head, words in _REFUSED.items():
        if content.startswith(head):
            raise DataError(f"{shown} {words}")
    reader = next((read for head, read in _READERS.items() if content.startswith(head)), None)
    if reader is None and ending in _BY_ENDING:
        reader = _READERS[_BY_ENDING[ending]]
    if reader is None and content.lstrip()[:1] in (b"[", b"{") and content.lstrip()[1:2] != b"":
        reader = _json
    if reader is not None:
        table = reader(shown, content)
        understood = Understood({"format": reader.__name__.strip("_")})
    else:
        table, understood = text_table(shown, as_text(shown, content), how)
        understood.facts = {"format": "text", **understood.facts}
    if packed:
        understood.facts = {"packed": packed, **understood.facts}
    return table, understood


def _unpacked(shown: str, content: bytes) -> tuple[bytes, str]:
    """What is packed in gzip, bzip2, xz or in a zip of one file; what is not, as it is."""
    openers: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
        b"\x1f\x8b": ("gzip", gzip.open),
        b"BZh": ("bzip2", bz2.open),
        b"\xfd7zXZ\0": ("xz", lzma.open),
    }
    try:
        for head, (name, opened) in openers.items():
            if content.startswith(head):
                with opened(io.BytesIO(content)) as file:
                    return _bounded(shown, file), name
        if content.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                names = [i.filename for i in archive.infolist() if not i.is_dir()]
                names = [name for name in names if not name.startswith("__MACOSX/")]
                if "[Content_Types].xml" in names or "mimetype" in names:
                    return content, ""  # a spreadsheet
                if names and all(name.endswith(".npy") for name in names):
                    return content, ""
                if len(names) != 1:
                    raise DataError(
                        f"{shown} holds {len(names)} files, {names[:5]}. Unpack it and give one."
                    )
                with archive.open(names[0]) as file:
                    return _bounded(shown, file), "zip"
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError,
            NotImplementedError) as error:  # fmt: skip
        raise DataError(f"{shown} is damaged and cannot be unpacked: {error}.") from error
    return content, ""


def _bounded(shown: str, file: IO[bytes]) -> bytes:
    content = file.read(_LARGEST)
    if len(content) == _LARGEST:
        raise DataError(f"{shown} is more than {_LARGEST / 1e9:.0f} GB when it is unpacked.")
    return content


def _array_table(shown: str, array: Any) -> pd.DataFrame:
    import pandas as pd

    if array.dtype.names:
        return pd.DataFrame(array)
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise DataError(f"{shown} must hold an array of shape (N, D) or (N,), got {array.shape}.")
    return pd.DataFrame(array, columns=default_names(array.shape[1]))


def _npy(shown: str, content: bytes) -> pd.DataFrame:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # numpy reads the head of such a file as Python's text
        raise DataError(f"{shown} is not an array of numbers in npy format: {error}") from error
    return _array_table(shown, array)


def _npz(shown: str, content: bytes) -> pd.DataFrame:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            names = list(archive.files)
            tables = [name for name in names if archive[name].ndim == 2] or names
            if len(tables) != 1:
                raise DataError(
                    f"{shown} holds the arrays {names}; give a file with one table (np.save)."
                )
            array = archive[tables[0]]
    except DataError:
        raise
    except Exception as error:  # numpy reads the head of such a file as Python's text
        raise DataError(f"{shown} is not an npz file of arrays of numbers: {error}") from error
    return _array_table(shown, array)


def _needs(package: str, kind: str) -> None:
    if find_spec(package) is None:
        raise DataError(
            f"{kind} files are read by {package}, which is not installed. Run `pip install "
            f"{package}`, or save the data as CSV."
        )


def _parquet(shown: str, source: Any) -> pd.DataFrame:
    import pandas as pd

    _needs("pyarrow", "Parquet")
    try:
        table = pd.read_parquet(source, engine="pyarrow")
    except Exception as error:  # pyarrow's own errors, which cannot be named without it
        raise DataError(f"{shown} is not a Parquet file: {error}") from error
    return table


def _parquet_content(shown: str, content: bytes) -> pd.DataFrame:
    return _parquet(shown, io.BytesIO(content))


def _feather(shown: str, content: bytes) -> pd.DataFrame:
    import pandas as pd

    _needs("pyarrow", "Feather")
    try:
        return pd.read_feather(io.BytesIO(content))
    except Exception as error:  # pyarrow's own errors
        raise DataError(f"{shown} is not a Feather file: {error}") from error


def _stata(shown: str, content: bytes) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_stata(io.BytesIO(content))
    except Exception as error:  # whatever bytes lead to
        raise DataError(f"{shown} is not a Stata file that pandas can read: {error}") from error


def _excel(shown: str, content: bytes) -> pd.DataFrame:
    """The one sheet of a workbook, its first row as names where it is words above numbers."""
    import pandas as pd

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise DataError(f"{shown} is damaged and cannot be unpacked: {error}.") from error
    if any(name.endswith(".npy") for name in names):
        return _npz(shown, content)
    if "mimetype" in names:
        raise DataError(f"{shown} is an OpenDocument file. Save the table as .xlsx or CSV.")
    if size > _LARGEST:
        raise DataError(f"{shown} is more than {_LARGEST / 1e9:.0f} GB when it is unpacked.")
    _needs("openpyxl", "Excel")
    try:
        sheets = pd.read_excel(io.BytesIO(content), sheet_name=None, header=None, engine="openpyxl")
    except Exception as error:  # whatever bytes lead to
        raise DataError(f"{shown} is not an Excel file that openpyxl can read: {error}") from error
    filled = {name: sheet for name, sheet in sheets.items() if sheet.size}
    if len(filled) != 1:
        raise DataError(f"{shown} has the sheets {list(filled)}. Save the one you want as CSV.")
    (sheet,) = filled.values()
    table, _ = text_table(shown, sheet.to_csv(index=False, header=False), Reading())
    return table


def _json(shown: str, content: bytes) -> pd.DataFrame:
    """Records, or lists by column; lines of records, too."""
    import pandas as pd

    text = as_text(shown, content)
    try:
        try:
            value = json.loads(text)
        except ValueError:
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        simple = (int, float, str, bool, type(None))
        if isinstance(value, dict):
            value = {k: list(v.values()) if isinstance(v, dict) else v for k, v in value.items()}
            cells = [cell for column in value.values() for cell in column]
            table = pd.DataFrame(value)
        else:
            cells = [c for r in value for c in (r.values() if isinstance(r, dict) else [r])]
            cells = [c for cell in cells for c in (cell if isinstance(cell, list) else [cell])]
            table = pd.DataFrame(value)
            if not any(isinstance(row, dict) for row in value):
                table.columns = pd.Index(default_names(table.shape[1]))
        if not all(isinstance(cell, simple) for cell in cells):
            raise ValueError("a cell is neither a number nor text")
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DataError(
            f"{shown} is not a table in JSON ({str(error)[:200]}). Write records, such as "
            '[{"a": 1, "b": 2}, ...], or CSV.'
        ) from error
    return table


_READERS: dict[bytes, Callable[[str, bytes], pd.DataFrame]] = {
    b"PAR1": _parquet_content,
    b"\x93NUMPY": _npy,
    b"ARROW1": _feather,
    b"FEA1": _feather,
    b"PK": _excel,
    b"<stata_dta>": _stata,
}
