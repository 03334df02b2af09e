"""Auto: the posterior by Laplace's method where that is the posterior, by NUTS elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from stangmm.base.checked import check_count
from stangmm.base.errors import InferenceError
from stangmm.base.names import made_by_names
from stangmm.base.thresholds import EFFECTIVE_OK, MISSED_OK, PARETO_K_OK
from stangmm.methods.base import ChosenDraws, Kind, Method, Run
from stangmm.methods.draws import Draws, VariationalInfo
from stangmm.methods.laplace import Laplace
from stangmm.methods.psis import importance_weights
from stangmm.methods.stan.nuts import NUTS
from stangmm.model.problem import Problem

_CHAINS = 4


@made_by_names
@dataclass(frozen=True)
class Auto(Method):
    """Laplace's method where its checks say that its draws are the posterior, NUTS elsewhere.

    The fit is one by `Laplace` or `NUTS`; its ``reason`` says why.

    Parameters
    ----------
    draws : int
        Of the posterior; of NUTS's four chains together.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=2)
    >>> fit = model.fit(sg.datasets.faithful(), method="auto", seed=1)
    >>> fit.method
    'laplace'
    """

    draws: int = 4000

    name: ClassVar[str] = "auto"
    kind: ClassVar[Kind] = "mcmc"

    def __post_init__(self) -> None:
        check_count("Auto draws", self.draws, minimum=100)

    def run(self, problem: Problem, run: Run) -> Draws:
        """Try Laplace's method, and take NUTS unless that is enough."""
        laplace = Laplace(draws=self.draws)
        doubt, draws = "", None
        try:
            draws = laplace.run(problem, run)
            doubt = _doubt(cast("VariationalInfo", draws.info))
        except InferenceError as error:
            doubt = f"Laplace's method failed ({error})"
        if draws is not None and not doubt:
            reason = "Laplace's method passed its checks, so NUTS was not needed."
            return _chosen(laplace, draws, reason)
        nuts = NUTS(chains=_CHAINS, draws=-(-self.draws // _CHAINS))
        nuts.prepare(run)
        return _chosen(nuts, nuts.run(problem, run), f"{doubt}, so NUTS was run.")


def _chosen(settings: Method, draws: Draws, reason: str) -> ChosenDraws:
    return ChosenDraws(draws.mixture, draws.log_likelihood, draws.info, settings, reason)


def _doubt(info: VariationalInfo) -> str:
    """Why draws by Laplace's method are not the posterior; empty if they are."""
    weights, k = importance_weights(info)
    effective = float(1.0 / (weights**2).sum())
    if not k < PARETO_K_OK:
        return (
            f"Laplace's approximation was too far from the posterior (Pareto k-hat {k:.2f}, not "
            f"below {PARETO_K_OK})"
        )
    if effective < EFFECTIVE_OK:
        return f"Laplace's method gave {effective:.0f} effective draws, fewer than {EFFECTIVE_OK}"
    if info.missed >= MISSED_OK:
        return (
            f"Laplace's method missed {info.missed:.0%} of the posterior, where a component holds "
            "no row"
        )
    return ""
