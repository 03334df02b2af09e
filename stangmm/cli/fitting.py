"""Commands about data: fit, compare, select, and the report of what was saved."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stangmm.base.errors import ConvergenceWarning, ModelError
from stangmm.cli.options import (
    Commands,
    add_command,
    add_data,
    add_model,
    add_output,
    add_settings,
    checked_output,
    columns_of,
    data_options,
    methods_of,
    names,
    note,
    print_no_more,
    shows_progress,
)

if TYPE_CHECKING:
    from stangmm.data.tables import Columns
    from stangmm.judge.diagnostics import Diagnosis


def add_commands(commands: Commands) -> None:
    """Add ``fit``, ``compare``, ``select`` and ``report``."""
    fit = add_command(
        commands,
        "fit",
        _fit,
        help="fit a mixture to a file of data",
        description="Fit a Gaussian mixture. If chains are in different modes, these are "
        "combined. The exit code is 1 if a check of the fit failed.",
        example="stangmm fit data.csv -k 3 --method nuts --out fit.nc --report fit.html",
    )
    add_data(fit)
    _add_k(fit)
    add_model(fit)
    fit.add_argument(
        "--method",
        default="nuts",
        help="em, optimize, advi, nuts (default), laplace, auto or another method",
    )
    fit.add_argument(
        "--relabel",
        choices=["stephens", "ecr", "means", "none"],
        default="stephens",
        help="how the components' labels are settled (default: stephens)",
    )
    add_settings(fit)
    _add_files(fit)
    add_output(fit)

    compare = add_command(
        commands,
        "compare",
        _compare,
        help="fit one mixture by several methods and compare them",
        description="Fit one model by several methods. The exit code is 1 if a method did not run, "
        "or if the reference failed a check (the fit by nuts; without one, any fit).",
        example="stangmm compare data.csv -k 3 --methods em,nuts --report cmp.html",
    )
    add_data(compare)
    _add_k(compare)
    add_model(compare)
    compare.add_argument(
        "--methods",
        type=names,
        default=["em", "optimize", "advi", "nuts"],
        metavar="A,B",
        help="em, optimize, advi, nuts (default: these four), and other methods",
    )
    add_settings(compare)
    _add_files(compare)
    add_output(compare)

    select = add_command(
        commands,
        "select",
        _select,
        help="choose the number of components, and the covariance type",
        description="Fit mixtures with several numbers of components, of one covariance type or "
        "more, and choose one. A fit that "
        "failed its checks is never chosen: it is run once more, for longer, if that can change "
        "the choice, and left out if it fails again. The exit code is 1 if the chosen fit failed "
        "a check.",
        example="stangmm select data.csv --max-k 8 --picture choice.svg",
    )
    add_data(select)
    select.add_argument(
        "--min-k", type=int, default=1, metavar="K", help="the smallest number (default: 1)"
    )
    select.add_argument(
        "--max-k", type=int, default=8, metavar="K", help="the largest number (default: 8)"
    )
    add_model(select, several=True)
    select.add_argument("--method", default="nuts", help="as for fit (default: nuts)")
    select.add_argument(
        "--criterion",
        help="loo, waic, bic, aic, icl or evidence (default: loo; bic for point estimates)",
    )
    add_settings(select)
    select.add_argument("--out", metavar="FILE", help="save the fits, to load in Python (.nc)")
    select.add_argument(
        "--picture", metavar="FILE", help="draw the criterion over the number of components"
    )
    add_output(select)

    report = add_command(
        commands,
        "report",
        _report,
        help="write the report of a saved fit or comparison",
        description="Write the report of what fit, compare or select saved; prints its path. Of a "
        "selection, it is the report of the chosen fit.",
        example="stangmm report fit.nc --out report.html",
    )
    report.add_argument("saved", help="the saved file (.nc)")
    report.add_argument(
        "--out", metavar="FILE", help="the report (default: beside the file, ending in .html)"
    )


def _add_k(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-k",
        "--components",
        dest="n_components",
        type=int,
        required=True,
        metavar="K",
        help="how many components",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="FILE", help="save the result, to load in Python (.nc)")
    parser.add_argument("--report", metavar="FILE", help="write the report (.html)")


def _fit(arguments: argparse.Namespace) -> int:
    from stangmm.cli.output import fit_text, fit_values
    from stangmm.gaussian_mixture import GaussianMixture
    from stangmm.many.mending import with_modes_combined

    _check_files(arguments)
    model = GaussianMixture(arguments.n_components, arguments.covariance, noise=arguments.noise)
    (method,) = methods_of(arguments, [arguments.method])
    columns = columns_of(arguments)
    relabel = None if arguments.relabel == "none" else arguments.relabel
    with _checks_said_later():
        fit = with_modes_combined(
            model.fit(
                columns.features, method, relabel=relabel, **data_options(arguments, columns)
            ),
            progress=shows_progress(arguments),
        )
    _say(arguments, columns, lambda: fit_text(fit), lambda: fit_values(fit))
    _write(arguments, fit)
    _tell(arguments, fit.diagnose())
    return 1 if fit.diagnose().failed else 0


def _compare(arguments: argparse.Namespace) -> int:
    from stangmm.cli.output import comparison_text, comparison_values
    from stangmm.gaussian_mixture import GaussianMixture
    from stangmm.many.comparison import compare

    _check_files(arguments)
    model = GaussianMixture(arguments.n_components, arguments.covariance, noise=arguments.noise)
    methods = methods_of(arguments, arguments.methods)
    columns = columns_of(arguments)
    comparison = compare(model, columns.features, methods, **data_options(arguments, columns))
    _say(
        arguments,
        columns,
        lambda: comparison_text(comparison),
        lambda: comparison_values(comparison),
    )
    _write(arguments, comparison)
    for label, fit in comparison.fits.items():
        _tell(arguments, fit.diagnose(), f"{label}: ")
    for label, reason in comparison.failures.items():
        print(f"stangmm: {label} did not run: {reason}", file=sys.stderr)
    status = comparison.table["status"]
    judged = status if comparison.reference is None else status[[comparison.reference]]
    return 1 if comparison.failures or (judged == "fail").all() else 0


def _select(arguments: argparse.Namespace) -> int:
    from stangmm.cli.output import selection_text, selection_values
    from stangmm.judge.candidates import named
    from stangmm.many.selection import select_components

    if arguments.min_k > arguments.max_k:
        raise ModelError(f"--min-k is {arguments.min_k}, more than --max-k, {arguments.max_k}.")
    checked_output(arguments.out, "selection.nc", arguments.data)
    checked_output(arguments.picture, "choice.svg", arguments.data)
    _check_picture(arguments.picture)
    (method,) = methods_of(arguments, [arguments.method])
    columns = columns_of(arguments)
    selection = select_components(
        columns.features,
        range(arguments.min_k, arguments.max_k + 1),
        method=method,
        criterion=arguments.criterion,
        covariance_type=arguments.covariance,
        noise=arguments.noise,
        **data_options(arguments, columns),
    )
    _say(
        arguments,
        columns,
        lambda: selection_text(selection),
        lambda: selection_values(selection),
    )
    if arguments.out:
        note(arguments, f"saved {selection.save(arguments.out)}")
    if arguments.picture:
        _draw(selection, arguments.picture)
        note(arguments, f"drew {arguments.picture}")
    for k, reason in selection.failures.items():
        note(arguments, f"{named(k)} failed: {reason}")
    _tell(arguments, selection.best.diagnose(), f"{named(selection.chosen)}: ")
    return 1 if selection.best.diagnose().failed else 0


def _report(arguments: argparse.Namespace) -> int:
    from stangmm.loading import load
    from stangmm.many.choice import Selection
    from stangmm.many.models import ModelComparison

    target = arguments.out or Path(arguments.saved).expanduser().with_suffix(".html")
    checked_output(str(target), "report.html", arguments.saved)
    saved = load(arguments.saved)
    if isinstance(saved, ModelComparison):
        raise ModelError("There is no report of several models, only of each fit: save that.")
    result = saved.best if isinstance(saved, Selection) else saved
    print(result.report(target, progress=shows_progress(arguments)))
    return 0


def _check_files(arguments: argparse.Namespace) -> None:
    checked_output(arguments.out, "fit.nc", arguments.data)
    checked_output(arguments.report, "report.html", arguments.data)
    if arguments.out and arguments.out == arguments.report:
        raise ModelError(
            f"--out and --report are the same file, {arguments.out!r}. Give two different files."
        )


def _check_picture(path: str | None) -> None:
    """Raise for an ending that no picture can have, before the fits are made."""
    from stangmm.plots.style import new_axes, root_figure

    if path is None:
        return
    known = sorted(root_figure(new_axes(1.0)).canvas.get_supported_filetypes())
    if Path(path).suffix.removeprefix(".").lower() not in known:
        raise ModelError(f"The name of a picture file must end in one of {known}, got {path!r}.")


def _draw(selection: Any, path: str) -> None:
    from stangmm.base.files import write_whole
    from stangmm.plots import model_choice
    from stangmm.plots.style import root_figure

    picture = BytesIO()
    root_figure(model_choice(selection)).savefig(picture, format=Path(path).suffix[1:].lower())
    write_whole(Path(path).expanduser(), picture.getvalue())


@contextmanager
def _checks_said_later() -> Iterator[None]:
    """Ignore warnings of failed checks, which `_tell` says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _say(
    arguments: argparse.Namespace,
    columns: Columns,
    text: Callable[[], str],
    values: Callable[[], dict[str, Any]],
) -> None:
    """Print the result, before files are written: should one fail, it is not lost."""
    from stangmm.cli.output import as_json

    if arguments.json:
        named = {"classes": columns.classes} if columns.classes else {}
        data = {"read": columns.read, "left_out": columns.left_out}
        result = as_json(values() | named | {"data": data})
    elif arguments.quiet:
        return
    else:
        result = text()
    try:
        print(result, flush=True)
    except BrokenPipeError:  # the files are to be written nevertheless
        print_no_more()


def _write(arguments: argparse.Namespace, result: Any) -> None:
    if arguments.out:
        note(arguments, f"saved {result.save(arguments.out)}")
    if arguments.report:
        report = result.report(arguments.report, progress=shows_progress(arguments))
        note(arguments, f"wrote {report}")


def _tell(arguments: argparse.Namespace, diagnosis: Diagnosis, of: str = "") -> None:
    """Say on standard error which checks were not passed."""
    for check in diagnosis:
        if check.verdict == "fail" or (check.verdict == "warn" and not arguments.quiet):
            print(f"stangmm: {of}{check}", file=sys.stderr)
