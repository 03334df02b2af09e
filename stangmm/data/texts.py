"""Tables as text: what tells fields apart, what stands before decimals, whether a line has names.

pandas reads the fields. What is decided here is decided by the whole text or not at all: where two
readings are possible, the error names the option that decides.
"""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from stangmm.base.checked import shown as shown_value
from stangmm.base.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# The comma last: where numbers have decimal commas, fields are told apart by something else.
_SEPARATORS = ("\t", ";", "|", ",")
_SAMPLE_LINES = 200
MISSING = ("", "na", "n/a", "nan", "null", "none", "#n/a")  # as pandas reads them, in any case
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
_SIGNS = "$€£¥%<>≤≥~≈± \u00a0'"  # beside digits in what is nearly a number
_ENCODINGS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


@dataclass(frozen=True)
class Reading:
    """How a table is to be read; what is left out is taken from the table.

    Attributes
    ----------
    sep, decimal, thousands : str or None
        What tells fields apart, and what stands before decimals and between thousands.
    na : tuple of str
        What a missing value is written as, besides nothing, NA, NaN and the like.
    header : bool or None
        Whether the first line has names.
    skip : int
        How many lines at the beginning are no table.
    """

    sep: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    na: tuple[str, ...] = ()
    header: bool | None = None
    skip: int = 0


@dataclass
class Understood:
    """How a table was read, for the user: also where that failed."""

    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """In words."""
        return ", ".join(f"{name} {value!r}" for name, value in self.facts.items())


