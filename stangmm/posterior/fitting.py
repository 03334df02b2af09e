"""Fitting: the one place where a model, data and a method become a record.

Methods see the standardized problem and return its draws; here they are brought to the user's
units, once for all methods, and their labels are settled.
"""

from __future__ import annotations

import platform
import secrets
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar

from stangmm.base.checked import check_seed
from stangmm.base.errors import InferenceError, ModelError
from stangmm.base.memory import check_memory
from stangmm.data.dataset import Dataset
from stangmm.methods.base import ChosenDraws, Method, Run
from stangmm.methods.draws import Draws
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import log_likelihood
from stangmm.model.problem import Problem
from stangmm.model.spec import MixtureSpec
from stangmm.posterior.fitted import Fitted, record_of
from stangmm.posterior.relabel import Relabelling
from stangmm.posterior.starts import start_from

F = TypeVar("F", bound=Fitted)


def check_fitted_by(settings: Method, structure: CovarianceStructure) -> None:
    """Raise ModelError for covariances that a method cannot fit."""
    if structure.em_only and not settings.any_structure:
        raise ModelError(
            f'covariance_type="{structure.name}" is fitted by method="em" only, got '
            f"{settings.name!r}: the Stan model has no volume or shape that components share. Use "
            'method="em", or covariance_type="full", "tied" or "diag".'
        )


def rows_for(dataset: Dataset, *methods: Method) -> Dataset:
    """Give the dataset, in memory unless all methods go through data chunk by chunk.

    Raises
    ------
    ModelError
        The rows do not fit into memory.
    """
    return dataset if all(method.in_chunks for method in methods) else dataset.in_memory()


def fitted(
    made: type[F],
    model: MixtureSpec,
    dataset: Dataset,
    settings: Method,
    run: Run,
    *,
    relabel: Relabelling | None = "stephens",
    init: Any = None,
    problem: Problem | None = None,
) -> F:
    """Fit a model to data by a method.

    Parameters
    ----------
    made : type
        `Fitted`, or `Fit` for users.
    model : MixtureSpec
    dataset : Dataset
    settings : Method
    run : Run
        Seed, and whether progress is shown.
    relabel : {"stephens", "ecr", "means"} or None
    init : array or Fitted, optional
        Where to begin instead of a search.
    problem : Problem, optional
        What the method is given, where that is not just the model and the data.

    Returns
    -------
    Fitted
        Of the type that was asked for.

    Raises
    ------
    DataError, ModelError
        Before anything starts: data and model do not fit each other.
    InferenceError
        The method failed; ``partial`` is a record of the chains that finished, if any did.
    """
    structure = model.structure
    check_fitted_by(settings, structure)
    dataset = rows_for(dataset, settings)
    given = problem
    which = model.n_components, structure, model.priors, model.noise
    problem = given or Problem.build(dataset, *which)
    priors = model.priors.resolve(dataset, structure, model.n_components, model.noise)
    if init is not None:
        problem = replace(problem, start=start_from(init, problem, dataset))
    _check_memory(problem, settings)
    settings.prepare(run)
    began = time.perf_counter()

    def recorded(standardized: Draws) -> F:
        made_by, reason = settings, ""
        if isinstance(standardized, ChosenDraws):
            made_by, reason = standardized.settings, standardized.reason
        draws = standardized.in_user_units(problem)
        if given is not None:  # what was maximized may be something else
            own = log_likelihood(draws.mixture, dataset.x, dataset.sample_weight)
            draws = replace(draws, log_likelihood=own)
        record = record_of(
            made,
            model,
            dataset,
            made_by,
            draws,
            priors=priors,
            relabel=relabel,
            seed=run.seed,
            seconds=0.0,
            versions={**package_versions(), **made_by.versions(run)},
            started_by_hand=init is not None,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            reason=reason,
        )
        # Settling the labels counts.
        return replace(record, seconds=time.perf_counter() - began)

    try:
        draws = settings.run(problem, run)
    except InferenceError as error:
        if isinstance(error.partial, Draws):
            error.partial = recorded(error.partial)
        raise
    advance = run.progress("labels", 1)
    record = recorded(draws)
    advance(1)
    return record


def _check_memory(problem: Problem, settings: Method) -> None:
    """Raise ModelError where not even the data and the draws can be held."""
    n_draws, each = settings.n_draws, problem.numbers_a_draw
    check_memory(
        f"A fit of {len(problem.x)} rows with {n_draws} draws of {each} numbers",
        8.0 * (3 * problem.x.size + 3 * n_draws * each),
        "Use fewer draws, rows, components or features.",
    )


def checked_seed(seed: int | None) -> int:
    """Check a seed, or draw one."""
    if seed is None:
        return secrets.randbelow(2**31)
    check_seed(seed)
    return int(seed)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a fit rests on."""
    packages = {name: _version(name) for name in ("stangmm", "numpy", "scipy", "cmdstanpy")}
    return {"python": platform.python_version(), "platform": sys.platform, **packages}


@cache
def _version(package: str) -> str:
    return version(package)  # which reads files: a fifth of a small fit by EM
