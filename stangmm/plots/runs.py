"""Pictures of what a method did: EM's restarts, the ELBO of ADVI, the chains of NUTS."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_count
from stangmm.base.errors import ModelError
from stangmm.methods.draws import McmcInfo, RestartInfo, VariationalInfo
from stangmm.plots.style import (
    COMPONENTS,
    MIDDLE,
    MUTED,
    RULE,
    color,
    curve,
    label_decades,
    legend_below,
    line,
    name,
    new_axes,
    panels,
    room,
    size_in_points,
    styled,
    tidy,
)
from stangmm.posterior.fitted import Fitted
from stangmm.posterior.summary import measures_of

TRACE_FEATURES = 3
_SQUEEZED = 0.4  # of the axis: where components' ranges take less, the gaps are made small
_TRACE_POINTS = 1000  # of a curve, all chains together
_BAD = COMPONENTS[5]
_GOOD = COMPONENTS[0]


@styled
def em_path(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the objective over the iterations of every restart.

    Restarts that reached the best optimum are emphasised, collapsed ones (left out of the fit)
    marked. A method that keeps no paths gets a point for where each restart ended.

    Parameters
    ----------
    fit : Fit
        Of a method with restarts, such as EM.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        The method has no restarts.
    """
    info = fit.info
    if not isinstance(info, RestartInfo):
        raise ModelError(
            f'em_path shows restarts, and "{fit.method}" has none. Use a fit by method="em".'
        )
    ax = ax or new_axes(3.3)
    paths = info.paths or tuple(np.array([v]) for v in info.values)
    over_iterations = bool(info.paths)
    best_values = [o.objective for o in info.optima]
    where = _optimum_of(info)
    groups = {
        f"best optimum, {best_values[0]:.2f}": where == 0,
        f"other optima ({len(best_values) - 1})": where > 0,
        "collapsed, left out": info.collapsed,
    }
    looks = {0: (_GOOD, "-", 1.5, 4), 1: (MUTED, "-", 0.9, 2), 2: (_BAD, (0, (4, 2)), 1.1, 3)}
    for i, (label, member) in enumerate(groups.items()):
        if not member.any():
            continue
        shade, style, width, order = looks[i]
        for r in np.flatnonzero(member):
            path = paths[r]
            start = 1 if over_iterations else r + 1
            steps = np.arange(start, start + len(path))
            ax.plot(
                steps,
                path,
                color=shade,
                linestyle=style,
                linewidth=width,
                alpha=0.45 if i < 2 else 0.8,
                zorder=order,
                gid=f"restart-{r}",
            )
            end = "x" if i == 2 else "o"
            ax.plot(steps[-1], path[-1], end, color=shade, markersize=4, zorder=order + 1)
        ax.plot(
            [],
            [],
            "x" if i == 2 else "o",
            color=shade,
            linestyle=style if over_iterations else "none",
            markersize=4,
            label=f"{label}: {int(member.sum())} of {len(paths)} restarts",
        )
    _objective_axes(ax, info, paths, over_iterations)
    tidy(ax)
    legend_below(ax, columns=1)
    return ax


def _optimum_of(info: RestartInfo) -> IntArray:
    """Nearest optimum of each restart by its value, -1 for collapsed ones."""
    values = np.array([o.objective for o in info.optima])
    distance = np.abs(info.values[:, np.newaxis] - values)
    return np.where(info.collapsed, -1, distance.argmin(axis=1))


def _objective_axes(
    ax: Axes, info: RestartInfo, paths: tuple[FloatArray, ...], over_iterations: bool
) -> None:
    best = info.best.objective
    usable = [p for p, bad in zip(paths, info.collapsed, strict=True) if not bad]
    ends = np.array([p[-1] for p in usable])
    begins = np.array([p[0] for p in usable])
    low = min(float(ends[np.isfinite(ends)].min()), float(np.quantile(begins, 0.1)))
    height = best - low
    above = float(np.clip(np.nanmax(info.values) - best, 0.0, 0.4 * height))
    # Differences far below a nat say nothing: where all restarts agree, it should look like it.
    margin = max(0.08 * height, 0.5 * (1.0 - height))
    ax.set_ylim(low - margin, best + above + margin)
    ax.ticklabel_format(axis="y", useOffset=False)
    ax.set_ylabel(info.objective)
    if not over_iterations:
        ax.set_xlabel("restart")
        ax.locator_params(axis="x", integer=True)
        return
    longest = max(map(len, paths))
    ax.set_xlabel("iteration")
    if longest > 10:
        ax.set_xscale("log")
        label_decades(ax.xaxis)


