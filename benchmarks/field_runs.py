"""The field trial's runs: one method on one case with one seed, in a process of its own.

What is reached is judged by one density (`score`), whatever made the mixture, and by one rule
(`degeneracy`) for what is no maximum but a spike.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import Clock, FloatArray
from field_data import Case, Data

import stangmm as sg
from stangmm.base.errors import InferenceError
from stangmm.fit import Fit
from stangmm.methods.draws import McmcInfo, RestartInfo
from stangmm.model.mixture import Mixture, log_likelihood

# How scikit-learn starts, 20 times each; the first is its default.
INITS = ("kmeans", "k-means++", "random_from_data")
STARTS = 20
TOLERANCE = 1e-6  # of the mean log likelihood; max_iter stays at scikit-learn's 100
POLISHED = 3  # of scikit-learn's optima, the best so many climb on to their end, untimed
# Of a run's time limit, for the starts of one kind, and for one climb to its end.
START_SHARE, CLIMB_SHARE = 0.1, 0.03


@dataclass(frozen=True)
class Scale:
    """The data in units of their standard deviations, and the way from and to the user's.

    Spherical covariances allow one common unit only.
    """

    z: FloatArray
    center: FloatArray
    unit: FloatArray
    offset: float  # of the log likelihood, from these units to the user's

    @classmethod
    def of(cls, x: FloatArray, covariance_type: str) -> Scale:
        """Standardize the values that are there."""
        center, unit = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
        if covariance_type == "spherical":
            unit = np.full(len(unit), np.sqrt(np.mean(unit**2)))
        offset = -float((~np.isnan(x)).sum(axis=0) @ np.log(unit))
        return cls((x - center) / unit, center, unit, offset)

    def of_user(self, mixture: Mixture) -> Mixture:
        """Bring a mixture of the user's units to these."""
        return mixture.in_units(-self.center / self.unit, 1.0 / self.unit)

    def score(self, mixture: Mixture) -> float:
        """Log likelihood of all rows in the user's units, of a mixture in these."""
        return float(log_likelihood(mixture, self.z)) + self.offset

    def covariance(self) -> FloatArray:
        """Covariance of the rows that miss nothing; without correlations if they are too few."""
        complete = self.z[~np.isnan(self.z).any(axis=1)]
        d = self.z.shape[1]
        return np.atleast_2d(np.cov(complete.T, bias=True)) if len(complete) > d + 1 else np.eye(d)


def degeneracy(mixture: Mixture, scale: Scale, case: Case) -> str:
    """Say why a mixture is no maximum but a spike; empty if it is none.

    A component's smallest variance, relative to the data's in the same direction, must not be
    below the source's floor, and it must hold more rows than its covariance needs: D + 1 if full,
    two otherwise. A half is asked for beside, for what it has of other rows. A shared covariance
    needs none.
    """
    rows = mixture.weights * len(scale.z)
    d = mixture.n_features
    least = {"full": max(d + 1.5, 2.5), "tied": 0.0}.get(case.covariance_type, 2.5)
    if case.k > 1 and rows.min() < least:
        return f"a component of {rows.min():.1f} rows"
    if mixture.corr_chol is None:
        smallest = float((mixture.scales**2).min())
    else:
        values, vectors = np.linalg.eigh(scale.covariance())
        whiten = vectors / np.sqrt(np.maximum(values, 1e-14))
        smallest = float(np.linalg.eigvalsh(whiten.T @ mixture.covariances @ whiten).min())
    floor = case.source.floor
    return f"a relative variance of {smallest:.0e}" if smallest < floor else ""


def run_em(case: Case, data: Data, seed: int, limit: float) -> dict[str, Any]:
    """EM at its defaults."""
    return point(case, data, seed, sg.EM())


def run_optimize(case: Case, data: Data, seed: int, limit: float) -> dict[str, Any]:
    """Stan's optimizer of the likelihood."""
    return point(case, data, seed, sg.Optimize(objective="mle"))


