"""Relabelling: settle which component is which in every draw, after sampling.

With exchangeable priors the posterior is the same under all K! relabellings. Each way to relabel
chooses a permutation for each draw. It only reorders components: no draw's mixture density changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
from scipy.special import expit

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.checked import shown
from stangmm.base.errors import ModelError
from stangmm.model.labels import among, assign, traits
from stangmm.model.mixture import Mixture

Relabelling: TypeAlias = Literal["stephens", "ecr", "means"]

# Responsibilities held at once: draws x components x rows. Of more rows some stand for all.
_MAX_HELD = 2**23
_MAX_ROWS = 300
_MAX_CANDIDATES = 20_000
_MAX_SWEEPS = 100
_FLOOR = 1e-12  # responsibilities below this count as this in a logarithm


def checked_relabelling(how: object) -> Relabelling | None:
    """Check the name of a way to relabel; ModelError lists the known ones."""
    known: tuple[Relabelling | None, ...] = (*get_args(Relabelling), None)
    for name in known:
        if how is name or (isinstance(how, str) and how == name):
            return name
    raise ModelError(f"relabel must be one of {list(known)}, got {shown(how)}.")


def relabelled(
    how: Relabelling,
    mixture: Mixture,
    x: FloatArray,
    pivot: int,
    free: IntArray | None = None,
    sample_weight: FloatArray | None = None,
) -> IntArray:
    """Permutations that align S draws.

    Parameters
    ----------
    how : {"stephens", "ecr", "means"}
        By responsibilities, by allocations of rows, or by the mean in the first feature.
    mixture : Mixture
        Batch of shape (S,).
    x : ndarray, shape (N, D)
        The observations. Of more than 300, so many are used as stand for all: equally many of
        the rows that the pivot gives to each component, evenly spaced.
    pivot : int
        The draw from which the search starts, one of high posterior density.
    free : ndarray of int, optional
        The components whose labels mean nothing, by default all; the others stay as they are.
    sample_weight : ndarray, shape (N,), optional
        How often each row counts.

    Returns
    -------
    ndarray of int, shape (S, K)
        ``mixture.permute(result)`` has its labels settled.
    """
    n_draws, n_components = mixture.weights.shape
    free = np.arange(n_components) if free is None else free
    if len(free) < 2 or n_draws == 1:
        return np.tile(np.arange(n_components), (n_draws, 1))
    if how == "means":
        return among(free, np.argsort(mixture.means[:, free, 0], axis=1), n_components)
    n_rows = max(1, min(_MAX_ROWS, _MAX_HELD // (n_draws * n_components)))
    rows = representative_rows(mixture[pivot], x, n_rows, sample_weight)
    aligned = stephens if how == "stephens" else ecr
    with one_blas_thread():
        responsibilities = np.take(_responsibilities(mixture, rows), free, axis=1)
        return among(free, aligned(responsibilities, pivot), n_components)


def stephens(responsibilities: FloatArray, pivot: int) -> IntArray:
    """Permutations (S, K) by which the draws' responsibilities (S, K, N) agree best.

    They minimize the Kullback-Leibler divergence from their average (Stephens 2000,
    doi:10.1111/1467-9868.00265, algorithm 2).
    """
    return _aligned(responsibilities, pivot, lambda mean: np.log(np.maximum(mean, _FLOOR)))


def ecr(responsibilities: FloatArray, pivot: int) -> IntArray:
    """Permutations (S, K) by which the draws' allocations of rows to components agree best.

    In each draw a row counts for its most probable component, and draws are matched with the most
    frequent allocation (Papastamoulis & Iliopoulos 2010, doi:10.1198/jcgs.2010.09008; iterated as
    in Papastamoulis 2016, doi:10.18637/jss.v069.c01). It is blind to how sure an allocation is.
    """
    return _aligned(_allocations(responsibilities), pivot, _allocations)


def _allocations(responsibilities: FloatArray) -> FloatArray:
    """One for the most probable component, zero for the others; shape (..., K, N) as given."""
    best = responsibilities.argmax(axis=-2)
    components = np.arange(responsibilities.shape[-2])
    return np.asarray(components[:, np.newaxis] == best[..., np.newaxis, :], dtype=np.float64)


def _aligned(
    memberships: FloatArray, pivot: int, target: Callable[[FloatArray], FloatArray]
) -> IntArray:
    """Take turns: labels by agreement with a target (K, N), and the target of the labels' mean."""
    n_draws, k, n_rows = memberships.shape
    flat = memberships.reshape(n_draws * k, n_rows)
    mean = memberships[pivot]
    permutation: IntArray | None = None
    for _ in range(_MAX_SWEEPS):
        agreement = (flat @ target(mean).T).reshape(n_draws, k, k)  # of old l with new k
        updated = assign(np.swapaxes(agreement, 1, 2))
        if permutation is not None and (updated == permutation).all():
            break
        permutation = updated
        chosen = updated.T[:, :, np.newaxis] == np.arange(k)  # (new, draws, old)
        mean = chosen.reshape(k, -1).astype(np.float64) @ flat / n_draws
    return updated


