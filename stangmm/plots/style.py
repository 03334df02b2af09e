"""How every picture looks: colours, type, axes, labels. The one place where style is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from stangmm.arrays import FloatArray

P = ParamSpec("P")
R = TypeVar("R")

# Neutral colours. The report swaps them for those of the reader's light or dark page, so each is
# used for one purpose only.
INK = "#1b2026"
MUTED = "#68707a"
BARS = "#dde1e6"
RULE = "#d0d5db"
PAPER = "#fefefe"

# Okabe & Ito (2008), told apart with every kind of colour blindness; black and yellow are left
# out, since the one is ink and the other does not show on paper. Components beyond the sixth take
# the same colours with another line and marker.
COMPONENTS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))
MARKERS = ("o", "s", "^")
# Methods of a comparison, told apart by line and marker as well.
METHODS = ("#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#0072b2")
METHOD_LINES = ((0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1.5)))
METHOD_MARKERS = ("s", "^", "D", "v", "P", "X")

WIDTH = 5.6  # inches: on a telephone's screen the text of such a picture can still be read
SCATTER_ROWS = 5000  # more rows than this are thinned, and the label says so
# What has more points or markers than this is drawn as pixels, so that files stay small. Pixels do
# not follow the page's colours, so what is drawn in them is coloured or of a middle grey.
VECTOR_POINTS = 1500
VECTOR_MARKERS = 150
MIDDLE = "#808892"
DOTS_PER_INCH = 200

_STYLE = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "text.color": INK,
    "text.parse_math": False,  # a feature's name may hold a dollar sign
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "axes.formatter.useoffset": True,
    "axes.formatter.limits": (-4, 6),
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.4,
    "lines.solid_capstyle": "round",
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the package's style and leave the user's own settings as they were."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
            return draw(*args, **kwargs)

    return in_style


def new_axes(height: float, width: float = WIDTH) -> Axes:
    """Make the only Axes of a new figure, which no window and no global state knows of."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    return figure.add_subplot()


def tidy(ax: Axes, *, left: bool = True) -> Axes:
    """Take away what carries no information: the box, long ticks; ``left`` keeps the y axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["left"].set_visible(left)
    ax.tick_params(labelsize=8.5, labelcolor=INK, color=MUTED, length=3, width=0.8)
    if not left:
        ax.tick_params(left=False, labelleft=False)
    ax.patch.set_visible(False)
    return ax


def panels(
    ax: Axes,
    rows: int,
    columns: int,
    *,
    widths: Sequence[float] | None = None,
    gap: tuple[float, float] = (0.5, 0.45),
) -> list[list[Axes]]:
    """Divide an Axes into a table of panels, first row on top; they are its ``child_axes``.

    Parameters
    ----------
    widths : sequence of float, length columns, optional
        Relative widths.
    gap : tuple of float
        Inches between columns and between rows.
    """
    ax.set_axis_off()
    figure = root_figure(ax)
    box = ax.get_position()
    across = gap[0] / (figure.get_figwidth() * box.width)
    down = gap[1] / (figure.get_figheight() * box.height)
    share = np.asarray(widths if widths is not None else [1.0] * columns, dtype=float)
    share = share / share.sum() * (1 - across * (columns - 1))
    height = (1 - down * (rows - 1)) / rows
    lefts = np.cumsum(share) - share + across * np.arange(columns)
    return [
        [
            ax.inset_axes(
                (float(lefts[j]), 1 - height - i * (height + down), float(share[j]), height)
            )
            for j in range(columns)
        ]
        for i in range(rows)
    ]


def color(component: int) -> str:
    """Colour of a component, the same in every picture."""
    return COMPONENTS[component % len(COMPONENTS)]


def line(component: int) -> str | tuple[int, tuple[float, ...]]:
    """Line style of a component."""
    return LINES[component // len(COMPONENTS) % len(LINES)]


def marker(component: int) -> str:
    """Marker of a component."""
    return MARKERS[component // len(COMPONENTS) % len(MARKERS)]


def name(text: object, most: int = 32) -> str:
    """Feature's or method's name that fits into a picture: one line, not too long."""
    flat = " ".join(str(text).split()) or "(no name)"
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def badge(ax: Axes, x: float, y: float, component: int, text: str | None = None) -> Text:
    """Write a component's number (or a text) on its colour at a point of the data."""
    fill = color(component)
    red, green, blue = to_rgb(fill)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.45
    return ax.text(
        x,
        y,
        str(component) if text is None else text,
        ha="center",
        va="center",
        fontsize=8,
        fontweight="bold",
        color="#ffffff" if dark else "#000000",
        bbox={
            "boxstyle": "round,pad=0.25,rounding_size=0.6",
            "facecolor": fill,
            "edgecolor": PAPER,
            "linewidth": 0.8,
        },
        clip_on=True,
        zorder=6,
    )


def legend_below(ax: Axes, columns: int = 3, *, inches: float = 0.42) -> Legend:
    """Put the legend so many inches under the axes, where it hides nothing."""
    handles, labels = ax.get_legend_handles_labels()
    lower = ScaledTranslation(0, -inches, root_figure(ax).dpi_scale_trans)
    return ax.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=ax.transAxes + lower,
        borderaxespad=0.0,
        ncols=min(columns, max(1, len(handles))),
    )


def root_figure(ax: Axes) -> Figure:
    """Figure in which an Axes is drawn."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # noqa: S101 (only an Axes that was removed has none)
    return figure


def spread_badges(positions: FloatArray, least: float) -> FloatArray:
    """Move points of a line apart until neighbours are ``least`` from each other, order kept."""
    order = np.argsort(positions, kind="stable")
    moved = positions[order].astype(float)
    for _ in range(200):
        gaps = np.diff(moved)
        short = np.maximum(least - gaps, 0.0)
        if not (short > 1e-9 * max(least, 1e-300)).any():
            break
        moved[:-1] -= short / 2
        moved[1:] += short / 2
    out = np.empty_like(moved)
    out[order] = moved
    return out
