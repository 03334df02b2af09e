"""Comparison: several methods, or several models, on one data set, in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import listed, shown
from stangmm.base.errors import DataError, InferenceError, ModelError
from stangmm.base.names import checks_names
from stangmm.base.progress import progress_bar
from stangmm.base.tasks import Workers, is_chosen, run_tasks
from stangmm.data.dataset import Dataset, Missing
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.judge.candidates import named
from stangmm.judge.leave_one_out import has_loo, psis_loo
from stangmm.judge.subsampling import subsample_words
from stangmm.many.mending import with_modes_combined
from stangmm.many.models import ModelComparison
from stangmm.methods import Method, as_method
from stangmm.methods.base import Run
from stangmm.model.mixture import Mixture
from stangmm.posterior.fitting import check_fitted_by, checked_seed, fitted, rows_for
from stangmm.posterior.relabel import match

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import pandas as pd

    from stangmm.plots import ComparisonPlots

COLUMNS = (
    "kind",
    "seconds",
    "log_likelihood",
    "elpd_loo",
    "elpd_loo_se",
    "subsampling_se",
    "r_hat",
    "ess_bulk",
    "ess_per_second",
    "distance",
    "sd_ratio",
    "agreement",
    "status",
    "note",
)
_FORMATS = {
    "seconds": "{:.2f}",
    "log_likelihood": "{:.4f}",
    "elpd_loo": "{:.2f}",
    "r_hat": "{:.4f}",
    "ess_bulk": "{:.0f}",
    "ess_per_second": "{:.0f}",
    "distance": "{:.2f}",
    "sd_ratio": "{:.2f}",
    "agreement": "{:.3f}",
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Fits of one model to one data set by several methods; made by `compare`.

    Attributes
    ----------
    model : GaussianMixture
    dataset : Dataset
    fits : mapping of str to Fit
        In the order in which they were requested, by method name (``nuts``, ``nuts 2`` ...).
        Components are in the order of those of the reference.
    failures : mapping of str to str
        Methods that failed, with the reason.
    seed : int

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=2)
    >>> comparison = sg.compare(model, sg.datasets.faithful(), methods=["em"], seed=1)
    >>> print(comparison.table[["kind", "log_likelihood", "status"]].round(3).to_string())
             kind  log_likelihood status
    method
    em      point       -1130.264     ok
    """

    model: GaussianMixture
    dataset: Dataset
    fits: Mapping[str, Fit]
    failures: Mapping[str, str]
    seed: int

    @property
    def reference(self) -> str | None:
        """The fit that the others are compared with: the first by MCMC, if there is one."""
        return next((label for label, fit in self.fits.items() if fit.kind == "mcmc"), None)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each method, failed ones too.

        ==============  ==========================================================================
        kind            point, approximation or mcmc
        seconds         wall time of the fit, without compiling the model
        log_likelihood  of the data at the estimate, or averaged over the draws
        elpd_loo        leave-one-out expected log predictive density by PSIS, and its standard
        elpd_loo_se     error; only with draws
        subsampling_se  standard error of elpd_loo besides, if not all rows were visited (see
                        `Loo`)
        r_hat           the worst of all parameters, after relabelling, and of lp
        ess_bulk        the smallest of the same
        ess_per_second  ess_bulk divided by seconds
        distance        the largest difference between a posterior mean (weights, means, scales) and
                        that of the reference, in posterior standard deviations of the reference
        sd_ratio        the posterior standard deviation that differs most from the reference's, as
                        a ratio to it; below 1 the method's intervals are too narrow
        agreement       share of the rows in the same cluster as under the reference
        status          ok, warn, fail (see `Diagnosis.computation`), or error
        note            the checks that were not passed, or the error
        ==============  ==========================================================================
        """
        import pandas as pd

        rows = {label: self._row(fit) for label, fit in self.fits.items()}
        for label, reason in self.failures.items():
            rows[label] = {"status": "error", "note": reason}
        return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis(
            "method"
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the comparison to a netCDF file and give its path; `stangmm.load` reads it.

        ``az.from_netcdf(path, group="nuts")`` opens the fit of that name (ArviZ before 1:
        ``az.InferenceData.from_netcdf(path, base_group="nuts")``).

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

        return save("comparison", self, self.fits, path)

    def report(self, path: str | os.PathLike[str], *, progress: bool = True) -> Path:
        """Write a self-contained HTML report and give its path.

        Parameters
        ----------
        path : str or path
            The file to write; its folder must exist. An existing file is replaced.
        progress : bool
            Whether to show progress when it takes longer than a second.

        Returns
        -------
        Path

        Raises
        ------
        ModelError
            The folder does not exist, or the path is a folder.
        OSError
            The file could not be written; what was there before is as it was.
        """
        from stangmm.report import comparison_report

        return comparison_report(self, path, progress=progress)

    @property
    def plot(self) -> ComparisonPlots:
        """The pictures: ``comparison.plot.estimates()``; ``comparison.plot()`` is the densities."""
        from stangmm.plots import ComparisonPlots

        return ComparisonPlots(self)

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from stangmm.report.notebook import comparison_html

        return comparison_html(self)

    def __repr__(self) -> str:
        """Show the table without its notes."""
        columns = [c for c in COLUMNS if c not in ("note", "elpd_loo_se", "subsampling_se")]
        shown = self.table[columns].to_string(
            na_rep="-", formatters={c: _FORMATS[c].format for c in columns if c in _FORMATS}
        )
        return f"{type(self).__name__} of {self.model!r}\n{shown}"

    @cached_property
    def _reference_clusters(self) -> IntArray:
        return _clusters(self.fits[str(self.reference)])

    def _row(self, fit: Fit) -> dict[str, Any]:
        from stangmm.posterior.summary import convergence

        words: list[str] = []
        row: dict[str, Any] = {
            "kind": fit.kind,
            "seconds": fit.seconds,
            "log_likelihood": float(fit.total_log_likelihood.mean()),
        }
        if has_loo(fit):
            elpd = psis_loo(fit)
            row |= {"elpd_loo": elpd.elpd, "elpd_loo_se": elpd.se}
            if elpd.subsample is not None:
                row["subsampling_se"] = elpd.subsampling_se
                words = [subsample_words(elpd.subsample, elpd.subsampling_se)]
        if fit.kind == "mcmc":
            values = convergence(fit)
            row |= {"r_hat": values["r_hat"], "ess_bulk": values["ess_bulk"]}
            row["ess_per_second"] = values["ess_bulk"] / fit.seconds
        if self.reference is not None:
            reference = self.fits[self.reference]
            if fit is not reference:
                row["distance"] = posterior_distance(fit, reference)
                if fit.kind != "point":
                    row["sd_ratio"] = posterior_sd_ratio(fit, reference)
                same = _clusters(fit) == self._reference_clusters
                row["agreement"] = float(np.average(same, weights=self.dataset.sample_weight))
        diagnosis = fit.diagnose()
        open_checks = [str(check) for check in diagnosis if check.verdict != "ok"]
        row["status"] = diagnosis.computation.verdict
        row["note"] = " ".join([*open_checks, *words])
        return row


@overload
def compare(
    model: GaussianMixture,
    X: Any,
    methods: str | Method | Fit | Sequence[str | Method | Fit] | None = ...,
    *,
    seed: int | None = ...,
    sample_weight: Any = ...,
    labels: Any = ...,
    missing: Missing = ...,
    init: Any = ...,
    progress: bool = ...,
) -> Comparison: ...
@overload
def compare(
    model: Mapping[str, GaussianMixture | Fit] | Sequence[GaussianMixture | Fit],
    X: Any,
    methods: str | Method | Sequence[str | Method] | None = ...,
    *,
    seed: int | None = ...,
    sample_weight: Any = ...,
    labels: Any = ...,
    missing: Missing = ...,
    progress: bool = ...,
) -> ModelComparison: ...
@checks_names
def compare(
    model: Any,
    X: Any,
    methods: Any = None,
    *,
    seed: int | None = None,
    sample_weight: Any = None,
    labels: Any = None,
    missing: Missing = "error",
    init: Any = None,
    progress: bool = True,
) -> Comparison | ModelComparison:
    """Fit one model by several methods, or several models, to one data set.

    If a method's chains are in several modes, these are combined, each with its weight
    (`Fit.combined`), if the weights can be computed.

    Fits are made one after the other. Within ``joblib.parallel_config(...)`` they run side by side
    where that says: in processes, or on the machines of a cluster.

    Parameters
    ----------
    model : GaussianMixture, or a dict or list of them
        Several models are compared by leave-one-out, BIC and ICL instead of by how near methods
        come to the posterior. In a dict the keys are their labels; in a list labels are such as
        "K = 2 (full)". Existing fits among them are used as they are.
    X : array or DataFrame, shape (N, D)
    methods : str, Method or Fit, or sequence of them, optional
        By default "em", "optimize", "advi" and "nuts" for one model, and "nuts" for several.
        Existing fits of the one model to the same data are used as they are.
    seed : int, optional
        The same for every fit.
    sample_weight, labels, missing, init, progress
        As for `GaussianMixture.fit`; ``init`` for one model only.

    Returns
    -------
    Comparison or ModelComparison
        Of one model, or of several. A fit that fails has a row that says why; the others go on.

    Raises
    ------
    DataError, ModelError
        Before anything starts.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=2)
    >>> comparison = sg.compare(
    ...     model, sg.datasets.faithful(), methods=["em", sg.EM(restarts=5)], seed=1
    ... )
    >>> list(comparison.fits)
    ['em', 'em 2']
    >>> models = [sg.GaussianMixture(2), sg.GaussianMixture(2, "tied")]
    >>> list(sg.compare(models, sg.datasets.faithful(), methods=["em"], seed=1).fits)
    ['K = 2 (full)', 'K = 2 (tied)']
    """
    one = isinstance(model, GaussianMixture)
    models: dict[str, GaussianMixture | Fit] = {} if one else _labelled(model)
    dataset = Dataset.from_input(X, sample_weight, labels=labels, missing=missing)
    seed = checked_seed(seed)
    if methods is None:
        methods = ("em", "optimize", "advi", "nuts") if one else ("nuts",)
    chosen = [methods] if isinstance(methods, str | Method | Fit) else listed(methods)
    if not chosen:
        raise ModelError(
            f"methods must be methods or fits, with at least one, got {shown(methods)}."
        )
    used = [as_method(m) for m in chosen if not isinstance(m, Fit)]
    dataset = rows_for(dataset, *used)
    plan: dict[str, Fit | tuple[GaussianMixture, Method]] = {}
    if one:
        jobs = [m if isinstance(m, Fit) else as_method(m) for m in chosen]
        for job in jobs:
            if isinstance(job, Fit):
                _check_same_problem(job, model, dataset)
        for job in jobs:
            label = _label(job.method if isinstance(job, Fit) else job.name, list(plan))
            plan[label] = job if isinstance(job, Fit) else (model, job)
        fits, failures = _outcomes(plan, dataset, seed, init, (InferenceError,), progress)
        return Comparison(model, dataset, _matched(fits), failures, seed)
    if init is not None:
        raise ModelError("init is for one model; fit each of several models by itself instead.")
    if any(isinstance(m, Fit) for m in chosen):
        raise ModelError("Give fits of several models in place of their models, not as methods.")
    settings = used
    for each in models.values():
        if isinstance(each, Fit):
            _check_same_data(each, dataset)
        else:
            each.priors.resolve(dataset, each.structure, each.n_components, each.noise)
            for method in settings:
                check_fitted_by(method, each.structure)
    for name, each in models.items():
        if isinstance(each, Fit):
            plan[name] = each
            continue
        for method in settings:
            label = name if len(settings) == 1 else f"{name}, {method.name}"
            plan[_label(label, list(plan))] = (each, method)
    lost = (DataError, InferenceError)
    fits, failures = _outcomes(plan, dataset, seed, None, lost, progress)
    return ModelComparison(dataset, fits, failures, seed)


def _outcomes(
    plan: Mapping[str, Fit | tuple[GaussianMixture, Method]],
    dataset: Dataset,
    seed: int,
    init: Any,
    lost: tuple[type[Exception], ...],
    progress: bool,
) -> tuple[dict[str, Fit], dict[str, str]]:
    """Fits and failures by label: one after the other, unless the user has chosen where they run.

    Side by side on one machine they would take each other's time, which the tables compare.
    """
    made: dict[str, Fit | str] = {label: job for label, job in plan.items() if isinstance(job, Fit)}
    open_jobs = {label: job for label, job in plan.items() if not isinstance(job, Fit)}
    apart = is_chosen() and dataset.all_rows is None  # or each pass is done by Dask's workers
    workers = Workers.of(max(1, len(open_jobs))) if apart else Workers.here()
    run = Run(seed, progress and not apart, workers.processors)
    for settings in {method.name: method for _, method in open_jobs.values()}.values():
        if apart:
            settings.prepare(Run(seed, progress))
    tasks = [(*job, run, init, lost) for job in open_jobs.values()]
    advance = progress_bar("fits", len(tasks), shown=progress and apart)
    labels = list(open_jobs)
    for i, outcome in run_tasks(_attempt, dataset, tasks, workers):
        made[labels[i]] = outcome
        advance(1)
    in_order = {label: made[label] for label in plan}
    fits = {label: fit for label, fit in in_order.items() if isinstance(fit, Fit)}
    return fits, {label: why for label, why in in_order.items() if isinstance(why, str)}


def _attempt(
    dataset: Dataset,
    model: GaussianMixture,
    settings: Method,
    run: Run,
    init: Any,
    lost: tuple[type[Exception], ...],
) -> Fit | str:
    try:
        fit = fitted(Fit, model, dataset, settings, run, init=init)
        fit.diagnose()
        return with_modes_combined(fit, progress=run.show_progress)
    except lost as error:
        return str(error)


def _labelled(models: Any) -> dict[str, GaussianMixture | Fit]:
    """Models or fits by their labels."""
    found = list(models.values()) if isinstance(models, Mapping) else listed(models)
    if not found or isinstance(models, Fit):
        raise ModelError(
            "model must be a GaussianMixture, or a dict or list of them, with at least one, got "
            f"{shown(models)}."
        )
    for each in found:
        if not isinstance(each, GaussianMixture | Fit):
            raise ModelError(f"model must hold models or fits, got {shown(each)}.")
    if isinstance(models, Mapping):
        if wrong := [label for label in models if not isinstance(label, str)]:
            raise ModelError(f"Labels of models must be text, got {shown(wrong[0])}.")
        return dict(models)
    labelled: dict[str, GaussianMixture | Fit] = {}
    for each in found:
        model = each.model if isinstance(each, Fit) else each
        label = named((model.covariance_type, model.n_components))
        labelled[_label(label, list(labelled))] = each
    return labelled


def posterior_distance(fit: Fit, reference: Fit) -> float:
    """Largest |difference of posterior means| / reference's posterior sd over all parameters."""
    return max(
        float((np.abs(own.mean(axis=0) - other.mean(axis=0)) / other.std(axis=0)).max(initial=0.0))
        for own, other in _parameters(fit, reference)
    )


