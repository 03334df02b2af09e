"""Pictures of the rows in clusters: which belong together, and what joining components costs."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from stangmm.judge.merging import merge_path_of
from stangmm.judge.partition import Partition
from stangmm.plots.style import (
    COMPONENTS,
    INK,
    METHODS,
    MIDDLE,
    MUTED,
    badge,
    badge_size,
    legend_below,
    new_axes,
    size_in_points,
    spread_badges,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted

_MOST = 400  # rows across the picture: more of them are thinned
# From nothing, so that the page shows through, to the first component's colour.
_SHADES = LinearSegmentedColormap.from_list(
    "similarity", [(*(0.0, 0.447, 0.698), alpha) for alpha in (0.0, 1.0)]
)


@styled
def partition(found: Partition, ax: Axes | None = None) -> Axes:
    """Draw the posterior similarity of the rows, ordered by cluster.

    A point is the probability that two rows share a component. Clusters are squares on the
    diagonal, with their numbers beside them; in each the rows of which it is most certain come
    first. What is shaded outside the squares could as well be elsewhere. Of more than 400 rows
    some are shown, evenly spaced.

    Parameters
    ----------
    found : Partition
        Of a fit, ``fit.partition()``, or of a stack.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    labels, certainty = found.labels[found.searched], found.certainty[found.searched]
    order = np.lexsort((-certainty, labels))
    n = len(order)
    shown = order[np.linspace(0, n - 1, min(n, _MOST)).round().astype(np.intp)]
    ax = ax or new_axes(5.2)
    ax.imshow(
        found.similarity[np.ix_(shown, shown)],
        cmap=_SHADES,
        vmin=0.0,
        vmax=1.0,
        extent=(0.0, n, n, 0.0),
        interpolation="nearest",
        aspect="auto",
    )
    counts = np.bincount(labels, minlength=found.n_clusters)
    ends = np.cumsum(counts)
    for edge in ends[:-1]:
        ax.axhline(edge, color=INK, linewidth=0.6)
        ax.axvline(edge, color=INK, linewidth=0.6)
    _numbers(ax, ends - counts / 2, counts)
    few = "" if n == len(found.labels) else f" ({n:,} of {len(found.labels):,})"
    ax.set_xlabel(f"rows{few}, by cluster")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    tidy(ax)
    ax.tick_params(left=False, labelleft=False)
    for p in (0.0, 0.5, 1.0):
        ax.fill_between(
            [], [], [], facecolor=_SHADES(p), edgecolor=MUTED, linewidth=0.5, label=f"{p:g}"
        )
    legend_below(ax, inches=0.45).set_title("probability of one component")
    return ax


def _numbers(ax: Axes, middles: np.ndarray, counts: np.ndarray) -> None:
    """Number as many clusters as have room beside the picture, the largest."""
    total, tall = float(counts.sum()), badge_size("0")[1] / size_in_points(ax)[1]
    chosen = np.sort(np.argsort(-counts, kind="stable")[: max(1, int(1.0 / tall))])
    least = tall * total
    placed = spread_badges(middles[chosen], least, (least / 2, total - least / 2))
    for c, y in zip(chosen.tolist(), placed.tolist(), strict=True):
        label = badge(ax, -0.04, y, c)
        label.set_transform(ax.get_yaxis_transform())
        label.set_clip_on(False)


@styled
def merge_path(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the entropy of the clusters against their number, as components are joined.

    Where the line is steep, to the right of its elbow, components overlap and joining them costs
    nothing; where it is flat, clusters that are apart were joined. From four components on the two
    straight lines that fit best are shown, on the left and on the right of the elbow.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    path = merge_path_of(fit)
    k, elbow = len(path.entropy), path.elbow
    numbers = np.arange(1, k + 1)
    ax = ax or new_axes(3.4)
    if elbow is not None:
        for part in (slice(0, elbow), slice(elbow - 1, k)):
            x = numbers[part]
            line = np.polynomial.Polynomial.fit(x, path.entropy[part], 1)
            label = "two lines that fit best" if part.start else "_"
            ax.plot(x, line(x), color=MIDDLE, linewidth=1.2, linestyle=(0, (4, 2)), label=label)
    ax.plot(
        numbers,
        path.entropy,
        "o-",
        color=COMPONENTS[0],
        markersize=4.5,
        linewidth=1.0,
        label=f"{k} components joined",
    )
    if elbow is not None:
        ax.plot(
            [elbow],
            [path.entropy[elbow - 1]],
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=METHODS[0],
            markeredgewidth=2.0,
            label=f"elbow: {elbow} clusters",
        )
    ax.set_xlabel("number of clusters")
    ax.set_ylabel("entropy of the rows' clusters (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(0.5, k + 0.5)
    tidy(ax)
    legend_below(ax)
    return ax
