"""Laplace: the posterior as a distribution around its mode, corrected by importance weights.

The curvature at the mode gives a multivariate t distribution on the unconstrained scale (Tierney &
Kadane 1986, doi:10.1080/01621459.1986.10478240). Draws from it are weighed by the posterior, the
weights smoothed (PSIS: Vehtari, Simpson, Gelman, Yao & Gabry 2024,
https://jmlr.org/papers/v25/19-556.html), the distribution fitted again to the weighted draws, and
the last draws resampled by their weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from scipy.special import expit

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import check_count
from stangmm.base.errors import InferenceError
from stangmm.base.names import made_by_names
from stangmm.base.rounding import rounded_covariance, to_grid
from stangmm.base.thresholds import LOG_P_ERROR_OK, PARETO_K_OK
from stangmm.methods.base import Kind, Method, Run
from stangmm.methods.draws import Draws, Optimum, VariationalInfo
from stangmm.methods.proposal import Proposal
from stangmm.methods.psis import weights_of
from stangmm.methods.stan.mode import laplace_mass
from stangmm.methods.stan.regions import log_labellings, log_masses_with_empty
from stangmm.methods.stan.shared import CompleteDataVariances, plausible_and_outweighed
from stangmm.methods.target import Target
from stangmm.model.mixture import log_sum_exp
from stangmm.model.problem import Problem

# The first distribution: degrees of freedom of its tails, ...
_DEGREES_OF_FREEDOM = 8.0
# differences for its curvature in standard deviations for known labels; a direction in which the
# density hardly falls is taken to be at most ten of these wide; a mode that is farther away than so
# many is not gone to at once.
_DIFFERENCE, _FLAT, _FARTHEST = 0.02, 0.01, 2.0
# Draws of each round, how many rounds at most, and how many without a better distribution; none
# follows one of which so large a share of the draws is effective, nor two of which so few are.
_PILOT, _ROUNDS, _PATIENCE, _ENOUGH, _HOPELESS = 2000, 10, 3, 0.5, 10.0
# For each draw of the fit so many are weighed, of which this share is from the first distribution,
# whose tails are wide.
_WEIGHED, _DEFENSIVE = 2.0, 0.1
# Where k-hat is above this, so many times as many follow, to reach the tails.
_GOOD_K, _MORE = 0.3, 3
# Draws that tell the error of a density by some of the rows.
_FOR_ERROR = 50
# Of the weights with which a distribution is fitted again, so many draws are effective for each
# coordinate at least, and no more than so many.
_FOR_EACH, _MOST, _HALVINGS = 4.0, 500.0, 20


@made_by_names
@dataclass(frozen=True)
class Laplace(Method):
    """Settings of Laplace's approximation with importance weights; needs no CmdStan.

    EM's optima lead to the modes of the posterior. The curvature there gives t distributions on
    the unconstrained scale, which are fitted again to their own weighted draws while that helps.
    The last draws are resampled by their importance weights. Pareto k-hat says whether the result
    is the posterior: below 0.7 it is, to Monte Carlo error. The evidence comes with it.

    Of many rows, only 4096 enter the density of each draw, with the expansion to second order of
    all others, which takes one pass over them, also of Dask data chunk by chunk;
    `VariationalInfo.log_p_error` is the standard error that this leaves, in nats.

    Parameters
    ----------
    draws : int
        Of the posterior. Twice as many are weighed, and eight times as many where k-hat is 0.3 to
        0.7.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=2)
    >>> fit = model.fit(sg.datasets.faithful(), method="laplace", seed=1)
    >>> fit.lp.shape, fit.diagnose().computation.verdict
    ((1, 4000), 'ok')
    """

    draws: int = 4000

    name: ClassVar[str] = "laplace"
    kind: ClassVar[Kind] = "approximation"
    gives_evidence: ClassVar[bool] = True
    in_chunks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("Laplace draws", self.draws, minimum=100)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Find the modes, fit a distribution to the posterior around them, and resample."""
        optima, outweighed = plausible_and_outweighed(problem, run)
        target = Target.of(problem, tuple(o.mixture for o in optima), run)
        rng = run.rng("laplace")
        proposal = _around(optima, target)
        error = target.error(proposal.sample(_FOR_ERROR, rng))
        if error > LOG_P_ERROR_OK:
            target = target.with_more_rows(run)
            error = target.error(proposal.sample(_FOR_ERROR, rng))
        adapted = _adapted(target, proposal, rng)
        drawn = _Drawn()  # anew: a distribution fits the draws that it was fitted to too well
        for times in (1, _MORE):
            for each, share in ((adapted.best, 1.0 - _DEFENSIVE), (proposal, _DEFENSIVE)):
                drawn.more(each, round(times * _WEIGHED * share * self.draws), target, rng)
            vectors, log_p = np.concatenate(drawn.vectors), np.concatenate(drawn.log_p)
            log_q = drawn.log_density(vectors)
            weights, k = weights_of(log_p - log_q)
            if not _GOOD_K <= k < PARETO_K_OK:
                break
        log_mass = float(log_sum_exp(log_p - log_q, axis=0) - np.log(len(log_p)))
        if not np.isfinite(log_mass):
            raise InferenceError(
                "No draw of Laplace's method has a positive posterior density: the curvature at "
                'the mode is not that of a normal distribution. Use method="nuts".'
            )
        chosen = _resampled(weights, self.draws, rng)
        mixture = problem.space.mixtures(vectors[chosen])
        log_likelihood = log_p[chosen] - target.log_prior(vectors[chosen])
        info = VariationalInfo(
            elbo_iterations=np.empty(0),
            elbo=np.empty(0),
            converged=True,
            log_p=log_p,
            log_q=log_q,
            starts=optima,
            resampled=True,
            log_p_error=error,
            missed=_missed(problem, run, optima[0], log_mass),
            outweighed=outweighed,
        )
        return Draws(mixture.reshape(1, -1), log_likelihood[np.newaxis], info)


