"""Numbers rounded so far that the last bits of what they were computed from cannot be seen.

Products of matrices, exponentials and logarithms differ in their last bits between processors,
since BLAS and numpy take other instructions on each. Starting values and metrics come from such
computations and are rounded before they go to Stan: then Stan gets the same numbers on every
machine, and gives the same draws. The data's centre and unit need no rounding: they are sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stangmm.base.arrays import FloatArray


def significant(values: ArrayLike, bits: int = 30) -> FloatArray:
    """Values rounded to so many binary digits each."""
    fraction, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits))


def to_grid(values: ArrayLike, size: ArrayLike, bits: int = 30) -> FloatArray:
    """Values rounded to multiples of 2^-bits times the power of two below ``size``.

    Where ``size`` is much larger than a value's last bit, this is an absolute rounding, so that
    values near zero are rounded like the others.
    """
    values = np.asarray(values, dtype=np.float64)
    fraction, exponent = np.frexp(size)
    step = np.ldexp(1.0, exponent - 1 - bits)
    steps = values / step
    # A value of more steps than this has no digits left to round.
    rounds = (fraction > 0) & (np.abs(steps) < 2.0**52)
    return np.asarray(np.where(rounds, np.rint(steps) * step, values))


def rounded_covariance(matrix: NDArray[np.floating[Any]], bits: int = 16) -> FloatArray:
    """A covariance matrix (P, P) near the given one, which the last bits of that do not change.

    The rows of its Cholesky factor are rounded each to a grid of its own, and so coarsely that
    their products are exact in any order of summation. It stays positive definite.
    """
    factor: FloatArray = np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
    size = np.abs(factor).max(axis=1, keepdims=True)
    rounded = to_grid(factor, size, bits)
    smallest = to_grid(size, size, 0) * 2.0**-bits
    diagonal = np.maximum(np.diag(rounded), smallest[:, 0])
    np.fill_diagonal(rounded, diagonal)
    return np.asarray(rounded @ rounded.T)
