"""Covariances with scales of their own and one correlation matrix: the most likely ones."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from stangmm.base.arrays import FloatArray

# Newton's method ends when a step gains less than so many nats a row; it takes five to ten.
_GAIN, _MOST_STEPS, _HALVINGS = 1e-15, 50, 30
# Added to every scale, relative to the feature's largest, since a group may have none; the larger
# where rounding has left a group less than none.
_NARROWEST = (1e-10, 1e-7, 1e-5)
_FLATTEST = 1e-8  # curvature: what is flatter is a change of units, which changes nothing
_LONGEST = 1.0  # change of a log scale in one step


def with_common_correlation(share: FloatArray, covariances: FloatArray) -> FloatArray:
    """Covariances s_k R s_k, s_k diagonal, that are most likely for groups of normal rows.

    With C = sum_k share_k s_k^-1 S_k s_k^-1 in place of R, whose scales are then those of s_k, the
    likelihood is that of the scales alone, sum_k share_k log |s_k^-1| - log |C| / 2 a row.
    Newton's method maximises it in the logarithms of 1 / s_k.

    Parameters
    ----------
    share : ndarray, shape (R, K)
        Shares of the rows; they sum to 1.
    covariances : ndarray, shape (R, K, D, D)
        S_k, each group's own.

    Returns
    -------
    ndarray, shape (R, K, D, D)
    """
    widest = np.diagonal(covariances, axis1=-2, axis2=-1).max(axis=1)
    ridge = np.maximum(widest, np.finfo(np.float64).tiny)[:, np.newaxis, np.newaxis]
    ridge = ridge * np.eye(covariances.shape[-1])
    for narrowest in _NARROWEST[:-1]:
        with suppress(np.linalg.LinAlgError):
            return _climbed(share, covariances + narrowest**2 * ridge)
    return _climbed(share, covariances + _NARROWEST[-1] ** 2 * ridge)


def _climbed(share: FloatArray, covariances: FloatArray) -> FloatArray:
    r, k, d = covariances.shape[:3]
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)
    if not (variances > 0).all():
        raise np.linalg.LinAlgError("a variance is not positive")
    log_inverse = -0.5 * np.log(variances)
    value, parts, precision = _profile(share, covariances, log_inverse)
    for _ in range(_MOST_STEPS):
        gradient, curvature = _derivatives(share, parts, precision)
        values, vectors = np.linalg.eigh(curvature)
        along = np.swapaxes(vectors, -1, -2) @ gradient[..., np.newaxis]
        steps = (vectors @ (along / np.maximum(np.abs(values), _FLATTEST)[..., np.newaxis]))[..., 0]
        if ((gradient * steps).sum(axis=-1) < _GAIN).all():
            break
        longest = np.abs(steps).max(axis=-1, keepdims=True)
        steps = (steps * np.minimum(1.0, _LONGEST / np.maximum(longest, 1e-300))).reshape(r, k, d)
        for _ in range(_HALVINGS):
            tried = _profile(share, covariances, log_inverse + steps)
            falls = tried[0] < value
            if not falls.any():
                break
            steps[falls] *= 0.5
        steps[falls] = 0.0
        if not steps.any():
            break
        log_inverse = log_inverse + steps
        value, parts, precision = _profile(share, covariances, log_inverse)
    common = parts.sum(axis=1, keepdims=True)
    inverse = np.exp(log_inverse)
    return np.asarray(common / (inverse[..., np.newaxis] * inverse[..., np.newaxis, :]))


def _profile(
    share: FloatArray, covariances: FloatArray, log_inverse: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log likelihood a row (R,), the parts of C (R, K, D, D), and C^-1 (R, 1, D, D)."""
    inverse = np.exp(log_inverse)
    parts = share[..., np.newaxis, np.newaxis] * covariances
    parts = parts * (inverse[..., np.newaxis] * inverse[..., np.newaxis, :])
    common = parts.sum(axis=1, keepdims=True)
    value = (share * log_inverse.sum(axis=-1)).sum(axis=1) - 0.5 * np.linalg.slogdet(common)[1][
        :, 0
    ]
    return value, parts, np.linalg.inv(common)


def _derivatives(
    share: FloatArray, parts: FloatArray, precision: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Gradient (R, K D) in the log inverse scales, and minus the second derivatives."""
    r, k, d, _ = parts.shape
    turned = parts @ precision  # A_k P
    gradient = share[..., np.newaxis] - np.diagonal(turned, axis1=-2, axis2=-1)
    # Of (A_k P)_ii by the log inverse scale j of component m.
    curvature = -np.einsum("rkij,rmji->rkimj", turned, turned)
    curvature -= np.einsum("rkin,rmnj,rji->rkimj", turned, parts, precision[:, 0])
    for m in range(k):
        curvature[:, m, :, m] += parts[:, m] * precision[:, 0]
        curvature[:, m, np.arange(d), m, np.arange(d)] += np.diagonal(
            turned[:, m], axis1=-2, axis2=-1
        )
    return gradient.reshape(r, k * d), curvature.reshape(r, k * d, k * d)
