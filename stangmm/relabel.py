"""Relabelling: settle which component is which in every draw, after sampling.

With exchangeable priors the posterior is the same under all K! relabellings. Stephens' algorithm
(2000, doi:10.1111/1467-9868.00265) chooses a permutation for each draw so that the draws'
responsibilities agree as well as possible (in Kullback-Leibler divergence); each step is an
assignment problem. It only reorders components: no draw's mixture density changes.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from stangmm.arrays import FloatArray, IntArray
from stangmm.density import Mixture

# Responsibilities held at once: draws x components x rows. Of more rows some stand for all.
_MAX_HELD = 2**23
_MAX_ROWS = 300
_MAX_CANDIDATES = 20_000
_MAX_SWEEPS = 100
_FLOOR = 1e-12  # responsibilities below this count as this in a logarithm


def stephens(mixture: Mixture, x: FloatArray, pivot: int) -> IntArray:
    """Permutations that align S draws.

    Parameters
    ----------
    mixture : Mixture
        Batch of shape (S,).
    x : ndarray, shape (N, D)
        The observations. Of more than 300, so many are used as stand for all: equally many of
        the rows that the pivot gives to each component, evenly spaced.
    pivot : int
        The draw from which the search starts, one of high posterior density.

    Returns
    -------
    ndarray of int, shape (S, K)
        ``mixture.permute(result)`` has its labels settled.
    """
    n_draws, n_components = mixture.weights.shape
    if n_components == 1 or n_draws == 1:
        return np.tile(np.arange(n_components), (n_draws, 1))
    n_rows = max(1, min(_MAX_ROWS, _MAX_HELD // (n_draws * n_components)))
    responsibilities = _responsibilities(mixture, _representative(mixture[pivot], x, n_rows))
    average = responsibilities[pivot]
    permutation: IntArray | None = None
    for _ in range(_MAX_SWEEPS):
        log_average = np.log(np.maximum(average, _FLOOR))
        agreement = np.einsum("sln,kn->skl", responsibilities, log_average, optimize=True)
        updated = assign(agreement)
        if permutation is not None and (updated == permutation).all():
            break
        permutation = updated
        average = np.zeros_like(log_average)
        for k in range(n_components):
            average[k] = responsibilities[np.arange(n_draws), updated[:, k]].mean(axis=0)
    return updated


def assign(agreement: FloatArray) -> IntArray:
    """Best permutations for agreements (S, K, K) of new component k with old component l."""
    return np.stack([linear_sum_assignment(a, maximize=True)[1] for a in agreement])


def by_first_mean(means: FloatArray) -> IntArray:
    """Order of components for display: by mean in the first feature, then in the next.

    Parameters
    ----------
    means : ndarray, shape (K, D)
    """
    return np.asarray(np.lexsort(means.T[::-1]))


def match(mixture: Mixture, reference: Mixture, x: FloatArray) -> IntArray:
    """Permutation (K,) of one mixture that agrees best with another on the rows x."""
    rows = _representative(mixture, x, _MAX_ROWS)
    own, other = mixture.responsibilities(rows), reference.responsibilities(rows)
    (permutation,) = assign((other @ own.T)[np.newaxis])
    return np.asarray(permutation)


def _representative(mixture: Mixture, x: FloatArray, n: int) -> FloatArray:
    """At most n rows, equally many of each component so that a small one is seen, too."""
    if len(x) <= n:
        return x
    candidates = x[_spaced(len(x), _MAX_CANDIDATES)]
    labels = mixture.responsibilities(candidates).argmax(axis=0)
    share = max(1, n // mixture.n_components)
    members = [np.flatnonzero(labels == k) for k in range(mixture.n_components)]
    chosen = np.concatenate([each[_spaced(len(each), share)] for each in members])
    return np.asarray(candidates[np.sort(chosen)])


def _spaced(n: int, at_most: int) -> IntArray:
    """Evenly spaced indices of n things."""
    return np.linspace(0, max(n - 1, 0), min(n, at_most)).astype(int)


def _responsibilities(mixture: Mixture, x: FloatArray) -> FloatArray:
    out = np.empty((*mixture.weights.shape, len(x)))
    for draws, rows in mixture.blocks(len(x)):
        out[draws, :, rows] = mixture[draws].responsibilities(x[rows])
    return out
