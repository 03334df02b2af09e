"""The model is compiled once for each set of sources and tools, and a failure is explained."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from stangmm.base.errors import CmdStanNotFoundError, CompileError, ModelError
from stangmm.cmdstan import CmdStan, compile_stan, find_cmdstan, ready_model
from stangmm.cmdstan import compile as compile_module
from stangmm.cmdstan.build import Build, Sources, toolchain
from stangmm.cmdstan.executable import fill_folder

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
    return Build.plan(Sources.read(file, [], None, threads, changes), cmdstan)


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
    assert ready_model() == again
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

    def place(threads: bool = False, cmdstan: CmdStan = cmdstan, **options: str) -> Path:
        sources = Sources.read(file, [include], header, threads, options)
        return Build.plan(sources, cmdstan).folder

    places = [place()]
    assert place() == places[0]
    for path in (file, header, beside, include / "part.stan"):
        path.write_text(path.read_text() + "// changed\n")
        places.append(place())
    places.append(place(threads=True))
    places.append(place(O="1"))
    monkeypatch.setenv("CXXFLAGS", "-DSOMETHING")
    places.append(place())
    monkeypatch.delenv("CXXFLAGS")
    compiler = tmp_path / "g++"
    monkeypatch.setenv("CXX", str(compiler))
    for version in ("99.8", "99.9"):
        compiler.write_text(f"#!/bin/sh\necho 'g++ {version}'\n")
        compiler.chmod(0o755)
        toolchain.cache_clear()  # as in another process
        places.append(place())
    monkeypatch.delenv("CXX")
    places.append(place(cmdstan=CmdStan(cmdstan.path, (9, 9, 9))))
    assert len(set(places)) == len(places)


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
    facts = {"cmdstan": "2.27.0", "path": "/anywhere", "sha256": {}}
    texts = [None, "{}", "[]", "no json", '{"sha256": "0"}', json.dumps(facts)]
    digest = hashlib.sha256(build.exe.read_bytes()).hexdigest()
    for hashes in ({"model": digest[::-1]}, {"model": digest, "libtbb.so.2": digest}):
        texts.append(json.dumps(facts | {"sha256": hashes}))
    for text in texts:
        if text is not None:
            info.write_text(text)
        assert not build.is_cached()
    info.write_text(json.dumps(facts | {"sha256": {"model": digest}}))
    assert build.is_cached()
    assert compile_stan(file, cmdstan=cmdstan) == build.exe


@pytest.mark.stan
def test_a_damaged_executable_is_compiled_anew_with_a_word(
    cache: Path, tmp_path: Path, cmdstan: CmdStan
):
    file = tmp_path / "model.stan"
    file.write_text(PROGRAM)
    build = plan(file, cmdstan)
    exe = build.exe
    build.folder.mkdir(parents=True)
    shutil.copy2("/bin/true", tmp_path / "model")
    fill_folder(build.folder, tmp_path / "model", cmdstan, {})
    assert build.is_cached()
    exe.write_bytes(exe.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="changed since it was compiled"):
        assert compile_stan(file, cmdstan=cmdstan) == exe
    assert build.is_cached()
    assert subprocess.run([exe, "info"], check=False, capture_output=True).stdout


@pytest.mark.stan
def test_a_missing_compiler_is_named_with_the_packages_to_install(
    tmp_path: Path, cmdstan: CmdStan, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "model.stan"
    file.write_text(PROGRAM)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompileError, match=r"no-such-compiler w(as|ere) not found.*make g\+\+"):
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


@pytest.mark.stan
def test_what_is_compiled_runs_without_compiler_and_without_cmdstan(
    cache: Path, sources: Path, tmp_path: Path, cmdstan: CmdStan, monkeypatch: pytest.MonkeyPatch
):
    with pytest.warns(UserWarning, match="did not compile"):
        exe = compile_module.compiled_model(progress=False).exe
    moved = tmp_path / "another place"
    shutil.copytree(exe.parent, moved)
    linked = subprocess.run(["ldd", moved / exe.name], capture_output=True, text=True, check=True)
    assert f"{moved}/libtbb" in linked.stdout

    monkeypatch.setenv("CXX", "no-such-compiler")
    compile_module.warn_once.cache_clear()
    with pytest.warns(UserWarning, match="did not compile"):
        assert compile_module.compiled_model(progress=False).exe == exe
    with monkeypatch.context() as patch:
        patch.setattr(compile_module, "find_cmdstan", lambda _: CmdStan(cmdstan.path, (9, 9, 9)))
        assert ready_model() is None  # it is not what another CmdStan would give
    hide_cmdstan(tmp_path, monkeypatch)
    found = ready_model()
    assert found is not None
    assert (found.exe, found.kernel, found.cmdstan) == (exe, "portable", cmdstan)
    assert ready_model(threads=True) is None
    file = sources / "gaussian_mixture.stan"
    file.write_text(file.read_text() + "// changed\n")
    assert ready_model() is None


@pytest.mark.usefixtures("cache")
def test_what_came_with_the_wheel_is_taken_unless_a_cmdstan_is_named(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hide_cmdstan(tmp_path, monkeypatch)
    program = tmp_path / "gaussian_mixture"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    came_with = CmdStan(Path("cmdstan-2.27.0"), (2, 27, 0))
    key = compile_module.model_sources("native", threads=False).key
    folder = compile_module.shipped_directory() / f"gaussian_mixture-{key}-wheel"
    folder.mkdir(parents=True)
    fill_folder(folder, program, came_with, {})

    found = compile_module.compiled_model()
    assert found == compile_module.CompiledModel(
        folder / "gaussian_mixture", "native", came_with, threads=False
    )
    with pytest.raises(CmdStanNotFoundError):
        compile_module.compiled_model(kernel="portable")
    for named in ({"cmdstan_path": tmp_path}, {}):
        monkeypatch.setenv("CMDSTAN", "" if named else str(tmp_path))
        with pytest.raises(CmdStanNotFoundError, match="must name a built CmdStan folder"):
            compile_module.compiled_model(**named)
    monkeypatch.setenv("CMDSTAN", "")

    (folder / "gaussian_mixture").write_text("#!/bin/sh\necho another\n")
    with (
        pytest.warns(UserWarning, match=r"changed since it was built.*Reinstall stangmm"),
        pytest.raises(CmdStanNotFoundError),
    ):
        compile_module.compiled_model()
    (folder / "gaussian_mixture").write_text("#!/bin/sh\n")
    assert ready_model() == found
    (sources / "gaussian_mixture.stan").write_text("// another model\n")
    assert ready_model() is None


def hide_cmdstan(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every CmdStan of this machine, and what a wheel brought compiled."""
    monkeypatch.setattr(compile_module, "shipped_directory", lambda: home / "none")
    monkeypatch.setenv("HOME", str(home))
    for name in ("CMDSTAN", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


def test_without_cmdstan_the_error_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STANGMM_CACHE", str(tmp_path))
    hide_cmdstan(tmp_path, monkeypatch)
    with pytest.raises(CmdStanNotFoundError, match="stangmm install-cmdstan"):
        compile_module.compiled_model()


def test_an_unknown_kernel_lists_the_known_ones():
    with pytest.raises(ModelError, match="'auto', 'native', 'portable'"):
        compile_module.compiled_model(kernel="gpu")  # type: ignore[arg-type]
