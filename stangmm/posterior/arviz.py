"""The way to ArviZ, 0.23 or 1: the groups of its schema, and the object that holds them.

ArviZ 1 works on xarray's DataTree, earlier versions on their own InferenceData. Nothing else in the
package knows which of them is installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.errors import ModelError
from stangmm.methods.base import Run
from stangmm.methods.draws import McmcInfo
from stangmm.model.joint import log_prior, log_priors
from stangmm.model.mixture import Mixture
from stangmm.posterior.fitted import Fitted, has_priors, with_axes
from stangmm.predict.averages import replicated

if TYPE_CHECKING:
    import xarray as xr
    from arviz import ELPDData, InferenceData

    ArvizData: TypeAlias = "InferenceData | xr.DataTree"
    Groups: TypeAlias = dict[str, xr.Dataset]

# Arrays by name, each with the names of its axes before it.
Values: TypeAlias = Mapping[str, tuple[tuple[str, ...], Any]]

_DRAWS = ("chain", "draw")
# The axis "component" by another name: ArviZ's psense_summary has a use of its own for that one.
_COMPONENT = "mixture_component"
_PRIOR_DRAWS = 1000
_IN_FILES = 100  # replicated data sets


def arviz() -> ModuleType:
    """Import ArviZ without the announcement that it shows once a day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


def arviz_data(fit: Fitted) -> ArvizData:
    """All `groups` of a fit as the installed ArviZ takes them."""
    az, made = arviz(), groups(fit)
    if "InferenceData" in vars(az):
        data: ArvizData = az.InferenceData(attrs=made["posterior"].attrs, **made)
        return data
    import xarray as xr

    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=made["posterior"].attrs), **made})


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
    subsampling_se: float,
    drawn: IntArray | None,
    approx_i: FloatArray | None,
) -> ELPDData:
    """ArviZ's own result of LOO; `stangmm.judge.elpd` has the names.

    Raises
    ------
    ModelError
        Rows were drawn, and ArviZ is older than 1.
    """
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
    if drawn is not None:
        values |= {
            "subsample_size": len(drawn),
            "subsampling_se": subsampling_se,
            "loo_subsample_observations": drawn,
            "elpd_loo_approx": xr.DataArray(approx_i, dims="row", coords={"row": rows}),
        }
    if "InferenceData" not in vars(az):
        from arviz_stats import utils

        name = "ELPDDataLOO" if drawn is None else "ELPDDataLOOSubsample"
        of_loo = getattr(utils, name, None)  # from 1.3 on
        result: ELPDData = of_loo(**values) if of_loo else utils.ELPDData(kind="loo", **values)
        return result
    if drawn is not None:
        raise ModelError(
            f"ArviZ {az.__version__} has no results of leave-one-out that visited only some rows. "
            f"Use ArviZ 1, or visit all rows: fit.loo(subsample={len(rows)})."
        )
    older = {"elpd": "elpd_loo", "p": "p_loo", "elpd_i": "loo_i"}
    names = [older.get(name, name) for name in values]
    data: ELPDData = az.ELPDData(data=list(values.values()), index=names)
    return data


