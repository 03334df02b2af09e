"""Whether a run of chains was long enough, and its steps small enough."""

from __future__ import annotations

from typing import cast

import numpy as np

from stangmm.base.arrays import IntArray
from stangmm.base.convergence import Convergence, measures
from stangmm.base.thresholds import DEEP_SHARE_OK, DIVERGENT_SHARE_FAIL, R_HAT_OK
from stangmm.methods.draws import Draws, McmcInfo
from stangmm.model.labels import Labelling, traits
from stangmm.model.problem import Problem

# Effective draws, relative to the draws, that a run should have: a tenth, and a little more, since
# parameters that are not looked at may have fewer. Where there are fewer, it is not well known how
# many, and more is aimed at.
_ENOUGH, _AIM = 0.11, 0.3
# A run is made longer by no more than this factor.
_LONGEST = 10
# It is made longer again where that is likely to be enough, and all of it no more work than this:
# about half a minute. The unit is a step of the sampler on few rows; on more, so many of their
# numbers, in each component, add another.
_WORK, _NUMBERS = 4e7, 2000.0
# Chains with a larger R-hat than this stay in modes of their own, however long they are.
_SEPARATE = 1.3
_FEATURES = 10  # whose means and scales are looked at, at most
_MANY_STEPS = 60.0  # of a draw, where the metric of a normal posterior needs 15
# With more steps than this share of the longest path that trees of the usual depth allow, half the
# step would need longer ones; with more than that of those that there may be, most paths are cut
# off, and more of them lead no farther.
_LONG_PATH, _CUT_OFF = 0.25, 0.75
_USUAL_DEPTH = 10
_MANY_CUT_OFF = 0.1  # a share of the paths


def iterations_a_draw(draws: Draws, problem: Problem, thin: int) -> int:
    """How many iterations each kept draw should have, for draws that depend less on one another.

    As many as they had, ``thin``, where they are independent enough and the chains agree, or where
    most paths are as long as they may be. A run that was made longer before is left, too, where it
    is so far from enough that this would take minutes.
    """
    info = cast("McmcInfo", draws.info)
    if _n_steps(info) > _CUT_OFF * 2.0 ** (info.max_tree_depth or np.inf):
        return thin
    share, r_hat = _mixing(draws, problem.free_components)
    too_short = share < _ENOUGH or r_hat > R_HAT_OK
    if share >= _AIM or not too_short:
        return thin
    times = int(np.clip(np.ceil(_AIM / share), 2, _LONGEST))
    if thin > 1:
        times = min(times, _affordable(draws, problem, thin))
        if times * share < _ENOUGH:
            return thin
    return thin * times


def _mixing(draws: Draws, free: IntArray) -> tuple[float, float]:
    """Of the worst quantity: independent draws that the draws are worth, as a share, and R-hat.

    Chains that stay in modes of their own are not brought together by more iterations: each of
    them is asked by itself then, and they need not agree.

    Parameters
    ----------
    free : ndarray of int
        The components whose labels mean nothing.
    """
    chains, n = draws.log_likelihood.shape
    mixture = draws.mixture.reshape(chains * n)
    if len(free) > 1 and (traits(mixture).std(axis=0) > 0).all():
        pivot = int(draws.log_likelihood.argmax())
        mixture = Labelling.of(mixture, pivot, free).relabelled(mixture)
    every = max(1, -(-mixture.n_features // _FEATURES))
    means, scales = mixture.means[..., ::every], mixture.scales[..., ::every]
    quantities = [draws.log_likelihood, mixture.weights, means, scales]
    all_of_them = np.concatenate([q.reshape(chains, n, -1) for q in quantities], axis=-1)
    found = measures(all_of_them)
    r_hat = float(np.max(found.r_hat, where=np.isfinite(found.r_hat), initial=1.0))
    if r_hat <= _SEPARATE:
        return _least(found) / (chains * n), r_hat
    fewest = min(_least(measures(chain[np.newaxis])) for chain in all_of_them)
    return fewest / n, 1.0


def _least(found: Convergence) -> float:
    """Effective draws of the worst quantity; infinite where it is not known."""
    sizes = np.minimum(found.ess_bulk, found.ess_tail)
    return float(np.min(sizes, where=np.isfinite(sizes), initial=np.inf))


def _affordable(draws: Draws, problem: Problem, thin: int) -> int:
    """How many times as long a run may be that took ``thin`` iterations for each draw."""
    steps = thin * float(cast("McmcInfo", draws.info).sample_stats["n_steps"].sum())
    d = problem.n_features
    of_component = d * (d + 1) / 2 if problem.structure.correlated else d
    numbers = problem.n_observations * problem.n_components * of_component
    return max(1, int(_WORK / (steps * (1.0 + numbers / _NUMBERS))))


def is_poor(draws: Draws, problem: Problem) -> bool:
    """Whether chains mix so badly, or diverge so often, that other coordinates may be better."""
    share, r_hat = _mixing(draws, problem.free_components)
    diverging = cast("McmcInfo", draws.info).sample_stats["diverging"].mean()
    return bool(share < _ENOUGH or r_hat > R_HAT_OK or diverging > DIVERGENT_SHARE_FAIL)


def has_long_paths(info: McmcInfo) -> bool:
    """Whether a draw takes so many steps that a better metric may well be worth its adaptation."""
    return _n_steps(info) > _MANY_STEPS


def needs_smaller_steps(info: McmcInfo) -> bool:
    """Whether an iteration has diverged, and paths are short enough to be made of more steps."""
    longest = 2.0 ** min(info.max_tree_depth or np.inf, _USUAL_DEPTH)
    return bool(info.sample_stats["diverging"].any() and _n_steps(info) < _LONG_PATH * longest)


def needs_deeper_trees(info: McmcInfo) -> bool:
    """Whether more than a few paths are cut off, and not so many that longer ones would be, too."""
    depth, limit = info.sample_stats["tree_depth"], info.max_tree_depth or np.inf
    return bool(DEEP_SHARE_OK < (depth >= limit).mean() <= _MANY_CUT_OFF)


def _n_steps(info: McmcInfo) -> float:
    """Of a draw, on average."""
    return float(info.sample_stats["n_steps"].mean())
