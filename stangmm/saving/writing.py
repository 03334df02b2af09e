"""Writing: one object and the fits in it to one netCDF file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stangmm.base.files import checked_target, write_whole
from stangmm.posterior.arviz import groups as arviz_groups
from stangmm.posterior.fitted import Fitted
from stangmm.saving.reading import index_of
from stangmm.saving.schema import described, entries_of
from stangmm.saving.tree import FORMAT, GROUP, TEXT, PackedArrays, checksum, encode

if TYPE_CHECKING:
    import xarray as xr


# Rows times draws beyond which the rows' log likelihood is left out: 128 MB of 8-byte numbers.
LARGEST_LOG_LIKELIHOOD = 2**24


def save(
    kind: str, thing: object, fits: Mapping[str, Fitted], path: str | os.PathLike[str]
) -> Path:
    """Write an object to a netCDF file, from which `load` makes it again.

    Parameters
    ----------
    kind : {"fit", "comparison", "model comparison", "selection"}
    thing : Fit, Comparison, ModelComparison or Selection
    fits : mapping of str to Fit
        What ArviZ is to find: fits by the group under which theirs go; "" is the file's root.
    path : path
        A file that is there is replaced at once, when the new one is complete.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ModelError
        The folder does not exist, the path is a folder, or the object holds what cannot be saved,
        such as settings of a method that has no name of its own.
    OSError
        The file could not be written; what was there before is unchanged.
    """
    import xarray as xr

    target = checked_target(path, "fit.nc")
    arrays = PackedArrays()
    whole: dict[str, Any] = {"kind": kind, "entries": {}}
    for name, part in entries_of(kind, thing).items():
        whole["entries"][name] = encode(part, arrays, described)
    text = json.dumps(whole)
    packed = arrays.packed()
    facts = {
        "format": FORMAT,
        "stangmm_version": version("stangmm"),
        "sha256": checksum(text, packed),
    }
    own = xr.Dataset(
        {TEXT: ((), text), **{name: (f"n_{name}", flat) for name, flat in packed.items()}},
        attrs={**facts, "arrays": " ".join(packed)},
    )
    groups = {GROUP: own}
    for place, fit in fits.items():
        groups |= {f"{place}/{name}": group for name, group in _arviz_groups(fit)}
    # HDF5 takes the whole process down when a disk is full, so it gets to see only memory.
    with _without_cluster():
        content = xr.DataTree.from_dict(groups).to_netcdf(
            engine="h5netcdf",
            encoding={f"/{GROUP}": {name: {"_FillValue": None} for name in packed}},
        )
    try:
        index = index_of(content, text, {**facts, "arrays": list(packed)})
        write_whole(target, content, index)
    finally:
        if isinstance(content, memoryview):  # or Python 3.13 complains when both are collected
            content.release()
    return target


def _without_cluster() -> AbstractContextManager[Any]:
    """Keep xarray from asking the scheduler of a Dask cluster for a lock, which fails in memory."""
    dask = sys.modules.get("dask")
    return nullcontext() if dask is None else dask.config.set(scheduler="synchronous")


def _arviz_groups(fit: Fitted) -> Iterator[tuple[str, xr.Dataset]]:
    n_draws, n_rows = fit.lp.size, fit.dataset.n_observations
    small = n_draws * n_rows <= LARGEST_LOG_LIKELIHOOD
    for name, made in arviz_groups(fit, for_file=True, log_likelihood=small).items():
        group = _storable(made)
        if name == "posterior" and not small:
            group.attrs["log_likelihood"] = (
                f"Left out: {n_rows} rows in {n_draws} draws are "
                f"{n_rows * n_draws * 8 / 1e9:.1f} GB. stangmm.load(path).to_arviz() computes it."
            )
        yield name, group


def _storable(group: xr.Dataset) -> xr.Dataset:
    """Write a copy's names and attributes in a way that HDF5 can hold; the JSON has them as is."""
    names = {
        dim: [name.encode(errors="replace").decode().replace("\0", "?") for name in index.values]
        for dim, index in group.coords.items()
        if index.dtype.kind not in "biuf"
    }
    stored = group.assign_coords(names)
    huge = {n: v for n, v in group.attrs.items() if isinstance(v, int) and v >= 2**63}
    return stored.assign_attrs({name: str(value) for name, value in huge.items()})
