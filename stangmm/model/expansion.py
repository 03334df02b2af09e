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
from stangmm.data.groups import RowGroup, group_rows
from stangmm.model.mixture import Mixture
from stangmm.model.polynomial import Polynomial

_BLOCK = 2**18  # numbers in a block of rows: 2 MB, which stay in a core's cache
_COEFFICIENTS = 2**20  # of mixtures, held at once


@dataclass(frozen=True, eq=False)
class _Part:
    """The expansion over rows that have the same features and share what is known of them."""

    features: IntArray
    component: int | None
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
        weight = np.ones(len(x)) if sample_weight is None else sample_weight
        polynomial = Polynomial.near(mixture.reshape(1))
        order, groups = group_rows(x, labels) if _in_groups(x, labels) else _one_group(x)
        parts = []
        for group in groups:
            rows = order[group.rows]
            parts.append(
                _part(mixture, polynomial, x, rows, weight[rows], group.observed, group.component)
            )
        return cls(polynomial, tuple(parts))

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


def _in_groups(x: FloatArray, labels: IntArray | None) -> bool:
    return labels is not None or bool(np.isnan(x.max(initial=-np.inf)))


def _one_group(x: FloatArray) -> tuple[IntArray, tuple[RowGroup, ...]]:
    n, d = x.shape
    return np.arange(n), (RowGroup(slice(0, n), np.arange(d)),)


def _part(
    mixture: Mixture,
    polynomial: Polynomial,
    x: FloatArray,
    rows: IntArray,
    weight: FloatArray,
    features: IntArray,
    component: int | None,
) -> _Part:
    own = mixture.marginal(features)
    of_features = polynomial.of_features(features)
    at = of_features.coefficients(own.reshape(1))[0]
    n_weights, n_terms = at.shape
    value, gradient = 0.0, np.zeros_like(at)
    outer = np.zeros((n_weights * n_terms, n_weights * n_terms))
    within = np.zeros((n_weights, n_terms, n_terms))
    step = max(1, _BLOCK // (n_weights * n_terms))
    for first in range(0, len(rows), step):
        block = slice(first, first + step)
        seen, w = x[rows[block]][:, features], weight[block]
        monomials = of_features.monomials(of_features.scaled(seen))  # (n, T)
        log_joint = own.log_joint(seen)  # (W, n)
        if component is not None:
            value += float(w @ log_joint[component])
            gradient[component] += w @ monomials
            continue
        peak = log_joint.max(axis=0)
        joint = np.exp(log_joint - peak)
        total = joint.sum(axis=0)
        value += float(w @ (np.log(total) + peak))
        responsibility = joint / total
        weighted = responsibility * w
        gradient += weighted @ monomials
        each = (responsibility.T[:, :, np.newaxis] * monomials[:, np.newaxis]).reshape(len(w), -1)
        outer += each.T @ (each * w[:, np.newaxis])
        for k in range(n_weights):
            within[k] += monomials.T @ (monomials * weighted[k][:, np.newaxis])
    hessian = -outer
    for k in range(n_weights):
        own_terms = slice(k * n_terms, (k + 1) * n_terms)
        hessian[own_terms, own_terms] += within[k]
    return _Part(features, component, at.ravel(), value, gradient.ravel(), hessian)
