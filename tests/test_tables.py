"""Tables are read as people write them, or refused with the reason."""

from __future__ import annotations

import gzip
import importlib.util
import lzma
import pickle
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stangmm.data.formats
from stangmm.base.errors import DataError
from stangmm.data.tables import choose_columns, read_table

NUMBERS = np.array([[1.5, 2.0], [3.0, -4.25]])


def written(tmp_path: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1.5,2\n3,-4.25\n",
        "a;b\n1.5;2\n3;-4.25\n",
        "a;b\n1,5;2\n3;-4,25\n",
        "a\tb\n1.5\t2\n3\t-4.25",
        "a|b\n1.5|2\n3|-4.25\n",
        "a b\n1.5  2\n 3 -4.25\n",
        "\ufeffa,b\r\n1.5,2\r\n3,-4.25\r\n",
        '"a" , "b"\n1.5, 2\n\n3, -4.25\n\n',
    ],
    ids=["comma", "semicolon", "decimal commas", "tab", "bar", "blanks", "excel", "quotes"],
)
def test_separators_decimals_and_line_ends_are_recognized(tmp_path: Path, text: str) -> None:
    table = read_table(written(tmp_path, text))
    assert list(table.columns) == ["a", "b"]
    np.testing.assert_array_equal(table.to_numpy(), NUMBERS)


def test_a_first_line_of_numbers_is_no_header_unless_the_user_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, "1.5,2\n3,-4.25\n")
    assert list(read_table(path).columns) == ["x1", "x2"]
    np.testing.assert_array_equal(read_table(path).to_numpy(), NUMBERS)
    named = read_table(path, header=True)
    assert list(named.columns) == ["1.5", "2"]
    assert len(named) == 1
    marked = written(tmp_path, "\ufeff1.5,2\n3,-4.25\n", "marked.csv")
    np.testing.assert_array_equal(read_table(marked).to_numpy(), NUMBERS)
    words = written(tmp_path, "a,b\n1,2\n", "words.csv")
    assert len(read_table(words, header=False)) == 2


def test_one_column_needs_no_separator(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "9.2\n9.4\n")).to_dict("list") == {"x": [9.2, 9.4]}
    table = read_table(written(tmp_path, "wait in minutes\n9\n8\n"))
    assert table.to_dict("list") == {"wait in minutes": [9, 8]}


def test_empty_fields_are_missing_values(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "a,b\n1,\n,2\nNA,nan\n"))
    np.testing.assert_array_equal(table.to_numpy(), [[1, np.nan], [np.nan, 2], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("a,b\n", "has no rows"),
        ("a,b\n1,2\n3\n", "2 values as the first has, got 1 in line 3"),
        ("a,b\n1,2,3\n4,5,6\n", "2 values as the first has, got 3 in line 2"),
        ("a,a \n1,2\n", "different names"),
        ('a,b\n1,"2\n', "Correct the file|cannot be read as a table"),
        (b"a,b\n\xff\xfe,2\n", "not text in UTF-8"),
        (b"a,b\n\0,2\n", "null bytes"),
    ],
    ids=[
        *("nothing", "blank", "header only", "short row", "long rows"),
        *("twice", "open quote", "latin", "binary"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        read_table(written(tmp_path, text))


def test_blanks_that_tell_no_fields_apart_are_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has text, such as '1 2'"):
        choose_columns(read_table(written(tmp_path, "a b\n1 2\n3 4 5\n")))


def test_absent_files_and_folders_are_refused(tmp_path: Path) -> None:
    for ending in ("csv", "npy", "parquet"):
        with pytest.raises(DataError, match="No such file"):
            read_table(tmp_path / f"absent.{ending}")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)


def test_npy_arrays_get_the_names_that_arrays_get_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, NUMBERS)
    assert list(read_table(path).columns) == ["x1", "x2"]
    np.testing.assert_array_equal(read_table(path).to_numpy(), NUMBERS)
    np.save(path, NUMBERS[0])
    assert read_table(path).to_dict("list") == {"x": [1.5, 2.0]}
    np.save(path, np.array([(1.0, 2), (3.0, 4)], dtype=[("a", float), ("b", int)]))
    assert read_table(path).to_dict("list") == {"a": [1.0, 3.0], "b": [2, 4]}


def test_npy_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match=r"got \(2, 2, 2\)"):
        read_table(path)
    np.save(path, np.array([None, "a"]), allow_pickle=True)
    with pytest.raises(DataError, match="not an array of numbers"):
        read_table(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="not an array of numbers"):
        read_table(path)


