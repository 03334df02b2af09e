"""The ways to fit a mixture, one file each, and their short names."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from stangmm.base.checked import shown
from stangmm.base.errors import ModelError
from stangmm.methods.auto import Auto
from stangmm.methods.base import Method
from stangmm.methods.em.em import EM
from stangmm.methods.em.regularized import RegularizedEM
from stangmm.methods.laplace import Laplace
from stangmm.methods.stan.advi import ADVI
from stangmm.methods.stan.laplace import StanLaplace
from stangmm.methods.stan.nuts import NUTS
from stangmm.methods.stan.optimize import Optimize
from stangmm.methods.stan.pathfinder import Pathfinder

MethodName: TypeAlias = Literal[
    "em", "optimize", "advi", "nuts", "laplace", "auto", "pathfinder", "stan_laplace"
]

METHODS: dict[str, type[Method]] = {
    m.name: m for m in (EM, Optimize, ADVI, NUTS, Laplace, Auto, Pathfinder, StanLaplace)
}


def method_named(name: str) -> type[Method] | None:
    """Find a method by its short name, the user's own too; the last defined, if there are many."""
    found, waiting = None, Method.__subclasses__()
    while waiting:
        cls = waiting.pop(0)
        found = cls if vars(cls).get("name") == name else found
        waiting += cls.__subclasses__()
    return found


def as_method(method: Any) -> Method:
    """Settings from a short name, or settings as they are.

    Raises
    ------
    ModelError
        Neither; the message lists the known names.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str):
        if method in METHODS:
            return METHODS[method]()
        raise ModelError(f"method must be one of {list(METHODS)}, got {shown(method)}.")
    names = ", ".join(f'"{name}" ({cls.__name__})' for name, cls in METHODS.items())
    raise ModelError(
        f"method must be one of {names}, or settings such as NUTS(draws=2000), got {shown(method)}."
    )


__all__ = [
    "ADVI",
    "EM",
    "METHODS",
    "NUTS",
    "Auto",
    "Laplace",
    "Method",
    "MethodName",
    "Optimize",
    "Pathfinder",
    "RegularizedEM",
    "StanLaplace",
    "as_method",
    "method_named",
]
