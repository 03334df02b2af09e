"""Whether a run of chains was long enough, seen from quantities that no numbering changes."""

from __future__ import annotations

import numpy as np

from stangmm.base.convergence import Convergence, measures
from stangmm.methods.draws import Draws, McmcInfo

# Effective draws, relative to the draws, that a run should have. Where there are fewer, it is not
# well known how many, and more is aimed at.
_ENOUGH, _AIM = 0.1, 0.3
# A run is made longer by no more than this factor.
_LONGEST = 10
# Chains with a larger R-hat than this stay in modes of their own, however long they are.
_SEPARATE = 1.3
_FEATURES = 10  # whose means are looked at, at most


def iterations_a_draw(draws: Draws) -> int:
    """How many iterations each kept draw should have, for draws that depend less on one another.

    One where they are independent enough. Chains that stay in modes of their own are not brought
    together by more iterations: each of them is asked by itself then.
    """
    mixture = draws.mixture
    every = max(1, -(-mixture.n_features // _FEATURES))
    ordered = np.sort(mixture.means[..., ::every], axis=-2)
    chains, n = draws.log_likelihood.shape
    quantities = (draws.log_likelihood, np.sort(mixture.weights, axis=-1), ordered)
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


def diverges(info: McmcInfo) -> bool:
    """Whether any iteration has diverged."""
    return bool(info.sample_stats["diverging"].any())
