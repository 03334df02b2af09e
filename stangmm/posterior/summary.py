"""R-hat and effective sample sizes of a fit's parameters, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.convergence import FEWEST_DRAWS, Convergence, ess_mean, measures
from stangmm.base.thresholds import MODE_MATTERS
from stangmm.posterior.fitted import Combination, Fitted, once

if TYPE_CHECKING:
    import pandas as pd


PARAMETERS = ["weights", "means", "scales"]


@once
def measures_of(fit: Fitted) -> dict[str, Convergence]:
    """R-hat and effective sample sizes of each weight, mean and scale, and of lp.

    Of modes that were combined they follow from those within the modes: what each mode adds to the
    posterior's variance is taken with its own R-hat, and what it adds to the variance of a mean
    with its own effective sample size, besides the errors of the modes' weights.
    """
    if fit.combination is not None:
        return _measures_of_combination(fit.combination, measures_of, _parameters)
    return {name: measures(draws) for name, draws in _parameters(fit).items()}


@once
def correlation_measures_of(fit: Fitted) -> dict[str, Convergence]:
    """R-hat and effective sample sizes of each free correlation, as `measures_of`."""
    if fit.combination is not None:
        return _measures_of_combination(
            fit.combination, correlation_measures_of, _correlation_quantities
        )
    return {name: measures(draws) for name, draws in _correlation_quantities(fit).items()}


def correlations(fit: Fitted) -> FloatArray:
    """Draws of the free correlations, shape (chain, draw, R, pairs).

    R is K, or 1 where all components share one covariance, or 0 without correlations. Pairs are
    (1, 0), (2, 0), (2, 1), (3, 0) and so on.
    """
    free = fit.model.space(fit.dataset.n_features).n_correlations
    factor = fit.shaped.corr_chol
    if not free or factor is None:
        return np.empty((*fit.lp.shape, 0, 0))
    factor = factor[..., :free, :, :]
    each = [
        np.einsum("...j,...ij->...i", factor[..., i, :i], factor[..., :i, :i])
        for i in range(1, fit.dataset.n_features)
    ]
    return np.concatenate(each, axis=-1)


def _correlation_quantities(fit: Fitted) -> dict[str, FloatArray]:
    return {"correlations": correlations(fit)}


def _measures_of_combination(
    combination: Combination,
    ask: Callable[[Fitted], dict[str, Convergence]],
    quantities: Callable[[Fitted], dict[str, FloatArray]],
) -> dict[str, Convergence]:
    modes = [mode for mode in combination.modes if mode.weight >= MODE_MATTERS]
    fits = [f for f, m in zip(combination.fits, combination.modes, strict=True) if m in modes]
    weight = np.array([mode.weight for mode in modes])
    error = np.array([mode.error for mode in modes])
    within = [ask(fit) for fit in fits]
    drawn = [quantities(fit) for fit in fits]
    out = {}
    for name in within[0]:
        mean = np.stack([each[name].mean(axis=(0, 1)) for each in drawn], axis=-1)
        variance = np.stack([each[name].var(axis=(0, 1)) for each in drawn], axis=-1)
        between = (mean - (mean @ weight)[..., np.newaxis]) ** 2
        total = (variance + between) @ weight
        sizes = []
        for field in ("ess_bulk", "ess_tail", "ess_mean"):
            size = np.stack([getattr(each[name], field) for each in within], axis=-1)
            with np.errstate(invalid="ignore", divide="ignore"):  # of what does not vary
                sizes.append(total / ((variance / size + between * error**2) @ weight**2))
        r_hat = np.stack([each[name].r_hat for each in within], axis=-1)
        with np.errstate(invalid="ignore"):
            excess = (variance * (r_hat**2 - 1.0)) @ weight / total
        out[name] = Convergence(np.sqrt(1.0 + excess), *sizes)
    return out


def convergence(fit: Fitted) -> dict[str, float]:
    """Worst rank-normalized R-hat and smallest bulk and tail ESS over parameters and lp.

    Vehtari et al. 2021 (doi:10.1214/20-BA1221). NaN where there are too few chains or draws.
    """
    return worst(measures_of(fit).values())


def convergence_of(quantities: Mapping[str, FloatArray]) -> dict[str, float]:
    """As `convergence`, for arrays of shape (chain, draw, ...)."""
    return worst([measures(draws) for draws in quantities.values()])


def worst(of: Collection[Convergence]) -> dict[str, float]:
    """Largest R-hat and smallest bulk and tail ESS; NaN where there is none."""
    extremes = {"r_hat": np.max, "ess_bulk": np.min, "ess_tail": np.min}
    each = {name: [np.ravel(getattr(one, name)) for one in of] for name in extremes}
    return {name: _extreme(np.concatenate(each[name]), find) for name, find in extremes.items()}


def relative_efficiency(fit: Fitted) -> float:
    """Effective draws for each draw: mean over all of the posterior's parameters, 1 for one chain.

    What `arviz.loo` takes the tails' length from.
    """
    if fit.combination is not None:
        each = [relative_efficiency(own) for own in fit.combination.fits]
        return float(np.dot(each, [mode.weight for mode in fit.combination.modes]))
    if fit.lp.shape[0] == 1:
        return 1.0
    sizes = [of.ess_mean.ravel() for of in measures_of(fit).values()]
    covariances = fit.shaped.covariances
    i, j = np.tril_indices(covariances.shape[-1])
    lower = ess_mean(covariances[..., i, j])
    sizes += [lower.ravel(), lower[..., i != j].ravel()]  # the upper triangle is the lower one
    return float(np.concatenate(sizes).mean()) / fit.lp.size


def summary(fit: Fitted) -> pd.DataFrame:
    """Table of the parameters, a row each."""
    import pandas as pd

    draws, size = _flat(fit), fit.lp.size
    columns = {"mean": draws.mean(axis=0)}
    if size > 1:
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        columns |= {"sd": draws.std(axis=0, ddof=1), "q5": low, "q95": high}
    table = pd.DataFrame(columns, index=pd.Index(_names(fit), name="parameter"))
    chains, per_chain = fit.lp.shape
    if fit.kind == "mcmc" and per_chain >= FEWEST_DRAWS:
        names = ["weights", *(["noise_weight"] if fit.model.noise else []), *PARAMETERS[1:]]
        of = [measures_of(fit)[name] for name in names]
        of += correlation_measures_of(fit).values()
        found = {
            name: np.concatenate([np.ravel(each[i]) for each in of])
            for i, name in enumerate(Convergence._fields)
        }
        table["mcse"] = table["sd"] / np.sqrt(found["ess_mean"])
        shown = ["ess_bulk", "ess_tail", *(["r_hat"] if chains > 1 else [])]
        table[shown] = np.stack([found[name] for name in shown], axis=1)
    return table


def estimates(fit: Fitted) -> dict[str, float]:
    """Estimate or posterior mean of each parameter, by its name in `summary`."""
    return dict(zip(_names(fit), _flat(fit).mean(axis=0).tolist(), strict=True))


def _flat(fit: Fitted) -> FloatArray:
    """Draws (S, P) of all parameters, in the order of `_names`."""
    mixture, size = fit.mixture, fit.lp.size
    noise = [] if mixture.noise is None else [mixture.noise.weight[:, np.newaxis]]
    return np.hstack([
        mixture.weights,
        *noise,
        *(getattr(mixture, name).reshape(size, -1) for name in PARAMETERS[1:]),
        correlations(fit).reshape(size, -1),
    ])  # fmt: skip


def _names(fit: Fitted) -> list[str]:
    """Names of the parameters, such as ``means[0, eruption_min]``."""
    k, features = range(fit.model.n_components), fit.dataset.feature_names
    of_features = [f"{name}[{i}, {d}]" for name in PARAMETERS[1:] for i in k for d in features]
    free = fit.model.space(len(features)).n_correlations
    pairs = [f"{a}, {b}" for i, b in enumerate(features) for a in features[:i]]
    own = [f"{i}, " for i in range(free)] if free > 1 or len(k) == 1 else [""] * free
    of_pairs = [f"correlations[{component}{pair}]" for component in own for pair in pairs]
    noise = ["weights[noise]"] if fit.model.noise else []
    return [*(f"weights[{i}]" for i in k), *noise, *of_features, *of_pairs]


def _parameters(fit: Fitted) -> dict[str, FloatArray]:
    mixture = fit.shaped
    noise = {} if mixture.noise is None else {"noise_weight": mixture.noise.weight}
    return {name: getattr(mixture, name) for name in PARAMETERS} | noise | {"lp": fit.lp}


def _extreme(values: FloatArray, find: Callable[[FloatArray], float]) -> float:
    finite = values[np.isfinite(values)]  # constants (a single weight, a shared scale) have none
    return float(find(finite)) if finite.size else float("nan")
