"""What the reports say in words: the answer, the advice, and how numbers are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm.base.thresholds import MEANS_APART, SAME_CLUSTERS, TOO_SURE
from stangmm.judge.chains import chains_words
from stangmm.judge.diagnostics import Diagnosis, diagnose
from stangmm.judge.goodness import goodness_of_fit
from stangmm.judge.leave_one_out import bad_rows
from stangmm.judge.modes import is_divided, modes_of
from stangmm.judge.prior_posterior import prior_posterior
from stangmm.judge.subsampling import subsample_words
from stangmm.plots.mixtures import ranked_features
from stangmm.plots.shown import Compared
from stangmm.posterior.fitted import Combination, Fitted, has_priors
from stangmm.report.numbers import count, fixed, number, percent
from stangmm.report.tables import UndecidedRows, component_rows

if TYPE_CHECKING:
    import pandas as pd

    from stangmm.judge.elpd import Loo


FEATURES_PLACED = 3  # features in which an answer says where components lie
_PLACES = 6  # components of which it says so
_MODES = 4  # that are shown, of chains in several
# Posteriors that are all so many times as narrow as their priors need no picture beside them.
_NARROWER = 5.0
_METHODS = {
    "em": "EM",
    "regularized_em": "regularized EM",
    "optimize": "optimization",
    "advi": "ADVI",
    "nuts": "NUTS",
    "pathfinder": "Pathfinder",
    "laplace": "Laplace's method",
    "stan_laplace": "Stan's Laplace approximation",
}


def components_words(k: int) -> str:
    """How many components, to begin a sentence."""
    return count(k, "component").capitalize()


def method_words(name: str) -> str:
    """Name of a method as it is written in a sentence."""
    return _METHODS.get(name, name)


def data_words(of: Fitted | Compared) -> str:
    """The data, the covariance type and the seed in a line."""
    data = of.dataset
    weighted = "" if data.sample_weight is None else f", total weight {data.total_weight:g}"
    if data.incomplete:
        weighted += f", {int(np.isnan(data.x).sum()):,} values missing and integrated out"
    if data.labels is not None:
        weighted += f", {int((data.labels >= 0).sum()):,} rows with a known component"
    return (
        f"{data.n_rows:,} rows, {data.n_features} "
        f"{'feature' if data.n_features == 1 else 'features'} ({listed(data.feature_names)})"
        f'{weighted}; covariance type "{of.model.covariance_type}"; seed {of.seed}'
    )


def listed(names: tuple[str, ...], most: int = 6) -> str:
    """Write names in a row, the first six if there are many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def opening_words(fit: Fitted, modes: int) -> str:
    """What was fitted, and what the list of the components below it says."""
    data, k = fit.dataset, fit.model.n_components
    one, interval = k == 1, "" if fit.kind == "point" else " with its 90% interval"
    verb = "describes" if one else "describe"
    if misfit_words(fit) or modes > 1:
        verb = "was fitted to" if one else "were fitted to"
    what = "this mean" if data.n_features == 1 else "these means"
    if data.n_features > FEATURES_PLACED:
        which = "the first" if one else "those in which the components differ most"
        what += f" ({count(FEATURES_PLACED, 'feature')} of {data.n_features}, {which})"
    if one:
        says = f"It has {what}:"
    else:
        says = f"Each component has this share of the data{interval}, and {what}:"
    if modes > 1:
        says = f"{modes_words(modes)} {says}"
    names = data.feature_names
    features = listed(names)
    if 1 < len(names) <= 6:
        features = f"{', '.join(names[:-1])} and {names[-1]}"
    opening = f"{components_words(k)} {verb} {data.n_rows:,} rows of {features}."
    return " ".join(filter(None, [opening, data.sample_note, noise_words(fit), says]))


def noise_words(fit: Fitted) -> str:
    """What the noise holds; empty without noise."""
    noise = fit.mixture.noise
    if noise is None:
        return ""
    share = percent(fit.noise_weight)
    if fit.kind != "point":
        low, high = np.quantile(noise.weight, [0.05, 0.95])
        share += f" ({percent(low)} to {percent(high)})"
    return f"Uniform noise beside them holds {share} of the data."


@dataclass(frozen=True)
class Place:
    """Where a component lies, in words.

    Attributes
    ----------
    k : int
    share : str
        Of the data, with its interval if there are draws; empty for a single component.
    means : str
        In the features that tell the components apart best.
    """

    k: int
    share: str
    means: str


