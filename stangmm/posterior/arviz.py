"""The way to ArviZ: InferenceData, R-hat and ESS, importance weights, summaries of a fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stangmm.base.arrays import FloatArray
from stangmm.methods.draws import McmcInfo, VariationalInfo
from stangmm.posterior.fitted import Fitted
from stangmm.predict.averages import log_density_draws, replicated

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from arviz import InferenceData


PARAMETERS = ["weights", "means", "scales"]


def arviz() -> ModuleType:
    """Import ArviZ without the announcement that it shows once a day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


def inference_data(
    fit: Fitted, *, log_likelihood: bool = True, posterior_predictive: bool = False
) -> InferenceData:
    """Groups posterior, observed_data, and as far as there is such a thing the others.

    These are log_likelihood, posterior_predictive (see `stangmm.predict.averages.replicated`),
    sample_stats (chains) and constant_data (sample weights and known labels).
    """
    az = arviz()
    xr_module = _xarray()
    rows = np.arange(fit.dataset.n_observations)
    c, s = fit.lp.shape
    groups: dict[str, Any] = {
        "posterior": fit.posterior,
        "observed_data": xr_module.Dataset(
            {"x": (("row", "feature"), fit.dataset.x)},
            coords={"row": rows, "feature": list(fit.dataset.feature_names)},
        ),
    }
    if log_likelihood:
        groups["log_likelihood"] = log_likelihood_data(fit, slice(0, len(rows)))["log_likelihood"]
    if posterior_predictive:
        draws, x = replicated(fit.shaped, len(rows), np.random.default_rng(fit.seed))
        groups["posterior_predictive"] = xr_module.Dataset(
            {"x": (("chain", "draw", "row", "feature"), x)},
            coords={
                "chain": np.arange(c),
                "draw": draws,
                "row": rows,
                "feature": list(fit.dataset.feature_names),
            },
        )
    given = {name: getattr(fit.dataset, name) for name in ("sample_weight", "labels")}
    constants = {name: ("row", values) for name, values in given.items() if values is not None}
    if constants:
        groups["constant_data"] = xr_module.Dataset(constants, coords={"row": rows})
    stats = _sample_stats(fit)
    if stats:
        groups["sample_stats"] = xr_module.Dataset(
            {name: (("chain", "draw"), values) for name, values in stats.items()},
            coords={"chain": np.arange(c), "draw": np.arange(s)},
        )
    data: InferenceData = az.InferenceData(**groups)
    return data


def log_likelihood_data(fit: Fitted, rows: slice) -> InferenceData:
    """Groups posterior and log_likelihood, the latter of some of the rows."""
    x, labels = fit.dataset.x[rows], fit.dataset.labels
    known = None if labels is None else labels[rows]
    each = log_density_draws(fit.mixture, x, known).reshape(*fit.lp.shape, -1)
    group = _xarray().Dataset(
        {"x": (("chain", "draw", "row"), each)},
        coords={name: fit.posterior[name].values for name in ("chain", "draw")}
        | {"row": np.arange(rows.start, rows.stop)},
    )
    data: InferenceData = arviz().InferenceData(posterior=fit.posterior, log_likelihood=group)
    return data


def convergence(fit: Fitted) -> dict[str, float]:
    """Worst rank-normalized R-hat and smallest bulk and tail ESS over parameters and lp.

    Vehtari et al. 2021 (doi:10.1214/20-BA1221). NaN where there are too few chains or draws.
    """
    return _convergence(fit.posterior[[*PARAMETERS, "lp"]])


def convergence_of(quantities: Mapping[str, FloatArray]) -> dict[str, float]:
    """As `convergence`, for arrays of shape (chain, draw, ...)."""
    return _convergence(arviz().convert_to_dataset(dict(quantities)))


