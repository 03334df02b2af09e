"""The picture of a mixture regression: one feature given another, with both kinds of interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stangmm.plots import layers
from stangmm.plots.style import INK, legend_below, name, new_axes, room, styled, tidy
from stangmm.posterior.fitted import Fitted
from stangmm.predict import averages as predict
from stangmm.predict.distribution import MixtureDistribution

_POINTS = 121
_DRAWS = 1000
_PROBABILITY = 0.9


@styled
def regression(fit: Fitted, target: Any, given: Any, ax: Axes | None = None) -> Axes:
    """Draw the mean of a feature given another, over the rows.

    The lighter band holds 90% of new observations; the darker one, for draws, the mean itself with
    posterior probability 90%. Features that are neither are integrated out.

    Parameters
    ----------
    fit : Fit
    target, given : str or int
        Names or positions of features.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    ax = ax or new_axes(4.2)
    some = predict.thinned(fit.mixture, _DRAWS)
    both = MixtureDistribution(some, fit.dataset, progress=False).marginal([given, target])
    columns = [fit.dataset.feature_names.index(feature) for feature in both.feature_names]
    xy, weight = fit.dataset.x[:, columns], fit.dataset.sample_weight
    seen = ~np.isnan(xy).any(axis=1)
    limits = layers.view(xy[seen, 0], weight if weight is None else weight[seen])
    points = np.linspace(*limits, _POINTS)
    line = both.conditional({both.feature_names[0]: points})

    rows, label = layers.shown_rows(fit.dataset)
    probability = predict.responsibilities(some, fit.dataset.x[rows])
    layers.scatter(ax, xy[rows], probability, label, n_components=fit.model.n_components)
    mean, *of_mean = (each[:, 0] for each in line.mean(interval=_PROBABILITY))
    bands = {"of new rows": (0.1, [each[:, 0] for each in line.interval(_PROBABILITY)])}
    if fit.kind != "point":
        bands["band of the mean"] = (0.3, of_mean)
    for what, (alpha, (lower, upper)) in bands.items():
        label = f"{_PROBABILITY:.0%} {what}"
        ax.fill_between(points, lower, upper, color=INK, alpha=alpha, linewidth=0, label=label)
    ax.plot(points, mean, color=INK, linewidth=1.5, label="mean", zorder=4)
    ax.set_xlim(points[0], points[-1])
    ax.set_xlabel(name(both.feature_names[0], room(ax)))
    ax.set_ylabel(name(both.feature_names[1], room(ax, 1)))
    tidy(ax)
    legend_below(ax, columns=2)
    return ax
