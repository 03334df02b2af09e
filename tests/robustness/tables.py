"""Read many tables, as people write them and damaged: python -m robustness.tables --files 100000.

Half of the files hold a known table in a random dress: separator, decimal mark, thousands, names,
quotes, comments, row names, missing values, encoding, packing. What is read must be the table, to
the last number and row, or be refused by a DataError: everything else is a wrong answer. The other
half is such a file with changed bytes: any table will do, but no other error.
"""

from __future__ import annotations

import argparse
import bz2
import collections
import gzip
import io
import json
import random
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from robustness.mutations import changed_bytes
from stangmm.base.errors import DataError
from stangmm.data.tables import choose_columns, read_table


def number(value: float, digits: int, decimal: str, thousands: str) -> str:
    """A number as it is written in some country."""
    text = f"{value:,.{digits}f}" if thousands else f"{value:.{digits}f}"
    return text.replace(",", "\0").replace(".", decimal).replace("\0", thousands)


def dressed(rng: random.Random) -> tuple[bytes, np.ndarray, str]:
    """A file, the table that is in it, and a word on its dress."""
    n, d = rng.choice([1, 2, 3, 8, 30]), rng.choice([1, 2, 3, 4])
    digits = rng.choice([0, 1, 2, 3])
    x = np.round(
        np.array([[rng.gauss(0, rng.choice([1, 50, 5000])) for _ in range(d)] for _ in range(n)]),
        digits,
    )
    x += 0.0  # no negative zero
    sep = rng.choice([",", ";", "\t", "|", " ", ","])
    decimal = rng.choice([".", ","]) if sep != "," else "."
    thousands = "" if rng.random() < 0.8 or sep in (",", " ") else ("." if decimal == "," else ",")
    names = rng.choice([None, list("abcd")[:d], ["height in cm", "größe", "x.1", "n"][:d]])
    if not digits and thousands == ".":  # points alone stand before decimals, by convention
        thousands = ""
    if (
        "," in (decimal, thousands) and d == 1 and names is None
    ):  # and two numbers with a comma are two
        names = ["a"]
    if sep == " " and names is not None:
        names = list("abcd")[:d]
    quote = rng.random() < 0.3
    rows = [[number(v, digits, decimal, thousands) for v in row] for row in x]
    if rng.random() < 0.2 and n > 2 and d > 1:
        i, j = rng.randrange(n), rng.randrange(d)
        rows[i][j], x[i, j] = rng.choice(["", "NA"]) if sep != " " else "NA", np.nan
    text_column = rng.random() < 0.3 and sep != " "
    if text_column:
        rows = [[*row, f"kind {i % 3}"] for i, row in enumerate(rows)]
    head = None if names is None else [*names, *(["kind"] if text_column else [])]
    row_names = rng.random() < 0.2
    if row_names:
        rows = [[f'"{i + 1}"', *row] for i, row in enumerate(rows)]
        if head is not None and rng.random() < 0.5:
            head = ['""', *head]
    lines = [sep.join(f'"{h}"' if quote and '"' not in h else h for h in head)] if head else []
    lines += [sep.join(row) for row in rows]
    if rng.random() < 0.2:
        lines = ["# a comment", *lines]
    end = rng.choice(["\n", "\r\n", "\n", "\n\n"])
    text = end.join(lines) + rng.choice(["", end])
    content = text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-8"]))
    pack = rng.choice([bytes, bytes, bytes, gzip.compress, bz2.compress])
    dress = f"{sep!r} {decimal!r} {thousands!r} {'names' if names else 'none'} rows {row_names} text {text_column}"
    return pack(content), x, dress


def other_formats(rng: random.Random) -> bytes:
    """Formats that are no text."""
    frame = pd.DataFrame({"a": [1.5, 2.0, 3.0], "b": [1, 2, 3]})
    out = io.BytesIO()
    match rng.randrange(6):
        case 0:
            np.save(out, frame.to_numpy())
        case 1:
            frame.to_parquet(out)
        case 2:
            frame.to_feather(out)
        case 3:
            frame.to_excel(out, index=False)
        case 4:
            frame.to_stata(out, write_index=False, version=118)
        case _:
            out.write(json.dumps(frame.to_dict("records")).encode())
    return out.getvalue()


def read(path: Path) -> np.ndarray:
    """What the command line makes of a file."""
    return choose_columns(read_table(path)).features.to_numpy(dtype=float, na_value=np.nan)


def main() -> None:
    """Files in their dress, then with changed bytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    counted: collections.Counter[str] = collections.Counter()
    told: collections.Counter[str] = collections.Counter()
    binary = [other_formats(rng) for _ in range(40)]

    def fault(kind: str, words: str, content: bytes) -> None:
        counted[f"{kind}: FAULT"] += 1
        told[words] += 1
        if told[words] <= 2:
            if kind == "dressed" and content[:2] in (b"BZ", b"\x1f\x8b"):
                content = (bz2 if content[:2] == b"BZ" else gzip).decompress(content)
            print(f"{kind}: {words}\n    {content[:150]!r}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "data"
        for i in range(arguments.files):
            kind = "dressed" if i % 2 == 0 else "changed"
            content, x, dress = dressed(rng)
            if kind == "changed":
                content = changed_bytes(content if rng.random() < 0.8 else rng.choice(binary), rng)
            path.write_bytes(content)
            began = time.monotonic()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    found = read(path)
            except DataError:
                counted[f"{kind}: refused"] += 1
                continue
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                ours = [
                    f"{f.filename.split('/')[-1]}:{f.lineno}"
                    for f in frames
                    if "stangmm" in f.filename
                ]
                fault(kind, f"{type(error).__name__} {ours[-2:]} {str(error)[:150]}", content)
                continue
            if time.monotonic() - began > 30:
                fault(kind, "more than 30 s", content)
            elif kind == "dressed" and not (
                found.shape == x.shape and np.array_equal(found, x, equal_nan=True)
            ):
                fault(kind, f"a wrong answer: {dress}", content)
            else:
                counted[f"{kind}: read"] += 1
    for what, n in sorted(counted.items()):
        print(f"{n:8d}  {what}")


if __name__ == "__main__":
    main()
