"""Regions of the posterior where chains start: around a mode, all components holding rows or not.

With more components than the data need, a part of the posterior lies where some components hold no
row and follow their prior (`stangmm.model.empty`). How large it is, is estimated by the modes of
mixtures with fewer components; where it can matter, chains start there: the components that hold
rows around such a mode, the others drawn from the prior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
from scipy.special import gammaln, polygamma

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.rounding import significant
from stangmm.base.thresholds import GAP_OK
from stangmm.methods.base import Run
from stangmm.methods.draws import Draws, Optimum
from stangmm.methods.em.climb import climb
from stangmm.methods.em.restarts import flat
from stangmm.methods.em.steps import EMSpace
from stangmm.methods.stan.curvature import inverse_metric
from stangmm.methods.stan.mode import MAX_PARAMETERS, laplace_mass
from stangmm.methods.stan.pivots import Pivots
from stangmm.methods.stan.shared import (
    CLIMBED,
    METRIC_BITS,
    PLAUSIBLE,
    CompleteDataVariances,
    at_mode,
    climbed,
    jittered,
    likelihood_optima,
    log_mass,
    outweighed,
    plausible,
    rounded,
    searched_optima,
)
from stangmm.model.empty import log_times
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.model.parameters import ParameterSpace
from stangmm.model.problem import Problem

# The first, rough estimate of a mass may be off by so many nats.
_ROUGH = 10.0
# With fewer components the best optimum need not be found if one within so many nats is.
_NEARLY = 1.0
_PRIOR_DRAWS = 400  # that tell the variances of the prior
_WIDEST = 5.0  # prior draws of a start are within so many times the data's own standard deviation


@dataclass(frozen=True, eq=False)
class Region:
    """Where a chain may start.

    Attributes
    ----------
    optimum : Optimum
        Of the components that hold rows.
    problem : Problem
        Of these components.
    whole : Problem
        Of all components; the others come after those that hold rows.
    outweighed : tuple of Optimum
        See `McmcInfo.outweighed`.
    """

    optimum: Optimum
    problem: Problem
    whole: Problem
    outweighed: tuple[Optimum, ...] = ()

    def renumbered(self, order: IntArray) -> Region:
        """Number the components that hold rows anew."""
        mixture = self.optimum.mixture.permute(order)
        return replace(self, optimum=replace(self.optimum, mixture=mixture))

    @property
    def n_empty(self) -> int:
        """How many components hold no row."""
        return self.whole.n_components - self.problem.n_components

    def around(self, rng: np.random.Generator) -> Mixture:
        """Draw a start: jittered where there are rows, from the prior where there are none."""
        moved = jittered(self.optimum.mixture, self.problem, rng)
        return self._with_empty(moved, rng) if self.n_empty else moved

    def start(self, rng: np.random.Generator) -> Optimum:
        """Give the optimum with all components, as a fact of the run."""
        if not self.n_empty:
            return self.optimum
        return replace(self.optimum, mixture=self._with_empty(self.optimum.mixture, rng))

    @cached_property
    def pivots(self) -> Pivots:
        """Of the components that hold few rows; empty ones have none."""
        return Pivots.of(self.optimum.mixture, self.problem).in_whole(self.whole)

    def dense_metric(
        self, rng: np.random.Generator, pivots: Pivots, *, stick_breaking: bool
    ) -> FloatArray | None:
        """Posterior covariance (P, P): see `inverse_metric`; empty components have the prior's.

        Components whose means are told relative to pivots have the variances of complete data: with
        few rows the posterior is far from normal.
        """
        own = inverse_metric(
            self.optimum.mixture,
            self.problem,
            rng,
            stick_breaking=stick_breaking,
            few=pivots.relative[: self.problem.n_components],
            beside_empty=bool(self.n_empty),
        )
        if own is None:
            return None
        own = self._relative_to(pivots, own)
        if not self.n_empty:
            return own
        metric = np.diag(self._prior_variances(rng))
        index = np.flatnonzero(self._occupied())
        metric[np.ix_(index, index)] = own
        return metric

    def _relative_to(self, pivots: Pivots, metric: FloatArray) -> FloatArray:
        """The metric where the means of some components are told relative to pivots."""
        relative = pivots.relative[: self.problem.n_components]
        if not relative.any():
            return metric
        variances = CompleteDataVariances.of(self.optimum.mixture, self.problem)
        parts = [np.zeros(self.problem.space.n_weights - 1, dtype=bool)]
        for n, each in _shapes(self.problem.space)[1:]:
            parts.append(np.repeat(relative, each) if n > 1 else np.zeros(n * each, dtype=bool))
        at = np.flatnonzero(np.concatenate(parts))
        metric = metric.copy()
        metric[at] = metric[:, at] = 0.0
        metric[at, at] = variances.inverse_metric(relative)[at]
        return metric

    def diagonal_metric(self, rng: np.random.Generator, pivots: Pivots) -> FloatArray:
        """Posterior variances (P,) for known labels; empty components have the prior's."""
        variances = CompleteDataVariances.of(self.optimum.mixture, self.problem)
        own = variances.inverse_metric(pivots.relative[: self.problem.n_components])
        if not self.n_empty:
            return own
        metric = self._prior_variances(rng)
        metric[self._occupied()] = own
        return metric

    def _occupied(self) -> np.ndarray:
        """Which unconstrained parameters (P,) are those of components that hold rows.

        The first weights' coordinates, in both of Stan's transforms, compare only the first
        components.
        """
        parts = []
        for few, all_ in zip(_shapes(self.problem.space), _shapes(self.whole.space), strict=True):
            rows = np.arange(all_[0]) < few[0]
            parts.append(np.repeat(rows, all_[1]))
        return np.concatenate(parts)

    def _prior_variances(self, rng: np.random.Generator) -> FloatArray:
        """Variances (P,) of the unconstrained parameters where no row tells anything."""
        priors, space = self.whole.priors, self.whole.space
        mixtures = _from_prior(self.whole, _PRIOR_DRAWS, rng)
        variances = space.vectors(mixtures).var(axis=0)
        alpha = np.asarray(priors.weights.concentration)
        # One empty component's log weight against the rows' or against another's.
        variances[: space.n_weights - 1] = float(polygamma(1, alpha[0]))
        variances[self.problem.n_components : space.n_weights - 1] *= 2.0
        return significant(variances, METRIC_BITS)

    def _with_empty(self, mixture: Mixture, rng: np.random.Generator) -> Mixture:
        m, k = self.problem.n_components, self.whole.n_components
        drawn = _from_prior(self.whole, 1, rng)[0]
        alpha = np.asarray(self.whole.priors.weights.concentration)
        each = (alpha / (alpha.sum() + self.whole.total_weight))[m:k]
        left = 1.0 - each.sum()
        weights = np.concatenate([left * mixture.weights, each])
        noise = mixture.noise and replace(mixture.noise, weight=left * mixture.noise.weight)
        means = np.concatenate([mixture.means, drawn.means[m:]])
        pooled = self.whole.space.scale_shape[0] < k
        of_all = np.repeat(mixture.scales[:1], k - m, axis=0)
        scales = np.concatenate([mixture.scales, of_all if pooled else drawn.scales[m:]])
        if mixture.corr_chol is None or drawn.corr_chol is None:
            return Mixture(weights, means, scales, noise=noise)
        pooled = self.whole.space.n_correlations < k
        chol = np.repeat(mixture.corr_chol[:1], k - m, axis=0) if pooled else drawn.corr_chol[m:]
        return Mixture(weights, means, scales, np.concatenate([mixture.corr_chol, chol]), noise)


