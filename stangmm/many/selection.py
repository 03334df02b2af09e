"""Selection: how many components, of which covariance type, by one criterion over many fits."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from stangmm.base.checked import check_choice, check_count, listed, shown
from stangmm.base.errors import ConvergenceWarning, DataError, InferenceError, ModelError
from stangmm.base.names import checks_names
from stangmm.base.progress import progress_bar
from stangmm.base.tasks import Workers, run_tasks
from stangmm.data.dataset import Dataset, Missing
from stangmm.fit import Fit
from stangmm.gaussian_mixture import GaussianMixture
from stangmm.judge.candidates import Candidate, components_of
from stangmm.judge.criteria import CRITERIA, Criterion
from stangmm.many.choice import Selection
from stangmm.many.grid import Grid
from stangmm.many.mending import with_modes_combined
from stangmm.methods import Method, MethodName, as_method
from stangmm.methods.base import Run
from stangmm.methods.draws import McmcInfo
from stangmm.model.covariance import CovarianceType, MclustName, structure_named
from stangmm.model.priors import Priors
from stangmm.posterior.fitting import check_fitted_by, checked_seed, fitted, rows_for


@checks_names
def select_components(
    X: Any,
    components: Sequence[int] = range(1, 9),
    *,
    method: MethodName | Method = "nuts",
    criterion: str | None = None,
    covariance_type: CovarianceType | MclustName | Sequence[CovarianceType | MclustName] = "full",
    priors: Priors | None = None,
    noise: bool | float = False,
    seed: int | None = None,
    sample_weight: Any = None,
    labels: Any = None,
    missing: Missing = "error",
    jobs: int | None = None,
    progress: bool = True,
) -> Selection:
    """Fit mixtures with several numbers of components and choose one.

    Covariance types in a list are tried with every number of components, and type and number are
    chosen together.

    The best value of the criterion wins, unless the data cannot tell it from the value of a model
    with fewer free parameters: then the smallest such model is chosen. For "loo" and "waic" the
    data cannot tell two values apart if the difference is below 4, or within two of its standard
    errors. These errors are estimated from the rows' differences (Vehtari, Gelman & Gabry 2017,
    doi:10.1007/s11222-016-9696-4), and are too small for differences below 4 (Sivula, Magnusson &
    Vehtari 2020, doi:10.48550/arXiv.2008.10296). For "evidence" it is two Monte Carlo standard
    errors.

    A fit that failed its checks is never chosen. If chains are in several modes, these are combined
    (`Fit.combined`). If a check still fails and the fit could change the choice, it is run once
    more, for longer (NUTS: more iterations per draw, smaller steps; EM: ten times the iterations),
    which takes up to twelve times as long; for "evidence" so is a fit that, by its evidence, is at
    least a hundredth as probable as the best. A fit that fails again is left out, with the reason.
    So is a fit with a component on few equal values, if there are others: its criterion depends on
    how finely the data were rounded.

    Parameters
    ----------
    X : array or DataFrame, shape (N, D)
    components : sequence of int
        Numbers of components to try.
    method : str or Method
        As for `GaussianMixture.fit`.
    criterion : {"loo", "waic", "bic", "aic", "icl", "evidence"}, optional
        By default "loo" for methods that give draws and "bic" for point estimates.
    covariance_type : str or sequence of str
        As in `GaussianMixture`. With a list, even of one type, fits are named by the type and the
        number of components: ``selection.fits["tied", 3]``.
    priors : Priors, optional
        The same for every fit.
    noise : bool or float
        As in `GaussianMixture`, for every fit.
    seed : int, optional
        Each number of components gets its own seed from it, for all covariance types the same; the
        result does not depend on ``jobs``.
    sample_weight, labels, missing
        As for `GaussianMixture.fit`.
    jobs : int, optional
        Fits at a time. The default uses all processors. With several fits at a time, the chains of
        each run one after the other. Within ``joblib.parallel_config(...)`` the fits run where that
        says: in processes, or on the machines of a cluster.
    progress : bool

    Returns
    -------
    Selection
        A model that cannot be fitted or chosen has a row that says why.

    Raises
    ------
    DataError, ModelError
        Before anything starts; also for a criterion that the method cannot give.
    InferenceError
        No fit passed its checks; ``partial`` has the fits, as in ``Selection.fits``.

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
    settings = as_method(method).at_first()
    dataset = rows_for(dataset, settings)
    rule = _criterion_for(criterion, settings)
    models = _models(components, covariance_type, priors or Priors(), noise, dataset)
    for model in models.values():
        check_fitted_by(settings, model.structure)
    seed = checked_seed(seed)
    if jobs is not None:
        check_count("jobs", jobs)
    settings.prepare(Run(seed, progress))
    workers = Workers.of(len(models), settings.processors, jobs)
    if dataset.all_rows is not None:  # each pass is done by all of Dask's workers
        workers = Workers.here()

    def attempts(
        wanted: Mapping[Candidate, Method], number: int
    ) -> Iterator[tuple[Candidate, Fit | str]]:
        """Outcomes as they are ready; the longest fits begin first."""
        order = sorted(wanted, key=components_of, reverse=True)
        tasks = []
        for k in order:
            entropy = [seed, components_of(k), *[1] * number]
            own_seed = int(np.random.default_rng(entropy).integers(2**31))
            tasks.append((models[k], wanted[k], Run(own_seed, processors=workers.processors)))
        for i, outcome in run_tasks(_attempt, dataset, tasks, workers):
            yield order[i], outcome

    with warnings.catch_warnings():  # said in the table
        warnings.simplefilter("ignore", ConvergenceWarning)
        # A fit takes time in proportion to its components, and the time left is known from that.
        advance = progress_bar("components of all fits", _total(models), shown=progress)
        grid = Grid(rule, dataset, seed)
        for k, outcome in attempts(dict.fromkeys(models, settings), 0):
            advance(components_of(k))
            grid.made[k] = outcome
        while wanted := grid.wanted():
            longer = {k: settings.longer(fit.info) for k, fit in wanted.items()}
            able = {k: more for k, more in longer.items() if more is not None}
            grid.tried.update(wanted)
            advance = progress_bar("longer runs after failed checks", _total(able), shown=progress)
            for k, outcome in attempts(able, 1):
                advance(components_of(k))
                grid.replace(k, outcome, _how(settings, able[k], outcome))
        return grid.selection()


