"""The posterior's curvature at an optimum, on the Stan model's unconstrained scale.

Where every component holds many rows, the posterior is nearly normal, and its covariance is the
inverse of the Fisher information. A sampler that starts with it as its metric has nothing left to
adapt but the step size.

The information is what the mixture itself expects, with rows drawn from it: the outer products of
their scores (gradients of log p(x)), averaged. If labels are known this is the curvature of the
likelihood at its maximum, whatever the data are like, since covariances there are those of the
rows. The outer products of the data's own scores (Berndt, Hall, Hall & Hausman 1974) are not: they
depend on the tails, and fewer rows than some twenty for each parameter leave directions in which
they are far too small.

Where features are highly correlated within a component, so are its means, scales and correlations
in the posterior, and no diagonal metric fits; where a component is very narrow, as on equal values,
a sampler does not find its own metric. Then the information is the metric, too, though the
posterior may be far from normal.
"""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.base.rounding import rounded_covariance
from stangmm.data.groups import RowGroup
from stangmm.methods.em.by_group import rows_by_group
from stangmm.model.mixture import Mixture, inverse_lower
from stangmm.model.problem import Problem

# The metric is used when each component holds so many rows for each free parameter of its own, when
# the information that unknown labels leave is worth so many rows in every direction, ...
_ROWS_PER_PARAMETER = 10.0
_INFORMATIVE_ROWS = 50.0
# Or where features are so correlated within a component (condition number of the correlations).
# With components that hold few rows or none more is asked: a sampler has to adapt to these.
_CORRELATED, _CORRELATED_BESIDE_FEW, _NEARLY_SINGULAR = 10.0, 100.0, 1e4
# The same where a component is so narrow that the variance of its mean is below this: Stan's
# adaptation shrinks variances towards 0.001, which is too coarse then.
_FINE = 1e-5
# There must not be more parameters than this, since each step multiplies with the metric; or than
# so many where correlations are nearly singular.
_MAX_PARAMETERS, _MOST_PARAMETERS = 300, 1000
_BLOCK = 2**18  # numbers in a block of scores: 2 MB, to stay in the cache
# Eigenvalues of the information, relative to that of known labels, of which doubles know nothing.
NOTHING = 1e-11
# Rows that are drawn for each parameter, and how many at least where the metric depends on them.
_ROWS_EACH, _LEAST_ROWS = 20, 4000


def inverse_metric(
    mixture: Mixture,
    problem: Problem,
    rng: np.random.Generator,
    *,
    stick_breaking: bool,
    few: BoolArray | None = None,
    beside_empty: bool = False,
) -> FloatArray | None:
    """Posterior covariance (P, P) of the unconstrained parameters, or None.

    It is None where the posterior is not normal, unless features are highly correlated or a
    component is very narrow.

    Parameters
    ----------
    mixture : Mixture
        An optimum, without leading axes.
    rng : numpy Generator
        Draws the rows that tell the information.
    stick_breaking : bool
        Stan's transform of the weights: stick-breaking before 2.37, isometric log ratios since.
    few : ndarray of bool, shape (K,), optional
        Components that hold few rows: what these are like does not matter.
    beside_empty : bool
        Whether there are other components, which hold no row.
    """
    free, own = problem.space.size, problem.space.size_of_component
    seen_least = 1.0 if not problem.groups else float((~np.isnan(problem.x)).mean(axis=0).min())
    held = float(mixture.weights.min()) * problem.total_weight * seen_least
    if mixture.noise is not None:  # which has its weight only
        held = min(held, own * float(mixture.noise.weight) * problem.total_weight)
    counts = np.maximum(mixture.weights * problem.total_weight, 1.0)
    many = np.ones(len(counts), dtype=bool) if few is None or few.all() else ~few
    of_means = (mixture.scales**2 / counts[:, np.newaxis])[many]
    condition = _condition(mixture, many)
    beside_few = beside_empty or not many.all()
    correlated = _CORRELATED_BESIDE_FEW if beside_few else _CORRELATED
    needed = float(of_means.min()) < _FINE or condition > correlated
    if free > (_MOST_PARAMETERS if condition > _NEARLY_SINGULAR else _MAX_PARAMETERS):
        return None
    if not needed and held < _ROWS_PER_PARAMETER * own:
        return None
    observed, complete = information(
        mixture, problem, rng, stick_breaking=stick_breaking, least_rows=_LEAST_ROWS
    )
    covariance, least = inverted(observed, complete)
    if not needed and least * held < _INFORMATIVE_ROWS:
        return None
    return rounded_covariance(covariance)


