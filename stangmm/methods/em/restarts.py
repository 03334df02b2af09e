"""What became of many restarts: which collapsed, which agree, which optimum is best."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.base.errors import InferenceError
from stangmm.methods.draws import Optimum, RestartInfo
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

# Variance of a component in some direction, relative to the variance of all data, below which it
# has collapsed: its likelihood grows without bound.
_COLLAPSED_VARIANCE = 1e-10
_SAME_OPTIMUM = 1e-4  # objectives that differ by less (in nats) are one optimum
# Of restarts at one optimum whose objectives differ by less than this share of the above, the first
# stands for all: the last bits, which differ between processors, must not choose.
_TIE = 1e-3


def degenerate(
    structure: CovarianceStructure, rows: FloatArray, covariances: FloatArray
) -> BoolArray:
    """Whether a component has shrunk onto a few rows, for each of R mixtures.

    The likelihood of a mixture is unbounded there (Kiefer & Wolfowitz 1956,
    doi:10.1214/aoms/1177728066), so such a "maximum" is none.

    Parameters
    ----------
    rows : ndarray, shape (R, K)
        Rows that each component holds (sums of responsibilities).
    covariances : ndarray, shape (R, C, D) or (R, C, D, D)
        In coordinates in which all data together have variance 1 in every direction.

    Returns
    -------
    ndarray of bool, shape (R,)
    """
    if structure.correlated:
        smallest = np.linalg.eigvalsh(covariances)[..., 0]
    else:
        smallest = covariances.min(axis=-1)
    flat = (smallest < _COLLAPSED_VARIANCE).any(axis=1)
    if rows.shape[1] == 1:
        return np.asarray(flat)
    few = rows < max(structure.min_rows(covariances.shape[-1]), 1e-8)
    return np.asarray(flat | few.any(axis=1))


def effective_rows(n_rows: int, total_weight: float) -> float:
    """How many rows there are: a row of weight 3 is three.

    Weights that are below one on average are no frequencies, and are brought to an average of one.
    """
    return max(float(n_rows), total_weight)


def collapsed(mixture: Mixture, problem: Problem) -> BoolArray:
    """`degenerate` for mixtures (R,) in the problem's units."""
    c = problem.space.scale_shape[0]
    if problem.structure.correlated:
        inverse = np.linalg.inv(np.linalg.cholesky(problem.total_covariance))
        covariances = inverse @ mixture.covariances[:, :c] @ inverse.T
    else:
        covariances = mixture.scales[:, :c] ** 2
    finite = np.isfinite(covariances).all(axis=tuple(range(1, covariances.ndim)))
    safe = np.where(finite.reshape(-1, *(1,) * (covariances.ndim - 1)), covariances, 0.0)
    n_rows = effective_rows(problem.n_observations, problem.total_weight)
    return degenerate(problem.structure, mixture.weights * n_rows, safe)


def usable(converged: BoolArray, is_collapsed: BoolArray) -> BoolArray:
    """Restarts that say where an optimum is: converged ones, or if none has, all not collapsed."""
    good = converged & ~is_collapsed
    return good if good.any() else ~is_collapsed


def distinct(values: FloatArray, counted: BoolArray) -> list[IntArray]:
    """Indices of the restarts at each optimum, best first; those not counted are left out."""
    good = np.flatnonzero(counted & np.isfinite(values))
    if not len(good):
        return []
    same = max(_SAME_OPTIMUM, 1e-12 * float(np.abs(values[good]).max()))
    order = good[np.argsort(-np.rint(values[good] / (_TIE * same)), kind="stable")]
    ranked = values[order]
    return list(np.split(order, np.flatnonzero(-np.diff(ranked) > same) + 1))


def restart_report(
    problem: Problem,
    mixtures: Mixture,
    *,
    method: str,
    objective: str,
    values: FloatArray,
    converged: BoolArray,
    is_collapsed: BoolArray,
    paths: tuple[FloatArray, ...] = (),
) -> RestartInfo:
    """Sort R finished restarts into distinct optima.

    Raises
    ------
    InferenceError
        None is usable: every restart collapsed or failed.
    """
    groups = distinct(values, usable(converged, is_collapsed))
    if not groups:
        given = problem.start is not None
        who = f"{method} from init" if given else f"All {len(values)} {method} restarts"
        raise InferenceError(
            f"{who} collapsed: a component shrank onto a few rows, "
            f"where the {objective} has no maximum. {problem.n_components} components with "
            f'"{problem.structure.name}" covariances are too many for {problem.n_observations} '
            "rows, or rows have repeated values. Use fewer components, "
            f"{'another init' if given else 'more restarts'}, "
            'covariance_type="tied", or draws from the posterior (method="nuts").'
        )
    optima = tuple(
        Optimum(
            mixture=mixtures[int(group[0])],
            objective=float(values[group[0]]),
            restarts=len(group),
            converged=bool(converged[group[0]]),
            path=paths[int(group[0])] if paths else np.empty(0),
        )
        for group in groups
    )
    return RestartInfo(
        objective=objective,
        optima=optima,
        values=values,
        collapsed=is_collapsed,
        converged=converged,
        paths=paths,
        rows_searched=problem.n_observations,
    )
