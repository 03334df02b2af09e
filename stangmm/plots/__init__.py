"""Pictures of fits and comparisons: Axes in, Axes out; the only importer of matplotlib.

Every function takes an Axes to draw on, or makes a new figure that no window knows of, and returns
the Axes: ``density(fit).figure.savefig("density.svg")``. The methods of ``fit.plot`` do the same,
with figures that notebooks and ``plt.show()`` show.
"""

from __future__ import annotations

from stangmm.plots.accessors import (
    ComparisonPlots,
    FitPlots,
    ModelComparisonPlots,
    PosteriorPlots,
    PriorPlots,
    SelectionPlots,
)
from stangmm.plots.accuracy import time_accuracy
from stangmm.plots.checks import loo, ppc, rank
from stangmm.plots.comparisons import densities, estimates
from stangmm.plots.differences import model_differences
from stangmm.plots.energy import energy
from stangmm.plots.goodness import pit
from stangmm.plots.mixtures import components, density
from stangmm.plots.partition import merge_path, partition
from stangmm.plots.posteriors import forest, pairs, responsibilities
from stangmm.plots.prior_predictive import prior_predictive
from stangmm.plots.priors import priors
from stangmm.plots.probabilities import model_probabilities
from stangmm.plots.profile import profile
from stangmm.plots.projection import projection
from stangmm.plots.regression import regression
from stangmm.plots.runs import elbo, em_path, trace
from stangmm.plots.selection import model_choice
from stangmm.plots.svg import inline_svg

__all__ = [
    "ComparisonPlots",
    "FitPlots",
    "ModelComparisonPlots",
    "PosteriorPlots",
    "PriorPlots",
    "SelectionPlots",
    "components",
    "densities",
    "density",
    "elbo",
    "em_path",
    "energy",
    "estimates",
    "forest",
    "inline_svg",
    "loo",
    "merge_path",
    "model_choice",
    "model_differences",
    "model_probabilities",
    "pairs",
    "partition",
    "pit",
    "ppc",
    "prior_predictive",
    "priors",
    "profile",
    "projection",
    "rank",
    "regression",
    "responsibilities",
    "time_accuracy",
    "trace",
]
