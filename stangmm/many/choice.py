"""Choice: fits with several numbers of components, and which of them is chosen, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stangmm.data.dataset import Dataset
from stangmm.fit import Fit
from stangmm.judge.criteria import CRITERIA, Criterion, Score, pooled
from stangmm.judge.membership import classes_of

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import pandas as pd

    from stangmm.plots import SelectionPlots

# Differences within so many of their standard errors may be none. Standard errors of differences of
# elpd below so many nats are too small: they are small differences, whatever their errors say.
_ERRORS = 2.0
_SMALL_DIFFERENCE = 4.0
_WEAK_EVIDENCE = 2.0  # differences of BIC below this


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
        Fits that failed their checks.
    mended : mapping of int to str
        What was done when a first fit failed its checks.

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

        ==============  ==========================================================================
        (first)         the criterion: elpd_loo, elpd_waic, log_evidence (higher is better), bic,
                        aic, icl (lower is better); ``table.attrs`` says which
        se              its standard error, where it has one
        difference      from the best value: never positive if higher is better, else never
                        negative
        difference_se   standard error of the difference, from the rows' differences (loo, waic)
        n_parameters    free parameters of the model
        bad_k           rows whose Pareto k is too high (loo)
        entropy         relative entropy of the rows' membership: 1 where each row surely belongs to
                        one component, 0 where all are equally probable (Ramaswamy et al. 1993,
                        doi:10.1287/mksc.12.1.103); none for K = 1
        smallest_rows   rows, by sample weight, of the component that has fewest of them, and their
        smallest_share  share of all; rows belong to their most probable component
        seconds         wall time of the fit, without compiling the model
        status          ok, warn, fail (see `Fit.diagnose`), or error
        note            the checks that were not passed and doubts about the value, or the error
        ==============  ==========================================================================
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
        """Number of components with the best value of the criterion, whatever its error."""
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

        ``az.from_netcdf(path, group="K2")`` opens the fit with two components (ArviZ before 1:
        ``az.InferenceData.from_netcdf(path, base_group="K2")``).

        Parameters
        ----------
        path : path
            An existing file is replaced, at once, when the new one is complete.

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
                f"K = {best} has the {extreme} {label} ({value:.1f}), but K = {chosen} is only "
                f"{-difference:.1f} lower (standard error of the difference {error:.1f}). That is "
                + (f"less than {_SMALL_DIFFERENCE:g}" if small else "within two standard errors")
                + ", too little to tell the two apart, so the smaller model is chosen."
            )
        if not np.isfinite(self.difference(best)[1]):
            second = min(others, key=lambda k: abs(self.difference(k)[0]))
            gap = abs(self.difference(second)[0])
            return (
                f"K = {best} has the {extreme} {label} ({value:.1f}); the next best, K = {second}, "
                f"is {gap:.1f} worse."
            )
        fewer = [k for k in others if k < best]
        if not fewer:
            return f"K = {best} has the {extreme} {label} ({value:.1f}) and the fewest components."
        nearest = min(fewer, key=lambda k: -self.difference(k)[0])
        difference, error = self.difference(nearest)
        return (
            f"K = {best} has the {extreme} {label} ({value:.1f}), clearly better than with fewer "
            f"components: K = {nearest} is {-difference:.1f} lower (standard error {error:.1f})."
        )

    def _reservations(self) -> Iterator[str]:
        """Give reasons to be careful with the choice."""
        chosen = self.n_components
        for k in sorted({chosen, self.best_value}):
            if k in self.mended:
                yield f"K = {k}: {self.mended[k]}"
            if doubt := self.scores[k].doubt:
                yield f"But the {self.rule.label} of K = {k} is doubtful: {doubt}"
        fewer = [k for k in self.scores if k < chosen]
        if self.rule.name == "bic" and fewer:
            nearest = min(fewer, key=lambda k: self.scores[k].value)
            gap = self.difference(nearest)[0]
            if gap < _WEAK_EVIDENCE:
                yield (
                    f"But K = {nearest} is only {gap:.1f} worse, and differences in BIC below "
                    f"{_WEAK_EVIDENCE:g} are hardly worth mentioning (Kass & Raftery 1995, "
                    "doi:10.1080/01621459.1995.10476572)."
                )
        tried = [*self.scores, *self.failures]
        if chosen == max(tried) and len(tried) > 1:
            yield f"K = {chosen} is the largest number tried: try more."
        if self.failures:
            yield f"K = {', '.join(map(str, sorted(self.failures)))} failed: see `table`."
