"""Six more covariance structures of mclust's family, for EM.

A covariance is volume times shape, in the directions of its eigenvectors, and each of the three is
equal (E) for all components or varies (V); I: the directions are the features. The priors of the
Stan model are of scales and correlations, not of a volume or shape that components share, so that
only EM fits these. The steps are those of Celeux & Govaert (1995,
doi:10.1016/0031-3203(94)00125-6).

EVE and VVE, whose components share their eigenvectors alone, are left out: their M step is an
iteration over rotations (Browne & McNicholas 2014, doi:10.1007/s11634-013-0139-1).
"""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.model.structure import Correlated, CovarianceStructure, root_mean_square

# The M step of volumes and a common shape ends when no volume changes by more than this share.
_SETTLED, _MOST_STEPS = 1e-13, 1000
_SMALLEST = 1e-200  # a determinant or volume of zero counts as this
# Of the largest group's variance, what rounding leaves of a group of equal rows, and what is added
# to a matrix that may be singular.
_NO_VARIANCE = 1e-14


class _Mclust(CovarianceStructure):
    """Each component has scales and correlations, of which some follow from the others."""

    em_only = True
    restricted = True

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(K, D)."""
        return n_components, n_features


class _Diagonal(_Mclust):
    correlated = False

    def n_correlations(self, n_components: int, n_features: int) -> int:
        """None."""
        return 0

    def compact(self, covariances: FloatArray) -> FloatArray:
        """(K, D), as for "diag"."""
        return np.diagonal(covariances, axis1=1, axis2=2).copy()


class _Ellipsoidal(Correlated, _Mclust):
    def n_correlations(self, n_components: int, n_features: int) -> int:
        """K, or 0 for one feature."""
        return n_components if n_features > 1 else 0


class VEI(_Diagonal):
    """Components of one shape along the features, and of volumes of their own."""

    name = "VEI"
    words = "variances in the same proportions for all components and no correlations within them"

    def n_constraints(self, n_components: int, n_features: int) -> int:
        """K volumes and D - 1 ratios are free."""
        return (n_components - 1) * (n_features - 1)

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Proportional variances."""
        return _of_one_shape(_share(counts), second - means**2)


class EVI(_Diagonal):
    """Components of one volume, and of shapes of their own along the features."""

    name = "EVI"
    words = "variances of the same product for all components and no correlations within them"

    def n_constraints(self, n_components: int, n_features: int) -> int:
        """One volume is free."""
        return n_components - 1

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Each component's variances, brought to the average volume."""
        own = second - means**2
        volume = np.exp(np.log(np.maximum(own, _SMALLEST)).mean(axis=-1))
        return _of_one_volume(_share(counts), own, volume)


class VEE(_Ellipsoidal):
    """Components of one shape and direction, and of volumes of their own."""

    name = "VEE"
    affine = True
    words = "covariance matrices in the same proportions for all components"

    def n_constraints(self, n_components: int, n_features: int) -> int:
        """K volumes and one matrix, but for its volume, are free."""
        pairs = n_features * (n_features - 1) // 2
        return (n_components - 1) * (n_features + pairs - 1)

    def min_rows(self, n_features: int) -> float:
        """A component's own rows tell its volume alone."""
        return 2.5

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Proportional covariance matrices."""
        return _of_one_shape(_share(counts), _centred(means, second))


class EVV(_Ellipsoidal):
    """Components of one volume, and of shapes and directions of their own."""

    name = "EVV"
    affine = True
    words = "covariance matrices of the same determinant for all components"

    def n_constraints(self, n_components: int, n_features: int) -> int:
        """One volume is free."""
        return n_components - 1

    def min_rows(self, n_features: int) -> float:
        """As for "full"."""
        return n_features + 1.5

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Each component's covariance, brought to the average volume."""
        own = _centred(means, second)
        volume = np.exp(np.linalg.slogdet(own)[1] / own.shape[-1])
        return _of_one_volume(_share(counts), own, np.maximum(volume, _SMALLEST))


