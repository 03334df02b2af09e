"""Fitted: the record of a finished fit, which all that judges, draws or saves it asks for data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import shown, whole_numbers
from stangmm.base.errors import ModelError
from stangmm.base.thresholds import DOUBTFUL_ERROR
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Kind, Method
from stangmm.methods.draws import Draws, Info, McmcInfo, RestartInfo, VariationalInfo
from stangmm.model.joint import log_prior
from stangmm.model.labels import among
from stangmm.model.mixture import Mixture
from stangmm.model.priors import ResolvedPriors
from stangmm.model.spec import MixtureSpec
from stangmm.posterior.relabel import (
    Relabelling,
    by_first_mean,
    checked_relabelling,
    relabelled,
)
from stangmm.predict import averages as _predict

if TYPE_CHECKING:
    import xarray as xr

T = TypeVar("T")
F = TypeVar("F", bound="Fitted")


class Piece(NamedTuple):
    """Some consecutive draws of a chain, from ``first`` to before ``end``."""

    chain: int
    first: int
    end: int


def counted_error(standard_error: float, *, trusted: bool) -> float:
    """Error of a log evidence, at least a nat where it is not to be trusted."""
    return standard_error if trusted else max(standard_error, DOUBTFUL_ERROR)


@dataclass(frozen=True, eq=False)
class WeighedMode:
    """A mode of the posterior and its share, as `Fit.combined` weighed it.

    Attributes
    ----------
    pieces : tuple of Piece
        The draws that are in it, in pieces of one length.
    weight, weight_error : float
        Its share of the posterior, and the Monte Carlo standard error of that.
    log_evidence, log_evidence_error : float
        Log of the integral of likelihood times prior over the mode, all labellings together.
    n_draws : float
        How many independent draws its draws are worth in the bridge.
    overlap : float
        Between the mode and the bridge's proposal; see `Evidence`.
    outside : float
        Share of its draws that look as if they were in another mode.
    doubt : str
        Why the evidence is not to be trusted; empty when it is.
    """

    pieces: tuple[Piece, ...]
    weight: float
    weight_error: float
    log_evidence: float
    log_evidence_error: float
    n_draws: float
    overlap: float
    outside: float
    doubt: str

    @property
    def error(self) -> float:
        """Standard error of the log evidence, as it counts; see `counted_error`."""
        return counted_error(self.log_evidence_error, trusted=not self.doubt)

    @property
    def chains(self) -> tuple[int, ...]:
        """The chains that have been in it."""
        return tuple(sorted({piece[0] for piece in self.pieces}))


@dataclass(frozen=True, eq=False)
class Combination:
    """What a fit was combined of: a fit whose chains stay in several modes, and the modes.

    Attributes
    ----------
    source : Fit
        The fit with the chains as they were drawn.
    draws : ndarray of int, shape (C, S)
        Which of the source's draws, chain 0 first, each draw of the combined fit is.
    modes : tuple of WeighedMode
        The most probable first.
    """

    source: Fitted
    draws: IntArray
    modes: tuple[WeighedMode, ...]

    @cached_property
    def fits(self) -> tuple[Fitted, ...]:
        """A fit for each mode, of the pieces of chains that are in it."""
        return tuple(self.source.select_pieces(mode.pieces) for mode in self.modes)


@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """Model, data, settings and draws of one fit, labels settled; never changed once it is made.

    Everything is in the user's units. `Fit` is this record with the user's questions, and explains
    the attributes.
    """

    model: MixtureSpec
    dataset: Dataset
    settings: Method
    info: Info
    priors: ResolvedPriors
    mixture: Mixture  # (S,): all draws flattened, labels settled
    permutations: IntArray  # (chain, draw, component)
    relabelling: Relabelling | None
    total_log_likelihood: FloatArray  # (chain, draw)
    lp: FloatArray  # (chain, draw)
    seed: int
    seconds: float
    versions: Mapping[str, str]
    started_by_hand: bool = False
    combination: Combination | None = None  # where modes were combined
    created_at: str = ""  # UTC, ISO 8601
    reason: str = ""  # why this method was chosen
    kept: dict[str, Any] = field(default_factory=dict, init=False)

    def _settled(self, flat: Mixture, how: Relabelling | None) -> Self:
        """Give the same fit of draws (S,) as they were drawn, with labels settled."""
        n_draws, k = flat.weights.shape
        permutation = np.tile(np.arange(k), (n_draws, 1))
        free = self.free_components
        how = how if len(free) or k == 1 else None
        if how is not None:
            pivot = int(np.argmax(self.lp))
            data = self.dataset
            permutation = relabelled(how, flat, data.x, pivot, free, data.sample_weight)
            means = flat.permute(permutation).means.mean(axis=0)
            permutation = permutation[:, among(free, by_first_mean(means[free]), k)]
        return replace(
            self,
            relabelling=how,
            permutations=permutation.reshape(*self.lp.shape, -1),
            mixture=flat.permute(permutation),
        )

    def relabel(self, how: Relabelling | None = "stephens") -> Self:
        """Give the same fit with labels settled in another way.

        Parameters
        ----------
        how : {"stephens", "ecr", "means"} or None
            By the draws' responsibilities (Stephens 2000, doi:10.1111/1467-9868.00265), by their
            allocations of rows (ECR: Papastamoulis & Iliopoulos 2010,
            doi:10.1198/jcgs.2010.09008), by the mean in the first feature, or as drawn. Only
            `free_components` are relabelled.

        Returns
        -------
        Fit
            Densities, predictions and everything else that has no labels stay as they are.
        """
        how = checked_relabelling(how)
        if self.combination is not None:  # as the chains that it was combined of
            source = self.combination.source.relabel(how)
            return self._combined(replace(self.combination, source=source))
        return self._settled(self.drawn.reshape(-1), how)

    def _combined(self, combination: Combination) -> Self:
        """Give the same combined draws with the labels of the source's."""
        source, k = combination.source, self.model.n_components
        return replace(
            self,
            combination=combination,
            relabelling=source.relabelling,
            mixture=source.mixture[combination.draws.ravel()],
            permutations=source.permutations.reshape(-1, k)[combination.draws],
        )

    def reordered(self, order: IntArray) -> Self:
        """Give the same fit with component k being the present component ``order[k]``.

        Parameters
        ----------
        order : ndarray of int, shape (K,)
            A permutation of 0 to K-1.

        Raises
        ------
        ModelError
            It is not a permutation.
        """
        k = self.model.n_components
        numbers = whole_numbers("order", order, k)
        if sorted(numbers) != list(range(k)):
            raise ModelError(f"order must contain each of 0 to {k - 1} once, got {shown(order)}.")
        order = np.array(numbers)
        if self.combination is not None:
            source = self.combination.source.reordered(order)
            return self._combined(replace(self.combination, source=source))
        return replace(
            self, permutations=self.permutations[..., order], mixture=self.mixture.permute(order)
        )

    def select_chains(self, chains: Sequence[int]) -> Self:
        """Give the fit that some of the chains make.

        Parameters
        ----------
        chains : sequence of int
            Which chains, from 0.

        Raises
        ------
        ModelError
            There are no such chains.
        """
        index = whole_numbers("chains", chains, self.lp.shape[0])
        info = self.info
        chosen = self._at(index)
        return replace(chosen, info=info.of_chains(index)) if isinstance(info, McmcInfo) else chosen

    def select_pieces(self, pieces: Sequence[Piece]) -> Self:
        """Give the fit whose chains are pieces of this one's.

        Parameters
        ----------
        pieces : sequence of Piece
            Each a chain, its first draw and the end, all of one length; as `Modes.pieces` has them.
        """
        chains = [piece[0] for piece in pieces]
        draws = np.array([np.arange(first, end) for _, first, end in pieces])
        chosen = self._at((np.array(chains)[:, np.newaxis], draws))
        if isinstance(self.info, McmcInfo):
            return replace(chosen, info=self.info.of_chains(chains, draws))
        return chosen

    def _at(self, index: Any) -> Self:
        """Give the fit with the draws at an index of axes (chain, draw); the facts stay."""
        combination = self.combination
        if combination is not None:
            combination = replace(combination, draws=combination.draws[index])
        return replace(
            self,
            combination=combination,
            mixture=self.shaped[index].reshape(-1),
            permutations=self.permutations[index],
            total_log_likelihood=self.total_log_likelihood[index],
            lp=self.lp[index],
        )

    @property
    def free_components(self) -> IntArray:
        """Components whose labels mean nothing: neither priors nor known rows tell them apart."""
        if not self.priors.exchangeable:
            return np.empty(0, dtype=int)
        return self.dataset.free_components(self.model.n_components)

    @property
    def method(self) -> str:
        """Short name of the method."""
        return self.settings.name

    @property
    def kind(self) -> Kind:
        """What the draws are: "point", "approximation" or "mcmc"."""
        return self.settings.kind

    @property
    def resampled(self) -> bool:
        """Whether the draws are those of an approximation, resampled by importance weights."""
        return isinstance(self.info, VariationalInfo) and self.info.resampled

    @property
    def shaped(self) -> Mixture:
        """All draws, batch of shape (chain, draw), labels settled."""
        return self.mixture.reshape(*self.lp.shape)

    @property
    def drawn(self) -> Mixture:
        """All draws, batch of shape (chain, draw), with the labels that they were drawn with."""
        return self.shaped.permute(np.argsort(self.permutations, axis=-1))

    @property
    def weights(self) -> FloatArray:
        """Posterior mean of the weights, shape (K,); with noise they sum to what it leaves."""
        return np.asarray(self.mixture.weights.mean(axis=0))

    @property
    def noise_weight(self) -> float:
        """Posterior mean of the noise's weight; 0 without noise."""
        noise = self.mixture.noise
        return 0.0 if noise is None else float(noise.weight.mean())

    @property
    def means(self) -> FloatArray:
        """Posterior mean of the component means, shape (K, D)."""
        return np.asarray(self.mixture.means.mean(axis=0))

    @cached_property
    def covariances(self) -> FloatArray:
        """Posterior mean of the covariance matrices, shape (K, D, D)."""
        return np.asarray(self.mixture.covariances.mean(axis=0))

    @property
    def scales(self) -> FloatArray:
        """Posterior mean of the standard deviations, shape (K, D)."""
        return np.asarray(self.mixture.scales.mean(axis=0))

    @cached_property
    def posterior(self) -> xr.Dataset:
        """Draws with named dimensions, labels settled.

        ``weights`` (chain, draw, component), ``means`` and ``scales`` (chain, draw, component,
        feature), ``covariances`` (chain, draw, component, feature, feature_bis), ``lp`` (chain,
        draw); with noise, ``noise_weight`` (chain, draw).
        """
        import xarray as xr

        c, s = self.lp.shape
        names = list(self.dataset.feature_names)
        return xr.Dataset(
            {**with_axes(self.shaped), "lp": (("chain", "draw"), self.lp)},
            coords={
                "chain": np.arange(c),
                "draw": np.arange(s),
                "component": np.arange(self.model.n_components),
                "feature": names,
                "feature_bis": names,
            },
            attrs={"method": self.method, "kind": self.kind, "seed": self.seed},
        )

    def log_likelihood(self) -> FloatArray:
        """Log density of each row of the data for each draw, shape (S, N), chain 0 first.

        For a row whose component is known, it is the joint density with its label.
        """
        return _predict.log_density_draws(self.mixture, self.dataset.x, self.dataset.labels)


