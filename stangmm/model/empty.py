"""Components that hold no row: how probable that is, whatever the data say about the others.

Let z say which component each of N rows comes from, and let the weights be Dirichlet(alpha, ...,
alpha). With the weights integrated out, z has the Dirichlet-multinomial probability

    p(z | K) = G(K alpha) / G(K alpha + N) * product over k of G(alpha + n_k) / G(alpha),

where G is the gamma function and n_k counts the rows of component k. Where only m of the K
components hold rows, the factors of the others are 1, and p(z | K) = r(K, m) p(z | m) with

    r(K, m) = G(K alpha) G(m alpha + N) / (G(m alpha) G(K alpha + N)),

the same for all such z. Under exchangeable priors the parameters of an empty component integrate
to 1. Let Z(m) be the evidence of m components. The allocations that leave j given components empty
then add up to r(K, K - j) Z(K - j), and those that leave at least one empty, by inclusion and
exclusion, to

    E(K) = sum over j >= 1 of (-1)^(j + 1) C(K, j) r(K, K - j) Z(K - j).

For alpha = 1 and j = 1 this is Z(K) >= Z(K - 1) K (K - 1) / (N + K - 1), less what two empty
components count twice. See Nobile 2004 (doi:10.1214/009053604000000788) for alpha = 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import gammaln

from stangmm.base.arrays import FloatArray
from stangmm.model.mixture import Mixture


def log_share(k: int, occupied: int, alpha: float, n: float) -> float:
    """Log r(K, m): how much less K components make of an allocation to m of them than m do."""
    return float(
        gammaln(k * alpha)
        - gammaln(k * alpha + n)
        + gammaln(occupied * alpha + n)
        - gammaln(occupied * alpha)
    )


def log_ways(k: int, occupied: int) -> float:
    """Log of the number of choices of m out of K components."""
    return float(gammaln(k + 1) - gammaln(occupied + 1) - gammaln(k - occupied + 1))


def log_empty_mass(k: int, log_evidences: Mapping[int, float], alpha: float, n: float) -> float:
    """Log E(K), the part of the evidence where a component is empty; a lower bound of Z(K).

    Parameters
    ----------
    k : int
        K.
    log_evidences : mapping of int to float
        Log Z(m) by m: of K - 1 and, as far as they are known, K - 2, ... An even number of them
        gives a lower bound, an odd number an upper one (Bonferroni), all of them E(K) itself.
    alpha : float
        Concentration of the weights.
    n : float
        Number of rows.
    """
    terms, signs = [], []
    for j in range(1, k):
        if k - j not in log_evidences:
            break
        m = k - j
        terms.append(log_ways(k, m) + log_share(k, m, alpha, n) + log_evidences[m])
        signs.append(1.0 if j % 2 else -1.0)
    if not terms:
        return -np.inf
    peak = max(terms)
    total = float((np.array(signs) * np.exp(np.array(terms) - peak)).sum())
    return peak + float(np.log(total)) if total > 0 else -np.inf


def empty_probability(
    mixture: Mixture, x: FloatArray, sample_weight: FloatArray | None = None
) -> FloatArray:
    """Probability that at least one component holds no row, given each mixture (...) and the rows.

    By inclusion and exclusion up to two components; at most 1.
    """
    k = mixture.n_components
    flat = mixture.reshape(-1)
    single = np.zeros((len(flat.weights), k))
    pairs = [(i, j) for i in range(k) for j in range(i)]
    both = np.zeros((len(flat.weights), len(pairs)))
    tiny = np.finfo(float).tiny
    for draws, rows in flat.blocks(len(x)):
        r = flat[draws].responsibilities(x[rows])  # (S, K, N)
        weight = np.ones(r.shape[-1]) if sample_weight is None else sample_weight[rows]
        single[draws] += np.log(np.maximum(1.0 - r, tiny)) @ weight
        for at, (i, j) in enumerate(pairs):
            both[draws, at] += np.log(np.maximum(1.0 - r[:, i] - r[:, j], tiny)) @ weight
    probability = np.exp(single).sum(axis=1) - np.exp(both).sum(axis=1)
    return np.asarray(np.clip(probability, 0.0, 1.0).reshape(mixture.batch_shape))
