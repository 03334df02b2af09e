"""Noise: a component with a uniform density, for rows that belong to no normal component.

Its density is one over the volume of a box, as in mclust (Banfield & Raftery 1993,
doi:10.2307/2532201; Fraley & Raftery 1998, doi:10.1093/comjnl/41.8.578). It is a product over the
features, so that rows that miss values have the density of those that they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.brief import Brief
from stangmm.base.checked import shown
from stangmm.base.errors import DataError, ModelError

# The weight of the noise where a search begins and nothing is known of it.
START_WEIGHT = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Box(Brief):
    """Where the noise lies: a range of each feature.

    Attributes
    ----------
    lower, upper : ndarray, shape (D,)
    """

    lower: FloatArray
    upper: FloatArray

    @classmethod
    def of_range(cls, lower: FloatArray, upper: FloatArray, noise: bool | float | Box) -> Box:
        """Give the box of the data, or that box stretched evenly to a volume.

        Parameters
        ----------
        lower, upper : ndarray, shape (D,)
            The smallest and largest value of each feature.
        noise : bool, float or Box
            True, or the volume, or the box itself.

        Raises
        ------
        DataError
            A feature has one value only.
        """
        if isinstance(noise, Box):
            return noise
        width = upper - lower
        if not (width > 0).all():
            raise DataError(
                "noise needs features that vary, since it lies between their smallest and largest "
                "values. Leave features with one value out."
            )
        if noise is True:
            return cls(lower, upper)
        log_stretch = (np.log(noise) - np.log(width).sum()) / len(width)
        half, middle = 0.5 * width * np.exp(log_stretch), lower + 0.5 * width
        return cls(middle - half, middle + half)

    @property
    def log_density(self) -> FloatArray:
        """Log of the density of each feature, shape (D,): minus the log of its range."""
        return np.asarray(-np.log(self.upper - self.lower))

    @property
    def center(self) -> FloatArray:
        """The middle, shape (D,)."""
        return self.lower + 0.5 * (self.upper - self.lower)

    def cdf(self, feature: int, values: FloatArray) -> FloatArray:
        """Probability of less than some values of a feature."""
        low, high = self.lower[feature], self.upper[feature]
        return np.asarray(np.clip((values - low) / (high - low), 0.0, 1.0))

    def in_units(self, center: FloatArray, unit: FloatArray) -> Box:
        """Give the box of ``center + unit * x``; both have shape (D,)."""
        return Box(center + unit * self.lower, center + unit * self.upper)

    def marginal(self, features: IntArray) -> Box:
        """Give the box of some features (indices)."""
        return Box(self.lower[features], self.upper[features])

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw rows (n, D) that are uniform in the box."""
        return rng.uniform(self.lower, self.upper, (n, len(self.lower)))


@dataclass(frozen=True, eq=False, repr=False)
class Noise(Brief):
    """The noise component of a batch of mixtures.

    The density is the same for every row, inside the box or outside, so that rows far from all
    data are noise rather than members of the nearest component.

    Attributes
    ----------
    weight : ndarray, shape (...)
    box : Box
    """

    weight: FloatArray
    box: Box

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", np.asarray(self.weight))  # numpy makes scalars of ()


def checked_noise(noise: Any) -> bool | float | Box:
    """Check what a user says of the noise: True, False, or a volume.

    Raises
    ------
    ModelError
        It is neither.
    """
    if isinstance(noise, Box):
        return noise
    if isinstance(noise, bool | np.bool_):
        return bool(noise)
    if isinstance(noise, int | float | np.integer | np.floating) and 0 < noise < np.inf:
        return float(noise)
    raise ModelError(
        "noise must be True (uniform over the box of the data), False, or the volume of the "
        f"noise's region, a positive number in the units of the data, got {shown(noise)}."
    )
