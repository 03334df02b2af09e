"""What the methods that run in CmdStan share: the compiled model, starts, and reading draws."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.base.blas import one_blas_thread
from stangmm.base.checked import check_choice, checked_path
from stangmm.base.errors import InferenceError, ModelError
from stangmm.base.memory import check_disk
from stangmm.base.rounding import significant, to_grid
from stangmm.base.thresholds import GAP_OK
from stangmm.cmdstan.compile import CompiledModel, Kernel, compiled_model
from stangmm.cmdstan.run import CmdStanRun, cmdstan_run
from stangmm.methods.base import Method, Run
from stangmm.methods.draws import Optimum
from stangmm.methods.em.climb import climb
from stangmm.methods.em.em import EM
from stangmm.methods.em.restarts import at_resolution, flat
from stangmm.methods.em.steps import EMSpace
from stangmm.methods.stan.data import StanData, stan_parameters
from stangmm.methods.stan.mode import posterior_mode
from stangmm.methods.stan.pivots import Pivots
from stangmm.model.joint import log_prior
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.model.parameters import ParameterSpace
from stangmm.model.problem import Problem

SIGNIFICANT_FIGURES = 17  # digits in CmdStan's files, so that no bit of a double is lost
# Makes the native kernel take a narrower instruction set than the machine has; for developers.
INSTRUCTION_SET = "STANGMM_INSTRUCTION_SET"
_BYTES = 20.0  # of a number in CmdStan's files
# Chains start two posterior standard deviations away from an optimum, or less, so that they lie at
# most four times as far below it as a typical draw. A move is halved at most so many times.
_JITTER, _HALVINGS = 2.0, 20
# Scales start at least this share of their bounds above them, and a feature has at least this share
# of its standard deviation left when the features before it are known.
_OFF_BOUND, _LEAST_LEFT = 2.0**-10, 2.0**-20
# A scale of which a smaller share is above its bound is near it.
_NEAR_BOUND = 0.5
# Binary digits of starting values, and of variances with which a metric starts: what EM leaves
# unknown of an optimum, and where it ends otherwise on another processor, is far below.
_START_BITS, METRIC_BITS = 12, 8
# Optima of the likelihood around which the posterior has less than exp(-this) of the mass that it
# has around the best get no chain.
PLAUSIBLE = 5.0
# Before their climb to the posterior's mode, optima may lie so much further below the best; so many
# climb at most; modes whose log mass and log likelihood differ by less are one.
CLIMBED, _MOST_CLIMBS, _SAME = 5.0, 4, 0.1


@dataclass(frozen=True, kw_only=True)
class StanMethod(Method):
    """Settings that every method in CmdStan has.

    Parameters
    ----------
    kernel : {"auto", "native", "portable"}
        The likelihood's implementation: "auto" takes the native (C++) one where it compiles.
    cmdstan : path, optional
        A CmdStan folder; default: the environment variable CMDSTAN, then what cmdstanpy finds.
    keep : path, optional
        A folder for CmdStan's own files (data, starting values, output, messages), made where it
        is missing. Each run of CmdStan gets a folder of its own in it. By default they are removed.
    """

    kernel: Kernel = "auto"
    cmdstan: str | os.PathLike[str] | None = None
    keep: str | os.PathLike[str] | None = None

    local: ClassVar[frozenset[str]] = frozenset({"cmdstan", "keep"})

    def __post_init__(self) -> None:
        check_choice("kernel", self.kernel, ("auto", "native", "portable"))

    def prepare(self, run: Run) -> None:
        """Compile the model unless the cache has it."""
        self.compiled(run)

    def versions(self, run: Run) -> Mapping[str, str]:
        """CmdStan's version."""
        return {"cmdstan": self.compiled(run).cmdstan.version_string}

    @property
    def threaded(self) -> bool:
        """Whether the model is compiled with threads."""
        return False

    def compiled(self, run: Run) -> CompiledModel:
        """Compile the model, or find it compiled."""
        _check_instruction_set()
        return compiled_model(
            kernel=self.kernel,
            cmdstan_path=self.cmdstan,
            threads=self.threaded,
            progress=run.show_progress,
        )

    @contextmanager
    def stan_run(
        self,
        model: CompiledModel,
        problem: Problem,
        pivots: Pivots | None = None,
        **switches: bool,
    ) -> Iterator[tuple[CmdStanRun, str]]:
        """Open a guarded run with the problem's data written; gives the run and the data file."""
        check_disk(
            f"CmdStan's files of {problem.n_observations:,} rows and {self.n_draws:,} draws",
            _BYTES * (problem.x.size + self.n_draws * problem.numbers_a_draw),
            tempfile.gettempdir(),
            "Make room there, set the environment variable TMPDIR to another folder, or use "
            "fewer draws.",
        )
        kept = None if self.keep is None else _new_folder(self.keep, self.name)
        with cmdstan_run(model.exe, self.name) as cmdstan:
            try:
                data = StanData.of(problem, pivots=pivots, **switches)
                yield cmdstan, cmdstan.write_json("data", data.values())
            finally:
                if kept is not None:
                    _keep(cmdstan.directory, kept)


