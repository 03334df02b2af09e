"""Pictures that check a fit: whether chains agree, data look like its data, LOO is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import MaxNLocator
from scipy.special import ndtr

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.errors import ModelError
from stangmm.base.ranks import mean_ranks
from stangmm.judge.leave_one_out import bad_rows, psis_loo
from stangmm.methods.draws import McmcInfo
from stangmm.model.mixture import Mixture
from stangmm.plots import layers
from stangmm.plots.runs import chain_rows, name_chains
from stangmm.plots.style import (
    BARS,
    COMPONENTS,
    INK,
    MIDDLE,
    MUTED,
    RULE,
    SCATTER_ROWS,
    VECTOR_MARKERS,
    color,
    first_of,
    legend_below,
    line,
    name,
    new_axes,
    panels,
    panels_in_rows,
    room,
    size_in_points,
    stairs,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted
from stangmm.predict.averages import thinned

if TYPE_CHECKING:
    from stangmm.judge.elpd import Loo


RANK_BINS = 20
# Half-width, in standard deviations, of a band that holds 99% of the bars where chains agree.
_BAND_SDS = 2.576
PPC_FEATURES = 6
PPC_DATA_SETS = 400
LOO_ROWS_NAMED = 8
_BAD = COMPONENTS[5]
_GOOD = _REPLICATES = COMPONENTS[0]


@styled
def rank(fit: Fitted, ax: Axes | None = None, *, rows: int | None = None) -> Axes:
    """Draw how the draws of each chain rank among those of all chains.

    Chains that sample the same distribution have ranks that are uniform: lines around 1, within
    the band that holds 99% of the bars. A chain whose draws are too low, too high or too close
    together leaves it (Vehtari et al. 2021, doi:10.1214/20-BA1221). The band is wide enough for
    draws of a chain that depend on each other. A row of panels for the weights, for the means and
    scales of each of the first three features, and for the log joint density; components in their
    colours. The panels are the Axes' ``child_axes``.

    Parameters
    ----------
    fit : Fit
        Of a method that runs chains, such as NUTS, with two chains or more.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.
    rows : int, optional
        Only so many rows of panels: those on which the chains agree least.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        There are no chains, or only one; a number that is not positive.
    """
    if not isinstance(fit.info, McmcInfo):
        raise ModelError(f'rank compares chains, and "{fit.method}" runs none. Use method="nuts".')
    chains = len(fit.lp)
    if chains == 1:
        raise ModelError(
            "rank compares chains, and this fit has only one. Use method=NUTS(chains=4)."
        )
    shown = chain_rows(fit, rows)
    k = fit.model.n_components
    ax = ax or new_axes(1.1 + 1.05 * len(shown) + 0.17 * (k // 3 if k > 1 else 0))
    grid = [row[0] for row in panels(ax, len(shown), 1, gap=(0.08, 0.34))]
    for (label, values), panel in zip(shown.items(), grid, strict=True):
        _rank_panel(panel, values)
        panel.set_title(name(label, room(panel, size=8.5)), fontsize=8.5, loc="left", pad=4)
    name_chains(grid[-1], chains)
    grid[-1].set_xlabel("rank among the draws of all chains (1: as many as in the others)")
    for j in range(k if k > 1 else 0):
        ax.plot([], [], color=color(j), linestyle=line(j), label=f"component {j}")
    ax.fill_between([], [], [], color=MIDDLE, alpha=0.25, linewidth=0, label="99% if chains agree")
    legend_below(ax, columns=3, inches=0.5)
    return ax


def rank_bars(values: FloatArray) -> FloatArray:
    """Share of each chain's ranks in each bin, relative to uniform ranks, shape (C, bins).

    Parameters
    ----------
    values : ndarray, shape (C, S)
    """
    draws = values.shape[1]
    bins = min(RANK_BINS, draws)
    ranks = mean_ranks(values.reshape(1, -1)).reshape(values.shape)
    edges = 0.5 + np.linspace(0, values.size, bins + 1)
    counts = np.stack([np.histogram(of_chain, edges)[0] for of_chain in ranks])
    return np.asarray(counts * (bins / draws))


def rank_band(values: FloatArray) -> float:
    """Half the height of the band around 1 that holds 99% of the bars of chains that agree.

    A bar counts which of the pooled draws in a bin are one chain's, so its variance is
    hypergeometric; it is larger where draws in a row fall into the same bin.

    Parameters
    ----------
    values : ndarray, shape (C, S)
    """
    chains, draws = values.shape
    bins = min(RANK_BINS, draws)
    variance = (1 - 1 / chains) * (bins - 1) / draws * values.size / (values.size - 1)
    return float(_BAND_SDS * np.sqrt(variance * _draws_for_one(values, bins)))


def _draws_for_one(values: FloatArray, bins: int) -> float:
    """How many draws of a chain say as much of the bins as one independent draw, at least 1.

    The autocorrelation of bin membership, in bins of each chain's own ranks, is summed until pairs
    of it are negative (Geyer 1992, doi:10.1214/ss/1177011137).
    """
    draws = values.shape[1]
    member = ((mean_ranks(values) - 0.5) * bins / draws).astype(np.intp)
    total = 0.0
    for lag in range(1, draws - 2, 2):
        same = [np.mean(member[:, :-t] == member[:, t:]) for t in (lag, lag + 1)]
        pair = (sum(same) - 2 / bins) / (1 - 1 / bins)
        if pair <= 0:
            break
        total += float(pair)
    return 1 + 2 * total


def _rank_panel(ax: Axes, values: FloatArray) -> None:
    chains, _, curves = values.shape
    bars = np.stack([rank_bars(values[..., k]) for k in range(curves)])
    half = max(rank_band(values[..., k]) for k in range(curves))
    at = np.linspace(0, 1, bars.shape[-1] + 1)
    lefts = 1.04 * np.arange(chains)
    low, high = max(0.0, 1 - half), 1 + half
    bands = [[(left, low), (left, high), (left + 1, high), (left + 1, low)] for left in lefts]
    ax.add_collection(
        PolyCollection(bands, color=MIDDLE, alpha=0.25, linewidth=0, zorder=1), autolim=False
    )
    ax.hlines(np.ones(chains), lefts, lefts + 1, color=MIDDLE, linewidth=0.8, zorder=2)
    for c, left in enumerate(lefts):
        for k in range(curves):
            stairs(
                ax,
                bars[k, c],
                left + at,
                MUTED if curves == 1 else color(k),
                baseline=None,
                linestyle=line(k),
                linewidth=1.1,
                alpha=0.9,
                gid=f"chain-{c}",
                zorder=3,
            )
    for c in range(1, chains):
        ax.axvline(1.04 * c - 0.02, color=RULE, linewidth=0.8, zorder=0)
    ax.set_xlim(-0.02, 1.04 * chains)
    ax.set_ylim(0, 1.06 * max(1 + 1.3 * half, float(bars.max())))
    tidy(ax)
    ax.locator_params(axis="y", nbins=3)
    ax.xaxis.set_visible(False)
    ax.spines["bottom"].set_color(RULE)


@styled
def ppc(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the data against data sets that the fit would give (posterior predictive check).

    For each of the first six features: a histogram of the data, and what 90% of 400 replicated data
    sets have in the same bins; on average one bar in ten lies outside. Replicated data sets are as
    large as the data: each feature has as many values as are there, and a row of sample weight w
    counts w times. The counts are drawn as such (multinomial, given a draw of the mixture), so that
    a million rows take no longer. For a point estimate they are those of its one mixture. With
    several features the panels are the Axes' ``child_axes``.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes
    """
    total = fit.dataset.n_features
    shown = min(total, PPC_FEATURES)
    names = fit.dataset.feature_names
    if total == 1:
        ax = ax or new_axes(3.4)
        counted = _ppc_panel(fit, ax, 0)
        ax.set_xlabel(name(names[0], room(ax)))
        ax.set_ylabel("density")
        _label_replicates(ax, f"; {counted}")
        legend_below(ax, columns=1)
        return ax
    columns = 2 if shown in (2, 4) else 3
    ax, grid = panels_in_rows(ax, shown, columns, heights=(0.9, 1.75), gap=(0.15, 0.68))
    for d, panel in enumerate(grid):
        panel.set_title(_ppc_panel(fit, panel, d), fontsize=8.5, color=MUTED, loc="left")
        panel.set_xlabel(name(names[d], room(panel)))
        tidy(panel, left=False)
        panel.locator_params(axis="x", nbins=4)
    size = f"{fit.dataset.n_observations:,} rows"
    ax.fill_between([], [], [], color=BARS, linewidth=0, label=f"data ({size})")
    _label_replicates(ax, first_of(shown, total))
    legend_below(ax, columns=1, inches=0.52)
    return ax


