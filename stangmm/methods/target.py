"""A posterior on the unconstrained scale, for very many points at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.methods.base import Run
from stangmm.model.expansion import Expansion, terms_of_rows
from stangmm.model.joint import log_prior
from stangmm.model.labels import Labelling, traits
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem
from stangmm.predict.averages import log_likelihoods

# Of more rows so many are drawn by lot for what the expansion leaves out, in so many parts, which
# tell its error.
_SAMPLED, _PARTS = 2**12, 8


@dataclass(frozen=True, eq=False)
class _Part:
    """Some rows, and the expansion of their log likelihood."""

    x: FloatArray
    sample_weight: FloatArray | None
    labels: IntArray | None
    expansion: Expansion

    def left_out(self, mixture: Mixture) -> FloatArray:
        """What the expansion leaves out of the log likelihood, shape (S,)."""
        exact = log_likelihoods(mixture, self.x, self.sample_weight, self.labels)
        return exact - self.expansion.log_likelihood(mixture)


@dataclass(frozen=True, eq=False)
class Target:
    """The posterior, of one labelling of the components where labels mean nothing.

    Attributes
    ----------
    problem : Problem
    modes : tuple of Mixture
        Around which it has its mass, with the labelling that is meant.
    expansions : tuple of Expansion
        Of the log likelihood of all rows, at the modes.
    rule : Labelling or None
        Which labelling is meant.
    sampled : _Part or None
        Rows drawn by lot for what the expansion leaves out; None where all rows are taken.
    parts : tuple of _Part
        The same rows in equal parts.
    """

    problem: Problem
    modes: tuple[Mixture, ...]
    expansions: tuple[Expansion, ...]
    rule: Labelling | None
    sampled: _Part | None = None
    parts: tuple[_Part, ...] = ()

    @classmethod
    def of(cls, problem: Problem, modes: tuple[Mixture, ...], run: Run) -> Target:
        """Make it in one pass over the rows for each mode."""
        rule = _labelling(modes[0], problem)
        if rule is not None:
            modes = tuple(rule.relabelled(mode.reshape(1))[0] for mode in modes)
        expansions = tuple(_expansion(problem, mode) for mode in modes)
        target = cls(problem, modes, expansions, rule)
        if problem.n_rows > _SAMPLED and len(modes) == 1:
            target = target.by_rows(_SAMPLED, run)
        return target

    def log_posterior(self, vectors: FloatArray) -> FloatArray:
        """Log joint density at vectors (S, P), shape (S,); -inf with another labelling."""
        with np.errstate(all="ignore"):
            value = self.log_prior(vectors)
            mixture = self.problem.space.mixtures(vectors)
            counted = np.isfinite(value)
            counted[counted] &= _finite(mixture[counted])
            if self.rule is not None:
                counted[counted] &= self.rule.obeyed(mixture[counted])
            value[counted] += self._log_likelihood(mixture[counted])
        value[~(counted & np.isfinite(value))] = -np.inf
        return value

    def log_prior(self, vectors: FloatArray) -> FloatArray:
        """Log prior density on the unconstrained scale at vectors (S, P), shape (S,)."""
        problem = self.problem
        mixture = problem.space.mixtures(vectors)
        prior = log_prior(mixture, problem.priors, problem.structure)
        return np.asarray(prior + problem.space.log_jacobian(vectors))

    def expanded(self, vectors: FloatArray, i: int) -> FloatArray:
        """Log joint density by the expansion at the i-th mode, at vectors (S, P), shape (S,)."""
        likelihood = self.expansions[i].log_likelihood(self.problem.space.mixtures(vectors))
        return self.log_prior(vectors) + likelihood

    def by_rows(self, n: int, run: Run) -> Target:
        """The same with n rows, drawn by lot, for what the expansion leaves out."""
        problem, mode = self.problem, self.modes[0]
        n = min(n, problem.n_observations) // _PARTS * _PARTS
        chosen = run.rng("laplace rows").choice(problem.n_observations, n, replace=False)
        parts = tuple(_part(problem, mode, np.sort(rows)) for rows in np.split(chosen, _PARTS))
        return replace(self, sampled=_part(problem, mode, np.sort(chosen)), parts=parts)

    def with_more_rows(self, run: Run) -> Target:
        """The same with the density of all rows at every vector, or of all that are in memory."""
        if self.problem.n_rows > self.problem.n_observations:
            return self.by_rows(self.problem.n_observations, run)
        return replace(self, sampled=None, parts=())

    def error(self, vectors: FloatArray) -> float:
        """Standard error of the log posterior from drawing rows by lot, in nats.

        That of differences between vectors, since what is the same for all says nothing; root mean
        square over the vectors.
        """
        if not self.parts:
            return 0.0
        mixture = self.problem.space.mixtures(vectors)
        each = np.array([part.left_out(mixture) for part in self.parts])
        each -= each.mean(axis=1, keepdims=True)
        variance = each.var(axis=0, ddof=1).mean()
        return float(np.sqrt(_PARTS * variance) * self._scale)

    @property
    def _scale(self) -> float:
        """How many rows a row drawn by lot stands for, by weight."""
        weights = [
            len(part.x) if part.sample_weight is None else part.sample_weight.sum()
            for part in self.parts
        ]
        return self.problem.total_weight / float(sum(weights))

    def _log_likelihood(self, mixture: Mixture) -> FloatArray:
        problem = self.problem
        if self.sampled is None and problem.all_rows is not None:
            return problem.sums(partial(_log_likelihoods, mixture))[0]
        if self.sampled is None:
            return log_likelihoods(mixture, problem.x, problem.sample_weight, problem.labels)
        left_out = self.sampled.left_out(mixture)
        return self.expansions[0].log_likelihood(mixture) + self._scale * left_out


def _log_likelihoods(mixture: Mixture, x: FloatArray) -> tuple[FloatArray]:
    """Log likelihoods of the rows of a chunk, as `Problem.sums` adds them."""
    return (log_likelihoods(mixture, x),)


def _expansion(problem: Problem, mode: Mixture) -> Expansion:
    """Expand the log likelihood of all rows around a mode, chunk by chunk where they come so."""
    if problem.all_rows is not None:
        return Expansion.from_sums(mode, problem.sums(partial(terms_of_rows, mode)))
    return Expansion.of(mode, problem.x, problem.sample_weight, problem.labels)


def _part(problem: Problem, mode: Mixture, rows: IntArray) -> _Part:
    weight, labels = problem.sample_weight, problem.labels
    data = (
        problem.x[rows],
        None if weight is None else weight[rows],
        None if labels is None else labels[rows],
    )
    return _Part(*data, Expansion.of(mode, *data))


def _finite(mixture: Mixture) -> BoolArray:
    """Which mixtures (S,) are numbers."""
    finite = np.isfinite(mixture.scales).all(axis=(1, 2)) & (mixture.weights > 0).all(axis=1)
    return np.asarray(finite & np.isfinite(mixture.means).all(axis=(1, 2)))


def _labelling(mode: Mixture, problem: Problem) -> Labelling | None:
    """The labelling of the mode, or None where fewer than two components can be exchanged."""
    free = problem.free_components
    if len(free) < 2:
        return None
    held = np.maximum(mode.weights * problem.total_weight, 1.0)[:, np.newaxis]
    size = np.sqrt([1.0, *np.ones(problem.n_features), *np.full(problem.n_features, 0.5)] / held)
    size[:, 1 : 1 + problem.n_features] *= mode.scales
    return Labelling(traits(mode.reshape(1))[0, free], size[free], free)
