"""The four covariance structures: what each shares between components and features.

A structure is the only place that knows how "full", "tied", "diag" and "spherical" differ: how
many free scales and correlations there are, how a covariance follows from moments, and in which
shape scikit-learn has it. `ParameterSpace` asks the first for all others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import shown
from stangmm.base.errors import ModelError
from stangmm.data.resolution import rounding_error

CovarianceType: TypeAlias = Literal["full", "tied", "diag", "spherical"]

# A combination of features may be so much narrower than if their rounding errors were independent.
_CANCELLING = 0.5


class CovarianceStructure(ABC):
    """What the components' covariance matrices share."""

    name: ClassVar[CovarianceType]
    correlated: ClassVar[bool]  # whether features may be correlated within a component
    pooled: ClassVar[bool] = False  # whether all components share one covariance
    one_scale: ClassVar[bool] = False  # whether all features share one variance

    @abstractmethod
    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(C, S): how many vectors of free standard deviations, and how many in each."""

    @abstractmethod
    def n_correlations(self, n_components: int, n_features: int) -> int:
        """How many free correlation matrices there are (R)."""

    def unit(self, sd: FloatArray) -> FloatArray:
        """Scale factors (D,) by which data of standard deviation ``sd`` may be divided."""
        return sd

    def scale_floor(self, resolution: FloatArray) -> FloatArray:
        """Smallest standard deviations (S,) of a component, given the data's resolution (D,).

        Of each feature given the features before it. Data are rounded, and no component can be
        known to be narrower than the rounding.
        """
        return rounding_error(resolution)

    def min_rows(self, n_features: int) -> float:
        """Rows a component must hold; with fewer its covariance is a spike, not an estimate."""
        return 2.5

    def compact(self, covariances: FloatArray) -> FloatArray:
        """Give covariance matrices (K, D, D) in the shape that scikit-learn has for the type."""
        return covariances

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
            a pooled one the mean of x x' over all rows, shape (1, 1, D, D).

        Returns
        -------
        ndarray, shape (R, C, D) or (R, C, D, D), C = K or 1
            Variances, or covariance matrices for correlated structures.
        """


class _Correlated(CovarianceStructure):
    correlated = True

    def scale_floor(self, resolution: FloatArray) -> FloatArray:
        """Where features were computed from each other their rounding errors may cancel."""
        error = rounding_error(resolution)
        return _CANCELLING * error if len(error) > 1 else error


class Full(_Correlated):
    """Each component has a covariance matrix of its own."""

    name = "full"

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(K, D)."""
        return n_components, n_features

    def n_correlations(self, n_components: int, n_features: int) -> int:
        """K, or 0 for one feature."""
        return n_components if n_features > 1 else 0

    def min_rows(self, n_features: int) -> float:
        """D + 1 rows span a covariance matrix; a little more is asked for."""
        return n_features + 1.5

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Weighted covariance of each component."""
        return second - means[..., :, np.newaxis] * means[..., np.newaxis, :]


class Tied(_Correlated):
    """All components share one covariance matrix."""

    name = "tied"
    pooled = True

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(1, D)."""
        return 1, n_features

    def n_correlations(self, n_components: int, n_features: int) -> int:
        """1, or 0 for one feature."""
        return 1 if n_features > 1 else 0

    def min_rows(self, n_features: int) -> float:
        """No minimum: a shared covariance cannot collapse on a few rows."""
        return 0.0

    def compact(self, covariances: FloatArray) -> FloatArray:
        """(D, D)."""
        return np.asarray(covariances[0])

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Average of the components' covariances, weighted by their counts."""
        share = counts / counts.sum(axis=1, keepdims=True)
        between = np.swapaxes(means * share[..., np.newaxis], 1, 2) @ means
        return np.asarray(second - between[:, np.newaxis])


class Diag(CovarianceStructure):
    """Each component has variances of its own and no correlations."""

    name = "diag"
    correlated = False

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(K, D)."""
        return n_components, n_features

    def n_correlations(self, n_components: int, n_features: int) -> int:
        """None."""
        return 0

    def compact(self, covariances: FloatArray) -> FloatArray:
        """(K, D)."""
        return np.diagonal(covariances, axis1=1, axis2=2).copy()

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Weighted variances of each component."""
        return second - means**2


class Spherical(CovarianceStructure):
    """Each component has one variance for all features and no correlations."""

    name = "spherical"
    correlated = False
    one_scale = True

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(K, 1)."""
        return n_components, 1

    def n_correlations(self, n_components: int, n_features: int) -> int:
        """None."""
        return 0

    def unit(self, sd: FloatArray) -> FloatArray:
        """One common factor, the root mean square: the features must keep their proportions."""
        largest = sd.max()
        return np.full_like(sd, largest * np.sqrt(np.mean((sd / largest) ** 2)))

    def scale_floor(self, resolution: FloatArray) -> FloatArray:
        """One for all features: the largest."""
        return rounding_error(resolution.max(keepdims=True))

    def compact(self, covariances: FloatArray) -> FloatArray:
        """(K,)."""
        return covariances[:, 0, 0].copy()

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Average over features of the weighted variances."""
        each = (second - means**2).mean(axis=-1, keepdims=True)
        return np.broadcast_to(each, means.shape).copy()


STRUCTURES: dict[CovarianceType, CovarianceStructure] = {
    structure.name: structure for structure in (Full(), Tied(), Diag(), Spherical())
}


def structure_named(name: object) -> CovarianceStructure:
    """Look up a covariance structure.

    Raises
    ------
    ModelError
        Unknown name; the message lists the known ones.
    """
    for known, structure in STRUCTURES.items():
        if isinstance(name, str) and name == known:
            return structure
    raise ModelError(f"covariance_type must be one of {list(STRUCTURES)}, got {shown(name)}.")
