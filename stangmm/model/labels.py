"""Which component is which: permutations of components, and a rule for one mixture at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.model.mixture import Mixture

_MAX_SWEEPS = 10  # of the labelling rule
_FEW = 4  # components, of which all permutations are tried at once


def among(free: IntArray, permutation: IntArray, n_components: int) -> IntArray:
    """A permutation (..., F) of some components, all others left where they are; (..., K)."""
    whole = np.empty((*permutation.shape[:-1], n_components), dtype=int)
    whole[...] = np.arange(n_components)
    whole[..., free] = free[permutation]
    return whole


def traits(mixture: Mixture) -> FloatArray:
    """What tells components apart: log weight, means, log scales; shape (S, K, 1 + 2 D)."""
    log_weights = np.log(np.maximum(mixture.weights, np.finfo(float).tiny))
    parts = (log_weights[..., np.newaxis], mixture.means, np.log(mixture.scales))
    return np.concatenate(parts, axis=-1)


def assign(agreement: FloatArray) -> IntArray:
    """Best permutations for agreements (S, K, K) of new component k with old component l."""
    k = agreement.shape[-1]
    if k <= _FEW:
        orders = np.array(list(permutations(range(k))))
        totals = [agreement[:, np.arange(k), order].sum(axis=1) for order in orders]
        return np.asarray(orders[np.argmax(totals, axis=0)])
    from scipy.optimize import linear_sum_assignment  # slow to import

    return np.stack([linear_sum_assignment(a, maximize=True)[1] for a in agreement])


@dataclass(frozen=True, eq=False)
class Labelling:
    """Which labelling of a mixture is meant: that whose free components fit best into F slots.

    A slot is a normal distribution, with independent coordinates, of a component's log weight,
    means and log scales. Any rule that looks at one mixture at a time gives the right integral;
    one that cuts where the posterior has little mass gives it with the smallest error.
    """

    center: FloatArray  # (F, T) for T traits
    sd: FloatArray  # (F, T)
    free: IntArray  # (F,), the components whose labels are exchanged

    @classmethod
    def of(cls, mixture: Mixture, pivot: int, free: IntArray) -> Labelling:
        """Fit slots to draws (S,), by turns with the draws' labels; start at the draw ``pivot``."""
        each = traits(mixture)[:, free]
        everywhere = np.broadcast_to(each.std(axis=(0, 1)), each.shape[1:])
        rule = cls(each[pivot], everywhere, free)
        labels: IntArray | None = None
        for _ in range(_MAX_SWEEPS):
            before, labels = labels, rule.permutations(mixture)
            if before is not None and (labels == before).all():
                break
            each = traits(mixture.permute(labels))[:, free]
            rule = cls(each.mean(axis=0), each.std(axis=0), free)
        return rule

    def permutations(self, mixture: Mixture) -> IntArray:
        """Permutations (S, K) that bring draws (S,) to the labelling that is meant."""
        each = traits(mixture)[:, self.free]
        precision = 1.0 / self.sd**2
        squared = each**2 @ precision.T - 2.0 * each @ (self.center * precision).T
        constant = (self.center**2 * precision + 2.0 * np.log(self.sd)).sum(axis=-1)
        best = assign(-0.5 * np.swapaxes(squared + constant, -1, -2))
        return among(self.free, best, mixture.n_components)

    def relabelled(self, mixture: Mixture) -> Mixture:
        """The draws (S,) with the labelling that is meant."""
        return mixture.permute(self.permutations(mixture))

    def obeyed(self, mixture: Mixture) -> BoolArray:
        """Whether draws (S,) have the labelling that is meant."""
        same = self.permutations(mixture) == np.arange(mixture.n_components)
        return np.asarray(same.all(axis=-1))
