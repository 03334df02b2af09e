"""Labelling: what relabelling did, and whether the components can be told apart at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.base.thresholds import EXCHANGED_OK
from stangmm.model.mixture import Mixture
from stangmm.posterior.fitted import Fitted, once
from stangmm.posterior.relabel import exchange_probabilities
from stangmm.posterior.summary import PARAMETERS, convergence_of, measures_of, worst

if TYPE_CHECKING:
    import pandas as pd

_MOST = 0.5  # share of the draws


@dataclass(frozen=True, eq=False)
class Labelling:
    """How far the components' labels can be trusted; made by `Fit.labelling`.

    Attributes
    ----------
    fit : Fit
    permuted : float
        Share of the draws whose components were reordered differently from those of most draws.
    exchange : ndarray, shape (K, K)
        Probability, averaged over the draws, that two components could be exchanged;
        see `stangmm.posterior.relabel.exchange_probabilities`. Zero where no labels are in doubt:
        for components that data or priors name, and for two that hold no row in most draws, since
        both follow the prior.
    """

    fit: Fitted
    permuted: float
    exchange: FloatArray

    @cached_property
    def table(self) -> pd.DataFrame:
        """Worst R-hat and smallest bulk and tail ESS, before and after, and without labels.

        Of the parameters as drawn, of the parameters after relabelling, and of what no labelling
        changes: the log joint density (lp), the log likelihood, the sorted weights. NaN without
        chains.
        """
        import pandas as pd

        fit = self.fit
        rows = {
            "parameters, as drawn": convergence_of(_parameters(fit.drawn)),
            "parameters, relabelled": worst([measures_of(fit)[name] for name in PARAMETERS]),
            "lp": worst([measures_of(fit)["lp"]]),
            "log likelihood": convergence_of({"log_likelihood": fit.total_log_likelihood}),
            "sorted weights": convergence_of({"weights": np.sort(fit.shaped.weights, axis=-1)}),
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def least_settled(self) -> tuple[int, int]:
        """The pair of free components that is hardest to tell apart (0 and 0 if there is none)."""
        pairs = list(combinations(self.fit.free_components.tolist(), 2))
        return max(pairs, key=lambda pair: self.exchange[pair], default=(0, 0))

    @property
    def settled(self) -> bool:
        """Whether all components can be told apart in nearly all draws."""
        return bool(self.exchange.max() <= EXCHANGED_OK)

    @property
    def label_free(self) -> dict[str, float]:
        """Worst R-hat and smallest ESS of what no labelling changes."""
        rows = self.table.loc[["lp", "log likelihood", "sorted weights"]]
        return {
            "r_hat": float(rows["r_hat"].max()),
            "ess_bulk": float(rows["ess_bulk"].min()),
            "ess_tail": float(rows["ess_tail"].min()),
        }

    def __str__(self) -> str:
        """Words and the table."""
        i, j = self.least_settled
        relabelling = self.fit.relabelling
        how = "labels as drawn" if relabelling is None else f'relabel="{relabelling}"'
        words = f"{how}: {self.permuted:.1%} of the draws were permuted. "
        if self.settled:
            words += "The components can be told apart."
        else:
            words += (
                f"Components {i} and {j} cannot be told apart: averaged over the draws, the "
                f"probability that they could be exchanged is {self.exchange[i, j]:.2f}. Their "
                "means and intervals are a blend of both; densities, predictions and sorted "
                "weights are not."
            )
        return f"{words}\n{self.table.to_string(float_format='{:.4g}'.format)}"

    __repr__ = __str__


@once
def labelling_of(fit: Fitted) -> Labelling:
    """Judge the labelling of a fit."""
    _, counts = np.unique(
        fit.permutations.reshape(-1, fit.model.n_components), axis=0, return_counts=True
    )
    permuted = float(1.0 - counts.max() / counts.sum())
    fixed = np.setdiff1d(np.arange(fit.model.n_components), fit.free_components)
    exchange = exchange_probabilities(fit.mixture)
    exchange[fixed] = exchange[:, fixed] = 0.0  # data or priors name these components
    exchange[np.ix_(*2 * [mostly_empty(fit)])] = 0.0
    return Labelling(fit, permuted, exchange)


def mostly_empty(fit: Fitted) -> BoolArray:
    """Which components (K,) hold less than one row in most draws."""
    rows = fit.mixture.weights * fit.dataset.total_weight
    return np.asarray((rows < 1.0).mean(axis=0) > _MOST)


def _parameters(mixture: Mixture) -> dict[str, FloatArray]:
    return {name: getattr(mixture, name) for name in PARAMETERS}
