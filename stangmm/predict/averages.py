"""Predictions averaged over draws, with intervals, in blocks of bounded memory.

Beyond the rows, the draws and the results, nothing here takes more than 64 MB: coefficients of the
draws (`quadratic`) up to 32 MB, and for each of at most eight threads some blocks of 0.5 MB, for an
interval 2 MB (or all draws of one row, if that is more). Where values are missing, rows are also
numbered in groups. Results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_count
from stangmm.base.memory import check_memory
from stangmm.base.processors import n_processors
from stangmm.base.progress import progress_bar
from stangmm.data.groups import group_rows
from stangmm.model.mixture import Mixture, log_sum_exp
from stangmm.predict.quadratic import LogJoint

# Draws from the predictive distribution that tail probabilities are counted among.
N_REFERENCE = 10_000
_MOST_THREADS = 8
# Numbers of 8 bytes whose quantiles a thread takes at once (2 MB).
SORTED = 2**18
# Fewer densities than this are computed in milliseconds, before threads have started.
SHORT = 2**19
_HELD = 2**20  # log densities of all draws that are held at once, to be transposed: 8 MB
_SAMPLED = 100_000  # rows drawn at once
_DRAWS = 2**7  # whose log likelihoods are summed at once
# Numbers that replicated data sets hold: 64 MB.
_REPLICATED = 2**23

# Rows are worked on in about so many pieces, of at least so many densities and at most so many
# numbers.
_PIECES = 256
FEWEST = 2**17
_ROWS = 2**17

# Turns log joint densities (K, n, s), which it may overwrite, into values (C, n, s).
_Values: TypeAlias = Callable[[FloatArray], FloatArray]
# Does something with the densities of a block of rows (n, D), whose numbers are given too.
_Work: TypeAlias = Callable[[LogJoint, FloatArray, IntArray], None]


class Band(NamedTuple):
    """Posterior mean of something, with the bounds of a central interval; arrays of one shape.

    Attributes
    ----------
    mean, lower, upper : ndarray, Series, DataFrame or DataArray

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="nuts", seed=1)
    >>> band = fit.predict_proba([[3.0, 65.0]], interval=0.9)
    >>> band.mean.shape, bool((band.lower < band.mean).all())
    ((1, 2), True)
    """

    mean: Any
    lower: Any
    upper: Any


class OutlierScore(NamedTuple):
    """How unusual rows are.

    Attributes
    ----------
    log_density : ndarray, shape (N,)
        Log predictive density.
    tail_probability : ndarray, shape (N,)
        Share of the predictive distribution that is no denser; small for outliers.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="em", seed=1)
    >>> score = fit.outlier_score([[2.0, 54.0], [2.0, 90.0]])
    >>> score.tail_probability < 0.01
    array([False,  True])
    """

    log_density: Any
    tail_probability: Any


def thinned(mixture: Mixture, most: int | None) -> Mixture:
    """At most so many of the draws, evenly spaced over all of them."""
    draws = mixture.batch_shape[0]
    if most is None or draws <= most:
        return mixture
    return mixture[np.linspace(0, draws - 1, most).round().astype(np.intp)]


def responsibilities(mixture: Mixture, x: FloatArray, *, progress: bool = False) -> FloatArray:
    """Mean over S draws of P(z = k | x), shape (N, K), or (N, K + 1) with noise, which is last."""
    return _mean(mixture, x, _responsibilities, mixture.n_weights, progress)


def responsibility_band(
    mixture: Mixture, x: FloatArray, share: float, *, progress: bool = False
) -> Band:
    """As `responsibilities`: mean and central interval of a share of the S draws."""
    return Band(*_band(mixture, x, _responsibilities, mixture.n_weights, share, progress))


def most_probable(probability: FloatArray, n_components: int) -> IntArray:
    """The component of most probability of each row, (N,), from (N, K or K + 1); -1: the noise."""
    component = probability.argmax(axis=1)
    return np.where(component == n_components, -1, component)


def class_probabilities(
    mixture: Mixture, x: FloatArray, starts: IntArray, *, progress: bool = False
) -> FloatArray:
    """Mean over S draws of P(class | x), shape (N, C).

    Class c has the components from ``starts[c]`` to before ``starts[c + 1]``.
    """
    return _mean(mixture, x, _of_classes(starts), len(starts), progress)


def class_band(
    mixture: Mixture, x: FloatArray, starts: IntArray, share: float, *, progress: bool = False
) -> Band:
    """P(class | x): mean and central interval of a share of the S draws, each (N, C)."""
    return Band(*_band(mixture, x, _of_classes(starts), len(starts), share, progress))


def density_band(mixture: Mixture, x: FloatArray, share: float, *, progress: bool = False) -> Band:
    """p(x): mean and central interval of a share of the S draws, each (N,)."""
    return Band(*(a[:, 0] for a in _band(mixture, x, _density, 1, share, progress)))


def log_density(
    mixture: Mixture, x: FloatArray, labels: IntArray | None = None, *, progress: bool = False
) -> FloatArray:
    """Log of the mean over S draws of p(x), shape (N,): the log predictive density.

    For a row whose component is known (``labels``, not negative) it is that of p(x, z).
    """
    out = np.full(len(x), -np.inf)

    def work(log_joint: LogJoint, block: FloatArray, where: IntArray) -> None:
        for rows, draws in log_joint.blocks(len(block)):
            joint = log_joint(block[rows], draws)
            if labels is not None:
                _rule_out(joint, labels[where[rows]])
            peak = joint.max(axis=(0, 2))
            peak[np.isneginf(peak)] = 0.0
            joint -= peak[:, np.newaxis]
            total = np.exp(joint, out=joint).sum(axis=(0, 2))
            with np.errstate(divide="ignore"):
                out[where[rows]] = np.logaddexp(out[where[rows]], np.log(total) + peak)

    _over_rows(work, mixture, x, progress)
    out -= np.log(mixture.batch_shape[0])
    return out


def log_density_draws(
    mixture: Mixture, x: FloatArray, labels: IntArray | None = None
) -> FloatArray:
    """Log p(x) for every draw, shape (S, N); with the component of rows where it is known."""
    n_draws = mixture.batch_shape[0]
    out = np.empty((n_draws, len(x)))
    for where, each in log_density_blocks(mixture, x, labels, max(1, _HELD // n_draws)):
        out[:, where] = each.T
    return out


def log_likelihoods(
    mixture: Mixture,
    x: FloatArray,
    sample_weight: FloatArray | None = None,
    labels: IntArray | None = None,
) -> FloatArray:
    """Sum over rows of weight times log p(x), shape (S,); p(x, z) where the component is known."""
    out = np.zeros(mixture.batch_shape)
    weight = np.ones(len(x)) if sample_weight is None else sample_weight
    pieces = [slice(first, first + _DRAWS) for first in range(0, len(out), _DRAWS)]
    with _map(len(x) * mixture.weights.size >= SHORT) as in_turn:
        for part, features, where in _patterns(mixture, x):
            rows = np.asarray(where)
            block = x[rows][:, features]
            known = None if labels is None else labels[rows]
            task = partial(_sum, part, block, weight[rows], known)
            for draws, total in zip(pieces, in_turn(task, pieces), strict=True):
                out[draws] += total
    return out


def _sum(
    mixture: Mixture, x: FloatArray, weight: FloatArray, labels: IntArray | None, draws: slice
) -> FloatArray:
    log_joint = LogJoint(mixture[draws])
    total = np.zeros(log_joint.mixture.batch_shape)
    for rows, some in log_joint.blocks(len(x)):
        joint = log_joint(x[rows], some)
        if labels is not None:
            _rule_out(joint, labels[rows])
        total[some] += weight[rows] @ _log_density(joint)[0]
    return total


def log_density_blocks(
    mixture: Mixture, x: FloatArray, labels: IntArray | None, n_rows: int
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Log p(x) for every draw, as `log_density_draws`, so many rows at a time.

    Yields
    ------
    rows : ndarray of int, shape (n,)
        Which rows, at most ``n_rows`` that miss the same values.
    log_density : ndarray, shape (n, S)
    """
    for rows, each in _blocks(mixture, x, labels, n_rows, _log_density, 1):
        yield rows, each[0]


