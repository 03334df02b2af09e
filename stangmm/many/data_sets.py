"""Fits of one model to many data sets, as in a simulation study, in one table."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.base.checked import listed, seed_at, shown
from stangmm.base.errors import ConvergenceWarning, DataError, InferenceError, ModelError
from stangmm.base.names import checks_names
from stangmm.base.progress import progress_bar
from stangmm.base.tasks import Workers, is_chosen, run_tasks
from stangmm.data.dataset import Dataset, Missing
from stangmm.data.frames import is_table
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.judge.diagnostics import diagnose_computation
from stangmm.methods import Method, MethodName, as_method
from stangmm.methods.base import Run
from stangmm.posterior.fitting import check_fitted_by, checked_seed, fitted
from stangmm.posterior.relabel import Relabelling, checked_relabelling
from stangmm.posterior.summary import estimates

if TYPE_CHECKING:
    import pandas as pd

_FACTS = ("seconds", "seed", "status", "note")  # last in the table; the parameters come before
_SHOWN = ["n_observations", "log_likelihood", "seconds", "status"]
_ROWS_SHOWN = 10


@dataclass(frozen=True, eq=False)
class ManyFits:
    """Fits of one model to many data sets; made by `fit_many`.

    Attributes
    ----------
    model : GaussianMixture
    outcomes : mapping of name to Fit or str
        For each data set, by its key or its number from 0: the fit, or why there is none.
    seed : int

    Examples
    --------
    >>> import numpy as np
    >>> import stangmm as sg
    >>> rng = np.random.default_rng(1)
    >>> samples = [5.0 * rng.integers(0, 2, 200) + rng.normal(size=200) for _ in range(3)]
    >>> study = sg.fit_many(sg.GaussianMixture(2), samples, seed=1)
    >>> print(study.table[["means[0, x]", "means[1, x]", "status"]].round(1).to_string())
              means[0, x]  means[1, x] status
    data_set
    0                -0.2          4.8     ok
    1                 0.1          4.9     ok
    2                -0.1          5.0     ok
    """

    model: GaussianMixture
    outcomes: Mapping[Hashable, Fit | str]
    seed: int

    @cached_property
    def fits(self) -> dict[Hashable, Fit]:
        """The fits by the data sets' names; a fit has all that `GaussianMixture.fit` gives."""
        return {name: made for name, made in self.outcomes.items() if isinstance(made, Fit)}

    @cached_property
    def failures(self) -> dict[Hashable, str]:
        """Data sets that could not be fitted, with the reason."""
        return {name: made for name, made in self.outcomes.items() if isinstance(made, str)}

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each data set, failed ones too.

        ==============  ==========================================================================
        n_observations  rows of the data set
        log_likelihood  of the data at the estimate, or averaged over the draws
        weights[0] ...  estimate or posterior mean of each parameter, by its name in `Fit.summary`
        seconds         wall time of the fit, without compiling the model
        seed            with which `GaussianMixture.fit` gives this fit again
        status          ok, warn or fail (see `Diagnosis.computation`), or error
        note            the checks that were not passed, or the error
        ==============  ==========================================================================

        Components are in the order of their means in the first feature. The goodness of fit is not
        among the checks: ``study.fits[name].diagnose()`` has it.
        """
        import pandas as pd

        rows = [_row(made) for made in self.outcomes.values()]
        index = pd.Index(list(self.outcomes), name="data_set", tupleize_cols=False)
        table = pd.DataFrame(rows, index=index)
        first = [name for name in table.columns if name not in ("n_observations", *_FACTS)]
        table = table.reindex(columns=["n_observations", *first, *_FACTS])
        return table.astype({"n_observations": "Int64", "seed": "Int64"})

    def __repr__(self) -> str:
        """Show the first rows."""
        table = self.table.reindex(columns=_SHOWN)
        status = table["status"].value_counts()
        counts = ", ".join(f"{n} {name}" for name, n in status.items())
        rows = table.head(_ROWS_SHOWN).to_string(na_rep="-", float_format="{:.4g}".format)
        more = f"\n... and {len(table) - _ROWS_SHOWN} more" if len(table) > _ROWS_SHOWN else ""
        return f"{type(self).__name__} of {self.model!r}: {counts}\n{rows}{more}"


@checks_names
def fit_many(
    model: GaussianMixture,
    datasets: Any,
    method: MethodName | Method = "em",
    *,
    seed: int | None = None,
    missing: Missing = "error",
    relabel: Relabelling | None = "stephens",
    progress: bool = True,
) -> ManyFits:
    """Fit one model to each of many data sets.

    Parameters
    ----------
    model : GaussianMixture
        Priors that it leaves out are scaled by each data set.
    datasets : sequence or dict of arrays or DataFrames, each of shape (N, D) or (N,)
        An array of shape (M, N, D) is M data sets. Of a dict the keys are the data sets' names.
    method : str or Method
        As for `GaussianMixture.fit`.
    seed : int, optional
        From it and a data set's place follows the seed of its fit.
    missing, relabel
        As for `GaussianMixture.fit`.
    progress : bool
        Whether to show progress when it takes longer than a second.

    Returns
    -------
    ManyFits
        The table, and the fits. A data set that cannot be fitted has a row that says why.

    Raises
    ------
    DataError, ModelError
        Before anything starts: there is no data set, or the method cannot fit the model.
    CmdStanNotFoundError, CompileError
        The method needs CmdStan.

    Warns
    -----
    ConvergenceWarning
        There are data sets that could not be fitted.

    Examples
    --------
    >>> import stangmm as sg
    >>> faithful = sg.datasets.faithful()
    >>> halves = {"first": faithful[:136], "second": faithful[136:]}
    >>> study = sg.fit_many(sg.GaussianMixture(2), halves, seed=1)
    >>> print(study.table["weights[0]"].round(2).to_dict())
    {'first': 0.37, 'second': 0.34}
    """
    if not isinstance(model, GaussianMixture):
        raise ModelError(f"model must be a GaussianMixture, got {shown(model)}.")
    named = _named(datasets)
    settings, relabel = as_method(method), checked_relabelling(relabel)
    check_fitted_by(settings, model.structure)
    seed = checked_seed(seed)
    settings.prepare(Run(seed, progress))
    advance = progress_bar("fits", len(named), shown=progress)
    # Threads of this process would wait for one another in fits as short as these.
    workers = Workers.of(len(named), settings.processors) if is_chosen() else Workers.here()
    tasks = [
        (X, settings, Run(seed_at(seed, place), processors=workers.processors), missing, relabel)
        for place, X in enumerate(named.values())
    ]
    found: dict[int, Fit | str] = {}
    for place, outcome in run_tasks(_attempt, model, tasks, workers):
        found[place] = outcome
        advance(1)
    outcomes = {name: found[place] for place, name in enumerate(named)}
    many = ManyFits(model, outcomes, seed)
    if many.failures:
        first, why = next(iter(many.failures.items()))
        warnings.warn(
            f"{len(many.failures)} of {len(named)} data sets could not be fitted; the first is "
            f"{shown(first)}: {why} All are in `failures`.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return many


def _attempt(
    model: GaussianMixture,
    X: Any,
    settings: Method,
    run: Run,
    missing: Missing,
    relabel: Relabelling | None,
) -> Fit | str:
    try:
        dataset = Dataset.from_input(X, missing=missing)
        return fitted(Fit, model, dataset, settings, run, relabel=relabel)
    except (DataError, ModelError, InferenceError) as error:
        return str(error)


def _named(datasets: Any) -> dict[Hashable, Any]:
    """Data sets by their names."""
    one = is_table(datasets) or (isinstance(datasets, np.ndarray) and datasets.ndim < 3)
    each = {} if one or isinstance(datasets, str) else datasets
    named = each if isinstance(each, Mapping) else dict(enumerate(listed(each)))
    if not named:
        raise DataError(
            "datasets must be a list or dict of tables, with at least one, got "
            f"{shown(datasets)}. For one table use model.fit."
        )
    return dict(named)


def _row(made: Fit | str) -> dict[str, Any]:
    if isinstance(made, str):
        return {"status": "error", "note": made}
    diagnosis = diagnose_computation(made)
    return {
        "n_observations": made.dataset.n_observations,
        "log_likelihood": float(made.total_log_likelihood.mean()),
        **estimates(made),
        "seconds": made.seconds,
        "seed": made.seed,
        "status": diagnosis.verdict,
        "note": " ".join(str(check) for check in diagnosis if check.verdict != "ok"),
    }