def as_text(shown: str, content: bytes) -> str:
    """Decode a text: UTF-8, or what a mark at its beginning says.

    Raises
    ------
    DataError
        It is no text.
    """
    marks = sorted(_ENCODINGS, key=len, reverse=True)
    encoding = next((_ENCODINGS[m] for m in marks if content.startswith(m)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{shown} is not text in {encoding.upper().removesuffix('-SIG')} ({error.reason} at "
            f"byte {error.start}). Save it as CSV in UTF-8, such as by `iconv -f latin1 -t utf-8`."
        ) from error
    if "\0" in text:
        raise DataError(
            f"{shown} is not text: it has null bytes. If it is UTF-16, save it with a byte order "
            "mark (BOM), or as UTF-8."
        )
    return text


def text_table(shown: str, text: str, how: Reading) -> tuple[pd.DataFrame, Understood]:
    """Read a table from text.

    Raises
    ------
    DataError
        It is none, or can be read in more than one way.
    """
    import pandas as pd

    understood = Understood()
    lines, names_line, first_line = _without_comments(text, how.skip)
    sample = list(islice((line for line in lines if line.strip()), _SAMPLE_LINES))
    if not sample:
        raise DataError(f"{shown} is empty. Give a file with data.")
    separator = _separator(sample) if how.sep is None else _given_separator(how.sep)
    rows = [_fields(line, separator) for line in sample]
    decimal = how.decimal
    if how.sep is None and decimal in (None, ",") and _one_column_of_commas(shown, rows, separator):
        separator, decimal = ";", ","
        rows = [_fields(line, separator) for line in sample]
    understood.facts["separator"] = separator or "blanks"
    decimal, thousands = _number_signs(shown, lines, separator, how, decimal, understood)
    understood.facts |= {"decimal": decimal, "thousands": thousands}
    has_row_names = _has_row_names(sample, rows, how.header)
    named = how.header
    if named is None:
        named = has_row_names or _first_line_has_names(
            shown, rows, decimal, thousands, how.na, understood
        )
    understood.facts["header"] = bool(named)
    names: list[str] | None = None
    if named:
        names = [name.strip() for name in rows[0]]
    elif names_line is not None and how.header is None:  # "# a b", as numpy.savetxt writes them
        given = _fields(names_line.lstrip("#% "), separator)
        if len(given) == len(rows[0]) and not any(is_number(f, decimal, thousands) for f in given):
            names, understood.facts["header"] = [name.strip() for name in given], True
    if names is not None:
        _check_names(shown, names)
        if has_row_names:
            names = ["", *names]
    if not named and _first_is_a_quoted_count(sample, rows):
        names = ["", *default_names(len(rows[0]) - 1)]
    body = lines[1 + next(i for i, line in enumerate(lines) if line.strip()) :] if named else lines
    offset = first_line + len(lines) - len(body)
    width = len(names) if names is not None else len(rows[0])
    at = _line_numbers(shown, body, separator, width, offset, understood)
    if not at:
        raise DataError(f"{shown} has no rows. Give a file with at least one.")
    try:
        table = pd.read_csv(
            io.StringIO("".join(body)),
            sep=separator or r"\s+",
            decimal=decimal,
            thousands=thousands,
            na_values=list(how.na) or None,
            header=None,
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
        )
    except (csv.Error, pd.errors.ParserError, ValueError) as error:
        raise DataError(f"{shown} cannot be read as a table: {error}") from error
    table.columns = pd.Index(default_names(width) if names is None else _labels(names))
    table.attrs["lines"] = at
    return table, understood


def is_number(cell: str, decimal: str = ".", thousands: str | None = None) -> bool:
    """Whether a cell holds a number, or a missing value."""
    text = cell.strip()
    if text.lower() in MISSING:
        return True
    if thousands:
        text = text.replace(thousands, "")
    if decimal != ".":
        text = text.replace(".", "x").replace(decimal, ".")
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def is_nearly_a_number(cell: str) -> bool:
    """Whether a cell is a number but for a sign, such as ``$79.50`` or ``<0.5``."""
    text = cell.strip().strip(_SIGNS)
    return bool(re.fullmatch(r"[+-]?\d[\d.,' \u00a0]*(e[+-]?\d+)?", text, re.IGNORECASE))


def default_names(n_columns: int) -> list[str]:
    """Names that data without any get everywhere; see `Dataset`."""
    return ["x"] if n_columns == 1 else [f"x{j + 1}" for j in range(n_columns)]


def _labels(names: Sequence[str]) -> list[str]:
    return [name or f"Unnamed: {j}" for j, name in enumerate(names)]  # as pandas calls them


def _without_comments(text: str, skip: int) -> tuple[list[str], str | None, int]:
    """Lines of the table, the last comment before it, and how many lines came before."""
    lines = io.StringIO(text, newline="").readlines()[skip:]  # other ends of lines are letters
    first, comment = 0, None
    while first < len(lines) and (lines[first][:1] in ("#", "%") or not lines[first].strip()):
        comment = lines[first] if lines[first].strip() else comment
        first += 1
    kept = lines[first:]
    if '"' not in text:  # where nothing is quoted, no field has several lines
        kept = [line if line[:1] != "#" else "\n" for line in kept]
    return kept, comment, skip + first


def _given_separator(sep: str) -> str:
    named = {"tab": "\t", "\\t": "\t", "blank": "", "blanks": "", "space": "", " ": ""}
    separator = named.get(sep.lower(), sep)
    if len(separator) > 1:
        raise DataError(f"--sep must be one character, tab or blanks, got {sep!r}.")
    return separator


def _separator(sample: list[str]) -> str:
    """What tells fields apart; empty for blanks."""
    if _blanks_with_decimal_commas(sample):
        return ""
    for separator in _SEPARATORS:
        if len(_fields(sample[0], separator)) > 1:
            return separator
    # The first line may be one name, or the only line without row names.
    for separator in _SEPARATORS[:-1]:
        if len(sample) > 1 and len(_fields(sample[1], separator)) > 1:
            return separator
    widths = {len(_fields(line, "")) for line in sample[1:]} or {len(_fields(sample[0], ""))}
    first = len(_fields(sample[0], ""))
    if len(widths) == 1 and widths != {1} and first in (max(widths), max(widths) - 1):
        return ""
    return ","


def _blanks_with_decimal_commas(sample: list[str]) -> bool:
    """Whether lines are numbers with decimal commas and blanks between them."""
    rows = [_fields(line, "") for line in (sample[1:] or sample)]
    same = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    cells = [cell for row in rows for cell in row]
    return same and any("," in c for c in cells) and all(map(_DECIMAL_COMMA.fullmatch, cells))


def _fields(line: str, separator: str) -> list[str]:
    if not separator:
        line, separator = " ".join(line.split()), " "
    try:
        return next(
            csv.reader([line.strip("\r\n")], delimiter=separator, skipinitialspace=True), []
        )
    except csv.Error as error:
        raise DataError(
            f"A line cannot be split into fields: {shown_value(line)} ({error})."
        ) from error


def _one_column_of_commas(shown: str, rows: list[list[str]], separator: str) -> bool:
    """Whether a name is followed by lines of one number each, with a decimal comma."""
    if separator != "," or len(rows) < 2 or len(rows[0]) != 1 or is_number(rows[0][0]):
        return False
    numbers = all(
        len(row) == 2 and re.fullmatch(r"[+-]?\d+", row[0]) and row[1].isdigit() for row in rows[1:]
    )
    if numbers and _counts([row[0] for row in rows[1:]]):
        raise DataError(
            f"In {shown} a comma may stand before decimals or after the number of a row. Say "
            "which: --sep ';' --decimal , or --sep ,"
        )
    return numbers


def _number_signs(
    shown: str,
    lines: list[str],
    separator: str,
    how: Reading,
    decimal: str | None,
    understood: Understood,
) -> tuple[str, str | None]:
    """What stands before decimals and between thousands."""
    if decimal is not None or separator == "," or how.thousands is not None:
        decimal = decimal or ("," if how.thousands == "." else ".")
        if decimal == how.thousands:
            raise DataError(
                f"--decimal and --thousands are both {decimal!r}. Give two different characters."
            )
        return decimal, how.thousands
    apart = re.escape(separator) if separator else " "
    number = re.compile(rf'(?<![^\n{apart}" ])[+-]?\d[\d.,]*(?![^\n\r{apart}" ])')
    if not any("," in line for line in lines):
        return ".", None
    cells = {cell.lstrip("+-") for line in lines for cell in number.findall(line)}
    commas = {cell for cell in cells if "," in cell}
    points = {cell for cell in cells if "." in cell}
    both = commas & points
    if not commas:
        return ".", None
    grouped = r"[1-9]\d{{0,2}}(\{0}\d{{3}})+"
    for decimal_sign, sign, own in ((".", ",", commas - both), (",", ".", points - both)):
        # Both in one number: what comes last is before its decimals.
        last = all(c.rindex(decimal_sign) > c.rindex(sign) for c in both)
        if both and last and all(re.fullmatch(grouped.format(sign), cell) for cell in own):
            return decimal_sign, sign
    commas_group = [c for c in commas if re.fullmatch(grouped.format(","), c)]
    if not points and len(commas_group) < len(commas):
        return ",", None
    example = sorted(commas)[0]
    other = f" and {sorted(points)[0]!r}" if points else ""
    raise DataError(
        f"In {shown} a comma may stand before decimals or between thousands: {example!r}{other}. "
        f"Say which: --decimal , or --thousands , ({understood})."
    )


def _has_row_names(sample: list[str], rows: list[list[str]], header: bool | None) -> bool:
    """Whether lines begin with a name that has none in the first, as R's write.table does."""
    if header is False or len(rows) < 2 or any(len(r) != len(rows[0]) + 1 for r in rows[1:]):
        return False
    first = [row[0] for row in rows[1:]]
    quoted = all(line.lstrip().startswith('"') for line in sample[1:])
    return quoted or _counts(first) or not any(is_number(name) for name in first)


def _counts(cells: list[str]) -> bool:
    """Whether cells count from 0 or 1."""
    return cells in ([str(i) for i in range(len(cells))], [str(i + 1) for i in range(len(cells))])


def _first_is_a_quoted_count(sample: list[str], rows: list[list[str]]) -> bool:
    """Whether lines begin with their number in quotes, and nothing else is in quotes."""
    alone = all(line.startswith('"') and line.count('"') == 2 for line in sample)
    return alone and len(rows[0]) > 1 and _counts([row[0] for row in rows])


def _first_line_has_names(
    shown: str,
    rows: list[list[str]],
    decimal: str,
    thousands: str | None,
    na: Sequence[str],
    understood: Understood,
) -> bool:
    """Whether the first line has names: words above numbers, and no number above numbers."""
    first, rest = rows[0], rows[1:]
    if all(is_number(cell, decimal, thousands) for cell in first):
        return False
    words, numbers = [], []
    for j, cell in enumerate(first):
        column = [row[j] for row in rest if j < len(row)]
        seen = [c for c in column if c.strip().lower() not in MISSING]
        good = sum(is_number(c, decimal, thousands) or is_nearly_a_number(c) for c in seen)
        if not seen or 2 * good < len(seen) or cell in na:
            continue
        if is_number(cell, decimal, thousands) and cell.strip().lower() not in MISSING:
            numbers.append(cell)
        elif re.search(r"[^\W\d_]", cell):
            words.append(cell)
    if words and numbers:
        raise DataError(
            f"The first line of {shown} has words and numbers above numbers, such as {words[0]!r} "
            f"and {numbers[0]!r}. Say whether these are names: --header or --no-header "
            f"({understood})."
        )
    return not numbers


def _check_names(shown: str, names: list[str]) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(
            f"Columns of {shown} must have different names, got {twice} twice. Rename them, or "
            "read without names: --skip 1 --no-header."
        )


def _line_numbers(
    shown: str,
    body: list[str],
    separator: str,
    width: int,
    offset: int,
    understood: Understood,
) -> array[int]:
    """The line that each row ends in; raises for rows of other lengths, which pandas would fill."""
    at = array("q")
    delimiter = separator or " "
    source = body if separator else (" ".join(line.split()) for line in body)
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            if not row:
                continue
            if len(row) != width:
                raise DataError(
                    f"Every row of {shown} must have {width} values as the first has, got "
                    f"{len(row)} in line {reader.line_num + offset}. Correct the file, or say how "
                    f"to read it: --sep, --skip, --header ({understood})."
                )
            at.append(reader.line_num + offset)
    except csv.Error as error:
        raise DataError(
            f"{shown} cannot be read as a table: {error} in line {reader.line_num + offset}."
        ) from error
    return at
