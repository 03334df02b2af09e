"""EM: maximum likelihood by Expectation-Maximization, from many starting points.

The E step computes responsibilities, the M step weighted moments (Dempster, Laird & Rubin 1977,
doi:10.1111/j.2517-6161.1977.tb01600.x). The steps themselves are in `steps`. Where values are
missing at random, what is maximized is the likelihood of the values that are there (`rows`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.base.checked import check_count, check_positive
from stangmm.methods.base import Kind, Method, Run
from stangmm.methods.draws import Draws, RestartInfo
from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.restarts import distinct, restart_report, usable
from stangmm.methods.em.steps import EMSpace
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

# With more rows than this, restarts search on a random subset and the best then see all rows: at
# least so many rows, and so many for each free number of the model.
_SEARCH_ROWS = 5_000
_SEARCH_ROWS_PER_PARAMETER = 100
_DRAFT_TOLERANCE = 1e-2  # nats; good enough for a place to start from
_SCOUT_ITERATIONS = 300  # on a subset of the rows
# How many distinct optima of the search are polished on all rows, and how near the best (in nats).
_POLISHED, _POLISHED_WITHIN = 3, 10.0


@dataclass(frozen=True)
class EM(Method):
    """Settings of Expectation-Maximization.

    From starting values given by hand (``init``), it runs once, without restarts.

    Parameters
    ----------
    restarts : int
        Starting points: half by k-means++ (Arthur & Vassilvitskii 2007), half with random rows as
        means and the covariance of all data.
    tolerance : float
        A run has converged when the log likelihood that it can still gain, estimated by Aitken's
        acceleration (Boehning et al. 1994, doi:10.1007/BF00720758), is below this many nats.
    max_iterations : int
        A run that needs more is reported as not converged.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=2)
    >>> fit = model.fit(sg.datasets.faithful(), method=sg.EM(restarts=10), seed=1)
    >>> print(f"{fit.total_log_likelihood.item():.3f}")
    -1130.264
    """

    restarts: int = 50
    tolerance: float = 1e-6
    max_iterations: int = 1000

    name: ClassVar[str] = "em"
    kind: ClassVar[Kind] = "point"

    def __post_init__(self) -> None:
        check_count("EM restarts", self.restarts)
        check_positive("EM tolerance", self.tolerance)
        check_count("EM max_iterations", self.max_iterations)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Maximize the likelihood; the best optimum that is not degenerate wins."""
        info = self.search(problem, run)
        return Draws.from_point(info.best.mixture, info.best.objective, info)

    def search(self, problem: Problem, run: Run) -> RestartInfo:
        """Run all restarts and sort what they found.

        Raises
        ------
        InferenceError
            Every restart collapsed: no maximum of the likelihood was found.
        """
        space = EMSpace(problem)
        rng = run.rng("em")
        searched = self._search_space(space, rng)
        if searched is space:
            return self._report(space, self._climb(space, self._starts(space, rng), run))
        scout = replace(
            self,
            tolerance=max(self.tolerance, _DRAFT_TOLERANCE),
            max_iterations=min(self.max_iterations, _SCOUT_ITERATIONS),
        )
        result = scout._climb(searched, scout._starts(searched, rng), run)
        report = self._report(searched, result)
        groups = distinct(result.log_likelihood, result.usable)
        best = result.log_likelihood[groups[0][0]]
        near = [g for g in groups if result.log_likelihood[g[0]] > best - _POLISHED_WITHIN]
        first_of_each = np.array([int(members[0]) for members in near[:_POLISHED]])
        polished = self._climb(space, result.parameters[first_of_each], run)
        final = self._report(space, polished)
        counts = [len(members) for members in near]
        return report.polished(final.optima, counts, searched.n_rows)

    def regularized(self, problem: Problem, run: Run) -> RestartInfo:
        """As `search`, with covariances shrunk towards that of the data so that none collapses.

        Adds one pseudo-row to each component, with the covariance of all data shrunk to a K-th
        of their volume (Fraley & Raftery 2007, doi:10.1007/s00357-007-0004-5): a place to start
        other methods from where the likelihood itself has no usable maximum.
        """
        rng = run.rng("em")
        space = self._search_space(EMSpace(problem), rng)
        given = space.start
        starts = space.starts(self.restarts, rng) if given is None else given
        return self._report(space, self._climb(space, starts, run, pseudo_rows=1.0))

    def starting_points(self, problem: Problem, run: Run) -> Mixture:
        """Where EM would start, as a batch of mixtures (restarts,) in the problem's units.

        A start given by hand is the only one.
        """
        rng = run.rng("em")
        space = self._search_space(EMSpace(problem), rng)
        return space.mixture_of(self._starts(space, rng))

    def _search_space(self, space: EMSpace, rng: np.random.Generator) -> EMSpace:
        free = space.problem.space.size + 1
        wanted = max(_SEARCH_ROWS, _SEARCH_ROWS_PER_PARAMETER * free)
        if space.n_rows <= wanted or space.problem.start is not None:
            return space
        return space.subset(space.random_rows(wanted, rng))

    def _report(self, space: EMSpace, result: _Result) -> RestartInfo:
        return restart_report(
            space.problem,
            space.mixture_of(result.parameters),
            method="EM",
            objective="log likelihood",
            values=result.log_likelihood,
            converged=result.converged,
            is_collapsed=result.collapsed,
            paths=tuple(np.array(path) for path in result.paths),
        )

    def _starts(self, space: EMSpace, rng: np.random.Generator) -> EMParameters:
        """Starting points; every second one first climbs with regularized covariances.

        Where components are many for the data, plain starts mostly collapse and these do not. A
        start given by hand is the only one, and left as it is.
        """
        if space.start is not None:
            return space.start
        starts = space.starts(self.restarts, rng)
        second = np.arange(0, self.restarts, 2)
        draft = replace(self, tolerance=_DRAFT_TOLERANCE)._climb(
            space, starts[second], None, pseudo_rows=1.0
        )
        starts.assign(second, draft.parameters)
        return starts

    def _climb(
        self, space: EMSpace, start: EMParameters, run: Run | None, pseudo_rows: float = 0.0
    ) -> _Result:
        """Iterate E and M steps until every restart has converged, collapsed or run out."""
        n_runs = len(start.weights)
        result = _Result.empty(start)
        active = np.arange(n_runs)
        parameters = start
        previous = np.full((2, n_runs), -np.inf)
        advance = run.progress("EM restarts", n_runs) if run else None
        for iteration in range(self.max_iterations):
            log_lik, sums = space.expectation(parameters)
            for i, value in zip(active, log_lik, strict=True):
                result.paths[i].append(float(value))
            updated, spikes = space.maximization(sums, pseudo_rows)
            with np.errstate(invalid="ignore", divide="ignore"):
                gain = log_lik - previous[0]
                slope = gain / (previous[0] - previous[1])
                still_to_gain = gain * slope / (1 - slope)
                rounding = 1e-14 * np.abs(log_lik) * np.sqrt(space.n_rows)
                converged = (slope < 1) & (np.abs(still_to_gain) < self.tolerance)
                converged &= gain < self.tolerance
                converged |= np.abs(gain) <= rounding
            done = converged | spikes | (iteration == self.max_iterations - 1)
            if done.any():
                result.store(
                    active[done], parameters[done], log_lik[done], converged[done], spikes[done]
                )
                if advance:
                    advance(int(done.sum()))
                active, updated = active[~done], updated[~done]
                previous, log_lik = previous[:, ~done], log_lik[~done]
                if not len(active):
                    break
            previous = np.stack([log_lik, previous[0]])
            parameters = updated
        return result


@dataclass(eq=False)
class _Result:
    parameters: EMParameters
    log_likelihood: FloatArray
    converged: BoolArray
    collapsed: BoolArray
    paths: list[list[float]] = field(default_factory=list)

    @property
    def usable(self) -> BoolArray:
        return usable(self.converged, self.collapsed)

    @classmethod
    def empty(cls, like: EMParameters) -> _Result:
        n = len(like.weights)
        copies = EMParameters(like.weights.copy(), like.means.copy(), like.covariances.copy())
        nothing = np.zeros(n, dtype=bool)
        return cls(copies, np.full(n, -np.inf), nothing, nothing.copy(), [[] for _ in range(n)])

    def store(
        self,
        index: IntArray,
        parameters: EMParameters,
        log_likelihood: FloatArray,
        converged: BoolArray,
        collapsed: BoolArray,
    ) -> None:
        self.parameters.assign(index, parameters)
        self.log_likelihood[index] = log_likelihood
        self.converged[index] = converged & ~collapsed
        self.collapsed[index] = collapsed
