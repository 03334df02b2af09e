"""Print which kinds of files are read and which are refused, with the words: python -m robustness.kinds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from stangmm.base.errors import DataError
from stangmm.data.tables import choose_columns, read_table

FRAME = pd.DataFrame({"a": [1.5, 3.0, 2.0], "b": [2, 4, 7]})
CSV = b"a,b\n1.5,2\n3,4\n2,7\n"


def out(write: Callable[[io.BytesIO], object]) -> bytes:
    """What is written into a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def zipped(*names: str) -> bytes:
    """A zip of tables."""

    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, "x" if name == "mimetype" else CSV)

    return out(write)


def database() -> bytes:
    """An empty one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        with sqlite3.connect(path) as connection:
            connection.execute("create table t (a real)")
        return path.read_bytes()


def workbook(sheets: int) -> bytes:
    """An Excel file."""

    def write(file: io.BytesIO) -> None:
        with pd.ExcelWriter(file, engine="openpyxl") as book:
            for i in range(sheets):
                FRAME.to_excel(book, sheet_name=f"s{i}", index=False)

    return out(write)


FILES = {
    "CSV, comma": CSV,
    "CSV, semicolon, decimal commas": b"a;b\n1,5;2\n3;4\n2;7\n",
    "TSV": CSV.replace(b",", b"\t"),
    "bars": CSV.replace(b",", b"|"),
    "blanks": CSV.replace(b",", b"  "),
    "blanks, decimal commas": b"1,5 2\n3,0 4\n2,0 7\n",
    "quoted header with ;": b'"a";"b"\n1,5;2\n3;4\n2;7\n',
    "comment lines": b"# by hand\n" + CSV,
    "numpy.savetxt with header": b"# a b\n1.5 2\n3 4\n2 7\n",
    "R write.csv": b'"","a","b"\n"1",1.5,2\n"2",3,4\n"3",2,7\n',
    "R write.table": b'"a" "b"\n"1" 1.5 2\n"2" 3 4\n"3" 2 7\n',
    "R write.table, no names": b'"1" 1.5 2\n"2" 3 4\n"3" 2 7\n',
    "UCI iris.data (no header, text column)": b"5.1,3.5,1.4,0.2,Iris-setosa\n4.9,3.0,1.4,0.2,Iris-setosa\n\n",
    "one column, decimal commas": b"wait\n3,6\n1,8\n3,3\n",
    "ids": b"id,a\n17,1.5\n4,3\n9,2\n",
    "rownames": b"rownames,a\n1,1.5\n2,3\n3,2\n",
    "UTF-8 with BOM": b"\xef\xbb\xbf" + CSV,
    "UTF-16 with BOM": CSV.decode().encode("utf-16"),
    "gzip": gzip.compress(CSV),
    "bzip2": bz2.compress(CSV),
    "xz": lzma.compress(CSV),
    "zip of one file": zipped("x.csv"),
    "JSON records": FRAME.to_json(orient="records").encode(),
    "JSON columns": FRAME.to_json().encode(),
    "JSON lines": FRAME.to_json(orient="records", lines=True).encode(),
    "Parquet": out(lambda o: FRAME.to_parquet(o)),
    "Feather": out(lambda o: FRAME.to_feather(o)),
    "Excel .xlsx, one sheet": workbook(1),
    "Stata .dta": out(lambda o: FRAME.to_stata(o, write_index=False, version=118)),
    "npy": out(lambda o: np.save(o, FRAME.to_numpy())),
    "npz of one array": out(lambda o: np.savez(o, x=FRAME.to_numpy())),
    "3,600;79.500": b"a;b\n3,600;79.500\n1,800;54.000\n",
    "commas and points between thousands only": b"a;b\n3,600;7\n1,800;5\n",
    "one cell ?": CSV + b"?,3\n",
    "one cell -": CSV + b"-,3\n",
    "one cell <0.5": CSV + b"<0.5,3\n",
    "currency": b"a,b\n$79.50,2\n$54.00,3\n",
    "percent": b"a,b\n79.5%,2\n54%,3\n",
    "words and numbers in the first line": b"a,1990\n1,2\n3,4\n",
    "names twice": b"a,b,a\n1,2,3\n",
    "a title above": b"Report\na,b\n1,2\n3,4\n",
    "short row": CSV + b"3\n",
    "Latin-1": "größe\n1\n2\n".encode("latin1"),
    "UTF-16 without BOM": CSV.decode().encode("utf-16-le"),
    "zip of two files": zipped("x.csv", "y.csv"),
    "npz of two arrays": out(lambda o: np.savez(o, x=FRAME.to_numpy(), y=FRAME.to_numpy())),
    "Excel, two sheets": workbook(2),
    "Excel .xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
    "OpenDocument": zipped("mimetype", "x.xml"),
    "nested JSON": b'[{"a": {"b": 1}}]',
    "netCDF, HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "pickle": pickle.dumps([1.0]),
    "SQLite": database(),
    "PDF": b"%PDF-1.4",
    "R .RData": b"RDX3\n",
    "SPSS .sav": b"$FL2@(#)",
    "MATLAB .mat": b"MATLAB 5.0 MAT-file",
    "damaged gzip": gzip.compress(CSV)[:-9],
    "empty": b"",
    "names only": b"a,b\n",
    "null bytes": b"a,b\n\0,2\n",
}


def main() -> None:
    """Read each, and print a row of a table in Markdown."""
    print("| file | | what is read, or said |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for kind, content in FILES.items():
            path.write_bytes(content)
            try:
                chosen = choose_columns(read_table(path))
            except DataError as error:
                words = str(error).replace(repr(str(path)), "'file'").replace("\n", " ")
                print(f"| {kind} | refused | {words} |")
                continue
            left = f"; left out: {', '.join(chosen.left_out)}" if chosen.left_out else ""
            names = ", ".join(chosen.features.columns)
            print(f"| {kind} | read | {names} ({len(chosen.features)} rows){left} |")


if __name__ == "__main__":
    main()
