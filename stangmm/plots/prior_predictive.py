"""Picture of data drawn from the prior, beside the data."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.plots import layers
from stangmm.plots.shown import PriorDraws
from stangmm.plots.style import (
    COMPONENTS,
    MUTED,
    legend_below,
    name,
    new_axes,
    panels_in_rows,
    room,
    styled,
    tidy,
)
from stangmm.predict import averages as predict

_FEATURES = 6
_CURVES = 100
_POINTS = 401
# The view holds the middle half of the rows from the prior, but no more than so many ranges of the
# data on either side: priors of scales have heavy tails, beside which the data would be a line.
_MIDDLE = (0.25, 0.75)
_MOST_RANGES = 1.5
_END = 0.04  # of an axis, without ticks
_MOST_HEIGHT = 1.6  # of the picture, in heights of the highest bar


@styled
def prior_predictive(drawn: PriorDraws, ax: Axes | None = None) -> Axes:
    """Draw a histogram of each feature of the data, and the densities that the prior gives.

    Parameters
    ----------
    drawn : PriorPredictive
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
        For more than one feature (six at most are shown) it holds the panels as ``child_axes``.
        The view is chosen so that the data can be seen; how much of the prior lies beyond it is
        written in each panel.
    """
    d = drawn.dataset.n_features
    if d == 1:
        ax = ax or new_axes(3.4)
        _panel(drawn, 0, ax)
        legend_below(ax, columns=2)
        return ax
    shown = min(d, _FEATURES)
    columns = 2 if shown < 5 else 3
    ax, grid = panels_in_rows(
        ax, shown, columns, heights=(0.6, 2.1), gap=(0.35, 0.68), width=1.0 + 2.5 * columns
    )
    for feature, panel in enumerate(grid):
        _panel(drawn, feature, panel)
    handles, labels = grid[0].get_legend_handles_labels()
    ax.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.09), ncols=2)
    return ax


def _panel(drawn: PriorDraws, feature: int, ax: Axes) -> None:
    data, weight = drawn.dataset.x[:, feature], drawn.dataset.sample_weight
    seen = ~np.isnan(data)
    values = data[seen]
    top = layers.histogram(ax, values, None if weight is None else weight[seen])
    mixtures = predict.thinned(drawn.mixtures, _CURVES).marginal(np.array([feature]))
    rows = drawn.x[..., feature].ravel()
    low, high = _limits(layers.view(values, None), rows)
    points = np.linspace(low, high, _POINTS)
    curves = np.exp(mixtures.log_density(points[:, np.newaxis]))
    faint = min(0.6, 12 / len(curves))
    ax.plot(points, curves.T, color=COMPONENTS[0], linewidth=0.8, alpha=faint, zorder=2)
    ax.plot([], [], color=COMPONENTS[0], label=f"{len(curves)} densities drawn from the prior")
    outside = float(((rows < low) | (rows > high)).mean())
    cut = int((curves.max(axis=1) > _MOST_HEIGHT * top).sum())
    ax.set_xlim(low, high)
    ticks = ax.get_xticks()  # the label of one at the very end would stick out
    ax.set_xticks(ticks[(ticks >= low) & (ticks <= high - _END * (high - low))])
    ax.set_ylim(0, _MOST_HEIGHT * top)
    ax.set_title(_beyond(outside, cut), fontsize=8, color=MUTED)
    ax.set_xlabel(name(drawn.dataset.feature_names[feature], room(ax)))
    tidy(ax, left=False)


def _limits(data: tuple[float, float], rows: FloatArray) -> tuple[float, float]:
    """Limits of the axis, from the view of the data and the rows drawn from the prior."""
    most = _MOST_RANGES * (data[1] - data[0])
    low, high = np.quantile(rows, _MIDDLE)
    return (
        float(np.clip(low, data[0] - most, data[0])),
        float(np.clip(high, data[1], data[1] + most)),
    )


def _beyond(outside: float, cut: int) -> str:
    parts = []
    if outside > 0:
        parts.append(f"{outside:.0%} of the prior's rows")
    if cut:
        parts.append(f"{cut} peaks")
    return f"beyond: {', '.join(parts)}" if parts else ""
