"""Split-and-merge moves: from a good optimum to a better one (Ueda et al. 2000).

A local optimum of a mixture often has two components where one is enough and one where two are
needed. A move merges the one pair and splits the other component (doi:10.1162/089976600300015088).
What a split gains is seen after a few steps of EM with one component more; what a merger loses,
from the likelihood with one component less.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.methods.em.algebra import EMParameters
from stangmm.methods.em.partitions import (
    ball_size,
    denser_than_normal,
    in_one_feature,
    invariant_axes,
    k_means,
    rounded,
)
from stangmm.methods.em.starts import Starter, leaning
from stangmm.methods.em.steps import EMSpace

_STEPS = 5  # of EM, with one component more and after a merger
_TRIED = 4  # times as many moves as are made: those that have come highest after a few steps are
_AMONG = 5  # splits of which one is taken
_ANEW = 3  # ways to split what two components hold together
_OF_FEATURES = 2  # halves by an interval of one feature
_ALIKE = 0.05  # nats, and percent of the weight, by which mixtures differ that are next to the same
# Cores of a component that are tried at once, and a thorough search's; share of its rows at most.
_CORES, _MANY_CORES, _LARGEST_CORE = 6, 18, 0.25


class Moves:
    """What leads from one optimum to others, from the most promising ones on.

    Parameters
    ----------
    starter : Starter
    best : EMParameters
        The optimum, with a leading axis of 1.
    thorough : bool
        Whether to try more.
    """

    def __init__(self, starter: Starter, best: EMParameters, *, thorough: bool = True) -> None:
        self._starter, self._thorough = starter, thorough
        self._space, self._best = starter.subset, best
        self._tried = _TRIED if thorough else 1
        self._now = float(self._space.expectation(best)[0][0])
        # A merger would number anew the components of known rows.
        self._parts, self._component, self._gain = _no_splits(best)
        if not starter.known:
            n_cores = _MANY_CORES if thorough else _CORES
            parts, component, gain = splits(starter, best, self._now, n_cores)
            fresh = np.flatnonzero(~_repeated(parts, gain) & np.isfinite(gain))
            self._parts, self._component, self._gain = parts[fresh], component[fresh], gain[fresh]

    def merged_and_split(self, n: int) -> EMParameters:
        """Up to ``n`` mixtures with two components merged, and another in two.

        Of two components, a half of one joins the other. A thorough search also splits anew the two
        that lose least by the merger.
        """
        if self._starter.known or not (self._thorough or len(self._gain)):
            return self._best[np.arange(0)]
        k = self._best.weights.shape[1]
        i, j = np.triu_indices(k, 1)
        merged = self._space.bounded(_merged(self._best, i, j, self._space.structure.one_scale))
        loss = self._now - self._space.expectation(merged)[0]
        starts = []
        if self._thorough:
            closest = int(np.argmin(loss.round(6)))
            now = self._now - float(loss[closest])
            starts.append(self._split_anew(merged[np.array([closest])], now, int(i[closest])))
        if len(self._gain):
            total = self._gain[:, np.newaxis] - loss
            if k > 2:
                component = self._component[:, np.newaxis]
                total[(component == i) | (component == j)] = -np.inf
            order = np.argsort(-total.round(6), axis=None, kind="stable")[: self._tried * n]
            order = order[np.isfinite(total.ravel()[order])]
            which, pair = np.unravel_index(order, total.shape)
            starts.append(self._joined(which, i[pair], j[pair]))
        return self._most_promising(starts, n)

    def _split_anew(self, merged: EMParameters, now: float, component: int) -> EMParameters:
        """The best few ways to split one component of a mixture that has one less."""
        parts, _, gain = splits(self._starter, merged, now, _MANY_CORES, (component,))
        fresh = np.flatnonzero(~_repeated(parts, gain) & np.isfinite(gain))
        best_first = np.argsort(-gain[fresh].round(6), kind="stable")
        return parts[fresh[best_first[:_ANEW]]]

    def halves_joined(self, n: int) -> EMParameters:
        """Up to ``n`` mixtures in which a half of one component has joined another.

        So a component becomes its core, and what lay around it is another's. None of two
        components, of which all moves are such.
        """
        k = self._best.weights.shape[1]
        promising = np.argsort(-self._gain.round(6), kind="stable")[: self._tried * n]
        if k < 3 or not len(promising):
            return self._best[np.arange(0)]
        of, other = np.nonzero(self._component[promising][:, np.newaxis] != np.arange(k))
        half, which = self._component[promising[of]], np.tile(promising[of], 2)
        low = np.r_[np.minimum(half, other), other]
        high = np.r_[np.maximum(half, other), np.full(len(of), k)]
        joined = self._joined(which, low, high)
        order = np.argsort(-self._space.expectation(joined)[0].round(6), kind="stable")
        return self._most_promising([joined[order[: self._tried * n]]], n)

    def _joined(self, which: IntArray, i: IntArray, j: IntArray) -> EMParameters:
        one_scale = self._space.structure.one_scale
        return self._space.bounded(_merged(self._parts[which], i, j, one_scale))

    def _most_promising(self, starts: list[EMParameters], n: int) -> EMParameters:
        """Those that have come highest after a few steps, each once.

        Those that would not count as an optimum come last, however high.
        """
        starts = [some for some in starts if len(some.weights)]
        if not starts:
            return self._best[np.arange(0)]
        after, reached = _stepped(self._space, EMParameters.joined(starts))
        order = np.lexsort((-reached.round(6), self._space.doubtful(after)))
        new = np.isfinite(reached[order]) & ~_repeated(after[order], reached[order])
        return after[order[new][:n]]


def grown(starter: Starter, n_starts: int) -> EMParameters:
    """Up to ``n_starts`` mixtures that began as one component (Verbeek, Vlassis & Kröse 2003).

    The component that gains most by it is split, until there are enough
    (doi:10.1162/089976603762553004); in all mixtures but the first, one of a few that gain much.
    None where components of rows are known.
    """
    if starter.known:
        return starter.single()[np.arange(0)]
    space, rng = starter.subset, starter.rng
    done = []
    for i in range(n_starts):
        mixture = starter.single()
        for _ in range(space.n_components - 1):
            now, _ = space.expectation(mixture)
            parts, _, gain = splits(starter, mixture, float(now[0]), _CORES)
            order = np.argsort(-gain.round(6), kind="stable")
            order = order[np.isfinite(gain[order]) & ~_repeated(parts, gain)[order]]
            if not len(order):
                break
            chosen = order[0 if i == 0 else rng.integers(min(len(order), _AMONG))]
            mixture, _ = _stepped(space, parts[np.array([chosen])])
        else:
            done.append(mixture)
    return EMParameters.joined(done) if done else starter.single()[np.arange(0)]


def splits(
    starter: Starter,
    best: EMParameters,
    now: float,
    n_cores: int,
    components: Sequence[int] | None = None,
) -> tuple[EMParameters, IntArray, FloatArray]:
    """Mixtures with one component in two, the second half last.

    Also which component that is, and how many nats a few steps of EM have gained; minus infinity
    where a half collapsed. All components are tried, unless some are named. Where covariances have
    nothing in common, the rows of the component tell, and the steps leave the others alone: partial
    EM.
    """
    space, z = starter.subset, starter.classified(best)
    structure = space.structure
    least = structure.min_rows(space.n_features)
    found: list[tuple[EMParameters, IntArray, FloatArray]] = []
    n_components = best.weights.shape[1]
    for k in components or range(n_components):
        rows = np.flatnonzero(z == k)
        if len(rows) < 2 * least + 2:
            continue
        halves = _halves(starter, best, k, rows, n_cores)
        halves = [half for half in halves if min(half.sum(), len(half) - half.sum()) > least]
        if not halves:
            continue
        own = best.covariances[0, k % best.covariances.shape[1]]
        pairs = EMParameters.joined([_pair(starter, own, rows, half) for half in halves])
        if structure.pooled or structure.restricted:
            whole, log_lik = _stepped(space, _with_pairs(best, k, pairs))
            gain = log_lik - now
        else:
            alone = space.subset(rows)
            pairs, log_lik = _stepped(alone, pairs)
            gain = log_lik - alone.expectation(_alone(best, k))[0]
            whole = _with_pairs(best, k, pairs)
        if not components and n_components == 2:  # one half joins the other component: either
            whole = EMParameters.joined([whole, _exchanged(whole, k)])
            gain = np.tile(gain, 2)
        found.append((whole, np.full(len(gain), k), gain))
    if not found:
        return _no_splits(best)
    wholes, components, gains = zip(*found, strict=True)
    return EMParameters.joined(wholes), np.concatenate(components), np.concatenate(gains)


def _no_splits(best: EMParameters) -> tuple[EMParameters, IntArray, FloatArray]:
    """What `splits` gives where nothing can be split."""
    return best[np.arange(0)], np.empty(0, dtype=np.int64), np.empty(0)


def _repeated(parts: EMParameters, gain: FloatArray) -> BoolArray:
    """Which mixtures are next to the same as one before: the steps led from other halves there."""
    seen = np.column_stack([np.nan_to_num(gain, neginf=-1e300), parts.weights * 100.0])
    near = (np.abs(seen[:, np.newaxis] - seen) < _ALIKE).all(axis=-1)
    return np.asarray(np.tril(near, -1).any(axis=1))


def _stepped(space: EMSpace, start: EMParameters) -> tuple[EMParameters, FloatArray]:
    """Mixtures after a few steps, and their log likelihoods; minus infinity if one collapsed."""
    at, collapsed = space.bounded(start), np.zeros(len(start.weights), dtype=bool)
    for _ in range(_STEPS - 1):
        image, few = space.maximization(space.expectation(at)[1])
        collapsed |= few
        at = EMParameters(*(array.copy() for array in (at.weights, at.means, at.covariances)))
        at.assign(np.flatnonzero(~collapsed), image[~collapsed])
    return at, np.where(collapsed, -np.inf, space.expectation(at)[0])


def _halves(
    starter: Starter, best: EMParameters, k: int, rows: IntArray, n_cores: int
) -> list[BoolArray]:
    """By 2-means where the component is round, and where the data are; its core; its middle."""
    x, rng = starter.x[rows], starter.rng
    y = x - best.means[0, k]
    covariance = best.covariances[0, k % best.covariances.shape[1]]
    if covariance.ndim == 1:
        y = y / np.sqrt(covariance)
    else:
        y = y @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    y = rounded(y)
    distance = (y**2).sum(axis=1)
    weight = starter.weight[rows]
    least = starter.space.structure.min_rows(starter.space.n_features)
    halves = [
        k_means(y, 2, weight, rng) == 0,
        k_means(x, 2, weight, rng) == 0,
        distance < np.median(distance),
    ]
    if starter.space.structure.correlated and y.shape[1] > 1:
        for axis in invariant_axes(y, weight).T[[0, -1]]:
            from_middle = np.abs(rounded(y @ axis))
            halves.append(from_middle < np.median(from_middle))
    halves += denser_than_normal(y, least)
    if y.shape[1] > 1:
        halves += in_one_feature(starter.features[rows], least, _OF_FEATURES)
    for i in range(n_cores):  # around rows anywhere, and around such as lie far out
        far = np.ones(len(y)) if i % 3 == 0 else distance.round(6) + 1e-6
        center = y[rng.choice(len(y), p=far / far.sum())]
        near = np.zeros(len(y), dtype=bool)
        size = ball_size(least, _LARGEST_CORE * len(y), rng)
        near[np.argsort(((y - center) ** 2).sum(axis=1), kind="stable")[:size]] = True
        halves.append(near)
    return halves


def _pair(starter: Starter, own: FloatArray, rows: IntArray, half: BoolArray) -> EMParameters:
    """A component's rows as two; ``own`` is its covariance, which small halves have a part of."""
    structure = starter.space.structure
    sides = (rows[half], rows[~half])
    counts = np.array([starter.weight[side].sum() for side in sides])
    centers, second = np.empty((2, starter.x.shape[1])), np.empty((2, *own.shape))
    for i, side in enumerate(sides):
        x, w = starter.x[side], starter.weight[side]
        centers[i] = w @ x / counts[i]
        y = x - centers[i]
        second[i] = (w[:, np.newaxis] * y).T @ y if structure.correlated else w @ y**2
    shared = structure.pooled
    covariances = own[np.newaxis] if shared else leaning(structure, counts, second, own)
    shares = counts / counts.sum()
    return EMParameters(shares[np.newaxis], centers[np.newaxis], covariances[np.newaxis])


