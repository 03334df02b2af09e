"""Picture of the goodness of fit: how the data lie in the mixture's distribution functions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.base.errors import ModelError
from stangmm.judge.goodness import FEWEST_ROWS, GoodnessOfFit, goodness_of_fit, transform_curves
from stangmm.plots.style import (
    COMPONENTS,
    INK,
    MIDDLE,
    legend_below,
    name,
    new_axes,
    panels_in_rows,
    room,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted

PIT_FEATURES = 5
_LEVELS = np.linspace(0.0, 1.0, 41)[1:-1]
_BAD = COMPONENTS[5]


@styled
def pit(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw whether the data are distributed like the mixture.

    For each of at most five features, those that do not fit first, and for their joint density:
    the share of the rows below each quantile of the mixture, minus what it should be (the
    distribution function of the probability integral transform, PIT). The band holds the whole line
    in 95% of data sets from the mixture, and allows for the fit to them. Where a line rises there
    are too many rows, where it falls too few. With several features the panels are the Axes'
    ``child_axes``.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        There are fewer than ten rows.
    """
    found = goodness_of_fit(fit)
    if found is None:
        raise ModelError(f"pit needs {FEWEST_ROWS:g} rows or more.")
    data = fit.dataset
    if data.n_features == 1:
        ax = ax or new_axes(3.2)
        _pit_panel(ax, *transform_curves(fit, [0], _LEVELS)[0])
        ax.set_xlabel(name(f"quantile of {data.feature_names[0]} in the mixture", room(ax)))
        ax.set_ylabel("share of rows below, minus expected")
        grid = [ax]
    else:
        shown = [*_features(found, data.feature_names), -1]
        columns = 2 if len(shown) == 4 else 3
        ax, grid = panels_in_rows(ax, len(shown), columns, heights=(0.9, 1.6), gap=(0.22, 0.62))
        curves = transform_curves(fit, shown, _LEVELS)
        for i, (feature, panel) in enumerate(zip(shown, grid, strict=True)):
            _pit_panel(panel, *curves[i])
            panel.tick_params(labelleft=i % columns == 0)
            words = "joint density" if feature < 0 else data.feature_names[feature]
            panel.set_xlabel(name(words, room(panel)))
    top = max(panel.get_ylim()[1] for panel in grid)
    for panel in grid:
        panel.set_ylim(-top, top)
    few = f" ({found.n_rows:,} rows, drawn at random)" if found.n_rows < data.total_weight else ""
    total = data.n_features
    left = "" if total <= PIT_FEATURES else f"; {PIT_FEATURES} of {total} features"
    ax.plot([], [], color=INK, linewidth=1.4, label=f"data minus mixture{few}{left}")
    ax.plot([], [], color=_BAD, linewidth=2.2, label="outside")
    ax.fill_between([], [], [], color=MIDDLE, alpha=0.25, linewidth=0, label="95% band")
    legend_below(ax, columns=3 if not few and not left else 1, inches=0.42)
    return ax


def _features(found: GoodnessOfFit, names: tuple[str, ...]) -> list[int]:
    """Which features are shown: those of the largest misfits, then the first; in their order."""
    misfits = dict.fromkeys(feature for misfit in found.misfits for feature in misfit.features)
    ranked = [*misfits, *(feature for feature in names if feature not in misfits)]
    return sorted(names.index(feature) for feature in ranked[:PIT_FEATURES])


def _pit_panel(ax: Axes, difference: FloatArray, half: FloatArray) -> None:
    ax.fill_between(_LEVELS, -half, half, color=MIDDLE, alpha=0.25, linewidth=0, gid="band")
    ax.axhline(0.0, color=MIDDLE, linewidth=0.8)
    ax.plot(_LEVELS, difference, color=INK, linewidth=1.4, gid="difference")
    beyond = np.where(np.abs(difference) > half, difference, np.nan)
    ax.plot(_LEVELS, beyond, color=_BAD, linewidth=2.2, gid="outside")
    ax.set_xlim(0, 1)
    top = 1.12 * max(float(np.abs(difference).max()), float(half.max()))
    ax.set_ylim(-top, top)
    tidy(ax)
    ax.locator_params(axis="y", nbins=4)
    ax.set_xticks([0, 0.5, 1])
    ax.xaxis.set_major_formatter("{x:g}")
