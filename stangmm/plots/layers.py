"""The layers that pictures of mixtures are made of: rows, curves, bands, ellipses, shades.

Each takes numbers of one or two features and an Axes; what belongs on which picture is decided in
`mixtures`.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.data.dataset import Dataset
from stangmm.model.mixture import Mixture
from stangmm.plots.style import (
    BARS,
    INK,
    MUTED,
    SCATTER_ROWS,
    VECTOR_MARKERS,
    VECTOR_POINTS,
    color,
    line,
    marker,
    stairs,
)
from stangmm.predict.averages import thinned

BAND_DRAWS = 500
BAND = (0.05, 0.95)
SHADE_DRAWS = 100
_SHADE_POINTS = 71  # along each side of the view
ELLIPSE_DRAWS = 40
ELLIPSE_MASS = (0.5, 0.95)
SHADE_MASS = (0.95, 0.8, 0.5)
_SEED = 20_000  # which rows a thinned scatter shows is the same each time


def component_curves(mixture: Mixture, points: FloatArray) -> FloatArray:
    """Mean over the draws of weight_k N_k(x), shape (K, points); sums to the mixture density.

    With noise there is one more, the last.
    """
    total = np.zeros((mixture.n_weights, len(points)))
    x = points[:, np.newaxis]
    for draws, rows in mixture.blocks(len(x)):
        total[:, rows] += np.exp(mixture[draws].log_joint(x[rows])).sum(axis=0)
    return total / mixture.batch_shape[0]


def curve_points(mixture: Mixture, low: float, high: float) -> FloatArray:
    """Points at which a density of one feature is drawn: dense wherever a component is.

    They go on beyond the view [low, high], so that the curve is whole.
    """
    means = mixture.means[..., 0].mean(axis=0)
    scales = np.median(mixture.scales[..., 0], axis=0)
    around = (means[:, np.newaxis] + scales[:, np.newaxis] * np.linspace(-5, 5, 31)).ravel()
    outside = (high - low) * np.geomspace(1e-2, 20, 40)
    return np.unique(
        np.concatenate([np.linspace(low, high, 201), around, low - outside, high + outside])
    )


def view(values: FloatArray, weight: FloatArray | None) -> tuple[float, float]:
    """Limits of an axis: the range of the rows that count, and a little more."""
    counted = values if weight is None else values[weight > 0]
    low, high = float(np.nanmin(counted)), float(np.nanmax(counted))
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def view_of_pair(
    xy: FloatArray, weight: FloatArray | None, point: Mixture
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both axes: the rows that count, and the components unless they are far wider."""
    outline = ellipse_paths(point, ELLIPSE_MASS[-1]).reshape(-1, 2)
    limits = []
    for j in (0, 1):
        low, high = view(xy[:, j], weight)
        margin = 0.02 * (high - low)
        most = 0.12 * (high - low)
        limits.append(
            (
                max(low - most, min(low, float(outline[:, j].min()) - margin)),
                min(high + most, max(high, float(outline[:, j].max()) + margin)),
            )
        )
    return limits[0], limits[1]


def histogram(ax: Axes, values: FloatArray, weight: FloatArray | None) -> float:
    """Bars of area 1 in all, of the values that are there; gives the height of the highest."""
    n, seen = len(values), ~np.isnan(values)
    values, weight = values[seen], None if weight is None else weight[seen]
    heights, edges = np.histogram(
        values, bins=_bin_edges(values, weight), weights=weight, density=True
    )
    holes = "" if len(values) == n else f", {n - len(values):,} missing"
    label = f"data ({n:,} rows{'' if weight is None else ', weighted'}{holes})"
    stairs(ax, heights, edges, BARS, fill=True, label=label, zorder=1)
    return float(heights.max())


def _bin_edges(values: FloatArray, weight: FloatArray | None) -> FloatArray:
    counted = values if weight is None else values[weight > 0]
    low, high = float(counted.min()), float(counted.max())
    size = float(len(values) if weight is None else weight.sum())
    order = np.argsort(values)
    share = np.cumsum(np.ones(len(values)) if weight is None else weight[order]) / size
    hundredths = values[order][
        np.searchsorted(share, np.linspace(0, 1, 101)).clip(max=len(share) - 1)
    ]
    # Freedman & Diaconis 1981 (doi:10.1007/BF01025868) take twice the quartiles' distance, for
    # densities of one mode. A mixture's modes are narrower than that, so the densest quarter of the
    # rows says how wide they are: of a normal density it is 2.12 times narrower than the quartiles.
    densest = float((hundredths[25:] - hundredths[:-25]).min())
    width = 1.3 * 2.12 * densest / size ** (1 / 3)
    bins = (high - low) / width if width > 0 else np.sqrt(size)
    most = min(100.0, 3 * np.sqrt(size))
    return np.linspace(low, high, int(np.clip(np.ceil(bins), 6, max(6.0, most))) + 1)


