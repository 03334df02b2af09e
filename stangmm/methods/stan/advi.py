"""ADVI: variational Bayes by Stan, a Gaussian on the unconstrained scale that maximizes the ELBO.

Kucukelbir et al. 2017 (https://jmlr.org/papers/v18/16-107.html).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import check_choice, check_count, check_positive
from stangmm.base.names import made_by_names
from stangmm.base.rounding import significant
from stangmm.base.thresholds import ROWS_KEPT_OK
from stangmm.cmdstan.run import CmdStanRun
from stangmm.methods.base import Kind, Run
from stangmm.methods.draws import Draws, Info, VariationalInfo
from stangmm.methods.stan.shared import (
    SIGNIFICANT_FIGURES,
    CompleteDataVariances,
    StanMethod,
    column,
    given_start,
    plausible_optima,
    read_mixtures,
    stan_inits,
)
from stangmm.model.joint import log_prior
from stangmm.model.mixture import Mixture, rows_kept
from stangmm.model.problem import Problem

if TYPE_CHECKING:
    from cmdstanpy import CmdStanModel

# Stan's approximation starts with standard deviation 1 in every coordinate, mostly far wider than
# the posterior, and has to shrink before its mean has gone anywhere. Steps (Stan's eta) of at most
# this length do that; the second is tried where a component of the start was lost by the first.
# Stan's own search for a step size begins at 100, and looks at the ELBO after 50 steps only.
_STEP_SIZES = (0.1, 0.03)


@made_by_names
@dataclass(frozen=True)
class ADVI(StanMethod):
    """Settings of automatic differentiation variational inference.

    It starts at EM's optimum, or at starting values given by hand (``init``), and climbs by short
    steps so that it keeps the components that are there. If one is lost nevertheless,
    it climbs again by shorter steps.

    Parameters
    ----------
    algorithm : {"meanfield", "fullrank"}
        A diagonal or a full covariance of the approximating Gaussian.
    iterations : int
        Maximum number of steps of stochastic gradient ascent.
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
    keep : path, optional
        A folder for CmdStan's own files; each run gets one of its own in it. By default the files
        are removed.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=2)
    >>> fit = model.fit(sg.datasets.faithful(), method=sg.ADVI(draws=1000), seed=2)
    >>> fit.kind, fit.lp.shape
    ('approximation', (1, 1000))
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

    def longer(self, info: Info) -> Self | None:
        """Ten times the iterations, if there were too few."""
        enough = isinstance(info, VariationalInfo) and info.converged
        return None if enough else replace(self, iterations=10 * self.iterations)

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
        elbo = float(significant(max(1.0, abs(optimum.objective + prior)), bits=12))  # nearly
        climbs: list[_Climb] = []
        with self.stan_run(model, problem) as (cmdstan, data):
            (init,) = stan_inits(cmdstan, [start.mixture], problem)
            for step_size in _STEP_SIZES:
                climb = self._climb(cmdstan, data, init, step_size, self.tolerance / elbo, run)
                climbs.append(climb)
                mixture, _ = read_mixtures(climb.columns, climb.mean, problem)
                if rows_kept(start.mixture, mixture, problem.x, problem.labels) >= ROWS_KEPT_OK:
                    break
            else:  # all have left it: then it is the best of them
                climb = max(climbs, key=lambda each: each.elbo[-1])
        mixture, log_likelihood = read_mixtures(climb.columns, climb.draws, problem)
        info = VariationalInfo(
            elbo_iterations=climb.iterations,
            elbo=climb.elbo,
            converged=climb.converged,
            log_p=column(climb.columns, climb.draws, "log_p__")[0],
            log_q=column(climb.columns, climb.draws, "log_g__")[0],
            starts=(start,),
        )
        # Back to the units of the problem that was given.
        return Draws(mixture, log_likelihood, info).in_user_units(problem)

    def _climb(
        self,
        cmdstan: CmdStanRun,
        data: str,
        init: str,
        step_size: float,
        relative_tolerance: float,
        run: Run,
    ) -> _Climb:
        """Climb the ELBO once, with steps of one size."""
        name = f"step-{step_size}"  # in the names of this climb's files

        def approximate(stan: CmdStanModel) -> None:
            # cmdstanpy 1.3 cannot read a file without an adaptation, which is complete all the
            # same: it is read below.
            with suppress(ValueError):
                stan.variational(
                    data=data,
                    seed=run.stan_seed("advi"),
                    inits=init,  # type: ignore[arg-type]  # a file, as for sample()
                    algorithm=self.algorithm,
                    iter=self.iterations,
                    grad_samples=self.gradient_samples,
                    elbo_samples=self.elbo_samples,
                    eta=step_size,
                    adapt_engaged=False,
                    eval_elbo=self.evaluate_every,
                    tol_rel_obj=relative_tolerance,
                    draws=self.draws,
                    require_converged=False,
                    save_diagnostics=True,
                    sig_figs=SIGNIFICANT_FIGURES,
                    output_dir=cmdstan.directory,
                    time_fmt=name,
                )

        cmdstan.call(approximate, watch=self._watch(cmdstan.directory, run))
        return _Climb.read(cmdstan.directory, name)

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


@dataclass(frozen=True, eq=False)
class _Climb:
    """What one climb of the ELBO came to."""

    columns: tuple[str, ...]
    mean: FloatArray  # (columns,), at the approximation's mean on the unconstrained scale
    draws: FloatArray  # (1, draws, columns)
    iterations: FloatArray  # (T,)
    elbo: FloatArray  # (T,)
    converged: bool

    @classmethod
    def read(cls, directory: Path, name: str) -> _Climb:
        """Read the files that Stan wrote under a name."""
        (path,) = directory.glob(f"*{name}.csv")
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        table = np.loadtxt(lines[1:], delimiter=",", ndmin=2)
        (path,) = directory.glob(f"*{name}-diagnostic.csv")
        rows = [line.split(",") for line in path.read_text().splitlines() if line[:1].isdigit()]
        trace = np.array([[float(row[0]), float(row[2])] for row in rows])
        (path,) = directory.glob(f"*{name}*.txt")
        return cls(
            columns=tuple(_stan_name(field) for field in lines[0].split(",")),
            mean=table[0],
            draws=table[np.newaxis, 1:],
            iterations=trace[:, 0],
            elbo=trace[:, 1],
            converged="ELBO CONVERGED" in path.read_text(),
        )


def _stan_name(field: str) -> str:
    """``means.1.2`` in Stan's files is means[1,2]."""
    name, *index = field.split(".")
    return f"{name}[{','.join(index)}]" if index else name
