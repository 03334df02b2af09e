"""What pictures and reports ask of a comparison, a selection or draws from the prior: data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from matplotlib.axes import Axes

from stangmm.base.arrays import FloatArray
from stangmm.data.dataset import Dataset
from stangmm.judge.candidates import Candidate
from stangmm.judge.criteria import Criterion, Score
from stangmm.model.mixture import Mixture
from stangmm.model.spec import MixtureSpec
from stangmm.posterior.fitted import Fitted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Axes", "Compared", "ModelsCompared", "PriorDraws", "Selected", "Weighed"]


class Compared(Protocol):
    """Fits of one model by several methods; `Comparison` is one."""

    @property
    def model(self) -> MixtureSpec: ...
    @property
    def dataset(self) -> Dataset: ...
    @property
    def fits(self) -> Mapping[str, Fitted]: ...
    @property
    def failures(self) -> Mapping[str, str]: ...
    @property
    def seed(self) -> int: ...
    @property
    def reference(self) -> str | None: ...
    @property
    def table(self) -> pd.DataFrame: ...


class ModelsCompared(Protocol):
    """Fits of several models to one data set; `ModelComparison` is one."""

    @property
    def dataset(self) -> Dataset: ...
    @property
    def fits(self) -> Mapping[str, Fitted]: ...
    @property
    def seed(self) -> int: ...
    @property
    def table(self) -> pd.DataFrame: ...


class Selected(Protocol):
    """Fits of several candidates and the choice; `Selection` is one."""

    @property
    def criterion(self) -> str: ...
    @property
    def rule(self) -> Criterion: ...
    @property
    def scores(self) -> Mapping[Candidate, Score]: ...
    @property
    def failures(self) -> Mapping[Candidate, str]: ...
    @property
    def chosen(self) -> Candidate: ...
    @property
    def best_value(self) -> Candidate: ...
    @property
    def why(self) -> str: ...
    @property
    def table(self) -> pd.DataFrame: ...

    def difference(self, k: Candidate) -> tuple[float, float]: ...


class Weighed(Protocol):
    """The posterior over models; `ModelPosterior` is one."""

    @property
    def fits(self) -> Mapping[Candidate, Fitted]: ...
    @property
    def probability(self) -> FloatArray: ...
    @property
    def by_components(self) -> pd.DataFrame: ...
    @property
    def occupied(self) -> pd.DataFrame: ...


class PriorDraws(Protocol):
    """Data sets from the prior; `PriorPredictive` is one."""

    @property
    def x(self) -> FloatArray: ...
    @property
    def mixtures(self) -> Mixture: ...
    @property
    def dataset(self) -> Dataset: ...
