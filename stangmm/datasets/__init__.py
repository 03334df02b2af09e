"""Data sets for examples and tests, with their sources and units."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def galaxies() -> pd.DataFrame:
    """Velocities of 82 galaxies in the Corona Borealis region, in 1000 km/s, shape (82, 1).

    Source: Roeder (1990), Journal of the American Statistical Association 85, 617-624
    (doi:10.1080/01621459.1990.10474918). The numbers are those of R's ``MASS::galaxies``, whose
    78th value, 26.690, is 26.960 in Postman, Huchra & Geller (1986, doi:10.1086/114257).

    Returns
    -------
    DataFrame
        A fresh copy.

    Examples
    --------
    >>> import stangmm as sg
    >>> sg.datasets.galaxies().shape
    (82, 1)
    """
    table = _read("galaxies.csv") / 1000.0
    table.columns = ["velocity_1000km_s"]
    return table


def faithful() -> pd.DataFrame:
    """Length of 272 eruptions of Old Faithful and the wait to the next, minutes, shape (272, 2).

    Source: Azzalini & Bowman (1990), Applied Statistics 39, 357-365 (doi:10.2307/2347385). The
    numbers are those of R's ``datasets::faithful``.

    Returns
    -------
    DataFrame
        A fresh copy.

    Examples
    --------
    >>> import stangmm as sg
    >>> list(sg.datasets.faithful().columns)
    ['eruption_min', 'waiting_min']
    """
    return _read("faithful.csv")


def _read(name: str) -> pd.DataFrame:
    import pandas as pd

    with (files(__name__) / name).open() as file:
        return pd.read_csv(file)
