"""Problem: one model and one data set in standardized units, ready for any method.

Methods see data of the order of 1 whatever the user's units; what they return is brought back
here. Priors are transformed with the data, so that nothing but the units changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import log

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.base.errors import DataError
from stangmm.data.dataset import AllRows, Dataset
from stangmm.data.groups import RowGroup, group_rows
from stangmm.data.reach import bulk, within_reach
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import Mixture
from stangmm.model.noise import Box
from stangmm.model.parameters import ParameterSpace
from stangmm.model.priors import Priors, ResolvedPriors

# Standard deviation, in units of that of the data, that is nothing to a double.
_TOO_NARROW = 1e-15
# Features that a message names, at most.
_NAMED = 8
# How far out a value may be for matrices of doubles, in standard deviations of the bulk.
_FURTHEST = 1e25


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method works on.

    Attributes
    ----------
    x : ndarray, shape (N, D)
        (data - center) / unit; rows of weight zero are left out, wherever they lie. Of data that
        come in chunks, a sample.
    sample_weight : ndarray, shape (N,), or None
        Positive.
    n_components : int
    structure : CovarianceStructure
    priors : ResolvedPriors
        Complete, for x.
    user_priors : ResolvedPriors
        The same for the data in the user's units.
    center, unit : ndarray, shape (D,)
        Mean of the data, and their standard deviation without what single values far out add to it;
        of features with such values, the median.
    far_out : ndarray of bool, shape (D,)
        Which features have values far out.
    scale_floor : ndarray, shape (S,)
        Smallest standard deviations of a component for maximum likelihood: those of the priors, and
        where these have none as small as a double tells from zero.
    groups : tuple of RowGroup
        How rows that miss values or whose component is known follow one another in x; empty when
        there are none. Missing values are NaN.
    start : Mixture or None
        Where the user wants the search to begin, for x.
    all_rows : AllRows or None
        All rows, in the user's units, where x is a sample of them.
    """

    x: FloatArray
    sample_weight: FloatArray | None
    n_components: int
    structure: CovarianceStructure
    priors: ResolvedPriors
    user_priors: ResolvedPriors
    center: FloatArray
    unit: FloatArray
    far_out: BoolArray
    scale_floor: FloatArray
    groups: tuple[RowGroup, ...] = ()
    start: Mixture | None = None
    all_rows: AllRows | None = None

    @classmethod
    def build(
        cls,
        dataset: Dataset,
        n_components: int,
        structure: CovarianceStructure,
        priors: Priors,
        noise: bool | float | Box = False,
    ) -> Problem:
        """Check data and model against each other and standardize.

        With ``noise``, True or a volume in the user's units, there is a uniform component, too.

        Raises
        ------
        DataError
            Fewer distinct rows than components; where the covariance structure has correlations,
            linearly dependent features, or values too far out for matrices.
        ModelError
            A prior's shape does not fit.
        """
        dataset.check_components(n_components)
        counted = dataset.counted()
        moments = dataset.mean_and_sd()
        center, size, far_out = bulk(counted.x, counted.sample_weight, *moments)
        unit = structure.unit(size)
        resolved = priors.resolve(dataset, structure, n_components, noise)
        x, sample_weight = counted.x, counted.sample_weight
        groups: tuple[RowGroup, ...] = ()
        if dataset.incomplete or len(dataset.labelled_components):
            order, groups = group_rows(x, counted.labels)
            x, sample_weight = x[order], None if sample_weight is None else sample_weight[order]
        x = x - center
        x /= unit
        standardized = resolved.in_units_of(center, unit)
        problem = cls(
            x=x,
            sample_weight=sample_weight,
            groups=groups,
            n_components=n_components,
            structure=structure,
            priors=standardized,
            user_priors=resolved,
            center=center,
            unit=unit,
            far_out=far_out,
            all_rows=dataset.all_rows,
            scale_floor=np.maximum(standardized.space(structure).scale_floor, _TOO_NARROW),
        )
        if structure.correlated:
            if far_out.any():
                _check_not_too_far(x, dataset.feature_names, structure.name)
            complete = ~np.isnan(x).any(axis=1) if groups else np.ones(len(x), dtype=bool)
            if complete.all() or complete.sum() <= x.shape[1]:
                covariance = problem.total_covariance
            else:
                rows = x[complete]
                covariance = _covariance(rows - rows.mean(axis=0), None)
            _check_independent(covariance, dataset.feature_names, structure.name, len(x))
        return problem

    @property
    def free_components(self) -> IntArray:
        """Components whose labels mean nothing: neither priors nor known rows tell them apart."""
        every = np.arange(self.n_components if self.priors.exchangeable else 0)
        return every if self.labels is None else np.setdiff1d(every, self.labels)

    @cached_property
    def space(self) -> ParameterSpace:
        """The space of the free parameters."""
        return self.priors.space(self.structure)

    @property
    def n_observations(self) -> int:
        """N, rows of x."""
        return int(self.x.shape[0])

    @property
    def n_rows(self) -> int:
        """Rows of the data: N, or more where x is a sample of them."""
        return self.n_observations if self.all_rows is None else self.all_rows.n_rows

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.x.shape[1])

    @property
    def numbers_a_draw(self) -> int:
        """How many numbers a mixture has, all components written out."""
        d = self.n_features
        return self.n_components * (1 + 2 * d + (d * d if self.structure.correlated else 0))

    @cached_property
    def labels(self) -> IntArray | None:
        """Known components of the rows, -1 where unknown, shape (N,); None when all are."""
        if all(group.component is None for group in self.groups):
            return None
        labels = np.full(self.n_observations, -1)
        for group in self.groups:
            if group.component is not None:
                labels[group.rows] = group.component
        return labels

    @property
    def total_weight(self) -> float:
        """Sum of the sample weights: `n_rows` when every row counts once."""
        if self.sample_weight is None:
            return float(self.n_rows)
        return float(self.sample_weight.sum())

    def sums(
        self, function: Callable[[FloatArray], tuple[FloatArray, ...]]
    ) -> tuple[FloatArray, ...]:
        """Add what a function of some rows gives over all rows, chunk by chunk where they are so.

        Parameters
        ----------
        function : callable
            Gets standardized rows, shape (n, D), and gives a tuple of arrays or numbers. It may run
            in another process.

        Returns
        -------
        tuple of ndarray
            The same to the bit each time.
        """
        if self.all_rows is None:
            return function(self.x)
        return self.all_rows.there().standardized(self.center, self.unit).sums(function)

    @property
    def log_likelihood_offset(self) -> float:
        """What is added to a log likelihood of x to give that of the data in user's units."""
        if not self.groups:
            return -self.total_weight * float(self._log_unit.sum())
        weight = 1.0 if self.sample_weight is None else self.sample_weight[:, np.newaxis]
        times = (weight * ~np.isnan(self.x)).sum(axis=0)
        return -float((times * self._log_unit).sum())

    @property
    def log_prior_offset(self) -> float:
        """What is added to a log prior density of x to give that in the user's units."""
        c, s = self.space.scale_shape
        log_unit = self._log_unit
        return -float(self.n_components * log_unit.sum() + c * log_unit[:s].sum())

    @property
    def _log_unit(self) -> FloatArray:
        """Logs by the C library, since numpy's differ in their last bits between processors."""
        return np.array([log(each) for each in self.unit])

    def with_components(self, k: int) -> Problem:
        """Give the same problem with the first ``k`` components only, and no start by hand."""
        return replace(
            self,
            n_components=k,
            priors=self.priors.of_components(k),
            user_priors=self.user_priors.of_components(k),
            start=None,
        )

    def rescaled(self, factor: float) -> Problem:
        """Give the same problem with a unit of ``factor``; its user's units are those of this."""
        center, factors = np.zeros(self.n_features), np.full(self.n_features, factor)
        return replace(
            self,
            x=self.x / factor,
            priors=self.priors.in_units_of(center, factors),
            user_priors=self.priors,
            center=center,
            unit=factors,
            scale_floor=self.scale_floor / factor,
            start=None if self.start is None else self.start.in_units(center, 1.0 / factors),
        )

    @cached_property
    def total_covariance(self) -> FloatArray:
        """Population covariance of all x, shape (D, D); values far out count as the reach's end.

        With missing values, each counts as the mean, and what that takes from the variances is
        given back: the variances are those of the values that are there, and no combination of
        features has a negative one.
        """
        x = within_reach(self.x, self.sample_weight) if self.far_out.any() else self.x
        covariance = _covariance(np.nan_to_num(x), self.sample_weight)
        if self.groups:
            share = _covariance((~np.isnan(self.x)).astype(float), self.sample_weight).diagonal()
            covariance /= np.sqrt(share[:, np.newaxis] * share)
        return covariance

    def to_user_units(self, mixture: Mixture) -> Mixture:
        """Mixtures of x as mixtures of the data in the user's units."""
        return mixture.in_units(self.center, self.unit)

    def from_user_units(self, mixture: Mixture) -> Mixture:
        """The inverse of `to_user_units`."""
        return mixture.in_units(-self.center / self.unit, 1.0 / self.unit)


