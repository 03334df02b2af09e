"""Criteria for choosing a model: AIC, BIC, ICL at the best draw; WAIC and LOO over all draws.

AIC, BIC and ICL are on the deviance scale, lower is better; WAIC and LOO estimate the expected log
predictive density of new rows (elpd), higher is better. The log density of a row has its label
summed out. A row of sample weight w counts w times everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray, IntArray
from stangmm.base.errors import ConvergenceWarning, ModelError
from stangmm.base.progress import progress_bar
from stangmm.base.tasks import Workers, run_tasks
from stangmm.base.thresholds import PARETO_K_OK
from stangmm.data.dataset import Dataset
from stangmm.judge.combining import combined
from stangmm.judge.diagnostics import diagnose
from stangmm.judge.elpd import Elpd, Loo
from stangmm.judge.whole import whole_evidence
from stangmm.methods.base import Kind, Method, Run
from stangmm.model.mixture import Mixture, log_sum_exp
from stangmm.model.priors import Priors
from stangmm.model.spec import MixtureSpec
from stangmm.posterior.fitted import Fitted
from stangmm.posterior.fitting import fitted
from stangmm.posterior.psis import smoothed
from stangmm.posterior.summary import relative_efficiency
from stangmm.predict import averages as predict

# Posterior variance of a row's log density above which WAIC is off (Vehtari, Gelman & Gabry 2017).
WAIC_VARIANCE_OK = 0.4
# Reports and comparisons leave LOO out where rows times draws are more than in some 15 seconds.
LARGEST_LOO = 2**25
LOO_BLOCK = 2**22  # rows times draws at a time: 32 MB, several times with what ArviZ makes of them
_ROWS_NAMED = 5
_DRAWS: tuple[Kind, ...] = ("approximation", "mcmc")
_ANY: tuple[Kind, ...] = ("point", *_DRAWS)


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
    _check_has_draws(fit, "WAIC")
    data, n_draws = fit.dataset, fit.lp.size
    in_sample, variance = (np.empty(data.n_observations) for _ in range(2))
    for rows, each in _log_densities(fit):
        in_sample[rows] = log_sum_exp(each, axis=1) - np.log(n_draws)
        variance[rows] = each.var(axis=1)
    pointwise = in_sample - variance
    bad = _counted(fit, variance > WAIC_VARIANCE_OK)
    if len(bad):
        warnings.warn(
            f"WAIC cannot be trusted here: the posterior variance of the log density is above "
            f"{WAIC_VARIANCE_OK} for {_rows(bad, fit)}. Use fit.loo(), which judges each row.",
            ConvergenceWarning,
            stacklevel=3,
        )
    total, error = pooled(pointwise, data.sample_weight)
    penalty = pooled(variance, data.sample_weight)[0]
    return Elpd("waic", total, error, penalty, pointwise, n_draws, bool(len(bad)))


def loo(fit: Fitted, refit: bool = False, *, progress: bool = True) -> Loo:
    """Leave-one-out expected log predictive density by PSIS, higher is better.

    Vehtari, Gelman & Gabry 2017 (doi:10.1007/s11222-016-9696-4). What is left out is one copy of a
    row. Where that changes the posterior too much for importance sampling, the row's Pareto k is
    above 0.7 (less for fewer than 2200 draws: Vehtari et al. 2024,
    https://jmlr.org/papers/v25/19-556.html). For an approximation, the draws are taken as they are.

    Parameters
    ----------
    refit : bool
        Whether to compute rows with a high Pareto k exactly: one more fit for each, without that
        row, with the same priors, settings and seed.
    progress : bool
        Whether to show progress when it takes longer than a second.

    Returns
    -------
    Loo

    Raises
    ------
    ModelError
        For a point estimate, which has no posterior to reweight.
    InferenceError
        A fit without one of the rows failed.

    Warns
    -----
    ConvergenceWarning
        Some rows have a high Pareto k and ``refit`` is not set, or fits without a row failed
        their checks.
    """
    _check_has_draws(fit, "LOO")
    advance = progress_bar("leave-one-out", fit.dataset.n_observations, shown=progress)
    result = psis_loo(fit, advance)
    bad = bad_rows(fit, result)
    if refit and len(bad):
        return _with_exact_rows(fit, result, bad, progress)
    if len(bad):
        warnings.warn(
            f"LOO cannot be trusted as it stands: Pareto k is above {result.good_k:.2f} for "
            f"{_rows(bad, fit)}; leaving such a row out changes the posterior too much for "
            f"importance sampling. fit.loo(refit=True) computes them exactly, with {len(bad)} "
            "more fits. If there are many such rows, the model is too flexible for the data: use "
            "fewer components or a more informative prior of the scales.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return result


def psis_loo(fit: Fitted, advance: Callable[[int], None] = lambda rows: None) -> Loo:
    """`loo` without refits and without a warning; so many rows at a time that memory is bounded.

    Parameters
    ----------
    advance : callable
        Is told how many more rows are done.
    """
    data, n_draws = fit.dataset, fit.lp.size
    efficiency = relative_efficiency(fit)
    loo_i, pareto_k, in_sample = (np.empty(data.n_observations) for _ in range(3))
    for rows, each in _log_densities(fit):
        log_weights, pareto_k[rows] = smoothed(-each, efficiency)
        loo_i[rows] = log_sum_exp(log_weights + each, axis=1)
        in_sample[rows] = log_sum_exp(each, axis=1) - np.log(n_draws)
        advance(len(rows))
    good_k = float(min(1 - 1 / np.log10(n_draws), PARETO_K_OK))
    bad = _counted(fit, ~(pareto_k <= good_k))
    return _loo(fit, loo_i, pareto_k, good_k, pooled(in_sample, data.sample_weight)[0], len(bad))


def loo_is_affordable(fit: Fitted) -> bool:
    """Whether LOO, for which there must be draws, takes no more than some 15 seconds."""
    if fit.kind == "point" or fit.dataset.all_rows is not None:
        return False
    return fit.lp.size * fit.dataset.n_observations <= LARGEST_LOO


def bad_rows(fit: Fitted, result: Loo) -> IntArray:
    """Rows that count and whose Pareto k is too high for PSIS, in order."""
    return _counted(fit, ~(result.pareto_k <= result.good_k))


def pooled(pointwise: FloatArray, sample_weight: FloatArray | None) -> tuple[float, float]:
    """Sum of values of the rows, shape (N,), and its standard error over new samples of rows.

    The error is sqrt(N) times the standard deviation between rows; with weights, N is their sum.
    """
    weight = np.ones(len(pointwise)) if sample_weight is None else sample_weight
    total = float(weight.sum())
    mean = float(weight @ pointwise) / total
    variance = float(weight @ (pointwise - mean) ** 2) / total
    return mean * total, float(np.sqrt(total * variance))


@dataclass(frozen=True, eq=False)
class Score:
    """What a criterion says of one fit.

    Attributes
    ----------
    value : float
    standard_error : float
        NaN where the criterion has none.
    pointwise : ndarray, shape (N,), or None
        The rows' parts of an elpd.
    bad_rows : int or None
        How many rows have a Pareto k that is too high; None if there is no Pareto k.
    doubt : str
        Why the value cannot be trusted, and what to do; empty if it can.
    """

    value: float
    standard_error: float = float("nan")
    pointwise: FloatArray | None = None
    bad_rows: int | None = None
    doubt: str = ""


@dataclass(frozen=True)
class Criterion:
    """One way to judge fits: what it is called, which way is up, which methods can give it."""

    name: str
    label: str
    higher_is_better: bool
    kinds: tuple[Kind, ...]
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
    return Score(result.elpd, result.se, result.elpd_i, bad, doubt if bad else "")


def _score_waic(fit: Fitted, others: Others = None) -> Score:
    result = waic(fit)
    doubt = 'the posterior variance of some rows is too high for it; use criterion="loo".'
    return Score(result.elpd, result.se, result.elpd_i, doubt=doubt if result.warning else "")


def _score_evidence(fit: Fitted, others: Others = None) -> Score:
    evidence = whole_evidence(fit, others, progress=False)
    return Score(evidence.log_evidence, evidence.standard_error, doubt=evidence.why)


CRITERIA = {
    criterion.name: criterion
    for criterion in (
        Criterion("loo", "elpd_loo", True, _DRAWS, _score_loo, pointwise=True),
        Criterion("waic", "elpd_waic", True, _DRAWS, _score_waic, pointwise=True),
        Criterion("bic", "bic", False, _ANY, lambda fit, others=None: Score(bic(fit))),
        Criterion("aic", "aic", False, _ANY, lambda fit, others=None: Score(aic(fit))),
        Criterion("icl", "icl", False, _ANY, lambda fit, others=None: Score(icl(fit))),
        Criterion("evidence", "log_evidence", True, ("mcmc",), _score_evidence),
    )
}


def _with_exact_rows(fit: Fitted, psis: Loo, rows: IntArray, progress: bool) -> Loo:
    data = fit.dataset
    loo_i, pareto_k = psis.elpd_i.copy(), psis.pareto_k.copy()
    # Defaults are scaled by the data: without the row they would be other priors.
    used = fit.priors
    priors = Priors(used.weights, used.means, used.scales, used.correlation, used.resolution)
    model = replace(fit.model, priors=priors, noise=used.box or False)
    advance = progress_bar("exact leave-one-out", len(rows), shown=progress)
    workers = Workers.of(len(rows), fit.settings.processors)
    if workers.backend is not None:
        fit.settings.prepare(Run(fit.seed, progress))
    run, is_combined = Run(fit.seed, processors=workers.processors), fit.combination is not None
    tasks = [(model, fit.settings, run, row, is_combined) for row in rows.tolist()]
    failed = []
    for i, (log_density, has_failed) in run_tasks(_left_out, data, tasks, workers):
        loo_i[rows[i]], pareto_k[rows[i]] = log_density, 0.0
        if has_failed:
            failed.append(rows[i])
        advance(1)
    if failed:
        warnings.warn(
            f"Of {len(rows)} fits without a row, {len(failed)} failed their checks, so the exact "
            f"values may be off for {_rows(np.sort(failed), fit)}. Use more draws or fewer "
            "components.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return _loo(fit, loo_i, pareto_k, psis.good_k, psis.p + psis.elpd, len(failed))


def _left_out(
    data: Dataset, model: MixtureSpec, settings: Method, run: Run, row: int, is_combined: bool
) -> tuple[float, bool]:
    """Log density of a row under a fit without one copy of it, and whether its checks failed."""
    left = np.ones(len(data.x)) if data.sample_weight is None else data.sample_weight.copy()
    left[row] = max(left[row] - 1.0, 0.0)
    without = fitted(Fitted, model, replace(data, sample_weight=left), settings, run)
    if is_combined:
        without = combined(without, progress=False)
    one = slice(row, row + 1)
    known = None if data.labels is None else data.labels[one]
    log_density = float(predict.log_density(without.mixture, data.x[one], known)[0])
    return log_density, bool(diagnose(without).computation.failed)


def _loo(
    fit: Fitted,
    loo_i: FloatArray,
    pareto_k: FloatArray,
    good_k: float,
    in_sample: float,
    n_bad: int,
) -> Loo:
    """Sum the rows' values up, each as often as it counts; the same of the sample is given."""
    elpd, error = pooled(loo_i, fit.dataset.sample_weight)
    p, n_draws = in_sample - elpd, fit.lp.size
    return Loo("loo", elpd, error, p, loo_i, n_draws, bool(n_bad), pareto_k, good_k)


def _log_densities(fit: Fitted) -> Iterator[tuple[IntArray, FloatArray]]:
    """Log density of each row for each draw, some rows at a time: their numbers, (n, S)."""
    data, step = fit.dataset, max(1, LOO_BLOCK // fit.lp.size)
    return predict.log_density_blocks(fit.mixture, data.x, data.labels, step)


def _free_parameters(fit: Fitted) -> int:
    return fit.model.n_parameters(fit.dataset.n_features)


def _best_log_likelihood(fit: Fitted) -> float:
    return float(fit.total_log_likelihood.max())


def _counted(fit: Fitted, chosen: BoolArray) -> IntArray:
    weight = fit.dataset.sample_weight
    return np.flatnonzero(chosen if weight is None else chosen & (weight > 0))


def _rows(rows: IntArray, fit: Fitted) -> str:
    first = ", ".join(map(str, rows[:_ROWS_NAMED]))
    more = ", ..." if len(rows) > _ROWS_NAMED else ""
    noun = "row" if len(rows) == 1 else "rows"
    return f"{len(rows)} of {fit.dataset.n_observations} rows ({noun} {first}{more})"


def _check_has_draws(fit: Fitted, criterion: str) -> None:
    if fit.kind == "point":
        raise ModelError(
            f'{criterion} needs draws, and "{fit.method}" gives a single point. Use method="nuts", '
            "or bic() to compare point estimates."
        )
    if fit.dataset.all_rows is not None:
        raise ModelError(
            f"{criterion} needs all rows, and the fit has a sample of its {fit.dataset.n_rows:,}. "
            "Use bic(), or fit rows that are in memory."
        )
