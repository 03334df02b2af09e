"""Pictures of one fitted mixture: its density over the data, and its components apart."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.model.mixture import Mixture
from stangmm.plots import layers
from stangmm.plots.style import (
    INK,
    MUTED,
    badge,
    badge_size,
    badges_above,
    color,
    legend_below,
    line,
    name,
    new_axes,
    panels_below,
    room,
    size_in_points,
    spread_boxes,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted
from stangmm.predict import averages as predict

CORNER_FEATURES = 5
_CORNER_DRAWS = 200
_RUG_ROWS = 500
_RESPONSIBILITY_DRAWS = 200
_BESIDE = 5.0  # points: a badge this far from its mean is tied to it by a line


@styled
def density(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the mixture density over the data.

    One feature: a histogram, the posterior predictive density, for draws a pointwise 90% band, and
    each component's part of the density. Two features: the rows in the colour of their component,
    paler where it is uncertain, ellipses of 50% and 95% of each component (thin ones for draws),
    and the smallest regions of 50%, 80% and 95% of the mixture shaded. More features: both, without
    shades, for each pair and each of the first five, in panels that are the Axes' ``child_axes``.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    d = fit.dataset.n_features
    if d == 1:
        return _density_of_one(fit, ax or new_axes(3.5))
    if d == 2:
        ax = ax or new_axes(4.4)
        draw_pair(fit, ax, (0, 1))
        legend_below(ax, columns=2)
        return ax
    shown = min(d, CORNER_FEATURES)
    return _corner(fit, ax or new_axes(1.3 + 1.25 * shown, width=1.0 + 1.25 * shown), shown)


@styled
def components(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the components separately, with their weights.

    One feature: each component's part of the density over a histogram, and the rows as ticks in
    the colour of their component. More: the rows and each component's ellipses of 50% and 95%, in
    the two features in which the components differ most.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    if fit.dataset.n_features == 1:
        return _components_of_one(fit, ax or new_axes(3.3))
    ax = ax or new_axes(4.2)
    draw_pair(fit, ax, telling_features(fit), parts=True)
    return ax


def telling_features(fit: Fitted) -> tuple[int, int]:
    """Two features whose component means differ most, measured in the components' scales."""
    first, second = sorted(ranked_features(fit)[:2])
    return first, second


def ranked_features(fit: Fitted) -> list[int]:
    """Features by how much the components' means differ, in the components' scales; most first."""
    weights = fit.weights / fit.weights.sum()
    variance = weights @ fit.scales**2
    center = weights @ fit.means
    between = weights @ (fit.means - center) ** 2
    ranked: list[int] = np.argsort(-between / variance, kind="stable").tolist()
    return ranked


def draw_pair(
    fit: Fitted,
    ax: Axes,
    features: tuple[int, int],
    *,
    parts: bool = False,
    labels: bool = True,
    small: bool = False,
    responsibilities: FloatArray | None = None,
) -> None:
    """Scatter of two features with the components' ellipses; ``parts`` fills these and names them.

    Parameters
    ----------
    labels : bool
        Whether axes are named.
    small : bool
        One panel of many: small markers, no numbers, no shades, which nobody could tell apart.
    responsibilities : ndarray, shape (rows, K), optional
        What `shown_responsibilities` gave, so that it is not computed again for each panel.
    """
    x, weight = fit.dataset.x[:, list(features)], fit.dataset.sample_weight
    rows, label = layers.shown_rows(fit.dataset)
    point = _point(fit, features)
    limits = layers.view_of_pair(x, weight, point)
    if not parts and not small:
        layers.shades(ax, fit.mixture, features, *limits)
    if responsibilities is None:
        responsibilities = shown_responsibilities(fit)
    layers.scatter(
        ax,
        x[rows],
        responsibilities,
        "" if small else label,
        n_components=fit.model.n_components,
        weight=weight[rows] if weight is not None and len(rows) == len(x) else None,
        size=5.0 if small else 14.0,
    )
    layers.ellipses(ax, point, filled=parts)
    if not parts and fit.kind != "point":
        layers.ellipses_of_draws(ax, fit.mixture, features, small=small)
    ax.set_xlim(limits[0])
    ax.set_ylim(limits[1])
    if not small:
        badges_at_means(ax, point, parts)
        _pair_legend(ax, fit, parts)
    if labels:
        names = fit.dataset.feature_names
        ax.set_xlabel(name(names[features[0]], room(ax)))
        ax.set_ylabel(name(names[features[1]], room(ax, 1)))
    tidy(ax)


