"""Evidence: the log marginal likelihood of a mixture, by bridge sampling over a sampler's draws.

Bridge sampling (`stangmm.judge.bridge`) is used as by Gronau et al. (2017,
doi:10.1016/j.jmp.2017.09.005): half of the draws fit a proposal, the others enter the bridge.

Where labels mean nothing, the posterior has K! copies of each mode, one for each labelling, and a
proposal that covers one of them gives an answer that is wrong by up to log K!
(Fruehwirth-Schnatter 2004, doi:10.1111/j.1368-423X.2004.00125.x). The usual cure is a proposal
that is averaged over all labellings, at the cost of K! terms for each draw, most of which may be
nearly nothing (Lee & Robert 2016, doi:10.48550/arXiv.1311.6000). Here the integral is restricted
instead: a rule says for every mixture which one of its labellings is meant, for posterior and
proposal alike. The K! regions of the parameter space that this makes are relabellings of one
another, so that the integral over one is the K!-th part of the whole: exactly, and for any K.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.base.checked import check_seed
from stangmm.base.convergence import measures
from stangmm.base.errors import ConvergenceWarning, InferenceError, ModelError
from stangmm.base.progress import progress_bar
from stangmm.base.thresholds import (
    DIVERGENT_SHARE_FAIL,
    EFFECTIVE_FAIL,
    ESS_PER_CHAIN,
    EVIDENCE_ERROR_OK,
    EVIDENCE_OVERLAP_OK,
    MODE_MATTERS,
    PARETO_K_OK,
    R_HAT_FAIL,
)
from stangmm.judge.bridge import Bridge
from stangmm.methods.base import Run
from stangmm.methods.draws import McmcInfo, VariationalInfo
from stangmm.methods.proposal import Proposal
from stangmm.methods.psis import importance_weights
from stangmm.model.joint import log_joint
from stangmm.model.labels import Labelling
from stangmm.model.mixture import Mixture, log_sum_exp
from stangmm.model.problem import Problem
from stangmm.posterior.fitted import Combination, Fitted

_MIN_DRAWS = 20  # of each chain: with fewer, half of them tell nothing about autocorrelation


@dataclass(frozen=True)
class Evidence:
    """Log marginal likelihood of a model; differences between models are log Bayes factors.

    All numbers in nats are in units of the natural logarithm.

    Attributes
    ----------
    log_evidence : float
        Log density of all data under the model, parameters integrated out, in the data's units.
    standard_error : float
        Of ``log_evidence``, in nats. It covers simulation error, not parts of the posterior that
        the chains never visited.
    n_draws : float
        Effective number of independent draws in the bridge.
    overlap : float
        Between proposal and posterior: 1 if they are the same, 0 if they do not overlap.
    reliable : bool
    why : str
        Why the answer cannot be trusted, and what to do; empty if it can.
    outside : float
        For a mode: share of its draws that look as if they were in another mode.
    added : float
        Part of ``log_evidence``, in nats, that comes from regions where some component holds no
        row and that the draws miss. It is known from fits with fewer components.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="nuts", seed=1)
    >>> evidence = fit.log_evidence()
    >>> evidence.reliable, evidence.standard_error < 0.1
    (True, True)
    """

    log_evidence: float
    standard_error: float
    n_draws: float
    overlap: float
    reliable: bool
    why: str
    outside: float = 0.0
    added: float = 0.0

    def __float__(self) -> float:
        return self.log_evidence

    def __str__(self) -> str:
        doubt = "" if self.reliable else f" It cannot be trusted: {self.why}"
        added = (
            f" This includes {self.added:.2f} for components without rows, which the draws miss."
            if self.added
            else ""
        )
        return (
            f"log evidence {self.log_evidence:.3f} (standard error {self.standard_error:.2g}, "
            f"{self.n_draws:.0f} effective draws).{added}{doubt}"
        )

    __repr__ = __str__


def log_evidence(fit: Fitted, *, seed: int | None = None, progress: bool = True) -> Evidence:
    """Estimate the log marginal likelihood by bridge sampling, of what the draws have visited.

    With sample weights, the likelihood is the weighted one.

    Parameters
    ----------
    fit : Fit
        By a sampler, such as NUTS, or by Laplace's method.
    seed : int, optional
        For the proposal's draws; default: the fit's.
    progress : bool
        Whether to show progress when it takes longer than a second.

    Returns
    -------
    Evidence

    Raises
    ------
    ModelError
        The fit is a point estimate or an approximation that was not resampled, or it has fewer
        than 20 draws a chain.
    InferenceError
        The draws do not vary.

    Warns
    -----
    ConvergenceWarning
        The answer cannot be trusted; ``why`` says the same.
    """
    if fit.combination is not None:
        return _of_combination(fit.combination)
    if isinstance(fit.info, VariationalInfo) and fit.info.resampled:
        evidence = _of_weights(fit, fit.info)
    else:
        (evidence,) = evidence_of_each([fit], seed=seed, progress=progress)
    if not evidence.reliable:
        warnings.warn(f"Log evidence: {evidence.why}", ConvergenceWarning, stacklevel=3)
    return evidence


def evidence_of_each(
    fits: Sequence[Fitted], *, seed: int | None = None, progress: bool = True
) -> list[Evidence]:
    """Estimate the evidence of each of some modes of one posterior, without warnings.

    A draw of a proposal counts only where it is nearer to its own mode than to any other: where
    the mode's proposal, relabelled by the mode's own rule and times its evidence, is the highest.

    Parameters
    ----------
    fits : sequence of Fit
        One of each mode, of one model and data set.
    seed, progress
        As in `log_evidence`.
    """
    for fit in fits:
        _check_usable(fit)
    run = Run(checked_seed(fits[0], seed))
    advance = progress_bar("evidence", 3 * len(fits), shown=progress)
    targets = []
    for fit in fits:
        targets.append(_Target.of(fit, run))
        advance(1)
    sides = []
    for i, target in enumerate(targets):
        sides.append(_Sides.of(target, [*targets[:i], *targets[i + 1 :]], run))
        advance(1)
    log_z = np.zeros(len(sides))
    for _ in range(2 if len(sides) > 1 else 1):  # first by the proposals alone
        others = [np.delete(log_z, i) - log_z[i] for i in range(len(sides))]
        bridges = [side.bridge(than) for side, than in zip(sides, others, strict=True)]
        log_z = np.array([bridge.log_ratio for bridge in bridges])
    each = []
    for target, side, bridge, than in zip(targets, sides, bridges, others, strict=True):
        advance(1)
        each.append(_answer(target, side, bridge, than))
    return each


@dataclass(frozen=True, eq=False)
class _Target:
    """A fit's posterior, and what half of its draws make of it: a labelling rule, a proposal."""

    fit: Fitted
    problem: Problem
    rule: Labelling | None
    proposal: Proposal
    bridged: Mixture  # the other half, with the labelling that is meant

    @classmethod
    def of(cls, fit: Fitted, run: Run) -> _Target:
        model = fit.model
        which = model.n_components, model.structure, model.priors, model.noise
        problem = Problem.build(fit.dataset, *which)
        mixture = problem.from_user_units(fit.mixture).reshape(*fit.lp.shape)
        half = fit.lp.shape[1] // 2
        fitted, bridged = mixture[:, :half].reshape(-1), mixture[:, half:].reshape(-1)
        pivot = int(np.argmax(fit.lp[:, :half]))
        free = fit.free_components
        rule = Labelling.of(fitted, pivot, free) if len(free) > 1 else None
        if rule is not None:
            fitted, bridged = rule.relabelled(fitted), rule.relabelled(bridged)
        proposal = Proposal.fitted(problem.space.vectors(fitted), run)
        return cls(fit, problem, rule, proposal, bridged)

    def log_proposal(self, mixture: Mixture) -> FloatArray:
        """Log density of the proposal at mixtures (n,), relabelled by the rule; shape (n,)."""
        if self.rule is not None:
            mixture = self.rule.relabelled(mixture)
        return self.proposal.log_density(self.problem.space.vectors(mixture))