def _check_instruction_set() -> None:
    """Raise ModelError for a wrong environment variable, which the kernel would not notice."""
    named = os.environ.get(INSTRUCTION_SET)
    if named is not None:
        known = ("avx512", "avx2", "plain")
        check_choice(f"the environment variable {INSTRUCTION_SET}", named, known)


def _keep(directory: Path, kept: Path) -> None:
    """Copy CmdStan's files; that they could not be copied is a warning, since the fit is there."""
    try:
        shutil.copytree(directory, kept, dirs_exist_ok=True)
    except OSError as error:
        reason = error.strerror or "some could not be copied (is the disk full?)"
        warnings.warn(
            f"Not all of CmdStan's files were kept in {str(kept)!r}: {reason}. Make room there, or "
            "name another folder with keep=.",
            RuntimeWarning,
            stacklevel=2,
        )


def _new_folder(parent: str | os.PathLike[str], name: str) -> Path:
    """Make a folder ``name-1``, or of the next number that is free."""
    place = checked_path(parent).absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            with suppress(FileExistsError):
                (place / f"{name}-{number}").mkdir()
                return place / f"{name}-{number}"
    except OSError as error:
        raise ModelError(
            f"CmdStan's files cannot be kept in {str(place)!r}: {error.strerror or error}. Name "
            "another folder with keep=."
        ) from error
    raise AssertionError  # the numbers do not end


@one_blas_thread()
def plausible_optima(problem: Problem, run: Run) -> tuple[Optimum, ...]:
    """The posterior's modes near optima of the likelihood, the one with most mass first."""
    return climbed(likelihood_optima(problem, run), problem, run)


def likelihood_optima(problem: Problem, run: Run, *, within: float = 0.0) -> tuple[Optimum, ...]:
    """Those of `searched_optima` that are plausible, that with most of the posterior first."""
    return plausible(searched_optima(problem, run, within=within), problem, PLAUSIBLE + CLIMBED)


def searched_optima(problem: Problem, run: Run, *, within: float = 0.0) -> tuple[Optimum, ...]:
    """Optima of the likelihood with some of the posterior around them, as EM finds them.

    The search may end no more than so many nats (``within``) below the best.

    Where every EM restart collapses (from a start given by hand: the one), or the user has taken
    the bounds of the scales away and every one ends on equal values, the optima of EM with
    regularized covariances take over. Where rows lie far out, they come as well.
    """
    optima: tuple[Optimum, ...] = ()
    unbounded = not np.all(problem.space.scale_floor)

    def has_mass(mixture: Mixture) -> bool:
        narrow = unbounded and bool(at_resolution(mixture, problem).any())
        return not (narrow or flat(mixture, problem)[0])

    with suppress(InferenceError):
        found = EM().search(problem, run, within=within).optima
        optima = tuple(o for o in found if has_mass(o.mixture[np.newaxis]))
    if not optima or EMSpace(problem).has_few_rows_far_out:
        # A row far out may be a component of its own, which has a posterior but no likelihood.
        regularized = EM().regularized(problem, run, within=within).optima
        optima += regularized + _set_free(regularized[:_MOST_CLIMBS], problem)
    return tuple(_inside(optimum, problem) for optimum in optima)