def shown_responsibilities(fit: Fitted) -> FloatArray:
    """Posterior mean of P(z = k | x) of the rows that a scatter shows, shape (rows, K or K + 1)."""
    rows, _ = layers.shown_rows(fit.dataset)
    some = predict.thinned(fit.mixture, _RESPONSIBILITY_DRAWS)
    return predict.responsibilities(some, fit.dataset.x[rows])


def badges_at_means(ax: Axes, point: Mixture, weights: bool) -> None:
    """Number the components at their means, none over another; a line leads to one that moved."""
    texts = [f"{k}:  {_share(w)}" if weights else str(k) for k, w in enumerate(point.weights)]
    sizes = np.array([badge_size(text) for text in texts])
    origin = np.array([ax.get_xlim()[0], ax.get_ylim()[0]])
    span = np.array([np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())])
    points = np.array(size_in_points(ax))
    at = (point.means - origin) / span * points
    inside = np.clip(at, sizes / 2, points - sizes / 2)
    placed = np.clip(spread_boxes(inside, sizes), sizes / 2, points - sizes / 2)
    moved = np.abs(placed - at).max(axis=1) > _BESIDE
    for k, (place, text) in enumerate(zip(origin + placed / points * span, texts, strict=True)):
        if moved[k]:
            ax.plot(*np.stack([place, point.means[k]]).T, color=color(k), linewidth=1.0, zorder=5)
        badge(ax, float(place[0]), float(place[1]), k, text)


def _share(weight: float) -> str:
    return f"{weight:.2f}" if weight >= 0.005 else "<0.01"


def _pair_legend(ax: Axes, fit: Fitted, parts: bool) -> None:
    ax.plot([], [], color=MUTED, linewidth=1.6, label="50% and 95% of a component")
    if not parts:
        ax.fill([], [], color=INK, alpha=0.15, linewidth=0, label="50, 80, 95% of the mixture")
        if fit.kind != "point":
            ax.plot([], [], color=MUTED, alpha=0.5, linewidth=0.7, label="95% in single draws")


def _point(fit: Fitted, features: tuple[int, ...]) -> Mixture:
    """Mixture at the posterior means, in some of the features."""
    chosen = list(features)
    covariances = fit.covariances[:, chosen][:, :, chosen]
    return Mixture.from_covariances(fit.weights, fit.means[:, chosen], covariances)


def _density_of_one(fit: Fitted, ax: Axes) -> Axes:
    x, weight = fit.dataset.x[:, 0], fit.dataset.sample_weight
    limits = layers.view(x, weight)
    tallest = layers.histogram(ax, x, weight)
    tallest = max(tallest, layers.mixture_curves(ax, fit.mixture, *limits))
    _label_components(ax, fit, limits)
    _frame_of_one(ax, fit, limits, tallest)
    legend_below(ax)
    return ax


def _components_of_one(fit: Fitted, ax: Axes) -> Axes:
    x, weight = fit.dataset.x[:, 0], fit.dataset.sample_weight
    limits = layers.view(x, weight)
    tallest = layers.histogram(ax, x, weight)
    points = layers.curve_points(fit.mixture, *limits)
    curves = layers.component_curves(fit.mixture, points)
    if fit.model.noise:
        ax.plot(points, curves[-1], color=MUTED, linewidth=1.8, label="noise", zorder=4)
    for k, curve in enumerate(curves[: fit.model.n_components]):
        ax.fill_between(points, curve, color=color(k), alpha=0.22, linewidth=0, zorder=2)
        ax.plot(points, curve, color=color(k), linestyle=line(k), linewidth=1.8, zorder=4)
    tallest = max(tallest, float(curves.max()))
    _rug(ax, fit, 0.06 * tallest)
    _label_components(ax, fit, limits, weights=True)
    _frame_of_one(ax, fit, limits, tallest)
    ax.set_ylim(bottom=-0.085 * tallest)
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= ax.get_ylim()[1]])
    legend_below(ax)
    return ax


