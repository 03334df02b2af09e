"""Prior distributions of the mixture's parameters: what the user writes, and its density.

Parameters of a prior may be given once for all, per feature, or per component; `Priors.resolve`
spreads them to full shape and fills in defaults that are scaled by the data.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, xlogy

from stangmm.base.arrays import FloatArray
from stangmm.base.errors import ModelError
from stangmm.data.dataset import Dataset, Missing
from stangmm.model.covariance import CovarianceStructure, structure_named
from stangmm.model.parameters import ParameterSpace


def _positive(name: str, value: ArrayLike) -> FloatArray:
    array = _finite(name, value)
    if (array <= 0).any():
        raise ModelError(f"{name} must be positive, got {value!r}.")
    return array


def _finite(name: str, value: ArrayLike) -> FloatArray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name} must be a number or an array of numbers, got {value!r}.") from (
            error
        )
    if not np.isfinite(array).all() or array.size == 0:
        raise ModelError(f"{name} must be finite numbers, got {value!r}.")
    return array


def _spread(name: str, value: FloatArray, shape: tuple[int, ...], meaning: str) -> FloatArray:
    try:
        return np.array(np.broadcast_to(value, shape))
    except ValueError as error:
        raise ModelError(
            f"{name} must be a number or spread to {meaning} = {shape}, got shape {value.shape}."
        ) from error


def _words(prior: Any) -> str:
    """Name of a prior's family with its parameters, to four digits."""
    parts = []
    for field in fields(prior):
        text = np.array2string(
            np.asarray(getattr(prior, field.name)),
            separator=", ",
            max_line_width=1_000_000,
            formatter={"float_kind": lambda v: f"{v:.4g}"},
        )
        parts.append(f"{field.name}={text}")
    return f"{type(prior).__name__}({', '.join(parts)})"


