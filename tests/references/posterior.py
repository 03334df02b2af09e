"""Posteriors of galaxies and faithful by NumPyro: the references.

Run where numpyro and arviz < 1 are installed (benchmarks/requirements.txt); writes galaxies.json
and faithful.json::

    python tests/references/posterior.py galaxies faithful

Nothing of stangmm is used: the model is written with NumPyro's distributions, in the units of the
data, and the priors are stangmm's defaults as plain numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=16"  # chains side by side

import numpy as np
from scipy import stats
from scipy.cluster.vq import kmeans2
from scipy.special import logsumexp

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "stangmm" / "datasets"
ACCEPTANCE = 0.95
LARGEST_R_HAT = 1.01
LARGEST_MCSE = 0.02  # of a posterior mean, in posterior standard deviations
SEED, WARMUP = 1, 2_000


@dataclass(frozen=True)
class Case:
    """A data set with its model.

    Attributes
    ----------
    x : ndarray, shape (N, D)
    n_components : int
    concentration : float
        Dirichlet prior of the weights.
    location, width : ndarray, shape (D,)
        Normal prior of the means.
    scale : ndarray, shape (D,)
        Half-Cauchy prior of the standard deviations.
    eta : float or None
        LKJ prior of the correlation; None: no correlation.
    points : ndarray, shape (P, D)
        Where the log density of the mixture is looked at.
    separated : bool
        Whether the components stand so far apart that sorting by the first mean settles labels.
    chains, draws : int
        Of NumPyro; PyMC takes the same.
    """

    x: np.ndarray
    n_components: int
    concentration: float
    location: np.ndarray
    width: np.ndarray
    scale: np.ndarray
    eta: float | None
    points: np.ndarray
    separated: bool
    chains: int
    draws: int


def case_named(name: str) -> Case:
    table = np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2)
    if name == "galaxies":
        return Case(
            x=table / 1000,  # 1000 km/s
            n_components=3,
            concentration=1.0,
            location=np.array([21.7255]),  # mid-range
            width=np.array([25.107]),  # range
            scale=np.array([4.535844839704625]),  # standard deviation, divisor N
            eta=None,
            points=np.array([[9.5], [16.0], [20.0], [23.0], [27.0], [33.0]]),
            separated=False,
            chains=16,
            draws=5_000,
        )
    return Case(
        x=table,  # minutes
        n_components=2,
        concentration=1.0,
        location=np.array([3.35, 69.5]),
        width=np.array([3.5, 53.0]),
        scale=np.array([1.139271210225768, 13.569960017586371]),
        eta=2.0,
        points=np.array([[2.0, 55.0], [3.0, 65.0], [4.3, 80.0], [4.6, 90.0]]),
        separated=True,
        chains=8,
        draws=5_000,
    )


def starts(case: Case, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """Points far apart, one for each chain, around k-means solutions from random rows."""
    points = []
    for _ in range(case.chains):
        rows = rng.choice(len(case.x), case.n_components, replace=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty cluster is as good a start
            centres, _ = kmeans2(case.x / case.scale, case.x[rows] / case.scale, minit="matrix")
        shape = centres.shape
        point = {
            "weights": rng.dirichlet(np.full(case.n_components, 5.0)),
            "means": case.scale * (centres + 0.2 * rng.standard_normal(shape)),
            "scales": case.scale * rng.lognormal(-1.0, 0.5, shape),
        }
        if case.eta is not None:
            sine = rng.uniform(-0.5, 0.5, case.n_components)
            factor = np.zeros((case.n_components, 2, 2))
            factor[:, 0, 0], factor[:, 1, 0] = 1.0, sine
            factor[:, 1, 1] = np.sqrt(1 - sine**2)
            point["corr_chol"] = factor
        points.append(point)
    return points


def by_numpyro(case: Case, seed: int) -> tuple[dict[str, np.ndarray], int]:
    """Draws (chains, draws, ...) and how many of them diverged."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer.util import unconstrain_fn

    k, d = case.n_components, case.x.shape[1]

    def model() -> None:
        weights = numpyro.sample("weights", dist.Dirichlet(np.full(k, case.concentration)))
        prior = dist.Normal(case.location, case.width).expand([k, d]).to_event(2)
        means = numpyro.sample("means", prior)
        prior = dist.HalfCauchy(case.scale).expand([k, d]).to_event(2)
        scales = numpyro.sample("scales", prior)
        if case.eta is None:
            component = dist.Normal(means, scales).to_event(1)
        else:
            prior = dist.LKJCholesky(d, case.eta).expand([k]).to_event(1)
            factor = numpyro.sample("corr_chol", prior)
            component = dist.MultivariateNormal(means, scale_tril=scales[..., None] * factor)
        mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), component)
        numpyro.sample("x", mixture, obs=case.x)

    free = [unconstrain_fn(model, (), {}, p) for p in starts(case, np.random.default_rng(seed))]
    mcmc = numpyro.infer.MCMC(
        numpyro.infer.NUTS(model, target_accept_prob=ACCEPTANCE),
        num_warmup=WARMUP,
        num_samples=case.draws,
        num_chains=case.chains,
        chain_method="parallel",
        progress_bar=False,
    )
    init = {v: np.stack([f[v] for f in free]) for v in free[0]}
    mcmc.run(jax.random.PRNGKey(seed), init_params=init, extra_fields=("diverging",))
    draws = {v: np.asarray(a) for v, a in mcmc.get_samples(group_by_chain=True).items()}
    if "corr_chol" in draws:
        draws["correlations"] = draws.pop("corr_chol")[..., 1, 0]
    return draws, int(mcmc.get_extra_fields()["diverging"].sum())


