"""Directions: the plane in which the components of a mixture are furthest apart.

Scrucca 2010 (doi:10.1007/s11222-009-9138-7): directions in which means differ, as Fisher's, or
covariances do, each weighed against the covariance of all data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.posterior.fitted import Fitted

# Where components differ in one direction only, the second is that in which the data are widest.
_TIE = 1e-6
_COLLINEAR = 1e-12  # variances of combinations of features, standardized, that count as none


@dataclass(frozen=True, eq=False)
class Directions:
    """Two directions of the data, in which their variance by the mixture is 1.

    Attributes
    ----------
    center : ndarray, shape (D,)
        The mixture's mean.
    vectors : ndarray, shape (D, 2)
        ``(x - center) @ vectors`` are the coordinates of rows x.
    shares : ndarray, shape (2,)
        What each direction shows of how the components differ, as a share; 0 where they do not.
    nearest : ndarray of int, shape (2,)
        The feature with which each is most correlated; that correlation is positive.
    """

    center: FloatArray
    vectors: FloatArray
    shares: FloatArray
    nearest: IntArray


def directions_of(fit: Fitted) -> Directions:
    """Find the plane in which the components at the posterior means are furthest apart.

    Parameters
    ----------
    fit : Fit
        Of at least two features.
    """
    means, covariances = fit.means, fit.covariances
    weights = fit.weights / fit.weights.sum()  # noise has no direction
    center = weights @ means
    within = np.tensordot(weights, covariances, axes=1)
    apart = means - center
    total = within + (weights[:, np.newaxis] * apart).T @ apart
    sd = np.sqrt(np.diagonal(total))
    values, axes = np.linalg.eigh(total / np.outer(sd, sd))
    values = np.maximum(values, _COLLINEAR * values.max())
    whiten = axes / np.sqrt(values)  # (D, D): standardized features to coordinates of variance 1
    mean = (apart / sd) @ whiten
    between = (weights[:, np.newaxis] * mean).T @ mean
    own = whiten.T @ ((covariances - within) / np.outer(sd, sd)) @ whiten
    differing = between @ between + np.tensordot(weights, own @ own, axes=1)
    size = float(np.trace(differing))
    tie = np.diag(values / values.max()) * _TIE * (size or 1.0)
    strength, found = np.linalg.eigh(differing + tie)
    first = found[:, ::-1][:, :2]
    vectors = (whiten @ first) / sd[:, np.newaxis]
    alike = (total @ vectors) / sd[:, np.newaxis]  # correlations with the features
    nearest = np.abs(alike).round(6).argmax(axis=0)
    vectors = vectors * np.where(alike[nearest, [0, 1]] < 0, -1.0, 1.0)
    shares = strength[::-1][:2] / strength.sum() if size > _TIE else np.zeros(2)
    return Directions(center, vectors, shares, nearest)
