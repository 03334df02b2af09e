"""The evidence of the whole posterior, components without rows included.

Bridge sampling gives the evidence of what the draws have visited. With more components than the
data need, a part of the posterior has components without rows (`stangmm.model.empty`), and chains
may never get there. How large that part is, fits with fewer components tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stangmm.base.errors import ConvergenceWarning, InferenceError, ModelError
from stangmm.base.thresholds import EVIDENCE_MISSING_OK
from stangmm.judge.evidence import Evidence, checked_seed, log_evidence
from stangmm.methods.base import Run
from stangmm.methods.stan.regions import log_masses_with_empty
from stangmm.model.empty import empty_share, log_times
from stangmm.model.problem import Problem
from stangmm.posterior.fitted import Fitted
from stangmm.posterior.fitting import fitted

# Laplace's approximation may be off by so many nats; a region of less than this share of the
# evidence, by it, is not looked at.
_ROUGH, _SMALL = 1.5, 0.01


def whole_evidence(
    fit: Fitted,
    fewer: Mapping[int, Fitted] | None = None,
    *,
    seed: int | None = None,
    progress: bool = True,
) -> Evidence:
    """Estimate the log marginal likelihood, the part where components hold no row included.

    A rough estimate of that part (Laplace's, around modes with fewer components) says whether it
    can differ from what the draws have of it. If so, fits with fewer components are made, by the
    same settings, and their evidence gives the part itself.

    Parameters
    ----------
    fit : Fit
        By a sampler, such as NUTS.
    fewer : mapping of int to Fit, optional
        Fits of the same data and priors by number of components, where there are any already.
    seed, progress
        As for `log_evidence`.

    Returns
    -------
    Evidence

    Raises
    ------
    ModelError, InferenceError
        As `log_evidence`.

    Warns
    -----
    ConvergenceWarning
        The answer cannot be trusted; ``why`` says the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        evidence = log_evidence(fit, seed=seed, progress=progress)
        evidence = _with_empty(fit, evidence, fewer or {}, checked_seed(fit, seed), progress)
    if evidence.why:
        warnings.warn(f"Log evidence: {evidence.why}", ConvergenceWarning, stacklevel=3)
    return evidence


def _with_empty(
    fit: Fitted, evidence: Evidence, fewer: Mapping[int, Fitted], seed: int, progress: bool
) -> Evidence:
    """Add what the draws miss of the part where components hold no row."""
    k, dataset = fit.model.n_components, fit.dataset
    # With sample weights, rows have no allocations; a sample of the rows has too few of them.
    no_allocations = dataset.sample_weight is not None or dataset.all_rows is not None
    if len(fit.free_components) < k or k == 1 or no_allocations:
        return evidence
    run = Run(seed)
    model = fit.model
    problem = Problem.build(dataset, k, model.structure, model.priors, model.noise)
    offset = problem.log_likelihood_offset
    rough = log_masses_with_empty(problem, run, evidence.log_evidence - offset)
    share = empty_share(fit.mixture, dataset.x, run.rng("components of rows"))
    masses = {m: mass + offset - evidence.log_evidence for m, mass in rough.items()}
    if not _can_matter(masses, share):
        return evidence
    alpha = np.asarray(fit.priors.weights.concentration)
    terms, errors = [], []
    if share < 1.0:
        terms, errors = [float(np.log1p(-share))], [evidence.standard_error]
    for m in sorted(masses, reverse=True):
        if masses[m] < np.log(_SMALL):
            continue
        try:
            other = fewer.get(m) or _refit(fit, m, seed, progress)
            part = log_evidence(other, seed=seed, progress=progress)
        except (InferenceError, ModelError):  # a prior may be given for each component
            return _too_low(evidence, masses, share)
        occupied = 1.0 - empty_share(other.mixture, dataset.x, run.rng(f"components of rows, {m}"))
        if occupied > 0.0:
            of_noise = float(alpha[k:].sum())
            times = log_times(k, m, float(alpha[0]), dataset.n_observations, of_noise)
            terms.append(part.log_evidence + times + np.log(occupied) - evidence.log_evidence)
            errors.append(part.standard_error)
        if not part.reliable:
            return _too_low(evidence, masses, share)
    added = float(np.logaddexp.reduce(terms))
    if added <= EVIDENCE_MISSING_OK:
        return evidence
    error = float(np.hypot.reduce(np.exp(np.array(terms) - added) * errors))
    return replace(
        evidence,
        log_evidence=evidence.log_evidence + added,
        standard_error=error,
        added=added,
    )


def _can_matter(masses: Mapping[int, float], share: float) -> bool:
    """Whether regions of these masses (logs, of the evidence) may exceed what draws have there."""
    mass = float(np.exp(np.array(list(masses.values())) + _ROUGH).sum())
    return mass - share > EVIDENCE_MISSING_OK


def _too_low(evidence: Evidence, masses: Mapping[int, float], share: float) -> Evidence:
    """Say that the evidence is a lower bound."""
    missing = float(np.log(1.0 - share + np.exp(list(masses.values())).sum()))
    if missing <= EVIDENCE_MISSING_OK:
        return evidence
    words = (
        "The draws miss much of the posterior, where a component holds no row, so the evidence "
        f"is a lower bound, about {missing:.1f} nats too low; use fewer components."
    )
    return replace(evidence, reliable=False, why=" ".join(filter(None, [evidence.why, words])))


def _refit(fit: Fitted, n_components: int, seed: int, progress: bool) -> Fitted:
    """Fit the same data with fewer components."""
    model = replace(fit.model, n_components=n_components)
    run = Run(seed, progress)
    return fitted(Fitted, model, fit.dataset, fit.settings, run)
