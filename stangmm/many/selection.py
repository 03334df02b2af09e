"""Selection: how many components, by one criterion over a grid of fits."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stangmm.base.checked import check_count
from stangmm.base.errors import ConvergenceWarning, DataError, InferenceError, ModelError
from stangmm.base.interrupt import stop_requested
from stangmm.base.progress import progress_bar
from stangmm.data.dataset import Dataset, Missing
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.judge.criteria import CRITERIA, Criterion, Score, pooled
from stangmm.methods import Method, as_method
from stangmm.methods.base import Run
from stangmm.model.covariance import structure_named
from stangmm.model.priors import Priors
from stangmm.posterior.arviz import arviz
from stangmm.posterior.fitting import checked_seed, fitted

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from stangmm.plots import SelectionPlots

# In nats: differences of elpd below this are small, whatever their standard error says.
_SMALL_DIFFERENCE = 4.0


@dataclass(frozen=True, eq=False)
class Selection:
    """Fits with several numbers of components and the choice among them; see `select_components`.

    Attributes
    ----------
    criterion : str
        "loo", "waic", "bic", "aic", "icl" or "evidence".
    dataset : Dataset
    fits : mapping of int to Fit
        By number of components; ``stack(selection.fits)`` averages them instead.
    scores : mapping of int to Score
        What the criterion says of each fit.
    failures : mapping of int to str
        Numbers of components that could not be fitted, with the reason.
    seed : int

    Examples
    --------
    >>> import stangmm as sg
    >>> choice = sg.select_components(sg.datasets.faithful(), [1, 2, 3], method="em", seed=1)
    >>> print(choice.table["bic"].round(1).to_dict())
    {1: 2607.6, 2: 2322.2, 3: 2324.2}
    """

    criterion: str
    dataset: Dataset
    fits: Mapping[int, Fit]
    scores: Mapping[int, Score]
    failures: Mapping[int, str]
    seed: int

    columns: ClassVar[tuple[str, ...]] = (
        "se",
        "difference",
        "difference_se",
        "n_parameters",
        "bad_k",
        "seconds",
        "status",
        "note",
    )

    @property
    def rule(self) -> Criterion:
        """The criterion's name, direction and formula."""
        return CRITERIA[self.criterion]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each number of components, failed ones too.

        =============  ===========================================================================
        (first)        the criterion: elpd_loo, elpd_waic, log_evidence (higher is better), bic,
                       aic, icl (lower is better); ``table.attrs`` says which
        se             its standard error, where it has one
        difference     to the best value: never positive where higher is better, else never negative
        difference_se  standard error of the difference: from the rows' differences (loo, waic)
        n_parameters   free numbers of the model
        bad_k          rows whose Pareto k is too high (loo)
        seconds        wall time of the fit, the compilation of the model left out
        status         ok, warn, fail (see `Fit.diagnose`), or error
        note           the checks that were not passed and doubts about the value, or the error
        =============  ===========================================================================
        """
        import pandas as pd

        rows: dict[int, dict[str, Any]] = {k: self._row(k) for k in self.fits}
        for k, reason in self.failures.items():
            rows[k] = {"status": "error", "note": reason}
        table = pd.DataFrame.from_dict(
            {k: rows[k] for k in sorted(rows)},
            orient="index",
            columns=[self.rule.label, *self.columns],
        ).rename_axis("n_components")
        table = table.astype({"n_parameters": "Int64", "bad_k": "Int64"})
        table.attrs["better"] = "higher" if self.rule.higher_is_better else "lower"
        return table

    @cached_property
    def best_value(self) -> int:
        """Number of components of the best value of the criterion, whatever its error."""
        sign = 1.0 if self.rule.higher_is_better else -1.0
        return max(self.scores, key=lambda k: (sign * self.scores[k].value, -k))

    @cached_property
    def n_components(self) -> int:
        """The choice; `why` says how it was made."""
        if not self.rule.pointwise:
            return self.best_value
        return min(k for k in self.scores if self._within_one_error(k))

    @property
    def best(self) -> Fit:
        """The chosen fit."""
        return self.fits[self.n_components]

    @cached_property
    def why(self) -> str:
        """The rule and the numbers behind the choice, in words."""
        return " ".join([self._reason(), *self._reservations()])

    def difference(self, k: int) -> tuple[float, float]:
        """Value for K = k minus the best one, and the standard error of that (NaN: unknown).

        Parameters
        ----------
        k : int
            A number of components that was fitted.
        """
        own, best = self.scores[k], self.scores[self.best_value]
        if k == self.best_value:
            return 0.0, 0.0 if np.isfinite(own.standard_error) else float("nan")
        if own.pointwise is not None and best.pointwise is not None:
            return pooled(own.pointwise - best.pointwise, self.dataset.sample_weight)
        return own.value - best.value, float(np.hypot(own.standard_error, best.standard_error))

    @property
    def plot(self) -> SelectionPlots:
        """The picture: ``selection.plot.choice()``, or ``selection.plot()``."""
        from stangmm.plots import SelectionPlots

        return SelectionPlots(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the selection to a netCDF file and give its path; `stangmm.load` reads it.

        ``az.InferenceData.from_netcdf(path, base_group="K2")`` opens the fit with two components.

        Parameters
        ----------
        path : path
            A file that is there is replaced at once, when the new one is complete.

        Raises
        ------
        ModelError
            The folder does not exist, or the path is a folder.
        OSError
            The file could not be written; what was there before is as it was.
        """
        from stangmm.saving.writing import save

        return save("selection", self, {f"K{k}": fit for k, fit in self.fits.items()}, path)

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from stangmm.report.notebook import selection_html

        return selection_html(self)

    def __repr__(self) -> str:
        """Show the choice, why, and the table without its notes."""
        table = self.table.drop(columns="note").dropna(axis="columns", how="all")
        formats = {"seconds": "{:.2f}"} | dict.fromkeys(
            (self.rule.label, "se", "difference", "difference_se"), "{:.2f}"
        )
        shown = table.to_string(
            na_rep="-", formatters={c: f.format for c, f in formats.items() if c in table}
        )
        return (
            f"{type(self).__name__}: {self.n_components} components by {self.rule.label} "
            f"({self.rule.direction})\n{self.why}\n{shown}"
        )

    def _row(self, k: int) -> dict[str, Any]:
        fit, score = self.fits[k], self.scores[k]
        difference, error = self.difference(k)
        diagnosis = fit.diagnose()
        return {
            self.rule.label: score.value,
            "se": score.standard_error,
            "difference": difference,
            "difference_se": error,
            "n_parameters": fit.model.n_parameters(self.dataset.n_features),
            "bad_k": score.bad_rows,
            "seconds": fit.seconds,
            "status": diagnosis.verdict,
            "note": " ".join(
                [
                    *(str(check) for check in diagnosis if check.verdict != "ok"),
                    *([f"{self.rule.label}: {score.doubt}"] if score.doubt else []),
                ]
            ),
        }

    def _within_one_error(self, k: int) -> bool:
        difference, error = self.difference(k)
        return -difference <= error

    def _reason(self) -> str:
        label, chosen, best = self.rule.label, self.n_components, self.best_value
        value = self.scores[best].value
        extreme = "highest" if self.rule.higher_is_better else "lowest"
        others = [k for k in self.scores if k != best]
        if not others:
            return f"K = {chosen} is the only number of components that was fitted."
        if chosen != best:
            difference, error = self.difference(chosen)
            return (
                f"K = {best} has the {extreme} {label} ({value:.1f}), and K = {chosen} is the "
                f"fewest components within one standard error of it ({-difference:.1f} lower, "
                f"standard error of the difference {error:.1f}): the simplest model that the "
                "data do not tell from the best (Hastie, Tibshirani & Friedman 2009, section 7.10)."
            )
        if not self.rule.pointwise:
            second = min(others, key=lambda k: abs(self.difference(k)[0]))
            gap = abs(self.difference(second)[0])
            return (
                f"K = {best} has the {extreme} {label} ({value:.1f}); the next, K = {second}, is "
                f"{gap:.1f} worse."
            )
        fewer = [k for k in others if k < best]
        if not fewer:
            return f"K = {best} has the {extreme} {label} ({value:.1f}) and the fewest components."
        nearest = min(fewer, key=lambda k: -self.difference(k)[0])
        difference, error = self.difference(nearest)
        return (
            f"K = {best} has the {extreme} {label} ({value:.1f}), and no fewer components come "
            f"within one standard error of the difference (K = {nearest} is {-difference:.1f} "
            f"lower, standard error {error:.1f}; Hastie, Tibshirani & Friedman 2009, section 7.10)."
        )

    def _reservations(self) -> Iterator[str]:
        """Give what speaks against taking the choice as it is."""
        chosen = self.n_components
        for k in sorted({chosen, self.best_value}):
            if failed := self.fits[k].diagnose().failed:
                names = ", ".join(check.name for check in failed)
                yield f"But the fit of K = {k} failed its checks ({names}): see `table`."
            if doubt := self.scores[k].doubt:
                yield f"But the {self.rule.label} of K = {k} is in doubt: {doubt}"
        fewer = [k for k in self.scores if k < chosen]
        if self.rule.pointwise and fewer:
            nearest = max(fewer, key=lambda k: self.scores[k].value)
            gap = self.scores[chosen].value - self.scores[nearest].value
            if 0 < gap < _SMALL_DIFFERENCE:
                yield (
                    f"But K = {nearest} is only {gap:.1f} lower: differences below "
                    f"{_SMALL_DIFFERENCE:g} are small, and standard errors of small differences "
                    "are too small (Sivula, Magnusson & Vehtari 2020, "
                    "doi:10.48550/arXiv.2008.10296)."
                )
        tried = [*self.scores, *self.failures]
        if chosen == max(tried) and len(tried) > 1:
            yield "It is the largest number that was tried: try more."
        if self.failures:
            yield f"K = {', '.join(map(str, sorted(self.failures)))} failed: see `table`."


