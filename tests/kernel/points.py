"""Arguments of a likelihood kernel: random mixtures, their text form, and their value by scipy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from scipy.stats import Covariance, multivariate_normal

COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]


@dataclass(frozen=True)
class Point:
    """The arguments of one call of the kernel."""

    x: np.ndarray  # (N, D)
    sample_weight: np.ndarray  # (N,) or (0,)
    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, D)
    scales: np.ndarray  # (K or 1, D or 1)
    corr_chol: np.ndarray  # (K, 1 or 0, D, D)

    def text(self) -> str:
        n, d = self.x.shape
        sizes = [n, d, len(self.weights), self.sample_weight.size]
        sizes += [*self.scales.shape, len(self.corr_chol)]
        arrays = [self.x.T, self.sample_weight, self.weights, self.means]
        arrays += [self.scales, self.corr_chol]
        numbers = np.concatenate([np.ravel(a) for a in arrays])
        return " ".join([*map(str, sizes), *map(repr, numbers.tolist())])


def random_point(
    rng: np.random.Generator,
    covariance_type: str,
    n: int,
    d: int,
    k: int,
    *,
    sample_weight: str = "none",
) -> Point:
    """Draw a mixture, and data from around its means."""
    components = 1 if covariance_type == "tied" else k
    features = 1 if covariance_type == "spherical" else d
    correlations = {"full": k, "tied": 1}.get(covariance_type, 0) if d > 1 else 0
    means = rng.normal(0, 3, (k, d))
    scales = rng.lognormal(0, 0.5, (components, features))
    x = means[rng.integers(k, size=n)] + rng.normal(0, 1.5, (n, d))
    chol = np.tril(rng.normal(0, 1, (correlations, d, d)), -1)
    chol += np.eye(d) * rng.uniform(0.3, 2, (correlations, d, 1))
    chol /= np.sqrt((chol**2).sum(axis=2, keepdims=True))
    weight = {
        "none": np.empty(0),
        "counts": rng.integers(0, 4, n).astype(float),
        "fractions": rng.uniform(0, 2, n),
    }[sample_weight]
    return Point(x, weight, rng.dirichlet(np.ones(k)), means, scales, chol)


def reference(p: Point) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient, and the size of the gradient's terms, by scipy and the covariance matrix.

    With Sigma = L L', L = diag(scales) C and u = Sigma^-1 (x - mean), the derivatives of a
    component's log density are u by the mean and (u u' - Sigma^-1) L by L.
    """
    n, d = p.x.shape
    k = len(p.weights)
    w = p.sample_weight if p.sample_weight.size else np.ones(n)
    chols, scales = [], []
    log_normal = np.empty((n, k))
    for i in range(k):
        scale = np.broadcast_to(p.scales[min(i, len(p.scales) - 1)], d)
        corr = p.corr_chol[min(i, len(p.corr_chol) - 1)] if len(p.corr_chol) else np.eye(d)
        chols.append(corr)
        scales.append(scale)
        factor = scale[:, None] * corr
        covariance = Covariance.from_cholesky(factor)
        log_normal[:, i] = multivariate_normal.logpdf(p.x, p.means[i], covariance)
    with np.errstate(divide="ignore"):
        log_joint = np.log(p.weights) + log_normal
    log_density = logsumexp(log_joint, axis=1)
    r = w[:, None] * np.exp(log_joint - log_density[:, None])

    sums: list[list[np.ndarray]] = []
    for absolute in (False, True):
        size = np.abs if absolute else np.asarray
        g_weights = w @ np.exp(log_normal - log_density[:, None])
        g_means, g_scales = np.zeros((k, d)), np.zeros(p.scales.shape)
        g_chol = np.zeros(p.corr_chol.shape)
        for i in range(k):
            factor = scales[i][:, None] * chols[i]
            inverse = np.linalg.inv(factor)
            precision = inverse.T @ inverse
            u = (p.x - p.means[i]) @ precision
            g_means[i] = r[:, i] @ size(u)
            sign = 1 if absolute else -1
            g_factor = np.einsum("n,ni,nj->ij", r[:, i], size(u), size(u @ factor))
            g_factor += sign * r[:, i].sum() * size(precision @ factor)
            by_feature = (size(g_factor * np.tril(chols[i]))).sum(axis=1)
            row = min(i, len(p.scales) - 1)
            g_scales[row] += by_feature if p.scales.shape[1] == d else by_feature.sum()
            if len(p.corr_chol):
                g_chol[min(i, len(p.corr_chol) - 1)] += np.tril(scales[i][:, None] * g_factor)
        sums.append([g_weights, g_means, g_scales, g_chol])
    gradient, terms = (np.concatenate([np.ravel(a) for a in part]) for part in sums)
    return float(w @ log_density), gradient, terms