@dataclass(eq=False)
class _Drawn:
    """Draws of several distributions, weighed as draws of their mixture.

    Adaptive multiple importance sampling (Cornuet, Marin, Mira & Robert 2012,
    doi:10.1111/j.1467-9469.2011.00756.x).
    """

    proposals: list[Proposal] = field(default_factory=list)
    vectors: list[FloatArray] = field(default_factory=list)
    log_p: list[FloatArray] = field(default_factory=list)
    effective: list[float] = field(default_factory=list)  # share of each round's draws

    def more(self, proposal: Proposal, n: int, target: Target, rng: np.random.Generator) -> None:
        """Draw n from one more."""
        vectors = proposal.sample(n, rng)
        log_p = target.log_posterior(vectors)
        weights, _ = weights_of(log_p - proposal.log_density(vectors))
        self.proposals.append(proposal)
        self.vectors.append(vectors)
        self.log_p.append(log_p)
        self.effective.append(float(1.0 / (len(weights) * (weights**2).sum())))

    @property
    def best(self) -> Proposal:
        """The distribution of which most draws are effective."""
        return self.proposals[int(np.argmax(self.effective))]

    def log_density(self, vectors: FloatArray) -> FloatArray:
        """Log density of the mixture of all, by their numbers of draws, at vectors (S, P)."""
        numbers = np.array([len(each) for each in self.vectors])
        shares = np.log(numbers / numbers.sum())
        each = [s + q.log_density(vectors) for s, q in zip(shares, self.proposals, strict=True)]
        return np.asarray(log_sum_exp(np.stack(each), axis=0))


def _adapted(target: Target, proposal: Proposal, rng: np.random.Generator) -> _Drawn:
    """Draw from a distribution and fit it again to all weighted draws, while that helps."""
    drawn = _Drawn()
    for number in range(_ROUNDS):
        drawn.more(proposal, _PILOT, target, rng)
        behind = number - int(np.argmax(drawn.effective))
        hopeless = number > 0 and max(drawn.effective) * _PILOT < _HOPELESS
        if drawn.effective[-1] > _ENOUGH or behind >= _PATIENCE or hopeless:
            break
        vectors = np.concatenate(drawn.vectors)
        log_ratio = np.concatenate(drawn.log_p) - drawn.log_density(vectors)
        least = min(_MOST, _FOR_EACH * vectors.shape[1])
        proposal = _rounded(proposal.refitted(vectors, _tempered(log_ratio, least)))
    return drawn


