"""Modes: chains that have settled in different parts of the posterior, told apart without labels.

Chains that never leave the mode in which they began cannot say how probable that mode is: their
number says how many were started there, nothing else. Pooling them would be wrong in silence. So
draws are grouped by mode, and weights of the modes come from elsewhere: from stacking, which
predicts best (Yao, Vehtari & Gelman 2022, https://jmlr.org/papers/v23/20-1426.html), or from the
evidence of each mode, which are the posterior's own (`combined` draws the modes together by them).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Literal, cast

import numpy as np

from stangmm.base.arrays import FloatArray
from stangmm.base.checked import shown
from stangmm.base.errors import ConvergenceWarning, ModelError
from stangmm.judge.chains import chains_of, moved_words, pieces_by_mode
from stangmm.judge.combining import shares
from stangmm.judge.evidence import evidence_of_each
from stangmm.judge.leave_one_out import has_loo, psis_loo
from stangmm.judge.stacking import stacking_weights
from stangmm.judge.subsampling import completed
from stangmm.methods.draws import McmcInfo, RestartInfo
from stangmm.posterior.fitted import F, Fitted, Piece, once

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Modes(Generic[F]):
    """The modes that the chains have found, best log joint density first; made by `Fit.modes`.

    Attributes
    ----------
    fit : Fit
        All chains together.
    pieces : tuple of tuple of Piece
        The draws in each mode, as pieces of chains: (chain, first draw, end).
    """

    fit: F
    pieces: tuple[tuple[Piece, ...], ...]

    @property
    def chains(self) -> tuple[tuple[int, ...], ...]:
        """The chains in each mode; one that has moved is in more than one."""
        return tuple(map(chains_of, self.pieces))

    @cached_property
    def fits(self) -> tuple[F, ...]:
        """A fit for each mode, of the draws in it.

        Its chains are those of the fit, or pieces of them: where a chain has moved, and where a
        mode has only one, which is then cut in two that can be compared.
        """
        return tuple(self.fit.select_pieces(pieces) for pieces in self.pieces)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each mode.

        ============== ============================================================
        chains         which they are
        starts         log likelihoods of the optima around which they started
        log_joint      mean over the draws of the log joint density
        log_likelihood mean over the draws
        elpd_loo       leave-one-out expected log predictive density, and its
        elpd_loo_se    standard error
        ============== ============================================================
        """
        import pandas as pd

        rows = []
        for chains, fit in zip(self.chains, self.fits, strict=True):
            elpd = psis_loo(fit) if has_loo(fit) else None
            info = fit.info
            starts = info.starts if isinstance(info, McmcInfo) else ()
            rows.append({
                "chains": chains,
                "starts": tuple(sorted({round(start.objective, 4) for start in starts})),
                "log_joint": float(fit.lp.mean()),
                "log_likelihood": float(fit.total_log_likelihood.mean()),
                "elpd_loo": float("nan") if elpd is None else elpd.elpd,
                "elpd_loo_se": float("nan") if elpd is None else elpd.se,
            })  # fmt: skip
        return pd.DataFrame(rows).rename_axis("mode")

    def weights(
        self,
        by: Literal["stacking", "evidence"] = "stacking",
        *,
        seed: int | None = None,
        progress: bool = True,
    ) -> FloatArray:
        """Weights of the modes, shape (M,), summing to 1.

        Parameters
        ----------
        by : {"stacking", "evidence"}
            Stacking gives the average of the modes that predicts left-out rows best. The evidence
            gives each mode its share of the posterior, by bridge sampling; see
            `Fit.log_evidence`.
        seed : int, optional
            Of the bridge's proposals.
        progress : bool
            Whether to show progress when it takes longer than a second.
        """
        if by == "evidence":
            each = evidence_of_each(self.fits, seed=seed, progress=progress)
            for evidence in each:
                if not evidence.reliable:
                    warnings.warn(f"Log evidence: {evidence.why}", ConvergenceWarning, stacklevel=2)
            return shares(each)[0]
        if by != "stacking":
            raise ModelError(f"by must be one of ['stacking', 'evidence'], got {shown(by)}.")
        weight = self.fit.dataset.sample_weight
        pointwise = [completed(psis_loo(fit).parts, weight) for fit in self.fits]
        return stacking_weights(np.stack(pointwise, axis=1), weight)

    def __len__(self) -> int:
        """Count the modes."""
        return len(self.chains)

    def __iter__(self) -> Iterator[F]:
        return iter(self.fits)

    def __str__(self) -> str:
        """Words and the table; for a method without chains words alone."""
        info = self.fit.info
        if isinstance(info, RestartInfo):
            found = len(info.optima)
            return (
                f'"{self.fit.method}" gives a single point, the best of {found} '
                f"{'maximum' if found == 1 else 'maxima'} that its restarts found "
                '(fit.info.optima). Modes with their shares need chains: use method="nuts".'
            )
        if not isinstance(info, McmcInfo):
            return (
                f'"{self.fit.method}" approximates the posterior around one mode. Modes with their '
                'shares need chains: use method="nuts".'
            )
        n = len(self.fit.lp)
        moved = sorted(c for c in range(n) if sum(c in chains for chains in self.chains) > 1)
        words = (
            f"All {n} chains are in one mode."
            if len(self) == 1
            else f"{n} chains are in {len(self)} modes; {moved_words(moved)}."
        )
        return f"{words}\n{self._written}"

    @property
    def _written(self) -> str:
        table = self.table.dropna(axis="columns", how="all")
        return str(table.to_string(float_format="{:.2f}".format))

    __repr__ = __str__


def modes_of(fit: F) -> Modes[F]:
    """Give the modes of a fit by its chains; of a combined fit, those that were combined."""
    combination = fit.combination
    if combination is None:
        return _found(fit)
    source = cast(F, combination.source)
    return Modes(source, tuple(mode.pieces for mode in combination.modes))


def is_divided(fit: Fitted) -> bool:
    """Whether the chains are in several modes, so that numbers of all draws mean nothing."""
    return fit.combination is None and len(_found(fit)) > 1


def pooled_words(fit: Fitted) -> str:
    """Say that numbers of all draws together are pooled over modes; empty if there is one mode."""
    if not is_divided(fit):
        return ""
    return (
        f"The chains are in {len(_found(fit))} different modes. These numbers are pooled over the "
        "modes, by how many chains are in each, which says nothing about the posterior. "
        "fit.combined() weights the modes by their evidence, and fit.modes has a fit of each."
    )


@once
def _found(fit: F) -> Modes[F]:
    return Modes(fit, pieces_by_mode(fit))
