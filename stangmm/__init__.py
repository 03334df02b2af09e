"""Gaussian mixture models on Stan: one model, fitted by EM, optimization, ADVI and NUTS.

Names are imported when they are first used, so that ``import stangmm`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stangmm import datasets
    from stangmm.averaging import Stack, stack
    from stangmm.comparison import Comparison, compare
    from stangmm.distribution import MixtureDistribution
    from stangmm.errors import (
        CmdStanNotFoundError,
        CompileError,
        ConvergenceWarning,
        DataError,
        InferenceError,
        ModelError,
        StangmmError,
    )
    from stangmm.evidence import Evidence
    from stangmm.fit import Fit
    from stangmm.gaussian_mixture import GaussianMixture
    from stangmm.methods import ADVI, EM, NUTS, Laplace, Optimize, Pathfinder
    from stangmm.predict import Band, OutlierScore
    from stangmm.priors import LKJ, Dirichlet, HalfCauchy, HalfNormal, InverseGamma, Normal, Priors
    from stangmm.saving.reading import load
    from stangmm.selection import Selection, select_components
    from stangmm.stacking import stacking_weights

_HOME = {
    "ADVI": "methods",
    "EM": "methods",
    "NUTS": "methods",
    "Laplace": "methods",
    "Optimize": "methods",
    "Pathfinder": "methods",
    "CmdStanNotFoundError": "errors",
    "CompileError": "errors",
    "ConvergenceWarning": "errors",
    "DataError": "errors",
    "InferenceError": "errors",
    "ModelError": "errors",
    "StangmmError": "errors",
    "Comparison": "comparison",
    "compare": "comparison",
    "MixtureDistribution": "distribution",
    "Evidence": "evidence",
    "Fit": "fit",
    "GaussianMixture": "gaussian_mixture",
    "Band": "predict",
    "OutlierScore": "predict",
    "Dirichlet": "priors",
    "HalfCauchy": "priors",
    "HalfNormal": "priors",
    "InverseGamma": "priors",
    "LKJ": "priors",
    "Normal": "priors",
    "Priors": "priors",
    "load": "saving.reading",
    "Selection": "selection",
    "select_components": "selection",
    "Stack": "averaging",
    "stack": "averaging",
    "stacking_weights": "stacking",
}

__all__ = [
    "ADVI",
    "EM",
    "LKJ",
    "NUTS",
    "Band",
    "CmdStanNotFoundError",
    "Comparison",
    "CompileError",
    "ConvergenceWarning",
    "DataError",
    "Dirichlet",
    "Evidence",
    "Fit",
    "GaussianMixture",
    "HalfCauchy",
    "HalfNormal",
    "InferenceError",
    "InverseGamma",
    "Laplace",
    "MixtureDistribution",
    "ModelError",
    "Normal",
    "Optimize",
    "OutlierScore",
    "Pathfinder",
    "Priors",
    "Selection",
    "Stack",
    "StangmmError",
    "compare",
    "datasets",
    "load",
    "select_components",
    "stack",
    "stacking_weights",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "datasets":
        return import_module("stangmm.datasets")
    if name == "__version__":
        from importlib.metadata import version

        return version("stangmm")
    if name in _HOME:
        value = getattr(import_module(f"stangmm.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'stangmm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
