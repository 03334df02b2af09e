"""Problems for model_driver.cpp: data and parameters of the mixture model, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stangmm.data.groups import RowGroup, group_rows
from stangmm.methods.stan.data import group_data


def write_variables(path: Path, variables: dict[str, Any]) -> Path:
    """Write Stan variables in the format that model_driver.cpp reads."""
    lines = []
    for name, value in variables.items():
        array = np.asarray(value)
        kind = "int" if array.dtype.kind in "iu" else "real"
        words = [name, kind, array.ndim, *array.shape, *map(repr, array.ravel("F").tolist())]
        lines.append(" ".join(map(str, words)))
    path.write_text("\n".join(lines) + "\n")
    return path


def mixture_problem(
    n: int,
    d: int,
    k: int,
    covariance_type: str,
    *,
    seed: int = 1,
    missing: float = 0.0,
    noise: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw a mixture and data from it, of which a share of the values is missing.

    With noise, the model has a uniform component of a twentieth of the weight.

    Returns
    -------
    data : dict
        The data block of gaussian_mixture.stan, with weak priors.
    parameters : dict
        The parameters block at the truth, slightly off; scales for programs without bounds, too.
    """
    rng = np.random.default_rng(seed)
    components = 1 if covariance_type in ("tied", "tied_diag", "tied_spherical") else k
    features = 1 if covariance_type.endswith("spherical") else d
    free = {"full": k, "tied": 1, "tied_correlation": 1}
    correlations = free.get(covariance_type, 0) if d > 1 else 0
    means = rng.normal(0, 2, (k, d))
    scales = rng.uniform(0.5, 1.5, (components, features))
    chol = np.tril(rng.normal(0, 0.3 / np.sqrt(d), (correlations, d, d)), -1) + np.eye(d)
    chol /= np.sqrt((chol**2).sum(axis=2, keepdims=True))
    weights = rng.dirichlet(np.full(k, 20.0))
    z = rng.choice(k, size=n, p=weights)
    steps = rng.normal(size=(n, d))
    if correlations:
        steps = np.einsum("nij,nj->ni", chol[np.minimum(z, correlations - 1)], steps)
    x = means[z] + scales[np.minimum(z, components - 1)] * steps
    log_density = -np.log(np.ptp(x, axis=0)) if noise else np.empty(0)
    groups: tuple[RowGroup, ...] = ()
    if missing:
        x[rng.random(x.shape) < missing] = np.nan
        order, groups = group_rows(x)
        x = np.nan_to_num(x[order])
    data = {
        "N": n,
        "D": d,
        "K": k,
        "x": x,
        "n_sample_weights": 0,
        "sample_weight": np.empty(0),
        **group_data(groups, d),
        "noise": int(noise),
        "noise_log_density": log_density,
        "scale_components": components,
        "scale_features": features,
        "n_correlations": correlations,
        "weights_concentration": np.ones(k + noise),
        "means_location": np.zeros((k, d)),
        "means_scale": np.full((k, d), 5.0),
        "scale_family": 1,
        "scale_shape": np.zeros((components, features)),
        "scale_scale": np.full((components, features), 2.5),
        "scale_floor": np.zeros(features),
        "correlation_shape": 2.0,
        "use_prior": 1,
        "use_likelihood": 1,
    }
    at = scales * rng.uniform(0.9, 1.1, scales.shape)
    parameters = {
        "weights": np.append(0.95 * weights, 0.05) if noise else weights,
        "means": means + 0.1 * rng.normal(size=(k, d)),
        "excess": at,
        "scales": at,
        "corr_chol": chol,
    }
    return data, parameters
