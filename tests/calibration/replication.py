"""One replication: draw parameters and data, fit, and rank the truth among the draws."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.draws import Draws, McmcInfo, VariationalInfo
from stangmm.methods.psis import importance_weights
from stangmm.methods.stan.curvature import inverse_metric
from stangmm.model.problem import Problem
from stangmm.posterior.arviz import arviz

from .configurations import CONFIGURATIONS, N_COMPONENTS, ROWS, Configuration, draw_rows
from .quantities import quantities

FloatArray = NDArray[np.float64]

# Draws that the truth is ranked among: ranks 0 to 99, and central intervals of exactly 50% and 90%.
RANKED_AMONG = 99
# Effective draws that chains must be worth, for each quantity, before they are thinned.
LEAST_ESS = 2.0 * RANKED_AMONG
# Chains that are worth less are run again, so many times longer; to drop them would be a bias.
LENGTHENED = (1, 4, 16)

SETTINGS: dict[str, sg.NUTS | sg.ADVI | sg.Laplace] = {
    "nuts": sg.NUTS(draws=500, parallel_chains=1),
    "advi": sg.ADVI(draws=1000),
    "laplace": sg.Laplace(draws=1000),
}


def replicate(
    configuration: Configuration,
    method: str,
    replication: int,
    *,
    n_rows: int | None = None,
    fitted: sg.Priors | None = None,
) -> dict[str, Any]:
    """Rank the truth of one replication.

    Parameters
    ----------
    configuration : Configuration
    method : {"nuts", "advi", "laplace"}
    replication : int
        Its random numbers depend on this and the configuration, on nothing else.
    n_rows : int, optional
        By default the entries of ``ROWS`` in turn.
    fitted : Priors, optional
        Priors of the fit where they shall not be those of the truth.

    Returns
    -------
    dict
        ``replication``, ``rows``, ``seconds``, facts of the run, and ``ranks`` by quantity; or
        ``error``, where anything failed.
    """
    began = time.perf_counter()
    record: dict[str, Any] = {
        "replication": replication,
        "rows": n_rows or ROWS[replication % len(ROWS)],
    }
    try:
        record |= _ranked(configuration, method, replication, record["rows"], fitted)
    except Exception as error:  # counted and shown in the summary, whatever it is
        record["error"] = f"{type(error).__name__}: {error}"
    record["seconds"] = round(time.perf_counter() - began, 3)
    return record


def replicate_by_name(method: str, name: str, replication: int) -> dict[str, Any]:
    """Rank the truth of one replication of a configuration by its name."""
    return replicate(CONFIGURATIONS[name], method, replication)


def _ranked(
    configuration: Configuration,
    method: str,
    replication: int,
    n_rows: int,
    fitted: sg.Priors | None,
) -> dict[str, Any]:
    rng = configuration.rng(replication)
    truth = configuration.draw(rng)
    x = draw_rows(truth, n_rows, rng)
    structure = configuration.structure
    priors, noise = fitted or configuration.priors, configuration.box or False
    problem = Problem.build(Dataset.from_input(x), N_COMPONENTS, structure, priors, noise)
    settings = SETTINGS[method]
    for longer in LENGTHENED:
        run = Run(int(rng.integers(1, 2**31 - 1)))
        longer_run = replace(settings, draws=longer * settings.draws)
        draws = longer_run.run(problem, run).in_user_units(problem)
        values = quantities(draws.mixture, x, problem.user_priors, structure)
        facts = _facts(draws, problem, values) | {"longer": longer}
        if facts.get("ess", np.inf) >= LEAST_ESS:
            break
    expected = quantities(truth, x, problem.user_priors, structure)
    ranks = {name: rank(values[name].ravel(), float(expected[name])) for name in values}
    return {**facts, "ranks": ranks}


def rank(draws: FloatArray, truth: float) -> int:
    """Count the draws below the truth, among `RANKED_AMONG` that are evenly spaced."""
    if not (np.isfinite(draws).all() and np.isfinite(truth)):
        raise ValueError("a quantity is not finite, and has no rank")
    chosen = np.arange(RANKED_AMONG) * len(draws) // RANKED_AMONG
    return int((draws[chosen] < truth).sum())


def _facts(draws: Draws, problem: Problem, values: dict[str, FloatArray]) -> dict[str, Any]:
    """What tells how far the draws can be trusted."""
    if isinstance(draws.info, VariationalInfo):
        weights, k = importance_weights(draws.info)
        facts: dict[str, Any] = {
            "converged": draws.info.converged,
            "pareto_k": round(k, 3),
        }
        if draws.info.resampled:
            facts |= {
                "effective": round(float(1.0 / (weights**2).sum()), 1),
                "missed": round(draws.info.missed, 4),
            }
        return facts
    assert isinstance(draws.info, McmcInfo)
    az = arviz()
    ess = {name: float(az.ess(value)) for name, value in values.items()}
    r_hat = {name: float(az.rhat(value)) for name, value in values.items()}
    slowest = min(ess, key=ess.__getitem__)
    return {
        "ess": round(ess[slowest], 1),
        "slowest": slowest,
        "r_hat": round(max(r_hat.values()), 4),
        "divergent": int(draws.info.sample_stats["diverging"].sum()),
        "starts": len({start.objective for start in draws.info.starts}),
        "dense_metric": _has_dense_metric(draws.info, problem),
    }


def _has_dense_metric(info: McmcInfo, problem: Problem) -> bool:
    """Whether NUTS took its metric from the curvature and adapted the step size alone."""
    rng = np.random.default_rng(0)  # chooses among rows only where they are very many
    mixtures = [problem.from_user_units(start.mixture) for start in info.starts]
    return all(inverse_metric(m, problem, rng, stick_breaking=True) is not None for m in mixtures)
