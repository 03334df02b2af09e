"""Checks of a fit: a value, a threshold, a verdict, what it means and what to do. Never prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.convergence import e_bfmi
from stangmm.base.errors import ConvergenceWarning, MisfitWarning
from stangmm.base.thresholds import (
    ABOVE_START,
    COLLAPSED_SHARE_OK,
    DEEP_SHARE_OK,
    DIVERGENT_SHARE_FAIL,
    E_BFMI_OK,
    EFFECTIVE_FAIL,
    EFFECTIVE_OK,
    ESS_PER_CHAIN,
    EXCHANGED_OK,
    GAP_OK,
    GOODNESS_NATS_FAIL,
    GOODNESS_P_OK,
    LOG_P_ERROR_OK,
    MISSED_FAIL,
    MISSED_OK,
    MODE_MATTERS,
    MODE_OVERLAP_OK,
    MODE_WEIGHT_ERROR_FAIL,
    MODE_WEIGHT_ERROR_OK,
    PARETO_K_OK,
    R_HAT_FAIL,
    R_HAT_OK,
    ROWS_KEPT_OK,
    ROWS_PER_COMPONENT,
    ROWS_PER_PARAMETER,
    SPARSE_DRAWS_OK,
)
from stangmm.judge.chains import chains_of, chains_words, moved_words, pieces_by_mode
from stangmm.judge.counting import pairs_hardly_together, parameters_words
from stangmm.judge.goodness import goodness_of_fit
from stangmm.judge.labelling import labelling_of, mostly_empty
from stangmm.judge.misfits import advice_on
from stangmm.judge.ties import narrow_as_rounding
from stangmm.methods.draws import McmcInfo, RestartInfo, VariationalInfo
from stangmm.model.mixture import rows_kept
from stangmm.posterior.fitted import Combination, Fitted, Piece, WeighedMode, once

if TYPE_CHECKING:
    import pandas as pd

_PAIRS_NAMED = 3
# The check that asks of the model, where all others ask of its computation.
GOODNESS = "goodness of fit"
_MISFITS_SHOWN = 3
_HANDFUL = 2.5  # rows of a component that may be no group
_HIGHEST = 100  # of the draws above the best start, which are looked at
_ROWS_KEPT_DRAWS = 20  # that tell what the components of an approximation are

Verdict: TypeAlias = Literal["ok", "warn", "fail"]
_VERDICTS: tuple[Verdict, ...] = ("ok", "warn", "fail")
# Checks that are said by Python's warnings even if they only warn: what they find can change what
# is concluded. The others are about precision or speed, or say how far the data reach.
_SERIOUS = {
    *("restarts at the best optimum", "gap to the next optimum", "components on equal values"),
    *("components of the start", "draws above the best start", "optimum of the likelihood"),
    *("weights of the modes", "modes apart", "divergences", "E-BFMI", "labelling"),
    *("sum of the sample weights", "features seen together"),
}
# Checks of whether the chains agree; a combined fit has values of its own.
OF_ALL_CHAINS = ("R-hat", "bulk ESS", "tail ESS")


@dataclass(frozen=True)
class Check:
    """One question asked of a fit.

    Attributes
    ----------
    name : str
    value : float
    threshold : str
        What the value should be, such as "< 1.01".
    verdict : {"ok", "warn", "fail"}
    meaning : str
        What the value says.
    advice : str
        What to do; empty when all is well.
    """

    name: str
    value: float
    threshold: str
    verdict: Verdict
    meaning: str
    advice: str = ""

    @property
    def warning(self) -> type[ConvergenceWarning]:
        """Category of the Python warning for this check."""
        return MisfitWarning if self.name == GOODNESS else ConvergenceWarning

    def __str__(self) -> str:
        advice = f" {self.advice}" if self.advice else ""
        return (
            f"[{self.verdict}] {self.name}: {self.value:.4g} (should be {self.threshold}). "
            f"{self.meaning}{advice}"
        )


@dataclass(frozen=True)
class Diagnosis:
    """All checks of one fit; iterate, print, or turn into a DataFrame."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks' verdicts."""
        verdicts = {check.verdict for check in self.checks}
        return "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "ok"

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks whose verdict is "fail"."""
        return tuple(check for check in self.checks if check.verdict == "fail")

    @property
    def serious(self) -> tuple[Check, ...]:
        """Checks that failed or can change a conclusion; Python warnings are given for these."""
        return tuple(
            check
            for check in self.checks
            if check.verdict == "fail" or (check.verdict == "warn" and check.name in _SERIOUS)
        )

    @property
    def computation(self) -> Diagnosis:
        """The checks of the computation: all but the model's goodness of fit."""
        return Diagnosis(tuple(check for check in self.checks if check.name != GOODNESS))

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __getitem__(self, name: str) -> Check:
        """Check of that name; KeyError lists the names."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; there are {[c.name for c in self.checks]}")

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each check."""
        import pandas as pd

        return pd.DataFrame([asdict(check) for check in self.checks]).set_index("name")

    def to_html(self) -> str:
        """Give an HTML table, as notebooks show it."""
        table = self.to_dataframe().to_html(border=0, float_format="{:.4g}".format)
        return f"<p>verdict: <strong>{self.verdict}</strong></p>\n{table}"

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return "\n".join([f"verdict: {self.verdict}", *map(str, self.checks)])

    __repr__ = __str__


