"""Components that stand on equal values: as narrow as the data's rounding."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray
from stangmm.base.thresholds import NARROW_AS_ROUNDING
from stangmm.model.ties import stand_on_few
from stangmm.posterior.fitted import Fitted, once


@once
def narrow_as_rounding(fit: Fitted) -> BoolArray:
    """Which components are as narrow as the rounding in most draws, by feature; shape (K, D)."""
    space = fit.priors.space(fit.model.structure)
    bounds = NARROW_AS_ROUNDING[fit.kind] * space.scale_bounds(fit.mixture.corr_chol)
    below = np.asarray((space.free(fit.mixture)["scales"] < bounds).mean(axis=0) > 0.5)
    return np.broadcast_to(below, (fit.model.n_components, fit.dataset.n_features))


def has_spike(fit: Fitted) -> bool:
    """Whether a component stands on few equal values: a spike of the density, and no cluster."""
    floor = fit.priors.space(fit.model.structure).scale_floor
    rounding = np.broadcast_to(floor, fit.dataset.n_features)
    data = fit.dataset
    few = stand_on_few(data.x, data.sample_weight, fit.means, narrow_as_rounding(fit), rounding)
    return bool(few.any())
