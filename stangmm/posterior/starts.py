"""Starts by hand: a mixture to begin from, made of means, of labels or of another fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import shown
from stangmm.base.errors import DataError, ModelError
from stangmm.data.dataset import Dataset, as_numbers
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem
from stangmm.posterior.fitted import Fitted

# A start's covariance keeps this share of the whole data's, so that no group of few or equal rows
# makes it singular.
_SHARE_OF_TOTAL = 1e-2
_LARGEST = 1e150  # squares of more are no numbers
# Starting means may lie outside the data by so many of their ranges: from further away nothing
# finds back.
_FARTHEST = 100.0


def start_from(init: Any, problem: Problem, dataset: Dataset) -> Mixture:
    """Give the mixture, in the problem's units, that a user's starting values mean.

    Parameters
    ----------
    init : array or Fitted
        Means (K, D), or (K,) for one feature; components of the rows, integers of shape (N,); or
        a fit, whose draw of highest log joint density is taken. Means must differ, but for those
        of components that known labels tell apart, and lie within a hundred ranges of the data.
        Noise that these say nothing of starts with a small weight.
    problem : Problem
    dataset : Dataset
        The data of the problem in the user's order.

    Raises
    ------
    DataError
        Means or labels of the wrong shape, not finite, or that leave a component without rows;
        equal means, or means far outside the data.
    ModelError
        A fit with another number of components or other features.
    """
    return problem.space.with_noise(_without_noise(init, problem, dataset))


def _without_noise(init: Any, problem: Problem, dataset: Dataset) -> Mixture:
    """The mixture; of noise only what a fit has."""
    if isinstance(init, Fitted):
        return _from_fit(init, problem, dataset)
    k, d, n = problem.n_components, problem.n_features, dataset.n_observations
    try:
        values = as_numbers(init)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"init must be means, labels or a Fit, got {shown(init)}.") from error
    if d == 1 and values.shape == (k,) != (n,):
        values = values[:, np.newaxis]
    if not np.isfinite(values).all():
        raise DataError("init must be finite numbers, got some that are not.")
    if np.abs(values).max(initial=0.0) > _LARGEST:
        raise DataError(f"init must be numbers below {_LARGEST:g}. Rescale it and the data.")
    if values.shape == (n,) and dataset.all_rows is None:
        return _from_labels(_checked_labels(values, k), problem, dataset)
    if values.shape == (k, d):
        _check_different(values, dataset.free_components(k))
        _check_near(values, dataset)
        return _from_means((values - problem.center) / problem.unit, problem, dataset)
    labels = f"labels of shape ({n},), " if dataset.all_rows is None else ""
    raise DataError(
        f"init must be means of shape ({k}, {d}), {labels}or a Fit, got an array of shape "
        f"{values.shape}."
    )


def _check_near(means: FloatArray, dataset: Dataset) -> None:
    """Raise DataError for means, in the user's units, far outside the data."""
    low, high = dataset.range()
    beyond = np.maximum(low - means, means - high) / (high - low)
    k, j = np.unravel_index(int(beyond.argmax()), beyond.shape)
    if beyond[k, j] > _FARTHEST:
        raise DataError(
            f"The starting mean of component {k} is far outside the data: {means[k, j]:g} in "
            f"feature {dataset.feature_names[j]!r}, whose values are from {low[j]:g} to "
            f"{high[j]:g}. Give an init within the data, or at most {_FARTHEST:g} times their "
            "range away from them."
        )


def _check_different(means: FloatArray, free: IntArray) -> None:
    """Raise DataError for components of equal means, between which nothing else decides."""
    for i, k in enumerate(free):
        for other in free[:i]:
            if (means[k] == means[other]).all():
                raise DataError(
                    f"Starting means must differ, got {means[k].tolist()} for components {other} "
                    f"and {k}: from equal means these would stay equal. Move one of them, or give "
                    "labels of the rows as init."
                )


def _checked_labels(values: FloatArray, k: int) -> IntArray:
    labels = values.astype(int)
    if (labels != values).any() or labels.min() < 0 or labels.max() >= k:
        raise DataError(
            f"Labels given as init must be whole numbers from 0 to {k - 1}, one for each row, got "
            f"values from {values.min():g} to {values.max():g}."
        )
    return labels


def _from_means(means: FloatArray, problem: Problem, dataset: Dataset) -> Mixture:
    """Each row to the nearest mean, by the features that it has."""
    x = (dataset.x - problem.center) / problem.unit
    distance = np.stack([np.nansum((x - mean) ** 2, axis=1) for mean in means])
    start = _moments(distance.argmin(axis=0), x, problem, dataset)
    return replace(start, means=means)


def _from_labels(labels: IntArray, problem: Problem, dataset: Dataset) -> Mixture:
    empty = np.setdiff1d(np.arange(problem.n_components), labels)
    if len(empty):
        raise DataError(f"Labels given as init must use every component, got no row of {empty}.")
    x = (dataset.x - problem.center) / problem.unit
    return _moments(labels, x, problem, dataset)


def _moments(labels: IntArray, x: FloatArray, problem: Problem, dataset: Dataset) -> Mixture:
    """Shares, means and covariances of groups of rows; missing values count as their mean."""
    k = problem.n_components
    weight = np.ones(len(x)) if dataset.sample_weight is None else dataset.sample_weight
    member = (labels == np.arange(k)[:, np.newaxis]) * weight
    count = member.sum(axis=1)
    seen = ~np.isnan(x)
    total = member @ np.where(seen, x, 0.0)
    means = total / np.maximum(member @ seen, np.finfo(float).tiny)
    deviation = np.where(seen, x - means[labels], 0.0)
    covariances = np.einsum("kn,ni,nj->kij", member, deviation, deviation, optimize=True)
    covariances += _SHARE_OF_TOTAL * weight.sum() / k * problem.total_covariance
    covariances /= (count + _SHARE_OF_TOTAL * weight.sum() / k)[:, np.newaxis, np.newaxis]
    weights = (count + 1.0) / (count + 1.0).sum()
    return problem.space.nearest(Mixture.from_covariances(weights, means, covariances))


def _from_fit(fit: Fitted, problem: Problem, dataset: Dataset) -> Mixture:
    k, names = problem.n_components, dataset.feature_names
    if fit.model.n_components != k or len(fit.dataset.feature_names) != len(names):
        raise ModelError(
            f"A fit given as init must have {k} components and the features {list(names)}, got "
            f"{fit.model.n_components} components of {list(fit.dataset.feature_names)}."
        )
    best = fit.mixture[int(np.argmax(fit.lp))]
    _check_near(best.means, dataset)
    return problem.space.nearest(problem.from_user_units(best))