class _OwnDirections(_Ellipsoidal):
    """Components of one shape in directions of their own, which change with a feature's unit."""

    def unit(self, sd: FloatArray) -> FloatArray:
        """One common factor, as for "spherical"."""
        return root_mean_square(sd)

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Matrices with each component's eigenvectors, and the eigenvalues of `_eigenvalues`."""
        values, vectors = np.linalg.eigh(_centred(means, second))
        values = self._eigenvalues(_share(counts), np.maximum(values, 0.0))
        product: FloatArray = (vectors * values[..., np.newaxis, :]) @ np.swapaxes(vectors, -1, -2)
        return product

    def _eigenvalues(self, share: FloatArray, values: FloatArray) -> FloatArray:
        raise NotImplementedError


class EEV(_OwnDirections):
    """Components of one volume and shape, in directions of their own."""

    name = "EEV"
    words = "covariance matrices of the same eigenvalues for all components"

    def n_constraints(self, n_components: int, n_features: int) -> int:
        """One set of eigenvalues is free."""
        return (n_components - 1) * n_features

    def min_rows(self, n_features: int) -> float:
        """No minimum: shared eigenvalues cannot collapse on a few rows."""
        return 0.0

    def _eigenvalues(self, share: FloatArray, values: FloatArray) -> FloatArray:
        average = (share[..., np.newaxis] * values).sum(axis=1, keepdims=True)
        return np.broadcast_to(average, values.shape)


class VEV(_OwnDirections):
    """Components of one shape, of volumes and in directions of their own."""

    name = "VEV"
    words = "covariance matrices of eigenvalues in the same proportions for all components"

    def n_constraints(self, n_components: int, n_features: int) -> int:
        """K volumes and D - 1 ratios are free."""
        return (n_components - 1) * (n_features - 1)

    def min_rows(self, n_features: int) -> float:
        """A component's own rows tell its volume and directions alone."""
        return 2.5

    def _eigenvalues(self, share: FloatArray, values: FloatArray) -> FloatArray:
        return _of_one_shape(share, values)


MCLUST: tuple[CovarianceStructure, ...] = (VEI(), EVI(), VEE(), EVV(), EEV(), VEV())


def _share(counts: FloatArray) -> FloatArray:
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _centred(means: FloatArray, second: FloatArray) -> FloatArray:
    return np.asarray(second - means[..., :, np.newaxis] * means[..., np.newaxis, :])


def _of_one_volume(share: FloatArray, own: FloatArray, volume: FloatArray) -> FloatArray:
    average = (share * volume).sum(axis=1, keepdims=True)
    return np.asarray(own * (average / volume).reshape(*volume.shape, *(1,) * (own.ndim - 2)))


def _of_one_shape(share: FloatArray, own: FloatArray) -> FloatArray:
    """Covariances v_k C that are most likely for groups with these ones.

    Given the volumes, C is the average of S_k / v_k; given C, v_k is the trace of S_k C^-1 / D.
    Groups of equal rows have no shape to tell.

    Parameters
    ----------
    share : ndarray, shape (R, K)
    own : ndarray, shape (R, K, D) or (R, K, D, D)
        S_k, as variances or matrices.
    """
    axes = (*share.shape, *(1,) * (own.ndim - 2))
    variance = own.sum(axis=-1) if own.ndim == 3 else np.trace(own, axis1=-2, axis2=-1)
    equal = variance <= _NO_VARIANCE * variance.max(axis=1, keepdims=True)
    share = np.where(equal, 0.0, share)
    volume = np.ones(share.shape)
    for _ in range(_MOST_STEPS):
        weight = (share / volume).reshape(axes)
        common = (weight * own).sum(axis=1, keepdims=True)
        if own.ndim == 3:
            found = (own / np.maximum(common, _SMALLEST)).mean(axis=-1)
        else:
            d = own.shape[-1]
            size = np.trace(common, axis1=-2, axis2=-1)[..., np.newaxis, np.newaxis] / d
            regular = common + np.maximum(_NO_VARIANCE * size, _SMALLEST) * np.eye(d)
            found = np.trace(np.linalg.solve(regular, own), axis1=-2, axis2=-1) / d
        largest = np.maximum(found.max(axis=1, keepdims=True), _SMALLEST)
        found = np.maximum(found / largest, _SMALLEST)
        settled = np.abs(np.log(found / volume)).max() < _SETTLED
        volume = found
        if settled:
            break
    weight = (share / volume).reshape(axes)
    return np.asarray((weight * own).sum(axis=1, keepdims=True) * volume.reshape(axes))
