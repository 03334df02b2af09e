"""Turn a picture into SVG that can stand inside an HTML page, several to a page."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO, StringIO
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG, RendererSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox

from stangmm.plots.style import BARS, DOTS_PER_INCH, INK, MUTED, PAPER, RULE, root_figure

_SVG = "http://www.w3.org/2000/svg"
_SVG_RENDERER: Any = RendererSVG  # matplotlib gives it no types
_XLINK = "http://www.w3.org/1999/xlink"
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
    buffer = BytesIO()
    with (
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}),
        warnings.catch_warnings(),
    ):
        # The reader's fonts write the text, so what matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        # The canvas itself: `savefig` draws a figure whose layout is constrained twice.
        canvas: Any = FigureCanvasSVG(figure)
        _lay_out(figure)
        canvas.print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 (written a line above)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    seen: set[str] = set()
    for element in root.iter():
        identity = element.get("id", "")
        if identity and identity in seen:  # lines of one chain share a name; a page's ids may not
            del element.attrib["id"]
        seen.add(identity)
        _own(element, prefix)
    width = root.attrib.pop("width", "400pt").removesuffix("pt")
    root.attrib.pop("height", None)
    root.attrib.pop("version", None)
    root.set("role", "img")
    root.set("aria-label", label)
    root.set("style", f"--width: {float(width):.0f}pt")
    return ElementTree.tostring(root, encoding="unicode")


def _lay_out(figure: Figure) -> None:
    """Leave room for the labels around the figure's Axes, and set its dots per inch.

    The margins are those of matplotlib's constrained layout, which measures everything twice. Ticks
    of panels do not depend on their size, so that panels are measured once.
    """
    figure.dpi = 72  # in which an SVG is written
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine) and len(figure.axes) == 1:
        _drop_empty_labels(figure)
        ax: Any = figure.axes[0]
        size, own = np.array(figure.bbox.size), ax.get_window_extent()
        renderer = _SVG_RENDERER(*size, StringIO())
        panels = [panel for panel in ax.child_axes if panel.get_in_layout()]
        seen = Bbox.union([
            own, *(panel.get_tightbbox(renderer, for_layout_only=True) for panel in panels)
        ])  # fmt: skip
        below, above = own.min - seen.min, seen.max - own.max
        rest = [a for a in ax.get_default_bbox_extra_artists() if a not in panels]
        pad = 72 * np.array([engine.get()[name] for name in ("w_pad", "h_pad")])
        for _ in range(2):
            seen = ax.get_tightbbox(renderer, bbox_extra_artists=rest, for_layout_only=True)
            own = ax.get_window_extent()
            low = np.maximum(own.min - seen.min, below) + pad
            high = size - np.maximum(seen.max - own.max, above) - pad
            ax.set_position(Bbox([low / size, high / size]))
        figure.set_layout_engine("none")
    figure.dpi = DOTS_PER_INCH


def _drop_empty_labels(figure: Figure) -> None:
    """Put labels without words anywhere: their places follow from the ticks of all neighbours."""
    for each in _all_axes(figure.axes):
        for axis in (each.xaxis, each.yaxis):
            if not axis.get_label_text():
                axis.set_label_coords(0.0, 0.0)


def _all_axes(some: Iterable[Any]) -> Iterator[Axes]:
    """Axes and all the panels in them."""
    for ax in some:
        yield ax
        yield from _all_axes(ax.child_axes)


def _short(path: str) -> str:
    """A path with a tenth of a point, which no screen shows, and without what can be understood."""
    short = re.sub(r"(\.\d)\d+", r"\1", " ".join(path.split()))
    return short if re.search("[CQ]", short) else short.replace(" L ", " ")  # after M, lines follow


def _own(element: ElementTree.Element, prefix: str) -> None:
    """Make an element's ids and references its picture's own, and its colours the page's."""
    for key, value in element.attrib.items():
        if key == "id":
            element.set(key, f"{prefix}-{value}")
        elif key.endswith("href") and value.startswith("#"):
            element.set(key, f"#{prefix}-{value[1:]}")
        elif key == "d":
            element.set(key, _short(value))
        elif key in ("style", "fill", "stroke", "clip-path"):
            changed = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", value)
            changed = re.sub(
                r"#[0-9a-f]{6}\b", lambda m: _PAGE_COLORS.get(m.group(), m.group()), changed
            )
            element.set(key, changed)
