"""Prior distributions of the mixture's parameters: what the user writes, and its density.

Parameters of a prior may be given once for all, per feature, or per component; `Priors.resolve`
spreads them to full shape and fills in defaults that are scaled by the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import (
    gammainc,
    gammaincinv,
    gammaln,
    hyp1f1,
    log_ndtr,
    ndtri_exp,
    xlogy,
)

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import shown
from stangmm.base.errors import ModelError
from stangmm.base.names import made_by_names
from stangmm.data.dataset import Dataset, Missing, as_numbers
from stangmm.model.covariance import (
    CovarianceStructure,
    CovarianceType,
    MclustName,
    structure_named,
)
from stangmm.model.mixture import Mixture
from stangmm.model.noise import Box
from stangmm.model.parameters import ParameterSpace

# A scale so near below its bound, relative to it, is on it: bounds and scales are rounded, too.
_LAST_BITS = 1e-12


def _positive(name: str, value: ArrayLike) -> FloatArray:
    array = _finite(name, value)
    if (array <= 0).any():
        raise ModelError(f"{name} must be positive, got {shown(value)}.")
    return array


def _finite(name: str, value: ArrayLike) -> FloatArray:
    try:
        array = as_numbers(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"{name} must be a number or an array of numbers, got {shown(value)}."
        ) from error
    if not np.isfinite(array).all() or array.size == 0:
        raise ModelError(f"{name} must be finite numbers, got {shown(value)}.")
    return array


def _spread(name: str, value: FloatArray, shape: tuple[int, ...], meaning: str) -> FloatArray:
    try:
        return np.array(np.broadcast_to(value, shape))
    except ValueError as error:
        raise ModelError(
            f"{name} must be a number or broadcast to {meaning} = {shape}, got shape {value.shape}."
        ) from error


def _resolution(value: ArrayLike) -> FloatArray:
    array = _finite("resolution", value)
    if array.ndim > 1 or (array < 0).any():
        raise ModelError(
            "resolution must be a number or one for each feature, not negative (0: scales have no "
            f"lower bound), got {shown(value)}."
        )
    return array


def _words(part: Any) -> str:
    """Name of a prior's family with its parameters, or numbers, to four digits."""
    if isinstance(part, np.ndarray):
        return np.array2string(
            part,
            separator=", ",
            max_line_width=1_000_000,
            formatter={"float_kind": lambda v: f"{v:.4g}"},
        )
    parts = [f"{f.name}={_words(np.asarray(getattr(part, f.name)))}" for f in fields(part)]
    return f"{type(part).__name__}({', '.join(parts)})"


