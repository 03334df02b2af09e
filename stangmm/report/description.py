"""Description: methods and results of a fit in one paragraph with references, as papers have it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stangmm.judge.criteria import bic
from stangmm.judge.diagnostics import diagnose
from stangmm.judge.membership import classes_of
from stangmm.judge.modes import is_divided
from stangmm.methods.draws import McmcInfo, RestartInfo, VariationalInfo
from stangmm.methods.psis import pareto_k
from stangmm.posterior.fitted import Fitted
from stangmm.posterior.summary import convergence
from stangmm.report.numbers import count, fixed, number, percent
from stangmm.report.tables import component_rows, priors_words
from stangmm.report.words import combination_words, listed, method_words

_FEATURES = 6
_MIXTURES = "McLachlan & Peel 2000, doi:10.1002/0471721182"
_STAN = "Carpenter et al. 2017, doi:10.18637/jss.v076.i01"
_REFERENCES: dict[str, tuple[str, ...]] = {
    "em": ("Dempster, Laird & Rubin 1977, doi:10.1111/j.2517-6161.1977.tb01600.x",),
    "regularized_em": (
        "Dempster, Laird & Rubin 1977, doi:10.1111/j.2517-6161.1977.tb01600.x",
        "Fraley & Raftery 2007, doi:10.1007/s00357-007-0004-5",
    ),
    "optimize": (_STAN, "Nocedal 1980, doi:10.1090/S0025-5718-1980-0572855-7"),
    "advi": (_STAN, "Kucukelbir et al. 2017, https://jmlr.org/papers/v18/16-107.html"),
    "nuts": (_STAN, "Hoffman & Gelman 2014, https://jmlr.org/papers/v15/hoffman14a.html"),
    "pathfinder": (_STAN, "Zhang et al. 2022, https://jmlr.org/papers/v23/21-0889.html"),
    "laplace": (
        "Tierney & Kadane 1986, doi:10.1080/01621459.1986.10478240",
        "Vehtari et al. 2024, https://jmlr.org/papers/v25/19-556.html",
    ),
    "stan_laplace": (_STAN, "Tierney & Kadane 1986, doi:10.1080/01621459.1986.10478240"),
}
_RELABELLING = {
    "stephens": ("by the rows' membership", "Stephens 2000, doi:10.1111/1467-9868.00265"),
    "ecr": (
        "by the rows' allocations",
        "Papastamoulis & Iliopoulos 2010, doi:10.1198/jcgs.2010.09008",
    ),
    "means": ("by the mean in the first feature", ""),
}


def description(fit: Fitted) -> str:
    """Methods and results in one paragraph; see `Fit.describe`."""
    chosen = [fit.reason] if fit.reason else []
    sentences = [_model(fit), *chosen, _method(fit), *_priors(fit), *_quality(fit), *_results(fit)]
    software = ", ".join(f"{name} {v}" for name, v in sorted(fit.versions.items()))
    sentences.append(f"Software: {software}; seed {fit.seed}.")
    cited = dict.fromkeys(each for each in _references(fit) if each)
    return " ".join([*sentences, f"References: {'; '.join(cited)}."])


def _model(fit: Fitted) -> str:
    data, k = fit.dataset, fit.model.n_components
    given = [f"sample weights that sum to {data.total_weight:,.6g}"] * (
        data.sample_weight is not None
    )
    if data.incomplete:
        missing = int(np.isnan(data.x).sum())
        given.append(f"{count(missing, 'missing value')} integrated out")
    if data.labels is not None:
        given.append(f"{count(int((data.labels >= 0).sum()), 'row')} with a known component")
    beside = f", with {' and '.join(given)}," if given else ""
    noise = " and a uniform noise component" if fit.model.noise else ""
    free = fit.model.n_parameters(data.n_features)
    return (
        f"A Gaussian mixture model of {count(k, 'component')} with "
        f"{fit.model.structure.words}{noise} ({free:,} "
        f"free parameters) was fitted to {data.n_rows:,} rows of "
        f"{count(data.n_features, 'feature')} ({listed(data.feature_names)}){beside} by "
        f"{method_words(fit.method)}."
        f"{data.sample_note and ' '}{data.sample_note}"
    )


def _method(fit: Fitted) -> str:
    source = fit if fit.combination is None else fit.combination.source
    info = source.info
    if isinstance(info, McmcInfo):
        chains, draws = source.lp.shape
        words = f"{count(chains, 'chain').capitalize()} of {draws:,} draws after warm-up"
        modes = "" if fit.combination is None else f" {combination_words(fit.combination)}"
        return f"{words} {'was' if chains == 1 else 'were'} run.{modes}"
    if isinstance(info, VariationalInfo) and info.resampled:
        return (
            f"{fit.lp.size:,} draws were resampled by their importance weights from "
            f"{len(info.log_p):,} of an approximation around the posterior's mode."
        )
    if isinstance(info, VariationalInfo):
        return f"{fit.lp.size:,} draws were taken from an approximation of the posterior."
    best, found = info.best, len(info.optima)
    maximum = "the only maximum found" if found == 1 else f"the best of {found} maxima"
    return (
        f"The {info.objective} was maximized from {count(len(info.values), 'start')}, of which "
        f"{best.restarts} reached {maximum}."
    )


def _priors(fit: Fitted) -> Iterator[str]:
    words = priors_words(fit)
    if words:
        words.pop("resolution")
        given = (f"{name} {prior.replace(': ', ' (', 1)})" for name, prior in words.items())
        yield f"Priors: {', '.join(given)}; no component is narrower than the data's resolution."
    if fit.relabelling is not None and fit.kind != "point" and fit.model.n_components > 1:
        yield f"Labels of the draws were settled {_RELABELLING[fit.relabelling][0]}."


def _quality(fit: Fitted) -> Iterator[str]:
    if isinstance(fit.info, McmcInfo):
        values = convergence(fit)
        yield (
            f"The largest R-hat was {fixed(values['r_hat'], 2)} and the smallest effective sample "
            f"size {fixed(min(values['ess_bulk'], values['ess_tail']), 0)}."
        )
    elif isinstance(fit.info, VariationalInfo):
        yield f"The Pareto k-hat of its importance weights was {fixed(pareto_k(fit.info), 2)}."
    open_checks = [check.name for check in diagnose(fit) if check.verdict != "ok"]
    yield (
        f"The fit did not pass these checks: {', '.join(open_checks)}."
        if open_checks
        else "The fit passed all checks."
    )


def _results(fit: Fitted) -> Iterator[str]:
    if is_divided(fit):
        yield "The chains are in different modes, so there are no results of all chains together."
        return
    draws = fit.kind != "point"
    value = "posterior mean, 90% interval" if draws else "estimate"
    shown = min(fit.dataset.n_features, _FEATURES)
    first = "" if shown == fit.dataset.n_features else f" of the first {shown} features"
    parts = []
    for row in component_rows(fit):
        weight = row["weight"]
        words = f"component {row['k']} holds {percent(weight['mean'])}"
        if draws and fit.model.n_components > 1:
            words += f" ({percent(weight['low'])} to {percent(weight['high'])})"
        means = ", ".join(
            f"{f['name']} {_with_bounds(f['mean'], f['unit'], draws)}"
            for f in row["features"][:shown]
        )
        parts.append(f"{words} of the data, with means {means}")
    yield f"Results ({value}{first}): {'; '.join(parts)}."
    if fit.model.n_components > 1:
        classes = classes_of(fit)
        yield (
            f"The relative entropy of the classification was {fixed(classes.entropy, 2)}, and the "
            f"smallest component was the most probable one for {classes.smallest_rows:,.6g} rows "
            f"({percent(classes.smallest_share)})."
        )
    words = f"The log likelihood was {fixed(float(fit.total_log_likelihood.mean()), 1)}"
    if isinstance(fit.info, RestartInfo):
        yield f"{words}, BIC {fixed(bic(fit), 1)}."
    else:
        yield f"{words}, averaged over the draws."


def _with_bounds(cell: dict[str, float], unit: float, draws: bool) -> str:
    low, high = (number(cell[end], unit) for end in ("low", "high"))
    return number(cell["mean"], unit) + (f" ({low} to {high})" if draws else "")


def _references(fit: Fitted) -> Iterator[str]:
    yield _MIXTURES
    yield from _REFERENCES.get(fit.method, ())
    if isinstance(fit.info, McmcInfo):
        yield "Vehtari et al. 2021, doi:10.1214/20-BA1221"
    elif isinstance(fit.info, VariationalInfo):
        yield "Yao et al. 2018, doi:10.48550/arXiv.1802.02538"
    else:
        yield "Schwarz 1978, doi:10.1214/aos/1176344136"
    if fit.combination is not None:
        yield "Gronau et al. 2017, doi:10.1016/j.jmp.2017.09.005"
    if fit.relabelling is not None and fit.kind != "point" and fit.model.n_components > 1:
        yield _RELABELLING[fit.relabelling][1]
    if fit.model.n_components > 1:
        yield "Ramaswamy et al. 1993, doi:10.1287/mksc.12.1.103"
