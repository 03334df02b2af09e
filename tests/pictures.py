"""Pictures as they come out of the printer: pixels, where texts stand, what lies under legends.

Nothing here knows what a picture should look like to the pixel; it measures what any good picture
has: whole texts that do not run into each other, panels with something in them, legends that hide
nothing, colours that the colour-blind tell apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

DPI = 100
TOUCH = 1.0  # pixels that neighbouring texts may share: what rounding to whole pixels does
# A pixel is of a colour when it is a blend of it with white paper, at least so much of it, and no
# channel is further off than this.
_LEAST_BLEND = 0.5
_CHANNEL = 5 / 255


@dataclass(frozen=True)
class Words:
    """A text that was drawn, where, and the number of the panel that it belongs to (-1: none).

    ``cut`` says whether its panel's edge cuts it.
    """

    text: str
    box: Bbox
    panel: int
    cut: bool


@dataclass(frozen=True)
class Picture:
    """What a figure looks like once it is saved.

    Attributes
    ----------
    pixels : ndarray, shape (height, width, 3)
        Between 0 and 1, first row on top.
    words : list of Words
        Texts that were drawn, tick labels and legends too.
    panels : list of Bbox
        Axes with a frame, in pixels from the lower left corner.
    legends : list of Bbox
    bare : ndarray, shape (height, width, 3)
        The same without legends.
    complaints : list of str
        Warnings of matplotlib and numpy.
    """

    pixels: np.ndarray
    words: list[Words]
    panels: list[Bbox]
    legends: list[Bbox]
    bare: np.ndarray
    complaints: list[str]

    def cut(self, box: Bbox, *, bare: bool = False, rim: int = 2) -> np.ndarray:
        """Pixels inside a box but for its rim, shape (rows, columns, 3)."""
        height, width = self.pixels.shape[:2]
        left, right = max(0, round(box.x0) + rim), min(width, round(box.x1) - rim)
        bottom, top = max(0, round(box.y0) + rim), min(height, round(box.y1) - rim)
        return (self.bare if bare else self.pixels)[height - top : height - bottom, left:right]

    def outside(self) -> list[str]:
        """Texts that are cut by the figure's edge, or by their panel's."""
        height, width = self.pixels.shape[:2]
        return [
            w.text
            for w in self.words
            if w.cut or w.box.x0 < 0 or w.box.y0 < 0 or w.box.x1 > width or w.box.y1 > height
        ]

    def collisions(self) -> list[tuple[str, str]]:
        """Pairs of texts that run into each other."""
        return [(a.text, b.text) for a, b in combinations(self.words, 2) if _shared(a.box, b.box)]

    def strays(self) -> list[str]:
        """Texts that lie across a panel that is not theirs."""
        return [
            w.text
            for w in self.words
            if any(_shared(w.box, p) for i, p in enumerate(self.panels) if i != w.panel)
        ]

    def hidden(self) -> int:
        """How many pixels with something in them lie under a legend inside a panel."""
        return sum(
            int(inked(self.cut(legend, bare=True, rim=0)).sum())
            for legend in self.legends
            if any(_shared(legend, panel) for panel in self.panels)
        )

    def empty(self) -> list[int]:
        """Numbers of the panels with nothing in them."""
        return [i for i, p in enumerate(self.panels) if inked(self.cut(p)).sum() < 10]

    def of_color(self, color: tuple[float, float, float]) -> np.ndarray:
        """Which pixels are of a colour, shape (height, width)."""
        away = 1.0 - np.asarray(color)
        blend = (1.0 - self.pixels) @ away / (away @ away)
        left = np.abs(1.0 - self.pixels - blend[..., np.newaxis] * away).max(axis=-1)
        return np.asarray((blend >= _LEAST_BLEND) & (blend < 1.01) & (left < _CHANNEL))


def inked(pixels: np.ndarray) -> np.ndarray:
    """Which pixels are not paper, shape (rows, columns)."""
    return np.asarray((pixels < 0.97).any(axis=-1))


def printed(figure: Figure) -> Picture:
    """Save a figure for real, and measure what came out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _texts_recorded() as drawn:
            pixels = _saved(figure)
            texts = list(drawn)
    axes = list(_all_axes(figure.axes))
    panels = [ax for ax in axes if ax.axison and ax.get_visible()]
    owner = {id(text): ax for ax in axes for text in ax.findobj(Text)}  # the innermost comes last
    words = [
        Words(
            text.get_text(),
            box,
            panels.index(ax) if (ax := owner.get(id(text))) in panels else -1,
            cut,
        )
        for text, box, cut in texts
    ]
    legends = [ax.get_legend() for ax in axes if ax.get_legend() is not None]
    scale = DPI / figure.dpi
    boxes = [_scaled(legend.get_window_extent(), scale) for legend in legends]
    windows = [_scaled(ax.get_window_extent(), scale) for ax in panels]
    figure.set_layout_engine("none")  # so that nothing moves into the room of the legends
    for legend in legends:
        legend.set_visible(False)
    inside = any(_shared(legend, panel) for legend in boxes for panel in windows)
    bare = _saved(figure) if inside else pixels
    for legend in legends:
        legend.set_visible(True)
    return Picture(pixels, words, windows, boxes, bare, [str(w.message) for w in caught])


