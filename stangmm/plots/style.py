"""How every picture looks: colours, type, axes, labels. The one place where style is decided."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Container, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike

from stangmm.base.arrays import FloatArray
from stangmm.plots.late_ticks import LateTickAxes

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
VECTOR_MARKERS = 300
MIDDLE = "#808892"
DOTS_PER_INCH = 200
_LETTER = 0.6  # a letter's width relative to the type's size, a little more than the mean one's
_BADGE = 8.0  # points: the type's size on badges
_LEGEND = 1.27  # widths of the Axes that a legend under it may have

_IN_PYPLOT = ContextVar("_IN_PYPLOT", default=False)

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


def in_pyplot(draw: Callable[P, R]) -> Callable[P, R]:
    """Make new figures by pyplot while something is drawn, so that notebooks and windows show them.

    Reports and files are drawn without it: their figures are nobody else's.
    """

    @wraps(draw)
    def shown(*args: P.args, **kwargs: P.kwargs) -> R:
        before = _IN_PYPLOT.set(True)
        try:
            return draw(*args, **kwargs)
        finally:
            _IN_PYPLOT.reset(before)

    return shown


def new_axes(height: float, width: float = WIDTH) -> Axes:
    """Make the only Axes of a new figure; see `in_pyplot` for who knows of it."""
    size: dict[str, Any] = {"figsize": (width, height), "layout": "constrained"}
    if _IN_PYPLOT.get():
        from matplotlib import pyplot

        return pyplot.figure(**size).add_subplot(axes_class=LateTickAxes)
    return Figure(**size, dpi=DOTS_PER_INCH).add_subplot(axes_class=LateTickAxes)


def tidy(ax: Axes, *, left: bool = True) -> Axes:
    """Take away what carries no information: the box, long ticks; ``left`` keeps the y axis.

    An axis of which nothing is seen is made invisible: its ticks would be placed all the same.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["left"].set_visible(left)
    ax.tick_params(labelsize=8.5, labelcolor=INK, color=MUTED, length=3, width=0.8)
    ax.yaxis.set_visible(left)
    ax.patch.set_visible(False)
    return ax


def panels(
    ax: Axes,
    rows: int,
    columns: int,
    *,
    widths: Sequence[float] | None = None,
    gap: tuple[float, float] = (0.5, 0.45),
    empty: Container[tuple[int, int]] = (),
) -> list[list[Axes]]:
    """Divide an Axes into a table of panels, first row on top; they are its ``child_axes``.

    Parameters
    ----------
    widths : sequence of float, length columns, optional
        Relative widths.
    gap : tuple of float
        Inches between columns and between rows.
    empty : tuples of int
        Places (row, column) without a panel.
    """
    places = _places(ax, rows, columns, widths, gap)
    cells = [(i, j) for i in range(rows) for j in range(columns) if (i, j) not in empty]
    table = {(i, j): ax.inset_axes(places[i][j], axes_class=LateTickAxes) for i, j in cells}
    _lighten_layout(table)
    return [[table[i, j] for j in range(columns) if (i, j) in table] for i in range(rows)]