def _covariance(x: FloatArray, weight: FloatArray | None) -> FloatArray:
    """Weighted mean of x x', shape (D, D)."""
    if weight is None:
        return np.asarray(x.T @ x / len(x))
    return np.asarray((x * weight[:, np.newaxis]).T @ x / weight.sum())


def _check_not_too_far(x: FloatArray, names: tuple[str, ...], structure: str) -> None:
    furthest = np.nanmax(np.abs(x), axis=0)
    if (furthest > _FURTHEST).any():
        too_far = [name for name, value in zip(names, furthest, strict=True) if value > _FURTHEST]
        raise DataError(
            f'covariance_type="{structure}" needs values that matrices of doubles can hold, but '
            f"{too_far} have a value more than {_FURTHEST:g} standard deviations from the others. "
            "If it stands for a missing value, replace it by NaN. If these are numbers of any "
            'order of magnitude, take logarithms. covariance_type="diag" takes them as they are.'
        )


def _check_independent(
    covariance: FloatArray, names: tuple[str, ...], structure: str, n_rows: int
) -> None:
    sd = np.sqrt(covariance.diagonal())
    correlations = covariance / sd / sd[:, np.newaxis]
    values, vectors = np.linalg.eigh(correlations)
    if values[0] > 1e-12 * values[-1]:
        return
    if n_rows <= len(names):
        raise DataError(
            f'covariance_type="{structure}" needs more rows than features, got {n_rows} rows and '
            f'{len(names)} features. Use fewer features, or covariance_type="diag".'
        )
    involved = [n for n, v in zip(names, vectors[:, 0], strict=True) if abs(v) > 0.05]
    if len(involved) > _NAMED:
        involved = [*involved[:_NAMED], f"{len(involved) - _NAMED} more"]
    raise DataError(
        f'covariance_type="{structure}" needs linearly independent features, but {involved} '
        'determine each other. Drop one of them, or use covariance_type="diag".'
    )