def _saved(figure: Figure) -> np.ndarray:
    buffer = BytesIO()
    figure.savefig(buffer, format="rgba", dpi=DPI, facecolor="white")
    width, height = (round(inches * DPI - 0.499999) for inches in figure.get_size_inches())
    flat = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    return flat.reshape(height, width, 4)[..., :3] / 255.0


@contextmanager
def _texts_recorded() -> Iterator[list[tuple[Text, Bbox, bool]]]:
    """List of the texts that the last drawing of a figure wrote, where, and if they were cut."""
    drawn: list[tuple[Text, Bbox, bool]] = []
    draw_text, draw_figure = Text.draw, Figure.draw

    def text(self: Text, renderer: object) -> None:
        draw_text(self, renderer)
        if self.get_visible() and self.get_text().strip():
            whole, window = _extent(self, renderer), self.get_clip_box()
            clipped = self.get_clip_on() and window is not None
            seen = Bbox.intersection(whole, window) if clipped else whole
            if seen is not None:
                cut = seen.width < whole.width - TOUCH or seen.height < whole.height - TOUCH
                drawn.append((self, seen, cut))

    def figure(self: Figure, renderer: object) -> None:
        drawn.clear()
        draw_figure(self, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", text)
        patch.setattr(Figure, "draw", figure)
        yield drawn


def _extent(text: Text, renderer: object) -> Bbox:
    """Extent in pixels of a text, with the box around it where it has one."""
    box = Text.get_window_extent(text, renderer)  # an annotation's own has its arrow, too
    around = text.get_bbox_patch()
    return box if around is None else Bbox.union([box, around.get_window_extent(renderer)])


def _all_axes(axes: list[Axes]) -> Iterator[Axes]:
    for ax in axes:
        yield ax
        yield from _all_axes(ax.child_axes)


def _scaled(box: Bbox, factor: float) -> Bbox:
    return Bbox(box.get_points() * factor)


def _shared(a: Bbox, b: Bbox) -> bool:
    """Whether two boxes overlap by more than a touch."""
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > TOUCH and high > TOUCH


def drawn_points(figure: Figure) -> int:
    """How many points and corners of lines a figure is made of."""
    return sum(_points(artist) for ax in _all_axes(figure.axes) for artist in ax.get_children())


def _points(artist: Artist) -> int:
    if isinstance(artist, Line2D):
        return len(artist.get_xydata())
    if isinstance(artist, PathCollection):
        return len(artist.get_offsets())
    if isinstance(artist, Collection):
        return sum(len(path.vertices) for path in artist.get_paths())
    return len(artist.get_path().vertices) if isinstance(artist, Patch) else 0


# Machado, Oliveira & Fernandes 2009 (doi:10.1109/TVCG.2009.113), severity 1, for linear sRGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
_TO_XYZ = np.array(  # IEC 61966-2-1
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


def seen_as(rgb: np.ndarray, blindness: str) -> np.ndarray:
    """CIELAB (D65) of colours as seen with a colour-blindness, shape (..., 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ BLINDNESS[blindness].T, 0.0, 1.0)
    t = seen @ _TO_XYZ.T / _TO_XYZ.sum(axis=1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