def point(case: Case, data: Data, seed: int, settings: Any) -> dict[str, Any]:
    """Fit a point estimate and judge it."""
    fit, times = timed(case, data, seed, settings)
    assert isinstance(fit.info, RestartInfo)
    best = fit.info.best
    scale = Scale.of(data.x, case.covariance_type)
    mixture = scale.of_user(fit.mixture[0])
    return {
        "log_likelihood": scale.score(mixture),
        "degenerate": degeneracy(mixture, scale, case),
        "converged": best.converged,
        "restarts": best.restarts,
        "collapsed": int(fit.info.collapsed.sum()),
        **judged(fit, data),
        **times,
    }


def run_nuts(case: Case, data: Data, seed: int, limit: float) -> dict[str, Any]:
    """NUTS at its defaults."""
    return chains(case, data, seed)[1]


def run_evidence(case: Case, data: Data, seed: int, limit: float) -> dict[str, Any]:
    """NUTS at its defaults, and the log evidence by bridge sampling."""
    fit, row = chains(case, data, seed)
    clock = Clock()
    evidence = fit.log_evidence(seed=seed, progress=False)
    return row | {
        "log_evidence": evidence.log_evidence,
        "log_evidence_se": evidence.standard_error,
        "log_evidence_reliable": evidence.reliable,
        "log_evidence_seconds": clock.times()["cpu_seconds"],
    }


def chains(case: Case, data: Data, seed: int) -> tuple[Fit, dict[str, Any]]:
    """Sample, and judge the chains."""
    fit, times = timed(case, data, seed, sg.NUTS())
    assert isinstance(fit.info, McmcInfo)
    diagnosis = fit.diagnose()
    stats = fit.info.sample_stats
    total = fit.total_log_likelihood
    return fit, {
        "r_hat": diagnosis["R-hat"].value,
        "ess_bulk": diagnosis["bulk ESS"].value,
        "modes": len(fit.modes.chains),
        **_combined(fit),
        "divergences": int(stats["diverging"].sum()),
        "leapfrogs": float(stats["n_steps"].mean()),
        "log_joint": fit.lp.mean(axis=1).tolist(),
        "log_likelihoods": total.mean(axis=1).tolist(),
        "best_draw": float(total.max()),
        "starts": [start.objective for start in fit.info.starts],
        **judged(fit, data),
        **times,
    }


def _combined(fit: Fit) -> dict[str, Any]:
    """Verdict of the modes combined, and the checks behind it; empty where there is one mode."""
    if len(fit.modes) == 1:
        return {"combined": ""}
    try:
        diagnosis = fit.combined(progress=False).diagnose().computation
    except (InferenceError, sg.ModelError):
        return {"combined": "fail", "combined_checks": ["no answer"]}
    worst = [c.name for c in diagnosis if c.verdict == diagnosis.verdict != "ok"]
    return {"combined": diagnosis.verdict, "combined_checks": worst}


def run_advi(case: Case, data: Data, seed: int, limit: float) -> dict[str, Any]:
    """ADVI at its defaults."""
    fit, times = timed(case, data, seed, sg.ADVI())
    diagnosis = fit.diagnose()
    return {
        "k_hat": diagnosis["Pareto k-hat"].value,
        "elbo": diagnosis["ELBO"].value,
        **judged(fit, data),
        **times,
    }


def priors_named(name: str, case: Case, data: Data) -> sg.Priors:
    """Priors to try beside the defaults; sds are shrunk to a K-th of the data's volume."""
    n_features = data.x.shape[1]
    sd = np.nanstd(data.x, axis=0)
    if case.covariance_type == "spherical":
        sd = np.sqrt(np.mean(sd**2, keepdims=True))
    shrunk = sd / case.k ** (1 / n_features)
    return {
        "default": sg.Priors(),
        "Dirichlet(2)": sg.Priors(weights=sg.Dirichlet(2.0)),
        "Dirichlet(4)": sg.Priors(weights=sg.Dirichlet(4.0)),
        "LKJ(1)": sg.Priors(correlation=sg.LKJ(1.0)),
        "HalfCauchy(shrunk sd)": sg.Priors(scales=sg.HalfCauchy(shrunk)),
        "HalfNormal(sd)": sg.Priors(scales=sg.HalfNormal(sd)),
        # Fraley & Raftery 2007, doi:10.1007/s00357-007-0004-5: D + 2 degrees of freedom.
        "InverseGamma(F&R)": sg.Priors(scales=sg.InverseGamma((n_features + 2) / 2, shrunk**2 / 2)),
    }[name]


