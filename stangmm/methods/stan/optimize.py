"""Optimize: the posterior mode or the maximum of the likelihood, by L-BFGS in Stan."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import check_choice, check_count, check_positive
from stangmm.base.errors import InferenceError
from stangmm.base.names import made_by_names
from stangmm.methods.base import Kind, Run
from stangmm.methods.draws import Draws, Info
from stangmm.methods.em.em import EM
from stangmm.methods.em.restarts import collapsed, restart_report
from stangmm.methods.stan.shared import (
    StanMethod,
    lbfgs,
    read_mixtures,
    stan_inits,
)
from stangmm.model.joint import log_prior
from stangmm.model.problem import Problem

if TYPE_CHECKING:
    from cmdstanpy import CmdStanMLE, CmdStanModel

_Ended: TypeAlias = tuple[tuple[str, ...], FloatArray, bool]  # columns, values, converged


@made_by_names
@dataclass(frozen=True)
class Optimize(StanMethod):
    """Settings of Stan's optimizer.

    It starts where EM starts (partitions of several kinds, random rows), not where EM ends, so that
    the two check each other. From starting values given by hand (``init``), it runs once.

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
    kernel : {"auto", "native", "portable"}
        The likelihood's implementation: "auto" takes the native (C++) one where it compiles.
    cmdstan : path, optional
        A CmdStan folder; default: the environment variable CMDSTAN, then what cmdstanpy finds.
    keep : path, optional
        A folder for CmdStan's own files; each run gets one of its own in it. By default the files
        are removed.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=3, covariance_type="diag")
    >>> fit = model.fit(sg.datasets.galaxies(), method=sg.Optimize(objective="mle"), seed=1)
    >>> print(f"{fit.total_log_likelihood.item():.3f}")
    -203.179
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

    def processors(self, available: int) -> int:
        """Restarts run side by side on all of them."""
        return available

    def longer(self, info: Info) -> Self:
        """Ten times the iterations."""
        return replace(self, max_iterations=10 * self.max_iterations)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Maximize from every start; the best optimum that is not degenerate wins."""
        model = self.compiled(run)
        starts = EM(restarts=self.restarts).starting_points(problem, run)
        (n_starts,) = starts.batch_shape
        use_prior = self.objective == "map"
        advance = run.progress("optimize restarts", n_starts)
        with self.stan_run(model, problem, use_prior=use_prior) as (cmdstan, data):
            inits = stan_inits(cmdstan, [starts[i] for i in range(n_starts)], problem)

            def climb(stan: CmdStanModel, i: int) -> _Ended | None:
                directory = cmdstan.directory / str(i)
                directory.mkdir()
                try:
                    best = maximize(stan, inits[i], directory)
                except RuntimeError:  # one start that leads nowhere; the others go on
                    return None
                finally:
                    advance(1)
                return tuple(best.column_names), best.optimized_params_np, bool(best.converged)

            def maximize(stan: CmdStanModel, start: str, directory: Path) -> CmdStanMLE:
                return stan.optimize(
                    data=data,
                    seed=run.stan_seed("optimize"),
                    inits=start,
                    jacobian=False,
                    output_dir=directory,
                    **lbfgs(self.max_iterations, self.tolerance),
                )

            def climb_all(stan: CmdStanModel) -> list[_Ended]:
                with ThreadPoolExecutor(run.at_a_time(n_starts)) as pool:
                    each = pool.map(lambda i: climb(stan, i), range(n_starts))
                    return [ended for ended in each if ended is not None]

            ended = cmdstan.call(climb_all)
            if not ended:
                raise InferenceError(
                    f"None of {n_starts} starts could be optimized; CmdStan's log says why.",
                    log=cmdstan.console(),
                )
        columns = ended[0][0]
        table = np.stack([row for _, row, _ in ended])
        mixture, log_likelihood = read_mixtures(columns, table, problem)
        objective = log_likelihood
        if use_prior:
            objective = objective + log_prior(mixture, problem.priors, problem.structure)
        objective = np.where(np.isfinite(objective), objective, -np.inf)
        info = restart_report(
            problem,
            mixture,
            method="optimize",
            is_collapsed=collapsed(mixture, problem),
            values=objective,
            converged=np.array([ok for _, _, ok in ended]),
            objective="log joint" if use_prior else "log likelihood",
        )
        index = int(np.argmin(np.abs(objective - info.best.objective)))
        return Draws.from_point(info.best.mixture, float(log_likelihood[index]), info)
