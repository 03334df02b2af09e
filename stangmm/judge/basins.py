"""Basins: to which optimum each of some draws climbs, and which basins the chains move between.

What climbs is EM with a little of a prior (`EM.regularized`), all draws at once. Labels do not
matter: an optimum is known by its height and by which rows belong together.
"""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.thresholds import MODES_MIXED
from stangmm.methods.base import Run
from stangmm.methods.em.climb import climb
from stangmm.methods.em.steps import EMSpace
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem
from stangmm.posterior.fitted import Fitted
from stangmm.posterior.relabel import representative_rows

# So many draws climb, evenly spaced, at least and at most so many of each chain: as many as take
# about this many multiplications for one step of all. So many rows are enough to tell modes apart.
_CLIMBING, _FEWEST, _MOST, _WORK = 200, 20, 50, 1e7
_ROWS = 2000
_TOLERANCE, _STEPS = 1e-2, 100  # a climb need not get to its very end
_SAME_HEIGHT = 0.1  # nats
# Two optima are the same if, for each pair of some rows, the probabilities that both rows belong
# to one component differ by less.
_SAME_TOGETHER, _PAIRED_ROWS = 0.1, 20
# What holds a smaller share of one chain's draws is no mode of its own.
_SMALLEST_SHARE = 0.1


def modes_of_draws(fit: Fitted) -> tuple[IntArray, IntArray]:
    """Give each of some draws its mode: a number for basins that chains move between.

    Returns
    -------
    draws : ndarray of int, shape (T,)
        Which draws of each chain were looked at, the first and the last among them.
    modes : ndarray of int, shape (C, T)
    """
    model = fit.model
    which = model.n_components, model.structure, model.priors, model.noise
    problem = Problem.build(fit.dataset, *which)
    space = EMSpace(problem, pseudo_rows=1.0)
    rng = Run(fit.seed).rng("modes")
    if space.n_rows > _ROWS:
        space = space.subset(space.random_rows(_ROWS, rng))
    chains, n_draws = fit.lp.shape
    draws = np.unique(np.linspace(0, n_draws - 1, _n_climbing(space, chains)).astype(int))
    some = problem.from_user_units(fit.drawn[:, draws].reshape(-1))
    basins = _basins(space, some, fit).reshape(chains, -1)
    return draws, _connected(basins)


def _n_climbing(space: EMSpace, chains: int) -> int:
    """How many draws of each chain climb."""
    wide = space.n_features if space.structure.correlated else 1
    one = space.n_rows * space.n_components * space.n_features * wide
    affordable = int(_WORK / (one * chains))
    return max(_FEWEST, min(_MOST, _CLIMBING // chains, affordable))


def _basins(space: EMSpace, mixture: Mixture, fit: Fitted) -> IntArray:
    """Number of the optimum that each mixture (R,) climbs to, shape (R,)."""
    with one_blas_thread():
        ends = climb(
            space, space.parameters_of(mixture), tolerance=_TOLERANCE, max_iterations=_STEPS
        )
    optima = space.mixture_of(ends.parameters)
    highest = optima[int(np.argmax(ends.log_likelihood))]
    x, weight = space.problem.x, space.problem.sample_weight
    rows = representative_rows(highest, x, _PAIRED_ROWS, weight)
    signature = together(optima, rows, fit.free_components)
    order = np.argsort(ends.log_likelihood, kind="stable")
    heights = ends.log_likelihood[order]
    near = np.zeros((len(order), len(order)), dtype=bool)
    for i, height in enumerate(heights):
        after = slice(i + 1, int(np.searchsorted(heights, height + _SAME_HEIGHT, side="right")))
        apart = np.abs(signature[order[after]] - signature[order[i]]).max(axis=1, initial=0.0)
        near[order[i], order[after]] = apart < _SAME_TOGETHER
    from scipy.sparse.csgraph import connected_components  # slow, and seldom needed

    return np.asarray(connected_components(near, directed=False)[1])


def together(mixture: Mixture, rows: FloatArray, free: IntArray) -> FloatArray:
    """What tells mixtures (R,) apart whatever the free labels: who belongs together, (R, Q).

    For pairs of rows it is the probability that both belong to one component, and for each
    component whose label means something, that each row belongs to it.
    """
    responsibility = mixture.responsibilities(rows)
    i, j = np.triu_indices(len(rows), 1)
    pairs = np.einsum("skn,skm->snm", responsibility, responsibility)[:, i, j]
    fixed = np.setdiff1d(np.arange(mixture.n_components), free)
    return np.concatenate([pairs, responsibility[:, fixed].reshape(len(pairs), -1)], axis=1)


def _connected(basins: IntArray) -> IntArray:
    """Join basins between which chains move; basins and modes have shape (C, T).

    The two that are joined are those with the most moves from one to the other, by the side of as
    many as independent draws would make, until no two are left with a fifth of that. A basin that
    is seldom seen so goes to where its chain came from, and does not join two modes.
    """
    n, (n_chains, n_draws) = int(basins.max()) + 1, basins.shape
    moves, visits = np.zeros((n, n)), np.zeros((n, n_chains))
    np.add.at(moves, (basins[:, :-1], basins[:, 1:]), 1.0)
    np.add.at(visits, (basins, np.arange(n_chains)[:, np.newaxis]), 1.0)
    moves += moves.T
    mode = np.arange(n)  # of each basin
    while len(visits) > 1:
        size = visits.sum(axis=1)
        seen = (visits[:, np.newaxis] + visits > 0).sum(axis=-1) * n_draws  # by chains in either
        rate = moves * seen / (2.0 * size[:, np.newaxis] * size)
        np.fill_diagonal(rate, -1.0)
        small = int(np.argmin(size))
        i, j = divmod(int(np.argmax(rate)), len(rate))
        if rate[i, j] < MODES_MIXED:
            if size[small] >= _SMALLEST_SHARE * n_draws or rate[small].max() <= 0:
                break
            i, j = small, int(np.argmax(rate[small]))
        i, j = min(i, j), max(i, j)
        moves[i] += moves[j]
        moves[:, i] += moves[:, j]
        visits[i] += visits[j]
        moves, visits = np.delete(np.delete(moves, j, 0), j, 1), np.delete(visits, j, 0)
        mode[mode == j] = i
        mode[mode > j] -= 1
    return mode[basins]
