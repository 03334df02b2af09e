"""What a file holds: kinds of objects and their entries, by names that no change of code changes.

docs/format.md explains the format, and a test compares it with this file. An entry that comes
later needs a default in its class, so that older files can be read; anything else that changes
needs a new `FORMAT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from stangmm.base.errors import ModelError
from stangmm.data.dataset import Dataset
from stangmm.judge.criteria import Score
from stangmm.methods import method_named
from stangmm.methods.base import AbsentMethod, Method
from stangmm.methods.draws import McmcInfo, Optimum, RestartInfo, VariationalInfo
from stangmm.model.mixture import Mixture
from stangmm.model.priors import FAMILIES, Priors, ResolvedPriors
from stangmm.model.spec import MixtureSpec
from stangmm.posterior.fitted import Combination, Fitted, WeighedMode

FORMAT = 2


@dataclass(frozen=True)
class Entry:
    """One part of an object: its name in the file, the attribute it is of, and what it is."""

    name: str
    attribute: str
    content: str


@dataclass(frozen=True)
class Kind:
    """One kind of object: its name in the file, what it is, its class (if a lower room has it)."""

    name: str
    about: str
    cls: type | None
    entries: tuple[Entry, ...]


def _kind(name: str, about: str, cls: type | None, *entries: tuple[str, str, str]) -> Kind:
    return Kind(name, about, cls, tuple(Entry(*entry) for entry in entries))


# N rows, D features, K components, C chains, S draws of each chain.
KINDS = (
    _kind(
        "fit", "What one method made of one model and one data set.", Fitted,
        ("model", "model", "model"),
        ("data", "dataset", "data"),
        ("method", "settings", "method"),
        ("run", "info", "restarts, variational or mcmc"),
        ("priors", "priors", "full priors: those that were used"),
        ("draws", "mixture", "mixtures (C S), the draws of chain 0 first, labels settled"),
        ("permutations", "permutations", "integers (C, S, K): component k was drawn as this one"),
        ("relabelling", "relabelling", 'how labels were settled: "stephens", "ecr", "means", null'),
        ("log_likelihood", "total_log_likelihood", "numbers (C, S), in nats: of all rows"),
        ("log_joint", "lp", "numbers (C, S), in nats: log likelihood and log prior"),
        ("seed", "seed", "integer"),
        ("seconds", "seconds", "number: wall time of the fit"),
        ("versions", "versions", "mapping of packages to their versions"),
        ("started_by_hand", "started_by_hand", "whether the user said where to begin"),
        ("combination", "combination", "combination: what it was combined of; null"),
    ),
    _kind(
        "combination", "What a fit was combined of.", Combination,
        ("source", "source", "fit: that with the chains as they were drawn"),
        ("draws", "draws", "integers (C, S): which of the source's draws, chain 0 first"),
        ("modes", "modes", "tuple of weighed mode, the most probable first"),
    ),
    _kind(
        "weighed mode", "A mode of the posterior and its share.", WeighedMode,
        ("pieces", "pieces", "tuple of (chain, first draw, end): the draws that are in it"),
        ("weight", "weight", "number: its share"),
        ("weight_error", "weight_error", "number: standard error of its share"),
        ("log_evidence", "log_evidence", "number, in nats: of this mode alone"),
        ("log_evidence_error", "log_evidence_error", "number, in nats: standard error"),
        ("n_draws", "n_draws", "number: independent draws in the bridge"),
        ("overlap", "overlap", "number: between the mode and the bridge's proposal"),
        ("outside", "outside", "number: share of the draws that look as if in another mode"),
        ("doubt", "doubt", "text, empty when the evidence is to be believed"),
    ),
    _kind(
        "model", "What was fitted.", MixtureSpec,
        ("n_components", "n_components", "integer: K"),
        ("covariance_type", "covariance_type", '"full", "tied", "diag" or "spherical"'),
        ("priors", "priors", "priors, as the user gave them"),
    ),
    _kind(
        "data", "The table, in the user's units.", Dataset,
        ("x", "x", "numbers (N, D), NaN where missing"),
        ("features", "feature_names", "tuple of D names"),
        ("sample_weight", "sample_weight", "numbers (N,): how often rows count; null: once"),
        ("named", "named", "whether the user gave the names"),
        ("missing", "missing", '"error" or "marginalize"'),
        ("labels", "labels", "integers (N,): known components, -1 where unknown; null: none"),
    ),
    _kind(
        "mixtures", "Mixtures of D features, with leading axes (...).", Mixture,
        ("weights", "weights", "numbers (..., K), summing to 1"),
        ("means", "means", "numbers (..., K, D)"),
        ("scales", "scales", "numbers (..., K, D): standard deviations"),
        ("correlation_factors", "corr_chol", "numbers (..., K, D, D): lower Cholesky factors of "
         "the correlation matrices; null without correlations"),
    ),
    _kind(
        "priors", "Priors of a model; those left out are null.", Priors,
        ("weights", "weights", "prior"),
        ("means", "means", "prior"),
        ("scales", "scales", "prior"),
        ("correlation", "correlation", "prior"),
        ("resolution", "resolution", "numbers () or (D,): steps of rounding; null: as data show"),
    ),
    _kind(
        "full priors", "Priors with full shapes; there are C scale vectors of S' scales.",
        ResolvedPriors,
        ("weights", "weights", "prior (K,)"),
        ("means", "means", "prior (K, D)"),
        ("scales", "scales", "prior (C, S')"),
        ("correlation", "correlation", "prior"),
        ("resolution", "resolution", "numbers (D,): steps of rounding, which bound the scales"),
    ),
    _kind(
        "restarts", "Facts of a point estimate.", RestartInfo,
        ("objective", "objective", '"log likelihood" or "log joint": what was maximized'),
        ("optima", "optima", "tuple of optimum, best first"),
        ("values", "values", "numbers (restarts,), in nats: where each ended"),
        ("collapsed", "collapsed", "truth values (restarts,)"),
        ("converged", "converged", "truth values (restarts,)"),
        ("paths", "paths", "tuple of numbers (iterations,), in nats: the objective"),
        ("rows_searched", "rows_searched", "integer: rows that the restarts saw"),
    ),
    _kind(
        "variational", "Facts of an approximation.", VariationalInfo,
        ("elbo_iterations", "elbo_iterations", "numbers (T,)"),
        ("elbo", "elbo", "numbers (T,), in nats: the evidence lower bound"),
        ("converged", "converged", "truth value"),
        ("log_p", "log_p", "numbers (S,), in nats: log joint density, unconstrained scale"),
        ("log_q", "log_q", "numbers (S,), in nats: log density of the approximation"),
        ("starts", "starts", "tuple of optimum"),
    ),
    _kind(
        "mcmc", "Facts of chains: what the sampler measured.", McmcInfo,
        ("sample_stats", "sample_stats", "mapping of ArviZ's names to numbers (C, S)"),
        ("starts", "starts", "tuple of optimum, one for each chain"),
        ("max_tree_depth", "max_tree_depth", "integer; null where there are no trees"),
        ("left", "left", "tuple of optimum: starts of a first run that led to better ones"),
        ("thin", "thin", "integer: iterations for each draw that was kept"),
    ),
    _kind(
        "optimum", "A maximum.", Optimum,
        ("mixture", "mixture", "mixtures without leading axes"),
        ("objective", "objective", "number, in nats"),
        ("restarts", "restarts", "integer: how many led there"),
        ("converged", "converged", "truth value"),
        ("path", "path", "numbers (iterations,), in nats"),
    ),
    _kind(
        "comparison", "Fits of one model by several methods.", None,
        ("model", "model", "model"),
        ("data", "dataset", "data"),
        ("fits", "fits", "mapping of labels to fit"),
        ("failures", "failures", "mapping of labels to reasons"),
        ("seed", "seed", "integer"),
    ),
    _kind(
        "selection", "Fits with several numbers of components.", None,
        ("criterion", "criterion", '"loo", "waic", "bic", "aic", "icl" or "evidence"'),
        ("data", "dataset", "data"),
        ("fits", "fits", "mapping of K to fit"),
        ("scores", "scores", "mapping of K to score"),
        ("failures", "failures", "mapping of K to reasons"),
        ("seed", "seed", "integer"),
        ("left_out", "left_out", "mapping of K to fit: of the failures, those that were fitted"),
        ("mended", "mended", "mapping of K to text: what was done where a first fit failed"),
    ),
    _kind(
        "score", "What a criterion says of a fit.", Score,
        ("value", "value", "number"),
        ("standard_error", "standard_error", "number, NaN where there is none"),
        ("pointwise", "pointwise", "numbers (N,): the rows' parts; null"),
        ("bad_rows", "bad_rows", "integer: rows of high Pareto k; null"),
        ("doubt", "doubt", "text, empty when there is none"),
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
        It is none, or could not be found again by its name.
    """
    if isinstance(value, AbsentMethod):
        return "method", vars(value)
    own = type(value)
    if isinstance(value, Method) and is_dataclass(value) and method_named(value.name) is own:
        return "method", {"name": value.name, "kind": value.kind, "arguments": _arguments(value)}
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
        return AbsentMethod(**entries) if method is None else method(**entries["arguments"])
    if kind == "prior":
        return FAMILIES[entries["family"]](**entries["arguments"])
    attributes = {entry.name: entry.attribute for entry in BY_NAME[kind].entries}
    cls: Any = classes.get(kind) or BY_NAME[kind].cls
    return cls(**{attributes[name]: value for name, value in entries.items()})


def _arguments(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
