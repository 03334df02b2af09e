"""The mixture as a scikit-learn estimator: `StanGaussianMixture`, with the names users know.

scikit-learn is an optional dependency: nothing else in stangmm imports this module.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict
from numbers import Integral
from typing import Any

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.errors import ConvergenceWarning, DataError, InferenceError, MisfitWarning
from stangmm.data.dataset import Dataset, as_sample_weight
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.methods import EM, Method, MethodName, as_method
from stangmm.methods.base import Run
from stangmm.methods.draws import RestartInfo
from stangmm.methods.em.regularized import RegularizedEM, regularized_problem
from stangmm.model.covariance import CovarianceType
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


class StanGaussianMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """Gaussian mixture with the interface of ``sklearn.mixture.GaussianMixture``.

    Every method of stangmm fits it; `fit_` is the whole result. Where a method gives draws,
    predictions are averaged over them, and `weights_`, `means_` and `covariances_` are their means.

    Parameters
    ----------
    n_components : int
        K, at least 1.
    covariance_type : {"full", "tied", "diag", "spherical"}
        What the components' covariance matrices share.
    priors : Priors, optional
        As in `GaussianMixture`; "em" does not use them.
    method : str or Method
        "em", "optimize", "advi", "nuts", or settings such as ``NUTS(draws=2000)``. The default is
        EM, because pipelines and searches over a grid fit many times: it takes milliseconds, the
        same random state gives the same answer, and it needs no CmdStan.
    relabel : {"stephens", "ecr", "means"} or None
        How the components' labels are settled after sampling; see `Fit.relabel`.
    random_state : int, RandomState or None
        An integer is the ``seed`` of `GaussianMixture.fit`, for sorted rows; otherwise a seed is
        drawn, as everywhere in scikit-learn.
    progress : bool
        Whether work of more than a second shows how far it is, on standard error.

    Attributes
    ----------
    weights_ : ndarray, shape (K,)
    means_ : ndarray, shape (K, D)
    covariances_ : ndarray
        Shape (K, D, D) for "full", (D, D) for "tied", (K, D) for "diag", (K,) for "spherical".
    precisions_ : ndarray
        Inverses of ``covariances_``, same shape.
    precisions_cholesky_ : ndarray
        Upper triangular factors U with precision U U', same shape; for "diag" and "spherical" the
        inverse standard deviations.
    converged_ : bool
        Whether no check of the computation failed (``fit_.diagnose().computation``).
    n_iter_ : int or None
        Iterations of EM in its best run; None for other methods.
    lower_bound_ : float
        Log likelihood of the data for each unit of sample weight, averaged over the draws.
    regularized_ : bool
        Whether EM needed the prior of `RegularizedEM`, because the likelihood has no maximum.
    fit_ : Fit
        The fit itself: posterior, diagnostics, pictures, report. It holds the data, sorted, equal
        rows as one with its weight.
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
        covariance_type: CovarianceType = "full",
        priors: Priors | None = None,
        method: MethodName | Method = "em",
        relabel: Relabelling | None = "stephens",
        random_state: int | np.random.RandomState | None = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.priors = priors
        self.method = method
        self.relabel = relabel
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StanGaussianMixture:
        """Fit the mixture.

        Equal rows are fitted as one, with its number as weight, in sorted order: the answer is the
        same for a row of weight 3 and for three rows, wherever they stand.

        Where the likelihood has no maximum (in every restart a component shrinks onto a few rows,
        or features determine one another), EM gives the estimate of `RegularizedEM` instead.

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
            The data or the parameters cannot be used; `DataError` and `ModelError` are such.
        InferenceError
            A method other than EM failed.

        Warns
        -----
        ConvergenceWarning
            A check of the computation failed, or the likelihood has no maximum. That the mixture
            does not describe the data is said by ``fit_.diagnose()`` only.
        """
        model = GaussianMixture(self.n_components, self.covariance_type, self.priors or Priors())
        settings = as_method(self.method)
        x = self._validated(X, ensure_min_samples=2)
        x, sample_weight = _distinct(x, sample_weight)
        table: Any = x
        if hasattr(self, "feature_names_in_"):
            import pandas as pd

            table = pd.DataFrame(x, columns=self.feature_names_in_)
        run = Run(self._seed(), self.progress)
        no_maximum: Exception | None = None
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
        except (DataError, InferenceError) as error:
            if not isinstance(settings, EM):
                raise
            no_maximum = error
        self.regularized_ = no_maximum is not None
        if isinstance(settings, EM) and no_maximum is not None:
            self.fit_ = self._regularized_fit(model, table, settings, sample_weight, run)
            warnings.warn(
                f"The likelihood has no maximum, so covariances were regularized. {no_maximum}",
                ConvergenceWarning,
                stacklevel=2,
            )
        self._describe(self.fit_)
        return self

    def _regularized_fit(
        self, model: GaussianMixture, X: Any, settings: EM, sample_weight: Any, run: Run
    ) -> Fit:
        """`GaussianMixture.fit` by `RegularizedEM`; what else is wrong with the data is raised."""
        dataset = Dataset.from_input(X, sample_weight)
        dataset.check_components(model.n_components)
        problem = regularized_problem(dataset, model.n_components, model.structure)
        regularized = RegularizedEM(**asdict(settings))
        relabel = checked_relabelling(self.relabel)
        return fitted(Fit, model, dataset, regularized, run, relabel=relabel, problem=problem)

    def _describe(self, fit: Fit) -> None:
        structure = fit.model.structure
        self.weights_ = fit.weights
        self.means_ = fit.means
        self.covariances_ = structure.compact(fit.covariances)
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

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> IntArray:
        """Fit, and give the most probable component (0 to K-1) of each row, shape (N,)."""
        return self.fit(X, sample_weight=sample_weight).predict(X)

    def predict(self, X: Any) -> IntArray:
        """Most probable component (0 to K-1) of each row, shape (N,)."""
        x = self._rows(X)
        return np.asarray(self.fit_.predict(x, progress=False))

    def predict_proba(self, X: Any) -> FloatArray:
        """Probability of each component for each row, averaged over the draws, shape (N, K)."""
        x = self._rows(X)
        return np.asarray(self.fit_.predict_proba(x, progress=False))

    def score_samples(self, X: Any) -> FloatArray:
        """Log predictive density of each row, shape (N,)."""
        x = self._rows(X)
        return np.asarray(self.fit_.log_density(x, progress=False))

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
            The component that each came from.
        """
        check_is_fitted(self)
        return self.fit_.sample(n_samples, self._seed())

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
        return -2.0 * float(log_likelihood(self.fit_.mixture[best : best + 1], x, weight).item())

    def _n_parameters(self) -> int:
        return self.fit_.model.n_parameters(self.n_features_in_)

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


def _distinct(x: FloatArray, sample_weight: Any) -> tuple[FloatArray, FloatArray | None]:
    """Rows that differ, sorted, with how often they count; None if each counts once."""
    weight = np.ones(len(x)) if sample_weight is None else as_sample_weight(sample_weight, len(x))
    counts = weight > 0
    rows, member = np.unique(x[counts], axis=0, return_inverse=True)
    total = np.bincount(member.ravel(), weights=weight[counts]).astype(np.float64)
    return rows, None if (total == 1.0).all() else total
