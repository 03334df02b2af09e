"""The picture of calibration: ECDF differences in small multiples, with their envelope."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .configurations import CONFIGURATIONS, SCALE_FAMILIES, Configuration
from .envelopes import counts_below, envelope
from .replication import RANKED_AMONG

# Okabe & Ito (2008) first; the last ones are told apart by their line.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def draw_ecdf_differences(
    ranks: Mapping[Configuration, Mapping[str, NDArray[np.int64]]], path: Path, title: str
) -> None:
    """Draw a panel for each configuration, a line for each quantity, and save the picture."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(c.kind for c in CONFIGURATIONS.values()))
    families = list(SCALE_FAMILIES)
    quantities = list(dict.fromkeys(name for of_one in ranks.values() for name in of_one))
    styles = {
        name: {
            "color": _COLOURS[i % len(_COLOURS)],
            "linestyle": "-" if i < len(_COLOURS) else "--",
        }
        for i, name in enumerate(quantities)
    }
    points = np.arange(1, RANKED_AMONG + 1) / (RANKED_AMONG + 1)
    with mpl.rc_context({"font.size": 8.0}):
        figure = Figure(figsize=(7.5, 9.0), layout="constrained")
        panels = figure.subplots(len(kinds), len(families), sharex=True, sharey=True)
        for configuration, of_one in ranks.items():
            axes = panels[
                kinds.index(configuration.kind),
                families.index(configuration.scale_family),
            ]
            n_ranks = len(next(iter(of_one.values())))
            low, high = envelope(n_ranks, RANKED_AMONG)
            axes.fill_between(
                points, low / n_ranks - points, high / n_ranks - points, color="#dde1e6", lw=0
            )
            for name, values in of_one.items():
                below = counts_below(values, RANKED_AMONG) / n_ranks
                axes.plot(points, below - points, lw=0.9, label=name, **styles[name])
            axes.set_title(
                f"{configuration.kind}, {configuration.scale_family} ({n_ranks})",
                fontsize=8.0,
            )
        for axes in panels.flat:
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlim(0, 1)
        panels[-1, panels.shape[1] // 2].set_xlabel("rank of the truth among the draws, as a share")
        figure.suptitle(
            f"{title}\ngrey: 95% simultaneous envelope of one line; in brackets: replications",
            fontsize=9.0,
        )
        handles: dict[str, object] = {}
        for axes in panels.flat:
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(name, handle)
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=4,
            frameon=False,
        )
        figure.savefig(path, dpi=110)