def _attempt(dataset: Dataset, model: GaussianMixture, settings: Method, run: Run) -> Fit | str:
    try:
        made = with_modes_combined(fitted(Fit, model, dataset, settings, run))
    except (DataError, InferenceError) as error:
        return str(error)
    made.diagnose()  # here, side by side; it is kept
    return made


def _how(settings: Method, longer: Method, outcome: Fit | str) -> str:
    """Say how the second run differed from the first."""
    changed = ((f.name, getattr(longer, f.name)) for f in fields(longer))  # type: ignore[arg-type]
    words = [f"{n} {v}" for n, v in changed if v is not None and v != getattr(settings, n)]
    if isinstance(outcome, Fit) and isinstance(outcome.info, McmcInfo):
        words.append(f"{outcome.info.thin} iterations a draw")
    return f"Run again, longer ({', '.join(words)})."


def _criterion_for(name: str | None, settings: Method) -> Criterion:
    if name is None:
        return CRITERIA["bic" if settings.kind == "point" else "loo"]
    check_choice("criterion", name, tuple(CRITERIA))
    if not CRITERIA[name].suits(settings):
        possible = [c.name for c in CRITERIA.values() if c.suits(settings)]
        raise ModelError(
            f'criterion="{name}" cannot be computed from method "{settings.name}" (kind '
            f'"{settings.kind}"). Use one of {possible}, or method="nuts".'
        )
    return CRITERIA[name]


def _models(
    components: Any,
    covariance_type: Any,
    priors: Priors,
    noise: bool | float,
    dataset: Dataset,
) -> dict[Candidate, GaussianMixture]:
    """The candidates; priors must suit every one of them."""
    numbers = [] if isinstance(components, str) else listed(components)
    if not numbers:
        raise ModelError(
            "components must be a sequence of numbers such as range(1, 9), got "
            f"{shown(components)}."
        )
    for k in numbers:
        check_count("Each of components", k)
    one = isinstance(covariance_type, str)
    types = [covariance_type] if one else listed(covariance_type)
    if not types:
        raise ModelError(
            'covariance_type must be a name such as "full" or a list of names, with at least one, '
            f"got {shown(covariance_type)}."
        )
    models: dict[Candidate, GaussianMixture] = {}
    for structure in map(structure_named, types):
        for k in sorted(map(int, numbers)):
            models[k if one else (structure.name, k)] = GaussianMixture(
                k, structure.name, priors, noise
            )
            priors.resolve(dataset, structure, k, noise)
    return models


def _total(candidates: Iterable[Candidate]) -> int:
    """Components of all candidates, in proportion to which they take time."""
    return sum(map(components_of, candidates))