@one_blas_thread()
def regions(problem: Problem, run: Run, also: tuple[Optimum, ...] = ()) -> tuple[Region, ...]:
    """Regions with enough of the posterior that a chain should start there, the largest first.

    Around modes that are reached from EM's optima, and other modes that are known (``also``).
    """
    searched = searched_optima(problem, run)
    modes = climbed(plausible(searched, problem, PLAUSIBLE + CLIMBED), problem, run)
    optima = plausible((*also, *modes), problem, PLAUSIBLE)
    found = [(_rough_mass(o, problem, problem), o, problem) for o in optima]
    if _may_be_empty(problem):
        found += _with_fewer(problem, run, found[0][0])
        largest = max(mass for mass, _, _ in found)
        found = [each for each in found if each[0] > largest - PLAUSIBLE - _ROUGH]
    if len(found) > len(optima) and problem.space.size <= MAX_PARAMETERS:
        rng = run.rng("laplace mass")
        found = [
            (
                laplace_mass(o.mixture, p, rng) + log_labellings(p) + _log_of_empty(p, problem),
                o,
                p,
            )
            for _, o, p in found
        ]
    order = sorted(range(len(found)), key=lambda i: (-found[i][0], i))
    best = found[order[0]][0]
    kept = [found[i][1:] for i in order if found[i][0] > best - PLAUSIBLE]
    highest = max(optimum.objective for optimum, _ in kept)
    beyond = outweighed(searched, highest, problem)
    return tuple(Region(optimum, fewer, problem, beyond) for optimum, fewer in kept)