def _convergence(quantities: xr.Dataset) -> dict[str, float]:
    az = arviz()
    chains, draws = quantities.sizes["chain"], quantities.sizes["draw"]
    if draws < 4:
        return dict.fromkeys(("r_hat", "ess_bulk", "ess_tail"), float("nan"))
    with _constants_allowed():
        return {
            "r_hat": _extreme(az.rhat(quantities), np.max) if chains > 1 else float("nan"),
            "ess_bulk": _extreme(az.ess(quantities, method="bulk"), np.min),
            "ess_tail": _extreme(az.ess(quantities, method="tail"), np.min),
        }


def e_bfmi(info: McmcInfo) -> FloatArray:
    """Energy Bayesian fraction of missing information of each chain, shape (C,)."""
    return np.asarray(arviz().bfmi(np.asarray(info.sample_stats["energy"])))


def pareto_k(info: VariationalInfo) -> float:
    """PSIS k-hat of an approximation (Yao et al. 2018, doi:10.48550/arXiv.1802.02538)."""
    return importance_weights(info)[1]


def importance_weights(info: VariationalInfo) -> tuple[FloatArray, float]:
    """Pareto-smoothed weights (S,) of an approximation's draws, and their k-hat.

    The weights sum to 1; k-hat is infinite where a density is no number.
    """
    log_ratios = info.log_p - info.log_q
    if not np.isfinite(log_ratios).all():
        return np.full(len(log_ratios), 1.0 / len(log_ratios)), float("inf")
    log_weights, k = arviz().psislw(log_ratios - log_ratios.max())
    weights = np.exp(np.asarray(log_weights))
    return weights / weights.sum(), float(k)


def summary(fit: Fitted) -> pd.DataFrame:
    """Table of the parameters, a row each."""
    import pandas as pd

    columns: dict[str, list[float]] = {"mean": [], "sd": [], "q5": [], "q95": []}
    labels: list[str] = []
    for name in PARAMETERS:
        array = fit.posterior[name]
        for index in np.ndindex(*array.shape[2:]):
            draws = array.values[(slice(None), slice(None), *index)]
            coords = [
                array.coords[dim].values[i] for dim, i in zip(array.dims[2:], index, strict=True)
            ]
            labels.append(f"{name}[{', '.join(map(str, coords))}]")
            columns["mean"].append(float(draws.mean()))
            columns["sd"].append(float(draws.std(ddof=1)) if draws.size > 1 else np.nan)
            low, high = np.quantile(draws, [0.05, 0.95]) if draws.size > 1 else (np.nan, np.nan)
            columns["q5"].append(float(low))
            columns["q95"].append(float(high))
    table = pd.DataFrame(columns, index=pd.Index(labels, name="parameter"))
    chains, draws = fit.lp.shape
    if fit.kind == "mcmc" and draws >= 4:
        az = arviz()
        posterior = fit.posterior[PARAMETERS]
        with _constants_allowed():
            measures = {
                "mcse": az.mcse(posterior),
                "ess_bulk": az.ess(posterior, method="bulk"),
                "ess_tail": az.ess(posterior, method="tail"),
            }
            if chains > 1:
                measures["r_hat"] = az.rhat(posterior)
        for label, values in measures.items():
            table[label] = np.concatenate([values[name].values.ravel() for name in PARAMETERS])
    return table


def _sample_stats(fit: Fitted) -> dict[str, NDArray[Any]]:
    if not isinstance(fit.info, McmcInfo):
        return {}
    return {
        name: values.astype(bool) if name == "diverging" else values
        for name, values in fit.info.sample_stats.items()
    }


def _constants_allowed() -> np.errstate:
    """The weight of a single component is 1 in every draw: its R-hat is 0 / 0, and no news."""
    return np.errstate(invalid="ignore", divide="ignore")


def _extreme(values: xr.Dataset, function: Any) -> float:
    flat = np.concatenate([np.ravel(v.values) for v in values.data_vars.values()])
    flat = flat[np.isfinite(flat)]  # constants (a single weight, a shared scale) have none
    return float(function(flat)) if flat.size else float("nan")


def _xarray() -> ModuleType:
    import xarray

    return xarray
