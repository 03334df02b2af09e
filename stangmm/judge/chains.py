"""The draws of chains by the mode that they are in, told apart without labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.thresholds import MODES_APART, R_HAT_OK
from stangmm.judge.basins import modes_of_draws, together
from stangmm.posterior.fitted import Fitted, Piece, once
from stangmm.posterior.relabel import representative_rows
from stangmm.posterior.summary import convergence

_ROWS = 20  # whose pairs are asked whether they belong together
_SMALLEST_SD = 0.05  # of such a probability: smaller differences are no other mode
# Stays of a chain in a mode are cut into pieces of one length, the longest part of the chain's
# with which this share of the mode's draws is kept.
_KEPT, _MOST_PARTS = 0.8, 20


@once
def pieces_by_mode(fit: Fitted) -> tuple[tuple[Piece, ...], ...]:
    """Pieces of the chains by mode, the mode of highest mean log joint density first.

    Chains that agree are in one mode. Otherwise draws are in one mode if they climb to optima
    between which the chains move; and where all do, chains that differ in some label-free quantity
    by far more than it varies are in different ones. A chain that has moved once is in two modes,
    with the pieces before and after. The pieces of a mode are of one length, and at least two.
    """
    chains, n_draws = fit.lp.shape
    whole = [[Piece(c, 0, n_draws)] for c in range(chains)]
    if chains == 1 or not convergence(fit)["r_hat"] >= R_HAT_OK:
        return (tuple(piece for pieces in whole for piece in pieces),)
    stays = _stays(*modes_of_draws(fit), n_draws)
    if len(stays) == 1:
        stays = [[piece for c in group for piece in whole[c]] for group in _groups_apart(fit)]
    modes = [_of_one_length(pieces, n_draws) for pieces in stays]
    means = [np.mean([fit.lp[c, first:end].mean() for c, first, end in mode]) for mode in modes]
    return tuple(modes[i] for i in np.argsort(-np.array(means), kind="stable"))


def chains_of(pieces: tuple[Piece, ...]) -> tuple[int, ...]:
    """The chains of which these are pieces, ascending."""
    return tuple(sorted({piece[0] for piece in pieces}))


def chains_words(chains: Sequence[int]) -> str:
    """Names of some chains."""
    return f"chain{'s' * (len(chains) > 1)} {', '.join(map(str, chains))}"


def moved_words(moved: Sequence[int]) -> str:
    """Which chains have moved from one mode to another, to end a sentence."""
    if not moved:
        return "no chain has moved between them"
    if len(moved) == 1:
        return f"chain {moved[0]} has moved between them, too rarely to say how probable each is"
    names = f"{', '.join(map(str, moved[:-1]))} and {moved[-1]}"
    return f"chains {names} have moved between them, too rarely to say how probable each is"


def _stays(draws: IntArray, modes: IntArray, n_draws: int) -> list[list[Piece]]:
    """Where each chain stayed in each mode, from the modes (C, T) of some of its draws.

    Where a chain was between two draws of different modes is not known, and left out.
    """
    stays: list[list[Piece]] = [[] for _ in range(int(modes.max()) + 1)]
    for chain, path in enumerate(modes.tolist()):
        for mode, run in groupby(zip(draws.tolist(), path, strict=True), key=itemgetter(1)):
            at = [draw for draw, _ in run]
            end = n_draws if at[-1] == draws[-1] else at[-1] + 1
            stays[mode].append(Piece(chain, at[0], end))
    return stays


def _of_one_length(stays: list[Piece], n_draws: int) -> tuple[Piece, ...]:
    """Cut stays into pieces of one length, at least two."""
    total = sum(end - first for _, first, end in stays)
    for parts in range(1, _MOST_PARTS + 1):
        length = max(1, n_draws // parts)
        pieces = tuple(
            Piece(chain, start, start + length)
            for chain, first, end in stays
            for start in range(first, end - length + 1, length)
        )
        if len(pieces) > 1 and len(pieces) * length >= _KEPT * total:
            return pieces
    chain, first, end = max(stays, key=lambda stay: stay.end - stay.first)
    half = (end - first) // 2
    return (Piece(chain, first, first + half), Piece(chain, end - half, end))


def _groups_apart(fit: Fitted) -> list[list[int]]:
    """Chains that differ in no label-free quantity by more than three standard deviations."""
    means, variances = _label_free(fit)
    gap = np.abs(means[:, np.newaxis] - means)
    sd = np.sqrt(0.5 * (variances[:, np.newaxis] + variances))
    near = np.asarray((gap <= MODES_APART * sd).all(axis=-1))
    from scipy.sparse.csgraph import connected_components  # slow, and seldom needed

    n_groups, group = connected_components(near, directed=False)
    return [np.flatnonzero(group == i).tolist() for i in range(n_groups)]


def _label_free(fit: Fitted) -> tuple[FloatArray, FloatArray]:
    """Means and variances (C, Q), chain by chain, of quantities that no relabelling changes.

    The log joint density, the log likelihood, the sorted weights, and for pairs of rows the
    probability that both belong to one component: what a mode is, is who belongs together.
    """
    pivot = fit.mixture[int(np.argmax(fit.lp))]
    rows = representative_rows(pivot, fit.dataset.x, _ROWS, fit.dataset.sample_weight)
    means, variances = [], []
    for chain in range(fit.lp.shape[0]):
        mixture = fit.shaped[chain]
        columns = [fit.lp[chain], fit.total_log_likelihood[chain], *np.sort(mixture.weights).T]
        pairs = together(mixture, rows, fit.free_components)
        means.append([*(c.mean() for c in columns), *pairs.mean(axis=0)])
        spread = np.maximum(pairs.var(axis=0), _SMALLEST_SD**2)
        variances.append([*(c.var() for c in columns), *spread])
    return np.array(means), np.array(variances)
