"""Stacking weights: the average of predictive densities that predicts left-out rows best.

Yao, Vehtari, Simpson & Gelman 2018 (doi:10.1214/17-BA1091).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import shown
from stangmm.base.errors import ModelError
from stangmm.data.dataset import as_numbers

# Nothing that the weights could still gain: in nats for each row, and by concavity a bound.
_GAP = 1e-11
_MAX_STEPS = 100
_ROUNDING = 1e-14  # of the objective, which is of the order of 1
# Ridge relative to the curvature: models that predict alike share their weight and stay put.
_RIDGE = 1e-10


def stacking_weights(
    log_densities: FloatArray, sample_weight: FloatArray | None = None
) -> FloatArray:
    """Weights on the simplex that maximize the mean log of the weighted predictive densities.

    The problem is concave, and is solved by sequential quadratic programming on the positive
    orthant (Kim, Carbonetto, Stephens & Anitescu 2020, doi:10.1080/10618600.2019.1689985). A bound
    on what is left to gain says when to stop.

    Parameters
    ----------
    log_densities : ndarray, shape (N, M)
        Log predictive density of row n under model m, for rows that the model has not seen.
    sample_weight : ndarray, shape (N,), optional
        How often each row counts.

    Returns
    -------
    ndarray, shape (M,)
        Not negative, sums to 1. Models that predict every row alike get equal weights.

    Raises
    ------
    ModelError
        Not a table, not a number, or a row that has density zero by every model.

    Examples
    --------
    >>> import numpy as np
    >>> stacking_weights(np.log([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])).round(3)
    array([0.708, 0.292])
    """
    log_p = _numbers("log_densities", log_densities)
    if log_p.ndim != 2 or not log_p.size:
        raise ModelError(
            f"log_densities must have shape (rows, models), got {log_p.shape}. Give one column "
            "for each model."
        )
    share = (
        np.ones(len(log_p)) if sample_weight is None else _numbers("sample_weight", sample_weight)
    )
    if share.shape != (len(log_p),) or not (share >= 0).all() or not share.sum() > 0:
        raise ModelError(
            f"sample_weight must be {len(log_p)} numbers, none negative and not all zero, got "
            f"shape {share.shape}."
        )
    counted = share > 0
    log_p, share = log_p[counted], share[counted] / share[counted].sum()
    peak = log_p.max(axis=1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ModelError(
            f"{int((~np.isfinite(peak)).sum())} rows have density zero under every model, or a "
            "density that is not a number: no weights predict them. Leave these rows out."
        )
    return _maximize(np.exp(log_p - peak), share)


def _numbers(name: str, values: Any) -> FloatArray:
    try:
        return as_numbers(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{name} must be numbers, got {shown(values)}.") from error


def _maximize(density: FloatArray, share: FloatArray) -> FloatArray:
    """Minimize sum(w) - sum_n share_n log(density_n . w) over w >= 0; there sum(w) = 1.

    With A = sqrt(share) density / (density . w), the gradient is 1 - A' sqrt(share) and the
    Hessian A' A, so that each quadratic model is a least-squares problem without negative w.
    """
    from scipy.optimize import nnls  # slow to import

    n_models = density.shape[1]
    root = np.sqrt(share)
    w = np.full(n_models, 1.0 / n_models)
    for _ in range(_MAX_STEPS):
        mixed = density @ w
        a = density * (root / mixed)[:, np.newaxis]
        pull = a.T @ root  # sum_n share_n density_nm / mixed_n: at the optimum at most 1
        if pull.max() - 1.0 < _GAP:
            break
        hessian = a.T @ a
        ridge = _RIDGE * np.trace(hessian) / n_models
        factor = np.linalg.cholesky(hessian + ridge * np.eye(n_models))
        target = np.linalg.solve(factor, 2.0 * pull - 1.0 + ridge * w)
        step = nnls(factor.T, target)[0] - w
        slope = step @ (1.0 - pull)
        value, size = _objective(w, density, share), 1.0
        enough = value + _ROUNDING
        while _objective(w + size * step, density, share) > enough + 0.1 * size * slope:
            size /= 2.0
        w = w + size * step
    return np.asarray(w / w.sum())


def _objective(w: FloatArray, density: FloatArray, share: FloatArray) -> float:
    mixed = density @ w
    if not (mixed > 0).all():
        return float("inf")
    return float(w.sum() - share @ np.log(mixed))
