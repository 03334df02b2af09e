"""The rows of a problem, or of a part of it, as those of EM: group by group, or many together."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.data.groups import RowGroup
from stangmm.methods.em.incomplete import (
    CorrelatedIncompleteRows,
    IncompleteRows,
    IndependentIncompleteRows,
)
from stangmm.methods.em.rows import EMRows
from stangmm.model.incomplete import MANY_OF_A_PATTERN
from stangmm.model.problem import Problem

# Above this condition number of the frame, whose square costs digits, the flattest components that
# EM allows could not be factored outside of it.
_WELL_CONDITIONED = 1e2

Rows: TypeAlias = "EMRows | IncompleteRows"


def em_rows(
    problem: Problem, frame: FloatArray | None, rows: IntArray | None = None
) -> list[tuple[Rows, IntArray]]:
    """Parts of the rows, with the places that each part's have among all that are held.

    Parameters
    ----------
    problem : Problem
    frame : ndarray, shape (D, D), or None
        EM's coordinates of complete rows are ``frame^-1 x``.
    rows : ndarray of int, optional
        Only these rows, ascending.
    """
    x, weight, structure = problem.x, problem.sample_weight, problem.structure
    box, d = problem.space.box, problem.n_features
    alone = frame is not None and np.linalg.cond(frame) > _WELL_CONDITIONED
    parts: list[tuple[Rows, IntArray]] = []
    together: dict[int | None, list[tuple[IntArray, IntArray]]] = {}
    held = 0
    for group, index in rows_by_group(problem, rows):
        places = np.arange(held, held := held + _length(index))
        if len(group.observed) < d and len(places) < MANY_OF_A_PATTERN and not alone:
            every = np.arange(len(x))[index] if isinstance(index, slice) else index
            together.setdefault(group.component, []).append((every, places))
            continue
        own_weight = None if weight is None else weight[index]
        parts.append((EMRows(x[index], own_weight, frame, structure, group, box), places))
    for component, groups in together.items():
        at, places = (np.concatenate(arrays) for arrays in zip(*groups, strict=True))
        own_weight = None if weight is None else weight[at]
        few: IncompleteRows
        if frame is None:
            few = IndependentIncompleteRows(x[at], own_weight, box, component)
        else:
            few = CorrelatedIncompleteRows(x[at], own_weight, box, component, frame, structure)
        parts.append((few, places))
    return parts


def _length(index: slice | IntArray) -> int:
    return index.stop - index.start if isinstance(index, slice) else len(index)


def rows_by_group(
    problem: Problem, rows: IntArray | None = None
) -> list[tuple[RowGroup, slice | IntArray]]:
    """Groups with an index of their rows in ``problem.x``; complete data are one group.

    Parameters
    ----------
    problem : Problem
    rows : ndarray of int, optional
        Only these rows, ascending; groups without any are left out.
    """
    n, d = problem.x.shape
    groups = problem.groups or (RowGroup(slice(0, n), np.arange(d)),)
    if rows is None:
        return [(group, group.rows) for group in groups]
    parts: list[tuple[RowGroup, slice | IntArray]] = []
    for group in groups:
        first, last = np.searchsorted(rows, [group.rows.start, group.rows.stop])
        if first < last:
            parts.append((group, rows[first:last]))
    return parts
