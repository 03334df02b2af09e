"""Axes whose ticks are made when they are asked for.

Matplotlib makes the first ticks with every Axes, and two thirds of an Axes' time are spent on them.
An axis that is not seen never needs them, and a report writes its own.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis, YAxis


class _LateTicks(Axis):
    """An axis that makes no tick before one is asked for."""

    def reset_ticks(self) -> None:
        self.majorTicks: list[Any] = []
        self.minorTicks: list[Any] = []

    def get_major_ticks(self, numticks: int | None = None) -> list[Any]:
        if not self.majorTicks:  # all others are copies of the first
            super().get_major_ticks(1)[0].set_clip_path(self.axes.patch)
        return super().get_major_ticks(numticks)

    def get_minor_ticks(self, numticks: int | None = None) -> list[Any]:
        if not self.minorTicks:
            super().get_minor_ticks(1)[0].set_clip_path(self.axes.patch)
        return super().get_minor_ticks(numticks)

    def get_ticks_position(self) -> Any:
        self.get_major_ticks(1)  # it looks at the first of each kind
        self.get_minor_ticks(1)
        return super().get_ticks_position()  # type: ignore[misc]


class _LateXAxis(_LateTicks, XAxis):
    pass


class _LateYAxis(_LateTicks, YAxis):
    pass


class LateTickAxes(Axes):
    """Axes like all others, but that their ticks are made late."""

    def _init_axis(self) -> None:
        # As matplotlib's own projections do; https://matplotlib.org/stable/gallery/misc/
        # custom_projection.html
        axes: Any = self
        axes.xaxis, axes.yaxis = _LateXAxis(self, clear=False), _LateYAxis(self, clear=False)
        for side in ("bottom", "top"):
            self.spines[side].register_axis(axes.xaxis)
        for side in ("left", "right"):
            self.spines[side].register_axis(axes.yaxis)
