"""The mixture as a scikit-learn estimator: `StanGaussianMixture`, with the names users know.

scikit-learn is an optional dependency: nothing else in stangmm imports this module.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from scipy.stats import norm

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.base.errors import ConvergenceWarning, DataError, MisfitWarning
from stangmm.base.names import made_by_names
from stangmm.data.dataset import Dataset, as_sample_weight
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.methods import EM, Method, MethodName, as_method
from stangmm.methods.base import Run
from stangmm.methods.draws import RestartInfo
from stangmm.methods.em.regularized import (
    RegularizedEM,
    regularized_problem,
    sets_rows_far_out_apart,
)
from stangmm.methods.em.steps import EMSpace
from stangmm.model.covariance import CovarianceType, MclustName
from stangmm.model.mixture import log_likelihood
from stangmm.model.priors import Priors
from stangmm.posterior.fitting import checked_seed, fitted
from stangmm.posterior.relabel import Relabelling, checked_relabelling

try:
    from sklearn.base import BaseEstimator, DensityMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        'stangmm.sklearn needs scikit-learn 1.6 or newer: pip install "stangmm[sklearn]"'
    ) from error


# scikit-learn's default of reg_covar: the variance of a feature that does not vary.
_REG_COVAR = 1e-6


@partial(
    made_by_names,
    advice=" Those of a method are in its settings: method=EM(restarts=..., max_iterations=..., "
    "tolerance=...).",
)
class StanGaussianMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """Gaussian mixture with the interface of ``sklearn.mixture.GaussianMixture``.

    Every method of stangmm fits it; `fit_` is the whole result. Where a method gives draws,
    predictions are averaged over them, and `weights_`, `means_` and `covariances_` are their means.

    Parameters
    ----------
    n_components : int
        K, at least 1.
    covariance_type : str
        What the components' covariance matrices share: "full", "tied", "tied_correlation", "diag",
        "tied_diag", "spherical" or "tied_spherical", or mclust's letters for it; for EM also VEI,
        EVI, VEE, EVV, EEV and VEV.
    priors : Priors, optional
        As in `GaussianMixture`; "em" does not use them.
    method : str or Method
        "em", "optimize", "advi", "nuts", or settings such as ``NUTS(draws=2000)``. The default is
        EM, because pipelines and searches over a grid fit many times: it takes milliseconds, the
        same random state gives the same answer, and it needs no CmdStan.
    relabel : {"stephens", "ecr", "means"} or None
        How the components' labels are settled after sampling; see `Fit.relabel`.
    noise : bool or float
        Whether there is a uniform component besides, or its volume, as in `GaussianMixture`. Its
        rows have the label -1, as scikit-learn's clusterers call noise.
    random_state : int, RandomState or None
        An integer is the ``seed`` of `GaussianMixture.fit`, for sorted rows; otherwise a seed is
        drawn, as everywhere in scikit-learn.
    progress : bool
        Whether to show progress when it takes longer than a second, on standard error.

    Attributes
    ----------
    weights_ : ndarray, shape (K,)
        With noise they sum to what it leaves; `fit_.noise_weight` is its weight.
    means_ : ndarray, shape (K, D)
    covariances_ : ndarray
        Shape (K, D, D) for "full", "tied_correlation", VEE, EVV, EEV and VEV, (D, D) for "tied",
        (K, D) for "diag", VEI and EVI, (D,) for "tied_diag", (K,) for "spherical", () for
        "tied_spherical".
    precisions_ : ndarray
        Inverses of ``covariances_``, same shape.
    precisions_cholesky_ : ndarray
        Upper triangular factors U with precision U U', same shape; without correlations the
        inverse standard deviations.
    converged_ : bool
        Whether no check of the computation failed (``fit_.diagnose().computation``).
    n_iter_ : int or None
        Iterations of EM in its best run; None for other methods.
    lower_bound_ : float
        Log likelihood of the data per unit of sample weight, averaged over the draws.
    regularized_ : bool
        Whether the likelihood has no maximum: EM needed the prior of `EM.regularized`, or a feature
        does not vary.
    fit_ : Fit
        The fit itself: posterior, diagnostics, pictures, report. It holds the data sorted,
        equal rows merged into one with a weight, without the features that do not vary.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (D,)
        Only where the columns of X have names.

    Examples
    --------
    >>> import stangmm as sg
    >>> from stangmm.sklearn import StanGaussianMixture
    >>> mixture = StanGaussianMixture(2, random_state=1).fit(sg.datasets.faithful())
    >>> print(f"{272 * mixture.lower_bound_:.3f}")
    -1130.264
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceType | MclustName = "full",
        priors: Priors | None = None,
        method: MethodName | Method = "em",
        relabel: Relabelling | None = "stephens",
        noise: bool | float = False,
        random_state: int | np.random.RandomState | None = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.priors = priors
        self.method = method
        self.relabel = relabel
        self.noise = noise
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StanGaussianMixture:
        """Fit the mixture.

        Equal rows are fitted as one, with its number as weight, in sorted order: the answer is the
        same for a row of weight 3 and for three rows, wherever they stand.

        Where the likelihood has no maximum (in every restart a component shrinks onto a few rows,
        or features determine one another), EM gives the estimate of `EM.regularized` instead; so it
        does where rows lie so far out that they are components of their own, beside the groups.
        Features that do not vary get scikit-learn's variance of 1e-6 (with "spherical", beside the
        others'); they do not tell components apart.

        Parameters
        ----------
        X : array-like, shape (N, D)
        y : ignored
        sample_weight : array-like, shape (N,), optional
            How often each row counts: a row of weight 3 is three rows.

        Returns
        -------
        StanGaussianMixture
            The estimator itself.

        Raises
        ------
        ValueError
            The data or the parameters cannot be used; `DataError` and `ModelError` are ValueErrors.
        InferenceError
            A method other than EM failed.

        Warns
        -----
        ConvergenceWarning
            A check of the computation failed, or the likelihood has no maximum. Only
            ``fit_.diagnose()`` says when the mixture does not describe the data.
        """
        priors = self.priors or Priors()
        model = GaussianMixture(self.n_components, self.covariance_type, priors, self.noise)
        settings = as_method(self.method)
        x = self._validated(X, ensure_min_samples=2)
        x, sample_weight = _distinct(x, sample_weight)
        self._fixed = _Fixed.of(x)
        table: Any = self._fixed.without(x)
        if hasattr(self, "feature_names_in_"):
            import pandas as pd

            table = pd.DataFrame(table, columns=self.feature_names_in_[~self._fixed.features])
        run = Run(self._seed(), self.progress)
        no_maximum: Exception | str | None = self._fixed.words()
        try:
            with warnings.catch_warnings():
                # A search over K goes through models that do not describe the data.
                warnings.simplefilter("ignore", MisfitWarning)
                self.fit_ = model.fit(
                    table,
                    settings,
                    seed=run.seed,
                    sample_weight=sample_weight,
                    relabel=self.relabel,
                    progress=run.show_progress,
                )
        except DataError as error:
            if not isinstance(settings, EM):
                raise
            no_maximum = error
            self.fit_ = self._regularized_fit(model, table, settings, sample_weight, run)
        if no_maximum is not None:
            warnings.warn(
                f"The likelihood has no maximum, so covariances were regularized. {no_maximum}",
                ConvergenceWarning,
                stacklevel=2,
            )
        elif isinstance(settings, EM):
            self.fit_ = self._with_rows_far_out_apart(model, settings, run)
        info = self.fit_.info
        of_fit = isinstance(info, RestartInfo) and info.regularized
        self.regularized_ = of_fit or no_maximum is not None
        self._describe(self.fit_)
        return self

    def _with_rows_far_out_apart(self, model: GaussianMixture, settings: EM, run: Run) -> Fit:
        """The fit, or the regularized one where that alone is right about rows far out."""
        fit = self.fit_
        if not isinstance(fit.info, RestartInfo) or fit.info.regularized:
            return fit
        problem = regularized_problem(fit.dataset, model.n_components, model.structure, model.noise)
        if not EMSpace(problem).has_few_rows_far_out:
            return fit
        other = self._regularized_fit(
            model, fit.dataset.x, settings, fit.dataset.sample_weight, run
        )
        mixtures = (problem.from_user_units(each.mixture.reshape()) for each in (other, fit))
        return other if sets_rows_far_out_apart(problem, *mixtures) else fit

    def _regularized_fit(
        self, model: GaussianMixture, X: Any, settings: EM, sample_weight: Any, run: Run
    ) -> Fit:
        """`GaussianMixture.fit` by `RegularizedEM`; what else is wrong with the data is raised."""
        dataset = Dataset.from_input(X, sample_weight)
        dataset.check_components(model.n_components)
        problem = regularized_problem(dataset, model.n_components, model.structure, model.noise)
        regularized = RegularizedEM(**asdict(settings))
        relabel = checked_relabelling(self.relabel)
        return fitted(Fit, model, dataset, regularized, run, relabel=relabel, problem=problem)

    def _describe(self, fit: Fit) -> None:
        structure = fit.model.structure
        self.weights_ = fit.weights
        self.means_ = self._fixed.beside(fit.means)
        own = fit.covariances
        own = own if structure.one_scale else self._fixed.beside_covariances(own)
        self.covariances_ = structure.compact(own)
        if structure.correlated:
            inverse = np.tril(np.linalg.inv(np.linalg.cholesky(self.covariances_)))
            self.precisions_cholesky_ = np.swapaxes(inverse, -1, -2)
            self.precisions_ = self.precisions_cholesky_ @ inverse
        else:
            self.precisions_cholesky_ = 1.0 / np.sqrt(self.covariances_)
            self.precisions_ = self.precisions_cholesky_**2
        path = fit.info.best.path if isinstance(fit.info, RestartInfo) else ()
        self.n_iter_ = len(path) or None
        self.converged_ = not fit.diagnose().computation.failed
        self.lower_bound_ = float(fit.total_log_likelihood.mean() / fit.dataset.total_weight)
        self.lower_bound_ += float(self._fixed.log_density(self._fixed.values[np.newaxis])[0])

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> IntArray:
        """Fit, and give the most probable component (0 to K-1; -1: noise) of each row, (N,)."""
        return self.fit(X, sample_weight=sample_weight).predict(X)

    def predict(self, X: Any) -> IntArray:
        """Most probable component (0 to K-1; -1: noise) of each row, shape (N,)."""
        x = self._rows(X)
        return np.asarray(self.fit_.predict(self._fixed.without(x), progress=False))

    def predict_proba(self, X: Any) -> FloatArray:
        """Probability of each component for each row, averaged over the draws, shape (N, K).

        With noise there is one column more, the last.
        """
        x = self._rows(X)
        return np.asarray(self.fit_.predict_proba(self._fixed.without(x), progress=False))

    def score_samples(self, X: Any) -> FloatArray:
        """Log predictive density of each row, shape (N,)."""
        x = self._rows(X)
        own = self.fit_.log_density(self._fixed.without(x), progress=False)
        return np.asarray(own + self._fixed.log_density(x))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log predictive density of the rows: what a search over a grid maximizes."""
        return float(np.average(self.score_samples(X), weights=sample_weight))

    def sample(self, n_samples: int = 1) -> tuple[FloatArray, IntArray]:
        """Draw new observations.

        Returns
        -------
        X : ndarray, shape (n_samples, D)
            In random order; scikit-learn sorts them by component.
        y : ndarray of int, shape (n_samples,)
            The component that each came from; -1: noise.
        """
        check_is_fitted(self)
        seed = self._seed()
        x, component = self.fit_.sample(n_samples, seed)
        return self._fixed.beside(x, np.random.default_rng(seed)), component

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Bayesian information criterion on X at the best draw, lower is better.

        Schwarz 1978 (doi:10.1214/aos/1176344136); meant for maximum likelihood. A row of weight 3
        is three rows.
        """
        x, weight = self._weighted(X, sample_weight)
        total = len(x) if weight is None else weight.sum()
        return self._deviance(x, weight) + float(np.log(total)) * self._n_parameters()

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike's information criterion on X at the best draw, lower is better.

        Akaike 1974 (doi:10.1109/TAC.1974.1100705); meant for maximum likelihood. A row of weight 3
        is three rows.
        """
        return self._deviance(*self._weighted(X, sample_weight)) + 2.0 * self._n_parameters()

    def _weighted(self, X: Any, sample_weight: Any) -> tuple[FloatArray, FloatArray | None]:
        x = self._rows(X)
        return x, None if sample_weight is None else as_sample_weight(sample_weight, len(x))

    def _deviance(self, x: FloatArray, weight: FloatArray | None) -> float:
        best = int(np.argmax(self.fit_.total_log_likelihood))
        mixture = self.fit_.mixture[best : best + 1]
        own = float(log_likelihood(mixture, self._fixed.without(x), weight).item())
        fixed = self._fixed.log_density(x)
        return -2.0 * (own + float(fixed.sum() if weight is None else weight @ fixed))

    def _n_parameters(self) -> int:
        return self.fit_.model.n_parameters(self.fit_.dataset.n_features)

    def _rows(self, X: Any) -> FloatArray:
        check_is_fitted(self)
        return self._validated(X, reset=False)

    def _validated(self, X: Any, **options: Any) -> FloatArray:
        """What scikit-learn makes of X; missing values get words of our own."""
        if isinstance(X, np.ma.MaskedArray):  # scikit-learn would ignore the mask
            X = np.ma.filled(X.astype(np.float64), np.nan)
        try:
            x: FloatArray = validate_data(self, X, dtype=np.float64, **options)
        except ValueError as error:
            if "contains NaN" not in str(error):
                raise
            raise DataError(
                "Input X contains NaN or masked values, which scikit-learn's interface does not "
                'take. stangmm.GaussianMixture(...).fit(X, missing="marginalize") does; or impute '
                "them first, as by fit.impute(X)."
            ) from error
        return x

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return checked_seed(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))


@dataclass(frozen=True)
class _Fixed:
    """Features that have one value in all rows: left out of the mixture, and put back beside it.

    Attributes
    ----------
    features : ndarray of bool, shape (D,)
        Which.
    values : ndarray, shape (D,)
        Of the first row.
    """

    features: BoolArray
    values: FloatArray

    @classmethod
    def of(cls, x: FloatArray) -> _Fixed:
        """Those of rows (N, D); none where no feature varies, since then there is no mixture."""
        same = np.asarray(x.min(axis=0) == x.max(axis=0))
        return cls(same & ~same.all(), x[0])

    def words(self) -> str | None:
        """Say which, None if there are none."""
        index = np.flatnonzero(self.features).tolist()
        return f"Features {index} do not vary." if index else None

    def without(self, x: FloatArray) -> FloatArray:
        """Columns that vary."""
        return x[:, ~self.features]

    def log_density(self, x: FloatArray) -> FloatArray:
        """Of the other columns, shape (N,)."""
        at = self.features
        each = np.asarray(norm.logpdf(x[:, at], self.values[at], np.sqrt(_REG_COVAR)))
        return np.asarray(each.sum(axis=1))

    def beside(self, varying: FloatArray, rng: np.random.Generator | None = None) -> FloatArray:
        """Rows (M, D) from those of the columns that vary; with ``rng``, drawn ones."""
        rows = np.tile(self.values, (len(varying), 1))
        if rng is not None:
            rows += np.sqrt(_REG_COVAR) * rng.normal(size=rows.shape)
        rows[:, ~self.features] = varying
        return rows

    def beside_covariances(self, varying: FloatArray) -> FloatArray:
        """Covariances (K, D, D) from those of the columns that vary."""
        own = np.flatnonzero(~self.features)
        covariances = np.zeros((len(varying), len(self.features), len(self.features)))
        covariances[:] = np.diag(np.where(self.features, _REG_COVAR, 0.0))
        covariances[:, own[:, np.newaxis], own] = varying
        return covariances


def _distinct(x: FloatArray, sample_weight: Any) -> tuple[FloatArray, FloatArray | None]:
    """Rows that differ, sorted, with how often they count; None if each counts once."""
    weight = np.ones(len(x)) if sample_weight is None else as_sample_weight(sample_weight, len(x))
    counts = weight > 0
    rows, member = np.unique(x[counts], axis=0, return_inverse=True)
    total = np.bincount(member.ravel(), weights=weight[counts]).astype(np.float64)
    return rows, None if (total == 1.0).all() else total
