"""What became of many restarts: which collapsed, which agree, which optimum is best."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.base.errors import InferenceError
from stangmm.methods.draws import Optimum, RestartInfo
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem
from stangmm.model.ties import stand_on_few

# Standard deviation, relative to that of the data's rounding, below which a component is nothing
# but rounded values.
_AT_RESOLUTION = 1.001
# Smallest standard deviation of a component in any direction, relative to its largest, in units of
# its own scales: with less its rows lie in a plane.
_FLAT = 1e-5
_SAME_OPTIMUM = 1e-4  # objectives that differ by less (in nats) are one optimum
# Of restarts at one optimum whose objectives differ by less than this share of the above, the one
# of most iterations stands for all, or the first: the last bits, which differ between processors,
# must not choose.
_TIE = 1e-3


def too_few_rows(problem: Problem, rows: FloatArray) -> BoolArray:
    """Whether a component has shrunk onto a few rows, for each of R mixtures.

    The likelihood of a mixture is unbounded there (Kiefer & Wolfowitz 1956,
    doi:10.1214/aoms/1177728066), or it rests on hardly more rows than it has free numbers. A single
    component holds all rows, unless some are noise.

    Parameters
    ----------
    rows : ndarray, shape (R, K)
        Rows that each component holds (sums of responsibilities).

    Returns
    -------
    ndarray of bool, shape (R,)
    """
    if problem.space.n_weights == 1:
        return np.zeros(len(rows), dtype=bool)
    least = max(problem.structure.min_rows(problem.n_features), 1e-8)
    return np.asarray((rows < least).any(axis=1))


def effective_rows(n_rows: int, total_weight: float) -> float:
    """How many rows there are: a row of weight 3 is three.

    Weights that are below one on average are no frequencies, and are brought to an average of one.
    """
    return max(float(n_rows), total_weight)


def collapsed(mixture: Mixture, problem: Problem) -> BoolArray:
    """Whether a component holds too few rows, is flat, or a spike on a few tied values.

    For mixtures (R,) in the problem's units. If all others are, spikes are none.
    """
    n_rows = effective_rows(problem.n_rows, problem.total_weight)
    few = too_few_rows(problem, mixture.weights * n_rows)
    bad: BoolArray = np.asarray(few | flat(mixture, problem))
    narrow = at_resolution(mixture, problem)
    rounding = np.broadcast_to(problem.scale_floor, problem.n_features)
    spike = stand_on_few(problem.x, problem.sample_weight, mixture.means, narrow, rounding)
    spiked: BoolArray = np.asarray(bad | spike.any(axis=1))
    return bad if spiked.all() else spiked


def at_resolution(mixture: Mixture, problem: Problem) -> BoolArray:
    """In which features components are as narrow as the data's resolution, shape (R, K, D)."""
    return np.asarray(mixture.scales < _AT_RESOLUTION * problem.scale_floor)


def flat(mixture: Mixture, problem: Problem) -> BoolArray:
    """Whether a component of mixtures (R,) lies in a plane, or has numbers that are not finite.

    It may be narrow in single features: there it is as wide as the data's resolution at least. Only
    where the user has taken these bounds away, what is narrow beside the others counts, too.
    """
    finite: BoolArray = np.asarray(np.isfinite(mixture.scales).all(axis=(1, 2)))
    if mixture.corr_chol is None:
        return ~finite
    finite &= np.isfinite(mixture.corr_chol).all(axis=(1, 2, 3))
    bounded = np.all(problem.space.scale_floor)
    factors = mixture.corr_chol if bounded else mixture.cholesky
    values = np.linalg.svd(factors[finite])[1]
    result = ~finite
    result[finite] = (values[..., -1] < _FLAT * values[..., 0]).any(axis=1)
    return result


def usable(converged: BoolArray, is_collapsed: BoolArray) -> BoolArray:
    """Restarts that say where an optimum is: converged ones, or if none has, all not collapsed."""
    good = converged & ~is_collapsed
    return good if good.any() else ~is_collapsed


def distinct(
    values: FloatArray, counted: BoolArray, iterations: IntArray | None = None
) -> list[IntArray]:
    """Indices of the restarts at each optimum, best first; those not counted are left out."""
    good = np.flatnonzero(counted & np.isfinite(values))
    if not len(good):
        return []
    same = max(_SAME_OPTIMUM, 1e-12 * float(np.abs(values[good]).max()))
    level = np.rint(values[good] / (_TIE * same))
    steps = np.zeros(len(good)) if iterations is None else iterations[good]
    order = good[np.lexsort((-steps, -level))]
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
    iterations = np.array([len(path) for path in paths]) if paths else None
    groups = distinct(values, usable(converged, is_collapsed), iterations)
    if not groups:
        if problem.start is not None:
            raise InferenceError(
                f"{method} from init collapsed: a component shrank onto a few rows, too few to "
                f"estimate it from. The starting values led there.{_outside(problem)} Give another "
                f"init, or leave it out: {method} then searches for starts itself."
            )
        raise InferenceError(
            f"All {len(values)} {method} restarts collapsed: a component shrank onto a few rows, "
            f"too few to estimate it from, and no other maximum of the {objective} was found. "
            f'{problem.n_components} components with "{problem.structure.name}" covariances are '
            f"too many for {problem.n_rows} rows. Use fewer components, more restarts, "
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
        rows_searched=problem.n_rows,
    )


def _outside(problem: Problem) -> str:
    """Say which components start outside the data, if any does."""
    if problem.start is None:
        return ""
    means = problem.start.means
    low, high = np.nanmin(problem.x, axis=0), np.nanmax(problem.x, axis=0)
    outside = np.flatnonzero(((means < low) | (means > high)).any(axis=1))
    if not len(outside):
        return ""
    which = ", ".join(map(str, outside))
    return f" Outside the range of the data are the starting means of components: {which}."
