"""Picture of the chains' energy: whether the sampler reaches the posterior's tails and returns."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.base.convergence import e_bfmi
from stangmm.base.errors import ModelError
from stangmm.base.thresholds import E_BFMI_OK
from stangmm.methods.draws import McmcInfo
from stangmm.plots.style import (
    COMPONENTS,
    INK,
    MUTED,
    legend_below,
    panels_in_rows,
    stairs,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted

ENERGY_CHAINS = 8
_COLUMNS = 4
_MARGINAL = COMPONENTS[0]
_BAD = COMPONENTS[5]


@styled
def energy(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the energies of each chain against the steps between them.

    Filled: the energies of the draws, their mean subtracted. Line: how much the energy changes
    from a draw to the next. Where the steps are much narrower than the energies, the sampler
    wanders slowly between the bulk and the tails of the posterior; the E-BFMI above each panel
    measures it (Betancourt 2016, doi:10.48550/arXiv.1604.00695) and should be above 0.3. Of more
    than eight chains those of lowest E-BFMI are shown. The panels are the Axes' ``child_axes``.

    Parameters
    ----------
    fit : Fit
        Of a method that runs chains, such as NUTS.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        The method runs no chains, or its chains have no energy.
    """
    if not isinstance(fit.info, McmcInfo) or "energy" not in fit.info.sample_stats:
        raise ModelError(
            f'energy shows the energies of chains, and "{fit.method}" has none. Use method="nuts".'
        )
    energies = np.asarray(fit.info.sample_stats["energy"])
    bfmi = e_bfmi(energies)
    shown = np.sort(np.argsort(bfmi, kind="stable")[:ENERGY_CHAINS])
    marginal = energies - energies.mean(axis=1, keepdims=True)
    steps = np.diff(energies, axis=1)
    columns = min(len(shown), _COLUMNS)
    ax, grid = panels_in_rows(ax, len(shown), columns, heights=(0.95, 1.45), gap=(0.1, 0.5))
    edges = _edges(np.concatenate([marginal[shown].ravel(), steps[shown].ravel()]), steps.shape[1])
    for chain, panel in zip(shown, grid, strict=True):
        _energy_panel(panel, marginal[chain], steps[chain], edges)
        good = bool(bfmi[chain] > E_BFMI_OK)
        panel.set_title(
            f"chain {chain}: {bfmi[chain]:.2f}",
            fontsize=8.5,
            color=MUTED if good else _BAD,
            fontweight="normal" if good else "bold",
        )
    low = "" if len(shown) == len(bfmi) else f"; {len(shown)} of {len(bfmi)} chains, the lowest"
    ax.fill_between([], [], [], color=_MARGINAL, alpha=0.35, linewidth=0, label="energy, centred")
    ax.plot([], [], color=INK, linewidth=1.3, label="change from draw to draw")
    ax.plot([], [], " ", label=f"E-BFMI above each, should be > {E_BFMI_OK:g}{low}")
    legend_below(ax, columns=2, inches=0.36)
    return ax


def _edges(values: FloatArray, draws: int) -> FloatArray:
    """Bins over nearly all values, the more the more draws there are, symmetric about zero."""
    far = float(np.quantile(np.abs(values), 0.998)) or 1.0
    return np.linspace(-far, far, int(np.clip(2 * draws ** (1 / 3), 8, 40)) + 1)


def _energy_panel(ax: Axes, marginal: FloatArray, steps: FloatArray, edges: FloatArray) -> None:
    filled, outline = (np.histogram(values, edges, density=True)[0] for values in (marginal, steps))
    stairs(ax, filled, edges, _MARGINAL, fill=True, alpha=0.35, gid="marginal", zorder=2)
    stairs(ax, outline, edges, INK, baseline=None, linewidth=1.3, gid="steps", zorder=3)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, 1.08 * max(float(filled.max()), float(outline.max())))
    tidy(ax, left=False)
    ax.locator_params(axis="x", nbins=3)