@dataclass(frozen=True, eq=False)
class Dirichlet:
    """Dirichlet prior of the weights.

    Parameters
    ----------
    concentration : float or array, shape (K,)
        Positive; 1 is uniform on the simplex, less favours few large components. With noise there
        is one more, the last.

    Examples
    --------
    >>> import stangmm as sg
    >>> print(sg.Priors(weights=sg.Dirichlet([1, 2, 3])))
    weights      Dirichlet(concentration=[1, 2, 3])
    """

    concentration: ArrayLike = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "concentration", _positive("Dirichlet concentration", self.concentration)
        )

    def log_density(self, weights: FloatArray) -> FloatArray:
        """Log density of weights, shape (..., K), for a concentration of shape (K,)."""
        a = np.asarray(self.concentration)
        constant = gammaln(a.sum()) - gammaln(a).sum()
        return np.asarray(constant + xlogy(a - 1, weights).sum(axis=-1))

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw weights, shape (n, K), for a concentration of shape (K,)."""
        return rng.dirichlet(np.asarray(self.concentration), n)


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal prior of the component means.

    Parameters
    ----------
    location, scale : float or array, shape (D,) or (K, D)
        Mean and standard deviation, in the units of the data.

    Examples
    --------
    >>> import stangmm as sg
    >>> print(sg.Priors(means=sg.Normal(location=20, scale=10)))
    means        Normal(location=20, scale=10)
    """

    location: ArrayLike = 0.0
    scale: ArrayLike = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "location", _finite("Normal location", self.location))
        object.__setattr__(self, "scale", _positive("Normal scale", self.scale))

    def log_density(self, means: FloatArray) -> FloatArray:
        """Log density of means, shape (..., K, D), summed over components and features."""
        z = (means - np.asarray(self.location)) / np.asarray(self.scale)
        each = -0.5 * z**2 - np.log(np.asarray(self.scale)) - 0.5 * np.log(2 * np.pi)
        return np.asarray(each.sum(axis=(-2, -1)))

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw means, shape (n, K, D), for parameters of shape (K, D)."""
        location = np.asarray(self.location)
        return location + np.asarray(self.scale) * rng.standard_normal((n, *location.shape))


class ScalePrior:
    """Base of the priors of the standard deviations; each fills in one density.

    Each may be truncated at a lower bound: the density is zero below it, and is divided above it
    by the probability above it.
    """

    family: ClassVar[int]  # the code of the family in the Stan model
    scale: Any

    def log_density(self, scales: FloatArray, bounds: FloatArray | float = 0.0) -> FloatArray:
        """Log density of scales, shape (..., C, S), above bounds; summed over both axes.

        A scale that is below its bound by its last bits is on it.
        """
        each = self._each(scales) - self._log_above(np.asarray(bounds))
        inside = scales >= bounds * (1.0 - _LAST_BITS)
        return np.asarray(np.where(inside, each, -np.inf).sum(axis=(-2, -1)))

    def shape_or_one(self) -> FloatArray:
        """Shape parameter as an array like ``scale``; ones for families without a shape."""
        return np.ones_like(np.asarray(self.scale))

    def in_units_of(self, unit: FloatArray) -> ScalePrior:
        """Give the same prior for scales measured in units of ``unit``."""
        return replace(self, scale=np.asarray(self.scale) / unit)  # type: ignore[type-var]

    def spread(self, shape: tuple[int, ...]) -> ScalePrior:
        """Give the same prior with parameters of full shape (C, S)."""
        scale = _spread(f"{type(self).__name__} scale", self.scale, shape, "(components, features)")
        return replace(self, scale=scale)  # type: ignore[type-var]

    def draw(
        self, n: int, rng: np.random.Generator, bounds: FloatArray | float = 0.0
    ) -> FloatArray:
        """Draw standard deviations, shape (n, C, S), for parameters of shape (C, S).

        Parameters
        ----------
        n : int
        rng : numpy Generator
        bounds : ndarray, shape (C, S) or (n, C, S)
        """
        # Of the probability above the bound, so much is above the draw; never 0.
        above = 1.0 - rng.random((n, *np.asarray(self.scale).shape))
        return np.maximum(self._quantile(above, np.asarray(bounds)), bounds)

    def _each(self, scales: FloatArray) -> FloatArray:
        raise NotImplementedError

    def _log_above(self, bounds: FloatArray) -> FloatArray:
        """Log probability above bounds."""
        raise NotImplementedError

    def _quantile(self, above: FloatArray, bounds: FloatArray) -> FloatArray:
        """Scale above which lies this share of the probability above the bound."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class HalfCauchy(ScalePrior):
    """Half-Cauchy prior of the standard deviations (Gelman 2006, doi:10.1214/06-BA117A).

    Parameters
    ----------
    scale : float or array, shape (D,) or (K, D); (K, 1) for spherical covariances
        The prior median, in the units of the data.

    Examples
    --------
    >>> import stangmm as sg
    >>> print(sg.Priors(scales=sg.HalfCauchy([1, 10])))
    scales       HalfCauchy(scale=[1, 10])
    """

    scale: ArrayLike = 1.0
    family: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _positive("HalfCauchy scale", self.scale))

    def _each(self, scales: FloatArray) -> FloatArray:
        b = np.asarray(self.scale)
        return np.asarray(np.log(2 / np.pi) - np.log(b) - np.log1p((scales / b) ** 2))

    def _log_above(self, bounds: FloatArray) -> FloatArray:
        return np.asarray(np.log(2 / np.pi) + np.log(np.arctan2(np.asarray(self.scale), bounds)))

    def _quantile(self, above: FloatArray, bounds: FloatArray) -> FloatArray:
        b = np.asarray(self.scale)
        return np.asarray(b / np.tan(above * np.arctan2(b, bounds)))


