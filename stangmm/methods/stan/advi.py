"""ADVI: variational Bayes by Stan, a Gaussian on the unconstrained scale that maximizes the ELBO.

Kucukelbir et al. 2017 (https://jmlr.org/papers/v18/16-107.html).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from stangmm.base.checked import check_choice, check_count, check_positive
from stangmm.base.rounding import significant
from stangmm.methods.base import Kind, Run
from stangmm.methods.draws import Draws, VariationalInfo
from stangmm.methods.stan.shared import (
    SIGNIFICANT_FIGURES,
    CompleteDataVariances,
    StanMethod,
    column,
    given_start,
    plausible_optima,
    read_mixtures,
    stan_inits,
    stan_run,
)
from stangmm.model.joint import log_prior
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem


@dataclass(frozen=True)
class ADVI(StanMethod):
    """Settings of automatic differentiation variational inference.

    It starts at EM's optimum, or at starting values given by hand (``init``).

    Parameters
    ----------
    algorithm : {"meanfield", "fullrank"}
        A diagonal or a full covariance of the approximating Gaussian.
    iterations : int
        At most so many steps of stochastic gradient ascent.
    gradient_samples, elbo_samples : int
        Monte Carlo draws for each gradient and each estimate of the ELBO.
    evaluate_every : int
        Steps between two estimates of the ELBO.
    tolerance : float
        Converged when the ELBO typically changes by less than this many nats between two
        estimates. Stan's own criterion is relative to the ELBO, which for large data stops far
        from the optimum.
    draws : int
        Draws from the approximation.
    kernel : {"auto", "native", "portable"}
        The likelihood's implementation: "auto" takes the native (C++) one where it compiles.
    cmdstan : path, optional
        A CmdStan folder; default: the environment variable CMDSTAN, then what cmdstanpy finds.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=3, covariance_type="diag")
    >>> fit = model.fit(sg.datasets.galaxies(), method=sg.ADVI(draws=500), seed=1)
    >>> fit.kind, fit.lp.shape
    ('approximation', (1, 500))
    """

    algorithm: Literal["meanfield", "fullrank"] = "meanfield"
    iterations: int = 10_000
    gradient_samples: int = 10
    elbo_samples: int = 500
    evaluate_every: int = 100
    tolerance: float = 0.5
    draws: int = 4000

    name: ClassVar[str] = "advi"
    kind: ClassVar[Kind] = "approximation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("ADVI algorithm", self.algorithm, ("meanfield", "fullrank"))
        check_count("ADVI iterations", self.iterations)
        check_count("ADVI gradient_samples", self.gradient_samples)
        check_count("ADVI elbo_samples", self.elbo_samples)
        check_count("ADVI evaluate_every", self.evaluate_every)
        check_positive("ADVI tolerance", self.tolerance)
        check_count("ADVI draws", self.draws, minimum=2)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Fit the approximation and draw from it."""
        model = self.compiled(run)
        optimum = plausible_optima(problem, run)[0]
        start = (given_start(problem) or (optimum,))[0]
        # Stan's approximation starts with standard deviation 1 on the unconstrained scale. In the
        # problem's units that is far wider than the posterior of the means, and the first steps
        # would leave the optimum; in units of the means' standard errors it is about right.
        problem = problem.rescaled(_standard_error(optimum.mixture, problem))
        start, optimum = (o.in_units_of(problem) for o in (start, optimum))
        prior = float(log_prior(optimum.mixture, problem.priors, problem.structure))
        size = float(significant(max(1.0, abs(optimum.objective + prior))))  # of the ELBO, nearly
        with stan_run(model, problem, self.name) as (cmdstan, data):
            (init,) = stan_inits(cmdstan, [start.mixture], problem)
            vb = cmdstan.call(
                lambda stan: stan.variational(
                    data=data,
                    seed=run.stan_seed("advi"),
                    inits=init,  # type: ignore[arg-type]  # a file, as for sample()
                    algorithm=self.algorithm,
                    iter=self.iterations,
                    grad_samples=self.gradient_samples,
                    elbo_samples=self.elbo_samples,
                    eval_elbo=self.evaluate_every,
                    tol_rel_obj=self.tolerance / size,
                    draws=self.draws,
                    require_converged=False,
                    save_diagnostics=True,
                    sig_figs=SIGNIFICANT_FIGURES,
                    output_dir=cmdstan.directory,
                ),
                watch=self._watch(cmdstan.directory, run),
            )
            columns = tuple(vb.column_names)
            table = np.asarray(vb.variational_sample)[np.newaxis]  # (1, draws, columns)
            iterations, elbo = _read_elbo(cmdstan.directory)
            converged = "ELBO CONVERGED" in cmdstan.console()
        mixture, log_likelihood = read_mixtures(columns, table, problem)
        info = VariationalInfo(
            elbo_iterations=iterations,
            elbo=elbo,
            converged=converged,
            log_p=column(columns, table, "log_p__")[0],
            log_q=column(columns, table, "log_g__")[0],
            starts=(start,),
        )
        # Back to the units of the problem that was given.
        return Draws(mixture, log_likelihood, info).in_user_units(problem)

    def _watch(self, directory: Path, run: Run) -> Callable[[], None] | None:
        """Show how many iterations the diagnostic file tells of."""
        if not run.show_progress:
            return None
        advance = run.progress("ADVI iterations (at most)", self.iterations)
        shown = 0

        def watch() -> None:
            nonlocal shown
            texts = [path.read_text() for path in directory.glob("*diagnostic*.csv")]
            lines = [line for text in texts for line in text.splitlines()]
            done = max((int(x.split(",")[0]) for x in lines if x[:1].isdigit()), default=0)
            advance(done - shown)
            shown = done

        return watch


def _standard_error(mixture: Mixture, problem: Problem) -> float:
    """Typical standard error of a component's mean, to a power of two.

    It is the geometric average of scale / sqrt(N_k).
    """
    variances = CompleteDataVariances.of(mixture, problem).means
    return float(np.exp2(np.rint(0.5 * np.log2(variances).mean())))


def _read_elbo(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and ELBO from the diagnostic file that Stan writes."""
    (path,) = directory.glob("*diagnostic*.csv")
    rows = [line.split(",") for line in path.read_text().splitlines() if line[:1].isdigit()]
    table = np.array([[float(row[0]), float(row[2])] for row in rows])
    return table[:, 0], table[:, 1]
