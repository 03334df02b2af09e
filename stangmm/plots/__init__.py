"""Pictures of fits and comparisons: Axes in, Axes out; the only importer of matplotlib.

Every function takes an Axes to draw on, or makes a new figure that no window knows of, and returns
the Axes: ``density(fit).figure.savefig("density.svg")``.
"""

from stangmm.plots.comparisons import densities, estimates
from stangmm.plots.mixtures import components, density
from stangmm.plots.runs import elbo, em_path, trace
from stangmm.plots.svg import inline_svg

__all__ = [
    "components",
    "densities",
    "density",
    "elbo",
    "em_path",
    "estimates",
    "inline_svg",
    "trace",
]
