"""Options that several commands share, and what is made of them: data, model, method, files."""

from __future__ import annotations

import argparse
import ast
import csv
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stangmm.base.errors import ModelError

if TYPE_CHECKING:
    from stangmm.data.tables import Columns
    from stangmm.methods import Method

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
# What files are, and endings that files of something else have.
_KINDS = {".nc": "netCDF", ".html": "HTML"}
_OTHERS = {
    *(".pdf", ".doc", ".docx", ".md", ".tex", ".txt", ".png", ".svg", ".jpg", ".zip", ".py"),
    *(".pkl", ".pickle", ".json", ".csv", ".npy", ".npz", ".parquet", ".xlsx", ".rds"),
}
_ENDINGS = {
    "netCDF": {*_OTHERS, ".html", ".htm"},
    "HTML": {*_OTHERS, ".nc", ".h5", ".hdf5"},
    "a picture": set(),
}
SETTINGS = ("draws", "warmup", "chains", "restarts")  # that have an option of their own


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command; its help ends with an example."""
    parser = commands.add_parser(
        name,
        help=help,
        description=textwrap.fill(description, 78),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # an example stays in one line
    )
    parser.set_defaults(command=run)
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the file and which of its columns are what."""
    parser.add_argument(
        "data",
        help="a file with a table: text such as CSV, Parquet, Feather, Excel, Stata, JSON or npy, "
        "compressed or not; - is standard input",
    )
    group = parser.add_argument_group("data")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--columns",
        type=names,
        metavar="A,B",
        help="the features (default: every column of numbers)",
    )
    which.add_argument(
        "--exclude", type=names, default=[], metavar="A,B", help="columns that are not features"
    )
    group.add_argument(
        "--index", type=names, default=[], metavar="A,B", help="columns that name the rows"
    )
    group.add_argument("--weights", metavar="COLUMN", help="how often each row counts")
    group.add_argument(
        "--labels",
        metavar="COLUMN",
        help="known components: numbers from 0, -1 where unknown; or text, empty where unknown",
    )
    group.add_argument(
        "--missing",
        choices=["error", "marginalize"],
        default="error",
        help="how to treat missing values: as an error (default), or integrated out",
    )
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line has names (default: if there are words above numbers)",
    )
    group.add_argument(
        "--sep", metavar="CHAR", help="the separator of a text file; also tab or blanks"
    )
    group.add_argument("--decimal", metavar="CHAR", help="the decimal mark: . or ,")
    group.add_argument("--thousands", metavar="CHAR", help="the thousands separator")
    group.add_argument(
        "--na",
        type=names,
        default=[],
        metavar="A,B",
        help="how missing values are written, besides nothing, NA and the like",
    )
    group.add_argument(
        "--skip", type=int, default=0, metavar="N", help="lines to skip at the beginning"
    )


