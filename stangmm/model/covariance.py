"""The covariance structures: what each shares between components and features.

A structure is the only place that knows how "full", "tied", "diag" and the others differ: how
many free scales and correlations there are, how a covariance follows from moments, and in which
shape scikit-learn has it. `ParameterSpace` asks the first for all others.

Six of them are models of mclust's family (Celeux & Govaert 1995,
doi:10.1016/0031-3203(94)00125-6), whose letters are accepted, too; `mclust.py` has six more.
"""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import shown
from stangmm.base.errors import ModelError
from stangmm.data.resolution import rounding_error
from stangmm.model.common_correlation import with_common_correlation
from stangmm.model.mclust import MCLUST
from stangmm.model.structure import (
    Correlated,
    CovarianceStructure,
    CovarianceType,
    MclustName,
    root_mean_square,
)

__all__ = ["STRUCTURES", "CovarianceStructure", "CovarianceType", "MclustName", "structure_named"]


class Full(Correlated):
    """Each component has a covariance matrix of its own."""

    name = "full"
    mclust = "VVV"
    words = "a separate covariance matrix for each component"
    affine = True

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


class Tied(Correlated):
    """All components share one covariance matrix."""

    name = "tied"
    mclust = "EEE"
    words = "one covariance matrix for all components"
    affine = True
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


class TiedCorrelation(Correlated):
    """Each component has scales of its own, and all share one correlation matrix."""

    name = "tied_correlation"
    restricted = True
    words = "separate scales for each component and one correlation matrix for all components"

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(K, D)."""
        return n_components, n_features

    def n_correlations(self, n_components: int, n_features: int) -> int:
        """1, or 0 for one feature."""
        return 1 if n_features > 1 else 0

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """See `with_common_correlation`."""
        own = second - means[..., :, np.newaxis] * means[..., np.newaxis, :]
        return with_common_correlation(counts / counts.sum(axis=1, keepdims=True), own)


class Diag(CovarianceStructure):
    """Each component has variances of its own and no correlations."""

    name = "diag"
    mclust = "VVI"
    words = "separate variances for each component and no correlations within components"
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


class _TiedVariances(CovarianceStructure):
    """Components that share their variances, without correlations."""

    correlated = False
    pooled = True

    def n_correlations(self, n_components: int, n_features: int) -> int:
        """None."""
        return 0

    def min_rows(self, n_features: int) -> float:
        """No minimum: shared variances cannot collapse on a few rows."""
        return 0.0

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Average of the components' variances, weighted by their counts."""
        share = (counts / counts.sum(axis=1, keepdims=True))[..., np.newaxis]
        return np.asarray((share * (second - means**2)).sum(axis=1, keepdims=True))


class TiedDiag(_TiedVariances):
    """All components share one variance for each feature, and there are no correlations."""

    name = "tied_diag"
    mclust = "EEI"
    words = "one set of variances for all components and no correlations within components"

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(1, D)."""
        return 1, n_features

    def compact(self, covariances: FloatArray) -> FloatArray:
        """(D,)."""
        return np.diagonal(covariances[0]).copy()


class Spherical(CovarianceStructure):
    """Each component has one variance for all features and no correlations."""

    name = "spherical"
    mclust = "VII"
    words = "one variance for each component and no correlations within components"
    correlated = False
    one_scale = True

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(K, 1)."""
        return n_components, 1

    def n_correlations(self, n_components: int, n_features: int) -> int:
        """None."""
        return 0

    def unit(self, sd: FloatArray) -> FloatArray:
        """One common factor: the features must keep their proportions."""
        return root_mean_square(sd)

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


class TiedSpherical(_TiedVariances):
    """All components and features share one variance, and there are no correlations."""

    name = "tied_spherical"
    mclust = "EII"
    words = "one variance for all components and features and no correlations within components"
    one_scale = True

    def scale_shape(self, n_components: int, n_features: int) -> tuple[int, int]:
        """(1, 1)."""
        return 1, 1

    def unit(self, sd: FloatArray) -> FloatArray:
        """One common factor, as for "spherical"."""
        return root_mean_square(sd)

    def scale_floor(self, resolution: FloatArray) -> FloatArray:
        """One for all features: the largest."""
        return rounding_error(resolution.max(keepdims=True))

    def compact(self, covariances: FloatArray) -> FloatArray:
        """One number, shape ()."""
        return np.asarray(covariances[0, 0, 0])

    def covariance(self, counts: FloatArray, means: FloatArray, second: FloatArray) -> FloatArray:
        """Average over components and features of the weighted variances."""
        each = super().covariance(counts, means, second)
        return np.broadcast_to(each.mean(axis=-1, keepdims=True), each.shape).copy()


STRUCTURES: dict[CovarianceType, CovarianceStructure] = {
    structure.name: structure
    for structure in (
        Full(),
        Tied(),
        TiedCorrelation(),
        Diag(),
        TiedDiag(),
        Spherical(),
        TiedSpherical(),
        *MCLUST,
    )
}


def structure_named(name: object) -> CovarianceStructure:
    """Look up a covariance structure, by its name or mclust's letters.

    Raises
    ------
    ModelError
        Unknown name; the message lists the known ones.
    """
    for structure in STRUCTURES.values():
        if isinstance(name, str) and name in (structure.name, structure.mclust):
            return structure
    letters = [structure.mclust for structure in STRUCTURES.values() if structure.mclust]
    raise ModelError(
        f"covariance_type must be one of {list(STRUCTURES)}, or mclust's letters "
        f"({', '.join(letters)}) for six of them, got {shown(name)}."
    )
