"""EM's search for the best optimum: which starts climb, for how long, and when it is enough.

Starts of all kinds take a few steps; the most promising climb on (short runs, as in Biernacki,
Celeux & Govaert 2003, doi:10.1016/S0167-9473(02)00163-9). Split-and-merge moves start from the
best, mixtures are grown from one component, and where there are many optima, made of the components
of two. All that is repeated until the best optimum has been reached often and in different ways.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stangmm.base.arrays import BoolArray, IntArray
from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.climb import Climbed, climb
from stangmm.methods.em.moves import Moves, grown
from stangmm.methods.em.starts import Starter
from stangmm.methods.em.steps import EMSpace
from stangmm.methods.em.variations import crossed, shaken

_SHORT = 15  # steps after which starts are compared
_DRAFT_TOLERANCE = 1e-2  # nats; enough to know which optimum it will be
# Of a batch, so many go on as do this much work in a step (rows times components times numbers in
# a covariance, and an exponential, which costs as much as ten products).
_WORK, _EXPONENTIAL, _AT_LEAST = 2e6, 10, 3
# No new batch or moves after so much work in all: some seconds.
_ENOUGH_WORK = 2e9
# A run is given up when it lies so many times the gain of its last five steps, and of a nat, below
# the best.
_PATIENCE = 30.0
_MOVES, _JOINED, _SHAKEN = 6, 3, 10  # starts near the best optimum that are tried at once
MOVED, SHAKEN = "split and merge", "shaken"  # kinds of starts near the best optimum
GROWN, _GROWN = "grown", 4  # a kind of start, and how many of it there are
CROSSED, _CROSSED, _PARENTS = "crossed", 10, 8  # the same, and of how many optima
_NEXT = 2  # of so many optima the best is looked near that has not been
_ROUGH = 0.25  # optima for each run, from which on rows are shaken
# Starts of each kind in a batch, where a step of a batch does no more than this much work: up to
# there numpy's calls cost as much for one run as for many.
_COPIES, _CHEAP = 4, 4e5
# Enough is known when the best was reached so often, by starts of so many kinds, and many times, or
# by such a share of the runs that did not collapse: by nearly all, or of so many starts. Half of
# all kinds are enough, too, where runs do not end each at an optimum of its own.
_HITS, _KINDS, _MANY, _SHARE = 3, 2, 8, 0.25
_NEARLY_ALL, _STARTS, _VARIOUS = 0.9, 20, 5
# So is it where so many kinds of starts led to the best, and every other optimum of a start lies so
# many nats a row below: then clusters are far apart, and some starts have taken them together.
_AGREED, _APART = 4, 0.25
# Runs whose log likelihood, and whose log density of a row, differ by less are at one optimum.
_SAME, _SAME_DENSITY, _PROBES = 0.05, 0.05, 50


class Search:
    """Runs of EM on one data set, and what they reached.

    Parameters
    ----------
    space : EMSpace
    max_iterations : int
    rng : Generator
    within : float
        Optima that lie no more than so many nats below the best are as good as it.

    Attributes
    ----------
    kinds : list of str
        How each of them started.
    """

    def __init__(
        self,
        space: EMSpace,
        max_iterations: int,
        rng: np.random.Generator,
        *,
        within: float = 0.0,
    ) -> None:
        self.space = space
        self._max_iterations = max_iterations
        self._within = within
        self._starter = Starter(space, rng)
        self._found: Climbed | None = None
        self._doubtful = np.zeros(0, dtype=bool)  # of those
        self._optima: list[IntArray] | None = None  # among them
        self.kinds: list[str] = []
        self._explored = np.zeros(0)  # log likelihoods of optima near which it has looked

    @property
    def found(self) -> Climbed:
        """All runs so far; where they converged, to `_DRAFT_TOLERANCE`."""
        if self._found is None:
            raise RuntimeError("no run has ended")
        return self._found

    def run(self, restarts: int, advance: Callable[[int], None]) -> None:
        """Climb from up to so many starts."""
        several = self.space.n_components > 1
        was_grown = False
        while left := self._left(restarts):
            kinds = len(self._starter.makers)
            self._climb(*self._starter.next(min(kinds * self._copies(kinds), left)), advance)
            if several:
                self._look_near(restarts, advance)
            if several and not was_grown and (left := self._left(restarts)):
                was_grown = True
                starts = grown(self._starter, min(_GROWN, left))
                self._climb(starts, [GROWN] * len(starts.weights), advance)
                self._look_near(restarts, advance)
            parents = self._parents()
            if len(parents) > 1 and (left := self._left(restarts)):
                n_starts = min(_CROSSED * self._copies(_CROSSED), left)
                starts = crossed(self._starter, self.found.parameters[parents], n_starts)
                self._climb(starts, [CROSSED] * n_starts, advance)
                self._look_near(restarts, advance)

    def _left(self, restarts: int) -> int:
        """How many starts are to come; none where enough is known, or much work has been done."""
        if self._is_enough() or self._is_much():
            return 0
        return restarts - len(self.kinds)

    def _parents(self) -> IntArray:
        """Runs at the best optima, where there are many, of which others can be made.

        Those of two components have nothing to exchange.
        """
        if self.space.n_components < 3 or not self._is_rough():
            return np.zeros(0, dtype=np.int64)
        return np.array([group[0] for group in self.optima()[:_PARENTS]], dtype=np.int64)

    def _look_near(self, restarts: int, advance: Callable[[int], None]) -> None:
        """Start near the best optimum, or the next, for as long as that leads higher."""
        before = -np.inf
        while len(self.kinds) < restarts and self._best > before + _SAME:
            before = self._best
            at = self.found.parameters[self._unexplored()]
            more = not self._is_enough()
            n_shaken = _SHAKEN if more and self._is_rough() else 0
            copies = self._copies(_MOVES + n_shaken)
            moves = Moves(self._starter, at, thorough=more and not self._is_much())
            left = restarts - len(self.kinds)
            starts = moves.merged_and_split(min(copies * _MOVES, left))
            kinds = [MOVED] * len(starts.weights)
            if n_shaken := min(copies * n_shaken, left - len(kinds)):
                starts = EMParameters.joined([starts, shaken(self._starter, at, n_shaken)])
                kinds += [SHAKEN] * n_shaken
            self._climb(starts, kinds, advance)
            if not self._best > before + _SAME:
                left = restarts - len(self.kinds)
                starts = moves.halves_joined(min(copies * _JOINED, left))
                self._climb(starts, [MOVED] * len(starts.weights), advance)

    def _unexplored(self) -> IntArray:
        """A run at the best optimum near which no search has been, shape (1,).

        The best of all where that is so of none of the best few.
        """
        heads = [group[:1] for group in self.optima()[:_NEXT]]
        values = [float(self.found.log_likelihood[head[0]]) for head in heads]
        new = [i for i, v in enumerate(values) if np.abs(self._explored - v).min(initial=1) > _SAME]
        chosen = new[0] if new else 0
        self._explored = np.append(self._explored, values[chosen])
        return heads[chosen]

    @property
    def _best(self) -> float:
        """Log likelihood of the best optimum; minus infinity where none is."""
        best = self.optima()[:1]
        return float(self.found.log_likelihood[best[0][0]]) if best else -np.inf

    def _is_rough(self) -> bool:
        """Whether so many runs have ended each at an optimum of its own that there must be more."""
        counted = self._counted()
        return len(self.optima()) > _ROUGH * int(counted.sum())

    def _copies(self, n_starts: int) -> int:
        """How many times as many starts to make where a step of all costs next to nothing."""
        return int(np.clip(_CHEAP / (n_starts * _work(self.space)), 1, _COPIES))

    def optima(self) -> list[IntArray]:
        """Indices of the runs at each optimum, best first: of those that count and have ended."""
        if self._optima is None:
            counted = self._counted()
            ended = counted & self.found.converged
            self._optima = optima(self.space, self.found, ended if ended.any() else counted)
        return self._optima

    def _counted(self) -> BoolArray:
        return counted_runs(self.found, self._doubtful)

    def _climb(
        self, starts: EMParameters, kinds: list[str], advance: Callable[[int], None]
    ) -> None:
        """Short runs of all starts, long ones of the most promising."""
        if not kinds:
            return
        steps = min(_SHORT, self._max_iterations)
        runs = climb(self.space, starts, tolerance=_DRAFT_TOLERANCE, max_iterations=steps)
        going = np.flatnonzero(~runs.converged & ~runs.collapsed & ~self._hopeless(runs))
        if len(going) and self._max_iterations > steps:
            order = np.argsort(-runs.log_likelihood[going].round(3), kind="stable")
            going = np.sort(going[order[: n_followed(self.space)]])
            later = climb(
                self.space,
                runs.parameters[going],
                tolerance=_DRAFT_TOLERANCE,
                max_iterations=self._max_iterations - steps,
            )
            runs.continued(going, later)
        self._found = runs if self._found is None else self._found.with_others(runs)
        self._doubtful = np.concatenate([self._doubtful, self.space.doubtful(runs.parameters)])
        self._optima = None
        self.kinds.extend(kinds)
        advance(len(kinds))

    def _hopeless(self, runs: Climbed) -> BoolArray:
        """Which runs lie so far below the best that their last gains will not bring them there."""
        best = runs.log_likelihood[~runs.collapsed].max(initial=-np.inf)
        if self._found is not None:
            counted = self._counted()
            best = max(best, self._found.log_likelihood[counted].max(initial=-np.inf))
        gains = np.array([path[-1] - path[max(0, len(path) - 6)] for path in runs.paths])
        return np.asarray(best - runs.log_likelihood > _PATIENCE * (gains + 1.0))

    def _is_much(self) -> bool:
        """Whether so much work has been done that only what is begun is ended."""
        if self._found is None:
            return False
        return _work(self.space) * sum(len(path) for path in self.found.paths) > _ENOUGH_WORK

    def _is_enough(self) -> bool:
        if not self.kinds:
            return False
        counted = self._counted()
        if self._doubtful[counted].any():
            return False  # there may be an optimum that is not
        groups = self.optima()
        if not groups:
            return False
        if self.space.problem.space.n_weights == 1:
            return True
        # To have come back to where they started from says nothing about other optima.
        fresh = np.array([kind not in (MOVED, SHAKEN, CROSSED) for kind in self.kinds])
        heights = self.found.log_likelihood
        as_good = sum(self._best - heights[group[0]] <= self._within for group in groups)
        reached = np.concatenate(groups[:as_good])
        hits = reached[fresh[reached]]
        kinds = {self.kinds[i] for i in hits}
        share = len(hits) / max((counted & fresh).sum(), 1)
        if len(hits) < _HITS or len(kinds) < _KINDS:
            return False
        often = len(hits) >= _MANY or (share >= _SHARE and fresh.sum() >= _STARTS)
        various = len(kinds) >= _VARIOUS and not self._is_rough()
        others = [group for group in groups[as_good:] if fresh[group].any()]
        gap = self._best - heights[others[0][0]] if others else np.inf
        apart = len(kinds) >= _AGREED and gap > _APART * self.space.total
        return bool(often or various or apart or share >= _NEARLY_ALL)


def n_followed(space: EMSpace) -> int:
    """How many runs it is worth to follow to their end at once."""
    return max(_AT_LEAST, int(_WORK / _work(space)))


def _work(space: EMSpace) -> float:
    """Of one step of one run; a row that misses values has a matrix of its own to factor."""
    d = space.n_features
    numbers = d * d if space.structure.correlated else d
    work = float(space.n_rows * space.n_components * (numbers + _EXPONENTIAL))
    if space.structure.correlated:
        work += float(space.n_incomplete * space.n_components * d**3)
    return work


def good(space: EMSpace, found: Climbed) -> BoolArray:
    """Runs that count: those that are not doubtful, or if there are none, all not collapsed."""
    return counted_runs(found, space.doubtful(found.parameters))


def counted_runs(found: Climbed, is_doubtful: BoolArray) -> BoolArray:
    """As `good`, where it is known which are doubtful."""
    free = ~found.collapsed & ~is_doubtful
    return free if free.any() else ~found.collapsed


def optima(space: EMSpace, found: Climbed, counted: BoolArray) -> list[IntArray]:
    """Indices of the runs at each optimum, best first.

    The log density of rows has no labels, so that it does not matter how components are numbered.
    """
    index = np.flatnonzero(counted)
    if not len(index):
        return []
    index = index[np.argsort(-found.log_likelihood[index].round(6), kind="stable")]
    x = space.problem.x[:: max(1, space.problem.n_observations // _PROBES)]
    density = space.mixture_of(found.parameters[index]).log_density(x)
    log_lik = found.log_likelihood[index]
    left = np.ones(len(index), dtype=bool)
    groups = []
    while left.any():
        first = int(np.argmax(left))
        same = left & (log_lik[first] - log_lik < _SAME)
        same &= np.abs(density - density[first]).mean(axis=1) < _SAME_DENSITY
        groups.append(index[same])
        left &= ~same
    return groups
