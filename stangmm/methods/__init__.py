"""The ways to fit a mixture, one file each, and their short names."""

from __future__ import annotations

from typing import Any

from stangmm.base.errors import ModelError
from stangmm.methods.base import Method
from stangmm.methods.em.em import EM
from stangmm.methods.stan.advi import ADVI
from stangmm.methods.stan.laplace import Laplace
from stangmm.methods.stan.nuts import NUTS
from stangmm.methods.stan.optimize import Optimize
from stangmm.methods.stan.pathfinder import Pathfinder

METHODS: dict[str, type[Method]] = {
    m.name: m for m in (EM, Optimize, ADVI, NUTS, Pathfinder, Laplace)
}


def as_method(method: Any) -> Method:
    """Settings from a short name, or settings as they are.

    Raises
    ------
    ModelError
        Neither; the message lists the known names.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    names = ", ".join(f'"{name}" ({cls.__name__})' for name, cls in METHODS.items())
    raise ModelError(f"method must be one of {names}, or such a settings object, got {method!r}.")


__all__ = [
    "ADVI",
    "EM",
    "METHODS",
    "NUTS",
    "Laplace",
    "Method",
    "Optimize",
    "Pathfinder",
    "as_method",
]
