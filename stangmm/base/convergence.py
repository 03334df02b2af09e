"""R-hat and effective sample sizes of many quantities at once, on plain arrays.

The definitions of Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021 (doi:10.1214/20-BA1221), each
number as ArviZ gives it; but what they share (the sorted draws, their normal scores, a transform)
is computed once, for all quantities together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.base.ranks import ends_of_ties

FEWEST_DRAWS = 4  # of a chain; of fewer nothing can be said
_TAILS = (0.05, 0.95)
BLOCK = 2**16  # draws of all quantities at a time: 0.5 MB, which stay in a core's cache
_SAME = 1e-15  # draws that differ by less are constant


class Convergence(NamedTuple):
    """What the chains say of each of some quantities; arrays of their shape.

    Attributes
    ----------
    r_hat : ndarray
        The larger of rank-normalized split-R-hat and its folded version; NaN for one chain.
    ess_bulk, ess_tail : ndarray
        Effective sample size in the bulk, and the smaller of those of the 5% and 95% quantiles.
    ess_mean : ndarray
        Effective sample size for the mean.
    """

    r_hat: FloatArray
    ess_bulk: FloatArray
    ess_tail: FloatArray
    ess_mean: FloatArray


def measures(draws: FloatArray) -> Convergence:
    """R-hat and effective sample sizes of quantities; their draws have shape (chain, draw, ...).

    NaN for fewer than four draws a chain, and for quantities of which a draw is NaN.
    """
    return Convergence(*_of_each(_measures, draws, len(Convergence._fields)))


def ess_mean(draws: FloatArray) -> FloatArray:
    """Effective sample size for the mean of quantities, as by `measures`."""
    return np.asarray(_of_each(lambda x: _ess(_halves(x))[np.newaxis], draws, 1)[0])


def e_bfmi(energy: FloatArray) -> FloatArray:
    """Energy Bayesian fraction of missing information of each chain (C,) of energies (C, S).

    Betancourt 2016 (doi:10.48550/arXiv.1604.00695).
    """
    steps = np.square(np.diff(energy, axis=1)).mean(axis=1)
    return np.asarray(steps / energy.var(axis=1, ddof=1))


def _of_each(
    measure: Callable[[FloatArray], FloatArray], draws: FloatArray, n_values: int
) -> FloatArray:
    """Apply a measure, from draws (Q, C, S) to values (n_values, Q), to some quantities at a time.

    Gives shape (n_values, ...).
    """
    chains, n = draws.shape[:2]
    flat = np.moveaxis(np.asarray(draws, dtype=float).reshape(chains, n, -1), -1, 0)
    out = np.full((n_values, len(flat)), np.nan)
    step = max(1, BLOCK // (chains * n))
    for first in range(0, len(flat) if n >= FEWEST_DRAWS else 0, step):
        block = np.ascontiguousarray(flat[first : first + step])
        known = ~np.isnan(block).any(axis=(1, 2))
        # A constant, as the weight of a single component, has an R-hat of 0 / 0: no news.
        with np.errstate(invalid="ignore", divide="ignore"):
            out[:, first : first + step][:, known] = measure(block[known])
    return out.reshape(n_values, *draws.shape[2:])


def _measures(draws: FloatArray) -> FloatArray:
    halves = _halves(draws)
    scores = _normal_scores(halves)
    tails = [_ess(_halves(draws <= bound)) for bound in _quantiles(draws)]
    r_hat = np.full(len(draws), np.nan)
    if draws.shape[1] > 1:
        middle = np.median(halves, axis=(1, 2), keepdims=True)
        bulk, tail = _r_hat(scores), _r_hat(_normal_scores(np.abs(halves - middle)))
        r_hat = np.where(tail > bulk, tail, bulk)
    return np.stack([r_hat, _ess(scores), np.minimum(*tails), _ess(halves)])


def _halves(draws: FloatArray | BoolArray) -> FloatArray:
    """Both halves of each chain as chains (Q, 2C, S // 2); the middle one of odd draws is left."""
    half = draws.shape[-1] // 2
    return np.concatenate([draws[..., :half], draws[..., -half:]], axis=1).astype(float)


def _normal_scores(draws: FloatArray) -> FloatArray:
    """Normal quantiles of the ranks among the draws of all chains (Blom's), shape as given.

    Equal draws have the mean of their ranks. There are such in nearly every folded quantity: the
    two draws between which the median lies in the middle.
    """
    flat = draws.reshape(len(draws), -1)
    size = flat.shape[1]
    halves_of_ranks = np.arange(2, 2 * size + 1) / 2
    score = ndtri((halves_of_ranks - 3 / 8) / (size + 1 / 4))
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    scores = np.empty_like(flat)
    np.put_along_axis(scores, order, score[np.newaxis, ::2], axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if tied.any():
        first, last = ends_of_ties(ordered[tied])
        scores_of_tied = np.empty_like(first, dtype=float)
        np.put_along_axis(scores_of_tied, order[tied], score[first + last], axis=1)
        scores[tied] = scores_of_tied
    return scores.reshape(draws.shape)


def _quantiles(draws: FloatArray) -> list[FloatArray]:
    """Quantiles of 5% and 95% over all chains, shape (Q, 1, 1), between neighbours in proportion.

    They are written out because a sum in another order, one bit off, is on the other side of draws
    that are equal to it.
    """
    flat = draws.reshape(len(draws), -1)
    size = flat.shape[1]
    places = [probability * (size - 1) for probability in _TAILS]
    below = [min(int(place), size - 2) for place in places]
    flat = np.partition(flat, sorted({i + step for i in below for step in (0, 1)}), axis=1)
    shares = [place - i for place, i in zip(places, below, strict=True)]
    bounds = [
        (1.0 - share) * flat[:, i] + share * flat[:, i + 1]
        for share, i in zip(shares, below, strict=True)
    ]
    return [bound[:, np.newaxis, np.newaxis] for bound in bounds]


def _r_hat(chains: FloatArray) -> FloatArray:
    """R-hat (Q,) of chains (Q, M, n)."""
    n = chains.shape[-1]
    between = n * chains.mean(axis=-1).var(axis=-1, ddof=1)
    within = chains.var(axis=-1, ddof=1).mean(axis=-1)
    return np.asarray(np.sqrt((between / within + n - 1) / n))


def _ess(chains: FloatArray) -> FloatArray:
    """Effective sample size (Q,) of chains (Q, M, n).

    The autocorrelations are summed in pairs as long as these are positive, and no pair counts for
    more than one before it (Geyer 1992, doi:10.1214/ss/1177011137).
    """
    n_chains, n = chains.shape[1:]
    size = n_chains * n
    mean = chains.mean(axis=-1, keepdims=True)
    covariance = _autocovariance(chains - mean)
    within = covariance[:, 0] * n / (n - 1.0)
    total = covariance[:, 0] + mean[..., 0].var(axis=-1, ddof=1)
    rho = 1.0 - (within[:, np.newaxis] - covariance) / total[:, np.newaxis]
    rho[:, 0] = 1.0
    last = max(0, (n - 3) // 2)  # the last pair that is looked at
    pairs = rho[:, 0 : 2 * last + 1 : 2] + rho[:, 1 : 2 * last + 2 : 2]
    ends = ~(pairs > 0)
    ends[:, last] = True
    end = ends.argmax(axis=1)[:, np.newaxis]
    summed = np.cumsum(np.minimum.accumulate(pairs, axis=1), axis=1)
    before = np.where(end > 0, np.take_along_axis(summed, np.maximum(end - 1, 0), axis=1), 0.0)
    even = np.take_along_axis(rho, 2 * end, axis=1)
    counted = (np.take_along_axis(pairs, end, axis=1) >= 0) | (even > 0)
    tau = (-1.0 + 2.0 * before + np.where(counted, even, 0.0))[:, 0]
    ess = size / np.maximum(tau, 1.0 / np.log10(size))
    ess[np.isnan(rho[:, 1])] = np.nan
    constant = np.ptp(chains, axis=(1, 2)) < _SAME
    return np.where(constant, float(size), ess)


def _autocovariance(deviations: FloatArray) -> FloatArray:
    """Autocovariances (Q, n) at each lag, mean over the chains of deviations (Q, M, n)."""
    n = deviations.shape[-1]
    length = next_fast_len(2 * n, real=True)
    spectrum = rfft(deviations, length)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=1)
    return np.asarray(irfft(power, length)[..., :n] / n)
