"""EM's climb: E and M steps, accelerated, until what is left to gain does not matter.

EM's step f(u) goes uphill, in the metric of the complete data's Fisher information, but may do so
slowly where components overlap. Anderson's acceleration takes the last steps together: what they
did to f says how f changes with u, and so where f vanishes (Walker & Ni 2011,
doi:10.1137/10078356X; for EM, Henderson & Varadhan 2019, doi:10.1080/10618600.2019.1594835).
Where the likelihood would fall, EM's own step is taken, so that it never does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.steps import EMSpace

_PLAIN_STEPS = 3  # before the first accelerated one: far from an optimum, EM knows better
_MEMORY = 6  # steps that are taken together
# Least squares may not lean on differences of steps that rounding has made.
_DAMPING = 1e-10
# Where so many accelerated steps together gain less than so many nats, the data cannot tell the
# places apart that they went through: a likelihood ratio of 1.01 is no evidence of anything.
_FLAT_STEPS, _FLAT_GAIN = 50, 1e-2
# An accelerated step changes no logarithm, and no mean in standard deviations, by more.
_LONGEST = 2.0


@dataclass(eq=False)
class Climbed:
    """Where R runs ended."""

    parameters: EMParameters
    log_likelihood: FloatArray  # (R,)
    converged: BoolArray
    collapsed: BoolArray  # a component holds too few rows
    paths: list[list[float]] = field(default_factory=list)

    @classmethod
    def of(cls, start: EMParameters) -> Climbed:
        """Runs that stand at their starts."""
        n = len(start.weights)
        nothing = np.zeros(n, dtype=bool)
        copies = EMParameters(start.weights.copy(), start.means.copy(), start.covariances.copy())
        return cls(copies, np.full(n, -np.inf), nothing, nothing.copy(), [[] for _ in range(n)])

    def __getitem__(self, index: IntArray) -> Climbed:
        return Climbed(
            self.parameters[index],
            self.log_likelihood[index],
            self.converged[index],
            self.collapsed[index],
            [self.paths[i] for i in index],
        )

    def continued(self, index: IntArray, later: Climbed) -> None:
        """Take over where some of the runs went on to."""
        self.parameters.assign(index, later.parameters)
        self.log_likelihood[index] = later.log_likelihood
        self.converged[index] = later.converged
        self.collapsed[index] = later.collapsed
        for i, path in zip(index, later.paths, strict=True):
            reached = self.paths[i][-1]
            self.paths[i] = self.paths[i] + [value for value in path[1:] if value >= reached]

    def with_others(self, other: Climbed) -> Climbed:
        """These runs and then the others."""
        return Climbed(
            EMParameters.joined([self.parameters, other.parameters]),
            np.concatenate([self.log_likelihood, other.log_likelihood]),
            np.concatenate([self.converged, other.converged]),
            np.concatenate([self.collapsed, other.collapsed]),
            self.paths + other.paths,
        )


def climb(
    space: EMSpace,
    start: EMParameters,
    *,
    tolerance: float,
    max_iterations: int,
) -> Climbed:
    """Climb from R starts at once, each until it has converged, collapsed or run out.

    Parameters
    ----------
    tolerance : float
        A run has converged when the log likelihood that it can still gain is below this, in nats.
    """
    result = Climbed.of(start)
    runs = np.arange(len(start.weights))
    trial, reached = space.bounded(start), np.full(len(runs), -np.inf)
    memory = _Memory(space, len(runs))
    for iteration in range(max_iterations):
        log_lik, sums = space.expectation(trial)
        image, few = space.maximization(sums)
        falls = memory.accelerated & ~(log_lik >= reached - _rounding(reached))
        falls |= memory.accelerated & few
        gain = log_lik - reached
        # EM's own step falls by rounding alone, beside a component that is next to flat.
        stuck = ~memory.accelerated & (gain < -_rounding(reached))
        falls |= stuck
        rises = ~falls
        for run, value in zip(runs[rises].tolist(), log_lik[rises].tolist(), strict=True):
            result.paths[run].append(value)
        reached = np.where(falls, reached, log_lik)
        following, to_gain = memory.step(trial, image, falls)
        converged = ~falls & (gain < tolerance) & (to_gain < tolerance)
        converged |= ~falls & (np.abs(gain) <= _rounding(reached))
        if iteration >= _FLAT_STEPS:
            converged |= ~falls & np.array([_is_flat(result.paths[i]) for i in runs])
        converged |= stuck & (gain > -_FLAT_GAIN)
        few &= ~falls
        last = iteration == max_iterations - 1
        done = converged | few | stuck | last
        if done.any():
            at = runs[done]
            result.parameters.assign(at, memory.best[done])
            result.log_likelihood[at] = reached[done]
            result.converged[at] = converged[done] & ~few[done]
            result.collapsed[at] = few[done]
            go_on = np.flatnonzero(~done)
            if not len(go_on):
                break
            runs, reached, following = runs[go_on], reached[go_on], following[go_on]
            memory.keep(go_on)
        trial = following
    return result


def _is_flat(path: list[float]) -> bool:
    return len(path) > _FLAT_STEPS and path[-1] - path[-1 - _FLAT_STEPS] < _FLAT_GAIN


def _rounding(log_likelihood: FloatArray) -> FloatArray:
    return 1e-13 * np.abs(np.where(np.isfinite(log_likelihood), log_likelihood, 0.0))


class _Memory:
    """The last steps of each of R runs, and the accelerated step that follows from them."""

    def __init__(self, space: EMSpace, n_runs: int) -> None:
        self._space = space
        self.best: EMParameters  # where the likelihood was last accepted
        self.accelerated = np.zeros(n_runs, dtype=bool)  # how the present trial was made
        self._image: EMParameters  # EM's step from `best`
        self._at = np.empty(0)  # (R, P): u of `best`
        self._residual = np.empty(0)  # (R, P): f there
        self._metric = np.empty(0)  # (R, P): of the steps there
        self._moves = np.empty(0)  # (R, M, P): differences of u
        self._changes = np.empty(0)  # (R, M, P): differences of f
        self._stretch = np.ones(n_runs)  # of EM's step, where the likelihood curves upwards
        self._steps = np.zeros(n_runs, dtype=np.int64)  # accepted since the last fall

    def keep(self, runs: IntArray) -> None:
        """Go on with some of the runs."""
        self.best, self._image = self.best[runs], self._image[runs]
        for name in ("accelerated", "_at", "_residual", "_metric", "_moves", "_changes"):
            setattr(self, name, getattr(self, name)[runs])
        self._steps, self._stretch = self._steps[runs], self._stretch[runs]

    def step(
        self, trial: EMParameters, image: EMParameters, falls: BoolArray
    ) -> tuple[EMParameters, FloatArray]:
        """Next trials, and how many nats they are expected to gain."""
        noise = self._space.noise
        at, metric = encoded(trial, noise=noise), root_information(trial, noise=noise)
        residual = encoded(image, noise=noise) - at
        if not hasattr(self, "best"):
            self.best, self._image, self._at, self._residual = trial, image, at, residual
            self._metric = metric
            self._moves = np.zeros((*at.shape[:1], _MEMORY, at.shape[1]))
            self._changes = np.zeros_like(self._moves)
            self._steps += 1
            return image, np.full(len(at), np.inf)
        good = np.flatnonzero(~falls)
        slot = self._steps[good] % _MEMORY
        self._moves[good, slot] = at[good] - self._at[good]
        self._changes[good, slot] = residual[good] - self._residual[good]
        self._steps[good] += 1
        self._at[good], self._residual[good] = at[good], residual[good]
        self._metric[good] = metric[good]
        self.best = _chosen(falls, self.best, trial)
        self._image = _chosen(falls, self._image, image)
        if falls.any():
            self._steps[falls] = 1
            self._moves[falls] = self._changes[falls] = 0.0
        metric = self._metric
        step = self._accelerated_step(metric)
        to_gain = 0.5 * self._space.total * (metric**2 * self._residual * step).sum(axis=1)
        leaving = to_gain < 0
        self._stretch = np.where(falls, np.maximum(self._stretch / 8.0, 1.0), self._stretch)
        self._stretch[good] = np.where(leaving, 2.0 * self._stretch, 1.0)[good]
        step = np.where(leaving[:, np.newaxis], self._stretch[:, np.newaxis] * self._residual, step)
        to_gain = np.where(falls | leaving, np.inf, to_gain)
        self.accelerated = ~falls & (self._steps > _PLAIN_STEPS)
        if not self.accelerated.any():
            return self._image, to_gain
        largest = np.sqrt(self.best.weights.max(axis=1, keepdims=True))
        size = np.abs(step * metric / largest).max(axis=1, keepdims=True)
        step *= np.minimum(1.0, _LONGEST / np.maximum(size, 1e-300))
        trials = decoded(self._at + step, self._image, noise=self._space.noise)
        moved = self._space.bounded(trials)
        return _chosen(~self.accelerated, self._image, moved), to_gain

    def _accelerated_step(self, metric: FloatArray) -> FloatArray:
        """F - (dU + dF) g, where g is the least-squares solution of dF g = f in the metric."""
        changes = self._changes * metric[:, np.newaxis]
        length = np.sqrt((changes**2).sum(axis=-1))
        length = np.where(length > 0, length, 1.0)
        changes /= length[..., np.newaxis]
        gram = changes @ np.swapaxes(changes, -1, -2)
        gram += _DAMPING * np.eye(_MEMORY)
        target = changes @ (metric * self._residual)[..., np.newaxis]
        weight = np.linalg.solve(gram, target)[..., 0] / length
        both = self._moves + self._changes
        return np.asarray(self._residual - (weight[:, np.newaxis] @ both)[:, 0])


def _chosen(second: BoolArray, one: EMParameters, other: EMParameters) -> EMParameters:
    """``one`` where the mask is true, ``other`` elsewhere."""
    if not second.any():
        return other

    def each(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.where(second.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return EMParameters(
        each(one.weights, other.weights),
        each(one.means, other.means),
        each(one.covariances, other.covariances),
    )


def encoded(parameters: EMParameters, *, noise: bool) -> FloatArray:
    """Free numbers u (R, P).

    They are log weights, with that of the noise if there is noise, means, and log standard
    deviations or Cholesky factors with log diagonal.
    """
    weights, covariances = parameters.weights, parameters.covariances
    if covariances.ndim == 3:
        spread = np.log(np.sqrt(covariances))
    else:
        spread = np.linalg.cholesky(covariances)
        diagonal = np.arange(spread.shape[-1])
        spread[..., diagonal, diagonal] = np.log(spread[..., diagonal, diagonal])
    if noise:
        weights = np.column_stack([weights, parameters.noise_weight])
    return _side_by_side(np.log(np.maximum(weights, 1e-300)), parameters.means, spread)


def root_information(parameters: EMParameters, *, noise: bool) -> FloatArray:
    """Square roots of the complete-data information a row on the free numbers, shape (R, P)."""
    weights, covariances = parameters.weights, parameters.covariances
    (r, k), c = weights.shape, covariances.shape[1]
    root = np.sqrt(weights)[..., np.newaxis]
    own = root if c == k else np.ones((r, 1, 1))
    if covariances.ndim == 3:
        sd = np.sqrt(covariances)
        of_spread = np.sqrt(2.0) * own * np.ones_like(sd)
    else:
        sd = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
        of_spread = (own / sd)[..., np.newaxis] * np.ones_like(covariances)
        diagonal = np.arange(sd.shape[-1])
        of_spread[..., diagonal, diagonal] = np.sqrt(2.0) * own
    if noise:
        weights = np.column_stack([weights, parameters.noise_weight])
    return _side_by_side(np.sqrt(weights), root / sd, of_spread)


def _side_by_side(*arrays: FloatArray) -> FloatArray:
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def decoded(u: FloatArray, like: EMParameters, *, noise: bool) -> EMParameters:
    """The inverse of `encoded`; weights are made to sum to one."""
    (r, k), d = like.weights.shape, like.means.shape[-1]
    n_weights = k + noise
    log_weights = u[:, :n_weights] - u[:, :n_weights].max(axis=1, keepdims=True)
    weights = np.exp(log_weights)
    weights /= weights.sum(axis=1, keepdims=True)
    weights = weights[:, :k]
    means = u[:, n_weights : n_weights + k * d].reshape(r, k, d)
    spread = u[:, n_weights + k * d :].reshape(like.covariances.shape)
    if spread.ndim == 3:
        return EMParameters(weights, means, np.exp(2.0 * spread))
    factor = np.tril(spread)
    diagonal = np.arange(d)
    factor[..., diagonal, diagonal] = np.exp(spread[..., diagonal, diagonal])
    return EMParameters(weights, means, factor @ np.swapaxes(factor, -1, -2))