def test_parquet_without_its_reader_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stangmm.data.formats, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install pyarrow"):
        read_table(written(tmp_path, b"PAR1", "x.parquet"))


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is an extra")
def test_parquet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    frame = pd.DataFrame({"a": NUMBERS[:, 0], "t": ["x", "y"]})
    frame.to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path), frame, check_dtype=False)
    with pytest.raises(DataError, match="not a Parquet file"):
        read_table(written(tmp_path, b"PAR1", "y.parquet"))


def test_columns_with_text_or_without_names_are_left_out_and_said(tmp_path: Path) -> None:
    text = ",a,place,b,when\n1,2,north,3,May\n2,4,south,5,June\n"
    chosen = choose_columns(read_table(written(tmp_path, text)))
    assert list(chosen.features.columns) == ["a", "b"]
    assert set(chosen.left_out) == {"Unnamed: 0", "place", "when"}
    assert "'north'" in chosen.left_out["place"]
    assert "'May'" in chosen.left_out["when"]
    assert chosen.weights is None
    assert chosen.labels is None


def test_columns_are_taken_in_the_order_asked_for() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0], "t": ["x", "y"]})
    assert list(choose_columns(table, columns=["c", "a"]).features.columns) == ["c", "a"]
    assert list(choose_columns(table, exclude=["b", "t"]).features.columns) == ["a", "c"]
    with pytest.raises(DataError, match=r"no column 'z'; there are \['a', 'b', 'c', 't'\]"):
        choose_columns(table, columns=["z"])
    with pytest.raises(DataError, match="'t' cannot be a feature: it has text, such as 'x'"):
        choose_columns(table, columns=["a", "t"])
    with pytest.raises(DataError, match="No column is left"):
        choose_columns(table, exclude=["a", "b", "c"])


def test_weights_and_labels_are_no_features() -> None:
    table = pd.DataFrame(
        {"a": [1.0, 2.0, 3.0], "n": [1, 2, 1], "known": [0, None, 1], "word": ["v", None, "u"]}
    )
    chosen = choose_columns(table, weights="n", labels="known", exclude=["word"])
    assert list(chosen.features.columns) == ["a"]
    np.testing.assert_array_equal(chosen.weights, [1, 2, 1])
    np.testing.assert_array_equal(chosen.labels, [0, np.nan, 1])
    assert chosen.classes == ()
    chosen = choose_columns(table, columns=["a"], labels="word")
    np.testing.assert_array_equal(chosen.labels, [1, -1, 0])
    assert chosen.classes == ("u", "v")
    with pytest.raises(DataError, match="cannot be sample weights"):
        choose_columns(table, weights="word")