def _set_free(optima: tuple[Optimum, ...], problem: Problem) -> tuple[Optimum, ...]:
    """Where EM leads from optima of a regularized likelihood, if to a maximum."""
    space, found = EMSpace(problem), []
    for optimum in optima:
        start = space.parameters_of(optimum.mixture.reshape(1))
        end = climb(space, start, tolerance=1e-3, max_iterations=200)
        mixture = space.mixture_of(end.parameters)
        if end.converged[0] and not (end.collapsed | flat(mixture, problem))[0]:
            height = float(end.log_likelihood[0])
            found.append(Optimum(mixture[0], height, optimum.restarts, True, np.empty(0)))
    return tuple(found)


def climbed(optima: tuple[Optimum, ...], problem: Problem, run: Run) -> tuple[Optimum, ...]:
    """Climb from the first optima to the posterior's modes; the plausible ones, best first."""
    rng = run.rng("posterior mode")
    modes = tuple(at_mode(o, problem, rng) for o in optima[:_MOST_CLIMBS])
    return plausible(modes, problem, PLAUSIBLE)


def plausible(optima: tuple[Optimum, ...], problem: Problem, within: float) -> tuple[Optimum, ...]:
    """Optima by mass, those left out that have exp(-within) of the best one's; each once."""
    ranked = sorted(((log_mass(o, problem), -i) for i, o in enumerate(optima)), reverse=True)
    best = ranked[0][0]
    kept: list[tuple[float, int]] = []
    for mass, i in ranked:
        same = any(
            abs(mass - m) < _SAME and abs(optima[-i].objective - optima[-j].objective) < _SAME
            for m, j in kept
        )
        if mass >= best - within and not same:
            kept.append((mass, i))
    return tuple(optima[-i] for _, i in kept)


def _inside(optimum: Optimum, problem: Problem) -> Optimum:
    """An optimum whose scales are above their bounds, not on them, and whose noise has a weight.

    With N_k equal values the likelihood falls by one nat where the scale is above its bound by the
    N_k-th part; by about as much where noise that holds nothing gets the weight of one row.
    """
    space, mixture = problem.space, optimum.mixture
    noise, least = mixture.noise, 1.0 / problem.total_weight
    raised = noise is not None and noise.weight < least
    if raised:
        mixture = space.with_noise(replace(mixture, noise=None), least)
    held = np.maximum(mixture.weights * problem.total_weight, 1.0)[:, np.newaxis]
    held = held if space.scale_shape[0] == len(held) else held.sum(axis=0, keepdims=True)
    bounds, excess = space.scale_bounds(mixture.corr_chol), space.excess(mixture)
    if (excess >= bounds / held).all() and not raised:
        return optimum
    free = space.free(mixture) | {"scales": bounds + np.maximum(excess, bounds / held)}
    mixture = space.from_free(**free)
    reached = log_likelihood(mixture, problem.x, problem.sample_weight, problem.labels)
    return replace(optimum, mixture=mixture, objective=float(reached))


def at_mode(optimum: Optimum, problem: Problem, rng: np.random.Generator) -> Optimum:
    """The posterior's mode near an optimum of the likelihood, with the log likelihood there.

    It is rounded, so that what is computed from it has the same digits on every machine.
    """
    mixture = posterior_mode(optimum.mixture, problem, rng)
    if mixture is optimum.mixture:
        return replace(optimum, mixture=rounded(mixture, problem.space))
    mixture = rounded(mixture, problem.space)
    reached = log_likelihood(mixture, problem.x, problem.sample_weight, problem.labels)
    return replace(optimum, mixture=mixture, objective=float(reached))


def log_mass(optimum: Optimum, problem: Problem) -> float:
    """Roughly the log posterior mass around an optimum: its height times a normal's volume.

    The volume is that for known labels, on the unconstrained scale. A narrow component makes the
    density high and the volume small; the height alone would prefer it.
    """
    mixture = optimum.mixture
    height = optimum.objective + float(log_prior(mixture, problem.priors, problem.structure))
    height += float(problem.space.log_jacobian(problem.space.vectors(mixture)))
    variances = CompleteDataVariances.of(mixture, problem).inverse_metric()
    volume = 0.5 * float(np.log(2.0 * np.pi * variances).sum())
    if mixture.corr_chol is not None:  # of the means, whose variances are taken as they are
        diagonal = np.diagonal(mixture.corr_chol, axis1=-2, axis2=-1)
        volume += float(np.log(diagonal).sum())
    return height + volume


