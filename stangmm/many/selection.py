"""Selection: how many components, by one criterion over a grid of fits."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, fields, replace
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
from stangmm.judge.membership import classes_of
from stangmm.many.mending import left_out_because, with_modes_combined
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

# Differences within so many of their standard errors may be none. Standard errors of differences of
# elpd below so many nats are too small: they are small differences, whatever their errors say.
_ERRORS = 2.0
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
        Those that can be chosen, by number of components; ``stack(selection.fits)`` averages them
        instead.
    scores : mapping of int to Score
        What the criterion says of each of them.
    failures : mapping of int to str
        Numbers of components that cannot be chosen, with the reason.
    seed : int
    left_out : mapping of int to Fit
        Those of the failures of which there is a fit: it failed its checks.
    mended : mapping of int to str
        What was done where a first fit failed its checks.

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
    left_out: Mapping[int, Fit] = field(default_factory=dict)
    mended: Mapping[int, str] = field(default_factory=dict)

    columns: ClassVar[tuple[str, ...]] = (
        "se",
        "difference",
        "difference_se",
        "n_parameters",
        "bad_k",
        "entropy",
        "smallest_rows",
        "smallest_share",
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
        entropy        relative entropy of the rows' membership: 1 where each row surely belongs to
                       one component, 0 where all are equally probable (Ramaswamy et al. 1993,
                       doi:10.1287/mksc.12.1.103); none for K = 1
        smallest_rows  rows, by sample weight, of the component that has fewest of them, and their
        smallest_share share of all; rows belong to their most probable component
        seconds        wall time of the fit, the compilation of the model left out
        status         ok, warn, fail (see `Fit.diagnose`), or error
        note           the checks that were not passed and doubts about the value, or the error
        =============  ===========================================================================
        """
        import pandas as pd

        rows: dict[int, dict[str, Any]] = {k: self._row(k) for k in self.fits}
        for k, reason in self.failures.items():
            rows[k] = {"status": "error", "note": reason}
            if k in self.left_out:
                rows[k] |= self._facts(self.left_out[k])
                rows[k]["note"] = " ".join([reason, *self._notes(k, self.left_out[k])])
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
        return min(k for k in self.scores if k == self.best_value or self._within_errors(k))

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

        all_fits = {**self.fits, **self.left_out}
        return save("selection", self, {f"K{k}": fit for k, fit in all_fits.items()}, path)

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from stangmm.report.notebook import selection_html

        return selection_html(self)

    def __repr__(self) -> str:
        """Show the choice, why, and the table without its notes."""
        table = self.table.drop(columns="note").dropna(axis="columns", how="all")
        formats = {"seconds": "{:.2f}", "smallest_rows": "{:.6g}"} | dict.fromkeys(
            (self.rule.label, "se", "difference", "difference_se", "entropy", "smallest_share"),
            "{:.2f}",
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
        doubt = [f"{self.rule.label}: {score.doubt}"] if score.doubt else []
        return self._facts(fit) | {
            self.rule.label: score.value,
            "se": score.standard_error,
            "difference": difference,
            "difference_se": error,
            "bad_k": score.bad_rows,
            "note": " ".join([*self._notes(k, fit), *doubt]),
        }

    def _facts(self, fit: Fit) -> dict[str, Any]:
        """What can be said of a fit whether or not it can be chosen."""
        classes = classes_of(fit)
        return {
            "entropy": classes.entropy,
            "smallest_rows": classes.smallest_rows,
            "smallest_share": classes.smallest_share,
            "n_parameters": fit.model.n_parameters(self.dataset.n_features),
            "seconds": fit.seconds,
            "status": fit.diagnose().verdict,
        }

    def _notes(self, k: int, fit: Fit) -> Iterator[str]:
        if k in self.mended:
            yield self.mended[k]
        yield from (str(check) for check in fit.diagnose() if check.verdict != "ok")

    def _within_errors(self, k: int) -> bool:
        """Whether the data do not tell K = k from the best value; False without errors."""
        difference, error = self.difference(k)
        small = self.rule.pointwise and -difference < _SMALL_DIFFERENCE
        return small or abs(difference) <= _ERRORS * error

    def _reason(self) -> str:
        label, chosen, best = self.rule.label, self.n_components, self.best_value
        value = self.scores[best].value
        extreme = "highest" if self.rule.higher_is_better else "lowest"
        others = [k for k in self.scores if k != best]
        if not others:
            return f"K = {chosen} is the only number of components that was fitted."
        if chosen != best:
            difference, error = self.difference(chosen)
            small = abs(difference) > _ERRORS * error
            return (
                f"K = {best} has the {extreme} {label} ({value:.1f}), but the data do not tell it "
                f"from K = {chosen}, which is {-difference:.1f} lower (standard error of the "
                f"difference {error:.1f}): that is "
                + (f"below {_SMALL_DIFFERENCE:g}, and small" if small else "within two of them")
                + ". Of models that are not told apart, the smallest is named."
            )
        if not np.isfinite(self.difference(best)[1]):
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
            f"K = {best} has the {extreme} {label} ({value:.1f}), and the data tell it from fewer "
            f"components: K = {nearest} is {-difference:.1f} lower, standard error {error:.1f}."
        )

    def _reservations(self) -> Iterator[str]:
        """Give what speaks against taking the choice as it is."""
        chosen = self.n_components
        for k in sorted({chosen, self.best_value}):
            if k in self.mended:
                yield f"K = {k}: {self.mended[k]}"
            if doubt := self.scores[k].doubt:
                yield f"But the {self.rule.label} of K = {k} is in doubt: {doubt}"
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

    The best value of the criterion wins, except where the data do not tell it from that of fewer
    components: then the smallest such number is named. For "loo" and "waic" it is one whose
    difference to the best is below 4, or within two standard errors of the difference. The errors
    are estimated from the rows' differences (Vehtari, Gelman & Gabry 2017,
    doi:10.1007/s11222-016-9696-4), which is too small where differences are below 4 (Sivula,
    Magnusson & Vehtari 2020, doi:10.48550/arXiv.2008.10296). For "evidence" it is one within two
    Monte Carlo standard errors.

    A fit that failed its checks is never chosen. Modes in which chains disagree are combined, each
    with its share (`Fit.combined`). Where a check fails nevertheless and the fit could change the
    choice, it is made once more, by a longer run (NUTS: four times the draws, smaller steps; EM:
    ten times the iterations), which takes some six times as long. What has failed in the end is
    left out with its reason.

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
        A number of components that cannot be fitted or chosen has a row with the reason.

    Raises
    ------
    DataError, ModelError
        Before anything starts; also for a criterion that the method cannot give.
    InferenceError
        No number of components could be fitted so that its checks do not fail; ``partial`` has
        the fits that there are, by number of components.

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

    def attempt(k: int, settings: Method, number: int) -> Fit | str:
        own_seed = int(np.random.default_rng([seed, k, *[1] * number]).integers(2**31))
        try:
            run = Run(own_seed, processors=processors)
            made = with_modes_combined(fitted(Fit, models[k], dataset, settings, run))
        except (DataError, InferenceError) as error:
            return str(error)
        made.diagnose()  # here, side by side; it is kept
        return made

    if settings.kind != "point":
        arviz()  # an import in several threads at once would let its announcement through
    with warnings.catch_warnings():  # said in the table
        warnings.simplefilter("ignore", ConvergenceWarning)
        advance = progress_bar("numbers of components", len(models), shown=progress)
        grid = _Grid(rule, dataset, seed)
        for k, outcome in _each(lambda k: attempt(k, settings, 0), list(models), at_a_time):
            advance(1)
            grid.made[k] = outcome
        while wanted := grid.wanted():
            longer = {k: settings.longer(fit.info) for k, fit in wanted.items()}
            able = {k: more for k, more in longer.items() if more is not None}
            grid.tried.update(wanted)
            advance = progress_bar("again, longer, after failed checks", len(able), shown=progress)
            for k, outcome in _each(lambda k: attempt(k, able[k], 1), list(able), at_a_time):  # noqa: B023
                advance(1)
                grid.replace(k, outcome, f"Run again, longer ({_changes(settings, able[k])}).")
        return grid.selection()


