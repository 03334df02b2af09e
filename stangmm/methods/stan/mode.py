"""The posterior's mode near an optimum of the likelihood, and the mass around it by Laplace.

With few rows for each parameter, the maximum of the likelihood is narrow and far from where the
posterior's draws lie; the mode, on the scale without constraints, is near them. It is climbed to by
L-BFGS in coordinates in which the posterior is about round.
"""

from __future__ import annotations

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.rounding import to_grid
from stangmm.methods.em.restarts import collapsed
from stangmm.methods.stan.curvature import NOTHING, information, score_sum
from stangmm.model.joint import log_prior
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.model.problem import Problem

MAX_PARAMETERS = 200
_MANY_ROWS = 50.0  # for each free parameter of a component
_STEPS = 50
# Gradients in coordinates of about one standard deviation: half its square is left to climb.
_GRADIENT = 0.1
_VALUE_BITS, _SLOPE_BITS = 20, 10  # of what the climb is told: far more digits than it needs
_DIFFERENCE = 1e-5  # of the prior's gradient, whose third derivatives are of the order of 1
_CURVATURE_DIFFERENCE = 1e-3  # in standard deviations
_FLAT = 0.05  # a direction in which the density hardly falls is taken to be so wide at most
_WORST = 1e100  # for a point without a density


def log_posterior(vectors: FloatArray, problem: Problem) -> FloatArray:
    """Log joint density on the unconstrained scale, shape (...), at vectors (..., P)."""
    mixture = problem.space.mixtures(vectors)
    likelihood = log_likelihood(mixture, problem.x, problem.sample_weight, problem.labels)
    return np.asarray(likelihood + _log_prior(vectors, problem))


def posterior_mode(mixture: Mixture, problem: Problem, rng: np.random.Generator) -> Mixture:
    """Climb from an optimum of the likelihood to the mode of the posterior.

    The optimum stays where every component holds so many rows that the prior hardly moves it, where
    there are so many parameters that the climb would take as long as sampling, where rows come in
    chunks, and where it leads into a component that shrinks onto a few rows.
    """
    held = float(mixture.weights.min()) * problem.total_weight
    enough = held >= _MANY_ROWS * problem.space.size_of_component
    if mixture.noise is not None:
        enough &= float(mixture.noise.weight) * problem.total_weight >= _MANY_ROWS
    if enough or problem.space.size > MAX_PARAMETERS or problem.all_rows is not None:
        return mixture
    from scipy.optimize import minimize  # slow to import, and not for every fit

    start = problem.space.vectors(mixture)
    factor = _round_coordinates(mixture, problem, rng)

    def downhill(u: FloatArray) -> tuple[float, FloatArray]:
        at = start + factor @ u
        with np.errstate(all="ignore"):
            value = float(log_posterior(at, problem))
            slope = factor.T @ _gradient(at, problem)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return _WORST, np.zeros_like(u)
        # The climb must not follow the last digits, which differ between processors.
        return -float(to_grid(value, 1.0, _VALUE_BITS)), -to_grid(slope, 1.0, _SLOPE_BITS)

    options = {"maxiter": _STEPS, "gtol": _GRADIENT, "ftol": 0.0}
    found = minimize(  # type: ignore[call-overload]  # whose stubs know no tuple of float and array
        downhill, np.zeros_like(start), jac=True, method="L-BFGS-B", options=options
    )
    reached = problem.space.mixtures(start + factor @ found.x)
    return mixture if collapsed(reached.reshape(1), problem)[0] else reached


def laplace_mass(mode: Mixture, problem: Problem, rng: np.random.Generator) -> float:
    """Log of the posterior's mass (unnormalized) around a mode, as if it were normal there.

    The curvature is that of the density itself, by differences of its gradient. It is the mass of
    one labelling of the components.
    """
    at = problem.space.vectors(mode)
    factor = _round_coordinates(mode, problem, rng)
    here = _gradient(at, problem)
    steps = at + _CURVATURE_DIFFERENCE * factor.T
    change = np.array([here - _gradient(step, problem) for step in steps]) @ factor
    curvature = np.linalg.eigvalsh((change + change.T) / (2.0 * _CURVATURE_DIFFERENCE))
    volume = np.log(np.diagonal(factor)).sum() - 0.5 * np.log(np.maximum(curvature, _FLAT)).sum()
    return float(log_posterior(at, problem) + volume + 0.5 * len(at) * np.log(2.0 * np.pi))


def _round_coordinates(mixture: Mixture, problem: Problem, rng: np.random.Generator) -> FloatArray:
    """Triangular F (P, P) of coordinates u, vector = start + F u, in which it is about round."""
    observed, complete = information(mixture, problem, rng, stick_breaking=False)
    root = 1.0 / np.sqrt(complete)
    relative = observed * root * root[:, np.newaxis] + NOTHING * np.eye(len(root))
    return np.asarray(root[:, np.newaxis] * np.linalg.inv(np.linalg.cholesky(relative)).T)


def _gradient(vector: FloatArray, problem: Problem) -> FloatArray:
    mixture = problem.space.mixtures(vector)
    nearby = vector + _DIFFERENCE * np.eye(len(vector))[:, np.newaxis] * [[1.0], [-1.0]]
    above, below = _log_prior(nearby, problem).T
    return np.asarray(score_sum(mixture, problem) + (above - below) / (2.0 * _DIFFERENCE))


def _log_prior(vectors: FloatArray, problem: Problem) -> FloatArray:
    """Log prior density on the unconstrained scale."""
    prior = log_prior(problem.space.mixtures(vectors), problem.priors, problem.structure)
    return np.asarray(prior + problem.space.log_jacobian(vectors))
