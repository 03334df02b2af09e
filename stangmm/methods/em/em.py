"""EM: maximum likelihood by Expectation-Maximization, from many starting points.

The E step computes responsibilities, the M step weighted moments (Dempster, Laird & Rubin 1977,
doi:10.1111/j.2517-6161.1977.tb01600.x). The steps themselves are in `steps`, how they are taken
in `climb`, where from in `starts` and `moves`, and how often in `search`. Where values
are missing at random, what is maximized is the likelihood of the values that are there (`rows`).
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from stangmm.base.blas import one_blas_thread
from stangmm.base.checked import check_count, check_positive
from stangmm.base.errors import InferenceError
from stangmm.base.names import made_by_names
from stangmm.methods.base import Kind, Method, Run
from stangmm.methods.draws import Draws, Info, Optimum, RestartInfo
from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.climb import Climbed, climb
from stangmm.methods.em.restarts import restart_report
from stangmm.methods.em.search import Search, good, n_followed, optima
from stangmm.methods.em.starts import Starter
from stangmm.methods.em.steps import EMSpace
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

# With more rows than this, restarts search on a random subset and the best then see all rows: at
# least so many rows, and so many for each free number of the model.
SEARCH_ROWS = 5_000
SEARCH_ROWS_PER_PARAMETER = 100
# So many of the optima on the subset take a few steps on all rows, and the best of them go on.
_CANDIDATES, _FEW_STEPS = 12, 10
# Of so many times as many rows, so many are climbed on before all; an optimum is lower where they
# have it so many standard errors lower.
_AHEAD_FROM, _AHEAD, _CLEAR = 4, 2**15, 4.0
# Along flat directions the likelihood is rounded so coarsely that it does not tell when to end:
# regularized EM ends when no number changes by more than this.
_SETTLED = 1e-8


@made_by_names
@dataclass(frozen=True)
class EM(Method):
    """Settings of Expectation-Maximization.

    It starts from partitions of the rows by clustering of several kinds, in several coordinate
    systems; then from the best optimum so far with two components merged and another one split;
    where that is not enough, from mixtures that are grown from one component by splitting it; and
    where there are many optima, from rows that have changed their components.
    From starting values given by hand (``init``), it runs once, without restarts.

    No component gets narrower than the data are rounded (`stangmm.data.resolution`), so that the
    likelihood has a maximum where values repeat. Optima in which a component holds hardly more rows
    than it takes to estimate it are left out, and so, as long as there are others, are those in
    which it stands on few equal values, or has hardly enough rows for so many features. Where no
    restart has found another one (a row may lie so far out that it becomes a component of its own),
    the estimate is the mode under the prior of `EM.regularized`, and a check of the fit fails.

    Parameters
    ----------
    restarts : int
        Starting points, at most. EM stops sooner when starts of different kinds have reached the
        best optimum again and again, and none near it is higher. Of a batch of starts that takes
        long, the most promising are followed to their end.
    tolerance : float
        A run has converged when the log likelihood that it can still gain, as the last steps
        predict it, is below this many nats, or when fifty accelerated steps together have gained
        less than 0.01: where components are not told apart by the data, the likelihood grows
        without end but also without meaning.
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

    restarts: int = 200
    tolerance: float = 1e-6
    max_iterations: int = 1000

    name: ClassVar[str] = "em"
    kind: ClassVar[Kind] = "point"
    any_structure: ClassVar[bool] = True
    in_chunks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("EM restarts", self.restarts)
        check_positive("EM tolerance", self.tolerance)
        check_count("EM max_iterations", self.max_iterations)

    def longer(self, info: Info) -> Self | None:
        """Ten times the iterations; None where there is no maximum to reach."""
        if isinstance(info, RestartInfo) and info.regularized:
            return None
        return replace(self, max_iterations=10 * self.max_iterations)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Maximize the likelihood; the best optimum that is not degenerate wins."""
        info = self.search(problem, run)
        return Draws.from_point(info.best.mixture, info.best.objective, info)

    def search(self, problem: Problem, run: Run, *, within: float = 0.0) -> RestartInfo:
        """Run all restarts and sort what they found.

        If every one collapsed, runs start from the optima of `regularized` once more; if they
        collapse, too, these are the answer. Where the best of them has groups of rows and rows far
        out in components of their own, no lower one is tried, in which they would share one.

        Raises
        ------
        InferenceError
            The run from a start given by hand collapsed.
        """
        space = EMSpace(problem)
        with one_blas_thread():
            if space.start is not None:
                return self._report(space, self._climb(space, space.start))
            part, found = self._found(space, run, within)
            with suppress(InferenceError):
                return self._polished(part, space, found)
            regularized = self.regularized(problem, run, within=within)
            starts = EMParameters.joined(
                [part.parameters_of(o.mixture) for o in regularized.optima]
            )
            if has_groups_beside_rows_far_out(part, starts[np.arange(1)]):
                starts = starts[np.arange(1)]
            more = self._climb(part, starts)
            with suppress(InferenceError):
                return self._polished(part, space, found.with_others(more))
            return regularized

    def _found(self, space: EMSpace, run: Run, within: float) -> tuple[EMSpace, Climbed]:
        """All restarts, on so many rows as it takes."""
        rng = run.rng("em")
        part = self._search_space(space, rng)
        advance = run.progress("EM restarts (at most)", self.restarts)
        search = Search(part, self.max_iterations, rng, within=within)
        search.run(self.restarts, advance)
        advance(self.restarts - len(search.kinds))
        return part, search.found

    def _polished(self, part: EMSpace, space: EMSpace, found: Climbed) -> RestartInfo:
        """Bring the best optima to convergence, on all rows.

        On the way some may turn out to have been saddles, or to end in a spike: then the next ones
        are polished, too.
        """
        polished = np.zeros(len(found.log_likelihood), dtype=bool)
        while True:
            counted = good(part, found)
            ended = counted & found.converged
            at = optima(part, found, ended if ended.any() else counted)
            if not at:
                break
            at = at[: n_followed(space) if space is part else _CANDIDATES]
            rough = [g for g in at if not polished[g].all()]
            if space is not part or not rough:
                break
            ends = self._climb(space, found.parameters[np.array([g[0] for g in rough])])
            for i, members in enumerate(rough):
                found.continued(members, ends[np.full(len(members), i)])
                polished[members] = True
        found.collapsed |= ~counted
        if space is part or not at:
            return self._report(part, found)
        starts = found.parameters[np.array([g[0] for g in at])]
        if space.in_chunks or space.n_held > _AHEAD_FROM * _AHEAD:
            starts = self._ahead(space, starts)
        ends = self._climb(space, self._promising(space, starts))
        report = self._report(part, found)
        return report.polished(self._report(space, ends).optima, [len(g) for g in at], part.n_rows)

    def _ahead(self, space: EMSpace, starts: EMParameters) -> EMParameters:
        """Climb on a sample first, since each step on all rows reads them once.

        Runs go on where the sample does not show that the best one is higher on all rows.
        """
        rows = np.arange(space.n_held)
        if not space.in_chunks:
            rows = space.random_rows(_AHEAD, np.random.default_rng(zlib.crc32(b"ahead")))
        part = space.subset(rows)
        ends = self._climb(part, self._promising(part, starts))
        labels = space.problem.labels
        density = part.mixture_of(ends.parameters).log_density(
            space.problem.x[rows], None if labels is None else labels[rows]
        )
        counted = ~ends.collapsed
        if not counted.any():
            return starts
        best = int(np.argmax(np.where(counted, density.sum(axis=1), -np.inf)))
        behind = density[best] - density
        error = behind.std(axis=1) / np.sqrt(len(rows))
        return ends.parameters[counted & (behind.mean(axis=1) <= _CLEAR * error)]

    def _promising(self, space: EMSpace, starts: EMParameters) -> EMParameters:
        """The starts that are highest after a few steps, as far as they have come."""
        n = n_followed(space)
        if len(starts.weights) <= n:
            return starts
        runs = climb(space, starts, tolerance=self.tolerance, max_iterations=_FEW_STEPS)
        reached = np.where(runs.collapsed, -np.inf, runs.log_likelihood).round(3)
        return runs.parameters[np.argsort(-reached, kind="stable")[:n]]

    def _climb(self, space: EMSpace, start: EMParameters) -> Climbed:
        return climb(space, start, tolerance=self.tolerance, max_iterations=self.max_iterations)

    def regularized(self, problem: Problem, run: Run, *, within: float = 0.0) -> RestartInfo:
        """As `search`, with covariances shrunk towards that of the data so that none collapses.

        Adds one pseudo-row to each component, with the covariance of all data shrunk to a K-th
        of their volume (Fraley & Raftery 2007, doi:10.1007/s00357-007-0004-5). What the data's size
        is does not hang on single values far out. Of several modes that of the highest density is
        the best; it ends with EM's own steps, until nothing moves.
        """
        space = EMSpace(problem, pseudo_rows=1.0)
        with one_blas_thread():
            if space.start is not None:
                info = self._report(space, self._climb(space, space.start))
            else:
                part, found = self._found(space, run, within)
                info = self._polished(part, space, found)
            settled = space.mixture_of(self._settled(space, info.best.mixture))[0]
        optima = (replace(info.best, mixture=settled), *info.optima[1:])
        return replace(
            info, optima=tuple(_without_prior(space, o) for o in optima), regularized=True
        )

    def _settled(self, space: EMSpace, mixture: Mixture) -> EMParameters:
        parameters = space.parameters_of(mixture)
        for _ in range(self.max_iterations):
            before = parameters
            parameters, _ = space.maximization(space.expectation(before)[1])
            if _change(before, parameters) < _SETTLED:
                break
        return parameters

    def starting_points(self, problem: Problem, run: Run) -> Mixture:
        """Where EM would start, as a batch of mixtures (restarts,) in the problem's units.

        A start given by hand is the only one.
        """
        rng = run.rng("em")
        space = self._search_space(EMSpace(problem), rng)
        return space.mixture_of(self._starts(space, rng))

    def _search_space(self, space: EMSpace, rng: np.random.Generator) -> EMSpace:
        free = space.problem.space.size + 1
        wanted = max(SEARCH_ROWS, SEARCH_ROWS_PER_PARAMETER * free)
        if space.n_rows <= wanted or space.problem.start is not None:
            return space
        return space.subset(space.random_rows(min(wanted, space.n_held), rng))

    def _starts(self, space: EMSpace, rng: np.random.Generator) -> EMParameters:
        """All starting points; a start given by hand is the only one."""
        if space.start is not None:
            return space.start
        return Starter(space, rng).next(self.restarts)[0]

    def _report(self, space: EMSpace, result: Climbed) -> RestartInfo:
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


def has_groups_beside_rows_far_out(space: EMSpace, mixture: EMParameters) -> bool:
    """Whether some components of a mixture (1,) hold few rows far out, and two or more are groups.

    None holds too few rows that are not far out.
    """
    held, far = space.rows_held(mixture.weights * space.total), space.lie_far_out(mixture.means)
    too_few, apart = held < space.min_rows, far & (held <= space.few_rows)
    groups = ~(too_few | apart)
    return bool(apart.any() and far[too_few].all() and groups.sum() > 1)


def _without_prior(space: EMSpace, optimum: Optimum) -> Optimum:
    """The optimum with its log likelihood, where it has the log density of the pseudo-rows, too."""
    prior = float(space.penalty(space.parameters_of(optimum.mixture))[0])
    return replace(optimum, objective=optimum.objective - prior, path=optimum.path - prior)


def _change(old: EMParameters, new: EMParameters) -> float:
    """Largest change of a number, in coordinates in which all data have variance 1."""
    pairs = [(old.weights, new.weights), (old.means, new.means)]
    pairs.append((old.covariances, new.covariances))
    return max(float(np.abs(a - b).max()) for a, b in pairs)