@dataclass(frozen=True, eq=False)
class HalfNormal(ScalePrior):
    """Half-normal prior of the standard deviations.

    Parameters
    ----------
    scale : float or array, shape (D,) or (K, D); (K, 1) for spherical covariances
        Standard deviation of the normal before it is folded, in the units of the data.

    Examples
    --------
    >>> import stangmm as sg
    >>> print(sg.Priors(scales=sg.HalfNormal([1, 10])))
    scales       HalfNormal(scale=[1, 10])
    """

    scale: ArrayLike = 1.0
    family: ClassVar[int] = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _positive("HalfNormal scale", self.scale))

    def _each(self, scales: FloatArray) -> FloatArray:
        b = np.asarray(self.scale)
        return np.asarray(0.5 * np.log(2 / np.pi) - np.log(b) - 0.5 * (scales / b) ** 2)

    def _log_above(self, bounds: FloatArray) -> FloatArray:
        return np.asarray(np.log(2) + log_ndtr(-bounds / np.asarray(self.scale)))

    def _quantile(self, above: FloatArray, bounds: FloatArray) -> FloatArray:
        b = np.asarray(self.scale)
        return np.asarray(-b * ndtri_exp(np.log(above) + log_ndtr(-bounds / b)))


@dataclass(frozen=True, eq=False)
class InverseGamma(ScalePrior):
    """Inverse gamma prior on the *variances*, the conjugate choice of the textbooks.

    Parameters
    ----------
    shape : float or array, shape (D,) or (K, D); (K, 1) for spherical covariances
        Positive, without unit.
    scale : float or array, same shapes
        Positive, in squared units of the data.

    Examples
    --------
    >>> import stangmm as sg
    >>> print(sg.Priors(scales=sg.InverseGamma(shape=2, scale=3)))
    scales       InverseGamma(shape=2, scale=3)
    """

    shape: ArrayLike = 2.0
    scale: ArrayLike = 1.0
    family: ClassVar[int] = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _positive("InverseGamma shape", self.shape))
        object.__setattr__(self, "scale", _positive("InverseGamma scale", self.scale))

    def shape_or_one(self) -> FloatArray:
        """Shape parameter of the inverse gamma, as an array."""
        return np.asarray(self.shape)

    def in_units_of(self, unit: FloatArray) -> ScalePrior:
        """Give the same prior for scales measured in units of ``unit``."""
        return replace(self, scale=np.asarray(self.scale) / unit**2)

    def spread(self, shape: tuple[int, ...]) -> ScalePrior:
        """Give the same prior with parameters of full shape (C, S)."""
        meaning = "(components, features)"
        return InverseGamma(
            _spread("InverseGamma shape", np.asarray(self.shape), shape, meaning),
            _spread("InverseGamma scale", np.asarray(self.scale), shape, meaning),
        )

    def _each(self, scales: FloatArray) -> FloatArray:
        a, b = np.asarray(self.shape), np.asarray(self.scale)
        log_scales = np.log(scales)
        of_variance = a * np.log(b) - gammaln(a) - 2 * (a + 1) * log_scales - b / scales**2
        return np.asarray(of_variance + np.log(2) + log_scales)  # d variance = 2 scale d scale

    def _log_above(self, bounds: FloatArray) -> FloatArray:
        return _log_gamma_ratio(np.asarray(self.shape), self._largest_precision(bounds))

    def _quantile(self, above: FloatArray, bounds: FloatArray) -> FloatArray:
        a, largest = np.asarray(self.shape), self._largest_precision(bounds)
        precision = gammaincinv(a, above * gammainc(a, largest))
        # Where that is too small for a double the density is a power of the precision.
        precision = np.where(precision > 0, precision, largest * above ** (1 / a))
        least = np.finfo(float).tiny
        return np.asarray(np.sqrt(np.asarray(self.scale) / np.maximum(precision, least)))

    def _largest_precision(self, bounds: FloatArray) -> FloatArray:
        """In units in which the rate of the gamma distribution is 1."""
        b, least = np.asarray(self.scale), np.finfo(float).tiny ** 0.25
        return np.asarray(b / np.maximum(bounds, least) ** 2)