@dataclass(frozen=True, eq=False)
class _Sides:
    """Log ratios of the posterior's to the proposal's density, where each of them drew.

    And the others' proposals by the side of its own, with an axis (M,) in front.
    """

    of_posterior: FloatArray  # (C, S)
    of_proposal: FloatArray  # (n,)
    others_at_posterior: FloatArray  # (M, C, S)
    others_at_proposal: FloatArray  # (M, n)

    @classmethod
    def of(cls, target: _Target, others: Sequence[_Target], run: Run) -> _Sides:
        fit, problem, proposal = target.fit, target.problem, target.proposal
        space, x, weight = problem.space, problem.x, problem.sample_weight
        half = fit.lp.shape[1] // 2
        at_posterior = space.vectors(target.bridged)
        own = proposal.log_density(at_posterior)
        log_posterior = fit.lp[:, half:] - problem.log_likelihood_offset - problem.log_prior_offset
        shape = log_posterior.shape
        log_posterior = log_posterior + space.log_jacobian(at_posterior).reshape(shape)
        others_at_posterior = [each.log_proposal(target.bridged) - own for each in others]

        at_proposal = proposal.sample(own.size, run.rng("evidence"))
        proposed = space.mixtures(at_proposal)
        own_at_proposal = proposal.log_density(at_proposal)
        with np.errstate(invalid="ignore"):  # far out, where a weight or a density is 0
            joint = log_joint(
                proposed, x, weight, problem.priors, problem.structure, problem.labels
            )
            of_proposal = joint + space.log_jacobian(at_proposal) - own_at_proposal
        of_proposal[~np.isfinite(of_proposal)] = -np.inf
        if target.rule is not None:
            of_proposal[~target.rule.obeyed(proposed)] = -np.inf
        # Only where the posterior may have mass, since far out vectors may be no numbers.
        within = np.isfinite(of_proposal)
        others_at_proposal = np.full((len(others), own.size), -np.inf)
        for i, each in enumerate(others):
            others_at_proposal[i, within] = (
                each.log_proposal(proposed[within]) - own_at_proposal[within]
            )
        return cls(
            log_posterior - own.reshape(shape),
            of_proposal,
            np.reshape(others_at_posterior, (len(others), *shape)),
            others_at_proposal,
        )

    def bridge(self, than: FloatArray) -> Bridge:
        """The bridge, where the others' proposals times exp(than) (M,) are below its own.

        What is left out on either side leaves the ratio of the normalizing constants as it is.
        """
        of_posterior = np.where(self.outside(than), np.inf, self.of_posterior)
        outside = (self.others_at_proposal + than[:, np.newaxis] > 0).any(axis=0)
        return Bridge.between(of_posterior, np.where(outside, -np.inf, self.of_proposal))

    def outside(self, than: FloatArray) -> BoolArray:
        """Which of the posterior's draws look as if they were in another mode, shape (C, S)."""
        return np.asarray((self.others_at_posterior + than[:, np.newaxis, np.newaxis] > 0).any(0))


