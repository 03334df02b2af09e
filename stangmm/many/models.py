"""Comparison of models: fits of several models to one data set, in one table, the best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.data.dataset import Dataset
from stangmm.fit import Fit
from stangmm.judge.criteria import bic, icl
from stangmm.judge.elpd import Loo
from stangmm.judge.leave_one_out import bad_rows, has_loo, psis_loo
from stangmm.judge.stacking import stacking_weights
from stangmm.judge.subsampling import completed, difference, subsample_words

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import pandas as pd

    from stangmm.plots import ModelComparisonPlots

_COLUMNS = {  # and how many decimals are shown
    "kind": None,
    "n_parameters": 0,
    "log_likelihood": 2,
    "bic": 1,
    "icl": 1,
    "elpd_loo": 1,
    "elpd_loo_se": 1,
    "subsampling_se": 2,
    "difference": 1,
    "difference_se": 1,
    "weight": 2,
    "bad_k": 0,
    "seconds": 2,
    "status": None,
    "note": None,
}


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Fits of several models to one data set; made by `compare`.

    Attributes
    ----------
    dataset : Dataset
    fits : mapping of str to Fit
        By the model's label and, if there are several methods, the method (``"three, nuts"``).
        ``stack(comparison.fits)`` averages them.
    failures : mapping of str to str
        Fits that failed, with the reason.
    seed : int

    Examples
    --------
    >>> import stangmm as sg
    >>> models = {"two": sg.GaussianMixture(2), "three, tied": sg.GaussianMixture(3, "tied")}
    >>> comparison = sg.compare(models, sg.datasets.faithful(), methods=["em"], seed=1)
    >>> print(comparison.table[["n_parameters", "bic"]].round(1).to_string())
                 n_parameters     bic
    model
    three, tied            11  2314.3
    two                    11  2322.2
    """

    dataset: Dataset
    fits: Mapping[str, Fit]
    failures: Mapping[str, str]
    seed: int

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each fit: by leave-one-out, the best first; then point estimates by BIC.

        ==============  ==========================================================================
        kind            point, approximation or mcmc
        n_parameters    free parameters of the model
        log_likelihood  of the data at the estimate, or averaged over the draws
        bic, icl        at the estimate or the best draw; lower is better
        elpd_loo        leave-one-out expected log predictive density by PSIS, and its standard
        elpd_loo_se     error; higher is better; only with draws
        subsampling_se  standard error of elpd_loo besides, if not all rows were visited (see
                        `Loo`)
        difference      of elpd_loo to the highest, and its standard error, from the rows'
        difference_se   differences, and from not visiting all of them
        weight          in the average that predicts best (`stack`)
        bad_k           rows whose Pareto k is too high
        seconds         wall time of the fit, without compiling the model
        status          ok, warn, fail (see `Fit.diagnose`), or error
        note            the checks that were not passed, or the error
        ==============  ==========================================================================
        """
        import pandas as pd

        rows = {label: self._row(fit) for label, fit in self.fits.items()}
        results = self._loo
        if results:
            best = max(results.values(), key=lambda result: result.elpd)
            weight = self.dataset.sample_weight
            by_row = [completed(result.parts, weight) for result in results.values()]
            weights = stacking_weights(np.stack(by_row, axis=1), weight)
            for (label, result), share in zip(results.items(), weights.tolist(), strict=True):
                gap = difference(result.parts, best.parts, weight)
                rows[label] |= {
                    "elpd_loo": result.elpd,
                    "elpd_loo_se": result.se,
                    "difference": gap.value,
                    "difference_se": gap.error,
                    "weight": share,
                    "bad_k": len(bad_rows(self.fits[label], result)),
                }
                if result.subsample is not None:
                    words = subsample_words(result.subsample, result.subsampling_se)
                    rows[label]["subsampling_se"] = result.subsampling_se
                    rows[label]["note"] = " ".join(filter(None, [rows[label]["note"], words]))
        ordered = sorted(rows, key=lambda k: (-rows[k].get("elpd_loo", -np.inf), rows[k]["bic"]))
        listed = {label: rows[label] for label in ordered}
        for label, reason in self.failures.items():
            listed[label] = {"status": "error", "note": reason}
        table = pd.DataFrame.from_dict(listed, orient="index", columns=list(_COLUMNS))
        return table.astype({"n_parameters": "Int64", "bad_k": "Int64"}).rename_axis("model")

    @property
    def plot(self) -> ModelComparisonPlots:
        """The picture: ``comparison.plot.differences()``, or ``comparison.plot()``."""
        from stangmm.plots import ModelComparisonPlots

        return ModelComparisonPlots(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the comparison to a netCDF file and give its path; `stangmm.load` reads it.

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

        groups = {f"model_{i}": fit for i, fit in enumerate(self.fits.values())}
        return save("model comparison", self, groups, path)

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from stangmm.report.notebook import models_html

        return models_html(self)

    def __repr__(self) -> str:
        """Show the table without its notes."""
        table = self.table.drop(columns="note").dropna(axis="columns", how="all")
        formats = {c: f"{{:.{n}f}}".format for c, n in _COLUMNS.items() if n and c in table}
        return f"{type(self).__name__}\n{table.to_string(na_rep='-', formatters=formats)}"

    @cached_property
    def _loo(self) -> dict[str, Loo]:
        return {label: psis_loo(fit) for label, fit in self.fits.items() if has_loo(fit)}

    def _row(self, fit: Fit) -> dict[str, Any]:
        diagnosis, all_rows = fit.diagnose(), fit.dataset.all_rows
        return {
            "kind": fit.kind,
            "n_parameters": fit.model.n_parameters(self.dataset.n_features),
            "log_likelihood": float(fit.total_log_likelihood.mean()),
            "bic": bic(fit),
            "icl": np.nan if all_rows is not None and not all_rows.at_hand else icl(fit),
            "seconds": fit.seconds,
            "status": diagnosis.verdict,
            "note": " ".join(str(check) for check in diagnosis if check.verdict != "ok"),
        }
