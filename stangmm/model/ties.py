"""Equal values on which components stand, and how many rows have them."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.base.thresholds import SHARE_OF_TIES

# A rounding error is at most this many times its standard deviation, but for the last bits.
_LARGEST = 3.0**0.5 * 1.001


def are_few(
    values: FloatArray, sample_weight: FloatArray | None, at: float, rounding: float
) -> bool:
    """Whether few rows have the value on which a component stands.

    Rows are counted, not the component's share of them: rows that are zero in one feature may be
    two clusters, which differ in the others.

    Parameters
    ----------
    values : ndarray, shape (N,)
        Of a feature, or along a direction; NaN where they are missing.
    sample_weight : ndarray, shape (N,), optional
    at : float
        Where the component is.
    rounding : float
        Standard deviation of the rounding errors, in the same units.
    """
    weight = np.ones(len(values)) if sample_weight is None else sample_weight
    there = np.abs(values - at) <= _LARGEST * rounding
    return bool(weight[there].sum() < SHARE_OF_TIES * weight[~np.isnan(values)].sum())


def stand_on_few(
    x: FloatArray,
    sample_weight: FloatArray | None,
    means: FloatArray,
    narrow: BoolArray,
    rounding: FloatArray,
) -> BoolArray:
    """Which components stand on a value of a feature that few rows have.

    Parameters
    ----------
    x : ndarray, shape (N, D)
    sample_weight : ndarray, shape (N,), optional
    means : ndarray, shape (..., D)
    narrow : ndarray of bool, shape (..., D)
        In which features components are as narrow as the rounding.
    rounding : ndarray, shape (D,)
        Standard deviations of the rounding errors.

    Returns
    -------
    ndarray of bool, shape (...)
    """
    result = np.zeros_like(narrow)
    known: dict[tuple[int, float], bool] = {}  # many components stand on one value, such as zero
    for place in zip(*np.nonzero(narrow), strict=True):
        d = int(place[-1])
        value = (d, float(np.round(means[place] / rounding[d], 2)))
        if value not in known:
            known[value] = are_few(x[:, d], sample_weight, means[place], rounding[d])
        result[place] = known[value]
    return np.asarray(result.any(axis=-1))