@dataclass(frozen=True)
class Solution:
    """A fit that an answer describes, or the fit of one of several modes.

    Attributes
    ----------
    title : str
        Which mode it is; empty for a fit that is not divided.
    fit : Fit
    components : list of dict
        As `component_rows` gives them.
    """

    title: str
    fit: Fitted
    components: list[dict[str, Any]]

    @property
    def places(self) -> list[Place]:
        """Where the components lie, the largest first, without the smallest of many."""
        features = sorted(ranked_features(self.fit)[:FEATURES_PLACED])
        found = []
        for row in self._by_weight[:_PLACES]:
            weight, share = row["weight"], ""
            if len(self.components) > 1:
                share = percent(weight["mean"])
                if self.fit.kind != "point":
                    share += f" ({percent(weight['low'])} to {percent(weight['high'])})"
            cells = (row["features"][j] for j in features)
            means = ", ".join(f"{f['name']} {number(f['mean']['mean'], f['unit'])}" for f in cells)
            found.append(Place(row["k"], share, means))
        return found

    @property
    def others(self) -> str:
        """What the components hold that `places` leaves out; empty if there are none."""
        weights = [row["weight"]["mean"] for row in self._by_weight[_PLACES:]]
        if not weights:
            return ""
        verb = "holds" if len(weights) == 1 else "together hold"
        return f"The other {count(len(weights), 'component')} {verb} {percent(sum(weights))}."

    @property
    def _by_weight(self) -> list[dict[str, Any]]:
        return sorted(self.components, key=lambda row: -row["weight"]["mean"])


def solutions_of(fit: Fitted, parameters: pd.DataFrame | None = None) -> tuple[list[Solution], int]:
    """Give the fit as one solution or, if its chains are in several modes, some of them; how many.

    ``parameters`` is what ``fit.summary()`` gave, so that it is not computed again.
    """
    if not is_divided(fit):
        return [Solution("", fit, list(component_rows(fit, parameters)))], 1
    modes = modes_of(fit)
    named = islice(zip(modes.chains, modes.fits, strict=True), _MODES)
    solutions = [
        Solution(f"Mode {m}, {chains_words(chains)}", own, list(component_rows(own)))
        for m, (chains, own) in enumerate(named)
    ]
    return solutions, len(modes)


def modes_words(modes: int) -> str:
    """Say that the chains are in several modes, and which of these are shown."""
    most = f" The {_MODES} of highest log joint density are shown." if modes > _MODES else ""
    return (
        f"The chains are in {count(modes, 'different mode')} and do not say how probable each is, "
        f"so the modes are shown separately.{most}"
    )


def closing_words(
    fit: Fitted, diagnosis: Diagnosis, undecided: UndecidedRows | None, modes: int
) -> Iterator[str]:
    """Whether the answer can be trusted: sentences below the list of the components."""
    misfit = misfit_words(fit) if modes == 1 else ""
    if undecided is not None and undecided.asked:
        yield (
            "Every row clearly belongs to one component."
            if not undecided.count
            else f"{percent(1 - undecided.share)} of the rows clearly belong to one component."
        )
    if fit.combination is not None:
        yield combination_words(fit.combination)
    if misfit:
        yield misfit
    yield _verdict_words(fit, diagnosis.computation, bool(misfit))
    if fit.reason:
        yield fit.reason


def misfit_words(fit: Fitted) -> str:
    """Say how the data differ from the mixture, and what to try; empty if they do not."""
    found = goodness_of_fit(fit)
    if found is None or found.verdict == "ok":
        return ""
    worst = found.misfits[0]
    head = {
        "fail": "The mixture does not describe these data:",
        "warn": "The mixture does not quite describe these data:",
    }[found.verdict]
    return f"{head} {worst.words} {worst.advice}"


def fitting_words(fit: Fitted) -> str:
    """Say that the data are distributed like the mixture; empty if not, or for few rows."""
    found = goodness_of_fit(fit)
    if found is None or found.verdict != "ok" or not found.asked_shape:
        return ""
    several = fit.dataset.n_features > 1
    what = "each feature and of the joint density" if several else "the distribution"
    return (
        f"A test of {what} finds no misfit (p = {found.p_value:.2g}). fit.plot.pit() draws the "
        "comparison."
    )


def combination_words(combination: Combination) -> str:
    """Say of which modes a fit was combined, with their shares."""
    modes = combination.modes
    shares = ", ".join(
        f"{percent(mode.weight)} ± {percent(mode.weight_error)}" for mode in modes[:4]
    )
    more = f" and {len(modes) - 4} smaller ones" if len(modes) > 4 else ""
    return (
        f"The posterior has {len(modes)} modes, between which chains do not move freely. The modes "
        f"were combined, weighted by their evidence ({shares}{more})."
    )