def _label_replicates(ax: Axes, more: str) -> None:
    label = f"median and 90% of {PPC_DATA_SETS} replicated data sets{more}"
    ax.plot([], [], "-o", color=_REPLICATES, linewidth=1.6, markersize=3.2, label=label)


def _ppc_panel(fit: Fitted, ax: Axes, feature: int) -> str:
    """Draw one feature; gives how many bars of the data lie outside the band, in words."""
    values, weight = fit.dataset.x[:, feature], fit.dataset.sample_weight
    tallest = layers.histogram(ax, values, weight)
    heights, edges, _ = ax.patches[-1].get_data()  # type: ignore[attr-defined]
    width = float(edges[1] - edges[0])
    # Two bins more on each side: the model may put rows where the data have none.
    beyond = width * np.arange(1, 3)
    edges = np.concatenate([edges[0] - beyond[::-1], edges, edges[-1] + beyond])
    heights = np.pad(heights, 2)
    seen = ~np.isnan(values)
    size = max(1, round(float(seen.sum() if weight is None else weight[seen].sum())))
    replicated = replicated_counts(
        fit.mixture.marginal(np.array([feature])),
        edges,
        size,
        np.random.default_rng(fit.seed),
    ) / (size * width)
    low, middle, high = np.quantile(replicated, [0.05, 0.5, 0.95], axis=0)
    # A hair of tolerance: heights are counts divided by the same number.
    outside = (heights < low - 1e-9 * tallest) | (heights > high + 1e-9 * tallest)
    at = (edges[:-1] + edges[1:]) / 2
    for where, shade, mark in ((~outside, _REPLICATES, "o"), (outside, _BAD, "X")):
        ax.vlines(at[where], low[where], high[where], color=shade, linewidth=1.6, zorder=2)
        ax.plot(at[where], middle[where], mark, color=shade, markersize=3.2, zorder=3)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, 1.08 * max(tallest, float(high.max())))
    tidy(ax)
    return f"{int(outside.sum())} of {len(heights)} bars outside"


