"""Fits for tests: quick settings, and fits whose warnings are kept."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import stangmm as sg
from stangmm.cmdstan.run import CmdStanRun
from stangmm.methods import METHODS, Method
from stangmm.methods.stan.recent import RecentStanMethod

# A test of one that CmdStan lacks is skipped: see `skip_where_lacking`.
# "auto" is one of two others, and has tests of its own.
ALL = [name for name in METHODS if name != "auto"]
DRAWING = [name for name in ALL if METHODS[name].kind != "point"]

# Settings that are quick and enough where only the form of the answer is looked at.
QUICK: dict[str, Method] = {
    "em": sg.EM(restarts=10),
    "optimize": sg.Optimize(restarts=6),
    "advi": sg.ADVI(draws=200),
    "nuts": sg.NUTS(chains=2, warmup=200, draws=100),
    "pathfinder": sg.Pathfinder(draws=200),
    "laplace": sg.Laplace(draws=200),
    "stan_laplace": sg.StanLaplace(draws=200),
}


def skip_where_lacking(settings: Method) -> None:
    """Skip a test of a method that the installed CmdStan is too old for.

    ``python tests/stan_versions/services.py --battery`` runs these, too.
    """
    if isinstance(settings, RecentStanMethod):
        try:
            settings.check_available()
        except sg.ModelError as error:
            pytest.skip(str(error).partition(" and the one in")[0])


def fit_quick(model: sg.GaussianMixture, X: Any, method: str | Method, **options: Any) -> sg.Fit:
    """Fit with quick settings, which may well say of themselves that they did not converge."""
    settings = QUICK[method] if isinstance(method, str) else method
    skip_where_lacking(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return model.fit(X, method=settings, **{"seed": 1, "progress": False, **options})


def fit_and_listen(
    model: sg.GaussianMixture, X: Any, method: Method, **options: Any
) -> tuple[sg.Fit, list[str]]:
    """Fit, and what its convergence warnings said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", sg.ConvergenceWarning)
        fit = model.fit(X, method=method, seed=1, progress=False, **options)
    return fit, [str(warning.message) for warning in caught]


def values_at_start(run: CmdStanRun, data: str, start: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the columns and one row, (1, columns), of what Stan says of a start, lp first."""
    optimized = run.call(
        lambda stan: stan.optimize(
            data=data,
            inits=start,
            seed=1,
            iter=1,
            save_iterations=True,
            require_converged=False,
            sig_figs=17,
            output_dir=run.directory,
        )
    )
    return tuple(optimized.column_names), optimized.optimized_iterations_np[:1]