def select_components(
    X: Any,
    components: Sequence[int] = range(1, 9),
    *,
    method: str | Method = "nuts",
    criterion: str | None = None,
    covariance_type: str = "full",
    priors: Priors | None = None,
    seed: int | None = None,
    sample_weight: Any = None,
    labels: Any = None,
    missing: Missing = "error",
    jobs: int | None = None,
    progress: bool = True,
) -> Selection:
    """Fit mixtures with several numbers of components and choose one.

    The best value of the criterion wins, except that for "loo" and "waic" the fewest components
    are chosen whose difference to the best is within one standard error of the difference. That
    error is estimated from the rows' differences (Vehtari, Gelman & Gabry 2017,
    doi:10.1007/s11222-016-9696-4), the rule is that of Breiman et al. (see Hastie, Tibshirani &
    Friedman 2009, section 7.10, doi:10.1007/978-0-387-84858-7).

    Parameters
    ----------
    X : array or DataFrame, shape (N, D)
    components : sequence of int
        Numbers of components to try.
    method : str or Method
        As for `GaussianMixture.fit`.
    criterion : {"loo", "waic", "bic", "aic", "icl", "evidence"}, optional
        By default "loo" for methods that give draws and "bic" for point estimates.
    covariance_type : {"full", "tied", "diag", "spherical"}
    priors : Priors, optional
        The same for every number of components.
    seed : int, optional
        Each number of components gets a seed of its own from it; the result does not depend on
        ``jobs``.
    sample_weight, labels, missing
        As for `GaussianMixture.fit`.
    jobs : int, optional
        Fits at a time. By default so many that all processors are used: with several fits at a
        time, the chains of each run one after the other.
    progress : bool

    Returns
    -------
    Selection
        A number of components that cannot be fitted has a row with the reason.

    Raises
    ------
    DataError, ModelError
        Before anything starts; also for a criterion that the method cannot give.
    InferenceError
        No number of components could be fitted.

    Examples
    --------
    >>> import stangmm as sg
    >>> faithful = sg.datasets.faithful()
    >>> choice = sg.select_components(faithful, [1, 2, 3], method="em", criterion="icl", seed=1)
    >>> choice.n_components
    2
    >>> choice.best is choice.fits[2]
    True
    """
    dataset = Dataset.from_input(X, sample_weight, labels=labels, missing=missing)
    settings = as_method(method)
    rule = _criterion_for(criterion, settings)
    models = _models(components, covariance_type, priors or Priors(), dataset)
    seed = checked_seed(seed)
    if jobs is not None:
        check_count("jobs", jobs)
    settings.prepare(Run(seed, progress))
    at_a_time, processors = divided(settings, jobs, len(models))

    def fit(k: int) -> Fit | str:
        own_seed = int(np.random.default_rng([seed, k]).integers(2**31))
        try:
            made = fitted(Fit, models[k], dataset, settings, Run(own_seed, processors=processors))
        except (DataError, InferenceError) as error:
            return str(error)
        made.diagnose()  # here, side by side; it is kept
        return made

    fits: dict[int, Fit] = {}
    scores: dict[int, Score] = {}
    failures: dict[int, str] = {}
    if settings.kind != "point":
        arviz()  # an import in several threads at once would let its announcement through
    with warnings.catch_warnings():  # said in the table
        warnings.simplefilter("ignore", ConvergenceWarning)
        advance = progress_bar("numbers of components", len(models), shown=progress)
        for k, outcome in _each(fit, list(models), at_a_time):
            advance(1)
            if isinstance(outcome, str):
                failures[k] = outcome
            else:
                fits[k] = outcome
        for k in sorted(fits):
            try:
                score = rule.score(fits[k], fits)
            except (InferenceError, ModelError) as error:
                failures[k] = str(error)
                continue
            if np.isfinite(score.value):
                scores[k] = score
            else:
                failures[k] = f"Its {rule.label} is {score.value}, no finite number."
    if not scores:
        reasons = "\n".join(f"K = {k}: {failures[k]}" for k in sorted(failures))
        raise InferenceError(f"No number of components could be fitted.\n{reasons}")
    scored = {k: fits[k] for k in scores}
    return Selection(rule.name, dataset, scored, scores, failures, seed)


