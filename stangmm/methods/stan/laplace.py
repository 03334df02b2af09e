"""Laplace: a normal distribution with the curvature of the posterior at its mode, by Stan.

Tierney & Kadane 1986 (doi:10.1080/01621459.1986.10478240).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from stangmm.base.checked import check_count, check_positive
from stangmm.base.errors import InferenceError
from stangmm.base.names import made_by_names
from stangmm.methods.base import Kind, Run
from stangmm.methods.draws import Draws, VariationalInfo
from stangmm.methods.stan.recent import RecentStanMethod
from stangmm.methods.stan.shared import (
    SIGNIFICANT_FIGURES,
    column,
    lbfgs,
    plausible_starts,
    read_mixtures,
    stan_inits,
)
from stangmm.model.problem import Problem

if TYPE_CHECKING:
    from cmdstanpy import CmdStanLaplace, CmdStanModel


@made_by_names
@dataclass(frozen=True)
class StanLaplace(RecentStanMethod):
    """Settings of Stan's Laplace approximation; needs CmdStan 2.32 or newer.

    The search for the mode starts at EM's optimum, and maximizes the density on the unconstrained
    scale, where the approximation is made.

    Parameters
    ----------
    draws : int
        Draws from the approximation.
    tolerance : float
        L-BFGS stops when the log density changes by less than this many nats in an iteration.
    max_iterations : int
        A search that needs more is reported as not converged.
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
    >>> settings = sg.StanLaplace(draws=1000)  # for GaussianMixture.fit(X, method=settings)
    >>> settings.kind, settings.since
    ('approximation', (2, 32))
    """

    draws: int = 4000
    tolerance: float = 1e-8
    max_iterations: int = 5000

    name: ClassVar[str] = "stan_laplace"
    kind: ClassVar[Kind] = "approximation"
    since: ClassVar[tuple[int, int]] = (2, 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("StanLaplace draws", self.draws, minimum=2)
        check_positive("StanLaplace tolerance", self.tolerance)
        check_count("StanLaplace max_iterations", self.max_iterations)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Find the mode, and draw from the approximation there."""
        model = self.compiled(run)
        optimum = plausible_starts(problem, run)[0]
        advance = run.progress("Laplace approximation", 1)
        with self.stan_run(model, problem) as (cmdstan, data):
            (start,) = stan_inits(cmdstan, [optimum.mixture], problem)

            def approximate(stan: CmdStanModel) -> CmdStanLaplace:
                # Files are named by the second: in one directory, draws could overwrite the mode.
                directory = cmdstan.directory / "mode"
                directory.mkdir()
                mode = stan.optimize(
                    data=data,
                    seed=run.stan_seed("laplace mode"),
                    inits=start,
                    jacobian=True,
                    output_dir=directory,
                    **lbfgs(self.max_iterations, self.tolerance),
                )
                return stan.laplace_sample(
                    data=data,
                    mode=mode,
                    draws=self.draws,
                    jacobian=True,
                    seed=run.stan_seed("laplace"),
                    sig_figs=SIGNIFICANT_FIGURES,
                    output_dir=cmdstan.directory,
                )

            laplace = cmdstan.call(approximate)
            advance(1)
            columns = tuple(laplace.column_names)
            table = np.asarray(laplace.draws())[np.newaxis]  # (1, draws, columns)
            if not np.isfinite(table).all():
                raise InferenceError(
                    "The posterior has no maximum where the search ended: its curvature there is "
                    "not that of a normal distribution. A component may hold too few rows; use "
                    'fewer components, a more informative prior, or method="nuts".',
                    log=cmdstan.console(),
                )
        mixture, log_likelihood = read_mixtures(columns, table, problem)
        info = VariationalInfo(
            elbo_iterations=np.empty(0),
            elbo=np.empty(0),
            converged=bool(laplace.mode.converged),
            log_p=column(columns, table, "log_p__")[0],
            log_q=column(columns, table, "log_q__")[0],
            starts=(optimum,),
        )
        return Draws(mixture, log_likelihood, info)