def _tempered(log_ratio: FloatArray, least: float) -> FloatArray:
    """Weights (S,) to the highest power, at most one, that leaves so many draws effective."""
    power, step = 1.0, 0.5
    for _ in range(_HALVINGS):
        weights = np.exp(power * (log_ratio - log_ratio.max()))
        weights /= weights.sum()
        enough = (weights**2).sum() * least <= 1.0
        if enough and power == 1.0:
            break
        power += step if enough else -step
        step *= 0.5
    return np.asarray(weights)


def _missed(problem: Problem, run: Run, optimum: Optimum, log_mass: float) -> float:
    """Which share of the posterior lies where components hold no row, by Laplace's method.

    Of rows that come in chunks, a sample says it: with more rows, there is less.
    """
    if problem.all_rows is not None:
        problem = replace(problem, all_rows=None)
        log_mass = laplace_mass(optimum.mixture, problem, run.rng("laplace mass"))
    own = log_mass + log_labellings(problem)
    masses = log_masses_with_empty(problem, run, own)
    return float(expit(np.logaddexp.reduce(list(masses.values())) - own)) if masses else 0.0


def _around(optima: tuple[Optimum, ...], target: Target) -> Proposal:
    """One t distribution for each optimum, with the posterior's curvature there."""
    log_masses, means, factors = [], [], []
    for i in range(len(optima)):
        mode, covariance, log_mass = _normal_at(target, i)
        log_masses.append(log_mass)
        means.append(mode)
        factors.append(np.linalg.cholesky(covariance))
    weights = np.exp(np.array(log_masses) - max(log_masses))
    made = Proposal(
        weights / weights.sum(), np.array(means), np.array(factors), _DEGREES_OF_FREEDOM
    )
    return _rounded(made)


def _normal_at(target: Target, i: int) -> tuple[FloatArray, FloatArray, float]:
    """Mode, covariance and log mass of the normal distribution at the i-th optimum."""
    problem = target.problem
    mixture = target.modes[i]
    at = problem.space.vectors(mixture)
    unit = np.sqrt(CompleteDataVariances.of(mixture, problem).inverse_metric())
    p = len(at)
    step = _DIFFERENCE * np.eye(p)
    pairs = [(a, b) for a in range(p) for b in range(a + 1)]
    first, second = np.array(pairs).T
    nearby = np.concatenate(
        [
            at + unit * (sign_a * step[first] + sign_b * step[second])
            for sign_a, sign_b in ((1, 1), (1, -1), (-1, 1), (-1, -1))
        ]
    )
    values = target.expanded(np.concatenate([nearby, at + unit * step, at - unit * step]), i)
    corners = values[: 4 * len(pairs)].reshape(4, -1)
    above, below = values[4 * len(pairs) :].reshape(2, p)
    slope = (above - below) / (2.0 * _DIFFERENCE)
    curvature = np.zeros((p, p))
    curvature[first, second] = -(corners[0] - corners[1] - corners[2] + corners[3])
    curvature[second, first] = curvature[first, second]
    values_of, directions = np.linalg.eigh(curvature / (4.0 * _DIFFERENCE**2))
    variances = 1.0 / np.maximum(values_of, _FLAT)
    along = directions.T @ slope
    move = variances * along
    move *= min(1.0, _FARTHEST / float(np.sqrt(along @ move) + 1e-300))
    covariance = (directions * variances) @ directions.T * unit * unit[:, np.newaxis]
    mode = at + unit * (directions @ move)
    height = float(target.expanded(mode[np.newaxis], i)[0])
    return mode, covariance, height + 0.5 * float(np.linalg.slogdet(covariance)[1])


def _rounded(proposal: Proposal) -> Proposal:
    """The same to so few digits that draws do not depend on the last bits of sums."""
    factors = np.array(
        [np.linalg.cholesky(rounded_covariance(f @ f.T, bits=24)) for f in proposal.factors]
    )
    sd = np.sqrt((factors**2).sum(axis=-1))
    weights = to_grid(proposal.weights, 1.0, bits=12) + 2.0**-12
    means = to_grid(proposal.means, sd, bits=12)
    return Proposal(weights / weights.sum(), means, factors, proposal.df)


def _resampled(weights: FloatArray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (n,) drawn by weights (S,), systematically, in random order.

    Kitagawa 1996 (doi:10.1080/10618600.1996.10474692).
    """
    positions = (np.arange(n) + rng.random()) / n
    chosen = np.searchsorted(np.cumsum(weights), positions, side="right")
    return rng.permutation(np.minimum(chosen, len(weights) - 1))
