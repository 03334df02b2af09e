"""Components that stand on equal values: as narrow as the data's rounding."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray
from stangmm.base.thresholds import NARROW_AS_ROUNDING
from stangmm.model.ties import are_few
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
    narrow = narrow_as_rounding(fit)
    if not narrow.any():
        return False
    data, model = fit.dataset, fit.model
    floor = fit.priors.space(model.structure).scale_floor
    rounding = np.broadcast_to(floor, data.n_features)
    for k, d in zip(*np.nonzero(narrow), strict=True):
        values, at = data.x[:, d], float(fit.means[k, d])
        if model.structure.correlated and data.n_features > 1:  # narrow given the others
            others = np.delete(np.arange(data.n_features), d)
            covariance = fit.covariances[k][others]
            slopes = np.linalg.pinv(covariance[:, others], hermitian=True) @ covariance[:, d]
            values = values - data.x[:, others] @ slopes
            at -= float(fit.means[k, others] @ slopes)
        if are_few(values, data.sample_weight, at, float(rounding[d])):
            return True
    return False
