"""Candidates: what the models of a selection are called, by K or by covariance type and K."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from stangmm.model.covariance import STRUCTURES

if TYPE_CHECKING:
    import pandas as pd

Candidate: TypeAlias = int | tuple[str, int]  # K, or the covariance type and K


def components_of(candidate: Candidate) -> int:
    """K."""
    return candidate if isinstance(candidate, int) else candidate[1]


def type_of(candidate: Candidate) -> str:
    """The covariance type; empty where all candidates have the same."""
    return "" if isinstance(candidate, int) else candidate[0]


def in_order(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates by covariance type, each type by K."""
    types = ["", *STRUCTURES]
    return sorted(candidates, key=lambda c: (types.index(type_of(c)), components_of(c)))


def named(*candidates: Candidate) -> str:
    """Candidates in words, such as ``K = 2, 3`` or ``K = 2, 3 (full), K = 4 (tied)``."""
    by_type: dict[str, list[str]] = {}
    for candidate in in_order(candidates):
        by_type.setdefault(type_of(candidate), []).append(str(components_of(candidate)))
    return ", ".join(
        f"K = {', '.join(numbers)}" + (f" ({name})" if name else "")
        for name, numbers in by_type.items()
    )


def index_of(candidates: Sequence[Candidate]) -> pd.Index[Any]:
    """Index of a table with a row for each candidate."""
    import pandas as pd

    pairs = [k for k in candidates if isinstance(k, tuple)]
    if not pairs:
        return pd.Index(candidates, name="n_components")
    return pd.MultiIndex.from_tuples(pairs, names=["covariance_type", "n_components"])
