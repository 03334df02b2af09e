"""Components that hold no row: how probable that is, whatever the data say about the others.

Let z say which component each of N rows comes from, and let the weights be Dirichlet(alpha, ...,
alpha). With the weights integrated out, z has the Dirichlet-multinomial probability

    p(z | K) = G(K alpha) / G(K alpha + N) * product over k of G(alpha + n_k) / G(alpha),

where G is the gamma function and n_k counts the rows of component k. Where only m of the K
components hold rows, the factors of the others are 1, and p(z | K) = r(K, m) p(z | m) with

    r(K, m) = G(K alpha) G(m alpha + N) / (G(m alpha) G(K alpha + N)),

the same for all such z. With noise, which has a concentration of its own, that is added to K alpha
and to m alpha. Under exchangeable priors the parameters of an empty component integrate to 1. Let
Z(K) be the evidence and F(m) the part of Z(m) in which each of m components holds a row.
Sorting the allocations by how many components hold rows gives

    Z(K) = sum over m = 1 ... K of C(K, m) r(K, m) F(m),

in which no allocation counts twice. In terms of evidences alone, F(m) by inclusion and exclusion,

    Z(K) >= K r(K, K - 1) Z(K - 1) - C(K, 2) r(K, K - 2) Z(K - 2),

where for alpha = 1 the first term is Z(K - 1) K (K - 1) / (N + K - 1), and the second what
allocations with two empty components count twice (Nobile 2004, doi:10.1214/009053604000000788).
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.model.mixture import Mixture

_CELLS = 4_000_000  # draws times rows whose components are drawn at most


def log_share(k: int, occupied: int, alpha: float, n: float, noise: float = 0.0) -> float:
    """Log r(K, m): how much less K components make of an allocation to m of them than m do.

    The noise, if there is some, has a concentration of ``noise``.
    """
    all_, some = k * alpha + noise, occupied * alpha + noise
    return float(gammaln(all_) - gammaln(all_ + n) + gammaln(some + n) - gammaln(some))


def log_times(k: int, occupied: int, alpha: float, n: float, noise: float = 0.0) -> float:
    """Log of C(K, m) r(K, m): how often K components contain F(m)."""
    ways = gammaln(k + 1) - gammaln(occupied + 1) - gammaln(k - occupied + 1)
    return float(ways) + log_share(k, occupied, alpha, n, noise)


def empty_share(mixture: Mixture, x: FloatArray, rng: np.random.Generator) -> float:
    """In which share of the draws (S,) some component holds no row of x, shape (N, D).

    As by `n_occupied`.
    """
    return float((n_occupied(mixture, x, rng) < mixture.weights.shape[1]).mean())


def n_occupied(
    mixture: Mixture, x: FloatArray, rng: np.random.Generator, labels: IntArray | None = None
) -> IntArray:
    """How many components hold rows of x, shape (N, D), in each draw, shape (S,).

    For each draw, and of large data only for some, every row's component is drawn; labels (N,) are
    known components, -1 where unknown.
    """
    n_draws, k = mixture.weights.shape
    chosen = np.linspace(0, n_draws - 1, max(1, min(n_draws, _CELLS // len(x)))).astype(int)
    some = mixture[chosen]
    held = np.zeros((len(chosen), k), dtype=bool)
    for draws, rows in some.blocks(len(x)):
        known = None if labels is None else labels[rows]
        upper = np.cumsum(some[draws].responsibilities(x[rows], known), axis=1)  # (S, K or K+1, N)
        drawn = (rng.random((len(upper), 1, upper.shape[2])) > upper[:, :-1]).sum(axis=1)  # (S, N)
        for component in range(k):
            held[draws, component] |= (drawn == component).any(axis=1)
    return np.asarray(held.sum(axis=1))