def _alone(best: EMParameters, k: int) -> EMParameters:
    """One component as a mixture of which it is all."""
    own = best.component(k)
    return EMParameters(np.ones_like(own.weights), own.means, own.covariances)


def _with_pairs(best: EMParameters, k: int, pairs: EMParameters) -> EMParameters:
    """The best mixture with each of R pairs in the place of component k, the second half last."""
    n = len(pairs.weights)

    def placed(whole: FloatArray, of_pairs: FloatArray) -> FloatArray:
        out = np.repeat(whole, n, axis=0)
        out[:, k] = of_pairs[:, 0]
        return np.concatenate([out, of_pairs[:, 1:]], axis=1)

    weights = placed(best.weights, pairs.weights * best.weights[0, k])
    means = placed(best.means, pairs.means)
    if best.covariances.shape[1] < best.weights.shape[1]:
        return EMParameters(weights, means, np.repeat(best.covariances, n, axis=0))
    return EMParameters(weights, means, placed(best.covariances, pairs.covariances))


def _exchanged(mixtures: EMParameters, k: int) -> EMParameters:
    """The same with component k and the last in each other's place."""
    order = np.arange(mixtures.weights.shape[1])
    order[[k, -1]] = order[[-1, k]]
    covariances = mixtures.covariances
    if covariances.shape[1] == len(order):
        covariances = covariances[:, order]
    return EMParameters(mixtures.weights[:, order], mixtures.means[:, order], covariances)


