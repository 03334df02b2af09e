"""What a fit predicts: components, probabilities, densities, new rows, outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_count, check_positive, random_generator
from stangmm.data.dataset import Dataset, as_new_rows, as_sample_weight
from stangmm.data.frames import like
from stangmm.model.mixture import Mixture
from stangmm.predict import averages as _predict
from stangmm.predict.averages import Band, OutlierScore, check_sample, thinned
from stangmm.predict.by_chunk import by_chunk

if TYPE_CHECKING:
    import pandas as pd

    from stangmm.predict.distribution import MixtureDistribution

# Rows that bring no kind of their own: what is said of them are arrays.
Rows: TypeAlias = NDArray[Any] | Sequence[Any]


class Predictions:
    """Predictions averaged over the draws of a fit; a point estimate is one draw.

    All take rows ``X`` of shape (N, D), with the features of the fit in its order; NaN only if the
    fit was made with ``missing="marginalize"``: a row then has the density of what it has. Results
    are Series and DataFrames with the index of ``X`` if that is a DataFrame or Series, DataArrays
    if it is a DataArray, else numpy arrays. Rows and draws are processed in blocks, in threads,
    with at most 64 MB beyond rows and results. For rows of Dask `predict`, `predict_proba` and
    `log_density` give what is of Dask, too, and computed when it is asked for, chunk by chunk.

    ``max_draws`` limits the number of draws, which are evenly spaced; ``progress`` shows a bar when
    it takes longer than a second. All raise `DataError` for rows that do not fit, and `ModelError`
    for invalid settings.

    Attributes
    ----------
    dataset : Dataset
    mixture : Mixture
        All draws, batch of shape (S,).
    seed : int
    """

    dataset: Dataset
    mixture: Mixture
    seed: int

    @overload
    def predict(
        self, X: Rows, *, max_draws: int | None = None, progress: bool = True
    ) -> IntArray: ...

    @overload
    def predict(
        self, X: pd.DataFrame, *, max_draws: int | None = None, progress: bool = True
    ) -> pd.Series[int]: ...

    @overload
    def predict(self, X: Any, *, max_draws: int | None = None, progress: bool = True) -> Any: ...

    @by_chunk
    def predict(self, X: Any, *, max_draws: int | None = None, progress: bool = True) -> Any:
        """Most probable component (0 to K-1) of each row; -1 for noise.

        Parameters
        ----------
        X : array, DataFrame or DataArray, shape (N, D)
        max_draws : int, optional
        progress : bool

        Returns
        -------
        ndarray of int, or Series "component", shape (N,)
        """
        x, mixture = self._ready(X, max_draws)
        probabilities = _predict.responsibilities(mixture, x, progress=progress)
        component = _predict.most_probable(probabilities, mixture.n_components)
        return like(X, component, "component")

    @overload
    def predict_proba(
        self,
        X: Rows,
        *,
        interval: None = None,
        max_draws: int | None = None,
        progress: bool = True,
    ) -> FloatArray: ...

    @overload
    def predict_proba(
        self,
        X: pd.DataFrame,
        *,
        interval: None = None,
        max_draws: int | None = None,
        progress: bool = True,
    ) -> pd.DataFrame: ...

    @overload
    def predict_proba(
        self, X: Any, *, interval: float, max_draws: int | None = None, progress: bool = True
    ) -> Band: ...

    @overload
    def predict_proba(
        self,
        X: Any,
        *,
        interval: float | None = None,
        max_draws: int | None = None,
        progress: bool = True,
    ) -> Any: ...

    @by_chunk
    def predict_proba(
        self,
        X: Any,
        *,
        interval: float | None = None,
        max_draws: int | None = None,
        progress: bool = True,
    ) -> Any:
        """Probability of each component for each row: posterior mean, and on request bounds.

        Parameters
        ----------
        X : array, DataFrame or DataArray, shape (N, D)
        interval : float in (0, 1), optional
            Also give equal-tailed bounds that hold this share of the draws; NaN for a point
            estimate, which has none.
        max_draws : int, optional
        progress : bool

        Returns
        -------
        ndarray or DataFrame, shape (N, K), or (N, K + 1) with noise
            Posterior means, which sum to 1; columns of a DataFrame are the components. The last is
            that of the noise, and is called -1.
        Band
            With ``interval``: ``mean``, ``lower`` and ``upper``, each of that form.
        """
        x, mixture = self._ready(X, max_draws)
        columns = [*range(mixture.n_components), *([] if mixture.noise is None else [-1])]
        if interval is None:
            mean = _predict.responsibilities(mixture, x, progress=progress)
            return like(X, mean, "probability", "component", columns)
        check_positive("interval", interval, below=1.0)
        band = _predict.responsibility_band(mixture, x, interval, progress=progress)
        return Band(*(like(X, each, "probability", "component", columns) for each in band))

    @overload
    def log_density(
        self, X: Rows, *, max_draws: int | None = None, progress: bool = True
    ) -> FloatArray: ...

    @overload
    def log_density(
        self, X: pd.DataFrame, *, max_draws: int | None = None, progress: bool = True
    ) -> pd.Series[float]: ...

    @overload
    def log_density(
        self, X: Any, *, max_draws: int | None = None, progress: bool = True
    ) -> Any: ...

    @by_chunk
    def log_density(self, X: Any, *, max_draws: int | None = None, progress: bool = True) -> Any:
        """Log predictive density of each row: of the density's posterior mean.

        Parameters
        ----------
        X : array, DataFrame or DataArray, shape (N, D)
        max_draws : int, optional
        progress : bool

        Returns
        -------
        ndarray, or Series "log_density", shape (N,)
        """
        x, mixture = self._ready(X, max_draws)
        return like(X, _predict.log_density(mixture, x, progress=progress), "log_density")

    def density(
        self,
        grid: Any,
        *,
        interval: float | None = None,
        max_draws: int | None = None,
        progress: bool = True,
    ) -> Any:
        """Density at points: posterior mean, and on request bounds.

        Parameters
        ----------
        grid : array, DataFrame or DataArray, shape (N, D)
            The points; shape (N,) will do for one feature.
        interval : float in (0, 1), optional
            Also give pointwise bounds that hold this share of the draws; NaN for a point estimate.
        max_draws : int, optional
        progress : bool

        Returns
        -------
        ndarray, or Series "density", shape (N,)
        Band
            With ``interval``: ``mean``, ``lower`` and ``upper``, each of that form.
        """
        x, mixture = self._ready(grid, max_draws)
        if interval is None:
            mean = np.exp(_predict.log_density(mixture, x, progress=progress))
            return like(grid, mean, "density")
        check_positive("interval", interval, below=1.0)
        band = _predict.density_band(mixture, x, interval, progress=progress)
        return Band(*(like(grid, each, "density") for each in band))

    def score(
        self,
        X: Any,
        sample_weight: Any = None,
        *,
        max_draws: int | None = None,
        progress: bool = True,
    ) -> float:
        """Mean log predictive density of the rows, as scikit-learn's; higher is better.

        Parameters
        ----------
        X : array, DataFrame or DataArray, shape (N, D)
        sample_weight : array, shape (N,), optional
            How often each row counts.
        max_draws : int, optional
        progress : bool
        """
        x, mixture = self._ready(X, max_draws)
        weight = None if sample_weight is None else as_sample_weight(sample_weight, len(x))
        density = _predict.log_density(mixture, x, progress=progress)
        return float(np.average(density, weights=weight))

    def outlier_score(self, X: Any, *, max_draws: int | None = None, progress: bool = True) -> Any:
        """Log predictive density of each row, and how much of the distribution is no denser.

        The tail probability is the share of new rows from the predictive distribution whose
        density is no higher than the row's: 0.001 means that one new row in a thousand is as
        unusual. It is counted among 10,000 drawn rows, the same ones each time, and never below
        1e-4; its standard error is sqrt(p (1 - p) / 10,000), at most 0.005. For rows that miss
        values, drawn rows are compared in the features that are there.

        Parameters
        ----------
        X : array, DataFrame or DataArray, shape (N, D)
        max_draws : int, optional
        progress : bool

        Returns
        -------
        OutlierScore or DataFrame
            ``log_density`` and ``tail_probability``: a DataFrame with these columns for pandas,
            else a named tuple of arrays of shape (N,).
        """
        x, mixture = self._ready(X, max_draws)
        rng = np.random.default_rng(self.seed)
        scores = _predict.outlier_score(mixture, x, rng, progress=progress)
        parts = {name: like(X, a, name) for name, a in scores._asdict().items()}
        density = parts["log_density"]
        if hasattr(density, "to_frame"):
            return density.to_frame().assign(**parts)
        return OutlierScore(**parts)

    def sample(self, n: int, seed: int | None = None) -> tuple[FloatArray, IntArray]:
        """Draw new observations from the predictive distribution.

        Parameters
        ----------
        n : int
            How many.
        seed : int, optional

        Returns
        -------
        x : ndarray, shape (n, D)
        assignments : ndarray of int, shape (n,)
            The component that each came from; -1 for noise, which is drawn in its box.
        """
        check_sample(n, self.dataset.n_features)
        return _predict.sample(self.mixture, n, random_generator(seed))

    def marginal(
        self, features: Any, *, max_draws: int | None = None, progress: bool = True
    ) -> MixtureDistribution:
        """Give the distribution of some features, the others integrated out.

        Parameters
        ----------
        features : str, int or list of them
            Names or positions.
        max_draws : int, optional
        progress : bool
            Whether the result shows progress when it takes longer than a second.
        """
        return self._distribution(max_draws, progress).marginal(features)

    def conditional(
        self, values: Mapping[Any, Any], *, max_draws: int | None = None, progress: bool = True
    ) -> MixtureDistribution:
        """Give the distribution of the other features where some have given values.

        ``fit.conditional({"a": 3.0})``; arrays of M values give a regression, with its credible
        band, ``mean(interval=0.9)``, and predictive intervals, ``interval(0.9)``.

        Parameters
        ----------
        values : mapping
            Names or positions of features, with a number each or M numbers each.
        max_draws : int, optional
        progress : bool
        """
        return self._distribution(max_draws, progress).conditional(values)

    def impute(
        self,
        X: Any,
        how: Literal["mean", "draw"] = "mean",
        *,
        n: int | None = None,
        seed: int | None = None,
        max_draws: int | None = None,
        progress: bool = True,
    ) -> Any:
        """Fill in missing values (NaN); observed values are untouched.

        Parameters
        ----------
        X : array, DataFrame or Series, shape (N, D)
            NaN is accepted whatever the fit was made with.
        how : {"mean", "draw"}
            The mean given what the row has, over all draws, with equal weights (exact for
            rows of the fit); or a random completion.
        n : int, optional
            With "draw": how many completions, each with its own draw of the parameters (multiple
            imputation: Rubin 1987, doi:10.1002/9780470316696).
        seed : int, optional
        max_draws : int, optional
        progress : bool

        Returns
        -------
        Like X; with ``n``, an array (n, N, D) or a list of n tables.
        """
        from stangmm.predict.imputation import impute

        draws = self._draws(max_draws)
        return impute(draws, self.dataset, X, how, n=n, seed=seed, progress=progress)

    def alone(self) -> Predictions:
        """Give an object with the predictions alone, to be sent to other processes."""
        dataset = replace(self.dataset, x=self.dataset.x[:1], sample_weight=None, labels=None)
        return _Alone(replace(dataset, all_rows=None, index=None), self.mixture, self.seed)

    def _distribution(self, max_draws: int | None, progress: bool) -> MixtureDistribution:
        from stangmm.predict.distribution import MixtureDistribution

        draws = self._draws(max_draws)
        return MixtureDistribution(draws, self.dataset, progress=progress)

    def _ready(self, X: Any, max_draws: int | None) -> tuple[FloatArray, Mixture]:
        draws = self._draws(max_draws)
        return as_new_rows(X, self.dataset), draws

    def _draws(self, max_draws: int | None) -> Mixture:
        if max_draws is not None:
            check_count("max_draws", max_draws)
        return thinned(self.mixture, max_draws)


@dataclass(frozen=True, eq=False)
class _Alone(Predictions):
    """Predictions of some draws."""

    dataset: Dataset
    mixture: Mixture
    seed: int