@once
def diagnose(fit: Fitted) -> Diagnosis:
    """Make every check that applies to this kind of fit."""
    return Diagnosis((*diagnose_computation(fit), *_of_goodness(fit)))


@once
def diagnose_computation(fit: Fitted) -> Diagnosis:
    """Make every check of the computation: `Diagnosis.computation`, without the goodness of fit."""
    checks: Iterator[Check]
    if fit.combination is not None:
        checks = _of_combination(fit, fit.combination)
    elif isinstance(fit.info, McmcInfo):
        checks = chain(_of_modes(fit, fit.info), _of_chains(fit, fit.info))
    elif isinstance(fit.info, VariationalInfo):
        checks = _of_approximation(fit, fit.info)
    else:
        checks = _of_restarts(fit, fit.info)
    of_data = (*_of_ties(fit), *_of_weights(fit), *_of_pairs(fit))
    of_components = (*_of_labelling(fit), _smallest_component(fit))
    return Diagnosis((*checks, *of_data, *of_components))


def _of_goodness(fit: Fitted) -> Iterator[Check]:
    """Check whether the data look as if they came from the fitted mixture."""
    found = goodness_of_fit(fit)
    if found is None:
        return
    shown = found.misfits[:_MISFITS_SHOWN]
    more = len(found.misfits) - len(shown)
    few = found.n_rows < fit.dataset.total_weight
    meaning = "P-value of the test that the data come from the fitted mixture."
    if few:
        meaning += f" It used {found.n_rows:,} rows, drawn at random."
    if shown:
        size = "a slight misfit" if found.nats < GOODNESS_NATS_FAIL else "a misfit"
        meaning += (
            f" There is {size} ({found.nats:.2g} nats per row). "
            + " ".join(misfit.words for misfit in shown)
            + (f" fit.goodness_of_fit() lists {more} more." if more else "")
        )
    yield Check(
        GOODNESS,
        float(f"{found.p_value:.2g}"),  # more digits hang on those of the search
        f">= {GOODNESS_P_OK:g}",
        found.verdict,
        meaning,
        advice_on(shown),
    )


