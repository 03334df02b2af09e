"""Reading: `load` makes again what was saved."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stangmm.base.errors import DataError
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.many.choice import Selection
from stangmm.many.comparison import Comparison
from stangmm.saving.schema import FORMAT, made
from stangmm.saving.tree import decode
from stangmm.saving.writing import GROUP, TEXT, checksum

_REMEDY = (
    "Load it with that version, or fit and save again. az.from_netcdf reads its draws in any case."
)
_SIGNATURE = b"\x89HDF\r\n\x1a\n"  # of HDF5, which netCDF-4 is


# The classes of these kinds, in rooms above the schema's.
_CLASSES: dict[str, type] = {
    "fit": Fit,
    "model": GaussianMixture,
    "comparison": Comparison,
    "selection": Selection,
}


def load(path: str | os.PathLike[str]) -> Fit | Comparison | Selection:
    """Load what `Fit.save`, `Comparison.save` or `Selection.save` wrote.

    Needs no CmdStan. Predictions are those of before, to the bit (on the same machine).

    Parameters
    ----------
    path : path

    Returns
    -------
    Fit, Comparison or Selection

    Raises
    ------
    DataError
        The file is damaged, not by stangmm, or of a version that this one cannot read.
    OSError
        There is no such file, or no right to read it.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(3, "diag").fit(sg.datasets.galaxies(), method="em", seed=1)
    >>> path = fit.save("galaxies.nc")
    >>> sg.load(path).bic() == fit.bic()
    True
    """
    source = Path(path).expanduser()
    shown = repr(str(source))
    if source.is_dir():
        raise DataError(f"{shown} is a folder. Give the path of a file that stangmm saved.")
    with source.open("rb") as file:
        head = file.read(len(_SIGNATURE))
    if head != _SIGNATURE:
        what = f"begins with {head!r}" if head else "is empty"
        raise DataError(
            f"{shown} is no file that stangmm saved: it {what}, and netCDF-4 begins with "
            f"{_SIGNATURE!r}. Give another file, or save the fit again."
        )
    text, packed, written_by = _contents(source, shown)
    try:
        whole = decode(
            json.loads(text), packed, lambda kind, entries: made(kind, entries, _CLASSES)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{shown} was written by stangmm {written_by}, whose objects are not those of this "
            f"version ({type(error).__name__}: {error}). {_REMEDY}"
        ) from error
    return whole  # type: ignore[no-any-return]


def _contents(source: Path, shown: str) -> tuple[str, dict[str, NDArray[Any]], str]:
    """Text, packed arrays and the version of stangmm that wrote them."""
    import h5py

    try:
        with h5py.File(source) as file:
            if GROUP not in file:
                raise DataError(
                    f"{shown} was not saved by stangmm: it has {list(file)}, but no group "
                    f"{GROUP!r}. az.from_netcdf may read it."
                )
            group = file[GROUP]
            written_by = str(group.attrs["stangmm_version"])
            written_in = int(group.attrs["format"].item())
            if written_in != FORMAT:
                raise DataError(
                    f"{shown} was written by stangmm {written_by} in format {written_in}, and this "
                    f"version reads format {FORMAT}. "
                    + ("Update stangmm." if written_in > FORMAT else _REMEDY)
                )
            text = group[TEXT].asstr()[()]
            # netCDF has no type for true and false, and stores them as int8
            names = group.attrs["arrays"].split()
            packed = {name: group[name][...].astype(name) for name in names}
            if checksum(text, packed) != group.attrs["sha256"]:
                raise ValueError("its checksum is not that of its numbers")
            return text, packed, written_by
    except DataError:
        raise
    except Exception as error:  # HDF5 has many ways to say that its bytes make no sense
        raise DataError(
            f"{shown} is damaged and cannot be read ({type(error).__name__}: {error}). Take a "
            "copy of it that is whole, or fit and save again."
        ) from error