def _rug(ax: Axes, fit: Fitted, height: float) -> None:
    x, n = fit.dataset.x, fit.dataset.n_observations
    rows = np.arange(n)
    if n > _RUG_ROWS:
        rows = np.random.default_rng(n).choice(n, _RUG_ROWS, replace=False, shuffle=False)
    some = predict.thinned(fit.mixture, _RESPONSIBILITY_DRAWS)
    label = predict.most_probable(predict.responsibilities(some, x[rows]), some.n_components)
    for k in np.unique(label):
        ax.vlines(
            x[rows][label == k, 0],
            -1.2 * height,
            -0.2 * height,
            color=color(int(k)) if k >= 0 else MUTED,
            linewidth=0.8,
            alpha=0.8,
            zorder=3,
        )
    shown = "" if len(rows) == n else f" ({len(rows)} of {n:,}, at random)"
    ax.plot([], [], "|", color=MUTED, markersize=7, label=f"rows by likeliest component{shown}")


def _label_components(
    ax: Axes, fit: Fitted, limits: tuple[float, float], *, weights: bool = False
) -> None:
    """Number the components along the upper edge, each above its mean."""
    if fit.model.n_components == 1 and not weights:
        return
    texts = [f"{k}:  {_share(w)}" if weights else str(k) for k, w in enumerate(fit.weights)]
    ax.set_xlim(limits)
    badges_above(ax, fit.means[:, 0], range(len(texts)), texts)


def _frame_of_one(ax: Axes, fit: Fitted, limits: tuple[float, float], tallest: float) -> None:
    ax.set_xlim(limits)
    ax.set_ylim(0, 1.12 * tallest)
    ax.set_xlabel(name(fit.dataset.feature_names[0], room(ax)))
    ax.set_ylabel("density")
    tidy(ax)


def _corner(fit: Fitted, ax: Axes, shown: int) -> Axes:
    x, weight = fit.dataset.x, fit.dataset.sample_weight
    table = panels_below(ax, shown)
    names = [name(n, room(table[0, 0])) for n in fit.dataset.feature_names[:shown]]
    some, of_rows = predict.thinned(fit.mixture, _CORNER_DRAWS), shown_responsibilities(fit)
    for (i, j), panel in table.items():
        if i == j:
            limits = layers.view(x[:, i], weight)
            tallest = layers.histogram(panel, x[:, i], weight)
            one = some.marginal(np.array([i]))
            tallest = max(tallest, layers.mixture_curves(panel, one, *limits))
            panel.set_xlim(limits)
            panel.set_ylim(0, 1.1 * tallest)
            tidy(panel, left=False)
        else:
            draw_pair(fit, panel, (j, i), labels=False, small=True, responsibilities=of_rows)
        _corner_axes(panel, i, j, shown, names)
    _corner_legend(ax, fit, shown)
    return ax


def _corner_axes(panel: Axes, i: int, j: int, shown: int, names: list[str]) -> None:
    panel.locator_params(nbins=3)
    panel.tick_params(labelsize=7)
    if i == shown - 1:
        panel.set_xlabel(names[j])
    else:
        panel.tick_params(labelbottom=False)
    if j == 0 and i > 0:
        panel.set_ylabel(names[i])
    else:
        panel.tick_params(labelleft=False)


def _corner_legend(ax: Axes, fit: Fitted, shown: int) -> None:
    """Say at the upper right, where there are no panels, what the layers are."""
    for k in range(fit.model.n_components):
        ax.plot([], [], color=color(k), linestyle=line(k), label=f"component {k}")
    ax.plot([], [], color=INK, linewidth=1.8, label="mixture density")
    ax.scatter([], [], s=10, color=MUTED, label=layers.shown_rows(fit.dataset)[1])
    total = fit.dataset.n_features
    ax.legend(
        loc="upper right",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=8 if fit.model.n_components <= 6 else 7,
        ncols=1 if fit.model.n_components <= 6 else 2,
        title=None if shown == total else f"first {shown} of {total} features",
        title_fontsize=8,
    )


def curve_of(fit: Fitted, points: FloatArray) -> FloatArray:
    """Predictive density of a fit of one feature at points, shape (points,)."""
    return np.asarray(layers.component_curves(fit.mixture, points).sum(axis=0))
