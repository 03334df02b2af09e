"""Gaussian mixture models on Stan: one model, fitted by EM, optimization, Laplace, ADVI and NUTS.

Names are imported when they are first used, so that ``import stangmm`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stangmm import datasets
    from stangmm.base.errors import (
        CmdStanNotFoundError,
        CompileError,
        ConvergenceWarning,
        DataError,
        InferenceError,
        MisfitWarning,
        ModelError,
        StangmmError,
    )
    from stangmm.fit import Fit
    from stangmm.gaussian_mixture import GaussianMixture
    from stangmm.judge.elpd import Elpd, Loo
    from stangmm.judge.evidence import Evidence
    from stangmm.judge.merging import MergePath
    from stangmm.judge.partition import Partition
    from stangmm.judge.stacking import stacking_weights
    from stangmm.loading import load
    from stangmm.many.averaging import Stack, stack
    from stangmm.many.choice import Selection
    from stangmm.many.comparison import Comparison, compare
    from stangmm.many.data_sets import ManyFits, fit_many
    from stangmm.many.discriminant import CrossValidation, DiscriminantAnalysis, DiscriminantFit
    from stangmm.many.models import ModelComparison
    from stangmm.many.posterior import ModelPosterior
    from stangmm.many.selection import select_components
    from stangmm.methods import ADVI, EM, NUTS, Auto, Laplace, Optimize, Pathfinder, StanLaplace
    from stangmm.model.priors import (
        LKJ,
        Dirichlet,
        HalfCauchy,
        HalfNormal,
        InverseGamma,
        Normal,
        Priors,
    )
    from stangmm.predict.averages import Band, OutlierScore
    from stangmm.predict.distribution import MixtureDistribution

_HOME = {
    "ADVI": "methods",
    "EM": "methods",
    "NUTS": "methods",
    "Auto": "methods",
    "Laplace": "methods",
    "StanLaplace": "methods",
    "Optimize": "methods",
    "Pathfinder": "methods",
    "CmdStanNotFoundError": "base.errors",
    "CompileError": "base.errors",
    "ConvergenceWarning": "base.errors",
    "DataError": "base.errors",
    "InferenceError": "base.errors",
    "MisfitWarning": "base.errors",
    "ModelError": "base.errors",
    "StangmmError": "base.errors",
    "Comparison": "many.comparison",
    "compare": "many.comparison",
    "ManyFits": "many.data_sets",
    "fit_many": "many.data_sets",
    "CrossValidation": "many.discriminant",
    "DiscriminantAnalysis": "many.discriminant",
    "DiscriminantFit": "many.discriminant",
    "MixtureDistribution": "predict.distribution",
    "Elpd": "judge.elpd",
    "Evidence": "judge.evidence",
    "Loo": "judge.elpd",
    "MergePath": "judge.merging",
    "Partition": "judge.partition",
    "Fit": "fit",
    "GaussianMixture": "gaussian_mixture",
    "Band": "predict.averages",
    "OutlierScore": "predict.averages",
    "Dirichlet": "model.priors",
    "HalfCauchy": "model.priors",
    "HalfNormal": "model.priors",
    "InverseGamma": "model.priors",
    "LKJ": "model.priors",
    "Normal": "model.priors",
    "Priors": "model.priors",
    "load": "loading",
    "ModelComparison": "many.models",
    "ModelPosterior": "many.posterior",
    "Selection": "many.choice",
    "select_components": "many.selection",
    "Stack": "many.averaging",
    "stack": "many.averaging",
    "stacking_weights": "judge.stacking",
}

__all__ = [
    "ADVI",
    "EM",
    "LKJ",
    "NUTS",
    "Auto",
    "Band",
    "CmdStanNotFoundError",
    "Comparison",
    "CompileError",
    "ConvergenceWarning",
    "CrossValidation",
    "DataError",
    "Dirichlet",
    "DiscriminantAnalysis",
    "DiscriminantFit",
    "Elpd",
    "Evidence",
    "Fit",
    "GaussianMixture",
    "HalfCauchy",
    "HalfNormal",
    "InferenceError",
    "InverseGamma",
    "Laplace",
    "Loo",
    "ManyFits",
    "MergePath",
    "MisfitWarning",
    "MixtureDistribution",
    "ModelComparison",
    "ModelError",
    "ModelPosterior",
    "Normal",
    "Optimize",
    "OutlierScore",
    "Partition",
    "Pathfinder",
    "Priors",
    "Selection",
    "Stack",
    "StanLaplace",
    "StangmmError",
    "compare",
    "datasets",
    "fit_many",
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
