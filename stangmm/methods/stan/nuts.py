"""NUTS: draws from the posterior itself, by Stan's adaptive Hamiltonian Monte Carlo.

Hoffman & Gelman 2014 (https://jmlr.org/papers/v15/hoffman14a.html); Betancourt 2017
(doi:10.48550/arXiv.1701.02434).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, cast

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.checked import check_count, check_flag, check_positive
from stangmm.base.errors import InferenceError
from stangmm.base.names import made_by_names
from stangmm.methods.base import Kind, Run
from stangmm.methods.draws import Draws, Info, McmcInfo, Optimum, Warmup
from stangmm.methods.stan.mixing import (
    has_long_paths,
    is_poor,
    iterations_a_draw,
    needs_deeper_trees,
    needs_smaller_steps,
)
from stangmm.methods.stan.pivots import Pivots
from stangmm.methods.stan.regions import Region, led_on, regions, sharing_pivots
from stangmm.methods.stan.shared import (
    SIGNIFICANT_FIGURES,
    StanMethod,
    column,
    given_start,
    jittered,
    read_mixtures,
    stan_inits,
)
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

if TYPE_CHECKING:
    from cmdstanpy import CmdStanMCMC, CmdStanModel

T = TypeVar("T")

# CmdStan's column, and the name that ArviZ knows it by.
_SAMPLE_STATS = {
    "divergent__": "diverging",
    "treedepth__": "tree_depth",
    "energy__": "energy",
    "n_leapfrog__": "n_steps",
    "accept_stat__": "acceptance_rate",
    "stepsize__": "step_size",
    "lp__": "lp",
}


# Stan keeps the metric that it is given in a warm-up shorter than this, and adapts it in a longer.
_ADAPTS_METRIC_FROM = 150
_STEP_SIZE_WARMUP = 100
_METRIC_WARMUP = 300
# The target acceptance rate, and what it is raised to, by turns, where iterations diverge.
_ADAPT_DELTA, _SMALLER_STEPS = 0.8, (0.99, 0.999)
_HARD_DELTA = 0.9  # at first, where a small component holds few rows or paths are long
_EMPTY_WARMUP = 500  # for the wide tails of components without rows
_DEPTH, _DEEPER = 10, 12  # of trees, and where paths are cut off
_LONG_WARMUP = 1000  # where the metric led to long paths and few effective draws


@dataclass(frozen=True, eq=False)
class _Adaptation:
    """How the chains warm up; if they do not, the size of their steps is known."""

    metric: Literal["dense_e", "diag_e"]
    inverse_metrics: tuple[Any, ...]
    warmup: int
    step_sizes: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is told to the chains of one run.

    Attributes
    ----------
    points : tuple of Mixture
        Where each begins.
    starts : tuple of Optimum
        Around what.
    pivots : Pivots
        How means are told; the same for all chains.
    thin, adapt_delta, max_tree_depth
        See `NUTS`.
    left, outweighed : tuple of Optimum
        See `McmcInfo`.
    anew : bool
        Whether the metric has been adapted once more.
    name : str
        Of the stream of random numbers.
    """

    points: tuple[Mixture, ...]
    starts: tuple[Optimum, ...]
    adaptation: _Adaptation
    pivots: Pivots
    thin: int
    adapt_delta: float
    max_tree_depth: int
    left: tuple[Optimum, ...] = ()
    outweighed: tuple[Optimum, ...] = ()
    anew: bool = False
    name: str = "nuts"

    def going_on(self, draws: Draws, metrics: FloatArray) -> _Plan:
        """Begin where chains have ended, with the metrics that they had."""
        last = draws.mixture[:, -1]
        return replace(
            self,
            points=tuple(last[i] for i in range(len(last.weights))),
            adaptation=replace(self.adaptation, inverse_metrics=tuple(metrics)),
            name=f"{self.name}, going on",
        )

    def with_smaller_steps(self, thin: int) -> _Plan:
        """Adapt the steps anew, to be accepted nearly always; how long a run must be is open."""
        adaptation = replace(self.adaptation, warmup=_STEP_SIZE_WARMUP, step_sizes=())
        delta = next(each for each in _SMALLER_STEPS if each > self.adapt_delta)
        return replace(self, adaptation=adaptation, adapt_delta=delta, thin=thin)

    def with_metric_anew(self, at_least: float) -> _Plan:
        """Adapt a diagonal metric and the steps, for long enough to know the tails.

        Steps are to be accepted at this rate ``at_least``.
        """
        metrics = tuple(
            np.diagonal(each) if np.ndim(each) == 2 else each
            for each in map(np.asarray, self.adaptation.inverse_metrics)
        )
        adaptation = _Adaptation("diag_e", metrics, _LONG_WARMUP)
        delta = max(self.adapt_delta, at_least)
        return replace(self, adaptation=adaptation, adapt_delta=delta, anew=True)

    def longer(self, thin: int, draws: Draws) -> _Plan:
        """Take more iterations for each draw, and steps as they were."""
        steps = cast("McmcInfo", draws.info).sample_stats["step_size"][:, -1]
        adaptation = replace(self.adaptation, warmup=0, step_sizes=tuple(steps.tolist()))
        return replace(self, adaptation=adaptation, thin=thin)


