"""How far the bulk of the data reaches: single values far out do not say how large data are."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import FloatArray

# Values are far out if they are further from the median than so many scales: of the middle half,
# for a normal distribution.
_FAR_OUT, _MAD_TO_SD = 10.0, 1.4826


def reach(x: FloatArray, sample_weight: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest values, both (D,), that are not far out; missing ones are left aside."""
    middle, scale = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for d, column in enumerate(x.T):
        seen = ~np.isnan(column)
        values = column[seen]
        weight = None if sample_weight is None else sample_weight[seen]
        middle[d] = _median(values, weight)
        away = np.abs(values - middle[d])
        differs = away > 0.0
        if differs.any():
            weight = None if weight is None else weight[differs]
            scale[d] = _MAD_TO_SD * _median(away[differs], weight)
    return middle - _FAR_OUT * scale, middle + _FAR_OUT * scale


def bulk(x: FloatArray, sample_weight: FloatArray | None) -> FloatArray:
    """Size (D,) of the data in which no value lies far out, relative to that of all; at most 1.

    It is a ratio of standard deviations, to a power of two, so that it has the same bits on every
    processor.
    """
    within = np.clip(x, *reach(x, sample_weight))
    if (within == x)[~np.isnan(x)].all():
        return np.ones(x.shape[1])
    ratio = _variances(within, sample_weight) / _variances(x, sample_weight)
    return np.exp2(np.minimum(np.rint(0.5 * np.log2(ratio)), 0.0))


def _variances(x: FloatArray, sample_weight: FloatArray | None) -> FloatArray:
    weight = np.ones(len(x)) if sample_weight is None else sample_weight
    seen = np.where(np.isnan(x), 0.0, weight[:, np.newaxis])
    filled = np.nan_to_num(x)
    mean = (seen * filled).sum(axis=0) / seen.sum(axis=0)
    return np.asarray((seen * (filled - mean) ** 2).sum(axis=0) / seen.sum(axis=0))


def _median(values: FloatArray, weight: FloatArray | None) -> float:
    """Middle value; the average of two where the weight of either side is the same."""
    if weight is None:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    lower, upper = np.searchsorted(share, [0.5 - 1e-12, 0.5 + 1e-12])
    return float(0.5 * (values[order[lower]] + values[order[min(upper, len(order) - 1)]]))
