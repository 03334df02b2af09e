"""The way to ArviZ, 0.23 or 1: the groups of its schema, and the object that holds them.

ArviZ 1 works on xarray's DataTree, earlier versions on their own InferenceData. Nothing else in the
package knows which of them is installed.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stangmm.base.arrays import FloatArray
from stangmm.methods.draws import McmcInfo
from stangmm.posterior.fitted import Fitted
from stangmm.predict.averages import replicated

if TYPE_CHECKING:
    import xarray as xr
    from arviz import ELPDData, InferenceData

    ArvizData: TypeAlias = "InferenceData | xr.DataTree"


def arviz() -> ModuleType:
    """Import ArviZ without the announcement that it shows once a day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


def arviz_data(fit: Fitted) -> ArvizData:
    """All `groups` of a fit as the installed ArviZ takes them."""
    az, made = arviz(), groups(fit, posterior_predictive=True)
    if "InferenceData" in vars(az):
        data: ArvizData = az.InferenceData(**made)
        return data
    import xarray as xr

    return xr.DataTree.from_dict(made)


def elpd_data(
    *,
    elpd: float,
    se: float,
    p: float,
    elpd_i: FloatArray,
    pareto_k: FloatArray,
    good_k: float,
    n_samples: int,
    warning: bool,
) -> ELPDData:
    """ArviZ's own result of LOO; `stangmm.judge.elpd.Loo` has the names."""
    import xarray as xr

    az, rows = arviz(), np.arange(len(elpd_i))
    values = {
        "elpd": elpd,
        "se": se,
        "p": p,
        "n_samples": n_samples,
        "n_data_points": len(rows),
        "warning": warning,
        "elpd_i": xr.DataArray(elpd_i, dims="row", coords={"row": rows}),
        "pareto_k": xr.DataArray(pareto_k, dims="row", coords={"row": rows}, name="pareto_shape"),
        "scale": "log",
        "good_k": good_k,
    }
    if "InferenceData" not in vars(az):
        from arviz_stats.utils import ELPDDataLOO

        result: ELPDData = ELPDDataLOO(**values)
        return result
    older = {"elpd": "elpd_loo", "p": "p_loo", "elpd_i": "loo_i"}
    names = [older.get(name, name) for name in values]
    data: ELPDData = az.ELPDData(data=list(values.values()), index=names)
    return data


def groups(
    fit: Fitted, *, log_likelihood: bool = True, posterior_predictive: bool = False
) -> dict[str, xr.Dataset]:
    """Groups posterior, observed_data, and as far as there is such a thing the others.

    These are log_likelihood, posterior_predictive (see `stangmm.predict.averages.replicated`),
    sample_stats (chains) and constant_data (sample weights and known labels).
    """
    import xarray as xr

    rows = np.arange(fit.dataset.n_observations)
    c, s = fit.lp.shape
    made = {
        "posterior": fit.posterior,
        "observed_data": xr.Dataset(
            {"x": (("row", "feature"), fit.dataset.x)},
            coords={"row": rows, "feature": list(fit.dataset.feature_names)},
        ),
    }
    if log_likelihood:
        each = fit.log_likelihood().reshape(c, s, -1)
        made["log_likelihood"] = xr.Dataset(
            {"x": (("chain", "draw", "row"), each)},
            coords={"chain": np.arange(c), "draw": np.arange(s), "row": rows},
        )
    if posterior_predictive:
        draws, x = replicated(fit.shaped, len(rows), np.random.default_rng(fit.seed))
        made["posterior_predictive"] = xr.Dataset(
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
        made["constant_data"] = xr.Dataset(constants, coords={"row": rows})
    stats = _sample_stats(fit)
    if stats:
        made["sample_stats"] = xr.Dataset(
            {name: (("chain", "draw"), values) for name, values in stats.items()},
            coords={"chain": np.arange(c), "draw": np.arange(s)},
        )
    return made


def _sample_stats(fit: Fitted) -> dict[str, NDArray[Any]]:
    if not isinstance(fit.info, McmcInfo):
        return {}
    return {
        name: values.astype(bool) if name == "diverging" else values
        for name, values in fit.info.sample_stats.items()
    }