def _smallest_component(fit: Fitted) -> Check:
    """Check whether every component holds enough rows to say something about its parameters."""
    own = fit.model.n_parameters_of_component(fit.dataset.n_features)
    needed = ROWS_PER_PARAMETER[fit.kind] * own
    rows = fit.mixture.weights * fit.dataset.total_weight
    sparse = (rows < needed).mean(axis=0)
    worst = int(np.argmin(rows.mean(axis=0) - needed * (sparse > SPARSE_DRAWS_OK)))
    good = bool(sparse[worst] <= SPARSE_DRAWS_OK)
    few = f" It holds fewer than {needed:g} in {sparse[worst]:.0%} of the draws."
    advice = (
        f"The mean and scale of component {worst} rest on few rows, or on the prior. "
        f"{parameters_words(fit)}"
    )
    if rows[:, worst].mean() < _HANDFUL and not fit.model.noise:
        advice += " If these rows belong to no group, model them as noise: noise=True."
    if mostly_empty(fit)[worst]:
        advice = (
            f"In {(rows[:, worst] < 1.0).mean():.0%} of the draws component {worst} holds less "
            "than one row: fewer components describe the data as well."
        )
    return Check(
        "rows in the smallest component",
        float(rows[:, worst].mean()),
        f">= {needed:g}",
        "ok" if good else "warn",
        f"Number of rows that component {worst} holds"
        + (", averaged over the draws." if len(rows) > 1 else ".")
        + (few if not good and len(rows) > 1 else ""),
        "" if good else advice,
    )


def _of_weights(fit: Fitted) -> Iterator[Check]:
    """Check whether sample weights count rows, where there are any."""
    data = fit.dataset
    if data.sample_weight is None:
        return
    total, needed = data.total_weight, ROWS_PER_COMPONENT * fit.model.n_components
    good = total >= needed
    by_likelihood = isinstance(fit.info, RestartInfo) and fit.info.objective == "log likelihood"
    harm = (
        "AIC, BIC, ICL and the search's tolerance mean little"
        if by_likelihood
        else "the posterior is nearly the prior"
    )
    yield Check(
        "sum of the sample weights",
        total,
        f">= {needed:g}",
        "ok" if good else "warn" if by_likelihood else "fail",
        "The data count as this many rows: a row with sample weight w counts w times.",
        ""
        if good
        else f"With a sum this small, {harm}. If the weights are shares or probabilities, multiply "
        f"them by the number of rows, {data.n_rows:,}.",
    )


def _of_pairs(fit: Fitted) -> Iterator[Check]:
    """Say which correlations the data do not know, since values are missing."""
    pairs = pairs_hardly_together(fit)
    if not pairs:
        return
    names = fit.dataset.feature_names
    listed = ", ".join(f"{names[i]} and {names[j]}" for i, j in pairs[:_PAIRS_NAMED])
    more = f" and {len(pairs) - _PAIRS_NAMED} more" if len(pairs) > _PAIRS_NAMED else ""
    by_likelihood = isinstance(fit.info, RestartInfo) and fit.info.objective == "log likelihood"
    source = "is arbitrary" if by_likelihood else "comes from the prior"
    yield Check(
        "features seen together",
        len(pairs),
        "0",
        "warn",
        "Number of pairs of features that are never, or hardly ever, observed in the same row: "
        f"{listed}{more}. Their correlation within a component {source}.",
        "Do not interpret these correlations, or predictions of one such feature from the other. "
        'covariance_type="diag" has no correlations.',
    )


def _of_labelling(fit: Fitted) -> Iterator[Check]:
    """Check whether the components can be told apart, where only the draws could tell them."""
    if fit.kind == "point" or len(fit.free_components) < 2:
        return
    labelling = labelling_of(fit)
    i, j = labelling.least_settled
    value = float(labelling.exchange[i, j])
    good = value <= EXCHANGED_OK
    yield Check(
        "labelling",
        value,
        f"<= {EXCHANGED_OK:g}",
        "ok" if good else "warn",
        f"Probability, averaged over the draws, that components {i} and {j} could be exchanged. "
        "No other pair is harder to tell apart.",
        ""
        if good
        else f"Means and intervals of components {i} and {j} are a blend of both. Densities, "
        "predictions of new rows, the log likelihood and the sorted weights are not affected, "
        "since they have no labels. Use fewer components, or priors that tell the components "
        "apart.",
    )


