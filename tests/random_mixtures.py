"""Random mixtures as plain arrays, random data, and their densities by scipy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from stangmm.model.mixture import Mixture

COVARIANCE_TYPES = [
    "full",
    "tied",
    "tied_correlation",
    "diag",
    "tied_diag",
    "spherical",
    "tied_spherical",
]


SKLEARN_TYPES = ["full", "tied", "diag", "spherical"]


@dataclass(frozen=True)
class PlainMixture:
    """Weights (K,), means (K, D) and covariance matrices (K, D, D)."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def component_log_density(self, x: np.ndarray) -> np.ndarray:
        """Log p(x_n | k), shape (K, N), by scipy."""
        pairs = zip(self.means, self.covariances, strict=True)
        return np.stack([multivariate_normal(m, c).logpdf(x).reshape(len(x)) for m, c in pairs])

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log p(x_n), shape (N,), by scipy."""
        return logsumexp(self.component_log_density(x), axis=0, b=self.weights[:, np.newaxis])

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Rows (n, D)."""
        factors = np.linalg.cholesky(self.covariances)
        z = rng.choice(len(self.weights), n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        return self.means[z] + np.einsum("nij,nj->ni", factors[z], noise)

    def mixture(self, covariance_type: str) -> Mixture:
        """The package's mixture with the same parameters."""
        covariances = self.covariances
        if covariance_type.endswith(("diag", "spherical")):
            covariances = np.diagonal(covariances, axis1=-2, axis2=-1)
        return Mixture.from_covariances(self.weights, self.means, covariances)


def random_mixture(
    rng: np.random.Generator, covariance_type: str, k: int, d: int, spread: float = 3.0
) -> PlainMixture:
    """Draw a mixture with the structure of a covariance type; `spread` is the sd of the means."""
    shape = (k, 1) if covariance_type.endswith("spherical") else (k, d)
    scales = np.broadcast_to(rng.lognormal(0.0, 0.4, shape), (k, d))
    correlations = np.tile(np.eye(d), (k, 1, 1))
    if covariance_type in ("full", "tied", "tied_correlation"):
        factor = rng.standard_normal((k, d, d + 2))
        product = factor @ np.swapaxes(factor, 1, 2)
        root = np.sqrt(np.diagonal(product, axis1=1, axis2=2))
        correlations = product / (root[:, :, np.newaxis] * root[:, np.newaxis, :])
        if covariance_type == "tied_correlation":
            correlations = np.repeat(correlations[:1], k, axis=0)
    covariances = correlations * scales[:, :, np.newaxis] * scales[:, np.newaxis, :]
    if covariance_type in ("tied", "tied_diag", "tied_spherical"):
        covariances = np.repeat(covariances[:1], k, axis=0)
    weights = rng.dirichlet(np.full(k, 3.0))
    return PlainMixture(weights, rng.normal(0.0, spread, (k, d)), covariances)


def most_likely_covariances(
    covariance_type: str, counts: np.ndarray, each: np.ndarray
) -> np.ndarray:
    """Covariances (K, D, D) of the type for groups of so many rows with these own covariances."""
    k, d = each.shape[:2]
    share = counts / counts.sum()
    if covariance_type in ("diag", "tied_diag"):
        each = each * np.eye(d)
    if covariance_type.endswith("spherical"):
        each = np.trace(each, axis1=1, axis2=2)[:, np.newaxis, np.newaxis] / d * np.eye(d)
    if covariance_type in ("tied", "tied_diag", "tied_spherical"):
        each = np.tile(np.average(each, axis=0, weights=counts), (k, 1, 1))
    if covariance_type != "tied_correlation":
        return each
    below = np.tril_indices(d, -1)

    def covariances(free: np.ndarray) -> np.ndarray:
        scales = np.exp(free[: k * d]).reshape(k, d)
        factor = np.eye(d)
        factor[below] = free[k * d :]
        factor /= np.sqrt((factor**2).sum(axis=1, keepdims=True))
        return (factor @ factor.T) * scales[:, :, np.newaxis] * scales[:, np.newaxis, :]

    def misfit(free: np.ndarray) -> float:
        found = covariances(free)
        log_det = np.linalg.slogdet(found)[1]
        trace = np.trace(np.linalg.solve(found, each), axis1=1, axis2=2)
        return float(share @ (log_det + trace))

    own = 0.5 * np.log(np.diagonal(each, axis1=1, axis2=2)).ravel()
    start = np.concatenate([own, np.zeros(len(below[0]))])
    found = minimize(misfit, start, method="BFGS", options={"gtol": 1e-9})
    return covariances(found.x)
