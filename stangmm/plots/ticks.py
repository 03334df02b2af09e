"""Ticks and numbers of axes, written straight into a picture.

A tick of matplotlib's is three lines and two texts, made one by one and copied from the first.
Where nobody changes them any more, that took half the time of drawing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT
from matplotlib.text import Text
from matplotlib.ticker import NullLocator, ScalarFormatter, StrMethodFormatter
from matplotlib.transforms import IdentityTransform, ScaledTranslation

from stangmm.plots.style import root_figure, text_size

_PAD = 3.5  # points between a tick and its number
_TICKS: Any = (TICKLEFT, TICKDOWN)
_LINE = 1.16  # a line's height relative to the type's size


def is_plain(ax: Axes, axis: Axis) -> bool:
    """Whether an axis is seen and has plain numbers in the package's style, and no minor ticks."""
    return (
        ax.axison
        and axis.get_visible()
        and isinstance(axis.get_major_formatter(), ScalarFormatter | StrMethodFormatter)
        and isinstance(axis.get_minor_locator(), NullLocator)
        and "labelsize" in axis.get_tick_params()
    )


def draw_plain(ax: Axes, axis: Axis, renderer: RendererBase) -> None:
    """Draw an axis below or left of an Axes that has been drawn: ticks, numbers and the name."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    at = np.asarray(axis.get_majorticklocs(), dtype=float)
    at = at[(low - slack <= at) & (at <= high + slack)]
    formatter: Any = axis.get_major_formatter()
    numbers = formatter.format_ticks(at)
    if formatter.get_offset():  # a power of ten that stands beside the axis
        axis.draw(renderer)
        return
    figure, style = root_figure(ax), axis.get_tick_params()
    is_x = axis is ax.xaxis
    to_points = ax.get_xaxis_transform() if is_x else ax.get_yaxis_transform()
    edge = np.zeros_like(at)
    places = to_points.transform(np.column_stack([at, edge] if is_x else [edge, at]))
    marks = Line2D(
        *places.T,
        linestyle="none",
        marker=_TICKS[is_x],
        markersize=style["length"],
        markeredgewidth=style["width"],
        color=style["color"],
        transform=IdentityTransform(),
    )
    marks.set_figure(figure)
    marks.draw(renderer)
    away, widest = style["length"] + _PAD, 0.0
    if style["labelbottom" if is_x else "labelleft"]:
        font = FontProperties(size=style["labelsize"])
        text = Text(
            color=style["labelcolor"],
            fontproperties=font,
            horizontalalignment="center" if is_x else "right",
            verticalalignment="top" if is_x else "center_baseline",
            transform=IdentityTransform(),
        )
        text.set_figure(figure)
        for number, (x, y) in zip(
            numbers, places - ([0, away] if is_x else [away, 0]), strict=True
        ):
            text.set(text=number, position=(x, y))
            text.draw(renderer)
            widest = max(widest, text_size(number, font, False)[0])
        away += _LINE * style["labelsize"] if is_x else widest
    away += axis.labelpad
    right, up = (0.0, -away / 72) if is_x else (-away / 72, 0.0)
    aside = ax.transAxes + ScaledTranslation(right, up, figure.dpi_scale_trans)
    axis.set_label_coords(0.5 * is_x, 0.5 * (not is_x), transform=aside)
    axis.label.draw(renderer)
