"""Chains grouped by the mode that they are in, told apart without labels."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import connected_components

from stangmm.base.arrays import FloatArray
from stangmm.base.thresholds import MODES_APART
from stangmm.posterior.fitted import Fitted, once
from stangmm.posterior.relabel import representative_rows

_ROWS = 20  # whose pairs are asked whether they belong together
_SMALLEST_SD = 0.05  # of such a probability: smaller differences are no other mode


@once
def group_chains(fit: Fitted) -> tuple[tuple[int, ...], ...]:
    """Chains by mode, the mode of highest mean log joint density first."""
    n_chains = fit.lp.shape[0]
    if n_chains == 1:
        return ((0,),)
    means, variances = _label_free(fit)
    gap = np.abs(means[:, np.newaxis] - means)
    sd = np.sqrt(0.5 * (variances[:, np.newaxis] + variances))
    near = np.asarray((gap <= MODES_APART * sd).all(axis=-1))
    n_modes, mode = connected_components(near, directed=False)
    groups = [np.flatnonzero(mode == i) for i in range(n_modes)]
    groups.sort(key=lambda chains: -float(fit.lp[chains].mean()))
    return tuple(tuple(int(c) for c in chains) for chains in groups)


def _label_free(fit: Fitted) -> tuple[FloatArray, FloatArray]:
    """Means and variances (C, Q), chain by chain, of quantities that no relabelling changes.

    The log joint density, the log likelihood, the sorted weights, and for pairs of rows the
    probability that both belong to one component: what a mode is, is who belongs together.
    """
    pivot = fit.mixture[int(np.argmax(fit.lp))]
    rows = representative_rows(pivot, fit.dataset.x, _ROWS, fit.dataset.sample_weight)
    i, j = np.triu_indices(len(rows), 1)
    means, variances = [], []
    for chain in range(fit.lp.shape[0]):
        mixture = fit.shaped[chain]
        columns = [fit.lp[chain], fit.total_log_likelihood[chain], *np.sort(mixture.weights).T]
        responsibility = mixture.responsibilities(rows)
        together = np.einsum("skn,skm->snm", responsibility, responsibility)[:, i, j]
        means.append([*(c.mean() for c in columns), *together.mean(axis=0)])
        spread = np.maximum(together.var(axis=0), _SMALLEST_SD**2)
        variances.append([*(c.var() for c in columns), *spread])
    return np.array(means), np.array(variances)