def sharing_pivots(places: tuple[Region, ...]) -> tuple[tuple[Region, ...], Pivots]:
    """Number components alike where chains start, as far as pivots tell; gives the shared pivots.

    All chains are told one set of pivots. Those that every place has come first, where numbers mean
    nothing.
    """
    problem = places[0].whole
    if problem.start is not None or problem.labels is not None or not problem.priors.exchangeable:
        return places, reduce(Pivots.shared_with, [place.pivots for place in places])
    first = places[0].pivots
    orders = [place.pivots.order(first) for place in places]
    shared = [at for at in range(len(first.relative)) if all(at in order for order in orders)]
    renumbered = []
    for place, order in zip(places, orders, strict=True):
        leading = [order[at] for at in shared]
        others = np.setdiff1d(np.arange(place.problem.n_components), leading)
        renumbered.append(place.renumbered(np.array([*leading, *others], dtype=np.int64)))
    return tuple(renumbered), first.first_of(shared)


def led_on(
    draws: Draws, known: tuple[Region, ...], problem: Problem, run: Run
) -> tuple[Region, ...]:
    """Regions with one that EM had missed and chains lead to; empty if they do not.

    Draws lie below the maximum of the likelihood. Where the best of a chain climbs to a mode that
    is clearly above all where chains started, and with more of the posterior around it, these were
    not the best places to start from.
    """
    at = draws.log_likelihood.argmax(axis=1)
    best = draws.mixture[np.arange(len(at)), at]
    return _higher(best, known, problem, run) or _heavier(best, known, problem, run)


def _higher(
    best: Mixture, known: tuple[Region, ...], problem: Problem, run: Run
) -> tuple[Region, ...]:
    """Regions with an optimum of the likelihood to which draws climb, and which is above all."""
    space = EMSpace(problem)
    with one_blas_thread():
        ends = climb(space, space.parameters_of(best), tolerance=1e-3, max_iterations=200)
    mixture = space.mixture_of(ends.parameters)
    # On tied values, too, where EM goes only if there is nothing else: draws have been there.
    height = np.where(ends.collapsed | flat(mixture, problem), -np.inf, ends.log_likelihood)
    top, least = int(np.argmax(height)), max(place.optimum.objective for place in known) + GAP_OK
    if not height[top] > least:
        return ()
    optimum = Optimum(mixture[top], float(height[top]), 0, bool(ends.converged[top]), np.empty(0))
    found = at_mode(optimum, problem, run.rng("posterior mode"))
    if not found.objective > least:
        return ()
    better = regions(problem, run, also=(found,))
    return better if better[0].optimum.objective > least else ()


def _heavier(
    best: Mixture, known: tuple[Region, ...], problem: Problem, run: Run
) -> tuple[Region, ...]:
    """Regions with a place without an optimum to which draws climb, and which has more mass.

    Where a component has few rows the likelihood has no maximum; with pseudo-rows it has.
    """
    space = EMSpace(problem, pseudo_rows=1.0)
    held = space.rows_held(best.weights * problem.total_weight)
    best = best[(held < problem.n_components * space.min_rows).any(axis=-1)]
    if not len(best.weights):
        return ()
    with one_blas_thread():
        ends = climb(space, space.parameters_of(best), tolerance=1e-3, max_iterations=200)
    mixture = space.mixture_of(ends.parameters)
    found = []
    for each in (mixture[i] for i in np.flatnonzero(~flat(mixture, problem))):
        height = float(log_likelihood(each, problem.x, problem.sample_weight, problem.labels))
        optimum = Optimum(rounded(each, problem.space), height, 0, True, np.empty(0))
        found.append(optimum)
    before = max(_rough_mass(place.optimum, place.problem, problem) for place in known)
    heavier = [o for o in found if _rough_mass(o, problem, problem) > before + GAP_OK]
    return regions(problem, run, also=tuple(heavier)) if heavier else ()


