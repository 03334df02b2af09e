"""Arguments of a likelihood kernel: random mixtures, their text form, and their value by scipy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import logsumexp
from scipy.stats import Covariance, multivariate_normal

from stangmm.data.groups import RowGroup, group_rows
from stangmm.methods.stan.data import group_data

COVARIANCE_TYPES = [
    "full",
    "tied",
    "tied_correlation",
    "diag",
    "tied_diag",
    "spherical",
    "tied_spherical",
]


@dataclass(frozen=True)
class Point:
    """The arguments of one call of the kernel."""

    x: np.ndarray  # (N, D), NaN where missing
    sample_weight: np.ndarray  # (N,) or (0,)
    weights: np.ndarray  # (K,), or (K + 1,) with noise
    means: np.ndarray  # (K, D)
    scales: np.ndarray  # (K or 1, D or 1)
    corr_chol: np.ndarray  # (K, 1 or 0, D, D)
    groups: tuple[RowGroup, ...] = ()
    noise_log_density: np.ndarray = field(default_factory=lambda: np.empty(0))  # (D,) or (0,)

    def text(self) -> str:
        n, d = self.x.shape
        groups = group_data(self.groups, d)
        sizes = [n, d, len(self.means), self.sample_weight.size, groups.pop("n_groups")]
        sizes += [*self.scales.shape, len(self.corr_chol), self.noise_log_density.size]
        arrays = [self.noise_log_density, self.x.T, self.sample_weight, self.weights, self.means]
        arrays += [self.scales, self.corr_chol]
        integers = np.concatenate([sizes, *(np.ravel(a) for a in groups.values())])
        numbers = np.concatenate([np.ravel(a) for a in arrays])
        return " ".join([*map(str, integers.tolist()), *map(repr, numbers.tolist())])

    def grouped(self, rng: np.random.Generator, missing: float, known: float) -> Point:
        """Take a share of the values away, and say of a share of the rows where they belong."""
        x = np.where(rng.random(self.x.shape) < missing, np.nan, self.x)
        labels = rng.integers(len(self.means), size=len(x))
        order, groups = group_rows(x, np.where(rng.random(len(x)) < known, labels, -1))
        weight = self.sample_weight[order] if self.sample_weight.size else self.sample_weight
        return replace(self, x=x[order], sample_weight=weight, groups=groups)

    def with_noise(self, rng: np.random.Generator) -> Point:
        """Add a uniform component over some box, with a tenth of the weight."""
        weights = np.append(0.9 * self.weights, 0.1)
        log_density = -np.log(rng.uniform(5.0, 20.0, self.x.shape[1]))
        return replace(self, weights=weights, noise_log_density=log_density)

    def parts(self) -> Iterator[tuple[slice, np.ndarray, list[int], bool]]:
        """Rows, their features, the components they may come from, and whether from the noise."""
        d, k = self.x.shape[1], len(self.means)
        for g in self.groups or [RowGroup(slice(None), np.arange(d))]:
            known = g.component is not None
            components = [g.component] if known else list(range(k))
            yield g.rows, g.observed, components, not known and self.noise_log_density.size > 0


def random_point(
    rng: np.random.Generator,
    covariance_type: str,
    n: int,
    d: int,
    k: int,
    *,
    sample_weight: str = "none",
    noise: bool = False,
) -> Point:
    """Draw a mixture, and data from around its means."""
    components = 1 if covariance_type in ("tied", "tied_diag", "tied_spherical") else k
    features = 1 if covariance_type.endswith("spherical") else d
    free = {"full": k, "tied": 1, "tied_correlation": 1}
    correlations = free.get(covariance_type, 0) if d > 1 else 0
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
    point = Point(x, weight, rng.dirichlet(np.ones(k)), means, scales, chol)
    return point.with_noise(rng) if noise else point


def reference(p: Point) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient, and the size of the gradient's terms, by scipy and the covariance matrix.

    With L the observed rows of diag(scales) C, Sigma = L L' and u = Sigma^-1 (x - mean), the
    derivatives of a component's log density are u by the mean and (u u' - Sigma^-1) L by L.
    """
    value = 0.0
    gradient, terms = (
        [np.zeros(a.shape) for a in (p.weights, p.means, p.scales, p.corr_chol)] for _ in range(2)
    )
    for rows, features, components, noise in p.parts():
        x = p.x[rows][:, features]
        w = p.sample_weight[rows] if p.sample_weight.size else np.ones(len(x))
        normals = [_Normal(p, k, features) for k in components]
        log_normal = np.array([normal.log_density(x) for normal in normals]).T
        weights = components
        if noise:
            uniform = np.full((len(x), 1), p.noise_log_density[features].sum())
            log_normal, weights = np.hstack([log_normal, uniform]), [*components, len(p.means)]
        with np.errstate(divide="ignore"):
            log_joint = np.log(p.weights[weights]) + log_normal
        log_density = logsumexp(log_joint, axis=1)
        value += float(w @ log_density)
        r = w[:, None] * np.exp(log_joint - log_density[:, None])
        by_weight = w @ np.exp(log_normal - log_density[:, None])
        for sums, absolute in ((gradient, False), (terms, True)):
            sums[0][weights] += by_weight
            for normal, responsibility in zip(normals, r.T[: len(normals)], strict=True):
                normal.add_gradient(x, responsibility, sums, absolute)
    return value, *(np.concatenate([np.ravel(a) for a in part]) for part in (gradient, terms))


class _Normal:
    """The density of some features under one component."""

    def __init__(self, p: Point, k: int, features: np.ndarray) -> None:
        d = p.x.shape[1]
        self.k, self.features = k, features
        self.mean = p.means[k, features]
        self.scale = np.broadcast_to(p.scales[min(k, len(p.scales) - 1)], d)[features]
        corr = p.corr_chol[min(k, len(p.corr_chol) - 1)] if len(p.corr_chol) else np.eye(d)
        self.corr = corr[features]
        self.rows = self.scale[:, None] * self.corr

    def log_density(self, x: np.ndarray) -> np.ndarray:
        if not len(self.features):
            return np.zeros(len(x))
        factor = np.linalg.qr(self.rows.T, mode="r").T
        covariance = Covariance.from_cholesky(factor * np.sign(np.diag(factor)))
        log_density = multivariate_normal.logpdf(x, self.mean, covariance)
        return np.asarray(np.reshape(log_density, len(x)))

    def add_gradient(
        self, x: np.ndarray, r: np.ndarray, sums: list[np.ndarray], absolute: bool
    ) -> None:
        size = np.abs if absolute else np.asarray
        inverse = np.linalg.inv(np.linalg.qr(self.rows.T, mode="r"))
        precision = inverse @ inverse.T
        u = (x - self.mean) @ precision
        by_rows = np.einsum("n,ni,nj->ij", r, size(u), size(u @ self.rows))
        by_rows += (1 if absolute else -1) * r.sum() * size(precision @ self.rows)
        by_scale = size(by_rows * self.corr).sum(axis=1)
        _, means, scales, chol = sums
        means[self.k, self.features] += r @ size(u)
        row = scales[min(self.k, len(scales) - 1)]
        if len(row) == len(means[0]):
            row[self.features] += by_scale
        else:
            row += by_scale.sum()
        if len(chol):
            d = len(means[0])
            below = np.tril(np.ones((d, d)))[self.features]
            chol[min(self.k, len(chol) - 1)][self.features] += below * self.scale[:, None] * by_rows
