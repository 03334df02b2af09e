"""The posterior over models: how probable each candidate and each K are, by evidence and prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stangmm.base.arrays import BoolArray, FloatArray
from stangmm.base.checked import listed, shown
from stangmm.base.convergence import ess_mean
from stangmm.base.errors import ModelError
from stangmm.fit import Fit
from stangmm.judge.candidates import Candidate, components_of, in_order, index_of, named
from stangmm.judge.criteria import Score
from stangmm.many.averaging import Stack, averaged
from stangmm.methods.base import Run
from stangmm.model.empty import n_occupied
from stangmm.model.mixture import log_sum_exp

if TYPE_CHECKING:
    import pandas as pd

    from stangmm.plots import PosteriorPlots

ModelPrior: TypeAlias = Mapping[Any, float] | Sequence[float] | FloatArray | None
_NEGLIGIBLE = 1e-6  # probability of a model of which components are not counted


@dataclass(frozen=True, eq=False)
class ModelPosterior:
    """How probable each model is, given the data; made by `Selection.posterior`.

    With the evidence Z of each model and its prior probability, the posterior probability is
    prior Z / sum of prior Z. Monte Carlo errors follow from the standard errors of log Z by the
    delta method, as if these were independent: the derivative of the probability p of some models
    by log Z of model j, of probability p_j, is p_j (1 - p) if it is one of them, else -p_j p. That
    holds for errors well below one nat.

    Attributes
    ----------
    fits : mapping of candidates to Fit
        As in `Selection`.
    scores : mapping of candidates to Score
        Log evidence of each, and its standard error.
    prior : ndarray, shape (M,)
        Prior probability of each of ``fits``; sums to 1.
    failures : mapping of candidates to str
        Models without an evidence, with the reason. Probabilities are given that none of these is
        meant.

    Examples
    --------
    >>> import stangmm as sg
    >>> choice = sg.select_components(
    ...     sg.datasets.faithful(), [1, 2], method=sg.NUTS(draws=250), criterion="evidence", seed=1
    ... )
    >>> print(choice.posterior().by_components["probability"].round(3).to_dict())
    {1: 0.0, 2: 1.0}
    >>> print(choice.posterior(prior={1: 0.9, 2: 0.1}).table["prior"].to_dict())
    {1: 0.9, 2: 0.1}
    """

    fits: Mapping[Candidate, Fit]
    scores: Mapping[Candidate, Score]
    prior: FloatArray
    failures: Mapping[Candidate, str]

    @cached_property
    def probability(self) -> FloatArray:
        """Posterior probability of each of ``fits``, shape (M,)."""
        return model_probabilities(self._log_evidence, self.prior)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each model, indexed like `Selection.table`.

        ==============  ==========================================================================
        log_evidence    in nats, and its standard error
        se
        prior           probability before the data are seen
        probability     probability given the data, and its Monte Carlo error
        probability_se
        ==============  ==========================================================================
        """
        import pandas as pd

        each = np.eye(len(self.prior), dtype=bool)
        return pd.DataFrame(
            {"log_evidence": self._log_evidence, "se": self._errors} | self._columns(each),
            index=index_of(list(self.fits)),
        )

    @cached_property
    def by_components(self) -> pd.DataFrame:
        """The posterior of K: ``prior``, ``probability``, ``probability_se`` of each K."""
        import pandas as pd

        of_each = np.array([components_of(k) for k in self.fits])
        numbers = np.unique(of_each)
        of_number = numbers[:, np.newaxis] == of_each
        return pd.DataFrame(self._columns(of_number), index=pd.Index(numbers, name="n_components"))

    @cached_property
    def occupied(self) -> pd.DataFrame:
        """The posterior of the number of components that hold rows.

        With more components than the data need, some hold no row. In each draw of each fit every
        row's component is drawn from its probabilities (of large data, in some of the draws), and
        the components that hold a row are counted; fits count by their posterior probabilities.
        The columns are ``probability`` and ``probability_se``, its Monte Carlo error: that of the
        draws, from their effective sample size, and that of the evidences.

        Raises
        ------
        ModelError
            The data have sample weights: such rows do not belong to one component each.
        """
        import pandas as pd

        if next(iter(self.fits.values())).dataset.sample_weight is not None:
            raise ModelError(
                "The number of components that hold rows is not defined with sample weights. "
                "Repeat the rows instead."
            )
        most = max(components_of(k) for k in self.fits)
        share, variance = (np.zeros((len(self.fits), most + 1)) for _ in range(2))
        for i, fit in enumerate(self.fits.values()):
            if self.probability[i] > _NEGLIGIBLE:
                share[i], variance[i] = _occupied(fit, most)
        p, errors = self.probability[:, np.newaxis], self._errors[:, np.newaxis]
        mean = (p * share).sum(axis=0)
        of_evidence = p * errors * (share - mean)
        error = np.sqrt((p**2 * variance + of_evidence**2).sum(axis=0))
        return pd.DataFrame(
            {"probability": mean[1:], "probability_se": error[1:]},
            index=pd.RangeIndex(1, most + 1, name="n_occupied"),
        )

    def average(self, *, refit: bool = False, progress: bool = True) -> Stack:
        """Average the fits' predictions by the posterior probabilities of their models.

        Bayesian model averaging (Hoeting, Madigan, Raftery & Volinsky 1999,
        doi:10.1214/ss/1009212519). `stack` has weights that predict best instead.

        Parameters
        ----------
        refit : bool
            Whether ``elpd`` is computed exactly for rows of high Pareto k; see `Fit.loo`.
        progress : bool

        Returns
        -------
        Stack

        Warns
        -----
        ConvergenceWarning
            ``elpd`` depends on rows of high Pareto k and ``refit`` is not set.
        """
        return averaged(self.fits, self.probability, refit=refit, progress=progress)

    @property
    def plot(self) -> PosteriorPlots:
        """The picture: ``posterior.plot.probabilities()``, or ``posterior.plot()``."""
        from stangmm.plots import PosteriorPlots

        return PosteriorPlots(self)

    @property
    def reservations(self) -> list[str]:
        """What limits the answer: evidences that are doubtful, models that are left out."""
        words = [
            f"The evidence of {named(k)} is doubtful: {self.scores[k].doubt}"
            for k, p in zip(self.fits, self.probability, strict=True)
            if self.scores[k].doubt and p > _NEGLIGIBLE
        ]
        if self.failures:
            words.append(f"{named(*self.failures)} failed and cannot be weighed.")
        return words

    def __repr__(self) -> str:
        """Show the probability of each K, and of each model where there are several types."""
        tables = [self.by_components]
        if len(self.fits) > len(self.by_components):
            tables.append(self.table)
        text = [
            table.to_string(float_format="{:.3f}".format, formatters=_FORMATS) for table in tables
        ]
        return "\n".join([f"{type(self).__name__} over {len(self.fits)} models", *text,
                          *self.reservations])  # fmt: skip

    @cached_property
    def _log_evidence(self) -> FloatArray:
        return np.array([self.scores[k].value for k in self.fits])

    @cached_property
    def _errors(self) -> FloatArray:
        return np.array([self.scores[k].standard_error for k in self.fits])

    def _columns(self, groups: BoolArray) -> dict[str, FloatArray]:
        """Prior, probability and Monte Carlo error of groups of models (G, M)."""
        return {
            "prior": groups @ self.prior,
            "probability": groups @ self.probability,
            "probability_se": probability_errors(self.probability, self._errors, groups),
        }


