"""MixtureDistribution: some features of a fitted mixture, given others or not, for every draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_positive, is_whole, listed, random_generator, shown
from stangmm.base.errors import DataError, ModelError
from stangmm.base.progress import progress_bar
from stangmm.data.dataset import Dataset, as_numbers, as_table
from stangmm.data.frames import eager, is_table
from stangmm.model.mixture import Mixture, log_sum_exp
from stangmm.predict import averages as predict
from stangmm.predict.averages import Band
from stangmm.predict.conditional import Conditional, one_of_each
from stangmm.predict.quantiles import Uniform, mixture_quantile

BLOCK = 2**20  # largest array that all draws make of a block of rows, in numbers: 8 MB


class MixtureDistribution:
    """Distribution of some features: a mixture of normals for every draw of the posterior.

    Made by `Fit.marginal` and `Fit.conditional`. Given values may be arrays of M values, as for a
    regression line: ``shape`` is then (M,), otherwise (), and comes before the shapes that are
    stated below. Given values are conditions, not observations that the posterior would learn from:
    all draws have equal weight.

    Parameters
    ----------
    joint : Mixture
        Batch (S,) of mixtures of all features.
    dataset : Dataset
        The data of the fit.
    kept : tuple of int, optional
        Which features of the joint mixture this is about; default: all.
    given : mapping of int to ndarray, optional
        Values of other features, () or (M,). What is in neither is integrated out.
    progress : bool
        Whether to show progress when it takes longer than a second.

    Attributes
    ----------
    feature_names : tuple of str, length R
    given : dict of str to float or ndarray
    shape : tuple of int
        () or (M,).

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="em", seed=1)
    >>> wait = fit.conditional({"eruption_min": 4.0})
    >>> wait
    MixtureDistribution(waiting_min | eruption_min = 4; K=2, 1 draws)
    >>> print(wait.mean().round(1))
    [78.4]
    """

    def __init__(
        self,
        joint: Mixture,
        dataset: Dataset,
        kept: tuple[int, ...] | None = None,
        given: Mapping[int, FloatArray] | None = None,
        *,
        progress: bool = True,
    ) -> None:
        self._joint = joint
        self._dataset = dataset
        self._kept = tuple(range(joint.n_features)) if kept is None else kept
        self._given = dict(given or {})
        self._progress = progress
        names = dataset.feature_names
        self.feature_names = tuple(names[i] for i in self._kept)
        self.given: dict[str, Any] = {names[i]: value for i, value in self._given.items()}
        self.shape = np.broadcast_shapes(*(value.shape for value in self._given.values()))

    def marginal(self, features: Any) -> MixtureDistribution:
        """Give the distribution of some of the features, the others integrated out.

        Parameters
        ----------
        features : str, int or list of them
            Names, or positions in ``feature_names``; the result has them in this order.

        Raises
        ------
        DataError
            There are no such features, or one is named twice.
        """
        several = isinstance(features, list | tuple | np.ndarray)
        chosen = [self._position(f) for f in (listed(features) if several else [features])]
        if not chosen or len(set(chosen)) < len(chosen):
            raise DataError(f"Name at least one feature, each once, got {shown(features)}.")
        kept = tuple(self._kept[i] for i in chosen)
        return self._with(kept, self._given)

    def conditional(self, values: Mapping[Any, Any]) -> MixtureDistribution:
        """Give the distribution of the other features where some have given values.

        Components' weights change with how well each explains the values.

        Parameters
        ----------
        values : mapping
            Features (names, or positions in ``feature_names``) with a number each, or arrays of M
            numbers.

        Raises
        ------
        DataError
            There are no such features, none is left, or the values are not finite numbers.
        """
        if not isinstance(values, Mapping) or not values:
            raise DataError(
                f"Give the values as {{feature: value}}, for some of {list(self.feature_names)}, "
                f"got {shown(values)}."
            )
        given = dict(self._given)
        for feature, value in values.items():
            i = self._position(feature)
            if self._kept[i] in given:
                raise DataError(f"Give one value for {self.feature_names[i]!r}, got two.")
            given[self._kept[i]] = _as_values(self.feature_names[i], value)
        kept = tuple(i for i in self._kept if i not in given)
        if not kept:
            raise DataError(
                f"At least one feature must be left, got values for all of "
                f"{list(self.feature_names)}. Leave out the one whose distribution you want."
            )
        lengths = {len(value) for value in given.values() if value.ndim}
        if len(lengths) > 1:
            raise DataError(f"Arrays of values must have one length, got {sorted(lengths)}.")
        return self._with(kept, given)

    def log_density(self, X: Any) -> FloatArray:
        """Log of the predictive density at rows.

        Parameters
        ----------
        X : array or DataFrame, shape (N, R)
            Or (N,) when R = 1. With M given values there must be M rows, one for each.

        Returns
        -------
        ndarray, shape (N,)
        """
        x = self._rows(X)
        n_draws = self._joint.batch_shape[0]
        total = self._in_blocks(
            lambda rows: log_sum_exp(self._log_density_draws(x[rows], rows), axis=0),
            len(x),
            n_draws,
        )
        return np.asarray(total - np.log(n_draws))

    def density(self, X: Any, *, interval: float | None = None) -> FloatArray | Band:
        """Predictive density at rows; with ``interval`` also its bounds.

        Parameters
        ----------
        X : array or DataFrame
            As in `log_density`.
        interval : float, optional
            Posterior probability between the bounds, such as 0.9.

        Returns
        -------
        ndarray, shape (N,), or Band
            With ``interval`` a Band (mean, lower, upper), equal-tailed and pointwise; the bounds
            are NaN for a point estimate, which has none.
        """
        x = self._rows(X)
        return self._with_bounds(
            lambda rows: np.exp(self._log_density_draws(x[rows], rows)), len(x), 1, interval
        )

    def mean(self, *, interval: float | None = None) -> FloatArray | Band:
        """Mean of each feature: the regression line, where values are given.

        Parameters
        ----------
        interval : float, optional
            Posterior probability between the bounds of the mean (a credible band; for new
            observations see `interval`).

        Returns
        -------
        ndarray, shape (R,), or Band
            With ``interval`` a Band (mean, lower, upper); the bounds are NaN for a point estimate.
        """
        core, values, m = self._conditional, self._values, len(self._values)
        if interval is None:
            found = self._in_blocks(lambda rows: core.mean(values[rows]), m, core.n_draws)
            return self._shaped(found)
        bounds = self._with_bounds(
            lambda rows: core.mean_draws(values[rows]), m, len(self._kept), interval
        )
        return Band(*(self._shaped(each) for each in bounds))

    def covariance(self) -> FloatArray:
        """Covariance matrix of new observations, shape (R, R): of the averaged mixture."""
        core, values = self._conditional, self._values
        return self._over_values(lambda rows: core.covariance(values[rows]))

    def quantile(self, q: Any) -> FloatArray:
        """Quantiles of new observations of the one feature: of the averaged mixture.

        Parameters
        ----------
        q : float or array
            Probabilities between 0 and 1, ends excluded.

        Returns
        -------
        ndarray, shape of q + ``shape``
            As in numpy.quantile, the probabilities come first.

        Raises
        ------
        ModelError
            There are several features, or q is out of range.
        """
        if len(self._kept) > 1:
            raise ModelError(
                f"quantile needs one feature, got {list(self.feature_names)}. Use .marginal(name) "
                "first, or .interval(probability) for each of them."
            )
        try:
            levels = as_numbers(q)
        except (TypeError, ValueError, OverflowError):
            levels = np.empty(0)
        if not levels.size or not ((levels > 0) & (levels < 1)).all():
            raise ModelError(
                f"q must be probabilities between 0 and 1, ends excluded, got {shown(q)}."
            )
        found = self._quantiles(levels.ravel())[..., 0]
        return found.reshape(levels.shape + self.shape)

    def interval(self, probability: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """Predictive interval of each feature: where a new observation falls.

        Parameters
        ----------
        probability : float
            Mass between the bounds, with equal tails.

        Returns
        -------
        lower, upper : ndarray, shape (R,)
        """
        check_positive("probability", probability, below=1.0)
        tail = 0.5 * (1 - probability)
        lower, upper = self._quantiles(np.array([tail, 1 - tail]))
        return lower, upper

    def sample(self, n: int, seed: int | None = None) -> tuple[FloatArray, IntArray]:
        """Draw new observations.

        With M given values, each of the n samples is one draw of the parameters and then one
        observation at every value.

        Parameters
        ----------
        n : int
            How many.
        seed : int, optional

        Returns
        -------
        x : ndarray, shape (n, R), or (n, M, R)
        assignments : ndarray of int, shape (n,), or (n, M)
            The component that each came from; -1 for noise.
        """
        each = self.shape[0] if self.shape else 1
        predict.check_sample(n, len(self._kept), each)
        rng = random_generator(seed)
        if not self.shape:
            return predict.sample(self.mixture, n, rng)
        core, values = self._conditional, self._values
        x = np.empty((n, *self.shape, len(self._kept)))
        assignments = np.empty((n, *self.shape), dtype=np.intp)
        for i, draw in enumerate(rng.integers(core.n_draws, size=n)):
            x[i], assignments[i] = one_of_each(core[draw : draw + 1].at(values)[0], rng)
        return x, assignments

    @property
    def mixture(self) -> Mixture:
        """The mixtures themselves, batch (S,), or (S, M), which may be large."""
        mixtures = self._conditional.at(self._values)
        return mixtures if self.shape else mixtures[:, 0]

    @property
    def weights(self) -> FloatArray:
        """Posterior mean of the components' weights at the given values, shape (K,).

        With noise they sum to what it leaves.
        """
        core, values = self._conditional, self._values
        return self._over_values(lambda rows: core.at(values[rows]).weights.mean(axis=0))

    @property
    def means(self) -> FloatArray:
        """Posterior mean of the components' means, shape (K, R)."""
        core, values = self._conditional, self._values
        return self._over_values(lambda rows: core.at(values[rows]).means.mean(axis=0))

    @property
    def covariances(self) -> FloatArray:
        """Posterior mean of the components' covariance matrices, shape (K, R, R).

        They are the same for all given values, so that ``shape`` is not in front.
        """
        return np.asarray(self._conditional.rest.covariances.mean(axis=0))

    def __repr__(self) -> str:
        """Features, and what is given."""
        given = ", ".join(
            f"{name} = {value:.6g}" if value.ndim == 0 else f"{name} = {len(value)} values"
            for name, value in self.given.items()
        )
        joint = self._joint
        return (
            f"{type(self).__name__}({', '.join(self.feature_names)}"
            f"{f' | {given}' if given else ''}; K={joint.n_components}, "
            f"{joint.batch_shape[0]} draws)"
        )

    @cached_property
    def _conditional(self) -> Conditional:
        given, kept = np.array([*self._given], dtype=np.intp), np.array(self._kept)
        return Conditional.of(self._joint, given, kept)

    @cached_property
    def _values(self) -> FloatArray:
        """Given values, shape (M, G), with M = 1 for single ones."""
        columns = np.broadcast_arrays(*self._given.values()) if self._given else []
        m = self.shape[0] if self.shape else 1
        return np.stack(columns, axis=-1).reshape(m, -1) if columns else np.empty((1, 0))

    @cached_property
    def _densities(self) -> tuple[Mixture, Mixture]:
        """Mixtures of the given features, and of them and the rest."""
        given = [*self._given]
        return (
            self._joint.marginal(np.array(given)),
            self._joint.marginal(np.array([*given, *self._kept])),
        )

    def _log_density_draws(self, x: FloatArray, rows: slice) -> FloatArray:
        """Log density of each draw at rows of x, shape (S, rows)."""
        if not self.shape:
            return predict.log_density_draws(self.mixture, x)
        values = self._values[rows]
        given, both = self._densities
        log_both = predict.log_density_draws(both, np.column_stack([values, x]))
        return log_both - predict.log_density_draws(given, values)

    def _quantiles(self, levels: FloatArray) -> FloatArray:
        """Quantiles of each feature, shape (levels, *shape, R)."""
        core = self._conditional

        def of_rows(rows: slice) -> FloatArray:
            mixture = core.at(self._values[rows])
            weights = _terms(mixture.weights) / core.n_draws
            found = [
                [
                    mixture_quantile(
                        weights,
                        _terms(mixture.means[..., j]),
                        _terms(mixture.scales[..., j]),
                        q,
                        _uniform(mixture, j),
                    )
                    for q in levels.tolist()
                ]
                for j in range(len(self._kept))
            ]
            return np.transpose(np.array(found), (2, 1, 0))

        return np.moveaxis(self._over_values(of_rows), -2, 0)

    def _over_values(self, of_rows: Callable[[slice], FloatArray]) -> FloatArray:
        """Put together what is computed from the mixtures at blocks of the given values."""
        return self._shaped(self._in_blocks(of_rows, len(self._values), self._conditional.size))

    def _with_bounds(
        self, draws_of: Callable[[slice], FloatArray], n: int, width: int, interval: float | None
    ) -> FloatArray | Band:
        """Mean over the draws of what each says of n rows; with an interval also its quantiles."""
        n_draws = self._joint.batch_shape[0]
        size = n_draws * width
        if interval is None:
            return self._in_blocks(lambda rows: draws_of(rows).mean(axis=0), n, size)
        check_positive("interval", interval, below=1.0)
        levels = [0.5 - 0.5 * interval, 0.5 + 0.5 * interval]

        def summarized(rows: slice) -> FloatArray:
            draws = draws_of(rows)
            bounds = np.quantile(draws, levels, axis=0)
            return np.stack([draws.mean(axis=0), *bounds], axis=-1)

        found = self._in_blocks(summarized, n, size)
        if n_draws == 1:
            found[..., 1:] = np.nan
        return Band(found[..., 0], found[..., 1], found[..., 2])

    def _in_blocks(self, of_rows: Callable[[slice], FloatArray], n: int, size: int) -> FloatArray:
        """Put together what is computed from blocks of n rows, each of which makes ``size``."""
        step = max(1, BLOCK // size)
        advance = progress_bar("rows", n, shown=self._progress and n > step)
        parts = []
        for first in range(0, n, step):
            rows = slice(first, min(n, first + step))
            parts.append(of_rows(rows))
            advance(rows.stop - first)
        return np.concatenate(parts)

    def _shaped(self, by_value: FloatArray) -> FloatArray:
        return by_value if self.shape else np.asarray(by_value[0])

    def _with(self, kept: tuple[int, ...], given: Mapping[int, FloatArray]) -> MixtureDistribution:
        return MixtureDistribution(self._joint, self._dataset, kept, given, progress=self._progress)

    def _position(self, feature: Any) -> int:
        """Position of a feature that is given by name or, where no name is so, by position."""
        names = self.feature_names
        if str(feature) in names:
            return names.index(str(feature))
        if is_whole(feature) and 0 <= feature < len(names):
            return int(feature)
        raise DataError(
            f"There is no feature {shown(feature)} among {list(names)}. Give one of these names, "
            f"or a position from 0 to {len(names) - 1}."
        )

    def _rows(self, X: Any) -> FloatArray:
        X = eager(X)
        x, names = as_table(X, self._dataset.missing)
        expected = self.feature_names
        named = self._dataset.named and is_table(X)
        if x.shape[1] != len(expected) or (named and names != expected):
            raise DataError(
                f"The rows must have the features {list(expected)}, got "
                f"{list(names) if named else x.shape[1]}. Select and order the columns."
            )
        if self.shape and len(x) != self.shape[0]:
            raise DataError(
                f"There must be one row for each of the {self.shape[0]} given values, got {len(x)} "
                "rows."
            )
        return x


def _as_values(name: str, value: Any) -> FloatArray:
    try:
        shape = np.shape(value)
    except ValueError as error:
        raise DataError(
            f"The value of {name!r} must be a number or an array (M,) of numbers, got lists of "
            f"different lengths: {shown(value)}."
        ) from error
    if len(shape) > 1 or 0 in shape:
        raise DataError(
            f"The value of {name!r} must be a number or an array (M,) of numbers, got shape "
            f"{shape}."
        )
    try:
        numbers = as_table(np.atleast_1d(value))[0][:, 0]
    except DataError as error:
        raise DataError(
            f"The value of {name!r} must be a finite number or an array of them, got "
            f"{shown(value)}."
        ) from error
    return numbers if np.ndim(value) else np.asarray(numbers[0])


def _terms(array: FloatArray) -> FloatArray:
    """(S, M, K) as (S * K, M): the mixture averaged over the draws has S * K parts."""
    return np.moveaxis(array, 1, -1).reshape(-1, array.shape[1])


def _uniform(mixture: Mixture, feature: int) -> Uniform | None:
    """What the noise of mixtures (S, M) is of a feature, averaged over the draws."""
    if mixture.noise is None:
        return None
    box = mixture.noise.box
    weight = mixture.noise.weight.mean(axis=0)
    return Uniform(weight, float(box.lower[feature]), float(box.upper[feature]))