@styled
def elbo(fit: Fitted, ax: Axes | None = None) -> Axes:
    """Draw the evidence lower bound over the iterations of a variational fit.

    Early values that are far below the rest are cut off; triangles mark where.

    Parameters
    ----------
    fit : Fit
        Of a variational method, such as ADVI.
    ax : matplotlib Axes, optional
        Where to draw; without it a new figure is made.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ModelError
        The method is not variational.
    """
    info = fit.info
    if not isinstance(info, VariationalInfo) or not len(info.elbo):
        raise ModelError(
            f'elbo shows how ADVI climbs, and "{fit.method}" does not. Use method="advi".'
        )
    ax = ax or new_axes(3.0)
    steps, values = info.elbo_iterations, info.elbo
    ax.plot(
        steps,
        values,
        color=_GOOD,
        linewidth=1.6,
        marker="o" if len(steps) <= 60 else "",
        markersize=4,
        label="ELBO, estimated by Monte Carlo",
        zorder=3,
    )
    if len(values):
        low, high = elbo_limits(values)
        hidden = int((values < low).sum())
        ax.set_ylim(low, high)
        if hidden:
            ax.plot(
                steps[values < low],
                np.zeros(hidden),
                "v",
                color=MUTED,
                markersize=5,
                transform=ax.get_xaxis_transform(),
                clip_on=False,
                label=f"{hidden} early values below the picture, down to {values.min():.3g}",
                zorder=3,
            )
        state = "converged" if info.converged else "stopped before it converged"
        ax.plot(
            steps[-1],
            values[-1],
            "o" if info.converged else "X",
            markersize=9,
            markerfacecolor="none" if info.converged else _BAD,
            markeredgecolor=_GOOD if info.converged else _BAD,
            linestyle="none",
            label=f"{state} after {steps[-1]:,.0f} iterations at {values[-1]:.2f}",
            zorder=4,
        )
    ax.set_xlabel("iteration")
    ax.set_ylabel("ELBO")
    tidy(ax)
    legend_below(ax, columns=1)
    return ax


