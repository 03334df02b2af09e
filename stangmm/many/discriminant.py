"""Discriminant analysis: a mixture for each known class, and Bayes' rule for new rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_count, check_positive, random_generator, seed_at, shown
from stangmm.base.errors import ConvergenceWarning, DataError, ModelError
from stangmm.base.names import checks_names, made_by_names
from stangmm.base.progress import progress_bar
from stangmm.base.tasks import Workers, run_tasks
from stangmm.data.dataset import Dataset, Missing, as_new_rows
from stangmm.data.frames import like
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.many.mending import left_out_because
from stangmm.methods import Method, MethodName, as_method
from stangmm.methods.base import Run
from stangmm.model.covariance import CovarianceType, MclustName, structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.priors import Priors
from stangmm.posterior.fitting import checked_seed, fitted
from stangmm.predict import averages as predict
from stangmm.predict.averages import Band

if TYPE_CHECKING:
    import pandas as pd


@made_by_names
@dataclass(frozen=True)
class DiscriminantAnalysis:
    """Classification by a Gaussian mixture for each class, and Bayes' rule.

    With one component for each class it is one mixture whose components are the classes (EDDA:
    Bensmail & Celeux 1996, doi:10.1080/01621459.1996.10476746), so that a covariance type that
    components share is shared by the classes: "full" is quadratic discriminant analysis, "tied"
    linear discriminant analysis. With more, each class has a mixture of its own (MclustDA: Fraley &
    Raftery 2002, doi:10.1198/016214502760047131).

    Parameters
    ----------
    n_components : int or mapping of class to int
        Components of each class.
    covariance_type : str
        As for `GaussianMixture`.
    priors : Priors, optional
        As for `GaussianMixture`; of each mixture.

    Examples
    --------
    >>> import stangmm as sg
    >>> eruptions = sg.datasets.faithful()
    >>> long = eruptions["eruption_min"] > 3
    >>> fit = sg.DiscriminantAnalysis().fit(eruptions[["waiting_min"]], long, method="em", seed=1)
    >>> print(fit.predict_proba([[60.0], [68.0]]).round(2))
    [[0.99 0.01]
     [0.22 0.78]]
    """

    n_components: int | Mapping[Any, int] = 1
    covariance_type: CovarianceType | MclustName = "full"
    priors: Priors = field(default_factory=Priors)

    def __post_init__(self) -> None:
        each = self.n_components
        for k in each.values() if isinstance(each, Mapping) else [each]:
            GaussianMixture(k, self.covariance_type, self.priors)  # raises what is to be raised

    @checks_names
    def fit(
        self,
        X: Any,
        y: Any,
        method: MethodName | Method = "nuts",
        *,
        seed: int | None = None,
        missing: Missing = "error",
        progress: bool = True,
    ) -> DiscriminantFit:
        """Fit the mixtures to rows of known class.

        Parameters
        ----------
        X : array, DataFrame or Series, shape (N, D) or (N,)
        y : array or Series, shape (N,)
            The class of each row: numbers or text. With some unknown,
            ``GaussianMixture.fit(X, labels=...)`` is what you want.
        method : str or Method
            As for `GaussianMixture.fit`.
        seed : int, optional
        missing : {"error", "marginalize"}
            As for `GaussianMixture.fit`.
        progress : bool

        Returns
        -------
        DiscriminantFit

        Raises
        ------
        DataError, ModelError, CmdStanNotFoundError, CompileError, InferenceError
            As `GaussianMixture.fit`; and for classes that are missing, continuous numbers, fewer
            than two, not those that ``n_components`` names, or of too few rows for their covariance
            by EM.

        Warns
        -----
        ConvergenceWarning, MisfitWarning
            As `GaussianMixture.fit`, of each mixture.
        """
        dataset = Dataset.from_input(X, missing=missing).in_memory()
        classes, codes = _classes(y, dataset.n_observations)
        counts = self._counts(classes)
        settings, seed = as_method(method), checked_seed(seed)
        self._check_rows(np.bincount(codes), dataset.n_features, settings, counts, classes)
        parts = self._parts(dataset, codes, counts, classes)
        workers = Workers.of(len(parts), settings.processors)
        settings.prepare(Run(seed, progress))
        shown_here = progress and len(parts) == 1
        order = sorted(range(len(parts)), key=lambda c: -len(parts[c][1].x))  # the longest first
        tasks = [
            (*parts[c], settings, Run(seed_at(seed, c), shown_here, workers.processors))
            for c in order
        ]
        advance = progress_bar("classes", len(parts), shown=progress and len(parts) > 1)
        of_class: dict[int, Fit] = {}
        for i, made in run_tasks(_fit_of, None, tasks, workers):
            of_class[order[i]] = made
            advance(1)
        fits = tuple(of_class[c] for c in range(len(parts)))
        for i, fit in enumerate(fits):
            of = f"class {shown(classes.tolist()[i])}: " if len(fits) > 1 else ""
            for check in fit.diagnose().serious:
                warnings.warn(of + str(check), check.warning, stacklevel=3)
        return DiscriminantFit(self, classes, np.bincount(codes), fits, seed)

    @checks_names
    def cross_validate(
        self,
        X: Any,
        y: Any,
        folds: int = 10,
        *,
        method: MethodName | Method = "em",
        seed: int | None = None,
        missing: Missing = "error",
        progress: bool = True,
    ) -> CrossValidation:
        """Predict each row's class from fits to other rows: how often new rows would be wrong.

        Rows are divided at random into folds, each class evenly, and the rows of each fold are
        predicted by a fit to all others.

        Parameters
        ----------
        X, y, missing
            As for `fit`.
        folds : int
            From 2 to N; N leaves out one row at a time.
        method : str or Method
            As for `fit`; EM by default, since there are as many fits as folds.
        seed : int, optional
            Of the folds and of the fits.
        progress : bool
            Whether to show progress when it takes longer than a second.

        Returns
        -------
        CrossValidation

        Raises
        ------
        DataError, ModelError, CmdStanNotFoundError, CompileError, InferenceError
            As `fit`, of the rows beside each fold; also for a class of one row.

        Warns
        -----
        ConvergenceWarning
            Fits by a method that gives draws failed their checks.
        """
        dataset = Dataset.from_input(X, missing=missing).in_memory()
        n = dataset.n_observations
        classes, codes = _classes(y, n)
        counts = self._counts(classes)
        check_count("folds", folds, minimum=2, most=n)
        if (single := np.bincount(codes) == 1).any():
            raise DataError(
                f"Class {shown(classes[single].tolist()[0])} has only one row, so none remains "
                f"when it is left out. Every class must have at least two rows."
            )
        settings, seed = as_method(method), checked_seed(seed)
        fold = _folds(codes, folds, random_generator(seed))
        left = np.min([np.bincount(codes[fold != i]) for i in range(folds)], axis=0)
        self._check_rows(left, dataset.n_features, settings, counts, classes, "beside a fold ")
        settings.prepare(Run(seed, progress))
        workers = Workers.of(folds, settings.processors)
        run = Run(seed, processors=workers.processors)
        tasks = [(self, codes, counts, classes, fold == i, settings, run) for i in range(folds)]
        probability = np.empty((n, len(classes)))
        failed = 0
        advance = progress_bar("folds", folds, shown=progress)
        for i, (of_rows, has_failed) in run_tasks(_fold_predicted, dataset, tasks, workers):
            probability[fold == i] = of_rows
            failed += has_failed
            advance(1)
        if failed:
            warnings.warn(
                f"{failed} of {folds} folds have fits that failed their checks, so the error may "
                f"be overestimated. Fit all rows to see which checks fail, and use longer runs.",
                ConvergenceWarning,
                stacklevel=3,  # beyond the check of names
            )
        return CrossValidation(classes, codes, probability, fold, settings.name, seed)

    def _counts(self, classes: NDArray[Any]) -> list[int]:
        """Components of each class."""
        if not isinstance(self.n_components, Mapping):
            return [self.n_components] * len(classes)
        if set(self.n_components) != set(classes.tolist()):
            raise ModelError(
                f"n_components must have a number for each class, {classes.tolist()}, got "
                f"{shown(dict(self.n_components))}."
            )
        return [self.n_components[c] for c in classes.tolist()]

    def _check_rows(
        self,
        rows: IntArray,
        n_features: int,
        settings: Method,
        counts: list[int],
        classes: NDArray[Any],
        where: str = "",
    ) -> None:
        """Raise DataError for a class whose rows are too few for EM of one mixture of classes."""
        structure = structure_named(self.covariance_type)
        needed = math.ceil(structure.min_rows(n_features))
        few = np.flatnonzero(rows < needed)
        if len(few) and settings.name == "em" and max(counts) == 1:
            c = int(few[0])
            raise DataError(
                f"Class {shown(classes.tolist()[c])} has {where}only {rows[c]} "
                f"row{'' if rows[c] == 1 else 's'}, but {needed} are needed to estimate "
                f'"{structure.name}" covariances of {n_features} features by EM. Leave the '
                'class out, let the classes share one covariance (covariance_type="tied"), or use '
                'method="nuts", whose priors allow small classes.'
            )

    def _parts(
        self, dataset: Dataset, codes: IntArray, counts: list[int], classes: NDArray[Any]
    ) -> list[tuple[GaussianMixture, Dataset]]:
        """What is to be fitted to what: one mixture of all classes, or one for each."""
        if max(counts) == 1:
            model = GaussianMixture(len(counts), self.covariance_type, self.priors)
            return [(model, _rows(dataset, np.full(len(codes), True), codes))]
        parts = []
        for c, k in enumerate(counts):
            try:
                part = _rows(dataset, codes == c)
            except DataError as error:
                raise DataError(f"Class {shown(classes.tolist()[c])}: {error}") from error
            parts.append((GaussianMixture(k, self.covariance_type, self.priors), part))
        return parts


@dataclass(frozen=True, eq=False, repr=False)
class DiscriminantFit:
    """Fitted classes, which predict those of new rows; made by `DiscriminantAnalysis.fit`.

    Attributes
    ----------
    model : DiscriminantAnalysis
    classes : ndarray, shape (C,)
        The classes in ascending order.
    counts : ndarray of int, shape (C,)
        Rows of each.
    fits : tuple of Fit
        A single one, whose components are the classes, where each has one component; else one for
        each class. Each can be diagnosed, drawn and saved.
    seed : int

    Examples
    --------
    >>> import stangmm as sg
    >>> eruptions = sg.datasets.faithful()
    >>> kind = ["long" if minutes > 3 else "short" for minutes in eruptions["eruption_min"]]
    >>> fit = sg.DiscriminantAnalysis().fit(eruptions[["waiting_min"]], kind, method="em", seed=1)
    >>> print(fit.predict([[55.0], [80.0]]), fit.fits[0].means.ravel().round(1))
    ['short' 'long'] [80.  54.5]
    """

    model: DiscriminantAnalysis
    classes: NDArray[Any]
    counts: IntArray
    fits: tuple[Fit, ...]
    seed: int

    def predict(self, X: Any, *, progress: bool = True) -> Any:
        """Most probable class of each row.

        Parameters
        ----------
        X : array, DataFrame or DataArray, shape (N, D)
            With the features of the fit.
        progress : bool

        Returns
        -------
        ndarray, or Series "class", shape (N,)

        Raises
        ------
        DataError
            The rows do not fit.
        """
        best = self._probabilities(self._ready(X), progress=progress).argmax(axis=1)
        return like(X, self.classes[best], "class")

    def predict_proba(self, X: Any, *, interval: float | None = None, progress: bool = True) -> Any:
        """Probability of each class for each row: posterior mean, and on request bounds.

        Parameters
        ----------
        X : array, DataFrame or DataArray, shape (N, D)
            With the features of the fit.
        interval : float in (0, 1), optional
            Also give the equal-tailed bounds that contain this share of the draws; NaN for a point
            estimate, which does not know them.
        progress : bool

        Returns
        -------
        ndarray or DataFrame, shape (N, C)
            Posterior means, which sum to 1; the columns are ``classes``.
        Band
            With ``interval``: ``mean``, ``lower`` and ``upper``, each of that form.

        Raises
        ------
        DataError
            The rows do not fit.
        ModelError
            ``interval`` is not between 0 and 1.
        """
        x = self._ready(X)
        if interval is None:
            return self._named(X, self._probabilities(x, progress=progress))
        check_positive("interval", interval, below=1.0)
        band = predict.class_band(self._mixture, x, self._starts, interval, progress=progress)
        return Band(*(self._named(X, each) for each in band))

    def _probabilities(self, x: FloatArray, *, progress: bool = False) -> FloatArray:
        """Posterior mean of the probability of each class, shape (N, C), for checked rows."""
        return predict.class_probabilities(self._mixture, x, self._starts, progress=progress)

    def _ready(self, X: Any) -> FloatArray:
        return as_new_rows(X, self.fits[0].dataset)

    def _named(self, X: Any, values: FloatArray) -> Any:
        out = like(X, values, "probability", "class")
        if hasattr(out, "set_axis"):  # of pandas
            return out.set_axis(list(self.classes), axis="columns").rename_axis(columns="class")
        return out

    @cached_property
    def _starts(self) -> IntArray:
        """The first component of each class."""
        if len(self.fits) == 1:
            return np.arange(len(self.classes))
        return np.cumsum([0, *(fit.model.n_components for fit in self.fits[:-1])])

    @cached_property
    def _mixture(self) -> Mixture:
        """One mixture of the components of all classes, batch of shape (S,).

        Where each class has a fit of its own, their draws are independent, and so are those of the
        classes' shares: Dirichlet, with a uniform prior. Point estimates have the shares of rows.
        """
        if len(self.fits) == 1:
            return self.fits[0].mixture
        n_draws = min(len(fit.mixture.weights) for fit in self.fits)
        each = [predict.thinned(fit.mixture, n_draws) for fit in self.fits]
        if self.fits[0].kind == "point":
            shares = (self.counts / self.counts.sum())[np.newaxis]
        else:
            shares = np.random.default_rng(self.seed).dirichlet(self.counts + 1.0, n_draws)
        factors = [one.corr_chol for one in each if one.corr_chol is not None]
        return Mixture(
            np.concatenate(
                [s[:, np.newaxis] * one.weights for s, one in zip(shares.T, each, strict=True)],
                axis=1,
            ),
            np.concatenate([one.means for one in each], axis=1),
            np.concatenate([one.scales for one in each], axis=1),
            np.concatenate(factors, axis=1) if factors else None,
        )

    def __repr__(self) -> str:
        rows = ", ".join(f"{c}: {n}" for c, n in zip(self.classes, self.counts, strict=True))
        return f"{type(self).__name__} of {self.model!r} by {self.fits[0].method}; rows {rows}"


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """Classes predicted from other rows; made by `DiscriminantAnalysis.cross_validate`.

    Attributes
    ----------
    classes : ndarray, shape (C,)
    codes : ndarray of int, shape (N,)
        The true class of each row, as its number among ``classes``.
    probability : ndarray, shape (N, C)
        Of each class, from a fit to the rows of the other folds.
    fold : ndarray of int, shape (N,)
        The fold that each row was in.
    method : str
    seed : int

    Examples
    --------
    >>> import stangmm as sg
    >>> eruptions = sg.datasets.faithful()
    >>> long = eruptions["eruption_min"] > 3
    >>> waiting = eruptions[["waiting_min"]]
    >>> tried = sg.DiscriminantAnalysis().cross_validate(waiting, long, seed=1)
    >>> print(f"{tried.error:.3f}")
    0.022
    """

    classes: NDArray[Any]
    codes: IntArray
    probability: FloatArray
    fold: IntArray
    method: str
    seed: int

    @property
    def predicted(self) -> NDArray[Any]:
        """Most probable class of each row, shape (N,)."""
        return np.asarray(self.classes[self.probability.argmax(axis=1)])

    @property
    def error(self) -> float:
        """Share of the rows that were predicted wrongly."""
        return float((self.probability.argmax(axis=1) != self.codes).mean())

    @property
    def standard_error(self) -> float:
        """Of ``error``, as of a share of N independent rows."""
        return float(np.sqrt(self.error * (1 - self.error) / len(self.codes)))

    @property
    def brier(self) -> float:
        """Brier score: mean squared error of the probabilities, summed over the classes.

        Brier 1950 (doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2), from 0 to 2.
        """
        true = np.eye(len(self.classes))[self.codes]
        return float(np.square(self.probability - true).sum(axis=1).mean())

    @property
    def confusion(self) -> pd.DataFrame:
        """How many rows of each class (rows) were predicted as each (columns)."""
        import pandas as pd

        c = len(self.classes)
        cells = self.codes * c + self.probability.argmax(axis=1)
        return pd.DataFrame(
            np.bincount(cells, minlength=c * c).reshape(c, c),
            index=pd.Index(self.classes, name="class"),
            columns=pd.Index(self.classes, name="predicted"),
        )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}: error {self.error:.4f} (standard error "
            f"{self.standard_error:.4f}), Brier score {self.brier:.4f}, in "
            f"{self.fold.max() + 1} folds by {self.method}\n{self.confusion.to_string()}"
        )


def _classes(y: Any, n: int) -> tuple[NDArray[Any], IntArray]:
    """The classes in order (C,), and the number of each row's (N,)."""
    import pandas as pd

    values = np.asarray(y)
    if values.shape != (n,):
        raise DataError(f"y must have one class a row, shape ({n},), got {values.shape}.")
    fractions = (v for v in values.tolist() if isinstance(v, float) and v % 1.0 > 0)
    if (fraction := next(fractions, None)) is not None:
        raise DataError(
            f"y must be classes (whole numbers, text or truth values), got continuous numbers such "
            f"as {fraction:g}. Divide them into classes first."
        )
    absent = np.flatnonzero(pd.isna(values))
    if len(absent):
        raise DataError(
            f"y must have the class of every row, got none in {len(absent)} rows, the first in row "
            f"{absent[0]}. Leave these rows out, or use GaussianMixture.fit(X, labels=...)."
        )
    try:
        classes, codes = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise DataError(
            "The classes in y must all be numbers or all be text, got a mixture of types."
        ) from error
    if len(classes) < 2:
        raise DataError(f"y must have at least two classes, got only {shown(classes.tolist()[0])}.")
    return classes, codes