def timed(case: Case, data: Data, seed: int, settings: Any) -> tuple[Fit, dict[str, float]]:
    """Fit, with wall and processor seconds, children's included."""
    priors = priors_named(os.environ.get("FIELD_PRIORS", "default"), case, data)
    model = sg.GaussianMixture(case.k, case.covariance_type, priors=priors)
    missing: Any = "marginalize" if data.incomplete else "error"
    clock = Clock()
    fit = model.fit(data.x, settings, seed=seed, missing=missing, progress=False)
    return fit, clock.times()


def judged(fit: Fit, data: Data) -> dict[str, Any]:
    """Verdicts on computation and model, the checks behind the first, agreement with classes."""
    whole = fit.diagnose()
    diagnosis = whole.computation
    worst = [c.name for c in diagnosis if c.verdict == diagnosis.verdict != "ok"]
    ari = None
    if data.classes is not None:
        ari = agreement(data.classes, fit.predict(data.x, max_draws=400, progress=False))
    describes = [check.verdict for check in whole if check.name == "goodness of fit"]
    return {
        "verdict": diagnosis.verdict,
        "checks": worst,
        "goodness_of_fit": "".join(describes),
        "ari": ari,
    }


def agreement(classes: Any, labels: Any) -> float:
    """Adjusted Rand index of two partitions (Hubert & Arabie 1985, doi:10.1007/BF01908075)."""
    table = np.zeros((int(max(classes)) + 1, int(max(labels)) + 1))
    np.add.at(table, (classes, labels), 1)

    def pairs(counts: FloatArray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / pairs(np.array([table.sum()]))
    most = (rows + columns) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def run_sklearn(case: Case, data: Data, seed: int, limit: float) -> dict[str, Any]:
    """Run scikit-learn from 20 starts of each kind, on standardized data.

    Each start is a call of its own, so that one that fails, or ends in a spike, does not take the
    others with it. Where time is short, there are fewer starts, and seconds are scaled up to 20.
    Where values are missing it sees their means, and its partitions are where EM then starts.
    """
    scale = Scale.of(data.x, case.covariance_type)
    rows = np.where(np.isnan(scale.z), 0.0, scale.z)
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(rows.T, bias=True)))
    ridge = 0.1 * case.source.floor * max(float(values[0]), 1e-6)
    inits: dict[str, Any] = {}
    found: list[tuple[float, Any]] = []
    for init in INITS:
        clock, began, runs = Clock(), time.perf_counter(), []
        for start in range(STARTS):
            if time.perf_counter() - began > START_SHARE * limit:
                break
            runs.append(one_of_sklearn(case, rows, init, start, ridge))
        times = {key: s * STARTS / len(runs) for key, s in clock.times().items()}
        ended = [(mixture_of(e), e) for e in runs if e is not None]
        kept = [(scale.score(m), e) for m, e in ended if not degeneracy(m, scale, case)]
        inits[init] = {
            "starts": len(runs),
            "failed": len(runs) - len(ended),
            "degenerate": len(ended) - len(kept),
            "log_likelihood": max((value for value, _ in kept), default=None),
            **times,
        }
        found += kept
    found.sort(key=lambda pair: -pair[0])
    best = found[0] if found else (None, None)
    climb = from_partitions if data.incomplete else onwards
    ends = climb(case, data, scale, rows, list(distinct(found)), CLIMB_SHARE * limit)
    polished = [value for value in ends if value is not None]
    if data.incomplete:  # its own values are likelihoods at filled gaps' optima, not at the data's
        for init in INITS:
            inits[init]["log_likelihood"] = None
        best = (None, best[1])
    ari = None
    if data.classes is not None and best[1] is not None:
        ari = agreement(data.classes, best[1].predict(rows))
    return {
        "inits": inits,
        "log_likelihood": best[0],
        "polished": max(polished, default=None),
        "degenerate": "",
        "failure": "" if found else "no start ended in a maximum",
        "ari": ari,
        "seconds": sum(each["seconds"] for each in inits.values()),
        "cpu_seconds": sum(each["cpu_seconds"] for each in inits.values()),
    }


