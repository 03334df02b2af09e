"""Picture of a choice: the criterion over the number of components, a line for each type."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from stangmm.judge.candidates import components_of, in_order, type_of
from stangmm.plots.shown import Selected
from stangmm.plots.style import (
    BARS,
    INK,
    METHODS,
    MUTED,
    color,
    legend_below,
    line,
    marker,
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
_LEGEND_ROW = 0.24  # inches
_SPREAD = 0.3  # over which covariance types stand beside each other, in the same unit


@styled
def model_choice(selection: Selected, ax: Axes | None = None) -> Axes:
    """Draw the criterion over the number of components, with the choice marked.

    Each covariance type has a line. Bars are one standard error of the difference to the best
    value; for "loo" and "waic" with one covariance type, a point in its grey box is within one
    standard error of the best. Models that could not be fitted are crosses on the lower edge.

    Parameters
    ----------
    selection : Selection
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    candidates = in_order(selection.scores)
    values = {k: selection.scores[k].value for k in candidates}
    errors = {k: selection.difference(k)[1] for k in candidates}
    known = bool(np.isfinite(list(errors.values())).any())
    everything = in_order([*candidates, *selection.failures])
    types = list(dict.fromkeys(map(type_of, everything)))
    ax = ax or new_axes(3.4 + _LEGEND_ROW * (len(types) // 3))
    # Beside each other, so that no bar hides another; lines without bars are drawn in one place.
    beside = np.linspace(-0.5, 0.5, len(types)) * _SPREAD if known and len(types) > 1 else None
    offsets = dict.fromkeys(types, 0.0) if beside is None else dict(zip(types, beside, strict=True))
    at = {k: components_of(k) + offsets[type_of(k)] for k in everything}
    best = values[selection.best_value]
    if selection.rule.pointwise and len(types) == 1:
        band = np.array([errors[k] for k in candidates])
        ax.bar(
            [at[k] for k in candidates],
            band,
            bottom=best - band,
            width=_BAND_WIDTH,
            color=BARS,
            zorder=1,
            label="within 1 SE of the best",
        )
    ax.axhline(best, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=2)
    for i, name in enumerate(types):
        own = [k for k in candidates if type_of(k) == name]
        places, heights = [at[k] for k in own], np.array([values[k] for k in own])
        bars = np.array([errors[k] for k in own])
        ax.plot(
            places, heights, color=color(i), linestyle=line(i), linewidth=1.0, marker=marker(i),
            markersize=4.5, zorder=4, label=name or None,
        )  # fmt: skip
        if known:
            ax.vlines(
                places, heights - bars, heights + bars, color=color(i), linewidth=1.4, zorder=3,
                label="1 SE of the difference" if len(types) == 1 else "",
            )  # fmt: skip
    chosen = selection.chosen
    k = components_of(chosen)
    ax.plot(
        [at[chosen]],
        [values[chosen]],
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=METHODS[0] if len(types) == 1 else INK,
        markeredgewidth=2.0,
        zorder=5,
        label=f"chosen: {k} component{'s' if k > 1 else ''}"
        + (f", {type_of(chosen)}" if len(types) > 1 else ""),
    )
    for i, name in enumerate(types):
        failed = [k for k in in_order(selection.failures) if type_of(k) == name]
        if failed:
            ax.plot(
                [at[k] for k in failed],
                np.zeros(len(failed)),
                "x",
                color=INK if len(types) == 1 else color(i),
                markersize=6,
                transform=ax.get_xaxis_transform(),
                clip_on=False,
                zorder=5,
                label="failed" if len(types) == 1 else f"failed, {name}",
            )
    if known and len(types) > 1:
        ax.plot([], [], color=MUTED, linewidth=1.4, label="bars: 1 SE of the difference")
    ax.set_xlabel("number of components")
    ax.set_ylabel(f"{_NAMES[selection.criterion]} ({selection.rule.direction})")
    ax.xaxis.set_major_locator(FixedLocator(sorted(set(map(components_of, everything)))))
    tidy(ax)
    legend_below(ax, columns=2 if len(types) == 1 else 3)
    return ax
