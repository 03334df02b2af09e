"""Leave-one-out cross-validation by importance sampling: of all rows, or of some of large data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_count
from stangmm.base.errors import ConvergenceWarning, ModelError
from stangmm.base.progress import progress_bar
from stangmm.base.tasks import Workers, run_tasks
from stangmm.base.thresholds import PARETO_K_OK
from stangmm.data.dataset import Dataset
from stangmm.judge.combining import combined
from stangmm.judge.diagnostics import diagnose
from stangmm.judge.elpd import Loo
from stangmm.judge.subsampling import Parts, Subsample, counted_rows, draw_rows, summed
from stangmm.methods.base import Method, Run
from stangmm.methods.psis import smoothed
from stangmm.model.mixture import log_sum_exp
from stangmm.model.priors import Priors
from stangmm.model.spec import MixtureSpec
from stangmm.posterior.fitted import Fitted
from stangmm.posterior.fitting import fitted
from stangmm.posterior.summary import relative_efficiency
from stangmm.predict import averages as predict

# Above so many rows times draws, not all rows are visited: those here take two seconds.
LARGEST_LOO = 2**25
LOO_BLOCK = 2**18  # rows times draws at a time: 2 MB, which a processor's cache holds
# Rows visited of large data: as many as with 4000 draws are visited whole.
SUBSAMPLE = 2**12
# There are more as long as they are the main error: above a tenth of the standard error of LOO.
_SMALL_ERROR = 0.1
_MOST_ROWS = 2**16
_FEWEST_ROWS = 8  # of them six are drawn, whose spread is asked for
_CERTAIN = 4  # one in so many is a row on which the posterior depends most
_FEW_DRAWS = 64  # that approximate the rows that are not visited
_ROWS_NAMED = 5


def loo(
    fit: Fitted, refit: bool = False, *, subsample: int | None = None, progress: bool = True
) -> Loo:
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
    subsample : int, optional
        How many rows to visit, at least 8; all rows if there are no more. See `psis_loo`.
    progress : bool
        Whether to show progress when it takes longer than a second.

    Returns
    -------
    Loo

    Raises
    ------
    ModelError
        For a point estimate, which has no posterior to reweight; a subsample that is not a
        number of rows.
    InferenceError
        A fit without one of the rows failed.

    Warns
    -----
    ConvergenceWarning
        Some rows have a high Pareto k and ``refit`` is not set, or fits without a row failed
        their checks.
    """
    check_has_draws(fit, "LOO")
    if subsample is not None:
        check_count("subsample", subsample, _FEWEST_ROWS)
    result = psis_loo(fit, subsample, progress=progress)
    bad = bad_rows(fit, result)
    if refit and len(bad):
        return _with_exact_rows(fit, result, bad, progress)
    if len(bad):
        warnings.warn(
            f"LOO cannot be trusted as it stands: Pareto k is above {result.good_k:.2f} for "
            f"{rows_named(bad, result.n_visited)}; leaving such a row out changes the posterior "
            f"too much for importance sampling. fit.loo(refit=True) computes them exactly, with "
            f"{len(bad)} more fits. If there are many such rows, the model is too flexible for the "
            "data: use fewer components or a more informative prior of the scales.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return result


def psis_loo(fit: Fitted, subsample: int | None = None, *, progress: bool = False) -> Loo:
    """`loo` without refits and without a warning, in bounded memory.

    All rows are visited if these are at most 2^25 rows times draws; else 4096 rows, or four times
    as many, and again, as long as the error of that is above a tenth of the standard error of LOO,
    up to 65,536. Three quarters are drawn at random, and a quarter are the rows on which the
    posterior depends most, by the variance of their log density over a few draws. `subsampled_loo`
    estimates the sums from them.

    Parameters
    ----------
    subsample : int, optional
        How many rows to visit instead; all rows if there are no more.

    Raises
    ------
    ModelError
        See `has_loo`.
    """
    check_has_draws(fit, "LOO")
    data = fit.dataset
    counted = counted_rows(np.ones(data.n_observations, dtype=bool), data.sample_weight)
    n = len(counted)
    whole = fit.lp.size * n <= LARGEST_LOO
    rows = subsample or (n if whole else SUBSAMPLE)
    while rows < n:
        certain = rows // _CERTAIN
        result = subsampled_loo(fit, draw_rows(counted, rows - certain), certain, progress=progress)
        small = result.subsampling_se <= _SMALL_ERROR * result.se
        if small or subsample or rows >= _MOST_ROWS:
            return result
        rows *= 4
    each = _visited(fit, None, progress)
    return _result(fit, Parts(each.elpd), Parts(each.log_density - each.elpd), each.pareto_k)


def subsampled_loo(fit: Fitted, drawn: IntArray, n_certain: int, *, progress: bool = False) -> Loo:
    """Leave-one-out from some rows, by the difference estimator.

    A row's part is approximated by the mean of its log density over the draws, less half of its
    variance (the second order of Pareto smoothing's own formula). The variance is that of 64 draws.
    The sum over all rows of the mean is known without visiting them: it is the mean over the draws
    of the log likelihood, which every fit has. So there remains little that depends on which rows
    are drawn.

    Parameters
    ----------
    drawn : ndarray of int, shape (m,)
        Rows drawn at random without replacement from those that count, in order.
    n_certain : int
        How many rows to visit besides, those of highest variance.
    """
    data = fit.dataset
    weight = np.ones(data.n_observations) if data.sample_weight is None else data.sample_weight
    mean, variance = _approximations(fit)
    rough = mean - 0.5 * variance
    order = np.argsort(-weight * variance, kind="stable")
    certain = np.sort(order[:n_certain])
    rows = np.union1d(drawn, certain)
    each = _visited(fit, rows, progress)
    elpd, pareto_k, p = (np.full(data.n_observations, np.nan) for _ in range(3))
    elpd[rows], pareto_k[rows], p[rows] = each.elpd, each.pareto_k, each.log_density - each.elpd

    sum_of_all = float(fit.total_log_likelihood.mean()) - 0.5 * float(weight @ variance)
    approx = rough.copy()
    approx[rows] = each.mean - 0.5 * variance[rows]
    sum_of_all += float(weight[certain] @ (elpd - approx)[certain])
    approx[certain] = elpd[certain]
    unvisited = np.ones(len(weight), dtype=bool)
    unvisited[rows] = False
    rest = float(weight @ unvisited)
    shift = (sum_of_all - float(weight @ approx)) / rest if rest else 0.0
    approx[unvisited] += shift
    rough += shift
    rough[certain] = elpd[certain]
    subsample = Subsample(drawn, certain, approx, rough[drawn])

    variance[certain] = p[certain]  # it approximates p, too
    of_p = Parts(p, Subsample(drawn, certain, variance, variance[drawn]))
    return _result(fit, Parts(elpd, subsample), of_p, pareto_k)


def has_loo(fit: Fitted) -> bool:
    """Whether there are draws, and all rows."""
    return fit.kind != "point" and fit.dataset.all_rows is None


def check_has_draws(fit: Fitted, criterion: str) -> None:
    """Raise ModelError for a point estimate."""
    if fit.kind == "point":
        raise ModelError(
            f'{criterion} needs draws, and "{fit.method}" gives a single point. Use method="nuts", '
            "or bic() to compare point estimates."
        )
    if fit.dataset.all_rows is not None:
        raise ModelError(
            f"{criterion} needs all {fit.dataset.n_rows:,} rows, but the fit holds only a sample. "
            "Use bic(), or fit rows that are in memory."
        )


def bad_rows(fit: Fitted, result: Loo) -> IntArray:
    """Rows that count and whose Pareto k is too high for PSIS, in order."""
    return counted_rows(result.pareto_k > result.good_k, fit.dataset.sample_weight)


def rows_named(rows: IntArray, of: int) -> str:
    """So many of so many rows, and the numbers of the first."""
    first = ", ".join(map(str, rows[:_ROWS_NAMED]))
    more = ", ..." if len(rows) > _ROWS_NAMED else ""
    noun = "row" if len(rows) == 1 else "rows"
    return f"{len(rows)} of {of} rows ({noun} {first}{more})"


def log_densities(
    fit: Fitted, rows: IntArray | None = None
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Log density for each draw, (n, S), of all rows or of some (M,), a few at a time.

    Before it come the n places among the rows that were asked for.
    """
    data = fit.dataset
    x, labels = data.x, data.labels
    if rows is not None:
        x, labels = x[rows], None if labels is None else labels[rows]
    return predict.log_density_blocks(fit.mixture, x, labels, max(1, LOO_BLOCK // fit.lp.size))


class _Visited(NamedTuple):
    """What PSIS gives for rows (M,), with log and mean of what it is about.

    Attributes
    ----------
    elpd, pareto_k : ndarray
    log_density : ndarray
        Log of the mean density over the draws.
    mean : ndarray
        Mean of the log density over the draws.
    """

    elpd: FloatArray
    pareto_k: FloatArray
    log_density: FloatArray
    mean: FloatArray


def _visited(fit: Fitted, rows: IntArray | None, progress: bool) -> _Visited:
    """Leave out each of some rows, or of all."""
    n, n_draws = fit.dataset.n_observations if rows is None else len(rows), fit.lp.size
    advance = progress_bar("leave-one-out", n, shown=progress)
    efficiency = relative_efficiency(fit)
    found = _Visited(*np.empty((4, n)))
    for at, each in log_densities(fit, rows):
        log_weights, found.pareto_k[at] = smoothed(-each, efficiency)
        found.elpd[at] = log_sum_exp(log_weights + each, axis=1)
        found.log_density[at] = log_sum_exp(each, axis=1) - np.log(n_draws)
        found.mean[at] = each.mean(axis=1)
        advance(len(at))
    return found


def _approximations(fit: Fitted) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of each row's log density over a few of the draws, each (N,)."""
    data, few = fit.dataset, predict.thinned(fit.mixture, _FEW_DRAWS)
    mean, variance = np.empty((2, data.n_observations))
    step = LOO_BLOCK // _FEW_DRAWS
    for rows, each in predict.log_density_blocks(few, data.x, data.labels, step):
        mean[rows], variance[rows] = each.mean(axis=1), each.var(axis=1)
    return mean, variance


def _result(fit: Fitted, elpd: Parts, p: Parts, pareto_k: FloatArray) -> Loo:
    """Sum the rows' parts up, each as often as it counts."""
    weight, n_draws = fit.dataset.sample_weight, fit.lp.size
    total = summed(elpd, weight)
    good_k = float(min(1 - 1 / np.log10(n_draws), PARETO_K_OK))
    return Loo(
        criterion="loo",
        elpd=total.value,
        se=total.se,
        p=summed(p, weight).value,
        elpd_i=elpd.each,
        n_samples=n_draws,
        warning=bool(len(counted_rows(pareto_k > good_k, weight))),
        pareto_k=pareto_k,
        good_k=good_k,
        subsampling_se=total.subsampling_se,
        subsample=elpd.subsample,
    )


def _with_exact_rows(fit: Fitted, psis: Loo, rows: IntArray, progress: bool) -> Loo:
    """Replace what PSIS gave for some of the rows by fits without them."""
    data = fit.dataset
    elpd_i, pareto_k = psis.elpd_i.copy(), psis.pareto_k.copy()
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
        elpd_i[rows[i]], pareto_k[rows[i]] = log_density, 0.0
        if has_failed:
            failed.append(rows[i])
        advance(1)
    if failed:
        warnings.warn(
            f"Of {len(rows)} fits without a row, {len(failed)} failed their checks, so the exact "
            f"values may be off for {rows_named(np.sort(failed), psis.n_visited)}. Use more draws "
            "or fewer components.",
            ConvergenceWarning,
            stacklevel=4,
        )
    subsample = psis.subsample and psis.subsample.with_certain(elpd_i)
    total = summed(Parts(elpd_i, subsample), data.sample_weight)
    return replace(
        psis,
        elpd=total.value,
        se=total.se,
        p=psis.p + psis.elpd - total.value,
        elpd_i=elpd_i,
        warning=bool(failed),
        pareto_k=pareto_k,
        subsampling_se=total.subsampling_se,
        subsample=subsample,
    )


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
