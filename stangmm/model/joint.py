"""The log prior and the log joint density of mixtures, normalizing constants included."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.model.priors import ResolvedPriors


def log_prior(
    mixture: Mixture, priors: ResolvedPriors, structure: CovarianceStructure
) -> FloatArray:
    """Log prior density of the free parameters (constrained scale), shape (...)."""
    space = priors.space(structure)
    free = space.free(mixture)
    total = (
        priors.weights.log_density(free["weights"])
        + priors.means.log_density(free["means"])
        + priors.scales.log_density(free["scales"], space.scale_bounds(mixture.corr_chol))
    )
    if space.n_correlations:
        total = total + priors.correlation.log_density(free["corr_chol"])
    return np.asarray(total)


def log_joint(
    mixture: Mixture,
    x: FloatArray,
    sample_weight: FloatArray | None,
    priors: ResolvedPriors,
    structure: CovarianceStructure,
    labels: IntArray | None = None,
) -> FloatArray:
    """Log of prior times likelihood: the log posterior up to the evidence, shape (...)."""
    likelihood = log_likelihood(mixture, x, sample_weight, labels)
    return likelihood + log_prior(mixture, priors, structure)
