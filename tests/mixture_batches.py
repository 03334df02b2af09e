"""Batches of random mixtures, as if drawn from a posterior, and their densities by scipy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from random_mixtures import PlainMixture, random_mixture

from stangmm.data.dataset import Dataset
from stangmm.model.mixture import Mixture
from stangmm.predict.distribution import MixtureDistribution

NAMES = ("a", "b", "c", "d", "e")


@dataclass(frozen=True)
class Batch:
    """S mixtures as plain arrays, and the package's batch of them."""

    members: list[PlainMixture]
    mixture: Mixture

    @property
    def dataset(self) -> Dataset:
        """Some rows, for the features' names."""
        d = self.mixture.n_features
        return Dataset(np.zeros((1, d)), NAMES[:d], named=True)

    @property
    def distribution(self) -> MixtureDistribution:
        """Of all features."""
        return MixtureDistribution(self.mixture, self.dataset, progress=False)

    def conditional_density(self, x: np.ndarray, rest: list[int], given: list[int]) -> np.ndarray:
        """p(x[rest] | x[given]) of each member, as a quotient of scipy's densities, (S, N)."""
        return np.exp(self.marginal_log(x, rest + given) - self.marginal_log(x, given))

    def marginal_log(self, x: np.ndarray, features: list[int]) -> np.ndarray:
        """Log p(x[features]) of each member by scipy, shape (S, N)."""
        parts = [
            PlainMixture(
                m.weights, m.means[:, features], m.covariances[:, features][:, :, features]
            )
            for m in self.members
        ]
        return np.stack([part.log_density(x[:, features]) for part in parts])


def random_batch(seed: int, covariance_type: str, s: int, k: int, d: int) -> Batch:
    """Draw S mixtures near each other, as draws of a posterior are."""
    rng = np.random.default_rng(seed)
    first = random_mixture(rng, covariance_type, k, d, spread=2.0)
    members = [first]
    for _ in range(s - 1):
        other = random_mixture(rng, covariance_type, k, d)
        means = first.means + rng.normal(0, 0.3, (k, d))
        members.append(PlainMixture(other.weights, means, other.covariances))
    each = [m.mixture(covariance_type) for m in members]
    chol = [m.corr_chol for m in each if m.corr_chol is not None]
    mixture = Mixture(
        np.stack([m.weights for m in each]),
        np.stack([m.means for m in each]),
        np.stack([m.scales for m in each]),
        np.stack(chol) if chol else None,
    )
    return Batch(members, mixture)
