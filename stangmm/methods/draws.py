"""What a method returns: mixtures, one for each draw, and apart from them the facts of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.base.brief import Brief
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem


@dataclass(frozen=True, eq=False, repr=False)
class Optimum(Brief):
    """One maximum that restarts found.

    Attributes
    ----------
    mixture : Mixture
        Without leading axes.
    objective : float
        What was maximized, at the maximum.
    restarts : int
        How many restarts ended here.
    converged : bool
    path : ndarray, shape (iterations,)
        The objective over the iterations; empty where the method does not report it.
    """

    mixture: Mixture
    objective: float
    restarts: int
    converged: bool
    path: FloatArray

    def in_units_of(self, problem: Problem) -> Optimum:
        """Bring a maximum of the likelihood from the user's units to the problem's."""
        offset = problem.log_likelihood_offset
        return replace(
            self,
            mixture=problem.from_user_units(self.mixture),
            objective=self.objective - offset,
            path=self.path - offset,
        )

    def in_user_units(self, problem: Problem, offset: float) -> Optimum:
        """Bring a maximum of the standardized problem back to the user's units."""
        return replace(
            self,
            mixture=problem.to_user_units(self.mixture),
            objective=self.objective + offset,
            path=self.path + offset,
        )


@dataclass(frozen=True, eq=False, repr=False)
class RestartInfo(Brief):
    """What all restarts of a point estimate did.

    Attributes
    ----------
    objective : str
        What was maximized: "log likelihood" or "log joint".
    optima : tuple of Optimum
        The distinct maxima, best first; collapsed restarts are left out.
    values : ndarray, shape (restarts,)
        Where each restart ended.
    collapsed : ndarray of bool, shape (restarts,)
        Restarts in which a component shrank onto a few rows.
    converged : ndarray of bool, shape (restarts,)
    paths : tuple of ndarray
        The objective over the iterations of each restart.
    rows_searched : int
        How many rows the restarts saw; the best optima then saw all.
    regularized : bool
        Whether what was maximized has a prior of one pseudo-row for each component besides, because
        the likelihood has no maximum (`EM.regularized`). ``values`` and ``paths`` are with it, the
        optima's objectives without.
    """

    objective: str
    optima: tuple[Optimum, ...]
    values: FloatArray
    collapsed: BoolArray
    converged: BoolArray
    paths: tuple[FloatArray, ...] = ()
    rows_searched: int = 0
    regularized: bool = False

    @property
    def best(self) -> Optimum:
        """The highest maximum that is not degenerate."""
        return self.optima[0]

    def in_user_units(self, problem: Problem) -> RestartInfo:
        """Bring the facts of the standardized problem back to the user's units."""
        offset = problem.log_likelihood_offset
        if self.objective == "log joint":
            offset += problem.log_prior_offset
        return replace(
            self,
            optima=tuple(o.in_user_units(problem, offset) for o in self.optima),
            values=self.values + offset,
            paths=tuple(path + offset for path in self.paths),
        )

    def polished(
        self, optima: tuple[Optimum, ...], restarts: list[int], rows_searched: int
    ) -> RestartInfo:
        """Give the search's facts with optima that have since seen all rows.

        ``restarts`` are the numbers of restarts that led to each, best of the search first.
        """
        ordered = sorted(restarts, reverse=True)
        counted = tuple(
            replace(o, restarts=ordered[i] if i < len(ordered) else 0) for i, o in enumerate(optima)
        )
        return replace(self, optima=counted, rows_searched=rows_searched)