PACKAGES = ["numpyro", "jax", "numpy", "scipy", "arviz"]


def log_density(case: Case, draws: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Log density of the mixture at rows x (N, D), for each draw: shape (chains, draws, N)."""
    means, scales = draws["means"], draws["scales"]
    z = [(x[:, d] - means[..., d, None]) / scales[..., d, None] for d in range(x.shape[1])]
    each = sum(stats.norm.logpdf(z_d) for z_d in z) - np.log(scales).sum(axis=-1)[..., None]
    if case.eta is not None:  # the ratio of the bivariate density to that without correlation
        r = draws["correlations"][..., None]
        quadratic = (r * r * (z[0] ** 2 + z[1] ** 2) - 2 * r * z[0] * z[1]) / (1 - r * r)
        each = each - 0.5 * (quadratic + np.log1p(-r * r))
    return logsumexp(each + np.log(draws["weights"])[..., None], axis=-2)


def quantities(case: Case, draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is compared, name to array (chains, draws); each has finite moments.

    Half-Cauchy tails reach the posterior through a component that holds no rows: scales and the
    mixture's standard deviation are looked at by their logarithms.
    """
    weights, means, scales = (draws[v] for v in ("weights", "means", "scales"))
    mean = (weights[..., None] * means).sum(axis=-2)
    second = (weights[..., None] * (scales**2 + (means - mean[..., None, :]) ** 2)).sum(axis=-2)
    chunks = np.array_split(np.arange(weights.shape[1]), 50)
    log_likelihood = [
        log_density(case, {v: a[:, c] for v, a in draws.items()}, case.x).sum(axis=-1)
        for c in chunks
    ]
    arrays = {
        "log_likelihood": np.concatenate(log_likelihood, axis=1),
        "sorted_weights": np.sort(weights, axis=-1),
        "mixture_mean": mean,
        "log_mixture_sd": 0.5 * np.log(second),
        "log_density": log_density(case, draws, case.points),
        "log_smallest_scale": np.log(scales.min(axis=-2)),
        "log_largest_scale": np.log(scales.max(axis=-2)),
    }
    if case.separated:
        order = np.argsort(means[..., 0], axis=-1)
        for name, array in draws.items():
            index = order.reshape(*order.shape, *(1,) * (array.ndim - order.ndim))
            arrays[name] = np.take_along_axis(array, index, axis=2)
    return {
        name + (str(list(index)) if index else ""): array[(..., *index)]
        for name, array in arrays.items()
        for index in np.ndindex(*array.shape[2:])
    }


def summarize(draws: np.ndarray) -> dict[str, Any]:
    """Statistics of draws (chains, draws), each with its Monte Carlo standard error."""
    import arviz as az

    az.Numba.disable_numba()  # with numba, az.mcse(method="sd") fails on numpy 2.4
    low, high = np.quantile(draws, [0.05, 0.95])
    return {
        "mean": [float(draws.mean()), float(az.mcse(draws, method="mean"))],
        "sd": [float(draws.std()), float(az.mcse(draws, method="sd"))],
        "q5": [float(low), float(az.mcse(draws, method="quantile", prob=0.05))],
        "q95": [float(high), float(az.mcse(draws, method="quantile", prob=0.95))],
        "ess_bulk": float(az.ess(draws, method="bulk")),
        "ess_tail": float(az.ess(draws, method="tail")),
        "r_hat": float(az.rhat(draws)),
    }


def sampled(name: str) -> dict[str, Any]:
    """The record of one posterior; ends the program where its chains cannot be trusted."""
    case = case_named(name)
    draws, diverged = by_numpyro(case, SEED)
    found = {quantity: summarize(values) for quantity, values in quantities(case, draws).items()}
    checks = {
        "divergences": diverged,
        "largest_r_hat": max(s["r_hat"] for s in found.values()),
        "largest_relative_mcse": max(s["mean"][1] / s["sd"][0] for s in found.values()),
        "smallest_scale_drawn": float(draws["scales"].min()),
    }
    print(name, checks)
    if (
        diverged
        or checks["largest_r_hat"] > LARGEST_R_HAT
        or checks["largest_relative_mcse"] > LARGEST_MCSE
    ):
        raise SystemExit(f"{name}: the chains cannot be a reference.")
    return {
        "data": name,
        "command": f"python tests/references/posterior.py {name}",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "seed": SEED,
        "chains": case.chains,
        "warmup": WARMUP,
        "draws": case.draws,
        "target_acceptance": ACCEPTANCE,
        "checks": checks,
        "model": {
            "n_components": case.n_components,
            "concentration": case.concentration,
            "location": case.location.tolist(),
            "width": case.width.tolist(),
            "scale": case.scale.tolist(),
            "eta": case.eta,
        },
        "points": case.points.tolist(),
        "quantities": found,  # [value, its standard error], and what judges the chains
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", choices=["galaxies", "faithful"])
    for name in parser.parse_args().data:
        text = json.dumps(sampled(name), indent=1)
        (HERE / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
