"""Equal values on which components stand, and how many rows have them."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray

# Values that are not equal differ by the rounding, whose standard deviation is this many times
# smaller than half of it.
_HALF = 3.0**0.5


def share_of_ties(weights: FloatArray, gap: FloatArray, narrow: BoolArray) -> FloatArray:
    """Share of the rows that have the equal values on which each component stands.

    Components share them that are narrow at the same place in the same direction: rows that are
    zero in one feature may be two clusters in the others.

    Parameters
    ----------
    weights : ndarray, shape (..., K)
    gap : ndarray, shape (..., K, K, F)
        How far each component's mean is from those of the others in each of F directions, its own
        or the features, in standard deviations of the rounding.
    narrow : ndarray of bool, shape (..., K, K, F)
        Whether the others are as narrow as the rounding in these directions.

    Returns
    -------
    ndarray, shape (..., K)
        In the direction in which they are fewest; 1 where a component is narrow in none.
    """
    same = (np.abs(gap) < _HALF) & narrow
    share = np.einsum("...klf,...l->...kf", same, weights)
    own = np.einsum("...kkf->...kf", narrow)
    return np.asarray(np.where(own, share, 1.0).min(axis=-1))


def share_of_ties_by_feature(
    weights: FloatArray, means: FloatArray, narrow: BoolArray, rounding: FloatArray
) -> FloatArray:
    """As `share_of_ties`, where the directions are the features.

    Parameters
    ----------
    weights : ndarray, shape (..., K)
    means : ndarray, shape (..., K, D)
    narrow : ndarray of bool, shape (..., K, D)
    rounding : ndarray, shape (D,)
        Its standard deviations.
    """
    gap = (means[..., np.newaxis, :] - means[..., np.newaxis, :, :]) / rounding
    return share_of_ties(weights, gap, np.broadcast_to(narrow[..., np.newaxis, :, :], gap.shape))
