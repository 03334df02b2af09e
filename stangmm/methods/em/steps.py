"""The steps of EM: data in coordinates of their own, starting points, E step and M step.

All restarts advance together as one array with leading axis R. One pass over blocks of rows that
fit the cache does the E step and gathers the moments for the M step, so that nothing of size
N x K is ever stored.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.methods.em.algebra import EMParameters, Sums
from stangmm.methods.em.by_group import rows_by_group
from stangmm.methods.em.restarts import degenerate, effective_rows
from stangmm.methods.em.rows import EMRows
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

# A random subset of the rows keeps so many of each component that has known ones, since without
# them another component could take its place.
_NAMED_ROWS = 200


class EMSpace:
    """The data in the coordinates in which EM works, and its two steps.

    EM does not depend on the units of the data. The problem's have mean 0 and variance 1; for
    correlated structures they are whitened by their total covariance besides. Then "small" has one
    meaning: a component's variance is compared with 1, the variance of all data.
    """

    def __init__(self, problem: Problem, rows: IntArray | None = None) -> None:
        self.problem = problem
        self.structure: CovarianceStructure = problem.structure
        self.n_components = problem.n_components
        self.frame: FloatArray | None = None
        if self.structure.correlated:
            self.frame = np.asarray(np.linalg.cholesky(problem.total_covariance), dtype=np.float64)
        every = slice(None) if rows is None else rows
        weight, labels = problem.sample_weight, problem.labels
        self.sample_weight = None if weight is None else weight[every]
        self._labels = None if labels is None else labels[every]
        self._rows = tuple(
            EMRows(
                problem.x[index],
                None if weight is None else weight[index],
                self.frame,
                self.structure,
                group,
            )
            for group, index in rows_by_group(problem, rows)
        )
        self.n_rows = problem.n_observations if rows is None else len(rows)
        self.n_features = problem.n_features
        self.total = float(self.n_rows if weight is None else weight[every].sum())

    @cached_property
    def x(self) -> FloatArray:
        """The rows in EM's coordinates, shape (N, D), with guesses where values are missing."""
        filled = [rows.filled() for rows in self._rows]
        return filled[0] if len(filled) == 1 else np.concatenate(filled)

    @property
    def start(self) -> EMParameters | None:
        """The start given by hand, with a leading axis of 1."""
        return None if self.problem.start is None else self.parameters_of(self.problem.start)

    def subset(self, rows: IntArray) -> EMSpace:
        """The same coordinates with some of the rows."""
        return EMSpace(self.problem, rows)

    def random_rows(self, n_rows: int, rng: np.random.Generator) -> IntArray:
        """So many rows, ascending, and besides some of each component that has known ones."""
        rows = rng.choice(self.n_rows, n_rows, replace=False)
        named = [rng.permutation(known)[:_NAMED_ROWS] for known in self._known_rows().values()]
        return np.unique(np.concatenate([rows, *named]))

    def starts(self, n_starts: int, rng: np.random.Generator) -> EMParameters:
        """Half k-means++ (one hard assignment to the nearest centre), half random rows.

        A component of which rows are known starts at their mean, or at one of them.
        """
        n_plus = (n_starts + 1) // 2
        k, d = self.n_components, self.n_features
        share = None if self.sample_weight is None else self.sample_weight / self.total
        known = self._known_rows()
        centers = np.empty((n_starts, k, d))
        centers[:n_plus] = self._k_means_plus_plus(n_plus, share, known, rng)
        for r in range(n_plus, n_starts):
            centers[r] = self.x[rng.choice(self.n_rows, k, replace=False, p=share)]
            for component, rows in known.items():
                centers[r, component] = self.x[rng.choice(rows)]
        everything: FloatArray = np.cov(self.x.T, bias=True, aweights=self.sample_weight).reshape(
            d, d
        )
        if not self.structure.correlated:
            everything = np.diag(everything).copy()
        c, n_scales = self.problem.space.scale_shape
        if n_scales < d:
            everything[:] = everything.mean()
        covariances = np.array(np.broadcast_to(everything, (n_starts, c, *everything.shape)))
        weights = np.full((n_starts, k), 1.0 / k)
        start = EMParameters(weights, centers, covariances)
        # For k-means++: a first M step with each row given to its nearest centre, by making the
        # common covariance so small that responsibilities become hard assignments. A centre left
        # with too few rows keeps the covariance of all data.
        plus = start[np.arange(n_plus)]
        sharp = EMParameters(plus.weights, plus.means, plus.covariances * 1e-6)
        _, sums = self.expectation(sharp)
        fitted, spikes = self.maximization(sums)
        good = np.flatnonzero(~spikes)
        weights[good], centers[good] = fitted.weights[good], fitted.means[good]
        covariances[good] = fitted.covariances[good]
        return EMParameters(weights, centers, covariances)

    def _known_rows(self) -> dict[int, IntArray]:
        """Rows of each component that has known ones."""
        if self._labels is None:
            return {}
        named = np.unique(self._labels[self._labels >= 0]).tolist()
        return {component: np.flatnonzero(self._labels == component) for component in named}

    def _k_means_plus_plus(
        self,
        n_starts: int,
        share: FloatArray | None,
        known: dict[int, IntArray],
        rng: np.random.Generator,
    ) -> FloatArray:
        """Centres by D^2 sampling, shape (R, K, D), beside the means of known components."""
        centers = np.empty((n_starts, self.n_components, self.n_features))
        nearest = np.full((n_starts, self.n_rows), np.inf)
        for component, rows in known.items():
            weight = None if share is None else share[rows]
            center = np.average(self.x[rows], axis=0, weights=weight)
            centers[:, component] = center
            np.minimum(nearest, ((self.x - center) ** 2).sum(axis=1), out=nearest)
        free = [j for j in range(self.n_components) if j not in known]
        for i, j in enumerate(free):
            if i == 0 and not known:
                picks = rng.choice(self.n_rows, n_starts, p=share)
            else:
                picks = np.array([self._far_row(each, share, rng) for each in nearest])
            centers[:, j] = self.x[picks]
            if j != free[-1]:
                for r in range(n_starts):
                    distance = ((self.x - centers[r, j]) ** 2).sum(axis=1)
                    np.minimum(nearest[r], distance, out=nearest[r])
        return centers

    def _far_row(
        self, nearest: FloatArray, share: FloatArray | None, rng: np.random.Generator
    ) -> int:
        """Draw a row with probability proportional to its squared distance from all centres."""
        cumulative = np.cumsum(nearest if share is None else nearest * share)
        target = rng.random() * cumulative[-1]
        return min(int(np.searchsorted(cumulative, target, "right")), len(nearest) - 1)

    def expectation(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        """E step: log likelihoods (R,), and the sums over rows that the M step needs."""
        if not self.problem.groups:
            return self._rows[0].expectation(parameters)
        log_lik, sums = np.zeros(len(parameters.weights)), Sums.none(parameters)
        for rows in self._rows:
            known = rows.component
            own = parameters if known is None else parameters.component(known)
            value, part = rows.expectation(own)
            log_lik += value
            sums.add(part, known)
        return log_lik, sums

    def maximization(self, sums: Sums, pseudo_rows: float = 0.0) -> tuple[EMParameters, BoolArray]:
        """M step: new parameters, and which restarts have become degenerate."""
        counts, first = sums.counts, sums.means
        covariances = sums.covariances(self.structure)
        if pseudo_rows:
            share = self._shrinkage(counts, pseudo_rows, covariances.ndim)
            covariances = (1 - share) * covariances + share * self._target(covariances)
            return EMParameters(counts / self.total, first, covariances), np.zeros(
                len(counts), bool
            )
        return (
            EMParameters(counts / self.total, first, covariances),
            degenerate(self.structure, self._rows_held(counts), covariances),
        )

    def _rows_held(self, counts: FloatArray) -> FloatArray:
        """Sums of responsibilities as numbers of rows, see `effective_rows`."""
        return counts * (effective_rows(self.n_rows, self.total) / self.total)

    def _shrinkage(self, counts: FloatArray, pseudo_rows: float, ndim: int) -> FloatArray:
        """Share of the target in each regularized covariance, ready to broadcast."""
        c = self.problem.space.scale_shape[0]
        held = counts if c == self.n_components else counts.sum(axis=1, keepdims=True)
        share = pseudo_rows / (self._rows_held(held) + pseudo_rows)
        return np.asarray(share.reshape(*share.shape, *(1,) * (ndim - 2)))

    def _target(self, covariances: FloatArray) -> FloatArray:
        """Covariance of all data (the unit of EM's coordinates), shrunk to a K-th of its volume."""
        unit = np.eye(self.n_features) if self.structure.correlated else np.ones(self.n_features)
        volume = self.n_components ** (2 / self.n_features)
        return np.asarray(np.broadcast_to(unit, covariances.shape) / volume)

    def mixture_of(self, parameters: EMParameters) -> Mixture:
        """Bring mixtures from EM's coordinates back to the problem's."""
        k = self.n_components
        means, covariances = parameters.means, parameters.covariances
        if self.frame is not None:
            means = means @ self.frame.T
            covariances = self.frame @ covariances @ self.frame.T
        covariances = np.repeat(covariances, k // covariances.shape[1], axis=1)
        return Mixture.from_covariances(parameters.weights, means, covariances)

    def parameters_of(self, mixture: Mixture) -> EMParameters:
        """Bring one mixture from the problem's coordinates to EM's, with a leading axis of 1."""
        c = self.problem.space.scale_shape[0]
        means = mixture.means
        if self.frame is None:
            covariances = mixture.scales[:c] ** 2
        else:
            inverse = np.linalg.inv(self.frame)
            means = means @ inverse.T
            covariances = inverse @ mixture.covariances[:c] @ inverse.T
        return EMParameters(mixture.weights[None], means[None], covariances[None])
