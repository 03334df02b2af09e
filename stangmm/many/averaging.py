"""Stack: the predictions of several fits averaged, instead of a choice among them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_count, listed, random_generator, shown
from stangmm.base.errors import ConvergenceWarning, DataError, ModelError
from stangmm.data.dataset import Dataset
from stangmm.data.frames import like
from stangmm.fit import Fit
from stangmm.judge.leave_one_out import bad_rows, loo, psis_loo
from stangmm.judge.partition import Partition, joint_partition
from stangmm.judge.stacking import stacking_weights
from stangmm.judge.subsampling import completed, pooled
from stangmm.model.mixture import log_sum_exp

if TYPE_CHECKING:
    import pandas as pd

_SLIGHT = 1e-3  # weight of a fit whose doubtful rows change nothing


@dataclass(frozen=True, eq=False)
class Stack:
    """An average of several fits' predictive densities.

    Made by `stack`, and by `ModelPosterior.average`.

    Attributes
    ----------
    fits : mapping
        The fits, by label.
    weights : Series
        How much each counts, by label; sums to 1.
    elpd : float
        Leave-one-out expected log predictive density of the average. The weights rest on the same
        rows, so it is slightly too good.
    standard_error : float
        Of ``elpd``.

    Examples
    --------
    >>> import stangmm as sg
    >>> settings = sg.NUTS(draws=250)
    >>> fits = [sg.GaussianMixture(k).fit(sg.datasets.faithful(), settings, seed=1) for k in (1, 2)]
    >>> average = sg.stack(fits)
    >>> x, source = average.sample(5, seed=1)
    >>> x.shape
    (5, 2)
    """

    fits: Mapping[Any, Fit]
    weights: pd.Series[float]
    elpd: float
    standard_error: float

    def log_density(self, X: Any) -> Any:
        """Log predictive density of each row, shape (N,); errors as `Fit.log_density`."""
        used = self._used()
        each = np.stack([fit.log_density(X) for fit, _ in used])
        logs = np.log([[weight] for _, weight in used])
        return like(X, log_sum_exp(each + logs, axis=0), "log_density")

    def sample(self, n: int, seed: int | None = None) -> tuple[FloatArray, IntArray]:
        """Draw new observations from the averaged predictive distribution.

        Parameters
        ----------
        n : int
            How many.
        seed : int, optional

        Returns
        -------
        x : ndarray, shape (n, D)
        source : ndarray of int, shape (n,)
            Position in ``fits`` of the fit that each came from.
        """
        check_count("n", n)
        rng = random_generator(seed)
        source = rng.choice(len(self.fits), size=n, p=self.weights.to_numpy())
        fits = list(self.fits.values())
        x = np.empty((n, fits[0].dataset.n_features))
        for i, fit in enumerate(fits):
            chosen = source == i
            if chosen.any():
                x[chosen] = fit.sample(int(chosen.sum()), int(rng.integers(2**31)))[0]
        return x, source

    def partition(self, *, progress: bool = True) -> Partition:
        """Give the rows in clusters, by the fits' posteriors averaged by their weights.

        See `Fit.partition`; the similarity of two rows is the weighted average of the fits'.
        `stangmm.plots.partition` draws it.

        Parameters
        ----------
        progress : bool
            Whether to show progress when it takes longer than a second.
        """
        return joint_partition(self._used(), progress=progress)

    def __repr__(self) -> str:
        """Show the weights."""
        head = (
            f"{type(self).__name__} of {len(self.fits)} fits, elpd {self.elpd:.2f} "
            f"(standard error {self.standard_error:.2f})"
        )
        lines = [
            f"  {label}: weight {weight:.3f}, {fit.method}, {fit.model!r}"
            for (label, fit), weight in zip(self.fits.items(), self.weights, strict=True)
        ]
        return "\n".join([head, *lines])

    def _used(self) -> list[tuple[Fit, float]]:
        return [
            (fit, float(w))
            for fit, w in zip(self.fits.values(), self.weights, strict=True)
            if w > 0
        ]


def stack(
    fits: Mapping[Any, Fit] | Sequence[Fit], *, refit: bool = False, progress: bool = True
) -> Stack:
    """Average the predictions of several fits instead of choosing one of them.

    The weights maximize the leave-one-out log density of the averaged prediction (stacking: Yao,
    Vehtari, Simpson & Gelman 2018, doi:10.1214/17-BA1091).

    Parameters
    ----------
    fits : mapping or sequence of Fit
        Of any models, to the same data; ``Selection.fits`` will do. The keys (or positions) are
        the labels.
    refit : bool
        Whether rows of high Pareto k are computed exactly; see `Fit.loo`.
    progress : bool

    Returns
    -------
    Stack

    Raises
    ------
    DataError
        The fits are of different data.
    ModelError
        No fits, or point estimates among them.

    Warns
    -----
    ConvergenceWarning
        There are rows of high Pareto k and ``refit`` is not set.

    Examples
    --------
    >>> import stangmm as sg
    >>> settings = sg.NUTS(draws=250)
    >>> faithful = sg.datasets.faithful()
    >>> fits = {k: sg.GaussianMixture(k).fit(faithful, settings, seed=1) for k in (1, 2)}
    >>> print(sg.stack(fits).weights.idxmax())
    2
    """
    labelled = dict(fits) if isinstance(fits, Mapping) else dict(enumerate(_as_list(fits)))
    _check_stackable(labelled)
    log_densities = _left_out_densities(labelled, "stacking weights depend", refit, progress)
    weight = next(iter(labelled.values())).dataset.sample_weight
    return _average(labelled, log_densities, stacking_weights(log_densities, weight))


def averaged(
    fits: Mapping[Any, Fit], weights: FloatArray, *, refit: bool = False, progress: bool = True
) -> Stack:
    """Average the predictions of fits of the same data with given weights (M,), that sum to one.

    Parameters
    ----------
    fits : mapping of Fit
    weights : ndarray, shape (M,)
    refit, progress
        As for `stack`; they concern ``elpd`` only.

    Warns
    -----
    ConvergenceWarning
        As for `stack`.
    """
    count = {label for label, w in zip(fits, weights.tolist(), strict=True) if w > _SLIGHT}
    log_densities = _left_out_densities(fits, "elpd of the average depends", refit, progress, count)
    return _average(fits, log_densities, weights)


def _left_out_densities(
    fits: Mapping[Any, Fit],
    what: str,
    refit: bool,
    progress: bool,
    count: Collection[Any] | None = None,
) -> FloatArray:
    """Leave-one-out log density of each row under each fit (N, M).

    Doubts are said of those that count, by default all.
    """
    columns, doubtful = [], []
    for label, fit in fits.items():
        result = loo(fit, refit=True, progress=progress) if refit else psis_loo(fit)
        if result.warning and not refit and (count is None or label in count):
            doubtful.append(f"{label} ({len(bad_rows(fit, result))})")
        columns.append(completed(result.parts, fit.dataset.sample_weight))
    if doubtful:
        warnings.warn(
            f"The {what} on rows with a high Pareto k, for which leave-one-out by importance "
            f"sampling is unreliable. Fits (rows): {', '.join(doubtful)}. "
            "With refit=True these rows are computed exactly, with one more fit for each.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return np.stack(columns, axis=1)


def _average(fits: Mapping[Any, Fit], log_densities: FloatArray, weights: FloatArray) -> Stack:
    import pandas as pd

    with np.errstate(divide="ignore"):
        mixed = log_sum_exp(log_densities + np.log(weights), axis=1)
    elpd, error = pooled(mixed, next(iter(fits.values())).dataset.sample_weight)
    index = pd.Index(list(fits), name="fit", tupleize_cols=False)
    return Stack(fits, pd.Series(weights, index=index, name="weight"), elpd, error)


def _as_list(fits: Any) -> list[Any]:
    found = [] if isinstance(fits, Fit) else listed(fits)
    if not found:
        raise ModelError(
            f"fits must be a list of fits, or a dict of them, with at least one, got {shown(fits)}."
        )
    return found


def _check_stackable(fits: Mapping[Any, Any]) -> None:
    if not fits:
        raise ModelError("fits must contain at least one fit, got none.")
    first: Dataset | None = None
    for label, fit in fits.items():
        if not isinstance(fit, Fit):
            raise ModelError(f"fits must contain fits, got {shown(fit)} for {label!r}.")
        if fit.kind == "point":
            raise ModelError(
                f'Stacking needs draws, and the fit {label!r} by "{fit.method}" is a single point. '
                'Use method="nuts".'
            )
        first = first or fit.dataset
        if not fit.dataset.same_as(first):
            raise DataError(
                "All fits of a stack must be fits of the same rows, sample weights and labels; "
                f"those of {label!r} differ. Fit every model to the same X."
            )
