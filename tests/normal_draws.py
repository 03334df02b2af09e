"""Normal draws around EM's optimum: a posterior of a kind, in milliseconds and without CmdStan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stangmm.methods.base import Kind, Method, Run
from stangmm.methods.draws import Draws, McmcInfo
from stangmm.methods.em.em import EM
from stangmm.model.mixture import log_likelihood
from stangmm.model.problem import Problem


@dataclass(frozen=True)
class NormalDraws(Method):
    """Settings: independent normal draws on the unconstrained scale.

    Parameters
    ----------
    chains, draws : int
    width : float
        Standard deviation of the draws, times sqrt(N).
    """

    chains: int = 4
    draws: int = 100
    width: float = 1.0

    name: ClassVar[str] = "normal draws"
    kind: ClassVar[Kind] = "mcmc"

    def run(self, problem: Problem, run: Run) -> Draws:
        """Draw around the best optimum."""
        space, rng = problem.space, run.rng("normal draws")
        optimum = EM(restarts=3).search(problem, run).best
        step = rng.normal(size=(self.chains, self.draws, space.size))
        at = space.vectors(optimum.mixture) + self.width * step / np.sqrt(problem.total_weight)
        mixture = space.mixtures(at)
        fits = log_likelihood(mixture, problem.x, problem.sample_weight, problem.labels)
        return Draws(mixture, fits, McmcInfo({}, 0, (optimum,) * self.chains))