def outweighed(
    searched: tuple[Optimum, ...], highest: float, problem: Problem
) -> tuple[Optimum, ...]:
    """The best optimum of the likelihood, if the priors, and not a lack of rows, speak against it.

    It is above the highest start by more than draws lie below their optimum, half a nat for each
    parameter, and each of its components holds more rows than it has parameters.
    """
    own = problem.space.size / problem.n_components
    held = [o for o in searched if (o.mixture.weights * problem.total_weight).min() > own]
    best = max(held, key=lambda optimum: optimum.objective, default=None)
    allowed = max(0.5 * problem.space.size, GAP_OK)
    return (best,) if best is not None and best.objective > highest + allowed else ()


@one_blas_thread()
def plausible_and_outweighed(
    problem: Problem, run: Run
) -> tuple[tuple[Optimum, ...], tuple[Optimum, ...]]:
    """`plausible_starts`, and what is `outweighed`."""
    if given := given_start(problem):
        return given, ()
    searched = searched_optima(problem, run)
    modes = climbed(plausible(searched, problem, PLAUSIBLE + CLIMBED), problem, run)
    return modes, outweighed(searched, max(mode.objective for mode in modes), problem)


def plausible_starts(problem: Problem, run: Run) -> tuple[Optimum, ...]:
    """Where to start from: the start given by hand, else `plausible_optima`."""
    return plausible_and_outweighed(problem, run)[0]


def given_start(problem: Problem) -> tuple[Optimum, ...]:
    """The start given by hand, as an optimum that no restart led to; empty when there is none."""
    if problem.start is None:
        return ()
    reached = log_likelihood(problem.start, problem.x, problem.sample_weight, problem.labels)
    return (Optimum(problem.start, float(reached), 0, False, np.empty(0)),)


def jittered(mixture: Mixture, problem: Problem, rng: np.random.Generator) -> Mixture:
    """Move an optimum at random, by about two posterior standard deviations.

    The move has the posterior's shape for known labels: a mean moves by its component's
    covariance over N_k, a covariance L L' to L T T' L' with a random lower triangle T near the
    identity: so features may be correlated as they like. Where that is too far, since few rows hold
    a component, the move is halved until the loss of log joint density is what it would be in a
    normal posterior, half a nat for each parameter and squared standard deviation.
    """
    lowest = log_joint(mixture, problem) - 0.5 * problem.space.size * _JITTER**2
    weights, means, factors = _random_directions(mixture, problem, rng)
    size = _JITTER
    for _ in range(_HALVINGS):
        moved = _moved(mixture, problem.space, size * weights, size * means, size * factors)
        if log_joint(moved, problem) >= lowest:
            return moved
        size *= 0.5
    return mixture


def log_joint(mixture: Mixture, problem: Problem) -> float:
    """Log likelihood plus log prior of one mixture in the problem's units."""
    value = log_likelihood(mixture, problem.x, problem.sample_weight, problem.labels)
    return float(value + log_prior(mixture, problem.priors, problem.structure))