@dataclass(frozen=True, eq=False)
class _Grid:
    """What was made for each number of components so far, and which of it is to be made again."""

    rule: Criterion
    dataset: Dataset
    seed: int
    made: dict[int, Fit | str] = field(default_factory=dict)
    tried: set[int] = field(default_factory=set)  # again
    mended: dict[int, str] = field(default_factory=dict)
    scores: dict[int, Score | str] = field(default_factory=dict)

    def replace(self, k: int, outcome: Fit | str, how: str) -> None:
        """Take a second run instead of the first, if it came to an end."""
        self.mended[k] = how
        if isinstance(outcome, Fit):
            self.made[k] = outcome
            self.scores.pop(k, None)

    def wanted(self) -> dict[int, Fit]:
        """Fits that failed, were not made again, and could change the choice if they had not."""
        fits = self._fits()
        open_fits = {k: fit for k, fit in fits.items() if self._failed(fit) and k not in self.tried}
        passed = [k for k, fit in fits.items() if not self._failed(fit)]
        by_all = self._chosen([*passed, *open_fits])
        if by_all is None:
            return open_fits
        by_passed = self._chosen(passed)
        if by_passed is not None and by_passed.n_components == by_all.n_components:
            return {}
        return {k: open_fits[k] for k in {by_all.n_components, by_all.best_value} & set(open_fits)}

    def selection(self) -> Selection:
        """Choose among the fits that passed, and say why the others cannot be chosen."""
        fits = self._fits()
        failures = {k: made for k, made in self.made.items() if isinstance(made, str)}
        for k, fit in fits.items():
            score = self._score(k)
            if reason := left_out_because(fit):
                failures[k] = reason
                if k not in self.tried:
                    failures[k] += " It was not made again, since it would not change the choice."
            elif isinstance(score, str):
                failures[k] = score
        able = [k for k in fits if k not in failures]
        if not able:
            reasons = "\n".join(f"K = {k}: {failures[k]}" for k in sorted(failures))
            raise InferenceError(f"No number of components can be chosen.\n{reasons}", partial=fits)
        return replace(
            self._over(able),
            failures=failures,
            left_out={k: fit for k, fit in fits.items() if k not in able},
            mended=self.mended,
        )

    def _fits(self) -> dict[int, Fit]:
        return {k: fit for k, fit in sorted(self.made.items()) if isinstance(fit, Fit)}

    def _failed(self, fit: Fit) -> bool:
        return bool(left_out_because(fit))

    def _score(self, k: int) -> Score | str:
        """What the criterion says of a fit, or why it says nothing."""
        if k not in self.scores:
            fits = self._fits()
            others = {i: fit for i, fit in fits.items() if i == k or not self._failed(fit)}
            try:
                score = self.rule.score(fits[k], others)
            except (InferenceError, ModelError) as error:
                self.scores[k] = str(error)
            else:
                finite = bool(np.isfinite(score.value))
                none = f"Its {self.rule.label} is {score.value}, no finite number."
                self.scores[k] = score if finite else none
        return self.scores[k]

    def _chosen(self, numbers: Sequence[int]) -> Selection | None:
        """Choose among some that have a score; None where there is none."""
        scored = [k for k in numbers if isinstance(self._score(k), Score)]
        return self._over(scored) if scored else None

    def _over(self, numbers: Sequence[int]) -> Selection:
        fits = self._fits()
        scores = {k: score for k in sorted(numbers) if isinstance(score := self._score(k), Score)}
        own = {k: fits[k] for k in scores}
        return Selection(self.rule.name, self.dataset, own, scores, {}, self.seed)


def _changes(settings: Method, longer: Method) -> str:
    """Name the settings of the second run that differ from the first's."""
    changed = ((f.name, getattr(longer, f.name)) for f in fields(longer))  # type: ignore[arg-type]
    return ", ".join(f"{n} {value}" for n, value in changed if value != getattr(settings, n))


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
