"""What the methods that run in CmdStan share: the compiled model, starts, and reading draws."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stangmm.arrays import FloatArray
from stangmm.cmdstan.compile import CompiledModel, Kernel, compiled_model
from stangmm.cmdstan.run import CmdStanRun, cmdstan_run
from stangmm.density import Mixture, log_likelihood, log_prior
from stangmm.draws import Optimum
from stangmm.errors import InferenceError
from stangmm.methods.base import Method, Run, check_choice
from stangmm.methods.em import EM
from stangmm.methods.restarts import collapsed
from stangmm.problem import Problem
from stangmm.stan_data import StanData, mixture_of, parameters_of

SIGNIFICANT_FIGURES = 17  # digits in CmdStan's files, so that no bit of a double is lost
# Optima of the likelihood whose log joint is this far (in nats) below the best get no chain.
_PLAUSIBLE = 5.0


@dataclass(frozen=True, kw_only=True)
class StanMethod(Method):
    """Settings that every method in CmdStan has.

    Parameters
    ----------
    kernel : {"auto", "native", "portable"}
        The likelihood's implementation: "auto" takes the native (C++) one where it compiles.
    cmdstan : path, optional
        A CmdStan folder; default: the environment variable CMDSTAN, then what cmdstanpy finds.
    """

    kernel: Kernel = "auto"
    cmdstan: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_choice("kernel", self.kernel, ("auto", "native", "portable"))

    def prepare(self, run: Run) -> None:
        """Compile the model unless the cache has it."""
        self.compiled(run)

    @property
    def threaded(self) -> bool:
        """Whether the model is compiled with threads."""
        return False

    def compiled(self, run: Run) -> CompiledModel:
        """Compile the model, or find it compiled."""
        return compiled_model(
            kernel=self.kernel,
            cmdstan_path=self.cmdstan,
            threads=self.threaded,
            progress=run.show_progress,
        )


@contextmanager
def stan_run(
    model: CompiledModel, problem: Problem, name: str, **switches: bool
) -> Iterator[tuple[CmdStanRun, str]]:
    """Open a guarded run with the problem's data written; gives the run and the data file."""
    with cmdstan_run(model.exe, name) as cmdstan:
        data = StanData.of(problem, **switches)
        yield cmdstan, cmdstan.write_json("data", data.values())


def plausible_optima(problem: Problem, run: Run) -> tuple[Optimum, ...]:
    """Optima of the likelihood, the one of highest log joint density first.

    Where every EM restart collapses, or ends on equal values, where the posterior may be unbounded,
    the optima of EM with regularized covariances take over. From a start given by hand it is the
    one optimum that EM reaches from there.
    """
    optima: tuple[Optimum, ...] = ()
    with suppress(InferenceError):
        found = EM().search(problem, run).optima
        optima = tuple(o for o in found if not collapsed(o.mixture[np.newaxis], problem)[0])
    optima = optima or EM().regularized(problem, run).optima

    def joint(optimum: Optimum) -> float:
        prior = log_prior(optimum.mixture, problem.priors, problem.structure)
        return optimum.objective + float(prior)

    ranked = sorted(((joint(o), i) for i, o in enumerate(optima)), reverse=True)
    best = ranked[0][0]
    return tuple(optima[i] for value, i in ranked if value > best - _PLAUSIBLE)


def plausible_starts(problem: Problem, run: Run) -> tuple[Optimum, ...]:
    """Where to start from: the start given by hand, else `plausible_optima`."""
    return given_start(problem) or plausible_optima(problem, run)


def given_start(problem: Problem) -> tuple[Optimum, ...]:
    """The start given by hand, as an optimum that no restart led to; empty when there is none."""
    if problem.start is None:
        return ()
    reached = log_likelihood(problem.start, problem.x, problem.sample_weight, problem.labels)
    return (Optimum(problem.start, float(reached), 0, False, np.empty(0)),)


def jittered(mixture: Mixture, problem: Problem, rng: np.random.Generator) -> Mixture:
    """Move a mixture at random by about two posterior standard deviations of complete data."""
    variance = CompleteDataVariances.of(mixture, problem)

    def step(values: FloatArray) -> FloatArray:
        return np.minimum(2.0 * np.sqrt(values), 0.5) * rng.standard_normal(values.shape)

    weights = mixture.weights * np.exp(step(variance.log_weights))
    return replace(
        mixture,
        weights=weights / weights.sum(),
        means=mixture.means + mixture.scales * step(variance.means / mixture.scales**2),
        scales=mixture.scales * np.exp(step(variance.log_scales)),
    )