def elbo_limits(values: FloatArray) -> tuple[float, float]:
    """Limits that show how the trace settles: all of its later half, and noise twice over."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    late = finite[len(finite) // 2 :]
    spread = max(float(np.ptp(late)), 1e-3 * abs(float(late[-1])), 1e-12)
    low = max(float(finite.min()), float(late.min()) - 8 * spread)
    high = float(finite.max())
    pad = 0.1 * max(high - low, spread)
    return low - pad, high + pad


@styled
def trace(fit: Fitted, ax: Axes | None = None, *, rows: int | None = None) -> Axes:
    """Draw the chains, one beside the other, and the distribution that each gives.

    A row of panels for the weights, for the means and scales of each of the first three features,
    and for the log joint density; components in their colours. Beside each row is the density of
    every chain: chains that agree give curves that coincide. Where components keep to narrow ranges
    far apart, what lies between them is left out, between dotted lines. The panels are the Axes'
    ``child_axes``.

    Parameters
    ----------
    fit : Fit
        Of a method that runs chains, such as NUTS.
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
        The method runs no chains; a number that is not positive.
    """
    if not isinstance(fit.info, McmcInfo):
        raise ModelError(f'trace shows chains, and "{fit.method}" runs none. Use method="nuts".')
    shown = chain_rows(fit, rows)
    ax = ax or new_axes(0.75 + 1.2 * len(shown))
    grid = panels(ax, len(shown), 2, widths=(0.78, 0.22), gap=(0.08, 0.34))
    for i, ((label, values), (wide, narrow)) in enumerate(zip(shown.items(), grid, strict=True)):
        _trace_panel(wide, values)
        wide.set_title(name(label, room(wide, size=8.5)), fontsize=8.5, loc="left", pad=4)
        _marginal_panel(narrow, values)
        if i == 0:
            narrow.set_title("by chain", fontsize=8.5, color=MUTED, pad=4)
    last = grid[-1][0]
    name_chains(last, values.shape[0])
    last.set_xlabel(f"{fit.lp.shape[1]:,} draws of each chain, chains side by side")
    return ax


def chain_rows(fit: Fitted, most: int | None = None) -> dict[str, FloatArray]:
    """Name of each row and its draws, shape (chains, draws, curves).

    Parameters
    ----------
    most : int, optional
        Only so many: those on which the chains agree least, in their order.

    Raises
    ------
    ModelError
        A number that is not positive.
    """
    if most is not None:
        check_count("rows", most)
    shape = (*fit.lp.shape, fit.model.n_components)
    shown = fit.dataset.feature_names[:TRACE_FEATURES]
    rows: dict[str, FloatArray] = {}
    found: dict[str, tuple[str, slice | int]] = {}  # where `measures_of` has it
    if shape[-1] > 1:
        rows["weights"], found["weights"] = (
            fit.mixture.weights.reshape(shape),
            ("weights", slice(None)),
        )
    for what, values in (("means", fit.mixture.means), ("scales", fit.mixture.scales)):
        for d, feature in enumerate(shown):
            label = f"{what} of {name(feature, 60)}"
            of_one = values[..., d].reshape(shape)
            rows[label] = of_one[..., :1] if what == "scales" and _shared(of_one) else of_one
            found[label] = what, d
    rows["log joint density"], found["log joint density"] = fit.lp[..., np.newaxis], ("lp", 0)
    if most is None or most >= len(rows):
        return rows
    every = measures_of(fit)
    r_hat = {
        label: float(np.nan_to_num(np.atleast_1d(every[what].r_hat)[..., d]).max())
        for label, (what, d) in found.items()
    }
    kept = sorted(rows, key=r_hat.__getitem__, reverse=True)[:most]
    return {label: rows[label] for label in rows if label in kept}


def _shared(values: FloatArray) -> bool:
    return values.shape[-1] > 1 and bool((values == values[..., :1]).all())


def _limits(values: FloatArray) -> tuple[float, float]:
    """Range of nearly all draws: a few extreme ones must not flatten the rest."""
    low, high = np.quantile(values, [0.001, 0.999])
    pad = 0.08 * (high - low) or 1.0
    return max(float(values.min()), float(low - pad)) - 0.3 * pad, float(
        min(values.max(), high + pad) + 0.3 * pad
    )


def _trace_panel(ax: Axes, values: FloatArray) -> None:
    chains, draws, curves = values.shape
    width = float(draws) * 1.04
    for k in range(curves):
        shade = MIDDLE if curves == 1 else color(k)
        for c in range(chains):
            kept = _extremes(values[c, :, k], _TRACE_POINTS // chains)
            curve(
                ax,
                c * width + kept,
                values[c, kept, k],
                color=shade,
                linewidth=0.45,
                gid=f"chain-{c}",
            )
    for c in range(1, chains):
        ax.axvline(c * width - 0.02 * draws, color=RULE, linewidth=0.8, zorder=0)
    ax.set_xlim(-0.02 * draws, chains * width)
    ax.set_ylim(_limits(values))
    tidy(ax)
    ax.locator_params(axis="y", nbins=4)
    _squeeze(ax, values)
    ax.xaxis.set_visible(False)
    ax.spines["bottom"].set_color(RULE)


def _extremes(draws: FloatArray, most: int) -> IntArray:
    """Which draws of a chain (S,) a line goes through: of many, the extremes of short stretches.

    A stretch is hardly wider than the line, which covers what is left out.
    """
    n = len(draws)
    if n <= most:
        return np.arange(n)
    stretch = -(-2 * n // max(most, 2))
    whole = draws[: n - n % stretch].reshape(-1, stretch)
    first = stretch * np.arange(len(whole))
    rest = np.arange(len(whole) * stretch, n)
    return np.unique([*(first + whole.argmin(axis=1)), *(first + whole.argmax(axis=1)), *rest])


def _squeeze(ax: Axes, values: FloatArray) -> None:
    """Where components keep to narrow ranges far apart, make the room between them small.

    Beside such distances every chain would be a straight line. What lies between two dotted lines
    is left out; ticks are at the components' means.
    """
    ranges = [_limits(values[..., k]) for k in range(values.shape[-1])]
    held = _merged(ranges)
    if len(held) == 1 or sum(b - a for a, b in held) > _SQUEEZED * (held[-1][1] - held[0][0]):
        return
    knots = np.ravel(held)
    count = [sum(a <= low and high <= b for low, high in ranges) for a, b in held]
    # A range is as high as the square root of how many components it holds, a gap a tenth of one.
    steps = np.full(len(knots), 0.1)
    steps[0] = 0.0
    steps[1::2] = np.sqrt(count)
    places = np.cumsum(steps)
    ax.set_yscale(
        "function",
        functions=(lambda y: np.interp(y, knots, places), lambda y: np.interp(y, places, knots)),
    )
    ax.set_ylim(knots[0], knots[-1])
    for edge in knots[1:-1]:
        ax.axhline(edge, color=RULE, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=0)
    middle = np.array([(a + b) / 2 for a, b in held])
    apart = np.interp(middle, knots, places) / places[-1] * size_in_points(ax)[1]
    kept: list[int] = []
    for i, at in enumerate(apart):
        if not kept or at - apart[kept[-1]] > 11.0:
            kept.append(i)
    ax.set_yticks(middle[kept], [f"{value:.4g}" for value in middle[kept]], minor=False)
    ax.yaxis.set_minor_locator(NullLocator())


def _merged(ranges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Ranges that overlap taken together, in order."""
    out: list[tuple[float, float]] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1]:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return out


