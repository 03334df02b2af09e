"""What a file holds: kinds of objects and their entries, by names that no change of code changes.

docs/format.md explains the format, and a test compares it with this file. An entry that comes
later needs a default in its class, so that older files can be read; anything else that changes
needs a new `FORMAT`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from stangmm.base.errors import ModelError
from stangmm.data.dataset import AllRows, Dataset
from stangmm.judge.candidates import components_of, type_of
from stangmm.judge.criteria import Score
from stangmm.judge.subsampling import Subsample
from stangmm.methods import method_named
from stangmm.methods.base import AbsentMethod, Method
from stangmm.methods.draws import McmcInfo, Optimum, RestartInfo, VariationalInfo, Warmup
from stangmm.model.covariance import STRUCTURES
from stangmm.model.mixture import Mixture
from stangmm.model.noise import Box, Noise
from stangmm.model.priors import (
    FAMILIES,
    LKJ,
    Dirichlet,
    Normal,
    Priors,
    ResolvedPriors,
    ScalePrior,
)
from stangmm.model.spec import MixtureSpec
from stangmm.posterior.fitted import Combination, Fitted, WeighedMode
from stangmm.saving.contents import (
    Content,
    Sizes,
    count,
    flag,
    flags,
    has_shape,
    integer,
    integers,
    mapping_of,
    number,
    numbers,
    or_null,
    text,
    tuple_of,
    word,
)

# Limits of numbers: those of a double, and the largest index.
_HUGE = float(np.finfo(np.float64).max)
_TINY = float(np.finfo(np.float64).smallest_subnormal)
_FINITE = (-_HUGE, _HUGE)
_ANY = 2**62


@dataclass(frozen=True)
class Entry:
    """One part of an object: its name in the file, the attribute it is of, what it is, the check.

    The content says in words what `accepts` checks.
    """

    name: str
    attribute: str
    content: str
    accepts: Content


@dataclass(frozen=True)
class Kind:
    """One kind of object: its name in the file, what it is, its class (if a lower room has it)."""

    name: str
    about: str
    cls: type | None
    entries: tuple[Entry, ...]


def _kind(name: str, about: str, cls: type | None, *entries: tuple[str, str, str, Content]) -> Kind:
    return Kind(name, about, cls, tuple(Entry(*entry) for entry in entries))


def object_of(*kinds: str) -> Content:
    """Give the check of an object that is of one of some kinds."""

    def accepts(value: Any, sizes: Sizes) -> bool:
        for kind in kinds:
            cls = BY_NAME[kind].cls
            if cls is not None and isinstance(value, cls):
                check(kind, value, sizes)
                return True
        return False

    return accepts


def mixtures(*letters: str) -> Content:
    """Give the check of a batch of mixtures, whose leading axes have the sizes of the letters."""

    def accepts(value: Any, sizes: Sizes) -> bool:
        sizes.pop("...", None)  # each batch has leading axes of its own
        if not object_of("mixtures")(value, sizes):
            return False
        factors = value.corr_chol
        regular = factors is None or (np.diagonal(factors, axis1=-2, axis2=-1) > 0).all()
        return bool(regular) and has_shape(sizes.pop("..."), letters, sizes)

    return accepts


def _prior(family: type, *letters: str) -> Content:
    """Give the check of a prior, whose parameters are single numbers or have these axes."""

    def accepts(value: Any, sizes: Sizes) -> bool:
        if not isinstance(value, family):
            return False
        shapes = [np.shape(argument) for argument in _arguments(value).values()]
        return all(not letters or has_shape(shape, letters, sizes) for shape in shapes)

    return accepts


def _is_method(value: Any, sizes: Sizes) -> bool:
    return isinstance(value, Method)


def _is_path(value: Any, sizes: Sizes) -> bool:
    return numbers("iterations")(value, {})  # of its own length


def _is_resolution(value: Any, sizes: Sizes) -> bool:
    return value is None or np.ndim(value) <= 1  # `Priors` has looked at the numbers


def _is_noise(value: Any, sizes: Sizes) -> bool:
    return isinstance(value, bool | float)  # `MixtureSpec` has looked at the number


def _is_full_resolution(value: Any, sizes: Sizes) -> bool:
    """As `numbers`; a single one is that of all features."""
    letter = "features that share one" if np.shape(value) == (1,) else "D"
    return numbers(letter, within=(0.0, _HUGE))(value, sizes)


def _is_candidate(value: Any, sizes: Sizes) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and text(value[0], sizes) and integer(value[1], sizes)
    return integer(value, sizes)


# N rows, D features, K components, C chains, S draws of each chain.
KINDS = (
    _kind(
        "fit", "What one method made of one model and one data set.", Fitted,
        ("model", "model", "model",
         object_of("model")),
        ("data", "dataset", "data",
         object_of("data")),
        ("method", "settings", "method",
         _is_method),
        ("run", "info", "restarts, variational or mcmc",
         object_of("restarts", "variational", "mcmc")),
        ("priors", "priors", "full priors: those that were used",
         object_of("full priors")),
        ("draws", "mixture", "mixtures (C S), the draws of chain 0 first, labels settled",
         mixtures("CS")),
        ("permutations", "permutations", "integers (C, S, K): component k was drawn as this one",
         integers("C", "S", "K", within=(0, _ANY))),
        ("relabelling", "relabelling", 'how labels were settled: "stephens", "ecr", "means", null',
         or_null(word("stephens", "ecr", "means"))),
        ("log_likelihood", "total_log_likelihood", "numbers (C, S), in nats: of all rows",
         numbers("C", "S")),
        ("log_joint", "lp", "numbers (C, S), in nats: log likelihood and log prior",
         numbers("C", "S")),
        ("seed", "seed", "integer",
         integer),
        ("seconds", "seconds", "number: wall time of the fit",
         number),
        ("versions", "versions", "mapping of packages to their versions",
         mapping_of(text, text)),
        ("started_by_hand", "started_by_hand", "whether the user said where to begin",
         flag),
        ("combination", "combination", "combination: what it was combined of; null",
         or_null(object_of("combination"))),
        ("created_at", "created_at", "text: when it was made, UTC, as ISO 8601 has it; or empty",
         text),
        ("reason", "reason", "text: why method=\"auto\" chose the method; or empty",
         text),
    ),
    _kind(
        "combination", "What a fit was combined of.", Combination,
        ("source", "source", "fit: that with the chains as they were drawn",
         object_of("fit")),
        ("draws", "draws", "integers (C, S): which of the source's draws, chain 0 first",
         integers("C", "S", within=(0, _ANY))),
        ("modes", "modes", "tuple of weighed mode, the most probable first",
         tuple_of(object_of("weighed mode"))),
    ),
    _kind(
        "weighed mode", "A mode of the posterior and its share.", WeighedMode,
        ("pieces", "pieces", "tuple of (chain, first draw, end): the draws that are in it",
         tuple_of(tuple_of(integer, "3"))),
        ("weight", "weight", "number: its share",
         number),
        ("weight_error", "weight_error", "number: standard error of its share",
         number),
        ("log_evidence", "log_evidence", "number, in nats: of this mode alone",
         number),
        ("log_evidence_error", "log_evidence_error", "number, in nats: standard error",
         number),
        ("n_draws", "n_draws", "number: independent draws in the bridge",
         number),
        ("overlap", "overlap", "number: between the mode and the bridge's proposal",
         number),
        ("outside", "outside", "number: share of the draws that look as if in another mode",
         number),
        ("doubt", "doubt", "text, empty when the evidence is to be believed",
         text),
    ),
    _kind(
        "model", "What was fitted.", MixtureSpec,
        ("n_components", "n_components", "integer: K",
         count("K")),
        ("covariance_type", "covariance_type", 'text: a covariance type, such as "full"',
         text),
        ("priors", "priors", "priors, as the user gave them",
         object_of("priors")),
        ("noise", "noise", "truth value: whether there is a uniform component; or its volume",
         _is_noise),
    ),
    _kind(
        "data", "The table, in the user's units.", Dataset,
        ("x", "x", "numbers (N, D), NaN where missing",
         numbers("N", "D", within=_FINITE, missing=True)),
        ("features", "feature_names", "tuple of D names",
         tuple_of(text, "D")),
        ("sample_weight", "sample_weight", "numbers (N,): how often rows count; null: once",
         or_null(numbers("N", within=(0.0, _HUGE)))),
        ("named", "named", "whether the user gave the names",
         flag),
        ("missing", "missing", '"error" or "marginalize"',
         word("error", "marginalize")),
        ("labels", "labels", "integers (N,): known components, -1 where unknown; null: none",
         or_null(integers("N", within=(-1, _ANY)))),
        ("all_rows", "all_rows", "all_rows, where x is a sample of them; null: x is all rows",
         or_null(object_of("all_rows"))),
    ),
    _kind(
        "all_rows", "What is known of data that were read chunk by chunk.", AllRows,
        ("n_rows", "n_rows", "integer: how many rows there are",
         integer),
        ("low", "low", "numbers (D,): smallest value of each feature",
         numbers("D", within=_FINITE)),
        ("high", "high", "numbers (D,): largest value",
         numbers("D", within=_FINITE)),
        ("mean", "mean", "numbers (D,): mean",
         numbers("D", within=_FINITE)),
        ("sd", "sd", "numbers (D,): standard deviation",
         numbers("D", within=(_TINY, _HUGE))),
    ),
    _kind(
        "mixtures", "Mixtures of D features, with leading axes (...).", Mixture,
        ("weights", "weights", "numbers (..., K), summing to 1, or to what the noise leaves",
         numbers("...", "K", within=(0.0, 1.0 + 1e-6))),
        ("means", "means", "numbers (..., K, D)",
         numbers("...", "K", "D", within=_FINITE)),
        ("scales", "scales", "numbers (..., K, D): standard deviations",
         numbers("...", "K", "D", within=(_TINY, _HUGE))),
        ("correlation_factors", "corr_chol", "numbers (..., K, D, D): lower Cholesky factors of "
         "the correlation matrices; null without correlations",
         or_null(numbers("...", "K", "D", "D", within=_FINITE))),
        ("noise", "noise", "noise; null without it",
         or_null(object_of("noise"))),
    ),
    _kind(
        "noise", "A uniform component of mixtures.", Noise,
        ("weight", "weight", "numbers (...)",
         numbers("...", within=(0.0, 1.0 + 1e-6))),
        ("box", "box", "box",
         object_of("box")),
    ),
    _kind(
        "box", "Where the noise lies, in the units of its mixtures.", Box,
        ("lower", "lower", "numbers (D,)",
         numbers("D", within=_FINITE)),
        ("upper", "upper", "numbers (D,), above the lower ones",
         numbers("D", within=_FINITE)),
    ),
    _kind(
        "priors", "Priors of a model; those left out are null.", Priors,
        ("weights", "weights", "prior",
         or_null(_prior(Dirichlet))),
        ("means", "means", "prior",
         or_null(_prior(Normal))),
        ("scales", "scales", "prior",
         or_null(_prior(ScalePrior))),
        ("correlation", "correlation", "prior",
         or_null(_prior(LKJ))),
        ("resolution", "resolution", "numbers () or (D,): steps of rounding; null: as data show",
         _is_resolution),
    ),
    _kind(
        "full priors", "Priors with full shapes; there are C scale vectors of S' scales.",
        ResolvedPriors,
        ("weights", "weights", "prior (K,), or (K + 1,) with noise",
         _prior(Dirichlet, "weights")),
        ("means", "means", "prior (K, D)",
         _prior(Normal, "K", "D")),
        ("scales", "scales", "prior (C, S')",
         _prior(ScalePrior, "scale vectors", "scales")),
        ("correlation", "correlation", "prior",
         _prior(LKJ)),
        ("resolution", "resolution", "numbers (D,): steps of rounding, which bound the scales",
         _is_full_resolution),
        ("box", "box", "box of the noise; null without it",
         or_null(object_of("box"))),
    ),
    _kind(
        "restarts", "Facts of a point estimate.", RestartInfo,
        ("objective", "objective", '"log likelihood" or "log joint": what was maximized',
         word("log likelihood", "log joint")),
        ("optima", "optima", "tuple of optimum, best first",
         tuple_of(object_of("optimum"))),
        ("values", "values", "numbers (restarts,), in nats: where each ended",
         numbers("restarts")),
        ("collapsed", "collapsed", "truth values (restarts,)",
         flags("restarts")),
        ("converged", "converged", "truth values (restarts,)",
         flags("restarts")),
        ("paths", "paths", "tuple of numbers (iterations,), in nats: the objective",
         tuple_of(_is_path)),
        ("rows_searched", "rows_searched", "integer: rows that the restarts saw",
         integer),
        ("regularized", "regularized", "truth value: whether a prior of pseudo-rows was added",
         flag),
    ),
    _kind(
        "variational", "Facts of an approximation.", VariationalInfo,
        ("elbo_iterations", "elbo_iterations", "numbers (T,)",
         numbers("T")),
        ("elbo", "elbo", "numbers (T,), in nats: the evidence lower bound",
         numbers("T")),
        ("converged", "converged", "truth value",
         flag),
        ("log_p", "log_p", "numbers (S,), in nats: log joint density, unconstrained scale",
         numbers("approximated")),
        ("log_q", "log_q", "numbers (S,), in nats: log density of the approximation",
         numbers("approximated")),
        ("starts", "starts", "tuple of optimum",
         tuple_of(object_of("optimum"))),
        ("resampled", "resampled", "truth value: whether draws are resampled by their weights",
         flag),
        ("log_p_error", "log_p_error", "number, in nats: standard error of log_p",
         number),
        ("missed", "missed", "number: share of the posterior without rows in a component",
         number),
        ("outweighed", "outweighed", "tuple of optimum, of the likelihood: the priors outweigh it",
         tuple_of(object_of("optimum"))),
    ),
    _kind(
        "mcmc", "Facts of chains: what the sampler measured.", McmcInfo,
        ("sample_stats", "sample_stats", "mapping of ArviZ's names to numbers (C, S)",
         mapping_of(text, numbers("C", "S"))),
        ("starts", "starts", "tuple of optimum, one for each chain",
         tuple_of(object_of("optimum"))),
        ("max_tree_depth", "max_tree_depth", "integer; null where there are no trees",
         or_null(integer)),
        ("left", "left", "tuple of optimum: starts of a first run that led to better ones",
         tuple_of(object_of("optimum"))),
        ("outweighed", "outweighed", "tuple of optimum, of the likelihood: the priors outweigh it",
         tuple_of(object_of("optimum"))),
        ("thin", "thin", "integer: iterations for each draw that was kept",
         integer),
        ("warmup", "warmup", "warm-up; null where it was not kept",
         or_null(object_of("warm-up"))),
    ),
    _kind(
        "warm-up", "W iterations of each chain before the draws.", Warmup,
        ("mixtures", "mixture", "mixtures (C, W), labels as they were drawn",
         mixtures("C", "W")),
        ("log_likelihood", "log_likelihood", "numbers (C, W), in nats: of all rows",
         numbers("C", "W")),
        ("sample_stats", "sample_stats", "mapping of ArviZ's names to numbers (C, W)",
         mapping_of(text, numbers("C", "W"))),
    ),
    _kind(
        "optimum", "A maximum.", Optimum,
        ("mixture", "mixture", "mixtures without leading axes",
         mixtures()),
        ("objective", "objective", "number, in nats",
         number),
        ("restarts", "restarts", "integer: how many led there",
         integer),
        ("converged", "converged", "truth value",
         flag),
        ("path", "path", "numbers (iterations,), in nats",
         _is_path),
    ),
    _kind(
        "comparison", "Fits of one model by several methods.", None,
        ("model", "model", "model",
         object_of("model")),
        ("data", "dataset", "data",
         object_of("data")),
        ("fits", "fits", "mapping of labels to fit",
         mapping_of(text, object_of("fit"))),
        ("failures", "failures", "mapping of labels to reasons",
         mapping_of(text, text)),
        ("seed", "seed", "integer",
         integer),
    ),
    _kind(
        "model comparison", "Fits of several models.", None,
        ("data", "dataset", "data",
         object_of("data")),
        ("fits", "fits", "mapping of labels to fit",
         mapping_of(text, object_of("fit"))),
        ("failures", "failures", "mapping of labels to reasons",
         mapping_of(text, text)),
        ("seed", "seed", "integer",
         integer),
    ),
    _kind(
        "selection", "Fits of several candidates: K, or the covariance type and K.", None,
        ("criterion", "criterion", '"loo", "waic", "bic", "aic", "icl" or "evidence"',
         word("loo", "waic", "bic", "aic", "icl", "evidence")),
        ("data", "dataset", "data",
         object_of("data")),
        ("fits", "fits", "mapping of K, or of tuple (type, K), to fit",
         mapping_of(_is_candidate, object_of("fit"))),
        ("scores", "scores", "mapping of the same to score",
         mapping_of(_is_candidate, object_of("score"))),
        ("failures", "failures", "mapping of the same to reasons",
         mapping_of(_is_candidate, text)),
        ("seed", "seed", "integer",
         integer),
        ("left_out", "left_out", "mapping of the same to fit: of failures, those that were fitted",
         mapping_of(_is_candidate, object_of("fit"))),
        ("mended", "mended", "mapping of the same to text: what was done where a first fit failed",
         mapping_of(_is_candidate, text)),
    ),
    _kind(
        "score", "What a criterion says of a fit.", Score,
        ("value", "value", "number",
         number),
        ("standard_error", "standard_error", "number, NaN where there is none",
         number),
        ("pointwise", "pointwise", "numbers (N,): the rows' parts; null",
         or_null(numbers("N"))),
        ("bad_rows", "bad_rows", "integer: rows of high Pareto k; null",
         or_null(integer)),
        ("doubt", "doubt", "text, empty when there is none",
         text),
        ("subsample", "subsample", "subsample, or null where all rows were visited",
         or_null(object_of("subsample"))),
        ("subsampling_se", "subsampling_se", "number: standard error that this adds",
         number),
    ),
    _kind(
        "subsample", "The rows that leave-one-out visited, where it did not visit all.", Subsample,
        ("drawn", "drawn", "integers (m,): rows drawn at random, in order",
         integers("m", within=(0, _ANY))),
        ("certain", "certain", "integers (q,): rows visited in any case, in order",
         integers("q", within=(0, _ANY))),
        ("approx_i", "approx_i", "numbers (N,): approximations of the rows' parts",
         numbers("N")),
        ("rough_i", "rough_i", "numbers (m,): those of drawn rows as if not visited",
         numbers("m")),
    ),
)  # fmt: skip
BY_NAME = {kind.name: kind for kind in KINDS}
_BY_CLASS = {kind.cls: kind.name for kind in KINDS if kind.cls is not None}


def described(value: Any) -> tuple[str, dict[str, Any]]:
    """Kind and entries of an object of stangmm.

    Methods and priors are their public names and arguments.

    Raises
    ------
    ModelError
        It is not an object of stangmm, or could not be found again by its name.
    """
    if isinstance(value, AbsentMethod):
        return "method", vars(value)
    own = type(value)
    if isinstance(value, Method) and is_dataclass(value) and method_named(value.name) is own:
        arguments = _portable(own, _arguments(value))
        return "method", {"name": value.name, "kind": value.kind, "arguments": arguments}
    if FAMILIES.get(own.__name__) is own:
        return "prior", {"family": own.__name__, "arguments": _arguments(value)}
    kind = next((_BY_CLASS[cls] for cls in own.__mro__ if cls in _BY_CLASS), None)
    if kind is None:
        raise ModelError(
            "Only stangmm's own objects, and methods that are frozen dataclasses with a `name` of "
            f"their own, can be saved, got a {own.__qualname__} of {own.__module__}."
        )
    return kind, entries_of(kind, value)


def entries_of(kind: str, value: Any) -> dict[str, Any]:
    """Entries of an object as one of a kind."""
    return {entry.name: getattr(value, entry.attribute) for entry in BY_NAME[kind].entries}


def check(kind: str, value: Any, sizes: Sizes) -> None:
    """Raise ValueError unless an object, down to its arrays, is what the schema says of its kind.

    Parameters
    ----------
    kind : str
    value : object
    sizes : mapping of str to int
        What is known of the sizes, by letter; what is seen is added.
    """
    if kind in ("fit", "subsample"):  # one among others: their data are the same, not their draws
        sizes = {letter: n for letter, n in sizes.items() if letter in ("N", "D")}
    for entry in BY_NAME[kind].entries:
        if not entry.accepts(getattr(value, entry.attribute), sizes):
            raise ValueError(f"the {entry.name} of a {kind} must be {entry.content}")
    if fault := _FAULTS.get(kind, lambda value: "")(value):
        raise ValueError(f"a {kind} {fault}")


def _fault_of_fit(fit: Fitted) -> str:
    """What does not go together in a fit; empty if all does."""
    k, d, labels = fit.model.n_components, fit.dataset.n_features, fit.dataset.labels
    infos = {"point": RestartInfo, "approximation": VariationalInfo, "mcmc": McmcInfo}
    if not isinstance(fit.info, infos[fit.kind]):
        return f"of kind {fit.kind!r} has the facts of another kind"
    if isinstance(fit.info, RestartInfo) and not fit.info.optima:
        return "has no optimum"
    if fit.mixture.weights.shape[0] != fit.lp.size or not fit.lp.size:
        return "has draws without log densities, or none"
    # One feature has no correlations; factors of 1 may stand there nevertheless.
    allowed, needed = fit.model.structure.correlated, fit.model.space(d).n_correlations > 0
    if not needed <= (fit.mixture.corr_chol is not None) <= allowed:
        return "has correlations where the model has none, or the other way round"
    noises = [fit.mixture.noise is not None, fit.priors.box is not None]
    if noises != [bool(fit.model.noise)] * 2:
        return "has noise where the model has none, or the other way round"
    if len(np.asarray(fit.priors.weights.concentration)) != fit.mixture.n_weights:
        return "has a prior of another number of weights"
    if (np.sort(fit.permutations, axis=-1) != np.arange(k)).any():
        return "has permutations that are not permutations"
    if labels is not None and labels.max(initial=-1) >= k:
        return "has labels of components that do not exist"
    return ""


def _fault_of_combination(combination: Combination) -> str:
    chains, draws = combination.source.lp.shape
    if combination.draws.max(initial=0) >= chains * draws:
        return "has draws that its source does not have"
    for mode in combination.modes:
        lengths = {end - first for _, first, end in mode.pieces}
        if len(lengths) != 1 or min(lengths) < 1:
            return "has a mode without draws, or in pieces of several lengths"
        if any(chain >= chains or end > draws for chain, _, end in mode.pieces):
            return "has a mode with draws that its source does not have"
    return ""


def _fault_of_data(data: Dataset) -> str:
    if not data.x.size:
        return "is empty"
    if data.missing == "error" and np.isnan(data.x).any():
        return "has missing values, which are not allowed"
    if data.sample_weight is not None and not data.sample_weight.sum() > 0:
        return "has only rows of weight zero"
    if data.all_rows is not None and data.all_rows.n_rows < len(data.x):
        return "has fewer rows than the sample of them"
    return ""


def _fault_of_selection(selection: Any) -> str:
    if not selection.fits or set(selection.fits) != set(selection.scores):
        return "must have at least one fit, and a score for each"
    fits = {**selection.fits, **selection.left_out}
    if any(fit.model.n_components != components_of(k) for k, fit in fits.items()):
        return "has a fit with another number of components"
    if any(type_of(k) not in ("", fit.model.covariance_type) for k, fit in fits.items()):
        return "has a fit of another covariance type"
    types = {*map(type_of, [*fits, *selection.failures])}
    if types != {""} and not types <= {*STRUCTURES}:
        return "has candidates of several kinds, or of an unknown covariance type"
    return ""


def _fault_of_subsample(subsample: Subsample) -> str:
    for rows in (subsample.drawn, subsample.certain):
        if (np.diff(rows) <= 0).any() or rows.max(initial=0) >= len(subsample.approx_i):
            return "has rows that do not exist, or not in order"
    return "" if len(subsample.drawn) > 1 else "has less than two rows that were drawn"


def _fault_of_box(box: Box) -> str:
    return "" if (box.lower < box.upper).all() else "has an upper end that is not above the lower"


_FAULTS: dict[str, Callable[[Any], str]] = {
    "box": _fault_of_box,
    "fit": _fault_of_fit,
    "combination": _fault_of_combination,
    "data": _fault_of_data,
    "selection": _fault_of_selection,
    "subsample": _fault_of_subsample,
}


def made(kind: str, entries: Mapping[str, Any], classes: Mapping[str, type]) -> Any:
    """Make an object again.

    Parameters
    ----------
    kind : str
    entries : mapping
    classes : mapping of str to type
        Classes of kinds, where they are not those of the schema.

    Raises
    ------
    KeyError, TypeError, ValueError
        The entries are not those of the kind.
    """
    if kind == "method":
        method = method_named(entries["name"])
        if method is None:
            return AbsentMethod(**entries)
        return method(**_portable(method, entries["arguments"]))
    if kind == "prior":
        return FAMILIES[entries["family"]](**entries["arguments"])
    attributes = {entry.name: entry.attribute for entry in BY_NAME[kind].entries}
    cls: Any = classes.get(kind) or BY_NAME[kind].cls
    return cls(**{attributes[name]: value for name, value in entries.items()})


def _arguments(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _portable(method: type[Method], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a method without those that no file may choose, such as which program runs."""
    return {name: value for name, value in arguments.items() if name not in method.local}