def add_model(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add what the model is, but for the number of components; of one covariance type or more."""
    parser.add_argument(
        "--covariance",
        type=_covariance_types if several else _covariance_type,
        default="full",
        metavar="A,B" if several else "TYPE",
        help="the form of the components' covariance matrices: full (default), tied, "
        "tied_correlation, diag, tied_diag, spherical or tied_spherical, or mclust's letters"
        + "; several, with commas between them, are tried all"
        * several,
    )
    parser.add_argument(
        "--noise",
        type=_volume,
        nargs="?",
        const=True,
        default=False,
        metavar="VOLUME",
        help="a uniform component besides, over the box of the data or of a given volume",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add seed and settings of the methods."""
    parser.add_argument(
        "--seed",
        type=int,
        help="the same seed gives the same numbers (default: a random one, which is shown)",
    )
    group = parser.add_argument_group("settings of the method")
    group.add_argument("--draws", type=int, help="of each chain (nuts), or of an approximation")
    group.add_argument("--warmup", type=int, help="iterations of each chain for adaptation (nuts)")
    group.add_argument("--chains", type=int, help="how many (nuts)")
    group.add_argument("--restarts", type=int, help="starting points (em, optimize)")
    group.add_argument(
        "--set",
        dest="others",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, such as adapt_delta=0.95 or algorithm=fullrank; can be repeated",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add how much is said, and in which form."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--json", action="store_true", help="print the result as JSON instead of a table"
    )
    group.add_argument("--quiet", action="store_true", help="say only what failed")


def columns_of(arguments: argparse.Namespace) -> Columns:
    """Read the data; say on standard error what is left out."""
    from stangmm.data.tables import choose_columns, read_table

    chosen = choose_columns(
        read_table(
            arguments.data,
            sep=arguments.sep,
            decimal=arguments.decimal,
            thousands=arguments.thousands,
            na=arguments.na,
            header=arguments.header,
            skip=arguments.skip,
        ),
        columns=arguments.columns,
        exclude=arguments.exclude,
        index=arguments.index,
        weights=arguments.weights,
        labels=arguments.labels,
    )
    for name, reason in chosen.left_out.items():
        note(arguments, f"column {name!r} is left out: it {reason}")
    if chosen.classes:
        numbered = ", ".join(f"{k} is {name!r}" for k, name in enumerate(chosen.classes))
        note(arguments, f"components by column {arguments.labels!r}: {numbered}")
    return chosen


def shows_progress(arguments: argparse.Namespace) -> bool:
    """Whether long work shows how far it is: in a terminal, unless it is to be quiet."""
    return sys.stderr.isatty() and not getattr(arguments, "quiet", False)


def data_options(arguments: argparse.Namespace, columns: Columns) -> dict[str, Any]:
    """Keyword arguments that fitting functions take beside X."""
    return {
        "sample_weight": columns.weights,
        "labels": columns.labels,
        "missing": arguments.missing,
        "seed": arguments.seed,
        "progress": shows_progress(arguments),
    }


def methods_of(arguments: argparse.Namespace, names: Sequence[str]) -> list[Method]:
    """Methods with the settings given, each with those that it has.

    Raises
    ------
    ModelError
        There is no such method or setting, or none of the methods has the setting.
    """
    from stangmm.methods import as_method

    names = [name.lower() for name in names]
    given = {name: value for name in SETTINGS if (value := getattr(arguments, name)) is not None}
    given |= dict(arguments.others)
    classes = [type(as_method(name)) for name in names]
    has = [{field.name for field in fields(cls)} for cls in classes]  # type: ignore[arg-type]
    for name in given:
        if not any(name in settings for settings in has):
            raise ModelError(
                f"{name!r} is not a setting of {', '.join(names)}. There are "
                f"{sorted(set().union(*has))}."
            )
    return [
        cls(**{name: value for name, value in given.items() if name in settings})
        for cls, settings in zip(classes, has, strict=True)
    ]


def checked_output(path: str | None, example: str, source: str) -> None:
    """Raise for a file that could not be written, before hours of work are for it.

    Raises
    ------
    ModelError
        There is no such folder, it cannot be written to, or the file is the one that is read.
    """
    from stangmm.base.files import checked_target, is_stream

    if path is None:
        return
    kind = _KINDS.get(Path(example).suffix, "a picture")
    target = checked_target(path, example)
    for place in (target,) if is_stream(target) else (target.parent, target):
        if place.exists() and not os.access(place, os.W_OK):
            raise ModelError(
                f"No permission to write {str(place)!r}. Change that, or give another path."
            )
    read = Path(source).expanduser()
    if target.exists() and read.exists() and target.samefile(read):
        raise ModelError(f"{str(target)!r} is the file that is read. Give another path.")
    if target.suffix.lower() in _ENDINGS[kind]:
        raise ModelError(
            f"{str(target)!r} would be {kind}, but has the ending of another kind of file. Use "
            f"the ending {Path(example).suffix}."
        )


def print_no_more() -> None:
    """Leave standard output: who reads it, such as `head`, has had enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(arguments: argparse.Namespace, text: str) -> None:
    """Say something on standard error that is no failure."""
    if not arguments.quiet:
        print(f"stangmm: {text}", file=sys.stderr)


def names(text: str) -> list[str]:
    """Names with commas between them; one with a comma stands in double quotes."""
    each = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not each or not all(each):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    return each


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()  # a word


def _covariance_types(text: str) -> str | list[str]:
    """One name, or several in a list."""
    types = [_covariance_type(name) for name in names(text)]
    return types if len(types) > 1 else types[0]


def _volume(text: str) -> float:
    from stangmm.model.noise import checked_noise

    try:
        return float(checked_noise(float(text)))  # type: ignore[arg-type]  # a box is no number
    except (ValueError, ModelError) as error:
        raise argparse.ArgumentTypeError(
            f"the volume of the noise must be a positive number, got {text!r}"
        ) from error


def _covariance_type(text: str) -> str:
    from stangmm.model.covariance import structure_named

    try:
        return structure_named(text).name
    except ModelError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