@dataclass(frozen=True, eq=False)
class CompleteDataVariances:
    """Posterior variances as they would be if the rows' components were known.

    A mean's is scale^2 / N_k, a log scale's 1 / (2 N_k), a log weight's 1 / N_k, that of a
    correlation's coordinate 1 / N_k, where N_k is the number of rows that determine it.
    """

    log_weights: FloatArray  # (K,)
    means: FloatArray  # (K, D)
    log_scales: FloatArray  # (C, S)
    correlations: FloatArray  # (R, D (D - 1) / 2)

    @classmethod
    def of(cls, mixture: Mixture, problem: Problem) -> CompleteDataVariances:
        """Compute them at one mixture."""
        k, d = problem.n_components, problem.n_features
        c, s = problem.structure.scale_shape(k, d)
        r = problem.structure.n_correlations(k, d)
        total = problem.total_weight
        counts = np.maximum(mixture.weights * total, 1.0)
        held = counts if c == k else np.full(c, total)
        return cls(
            log_weights=1.0 / counts,
            means=mixture.scales**2 / counts[:, np.newaxis],
            log_scales=np.broadcast_to(s / (2.0 * d * held[:, np.newaxis]), (c, s)),
            correlations=np.broadcast_to(1.0 / held[:r, np.newaxis], (r, d * (d - 1) // 2)),
        )

    def inverse_metric(self) -> FloatArray:
        """Spread over the Stan model's unconstrained parameters, in their order.

        The weights' coordinates are taken as Stan's stick-breaking: component k against all after
        it. A sampler adapts the metric; this is where it starts.
        """
        after = 1.0 / np.cumsum(1.0 / self.log_weights[::-1])[::-1]
        weights = self.log_weights[:-1] + after[1:]
        parts = (weights, self.means, self.log_scales, self.correlations)
        return np.concatenate([part.ravel() for part in parts])


def stan_inits(
    run: CmdStanRun, mixtures: list[Mixture], problem: Problem, name: str = "start"
) -> list[str]:
    """Write initial values, one file for each mixture."""
    return [
        run.write_json(
            f"{name}-{i}",
            # Newer versions of Stan reject an empty array of matrices; what is left out is empty.
            {name: v for name, v in parameters_of(mixture, problem).items() if v.size},
        )
        for i, mixture in enumerate(mixtures)
    ]


def read_mixtures(
    columns: tuple[str, ...], draws: FloatArray, problem: Problem
) -> tuple[Mixture, FloatArray]:
    """Mixtures and log likelihoods from CmdStan's columns.

    Parameters
    ----------
    columns : tuple of str
        Names as in the header of CmdStan's CSV file.
    draws : ndarray, shape (..., columns)

    Returns
    -------
    Mixture, ndarray
        With the leading axes of ``draws``.
    """
    position = {name: i for i, name in enumerate(columns)}

    def variable(name: str, *shape: int) -> FloatArray:
        names = [f"{name}[{','.join(str(i + 1) for i in index)}]" for index in np.ndindex(*shape)]
        chosen = draws[..., [position[n] for n in names]]
        return chosen.reshape(*draws.shape[:-1], *shape)

    k, d = problem.n_components, problem.n_features
    c, s = problem.structure.scale_shape(k, d)
    r = problem.structure.n_correlations(k, d)
    mixture = mixture_of(
        variable("weights", k),
        variable("means", k, d),
        variable("scales", c, s),
        variable("corr_chol", r, d, d) if r else None,
    )
    return mixture, draws[..., position["log_likelihood"]]


def column(columns: tuple[str, ...], draws: FloatArray, name: str) -> FloatArray:
    """One column of CmdStan's draws by name."""
    return np.ascontiguousarray(draws[..., columns.index(name)])


def lbfgs(max_iterations: int, tolerance: float) -> dict[str, Any]:
    """Settings of Stan's L-BFGS that ends when the objective rises by less than ``tolerance``."""
    return {
        "algorithm": "lbfgs",
        "iter": max_iterations,
        "tol_obj": tolerance,
        "tol_rel_obj": 1.0,
        "tol_rel_grad": 1e3,
        "history_size": 10,
        "require_converged": False,
        "sig_figs": SIGNIFICANT_FIGURES,
    }


def without_none(**options: Any) -> dict[str, Any]:
    """Keep the options that the user set, so that the others stay CmdStan's own."""
    return {name: value for name, value in options.items() if value is not None}