def responsibility_blocks(
    mixture: Mixture, x: FloatArray, labels: IntArray | None, n_rows: int
) -> Iterator[tuple[IntArray, FloatArray]]:
    """P(z = k | x) for every draw, so many rows at a time; 1 for components that are known.

    Yields
    ------
    rows : ndarray of int, shape (n,)
        Which rows, at most ``n_rows`` that miss the same values.
    responsibilities : ndarray, shape (K, n, S)
        K + 1 with noise, which is last.
    """
    yield from _blocks(mixture, x, labels, n_rows, _responsibilities, mixture.n_weights)


def weighed_responsibilities(
    mixture: Mixture,
    x: FloatArray,
    labels: IntArray | None,
    weights: FloatArray,
    *,
    progress: bool = False,
) -> FloatArray:
    """Sum over draws and components of P(z = k | x) times weights (S, K, C), shape (N, C)."""
    out = np.zeros((len(x), weights.shape[-1]))

    def work(log_joint: LogJoint, block: FloatArray, where: IntArray) -> None:
        for rows, draws in log_joint.blocks(len(block)):
            joint = log_joint(block[rows], draws)
            if labels is not None:
                _rule_out(joint, labels[where[rows]])
            each = _responsibilities(joint).transpose(1, 2, 0)
            out[where[rows]] += np.tensordot(each, weights[draws], axes=2)

    _over_rows(work, mixture, x, progress)
    return out


