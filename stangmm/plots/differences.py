"""Picture of compared models: how much worse than the best each is."""

from __future__ import annotations

from matplotlib.axes import Axes

from stangmm.base.errors import ModelError
from stangmm.plots.shown import ModelsCompared
from stangmm.plots.style import COMPONENTS, MUTED, legend_below, name, new_axes, styled, tidy


@styled
def model_differences(comparison: ModelsCompared, ax: Axes | None = None) -> Axes:
    """Draw how much worse than the best each model is, the best on top.

    By leave-one-out where there are draws, with one and two standard errors of the difference; by
    BIC if all fits are point estimates.

    Parameters
    ----------
    comparison : ModelComparison
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        Every fit failed, so that there is nothing to draw.
    """
    if not comparison.fits:
        raise ModelError("Every fit of this comparison failed; there is nothing to draw.")
    table = comparison.table
    by_loo = bool(table["elpd_loo"].notna().any())
    shown = table[table["elpd_loo" if by_loo else "bic"].notna()]
    worse = -shown["difference"] if by_loo else shown["bic"] - shown["bic"].min()
    at = range(len(shown))
    ax = ax or new_axes(1.2 + 0.32 * len(shown))
    ax.axvline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    if by_loo:
        error = shown["difference_se"]
        for times, width in ((2, 1.0), (1, 2.6)):
            ax.hlines(
                at, worse - times * error, worse + times * error, color=COMPONENTS[0],
                linewidth=width, zorder=2,
                label=f"{times} SE of the difference",
            )  # fmt: skip
    ax.plot(worse, at, "o", color=COMPONENTS[0], markersize=5, zorder=3)
    ax.set_yticks(at, [name(label) for label in shown.index])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_xlabel(f"{'LOO elpd' if by_loo else 'BIC'}, worse than the best by")
    tidy(ax)
    if by_loo:
        legend_below(ax, columns=2)
    return ax
