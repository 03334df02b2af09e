"""Criteria for choosing a model: AIC, BIC, ICL at the best draw; WAIC and LOO over all draws.

AIC, BIC and ICL are on the deviance scale, lower is better; WAIC and LOO estimate the expected log
predictive density of new rows (elpd), higher is better. The log density of a row has its label
summed out. A row of sample weight w counts w times everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.errors import ConvergenceWarning
from stangmm.judge.elpd import Elpd
from stangmm.judge.leave_one_out import (
    bad_rows,
    check_has_draws,
    log_densities,
    psis_loo,
    rows_named,
)
from stangmm.judge.subsampling import Parts, Subsample, counted_rows, pooled
from stangmm.judge.whole import whole_evidence
from stangmm.methods.base import Method
from stangmm.model.mixture import Mixture, log_sum_exp
from stangmm.posterior.fitted import Fitted

# Posterior variance of a row's log density above which WAIC is off (Vehtari, Gelman & Gabry 2017).
WAIC_VARIANCE_OK = 0.4


def aic(fit: Fitted) -> float:
    """Akaike's information criterion at the best draw, lower is better.

    Akaike 1974 (doi:10.1109/TAC.1974.1100705). Meant for point estimates by maximum likelihood.
    """
    return 2.0 * _free_parameters(fit) - 2.0 * _best_log_likelihood(fit)


def bic(fit: Fitted) -> float:
    """Bayesian information criterion at the best draw, lower is better.

    Schwarz 1978 (doi:10.1214/aos/1176344136); -BIC / 2 approximates the log evidence. Meant for
    point estimates by maximum likelihood.
    """
    price = float(np.log(fit.dataset.total_weight))
    return price * _free_parameters(fit) - 2.0 * _best_log_likelihood(fit)


def icl(fit: Fitted) -> float:
    """Integrated completed likelihood at the best draw, lower is better.

    BIC plus twice the sum over rows of -log P(z_n = its most probable component | x_n): components
    must also be well apart (Biernacki, Celeux & Govaert 2000, doi:10.1109/34.865189, with rows
    assigned as in mclust, whose ICL has the opposite sign). Meant for point estimates by maximum
    likelihood.
    """
    best = int(np.argmax(fit.total_log_likelihood))
    mixture, x, weight = fit.mixture[best : best + 1], fit.dataset.x, fit.dataset.sample_weight
    labels = fit.dataset.labels
    if fit.dataset.all_rows is not None:
        (doubt,) = fit.dataset.all_rows.there().sums(partial(_doubt, mixture))
        return bic(fit) + 2.0 * float(doubt)
    return bic(fit) + 2.0 * float(_doubt(mixture, x, weight, labels)[0])


def _doubt(
    mixture: Mixture,
    x: FloatArray,
    weight: FloatArray | None = None,
    labels: IntArray | None = None,
) -> tuple[FloatArray]:
    """Sum over rows of -log P(z = its most probable component | x)."""
    doubt = np.zeros(())
    for _, rows in mixture.blocks(len(x)):
        known = None if labels is None else labels[rows]
        each = -np.log(mixture.responsibilities(x[rows], known)[0].max(axis=0))
        doubt += each.sum() if weight is None else each @ weight[rows]
    return (doubt,)


def waic(fit: Fitted) -> Elpd:
    """Widely applicable information criterion, as an elpd: higher is better.

    Watanabe 2010 (https://jmlr.org/papers/v11/watanabe10a.html). LOO says more about where it
    fails, and should be preferred (Vehtari, Gelman & Gabry 2017, doi:10.1007/s11222-016-9696-4).

    Returns
    -------
    Elpd

    Raises
    ------
    ModelError
        For a point estimate, which has no posterior.

    Warns
    -----
    ConvergenceWarning
        The posterior variance of the log density of some rows is above 0.4.
    """
    check_has_draws(fit, "WAIC")
    data, n_draws = fit.dataset, fit.lp.size
    in_sample, variance = (np.empty(data.n_observations) for _ in range(2))
    for rows, each in log_densities(fit):
        in_sample[rows] = log_sum_exp(each, axis=1) - np.log(n_draws)
        variance[rows] = each.var(axis=1)
    pointwise = in_sample - variance
    bad = counted_rows(variance > WAIC_VARIANCE_OK, data.sample_weight)
    if len(bad):
        warnings.warn(
            f"WAIC cannot be trusted here: the posterior variance of the log density is above "
            f"{WAIC_VARIANCE_OK} for {rows_named(bad, data.n_observations)}. Use fit.loo(), which "
            "judges each row.",
            ConvergenceWarning,
            stacklevel=3,
        )
    total, error = pooled(pointwise, data.sample_weight)
    penalty = pooled(variance, data.sample_weight)[0]
    return Elpd("waic", total, error, penalty, pointwise, n_draws, bool(len(bad)))


@dataclass(frozen=True, eq=False)
class Score:
    """What a criterion says of one fit.

    Attributes
    ----------
    value : float
    standard_error : float
        NaN where the criterion has none.
    pointwise : ndarray, shape (N,), or None
        The rows' parts of an elpd; NaN for rows that leave-one-out did not visit.
    bad_rows : int or None
        How many rows have a Pareto k that is too high; None if there is no Pareto k.
    doubt : str
        Why the value cannot be trusted, and what to do; empty if it can.
    subsample : Subsample or None
        Which rows leave-one-out visited; None for all.
    subsampling_se : float
        Standard error that comes from not visiting all rows; 0 if all were visited.
    """

    value: float
    standard_error: float = float("nan")
    pointwise: FloatArray | None = None
    bad_rows: int | None = None
    doubt: str = ""
    subsample: Subsample | None = None
    subsampling_se: float = 0.0

    @property
    def parts(self) -> Parts | None:
        """The rows' parts of an elpd, as far as there are such."""
        return None if self.pointwise is None else Parts(self.pointwise, self.subsample)


@dataclass(frozen=True)
class Criterion:
    """One way to judge fits: what it is called, which way is up, which methods can give it."""

    name: str
    label: str
    higher_is_better: bool
    suits: Callable[[Method], bool]
    score: Callable[..., Score]  # of a fit, and of all fits by number of components
    pointwise: bool = False

    @property
    def direction(self) -> str:
        """Which values are better, in words."""
        return f"{'higher' if self.higher_is_better else 'lower'} is better"


Others: TypeAlias = Mapping[int, Fitted] | None  # fits of the same data, by K


def _score_loo(fit: Fitted, others: Others = None) -> Score:
    result = psis_loo(fit)
    bad = len(bad_rows(fit, result))
    doubt = (
        f"Pareto k is too high for {bad} row{'s' if bad > 1 else ''}; loo(refit=True) of that fit "
        "computes them exactly."
    )
    return Score(
        value=result.elpd,
        standard_error=result.se,
        pointwise=result.elpd_i,
        bad_rows=bad,
        doubt=doubt if bad else "",
        subsample=result.subsample,
        subsampling_se=result.subsampling_se,
    )


def _score_waic(fit: Fitted, others: Others = None) -> Score:
    result = waic(fit)
    doubt = 'the log density of some rows varies too much for it; use criterion="loo".'
    return Score(result.elpd, result.se, result.elpd_i, doubt=doubt if result.warning else "")


def _score_evidence(fit: Fitted, others: Others = None) -> Score:
    evidence = whole_evidence(fit, others, progress=False)
    return Score(evidence.log_evidence, evidence.standard_error, doubt=evidence.why)


def _any(settings: Method) -> bool:
    return True


def _has_draws(settings: Method) -> bool:
    return settings.kind != "point"


def _has_evidence(settings: Method) -> bool:
    return settings.gives_evidence


CRITERIA = {
    criterion.name: criterion
    for criterion in (
        Criterion("loo", "elpd_loo", True, _has_draws, _score_loo, pointwise=True),
        Criterion("waic", "elpd_waic", True, _has_draws, _score_waic, pointwise=True),
        Criterion("bic", "bic", False, _any, lambda fit, others=None: Score(bic(fit))),
        Criterion("aic", "aic", False, _any, lambda fit, others=None: Score(aic(fit))),
        Criterion("icl", "icl", False, _any, lambda fit, others=None: Score(icl(fit))),
        Criterion("evidence", "log_evidence", True, _has_evidence, _score_evidence),
    )
}


def _free_parameters(fit: Fitted) -> int:
    return fit.model.n_parameters(fit.dataset.n_features)


def _best_log_likelihood(fit: Fitted) -> float:
    return float(fit.total_log_likelihood.max())