def one_of_sklearn(case: Case, rows: FloatArray, init: str, start: int, ridge: float) -> Any:
    """Run one of scikit-learn's starts; None where it fails."""
    from sklearn.mixture import GaussianMixture

    estimator = GaussianMixture(
        case.k,
        covariance_type=case.covariance_type,
        init_params=init,
        tol=TOLERANCE,
        reg_covar=ridge,
        random_state=start,
    )
    try:
        return estimator.fit(rows)
    except ValueError:  # a covariance that is not positive definite
        return None


def mixture_of(estimator: Any) -> Mixture:
    """Scikit-learn's mixture as ours."""
    d, covariances = estimator.means_.shape[1], estimator.covariances_
    if estimator.covariance_type == "spherical":
        covariances = np.repeat(covariances[:, np.newaxis], d, axis=1)
    elif estimator.covariance_type == "tied":
        covariances = np.broadcast_to(covariances, (len(estimator.means_), d, d))
    return Mixture.from_covariances(estimator.weights_, estimator.means_, covariances)


def distinct(found: list[tuple[float, Any]]) -> Iterator[Any]:
    """Give the best few that differ by more than a hundredth of a nat, best first."""
    last, n = np.inf, 0
    for value, estimator in found:
        if value < last - 0.01 and n < POLISHED:
            last, n = value, n + 1
            yield estimator


def onwards(
    case: Case, data: Data, scale: Scale, rows: FloatArray, estimators: list[Any], seconds: float
) -> Iterator[float | None]:
    """Let scikit-learn's optima climb to their end; None for one that ends in a spike."""
    for estimator in estimators:
        estimator.set_params(tol=1e-10, max_iter=50, warm_start=True)
        began = time.perf_counter()
        try:
            while time.perf_counter() - began < seconds and not estimator.fit(rows).converged_:
                pass
        except ValueError:
            continue
        mixture = mixture_of(estimator)
        yield None if degeneracy(mixture, scale, case) else scale.score(mixture)


def from_partitions(
    case: Case, data: Data, scale: Scale, rows: FloatArray, estimators: list[Any], seconds: float
) -> Iterator[float | None]:
    """Let EM climb from scikit-learn's partitions of the rows with their gaps filled."""
    for estimator in estimators:
        model = sg.GaussianMixture(case.k, case.covariance_type)
        try:
            fit = model.fit(
                data.x,
                sg.EM(),
                init=estimator.predict(rows),
                missing="marginalize",
                seed=1,
                progress=False,
            )
        except (InferenceError, sg.ModelError):
            continue
        mixture = scale.of_user(fit.mixture[0])
        yield None if degeneracy(mixture, scale, case) else scale.score(mixture)


RUNS: dict[str, Callable[[Case, Data, int, float], dict[str, Any]]] = {
    "em": run_em,
    "scikit-learn": run_sklearn,
    "optimize": run_optimize,
    "nuts": run_nuts,
    "evidence": run_evidence,
    "advi": run_advi,
}


def measure(case: Case, method: str, seed: int, limit: float) -> dict[str, Any]:
    """Run a method on a case; what it raises is a reason in the row."""
    warnings.simplefilter("ignore")
    data = case.source.load()
    # What is imported when it is first used is not timed.
    sg.GaussianMixture(1).fit(np.arange(8.0), "em", seed=1, progress=False)
    if method == "scikit-learn":
        import sklearn.mixture  # noqa: F401
    elif method != "em":
        import cmdstanpy  # noqa: F401
    if method in ("nuts", "evidence", "advi"):
        import arviz  # noqa: F401
    try:
        outcome = RUNS[method](case, data, seed, limit)
    except Exception as error:
        outcome = {"failure": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    n, d = data.x.shape
    shape = {"N": n, "D": d, "missing": float(np.isnan(data.x).mean()), "digest": data.digest}
    return {**shape, **outcome}
