"""Pictures of several methods on one data set: their densities and their estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from matplotlib.axes import Axes

from stangmm.arrays import FloatArray
from stangmm.errors import ModelError
from stangmm.plots import layers
from stangmm.plots.mixtures import curve_of, draw_pair, telling_features
from stangmm.plots.style import (
    INK,
    METHOD_LINES,
    METHOD_MARKERS,
    METHODS,
    color,
    legend_below,
    name,
    new_axes,
    panels,
    styled,
    tidy,
)

if TYPE_CHECKING:
    from stangmm.comparison import Comparison
    from stangmm.fit import Fit

ESTIMATE_FEATURES = 3
Look: TypeAlias = tuple[str, str | tuple[int, tuple[float, ...]], str]


@styled
def densities(comparison: Comparison, ax: Axes | None = None) -> Axes:
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
    fits = _fits(comparison)
    if comparison.dataset.n_features == 1:
        return _overlay(comparison, fits, ax or new_axes(3.6))
    columns = min(2, len(fits))
    rows = -(-len(fits) // columns)
    ax = ax or new_axes(0.4 + 2.5 * rows)
    grid = [p for row in panels(ax, rows, columns, gap=(0.15, 0.4)) for p in row]
    pair = telling_features(fits.get(comparison.reference or "") or next(iter(fits.values())))
    names = comparison.dataset.feature_names
    for i, panel in enumerate(grid):
        if i >= len(fits):
            panel.set_axis_off()
            continue
        label, fit = list(fits.items())[i]
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
def estimates(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw weights, means and scales of all methods side by side, with 90% intervals.

    A row of panels for each of (at most three) features; point estimates have no interval. The
    panels are the Axes' ``child_axes``.

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
    fits = _fits(comparison)
    looks = _looks(comparison, fits)
    names = comparison.dataset.feature_names[:ESTIMATE_FEATURES]
    k = max(fit.model.n_components for fit in fits.values())
    height = 0.55 + k * max(0.34, 0.11 * len(fits))
    ax = ax or new_axes(0.5 + (height + 0.35) * len(names))
    grid = panels(ax, len(names), 3, gap=(0.22, 0.62))
    for d, (weights, means, scales) in enumerate(grid):
        label = name(names[d], 18)
        if d == 0:
            _estimate_panel(weights, {m: f.mixture.weights for m, f in fits.items()}, looks)
            weights.set_xlabel("weight")
            weights.set_ylabel("component")
        else:
            weights.set_axis_off()
        _estimate_panel(means, {m: f.mixture.means[..., d] for m, f in fits.items()}, looks)
        means.set_xlabel(f"mean of {label}")
        _estimate_panel(scales, {m: f.mixture.scales[..., d] for m, f in fits.items()}, looks)
        scales.set_xlabel(f"scale of {label}")
        if d == 0:
            means.tick_params(labelleft=False)
        scales.tick_params(labelleft=False)
    for method, (shade, _, mark) in looks.items():
        ax.plot([], [], mark, color=shade, markersize=5, label=name(method))
    if len(names) > 1:
        ax.legend(loc="lower center", bbox_to_anchor=(1 / 6, 0.05), bbox_transform=ax.transAxes)
    else:
        legend_below(ax, columns=4)
    return ax


def _fits(comparison: Comparison) -> Mapping[str, Fit]:
    if not comparison.fits:
        raise ModelError("Every method of this comparison failed; there is nothing to draw.")
    return comparison.fits


def _looks(comparison: Comparison, fits: Mapping[str, Fit]) -> dict[str, Look]:
    """Colour, line and marker of each method; the reference is solid ink."""
    looks: dict[str, Look] = {}
    others = 0
    for label in fits:
        if label == comparison.reference:
            looks[label] = (INK, "-", "o")
            continue
        looks[label] = (
            METHODS[others % len(METHODS)],
            METHOD_LINES[others % len(METHOD_LINES)],
            METHOD_MARKERS[others % len(METHOD_MARKERS)],
        )
        others += 1
    return looks


def _overlay(comparison: Comparison, fits: Mapping[str, Fit], ax: Axes) -> Axes:
    dataset = comparison.dataset
    x, weight = dataset.x[:, 0], dataset.sample_weight
    limits = layers.view(x, weight)
    tallest = layers.histogram(ax, x, weight)
    for label, (shade, style, _) in _looks(comparison, fits).items():
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
    tidy(ax, left=False)
    ax.set_yticks(range(most), [str(k) for k in range(most)])
    ax.tick_params(left=False, labelleft=True)
    for k, text in enumerate(ax.get_yticklabels()):
        text.set_color(color(k))
        text.set_fontweight("bold")
    ax.locator_params(axis="x", nbins=4)
