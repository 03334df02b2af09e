"""Random-walk Metropolis: a sampler that is not HMC, written as CONTRIBUTING.md says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stangmm.base.checked import check_count
from stangmm.methods.base import Kind, Method, Run
from stangmm.methods.draws import Draws, McmcInfo
from stangmm.methods.em.em import EM
from stangmm.model.joint import log_prior
from stangmm.model.mixture import log_likelihood
from stangmm.model.problem import Problem


@dataclass(frozen=True)
class Metropolis(Method):
    """Settings of random-walk Metropolis (doi:10.1063/1.1699114), started at EM's optimum.

    Parameters
    ----------
    chains : int
    warmup : int
        Steps of each chain that are not kept; the first half of them gives the proposal's
        covariance for the rest (Gelman, Roberts & Gilks 1996).
    draws : int
        Draws of each chain that are kept.
    thin : int
        Steps between two of them.
    """

    chains: int = 4
    warmup: int = 2000
    draws: int = 500
    thin: int = 20

    name: ClassVar[str] = "metropolis"
    kind: ClassVar[Kind] = "mcmc"

    def __post_init__(self) -> None:
        for setting in ("chains", "warmup", "draws", "thin"):
            check_count(f"Metropolis {setting}", getattr(self, setting))

    def run(self, problem: Problem, run: Run) -> Draws:
        """Walk; all chains take a step at a time."""
        space, rng = problem.space, run.rng("metropolis")
        optimum = EM().search(problem, run).best

        def densities(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Log posterior density on the unconstrained scale, and log likelihood."""
            mixture = space.mixtures(at)
            fits = log_likelihood(mixture, problem.x, problem.sample_weight, problem.labels)
            prior = log_prior(mixture, problem.priors, problem.structure)
            return fits + prior + space.log_jacobian(at), fits

        factor = np.eye(space.size) * 2.4 / np.sqrt(space.size * problem.total_weight)
        at = space.vectors(optimum.mixture) + rng.normal(size=(self.chains, space.size)) @ factor
        (density, likelihood), before = densities(at), []
        kept = np.empty((self.draws, self.chains, space.size))
        kept_likelihood, accepted = np.empty(kept.shape[:2]), np.zeros(kept.shape[:2])
        advance = run.progress("Metropolis draws", self.draws)
        for step in range(-self.warmup, self.draws * self.thin):
            proposed = at + rng.normal(size=at.shape) @ factor.T
            there, its_likelihood = densities(proposed)
            moved = np.log(rng.random(self.chains)) < there - density
            at = np.where(moved[:, np.newaxis], proposed, at)
            density = np.where(moved, there, density)
            likelihood = np.where(moved, its_likelihood, likelihood)
            before += [at] * (step < -self.warmup // 2)
            if step == -self.warmup // 2:
                covariance = np.cov(np.concatenate(before).T).reshape(space.size, -1)
                factor = np.linalg.cholesky(covariance * 2.4**2 / space.size)
            if step >= 0:
                draw = step // self.thin
                accepted[draw] += moved / self.thin
                kept[draw], kept_likelihood[draw] = at, likelihood
                advance(int(step % self.thin == self.thin - 1))
        info = McmcInfo({"acceptance_rate": accepted.T}, starts=(optimum,) * self.chains)
        return Draws(space.mixtures(np.swapaxes(kept, 0, 1)), kept_likelihood.T, info)
