"""The data block of stan/gaussian_mixture.stan as a frozen dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.data.groups import RowGroup
from stangmm.methods.stan.pivots import Pivots
from stangmm.model.mixture import Mixture
from stangmm.model.parameters import ParameterSpace
from stangmm.model.problem import Problem


@dataclass(frozen=True, eq=False)
class StanData:
    """What the Stan model reads; names, order and shapes are those of its data block."""

    N: int
    D: int
    K: int
    x: FloatArray  # (N, D); 0 where missing
    n_sample_weights: int  # N, or 0 when every row counts once
    sample_weight: FloatArray  # (n_sample_weights,)
    n_groups: int  # G: 0 when every row is complete and no component is known
    group_rows: IntArray  # (G,), how many rows
    group_component: IntArray  # (G,), 1 to K, or 0 where unknown
    group_observed: IntArray  # (G, D), 1 for features that the rows have
    noise: int  # 1 with a uniform component, else 0
    noise_log_density: FloatArray  # (noise * D,)
    scale_components: int  # C: K, or 1 when shared
    scale_features: int  # S: D, or 1 when all features share one
    n_correlations: int  # R: K, 1 or 0
    weights_concentration: FloatArray  # (K + noise,)
    means_location: FloatArray  # (K, D)
    means_scale: FloatArray  # (K, D)
    scale_family: int  # 1 half-Cauchy, 2 half-normal, 3 inverse gamma on the variance
    scale_shape: FloatArray  # (C, S)
    scale_scale: FloatArray  # (C, S)
    scale_floor: FloatArray  # (S,); 0: no lower bound
    correlation_shape: float
    means_relative: IntArray  # (K,), 1 where a mean is told relative to its pivot
    pivot: FloatArray  # (K, D)
    use_prior: int  # 0 or 1
    use_likelihood: int  # 0 or 1

    @classmethod
    def of(
        cls,
        problem: Problem,
        *,
        pivots: Pivots | None = None,
        use_prior: bool = True,
        use_likelihood: bool = True,
    ) -> StanData:
        """Translate a problem."""
        k, d = problem.n_components, problem.n_features
        c, s = problem.space.scale_shape
        weight = np.empty(0) if problem.sample_weight is None else problem.sample_weight
        priors, box = problem.priors, problem.space.box
        pivots = pivots or Pivots.none(problem.space)
        return cls(
            N=problem.n_observations,
            D=d,
            K=k,
            x=np.nan_to_num(problem.x, nan=0.0) if problem.groups else problem.x,
            n_sample_weights=len(weight),
            sample_weight=weight,
            **group_data(problem.groups, d),
            noise=int(box is not None),
            noise_log_density=np.empty(0) if box is None else box.log_density,
            scale_components=c,
            scale_features=s,
            n_correlations=problem.space.n_correlations,
            weights_concentration=np.asarray(priors.weights.concentration),
            means_location=np.asarray(priors.means.location),
            means_scale=np.asarray(priors.means.scale),
            scale_family=priors.scales.family,
            scale_shape=np.asarray(priors.scales.shape_or_one()),
            scale_scale=np.asarray(priors.scales.scale),
            scale_floor=np.asarray(problem.space.scale_floor),
            correlation_shape=priors.correlation.shape,
            means_relative=pivots.relative.astype(int),
            pivot=pivots.at,
            use_prior=int(use_prior),
            use_likelihood=int(use_likelihood),
        )

    def values(self) -> dict[str, Any]:
        """Name to value, as cmdstanpy writes it to JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def group_data(groups: tuple[RowGroup, ...], n_features: int) -> dict[str, Any]:
    """Fields of `StanData` that say how rows are grouped."""
    observed = np.zeros((len(groups), n_features), dtype=int)
    for row, group in zip(observed, groups, strict=True):
        row[group.observed] = 1
    known = [0 if g.component is None else g.component + 1 for g in groups]
    return {
        "n_groups": len(groups),
        "group_rows": np.array([g.rows.stop - g.rows.start for g in groups], dtype=int),
        "group_component": np.array(known, dtype=int),
        "group_observed": observed,
    }


def stan_parameters(
    mixture: Mixture, space: ParameterSpace, pivots: Pivots | None = None
) -> dict[str, FloatArray]:
    """Values of the Stan model's parameters for one mixture: what initial values look like."""
    free = space.free(mixture)
    weights = np.maximum(free["weights"], 1e-10)  # the boundary has no place on Stan's scale
    return {
        "weights": weights / weights.sum(),
        "location": (pivots or Pivots.none(space)).rounded_locations(mixture),
        "excess": space.excess(mixture),
        "corr_chol": free["corr_chol"],
    }