@dataclass(frozen=True, eq=False)
class Dirichlet:
    """Dirichlet prior of the weights.

    Parameters
    ----------
    concentration : float or array, shape (K,)
        Positive; 1 is uniform on the simplex, less favours few large components.

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
    """Base of the priors of the standard deviations; each fills in one density."""

    family: ClassVar[int]  # the code of the family in the Stan model
    scale: Any

    def log_density(self, scales: FloatArray) -> FloatArray:
        """Log density of scales, shape (..., C, S), summed over both axes."""
        return np.asarray(self._each(scales).sum(axis=(-2, -1)))

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

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw standard deviations, shape (n, C, S), for parameters of shape (C, S)."""
        raise NotImplementedError

    def _each(self, scales: FloatArray) -> FloatArray:
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

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw standard deviations, shape (n, C, S), for parameters of shape (C, S)."""
        b = np.asarray(self.scale)
        return np.asarray(b * np.abs(rng.standard_cauchy((n, *b.shape))))


@dataclass(frozen=True, eq=False)
class HalfNormal(ScalePrior):
    """Half-normal prior of the standard deviations.

    Parameters
    ----------
    scale : float or array, shape (D,) or (K, D); (K, 1) for spherical covariances
        Standard deviation of the normal that is cut in half, in the units of the data.

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

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw standard deviations, shape (n, C, S), for parameters of shape (C, S)."""
        b = np.asarray(self.scale)
        return np.asarray(b * np.abs(rng.standard_normal((n, *b.shape))))


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

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw standard deviations, shape (n, C, S), for parameters of shape (C, S)."""
        a, b = np.asarray(self.shape), np.asarray(self.scale)
        precision = rng.standard_gamma(a, (n, *a.shape))
        return np.asarray(np.sqrt(b / np.maximum(precision, np.finfo(float).tiny)))


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
            raise ModelError(f"LKJ shape must be one number, got {self.shape!r}.")
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
                raise ModelError(f"The prior of the {name} must be {known}, got {value!r}.")

    @classmethod
    def from_data(
        cls,
        X: Any,
        covariance_type: str = "full",
        *,
        sample_weight: Any = None,
        missing: Missing = "error",
    ) -> Priors:
        """Give the default priors for some data, to look at and to change.

        Parameters
        ----------
        X : array, list, DataFrame or Series, shape (N, D) or (N,)
        covariance_type : {"full", "tied", "diag", "spherical"}
            Only "spherical" has another default: one scale for all features.
        sample_weight : array, shape (N,), optional
        missing : {"error", "marginalize"}
            Whether X may have missing values, as in a fit.

        Returns
        -------
        Priors
            Complete, for any number of components; a fit with them is the fit without. Print it
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
        """
        dataset = Dataset.from_input(X, sample_weight, missing=missing)
        return cls(*cls()._completed(dataset, structure_named(covariance_type)))

    def __str__(self) -> str:
        """One line for each part that is given."""
        given = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return "\n".join(f"{name:<13}{_words(p)}" for name, p in given if p is not None)

    def _completed(
        self, dataset: Dataset, structure: CovarianceStructure
    ) -> tuple[Dirichlet, Normal, ScalePrior, LKJ]:
        """Fill in the defaults: the one place where they are."""
        low, high = dataset.range()
        unit = structure.unit(dataset.mean_and_sd()[1])
        n_scales = ParameterSpace(1, dataset.n_features, structure).scale_shape[1]
        return (
            self.weights or Dirichlet(),
            self.means or Normal(low + (high - low) / 2, high - low),
            self.scales or HalfCauchy(unit[:n_scales]),
            self.correlation or LKJ(),
        )

    def resolve(
        self, dataset: Dataset, structure: CovarianceStructure, n_components: int
    ) -> ResolvedPriors:
        """Fill in defaults from the data and spread every parameter to full shape.

        Parameters
        ----------
        dataset : Dataset
        structure : CovarianceStructure
        n_components : int
            K.

        Returns
        -------
        ResolvedPriors

        Raises
        ------
        ModelError
            A parameter's shape does not fit K components and D features.
        """
        k, d = n_components, dataset.n_features
        weights, means, scales, correlation = self._completed(dataset, structure)
        alpha = _spread("Dirichlet concentration", np.asarray(weights.concentration), (k,), "(K,)")
        location = _spread("Normal location", np.asarray(means.location), (k, d), "(K, D)")
        scale = _spread("Normal scale", np.asarray(means.scale), (k, d), "(K, D)")
        return ResolvedPriors(
            weights=Dirichlet(alpha),
            means=Normal(location, scale),
            scales=scales.spread(ParameterSpace(k, d, structure).scale_shape),
            correlation=correlation,
        )


@dataclass(frozen=True, eq=False)
class ResolvedPriors:
    """Complete priors: concentration (K,), means (K, D), scales (C, S) and LKJ shape."""

    weights: Dirichlet
    means: Normal
    scales: ScalePrior
    correlation: LKJ

    @property
    def exchangeable(self) -> bool:
        """Whether the prior is the same for every component, so that labels mean nothing."""
        parameters = (
            self.weights.concentration,
            self.means.location,
            self.means.scale,
            self.scales.scale,
            self.scales.shape_or_one(),
        )
        return all(bool((np.asarray(p) == np.asarray(p)[:1]).all()) for p in parameters)

    def of_components(self, k: int) -> ResolvedPriors:
        """Give the priors of the first ``k`` components; shared scales stay as they are."""
        n = len(np.asarray(self.weights.concentration))

        def first(prior: Any) -> Any:  # parameters of shape (K, ...), not (1, ...)
            arrays = {f.name: np.asarray(getattr(prior, f.name)) for f in fields(prior)}
            own = {name: a[:k] for name, a in arrays.items() if a.ndim == 2 and len(a) == n}
            return replace(prior, **own)

        concentration = np.asarray(self.weights.concentration)[:k]
        return replace(
            self,
            weights=Dirichlet(concentration),
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
        )