def _answer(target: _Target, sides: _Sides, bridge: Bridge, than: FloatArray) -> Evidence:
    """The bridge's answer in the user's units, with what is to be said against it."""
    copies = float(gammaln(len(target.fit.free_components) + 1))
    why = " ".join(_doubts(target.fit, sides.of_posterior, bridge))
    return Evidence(
        log_evidence=bridge.log_ratio + copies + target.problem.log_likelihood_offset,
        standard_error=bridge.standard_error,
        n_draws=bridge.n_draws,
        overlap=bridge.overlap,
        reliable=not why,
        why=why,
        outside=float(sides.outside(than).mean()),
    )


def _of_weights(fit: Fitted, info: VariationalInfo) -> Evidence:
    """The mean importance weight, times the number of labellings."""
    log_ratio = info.log_p - info.log_q
    weights, k = importance_weights(info)
    size = np.exp(log_ratio - log_sum_exp(log_ratio, axis=0))
    n, n_draws = len(size), float(1.0 / (weights**2).sum())
    why = ""
    if not (k < PARETO_K_OK and n_draws >= EFFECTIVE_FAIL):
        why = (
            f"The approximation is too far from the posterior (Pareto k-hat {k:.2f}, should be < "
            f'{PARETO_K_OK}; {n_draws:.0f} effective draws). Use method="nuts".'
        )
    return Evidence(
        log_evidence=float(log_sum_exp(log_ratio, axis=0) - np.log(n))
        + float(gammaln(len(fit.free_components) + 1)),
        standard_error=float(np.hypot(np.sqrt((size**2).sum() - 1.0 / n), info.log_p_error)),
        n_draws=n_draws,
        overlap=n_draws / n,
        reliable=not why,
        why=why,
    )


