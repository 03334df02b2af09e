"""Test quantities of a mixture that do not depend on the components' labels.

Among them are the log likelihood and the log joint density, which look at the data: parameters
alone would not tell a posterior from the prior (Modrak et al. 2023, doi:10.1214/23-BA1404).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stangmm.model.covariance import CovarianceStructure
from stangmm.model.joint import log_prior
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.model.priors import ResolvedPriors

FloatArray = NDArray[np.float64]

# Where the density is looked at: off the centre of the prior of the means, inside its bulk.
_POINT = np.array([[1.0, -0.5]])


def quantities(
    mixture: Mixture, x: FloatArray, priors: ResolvedPriors, structure: CovarianceStructure
) -> dict[str, FloatArray]:
    """Evaluate all quantities for mixtures of any batch shape (...).

    With two components the largest weight is one minus the smallest, and so not listed.
    """
    weights = mixture.weights[..., np.newaxis]
    mean = (weights * mixture.means).sum(axis=-2)  # of the mixture as a whole, (..., D)
    deviation = mixture.means - mean[..., np.newaxis, :]
    variance = (weights * (mixture.scales**2 + deviation**2)).sum(axis=-2)
    likelihood = log_likelihood(mixture, x)
    log_scales = np.log(mixture.scales)
    apart = mixture.means[..., 0, :] - mixture.means[..., 1, :]
    values = {
        "log joint": likelihood + log_prior(mixture, priors, structure),
        "log likelihood": likelihood,
        "smallest weight": mixture.weights.min(axis=-1),
        "mean of feature 1": mean[..., 0],
        "log sd of feature 1": 0.5 * np.log(variance[..., 0]),
        "distance of the means": np.linalg.norm(apart, axis=-1),
        "largest log scale": log_scales.max(axis=(-2, -1)),
        "smallest log scale": log_scales.min(axis=(-2, -1)),
        "log density at a point": mixture.log_density(_POINT)[..., 0],
    }
    if mixture.noise is not None:
        values["noise weight"] = mixture.noise.weight
    if mixture.corr_chol is not None:
        correlations = mixture.corr_chol[..., 1, 0]
        values["average correlation"] = (mixture.weights * correlations).sum(axis=-1)
    return values
