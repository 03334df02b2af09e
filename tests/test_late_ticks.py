"""Axes whose ticks are made late look as matplotlib's own do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stangmm.plots.late_ticks import LateTickAxes


def _plain(ax: Axes) -> None:
    ax.plot([0, 1, 5], [2, 7, 1])


def _gridded(ax: Axes) -> None:
    ax.plot([1, 10, 500], [2, 7, 1])
    ax.grid(visible=True)
    ax.set_xscale("log")


def _titled(ax: Axes) -> None:
    ax.set_title("a title above ticks")
    ax.xaxis.tick_top()
    ax.yaxis.tick_right()


def _restyled(ax: Axes) -> None:
    ax.tick_params(labelsize=7, color="red", length=9)
    ax.set_xticks([0, 0.5, 1], ["a", "b", "c"])
    ax.minorticks_on()
    ax.label_outer()


def _twin(ax: Axes) -> None:
    ax.plot([0, 1], [3, 1])
    ax.twinx().plot([0, 1], [30, 50])
    ax.set_title("left", loc="left")


def _cleared(ax: Axes) -> None:
    ax.plot([0, 1], [0, 1])
    ax.figure.draw_without_rendering()
    ax.clear()
    ax.plot([0, 2], [5, 9])


def _pixels(axes_class: type[Axes], draw: Callable[[Axes], None]) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = Figure(figsize=(3, 2), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    draw(figure.add_subplot(axes_class=axes_class))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize("draw", [_plain, _gridded, _titled, _restyled, _twin, _cleared])
def test_pictures_are_those_of_matplotlibs_own_axes(draw: Callable[[Axes], None]) -> None:
    ours, theirs = (_pixels(each, draw) for each in (LateTickAxes, Axes))
    np.testing.assert_array_equal(ours, theirs)


def test_no_ticks_are_made_before_they_are_asked_for() -> None:
    ax = Figure().add_subplot(axes_class=LateTickAxes)
    ax.plot([0, 1], [0, 1])
    assert not ax.xaxis.majorTicks
    assert not ax.yaxis.majorTicks
    assert len(ax.get_xticklabels()) > 1
    assert ax.xaxis.get_ticks_position() == "bottom"
    assert ax.yaxis.get_ticks_position() == "left"
