"""Picture of the posterior over models: how probable each number of components is."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from stangmm.base.arrays import FloatArray
from stangmm.judge.candidates import components_of, in_order, type_of
from stangmm.plots.shown import Weighed
from stangmm.plots.style import (
    BARS,
    COMPONENTS,
    INK,
    MUTED,
    color,
    legend_below,
    new_axes,
    styled,
    tidy,
)

_HATCHES = (None, "///", "...")  # where colours begin again
_LEGEND_ROW = 0.24  # inches
_WIDTH = 0.38  # of a bar, of the distance between two numbers of components


@styled
def model_probabilities(posterior: Weighed, ax: Axes | None = None) -> Axes:
    """Draw the posterior of the number of components, beside that of those that hold rows.

    Coloured bars are the probabilities of K; each covariance type has its part of a bar. Grey bars
    are the probabilities that so many components hold rows; without sample weights only. Lines are
    two Monte Carlo standard errors to each side, dashes the prior probabilities of K.

    Parameters
    ----------
    posterior : ModelPosterior
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    by_number = posterior.by_components
    numbers = by_number.index.to_numpy()
    probability = dict(zip(posterior.fits, posterior.probability.tolist(), strict=True))
    weighted = next(iter(posterior.fits.values())).dataset.sample_weight is not None
    left = numbers - (0.0 if weighted else 0.53 * _WIDTH)
    bottom = np.zeros(len(numbers))
    types = list(dict.fromkeys(type_of(k) for k in in_order(probability)))
    ax = ax or new_axes(3.4 + _LEGEND_ROW * (len(types) // 2))
    for i, name in enumerate(types):
        own = {components_of(k): p for k, p in probability.items() if type_of(k) == name}
        heights = np.array([own.get(n, 0.0) for n in numbers.tolist()])
        label = f"K components, {name}" if name else "K components"
        hatch = _HATCHES[i // len(COMPONENTS) % len(_HATCHES)]
        ax.bar(left, heights, _WIDTH, bottom, color=color(i), hatch=hatch, label=label, zorder=2)
        bottom += heights
    _errors(ax, left, bottom, by_number["probability_se"].to_numpy())
    if not weighted:
        holding = posterior.occupied
        right = holding.index.to_numpy() + 0.53 * _WIDTH
        heights = holding["probability"].to_numpy()
        ax.bar(
            right, heights, _WIDTH, color=BARS, edgecolor=MUTED, linewidth=0.8, zorder=2,
            label="K components hold rows",
        )  # fmt: skip
        _errors(ax, right, heights, holding["probability_se"].to_numpy())
    ax.hlines(
        by_number["prior"], left - 0.7 * _WIDTH, left + 0.7 * _WIDTH, color=INK, linewidth=1.2,
        linestyle=(0, (2.5, 1.5)), zorder=4, label="prior",
    )  # fmt: skip
    ax.plot([], [], color=INK, linewidth=1.4, label="2 Monte Carlo errors")
    first = int(numbers[0]) if weighted else 1
    ax.xaxis.set_major_locator(FixedLocator(range(first, int(numbers[-1]) + 1)))
    ax.set_ylim(0.0, None)
    ax.set_xlabel("K")
    ax.set_ylabel("probability")
    tidy(ax)
    legend_below(ax, columns=2)
    return ax


def _errors(ax: Axes, at: FloatArray, heights: FloatArray, errors: FloatArray) -> None:
    ax.vlines(
        at, np.maximum(heights - 2 * errors, 0.0), heights + 2 * errors, color=INK, linewidth=1.4,
        zorder=3,
    )  # fmt: skip