def _of_combination(combination: Combination) -> Evidence:
    """The evidence of all modes together."""
    modes = combination.modes
    logs = np.array([mode.log_evidence for mode in modes])
    shares = np.array([mode.weight for mode in modes])
    errors = np.array([mode.log_evidence_error for mode in modes])
    why = " ".join(mode.doubt for mode in modes if mode.doubt and mode.weight >= MODE_MATTERS)
    return Evidence(
        log_evidence=float(log_sum_exp(logs, axis=0)),
        standard_error=float(np.sqrt((shares**2 * errors**2).sum())),
        n_draws=float(sum(mode.n_draws for mode in modes)),
        overlap=float(shares @ [mode.overlap for mode in modes]),
        reliable=not why,
        why=why,
    )


def _doubts(fit: Fitted, of_posterior: FloatArray, bridge: Bridge) -> Iterator[str]:
    """Say why the answer is not to be trusted, and what to do."""
    if len(fit.lp) == 1:
        yield "With a single chain, convergence cannot be judged; run four."
    else:
        # The log ratio is the same everywhere if the proposal is right: where chains sit in
        # different modes it differs unless they do so in the posterior's proportions.
        with np.errstate(invalid="ignore"):  # where no draw looks as if it were of its own mode
            r_hat = float(np.max([measures(values).r_hat for values in (fit.lp, of_posterior)]))
        if not r_hat < R_HAT_FAIL:
            yield (
                f"The chains disagree (R-hat {r_hat:.2f} of the log joint density or its ratio to "
                f"the proposal, should be < {R_HAT_FAIL}), so they may be in different modes: "
                "see fit.combined(), or run longer chains."
            )
    if isinstance(fit.info, McmcInfo) and "diverging" in fit.info.sample_stats:
        divergent = float(np.mean(fit.info.sample_stats["diverging"]))
        if divergent >= DIVERGENT_SHARE_FAIL:
            yield (
                f"{divergent:.1%} of the draws diverged, so part of the posterior may be missing; "
                "increase adapt_delta."
            )
    if not bridge.n_draws >= ESS_PER_CHAIN:
        yield (
            f"The draws in the bridge are worth {bridge.n_draws:.0f} independent draws, and "
            f"{ESS_PER_CHAIN} are needed; increase the number of draws."
        )
    if not bridge.overlap >= EVIDENCE_OVERLAP_OK:
        yield (
            f"The proposal hardly overlaps the posterior (overlap {bridge.overlap:.2g}, should be "
            f">= {EVIDENCE_OVERLAP_OK}), which may have many modes; use fewer components or more "
            "draws."
        )
    if not bridge.standard_error <= EVIDENCE_ERROR_OK:
        yield (
            f"The standard error is {bridge.standard_error:.2g} nats, above {EVIDENCE_ERROR_OK}; "
            "increase the number of draws."
        )


def _check_usable(fit: Fitted) -> None:
    if not fit.settings.gives_evidence:
        what = "a single point" if fit.kind == "point" else "an approximation"
        instead = "bic()" if fit.kind == "point" else "loo()"
        raise ModelError(
            f'The evidence needs draws from the posterior itself, and "{fit.method}" gives {what}. '
            f'Use method="nuts", or {instead} to compare models fitted in this way.'
        )
    n_draws = fit.lp.shape[1]
    if n_draws < _MIN_DRAWS:
        raise ModelError(
            f"The evidence needs at least {_MIN_DRAWS} draws of each chain, got {n_draws}. "
            "Use NUTS(draws=1000)."
        )
    if np.ptp(fit.lp[:, : n_draws // 2]) == 0:
        raise InferenceError("The draws do not vary: the chains did not move. See diagnose().")


def checked_seed(fit: Fitted, seed: int | None) -> int:
    """Give the fit's seed unless there is another, which is checked."""
    if seed is None:
        return fit.seed
    check_seed(seed)
    return int(seed)
