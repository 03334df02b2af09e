"""Membership: each row's component, how sure it is, how unusual; how clear the classes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.thresholds import OUTLIER_TAIL
from stangmm.data.dataset import Dataset
from stangmm.posterior.fitted import Fitted, once
from stangmm.predict import averages as predict

if TYPE_CHECKING:
    import pandas as pd

_INTERVAL = 0.9
_DRAWS = 200  # over which classes are judged


@dataclass(frozen=True)
class Classes:
    """How clearly rows belong to components.

    Attributes
    ----------
    entropy : float
        Relative entropy: 1 where every row surely belongs to one component, 0 where all are
        equally probable (Ramaswamy et al. 1993, doi:10.1287/mksc.12.1.103); NaN for one component.
        Noise counts as one.
    smallest_rows : float
        Rows, by sample weight, that are most probably of the component that has fewest of them.
    smallest_share : float
        The same as a share of all rows.
    """

    entropy: float
    smallest_rows: float
    smallest_share: float


@once
def classes_of(fit: Fitted) -> Classes:
    """Say how clearly rows belong to components; the probabilities are posterior means."""
    k, total = fit.model.n_components, fit.dataset.total_weight
    probability = probabilities_of(fit)
    weight = fit.dataset.sample_weight
    several = probability.shape[1]
    counts = np.bincount(probability.argmax(axis=1), weight, minlength=several).astype(float)[:k]
    counts *= fit.dataset.n_rows / fit.dataset.n_observations  # for a sample of them
    surprise = -np.log(np.where(probability > 0, probability, 1.0))
    doubt = float(np.average((probability * surprise).sum(axis=1), weights=weight))
    return Classes(
        entropy=1.0 - doubt / float(np.log(several)) if several > 1 else float("nan"),
        smallest_rows=float(counts.min()),
        smallest_share=float(counts.min()) / total,
    )


def probabilities_of(fit: Fitted) -> FloatArray:
    """Posterior mean of P(z = k | x) of the data's rows, shape (N, K), over 200 draws at most."""
    some = predict.thinned(fit.mixture, _DRAWS)
    return _known(fit, predict.responsibilities(some, fit.dataset.x))


def row_index(dataset: Dataset) -> pd.Index:
    """Index of a table with a line for each row: that of the user's table, or the rows counted."""
    import pandas as pd

    own: pd.Index | None = dataset.index
    return pd.RangeIndex(dataset.n_observations, name="row") if own is None else own


def rows_of(fit: Fitted, *, progress: bool = True) -> pd.DataFrame:
    """Give a table of the rows; see `Fit.rows`."""
    import pandas as pd

    x = fit.dataset.x
    several = len(fit.mixture.weights) > 1
    band = predict.responsibility_band(fit.mixture, x, _INTERVAL, progress=progress)
    mean, low, high = (_known(fit, np.asarray(each)) for each in band)
    own = np.arange(len(x)), mean.argmax(axis=1)
    component = predict.most_probable(mean, fit.model.n_components)
    rng = np.random.default_rng(fit.seed)
    tail = predict.outlier_score(fit.mixture, x, rng, progress=progress).tail_probability
    columns = {"component": component, "probability": mean[own]}
    if several:
        columns |= {"q5": low[own], "q95": high[own]}
    columns |= {"tail_probability": tail, "outlier": tail < OUTLIER_TAIL}
    return pd.DataFrame(columns, index=row_index(fit.dataset))


def _known(fit: Fitted, probability: FloatArray) -> FloatArray:
    """Probabilities (N, K or K + 1) with those of rows of known component set to what is known."""
    labels = fit.dataset.labels
    if labels is None:
        return probability
    given = labels >= 0
    probability = probability.copy()
    probability[given] = np.eye(probability.shape[1])[labels[given]]
    return probability