def _of_modes(fit: Fitted, info: McmcInfo) -> Iterator[Check]:
    """Check whether all chains are in one mode, and say where they started."""
    modes = pieces_by_mode(fit)
    starts = Counter(round(start.objective, 4) for start in info.starts)
    ranked = sorted(starts.items(), reverse=True)
    listed = ", ".join(f"{n} at log likelihood {value:.2f}" for value, n in ranked)
    where = f" They started around {len(starts)} different optima that EM found: {listed}."
    if len(starts) < 2:
        where = " They all started around the one plausible optimum that EM found." * len(starts)
    if fit.started_by_hand:
        where = " They all started around the given starting values."
    if info.left:
        first = max(start.objective for start in info.left)
        where += f" A first run, started at log likelihood {first:.2f}, led there."
    yield from _of_starts(fit, info)
    yield from _of_likelihood(fit, info)
    if len(modes) == 1:
        yield Check("modes", 1, "1", "ok", f"All chains are in one mode.{where}")
        return
    chains = [chains_of(pieces) for pieces in modes]
    moved = [c for c in range(len(fit.lp)) if sum(c in each for each in chains) > 1]
    means = "; ".join(
        f"{chains_words(own)} (log joint {_mean_lp(fit, pieces):.2f})"
        for own, pieces in zip(chains, modes, strict=True)
    )
    yield Check(
        "modes",
        len(modes),
        "1",
        "fail",
        f"Chains are in different modes: {means}; {moved_words(moved)}.{where}",
        "Do not pool the chains: the number of chains in a mode says nothing about its "
        "probability. fit.combined() weights the modes by their evidence and gives one posterior; "
        "fit.modes has a fit of each mode.",
    )


def _of_starts(fit: Fitted, info: McmcInfo) -> Iterator[Check]:
    """Say if draws are so far above the best start that the posterior's mode is elsewhere.

    Where the prior has moved a mode away from the likelihood's maximum, this lies above it by about
    half a nat for each parameter at most, and all draws below the maximum. Draws in which a
    component has shrunk onto fewer rows than its covariance needs may lie anywhere above: they are
    no mode.
    """
    if not info.starts or fit.started_by_hand:
        return
    best = max(start.objective for start in info.starts)
    allowed = ABOVE_START + 0.5 * fit.model.n_parameters(fit.dataset.n_features)
    reached = fit.total_log_likelihood.ravel() - best
    highest = np.argsort(-reached, kind="stable")[: min(_HIGHEST, int((reached > allowed).sum()))]
    data, draws = fit.dataset, fit.drawn.reshape(-1)
    least = fit.model.structure.min_rows(data.n_features)

    def is_spike(draw: int) -> bool:
        rows = draws[draw].responsibilities(data.x, data.labels).sum(axis=-1)
        return bool(((rows > 0.5) & (rows < least)).any())

    above = next((float(reached[i]) for i in highest.tolist() if not is_spike(i)), 0.0)
    if above > allowed:
        yield Check(
            "draws above the best start",
            above,
            f"<= {allowed:g}",
            "warn",
            "How far, in nats, the log likelihood of the best draw is above that of the best mode "
            f"around which chains started ({best:.2f}). There is a better mode elsewhere.",
            "Fit again with init=fit, so that all chains start from the best draw, and compare.",
        )


def _of_likelihood(fit: Fitted, info: McmcInfo | VariationalInfo) -> Iterator[Check]:
    """Say if the priors outweigh the best optimum of the likelihood."""
    if not info.outweighed or fit.started_by_hand:
        return
    (optimum,) = info.outweighed
    allowed = 0.5 * fit.model.n_parameters(fit.dataset.n_features)
    held = optimum.mixture.weights * fit.dataset.total_weight
    advice = 'Compare with method="em", and state priors that allow such components.'
    if fit.model.structure.correlated:
        advice = (
            "Strongly correlated features make components flat, and the default priors make flat "
            "components improbable. Fit whitened features, too: Z = np.linalg.solve("
            "np.linalg.cholesky(np.cov(X.T)), (X - X.mean(axis=0)).T).T."
        )
    yield Check(
        "optimum of the likelihood",
        optimum.objective - max(start.objective for start in info.starts),
        f"<= {allowed:g}",
        "warn",
        "How far, in nats, the best optimum of the likelihood is above the best mode of the "
        f"posterior that was found. Its components hold {', '.join(f'{n:.0f}' for n in held)} "
        "rows. The priors, not the data, decide against it.",
        advice,
    )


