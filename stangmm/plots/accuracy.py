"""Picture of what the methods of a comparison cost and how near they come to the posterior."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.errors import ModelError
from stangmm.base.thresholds import MEANS_APART
from stangmm.plots.comparisons import fits_of, looks_of
from stangmm.plots.shown import Compared
from stangmm.plots.style import (
    INK,
    MUTED,
    label_decades,
    legend_below,
    name,
    new_axes,
    styled,
    tidy,
)

_LEAST_SECONDS = 1e-3


@styled
def time_accuracy(comparison: Compared, ax: Axes | None = None) -> Axes:
    """Draw the time that each method took against its distance to the reference.

    The distance is that of the comparison's table: the largest difference of a posterior mean to
    the reference's, in posterior standard deviations. A good place is at the lower left. The
    reference itself stands at its Monte Carlo error, 1 / sqrt(smallest ESS): a distance below that
    cannot be told from zero. Methods that failed their checks are hollow. Both axes are
    logarithmic; a distance of almost nothing is drawn at the lower edge.

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
        Every method failed, or none draws from the posterior, so that there is no reference.
    """
    fits, reference, table = fits_of(comparison), comparison.reference, comparison.table
    if reference is None:
        raise ModelError(
            "time_accuracy measures the methods against draws from the posterior itself, and no "
            'method of this comparison gives them. Add "nuts" to its methods.'
        )
    ax = ax or new_axes(3.2)
    ess = table["ess_bulk"].to_dict()[reference]
    error = float(1 / np.sqrt(ess)) if ess > 0 else 1.0  # of too few draws, it is not known
    distances = table["distance"].to_dict() | {reference: error}
    low, high = _decades(error, *(distances[m] for m in fits if distances[m] > 0.1 * error), 1.0)
    ax.axhspan(low, error, color=INK, alpha=0.07, linewidth=0, zorder=0)
    ax.axhline(MEANS_APART, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    for label, (shade, _, mark) in looks_of(comparison).items():
        failed = table.loc[label, "status"] == "fail"
        ax.plot(
            max(fits[label].seconds, _LEAST_SECONDS),
            max(distances[label], low),
            mark,
            color=shade,
            markerfacecolor="none" if failed else shade,
            markeredgewidth=1.8,
            markersize=8,
            linestyle="none",
            label=name(label)
            + (" (reference)" if label == reference else "")
            + (" (failed its checks)" if failed else ""),
            clip_on=False,
            zorder=3,
        )
    ax.fill([], [], color=INK, alpha=0.07, linewidth=0, label="below the reference's own error")
    ax.plot([], [], color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label="one posterior sd")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(_decades(*(max(fit.seconds, _LEAST_SECONDS) for fit in fits.values())))
    ax.set_ylim(low, high)
    for axis in (ax.xaxis, ax.yaxis):
        label_decades(axis)
    ax.set_xlabel("seconds")
    ax.set_ylabel("distance to the reference's\nmeans, in posterior sds")
    ax.set_title(
        "The reference failed its checks: being near it proves nothing"
        if table.loc[reference, "status"] == "fail"
        else "↙ better: faster and nearer",
        loc="left",
        color=MUTED,
    )
    tidy(ax)
    legend_below(ax, columns=2)
    return ax


def _decades(*values: float) -> tuple[float, float]:
    """Powers of ten around positive values, none of them on the edge."""
    low, high = np.log10(min(values) / 1.2), np.log10(max(values) * 1.2)
    return float(10 ** np.floor(low)), float(10 ** np.ceil(high))
