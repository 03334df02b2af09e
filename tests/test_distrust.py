"""Files that are made to mislead: nothing is run or waited for, and all else is a DataError."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from robustness.mutations import changed_bytes, changed_tree, replaced, rewritten

import stangmm as sg


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1)
    return fit.save(folder / "fit.nc")


def tell(path: Path, change: Any, target: Path) -> Path:
    rewritten(path, target, change)
    return target


@pytest.mark.parametrize("cmdstan", ["/nowhere/evil", {"path": "/nowhere/evil"}])
def test_no_file_says_which_cmdstan_runs(whole: Path, cmdstan: Any, tmp_path: Path) -> None:
    arguments = {"mapping": [["draws", 50], ["cmdstan", cmdstan]]}
    method = {"name": "nuts", "kind": "mcmc", "arguments": arguments}
    comparison = sg.load(Path(__file__).parent / "formats" / "2.nc")
    assert isinstance(comparison, sg.Comparison)
    file = comparison.fits["nuts"].save(tmp_path / "nuts.nc")
    place = ("entries", "method", "entries")
    misled = tell(file, lambda tree: replaced(tree, place, method), tmp_path / "misled.nc")
    loaded = sg.load(misled)
    assert isinstance(loaded, sg.Fit)
    assert loaded.settings == sg.NUTS(draws=50)


def test_a_file_does_not_get_the_path_of_this_machines_cmdstan(tmp_path: Path) -> None:
    comparison = sg.load(Path(__file__).parent / "formats" / "2.nc")
    assert isinstance(comparison, sg.Comparison)
    fit = comparison.fits["nuts"]
    object.__setattr__(fit.settings, "cmdstan", tmp_path / "my secret")
    assert b"my secret" not in fit.save(tmp_path / "fit.nc").read_bytes()


OTHER_THINGS = [
    None, 7, "text", [1], {"tuple": []}, {"mapping": []}, {"float": "nan"},
    {"kind": "method", "entries": {"name": "nuts", "kind": "mcmc", "arguments": {}}},
    {"kind": "prior", "entries": {"family": "LKJ", "arguments": {}}},
]  # fmt: skip


@pytest.mark.parametrize("thing", OTHER_THINGS, ids=str)
def test_what_is_no_fit_is_no_fit(whole: Path, thing: Any, tmp_path: Path) -> None:
    with pytest.raises(sg.DataError, match="objects are not those of this version"):
        sg.load(tell(whole, lambda tree: thing, tmp_path / "other.nc"))


def test_what_is_nested_without_end_is_refused(whole: Path, tmp_path: Path) -> None:
    rewritten(whole, tmp_path / "deep.nc", lambda tree: tree, text="[" * 100_000 + "]" * 100_000)
    with pytest.raises(sg.DataError, match="RecursionError"):
        sg.load(tmp_path / "deep.nc")


NUTS = {"name": "nuts", "kind": "mcmc", "arguments": {"mapping": []}}
WRONG_FITS = {
    "sizes": (("entries", "model", "entries", "n_components"), 3, "weights of a mixtures"),
    "kinds": (
        ("entries", "method"),
        {"kind": "method", "entries": NUTS},
        "facts of another kind",
    ),
    "types": (("entries", "seed"), "one", "seed of a fit"),
    "structures": (("entries", "model", "entries", "covariance_type"), "diag", "has correlations"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_FITS)
def test_parts_that_do_not_go_together_are_refused(whole: Path, name: str, tmp_path: Path) -> None:
    place, value, words = WRONG_FITS[name]
    with pytest.raises(sg.DataError, match=words):
        sg.load(tell(whole, lambda tree: replaced(tree, place, value), tmp_path / "wrong.nc"))


def test_arrays_cannot_grow_beyond_the_file(whole: Path, tmp_path: Path) -> None:
    """The same numbers a million times, each from another place."""
    many = {"tuple": [{"array": ["float64", i, [500], [0]]} for i in range(2000)]}
    place = ("entries", "run", "entries", "paths")
    with pytest.raises(sg.DataError, match="larger than what they are made of"):
        sg.load(tell(whole, lambda tree: replaced(tree, place, many), tmp_path / "bomb.nc"))


@pytest.mark.parametrize("how", ["packed", "elsewhere", "link", "attribute"])
def test_only_what_stands_in_the_file_is_read(whole: Path, how: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.nc"
    file.write_bytes(whole.read_bytes())
    with h5py.File(file, "r+") as opened:
        group = opened["stangmm"]
        size = group["float64"].size
        if how == "attribute":
            group.attrs["sha256"] = ["0"] * 100
        else:
            del group["float64"]
        if how == "packed":  # a hundred kilobytes that become a hundred megabytes
            group.create_dataset("float64", data=np.zeros(10**7), compression="gzip")
        if how == "elsewhere":
            external = [(str(tmp_path / "raw"), 0, 8 * size)]
            group.create_dataset("float64", (size,), "f8", external=external)
        if how == "link":
            group["float64"] = h5py.ExternalLink(str(whole), "/stangmm/float64")
    with pytest.raises(sg.DataError, match=r"not stored in the file|is a link|not a single value"):
        sg.load(file)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nc")
    with pytest.raises(sg.DataError, match="pipe"):
        sg.load(tmp_path / "pipe.nc")


def test_modules_beside_the_data_are_not_imported(whole: Path, tmp_path: Path) -> None:
    """A file that HDF5 reads, in a process of its own, in a folder with a module named h5py."""
    tell(whole, lambda tree: tree, tmp_path / "changed.nc")
    (tmp_path / "h5py.py").write_text("open('was-run', 'w').close()")
    program = "import stangmm as sg; print(sg.load('changed.nc').seed)"
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert not (tmp_path / "was-run").exists()


def test_changed_bytes_never_give_another_fit(whole: Path, tmp_path: Path) -> None:
    rng, content = random.Random(1), whole.read_bytes()  # noqa: S311
    known, file = repr(sg.load(whole)), tmp_path / "changed.nc"
    refused = 0
    for _ in range(300):
        file.write_bytes(changed_bytes(content, rng))
        try:
            assert repr(sg.load(file)) == known
        except sg.DataError:
            refused += 1
    assert 30 < refused < 300


def test_changed_trees_are_refused_or_can_be_asked(whole: Path, tmp_path: Path) -> None:
    """The index leads to the tree that was written, so that a change must write a new one."""
    from stangmm.saving.reading import stored

    rng, found = random.Random(2), stored(whole)  # noqa: S311
    tree = json.loads(found.text)
    for _ in range(20):
        changed = changed_tree(tree, rng)
        try:
            rewritten(whole, tmp_path / "tree.nc", lambda _, changed=changed: changed)
            loaded = sg.load(tmp_path / "tree.nc")
        except sg.DataError:
            continue
        assert isinstance(loaded, sg.Fit)
        loaded.summary()
        str(loaded.diagnose())
