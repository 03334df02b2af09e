"""The log likelihood of many mixtures near one, by its expansion to second order.

The log joint density of a row and a component is a polynomial of the row, so that it is linear in
the polynomial's coefficients. In these the log likelihood is expanded,

    l(c) = l(c0) + g' (c - c0) + (c - c0)' H (c - c0) / 2,

with sums over the rows of responsibilities times monomials in g and H. One pass over the rows gives
all three; after it, a mixture costs the same whatever the number of rows. What the expansion leaves
out is small where the posterior is narrow, and can be estimated from some of the rows (the
difference estimator of Quiroz, Kohn, Villani & Tran 2019, doi:10.1080/01621459.2018.1448827).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.data.groups import group_rows
from stangmm.model.mixture import Mixture
from stangmm.model.polynomial import Polynomial

_BLOCK = 2**18  # numbers in a block of rows: 2 MB, which stay in a core's cache
_COEFFICIENTS = 2**20  # of mixtures, held at once
_SURE = 1e-9  # of r (1 - r), summed over the components


@dataclass(frozen=True, eq=False)
class _Part:
    """The expansion over rows that have the same features and share what is known of them."""

    features: IntArray
    at: FloatArray  # (W T,), the coefficients at the mixture
    value: float
    gradient: FloatArray  # (W T,)
    hessian: FloatArray  # (W T, W T)


@dataclass(frozen=True, eq=False)
class Expansion:
    """The log likelihood of rows at mixtures near one, to second order.

    Attributes
    ----------
    polynomial : Polynomial
        In which coefficients it is expanded.
    parts : tuple
        Rows that have the same features and share what is known of them.
    """

    polynomial: Polynomial
    parts: tuple[_Part, ...]

    @classmethod
    def of(
        cls,
        mixture: Mixture,
        x: FloatArray,
        sample_weight: FloatArray | None = None,
        labels: IntArray | None = None,
    ) -> Expansion:
        """Expand around a mixture without leading axes, in one pass over the rows (N, D).

        Values that are NaN are integrated out; ``labels`` are known components, negative where
        unknown.
        """
        if labels is None and not np.isnan(x.max(initial=-np.inf)):
            return cls.from_sums(mixture, terms_of_rows(mixture, x, sample_weight))
        polynomial = Polynomial.near(mixture.reshape(1))
        order, groups = group_rows(x, labels)
        parts = []
        for group in groups:
            rows, features = order[group.rows], group.observed
            own, of_features = mixture.marginal(features), polynomial.of_features(features)
            weight = None if sample_weight is None else sample_weight[rows]
            sums = _sums(own, of_features, x[rows][:, features], weight, group.component)
            parts.append(_part(own, of_features, features, sums))
        return cls(polynomial, tuple(parts))

    @classmethod
    def from_sums(cls, mixture: Mixture, sums: tuple[FloatArray, ...]) -> Expansion:
        """Give the expansion of complete rows from their `terms_of_rows`, summed."""
        polynomial, features = Polynomial.near(mixture.reshape(1)), np.arange(mixture.n_features)
        return cls(polynomial, (_part(mixture, polynomial, features, sums),))

    def log_likelihood(self, mixture: Mixture) -> FloatArray:
        """Sum over the rows of weight times log p(x_n), shape (S,), for mixtures (S,)."""
        total = np.zeros(mixture.batch_shape)
        for part in self.parts:
            step = max(1, _COEFFICIENTS // len(part.at))
            for first in range(0, len(total), step):
                draws = slice(first, first + step)
                some = mixture[draws].marginal(part.features)
                terms = self.polynomial.of_features(part.features).coefficients(some)
                change = terms.reshape(len(terms), -1) - part.at
                slope = part.gradient + 0.5 * change @ part.hessian
                total[draws] += part.value + np.einsum("sc,sc->s", change, slope)
        return total


def terms_of_rows(
    mixture: Mixture, x: FloatArray, sample_weight: FloatArray | None = None
) -> tuple[FloatArray, ...]:
    """Value, gradient and second derivatives of complete rows' log likelihood: sums over rows."""
    return _sums(mixture, Polynomial.near(mixture.reshape(1)), x, sample_weight, None)


def _part(
    mixture: Mixture, polynomial: Polynomial, features: IntArray, sums: tuple[FloatArray, ...]
) -> _Part:
    value, gradient, hessian = sums
    at = polynomial.coefficients(mixture.reshape(1))[0]
    return _Part(features, at.ravel(), float(value), gradient, hessian)


def _sums(
    mixture: Mixture,
    polynomial: Polynomial,
    x: FloatArray,
    sample_weight: FloatArray | None,
    component: int | None,
) -> tuple[FloatArray, ...]:
    """Value, gradient (W T,) and Hessian (W T, W T) at a mixture, of rows (n, D)."""
    n_weights, n_terms = mixture.n_weights, polynomial.n_terms
    weights = np.ones(len(x)) if sample_weight is None else sample_weight
    value, gradient = 0.0, np.zeros((n_weights, n_terms))
    hessian = np.zeros((n_weights * n_terms, n_weights * n_terms))
    within = np.zeros((n_weights, n_terms, n_terms))
    step = max(1, _BLOCK // (n_weights * n_terms))
    for first in range(0, len(x), step):
        rows, weight = x[first : first + step], weights[first : first + step]
        monomials = polynomial.monomials(polynomial.scaled(rows))  # (n, T)
        log_joint = mixture.log_joint(rows)  # (W, n)
        if component is not None:
            value += float(weight @ log_joint[component])
            gradient[component] += weight @ monomials
            continue
        peak = log_joint.max(axis=0)
        joint = np.exp(log_joint - peak)
        total = joint.sum(axis=0)
        value += float(weight @ (np.log(total) + peak))
        responsibility = joint / total
        weighted = responsibility * weight
        gradient += weighted @ monomials
        # Rows that surely belong to one component have no second derivatives.
        kept = (responsibility * (1.0 - responsibility)).sum(axis=0) > _SURE
        responsibility, weighted = responsibility[:, kept], weighted[:, kept]
        monomials, weight = monomials[kept], weight[kept]
        each = (responsibility.T[:, :, np.newaxis] * monomials[:, np.newaxis]).reshape(
            len(weight), n_weights * n_terms
        )
        hessian -= each.T @ (each * weight[:, np.newaxis])
        for k in range(n_weights):
            within[k] += monomials.T @ (monomials * weighted[k][:, np.newaxis])
    for k in range(n_weights):
        own = slice(k * n_terms, (k + 1) * n_terms)
        hessian[own, own] += within[k]
    return np.array(value), gradient.ravel(), hessian