def _rows(dataset: Dataset, rows: NDArray[np.bool_], labels: Any = None) -> Dataset:
    """Some of the rows, checked again: a feature may be constant in them."""
    import pandas as pd

    index = None if dataset.index is None else dataset.index[rows]
    table = pd.DataFrame(dataset.x[rows], columns=list(dataset.feature_names), index=index)
    made = Dataset.from_input(table, missing=dataset.missing, labels=labels)
    return replace(made, named=dataset.named)


def _fit_of(_: None, model: GaussianMixture, part: Dataset, settings: Method, run: Run) -> Fit:
    return fitted(Fit, model, part, settings, run)


def _fold_predicted(
    dataset: Dataset,
    analysis: DiscriminantAnalysis,
    codes: IntArray,
    counts: list[int],
    classes: NDArray[Any],
    out: NDArray[np.bool_],
    settings: Method,
    run: Run,
) -> tuple[FloatArray, bool]:
    """Probabilities of the classes of some rows by the others, and whether their fits failed."""
    parts = analysis._parts(_rows(dataset, ~out), codes[~out], counts, classes)
    runs = [replace(run, seed=seed_at(run.seed, c)) for c in range(len(parts))]
    fits = tuple(fitted(Fit, *each, settings, own) for each, own in zip(parts, runs, strict=True))
    failed = settings.kind != "point" and any(left_out_because(fit) for fit in fits)
    made = DiscriminantFit(analysis, classes, np.bincount(codes[~out]), fits, run.seed)
    return made._probabilities(dataset.x[out]), failed


def _folds(codes: IntArray, folds: int, rng: np.random.Generator) -> IntArray:
    """The fold of each row: at random, each class evenly, and folds of one size."""
    order = rng.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    out = np.empty(len(codes), dtype=np.intp)
    out[order] = np.arange(len(codes)) % folds
    return out
