"""Picture of a mixture of many features: the plane in which its components are furthest apart."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.base.errors import ModelError
from stangmm.judge.directions import Directions, directions_of
from stangmm.model.mixture import Mixture
from stangmm.plots import layers
from stangmm.plots.mixtures import badges_at_means, shown_responsibilities
from stangmm.plots.style import MUTED, legend_below, name, new_axes, room, styled, tidy
from stangmm.posterior.fitted import Fitted
from stangmm.predict import averages as predict
from stangmm.predict.imputation import fill_means

_FILLING_DRAWS = 20  # of which missing values are the mean


@styled
def projection(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the rows and the components in the plane in which the components are furthest apart.

    The plane is that of Scrucca 2010 (doi:10.1007/s11222-009-9138-7): directions in which means or
    covariances differ most, beside the variance of all data. Rows have the colour of their
    component, paler where it is uncertain; ellipses hold 50% and 95% of a component, thin ones are
    draws. An axis names the feature that its direction goes with most, and what share of the
    differences it shows. Of rows that miss values, the mean of what is missing is shown.

    Parameters
    ----------
    fit : Fit
        Of two features or more.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        There is one feature.
    """
    data = fit.dataset
    if data.n_features < 2:
        raise ModelError("A projection needs at least two features; use the picture density().")
    ax = ax or new_axes(4.4)
    plane = directions_of(fit)
    rows, label = layers.shown_rows(data)
    xy = (_filled(fit, data.x[rows]) - plane.center) @ plane.vectors
    point = _seen(Mixture.from_covariances(fit.weights, fit.means, fit.covariances), plane)
    weight = data.sample_weight[rows] if data.sample_weight is not None else None
    limits = layers.view_of_pair(xy, weight, point)
    layers.scatter(
        ax,
        xy,
        shown_responsibilities(fit),
        label,
        n_components=fit.model.n_components,
        weight=weight if len(rows) == data.n_observations else None,
    )
    layers.ellipses(ax, point)
    ax.plot([], [], color=MUTED, linewidth=1.6, label="50% and 95% of a component")
    if fit.kind != "point":
        layers.thin_ellipses(ax, _seen(predict.thinned(fit.mixture, layers.ELLIPSE_DRAWS), plane))
        ax.plot([], [], color=MUTED, alpha=0.5, linewidth=0.7, label="95% in single draws")
    ax.set_xlim(limits[0])
    ax.set_ylim(limits[1])
    badges_at_means(ax, point, False)
    ax.set_xlabel(_words(fit, plane, 0, room(ax)))
    ax.set_ylabel(_words(fit, plane, 1, room(ax, 1)))
    tidy(ax)
    legend_below(ax, columns=2)
    return ax


def _seen(mixture: Mixture, plane: Directions) -> Mixture:
    """The mixture of the two coordinates."""
    across = np.swapaxes(plane.vectors, 0, 1)
    factor = across @ mixture.cholesky
    means = (mixture.means - plane.center) @ plane.vectors
    return Mixture.from_covariances(mixture.weights, means, factor @ np.swapaxes(factor, -1, -2))


def _filled(fit: Fitted, x: FloatArray) -> FloatArray:
    """Rows with the mean of what they miss."""
    if not np.isnan(x).any():
        return x
    filled = x.copy()
    fill_means(predict.thinned(fit.mixture, _FILLING_DRAWS), filled, lambda rows: None)
    return filled


def _words(fit: Fitted, plane: Directions, axis: int, most: int) -> str:
    """Name of a direction: what share of the differences it shows, and the nearest feature."""
    share = f" ({100 * plane.shares[axis]:.0f}%)" if plane.shares.any() else ""
    words = f"direction {axis + 1}{share}, along "
    return words + name(fit.dataset.feature_names[plane.nearest[axis]], max(8, most - len(words)))