def _random_directions(
    mixture: Mixture, problem: Problem, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Changes of one posterior standard deviation for known labels.

    Of the log weights (K,), with noise (K + 1,); of the means (K, D) in units of their components'
    Cholesky factors; and of these factors (K, D, D): below the diagonal of what they are multiplied
    by, and on it of the logs of what is above the bounds.
    """
    k, d = mixture.means.shape
    c, s = problem.space.scale_shape
    counts = np.maximum(mixture.weights * problem.total_weight, 1.0)
    log_excess = CompleteDataVariances.of(mixture, problem).log_excess
    factors = np.zeros((k, d, d))
    factors[:, np.arange(d), np.arange(d)] = rng.standard_normal((c, s)) * np.sqrt(log_excess)
    if problem.space.n_correlations:
        held = counts if problem.space.n_correlations == k else np.full(1, problem.total_weight)
        below = np.tril(rng.standard_normal((len(held), d, d)), -1)
        factors += below / np.sqrt(held)[:, np.newaxis, np.newaxis]
    means = rng.standard_normal((k, d)) / np.sqrt(counts)[:, np.newaxis]
    all_counts = np.maximum(mixture.all_weights * problem.total_weight, 1.0)
    return rng.standard_normal(len(all_counts)) / np.sqrt(all_counts), means, factors


def _moved(
    mixture: Mixture,
    space: ParameterSpace,
    log_weights: FloatArray,
    means: FloatArray,
    factors: FloatArray,
) -> Mixture:
    """Change a mixture as `_random_directions` says."""
    weights = mixture.all_weights * np.exp(log_weights)
    weights /= weights.sum()
    cholesky = mixture.cholesky
    moved = mixture.means + (cholesky @ means[..., np.newaxis])[..., 0]
    triangle = np.tril(factors, -1)
    diagonal = 1.0 + space.share_above(mixture) * np.expm1(np.einsum("kii->ki", factors))
    scales, corr_chol = mixture.scales * diagonal, None
    if mixture.corr_chol is not None and space.n_correlations < space.scale_shape[0]:
        factor = mixture.corr_chol @ (triangle + np.eye(len(diagonal[0])))
        corr_chol = factor / np.sqrt((factor**2).sum(axis=-1, keepdims=True))
    elif mixture.corr_chol is not None:
        triangle = triangle + diagonal[:, np.newaxis, :] * np.eye(len(diagonal[0]))
        factor = cholesky @ triangle
        scales = np.sqrt((factor**2).sum(axis=-1))
        corr_chol = factor / scales[..., np.newaxis]
        # Scales near their bounds stay as near to those that the new correlations leave.
        near = space.share_above(mixture) < _NEAR_BOUND
        beside = space.scale_bounds(corr_chol) + space.excess(mixture) * np.exp(
            np.einsum("kii->ki", factors)
        )
        scales = np.where(near, beside, scales)
    noise = mixture.noise and replace(mixture.noise, weight=weights[-1])
    return Mixture(weights[: len(moved)], moved, scales, corr_chol, noise)


@dataclass(frozen=True, eq=False)
class CompleteDataVariances:
    """Posterior variances as they would be if the rows' components were known.

    A mean's is scale^2 / N_k, a log scale's 1 / (2 N_k), a log weight's 1 / N_k, that of a
    correlation's coordinate 1 / N_k, where N_k is the number of rows that determine it. What a
    scale that stands on its bound is above it has an exponential distribution, the log of which
    has a curvature of 1.
    """

    log_weights: FloatArray  # (K,), or (K + 1,) with noise
    means: FloatArray  # (K, D)
    log_excess: FloatArray  # (C, S), of scales above their bounds
    correlations: FloatArray  # (R, D (D - 1) / 2)

    @classmethod
    def of(cls, mixture: Mixture, problem: Problem) -> CompleteDataVariances:
        """Compute them at one mixture."""
        k, d = problem.n_components, problem.n_features
        c, s = problem.space.scale_shape
        r = problem.space.n_correlations
        total = problem.total_weight
        counts = np.maximum(mixture.weights * total, 1.0)
        held = counts if c == k else np.full(c, total)
        together = counts if r == k else np.full(r, total)
        share = problem.space.share_above(mixture)
        of_scales = 2.0 * d * held[:, np.newaxis] / s
        return cls(
            log_weights=1.0 / np.maximum(mixture.all_weights * total, 1.0),
            means=mixture.scales**2 / counts[:, np.newaxis],
            log_excess=1.0 / (share**2 * of_scales + (1.0 - share)),
            correlations=np.broadcast_to(1.0 / together[:, np.newaxis], (r, problem.space.n_pairs)),
        )

    def inverse_metric(self, relative: BoolArray | None = None) -> FloatArray:
        """Spread over the Stan model's unconstrained parameters, in their order.

        The weights' coordinates are taken as Stan's stick-breaking: component k against all after
        it. A sampler adapts the metric; this is where it starts.

        Parameters
        ----------
        relative : ndarray of bool, shape (K,), optional
            Components whose means are in units of their scales.
        """
        after = 1.0 / np.cumsum(1.0 / self.log_weights[::-1])[::-1]
        weights = self.log_weights[:-1] + after[1:]
        means = self.means
        if relative is not None:
            own = self.log_weights[: len(means), np.newaxis]  # 1 / N_k, too
            means = np.where(relative[:, np.newaxis], own, means)
        parts = (weights, means, self.log_excess, self.correlations)
        return significant(np.concatenate([part.ravel() for part in parts]), METRIC_BITS)


def rounded(mixture: Mixture, space: ParameterSpace) -> Mixture:
    """A mixture as a starting value: its numbers rounded far below posterior standard deviations.

    Each is rounded to about 2^-12 of what it may differ by from row to row: a mean of the standard
    deviation that its component has given the features before it, likewise the rows of the
    correlations' factors. Weights and these rows are brought back to their sums afterwards, which
    are exact, so that they have the same bits on every machine. Scales on their bounds, where the
    unconstrained scale has no place for them, are brought above.
    """
    weights = significant(np.maximum(mixture.all_weights, 1e-10), _START_BITS)
    excess = space.excess(mixture)
    corr_chol = mixture.corr_chol if space.n_correlations else None
    own = mixture.scales
    if corr_chol is not None:
        left = np.maximum(np.einsum("...ii->...i", corr_chol), _LEAST_LEFT)
        own = own * left
        shared = slice(space.n_correlations)  # one for all components, or each its own
        size = left[..., shared, :, np.newaxis]
        corr_chol = to_grid(corr_chol[..., shared, :, :], size, _START_BITS)
        diagonal = np.einsum("...ii->...i", corr_chol)  # a view
        np.maximum(diagonal, _LEAST_LEFT, out=diagonal)
        corr_chol = corr_chol / np.sqrt((corr_chol**2).sum(axis=-1, keepdims=True))
    bounds = space.scale_bounds(corr_chol)
    excess = significant(np.maximum(excess, _OFF_BOUND * bounds), _START_BITS)
    return space.from_free(
        weights / weights.sum(axis=-1, keepdims=True),
        to_grid(mixture.means, own, _START_BITS),
        bounds + excess,
        corr_chol,
    )


def stan_inits(
    run: CmdStanRun,
    mixtures: list[Mixture],
    problem: Problem,
    name: str = "start",
    pivots: Pivots | None = None,
) -> list[str]:
    """Write initial values, one file for each mixture, rounded."""
    mixtures = [rounded(mixture, problem.space) for mixture in mixtures]
    return [
        run.write_json(
            f"{name}-{i}",
            # Newer versions of Stan reject an empty array of matrices; what is left out is empty.
            {
                name: v
                for name, v in stan_parameters(mixture, problem.space, pivots).items()
                if v.size
            },
        )
        for i, mixture in enumerate(mixtures)
    ]


def read_mixtures(
    columns: tuple[str, ...], draws: FloatArray, problem: Problem
) -> tuple[Mixture, FloatArray]:
    """Mixtures and log likelihoods from CmdStan's columns.

    Parameters
    ----------
    columns : tuple of str
        Names as in the header of CmdStan's CSV file.
    draws : ndarray, shape (..., columns)

    Returns
    -------
    Mixture, ndarray
        With the leading axes of ``draws``.
    """
    position = {name: i for i, name in enumerate(columns)}

    def variable(name: str, *shape: int) -> FloatArray:
        names = [f"{name}[{','.join(str(i + 1) for i in index)}]" for index in np.ndindex(*shape)]
        chosen = draws[..., [position[n] for n in names]]
        return chosen.reshape(*draws.shape[:-1], *shape)

    shapes = problem.space.stan_shapes
    mixture = problem.space.from_free(**{n: variable(n, *shape) for n, shape in shapes.items()})
    return mixture, draws[..., position["log_likelihood"]]


def column(columns: tuple[str, ...], draws: FloatArray, name: str) -> FloatArray:
    """One column of CmdStan's draws by name."""
    return np.ascontiguousarray(draws[..., columns.index(name)])


def lbfgs(max_iterations: int, tolerance: float) -> dict[str, Any]:
    """Settings of Stan's L-BFGS that ends when the objective rises by less than ``tolerance``."""
    return {
        "algorithm": "lbfgs",
        "iter": max_iterations,
        "tol_obj": tolerance,
        "tol_rel_obj": 1.0,
        "tol_rel_grad": 1e3,
        "history_size": 10,
        "require_converged": False,
        "sig_figs": SIGNIFICANT_FIGURES,
    }


def without_none(**options: Any) -> dict[str, Any]:
    """Keep the options that the user set, so that the others stay CmdStan's own."""
    return {name: value for name, value in options.items() if value is not None}