def decided_words(fit: Fitted) -> str:
    """Say that the data decide, not the priors; nothing where a picture should show both."""
    if fit.kind == "point" or not has_priors(fit):
        return ""
    found = prior_posterior(fit)
    if found.apart or found.narrower < _NARROWER:
        return ""
    what = "mean and scale" if fit.model.n_components == 1 else "weight, mean and scale"
    return (
        f"The data decide: for every {what}, the middle half of the prior is at least "
        f"{int(found.narrower)} times as wide as that of the posterior. fit.plot.priors() draws "
        "both."
    )


def undecided_words(undecided: UndecidedRows) -> str:
    """How many rows are undecided, before the table of them."""
    if not undecided.asked:
        return "The component of every row was known."
    of = f"{undecided.asked:,} rows"
    if not undecided.count:
        return f"None of {of} is undecided: each has a component with probability 0.9 or more."
    n, shown = undecided.count, len(undecided.rows)
    table = "They are" if n == shown else f"The {shown} most undecided are"
    if n == 1:
        table = "It is"
    return (
        f"{n:,} of {of} ({percent(undecided.share)}) {'is' if n == 1 else 'are'} undecided: no "
        f"component has a probability of 0.9 or more. {table} in the table."
    )


def loo_left_out(fit: Fitted) -> str:
    """Why the report has no leave-one-out."""
    if fit.kind != "point":
        return (
            f"Leave-one-out needs all {fit.dataset.n_rows:,} rows, but the fit holds only a sample."
        )
    return (
        "Leave-one-out needs draws from the posterior, which a point estimate does not have; fit "
        'with method="nuts" to get it.'
    )


def loo_words(fit: Fitted, result: Loo) -> str:
    """What leave-one-out gives, and what it is good for."""
    bad = len(bad_rows(fit, result))
    doubt = (
        f" It cannot be trusted as it stands, since {count(bad, 'row')} "
        f"{'lies' if bad == 1 else 'lie'} above the line; fit.loo(refit=True) computes "
        f"{'it' if bad == 1 else 'them'} exactly."
        if bad
        else f" It can be trusted: the Pareto k of every row is below {fixed(result.good_k, 2)}."
    )
    sampled = ""
    if result.subsample is not None:
        sampled = f" {subsample_words(result.subsample, result.subsampling_se)}"
    return (
        "By leave-one-out, the expected log predictive density (ELPD) of "
        f"{fit.dataset.total_weight:,.6g} new rows is {fixed(result.elpd, 1)} ± "
        f"{fixed(result.se, 1)}, with {fixed(result.p, 1)} effective parameters. By "
        "itself the number says little; of two models of the same data, the one with the higher "
        f"ELPD predicts better.{sampled}{doubt}"
    )


def _verdict_words(fit: Fitted, computation: Diagnosis, misfit: bool) -> str:
    verdict = computation.verdict
    open_checks = [check for check in computation if check.verdict != "ok"]
    names = ", ".join(check.name for check in open_checks)
    if any(check.name == "modes" for check in open_checks):  # the others follow from that
        open_checks = [computation["modes"]]
    if verdict == "ok" and misfit:
        return "The computation passed all its checks."
    if verdict == "ok" and fit.resampled:
        return "The fit passed every check: estimates and intervals can be used as they stand."
    if verdict == "ok":
        return {
            "mcmc": "The fit passed every check: estimates and intervals can be used as they "
            "stand.",
            "approximation": "The fit passed every check. Its draws come from an approximation of "
            "the posterior, so intervals can still be somewhat too narrow.",
            "point": "The fit passed every check. It is a single best estimate, without its "
            "uncertainty; NUTS gives that.",
        }[fit.kind]
    advice = " ".join(dict.fromkeys(check.advice for check in open_checks if check.advice))
    if verdict == "warn":
        return f"Use this fit with care: it did not pass every check ({names}). {advice}"
    return f"Do not rely on this fit as it stands: it failed checks ({names}). {advice}"


def leading_method(comparison: Compared) -> tuple[str, str]:
    """Method that the report is headed by, and its verdict: the reference, or the best status."""
    if not comparison.fits:
        return "", "error"
    table, reference = comparison.table, comparison.reference
    states = {label: str(table.loc[label, "status"]) for label in comparison.fits}
    label = reference or min(states, key=lambda each: ["ok", "warn", "fail"].index(states[each]))
    return label, diagnose(comparison.fits[label]).verdict


