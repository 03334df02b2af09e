"""Log densities of normal components as polynomials of degree two in a row.

The log joint density of a row and a component is a sum of monomials (1, x_d, x_d x_e) times
coefficients, which depend on the mixture alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.model.mixture import LOG_2PI, Mixture


@dataclass(frozen=True, eq=False)
class Polynomial:
    """In which coordinates the monomials are, and which there are.

    Attributes
    ----------
    center, unit : ndarray, shape (D,)
        A row x has the coordinates (x - center) / unit.
    correlated : bool
        Whether there are products of two features.
    """

    center: FloatArray
    unit: FloatArray
    correlated: bool

    @classmethod
    def near(cls, mixture: Mixture) -> Polynomial:
        """Coordinates in which the terms of mixtures (S,) are of moderate size."""
        n, (k, d) = mixture.batch_shape[0], mixture.means.shape[1:]
        means, scales = mixture.means.reshape(n * k, d), mixture.scales.reshape(n * k, d)
        correlated = mixture.corr_chol is not None
        return cls(np.median(means, axis=0), np.median(scales, axis=0), correlated)

    @property
    def _pairs(self) -> tuple[IntArray, IntArray]:
        d = len(self.center)
        return np.tril_indices(d) if self.correlated else (np.arange(d), np.arange(d))

    @property
    def n_terms(self) -> int:
        """T, the number of monomials."""
        return 1 + len(self.center) + len(self._pairs[0])

    def of_features(self, features: IntArray) -> Polynomial:
        """The same for rows that have only some of the features."""
        correlated = self.correlated and len(features) > 1
        return replace(
            self, center=self.center[features], unit=self.unit[features], correlated=correlated
        )

    def scaled(self, x: FloatArray) -> FloatArray:
        """Coordinates of rows (n, D)."""
        with np.errstate(over="ignore"):
            return np.asarray((x - self.center) / self.unit)

    def monomials(self, scaled: FloatArray) -> FloatArray:
        """Monomials of rows in these coordinates, shape (n, T)."""
        i, j = self._pairs
        return np.hstack([np.ones((len(scaled), 1)), scaled, scaled[:, i] * scaled[:, j]])

    def coefficients(self, mixture: Mixture) -> FloatArray:
        """Coefficients of mixtures (S,), shape (S, W, T); with noise W is K + 1, the noise last."""
        log_det = np.log(mixture.scales).sum(axis=-1)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            mean = (mixture.means - self.center) / self.unit
            whitening = self.unit / mixture.scales
            constant = np.log(mixture.weights) - 0.5 * mixture.n_features * LOG_2PI
            if mixture.corr_chol is None:
                square = whitening**2
                linear = square * mean
                constant -= log_det + 0.5 * np.square(whitening * mean).sum(axis=-1)
            else:
                diagonal = np.diagonal(mixture.corr_chol, axis1=-2, axis2=-1)
                log_det += np.log(diagonal).sum(axis=-1)
                inverse = np.linalg.inv(mixture.corr_chol) * whitening[..., np.newaxis, :]
                white = np.einsum("skij,skj->ski", inverse, mean)
                linear = np.einsum("skij,ski->skj", inverse, white)
                constant -= log_det + 0.5 * np.square(white).sum(axis=-1)
                i, j = self._pairs
                precision = np.swapaxes(inverse, -1, -2) @ inverse
                square = precision[..., i, j] * np.where(i == j, 1.0, 2.0)
            terms = np.concatenate([constant[..., np.newaxis], linear, -0.5 * square], axis=-1)
            if mixture.noise is not None:
                uniform = np.zeros((len(terms), 1, terms.shape[-1]))
                log_density = mixture.noise.box.log_density.sum()
                uniform[:, 0, 0] = np.log(mixture.noise.weight) + log_density
                terms = np.concatenate([terms, uniform], axis=1)
        return np.asarray(terms)
