"""Proposals: distributions near a posterior that can be drawn from and whose density is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaln

from stangmm.base.arrays import FloatArray
from stangmm.base.errors import DataError, InferenceError
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.em.em import EM
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import log_sum_exp
from stangmm.model.priors import Priors
from stangmm.model.problem import Problem

# How many vectors it is fitted to at most, how many pieces it may have, and the degrees of freedom
# among which the vectors choose. EM need not get to the end of its way.
_FITTED_TO = 2000
_MAX_PIECES = 4
_DEGREES_OF_FREEDOM = (4.0, 8.0, 16.0, 64.0)
# Steps of a refit, and among which tails it chooses: heavy ones, for weights that are bounded.
_REFIT_STEPS, _HEAVY = 5, (4.0, 8.0)
_TOO_FEW = 1e-3  # of the weights, to tell where a piece should be
_QUICK_EM = EM(restarts=2, tolerance=1.0, max_iterations=25)


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mixture of M multivariate t distributions of P numbers.

    Attributes
    ----------
    weights : ndarray, shape (M,)
    means : ndarray, shape (M, P)
    factors : ndarray, shape (M, P, P)
        Lower Cholesky factors of the scale matrices.
    df : float
        Degrees of freedom.
    """

    weights: FloatArray
    means: FloatArray
    factors: FloatArray
    df: float

    @classmethod
    def fitted(cls, vectors: FloatArray, run: Run) -> Proposal:
        """Fit to vectors (n, P): as many pieces as BIC finds worth their parameters.

        Raises
        ------
        InferenceError
            There are too few of them, or they do not vary.
        """
        rows = np.linspace(0, len(vectors) - 1, min(len(vectors), _FITTED_TO)).astype(int)
        thinned = vectors[rows]
        best, best_bic = None, np.inf
        for proposals, n_parameters in _candidates(thinned, run):
            fits = [float(proposal.log_density(thinned).sum()) for proposal in proposals]
            bic = n_parameters * np.log(len(thinned)) - 2.0 * max(fits)
            if bic >= best_bic:
                break
            best, best_bic = proposals[int(np.argmax(fits))], bic
        if best is None:
            raise InferenceError("The draws are too few, or vary too little, to fit a proposal to.")
        return best

    def refitted(self, vectors: FloatArray, weights: FloatArray) -> Proposal:
        """Fit again to vectors (n, P) of some weights (n,), which sum to one; as many pieces.

        Steps of EM for mixtures of t distributions, from here (population Monte Carlo: Cappe, Douc,
        Guillin, Marin & Robert 2008, doi:10.1007/s11222-008-9059-x). Where the weights leave few
        vectors, means and covariances stay near what they were.
        """
        made = self
        for _ in range(_REFIT_STEPS):
            made = made._step(vectors, weights)
        chosen = [replace(made, df=df) for df in _HEAVY]
        return max(chosen, key=lambda each: float(weights @ each.log_density(vectors)))

    def _step(self, vectors: FloatArray, weights: FloatArray) -> Proposal:
        p = vectors.shape[1]
        each, squared = self._log_densities(vectors)  # (M, n)
        belongs = np.exp(each - log_sum_exp(each, axis=0)) * weights
        near = belongs * (self.df + p) / (self.df + squared)
        share = belongs.sum(axis=1)
        means, factors = self.means.copy(), self.factors.copy()
        for m in np.flatnonzero(share > _TOO_FEW):
            held = share[m] ** 2 / (belongs[m] ** 2).sum()
            trust, of_center = held / (held + 0.25 * p * (p + 1)), held / (held + p)
            center = near[m] @ vectors / near[m].sum()
            deviation = vectors - center
            scatter = (deviation * near[m][:, np.newaxis]).T @ deviation / share[m]
            old = factors[m] @ factors[m].T
            means[m] = of_center * center + (1.0 - of_center) * means[m]
            factors[m] = np.linalg.cholesky(trust * scatter + (1.0 - trust) * old)
        share = np.maximum(share, _TOO_FEW)
        return Proposal(share / share.sum(), means, factors, self.df)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draws, shape (n, P)."""
        piece = rng.choice(len(self.weights), n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        noise /= np.sqrt(rng.chisquare(self.df, (n, 1)) / self.df)
        out = np.empty_like(noise)
        for m, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            out[piece == m] = mean + noise[piece == m] @ factor.T
        return out

    def log_density(self, vectors: FloatArray) -> FloatArray:
        """Log density at vectors (n, P), shape (n,)."""
        return log_sum_exp(self._log_densities(vectors)[0], axis=0)

    def _log_densities(self, vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log of weight times density of each piece, and squared distances from it, each (M, n)."""
        df, p = self.df, self.means.shape[1]
        constant = gammaln((df + p) / 2) - gammaln(df / 2) - p / 2 * np.log(df * np.pi)
        each, squared = [], []
        for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True):
            white = solve_triangular(factor, (vectors - mean).T, lower=True)
            squared.append((white**2).sum(axis=0))
            log_det = np.log(np.diagonal(factor)).sum()
            kernel = (df + p) / 2 * np.log1p(squared[-1] / df)
            with np.errstate(divide="ignore"):
                each.append(np.log(weight) + constant - log_det - kernel)
        return np.stack(each), np.stack(squared)


def _candidates(vectors: FloatArray, run: Run) -> Iterator[tuple[list[Proposal], int]]:
    """Proposals from simple to rich, each with several tails, and their numbers of parameters."""
    dataset = Dataset.from_input(vectors)
    for name, pieces in (("diag", 1), *(("full", m + 1) for m in range(_MAX_PIECES))):
        structure = structure_named(name)
        try:
            problem = Problem.build(dataset, pieces, structure, Priors())
            optimum = _QUICK_EM.search(problem, run).best
        except (DataError, InferenceError):  # too few draws for so many parameters
            return
        normal = problem.to_user_units(optimum.mixture)
        yield (
            [
                # t distributions with the covariances of the normal ones
                Proposal(normal.weights, normal.means, normal.cholesky * np.sqrt((df - 2) / df), df)
                for df in _DEGREES_OF_FREEDOM
            ],
            problem.space.size,
        )
