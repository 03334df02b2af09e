"""NUTS gives the posterior that NumPyro gives; see tests/references/README.md.

Published log likelihoods are in test_em.py and test_methods.py, scipy's densities in
test_density.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from either_arviz import az

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.model.covariance import structure_named

REFERENCES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "references").glob("*.json"))
}
COVARIANCE_TYPE = {"galaxies": "diag", "faithful": "full"}
# With fewer, neither the MCSE nor the normal law of the error can be relied on.
LEAST_ESS = 2_000
# 164 comparisons in all. Were they independent, one would pass 4 by chance in one seed of a
# hundred, and 3 in one seed of three. For a posterior mean, 4 is 3% to 7% of the posterior sd.
MOST_ERRORS = 4.0


@pytest.mark.parametrize("name", ["galaxies", "faithful"])
def test_the_default_priors_are_those_of_the_reference(name: str) -> None:
    model = REFERENCES[name]["model"]
    k = model["n_components"]
    structure = structure_named(COVARIANCE_TYPE[name])
    priors = sg.Priors().resolve(Dataset.from_input(getattr(sg.datasets, name)()), structure, k)
    assert isinstance(priors.scales, sg.HalfCauchy)
    for ours, theirs in [
        (priors.weights.concentration, [model["concentration"]] * k),
        (priors.means.location, [model["location"]] * k),
        (priors.means.scale, [model["width"]] * k),
        (priors.scales.scale, [model["scale"]] * k),
    ]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    if model["eta"] is not None:
        assert priors.correlation.shape == model["eta"]


@pytest.mark.stan
@pytest.mark.statistical
@pytest.mark.parametrize("name", ["galaxies", "faithful"])
def test_nuts_agrees_with_numpyro(name: str) -> None:
    reference = REFERENCES[name]
    model = sg.GaussianMixture(reference["model"]["n_components"], COVARIANCE_TYPE[name])
    settings = sg.NUTS(chains=4, draws=4000)
    fit = model.fit(getattr(sg.datasets, name)(), method=settings, seed=1, progress=False)
    ours = label_free(fit, np.array(reference["points"]))
    if name == "faithful":  # the components stand apart, and Fit sorts them by the first mean
        ours |= by_component(fit)
    assert set(ours) == set(reference["quantities"])
    off = {}
    for quantity, theirs in reference["quantities"].items():
        draws = ours[quantity]
        assert az.ess(draws, method="bulk") > LEAST_ESS, quantity
        for statistic, (value, error) in with_errors(draws).items():
            expected, its_error = theirs[statistic]
            off[quantity, statistic] = (value - expected) / np.hypot(error, its_error)
    worst = max(off, key=lambda comparison: abs(off[comparison]))
    assert abs(off[worst]) < MOST_ERRORS, f"{worst}: {off[worst]:.1f} standard errors"


def label_free(fit: sg.Fit, points: np.ndarray) -> dict[str, np.ndarray]:
    """Quantities that no relabelling touches, each (chains, draws), under the reference's names."""
    weights, means = fit.posterior["weights"].values, fit.posterior["means"].values
    scales, covariances = fit.posterior["scales"].values, fit.posterior["covariances"].values
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)
    mean = np.einsum("csk,cskd->csd", weights, means)
    variance = np.einsum("csk,cskd->csd", weights, variances + means**2) - mean**2
    return {"log_likelihood": fit.total_log_likelihood} | elements(
        {
            "sorted_weights": np.sort(weights, axis=-1),
            "mixture_mean": mean,
            "log_mixture_sd": 0.5 * np.log(variance),
            "log_density": fit.mixture.log_density(points).reshape(*fit.lp.shape, -1),
            "log_smallest_scale": np.log(scales.min(axis=-2)),
            "log_largest_scale": np.log(scales.max(axis=-2)),
        }
    )


def by_component(fit: sg.Fit) -> dict[str, np.ndarray]:
    covariances, scales = fit.posterior["covariances"].values, fit.posterior["scales"].values
    return elements(
        {
            "weights": fit.posterior["weights"].values,
            "means": fit.posterior["means"].values,
            "scales": scales,
            "correlations": covariances[..., 0, 1] / scales.prod(axis=-1),
        }
    )


def elements(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Split arrays (chains, draws, ...) into their elements, named by their index."""
    return {
        f"{name}{list(index)}": array[(..., *index)]
        for name, array in arrays.items()
        for index in np.ndindex(*array.shape[2:])
    }


def with_errors(draws: np.ndarray) -> dict[str, tuple[float, Any]]:
    """Statistics of draws (chains, draws), each with its Monte Carlo standard error."""
    low, high = np.quantile(draws, [0.05, 0.95])
    return {
        "mean": (draws.mean(), az.mcse(draws, method="mean")),
        "sd": (draws.std(), az.mcse(draws, method="sd")),
        "q5": (low, az.mcse(draws, method="quantile", prob=0.05)),
        "q95": (high, az.mcse(draws, method="quantile", prob=0.95)),
    }
