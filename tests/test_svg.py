"""Pictures of reports: drawn by a way of their own, they show what matplotlib shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from made_fits import known_mixture, made_fit, rows_of
from matplotlib.axes import Axes

from stangmm import plots

TEXT = "{http://www.w3.org/2000/svg}text"


def texts_of(svg: str | bytes) -> Counter[str]:
    root = ElementTree.fromstring(svg)  # noqa: S314 (ours)
    return Counter("".join(text.itertext()) for text in root.iter(TEXT))


@pytest.mark.parametrize("draw", [plots.priors, plots.forest, plots.pit, plots.ppc, plots.profile])
@pytest.mark.parametrize("kind", ["mcmc", "approximation"])
def test_a_page_has_the_texts_that_matplotlib_writes(
    draw: Callable[[Any], Axes], kind: str
) -> None:
    """Ticks' numbers, names, legends and titles; nothing twice and nothing left out."""
    mixture = known_mixture(2, 3, None, seed=4)
    fit = made_fit(kind, mixture, rows_of(mixture, 150, 1), ["x", "a longer name (cm)", "z"])
    written = BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(fit).figure.savefig(written, format="svg")
    assert texts_of(plots.inline_svg(draw(fit), "alt", "p")) == texts_of(written.getvalue())
