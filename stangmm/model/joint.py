"""The log prior and the log joint density of mixtures, normalizing constants included."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.model.priors import ResolvedPriors


def log_priors(
    mixture: Mixture, priors: ResolvedPriors, structure: CovarianceStructure
) -> dict[str, FloatArray]:
    """Log prior density of the free weights, means, scales and correlations, each (...).

    That of the scales is given the correlations, which say how far down scales may go.
    """
    space = priors.space(structure)
    free = space.free(mixture)
    each = {
        "weights": priors.weights.log_density(free["weights"]),
        "means": priors.means.log_density(free["means"]),
        "scales": priors.scales.log_density(free["scales"], space.scale_bounds(mixture.corr_chol)),
    }
    if space.n_correlations:
        each["correlations"] = priors.correlation.log_density(free["corr_chol"])
    return each


def log_prior(
    mixture: Mixture, priors: ResolvedPriors, structure: CovarianceStructure
) -> FloatArray:
    """Log prior density of all free parameters (constrained scale), shape (...)."""
    return np.asarray(sum(log_priors(mixture, priors, structure).values()))


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