def groups(fit: Fitted, *, for_file: bool = False, log_likelihood: bool = True) -> Groups:
    """The groups of ArviZ's schema that a fit has.

    Parameters
    ----------
    fit : Fitted
    for_file : bool
        Whether what a file can do without is left out: prior, prior_predictive,
        unconstrained_posterior, and all but a hundred data sets of posterior_predictive.
    log_likelihood : bool
        Whether there is a log_likelihood.

    Returns
    -------
    dict of str to Dataset
        posterior, posterior_predictive, observed_data, and as far as there is such a thing
        log_likelihood, constant_data (sample weights and known labels), unconstrained_posterior,
        sample_stats and the warm-up's (chains); prior, prior_predictive and log_prior where the
        priors were used.
    """
    data, most = fit.dataset, _IN_FILES if for_file else None
    rng = Run(fit.seed).rng("replicated data")
    made = {
        "posterior": fit.posterior,
        "posterior_predictive": _replicated(fit, fit.shaped, rng, most),
        "observed_data": _dataset(fit, {"x": _rows(data.x)}),
    }
    if log_likelihood:
        each = fit.log_likelihood().reshape(*fit.lp.shape, -1)
        made["log_likelihood"] = _dataset(fit, {"x": ((*_DRAWS, "row"), each)})
    given = {name: getattr(data, name) for name in ("sample_weight", "labels")}
    constants: Values = {
        name: (("row",), values) for name, values in given.items() if values is not None
    }
    if constants:
        made["constant_data"] = _dataset(fit, constants)
    if has_priors(fit):
        each_prior = log_priors(fit.shaped, fit.priors, fit.model.structure)
        made["log_prior"] = _dataset(fit, {name: (_DRAWS, v) for name, v in each_prior.items()})
    if has_priors(fit) and not for_file:
        rng = Run(fit.seed).rng("draws from the prior")
        drawn = fit.priors.draw(_PRIOR_DRAWS, fit.model.structure, rng).reshape(1, -1)
        made["prior"] = _dataset(fit, with_axes(drawn))
        made["prior_predictive"] = _replicated(fit, drawn, rng, _PRIOR_DRAWS)
    if not for_file:
        space = fit.priors.space(fit.model.structure)
        free: Values = {
            name: ((*_DRAWS, *(f"{name}_dim_{i}" for i in range(values.ndim - 2))), values)
            for name, values in space.coordinates(fit.shaped).items()
            if values.size
        }
        made["unconstrained_posterior"] = _dataset(fit, free)
    if isinstance(fit.info, McmcInfo):
        made |= _of_chains(fit, fit.info)
    attributes = _attributes(fit)
    return {
        name: group.rename(
            {dim: _COMPONENT for dim in group.dims if dim == "component"}
        ).assign_attrs(attributes)
        for name, group in made.items()
    }


def _of_chains(fit: Fitted, info: McmcInfo) -> Groups:
    made = {}
    if info.sample_stats:
        made["sample_stats"] = _dataset(fit, _stats(info.sample_stats))
    if info.warmup is not None:
        warmup = info.warmup
        labels = fit.permutations[:, :1]  # as in the first draw that was kept
        mixture = warmup.mixture.permute(np.repeat(labels, warmup.log_likelihood.shape[1], axis=1))
        lp = warmup.log_likelihood + log_prior(mixture, fit.priors, fit.model.structure)
        made["warmup_posterior"] = _dataset(fit, {**with_axes(mixture), "lp": (_DRAWS, lp)})
        made["warmup_sample_stats"] = _dataset(fit, _stats(warmup.sample_stats))
    return made


def _replicated(
    fit: Fitted, mixture: Mixture, rng: np.random.Generator, most: int | None
) -> xr.Dataset:
    draws, x = replicated(mixture, fit.dataset.n_observations, rng, most)
    return _dataset(fit, {"x": _rows(x, _DRAWS)}).assign_coords(draw=draws)


def _rows(x: FloatArray, before: tuple[str, ...] = ()) -> tuple[tuple[str, ...], FloatArray]:
    """Rows (..., N, D) after the names of their axes; a single feature has no axis.

    Without it they have the axes of the log likelihood, which LOO-PIT asks for.
    """
    if x.shape[-1] == 1:
        return (*before, "row"), x[..., 0]
    return (*before, "row", "feature"), x


def _stats(measured: Mapping[str, FloatArray]) -> Values:
    return {
        name: (_DRAWS, values.astype(bool) if name == "diverging" else values)
        for name, values in measured.items()
    }


def _dataset(fit: Fitted, values: Values) -> xr.Dataset:
    """Make a Dataset whose features have their names, and whatever else is counted its numbers."""
    import xarray as xr

    made = xr.Dataset(values)
    names = list(fit.dataset.feature_names)
    counted = {dim: np.arange(n) for dim, n in made.sizes.items() if "dim_" not in str(dim)}
    return made.assign_coords({
        dim: names if str(dim).startswith("feature") else index for dim, index in counted.items()
    })  # fmt: skip


def _attributes(fit: Fitted) -> dict[str, Any]:
    """What ArviZ's schema asks for, and what `Fitted.posterior` says of itself."""
    attributes = {
        **fit.posterior.attrs,
        "inference_library": "stangmm",
        "inference_library_version": fit.versions["stangmm"],
        "created_at": fit.created_at,
        "sampling_time": fit.seconds,
    }
    if "cmdstan" in fit.versions:
        attributes["cmdstan_version"] = fit.versions["cmdstan"]
    return attributes
