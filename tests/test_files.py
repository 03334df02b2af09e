"""Files are written in one way: whole or not at all, through links, into pipes, never over them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import stangmm as sg
from stangmm.base.files import checked_target, write_whole
from stangmm.cli import main


@pytest.fixture(scope="module")
def fit() -> sg.Fit:
    return sg.GaussianMixture(2).fit(sg.datasets.faithful(), "em", seed=1, progress=False)


def written_plainly(fit: sg.Fit, path: Path) -> None:
    write_whole(checked_target(path, "file.txt"), b"new")


WRITERS: dict[str, Callable[[sg.Fit, Path], object]] = {
    "file": written_plainly,
    "fit": lambda fit, path: fit.save(path),
    "report": lambda fit, path: fit.report(path, progress=False),
}
each = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@each
def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(
    fit: sg.Fit, write: Callable[[sg.Fit, Path], object], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    link, real = tmp_path / "link", tmp_path / "folder" / "real"
    real.write_text("old")
    link.symlink_to(real)
    write(fit, link)
    assert link.is_symlink()
    assert real.read_bytes() not in (b"", b"old")
    assert list((tmp_path / "folder").iterdir()) == [real]


@each
def test_a_link_to_nothing_gives_the_file_that_it_names(
    fit: sg.Fit, write: Callable[[sg.Fit, Path], object], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(fit, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_size > 0


@each
def test_a_pipe_gets_the_bytes_and_stays_a_pipe(
    fit: sg.Fit, write: Callable[[sg.Fit, Path], object], tmp_path: Path
) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(fit, pipe)
    reader.join(timeout=60)
    assert len(got[0]) > 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@each
def test_a_device_stays_a_device(
    fit: sg.Fit, write: Callable[[sg.Fit, Path], object], tmp_path: Path
) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "null"):
        write(fit, path)
        assert Path("/dev/null").is_char_device()


def test_the_rights_of_a_file_are_kept(fit: sg.Fit, tmp_path: Path) -> None:
    file = tmp_path / "fit.nc"
    file.touch(mode=0o600)
    fit.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_disk_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sda").touch()
    monkeypatch.setattr(Path, "is_block_device", lambda path: path.name == "sda")
    with pytest.raises(sg.ModelError, match=r"is a disk\. Give the path of a file"):
        checked_target(tmp_path / "sda", "fit.nc")


PROGRAM = """
import sys
from stangmm.cli import main
sys.exit(main(["fit", sys.argv[1], "-k", "2", "--method", "em", "--seed", "1", "--quiet",
               "--report", "/dev/stdout"]))
"""


@pytest.mark.parametrize("to_a_file", [True, False])
def test_a_report_can_go_to_standard_output(tmp_path: Path, to_a_file: bool) -> None:
    data, out = tmp_path / "data.csv", tmp_path / "out.html"
    sg.datasets.faithful().to_csv(data, index=False)
    command = [sys.executable, "-c", PROGRAM, data]
    if to_a_file:
        with out.open("wb") as file:
            subprocess.run(command, stdout=file, check=True)
        page = out.read_bytes()
    else:
        page = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert page.startswith(b"<!DOCTYPE html>")
    assert page.rstrip().endswith(b"</html>")


def test_a_picture_can_go_into_a_pipe(tmp_path: Path) -> None:
    data, pipe, got = tmp_path / "data.csv", tmp_path / "choice.svg", []
    sg.datasets.galaxies().to_csv(data, index=False)
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    options = ["--max-k", "2", "--method", "em", "--seed", "1", "--quiet", "--picture", str(pipe)]
    main(["select", str(data), *options])
    reader.join(timeout=60)
    assert b"</svg>" in got[0]