def _mean_lp(fit: Fitted, pieces: tuple[Piece, ...]) -> float:
    return float(np.mean([fit.lp[chain, first:end].mean() for chain, first, end in pieces]))


def _may_matter(mode: WeighedMode, best: WeighedMode) -> bool:
    """Whether a mode has, or within five errors of its evidence could have, a share to count."""
    highest = mode.log_evidence + 5.0 * mode.error
    return mode is best or highest - best.log_evidence >= float(np.log(MODE_MATTERS))


def _of_combination(fit: Fitted, combination: Combination) -> Iterator[Check]:
    """Check the weights of modes that were combined, and each mode by its own chains."""
    modes = combination.modes
    matter = [m for m, mode in enumerate(modes) if _may_matter(mode, modes[0])]
    yield _weights_of_modes(modes, matter)
    worst = max(matter, key=lambda m: modes[m].outside)
    apart = modes[worst].outside
    yield Check(
        "modes apart",
        apart,
        f"<= {MODE_OVERLAP_OK:g}",
        "ok" if apart <= MODE_OVERLAP_OK else "warn",
        f"Share of the draws in mode {worst} that look as if they were in another mode. No other "
        "mode has a larger share.",
        ""
        if apart <= MODE_OVERLAP_OK
        else "The modes run into each other, so part of the posterior may be counted twice. Run "
        "longer chains, until they move between the modes.",
    )
    if isinstance(fit.info, McmcInfo):
        yield from _of_chains_in_modes(fit, fit.info, [combination.fits[m] for m in matter])


def _of_chains_in_modes(fit: Fitted, info: McmcInfo, fits: list[Fitted]) -> Iterator[Check]:
    """Check a combined fit by the chains in its modes.

    R-hat and effective sample sizes are those of the whole: what is wrong in a mode of small
    weight does little harm, and brings a warning at the most.
    """
    each: dict[str, list[Check]] = {}
    for own in fits:
        for check in _of_chains(own, own.info) if isinstance(own.info, McmcInfo) else ():
            each.setdefault(check.name, []).append(check)
    for check in _of_chains(fit, info):
        of_modes = each.get(check.name, [])
        if check.name not in OF_ALL_CHAINS or not of_modes:
            yield check
            continue
        worst = max((own.verdict for own in of_modes), key=_VERDICTS.index)
        milder = _VERDICTS[max(0, _VERDICTS.index(worst) - 1)]
        verdict = min(worst, max(milder, check.verdict, key=_VERDICTS.index), key=_VERDICTS.index)
        values = ", ".join(f"{own.value:.4g}" for own in of_modes)
        advice = next((own.advice for own in of_modes if own.verdict == worst), "")
        yield replace(
            check,
            verdict=verdict,
            meaning=f"{check.meaning} Within each mode, from its own chains: {values}.",
            advice=advice if verdict != "ok" else "",
        )
    for name in ("tree depth", "E-BFMI"):
        if name in each:
            yield max(each[name], key=lambda own: _VERDICTS.index(own.verdict))