@dataclass(frozen=True, eq=False, repr=False)
class VariationalInfo(Brief):
    """What diagnoses a variational approximation.

    Attributes
    ----------
    elbo_iterations, elbo : ndarray, shape (T,)
        The evidence lower bound over the iterations, as Stan printed it; empty for Pathfinder and
        Laplace, which do not climb it.
    converged : bool
        Whether the ELBO's relative change fell below Stan's tolerance; for Laplace, whether the
        mode was found.
    log_p, log_q : ndarray, shape (S,)
        Log joint density and log density of the approximation at each draw, on the unconstrained
        scale; their difference judges the approximation (PSIS).
    starts : tuple of Optimum
        Where it started.
    resampled : bool
        Whether the fit's draws have been resampled by importance weights. ``log_p`` and ``log_q``
        are those of the draws before, with all constants and for rows in the user's units, and
        ``log_p`` is -inf where another labelling of the components is meant.
    log_p_error : float
        Standard error of ``log_p``, in nats, where not all rows were used for it.
    missed : float
        Roughly which share of the posterior has a component without rows, where no draw can be.
    outweighed : tuple of Optimum
        Of ``method="laplace"``: see `McmcInfo`.
    """

    elbo_iterations: FloatArray
    elbo: FloatArray
    converged: bool
    log_p: FloatArray
    log_q: FloatArray
    starts: tuple[Optimum, ...]
    resampled: bool = False
    log_p_error: float = 0.0
    missed: float = 0.0
    outweighed: tuple[Optimum, ...] = ()

    def in_user_units(self, problem: Problem) -> VariationalInfo:
        """Bring the facts of the standardized problem back to the user's units."""
        offset = problem.log_likelihood_offset
        return replace(
            self,
            elbo=self.elbo + offset,
            log_p=self.log_p + offset if self.resampled else self.log_p,
            starts=tuple(o.in_user_units(problem, offset) for o in self.starts),
            outweighed=tuple(o.in_user_units(problem, offset) for o in self.outweighed),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Warmup(Brief):
    """Iterations of the chains before those that count, while the sampler adapted.

    Attributes
    ----------
    mixture : Mixture
        Leading axes (C, W): chains, iterations of each; labels as they were drawn.
    log_likelihood : ndarray, shape (C, W)
    sample_stats : mapping of str to ndarray, shape (C, W)
        As in `McmcInfo`.
    """

    mixture: Mixture
    log_likelihood: FloatArray
    sample_stats: Mapping[str, FloatArray]

    def of_chains(self, index: IntArray) -> Warmup:
        """Keep what concerns some of the chains."""
        stats = {name: values[index] for name, values in self.sample_stats.items()}
        return Warmup(self.mixture[index], self.log_likelihood[index], stats)

    def in_user_units(self, problem: Problem) -> Warmup:
        """Bring it from the standardized problem back to the user's units."""
        return replace(
            self,
            mixture=problem.to_user_units(self.mixture),
            log_likelihood=self.log_likelihood + problem.log_likelihood_offset,
        )


@dataclass(frozen=True, eq=False, repr=False)
class McmcInfo(Brief):
    """What diagnoses the chains: what the sampler measured, and nothing else.

    Attributes
    ----------
    sample_stats : mapping of str to ndarray, shape (C, S)
        By ArviZ's names, those that there are: ``diverging``, ``tree_depth``, ``energy``,
        ``n_steps``, ``acceptance_rate``, ``step_size``.
    max_tree_depth : int or None
        The limit that was set; None for a sampler without trees.
    starts : tuple of Optimum
        The optima around which the chains started, one for each chain; empty where they began
        elsewhere.
    left : tuple of Optimum
        The optima that a first run started from, whose draws led to better ones; empty if there
        was none.
    outweighed : tuple of Optimum
        The best optimum of the likelihood, where it is far above all starts, and the priors leave
        little of the posterior around it; otherwise empty.
    thin : int
        Iterations for each draw that was kept.
    warmup : Warmup or None
        What came before the draws, where it was asked for.
    """

    sample_stats: Mapping[str, FloatArray]
    max_tree_depth: int | None = None
    starts: tuple[Optimum, ...] = ()
    left: tuple[Optimum, ...] = ()
    outweighed: tuple[Optimum, ...] = ()
    thin: int = 1
    warmup: Warmup | None = None

    def of_chains(self, chains: Sequence[int], draws: Any = slice(None)) -> McmcInfo:
        """Keep what concerns some of the chains, or draws (C', S') of each."""
        index = np.array(chains)
        whole = isinstance(draws, slice)
        at = (index, draws) if whole else (index[:, np.newaxis], draws)
        warmup = self.warmup.of_chains(index) if self.warmup is not None and whole else None
        return replace(
            self,
            sample_stats={name: values[at] for name, values in self.sample_stats.items()},
            starts=tuple(self.starts[i] for i in chains) if self.starts else (),
            warmup=warmup,
        )

    def in_user_units(self, problem: Problem) -> McmcInfo:
        """Bring the facts of the standardized problem back to the user's units."""
        offset = problem.log_likelihood_offset
        starts, left, outweighed = (
            tuple(o.in_user_units(problem, offset) for o in optima)
            for optima in (self.starts, self.left, self.outweighed)
        )
        warmup = None if self.warmup is None else self.warmup.in_user_units(problem)
        return replace(self, starts=starts, left=left, outweighed=outweighed, warmup=warmup)


Info: TypeAlias = RestartInfo | VariationalInfo | McmcInfo


@dataclass(frozen=True, eq=False, repr=False)
class Draws(Brief):
    """Draws of mixtures with their log likelihoods.

    Attributes
    ----------
    mixture : Mixture
        Leading axes (chains, draws).
    log_likelihood : ndarray, shape (C, S)
    info : RestartInfo, VariationalInfo or McmcInfo
        Facts of the run; needed to judge the draws, not to use them.
    """

    mixture: Mixture
    log_likelihood: FloatArray
    info: Info

    @classmethod
    def from_point(cls, mixture: Mixture, log_likelihood: float, info: Info) -> Draws:
        """A point estimate is a posterior of one draw."""
        return cls(mixture.reshape(1, 1), np.full((1, 1), log_likelihood), info)

    def in_user_units(self, problem: Problem) -> Draws:
        """Bring draws of the standardized problem back to the user's units."""
        return Draws(
            problem.to_user_units(self.mixture),
            self.log_likelihood + problem.log_likelihood_offset,
            self.info.in_user_units(problem),
        )
