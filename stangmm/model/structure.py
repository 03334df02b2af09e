"""CovarianceStructure: what the components' covariance matrices share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.data.resolution import rounding_error

CovarianceType: TypeAlias = Literal[
    "full",
    "tied",
    "tied_correlation",
    "diag",
    "tied_diag",
    "spherical",
    "tied_spherical",
    "VEI",
    "EVI",
    "VEE",
    "EVV",
    "EEV",
    "VEV",
]
MclustName: TypeAlias = Literal["VVV", "EEE", "VVI", "EEI", "VII", "EII"]

# A combination of features may be so much narrower than if their rounding errors were independent.
_CANCELLING = 0.5


class CovarianceStructure(ABC):
    """What the components' covariance matrices share."""

    name: ClassVar[CovarianceType]
    mclust: ClassVar[MclustName | None] = None  # the letters of this structure there
    words: ClassVar[str]  # what the components have, for a sentence
    correlated: ClassVar[bool]  # whether features may be correlated within a component
    pooled: ClassVar[bool] = False  # whether all components share one covariance
    one_scale: ClassVar[bool] = False  # whether all features share one variance
    restricted: ClassVar[bool] = False  # whether components share a part of what is theirs
    em_only: ClassVar[bool] = False  # whether the Stan model has no such covariances
    affine: ClassVar[bool] = False  # whether it is the same for any linear combinations of features

    @abstractmethod
    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(C, S): how many vectors of free standard deviations, and how many in each."""

    @abstractmethod
    def n_correlations(self, n_components: int, n_features: int) -> int:
        """How many free correlation matrices there are (R)."""

    def n_constraints(self, n_components: int, n_features: int) -> int:
        """How many of the scales and correlations follow from the others."""
        return 0

    def unit(self, sd: FloatArray) -> FloatArray:
        """Scale factors (D,) by which data of standard deviation ``sd`` may be divided."""
        return sd

    def scale_floor(self, resolution: FloatArray) -> FloatArray:
        """Smallest standard deviations (S,) of a component, given the data's resolution (D,).

        Of each feature given all others. Data are rounded, and no component can be
        known to be narrower than the rounding.
        """
        return rounding_error(resolution)

    def min_rows(self, n_features: int) -> float:
        """Rows a component must hold; with fewer its covariance is a spike, not an estimate."""
        return 2.5

    def compact(self, covariances: FloatArray) -> FloatArray:
        """Give covariance matrices (K, D, D) in the shape that scikit-learn has for the type."""
        return covariances

    def nearest(self, weights: FloatArray, covariances: FloatArray) -> FloatArray:
        """The structure's covariances that are most likely for components that have these.

        Parameters
        ----------
        weights : ndarray, shape (R, K)
            Of any sum.
        covariances : ndarray, shape (R, K, D) or (R, K, D, D)
            Variances, or covariance matrices for correlated structures.

        Returns
        -------
        ndarray, shape (R, C, D) or (R, C, D, D), C = K or 1
        """
        zeros = np.zeros(covariances.shape[:3])
        if self.pooled and self.correlated:
            share = weights / weights.sum(axis=1, keepdims=True)
            each = share[..., np.newaxis, np.newaxis] * covariances
            covariances = each.sum(axis=1, keepdims=True)
        return self.covariance(weights, zeros, covariances)

    @abstractmethod
    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Maximum-likelihood covariance from the components' moments (the M step).

        Parameters
        ----------
        counts : ndarray, shape (R, K)
            Sums of responsibilities.
        means : ndarray, shape (R, K, D)
            Responsibility-weighted means.
        second : ndarray, shape (R, K, D) or (R, K, D, D)
            Responsibility-weighted means of x squared, or of x x' for correlated structures; for
            a pooled one of these the mean of x x' over all rows, shape (1, 1, D, D).

        Returns
        -------
        ndarray, shape (R, C, D) or (R, C, D, D), C = K or 1
            Variances, or covariance matrices for correlated structures.
        """


class Correlated(CovarianceStructure):
    """Features may be correlated within a component."""

    correlated = True

    def scale_floor(self, resolution: FloatArray) -> FloatArray:
        """Where features were computed from each other their rounding errors may cancel."""
        error = rounding_error(resolution)
        return _CANCELLING * error if len(error) > 1 else error


def root_mean_square(sd: FloatArray) -> FloatArray:
    """One factor for all features, shape (D,): they keep their proportions."""
    largest = sd.max()
    return np.full_like(sd, largest * np.sqrt(np.mean((sd / largest) ** 2)))
