"""Turn a picture into SVG that can stand inside an HTML page, several to a page."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Affine2D, Bbox

from stangmm.plots.style import BARS, DOTS_PER_INCH, INK, MUTED, PAPER, RULE, root_figure, text_size
from stangmm.plots.ticks import draw_plain, is_plain

_SVG = "http://www.w3.org/2000/svg"
_SVG_RENDERER: Any = RendererSVG  # matplotlib gives these no types
_MIXED: Any = MixedModeRenderer
_XLINK = "http://www.w3.org/1999/xlink"
_CHANGED = ("id", "d", "style", "fill", "stroke", "clip-path")
_PAD = 4.0  # points around what is drawn
_SPARE = 1.0  # inches
# Neutral colours become the page's own, so that a picture follows its light or dark scheme.
_PAGE_COLORS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    BARS: "var(--bars)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
}


def inline_svg(ax: Axes, label: str, prefix: str) -> str:
    """Write the figure of an Axes as an ``<svg>`` element.

    Parameters
    ----------
    ax : matplotlib Axes
    label : str
        What the picture shows, for those who do not see it.
    prefix : str
        Put before every id, so that pictures of one page do not refer to each other's parts.

    Returns
    -------
    str
        The element: text as text, in the page's font and colours; no reference to anything outside.
        The figure is used up for it.
    """
    figure = root_figure(ax)
    for patch in (figure.patch, *(each.patch for each in _all_axes(figure.axes))):
        patch.set(facecolor="none", edgecolor="none")
    written = StringIO()
    with (
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}),
        warnings.catch_warnings(),
    ):
        # The reader's fonts write the text, so what matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        box = _draw(figure, written)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314 (written a line above)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    own = _own_values(prefix)
    seen: set[str] = set()
    for element in root.iter():
        identity = element.get("id", "")
        if identity and identity in seen:  # lines of one chain share a name; a page's ids may not
            del element.attrib["id"]
        seen.add(identity)
        for key, value in element.attrib.items():
            if key in _CHANGED or key.endswith("href"):
                element.set(key, own(key, value))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("viewBox", f"{box.x0:.1f} {box.y0:.1f} {box.width:.1f} {box.height:.1f}")
    root.set("role", "img")
    root.set("aria-label", label)
    root.set("style", f"--width: {box.width:.0f}pt")
    return ElementTree.tostring(root, encoding="unicode")


def _draw(figure: Figure, file: StringIO) -> Bbox:
    """Write a figure to a file; what part of it, in points from the upper left, holds all of it.

    A layout engine measures all text before it is drawn, and ours need not: what a figure with one
    Axes takes is known when it has been drawn, and the picture becomes as large as that.
    """
    figure.dpi = 72  # in which an SVG is written
    only = figure.axes[0] if len(figure.axes) == 1 else None
    if only and isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.set_layout_engine("none")
        _place(figure, only)
    else:
        only = None
    width, height = figure.get_size_inches()
    vector = _Renderer(72 * width, 72 * height, file, image_dpi=DOTS_PER_INCH)
    own = _all_axes([only] if only else [])
    plain = [(ax, axis) for ax in own for axis in (ax.xaxis, ax.yaxis) if is_plain(ax, axis)]
    for _, axis in plain:
        axis.set_visible(False)
    figure.draw(_MIXED(figure, width, height, DOTS_PER_INCH, vector))
    for ax, axis in plain:
        axis.set_visible(True)
        draw_plain(ax, axis, vector)
    vector.finalize()
    if only is None:
        return Bbox.from_bounds(0, 0, 72 * width, 72 * height)
    legend = only.get_legend()
    frames = [legend.get_frame().get_window_extent()] if legend else []
    whole = Bbox.union([*vector.boxes, only.get_window_extent(), *frames]).padded(_PAD)
    return Bbox.from_bounds(whole.x0, 72 * height - whole.y1, whole.width, whole.height)


def _place(figure: Figure, ax: Axes) -> None:
    """Leave about as much room around an Axes as its labels take, and more paper on all sides."""
    shown = [each for each in _all_axes([ax]) if each.axison]
    legend = ax.get_legend()
    is_below = legend and legend.get_bbox_to_anchor().y1 <= ax.bbox.y0
    lines = len(legend.get_texts()) if legend and is_below else 0
    left = 0.45 if any(each.yaxis.get_visible() for each in shown) else 0.1
    left += 0.2 * any(each.get_ylabel() for each in shown) + 0.1  # and at the right
    titled = any(each.get_title(loc) for each in shown for loc in ("left", "center", "right"))
    above = 0.25 if titled or ax.texts else 0.1
    below = 0.55 + 0.09 * lines if lines else 0.45
    size = figure.get_size_inches() - (left, below + above)
    spare = _SPARE + np.array([0.0, 0.2 * lines])  # what lies beyond the paper is not written
    paper = size + _SPARE + spare
    figure.set_size_inches(*paper)
    ax.set_position((*(spare / paper), *(size / paper)))


class _Renderer(_SVG_RENDERER):  # type: ignore[misc]
    """Matplotlib's writer of SVG, which knows where it has put texts.

    Attributes
    ----------
    boxes : list of Bbox
        Of each text, in points from the lower left.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.boxes: list[Bbox] = []

    def draw_text(
        self,
        gc: Any,
        x: float,
        y: float,
        s: str,
        prop: Any,
        angle: float,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        width, height, descent = text_size(s, prop.copy(), False)
        corners = [
            [0.0, -descent],
            [width, -descent],
            [width, height - descent],
            [0.0, height - descent],
        ]
        turned = Affine2D().rotate_deg(angle).translate(x, self.height - y)
        self.boxes.append(Bbox.null())
        self.boxes[-1].update_from_data_xy(turned.transform(corners))
        super().draw_text(gc, x, y, s, prop, angle, *args, **kwargs)

    def get_text_width_height_descent(
        self, s: str, prop: Any, ismath: Any
    ) -> tuple[float, float, float]:
        return text_size(s, prop, ismath)


def _all_axes(some: Iterable[Any]) -> Iterator[Axes]:
    """Axes and all the panels in them."""
    for ax in some:
        yield ax
        yield from _all_axes(ax.child_axes)


def _own_values(prefix: str) -> Callable[[str, str], str]:
    """What makes ids and references a picture's own, and its colours the page's."""

    @cache
    def styled(value: str) -> str:
        changed = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", value)
        return re.sub(r"#[0-9a-f]{6}\b", lambda m: _PAGE_COLORS.get(m.group(), m.group()), changed)

    def own(key: str, value: str) -> str:
        if key == "id":
            return f"{prefix}-{value}"
        if key == "d":
            return _short(value)
        if key.endswith("href"):
            return f"#{prefix}-{value[1:]}" if value.startswith("#") else value
        return styled(value)

    return own


def _short(path: str) -> str:
    """A path with a tenth of a point, which no screen shows, and without what can be understood."""
    short = re.sub(r"(?<=\.\d)\d+", "", " ".join(path.split()))
    return short if re.search("[CQ]", short) else short.replace(" L ", " ")  # after M, lines follow