def comparison_answer(comparison: Compared) -> Iterator[str]:
    """The sentences of a comparison's answer: which method to use, and why."""
    reference = comparison.reference
    if comparison.failures:
        names = ", ".join(comparison.failures)
        yield f"{count(len(comparison.failures), 'method').capitalize()} did not run ({names})."
    if not comparison.fits:
        yield "There is nothing to compare; the reasons are in the table."
    elif reference is None:
        yield (
            "No method here draws from the posterior itself, so there is nothing to compare the "
            "others with."
        )
        yield _first_look(comparison)
        yield "Add nuts before you report intervals."
    elif comparison.table.loc[reference, "status"] == "fail":
        yield from _without_authority(comparison, reference)
    else:
        yield from _by_reference(comparison, reference)
    label, _ = leading_method(comparison)
    if label and (misfit := misfit_words(comparison.fits[label])):
        yield misfit


def _first_look(comparison: Compared) -> str:
    """Which method will do until there are draws from the posterior to be relied on."""
    table = comparison.table
    good = table[(table["status"] == "ok") & (table["kind"] != "mcmc")]
    if not len(good):
        return "No other method passed every check, so none will do for a first look either."
    label = str(good["seconds"].astype(float).idxmin())
    what = {
        "point": "a single best estimate, without its uncertainty",
        "approximation": "an approximation, whose intervals can be too narrow",
    }[str(good.loc[label, "kind"])]
    return f"For a first look, {label} passed its own checks: it gives {what}."


def _without_authority(comparison: Compared, reference: str) -> Iterator[str]:
    """What can be said when the draws to measure by are not to be relied on."""
    names, advice = _open_checks(comparison, reference)
    yield (
        f"{reference} is the reference, but it failed its checks ({names}). Do not report its "
        "intervals, and do not judge other methods by how near they are to it. "
        f"{advice}"
    )
    table = comparison.table
    others = table[(table["kind"] == "mcmc") & (table["status"] == "ok")]
    if len(others):
        yield (
            f"{others.index[0]} passed every check: list it before {reference}, and it becomes the "
            "reference."
        )
    else:
        yield _first_look(comparison)


def _by_reference(comparison: Compared, reference: str) -> Iterator[str]:
    """Which method to use, and what the others are good for, measured by the reference."""
    table = comparison.table
    seconds = comparison.fits[reference].seconds
    if table.loc[reference, "status"] == "ok":
        yield (
            f"Use {reference}: it draws from the posterior itself, passed every check "
            f"{'of the computation ' if misfit_words(comparison.fits[reference]) else ''}and took "
            f"{number(seconds)} s; its intervals are the ones to report."
        )
    else:
        names, advice = _open_checks(comparison, reference)
        yield (
            f"{reference} draws from the posterior itself and is the reference, but use it with "
            f"care: it did not pass every check ({names}). {advice}"
        )
    alike = (table["agreement"] >= SAME_CLUSTERS) & (table["status"] == "ok")
    same = table[alike & (table["seconds"] < seconds)].sort_values("seconds")
    if len(same):
        label, row = str(same.index[0]), same.iloc[0]
        yield (
            f"If only the clusters matter, {label} does as well: it puts "
            f"{percent(row['agreement'])} of the rows into the same cluster, in "
            f"{number(row['seconds'])} s."
        )
    far = {str(m): d for m, d in table["distance"].to_dict().items() if d > MEANS_APART}
    if far:
        by_how_much = ", ".join(f"{label} by up to {number(d)}" for label, d in far.items())
        maxima = " The maximum of a skewed posterior need not be at its mean."
        yield (
            "Some estimates are more than one posterior standard deviation from the posterior "
            f"means of the reference: {by_how_much}."
            + (maxima if any(comparison.fits[label].kind == "point" for label in far) else "")
        )
    for name, ratio in table["sd_ratio"].dropna().to_dict().items():
        if ratio < TOO_SURE:
            yield (
                f"Intervals by {name} are too narrow: one of its posterior standard deviations is "
                f"{percent(ratio)} of that of the reference."
            )
        elif ratio > 1 / TOO_SURE:
            yield (
                f"Intervals by {name} are too wide: one of its posterior standard deviations is "
                f"{number(ratio)} times that of the reference."
            )


def _open_checks(comparison: Compared, label: str) -> tuple[str, str]:
    """Names of the checks that a fit did not pass, and what to do about them."""
    checks = [c for c in diagnose(comparison.fits[label]).computation if c.verdict != "ok"]
    advice = " ".join(dict.fromkeys(check.advice for check in checks if check.advice))
    return ", ".join(check.name for check in checks), advice