def exchange_probabilities(mixture: Mixture) -> FloatArray:
    """How probable it is that two components of a draw could as well be exchanged, on average.

    Components are told apart by weight, means and scales, taken as normal over the draws, together
    for each component (log weight, means, log scales). Near 0 the labels are settled; near 1/2 two
    components have the same posterior, and no labelling tells them apart.

    Parameters
    ----------
    mixture : Mixture
        Batch of shape (S,), labels settled.

    Returns
    -------
    ndarray, shape (K, K)
        Symmetric, zero on the diagonal.
    """
    each = traits(mixture)
    n, k, _ = each.shape
    center, sd = each.mean(axis=0), each.std(axis=0)
    sd = np.maximum(sd, 1e-12 * np.abs(each).max(axis=(0, 1)) + np.finfo(float).tiny)
    log_density = np.empty((n, k, k))  # of component j's traits, if it were component l
    for label in range(k):
        z = (each - center[label]) / sd[label]
        factor = np.linalg.cholesky(_correlations(z[:, label]))
        whitened = np.linalg.solve(factor, z.reshape(n * k, -1).T)
        log_volume = np.log(sd[label]).sum() + np.log(np.diagonal(factor)).sum()
        log_density[:, :, label] = -0.5 * (whitened**2).sum(axis=0).reshape(n, k) - log_volume
    own = np.einsum("skk->sk", log_density)
    crossed = log_density + np.swapaxes(log_density, 1, 2)
    log_odds = crossed - own[:, :, np.newaxis] - own[:, np.newaxis, :]
    probability = np.asarray(expit(log_odds).mean(axis=0))
    np.fill_diagonal(probability, 0.0)
    return probability


def _correlations(z: FloatArray) -> FloatArray:
    """Correlations (T, T) of standardized draws (S, T), smaller where draws are few for so many.

    Features that are correlated within a component make its means and scales so.
    """
    n, size = z.shape
    correlations = max(0.0, 1.0 - size / n) * (z.T @ z) / n
    np.fill_diagonal(correlations, 1.0)
    return np.asarray(correlations)


def by_first_mean(means: FloatArray) -> IntArray:
    """Order of components for display: by mean in the first feature, then in the next.

    Parameters
    ----------
    means : ndarray, shape (K, D)
    """
    return np.asarray(np.lexsort(means.T[::-1]))


def match(
    mixture: Mixture, reference: Mixture, x: FloatArray, free: IntArray | None = None
) -> IntArray:
    """Permutation (K,) of one mixture's free components that agrees best with another's on x."""
    free = np.arange(mixture.n_components) if free is None else free
    rows = representative_rows(mixture, x, _MAX_ROWS)
    own, other = mixture.responsibilities(rows)[free], reference.responsibilities(rows)[free]
    (permutation,) = assign((other @ own.T)[np.newaxis])
    return among(free, permutation, mixture.n_components)


def representative_rows(
    mixture: Mixture, x: FloatArray, n: int, sample_weight: FloatArray | None = None
) -> FloatArray:
    """At most n rows, equally many of each component so that a small one is seen, too.

    A row of sample weight w stands there w times, where there is room.
    """
    if sample_weight is not None:
        x = x[_written_out(sample_weight)]
    if len(x) <= n:
        return x
    candidates = x[_spaced(len(x), _MAX_CANDIDATES)]
    labels = mixture.responsibilities(candidates)[: mixture.n_components].argmax(axis=0)
    share = max(1, n // mixture.n_components)
    members = [np.flatnonzero(labels == k) for k in range(mixture.n_components)]
    chosen = np.concatenate([each[_spaced(len(each), share)] for each in members])
    return np.asarray(candidates[np.sort(chosen)])


def _written_out(sample_weight: FloatArray) -> IntArray:
    """Indices of the rows, each as often as it weighs; in proportion where that is too many."""
    total, counted = float(sample_weight.sum()), int((sample_weight > 0).sum())
    n = min(max(int(np.ceil(total)), counted), _MAX_CANDIDATES)
    at = (np.arange(n) + 0.5) * (total / n)
    return np.searchsorted(np.cumsum(sample_weight), at, side="right")


def _spaced(n: int, at_most: int) -> IntArray:
    """Evenly spaced indices of n things."""
    return np.linspace(0, max(n - 1, 0), min(n, at_most)).astype(int)


def _responsibilities(mixture: Mixture, x: FloatArray) -> FloatArray:
    out = np.empty((*mixture.all_weights.shape, len(x)))
    for draws, rows in mixture.blocks(len(x)):
        out[draws, :, rows] = mixture[draws].responsibilities(x[rows])
    return out