def posterior_sd_ratio(fit: Fit, reference: Fit) -> float:
    """Ratio of posterior sds, fit's to reference's, that is furthest from 1 (on the log scale)."""
    ratios = [own.std(axis=0) / other.std(axis=0) for own, other in _parameters(fit, reference)]
    each = np.concatenate([[1.0], *ratios])
    with np.errstate(divide="ignore"):
        return float(each[np.argmax(np.abs(np.log(each)))])


def _parameters(fit: Fit, reference: Fit) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Draws (S, P) of both, kind by kind; a single weight, 1 in every draw, is left out."""
    for name in ("weights", "means", "scales"):
        own: FloatArray = getattr(fit.mixture, name)
        other: FloatArray = getattr(reference.mixture, name)
        varies = other.std(axis=0) > 0
        yield own[:, varies], other[:, varies]


def _clusters(fit: Fit) -> IntArray:
    return np.asarray(fit.predict(fit.dataset.x, progress=False))


def _matched(fits: dict[str, Fit]) -> dict[str, Fit]:
    """Order the components of every fit as in the reference (else the first fit)."""
    if not fits:
        return fits
    reference = next((f for f in fits.values() if f.kind == "mcmc"), next(iter(fits.values())))
    free = reference.free_components
    if len(free) < 2:
        return fits
    point = _point(reference)
    x = reference.dataset.x
    return {
        label: fit if fit is reference else fit.reordered(match(_point(fit), point, x, free))
        for label, fit in fits.items()
    }


def _point(fit: Fit) -> Mixture:
    return Mixture.from_covariances(fit.weights, fit.means, fit.covariances)


def _label(name: str, taken: list[str]) -> str:
    labels = [name, *(f"{name} {i}" for i in range(2, len(taken) + 2))]
    return next(label for label in labels if label not in taken)


def _check_same_problem(fit: Fit, model: GaussianMixture, dataset: Dataset) -> None:
    if (fit.model.n_components, fit.model.covariance_type, fit.model.noise) != (
        model.n_components,
        model.covariance_type,
        model.noise,
    ):
        raise ModelError(f"All fits must be of one model, {model!r}, got one of {fit.model!r}.")
    _check_same_data(fit, dataset)


def _check_same_data(fit: Fit, dataset: Dataset) -> None:
    if not fit.dataset.same_as(dataset):
        raise DataError(
            "All fits must be of the data given, with the same sample weights and labels; one was "
            "fitted to others."
        )