def name_chains(ax: Axes, chains: int) -> None:
    """Write the chains' numbers below them, where the axis was invisible."""
    ax.xaxis.set_visible(True)
    low, high = ax.get_xlim()
    at = low + (high - low) * (np.arange(chains) + 0.5) / chains
    whole = room(ax, size=8.5) >= 8 * chains
    ax.set_xticks(at, [f"chain {c}" if whole else str(c) for c in range(chains)])
    ax.tick_params(axis="x", length=0)


def _marginal_panel(ax: Axes, values: FloatArray) -> None:
    """Density of each chain on the scale of the panel beside; components all of one height."""
    chains, _, curves = values.shape
    for k in range(curves):
        shade = MIDDLE if curves == 1 else color(k)
        at = np.linspace(*_limits(values[..., k]), 120)
        heights = [_smooth(values[c, :, k], at) for c in range(chains)]
        tallest = max(float(h.max()) for h in heights)
        for height in heights:
            curve(
                ax,
                np.where(height > 0.004 * tallest, height, np.nan) / (tallest or 1.0),
                at,
                color=shade,
                linestyle=line(k),
                linewidth=1.0,
                alpha=0.8,
            )
    ax.set_ylim(_limits(values))
    _squeeze(ax, values)
    ax.set_xlim(0, 1.08)
    ax.xaxis.set_visible(False)
    tidy(ax, left=False)
    ax.spines["bottom"].set_visible(False)


def _smooth(values: FloatArray, at: FloatArray) -> FloatArray:
    if np.ptp(values) <= 1e-12 * max(1e-300, float(np.abs(values).max())):
        return np.zeros(len(at))
    low, high = np.quantile(values, [0.001, 0.999])
    bulk = values[(values >= low) & (values <= high)]
    if len(bulk) < 5 or np.ptp(bulk) == 0:
        return np.zeros(len(at))
    # A Gaussian kernel of Scott's width (1979, doi:10.1093/biomet/66.3.605); only shapes are drawn.
    width = float(bulk.std()) * len(bulk) ** -0.2
    counts, edges = np.histogram(bulk, bins=240)
    distance = at[:, np.newaxis] - (edges[:-1] + edges[1:]) / 2
    return np.asarray(np.exp(-0.5 * (distance / width) ** 2) @ (counts / len(bulk)))
