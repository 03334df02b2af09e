"""Pathfinder: the best of the normal approximations along the way of an optimizer, by Stan.

Zhang, Carpenter, Gelman & Vehtari 2022 (https://jmlr.org/papers/v23/21-0889.html).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import check_count
from stangmm.base.errors import InferenceError
from stangmm.base.names import made_by_names
from stangmm.methods.base import Kind, Run
from stangmm.methods.draws import Draws, VariationalInfo
from stangmm.methods.stan.recent import RecentStanMethod
from stangmm.methods.stan.shared import (
    SIGNIFICANT_FIGURES,
    column,
    jittered,
    plausible_starts,
    read_mixtures,
    stan_inits,
)
from stangmm.model.problem import Problem

if TYPE_CHECKING:
    from cmdstanpy import CmdStanModel


@dataclass(frozen=True, eq=False)
class _Path:
    columns: tuple[str, ...]
    table: FloatArray  # (draws, columns)

    @property
    def log_ratio(self) -> FloatArray:
        """Log joint density minus log density of the approximation, of each draw."""
        log_p = column(self.columns, self.table, "lp__")
        return log_p - column(self.columns, self.table, "lp_approx__")

    @property
    def elbo(self) -> float:
        """Evidence lower bound; -inf where the path leads nowhere."""
        value = float(self.log_ratio.mean())
        return value if np.isfinite(value) else -np.inf


@made_by_names
@dataclass(frozen=True)
class Pathfinder(RecentStanMethod):
    """Settings of Stan's Pathfinder; needs CmdStan 2.33 or newer.

    Paths start around EM's optima, jittered by about two posterior standard deviations; optima
    that are nearly as probable as the best get paths of their own. The draws are those of the path
    with the highest evidence lower bound, as its approximation has them: `Fit.resample` corrects
    them by their importance weights, which Pareto k-hat judges.

    Parameters
    ----------
    paths : int
        Number of runs, each of one path.
    draws : int
        Draws from the approximation.
    iterations : int
        Maximum number of L-BFGS steps in each path.
    history : int
        Steps of the path that the approximation's covariance is made of. Stan's default of 5 is
        too few for the correlations of a mixture: on faithful, K = 2, k-hat is 0.70 and a standard
        deviation 0.71 of the posterior's, with 20 they are 0.51 and 1.00.
    elbo_samples : int
        Monte Carlo draws for each estimate of the evidence lower bound along a path.
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
    >>> settings = sg.Pathfinder(draws=1000)  # for GaussianMixture.fit(X, method=settings)
    >>> settings.kind, settings.since
    ('approximation', (2, 33))
    """

    paths: int = 4
    draws: int = 4000
    iterations: int = 1000
    history: int = 20
    elbo_samples: int = 25

    name: ClassVar[str] = "pathfinder"
    kind: ClassVar[Kind] = "approximation"
    since: ClassVar[tuple[int, int]] = (2, 33)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("Pathfinder paths", self.paths)
        check_count("Pathfinder draws", self.draws, minimum=2)
        check_count("Pathfinder iterations", self.iterations)
        check_count("Pathfinder history", self.history)
        check_count("Pathfinder elbo_samples", self.elbo_samples)

    def processors(self, available: int) -> int:
        """Paths run side by side, each on one of them."""
        return min(self.paths, available)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Follow all paths, and draw from the best approximation on the best of them."""
        model = self.compiled(run)
        optima = plausible_starts(problem, run)
        starts = tuple(optima[i % len(optima)] for i in range(self.paths))
        rng = run.rng("pathfinder jitter")
        points = [jittered(start.mixture, problem, rng) for start in starts]
        seeds = [run.stan_seed(f"pathfinder {i}") for i in range(self.paths)]
        advance = run.progress("Pathfinder paths", self.paths)
        failures: list[str] = []
        with self.stan_run(model, problem) as (cmdstan, data):
            inits = stan_inits(cmdstan, points, problem)

            def follow(stan: CmdStanModel, i: int) -> _Path | None:
                directory = cmdstan.directory / str(i)
                directory.mkdir()
                try:
                    # One path a process: raw draws in every version, and no threads to compile for.
                    found = stan.pathfinder(
                        data=data,
                        seed=seeds[i],
                        inits=inits[i],
                        num_paths=1,
                        draws=self.draws,
                        max_lbfgs_iters=self.iterations,
                        history_size=self.history,
                        num_elbo_draws=self.elbo_samples,
                        sig_figs=SIGNIFICANT_FIGURES,
                        output_dir=directory,
                    )
                    return _Path(tuple(found.column_names), np.asarray(found.draws()))
                except RuntimeError as error:  # a path that leads nowhere; the others go on
                    failures.append(str(error))
                    return None
                finally:
                    advance(1)

            def follow_all(stan: CmdStanModel) -> list[_Path]:
                with ThreadPoolExecutor(run.at_a_time(self.paths)) as pool:
                    each = pool.map(lambda i: follow(stan, i), range(self.paths))
                    return [path for path in each if path is not None]

            paths = cmdstan.call(follow_all)
            best = max(paths, key=lambda path: path.elbo, default=None)
            if best is None or not np.isfinite(best.elbo):
                raise InferenceError(
                    f"None of {self.paths} paths led to an approximation; CmdStan's log says why. "
                    'Use method="advi" or "nuts".',
                    log="\n".join(failures),
                )
        mixture, log_likelihood = read_mixtures(best.columns, best.table[np.newaxis], problem)
        info = VariationalInfo(
            elbo_iterations=np.empty(0),
            elbo=np.empty(0),
            converged=True,
            log_p=column(best.columns, best.table, "lp__"),
            log_q=column(best.columns, best.table, "lp_approx__"),
            starts=starts,
        )
        return Draws(mixture, log_likelihood, info)
