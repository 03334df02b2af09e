"""Combining: one posterior of the draws of several modes, each with its share by the evidence.

The modes are parts of the parameter space that chains do not leave, or seldom. The posterior's
share of each is its evidence by the side of the others' (`stangmm.judge.evidence`); within it, its
own chains are draws. So draws of all modes, as many of each as its share says, are draws of the
whole, as far as modes were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.errors import InferenceError, ModelError
from stangmm.judge.chains import pieces_by_mode
from stangmm.judge.evidence import Evidence, evidence_of_each
from stangmm.methods.base import Run
from stangmm.methods.draws import McmcInfo
from stangmm.model.labels import among
from stangmm.model.mixture import log_sum_exp
from stangmm.posterior.fitted import Combination, F, Piece, WeighedMode, counted_error
from stangmm.posterior.relabel import by_first_mean


def combined(fit: F, *, seed: int | None = None, progress: bool = True) -> F:
    """Give one posterior of a fit whose chains are in several modes; see `Fit.combined`."""
    if not isinstance(fit.info, McmcInfo):
        raise ModelError(
            f'Only modes found by chains can be combined, and "{fit.method}" runs no chains. '
            'Use method="nuts".'
        )
    pieces = pieces_by_mode(fit)
    if fit.combination is not None or len(pieces) == 1:
        return fit
    fits = [fit.select_pieces(each) for each in pieces]
    evidences = evidence_of_each(fits, seed=seed, progress=progress)
    if not np.isfinite([evidence.log_evidence for evidence in evidences]).all():
        raise InferenceError(
            "The modes cannot be weighted, since the evidence of one is not known: "
            f"{' '.join(dict.fromkeys(e.why for e in evidences if e.why))}"
        )
    modes = _weighed(pieces, evidences)
    rng = Run(fit.seed if seed is None else seed).rng("combined")
    draws = rng.permutation(_chosen(modes, fit.lp.shape)).reshape(fit.lp.shape)
    return _resampled(fit, Combination(fit, draws, modes))


def shares(evidences: Sequence[Evidence]) -> tuple[FloatArray, FloatArray]:
    """Weights (M,) of modes by their evidence, and their standard errors (M,).

    Evidence that cannot be trusted counts with an error of at least one nat.
    """
    logs = np.array([evidence.log_evidence for evidence in evidences])
    errors = np.array([counted_error(e.standard_error, trusted=e.reliable) for e in evidences])
    weights = np.exp(logs - log_sum_exp(logs, axis=0))
    slopes = weights[:, np.newaxis] * (np.eye(len(weights)) - weights)  # by the log evidences
    return weights, np.sqrt((slopes**2) @ errors**2)


def _weighed(
    pieces: Sequence[tuple[Piece, ...]], evidences: Sequence[Evidence]
) -> tuple[WeighedMode, ...]:
    """Modes with their shares, the most probable first."""
    modes = [
        WeighedMode(
            pieces=own,
            weight=float(weight),
            weight_error=float(error),
            log_evidence=evidence.log_evidence,
            log_evidence_error=evidence.standard_error,
            n_draws=evidence.n_draws,
            overlap=evidence.overlap,
            outside=evidence.outside,
            doubt=evidence.why,
        )
        for own, evidence, weight, error in zip(pieces, evidences, *shares(evidences), strict=True)
    ]
    return tuple(sorted(modes, key=lambda mode: -mode.weight))


def _chosen(modes: Sequence[WeighedMode], shape: tuple[int, int]) -> IntArray:
    """So many draws of each mode as its weight says, evenly spaced; flat numbers (C S,)."""
    total = shape[0] * shape[1]
    ends = np.rint(total * np.cumsum([mode.weight for mode in modes])).astype(int)
    ends[-1] = total
    chosen = []
    for mode, n in zip(modes, np.diff(ends, prepend=0), strict=True):
        own = np.concatenate(
            [chain * shape[1] + np.arange(first, end) for chain, first, end in mode.pieces]
        )
        chosen.append(own[((np.arange(n) + 0.5) * (len(own) / max(n, 1))).astype(int)])
    return np.concatenate(chosen)


def _resampled(fit: F, combination: Combination) -> F:
    """The fit's draws as the combination says, components in order."""
    chain, draw = np.divmod(combination.draws, fit.lp.shape[1])
    info = cast(McmcInfo, fit.info)
    stats = {
        name: values[chain, draw]
        for name, values in info.sample_stats.items()
        if name == "diverging"
    }
    k = fit.model.n_components
    out = replace(
        fit,
        mixture=fit.mixture[combination.draws.ravel()],
        permutations=fit.permutations.reshape(-1, k)[combination.draws],
        total_log_likelihood=fit.total_log_likelihood[chain, draw],
        lp=fit.lp[chain, draw],
        info=McmcInfo(stats),
        combination=combination,
    )
    free = fit.free_components
    return out.reordered(among(free, by_first_mean(out.means[free]), k)) if len(free) else out
