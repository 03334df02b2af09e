"""Row groups: rows that miss the same features and share what is known of their component.

A group is a complete data set of its own: the features that its rows have, and either all
components or the one that is known. Methods and densities handle rows that are incomplete or
labelled group by group; complete, unlabelled data have no groups and cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Consecutive rows that are treated alike.

    Attributes
    ----------
    rows : slice
        Which rows.
    observed : ndarray of int
        The features that they have, ascending.
    component : int or None
        The component that they are known to come from.
    """

    rows: slice
    observed: IntArray
    component: int | None = None


def group_rows(
    x: FloatArray, labels: IntArray | None = None
) -> tuple[IntArray, tuple[RowGroup, ...]]:
    """Sort rows into groups.

    Parameters
    ----------
    x : ndarray, shape (N, D)
        NaN where a value is missing.
    labels : ndarray of int, shape (N,), optional
        Known components, -1 where unknown.

    Returns
    -------
    order : ndarray of int, shape (N,)
        ``x[order]`` has the groups one after another; rows keep their order within a group.
    groups : tuple of RowGroup
        Slices of ``x[order]``.
    """
    missing = np.isnan(x)
    if labels is None and not missing.any():
        return np.arange(len(x)), (RowGroup(slice(0, len(x)), np.arange(x.shape[1])),)
    component = np.full(len(x), -1) if labels is None else labels
    keys = np.column_stack([np.packbits(missing, axis=1), component])
    _, member = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(member.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(member.ravel()))
    groups = []
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        first = order[start]
        known = int(component[first])
        observed = np.flatnonzero(~missing[first])
        groups.append(RowGroup(slice(start, end), observed, None if known < 0 else known))
    return order, tuple(groups)
