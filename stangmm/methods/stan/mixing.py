"""Whether a run of chains was long enough, and its steps small enough."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import IntArray
from stangmm.base.convergence import Convergence, measures
from stangmm.methods.draws import Draws, McmcInfo
from stangmm.model.labels import Labelling, traits

# Effective draws, relative to the draws, that a run should have. Where there are fewer, it is not
# well known how many, and more is aimed at.
_ENOUGH, _AIM = 0.1, 0.3
# A run is made longer by no more than this factor.
_LONGEST = 10
# Chains with a larger R-hat than this stay in modes of their own, however long they are.
_SEPARATE = 1.3
_FEATURES = 10  # whose means and scales are looked at, at most
# With more steps than this share of the longest path, half the step would need longer ones.
_LONG_PATH = 0.25


def iterations_a_draw(draws: Draws, free: IntArray) -> int:
    """How many iterations each kept draw should have, for draws that depend less on one another.

    One where they are independent enough. Chains that stay in modes of their own are not brought
    together by more iterations: each of them is asked by itself then.

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
    weights, means, scales = np.split(traits(mixture), [1, 1 + mixture.n_features], axis=-1)
    quantities = [draws.log_likelihood, weights, means[..., ::every], scales[..., ::every]]
    all_of_them = np.concatenate([q.reshape(chains, n, -1) for q in quantities], axis=-1)
    found = [measures(all_of_them)]
    if (found[0].r_hat > _SEPARATE).any():
        found = [measures(chain[np.newaxis]) for chain in all_of_them]
    least = min(_independent(each, chains * n // len(found)) for each in found)
    return 1 if least >= _ENOUGH else int(min(np.ceil(_AIM / least), _LONGEST))


def _independent(found: Convergence, n_draws: int) -> float:
    """Share of the draws that are worth as many independent ones, of the worst quantity."""
    least = np.minimum(found.ess_bulk, found.ess_tail) / n_draws
    return float(np.min(least, where=np.isfinite(least), initial=1.0))


def needs_smaller_steps(info: McmcInfo) -> bool:
    """Whether an iteration has diverged, and paths are short enough to be made of more steps."""
    stats = info.sample_stats
    longest = 2.0 ** (info.max_tree_depth or np.inf)
    return bool(stats["diverging"].any() and stats["n_steps"].mean() < _LONG_PATH * longest)
