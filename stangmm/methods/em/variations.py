"""Variations of optima: what chance makes of one, or of two.

With many features, or many components, optima are hundreds, and the best ones differ in few rows or
in few components. From such a one to the next it is a smaller step than from a fresh start.
"""

from __future__ import annotations

import numpy as np

from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.starts import Starter, without_noise
from stangmm.model.labels import assign

_TEMPERATURES = (30.0, 10.0)  # nats


def shaken(starter: Starter, best: EMParameters, n_starts: int) -> EMParameters:
    """Mixtures from the best one's classification, in which rows have changed their components.

    With many features a component fits the very rows that it holds, and hundreds of optima differ
    in a few of them. A row changes easily where its log odds are below the temperature.
    """
    log_share = np.log(np.maximum(starter.responsibilities(best), 1e-300)).round(6)
    partitions = []
    for i in range(n_starts):
        noise = starter.rng.gumbel(size=log_share.shape)
        z = (log_share / _TEMPERATURES[i % len(_TEMPERATURES)] + noise).argmax(axis=0)
        z = without_noise(z, starter.space)
        partitions.append(np.where(starter.labels >= 0, starter.labels, z))
    return starter.moments(partitions)


def crossed(starter: Starter, parents: EMParameters, n_starts: int) -> EMParameters:
    """Mixtures that have some components of one optimum and the others of another.

    Components that hold most rows in common take each other's place, as in the crossover of Gribel
    & Vidal (2019, doi:10.1016/j.patcog.2018.12.022). One optimum may have found what the other has
    missed, and the other way round.

    Parameters
    ----------
    starter : Starter
    parents : EMParameters
        Two optima or more, with leading axis R.
    n_starts : int
    """
    n, k = parents.weights.shape
    rows = [starter.classified(parents[np.array([i])]) for i in range(n)]
    held = np.stack([z[:, np.newaxis] == np.arange(k) for z in rows]).astype(np.float64)
    children = []
    for _ in range(n_starts):
        one, other = starter.rng.choice(n, 2, replace=False)
        common = held[one].T @ held[other]
        match = np.arange(k) if starter.known else assign(common[np.newaxis])[0]
        taken = starter.rng.permutation(k) < starter.rng.integers(1, k)  # from the other
        source = parents[np.where(taken, other, one)]
        place, kept = np.where(taken, match, np.arange(k)), np.arange(k)
        weights = source.weights[kept, place]
        shared = parents.covariances.shape[1] == 1
        covariances = parents.covariances[one] if shared else source.covariances[kept, place]
        weights *= parents.weights[one].sum() / weights.sum()
        children.append((weights, source.means[kept, place], covariances))
    stacked = (np.stack(arrays) for arrays in zip(*children, strict=True))
    return starter.space.bounded(EMParameters(*stacked))