def _log_gamma_ratio(a: FloatArray, y: FloatArray) -> FloatArray:
    """Log of the lower incomplete gamma function ratio P(a, y) (DLMF 8.5.1 where it is tiny)."""
    ratio = gammainc(a, y)
    tiny = ratio < 1e-200
    y = np.where(tiny, np.maximum(y, np.finfo(float).tiny), 1.0)
    series = a * np.log(y) - y - gammaln(a + 1) + np.log(hyp1f1(1.0, a + 1, y))
    return np.asarray(np.where(tiny, series, np.log(np.where(tiny, 1.0, ratio))))


@dataclass(frozen=True, eq=False)
class LKJ:
    """LKJ prior of the correlation matrices (doi:10.1016/j.jmva.2009.04.008).

    Parameters
    ----------
    shape : float
        Positive (eta); 1 is uniform over correlation matrices, more favours small correlations.

    Examples
    --------
    >>> import stangmm as sg
    >>> print(sg.Priors(correlation=sg.LKJ(1)))
    correlation  LKJ(shape=1)
    """

    shape: float = 2.0

    def __post_init__(self) -> None:
        value = _positive("LKJ shape", self.shape)
        if value.ndim:
            raise ModelError(f"LKJ shape must be one number, got {shown(self.shape)}.")
        object.__setattr__(self, "shape", float(value))

    def log_density(self, corr_chol: FloatArray) -> FloatArray:
        """Log density of Cholesky factors, shape (..., R, D, D), summed over the R matrices.

        The density is that of the Cholesky factor, as Stan's ``lkj_corr_cholesky``; its constant
        is Theorem 5 of Lewandowski, Kurowicka & Joe (2009).
        """
        d = corr_chol.shape[-1]
        diagonal = np.diagonal(corr_chol, axis1=-2, axis2=-1)
        powers = d - np.arange(1, d + 1) + 2 * self.shape - 2
        each = self._log_constant(d) + (powers * np.log(diagonal))[..., 1:].sum(axis=-1)
        return np.asarray(each.sum(axis=-1))

    def draw(self, n: int, n_features: int, rng: np.random.Generator) -> FloatArray:
        """Draw Cholesky factors, shape (n, D, D).

        The rows of the factor are independent: the square of row i's part below the diagonal is
        Beta distributed, and its direction is uniform (the "onion" of Lewandowski, Kurowicka &
        Joe 2009, section 3.2).
        """
        chol = np.zeros((n, n_features, n_features))
        chol[:, 0, 0] = 1.0
        for i in range(1, n_features):
            squared = rng.beta(0.5 * i, self.shape + 0.5 * (n_features - 1 - i), n)
            direction = rng.standard_normal((n, i))
            length = np.sqrt(squared / np.square(direction).sum(axis=1))
            chol[:, i, :i] = length[:, np.newaxis] * direction
            chol[:, i, i] = np.sqrt(1.0 - squared)
        return chol

    def _log_constant(self, d: int) -> float:
        k = np.arange(1, d)
        each = 0.5 * k * np.log(np.pi) + gammaln(self.shape + 0.5 * (d - 1 - k))
        return float((d - 1) * gammaln(self.shape + 0.5 * (d - 1)) - each.sum())


# By public name, as files have it.
FAMILIES: dict[str, type] = {
    family.__name__: family
    for family in (Dirichlet, Normal, HalfCauchy, HalfNormal, InverseGamma, LKJ)
}