@made_by_names
@dataclass(frozen=True)
class NUTS(StanMethod):
    """Settings of the No-U-Turn sampler.

    Chains start around modes of the posterior that are reached from EM's optima, jittered by about
    two posterior standard deviations; modes that are nearly as probable as the best get chains of
    their own. So does the part of the posterior where some components hold no row, if it can
    matter: these components are drawn from the prior. If draws lead to an optimum that is better
    than all of EM's, or to a place with more of the posterior where a component holds few rows, the
    chains start once more, from there. The mean of a small component with few
    rows is told relative to where one of them and the prior would have it, given its scale, which
    does not change the posterior: otherwise its mean and scale are a funnel. Where few rows lie far
    out, chains start where these are components of their own. With starting values given by hand
    (``init``) all chains start around these, jittered likewise; only the metric is that of the
    optimum which EM reaches from there.

    Parameters
    ----------
    chains : int
    warmup : int, optional
        Iterations of each chain for adaptation, not kept. By default 100 where the posterior is
        nearly normal or features are correlated, for the step size alone: the metric is then the
        inverse of the information that the optimum expects. Elsewhere, and where a small component
        holds few rows, 300, in which the metric is adapted, or 500 if a chain starts with
        components that hold no row. Where a draw then takes very many steps and the draws are too
        dependent, the chains adapt the metric once more, in 1000.
    draws : int
        Iterations of each chain that are kept.
    thin : int, optional
        Iterations for each draw that is kept. By default one; where the draws then are too
        dependent (an effective sample size below 0.11 of their number) or R-hat is above 1.01,
        the chains go on with up to ten for each, or with more where that is likely to be enough
        within half a minute or so, and the draws of this longer run are kept.
    adapt_delta : float, optional
        Target acceptance rate, in (0, 1); closer to 1 means smaller steps. By default 0.8, or 0.9
        where a small component holds few rows or a draw takes very many steps; where an iteration
        then diverges, the chains go on with 0.99 and then 0.999 (unless their paths are so long
        that smaller steps would not do), and the draws of the last run are kept.
    max_tree_depth : int, optional
        A draw takes at most 2^depth - 1 leapfrog steps. By default the depth is 10; where 1% to
        10% of the draws reach it, the chains go on with 12.
    parallel_chains : int, optional
        Chains at a time; default: as many as the processors allow.
    save_warmup : bool
        Whether to keep the warm-up of these chains as well: ``fit.info.warmup``.
    threads_per_chain : int
        Threads that share the likelihood of one chain; worthwhile for large data when there are
        more processors than chains. The draws do not depend on it.
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
    >>> fit = model.fit(sg.datasets.faithful(), method=sg.NUTS(chains=4, draws=500), seed=1)
    >>> fit.lp.shape
    (4, 500)
    >>> fit.diagnose().failed
    ()
    """

    chains: int = 4
    warmup: int | None = None
    draws: int = 1000
    thin: int | None = None
    adapt_delta: float | None = None
    max_tree_depth: int | None = None
    parallel_chains: int | None = None
    threads_per_chain: int = 1
    save_warmup: bool = False

    name: ClassVar[str] = "nuts"
    kind: ClassVar[Kind] = "mcmc"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("NUTS chains", self.chains)
        if self.warmup is not None:
            check_count("NUTS warmup", self.warmup, minimum=20)
        check_count("NUTS draws", self.draws)
        if self.thin is not None:
            check_count("NUTS thin", self.thin)
        if self.adapt_delta is not None:
            check_positive("NUTS adapt_delta", self.adapt_delta, below=1.0)
        if self.max_tree_depth is not None:
            check_count("NUTS max_tree_depth", self.max_tree_depth)
        if self.parallel_chains is not None:
            check_count("NUTS parallel_chains", self.parallel_chains)
        check_count("NUTS threads_per_chain", self.threads_per_chain)
        check_flag("NUTS save_warmup", self.save_warmup)

    @property
    def threaded(self) -> bool:
        """Whether the model is compiled with threads."""
        return self.threads_per_chain > 1

    def processors(self, available: int) -> int:
        """One chain's, unless more chains are to run side by side."""
        return self.threads_per_chain * (self.parallel_chains or 1)

    def chains_at_a_time(self, run: Run) -> int:
        """How many chains run side by side."""
        return self.parallel_chains or run.at_a_time(self.chains, self.threads_per_chain)

    def at_first(self) -> Self:
        """One run that does not go on."""
        delta = _ADAPT_DELTA if self.adapt_delta is None else self.adapt_delta
        depth = self.max_tree_depth or _DEPTH
        return replace(self, thin=self.thin or 1, adapt_delta=delta, max_tree_depth=depth)

    def longer(self, info: Info) -> Self | None:
        """As the chains go on by themselves, where the settings did not let them."""
        by_themselves = replace(self, thin=None, adapt_delta=None, max_tree_depth=None)
        return None if by_themselves == self else by_themselves

    def run(self, problem: Problem, run: Run) -> Draws:
        """Sample the posterior."""
        known = regions(problem, run)
        plan = self._plan(problem, run, known)
        draws, metrics = self._sample(problem, run, plan)
        better = () if problem.start is not None else led_on(draws, known, problem, run)
        if better:
            left = tuple(place.optimum for place in known)
            plan = replace(self._plan(problem, run, better), left=left)
            draws, metrics = self._sample(problem, run, plan)
        while True:
            if plan.pivots.left_by(draws.mixture) and is_poor(draws, problem):
                again = self._plan(problem, run, better or known, pivoting=False)
                plan = replace(again, left=plan.left)
                draws, metrics = self._sample(problem, run, plan)
            on, thin = plan.going_on(draws, metrics), plan.thin
            deeper = self._should_go_deeper(plan, draws)
            # Steps first: where they are too long, draws depend on one another for that alone.
            if self._should_step_less(plan, draws):
                on, deeper = on.with_smaller_steps(self.thin or 1), False
            elif not self.thin and (longer := iterations_a_draw(draws, problem, thin)) > thin:
                anew = not plan.anew and self.warmup is None
                anew = anew and has_long_paths(cast("McmcInfo", draws.info))
                rate = _HARD_DELTA if self.adapt_delta is None else 0.0
                on = on.with_metric_anew(rate) if anew else on.longer(longer, draws)
            elif deeper:
                on = on.longer(thin, draws)
            else:
                return draws
            plan = replace(on, max_tree_depth=_DEEPER) if deeper else on
            before = cast("McmcInfo", draws.info)
            draws, metrics = self._sample(problem, run, plan)
            if not plan.adaptation.warmup:  # the chains warmed up before
                info = replace(cast("McmcInfo", draws.info), warmup=before.warmup)
                draws = replace(draws, info=info)

    def _should_step_less(self, plan: _Plan, draws: Draws) -> bool:
        """Whether the user leaves the steps to the chains, and smaller ones may help."""
        free = self.adapt_delta is None and plan.adapt_delta < _SMALLER_STEPS[-1]
        return free and needs_smaller_steps(cast("McmcInfo", draws.info))

    def _should_go_deeper(self, plan: _Plan, draws: Draws) -> bool:
        """Whether the user leaves the paths' length to the chains, and longer ones may help."""
        free = self.max_tree_depth is None and plan.max_tree_depth < _DEEPER
        return free and needs_deeper_trees(cast("McmcInfo", draws.info))

    @one_blas_thread()
    def _plan(
        self, problem: Problem, run: Run, known: tuple[Region, ...], *, pivoting: bool = True
    ) -> _Plan:
        """Plan chains in some regions, or around starting values given by hand."""
        pivots = Pivots.none(problem.space)
        if pivoting:
            known, pivots = sharing_pivots(known[: self.chains])
        places = self._for_each_chain(known)
        adaptation = self._adaptation(places, pivots, run, self.compiled(run).cmdstan.version)
        rng = run.rng("nuts jitter")
        starts = self._for_each_chain(given_start(problem))
        points = [jittered(start.mixture, problem, rng) for start in starts]
        if not starts:
            points = [place.around(rng) for place in places]
            starts = tuple(place.start(rng) for place in places)
        usual = _HARD_DELTA if pivots.relative.any() else _ADAPT_DELTA
        delta = usual if self.adapt_delta is None else self.adapt_delta
        depth = self.max_tree_depth or _DEPTH
        plan = _Plan(tuple(points), starts, adaptation, pivots, self.thin or 1, delta, depth)
        return replace(plan, outweighed=places[0].outweighed)

    def _sample(self, problem: Problem, run: Run, plan: _Plan) -> tuple[Draws, FloatArray]:
        """Draws, and the inverse metric of each chain."""
        adaptation, steps = plan.adaptation, plan.adaptation.step_sizes
        with self.stan_run(self.compiled(run), problem, plan.pivots) as (cmdstan, data):
            inits = stan_inits(cmdstan, list(plan.points), problem, pivots=plan.pivots)

            def sample(stan: CmdStanModel) -> CmdStanMCMC:
                return stan.sample(
                    data=data,
                    chains=self.chains,
                    parallel_chains=self.chains_at_a_time(run),
                    threads_per_chain=self.threads_per_chain,
                    force_one_process_per_chain=True,  # so that one crash does not take all
                    seed=run.stan_seed(plan.name),
                    inits=inits,
                    metric=adaptation.metric,
                    inv_metric=list(adaptation.inverse_metrics),  # one for each chain
                    iter_warmup=adaptation.warmup,
                    iter_sampling=self.draws * plan.thin,
                    thin=plan.thin,
                    save_warmup=self.save_warmup,
                    adapt_engaged=not steps,
                    adapt_delta=None if steps else plan.adapt_delta,
                    step_size=list(steps) or None,
                    max_treedepth=plan.max_tree_depth,
                    sig_figs=SIGNIFICANT_FIGURES,
                    output_dir=cmdstan.directory,
                    show_progress=False,
                )

            try:
                mcmc = cmdstan.call(sample, watch=self._watch(cmdstan.directory, plan, run))
            except InferenceError as error:
                finished = _finished_chains(cmdstan.directory)
                if finished is not None:
                    error.partial = self._draws(finished, problem, plan)
                    done = error.partial.mixture.batch_shape[0]
                    error.add_note(f"{done} of {self.chains} chains finished: see `partial`.")
                raise
            metrics = adaptation.inverse_metrics if steps else mcmc.inv_metric
            return self._draws(mcmc, problem, plan), np.asarray(metrics)

    def _for_each_chain(self, points: tuple[T, ...]) -> tuple[T, ...]:
        """Deal points to the chains; none if there are none."""
        return tuple(points[i % len(points)] for i in range(self.chains)) if points else ()

    def _adaptation(
        self,
        places: tuple[Region, ...],
        pivots: Pivots,
        run: Run,
        cmdstan_version: tuple[int, int, int],
    ) -> _Adaptation:
        """Choose where the metric starts, and how long the warm-up is unless the user says."""
        rng = run.rng("nuts metric")
        stick_breaking = cmdstan_version < (2, 37, 0)
        if self.warmup is None or self.warmup < _ADAPTS_METRIC_FROM:
            dense = {
                id(place): place.dense_metric(rng, pivots, stick_breaking=stick_breaking)
                for place in places
            }
            metrics = [dense[id(place)] for place in places]
            if all(metric is not None for metric in metrics):
                return _Adaptation("dense_e", tuple(metrics), self.warmup or _STEP_SIZE_WARMUP)
        diagonal = tuple(place.diagonal_metric(rng, pivots) for place in places)
        empty = any(place.n_empty for place in places)
        warmup = _EMPTY_WARMUP if empty else _METRIC_WARMUP
        return _Adaptation("diag_e", diagonal, self.warmup or warmup)

    def _watch(self, directory: Path, plan: _Plan, run: Run) -> Callable[[], None] | None:
        """Show how many draws all chains have written; the warm-up is seldom among them."""
        if not run.show_progress:
            return None
        label, written = "NUTS draws (after the warm-up)", self.draws
        if self.save_warmup:
            label, written = "NUTS draws", self.draws + plan.adaptation.warmup // plan.thin
        advance = run.progress(label, self.chains * written)
        shown = 0

        def watch() -> None:
            nonlocal shown
            done = sum(_draws_in(path) for path in directory.glob("*.csv"))
            advance(done - shown)
            shown = done

        return watch

    def _draws(self, mcmc: CmdStanMCMC, problem: Problem, plan: _Plan) -> Draws:
        table = np.swapaxes(
            mcmc.draws(inc_warmup=self.save_warmup), 0, 1
        )  # (chains, draws, columns)
        columns, kept = tuple(mcmc.column_names), mcmc.num_draws_sampling
        mixture, log_likelihood = read_mixtures(columns, table, problem)
        stats = {known: column(columns, table, name) for name, known in _SAMPLE_STATS.items()}
        stats["lp"] = stats["lp"] - plan.pivots.log_volume(mixture)  # as if means were told
        warmup = None
        if self.save_warmup:
            before = {name: values[:, :-kept] for name, values in stats.items()}
            warmup = Warmup(mixture[:, :-kept], log_likelihood[:, :-kept], before)
        stats = {name: values[:, -kept:] for name, values in stats.items()}
        info = McmcInfo(
            stats,
            plan.max_tree_depth,
            plan.starts,
            plan.left,
            plan.outweighed,
            plan.thin,
            warmup,
        )
        return Draws(mixture[:, -kept:], log_likelihood[:, -kept:], info)


def _draws_in(path: Path) -> int:
    """Count the rows of one of CmdStan's files: no comments, no header."""
    with path.open("rb") as file:
        return max(0, sum(not line.startswith(b"#") for line in file) - 1)


def _finished_chains(directory: Path) -> CmdStanMCMC | None:
    """Read the chains that came to their end, when another one failed."""
    from cmdstanpy import from_csv

    ended = [p for p in sorted(directory.glob("*.csv")) if "Elapsed Time" in p.read_text()]
    if not ended:
        return None
    return cast("CmdStanMCMC", from_csv([str(p) for p in ended], method="sample"))