def _criterion_for(name: str | None, settings: Method) -> Criterion:
    if name is None:
        return CRITERIA["bic" if settings.kind == "point" else "loo"]
    if name not in CRITERIA:
        raise ModelError(f"criterion must be one of {list(CRITERIA)}, got {name!r}.")
    if settings.kind not in CRITERIA[name].kinds:
        possible = [c.name for c in CRITERIA.values() if settings.kind in c.kinds]
        raise ModelError(
            f'criterion="{name}" cannot be had from method "{settings.name}" (kind '
            f'{settings.kind}). Use one of {possible}, or method="nuts".'
        )
    return CRITERIA[name]


def _models(
    components: Any, covariance_type: str, priors: Priors, dataset: Dataset
) -> dict[int, GaussianMixture]:
    """One model for each number of components; priors must suit every one of them."""
    try:
        numbers = list(components)
    except TypeError:
        numbers = []
    if isinstance(components, str) or not numbers:
        raise ModelError(
            f"components must be a sequence of numbers such as range(1, 9), got {components!r}."
        )
    for k in numbers:
        check_count("Each of components", k)
    models = {int(k): GaussianMixture(int(k), covariance_type, priors) for k in sorted(numbers)}
    for k in models:
        priors.resolve(dataset, structure_named(covariance_type), k)
    return models


def divided(settings: Method, jobs: int | None, n_fits: int) -> tuple[int, int]:
    """Fits at a time, and the processors for each, with which they fill all that there are."""
    available = os.cpu_count() or 1
    at_a_time = min(n_fits, jobs or max(1, available // settings.processors(available)))
    return at_a_time, max(1, available // at_a_time)


def _each(
    function: Callable[[int], Fit | str], numbers: list[int], jobs: int
) -> Iterator[tuple[int, Fit | str]]:
    """Results of a function in the order in which they are ready."""
    if jobs == 1:  # in this thread, so that Ctrl-C ends what runs at once
        for k in numbers:
            yield k, function(k)
        return
    stop = threading.Event()
    with ThreadPoolExecutor(jobs, initializer=stop_requested.set, initargs=(stop,)) as pool:
        # The most components take longest, so they go first.
        futures: dict[Future[Fit | str], int] = {
            pool.submit(function, k): k for k in sorted(numbers, reverse=True)
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:  # Ctrl-C: what runs ends at once, and what waits does not start
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