def replicated_counts(
    mixture: Mixture, edges: FloatArray, size: int, rng: np.random.Generator
) -> IntArray:
    """Counts in bins of replicated data sets of one feature, shape (data sets, bins).

    Parameters
    ----------
    mixture : Mixture
        Batch (S,) of mixtures of one feature; each data set is from one of them.
    edges : ndarray, shape (bins + 1,)
        What falls outside is in no bin.
    size : int
        Values of each data set.
    rng : Generator
    """
    some = thinned(mixture, PPC_DATA_SETS)
    below = ndtr((edges[:, np.newaxis, np.newaxis] - some.means[..., 0]) / some.scales[..., 0])
    cumulative = (some.weights * below).sum(axis=-1).T
    if some.noise is not None:
        cumulative += some.noise.weight[:, np.newaxis] * some.noise.box.cdf(0, edges)
    inside = np.maximum(np.diff(cumulative, axis=1), 0.0)
    outside = np.maximum(1.0 - inside.sum(axis=1, keepdims=True), 0.0)
    share = np.concatenate([inside, outside], axis=1)
    share /= share.sum(axis=1, keepdims=True)
    which = np.arange(PPC_DATA_SETS) * len(share) // PPC_DATA_SETS
    return np.asarray(rng.multinomial(size, share[which])[:, :-1])