def _weights_of_modes(modes: tuple[WeighedMode, ...], matter: list[int]) -> Check:
    """Check whether the evidence says well enough how probable each mode is."""
    error = max(mode.weight_error for mode in modes)
    doubts = {modes[m].doubt: None for m in matter if modes[m].doubt}
    listed = "; ".join(
        f"mode {m} ({chains_words(mode.chains)}) {mode.weight:.3g} "
        f"(standard error {mode.weight_error:.1g})"
        for m, mode in enumerate(modes)
    )
    alone = [f"mode {m}" for m in matter if len(modes[m].chains) == 1]
    missed = (
        f" Only one chain has been in {' and in '.join(alone)}. Similar modes may have been "
        "missed: run more chains to find out."
        if alone
        else ""
    )
    verdict: Verdict = "ok" if error <= MODE_WEIGHT_ERROR_OK and not doubts else "warn"
    if error > MODE_WEIGHT_ERROR_FAIL:
        verdict = "fail"
    return Check(
        "weights of the modes",
        error,
        f"<= {MODE_WEIGHT_ERROR_OK:g}",
        verdict,
        f"Largest standard error of a mode's share of the posterior. {len(modes)} modes were "
        f"combined, weighted by their evidence: {listed}.{missed}",
        f"The evidence of a mode cannot be trusted: {' '.join(doubts)}"
        if doubts
        else ""
        if verdict == "ok"
        else "Increase the number of draws, so that the modes' shares are known better.",
    )


def _of_chains(fit: Fitted, info: McmcInfo) -> Iterator[Check]:
    from stangmm.posterior.summary import convergence

    chains = len(fit.lp)
    values = convergence(fit)
    yield _r_hat(fit, values["r_hat"], chains)
    needed = ESS_PER_CHAIN * chains
    for key, part in (("ess_bulk", "bulk ESS"), ("ess_tail", "tail ESS")):
        value = values[key]
        yield Check(
            part,
            value,
            f">= {needed}",
            "ok" if value >= needed else "warn" if value >= needed / 4 else "fail",
            "Effective sample size of the worst parameter, in the "
            + ("bulk (means)." if part.startswith("bulk") else "tails (5% and 95% quantiles)."),
            "" if value >= needed else "Increase the number of draws.",
        )
    if "diverging" in info.sample_stats:
        yield _divergences(info.sample_stats["diverging"])
    if "tree_depth" in info.sample_stats and info.max_tree_depth is not None:
        yield _tree_depth(info.sample_stats["tree_depth"], info.max_tree_depth)
    if "energy" in info.sample_stats:
        yield _energy(info)


def _divergences(diverging: FloatArray) -> Check:
    divergent = int(diverging.sum())
    share = divergent / diverging.size
    return Check(
        "divergences",
        divergent,
        "0",
        "ok" if not divergent else "warn" if share < DIVERGENT_SHARE_FAIL else "fail",
        "Draws at which the sampler could not follow the curvature of the posterior. If there are "
        "any, part of the posterior may be missing.",
        ""
        if not divergent
        else "Increase adapt_delta (0.99, 0.999), or use a more informative prior of the scales.",
    )


def _tree_depth(depths: FloatArray, limit: int) -> Check:
    deep = float((depths >= limit).mean())
    return Check(
        "tree depth",
        deep,
        f"<= {DEEP_SHARE_OK:g}",
        "ok" if deep <= DEEP_SHARE_OK else "warn",
        "Share of the draws that reached the maximum tree depth: slow, but not wrong.",
        "" if deep <= DEEP_SHARE_OK else "Increase max_tree_depth.",
    )


def _energy(info: McmcInfo) -> Check:
    energy = float(np.min(e_bfmi(np.asarray(info.sample_stats["energy"]))))
    return Check(
        "E-BFMI",
        energy,
        f"> {E_BFMI_OK}",
        "ok" if energy > E_BFMI_OK else "warn",
        "How well the worst chain moves between energy levels.",
        "" if energy > E_BFMI_OK else "Run longer chains. A heavy-tailed prior may be the reason.",
    )


def _r_hat(fit: Fitted, value: float, chains: int) -> Check:
    threshold = f"< {R_HAT_OK}"
    if chains == 1:
        return Check(
            "R-hat",
            value,
            threshold,
            "warn",
            "With a single chain, convergence cannot be judged.",
            "Run four chains.",
        )
    good = value < R_HAT_OK
    verdict: Verdict = "ok" if good else "warn" if value < R_HAT_FAIL else "fail"
    meaning = (
        "Do the chains agree? This is the worst value of all parameters, after relabelling, and of "
        "the log joint density."
    )
    advice = "" if good else "Run longer chains, and look at the trace: a chain may be stuck."
    if not good and not (labelling := labelling_of(fit)).settled:
        free = labelling.label_free["r_hat"]
        meaning += f" For the log joint, log likelihood and sorted weights it is {free:.4g}."
        if free < R_HAT_OK:
            verdict = "warn"
            advice = "The chains agree on all that has no labels; see the check of labelling."
    return Check("R-hat", value, threshold, verdict, meaning, advice)