def information(
    mixture: Mixture,
    problem: Problem,
    rng: np.random.Generator,
    *,
    stick_breaking: bool,
    least_rows: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Expected information (P, P) of rows and prior, and its diagonal (P,) for known labels.

    Rows are drawn from the mixture. They miss the features that the problem's rows miss, and their
    components are known as often. Arguments as in `inverse_metric`.
    """
    free = problem.space.size
    n = max(_ROWS_EACH * free, least_rows)
    observed, complete = np.zeros((free, free)), np.zeros(free)
    transforms = _transforms(mixture, stick_breaking)
    groups = rows_by_group(problem)
    held = np.array([_weight(problem, index).sum() for _, index in groups])
    step = max(1, _BLOCK // free)
    for (group, _), share in zip(groups, held / held.sum(), strict=True):
        n_group = int(np.ceil(n * share))
        weight = problem.total_weight * share / n_group
        for first in range(0, n_group, step):
            x = _made_rows(mixture, group, min(step, n_group - first), rng)
            score, squares = scores(mixture, problem, x, transforms, group.component)
            observed += weight * score.T @ score
            complete += weight * squares.sum(axis=0)
    prior = _prior_precision(problem)
    return observed + np.diag(prior), complete + prior


def inverted(observed: FloatArray, complete: FloatArray) -> tuple[FloatArray, float]:
    """Inverse of what `information` gives, and the least eigenvalue relative to known labels.

    Relative to these, since parameters differ in size by more than doubles have digits for. The
    inverse is positive definite.
    """
    root = 1.0 / np.sqrt(complete)
    values, vectors = np.linalg.eigh(observed * root * root[:, np.newaxis])
    half = root[:, np.newaxis] * vectors / np.sqrt(np.maximum(values, NOTHING * values[-1]))
    return np.asarray(half @ half.T), float(values[0])


def _made_rows(mixture: Mixture, group: RowGroup, n: int, rng: np.random.Generator) -> FloatArray:
    """Rows (n, D) from a mixture, with what a group misses and what is known of it."""
    d = mixture.n_features
    if group.component is None:
        component = rng.choice(mixture.n_weights, n, p=mixture.all_weights)
    else:
        component = np.full(n, group.component)
    x, uniform = rng.standard_normal((n, d)), rng.random((n, d))
    for k, (mean, factor) in enumerate(zip(mixture.means, mixture.cholesky, strict=True)):
        own = component == k
        x[own] = mean + x[own] @ factor.T
    if mixture.noise is not None:
        box, own = mixture.noise.box, component == mixture.n_components
        x[own] = box.lower + uniform[own] * (box.upper - box.lower)
    x[:, np.setdiff1d(np.arange(d), group.observed)] = np.nan
    return x


def score_sum(mixture: Mixture, problem: Problem) -> FloatArray:
    """Gradient of the log likelihood, shape (P,), in the coordinates of `ParameterSpace`."""
    total = np.zeros(problem.space.size)
    transforms = _transforms(mixture, stick_breaking=False)
    step = max(1, _BLOCK // problem.space.size)
    for group, index in rows_by_group(problem):
        x, weight = problem.x[index], _weight(problem, index)
        for first in range(0, len(x), step):
            block = slice(first, first + step)
            score, _ = scores(mixture, problem, x[block], transforms, group.component)
            total += weight[block] @ score
    return total


def _weight(problem: Problem, index: slice | IntArray) -> FloatArray:
    """Weights (n,) of some rows."""
    weight = problem.sample_weight
    return np.ones(problem.n_observations)[index] if weight is None else weight[index]


def _transforms(mixture: Mixture, stick_breaking: bool) -> tuple[FloatArray, FloatArray]:
    """What `scores` needs of the mixture for the weights and the correlations."""
    return weights_jacobian(mixture.all_weights, stick_breaking), correlation_jacobians(mixture)


def _condition(mixture: Mixture, among: BoolArray) -> float:
    """Largest condition number of some components' correlation matrices."""
    if mixture.corr_chol is None:
        return 1.0
    return float(np.linalg.cond(mixture.corr_chol[among]).max() ** 2)


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
    bounds, floor_i sqrt(Q_ii), where Q = Y' Y with Y the inverse of C: with a the share of scale_i
    that it is, d log scale_i = a d log excess_i - (1 - a) sum_jm Q_ij Y_mi d C_jm / Q_ii.
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
        of_chol -= _through_bounds((1.0 - above) * scale, mixture.corr_chol)[:, :, i, j]
        unconstrained = np.einsum("nkm,kmp->nkp", of_chol, of_corr)
        _collect(parts, squares, unconstrained, responsibility, n_corr < k)
    return np.concatenate(parts, axis=1), np.concatenate(squares, axis=1)


def _through_bounds(of_log_scales: FloatArray, corr_chol: FloatArray) -> FloatArray:
    """What correlations C do to scales through their bounds, shape (N, K, D, D), see `scores`."""
    inverse = inverse_lower(corr_chol)
    of_inverse = np.swapaxes(inverse, -1, -2) @ inverse
    per_bound = of_log_scales / np.einsum("kii->ki", of_inverse)
    each = np.einsum("nki,kij,kmi->nkjm", per_bound, of_inverse, inverse, optimize=True)
    return np.asarray(each)


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


def _prior_precision(problem: Problem) -> FloatArray:
    """Roughly what the prior adds, shape (P,).

    It is exact for the means, of the order of 1 on the log scales, and that of independent features
    for the correlations: with LKJ(eta), a partial correlation of a feature with the one that has j
    before it has the density (1 - r^2)^(b - 1) with b = eta + (D - 2 - j) / 2 (Lewandowski,
    Kurowicka & Joe 2009, doi:10.1016/j.jmva.2009.04.008), and so 2 b in artanh(r).
    """
    space, priors, d = problem.space, problem.priors, problem.n_features
    scale = np.asarray(priors.means.scale).ravel()
    before = space.n_weights - 1
    precision = np.ones(space.size)
    precision[before : before + len(scale)] = 1.0 / scale**2
    if space.n_correlations:
        _, j = np.tril_indices(d, -1)
        of_each = 2.0 * priors.correlation.shape + (d - 2 - j)
        precision[-space.n_correlations * space.n_pairs :] = np.tile(of_each, space.n_correlations)
    return precision
