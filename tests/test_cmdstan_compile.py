"""The model is compiled once for each set of sources and tools, and a failure is explained."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from stangmm.base.errors import CmdStanNotFoundError, CompileError, ModelError
from stangmm.cmdstan import CmdStan, compile_stan, find_cmdstan, is_compiled
from stangmm.cmdstan import compile as compile_module
from stangmm.cmdstan.build import Build, toolchain

PROGRAM = "parameters { real x; } model { x ~ std_normal(); }\n"

# A native kernel that stanc refuses, beside a portable one that compiles.
MODEL = """\
functions {
#include mixture_lpdf.stan
}
parameters { real y; }
model { target += f_lpdf(y | 0.0); }
"""
PORTABLE = "real f_lpdf(real y, real m) { return normal_lpdf(y | m, 1); }\n"
BROKEN = "real f_lpdf(real y, real m) { return no_such_function(y); }\n"

COMPILE_IN_A_PROCESS = """\
import sys, warnings
from pathlib import Path
from stangmm.cmdstan import compile as compile_module
compile_module.stan_directory = lambda: Path(sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        model = compile_module.compiled_model()
print(model.exe, model.kernel, len(caught), str(caught[0].message).replace("\\n", " "), sep="\\n")
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work with an empty cache."""
    folder = tmp_path / "cache with blanks"
    monkeypatch.setenv("STANGMM_CACHE", str(folder))
    return folder


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a small model with a broken native kernel in place of the package's."""
    folder = tmp_path / "stan with blanks"
    for kernel, text in (("portable", PORTABLE), ("native", BROKEN)):
        (folder / "kernel" / kernel).mkdir(parents=True)
        (folder / "kernel" / kernel / "mixture_lpdf.stan").write_text(text)
    (folder / "kernel" / "native" / "mixture_lpdf.hpp").write_text("// empty\n")
    (folder / "gaussian_mixture.stan").write_text(MODEL)
    monkeypatch.setattr(compile_module, "stan_directory", lambda: folder)
    compile_module.warn_once.cache_clear()
    return folder


@pytest.fixture
def cmdstan() -> CmdStan:
    """Give the CmdStan of this machine."""
    return find_cmdstan()


def plan(file: Path, cmdstan: CmdStan, threads: bool = False, **changes: str) -> Build:
    """Plan a compilation of one file."""
    return Build.plan(file, [], None, cmdstan, threads, changes)


@pytest.mark.stan
def test_processes_that_want_the_same_model_compile_it_once_and_fall_back_with_one_warning(
    cache: Path, sources: Path
):
    command = [sys.executable, "-c", COMPILE_IN_A_PROCESS, str(sources)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    answers = [output.splitlines() for output, _ in outputs]
    for exe, kernel, n_warnings, message in answers:
        assert Path(exe).is_relative_to(cache)
        assert (kernel, n_warnings) == ("portable", "1")
        assert message.startswith("The native likelihood kernel did not compile")
        assert "no_such_function" in message
    assert answers[0][0] == answers[1][0]
    progress = "".join(errors for _, errors in outputs)
    # Once for the portable kernel; once for the native one, or once in each process if the
    # second was waiting while the first failed.
    assert progress.count("compiling the Stan model") in (2, 3)
    assert {path.suffix for path in (cache / "models").iterdir()} == {"", ".json"}

    # What the two left behind serves a third without any compiler.
    with pytest.warns(UserWarning, match="native likelihood kernel did not compile"):
        again = compile_module.compiled_model(progress=False)
    assert str(again.exe) == answers[0][0]
    assert again.note.startswith("the native likelihood kernel did not compile")
    assert is_compiled()
    assert subprocess.run([again.exe, "info"], capture_output=True, check=True).stdout


@pytest.mark.stan
@pytest.mark.usefixtures("cache")
def test_a_model_that_does_not_compile_shows_the_compilers_words(sources: Path):
    with pytest.raises(CompileError, match="no_such_function") as error:
        compile_module.compiled_model(kernel="native", progress=False)
    assert "gaussian_mixture.stan" in str(error.value)
    assert "did not compile with CmdStan" in str(error.value)


@pytest.mark.stan
@pytest.mark.usefixtures("cache")
def test_no_native_kernel_is_no_reason_to_warn(sources: Path):
    (sources / "kernel" / "native" / "mixture_lpdf.hpp").unlink()
    (sources / "kernel" / "portable" / "mixture_lpdf.stan").write_text(BROKEN)  # fails at once
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CompileError):
            compile_module.compiled_model(progress=False)


@pytest.mark.stan
def test_the_place_in_the_cache_follows_from_everything_that_goes_in(
    tmp_path: Path, cmdstan: CmdStan, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "model.stan"
    file.write_text(PROGRAM)
    header = tmp_path / "user" / "code.hpp"
    header.parent.mkdir()
    header.write_text("// one\n")
    beside = header.with_name("beside.hpp")
    beside.write_text("// one\n")
    include = tmp_path / "include"
    include.mkdir()
    (include / "part.stan").write_text("// one\n")

    def key() -> str:
        return Build.plan(file, [include], header, cmdstan, False, {}).key

    keys = [key()]
    assert key() == keys[0]
    for path in (file, header, beside, include / "part.stan"):
        path.write_text(path.read_text() + "// changed\n")
        keys.append(key())
    keys.append(Build.plan(file, [include], header, cmdstan, True, {}).key)
    keys.append(Build.plan(file, [include], header, cmdstan, False, {"O": "1"}).key)
    monkeypatch.setenv("CXXFLAGS", "-DSOMETHING")
    keys.append(key())
    monkeypatch.delenv("CXXFLAGS")
    compiler = tmp_path / "g++"
    monkeypatch.setenv("CXX", str(compiler))
    for version in ("99.8", "99.9"):
        compiler.write_text(f"#!/bin/sh\necho 'g++ {version}'\n")
        compiler.chmod(0o755)
        toolchain.cache_clear()  # as in another process
        keys.append(key())
    monkeypatch.delenv("CXX")
    keys.append(
        Build.plan(file, [include], header, CmdStan(cmdstan.path, (9, 9, 9)), False, {}).key
    )
    assert len(set(keys)) == len(keys)


@pytest.mark.stan
def test_an_entry_of_the_cache_is_taken_for_good_only_as_it_was_compiled(
    cache: Path, tmp_path: Path, cmdstan: CmdStan
):
    file = tmp_path / "model.stan"
    file.write_text(PROGRAM)
    build = plan(file, cmdstan)
    build.exe.parent.mkdir(parents=True)
    build.exe.write_text("#!/bin/sh\n")
    build.exe.chmod(0o755)
    info = build.folder / "info.json"
    for text in (None, "{}", "[]", "no json", '{"sha256": "0"}'):
        if text is not None:
            info.write_text(text)
        assert not build.is_cached()
    digest = hashlib.sha256(build.exe.read_bytes()).hexdigest()
    info.write_text(json.dumps({"sha256": digest}))
    assert build.is_cached()
    assert compile_stan(file, cmdstan=cmdstan) == build.exe


@pytest.mark.stan
def test_a_damaged_executable_is_compiled_anew_with_a_word(
    cache: Path, tmp_path: Path, cmdstan: CmdStan
):
    file = tmp_path / "model.stan"
    file.write_text(PROGRAM)
    exe = compile_stan(file, cmdstan=cmdstan)
    whole = exe.read_bytes()
    exe.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.warns(UserWarning, match="not what was compiled there"):
        assert compile_stan(file, cmdstan=cmdstan) == exe
    assert plan(file, cmdstan).is_cached()
    assert subprocess.run([exe, "info"], check=False, capture_output=True).stdout


@pytest.mark.stan
def test_a_missing_compiler_is_named_with_the_packages_to_install(
    tmp_path: Path, cmdstan: CmdStan, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "model.stan"
    file.write_text(PROGRAM)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompileError, match=r"no-such-compiler was not found.*make g\+\+"):
        plan(file, cmdstan)


@pytest.mark.stan
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, cmdstan: CmdStan, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "model.stan"
    file.write_text(PROGRAM)
    tmp_path.chmod(0o500)
    monkeypatch.setenv("STANGMM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CompileError, match="STANGMM_CACHE"):
        compile_stan(file, cmdstan=cmdstan)


def test_without_cmdstan_the_error_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CMDSTAN", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CmdStanNotFoundError, match="stangmm install-cmdstan"):
        compile_module.compiled_model()


def test_an_unknown_kernel_lists_the_known_ones():
    with pytest.raises(ModelError, match="'auto', 'native', 'portable'"):
        compile_module.compiled_model(kernel="gpu")  # type: ignore[arg-type]