def _blocks(
    mixture: Mixture,
    x: FloatArray,
    labels: IntArray | None,
    n_rows: int,
    values: _Values,
    width: int,
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Values (C, n, S) of every draw, for at most so many rows at a time, and which rows."""
    for part, features, where in _patterns(mixture, x):
        log_joint = LogJoint(part)
        for first in range(0, len(where), n_rows):
            rows = np.asarray(where[first : first + n_rows])
            block = x[rows][:, features]
            out = np.empty((width, len(rows), mixture.batch_shape[0]))
            for some, draws in log_joint.blocks(len(rows)):
                joint = log_joint(block[some], draws)
                if labels is not None:
                    _rule_out(joint, labels[rows[some]])
                out[:, some, draws] = values(joint)
            yield rows, out


def _rule_out(joint: FloatArray, labels: IntArray) -> None:
    """Leave of log joint densities (K, n, s) the known component's, for rows where it is known."""
    components = np.arange(len(joint))[:, np.newaxis]
    joint[(labels >= 0) & (labels != components)] = -np.inf


def outlier_score(
    mixture: Mixture, x: FloatArray, rng: np.random.Generator, *, progress: bool = False
) -> OutlierScore:
    """Log predictive density, and the share of predictive draws that are no denser, both (N,).

    The draws, `N_REFERENCE` of them, are compared in the features that a row has. A row counts as
    one of them, so that no share is zero (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585).
    """
    density = log_density(mixture, x, progress=progress)
    drawn, _ = sample(mixture, N_REFERENCE, rng)
    tail = np.empty(len(x))
    for part, features, where in _patterns(mixture, x):
        reference = np.sort(log_density(part, drawn[:, features]))
        rows = np.asarray(where)
        # Rows without any value have one density, to the accuracy of densities.
        below = np.searchsorted(reference, density[rows] + 1e-9, side="right")
        tail[rows] = (1 + below) / (1 + N_REFERENCE)
    return OutlierScore(density, tail)


def check_sample(n: Any, n_features: int, each: int = 1) -> None:
    """Raise ModelError unless n is a number of observations that memory can hold."""
    check_count("n", n)
    check_memory(f"n = {n}", 8.0 * n * each * (n_features + 2), "Draw fewer at a time.")


def sample(mixture: Mixture, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """New observations (n, D) with their components (n,), each from a draw taken at random.

    Those of the noise, in its box, have the component -1.
    """
    return _sampled(mixture, rng.integers(mixture.batch_shape[0], size=n), rng)


def replicated(
    mixture: Mixture, n_rows: int, rng: np.random.Generator, most: int | None = None
) -> tuple[IntArray, FloatArray]:
    """Data sets as new ones would be, from every draw or from evenly spaced ones of each chain.

    There are fewer than draws where they would hold more than 2^23 numbers (64 MB), but at least
    one for each chain.

    Parameters
    ----------
    mixture : Mixture
        Batch of shape (chain, draw).
    n_rows : int
    rng : Generator
    most : int, optional
        At most so many data sets.

    Returns
    -------
    draws : ndarray of int, shape (R,)
        The draws that they are from, of every chain.
    x : ndarray, shape (chain, R, n_rows, D)
    """
    n_chains, n_draws = mixture.batch_shape
    held = _REPLICATED // (n_rows * mixture.n_features)
    n = max(1, min(n_draws, (held if most is None else min(held, most)) // n_chains))
    draws = np.arange(n) * n_draws // n
    x = np.empty((n_chains, n, n_rows, mixture.n_features))
    for chain in range(n_chains):
        each, _ = _sampled(mixture[chain], np.repeat(draws, n_rows), rng)
        x[chain] = each.reshape(x.shape[1:])
    return draws, x


def _sampled(
    mixture: Mixture, draw: IntArray, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    x = np.empty((len(draw), mixture.n_features))
    assignments = np.empty(len(draw), dtype=np.intp)
    for first in range(0, len(draw), _SAMPLED):
        rows = slice(first, first + _SAMPLED)
        d = draw[rows]
        k = drawn_components(mixture.all_weights[d], mixture.n_components, rng)
        step = rng.standard_normal((len(d), mixture.n_features))
        if mixture.corr_chol is not None:
            step = np.einsum("nij,nj->ni", mixture.corr_chol[d, k], step)
        x[rows] = mixture.means[d, k] + mixture.scales[d, k] * step
        assignments[rows] = k
    if mixture.noise is not None:
        x[assignments < 0] = mixture.noise.box.draw(int((assignments < 0).sum()), rng)
    return x, assignments


def drawn_components(weights: FloatArray, n_components: int, rng: np.random.Generator) -> IntArray:
    """Draw a component for each row of weights, (n, K or K + 1); -1: the noise."""
    cumulative = np.cumsum(weights, axis=1)
    k = (rng.random((len(weights), 1)) * cumulative[:, -1:] >= cumulative[:, :-1]).sum(axis=1)
    return np.where(k == n_components, -1, k)


def _responsibilities(joint: FloatArray) -> FloatArray:
    joint -= joint.max(axis=0)
    np.exp(joint, out=joint)
    joint *= 1.0 / joint.sum(axis=0)
    return joint


def _of_classes(starts: IntArray) -> _Values:
    def values(joint: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(_responsibilities(joint), starts, axis=0))

    return values


def _log_density(joint: FloatArray) -> FloatArray:
    return log_sum_exp(joint, axis=0)[np.newaxis]


def _density(joint: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(joint, out=joint).sum(axis=0, keepdims=True))


def _mean(
    mixture: Mixture, x: FloatArray, values: _Values, width: int, progress: bool
) -> FloatArray:
    """Mean of values over the draws, shape (N, C)."""
    out = np.zeros((len(x), width))

    def work(log_joint: LogJoint, block: FloatArray, where: IntArray) -> None:
        for rows, draws in log_joint.blocks(len(block)):
            out[where[rows]] += values(log_joint(block[rows], draws)).sum(axis=-1).T

    _over_rows(work, mixture, x, progress)
    out /= mixture.batch_shape[0]
    return out


def _band(
    mixture: Mixture, x: FloatArray, values: _Values, width: int, share: float, progress: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean of values and bounds of their central interval over the draws, each (N, C)."""
    n_draws = mixture.batch_shape[0]
    step = max(1, SORTED // (width * n_draws))
    mean, lower, upper = (np.empty((len(x), width)) for _ in range(3))

    def work(log_joint: LogJoint, block: FloatArray, where: IntArray) -> None:
        for first in range(0, len(block), step):
            part = block[first : first + step]
            each = np.empty((width, len(part), n_draws))
            for rows, draws in log_joint.blocks(len(part)):
                each[:, rows, draws] = values(log_joint(part[rows], draws))
            at = where[first : first + step]
            mean[at] = each.mean(axis=-1).T
            each.sort(axis=-1)  # on vector units as fast as two partitions
            lower[at] = _quantile(each, 0.5 - share / 2).T
            upper[at] = _quantile(each, 0.5 + share / 2).T

    _over_rows(work, mixture, x, progress)
    if n_draws == 1:  # a point estimate, which does not know them
        lower[:] = upper[:] = np.nan
    return mean, lower, upper


def _quantile(ordered: FloatArray, q: float) -> FloatArray:
    """Quantile along the last axis, sorted, between neighbours in proportion as by numpy."""
    position = q * (ordered.shape[-1] - 1)
    below = int(position)
    above = min(below + 1, ordered.shape[-1] - 1)
    low, high = ordered[..., below], ordered[..., above]
    return np.asarray(low + (position - below) * (high - low))


def _over_rows(work: _Work, mixture: Mixture, x: FloatArray, progress: bool) -> None:
    """Call work for blocks of rows that miss the same values, in threads where that pays."""
    long = len(x) * mixture.weights.size >= SHORT
    advance = progress_bar("predicting", len(x), shown=progress and long)
    with _map(long) as in_turn:
        for part, features, where in _patterns(mixture, x):
            task = partial(_task, work, LogJoint(part), x, features)
            step = max(FEWEST // mixture.weights.size, len(where) // _PIECES, 1)
            step = max(1, min(step, _ROWS // (1 + mixture.n_features)))
            pieces = [where[first : first + step] for first in range(0, len(where), step)]
            for done in in_turn(task, pieces):
                advance(done)


def _task(
    work: _Work, log_joint: LogJoint, x: FloatArray, features: IntArray, where: range | IntArray
) -> int:
    rows = np.asarray(where)
    work(log_joint, x[rows][:, features], rows)
    return len(rows)


@contextmanager
def _map(long: bool) -> Iterator[Callable[..., Iterator[Any]]]:
    """Give a `map`: for long work one over the cores that this process may use."""
    n = min(n_processors(), _MOST_THREADS) if long else 1
    if n == 1:
        yield map
        return
    with ThreadPoolExecutor(n) as executor:
        yield executor.map


def _patterns(
    mixture: Mixture, x: FloatArray
) -> Iterator[tuple[Mixture, IntArray, range | IntArray]]:
    """Mixtures of the features that some rows have, these features, and which rows."""
    if not np.isnan(x.max(initial=-np.inf)):
        yield mixture, np.arange(mixture.n_features), range(len(x))
        return
    order, groups = group_rows(x)
    for group in groups:
        yield mixture.marginal(group.observed), group.observed, order[group.rows]
