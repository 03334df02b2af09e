"""The configurations: their priors, and parameters and data drawn from them.

The draws come from numpy and scipy alone, so that the package's densities are not their own
reference.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import stangmm as sg
from stangmm.model.covariance import STRUCTURES, CovarianceStructure
from stangmm.model.mixture import Mixture
from stangmm.model.noise import Box, Noise
from stangmm.model.priors import ScalePrior

FloatArray = NDArray[np.float64]

# One feature would make "full" and "tied" the same as "diag"; more components only cost time.
N_COMPONENTS, N_FEATURES = 2, 2
# Replications take turns: few rows let the prior be seen, many lead NUTS to its other warm-up.
ROWS = (20, 50, 200)

CONCENTRATION = 4.0  # of the weights: components without any rows are rare, not excluded
MEANS_SCALE = 2.5  # prior sd of the means, in units of a typical component scale
LKJ_SHAPE = 2.0
HALF_WIDTH = 15.0  # of the box of the noise: no component reaches beyond, where there is no noise


@dataclass(frozen=True)
class ScaleFamily:
    """A prior of the scales in the package, and how scipy draws standard deviations from it."""

    prior: ScalePrior
    draw: Callable[[np.random.Generator, tuple[int, int]], FloatArray]


SCALE_FAMILIES = {
    "HalfCauchy": ScaleFamily(
        sg.HalfCauchy(1.0), lambda rng, shape: stats.halfcauchy.rvs(size=shape, random_state=rng)
    ),
    "HalfNormal": ScaleFamily(
        sg.HalfNormal(1.0), lambda rng, shape: stats.halfnorm.rvs(size=shape, random_state=rng)
    ),
    "InverseGamma": ScaleFamily(
        sg.InverseGamma(2.0, 1.0),
        lambda rng, shape: np.sqrt(stats.invgamma.rvs(2.0, size=shape, random_state=rng)),
    ),
}


@dataclass(frozen=True)
class Configuration:
    """A covariance type with a family of scale priors, and with noise or without."""

    covariance_type: str
    scale_family: str
    box: Box | None = None

    @property
    def name(self) -> str:
        return f"{self.covariance_type}-{self.scale_family}{'-noise' if self.box else ''}"

    @property
    def kind(self) -> str:
        """The covariance type, and whether there is noise."""
        return f"{self.covariance_type}{', noise' if self.box else ''}"

    @property
    def structure(self) -> CovarianceStructure:
        return STRUCTURES[self.covariance_type]

    @property
    def priors(self) -> sg.Priors:
        """Explicit priors; the package's defaults would look at the data."""
        return sg.Priors(
            weights=sg.Dirichlet(CONCENTRATION),
            means=sg.Normal(0.0, MEANS_SCALE),
            scales=SCALE_FAMILIES[self.scale_family].prior,
            correlation=sg.LKJ(LKJ_SHAPE),
        )

    def rng(self, replication: int) -> np.random.Generator:
        """Random numbers of one replication, whatever else is run before or beside it."""
        return np.random.default_rng([zlib.crc32(self.name.encode()), replication])

    def draw(self, rng: np.random.Generator) -> Mixture:
        """Draw parameters from the prior; no draw is rejected."""
        k, d = N_COMPONENTS, N_FEATURES
        shape = self.structure.scale_shape(k, d)
        weights = rng.dirichlet(np.full(k + bool(self.box), CONCENTRATION))
        noise = Noise(weights[k], self.box) if self.box else None
        means = rng.normal(0.0, MEANS_SCALE, (k, d))
        scales = SCALE_FAMILIES[self.scale_family].draw(rng, shape)
        n_correlations = self.structure.n_correlations(k, d)
        corr_chol = None
        if n_correlations:
            # Of two features the LKJ distribution is a Beta distribution, stretched to (-1, 1).
            correlation = 2.0 * rng.beta(LKJ_SHAPE, LKJ_SHAPE, n_correlations) - 1.0
            factors = np.array([[[1.0, 0.0], [r, np.sqrt(1.0 - r**2)]] for r in correlation])
            corr_chol = np.broadcast_to(factors, (k, d, d))
        return Mixture(weights[:k], means, np.broadcast_to(scales, (k, d)), corr_chol, noise)


def draw_rows(mixture: Mixture, n_rows: int, rng: np.random.Generator) -> FloatArray:
    """Draw rows (n_rows, D) from a mixture."""
    labels = rng.choice(mixture.n_weights, n_rows, p=mixture.all_weights)
    own = labels % mixture.n_components  # the noise's rows are drawn anew below
    steps = rng.standard_normal((n_rows, mixture.n_features))
    x = mixture.means[own] + np.einsum("nij,nj->ni", mixture.cholesky[own], steps)
    if mixture.noise is not None:
        uniform = rng.uniform(mixture.noise.box.lower, mixture.noise.box.upper, x.shape)
        x = np.where(labels[:, np.newaxis] == mixture.n_components, uniform, x)
    return x


CONFIGURATIONS = {
    configuration.name: configuration
    for covariance_type, structure in STRUCTURES.items()
    if not structure.em_only
    for configuration in [Configuration(covariance_type, family) for family in SCALE_FAMILIES]
}
_BOX = Box(np.full(N_FEATURES, -HALF_WIDTH), np.full(N_FEATURES, HALF_WIDTH))
NOISY = Configuration("full", "HalfNormal", _BOX)
CONFIGURATIONS[NOISY.name] = NOISY
