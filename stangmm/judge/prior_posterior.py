"""How much narrower than its prior the posterior of each parameter is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.model.mixture import Mixture
from stangmm.posterior.fitted import Fitted

_DRAWS = 2000  # of the prior
_MIDDLE = (0.25, 0.75)
_NEARLY_ALL = (0.01, 0.99)


@dataclass(frozen=True)
class PriorPosterior:
    """Posteriors beside their priors, over all weights, means and scales.

    Attributes
    ----------
    narrower : float
        How many times as wide as the middle half of the posterior that of the prior is, for the
        parameter for which this is least; 0 where all draws of one are equal.
    apart : bool
        Whether the median of a posterior lies outside the middle 98% of its prior.
    """

    narrower: float
    apart: bool


def prior_posterior(fit: Fitted) -> PriorPosterior:
    """Compare each weight's, mean's and scale's draws with draws from its prior."""
    prior = fit.priors.draw(_DRAWS, fit.model.structure, np.random.default_rng(0))
    before, after = _parameters(prior), _parameters(fit.mixture)
    low, high = np.quantile(before, _NEARLY_ALL, axis=0)
    median = np.median(after, axis=0)
    width = _width(after)
    # A parameter of which all draws are equal tells nothing: no posterior is so narrow.
    ratio = np.where(width > 0, _width(before), 0.0) / np.where(width > 0, width, 1.0)
    return PriorPosterior(float(ratio.min()), bool(((median < low) | (median > high)).any()))


def _parameters(mixture: Mixture) -> FloatArray:
    """Weights, means and scales, shape (S, parameters); a weight that is always one is none."""
    draws = mixture.reshape(-1)
    weights = draws.all_weights if draws.n_weights > 1 else draws.all_weights[:, :0]
    parts = (weights, draws.means, draws.scales)
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _width(draws: FloatArray) -> FloatArray:
    low, high = np.quantile(draws, _MIDDLE, axis=0)
    return np.asarray(high - low)
