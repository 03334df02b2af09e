"""How finely each feature was recorded: the step below which differences mean nothing.

Data are rounded, so no component can be known to be narrower than the rounding. A value that was
rounded to a grid of step r carries an error of standard deviation r / sqrt(12). Without such a
bound the likelihood of a mixture has no maximum as soon as a value occurs more often than once.
"""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.data.reach import reach

# Values nearer to each other than this share of their size are one value, written differently.
_ONE_VALUE = 1e-14
# So are those that a calculation in single precision has left so near, if all others are so many
# times further apart. There must be so many values, each of so few numbers, and so few on average
# unless numbers repeat so often: else they are clusters.
_NEAR, _FURTHER, _VALUES, _NUMBERS, _ON_AVERAGE, _REPEATED = 1e-4, 100.0, 10, 10, 1.5, 2.0
# A decimal step must be so much larger than what a double can hold, to be seen in the values.
_VISIBLE_STEP = 1e3


def resolution(x: FloatArray, sample_weight: FloatArray | None = None) -> FloatArray:
    """Step of the grid on which each feature lies, shape (D,).

    It is the largest decimal step of which all values are multiples, such as 0.1 or 10. Where
    values repeat they lie on a grid that need not be decimal (60ths, or zeros beside anything):
    then it is at least the smallest gap between distinct values. Numbers that only the errors of
    single precision tell apart, as differences of 4-byte numbers may be, are one value. Values
    written to all the digits of a double have the resolution of a double, which bounds nothing.
    Single values far out, which a double may hold coarsely (1e20), do not count for that.

    Parameters
    ----------
    x : ndarray, shape (N, D)
        In the units in which the data were recorded; NaN where a value is missing.
    sample_weight : ndarray, shape (N,), optional
        Whole numbers say how often rows were recorded; others say nothing about that.
    """
    counts = np.ones(len(x))
    if sample_weight is not None and (sample_weight == np.round(sample_weight)).all():
        counts = sample_weight
    seen = ~np.isnan(x)
    return np.array(
        [
            _step(x[own, d], counts[own].sum(), low, high)
            for d, (own, low, high) in enumerate(zip(seen.T, *reach(x, sample_weight), strict=True))
        ]
    )


def rounding_error(step: FloatArray) -> FloatArray:
    """Standard deviation of the error of values that were rounded to multiples of a step."""
    return np.asarray(step / np.sqrt(12.0))


def _step(values: FloatArray, times: float, low: float, high: float) -> float:
    """Of one feature, whose values were recorded so many times, and that reaches so far."""
    distinct = np.unique(values)
    within = distinct[(distinct >= low) & (distinct <= high)]
    largest = float(np.abs(within[[0, -1]]).max())
    step = max(_decimal_step(distinct, largest), float(np.spacing(largest)))
    apart = np.diff(distinct)
    apart = apart[_between_values(apart, largest, times)]
    if len(apart) and len(apart) + 1 < times:
        step = max(step, float(apart.min()))
    return step


def _between_values(gaps: FloatArray, largest: float, times: float) -> BoolArray:
    """Which gaps of sorted distinct numbers are between values, not between writings of one."""
    apart: BoolArray = np.asarray(gaps > _ONE_VALUE * largest)
    ordered = np.sort(gaps[apart])
    if len(ordered) > 1 and ordered[0] <= _NEAR * largest:
        further = np.where(ordered[:-1] <= _NEAR * largest, ordered[1:] / ordered[:-1], 0.0)
        errors = ordered[further.argmax()]
        wide = gaps > errors
        value = np.append(0, np.cumsum(wide))
        numbers = np.bincount(value)
        # The numbers of a value lie together; those of a sequence do not.
        width = np.bincount(value[1:], np.where(wide, 0.0, gaps)).max()
        if (
            further.max() > _FURTHER
            and width * _FURTHER < gaps[wide].min()
            and len(numbers) >= _VALUES
            and numbers.max() <= _NUMBERS
            and numbers.sum() <= max(_ON_AVERAGE * len(numbers), times / _REPEATED)
        ):
            return np.asarray(wide)
    return apart


def _decimal_step(distinct: FloatArray, largest: float) -> float:
    """Give the largest power of ten of which all values are multiples; 0 if there is none."""
    few = distinct[:: max(1, len(distinct) // 100)]  # most data show on a few values that none is
    exponent = int(np.floor(np.log10(largest)))
    while 10.0**exponent > _VISIBLE_STEP * np.spacing(largest):
        if _on_grid(few, exponent, largest) and _on_grid(distinct, exponent, largest):
            return float(10.0**exponent)
        exponent -= 1
    return 0.0


def _on_grid(values: FloatArray, exponent: int, largest: float) -> bool:
    in_steps = values / 10.0**exponent
    rounding = 4.0 * np.spacing(np.maximum(np.abs(values), largest)) / 10.0**exponent
    return bool((np.abs(in_steps - np.round(in_steps)) <= rounding).all())
