"""What LOO and WAIC give: an expected log predictive density, and the rows' parts of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stangmm.base.arrays import FloatArray
from stangmm.judge.subsampling import Parts, Subsample, subsample_words

if TYPE_CHECKING:
    from arviz import ELPDData


@dataclass(frozen=True, eq=False, repr=False)
class Elpd:
    """Expected log pointwise predictive density of new rows (elpd), higher is better.

    Attributes
    ----------
    criterion : {"loo", "waic"}
    elpd, se : float
        The sum over rows, each as often as its sample weight says, and its standard error, in nats.
    p : float
        Effective number of parameters: how much lower that is than the log density of the data.
    elpd_i : ndarray, shape (N,)
        Each row's part.
    n_samples : int
        Draws.
    warning : bool
        Whether some row cannot be trusted.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=2, covariance_type="tied")
    >>> waic = model.fit(sg.datasets.faithful(), method="nuts", seed=1).waic()
    >>> waic.criterion, -1152 < waic.elpd < -1144, waic.elpd_i.shape
    ('waic', True, (272,))
    """

    criterion: str
    elpd: float
    se: float
    p: float
    elpd_i: FloatArray
    n_samples: int
    warning: bool

    def __repr__(self) -> str:
        """Give the sums with their names."""
        return "\n".join([
            f"{self.n_samples} draws, {len(self.elpd_i)} rows",
            f"elpd_{self.criterion:<4} {self.elpd:10.2f} (standard error {self.se:.2f})",
            f"p_{self.criterion:<7} {self.p:10.2f}",
        ])  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Loo(Elpd):
    """Leave-one-out elpd by importance sampling: `Elpd`, and how far each row can be trusted.

    Of large data only some rows are visited, and the sums are estimated from them. ``elpd_i`` and
    ``pareto_k`` of the other rows are NaN, as in ArviZ.

    Attributes
    ----------
    criterion, elpd, se, p, elpd_i, n_samples, warning
        See `Elpd`.
    pareto_k : ndarray, shape (N,)
        Shape of the tail of each row's importance weights; 0 for a row that a fit without it was
        made for.
    good_k : float
        Above it a row's Pareto k is too high.
    subsampling_se : float
        Standard error of ``elpd`` that comes from not visiting all rows; 0 if all were visited. It
        is not part of ``se``.
    subsample : Subsample or None
        Which rows were visited, and approximations of all; None if all were visited.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="nuts", seed=1)
    >>> loo = fit.loo()
    >>> -1145 < loo.elpd < -1135, loo.elpd_i.shape, loo.warning
    (True, (272,), False)
    """

    pareto_k: FloatArray
    good_k: float
    subsampling_se: float = 0.0
    subsample: Subsample | None = None

    @property
    def parts(self) -> Parts:
        """The rows' parts of ``elpd``."""
        return Parts(self.elpd_i, self.subsample)

    @property
    def n_visited(self) -> int:
        """How many rows were visited."""
        return len(self.elpd_i) if self.subsample is None else len(self.subsample.visited)

    def to_arviz(self) -> ELPDData:
        """Give it as ArviZ's own, for ``az.compare`` and ArviZ's plots.

        Raises
        ------
        ModelError
            Not all rows were visited, and the installed ArviZ is older than 1, which knows no such
            results.
        """
        from stangmm.posterior.arviz import elpd_data

        sampled = self.subsample
        return elpd_data(
            elpd=self.elpd,
            se=self.se,
            p=self.p,
            elpd_i=self.elpd_i,
            pareto_k=self.pareto_k,
            good_k=self.good_k,
            n_samples=self.n_samples,
            warning=self.warning,
            subsampling_se=self.subsampling_se,
            drawn=None if sampled is None else sampled.drawn,
            approx_i=None if sampled is None else sampled.approx_i,
        )

    def __repr__(self) -> str:
        """Give the sums with their names, and how many rows are in doubt."""
        bad = int((self.pareto_k > self.good_k).sum())
        rows = f"Pareto k above {self.good_k:.2f}: {bad} of {self.n_visited} rows"
        lines = [super().__repr__(), rows]
        if self.subsample is not None:
            lines.append(subsample_words(self.subsample, self.subsampling_se))
        return "\n".join(lines)
