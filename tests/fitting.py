"""Fits for tests: quick settings, and fits whose warnings are kept."""

from __future__ import annotations

import warnings
from typing import Any

import stangmm as sg
from stangmm.methods import METHODS, Method

# Those that the oldest CmdStan has; Pathfinder and Laplace are in test_pathfinder.py.
ALL = ["em", "optimize", "advi", "nuts"]
DRAWING = [name for name in ALL if METHODS[name].kind != "point"]

# Settings that are quick and enough where only the form of the answer is looked at.
QUICK: dict[str, Method] = {
    "em": sg.EM(restarts=10),
    "optimize": sg.Optimize(restarts=6),
    "advi": sg.ADVI(draws=200),
    "nuts": sg.NUTS(chains=2, warmup=200, draws=100),
}


def fit_quick(model: sg.GaussianMixture, X: Any, method: str | Method, **options: Any) -> sg.Fit:
    """Fit with quick settings, which may well say of themselves that they did not converge."""
    settings = QUICK[method] if isinstance(method, str) else method
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return model.fit(X, method=settings, **{"seed": 1, "progress": False, **options})


def fit_and_listen(model: sg.GaussianMixture, X: Any, method: Method) -> tuple[sg.Fit, list[str]]:
    """Fit, and what its convergence warnings said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", sg.ConvergenceWarning)
        fit = model.fit(X, method=method, seed=1, progress=False)
    return fit, [str(warning.message) for warning in caught]
