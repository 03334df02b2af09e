"""Log joint densities of rows under many mixtures at once, by one matrix product for all of them.

The log density of a normal distribution is a polynomial of degree two in x: one row of monomials
(1, x_d, x_d x_e) times one column of coefficients for each mixture and component.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.model.mixture import Mixture
from stangmm.model.polynomial import Polynomial

# The polynomial is a sum of terms that cancel; the error is about their size times 1e-16. Beyond
# this size, densities are computed from deviations instead.
_LARGEST_TERM = 1e7
# Rows this many times farther out than the components count as far: their terms would be large.
_REACH = 8.0
# Coefficients kept, in numbers of 8 bytes (32 MB); with more, polynomials are not used.
COEFFICIENTS = 2**22
# Largest block of densities, in numbers of 8 bytes: 0.5 MB, which stay in a core's cache.
BLOCK = 2**16
DRAWS = 2**11  # most draws in a block
# Multiply-adds of one product. OpenBLAS splits larger ones between threads of its own, which get
# into each other's way when several threads here ask for products.
_PRODUCT = 2**18


class LogJoint:
    """Log p(x_n, z_n = k) under S mixtures, to about 1e-9 or as many digits as there are.

    Parameters
    ----------
    mixture : Mixture
        Batch of shape (S,).
    """

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture
        n, (k, d) = mixture.batch_shape[0], mixture.means.shape[1:]
        self._polynomial = Polynomial.near(mixture)
        self._n_terms = self._polynomial.n_terms
        self._coefficients: FloatArray | None = None
        if n * k * self._n_terms <= COEFFICIENTS:
            center, unit = self._polynomial.center, self._polynomial.unit
            means, scales = mixture.means.reshape(n * k, d), mixture.scales.reshape(n * k, d)
            self._reach = _REACH * np.quantile(np.hypot(means - center, scales), 0.9, axis=0) / unit
            self._coefficients = np.empty((mixture.n_weights, self._n_terms, n))
            self._deviant = np.empty(n, dtype=bool)
            step = max(1, BLOCK // (k * max(1, d) ** 2))
            for first in range(0, n, step):
                self._expand(self._coefficients, slice(first, first + step))

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, slice]]:
        """Pairs (rows, draws) of slices, of bounded size, that cover N rows and S mixtures."""
        s = self.mixture.batch_shape[0]
        cells = min(BLOCK // self.mixture.n_components, _PRODUCT // self._n_terms)
        draws = max(1, min(s, DRAWS, cells))
        rows = max(1, cells // draws)
        for first_row in range(0, n_rows, rows):
            for first in range(0, s, draws):
                yield slice(first_row, first_row + rows), slice(first, first + draws)

    def __call__(self, x: FloatArray, draws: slice) -> FloatArray:
        """Log joint densities, shape (K, n, s), of rows (n, D) under some of the mixtures.

        With noise there are K + 1, the noise last.
        """
        mixture = self.mixture[draws]
        if self._coefficients is None:
            return _from_deviations(x, mixture)
        scaled = self._polynomial.scaled(x)
        far = (np.abs(scaled) > self._reach).any(axis=1)
        deviant = self._deviant[draws]
        if far.all() or deviant.all():
            return _from_deviations(x, mixture)
        scaled[far] = 0.0
        with np.errstate(invalid="ignore"):  # where BLAS pads with zeros beside log(0)
            log_joint = np.matmul(
                self._polynomial.monomials(scaled), self._coefficients[..., draws]
            )
        if far.any():
            log_joint[:, far] = _from_deviations(x[far], mixture)
        if deviant.any():
            log_joint[..., deviant] = _from_deviations(x, mixture[deviant])
        return np.asarray(log_joint)

    def _expand(self, coefficients: FloatArray, draws: slice) -> None:
        """Fill in the coefficients of some mixtures, and note whose terms are too large."""
        terms = self._polynomial.coefficients(self.mixture[draws])
        with np.errstate(over="ignore", invalid="ignore"):
            # A weight of zero has log -inf, which is no error.
            finite = np.where(np.isneginf(terms), 0.0, np.abs(terms))
            size = finite @ self._polynomial.monomials(self._reach[np.newaxis])[0]
        deviant = ~(size <= _LARGEST_TERM).all(axis=-1)
        terms[deviant] = 0.0
        self._deviant[draws] = deviant
        coefficients[..., draws] = np.moveaxis(terms, 0, -1)


def _from_deviations(x: FloatArray, mixture: Mixture) -> FloatArray:
    """Log joint densities from the rows' deviations from the means: slower, right everywhere."""
    out = np.empty((mixture.n_weights, len(x), mixture.batch_shape[0]))
    for draws, rows in mixture.blocks(len(x)):
        out[:, rows, draws] = np.moveaxis(mixture[draws].log_joint(x[rows]), 0, -1)
    return out
