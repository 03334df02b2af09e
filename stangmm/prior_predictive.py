"""Data drawn from the prior: what a model considers possible before it has seen the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.data.dataset import Dataset
from stangmm.model.mixture import Mixture
from stangmm.model.priors import ResolvedPriors
from stangmm.model.spec import MixtureSpec
from stangmm.predict import averages as predict

if TYPE_CHECKING:
    from stangmm.plots import PriorPlots


@dataclass(frozen=True, eq=False)
class PriorPredictive:
    """Data sets from the prior; made by `GaussianMixture.prior_predictive`.

    Attributes
    ----------
    x : ndarray, shape (n, N, D)
        The data sets, each as many rows as the data.
    mixtures : Mixture
        Batch of shape (n,): the mixture that each data set comes from.
    dataset : Dataset
        The data, to compare with.
    priors : ResolvedPriors
        The priors with full shapes; defaults are scaled by the data.
    """

    x: FloatArray
    mixtures: Mixture
    dataset: Dataset
    priors: ResolvedPriors

    @property
    def plot(self) -> PriorPlots:
        """The picture: ``drawn.plot.densities()``, or ``drawn.plot()``."""
        from stangmm.plots import PriorPlots

        return PriorPlots(self)


def prior_predictive(
    model: MixtureSpec, dataset: Dataset, n: int, rng: np.random.Generator
) -> PriorPredictive:
    """Draw n mixtures from the prior, and from each as many rows as the data have."""
    priors = model.priors.resolve(dataset, model.structure, model.n_components, model.noise)
    mixtures = priors.draw(n, model.structure, rng)
    rows = dataset.n_observations
    x = np.stack([predict.sample(mixtures[i : i + 1], rows, rng)[0] for i in range(n)])
    return PriorPredictive(x, mixtures, dataset, priors)
