"""Pictures of several methods on one data set: their densities and their estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.base.errors import ModelError
from stangmm.plots import layers
from stangmm.plots.mixtures import curve_of, draw_pair, telling_features
from stangmm.plots.shown import Compared
from stangmm.plots.style import (
    INK,
    METHOD_LINES,
    METHOD_MARKERS,
    METHODS,
    MUTED,
    badge_rows,
    legend_below,
    name,
    new_axes,
    panels,
    panels_in_rows,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted

ESTIMATE_FEATURES = 3
Look: TypeAlias = tuple[str, str | tuple[int, tuple[float, ...]], str]


@styled
def densities(comparison: Compared, ax: Axes | None = None) -> Axes:
    """Draw the densities of all methods over the data.

    One feature: all curves in one picture, the reference solid with its 90% band. More features:
    a panel for each method, in the two features in which the components differ most; the panels
    are the Axes' ``child_axes``.

    Parameters
    ----------
    comparison : Comparison
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        Every method failed, so that there is nothing to draw.
    """
    fits = fits_of(comparison)
    if comparison.dataset.n_features == 1:
        return _overlay(comparison, fits, ax or new_axes(3.6))
    columns = min(2, len(fits))
    ax, grid = panels_in_rows(ax, len(fits), columns, heights=(0.9, 2.5), gap=(0.15, 0.4))
    _pair_legend(ax, fits)
    pair = telling_features(fits.get(comparison.reference or "") or next(iter(fits.values())))
    names = comparison.dataset.feature_names
    for i, ((label, fit), panel) in enumerate(zip(fits.items(), grid, strict=True)):
        draw_pair(fit, panel, pair, labels=False, small=True)
        title = f"{name(label)} (reference)" if label == comparison.reference else name(label)
        panel.set_title(title, loc="left", fontweight="bold")
        panel.locator_params(nbins=5)
        if i % columns:
            panel.tick_params(labelleft=False)
        else:
            panel.set_ylabel(name(names[pair[1]]))
        if i + columns < len(fits):
            panel.tick_params(labelbottom=False)
        else:
            panel.set_xlabel(name(names[pair[0]]))
    return ax


@styled
def estimates(comparison: Compared, ax: Axes | None = None) -> Axes:
    """Draw weights, means and scales of all methods side by side, with 90% intervals.

    One feature: the weights, the means and the scales in a row. More: the weights, and below them
    a row of panels for each of the first three features. A single component has no weights to
    show; point estimates have no interval. The panels are the Axes' ``child_axes``.

    Parameters
    ----------
    comparison : Comparison
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        Every method failed, so that there is nothing to draw.
    """
    fits, looks = fits_of(comparison), looks_of(comparison)
    names = comparison.dataset.feature_names
    shown = min(len(names), ESTIMATE_FEATURES)
    several = comparison.model.n_components > 1
    height = 0.5 + comparison.model.n_components * max(0.3, 0.09 * len(fits))
    apart = several and shown > 1  # the weights in a row of their own, beside the legend
    rows = shown + apart
    ax = ax or new_axes(0.6 + (height + 0.55) * rows)
    columns = 3 if several and not apart else 2
    grid = panels(ax, rows, columns, gap=(0.22, 0.72))
    if several:
        _estimate_panel(grid[0][0], {m: f.mixture.weights for m, f in fits.items()}, looks)
        grid[0][0].set_xlabel("weight")
    for d, (means, scales) in enumerate(row[-2:] for row in grid[apart:]):
        _estimate_panel(means, {m: f.mixture.means[..., d] for m, f in fits.items()}, looks)
        _estimate_panel(scales, {m: f.mixture.scales[..., d] for m, f in fits.items()}, looks)
        means.set_title(name(names[d], 48 if apart else 32), loc="left", fontweight="bold")
        means.set_xlabel("mean")
        scales.set_xlabel("scale")
        scales.tick_params(labelleft=False)
        if columns == 3:
            means.tick_params(labelleft=False)
    for row in grid:
        row[0].set_ylabel("component")
    for method, (shade, _, mark) in looks.items():
        ax.plot([], [], mark, color=shade, markersize=5, label=name(method))
    if apart:
        grid[0][1].set_axis_off()
        legend = ax.legend(
            loc="center left",
            bbox_to_anchor=(0.0, 0.5),
            bbox_transform=grid[0][1].transAxes,
            ncols=1 if len(fits) <= 4 else 2,
        )
    else:
        legend = legend_below(ax, columns=4)
    if shown < len(names):
        legend.set_title(f"first {shown} of {len(names)} features")
    return ax


def fits_of(comparison: Compared) -> Mapping[str, Fitted]:
    """Fits of a comparison; an error where every method failed."""
    if not comparison.fits:
        raise ModelError("Every method of this comparison failed; there is nothing to draw.")
    return comparison.fits


def looks_of(comparison: Compared) -> dict[str, Look]:
    """Colour, line and marker of each method; the reference is solid ink."""
    looks: dict[str, Look] = {}
    others = [label for label in comparison.fits if label != comparison.reference]
    for label in comparison.fits:
        if label == comparison.reference:
            looks[label] = (INK, "-", "o")
            continue
        i = others.index(label)
        # Where colours begin again, markers go on by one, as lines do by themselves.
        looks[label] = (
            METHODS[i % len(METHODS)],
            METHOD_LINES[i % len(METHOD_LINES)],
            METHOD_MARKERS[(i + i // len(METHODS)) % len(METHOD_MARKERS)],
        )
    return looks


def _pair_legend(ax: Axes, fits: Mapping[str, Fitted]) -> None:
    """Say under the panels what is the same in all of them."""
    some = list(fits.values())
    ax.scatter([], [], s=10, color=MUTED, label=layers.shown_rows(some[0].dataset)[1])
    ax.plot([], [], color=MUTED, linewidth=1.6, label="50% and 95% of a component")
    ax.fill([], [], color=INK, alpha=0.15, linewidth=0, label="50, 80, 95% of the mixture")
    if any(fit.kind != "point" for fit in some):
        ax.plot([], [], color=MUTED, alpha=0.5, linewidth=0.7, label="95% in single draws")
    legend_below(ax, columns=2, inches=0.5)


def _overlay(comparison: Compared, fits: Mapping[str, Fitted], ax: Axes) -> Axes:
    dataset = comparison.dataset
    x, weight = dataset.x[:, 0], dataset.sample_weight
    limits = layers.view(x, weight)
    tallest = layers.histogram(ax, x, weight)
    for label, (shade, style, _) in looks_of(comparison).items():
        mixture = fits[label].mixture
        points = layers.curve_points(mixture, *limits)
        heights = curve_of(fits[label], points)
        tallest = max(tallest, float(heights.max()))
        reference = label == comparison.reference
        if reference and mixture.batch_shape[0] > 1:
            bottom, top = layers.density_band(mixture, points)
            ax.fill_between(
                points,
                bottom,
                top,
                color=INK,
                alpha=0.18,
                linewidth=0,
                label=f"90% band of {name(label)}",
                zorder=2,
            )
        ax.plot(
            points,
            heights,
            color=shade,
            linestyle=style,
            linewidth=1.7,
            label=f"{name(label)} (reference)" if reference else name(label),
            zorder=3 if reference else 4,
        )
    ax.set_xlim(limits)
    ax.set_ylim(0, 1.08 * tallest)
    ax.set_xlabel(name(dataset.feature_names[0]))
    ax.set_ylabel("density")
    tidy(ax)
    legend_below(ax)
    return ax


def _estimate_panel(ax: Axes, draws: Mapping[str, FloatArray], looks: Mapping[str, Look]) -> None:
    """One kind of parameter: component k at height k, methods a little apart."""
    most = max(values.shape[1] for values in draws.values())
    offsets = np.linspace(-0.3, 0.3, len(draws)) if len(draws) > 1 else np.zeros(1)
    for offset, (label, values) in zip(offsets, draws.items(), strict=True):
        shade, _, mark = looks[label]
        at = np.arange(values.shape[1]) + offset
        if len(values) > 1:
            low, high = np.quantile(values, layers.BAND, axis=0)
            ax.hlines(at, low, high, color=shade, linewidth=1.4)
        ax.plot(values.mean(axis=0), at, mark, color=shade, markersize=4.5, linestyle="none")
    for k in range(1, most):
        ax.axhline(k - 0.5, color=INK, alpha=0.1, linewidth=0.8, zorder=0)
    ax.set_ylim(most - 0.5, -0.5)
    tidy(ax).spines["left"].set_visible(False)
    ax.set_yticks(range(most), [str(k) for k in range(most)])
    ax.tick_params(left=False)
    badge_rows(ax)
    ax.locator_params(axis="x", nbins=4)