def _merged(mixtures: EMParameters, i: IntArray, j: IntArray, one_scale: bool) -> EMParameters:
    """Mixture r with components i[r] < j[r] as one that has their moments."""
    n, k = len(i), mixtures.weights.shape[1]
    weights, means, covariances = (
        np.broadcast_to(a, (n, *a.shape[1:])).copy()
        for a in (mixtures.weights, mixtures.means, mixtures.covariances)
    )
    r = np.arange(n)
    both = weights[r, i] + weights[r, j]
    share = weights[r, i] / both
    gap = means[r, i] - means[r, j]
    if covariances.ndim == 4:
        across = gap[:, :, np.newaxis] * gap[:, np.newaxis, :]
    else:
        across = gap**2
        if one_scale:
            across = np.broadcast_to(across.mean(axis=-1, keepdims=True), gap.shape)
    column = (n, *(1,) * (covariances.ndim - 2))
    between = (share * (1 - share)).reshape(column) * across
    means[r, i] = share[:, np.newaxis] * means[r, i] + (1 - share)[:, np.newaxis] * means[r, j]
    weights[r, i] = both
    keep = np.ones((n, k), dtype=bool)
    keep[r, j] = False
    if covariances.shape[1] == 1:
        covariances[:, 0] += both.reshape(column) * between
    else:
        own = share.reshape(column) * covariances[r, i]
        covariances[r, i] = own + (1 - share).reshape(column) * covariances[r, j] + between
        covariances = covariances[keep].reshape(n, k - 1, *covariances.shape[2:])
    return EMParameters(
        weights[keep].reshape(n, k - 1), means[keep].reshape(n, k - 1, -1), covariances
    )
