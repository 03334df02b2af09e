"""Picture of a choice: the criterion over the number of components."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from stangmm.plots.shown import Selected
from stangmm.plots.style import (
    BARS,
    COMPONENTS,
    INK,
    METHODS,
    MUTED,
    legend_below,
    new_axes,
    styled,
    tidy,
)

_NAMES = {
    "loo": "LOO elpd",
    "waic": "WAIC elpd",
    "bic": "BIC",
    "aic": "AIC",
    "icl": "ICL",
    "evidence": "log evidence",
}
_BAND_WIDTH = 0.56  # of the distance between two numbers of components


@styled
def model_choice(selection: Selected, ax: Axes | None = None) -> Axes:
    """Draw the criterion over the number of components, with the choice marked.

    Bars are one standard error of the difference to the best value; for "loo" and "waic", a
    point in its grey box is within one standard error of the best. Numbers that could not be
    fitted are crosses on the lower edge.

    Parameters
    ----------
    selection : Selection
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    ax = ax or new_axes(3.4)
    numbers = sorted(selection.scores)
    values = np.array([selection.scores[k].value for k in numbers])
    errors = np.array([selection.difference(k)[1] for k in numbers])
    best = selection.scores[selection.best_value].value
    if selection.rule.pointwise:
        ax.bar(
            numbers,
            errors,
            bottom=best - errors,
            width=_BAND_WIDTH,
            color=BARS,
            zorder=1,
            label="within 1 SE of the best",
        )
    ax.axhline(best, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=2)
    if np.isfinite(errors).any():
        ax.vlines(
            numbers,
            values - errors,
            values + errors,
            color=COMPONENTS[0],
            linewidth=1.4,
            zorder=3,
            label="1 SE of the difference",
        )
    ax.plot(numbers, values, "o-", color=COMPONENTS[0], markersize=4.5, linewidth=1.0, zorder=4)
    chosen = selection.n_components
    ax.plot(
        [chosen],
        [selection.scores[chosen].value],
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=METHODS[0],
        markeredgewidth=2.0,
        zorder=5,
        label=f"chosen: {chosen} component{'s' if chosen > 1 else ''}",
    )
    if selection.failures:
        ax.plot(
            sorted(selection.failures),
            np.zeros(len(selection.failures)),
            "x",
            color=INK,
            markersize=6,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            zorder=5,
            label="failed",
        )
    ax.set_xlabel("number of components")
    ax.set_ylabel(f"{_NAMES[selection.criterion]} ({selection.rule.direction})")
    ax.xaxis.set_major_locator(FixedLocator([*numbers, *sorted(selection.failures)]))
    tidy(ax)
    legend_below(ax, columns=2)
    return ax
