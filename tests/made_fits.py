"""Fits of any size and kind, made around known mixtures without running a method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.methods import Method
from stangmm.methods.draws import Draws, Info, McmcInfo, Optimum, RestartInfo, VariationalInfo
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.posterior.fitted import record_of


def known_mixture(k: int, d: int, weights: Sequence[float] | None, seed: int) -> Mixture:
    """A mixture of components that lie apart and overlap a little."""
    rng = np.random.default_rng(seed)
    means = rng.normal(50.0, 8.0 * np.sqrt(k), (k, d))
    scales = rng.uniform(1.5, 6.0, (k, d))
    shares = rng.dirichlet(np.full(k, 8.0)) if weights is None else np.array(weights)
    order = np.argsort(means[:, 0])
    return Mixture(shares, means[order], scales[order], np.tile(np.eye(d), (k, 1, 1)))


def rows_of(mixture: Mixture, n: int, seed: int) -> np.ndarray:
    """Rows of a mixture without correlations, shape (n, D)."""
    rng = np.random.default_rng(seed)
    z = rng.choice(mixture.n_components, n, p=mixture.weights)
    return mixture.means[z] + mixture.scales[z] * rng.standard_normal((n, mixture.n_features))


def made_fit(
    kind: str,
    mixture: Mixture,
    x: np.ndarray,
    names: Sequence[str],
    *,
    chains: int = 4,
    draws: int = 250,
    seed: int = 1,
) -> sg.Fit:
    """A fit of the kind "point", "approximation" or "mcmc" whose draws lie around a mixture."""
    rng = np.random.default_rng(seed)
    k, d, n = mixture.n_components, mixture.n_features, len(x)
    shape = {"point": (1, 1), "approximation": (1, chains * draws), "mcmc": (chains, draws)}[kind]
    error = 0.0 if kind == "point" else 1 / np.sqrt(mixture.weights * n + 2)[:, np.newaxis]

    def noise(size: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal((*shape, *size))

    weights = mixture.weights * np.exp(np.ravel(error) * noise((k,)))
    drawn = Mixture(
        weights / weights.sum(axis=-1, keepdims=True),
        mixture.means + error * mixture.scales * noise((k, d)),
        mixture.scales * np.exp(0.7 * error * noise((k, d))),
        np.broadcast_to(mixture.corr_chol, (*shape, k, d, d)),
    )
    dataset = Dataset(x, tuple(names), named=True)
    model = sg.GaussianMixture(k)
    structure = structure_named("full")
    settings, info = _run(kind, mixture, shape, rng)
    return record_of(
        sg.Fit,
        model,
        dataset,
        settings,
        Draws(drawn, -4.0 * n + 0.5 * noise(()), info),
        priors=model.priors.resolve(dataset, structure, k),
        relabel=None,
        seed=seed,
        seconds=1.0,
        versions={"stangmm": "0.1.0"},
    )


def _run(
    kind: str, mixture: Mixture, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Method, Info]:
    """Settings and facts of a run: some restarts collapsed, some draws diverged."""
    best = Optimum(mixture, -800.0, 7, True, np.empty(0))
    other = Optimum(mixture, -812.0, 9, True, np.empty(0))
    if kind == "mcmc":
        stats = {
            "energy": 800.0 + 3.0 * rng.standard_normal(shape),
            "diverging": rng.random(shape) < 0.01,
            "tree_depth": np.full(shape, 3),
        }
        settings = sg.NUTS(chains=shape[0], draws=shape[1])
        return settings, McmcInfo(stats, 10, (best,) * shape[0])
    if kind == "approximation":
        steps = np.arange(100.0, 4100.0, 100.0)
        elbo = -830.0 - 1e5 * np.exp(-steps / 100.0) + rng.standard_normal(len(steps))
        log_p = rng.standard_normal(shape[1])
        info = VariationalInfo(steps, elbo, True, log_p, log_p, (best,))
        return sg.ADVI(draws=shape[1]), info
    collapsed = np.arange(20) >= 16
    ends = np.select([np.arange(20) < 7, ~collapsed], [-800.0, -812.0], -790.0)
    paths = tuple(end - 300.0 * np.exp(-np.arange(30 + 5 * r) / 9) for r, end in enumerate(ends))
    return sg.EM(restarts=20), RestartInfo(
        "log likelihood", (best, other), ends, collapsed, ~collapsed, paths, 0
    )
