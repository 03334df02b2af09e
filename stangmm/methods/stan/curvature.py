"""The posterior's curvature at an optimum, on the Stan model's unconstrained scale.

Where every component holds many rows, the posterior is nearly normal, and its covariance is the
inverse of the Fisher information, estimated from the rows' scores (the outer products of the
gradients of log p(x_n); Berndt, Hall, Hall & Hausman 1974). A sampler that starts with it as its
metric has nothing left to adapt but the step size.

Where features are highly correlated within a component, so are its means, scales and correlations
in the posterior, and no diagonal metric fits; where a component is very narrow, as on equal values,
a sampler does not find its own metric. Then the curvature is the metric, too, though the posterior
may be far from normal.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.rounding import rounded_covariance
from stangmm.methods.em.by_group import rows_by_group
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

# The metric is used when each component holds so many rows for each free parameter of its own, when
# the information that unknown labels leave is worth so many rows in every direction, ...
_ROWS_PER_PARAMETER = 10.0
_INFORMATIVE_ROWS = 50.0
# Or, where features are so correlated within a component (condition number of the correlations), as
# soon as each component holds as many rows as it has free parameters.
_CORRELATED = 100.0
# The same where a component is so narrow that the variance of its mean is below this: Stan's
# adaptation shrinks variances towards 0.001, which is too coarse then.
_FINE = 1e-5
# A scale is at its lower bound when that is more than this share of it.
_AT_BOUND = 0.5
# There must not be more parameters than this.
_MAX_PARAMETERS = 300
_BLOCK = 2**18  # numbers in a block of scores: 2 MB, to stay in the cache
_MAX_ROWS = 100_000  # a random subset of this size tells the curvature well enough


def inverse_metric(
    mixture: Mixture, problem: Problem, rng: np.random.Generator, *, stick_breaking: bool
) -> FloatArray | None:
    """Posterior covariance (P, P) of the unconstrained parameters, or None.

    It is None where the posterior is not normal, unless features are highly correlated or a
    component is very narrow.

    Parameters
    ----------
    mixture : Mixture
        An optimum, without leading axes.
    rng : numpy Generator
        Chooses the rows where there are very many.
    stick_breaking : bool
        Stan's transform of the weights: stick-breaking before 2.37, isometric log ratios since.
    """
    free, own = problem.space.size, problem.space.size_of_component
    seen_least = 1.0 if not problem.groups else float((~np.isnan(problem.x)).mean(axis=0).min())
    held = float(mixture.weights.min()) * problem.total_weight * seen_least
    if mixture.noise is not None:  # which has its weight only
        held = min(held, own * float(mixture.noise.weight) * problem.total_weight)
    counts = np.maximum(mixture.weights * problem.total_weight, 1.0)
    of_means = mixture.scales**2 / counts[:, np.newaxis]
    needed = float(of_means.min()) < _FINE or _condition(mixture) > _CORRELATED
    if free > _MAX_PARAMETERS or held < (1.0 if needed else _ROWS_PER_PARAMETER) * own:
        return None
    observed, complete = information(mixture, problem, rng, stick_breaking=stick_breaking)
    root = 1.0 / np.sqrt(complete)
    least = float(np.linalg.eigvalsh(observed * root * root[:, np.newaxis])[0])
    if not needed and least * held < _INFORMATIVE_ROWS:
        return None
    return rounded_covariance(np.linalg.inv(observed))


def information(
    mixture: Mixture, problem: Problem, rng: np.random.Generator, *, stick_breaking: bool
) -> tuple[FloatArray, FloatArray]:
    """Information (P, P) of rows and prior, and its diagonal (P,) as if labels were known.

    Arguments as in `inverse_metric`.
    """
    free, n = problem.space.size, problem.n_observations
    rows = np.sort(rng.choice(n, _MAX_ROWS, replace=False)) if n > _MAX_ROWS else None
    observed, complete = np.zeros((free, free)), np.zeros(free)
    for score, squares, weight in _blocks_of_scores(mixture, problem, stick_breaking, rows):
        observed += score.T @ (score * weight[:, np.newaxis])
        complete += weight @ squares
    if (problem.space.share_above(mixture) < 1.0 - _AT_BOUND).any():
        _add_for_bounds(observed, complete, mixture, problem)
    prior = _prior_precision(problem, free)
    return observed + np.diag(prior), complete + prior


def score_sum(mixture: Mixture, problem: Problem) -> FloatArray:
    """Gradient of the log likelihood, shape (P,), in the coordinates of `ParameterSpace`."""
    blocks = _blocks_of_scores(mixture, problem, stick_breaking=False)
    total = np.zeros(problem.space.size)
    for score, _, weight in blocks:
        total += weight @ score
    return total


def _blocks_of_scores(
    mixture: Mixture, problem: Problem, stick_breaking: bool, rows: IntArray | None = None
) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """Scores (n, P), squares (n, P) and weights (n,) of the rows, block by block.

    The weights of some of the rows (``rows``) add up to the weight of all.
    """
    n = problem.n_observations
    weight = np.ones(n) if problem.sample_weight is None else problem.sample_weight
    scale = 1.0 if rows is None else problem.total_weight / weight[rows].sum()
    of_weights = weights_jacobian(mixture.all_weights, stick_breaking)
    transforms = of_weights, correlation_jacobians(mixture)
    step = max(1, _BLOCK // problem.space.size)
    for group, index in rows_by_group(problem, rows):
        x, weight_of_group = problem.x[index], scale * weight[index]
        for first in range(0, len(x), step):
            block = slice(first, first + step)
            score, squares = scores(mixture, problem, x[block], transforms, group.component)
            yield score, squares, weight_of_group[block]


def _add_for_bounds(
    observed: FloatArray, complete: FloatArray, mixture: Mixture, problem: Problem
) -> None:
    """Add to the information on means what rows that vary less than the scales do not show.

    The score of a mean is zero at rows that are equal to it, though it is known from N_k of them to
    scale / sqrt(N_k).
    """
    k, d = mixture.means.shape
    before = mixture.n_weights - 1
    inverse = np.linalg.inv(mixture.cholesky)
    known = np.swapaxes(inverse, -1, -2) @ inverse  # (K, D, D), precisions of known labels
    known *= (mixture.weights * problem.total_weight)[:, np.newaxis, np.newaxis]
    for component in range(k):
        own = slice(before + component * d, before + (component + 1) * d)
        missing = np.maximum(1.0 - complete[own] / known[component].diagonal(), 0.0)
        complete[own] += missing * known[component].diagonal()
        root = np.sqrt(missing)
        observed[own, own] += known[component] * root[:, np.newaxis] * root


def _condition(mixture: Mixture) -> float:
    """Largest condition number of the components' correlation matrices."""
    if mixture.corr_chol is None:
        return 1.0
    return float(np.linalg.cond(mixture.corr_chol).max() ** 2)


