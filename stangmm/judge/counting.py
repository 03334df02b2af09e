"""Counting: free parameters beside rows, and pairs of features beside the rows that have both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stangmm.base.thresholds import ROWS_PER_CORRELATION
from stangmm.model.covariance import STRUCTURES
from stangmm.model.priors import Priors
from stangmm.posterior.fitted import Fitted


def parameters_words(fit: Fitted) -> str:
    """How many free parameters there are for how many rows, and what would about halve them."""
    d, kind = fit.dataset.n_features, fit.model.covariance_type
    own = fit.model.n_parameters(d)
    words = f"The model has {own:,} free parameters for {fit.dataset.total_weight:,.6g} rows"
    others = {
        name: replace(fit.model, covariance_type=name, priors=Priors()).n_parameters(d)
        for name, structure in STRUCTURES.items()
        if name != kind and not structure.em_only
    }
    fewer = {name: number for name, number in others.items() if number < own}
    if not fewer:
        return f"{words}, and no covariance_type has fewer."
    name = min(fewer, key=lambda each: abs(np.log(2.0 * fewer[each] / own)))
    return f'{words}; covariance_type="{name}" has {fewer[name]:,}.'


def pairs_hardly_together(fit: Fitted) -> list[tuple[int, int]]:
    """Pairs of features whose correlation the data hardly know: few rows have both.

    Empty where no correlations are free, and where no value is missing.
    """
    data = fit.dataset
    free = fit.model.space(data.n_features).n_correlations
    if not free or not data.incomplete:
        return []
    seen = (~np.isnan(data.x)).astype(float)
    weight = np.ones(len(seen)) if data.sample_weight is None else data.sample_weight
    together = (seen * weight[:, np.newaxis]).T @ seen
    few = np.tril(together < ROWS_PER_CORRELATION * free, -1)
    return [(int(j), int(i)) for i, j in np.argwhere(few)]