def with_axes(mixture: Mixture) -> dict[str, tuple[tuple[str, ...], FloatArray]]:
    """Parameters of mixtures (chain, draw), each after the names of its axes."""
    draws = ("chain", "draw")
    per_feature = (*draws, "component", "feature")
    noise = {} if mixture.noise is None else {"noise_weight": (draws, mixture.noise.weight)}
    return {
        "weights": ((*draws, "component"), mixture.weights),
        **noise,
        "means": (per_feature, mixture.means),
        "scales": (per_feature, mixture.scales),
        "covariances": ((*per_feature, "feature_bis"), mixture.covariances),
    }


def record_of(
    made: type[F],
    model: MixtureSpec,
    dataset: Dataset,
    settings: Method,
    draws: Draws,
    *,
    priors: ResolvedPriors,
    relabel: Relabelling | None,
    seed: int,
    seconds: float,
    versions: Mapping[str, str],
    started_by_hand: bool = False,
    created_at: str = "",
    reason: str = "",
) -> F:
    """Make the record of draws in the user's units, and settle their labels.

    It is a `Fitted`, or of the subclass that is asked for.
    """
    flat = draws.mixture.reshape(-1)
    lp = draws.log_likelihood + log_prior(draws.mixture, priors, model.structure)
    as_drawn = np.arange(model.n_components)
    record = made(
        model=model,
        dataset=dataset,
        settings=settings,
        info=draws.info,
        priors=priors,
        mixture=flat,
        permutations=np.broadcast_to(as_drawn, (*lp.shape, len(as_drawn))),
        relabelling=None,
        total_log_likelihood=draws.log_likelihood,
        lp=lp,
        seed=seed,
        seconds=seconds,
        versions=dict(versions),
        started_by_hand=started_by_hand,
        created_at=created_at,
        reason=reason,
    )
    return record._settled(flat, relabel)


def has_priors(fit: Fitted) -> bool:
    """Whether the priors were used: not where the likelihood alone was maximized."""
    return not (isinstance(fit.info, RestartInfo) and fit.info.objective == "log likelihood")


def once(ask: Callable[[F], T]) -> Callable[[F], T]:
    """Ask a question of a record once: the answer is kept beside the record.

    A record never changes, so neither does the answer. Fits made of it ask anew.
    """
    name = f"{ask.__module__}.{ask.__qualname__}"

    @wraps(ask)
    def kept(fit: F) -> T:
        if name not in fit.kept:
            fit.kept[name] = ask(fit)
        answer: T = fit.kept[name]
        return answer

    return kept