def log_masses_with_empty(problem: Problem, run: Run, at_least: float) -> dict[int, float]:
    """Log masses of the regions with fewer components that hold rows, by their number, roughly.

    By Laplace's approximation around the modes of mixtures with so few components; regions whose
    mass is far below ``at_least`` are left out.
    """
    if not _may_be_empty(problem):
        return {}
    rng = run.rng("laplace mass")
    masses: dict[int, float] = {}
    for mass, optimum, fewer in _with_fewer(problem, run, at_least):
        value = mass
        if fewer.space.size <= MAX_PARAMETERS:
            value = laplace_mass(optimum.mixture, fewer, rng)
            value += log_labellings(fewer) + _log_of_empty(fewer, problem)
        m = fewer.n_components
        masses[m] = float(np.logaddexp(masses.get(m, -np.inf), value))
    return masses


def _may_be_empty(problem: Problem) -> bool:
    """Whether components are exchangeable and may hold no row."""
    return problem.start is None and problem.labels is None and problem.priors.exchangeable


def _with_fewer(problem: Problem, run: Run, largest: float) -> list[tuple[float, Optimum, Problem]]:
    """Optima of fewer components, as long as they have mass to speak of."""
    found: list[tuple[float, Optimum, Problem]] = []
    before = -np.inf
    for m in range(problem.n_components - 1, 0, -1):
        fewer = problem.with_components(m)
        optima = likelihood_optima(fewer, run, within=_NEARLY)
        mass = _rough_mass(optima[0], fewer, problem)
        largest = max(largest, mass)
        far = mass < largest - PLAUSIBLE - _ROUGH
        if far and mass < before:  # masses rise towards the best number and fall after it
            break
        before = mass
        if not far:
            modes = climbed(optima, fewer, run)
            found += [(_rough_mass(o, fewer, problem), o, fewer) for o in modes]
    return found


def _rough_mass(optimum: Optimum, fewer: Problem, problem: Problem) -> float:
    """`log_mass` of all labellings, those components counted that may hold no row beside."""
    mass = log_mass(optimum, fewer) + log_labellings(fewer)
    same = fewer.n_components == problem.n_components
    return mass if same else mass + _log_of_empty(fewer, problem)


def log_labellings(problem: Problem) -> float:
    """Log of how many labellings of the components there are, K! where they are exchangeable."""
    return float(gammaln(problem.n_components + 1)) if problem.priors.exchangeable else 0.0


def _log_of_empty(fewer: Problem, problem: Problem) -> float:
    """Log of what the region with these components makes of their own evidence."""
    k, m = problem.n_components, fewer.n_components
    alpha = np.asarray(problem.priors.weights.concentration)
    return log_times(k, m, float(alpha[0]), problem.total_weight, float(alpha[k:].sum()))


def _from_prior(problem: Problem, n: int, rng: np.random.Generator) -> Mixture:
    """Mixtures (n,) from the prior; scales far beyond the data's, which half-Cauchys have, cut."""
    drawn, space = problem.priors.draw(n, problem.structure, rng), problem.space
    bounds = space.scale_bounds(drawn.corr_chol)
    scales = np.maximum(np.clip(space.free(drawn)["scales"], 1.0 / _WIDEST, _WIDEST), bounds)
    return space.from_free(**(space.free(drawn) | {"scales": scales}))


def _shapes(space: ParameterSpace) -> list[tuple[int, int]]:
    """(components, numbers of each) of weights, means, scales and correlations, in their order."""
    c, s = space.scale_shape
    return [
        (space.n_weights - 1, 1),
        (space.n_components, space.n_features),
        (c, s),
        (space.n_correlations, space.n_pairs),
    ]
