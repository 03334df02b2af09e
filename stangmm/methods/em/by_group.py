"""The rows of a problem, or of a part of it, group by group."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import IntArray
from stangmm.data.groups import RowGroup
from stangmm.model.problem import Problem


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