def mixture_curves(ax: Axes, mixture: Mixture, low: float, high: float) -> float:
    """Density of one feature over [low, high], its parts, and with draws a 90% band.

    Parameters
    ----------
    mixture : Mixture
        Batch (S,) of mixtures of one feature.

    Returns
    -------
    float
        Height of the highest point.
    """
    points = curve_points(mixture, low, high)
    curves = component_curves(mixture, points)
    if mixture.batch_shape[0] > 1:
        bottom, top = density_band(mixture, points)
        ax.fill_between(
            points,
            bottom,
            top,
            color=INK,
            alpha=0.22,
            linewidth=0,
            label="90% band of the density",
            zorder=2,
        )
    heights = curves.sum(axis=0)
    ax.plot(points, heights, color=INK, linewidth=1.3, label="mixture density", zorder=4)
    if len(curves) > 1:  # broad and under the mixture's line, so that both show where they agree
        for k, curve in enumerate(curves[: mixture.n_components]):
            seen = curve > 1e-3 * heights.max()
            part = np.where(seen, curve, np.nan)
            ax.plot(points, part, color=color(k), linestyle=line(k), linewidth=3.2, zorder=3)
    return float(heights.max())


def density_band(mixture: Mixture, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pointwise 5% and 95% quantiles of the density over (up to 500 of) the draws."""
    drawn = thinned(mixture, BAND_DRAWS)
    values = np.exp(drawn.log_density(points[:, np.newaxis]))
    bottom, top = np.quantile(values, BAND, axis=0)
    return bottom, top


def shown_rows(dataset: Dataset) -> tuple[IntArray, str]:
    """Rows that a scatter shows and the words for its label; of many rows a sample is drawn.

    A row is drawn with a probability in proportion to its sample weight.
    """
    n = dataset.n_observations
    if n <= SCATTER_ROWS:
        return np.arange(n), f"data ({n:,} rows)"
    rng = np.random.default_rng(_SEED)
    weight = dataset.sample_weight
    if weight is None:
        rows = rng.choice(n, SCATTER_ROWS, replace=False, shuffle=False)
    else:
        rows = np.unique(rng.choice(n, SCATTER_ROWS, p=weight / weight.sum()))
    return np.sort(rows), f"data ({len(rows):,} of {n:,} rows, at random)"


def scatter(
    ax: Axes,
    xy: FloatArray,
    responsibilities: FloatArray,
    label: str,
    *,
    n_components: int,
    weight: FloatArray | None = None,
    size: float = 14.0,
) -> None:
    """Rows of two features in the colour of their component, paler the less certain it is.

    Parameters
    ----------
    xy : ndarray, shape (N, 2)
    responsibilities : ndarray, shape (N, K), or (N, K + 1) with noise, which is grey
    weight : ndarray, shape (N,), optional
        Sample weights, shown as the markers' area.
    label : str
        Of the rows in a legend; empty where there is none.
    """
    n, k = responsibilities.shape
    component = responsibilities.argmax(axis=1)
    certainty = (responsibilities.max(axis=1) - 1 / k) / (1 - 1 / k) if k > 1 else np.ones(n)
    densest = 1.0 if n <= 500 else 0.75
    alpha = densest * (0.18 + 0.57 * np.clip(certainty, 0, 1))
    area = np.asarray(size if n <= 500 else size * 0.5)  # one number is one marker, used again
    if weight is not None:
        area = area * np.clip(weight / weight[weight > 0].mean(), 0.0, 8.0)
    kinds = [(marker(j), color(j)) for j in range(n_components)] + [(".", MUTED)]  # last: noise
    colors = np.array([to_rgba(shade) for _, shade in kinds])[component]
    colors[:, 3] = alpha
    # Components in their order. Certain rows have one colour, and are drawn in half the time.
    certain = np.isclose(alpha, 0.75 * densest, atol=0.01)
    for j, is_certain in product(np.unique(component), (True, False)):
        rows = np.flatnonzero((component == j) & (certain == is_certain))
        if len(rows):
            ax.scatter(
                xy[rows, 0],
                xy[rows, 1],
                s=area[rows] if area.ndim else area,
                c=colors[rows[:1]] if is_certain else colors[rows],
                marker=kinds[j][0],
                linewidths=0,
                rasterized=n > VECTOR_MARKERS,
                zorder=2,
            )
    if label and n_components in component:
        ax.scatter([], [], s=size, color=MUTED, marker=".", linewidths=0, label="noise")
    if label:
        ax.scatter([], [], s=size, color=MUTED, linewidths=0, label=label)


def ellipse_paths(mixture: Mixture, mass: float, points: int = 73) -> FloatArray:
    """Ellipses that hold a share of each component of two features, shape (..., K, points, 2)."""
    radius = np.sqrt(-2.0 * np.log1p(-mass))
    angle = np.linspace(0, 2 * np.pi, points)
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    turned = circle @ np.swapaxes(mixture.cholesky, -1, -2)
    return np.asarray(mixture.means[..., np.newaxis, :] + turned)


def ellipses_of_draws(
    ax: Axes, mixture: Mixture, features: tuple[int, int], *, small: bool = False
) -> None:
    """Thin ellipses of 95% mass for draws (S,) of the posterior, in two of the features.

    In a small panel a third of the draws show as much.
    """
    some = thinned(mixture, ELLIPSE_DRAWS // 3 if small else ELLIPSE_DRAWS)
    thin_ellipses(ax, some.marginal(np.array(features)), points=25 if small else 49)


def thin_ellipses(ax: Axes, mixture: Mixture, points: int = 49) -> None:
    """Thin ellipses of 95% mass for some mixtures (S,) of two features."""
    paths = ellipse_paths(mixture, ELLIPSE_MASS[-1], points)
    for j in range(mixture.n_components):
        ax.add_collection(
            LineCollection(
                list(paths[:, j]),
                colors=color(j),
                alpha=0.16,
                linewidths=0.7,
                # Pixels of many pale shades are larger than other pictures' pixels.
                rasterized=paths.size > 20 * VECTOR_POINTS,
                zorder=2.2,  # below the axes' lines, as the rows: pixels of both are one image
            ),
            autolim=False,
        )


def ellipses(ax: Axes, point: Mixture, *, filled: bool = False) -> None:
    """Ellipses of 50% and 95% mass of each component of two features."""
    for mass in ELLIPSE_MASS:
        for j, path in enumerate(ellipse_paths(point, mass)):
            if filled:
                ax.fill(path[:, 0], path[:, 1], color=color(j), alpha=0.13, linewidth=0, zorder=1.5)
            ax.plot(
                path[:, 0],
                path[:, 1],
                color=color(j),
                linestyle=line(j),
                linewidth=1.6 if mass == ELLIPSE_MASS[0] else 1.1,
                zorder=4,
            )


def shades(
    ax: Axes,
    mixture: Mixture,
    features: tuple[int, int],
    xlim: tuple[float, float],
    ylim: tuple[float, float],
) -> None:
    """Shade the smallest regions that hold 50%, 80% and 95% of the mixture within the view.

    The mixture's draws (S,) are of all features, of which two are shown.
    """
    x, y = np.linspace(*xlim, _SHADE_POINTS), np.linspace(*ylim, _SHADE_POINTS)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    some = thinned(mixture, SHADE_DRAWS).marginal(np.array(features))
    density = np.zeros(len(grid))
    for draws, rows in some.blocks(len(grid)):
        density[rows] += np.exp(some[draws].log_density(grid[rows])).sum(axis=0)
    levels = mass_levels(density, SHADE_MASS)
    if len(levels) == len(SHADE_MASS):
        ax.contourf(
            x,
            y,
            density.reshape(_SHADE_POINTS, _SHADE_POINTS),
            levels=[*levels, np.inf],
            colors=[to_rgba(INK, alpha) for alpha in (0.06, 0.12, 0.2)],
            zorder=1,
        )


def mass_levels(density: FloatArray, masses: tuple[float, ...]) -> FloatArray:
    """Heights above which a density on a grid holds each mass, rising; fewer if they coincide."""
    ranked = np.sort(density)[::-1]
    total = ranked.sum()
    if not total > 0:
        return np.empty(0)
    held = np.cumsum(ranked) / total
    return np.unique(ranked[np.searchsorted(held, masses).clip(max=len(ranked) - 1)])
