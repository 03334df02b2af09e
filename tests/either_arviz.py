"""ArviZ as it is installed, 0.23 or 1: what tests ask of it, under one set of names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr

from stangmm.posterior.arviz import arviz

az = arviz()
IS_OLDER = "InferenceData" in vars(az)


def group_names(data: Any) -> set[str]:
    """Groups of InferenceData or of a DataTree."""
    return set(data.groups() if IS_OLDER else data.children)


def group(data: Any, name: str) -> xr.Dataset:
    """One group as a Dataset."""
    return data[name] if IS_OLDER else data[name].to_dataset()


def from_dict(**groups: Any) -> Any:
    """ArviZ's data of plain arrays by group and name."""
    return az.from_dict(**groups) if IS_OLDER else az.from_dict(groups)


def loo(data: Any) -> Any:
    """ArviZ's leave-one-out, with the names of version 1 and the standard error of 0.23."""
    result = az.loo(data, pointwise=True)
    if not IS_OLDER:
        n = result.n_data_points
        return replace(result, se=result.se * np.sqrt((n - 1) / n))  # it divides by n - 1
    older = {"elpd": "elpd_loo", "p": "p_loo", "elpd_i": "loo_i"}
    names = ["elpd", "p", "elpd_i", "se", "pareto_k", "good_k", "n_samples", "warning"]
    return SimpleNamespace(**{name: result[older.get(name, name)] for name in names})


def psislw(log_ratios: np.ndarray, efficiency: float) -> tuple[np.ndarray, np.ndarray]:
    """ArviZ's smoothed log weights of log ratios (N, S), and k."""
    if IS_OLDER:
        with np.errstate(over="ignore"):
            return az.psislw(log_ratios, efficiency)
    from arviz_stats.base import array_stats

    return array_stats.psislw(-log_ratios, r_eff=efficiency)


def from_netcdf(path: Path, place: str) -> Any:
    """Open the groups under one group of a file, as the documentation says."""
    if IS_OLDER:
        return az.InferenceData.from_netcdf(str(path), base_group=place)
    return az.from_netcdf(path, group=place)


def figure_of(drawn: Any) -> Any:
    """The figure that one of ArviZ's plots is in."""
    return np.ravel(drawn)[0].figure if IS_OLDER else drawn.viz["figure"].item()
