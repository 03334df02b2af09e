"""Mixtures of some features given the values of others; conditionals of Gaussians are Gaussians.

With x = (g, r) and a component's covariance factor [[A, 0], [B, C]]: given g, the rest r is normal
with mean mu_r + B A^-1 (g - mu_g) and factor C, and the component's weight is multiplied by
N(g | mu_g, A A') (Bishop 2006, Pattern Recognition and Machine Learning, section 2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.model.mixture import Mixture
from stangmm.predict.averages import drawn_components


@dataclass(frozen=True, eq=False)
class Conditional:
    """A batch (S,) of mixtures of R features given G others, ready for many given values.

    Attributes
    ----------
    given : Mixture
        Of the given features.
    rest : Mixture
        Of the other features, where each component has its own means as given values.
    slopes : ndarray, shape (S, K, R, G), or None
        How the means of the rest change with the given values; None without correlations.
    """

    given: Mixture
    rest: Mixture
    slopes: FloatArray | None = None

    @classmethod
    def of(cls, joint: Mixture, given: IntArray, rest: IntArray) -> Conditional:
        """Take features (indices) of a batch (S,) as given and others as the rest.

        Features in neither are integrated out; with none given the rest is marginal.
        """
        g, weights = len(given), joint.weights
        mu_g, mu_r = joint.means[..., given], joint.means[..., rest]
        sd_g, sd_r = joint.scales[..., given], joint.scales[..., rest]
        noise_g, noise_r = (
            joint.noise and replace(joint.noise, box=joint.noise.box.marginal(features))
            for features in (given, rest)
        )
        if joint.corr_chol is None:
            return cls(
                Mixture(weights, mu_g, sd_g, noise=noise_g),
                Mixture(weights, mu_r, sd_r, noise=noise_r),
            )
        factor = lower_factor(joint.corr_chol[..., np.concatenate([given, rest]), :])
        a, b, c = factor[..., :g, :g], factor[..., g:, :g], factor[..., g:, g:]
        # A' is triangular, so that solving is substitution.
        across = np.linalg.solve(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2))
        slopes = np.swapaxes(across, -1, -2) * (sd_r[..., np.newaxis] / sd_g[..., np.newaxis, :])
        left = np.sqrt(np.square(c).sum(axis=-1))
        return cls(
            Mixture(weights, mu_g, sd_g, _if_several(a), noise_g),
            Mixture(weights, mu_r, sd_r * left, _if_several(c / left[..., np.newaxis]), noise_r),
            slopes,
        )

    def __getitem__(self, draws: Any) -> Conditional:
        """Keep some of the draws, as a batch."""
        slopes = None if self.slopes is None else self.slopes[draws]
        return Conditional(self.given[draws], self.rest[draws], slopes)

    @property
    def n_draws(self) -> int:
        """S."""
        return self.given.batch_shape[0]

    @property
    def size(self) -> int:
        """Numbers that `at` makes of one given value: of weights, or of means."""
        return self.rest.weights.size * max(self.given.n_features, self.rest.n_features)

    def at(self, values: FloatArray) -> Mixture:
        """Mixtures of the rest at given values.

        Parameters
        ----------
        values : ndarray, shape (M, G)

        Returns
        -------
        Mixture
            Batch (S, M). Scales and correlations do not depend on the values and are not copied.
        """
        rest, m = self.rest, len(values)

        def repeated(array: FloatArray) -> FloatArray:
            shape = (len(array), m, *array.shape[1:])
            return np.broadcast_to(array[:, np.newaxis], shape)

        means = repeated(rest.means)
        if self.slopes is not None:
            deviation = values.T - self.given.means[..., np.newaxis]
            moved = rest.means[..., np.newaxis] + self.slopes @ deviation
            means = np.moveaxis(moved, -1, 1)
        weights = np.moveaxis(self.given.responsibilities(values), -1, 1)
        k = rest.n_components
        return Mixture(
            weights[..., :k],
            means,
            repeated(rest.scales),
            None if rest.corr_chol is None else repeated(rest.corr_chol),
            rest.noise and replace(rest.noise, weight=weights[..., k]),
        )

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean of the rest, averaged over the draws, shape (M, R)."""
        total = np.zeros((len(values), self.rest.n_features))
        for draws, rows in self._blocks(len(values)):
            total[rows] += mixture_mean(self[draws].at(values[rows])).sum(axis=0)
        return total / self.n_draws

    def mean_draws(self, values: FloatArray) -> FloatArray:
        """Mean of the rest for every draw, shape (S, M, R)."""
        out = np.empty((self.n_draws, len(values), self.rest.n_features))
        for draws, rows in self._blocks(len(values)):
            out[draws, rows] = mixture_mean(self[draws].at(values[rows]))
        return out

    def covariance(self, values: FloatArray) -> FloatArray:
        """Covariance of the rest in the mixture averaged over the draws, shape (M, R, R)."""
        mixture = self.at(values)
        center = mixture_mean(mixture).mean(axis=0)  # (M, R)
        deviation = mixture.means - center[:, np.newaxis]
        total = np.einsum("smk,skij->mij", mixture.weights, self.rest.covariances)
        of_means = mixture.weights[..., np.newaxis] * deviation
        total += np.einsum("smki,smkj->mij", of_means, deviation)
        if mixture.noise is not None:
            box, weight = mixture.noise.box, mixture.noise.weight.sum(axis=0)
            deviation = box.center - center
            uniform = np.diag((box.upper - box.lower) ** 2 / 12.0)
            products = deviation[:, :, np.newaxis] * deviation[:, np.newaxis]
            total += weight[:, np.newaxis, np.newaxis] * (uniform + products)
        return np.asarray(total / self.n_draws)

    def _blocks(self, n_rows: int) -> Iterator[tuple[slice, slice]]:
        return max(self.given, self.rest, key=lambda part: part.n_features).blocks(n_rows)


def lower_factor(rows: FloatArray) -> FloatArray:
    """Lower Cholesky factor of ``rows @ rows'``, shape (..., R, R) for rows (..., R, D), R <= D.

    By QR, without the product, which would cost half of the digits where features nearly determine
    each other.
    """
    upper = np.linalg.qr(np.swapaxes(rows, -1, -2), mode="r")
    sign = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    return np.asarray(np.swapaxes(upper * sign[..., np.newaxis], -1, -2))


def mixture_mean(mixture: Mixture) -> FloatArray:
    """Mean of each mixture of a batch, shape (..., D)."""
    mean = np.einsum("...k,...kd->...d", mixture.weights, mixture.means)
    if mixture.noise is not None:
        mean += mixture.noise.weight[..., np.newaxis] * mixture.noise.box.center
    return np.asarray(mean)


def one_of_each(mixture: Mixture, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """One observation of each mixture of a batch (M,), shape (M, D), and its component, (M,).

    The component of the noise is -1.
    """
    m = len(mixture.weights)
    labels = drawn_components(mixture.all_weights, mixture.n_components, rng)
    which = np.arange(m), labels
    step = rng.standard_normal((m, mixture.n_features))
    if mixture.corr_chol is not None:
        step = np.einsum("mij,mj->mi", mixture.corr_chol[which], step)
    x = mixture.means[which] + mixture.scales[which] * step
    if mixture.noise is not None:
        x[labels < 0] = mixture.noise.box.draw(int((labels < 0).sum()), rng)
    return x, labels


def _if_several(factor: FloatArray) -> FloatArray | None:
    """One feature has no correlations, and none has nothing."""
    return factor if factor.shape[-1] > 1 else None