@made_by_names
@dataclass(frozen=True, eq=False)
class Priors:
    """The priors of a mixture; what is left out gets a default scaled by the data.

    Parameters
    ----------
    weights : Dirichlet, optional
        Default ``Dirichlet(1)``.
    means : Normal, optional
        Default: centred at each feature's mid-range, with its range as standard deviation
        (Richardson & Green 1997, doi:10.1111/1467-9868.00095).
    scales : HalfCauchy, HalfNormal or InverseGamma, optional
        Default ``HalfCauchy`` with each feature's standard deviation as its median.
    correlation : LKJ, optional
        Default ``LKJ(2)``; used by "full" and "tied" covariances.
    resolution : float or array, shape (D,), optional
        The step to which each feature was rounded, in the units of the data. No component is
        narrower than that rounding: the prior of the scales has no mass below it. Default: what
        the data show (`stangmm.data.resolution`), with no bound where they are not rounded; 0 sets
        no bound.

    Raises
    ------
    ModelError
        Something that is not a prior, or a resolution that is negative or not finite.

    Examples
    --------
    >>> import stangmm as sg
    >>> priors = sg.Priors(means=sg.Normal(20, 10), scales=sg.HalfNormal(5))
    >>> model = sg.GaussianMixture(n_components=3, covariance_type="diag", priors=priors)
    >>> print(model.priors)
    means        Normal(location=20, scale=10)
    scales       HalfNormal(scale=5)
    """

    weights: Dirichlet | None = None
    means: Normal | None = None
    scales: ScalePrior | None = None
    correlation: LKJ | None = None
    resolution: ArrayLike | None = None

    def __post_init__(self) -> None:
        kinds: dict[str, tuple[type, str]] = {
            "weights": (Dirichlet, "Dirichlet"),
            "means": (Normal, "Normal"),
            "scales": (ScalePrior, "HalfCauchy, HalfNormal or InverseGamma"),
            "correlation": (LKJ, "LKJ"),
        }
        for name, (kind, known) in kinds.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ModelError(f"The prior of the {name} must be {known}, got {shown(value)}.")
        if self.resolution is not None:
            object.__setattr__(self, "resolution", _resolution(self.resolution))

    @classmethod
    def from_data(
        cls,
        X: Any,
        covariance_type: CovarianceType | MclustName = "full",
        *,
        sample_weight: Any = None,
        missing: Missing = "error",
    ) -> Priors:
        """Give the default priors for some data, to look at and to change.

        Parameters
        ----------
        X : array, list, DataFrame or Series, shape (N, D) or (N,)
        covariance_type : str
            Only "spherical" and "tied_spherical" have another default: one scale for all features.
        sample_weight : array, shape (N,), optional
        missing : {"error", "marginalize"}
            Whether X may have missing values, as in a fit.

        Returns
        -------
        Priors
            Complete, for any number of components; a fit with them equals one without. Print it
            for a table, change a part with ``dataclasses.replace``.

        Raises
        ------
        DataError, ModelError
            As in a fit.

        Examples
        --------
        >>> import stangmm as sg
        >>> print(sg.Priors.from_data(sg.datasets.faithful()))
        weights      Dirichlet(concentration=1)
        means        Normal(location=[3.35, 69.5], scale=[3.5, 53])
        scales       HalfCauchy(scale=[1.139, 13.57])
        correlation  LKJ(shape=2)
        resolution   [0.001, 1]
        """
        dataset = Dataset.from_input(X, sample_weight, missing=missing)
        return cls(*cls()._completed(dataset, structure_named(covariance_type)))

    def __str__(self) -> str:
        """One line for each part that is given."""
        given = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return "\n".join(f"{name:<13}{_words(p)}" for name, p in given if p is not None)

    def _completed(
        self, dataset: Dataset, structure: CovarianceStructure
    ) -> tuple[Dirichlet, Normal, ScalePrior, LKJ, FloatArray]:
        """Fill in the defaults: the one place where they are."""
        low, high = dataset.range()
        unit = structure.unit(dataset.mean_and_sd()[1])
        n_scales = ParameterSpace(1, dataset.n_features, structure).scale_shape[1]
        return (
            self.weights or Dirichlet(),
            self.means or Normal(low + (high - low) / 2, high - low),
            self.scales or HalfCauchy(unit[:n_scales]),
            self.correlation or LKJ(),
            dataset.resolution if self.resolution is None else np.asarray(self.resolution),
        )

    def resolve(
        self,
        dataset: Dataset,
        structure: CovarianceStructure,
        n_components: int,
        noise: bool | float | Box = False,
    ) -> ResolvedPriors:
        """Fill in defaults from the data and spread every parameter to full shape.

        Parameters
        ----------
        dataset : Dataset
        structure : CovarianceStructure
        n_components : int
            K.
        noise : bool or float
            Whether there is noise, in the box of the data; or the volume that it has.

        Returns
        -------
        ResolvedPriors

        Raises
        ------
        ModelError
            A parameter's shape does not fit K components and D features.
        """
        k, d = n_components, dataset.n_features
        weights, means, scales, correlation, step = self._completed(dataset, structure)
        box = Box.of_range(*dataset.range(), noise) if noise else None
        concentration, shape = (
            np.asarray(weights.concentration),
            "(K,)" if box is None else "(K + 1,)",
        )
        alpha = _spread("Dirichlet concentration", concentration, (k + (box is not None),), shape)
        location = _spread("Normal location", np.asarray(means.location), (k, d), "(K, D)")
        scale = _spread("Normal scale", np.asarray(means.scale), (k, d), "(K, D)")
        return ResolvedPriors(
            weights=Dirichlet(alpha),
            means=Normal(location, scale),
            scales=scales.spread(ParameterSpace(k, d, structure).scale_shape),
            correlation=correlation,
            resolution=_spread("resolution", step, (d,), "(D,)"),
            box=box,
        )


