"""The command line: fit, compare, select and report from files, and what a machine needs for it.

Exit codes: 0 all is well; 1 the result is there, but a check of what it rests on failed (or
`doctor` finds something missing); 2 an error of the input, the usage or CmdStan; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import sys
from collections.abc import Callable, Sequence

from stangmm.base.errors import StangmmError
from stangmm.cli import fitting, machine
from stangmm.cli.options import print_no_more


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``stangmm``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments, by default those of the process.

    Returns
    -------
    int
        The exit code: 0 for success; 1 if the result is there but a check failed, or if `doctor`
        finds something missing; 2 for an error; 130 if it was interrupted.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started us has closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a feature may have any name
    parsed = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        code = command(parsed)
        sys.stdout.flush()
        return code
    except StangmmError as error:
        print(f"stangmm: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        print_no_more()
        return 0
    except OSError as error:
        print(f"stangmm: {error}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # Python would try once more at its end, and exit with a code of its own
            print_no_more()
        return 2
    except KeyboardInterrupt:
        print("stangmm: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    made = argparse.ArgumentParser(
        prog="stangmm",
        description="Gaussian mixture models: one Stan model, fitted in several ways.",
        epilog="Exit codes: 0 all is well; 1 the result is there, but a check failed; 2 an error; "
        "130 interrupted.",
    )
    made.add_argument(
        "--version", action="version", version=f"stangmm {importlib.metadata.version('stangmm')}"
    )
    commands = made.add_subparsers(required=True, metavar="command")
    fitting.add_commands(commands)
    machine.add_commands(commands)
    return made
