"""Picture of what the data added to the prior: each parameter's prior beside its posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.base.errors import ModelError
from stangmm.model.priors import Dirichlet, Normal, ScalePrior
from stangmm.plots.style import (
    INK,
    MIDDLE,
    MUTED,
    color,
    legend_below,
    line,
    name,
    new_axes,
    panels,
    stairs,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted, has_priors

Prior: TypeAlias = Dirichlet | Normal | ScalePrior

PRIOR_FEATURES = 3
_POINTS = 241
_DRAWS = 20_000  # of a prior, to find where it lies
# A panel holds this part of the prior, and all of the posterior: beside the long tail of a prior of
# scales, everything else would be a line.
_SHOWN = {"mean": (0.01, 0.99), "scale": (0.0, 0.8)}


@styled
def priors(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the prior and the posterior of each component's weight, means and scales.

    A row of panels for each of (at most three) features. Grey: the prior, one area if it is the
    same for all components; a weight's is the Beta marginal of the Dirichlet. In the components'
    colours: histograms of the draws, or a line for a point estimate. Every curve is scaled to the
    same height, so that shapes are compared. The panels are the Axes' ``child_axes``.

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
        The fit used no priors: the likelihood alone was maximized.
    """
    if not has_priors(fit):
        raise ModelError(
            f'priors compares priors with posteriors, and "{fit.method}" maximized the likelihood '
            'alone. Use method="nuts", or Optimize(objective="map").'
        )
    names = fit.dataset.feature_names[:PRIOR_FEATURES]
    total, k = fit.dataset.n_features, fit.model.n_components
    mixture, used = fit.mixture, fit.priors
    # One area where the components' priors are the same, one for each where they are not.
    drawn = range(1 if used.exchangeable else k)
    ax = ax or new_axes(0.95 + 1.6 * len(names) + 0.17 * (k // 3 if k > 1 else 0))
    # The weights' panel is in the first row; other rows have none.
    empty = [(d, 0) for d in range(len(names)) if d > 0 or k == 1]
    grid = panels(ax, len(names), 3, gap=(0.2, 0.68), empty=empty)
    if k > 1:
        weights = grid[0].pop(0)
        of_weights = [_weight_prior(used.weights, component) for component in drawn]
        _panel(weights, of_weights, mixture.weights, (0.0, 1.0))
        weights.set_xlabel("weight")
    for d, (means, scales) in enumerate(grid):
        label = name(names[d], 18)
        gap = " " if len(label) <= 10 else "\n"
        for panel, what, prior, values in (
            (means, "mean", used.means, mixture.means),
            (scales, "scale", used.scales, mixture.scales),
        ):
            of = [_one(prior, component, d) for component in drawn]
            _panel(panel, of, values[..., d], _limits(what, of))
            panel.set_xlabel(f"{what} of{gap}{label}")
    _priors_legend(ax, fit, "" if len(names) == total else f"; {len(names)} of {total} features")
    return ax


def _weight_prior(prior: Dirichlet, component: int) -> Dirichlet:
    """Prior of one weight: of it and of all others together."""
    a = np.asarray(prior.concentration)
    return Dirichlet([a[component], a.sum() - a[component]])


def _one(prior: Any, component: int, feature: int) -> Prior:
    """Prior of one mean or scale; components or features may share theirs."""
    own = {}
    for field in fields(prior):
        values = np.asarray(getattr(prior, field.name))
        c, s = values.shape
        own[field.name] = values[min(component, c - 1), min(feature, s - 1)]
    one: Prior = replace(prior, **own)
    return one


def prior_density(prior: Prior, points: FloatArray) -> FloatArray:
    """Density of one parameter's prior at points, shape (points,).

    Parameters
    ----------
    prior : Dirichlet, Normal, HalfCauchy, HalfNormal or InverseGamma
        Of one parameter; a Dirichlet of two weights, the first of which it is.
    points : ndarray, shape (points,)
    """
    if isinstance(prior, Dirichlet):
        return np.exp(prior.log_density(np.stack([points, 1 - points], axis=-1)))
    return np.exp(prior.log_density(points[:, np.newaxis, np.newaxis]))


def _limits(what: str, of: Sequence[Prior]) -> tuple[float, float]:
    """Where most of the components' priors lies."""
    rng = np.random.default_rng(0)
    low, high = np.quantile([prior.draw(_DRAWS, rng) for prior in of], _SHOWN[what])
    return (0.0 if what == "scale" else float(low)), float(high)


def _view(values: FloatArray, prior: tuple[float, float]) -> tuple[float, float]:
    """Limits that hold the prior's part and nearly all draws (S, K) of each component.

    The posterior of a component without rows has the long tail of its prior.
    """
    low, high = np.quantile(values, [0.05, 0.95], axis=0)
    pad = 0.5 * (high - low)
    lowest = float(np.maximum(low - pad, values.min(axis=0)).min())
    highest = float(np.minimum(high + pad, values.max(axis=0)).max())
    return min(prior[0], lowest), max(prior[1], highest)


def _panel(ax: Axes, of: Sequence[Prior], values: FloatArray, limits: tuple[float, float]) -> None:
    """One kind of parameter: the priors, one or one for each component, and draws (S, K)."""
    low, high = _view(values, limits)
    span = high - low
    points = np.linspace(low + 1e-3 * span, high - 1e-3 * span, _POINTS)
    for component, prior in enumerate(of):
        height = prior_density(prior, points)
        height = height / height.max()
        shade = MIDDLE if len(of) == 1 else color(component)
        ax.fill_between(points, height, color=shade, alpha=0.22 / len(of) ** 0.5, linewidth=0)
        ax.plot(points, height, color=shade, linewidth=1.1, linestyle=(0, (4, 2)), gid="prior")
    shared = values.shape[1] > 1 and bool((values == values[:, :1]).all())
    for component in range(1 if shared else values.shape[1]):
        draws = values[:, component]
        seen = draws[(draws >= low) & (draws <= high)]
        _posterior(ax, seen, INK if shared else color(component), component)
    ax.set_xlim(low - 0.02 * span, high + 0.02 * span)
    ax.set_ylim(0, 1.1)
    tidy(ax, left=False)
    ax.locator_params(axis="x", nbins=4)


def _posterior(ax: Axes, draws: FloatArray, shade: str, component: int) -> None:
    if len(draws) == 1:
        ax.plot([draws[0]] * 2, [0, 1], color=shade, linestyle=line(component), linewidth=1.6)
        return
    counts, edges = np.histogram(draws, bins=int(np.clip(len(draws) ** 0.5 / 2, 8, 30)))
    height = counts / counts.max()
    stairs(ax, height, edges, shade, fill=True, alpha=0.35, zorder=3)
    stairs(ax, height, edges, shade, linestyle=line(component), linewidth=0.9, zorder=4)


def _priors_legend(ax: Axes, fit: Fitted, first: str) -> None:
    ax.plot([], [], color=MUTED, linestyle=(0, (4, 2)), linewidth=1.1, label=f"prior{first}")
    k, what = fit.model.n_components, "estimate" if fit.kind == "point" else "posterior"
    for component in range(k):
        of = f"{what} of {component}" if k > 1 else what
        ax.plot([], [], color=color(component), linestyle=line(component), linewidth=2, label=of)
    legend_below(ax, columns=4 if k > 3 else 2, inches=0.66)