@dataclass(frozen=True, eq=False)
class ResolvedPriors:
    """Complete priors: concentration (K,), means (K, D), scales (C, S) and LKJ shape.

    And the resolution (D,) of the data, which bounds the scales from below, and the box of the
    noise, whose concentration is the last of then K + 1.
    """

    weights: Dirichlet
    means: Normal
    scales: ScalePrior
    correlation: LKJ
    resolution: FloatArray = field(default_factory=lambda: np.zeros(1))
    box: Box | None = None

    def space(self, structure: CovarianceStructure) -> ParameterSpace:
        """Give the space of the parameters, with the scales' lower bounds."""
        k, d = np.asarray(self.means.location).shape
        resolution = np.broadcast_to(self.resolution, (d,))
        return ParameterSpace(k, d, structure, structure.scale_floor(resolution), self.box)

    def draw(self, n: int, structure: CovarianceStructure, rng: np.random.Generator) -> Mixture:
        """Draw mixtures (n,): the correlations first, which say how far down scales may go."""
        space = self.space(structure)
        d, r = space.n_features, space.n_correlations
        weights, means = self.weights.draw(n, rng), self.means.draw(n, rng)
        corr_chol = self.correlation.draw(n * r, d, rng).reshape(n, r, d, d) if r else None
        scales = self.scales.draw(n, rng, space.scale_bounds(corr_chol))
        return space.from_free(weights, means, scales, corr_chol)

    @property
    def exchangeable(self) -> bool:
        """Whether the prior is the same for every component, so that labels mean nothing."""
        k = len(np.asarray(self.means.location))
        parameters = (
            np.asarray(self.weights.concentration)[:k],
            self.means.location,
            self.means.scale,
            self.scales.scale,
            self.scales.shape_or_one(),
        )
        return all(bool((np.asarray(p) == np.asarray(p)[:1]).all()) for p in parameters)

    def of_components(self, k: int) -> ResolvedPriors:
        """Give the priors of the first ``k`` components; shared scales stay as they are."""
        n = len(np.asarray(self.means.location))

        def first(prior: Any) -> Any:  # parameters of shape (K, ...), not (1, ...)
            arrays = {f.name: np.asarray(getattr(prior, f.name)) for f in fields(prior)}
            own = {name: a[:k] for name, a in arrays.items() if a.ndim == 2 and len(a) == n}
            return replace(prior, **own)

        concentration = np.asarray(self.weights.concentration)
        return replace(
            self,
            weights=Dirichlet(np.concatenate([concentration[:k], concentration[n:]])),
            means=first(self.means),
            scales=first(self.scales),
        )

    def in_units_of(self, center: FloatArray, unit: FloatArray) -> ResolvedPriors:
        """Give the same priors for data (x - center) / unit; both have shape (D,)."""
        location = (np.asarray(self.means.location) - center) / unit
        n_scale_features = np.asarray(self.scales.scale).shape[1]
        return ResolvedPriors(
            weights=self.weights,
            means=Normal(location, np.asarray(self.means.scale) / unit),
            scales=self.scales.in_units_of(unit[:n_scale_features]),
            correlation=self.correlation,
            resolution=self.resolution / unit,
            box=self.box and self.box.in_units(-center / unit, 1.0 / unit),
        )
