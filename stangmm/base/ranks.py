"""Ranks. scipy.stats has them, too, but takes longer to import than a small fit takes."""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray


def mean_ranks(values: FloatArray) -> FloatArray:
    """Ranks of the numbers in each row, from 1, shape (Q, n); equal ones share their mean."""
    order = np.argsort(values, axis=1, kind="stable")
    first, last = ends_of_ties(np.take_along_axis(values, order, axis=1))
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, 0.5 * (first + last) + 1.0, axis=1)
    return ranks


def ends_of_ties(ordered: FloatArray) -> tuple[IntArray, IntArray]:
    """Where the run of equal numbers begins and ends in which each of a row stands; (Q, n)."""
    places = np.arange(ordered.shape[1])
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(ordered), 1), dtype=bool)
    begins, ends = np.hstack([edge, differs]), np.hstack([differs, edge])
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    backwards = np.where(ends, places, places[-1])[:, ::-1]
    return first, np.minimum.accumulate(backwards, axis=1)[:, ::-1]