def panels_in_rows(
    ax: Axes | None,
    n: int,
    columns: int,
    *,
    heights: tuple[float, float],
    gap: tuple[float, float],
    width: float = WIDTH,
) -> tuple[Axes, list[Axes]]:
    """Divide an Axes, or a new one, into n panels, row by row; gives the Axes and the panels.

    Parameters
    ----------
    heights : tuple of float
        Inches of a new figure without panels, and with each row more.
    gap : tuple of float
        Inches between columns and between rows.
    """
    rows = -(-n // columns)
    ax = ax or new_axes(heights[0] + heights[1] * rows, width)
    empty = [divmod(place, columns) for place in range(n, rows * columns)]
    return ax, [panel for row in panels(ax, rows, columns, gap=gap, empty=empty) for panel in row]


def panels_below(
    ax: Axes, n: int, *, gap: tuple[float, float] = (0.12, 0.12)
) -> dict[tuple[int, int], Axes]:
    """Panels (row, column) of a square table on its diagonal, first, and below it."""
    places = _places(ax, n, n, None, gap)
    below = [(i, j) for i in range(n) for j in range(i)]
    cells = [*((i, i) for i in range(n)), *below]
    table = {(i, j): ax.inset_axes(places[i][j], axes_class=LateTickAxes) for i, j in cells}
    _lighten_layout(table)
    return table


def _places(
    ax: Axes, rows: int, columns: int, widths: Sequence[float] | None, gap: tuple[float, float]
) -> list[list[tuple[float, float, float, float]]]:
    """Left, bottom, width and height of panels, as shares of the Axes that they divide."""
    ax.set_axis_off()
    figure = root_figure(ax)
    box = ax.get_position()
    across = gap[0] / (figure.get_figwidth() * box.width)
    down = gap[1] / (figure.get_figheight() * box.height)
    share = np.asarray(widths if widths is not None else [1.0] * columns, dtype=float)
    share = share / share.sum() * (1 - across * (columns - 1))
    height = (1 - down * (rows - 1)) / rows
    lefts = np.cumsum(share) - share + across * np.arange(columns)
    bottoms = [1 - height - i * (height + down) for i in range(rows)]
    return [
        [(float(lefts[j]), bottom, float(share[j]), height) for j in range(columns)]
        for bottom in bottoms
    ]


def _lighten_layout(table: Mapping[tuple[int, int], Axes]) -> None:
    """Have only measured what may reach beyond the table: half of a picture's time was this.

    Labels of panels inside it lie in the gaps, and spines have their tick labels beyond them.
    """
    (rows, columns) = np.array(list(table)).max(axis=0)
    for (i, j), panel in table.items():
        panel.spines[:].set_in_layout(False)
        panel.set_in_layout(bool(i in (0, rows) or j in (0, columns)))


def first_of(shown: int, total: int) -> str:
    """How the end of a legend says that some features are shown; empty where all are."""
    return "" if shown == total else f"; first {shown} of {total} features"


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
    """Feature's or method's name that fits into a picture: one line, not too long.

    A unit in brackets at its end is kept.
    """
    flat = " ".join(str(text).split()) or "(no name)"
    if len(flat) <= most:
        return flat
    unit = re.search(r" ?[(\[][^()\[\]]+[)\]]$", flat)
    end = unit.group() if unit and len(unit.group()) <= most // 2 else ""
    return flat[: most - 1 - len(end)].rstrip() + "…" + end


def size_in_points(ax: Axes) -> tuple[float, float]:
    """Width and height of an Axes; a layout that is made when it is drawn may still change them."""
    box, dpi = ax.get_window_extent(), root_figure(ax).dpi
    return 72 * float(box.width) / dpi, 72 * float(box.height) / dpi


def room(ax: Axes, along: int = 0, size: float = 9.5) -> int:
    """How many letters have room along the x axis (0) or the y axis (1), in type of a size."""
    return max(5, int(size_in_points(ax)[along] / (_LETTER * size)))


def curve(ax: Axes, x: ArrayLike, y: ArrayLike, **look: Any) -> None:
    """Draw a line; limits stay as they are, so that no time is spent on finding new ones."""
    ax.add_artist(Line2D(x, y, **look))


def stairs(
    ax: Axes,
    heights: FloatArray,
    edges: FloatArray,
    shade: str,
    *,
    fill: bool = False,
    baseline: Any = 0.0,
    **look: Any,
) -> None:
    """Draw a histogram as an area or a line; limits stay as they are.

    The baseline is a number, as many as there are heights, or None for a line without ends.

    `Axes.stairs` looks for new ones in each corner of the path, which takes longer than drawing it.
    """
    colors = {"facecolor": shade, "linewidth": 0.0} if fill else {"edgecolor": shade}
    ax.add_artist(StepPatch(heights, edges, baseline=baseline, fill=fill, **(colors | look)))


def badge(ax: Axes, x: float, y: float, component: int, text: str | None = None) -> Text:
    """Write a component's number (or a text) on its colour at a point of the data."""
    words = str(component) if text is None else text
    label = ax.text(x, y, words, ha="center", va="center", clip_on=True, zorder=6)
    return _on_color(label, component)


def badge_rows(ax: Axes) -> None:
    """Write the components' numbers beside the y axis on their colours; component k is at y = k."""
    for k, label in enumerate(ax.get_yticklabels()):
        _on_color(label, k)


def _on_color(label: Text, component: int) -> Text:
    """Make a text a badge: black or white, whichever has more contrast, on a component's colour."""
    fill = color(component)
    red, green, blue = to_rgb(fill)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.4
    label.set(color="#ffffff" if dark else "#000000", fontsize=_BADGE, fontweight="bold")
    label.set_bbox(
        {
            "boxstyle": "round,pad=0.25,rounding_size=0.6",
            "facecolor": fill,
            "edgecolor": PAPER,
            "linewidth": 0.8,
        }
    )
    return label


def badge_size(text: str) -> tuple[float, float]:
    """Width and height in points of a badge, with a little air around it."""
    return _BADGE * (0.66 * len(text) + 0.9), 2.0 * _BADGE


def badges_above(ax: Axes, at: FloatArray, components: Sequence[int], texts: Sequence[str]) -> None:
    """Put badges along the upper edge, each above its place, in rows so that none is over another.

    Parameters
    ----------
    at : ndarray, shape (badges,)
        Places along the x axis, whose limits are set.
    """
    low, high = ax.get_xlim()
    width, height = size_in_points(ax)
    wide = max(badge_size(text)[0] for text in texts) / width * (high - low)
    tall = badge_size("")[1] / height
    rows = max(1, int(np.ceil(wide * len(texts) / (high - low))))
    inside = np.clip(at, low + wide / 2, high - wide / 2)
    placed = spread_badges(inside, wide / rows, (low + wide / 2, high - wide / 2))
    ranked = np.argsort(np.argsort(placed, kind="stable"))
    for k, x, rank, text in zip(components, placed, ranked, texts, strict=True):
        label = badge(ax, float(x), 1 + tall * (0.55 + float(rank % rows)), k, text)
        label.set_transform(ax.get_xaxis_transform())
        label.set_clip_on(False)


def label_decades(axis: Axis) -> None:
    """Label a logarithmic axis at its decades alone, with plain numbers.

    Where an axis spans one decade or less, matplotlib labels what lies between, too, as powers
    whose exponents are too small to read on a phone.
    """
    axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", length=0)


@lru_cache(8192)
def text_size(
    text: str, font: FontProperties, is_math: bool | Literal["TeX"]
) -> tuple[float, float, float]:
    """Width, height and descent of a line of text in points; pictures have many in common."""
    width, height, descent = text_to_path.get_text_width_height_descent(text, font, is_math)
    return width, height, descent


def legend_below(ax: Axes, columns: int = 3, *, inches: float = 0.42) -> Legend:
    """Put the legend so many inches under the axes, where it hides nothing; long words wrap."""
    handles, labels = ax.get_legend_handles_labels()
    lower = ScaledTranslation(0, -inches, root_figure(ax).dpi_scale_trans)
    columns = min(columns, max(1, len(handles)))
    widest = _LEGEND * size_in_points(ax)[0]
    wrapped = labels
    for most in (200, 64, 48, 36, 28, 20):
        wrapped = [textwrap.fill(label, most) for label in labels]
        if _legend_width(wrapped, columns) <= widest:
            break
    return ax.legend(
        handles,
        wrapped,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=ax.transAxes + lower,
        borderaxespad=0.0,
        ncols=columns,
    )


def _legend_width(labels: Sequence[str], columns: int) -> float:
    """Points that a legend is wide, whose labels stand in columns."""
    font = FontProperties(size=mpl.rcParams["legend.fontsize"])
    widths = [max(text_size(line, font, False)[0] for line in each.split("\n")) for each in labels]
    handle, pad, between, border = (
        float(mpl.rcParams[key])
        for key in (
            "legend.handlelength",
            "legend.handletextpad",
            "legend.columnspacing",
            "legend.borderpad",
        )
    )
    taken = sum(max(column.tolist(), default=0.0) for column in np.array_split(widths, columns))
    spaces = columns * (handle + pad) + (columns - 1) * between + 2 * border
    return float(taken + spaces * font.get_size_in_points())


def root_figure(ax: Axes) -> Figure:
    """Figure in which an Axes is drawn."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # noqa: S101 (only an Axes that was removed has none)
    return figure


def spread_badges(
    positions: FloatArray, least: float, limits: tuple[float, float] = (-np.inf, np.inf)
) -> FloatArray:
    """Move points of a line apart until neighbours are ``least`` from each other, order kept."""
    order = np.argsort(positions, kind="stable")
    moved = positions[order].astype(float)
    for _ in range(500):
        short = np.maximum(least - np.diff(moved), 0.0)
        if not (short > 1e-9 * max(least, 1e-300)).any():
            break
        moved[:-1] -= short / 2
        moved[1:] += short / 2
        moved = np.clip(moved, *limits)
    out = np.empty_like(moved)
    out[order] = moved
    return out


def spread_boxes(centers: FloatArray, sizes: FloatArray) -> FloatArray:
    """Move boxes apart, pair by pair the shorter way, until none covers another.

    Parameters
    ----------
    centers, sizes : ndarray, shape (boxes, 2)

    Returns
    -------
    ndarray, shape (boxes, 2)
        The new centers.
    """
    moved = centers.astype(float)
    least = (sizes[:, np.newaxis] + sizes) / 2
    for _ in range(500):
        away = moved[:, np.newaxis] - moved
        shared = least - np.abs(away)
        covered = np.triu((shared > 1e-9 * least).all(axis=-1), 1)
        if not covered.any():
            break
        for i, j in np.argwhere(covered):
            axis = int(shared[i, j].argmin())
            step = shared[i, j, axis] / 2 * (-1 if away[i, j, axis] < 0 else 1)
            moved[i, axis] += step
            moved[j, axis] -= step
    return moved
