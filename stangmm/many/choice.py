"""Choice: fits of several numbers of components and types, which of them is chosen, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stangmm.base.errors import ModelError
from stangmm.data.dataset import Dataset
from stangmm.fit import Fit
from stangmm.judge.candidates import Candidate, components_of, in_order, index_of, named, type_of
from stangmm.judge.criteria import CRITERIA, Criterion, Score
from stangmm.judge.membership import classes_of
from stangmm.judge.subsampling import difference, subsample_words
from stangmm.many.posterior import ModelPosterior, ModelPrior, checked_prior

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
    """Fits of several candidates and the choice among them; see `select_components`.

    A candidate is a number of components, or, if covariance types were given in a list, a pair of
    the covariance type and the number of components, such as ``("tied", 3)``.

    Attributes
    ----------
    criterion : str
        "loo", "waic", "bic", "aic", "icl" or "evidence".
    dataset : Dataset
    fits : mapping of candidates to Fit
        Those that can be chosen; ``stack(selection.fits)`` averages them instead.
    scores : mapping of candidates to Score
        What the criterion says of each of them.
    failures : mapping of candidates to str
        Candidates that cannot be chosen, with the reason.
    seed : int
    left_out : mapping of candidates to Fit
        Fits that failed their checks.
    mended : mapping of candidates to str
        What was done when a first fit failed its checks.

    Examples
    --------
    >>> import stangmm as sg
    >>> choice = sg.select_components(sg.datasets.faithful(), [1, 2, 3], method="em", seed=1)
    >>> print(choice.table["bic"].round(1).to_dict())
    {1: 2607.6, 2: 2322.2, 3: 2324.2}
    >>> choice = sg.select_components(
    ...     sg.datasets.faithful(),
    ...     [1, 2, 3],
    ...     covariance_type=["full", "tied", "diag"],
    ...     method="em",
    ...     seed=1,
    ... )
    >>> choice.covariance_type, choice.n_components
    ('tied', 3)
    >>> print(choice.table["bic"].unstack("covariance_type").round(1))
    covariance_type    diag    full    tied
    n_components
    1                3055.8  2607.6  2607.6
    2                2346.1  2322.2  2325.2
    3                2332.5  2324.2  2314.3
    """

    criterion: str
    dataset: Dataset
    fits: Mapping[Candidate, Fit]
    scores: Mapping[Candidate, Score]
    failures: Mapping[Candidate, str]
    seed: int
    left_out: Mapping[Candidate, Fit] = field(default_factory=dict)
    mended: Mapping[Candidate, str] = field(default_factory=dict)

    columns: ClassVar[tuple[str, ...]] = (
        "se",
        "subsampling_se",
        "difference",
        "difference_se",
        "probability",
        "probability_se",
        "n_parameters",
        "bad_k",
        "entropy",
        "smallest_rows",
        "smallest_share",
        "seconds",
        "chosen",
        "status",
        "note",
    )

    @property
    def rule(self) -> Criterion:
        """The criterion's name, direction and formula."""
        return CRITERIA[self.criterion]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each candidate, failed ones too.

        The index is the number of components or, if covariance types were given in a list, the
        covariance type and the number of components.

        ==============  ==========================================================================
        (first)         the criterion: elpd_loo, elpd_waic, log_evidence (higher is better), bic,
                        aic, icl (lower is better); ``table.attrs`` says which
        se              its standard error, where it has one
        subsampling_se  standard error besides, if leave-one-out did not visit all rows (see `Loo`)
        difference      from the best value: never positive if higher is better, else never
                        negative
        difference_se   standard error of the difference, from the rows' differences (loo, waic),
                        and from not visiting all of them (loo)
        probability     posterior probability if all candidates are equally probable before the
        probability_se  data are seen, and its Monte Carlo error (evidence); see `posterior`
        n_parameters    free parameters of the model
        bad_k           rows whose Pareto k is too high (loo)
        entropy         relative entropy of the rows' membership: 1 where each row surely belongs to
                        one component, 0 where all are equally probable (Ramaswamy et al. 1993,
                        doi:10.1287/mksc.12.1.103); none for K = 1
        smallest_rows   rows, by sample weight, of the component that has fewest of them, and their
        smallest_share  share of all; rows belong to their most probable component
        seconds         wall time of the fit, without compiling the model
        chosen          whether it is the choice
        status          ok, warn, fail (see `Fit.diagnose`), or error
        note            the checks that were not passed and doubts about the value, or the error
        ==============  ==========================================================================
        """
        import pandas as pd

        rows: dict[Candidate, dict[str, Any]] = {k: self._row(k) for k in self.fits}
        for k, reason in self.failures.items():
            rows[k] = {"chosen": False, "status": "error", "note": reason}
            if k in self.left_out:
                rows[k] |= self._facts(self.left_out[k])
                rows[k]["note"] = " ".join([reason, *self._notes(k, self.left_out[k])])
        table = pd.DataFrame(
            [rows[k] for k in self.candidates],
            index=index_of(self.candidates),
            columns=[self.rule.label, *self.columns],
        )
        if self.criterion == "evidence":
            of_each = self.posterior().table
            table.loc[of_each.index, of_each.columns[-2:]] = of_each.iloc[:, -2:]
        table = table.astype({"n_parameters": "Int64", "bad_k": "Int64", "chosen": bool})
        table.attrs["better"] = "higher" if self.rule.higher_is_better else "lower"
        return table

    @cached_property
    def candidates(self) -> list[Candidate]:
        """All that were tried, failed ones too, in the order of the table."""
        return in_order([*self.scores, *self.failures])

    @cached_property
    def best_value(self) -> Candidate:
        """The candidate with the best value of the criterion, whatever its error."""
        return min(self.scores, key=lambda k: (self._loss(k), self._size(k)))

    @cached_property
    def chosen(self) -> Candidate:
        """The chosen candidate; `why` says how the choice was made."""
        able = [k for k in self.scores if k == self.best_value or self._within_errors(k)]
        return min(able, key=lambda k: (self._size(k), self._loss(k)))

    @property
    def n_components(self) -> int:
        """The chosen number of components."""
        return components_of(self.chosen)

    @property
    def covariance_type(self) -> str:
        """The covariance type of the chosen fit."""
        return self.best.model.covariance_type

    @property
    def best(self) -> Fit:
        """The chosen fit."""
        return self.fits[self.chosen]

    @cached_property
    def why(self) -> str:
        """The rule and the numbers behind the choice, in words."""
        return " ".join([self._reason(), *self._reservations()])

    def difference(self, k: Candidate) -> tuple[float, float]:
        """Value of a candidate minus the best one, and the standard error of that (NaN: unknown).

        Parameters
        ----------
        k : int or (str, int)
            A key of ``fits``.
        """
        own, best = self.scores[k], self.scores[self.best_value]
        if k == self.best_value:
            return 0.0, 0.0 if np.isfinite(own.standard_error) else float("nan")
        if own.parts is not None and best.parts is not None:
            gap = difference(own.parts, best.parts, self.dataset.sample_weight)
            return gap.value, gap.error
        return own.value - best.value, float(np.hypot(own.standard_error, best.standard_error))

    def posterior(self, prior: ModelPrior = None) -> ModelPosterior:
        """How probable each K and each candidate are, given the data.

        Parameters
        ----------
        prior : mapping or array, optional
            Prior probabilities, up to a constant: a dict by K or by candidate, or an array in the
            order of the numbers of components or of the rows of the table. What a K has is shared
            equally by its covariance types. By default all candidates are equally probable.

        Returns
        -------
        ModelPosterior

        Raises
        ------
        ModelError
            The selection is by another criterion than "evidence", or the prior does not give every
            candidate a probability.
        """
        if self.criterion != "evidence":
            raise ModelError(
                "The posterior over models needs their evidences, and this selection has "
                f'{self.rule.label}. Use select_components(X, criterion="evidence").'
            )
        weights = checked_prior(prior, list(self.scores), self.candidates)
        return ModelPosterior(self.fits, self.scores, weights, self.failures)

    @property
    def plot(self) -> SelectionPlots:
        """The picture: ``selection.plot.choice()``, or ``selection.plot()``."""
        from stangmm.plots import SelectionPlots

        return SelectionPlots(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the selection to a netCDF file and give its path; `stangmm.load` reads it.

        ``az.from_netcdf(path, group="K2")`` opens the fit with two components (ArviZ before 1:
        ``az.InferenceData.from_netcdf(path, base_group="K2")``), ``group="tied_K2"`` that of a
        selection over covariance types.

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
        groups = {
            "_".join(filter(None, [type_of(k), f"K{components_of(k)}"])): fit
            for k, fit in all_fits.items()
        }
        return save("selection", self, groups, path)

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from stangmm.report.notebook import selection_html

        return selection_html(self)

    def __repr__(self) -> str:
        """Show the choice, why, and the table without its notes; a star marks the choice."""
        table = self.table.drop(columns="note").dropna(axis="columns", how="all")
        table["chosen"] = table["chosen"].map({True: "*", False: ""})
        formats = {"seconds": "{:.2f}", "smallest_rows": "{:.6g}"} | dict.fromkeys(
            (self.rule.label, "se", "difference", "difference_se", "entropy", "smallest_share"),
            "{:.2f}",
        )
        formats |= {"probability": "{:.3f}", "probability_se": "{:.2g}", "subsampling_se": "{:.2g}"}
        shown = table.to_string(
            na_rep="-", formatters={c: f.format for c, f in formats.items() if c in table}
        )
        chosen = "" if isinstance(self.chosen, int) else f" ({self.covariance_type})"
        return (
            f"{type(self).__name__}: {self.n_components} components{chosen} by {self.rule.label} "
            f"({self.rule.direction})\n{self.why}\n{shown}"
        )

    def _row(self, k: Candidate) -> dict[str, Any]:
        fit, score = self.fits[k], self.scores[k]
        difference, error = self.difference(k)
        doubt = [f"{self.rule.label}: {score.doubt}"] if score.doubt else []
        return self._facts(fit) | {
            self.rule.label: score.value,
            "se": score.standard_error,
            "subsampling_se": score.subsampling_se or float("nan"),
            "difference": difference,
            "difference_se": error,
            "bad_k": score.bad_rows,
            "chosen": k == self.chosen,
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

    def _notes(self, k: Candidate, fit: Fit) -> Iterator[str]:
        if k in self.mended:
            yield self.mended[k]
        yield from (str(check) for check in fit.diagnose() if check.verdict != "ok")

    def _loss(self, k: Candidate) -> float:
        value = self.scores[k].value
        return -value if self.rule.higher_is_better else value

    def _size(self, k: Candidate) -> int:
        """Free parameters of a candidate."""
        return self.fits[k].model.n_parameters(self.dataset.n_features)

    def _within_errors(self, k: Candidate) -> bool:
        """Whether the data do not tell it from the best value; False without errors."""
        difference, error = self.difference(k)
        small = self.rule.pointwise and -difference < _SMALL_DIFFERENCE
        return small or abs(difference) <= _ERRORS * error

    def _reason(self) -> str:
        label, chosen, best = self.rule.label, self.chosen, self.best_value
        over_types = not isinstance(chosen, int)
        value = self.scores[best].value
        extreme = "highest" if self.rule.higher_is_better else "lowest"
        others = [k for k in self.scores if k != best]
        if not others:
            what = "model" if over_types else "number of components"
            return f"{named(chosen)} is the only {what} that was fitted."
        if chosen != best:
            difference, error = self.difference(chosen)
            small = abs(difference) > _ERRORS * error
            return (
                f"{named(best)} has the {extreme} {label} ({value:.1f}), but {named(chosen)} is "
                f"only {-difference:.1f} lower (standard error of the difference {error:.1f}). "
                "That is "
                + (f"less than {_SMALL_DIFFERENCE:g}" if small else "within two standard errors")
                + ", too little to tell the two apart, so the smaller model is chosen."
            )
        if not np.isfinite(self.difference(best)[1]):
            second = min(others, key=lambda k: abs(self.difference(k)[0]))
            gap = abs(self.difference(second)[0])
            return (
                f"{named(best)} has the {extreme} {label} ({value:.1f}); the next best, "
                f"{named(second)}, is {gap:.1f} worse."
            )
        fewer = [k for k in others if self._size(k) < self._size(best)]
        what = "parameters" if over_types else "components"
        if not fewer:
            return f"{named(best)} has the {extreme} {label} ({value:.1f}) and the fewest {what}."
        nearest = min(fewer, key=lambda k: -self.difference(k)[0])
        difference, error = self.difference(nearest)
        return (
            f"{named(best)} has the {extreme} {label} ({value:.1f}), clearly better than with "
            f"fewer {what}: {named(nearest)} is {-difference:.1f} lower (standard error "
            f"{error:.1f})."
        )

    def _reservations(self) -> Iterator[str]:
        """Give reasons to be careful with the choice."""
        chosen = self.chosen
        score = self.scores[chosen]
        if score.subsample is not None:
            yield subsample_words(score.subsample, score.subsampling_se)
        for k in in_order({chosen, self.best_value}):
            if k in self.mended:
                yield f"{named(k)}: {self.mended[k]}"
            if doubt := self.scores[k].doubt:
                yield f"But the {self.rule.label} of {named(k)} is doubtful: {doubt}"
        fewer = [k for k in self.scores if self._size(k) < self._size(chosen)]
        if self.rule.name == "bic" and fewer:
            nearest = min(fewer, key=lambda k: self.scores[k].value)
            gap = self.difference(nearest)[0]
            if gap < _WEAK_EVIDENCE:
                yield (
                    f"But {named(nearest)} is only {gap:.1f} worse, and differences in BIC below "
                    f"{_WEAK_EVIDENCE:g} are hardly worth mentioning (Kass & Raftery 1995, "
                    "doi:10.1080/01621459.1995.10476572)."
                )
        tried = {components_of(k) for k in self.candidates}
        if self.n_components == max(tried) and len(tried) > 1:
            yield f"K = {self.n_components} is the largest number tried: try more."
        if self.failures:
            yield f"{named(*self.failures)} failed: see `table`."
