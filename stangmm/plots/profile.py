"""Picture of the components' profiles: their means, feature by feature, on one scale."""

from __future__ import annotations

import re

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.plots.style import (
    MUTED,
    color,
    legend_below,
    line,
    marker,
    name,
    new_axes,
    room,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted

PROFILE_FEATURES = 12
_INTERVAL = (0.05, 0.95)
_SPREAD = 0.5  # of the distance between two features, over which components stand side by side
_LETTERS = 24  # of a feature's name
_LINES = 3
_TYPE = 8.5  # points: the names' size


@styled
def profile(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the components' means in each feature, in standard deviations of the data.

    At 0 is the mean of all rows, at 1 one standard deviation of all rows above it. A component's
    means are joined by a line; for draws, bars are 90% intervals. Of more than twelve features the
    first twelve are drawn.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    total, k = fit.dataset.n_features, fit.model.n_components
    d = min(total, PROFILE_FEATURES)
    center, sd = _moments(fit.dataset.x[:, :d], fit.dataset.sample_weight)
    means = (fit.mixture.means[..., :d] - center) / sd
    names = [str(n) for n in fit.dataset.feature_names[:d]]
    letters = room(ax or new_axes(3.4), size=_TYPE) // d
    wrapped = [_wrapped(name(n, _LETTERS), max(1, letters)) for n in names]
    upright = None in wrapped
    labels = [name(n, _LETTERS) if upright else str(w) for n, w in zip(names, wrapped, strict=True)]
    lines = 1 + max(label.count("\n") for label in labels)
    below = _TYPE / 72 * (0.55 * max(map(len, labels)) if upright else 1.3 * lines)  # inches
    ax = ax or new_axes(2.9 + below + 0.2 * (k // 3))
    shift = _SPREAD * ((np.arange(k) + 0.5) / k - 0.5)
    ax.axhline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    for j in range(k):
        at = np.arange(d) + shift[j]
        if len(means) > 1:
            low, high = np.quantile(means[:, j], _INTERVAL, axis=0)
            ax.vlines(at, low, high, color=color(j), linewidth=2.0, zorder=3)
        ax.plot(
            at,
            means[:, j].mean(axis=0),
            marker=marker(j),
            linestyle=line(j),
            color=color(j),
            linewidth=1.0,
            markersize=5.5,
            markeredgewidth=0,
            zorder=4,
            label=f"component {j}",
        )
    ax.set_xlim(-0.6, d - 0.4)
    tidy(ax)
    ax.set_xticks(range(d), labels, rotation=90 if upright else 0)
    ax.set_ylabel("mean, in sd of the data")
    if d < total:
        ax.plot([], [], " ", label=f"first {d} of {total} features")
    legend_below(ax, inches=0.3 + below)
    return ax


def _wrapped(text: str, most: int) -> str | None:
    """Break a name into at most three lines of so many letters; None where that cannot be."""
    lines = [""]
    for part in re.findall(r"[^\s_.]*[\s_.]?", text):
        if len(lines[-1] + part.rstrip()) > most and lines[-1]:
            lines.append("")
        lines[-1] += part
    fits = len(lines) <= _LINES and all(len(each.rstrip()) <= most for each in lines)
    return "\n".join(each.rstrip() for each in lines) if fits else None


def _moments(x: FloatArray, weight: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (D,) of the values that are there."""
    seen = ~np.isnan(x)
    counted = seen * (np.ones(len(x)) if weight is None else weight)[:, np.newaxis]
    share = counted / counted.sum(axis=0)
    values = np.where(seen, x, 0.0)
    center = (share * values).sum(axis=0)
    sd = np.sqrt((share * np.where(seen, x - center, 0.0) ** 2).sum(axis=0))
    return center, np.where(sd > 0, sd, 1.0)