def scores(
    mixture: Mixture,
    problem: Problem,
    x: FloatArray,
    transforms: tuple[FloatArray, FloatArray],
    component: int | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Gradients of log p(x_n), shape (N, P), and the squares of those of known labels, averaged.

    The rows miss the same features and may come from a known component. With the precision P of
    the features that are there, zero elsewhere, g = P (x - mu), and L = diag(scales) C: d/d mu = g,
    d/d log scale_i = g_i (x - mu)_i - 1 (0 for a feature that is missing), d/d C_ij =
    scale_i (g_i (L' g)_j - (P L)_ij). Scales are unconstrained by the log of what is above their
    bounds, floor_i / C_ii: with a the share of scale_i that it is, d log scale_i = a d log excess_i
    - (1 - a) d log C_ii.
    """
    k, d = problem.n_components, problem.n_features
    c, s = problem.space.scale_shape
    n_corr = problem.space.n_correlations
    of_weights, of_corr = transforms
    seen = ~np.isnan(x[0])
    observed = np.flatnonzero(seen)
    marginal = mixture.marginal(observed)
    if component is None:
        responsibility = marginal.responsibilities(x[:, observed]).T  # (N, K or K + 1)
    else:
        responsibility = np.tile(np.eye(mixture.n_weights)[component], (len(x), 1))
    inverse = np.linalg.inv(marginal.cholesky)
    precision = np.zeros((k, d, d))
    precision[:, observed[:, np.newaxis], observed] = np.swapaxes(inverse, -1, -2) @ inverse
    deviation = np.where(seen, x, 0.0)[:, np.newaxis] - seen * mixture.means  # (N, K, D)
    g = np.einsum("kij,nkj->nki", precision, deviation)
    scale = (g * deviation - 1.0 * seen).reshape(len(x), k, s, d // s).sum(axis=3)  # (N, K, S)
    above = problem.space.share_above(mixture)
    parts, squares = [responsibility @ of_weights], [responsibility @ of_weights**2]
    responsibility = responsibility[:, :k]
    for each, shared in ((g, False), (above * scale, c < k)):
        _collect(parts, squares, each, responsibility, shared)
    if n_corr and mixture.corr_chol is not None:
        i, j = np.tril_indices(d)
        factor = mixture.cholesky
        y = np.einsum("kji,nkj->nki", factor, g)
        of_chol = mixture.scales[:, i] * (g[:, :, i] * y[:, :, j] - (precision @ factor)[:, i, j])
        of_chol[:, :, i == j] -= (1.0 - above) * scale / np.einsum("kii->ki", mixture.corr_chol)
        unconstrained = np.einsum("nkm,kmp->nkp", of_chol, of_corr)
        _collect(parts, squares, unconstrained, responsibility, n_corr < k)
    return np.concatenate(parts, axis=1), np.concatenate(squares, axis=1)


def _collect(
    parts: list[FloatArray],
    squares: list[FloatArray],
    score: FloatArray,
    responsibility: FloatArray,
    shared: bool,
) -> None:
    """Weight scores (N, K, P) by responsibilities; sum over components that share parameters."""
    r = responsibility[..., np.newaxis]
    for out, each in ((parts, r * score), (squares, r * score**2)):
        out.append(each.sum(axis=1) if shared else each.reshape(len(each), -1))


def weights_jacobian(weights: FloatArray, stick_breaking: bool) -> FloatArray:
    """D log weights / d unconstrained, shape (W, W - 1) of W weights."""
    k = len(weights)
    if stick_breaking:
        left = np.cumsum(weights[::-1])[::-1]
        share = weights[:-1] / left[:-1]
        jacobian = np.tril(np.tile(-share, (k, 1)), -1)
        jacobian[np.arange(k - 1), np.arange(k - 1)] = 1.0 - share
        return jacobian
    basis = np.zeros((k, k - 1))  # orthonormal, each column summing to zero
    for j in range(1, k):
        basis[:j, j - 1] = 1.0 / np.sqrt(j * (j + 1.0))
        basis[j, j - 1] = -j / np.sqrt(j * (j + 1.0))
    return np.asarray(basis - weights @ basis)


def correlation_jacobians(mixture: Mixture) -> FloatArray:
    """D C (lower triangle by rows) / d unconstrained of Stan's Cholesky factors, each component.

    Row i of C has C_ij = tanh(u_ij) times what is left of the row's unit length.
    """
    k, d = mixture.means.shape
    i, j = np.tril_indices(d)
    below = i > j
    jacobians = np.zeros((k, len(i), int(below.sum())))
    if mixture.corr_chol is None:
        return jacobians
    for component, chol in enumerate(mixture.corr_chol):
        columns = iter(range(jacobians.shape[2]))
        for row in range(1, d):
            left = 1.0 - np.concatenate([[0.0], np.cumsum(chol[row, :row] ** 2)])
            for at in range(row):  # u_(row, at) moves C_(row, at) and all to its right
                slope = left[at + 1] / np.sqrt(left[at])  # d C / d u: sech^2 times what is left
                change = np.zeros(row + 1)
                change[at] = slope
                change[at + 1 :] = (
                    -chol[row, at + 1 : row + 1] * chol[row, at] * slope / left[at + 1]
                )
                into = (i == row) & (j <= row)
                jacobians[component, into, next(columns)] = change
    return jacobians


def _prior_precision(problem: Problem, free: int) -> FloatArray:
    """Roughly what the prior adds: exact for the means, of the order of 1 on the log scales."""
    scale = np.asarray(problem.priors.means.scale).ravel()
    before = problem.space.n_weights - 1
    precision = np.ones(free)
    precision[before : before + len(scale)] = 1.0 / scale**2
    return precision
