"""Reading: `load` makes again what was saved."""

from __future__ import annotations

import json
import os

from stangmm.base.checked import checked_path
from stangmm.base.errors import DataError
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.many.choice import Selection
from stangmm.many.comparison import Comparison
from stangmm.many.models import ModelComparison
from stangmm.saving.reading import REMEDY, stored
from stangmm.saving.schema import check, made
from stangmm.saving.tree import decode

_WORDS = 500  # letters of what a file says of itself in a message
_WHOLE = ("fit", "comparison", "model comparison", "selection")  # what a file is of
# The classes of these kinds, in rooms above the schema's.
_CLASSES: dict[str, type] = {
    "fit": Fit,
    "model": GaussianMixture,
    "comparison": Comparison,
    "model comparison": ModelComparison,
    "selection": Selection,
}


def load(path: str | os.PathLike[str]) -> Fit | Comparison | ModelComparison | Selection:
    """Load what ``save`` of a fit, a comparison or a selection wrote.

    Needs no CmdStan. Predictions are those of before, to the bit (on the same machine).

    Parameters
    ----------
    path : path

    Returns
    -------
    Fit, Comparison, ModelComparison or Selection

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
    source = checked_path(path)
    found = stored(source)
    try:
        whole = decode(
            json.loads(found.text),
            found.arrays,
            lambda kind, entries: made(kind, entries, _CLASSES),
        )
        kind = next((kind for kind in _WHOLE if type(whole) is _CLASSES[kind]), None)
        if kind is None:
            raise ValueError(f"it holds a {type(whole).__name__}, none of {list(_WHOLE)}")
        check(kind, whole, {})
    except Exception as error:  # the text may say anything; what it says is not this version's
        raise DataError(
            f"{str(source)!r} was written by stangmm {found.written_by}, whose objects are not "
            f"those of this version ({type(error).__name__}: {str(error)[:_WORDS]}). {REMEDY}"
        ) from error
    return whole  # type: ignore[no-any-return]
