"""Optimize: the posterior mode or the maximum of the likelihood, by L-BFGS in Stan."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from stangmm.density import log_prior
from stangmm.draws import Draws
from stangmm.methods.base import Kind, Run, check_choice, check_count, check_positive
from stangmm.methods.em import EM
from stangmm.methods.restarts import collapsed, restart_report
from stangmm.methods.stan import (
    SIGNIFICANT_FIGURES,
    StanMethod,
    read_mixtures,
    stan_inits,
    stan_run,
)
from stangmm.problem import Problem


@dataclass(frozen=True)
class Optimize(StanMethod):
    """Settings of Stan's optimizer.

    It starts where EM starts (k-means++ centres and random rows), not where EM ends, so that the
    two check each other.

    Parameters
    ----------
    objective : {"map", "mle"}
        The log joint density of the constrained parameters (posterior mode), or the log
        likelihood alone.
    restarts : int
        Starting points.
    tolerance : float
        L-BFGS stops when the objective changes by less than this many nats in an iteration.
    max_iterations : int
    """

    objective: Literal["map", "mle"] = "map"
    restarts: int = 20
    tolerance: float = 1e-8
    max_iterations: int = 5000

    name: ClassVar[str] = "optimize"
    kind: ClassVar[Kind] = "point"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("Optimize objective", self.objective, ("map", "mle"))
        check_count("Optimize restarts", self.restarts)
        check_positive("Optimize tolerance", self.tolerance)
        check_count("Optimize max_iterations", self.max_iterations)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Maximize from every start; the best optimum that is not degenerate wins."""
        model = self.compiled(run)
        starts = EM(restarts=self.restarts).starting_points(problem, run)
        use_prior = self.objective == "map"
        advance = run.progress("optimize restarts", self.restarts)
        with stan_run(model, problem, self.name, use_prior=use_prior) as (cmdstan, data):
            inits = stan_inits(cmdstan, [starts[i] for i in range(self.restarts)], problem)

            def climb(stan: Any, i: int) -> tuple[tuple[str, ...], np.ndarray, bool]:
                directory = cmdstan.directory / str(i)
                directory.mkdir()
                best = stan.optimize(
                    data=data,
                    seed=run.stan_seed("optimize"),
                    inits=inits[i],
                    algorithm="lbfgs",
                    iter=self.max_iterations,
                    tol_obj=self.tolerance,
                    tol_rel_obj=1.0,
                    tol_rel_grad=1e3,
                    history_size=10,
                    jacobian=False,
                    require_converged=False,
                    sig_figs=SIGNIFICANT_FIGURES,
                    output_dir=directory,
                )
                advance(1)
                return tuple(best.column_names), best.optimized_params_np, bool(best.converged)

            def climb_all(stan: Any) -> list[Any]:
                with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                    return list(pool.map(lambda i: climb(stan, i), range(self.restarts)))

            ended = cmdstan.call(climb_all)
        columns = ended[0][0]
        table = np.stack([row for _, row, _ in ended])
        mixture, log_likelihood = read_mixtures(columns, table, problem)
        objective = log_likelihood
        if use_prior:
            objective = objective + log_prior(mixture, problem.priors, problem.structure)
        info = restart_report(
            problem,
            mixture,
            method="optimize",
            is_collapsed=collapsed(mixture, problem),
            values=np.where(np.isfinite(objective), objective, -np.inf),
            converged=np.array([ok for _, _, ok in ended]),
            objective="log joint" if use_prior else "log likelihood",
        )
        index = int(np.argmin(np.abs(objective - info.best.objective)))
        return Draws.from_point(info.best.mixture, float(log_likelihood[index]), info)
