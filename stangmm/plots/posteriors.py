"""Pictures of what a fit says: intervals of parameters, their pairs, the component of each row."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.errors import ModelError
from stangmm.methods.draws import McmcInfo
from stangmm.plots import layers
from stangmm.plots.mixtures import telling_features
from stangmm.plots.style import (
    COMPONENTS,
    INK,
    MUTED,
    PAPER,
    VECTOR_MARKERS,
    VECTOR_POINTS,
    badge_rows,
    badges_above,
    color,
    first_of,
    legend_below,
    marker,
    name,
    new_axes,
    panels,
    panels_below,
    room,
    stairs,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted
from stangmm.predict import averages as predict

FOREST_FEATURES = 3
FOREST_INTERVALS = ((0.05, 0.95), (0.25, 0.75))
# A row is decided when one component has at least this probability.
DECIDED = 0.9
_RESPONSIBILITY_DRAWS = 200
_HATCHES = (None, "////", "....")  # components beyond the sixth take the same colours
PAIRS_FEATURES = 2
_DIVERGENT = 150  # draws that are marked, at most
_TICK_MARGIN = 0.2  # of a panel of pairs, at either end, without a tick
_PAIRS_DRAWS = 1000


@styled
def responsibilities(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw for every row the probability of each component, stacked.

    Rows stand in order of their likeliest component, most certain first; its probability is at the
    bottom, so that where it falls below the line at 0.9 rows are undecided. Rows of known component
    are certain. A row is as wide as its sample weight. Of more than 5000 rows a random
    sample is drawn, and only rows that are drawn are counted.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    rows, label = layers.shown_rows(fit.dataset)
    probability = _membership(fit, rows)
    weight = np.ones(len(rows))
    if fit.dataset.sample_weight is not None and len(rows) == fit.dataset.n_observations:
        weight = fit.dataset.sample_weight
    component, certainty = probability.argmax(axis=1), probability.max(axis=1)
    order = np.lexsort((-certainty, component))
    edges = np.concatenate([[0.0], np.cumsum(weight[order])])
    ax = ax or new_axes(3.1)
    n, k = probability.shape[1], fit.model.n_components
    present, centers = [], []
    for own in range(n):
        block = np.flatnonzero(component[order] == own)
        if not len(block):
            continue
        span = edges[block[0] : block[-1] + 2]
        bottom = np.zeros(len(block))
        for part in (own, *(j for j in range(n) if j != own)):
            top = bottom + probability[order[block], part]
            stairs(
                ax,
                top,
                span,
                color(part) if part < k else MUTED,
                baseline=bottom,
                fill=True,
                edgecolor=PAPER,
                hatch=_HATCHES[part // len(COMPONENTS) % len(_HATCHES)],
                rasterized=len(rows) * k > VECTOR_POINTS,
                gid=f"component-{part}",
            )
            bottom = top
        if own < k:
            present.append(own)
            centers.append((span[0] + span[-1]) / 2)
    if n > k:
        ax.fill([], [], color=MUTED, linewidth=0, label="noise")
    undecided = float(weight[certainty < DECIDED].sum())
    total = float(weight.sum())
    noun = "rows" if fit.dataset.sample_weight is None else "rows, weighted"
    ax.axhline(
        DECIDED,
        color=INK,
        linewidth=1.0,
        linestyle=(0, (4, 2)),
        label=f"undecided, below {DECIDED}: {undecided:,.6g} of {total:,.6g} {noun} "
        f"({100 * undecided / total:.1f}%)",
    )
    ax.set_xlim(0, edges[-1])
    badges_above(ax, np.array(centers), present, [str(own) for own in present])
    ax.set_ylim(0, 1)
    ax.set_xlabel(f"{label}, by likeliest component")
    ax.set_ylabel("probability")
    tidy(ax)
    legend_below(ax, columns=1)
    return ax


def _membership(fit: Fitted, rows: IntArray) -> FloatArray:
    """Posterior mean of P(z = k | x) of some rows, (rows, K or K + 1); 1 where k is known."""
    some = predict.thinned(fit.mixture, _RESPONSIBILITY_DRAWS)
    probability = predict.responsibilities(some, fit.dataset.x[rows])
    if fit.dataset.labels is not None:
        known = fit.dataset.labels[rows]
        probability[known >= 0] = np.eye(probability.shape[1])[known[known >= 0]]
    return probability


@styled
def forest(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw weights, means and scales of the components with their 50% and 90% intervals.

    A column of panels for each of (at most three) features, means above scales, beside the weights;
    for one feature all stand in a row. Dots are posterior means, and all there is for a point
    estimate. The panels are the Axes' ``child_axes``.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    names = fit.dataset.feature_names[:FOREST_FEATURES]
    total, k = fit.dataset.n_features, fit.model.n_components
    rows = min(2, len(names))
    ax = ax or new_axes(0.75 + (0.8 + 0.2 * k) * rows)
    columns = 1 + len(names) if rows > 1 else 3
    grid = panels(ax, rows, columns, gap=(0.18, 0.68), empty=[(1, 0)])
    weights = grid[0].pop(0)
    _forest_panel(weights, fit.mixture.weights)
    weights.set_xlabel("weight")
    weights.set_ylabel("component")
    for d, feature in enumerate(names):
        means, scales = (grid[0][d], grid[1][d]) if rows > 1 else grid[0]
        _forest_panel(means, fit.mixture.means[..., d])
        _forest_panel(scales, fit.mixture.scales[..., d])
        for what, panel in (("mean", means), ("scale", scales)):
            panel.set_xlabel(f"{what} of\n{name(feature, room(panel))}")
            panel.yaxis.set_visible(panel is scales and rows > 1 and d == 0)
    point = fit.kind == "point"
    label = "estimate" if point else "posterior mean, 50% and 90% intervals"
    label += first_of(len(names), total)
    ax.plot([], [], "o" if point else "-o", color=MUTED, markersize=5, label=label)
    legend_below(ax, columns=1, inches=0.66)
    return ax


def _forest_panel(ax: Axes, values: FloatArray) -> None:
    """One kind of parameter, shape (S, K): component k at height k."""
    k = values.shape[1]
    mean = values.mean(axis=0)
    if len(values) > 1:
        for (low, high), width in zip(FOREST_INTERVALS, (1.2, 2.8), strict=True):
            left, right = np.quantile(values, [low, high], axis=0)
            ax.hlines(range(k), left, right, colors=[color(j) for j in range(k)], linewidth=width)
    for j in range(k):
        ax.plot(
            mean[j],
            j,
            marker(j),
            color=color(j),
            markersize=5.5,
            markeredgewidth=0,
            zorder=3,
        )
        if j:
            ax.axhline(j - 0.5, color=INK, alpha=0.1, linewidth=0.8, zorder=0)
    ax.set_ylim(k - 0.5, -0.5)
    tidy(ax).spines["left"].set_visible(False)
    ax.set_yticks(range(k), [str(j) for j in range(k)])
    ax.tick_params(left=False)
    badge_rows(ax)
    ax.locator_params(axis="x", nbins=4)


@styled
def pairs(fit: Fitted, ax: Axes | None = None, *, component: int | None = None) -> Axes:
    """Draw pairs of the parameters of one component, labels settled, divergent draws marked.

    Its weight, means and scales, of the two features in which the components differ most. Of more
    than 1000 draws some are shown, evenly spaced, but of the divergent ones all (at most 150). The
    panels are the Axes' ``child_axes``.

    Parameters
    ----------
    fit : Fit
        Of a method that gives draws.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.
    component : int, optional
        Which one; by default the one of smallest weight, about which the data say least.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        A point estimate has no draws, or there is no such component.
    """
    if fit.kind == "point":
        raise ModelError(f'pairs shows draws, and "{fit.method}" gives one. Use method="nuts".')
    k = fit.model.n_components
    if component is None:
        component = int(fit.weights.argmin())
    if component not in range(k):
        raise ModelError(f"component must be one of 0 to {k - 1}, got {component}.")
    columns = _parameters_of(fit, component)
    n, draws = len(columns), fit.lp.size
    shown = np.unique(np.linspace(0, draws - 1, min(draws, _PAIRS_DRAWS)).round().astype(np.intp))
    divergent = _divergent(fit)
    marked = np.empty(0, dtype=np.intp) if divergent is None else divergent
    ax = ax or new_axes(1.3 + 0.95 * n, width=1.6 + 0.95 * n)
    labels, values = list(columns), list(columns.values())
    for (i, j), panel in panels_below(ax, n).items():
        if i == j:
            _histogram(panel, values[i], component)
        else:
            _pair_panel(panel, values[j], values[i], shown, marked, component)
        tidy(panel, left=i != j)
        for axis in (panel.xaxis, panel.yaxis):
            _ticks_inside(axis)
        panel.tick_params(labelsize=7, labelbottom=i == n - 1, labelleft=j == 0 and i > 0)
        if i == n - 1:
            panel.set_xlabel(labels[j], fontsize=8.5)
        if j == 0 and i > 0:
            panel.set_ylabel(labels[i], fontsize=8.5)
    _pairs_legend(ax, fit, component, len(shown), None if divergent is None else len(divergent))
    return ax


def _parameters_of(fit: Fitted, component: int) -> dict[str, FloatArray]:
    """Names and draws (S,) of at most five parameters of a component, none of them constant."""
    mixture = fit.mixture
    one = fit.dataset.n_features == 1
    features = (0,) if one else telling_features(fit)
    found = {"weight": mixture.weights[:, component]}
    for kind, values in (("mean", mixture.means), ("scale", mixture.scales)):
        for d in features:
            of = "" if one else f"\n{name(fit.dataset.feature_names[d], 12)}"
            found[f"{kind}{of}"] = values[:, component, d]
    return {label: draws for label, draws in found.items() if np.ptp(draws) > 0}


def _divergent(fit: Fitted) -> IntArray | None:
    """Numbers of the draws that diverged, chain 0 first; None where nothing can diverge."""
    if not isinstance(fit.info, McmcInfo) or "diverging" not in fit.info.sample_stats:
        return None
    return np.flatnonzero(np.asarray(fit.info.sample_stats["diverging"]).ravel())


def _histogram(ax: Axes, values: FloatArray, component: int) -> None:
    counts, edges = np.histogram(values, bins=30)
    stairs(ax, counts.astype(float), edges, color(component), fill=True, alpha=0.6)
    margin = 0.05 * (edges[-1] - edges[0])
    ax.set_xlim(edges[0] - margin, edges[-1] + margin)
    ax.set_ylim(0, 1.05 * counts.max())


def _ticks_inside(axis: Axis) -> None:
    """A few ticks, none so near an end that its label meets that of the next panel."""
    low, high = axis.get_view_interval()
    margin = _TICK_MARGIN * (high - low)
    ticks = [float(tick) for tick in MaxNLocator(nbins=3).tick_values(low, high)]
    axis.set_ticks([tick for tick in ticks if low + margin < tick < high - margin])


def _pair_panel(
    ax: Axes,
    x: FloatArray,
    y: FloatArray,
    shown: IntArray,
    diverging: IntArray,
    component: int,
) -> None:
    ax.scatter(
        x[shown],
        y[shown],
        s=4,
        color=color(component),
        alpha=0.35,
        linewidths=0,
        rasterized=len(shown) > VECTOR_MARKERS,
        zorder=2,
    )
    some = diverging[:_DIVERGENT]
    if len(some):
        ax.plot(x[some], y[some], "x", color=INK, markersize=4.5, gid="divergent", zorder=3)


def _pairs_legend(ax: Axes, fit: Fitted, component: int, shown: int, divergent: int | None) -> None:
    """Say at the upper right, where there are no panels, what is drawn."""
    of = "" if shown == fit.lp.size else f" of {fit.lp.size:,}"
    ax.scatter(
        [], [], s=14, color=color(component), label=f"component {component}\n{shown:,}{of} draws"
    )
    if divergent:
        some = f", {_DIVERGENT} shown" if divergent > _DIVERGENT else ""
        ax.plot([], [], "x", color=INK, label=f"divergent ({divergent:,}{some})")
    elif divergent is not None:
        ax.plot([], [], " ", label="none divergent")
    total = fit.dataset.n_features
    ax.legend(
        loc="upper right",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=8,
        title=None if total <= PAIRS_FEATURES else f"{PAIRS_FEATURES} of {total} features",
        title_fontsize=8,
    )