@styled
def loo(fit: Fitted, ax: Axes | None = None, *, result: Loo | None = None) -> Axes:
    """Draw the Pareto k of every row: for which of them leave-one-out by PSIS can be trusted.

    Rows above the line (0.7, less for few draws: Vehtari et al. 2024,
    https://jmlr.org/papers/v25/19-556.html) are marked, and the highest of them named. Rows of
    sample weight zero are left out, and those that leave-one-out did not visit. Of more than 5000
    good rows a random sample is drawn.

    Parameters
    ----------
    fit : Fit
        Of a method that gives draws.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.
    result : Loo, optional
        What ``fit.loo()`` gave, so that it is not computed again; rows that it computed exactly
        have k = 0.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        A point estimate has no posterior to reweight.
    """
    if fit.kind == "point":
        raise ModelError(
            f'loo needs draws, and "{fit.method}" gives a single point. Use method="nuts".'
        )
    result = psis_loo(fit) if result is None else result
    k, limit = result.pareto_k, result.good_k
    bad = bad_rows(fit, result)
    counted = ~np.isnan(k)  # was visited
    if fit.dataset.sample_weight is not None:
        counted &= fit.dataset.sample_weight > 0
    good = np.setdiff1d(np.flatnonzero(counted), bad)
    visited = "rows" if result.subsample is None else "rows that were visited"
    some, lot = good, ""
    if len(good) > SCATTER_ROWS:
        some = np.sort(np.random.default_rng(fit.seed).choice(good, SCATTER_ROWS, replace=False))
        lot = f" ({SCATTER_ROWS:,} drawn, at random)"
    worst = bad[np.argsort(-k[bad], kind="stable")][:LOO_ROWS_NAMED]
    named = ", ".join(map(str, np.sort(worst)))
    more = ", …" if len(bad) > len(worst) else ""
    ax = ax or new_axes(3.3)
    ax.plot(
        some,
        k[some],
        "o",
        color=_GOOD,
        alpha=0.6,
        markersize=3.5,
        markeredgewidth=0,
        rasterized=len(some) > VECTOR_MARKERS,
        label=f"{len(good):,} of {int(counted.sum()):,} {visited}: LOO can be trusted{lot}",
        zorder=3,
    )
    if len(bad):
        ax.plot(
            bad,
            k[bad],
            "X",
            color=_BAD,
            markersize=6.5,
            markeredgewidth=0,
            rasterized=len(bad) > VECTOR_MARKERS,
            label=f"{len(bad):,} of high k; loo(refit=True) computes them: {named}{more}",
            zorder=4,
        )
    ax.axhline(
        limit, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), label=f"k = {limit:.2f}, the limit"
    )
    ax.set_xlim(-0.02 * len(k), 1.02 * len(k))
    finite = k[counted & np.isfinite(k)]
    high = max(1.25 * limit, float(finite.max(initial=0.0)))
    low = min(0.0, float(finite.min(initial=0.0)))
    ax.set_ylim(low - 0.06 * (high - low), high + 0.14 * (high - low))
    _name_rows(ax, worst, k)
    ax.set_xlabel("row of the data")
    ax.set_ylabel("Pareto k")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(lambda row, _: f"{row:,.0f}")
    tidy(ax)
    legend_below(ax, columns=1)
    return ax


def _name_rows(ax: Axes, rows: IntArray, k: FloatArray) -> None:
    """Write the numbers of rows above them, highest k first, none over another."""
    placed: list[int] = []
    low, high = ax.get_xlim()
    digits = len(str(max(rows, default=0)))
    near = (digits + 1) * 0.65 * 8.5 / size_in_points(ax)[0] * (high - low)
    for row in rows:
        if not np.isfinite(k[row]) or any(abs(row - other) < near for other in placed):
            continue
        placed.append(int(row))
        ax.annotate(
            f"{row}",
            (float(row), float(k[row])),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
        )
