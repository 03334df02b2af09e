"""Predictions averaged over draws, in blocks of bounded memory."""

from __future__ import annotations

import numpy as np

from stangmm.arrays import FloatArray, IntArray
from stangmm.density import Mixture, log_sum_exp


def responsibilities(mixture: Mixture, x: FloatArray) -> FloatArray:
    """Mean over S draws of P(z = k | x), shape (N, K)."""
    total = np.zeros((mixture.n_components, len(x)))
    for draws, rows in mixture.blocks(len(x)):
        total[:, rows] += mixture[draws].responsibilities(x[rows]).sum(axis=0)
    return np.asarray(total.T / mixture.batch_shape[0])


def log_density(mixture: Mixture, x: FloatArray) -> FloatArray:
    """Log of the mean over S draws of p(x), shape (N,): the log predictive density."""
    total = np.full(len(x), -np.inf)
    for draws, rows in mixture.blocks(len(x)):
        block = log_sum_exp(mixture[draws].log_density(x[rows]), axis=0)
        total[rows] = np.logaddexp(total[rows], block)
    return np.asarray(total - np.log(mixture.batch_shape[0]))


def log_density_draws(mixture: Mixture, x: FloatArray) -> FloatArray:
    """Log p(x) for every draw, shape (S, N)."""
    out = np.empty((mixture.batch_shape[0], len(x)))
    for draws, rows in mixture.blocks(len(x)):
        out[draws, rows] = mixture[draws].log_density(x[rows])
    return out


def sample(mixture: Mixture, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """New observations (n, D) with their components (n,), each from a draw taken at random."""
    draw = rng.integers(mixture.batch_shape[0], size=n)
    cumulative = np.cumsum(mixture.weights[draw], axis=1)
    labels = (rng.random((n, 1)) * cumulative[:, -1:] >= cumulative[:, :-1]).sum(axis=1)
    noise = rng.standard_normal((n, mixture.n_features))
    x = np.empty((n, mixture.n_features))
    for first in range(0, n, 100_000):
        block = slice(first, first + 100_000)
        d, k = draw[block], labels[block]
        step = noise[block]
        if mixture.corr_chol is not None:
            step = np.einsum("nij,nj->ni", mixture.corr_chol[d, k], step)
        x[block] = mixture.means[d, k] + mixture.scales[d, k] * step
    return x, labels