def test_parquet_is_left_to_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow installed, that pandas is asked for it, and that its errors are said."""
    asked: dict[str, Any] = {}

    def read_parquet(source: Path, engine: str) -> pd.DataFrame:
        asked.update(source=source, engine=engine)
        if source.read_bytes() != b"PAR1":
            raise RuntimeError("magic bytes not found")
        return pd.DataFrame({1: [1.0]})

    monkeypatch.setattr(stangmm.data.formats, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(sys.modules["pandas"], "read_parquet", read_parquet)
    path = written(tmp_path, b"PAR1", "x.PARQUET")
    assert read_table(path).to_dict("list") == {"1": [1.0]}
    assert asked == {"source": path, "engine": "pyarrow"}
    with pytest.raises(DataError, match="not a Parquet file: magic bytes not found"):
        read_table(written(tmp_path, b"x", "y.parquet"))


# Files as people have them ------------------------------------------------------------------------


AB = {"a": [1.5, 3], "b": [2, -4.25]}
THOUSANDS = {"a": [1234.5, 1300], "b": [2, 3.25]}
READ = {
    "no header, a column of text": (
        "5.1,3.5,Iris-setosa\n4.9,3.0,Iris-setosa\n4.7,3.2,Iris-setosa\n",
        {"x1": [5.1, 4.9, 4.7], "x2": [3.5, 3.0, 3.2]},
    ),
    "one column, decimal commas": ("wait\n3,6\n1,8\n3,3\n", {"wait": [3.6, 1.8, 3.3]}),
    "decimal commas and thousands": ("a;b\n1.234,5;2\n1.300;3,25\n", THOUSANDS),
    "thousands with commas": ("a;b\n1,234.5;2\n1,300;3.25\n", THOUSANDS),
    "write.table": ('"a" "b"\n"1" 1.5 2\n"2" 3 -4.25\n', AB),
    "write.table, names": ('a b\nx 1.5 2\ny 3 -4.25\n', AB),
    "write.csv": ('"","a","b"\n"1",1.5,2\n"2",3,-4.25\n', AB),
    "quoted headers": ('"a";"b"\n"1,5";2\n3;-4,25\n', AB),
    "comment lines": ("# made by hand\n# today\na,b\n1.5,2\n3,-4.25\n", AB),
    "savetxt": ("# a b\n1.5 2\n3 -4.25\n", AB),
    "numbered rows": ("id,a\n7,1.5\n3,2\n5,3\n", {"a": [1.5, 2, 3]}),
    "rownames": ("rownames,a\n1,1.5\n2,2\n", {"a": [1.5, 2]}),
    "UTF-16": ("\ufeffa,b\n1.5,2\n3,-4.25\n".encode("utf-16-le"), AB),
    "JSON records": ('[{"a": 1.5, "b": 2}, {"a": 3, "b": -4.25}]', AB),
    "JSON columns": ('{"a": [1.5, 3], "b": [2.0, -4.25]}', AB),
    "JSON lines": ('{"a": 1.5, "b": 2}\n{"a": 3, "b": -4.25}\n', AB),
    "gzip": (gzip.compress(b"a,b\n1.5,2\n3,-4.25\n"), AB),
    "xz": (lzma.compress(b"a,b\n1.5,2\n3,-4.25\n"), AB),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_what_is_unambiguous_is_read(kind: str, tmp_path: Path) -> None:
    text, expected = READ[kind]
    chosen = choose_columns(read_table(written(tmp_path, text)))
    assert chosen.features.to_dict("list") == expected


REFUSED = {
    "decimals or thousands": ("a;b\n3,600;79.500\n1,800;54.000\n", {}, "--decimal , or --thou"),
    "question mark": ("a,b\n1,2\n?,3\n4,5\n", {}, r"'\?', among its numbers, in line 3.*--na '\?'"),
    "dash": ("a,b\n1,2\n-,3\n4,5\n", {}, "'-', among its numbers, in line 3.*--na -"),
    "below a limit": ("a,b\n1,2\n<0.5,3\n4,5\n", {}, "'<0.5', among its numbers, in line 3"),
    "currency": ("a,b\n$79.50,2\n$54.00,3\n", {}, r"'\$79.50', among its numbers.*--exclude a"),
    "percent": ("a,b\n79.5%,2\n54%,3\n", {}, "'79.5%', among its numbers"),
    "words and numbers": ("a,1990\n1,2\n3,4\n", {}, "--header or --no-header"),
    "names twice": ("a,b,a\n1,2,3\n", {}, "different names.*--no-header"),
    "a title": ("Report of 2020\na,b\n1,2\n", {}, "--skip"),
    "pickle": (pickle.dumps([1.0]), {}, "could run any program"),
    "netCDF": (b"\x89HDF\r\n\x1a\n\0\0", {}, "stangmm report"),
    "UTF-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), {}, "UTF-16"),
    "damaged gzip": (gzip.compress(b"a,b\n1,2\n")[:-9], {}, "cannot be unpacked"),
    "nested JSON": ('[{"a": {"b": 1}}]', {}, "not a table in JSON"),
    "two signs of a kind": ("a;b\n1,5;2\n", {"decimal": ",", "thousands": ","}, "Give two"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_ambiguous_is_refused_with_the_option_that_decides(
    kind: str, tmp_path: Path
) -> None:
    text, how, words = REFUSED[kind]
    with pytest.raises(DataError, match=words):
        choose_columns(read_table(written(tmp_path, text), **how))


DECIDED = {
    "decimal": ("a;b\n3,600;79,500\n", {"decimal": ","}, [[3.6, 79.5]]),
    "thousands": ("a;b\n3,600;79,500\n", {"thousands": ","}, [[3600, 79500]]),
    "na": ("a,b\n1,2\n?,3\n", {"na": ["?"]}, [[1, 2], [np.nan, 3]]),
    "header": ("a,1990\n1,2\n", {"header": True}, [[1, 2]]),
    "skip": ("Report of 2020\na,b\n1,2\n", {"skip": 1}, [[1, 2]]),
    "sep": ("a b,c\n1 2,5\n", {"sep": " ", "decimal": ","}, [[1, 2.5]]),
    "tab": ("a\tb\n1\t2\n", {"sep": "tab"}, [[1, 2]]),
}


@pytest.mark.parametrize("option", DECIDED)
def test_each_option_decides(option: str, tmp_path: Path) -> None:
    text, how, expected = DECIDED[option]
    table = read_table(written(tmp_path, text), **how)
    np.testing.assert_array_equal(choose_columns(table).features.to_numpy(), expected)


def test_columns_are_left_out_by_exclude_index_and_columns(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "id,a,b\n1,2,?\n2,4,3\n9,5,6\n"))
    assert list(choose_columns(table, exclude=["b"]).features.columns) == ["a"]
    assert list(choose_columns(table, columns=["id", "a"]).features.columns) == ["id", "a"]
    chosen = choose_columns(table, index=["b"])
    assert list(chosen.features.columns) == ["a"]
    assert set(chosen.left_out) == {"id"}
    assert chosen.read["separator"] == ","


def test_zip_and_npz_hold_one_table(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.csv", "a,b\n1.5,2\n3,-4.25\n")
    np.testing.assert_array_equal(read_table(path).to_numpy(), NUMBERS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.csv", "a,b\n")
    with pytest.raises(DataError, match="holds 2 files"):
        read_table(path)
    np.savez(tmp_path / "x.npz", x=NUMBERS)
    np.testing.assert_array_equal(read_table(tmp_path / "x.npz").to_numpy(), NUMBERS)
    np.savez(tmp_path / "x.npz", x=NUMBERS, y=NUMBERS)
    with pytest.raises(DataError, match="holds the arrays"):
        read_table(tmp_path / "x.npz")


def test_stata_feather_and_excel_are_read_by_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame(NUMBERS, columns=["a", "b"])
    frame.to_stata(tmp_path / "x.dta", write_index=False, version=118)
    np.testing.assert_array_equal(read_table(tmp_path / "x.dta").to_numpy(), NUMBERS)
    frame.to_feather(tmp_path / "x.feather")
    np.testing.assert_array_equal(read_table(tmp_path / "x.feather").to_numpy(), NUMBERS)
    frame.to_excel(tmp_path / "x.xlsx", index=False)
    np.testing.assert_array_equal(read_table(tmp_path / "x.xlsx").to_numpy(), NUMBERS)
    assert list(read_table(tmp_path / "x.xlsx").columns) == ["a", "b"]