def _of_approximation(fit: Fitted, info: VariationalInfo) -> Iterator[Check]:
    from stangmm.methods.psis import pareto_k

    if len(info.elbo):
        yield Check(
            "ELBO",
            float(info.elbo[-1]),
            "converged",
            "ok" if info.converged else "fail",
            "The evidence lower bound at the end of the optimization.",
            ""
            if info.converged
            else "Increase iterations, or loosen tolerance if the trace is flat.",
        )
        if info.starts:
            yield _rows_kept(fit, info)
    elif not info.converged:
        yield Check(
            "mode",
            0.0,
            "1",
            "fail",
            "Whether the search for the mode, at which the approximation is centred, converged.",
            "Increase max_iterations.",
        )
    yield from _of_likelihood(fit, info)
    if info.resampled:
        yield from _of_resampled(info)
        return
    k = pareto_k(info)
    yield Check(
        "Pareto k-hat",
        k,
        f"< {PARETO_K_OK}",
        "ok" if k < PARETO_K_OK else "fail",
        "How far the approximation is from the posterior. At or above the threshold, not even "
        "importance weights can correct its draws.",
        ""
        if k < PARETO_K_OK
        else "Treat means as rough and intervals as too narrow. Use NUTS, or for ADVI "
        'algorithm="fullrank".',
    )


def _of_resampled(info: VariationalInfo) -> Iterator[Check]:
    """Check draws that have been resampled by importance weights."""
    from stangmm.methods.psis import importance_weights

    weights, k = importance_weights(info)
    good = k < PARETO_K_OK
    yield Check(
        "Pareto k-hat",
        k,
        f"< {PARETO_K_OK}",
        "ok" if good else "fail",
        "Whether importance weights can correct the approximation. Below the threshold the "
        "resampled draws are draws from the posterior.",
        "" if good else 'The posterior is too far from a normal distribution. Use method="nuts".',
    )
    effective = float(1.0 / (weights**2).sum())
    enough = effective >= EFFECTIVE_OK
    yield Check(
        "effective draws",
        effective,
        f">= {EFFECTIVE_OK}",
        "ok" if enough else "warn" if effective >= EFFECTIVE_FAIL else "fail",
        "How many independent draws of the posterior the weighted draws are worth.",
        "" if enough else 'Use more draws, Laplace(draws=20000), or method="nuts".',
    )
    if info.log_p_error > LOG_P_ERROR_OK:
        yield Check(
            "error of the log density",
            info.log_p_error,
            f"<= {LOG_P_ERROR_OK:g}",
            "warn",
            "Standard error of a draw's log posterior density, in nats. The density is estimated "
            "from a sample of the rows.",
            "Components may overlap too much for the expansion of the likelihood. Use fewer "
            "components, or load the rows into memory.",
        )
    if info.missed:
        little = info.missed < MISSED_OK
        yield Check(
            "posterior without rows",
            info.missed,
            f"< {MISSED_OK:g}",
            "ok" if little else "warn" if info.missed < MISSED_FAIL else "fail",
            "Approximate share of the posterior in which a component holds no row. The draws miss "
            "this part.",
            ""
            if little
            else 'Use fewer components, or method="nuts", whose chains also start there.',
        )