_FORMATS = {"probability_se": "{:.2g}".format, "se": "{:.2g}".format}


def model_probabilities(log_evidence: FloatArray, prior: FloatArray) -> FloatArray:
    """Posterior probabilities (M,) from log evidences and prior probabilities (M,)."""
    with np.errstate(divide="ignore"):
        logs = log_evidence + np.log(prior)
    return np.asarray(np.exp(logs - log_sum_exp(logs, axis=0)))


def probability_errors(
    probability: FloatArray, log_evidence_error: FloatArray, groups: BoolArray
) -> FloatArray:
    """Monte Carlo errors (G,) of the probabilities of groups of models (G, M), by the delta method.

    Parameters
    ----------
    probability, log_evidence_error : ndarray, shape (M,)
    groups : ndarray of bool, shape (G, M)
        Which models are in which group.
    """
    derivative = probability * (groups - (groups @ probability)[:, np.newaxis])
    return np.asarray(np.sqrt((derivative * log_evidence_error) ** 2 @ np.ones(len(probability))))


def checked_prior(
    prior: ModelPrior, able: Sequence[Candidate], tried: Sequence[Candidate]
) -> FloatArray:
    """Prior probabilities of those that have an evidence; they sum to one.

    Parameters
    ----------
    prior : mapping, sequence or None
        By K or by candidate, for all that were tried; see `Selection.posterior`.
    able : sequence
        Candidates with an evidence.
    tried : sequence
        All, in the order of the table.

    Raises
    ------
    ModelError
        A prior that is not one of probabilities, or is of other models.
    """
    numbers = sorted({components_of(k) for k in tried})
    if prior is None:
        given: dict[Any, Any] = dict.fromkeys(tried, 1.0)
    elif isinstance(prior, Mapping):
        given = dict(prior)
    else:
        values = listed(prior) if not isinstance(prior, str) else []
        keys = numbers if len(values) == len(numbers) else tried
        if len(values) != len(keys):
            raise ModelError(
                f"prior must be a dict, or one number for each K ({len(numbers)}) or for each row "
                f"of the table ({len(tried)}), got {shown(prior)}."
            )
        given = dict(zip(keys, values, strict=True))
    by_number = set(given) == set(numbers)
    if not by_number and set(given) != set(tried):
        raise ModelError(
            f"prior must have a probability for each K that was tried, {numbers}, or for each of "
            f"the models, such as {tried[0]!r}; got {shown(list(given))}."
        )
    for value in given.values():
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not 0 <= value < np.inf:
            raise ModelError(f"Prior probabilities must be numbers from 0, got {shown(value)}.")
    types = {n: sum(components_of(k) == n for k in tried) for n in numbers}
    each = np.array([
        given[components_of(k)] / types[components_of(k)] if by_number else given[k] for k in able
    ], dtype=float)  # fmt: skip
    if not each.sum() > 0:
        raise ModelError(
            f"The prior is zero for every model that has an evidence, {named(*in_order(able))}."
        )
    return np.asarray(each / each.sum())


def _occupied(fit: Fit, most: int) -> tuple[FloatArray, FloatArray]:
    """Probability that 0, 1, ... components hold rows, and the Monte Carlo variance of each."""
    rng = Run(fit.seed).rng("components that hold rows")
    counts = n_occupied(fit.mixture, fit.dataset.x, rng, fit.dataset.labels)
    is_so = (counts[:, np.newaxis] == np.arange(most + 1)).astype(float)
    share = is_so.mean(axis=0)
    spread = share * (1.0 - share)
    varies = spread > 0
    variance = np.zeros(most + 1)
    variance[varies] = spread[varies] / ess_mean(is_so[np.newaxis][..., varies])
    return share, variance
