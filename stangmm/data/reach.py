"""How far the bulk of the data reaches: single values far out do not say how large data are."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray

# Values are far out if they are further from the median than so many scales: of the middle half,
# for a normal distribution.
_FAR_OUT, _MAD_TO_SD = 10.0, 1.4826


def reach(x: FloatArray, sample_weight: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest values, both (D,), that are not far out; missing ones are left aside."""
    middle, scale = _middle_and_scale(x, sample_weight)
    return middle - _FAR_OUT * scale, middle + _FAR_OUT * scale


def bulk(
    x: FloatArray, sample_weight: FloatArray | None, mean: FloatArray, sd: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Centre and size of the data in which no value lies far out, and whether one does; all (D,).

    They are the mean and standard deviation of all values, which are given, in features that have
    none far out. In the others they are the median, and a standard deviation to the power of two
    that its ratio to that of all is next to, so that they have the same bits on every processor.
    """
    middle, scale = _middle_and_scale(x, sample_weight)
    within = np.clip(x, middle - _FAR_OUT * scale, middle + _FAR_OUT * scale)
    far_out = ((within != x) & ~np.isnan(x)).any(axis=0)
    if not far_out.any():
        return mean, sd, far_out
    ratio = np.sqrt(_variances(within, sample_weight)) / np.sqrt(_variances(x, sample_weight))
    power = np.exp2(np.minimum(np.rint(np.log2(ratio)), 0.0))
    return np.where(far_out, middle, mean), np.where(far_out, sd * power, sd), far_out


def within_reach(x: FloatArray, sample_weight: FloatArray | None) -> FloatArray:
    """Differences (N, D) from the mean once values far out are brought to the end of the reach."""
    within = np.clip(x, *reach(x, sample_weight))
    return within - _mean(within, sample_weight)


def _middle_and_scale(
    x: FloatArray, sample_weight: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Medians (D,), and scales by the median deviation of values that differ from them."""
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
    return middle, scale


def _variances(x: FloatArray, sample_weight: FloatArray | None) -> FloatArray:
    return _mean((x - _mean(x, sample_weight)) ** 2, sample_weight)


def _mean(x: FloatArray, sample_weight: FloatArray | None) -> FloatArray:
    """Of the values that are there."""
    weight = np.ones(len(x)) if sample_weight is None else sample_weight
    seen = np.where(np.isnan(x), 0.0, weight[:, np.newaxis])
    return np.asarray((seen * np.nan_to_num(x)).sum(axis=0) / seen.sum(axis=0))


def _median(values: FloatArray, weight: FloatArray | None) -> float:
    """Middle value; the average of two where the weight of either side is the same."""
    if weight is None:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    lower, upper = np.searchsorted(share, [0.5 - 1e-12, 0.5 + 1e-12])
    return float(0.5 * (values[order[lower]] + values[order[min(upper, len(order) - 1)]]))
