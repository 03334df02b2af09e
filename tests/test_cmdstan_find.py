"""CmdStan is found in the documented order, and what cannot be used is refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stangmm.base.errors import CmdStanNotFoundError
from stangmm.cmdstan import find
from stangmm.cmdstan.find import default_directory, find_cmdstan, is_private


def make_tree(folder: Path, version: str = "2.30.1", *, built: bool = True) -> Path:
    """Lay out what is looked at in a CmdStan folder."""
    (folder / "bin").mkdir(parents=True)
    (folder / "makefile").write_text(f"help:\n\nCMDSTAN_VERSION := {version}\n")
    if built:
        stanc = folder / "bin" / "stanc"
        stanc.write_text("#!/bin/sh\n")
        stanc.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work with an empty home folder and without CMDSTAN and conda."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("CMDSTAN", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    return folder


def test_without_any_cmdstan_the_error_names_the_command_that_installs_one():
    with pytest.raises(CmdStanNotFoundError, match="stangmm install-cmdstan"):
        find_cmdstan()


def test_the_newest_version_in_the_home_folder_is_taken(home: Path):
    for version in ("2.9.0", "2.28.0", "2.100.0", "2.27.0"):
        make_tree(home / ".cmdstan" / f"cmdstan-{version}", version)
    found = find_cmdstan()
    assert found.version == (2, 100, 0)
    assert found.path == home / ".cmdstan" / "cmdstan-2.100.0"


def test_a_tree_that_was_never_built_is_passed_over(home: Path):
    make_tree(home / ".cmdstan" / "cmdstan-2.36.0", "2.36.0", built=False)
    good = make_tree(home / ".cmdstan" / "cmdstan-2.27.0", "2.27.0")
    assert find_cmdstan().path == good


def test_the_error_says_what_is_wrong_with_each_folder_that_was_looked_at(home: Path):
    make_tree(home / ".cmdstan" / "cmdstan-2.36.0", "2.36.0", built=False)
    make_tree(home / ".cmdstan" / "cmdstan-2.26.1", "2.26.1")
    with pytest.raises(CmdStanNotFoundError, match=r"never built(.|\n)*2\.26\.1, but .* 2\.27\.0"):
        find_cmdstan()


def test_argument_comes_before_environment_and_environment_before_home(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    make_tree(home / ".cmdstan" / "cmdstan-2.36.0", "2.36.0")
    of_environment = make_tree(tmp_path / "environment", "2.30.0")
    of_argument = make_tree(tmp_path / "argument", "2.29.0")
    monkeypatch.setenv("CMDSTAN", str(of_environment))
    assert find_cmdstan().path == of_environment
    assert find_cmdstan(of_argument).path == of_argument


def test_the_conda_environment_is_looked_at_last(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    conda = make_tree(tmp_path / "conda" / "bin" / "cmdstan", "2.36.0")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))
    assert find_cmdstan().path == conda
    own = make_tree(home / ".cmdstan" / "cmdstan-2.27.0", "2.27.0")
    assert find_cmdstan().path == own


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.write_text(""), "is not a folder"),
        (lambda folder: folder.mkdir(), "no makefile that sets CMDSTAN_VERSION"),
        (lambda folder: make_tree(folder, "2.26.1"), r"is CmdStan 2\.26\.1, but .* 2\.27\.0"),
        (lambda folder: make_tree(folder, built=False), "never built"),
    ],
)
@pytest.mark.parametrize("origin", ["argument", "CMDSTAN"])
def test_a_folder_asked_for_is_refused_with_the_reason_and_never_replaced(
    spoil, reason: str, origin: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    make_tree(home / ".cmdstan" / "cmdstan-2.36.0", "2.36.0")  # must not be taken in its place
    folder = tmp_path / "asked"
    spoil(folder)
    if origin == "CMDSTAN":
        monkeypatch.setenv("CMDSTAN", str(folder))
    with pytest.raises(CmdStanNotFoundError, match=reason) as error:
        find_cmdstan(folder if origin == "argument" else None)
    assert origin in str(error.value)
    assert str(folder) in str(error.value)


def test_a_home_with_blanks_has_a_place_elsewhere_that_is_the_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "a home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    base = default_directory()
    assert " " not in str(base)
    assert base.name.endswith(str(os.getuid()))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    monkeypatch.setattr(find, "default_directory", lambda: elsewhere)
    expected = make_tree(elsewhere / "cmdstan-2.30.1")
    assert find_cmdstan().path == expected
    elsewhere.chmod(0o777)  # whoever can write there could put a program in place of stanc
    with pytest.raises(CmdStanNotFoundError):
        find_cmdstan()


def test_a_private_folder_is_no_link_and_nobody_elses_to_write(tmp_path: Path):
    folder = tmp_path / "own"
    assert not is_private(folder)
    folder.mkdir(mode=0o700)
    assert is_private(folder)
    (tmp_path / "link").symlink_to(folder)
    assert not is_private(tmp_path / "link")
    folder.chmod(0o720)
    assert not is_private(folder)
