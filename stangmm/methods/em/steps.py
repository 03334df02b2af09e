"""The steps of EM: data in coordinates of their own, E step and M step.

All restarts advance together as one array with leading axis R. One pass over blocks of rows that
fit the cache does the E step and gathers the moments for the M step, so that nothing of size
N x K is ever stored.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.data.reach import reach
from stangmm.methods.em.algebra import EMParameters, Sums
from stangmm.methods.em.by_group import em_rows
from stangmm.methods.em.restarts import effective_rows, too_few_rows
from stangmm.methods.em.rows import ChunkStep
from stangmm.model.covariance import CovarianceStructure
from stangmm.model.mixture import Mixture
from stangmm.model.noise import Noise
from stangmm.model.problem import Problem
from stangmm.model.ties import are_few, stand_on_few

# A random subset of the rows keeps so many of each component that has known ones, since without
# them another component could take its place.
_NAMED_ROWS = 200
# A variance so near its lower bound, relative to it, is at the bound.
AT_RESOLUTION = 1.002
_FEW = 0.05  # a share of the rows
# Rows beside the fewest that a covariance matrix can have, for each feature above the fourth, that
# are hardly enough.
_HARDLY, _FEW_FEATURES = 0.5, 4
# Smallest standard deviation, in units of a feature's, with which matrices of doubles can work.
_NARROWEST = 1e-8
# And smallest eigenvalue of a correlation matrix of doubles.
_FLATTEST = 1e-11


class EMSpace:
    """The data in the coordinates in which EM works, and its two steps.

    EM does not depend on the units of the data. The problem's have mean 0, and variance 1 but for
    values far out; for structures that allow it they are whitened by their total covariance
    besides. Then "small" has one meaning: a component's variance is compared with 1, the variance
    of all data.

    Parameters
    ----------
    problem : Problem
    rows : ndarray of int, optional
        Only these rows.
    pseudo_rows : float
        Rows with the `typical` covariance that each component gets besides its own. What EM climbs
        is then the likelihood times the prior density of which these rows give the mode.
    """

    def __init__(
        self, problem: Problem, rows: IntArray | None = None, pseudo_rows: float = 0.0
    ) -> None:
        self.problem, self.rows, self.pseudo_rows = problem, rows, pseudo_rows
        self.structure: CovarianceStructure = problem.structure
        self.n_components = problem.n_components
        self.noise = problem.space.box is not None
        self.frame: FloatArray | None = None
        if self.structure.correlated and not self.structure.affine:
            self.frame = np.eye(problem.n_features)
        elif self.structure.correlated:
            # Features that determine one another are measured with an error, too.
            total = problem.total_covariance + np.diag(self._narrowest**2)
            self.frame = np.asarray(np.linalg.cholesky(total), dtype=np.float64)
        every = slice(None) if rows is None else rows
        weight, labels = problem.sample_weight, problem.labels
        self.sample_weight = None if weight is None else weight[every]
        self._labels = None if labels is None else labels[every]
        self._rows = em_rows(problem, self.frame, rows)
        self.n_held = problem.n_observations if rows is None else len(rows)
        # Of data in chunks the rows that are held are a sample, unless a part of it is asked for.
        self.in_chunks = rows is None and problem.all_rows is not None
        self.n_rows = problem.n_rows if self.in_chunks else self.n_held
        self.n_features = problem.n_features
        self.total = float(self.n_rows if weight is None else weight[every].sum())

    @cached_property
    def x(self) -> FloatArray:
        """The rows held, in EM's coordinates (N, D), with guesses where values are missing."""
        if not self.problem.groups:
            return self._rows[0][0].filled()
        filled = np.empty((self.n_held, self.n_features))
        for rows, places in self._rows:
            filled[places] = rows.filled()
        return filled

    @property
    def n_incomplete(self) -> int:
        """How many of the rows held miss values."""
        return sum(len(places) for rows, places in self._rows if rows.is_incomplete)

    @property
    def min_rows(self) -> float:
        """Rows that a component must hold."""
        return self.structure.min_rows(self.n_features)

    @property
    def start(self) -> EMParameters | None:
        """The start given by hand, with a leading axis of 1."""
        return None if self.problem.start is None else self.parameters_of(self.problem.start)

    def subset(self, rows: IntArray) -> EMSpace:
        """The same coordinates with some of these rows."""
        rows = rows if self.rows is None else self.rows[rows]
        return EMSpace(self.problem, rows, self.pseudo_rows)

    def random_rows(self, n_rows: int, rng: np.random.Generator) -> IntArray:
        """So many of the rows held, ascending, and some of each component that has known ones."""
        rows = rng.choice(self.n_held, n_rows, replace=False)
        named = [rng.permutation(known)[:_NAMED_ROWS] for known in self.known_rows().values()]
        return np.unique(np.concatenate([rows, *named]))

    def known_rows(self) -> dict[int, IntArray]:
        """Rows of each component that has known ones."""
        if self._labels is None:
            return {}
        named = np.unique(self._labels[self._labels >= 0]).tolist()
        return {component: np.flatnonzero(self._labels == component) for component in named}

    def expectation(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        """E step: log likelihoods (R,), and the sums over rows that the M step needs.

        With pseudo-rows, log likelihoods and prior densities.
        """
        log_lik, sums = self._log_likelihood(parameters)
        if self.pseudo_rows:
            log_lik = log_lik + self.penalty(parameters)
        return log_lik, sums

    def _log_likelihood(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        if self.in_chunks:
            return self._over_chunks(parameters)
        if not self.problem.groups:
            return self._rows[0][0].expectation(parameters)
        log_lik, sums = np.zeros(len(parameters.weights)), Sums.none(parameters)
        for rows, _ in self._rows:
            known = rows.component
            own = parameters if known is None else parameters.component(known)
            value, part = rows.expectation(own)
            log_lik += value
            sums.add(part, known)
        return log_lik, sums

    def _over_chunks(self, parameters: EMParameters) -> tuple[FloatArray, Sums]:
        """E step of all rows, chunk by chunk."""
        step = ChunkStep(parameters, self.frame, self.structure, self.problem.space.box)
        log_lik, counts, first, second = self.problem.sums(step)
        # Sums are taken from the same place in every chunk, so one row tells from where.
        origin = step.sums_of(self.problem.x[:1])[1].origin
        return log_lik, Sums(counts, first, second, origin)

    def maximization(self, sums: Sums) -> tuple[EMParameters, BoolArray]:
        """M step: new parameters, and in which mixtures a component holds too few rows."""
        counts = sums.counts
        covariances = sums.covariances(self.structure)
        if self.pseudo_rows:
            share = self._shrinkage(counts, covariances.ndim)
            covariances = (1 - share) * covariances + share * self._target(covariances)
            few = np.zeros(len(counts), dtype=bool)
        else:
            few = too_few_rows(self.problem, self.rows_held(counts))
        updated = EMParameters(counts / self.total, sums.means, covariances)
        return self.bounded(updated), few

    def bounded(self, parameters: EMParameters) -> EMParameters:
        """No component narrower than the data's resolution, in any direction.

        Covariances are the most likely ones with that bound: where the unit is the standard
        deviation of the rounding, their eigenvalues are at least one. Where such a bound, or an
        accelerated step, leads out of the structure, the nearest of its covariances follow.
        """
        covariances = parameters.covariances
        if covariances.ndim == 3:
            if (covariances.min(axis=(0, 1)) < self._floor).any():
                covariances = np.maximum(covariances, self._floor)
        else:
            covariances = self._bounded_matrices(covariances)
        if self.structure.restricted:
            covariances = self.structure.nearest(parameters.weights, covariances)
        return EMParameters(parameters.weights, parameters.means, covariances)

    def doubtful(self, parameters: EMParameters) -> BoolArray:
        """Which mixtures have a spike on tied values, or a covariance matrix of hardly enough rows.

        Of few more rows than features, where these are many, a covariance matrix is next to
        singular in some direction, and the likelihood high, whatever the data (McLachlan & Peel
        2000, doi:10.1002/0471721182, section 3.10).
        """
        result = self.spiked(parameters)
        if self.structure.correlated and not self.structure.pooled and self.n_components > 1:
            least = self.min_rows + _HARDLY * max(self.n_features - _FEW_FEATURES, 0)
            few = parameters.weights * effective_rows(self.n_rows, self.total) < least
            if self.pseudo_rows and few.any():  # a prior holds what no other rows are near
                few &= ~self.lie_far_out(parameters.means)
            result = result | few.any(axis=1)
        return result

    def spiked(self, parameters: EMParameters) -> BoolArray:
        """Which mixtures have a component on a few tied values, as narrow as their resolution.

        Tied values are a component of their own where they are many, as zeros may be.
        """
        covariances = parameters.covariances
        bound: BoolArray
        if covariances.ndim == 3:
            bound = np.asarray((covariances < AT_RESOLUTION * self._floor).any(axis=-1))
        else:
            inside = self._to_rounding @ covariances @ self._to_rounding.T
            correlations, _ = _correlations(covariances)
            flat = AT_RESOLUTION * _FLATTEST
            if _all_above(inside, AT_RESOLUTION) and _all_above(correlations, flat):
                return np.zeros(len(covariances), dtype=bool)
            above, _ = _correlations(inside, AT_RESOLUTION)
            bound = np.asarray(np.linalg.eigvalsh(above)[..., 0] < 0.0)
            bound |= np.linalg.eigvalsh(correlations)[..., 0] < flat
        result = np.zeros(len(covariances), dtype=bool)
        for i in np.flatnonzero(bound.any(axis=1)):
            result[i] = self._stands_on_few(parameters[np.array([i])], bound[i])
        return result

    def _stands_on_few(self, parameters: EMParameters, bound: BoolArray) -> bool:
        """Whether a component of a mixture (1,) that is at the bound stands on values of few rows.

        A covariance matrix is so in its narrowest directions.
        """
        x = self._recorded
        means, covariances = parameters.means[0], parameters.covariances[0]
        if covariances.ndim == 2:
            narrow = np.broadcast_to(covariances < AT_RESOLUTION * self._floor, means.shape)
            rounding = np.sqrt(self._floor)
            return bool(stand_on_few(x, self.sample_weight, means, narrow, rounding).any())
        to, in_roundings = self._to_rounding, x / self._narrowest
        for k in np.flatnonzero(np.broadcast_to(bound, len(means))):
            values, axes = np.linalg.eigh(to @ covariances[k % len(covariances)] @ to.T)
            narrow = values < AT_RESOLUTION
            narrow[0] = True
            for axis in axes.T[narrow]:
                at = float(axis @ to @ means[k])
                if are_few(in_roundings @ axis, self.sample_weight, at, 1.0):
                    return True
        return False

    @cached_property
    def _recorded(self) -> FloatArray:
        """The rows held in the problem's units, NaN where values are missing."""
        return self.problem.x if self.rows is None else self.problem.x[self.rows]

    @cached_property
    def _floor(self) -> FloatArray:
        """Smallest variances, shape (D,)."""
        return np.asarray(np.broadcast_to(self.problem.scale_floor**2, self.n_features))

    @property
    def _narrowest(self) -> FloatArray:
        """Smallest standard deviations of a covariance matrix, shape (D,)."""
        if self.problem.n_features == 1:
            return self.problem.scale_floor
        return np.maximum(self.problem.scale_floor, _NARROWEST)

    @cached_property
    def _to_rounding(self) -> FloatArray:
        """From EM's coordinates to those in which the unit is the rounding, shape (D, D)."""
        frame = np.eye(self.n_features) if self.frame is None else self.frame
        return np.asarray(frame / self._narrowest[:, np.newaxis])

    def _bounded_matrices(self, covariances: FloatArray) -> FloatArray:
        to = self._to_rounding
        inside = to @ covariances @ to.T
        lost = np.diagonal(inside, axis1=-2, axis2=-1).min(axis=-1) < -1.0
        if lost.any():  # to rounding, which leaves variances of its own size, beside values far out
            size = np.abs(np.diagonal(covariances, axis1=-2, axis2=-1))
            size = size[..., np.newaxis] * np.eye(self.n_features)
            covariances = np.where(lost[..., np.newaxis, np.newaxis], size, covariances)
            inside = to @ covariances @ to.T
        raised = _with_smallest(inside, 1.0)
        if raised is not inside:
            back = np.linalg.inv(to)
            same = (raised == inside).all(axis=(-2, -1))[..., np.newaxis, np.newaxis]
            covariances = np.where(same, covariances, back @ raised @ back.T)
        correlations, both = _correlations(covariances)
        raised = _with_smallest(correlations, _FLATTEST)
        if raised is not correlations:
            same = (raised == correlations).all(axis=(-2, -1))[..., np.newaxis, np.newaxis]
            covariances = np.where(same, covariances, raised * both)
        return covariances

    def rows_held(self, counts: FloatArray) -> FloatArray:
        """Sums of responsibilities as numbers of rows, see `effective_rows`."""
        return counts * (effective_rows(self.n_rows, self.total) / self.total)

    def _shrinkage(self, counts: FloatArray, ndim: int) -> FloatArray:
        """Share of the target in each regularized covariance, ready to broadcast."""
        c = self.problem.space.scale_shape[0]
        held = counts if c == self.n_components else counts.sum(axis=1, keepdims=True)
        share = self.pseudo_rows / (self.rows_held(held) + self.pseudo_rows)
        return np.asarray(share.reshape(*share.shape, *(1,) * (ndim - 2)))

    def _target(self, covariances: FloatArray) -> FloatArray:
        """Covariance of all data, shrunk to a K-th of its volume."""
        volume = self.n_components ** (2 / self.n_features)
        return np.asarray(np.broadcast_to(self.typical / volume, covariances.shape))

    def penalty(self, parameters: EMParameters) -> FloatArray:
        """Log prior density of which the pseudo-rows give the mode, shape (R,).

        Up to a constant it is minus half a pseudo-row's log determinant and trace, in each
        covariance (Fraley & Raftery 2007, doi:10.1007/s00357-007-0004-5).
        """
        covariances = parameters.covariances
        target = self._target(covariances)
        if covariances.ndim == 3:
            each = (np.log(covariances) + target / covariances).sum(axis=-1)
        else:
            solved = np.linalg.solve(covariances, target)
            each = np.linalg.slogdet(covariances)[1] + np.trace(solved, axis1=-2, axis2=-1)
        one_row = self.total / effective_rows(self.n_rows, self.total)
        return np.asarray(-0.5 * self.pseudo_rows * one_row * each.sum(axis=1))

    @cached_property
    def typical(self) -> FloatArray:
        """Covariance (D, D) or variances (D,) of all data in which no value lies far out.

        Values that lie further out than the bulk of the data `reach` count as lying at its end: one
        value of -9999 does not say how large data are.
        """
        weight = np.ones(self.n_held) if self.sample_weight is None else self.sample_weight
        _, x = self._within_reach(self.x)
        x = x - weight @ x / weight.sum()
        covariance = np.asarray((weight[:, np.newaxis] * x).T @ x / weight.sum())
        if self.frame is None:
            variances = covariance.diagonal()
            one_scale = self.structure.one_scale
            return np.full_like(variances, variances.mean()) if one_scale else variances.copy()
        inverse = np.linalg.inv(self.frame)
        return np.asarray(inverse @ covariance @ inverse.T)

    @property
    def few_rows(self) -> float:
        """So many may be too few for a component, or all be tied."""
        return max(self.n_components * self.min_rows, _FEW * self.n_held)

    @property
    def has_few_rows_far_out(self) -> bool:
        """Whether some rows, and few, have values that `typical` does not take as they are.

        Where components of single rows have a maximum of the likelihood, none are looked for.
        """
        if not self.min_rows:
            return False
        x, within = self._within_reach(self.x)
        return bool(0 < (x != within).any(axis=1).sum() <= self.few_rows)

    def lie_far_out(self, means: FloatArray) -> BoolArray:
        """Which components' means (..., D) are further out than any of `typical`."""
        at, within = self._within_reach(means)
        return np.asarray((at != within).any(axis=-1))

    def _within_reach(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points (..., D) in the problem's units, and those far out brought nearer to the data."""
        at = points if self.frame is None else points @ self.frame.T
        return at, np.clip(at, *self._reach)

    @cached_property
    def _reach(self) -> tuple[FloatArray, FloatArray]:
        """How far the middle of the data reaches at most, down and up, in the problem's units."""
        x = self.x if self.frame is None else self.x @ self.frame.T
        return reach(x, self.sample_weight)

    def mixture_of(self, parameters: EMParameters) -> Mixture:
        """Bring mixtures from EM's coordinates back to the problem's."""
        k = parameters.weights.shape[1]
        means, covariances = parameters.means, parameters.covariances
        if self.frame is not None:
            means = means @ self.frame.T
            covariances = self.frame @ covariances @ self.frame.T
        covariances = np.repeat(covariances, k // covariances.shape[1], axis=1)
        mixture = Mixture.from_covariances(parameters.weights, means, covariances)
        box = self.problem.space.box
        return replace(mixture, noise=Noise(parameters.noise_weight, box) if box else None)

    def parameters_of(self, mixture: Mixture) -> EMParameters:
        """Bring mixtures from the problem's coordinates to EM's, as a batch (R,)."""
        mixture = mixture.reshape(-1)
        c = self.problem.space.scale_shape[0]
        means = mixture.means
        if self.frame is None:
            covariances = mixture.scales[:, :c] ** 2
        else:
            inverse = np.linalg.inv(self.frame)
            means = means @ inverse.T
            covariances = inverse @ mixture.covariances[:, :c] @ inverse.T
        return EMParameters(mixture.weights, means, covariances)


def _with_smallest(matrices: FloatArray, least: float) -> FloatArray:
    """Symmetric matrices with smaller eigenvalues raised to the least."""
    if _all_above(matrices, least):
        return matrices
    # Of matrices of very different variances only these differences tell the sign of the smallest.
    above, _ = _correlations(matrices, least)
    low = (np.linalg.eigvalsh(above)[..., 0] < 0.0)[..., np.newaxis, np.newaxis]
    values, vectors = np.linalg.eigh(matrices)
    values = np.maximum(values, least)[..., np.newaxis, :]
    return np.where(low, (vectors * values) @ np.swapaxes(vectors, -1, -2), matrices)


def _correlations(matrices: FloatArray, less: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Matrices less a number times the unit matrix by the scales that they have, and these."""
    least = max(less, float(np.finfo(np.float64).tiny))  # of components that hold no row
    scales = np.sqrt(np.maximum(np.diagonal(matrices, axis1=-2, axis2=-1), least))
    both = scales[..., np.newaxis] * scales[..., np.newaxis, :]
    return (matrices - less * np.eye(matrices.shape[-1])) / both, both


def _all_above(matrices: FloatArray, least: float) -> bool:
    """Whether the eigenvalues of all of them are above a number."""
    try:
        np.linalg.cholesky(matrices - least * np.eye(matrices.shape[-1]))
    except np.linalg.LinAlgError:
        return False
    return True