def _rows_kept(fit: Fitted, info: VariationalInfo) -> Check:
    """Check whether the approximation still has the components that it began with."""
    draws = fit.drawn.reshape(-1)
    some = draws[np.linspace(0, len(fit.mixture.weights) - 1, _ROWS_KEPT_DRAWS).astype(int)]
    data = fit.dataset
    value = rows_kept(info.starts[0].mixture, some, data.x, data.labels)
    good = value >= ROWS_KEPT_OK
    return Check(
        "components of the start",
        value,
        f">= {ROWS_KEPT_OK:g}",
        "ok" if good else "warn",
        "Share of its rows that a component has kept since the start, for the component that has "
        "kept the smallest share.",
        ""
        if good
        else "The approximation has lost a component that EM found: it now holds no rows, or "
        "different ones. Use NUTS, which shows how probable each solution is.",
    )


def _of_restarts(fit: Fitted, info: RestartInfo) -> Iterator[Check]:
    best, n = info.best, len(info.values)
    if info.regularized:
        yield _no_maximum(fit)
    yield Check(
        "converged",
        float(best.converged),
        "1",
        "ok" if best.converged else "fail",
        f"Whether the best run ended because the {info.objective} had stopped growing.",
        "" if best.converged else "Increase max_iterations.",
    )
    yield Check(
        "restarts at the best optimum",
        best.restarts,
        "> 1",
        "ok" if best.restarts > 1 or n == 1 else "warn",
        f"How many of {n} restarts found the best maximum. Different maxima found: "
        f"{len(info.optima)}.",
        ""
        if best.restarts > 1 or n == 1
        else "Increase restarts: there may be a better optimum that none of them found.",
    )
    if len(info.optima) > 1:
        gap = best.objective - info.optima[1].objective
        yield Check(
            "gap to the next optimum",
            gap,
            f">= {GAP_OK:g}",
            "ok" if gap >= GAP_OK else "warn",
            f"How far, in nats, the best {info.objective} is above the next one that was found.",
            ""
            if gap >= GAP_OK
            else "Another solution explains the data nearly as well: see fit.info.optima, and let "
            'method="nuts" weigh the two.',
        )
    collapsed = int(info.collapsed.sum())
    many = collapsed > COLLAPSED_SHARE_OK * n
    yield Check(
        "collapsed restarts",
        collapsed,
        f"<= {COLLAPSED_SHARE_OK * n:g}",
        "warn" if many else "ok",
        f"How many of {n} restarts were left out because a component shrank onto a few rows, or "
        "onto a few equal values.",
        f"The components are more flexible than the data support. {parameters_words(fit)}"
        if many
        else "",
    )


def _no_maximum(fit: Fitted) -> Check:
    """Say that these are no estimates by maximum likelihood, since none was found."""
    k, name = fit.model.n_components, fit.model.structure.name
    return Check(
        "maximum of the likelihood",
        0.0,
        "1",
        "fail",
        "Whether the likelihood has a maximum in which every component holds enough rows. None was "
        "found: in every restart a component shrank onto a few rows, too few to estimate it from. "
        "The estimates are those with one more row in each component, as widely spread as the "
        "data.",
        f'{k} components with "{name}" covariances are too many for these rows, or some rows lie '
        "far from all others: look at the rows that the smallest component holds. Use fewer "
        'components, covariance_type="tied", or draws from the posterior (method="nuts").',
    )


def _of_ties(fit: Fitted) -> Iterator[Check]:
    """Say which components are as narrow as the data's rounding: they stand on equal values."""
    narrow = narrow_as_rounding(fit)
    if not narrow.any():
        return
    names = [fit.dataset.feature_names[d] for d in np.flatnonzero(narrow.any(axis=0))]
    correlated = fit.priors.space(fit.model.structure).n_correlations
    given = ", given the features before," if correlated else ""
    what = "likelihood depends" if fit.kind == "point" else "posterior and its evidence depend"
    yield Check(
        "components on equal values",
        int(narrow.any(axis=1).sum()),
        "0",
        "warn",
        f"Number of components that are only as wide in {', '.join(names)}{given} as the rounding "
        "of the values: they sit on values that occur many times. Their scale there is that of "
        f"the rounding, and the {what} on it.",
        "Check whether these values are measurements or stand for something else (zero, a limit, a "
        "guess). If some were rounded more coarsely than others, give that rounding step: "
        "Priors(resolution=...).",
    )
