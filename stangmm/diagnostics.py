"""Checks of a fit: a value, a threshold, a verdict, what it means and what to do. Never prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from stangmm.draws import McmcInfo, RestartInfo, VariationalInfo

if TYPE_CHECKING:
    import pandas as pd

    from stangmm.fit import Fit

Verdict: TypeAlias = Literal["ok", "warn", "fail"]

# Every threshold stands here, once. R-hat and ESS: Vehtari et al. 2021 (doi:10.1214/20-BA1221);
# E-BFMI: Betancourt 2016 (doi:10.48550/arXiv.1604.00695); k-hat: Vehtari et al. 2024
# (https://jmlr.org/papers/v25/19-556.html).
R_HAT_OK = 1.01
R_HAT_FAIL = 1.05
ESS_PER_CHAIN = 100
E_BFMI_OK = 0.3
PARETO_K_OK = 0.7
DIVERGENT_SHARE_FAIL = 0.01
COLLAPSED_SHARE_OK = 0.5
# Rows that a component should hold for each free number of its own: a point estimate needs more of
# them than a posterior, which widens where rows are few. Draws below it may be this share.
ROWS_PER_PARAMETER = {"point": 2.0, "approximation": 1.0, "mcmc": 1.0}
SPARSE_DRAWS_OK = 0.2


@dataclass(frozen=True)
class Check:
    """One question asked of a fit.

    Attributes
    ----------
    name : str
    value : float
    threshold : str
        What the value should be, such as "< 1.01".
    verdict : {"ok", "warn", "fail"}
    meaning : str
        What the value says.
    advice : str
        What to do; empty when all is well.
    """

    name: str
    value: float
    threshold: str
    verdict: Verdict
    meaning: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f" {self.advice}" if self.advice else ""
        return (
            f"[{self.verdict}] {self.name}: {self.value:.4g} (should be {self.threshold}). "
            f"{self.meaning}{advice}"
        )


@dataclass(frozen=True)
class Diagnosis:
    """All checks of one fit; iterate, print, or turn into a DataFrame."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks' verdicts."""
        verdicts = {check.verdict for check in self.checks}
        return "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "ok"

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks whose verdict is "fail"."""
        return tuple(check for check in self.checks if check.verdict == "fail")

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __getitem__(self, name: str) -> Check:
        """Check of that name; KeyError lists the names."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; there are {[c.name for c in self.checks]}")

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each check."""
        import pandas as pd

        return pd.DataFrame([asdict(check) for check in self.checks]).set_index("name")

    def __str__(self) -> str:
        return "\n".join([f"verdict: {self.verdict}", *map(str, self.checks)])


def diagnose(fit: Fit) -> Diagnosis:
    """Ask everything that can be asked of this kind of fit."""
    if isinstance(fit.info, McmcInfo):
        checks = _of_chains(fit, fit.info)
    elif isinstance(fit.info, VariationalInfo):
        checks = _of_approximation(fit.info)
    else:
        checks = _of_restarts(fit.info)
    return Diagnosis((*checks, _smallest_component(fit)))


def _smallest_component(fit: Fit) -> Check:
    """Check whether every component holds enough rows to say something about its parameters."""
    own = fit.model.n_parameters_of_component(fit.dataset.n_features)
    needed = ROWS_PER_PARAMETER[fit.kind] * own
    rows = fit.mixture.weights * fit.dataset.total_weight
    sparse = (rows < needed).mean(axis=0)
    worst = int(np.argmin(rows.mean(axis=0) - needed * (sparse > SPARSE_DRAWS_OK)))
    good = bool(sparse[worst] <= SPARSE_DRAWS_OK)
    few = f" It holds fewer than {needed:g} in {sparse[worst]:.0%} of the draws."
    return Check(
        "rows in the smallest component",
        float(rows[:, worst].mean()),
        f">= {needed:g}",
        "ok" if good else "warn",
        f"How many rows component {worst} holds"
        + (", on average over the draws." if len(rows) > 1 else ".")
        + (few if not good and len(rows) > 1 else ""),
        ""
        if good
        else "Its mean and scale rest on few rows, or on the prior: use fewer components, unless "
        "a group that small is expected.",
    )


def _of_chains(fit: Fit, info: McmcInfo) -> Iterator[Check]:
    from stangmm.arviz_bridge import convergence, e_bfmi

    chains, draws = fit.lp.shape
    values = convergence(fit)
    yield _r_hat(values["r_hat"], chains)
    needed = ESS_PER_CHAIN * chains
    for key, part in (("ess_bulk", "bulk ESS"), ("ess_tail", "tail ESS")):
        value = values[key]
        yield Check(
            part,
            value,
            f">= {needed}",
            "ok" if value >= needed else "warn" if value >= needed / 4 else "fail",
            "The smallest number of independent draws that the chains are worth, in "
            + ("the bulk (means)." if part.startswith("bulk") else "the tails (5% and 95%)."),
            "" if value >= needed else "Draw more.",
        )
    divergent = int(info.sample_stats["diverging"].sum())
    share = divergent / (chains * draws)
    yield Check(
        "divergences",
        divergent,
        "0",
        "ok" if not divergent else "warn" if share < DIVERGENT_SHARE_FAIL else "fail",
        "Draws at which the sampler could not follow the posterior's curvature; a part of it may "
        "be missing from the draws.",
        ""
        if not divergent
        else "Raise adapt_delta (0.95, 0.99), or use a more informative prior of the scales.",
    )
    deep = float((info.sample_stats["tree_depth"] >= info.max_tree_depth).mean())
    yield Check(
        "tree depth",
        deep,
        "0",
        "ok" if deep == 0 else "warn",
        "Share of the draws that were cut off at the largest tree depth: slow, not wrong.",
        "" if deep == 0 else "Raise max_tree_depth.",
    )
    energy = float(np.min(e_bfmi(info)))
    yield Check(
        "E-BFMI",
        energy,
        f"> {E_BFMI_OK}",
        "ok" if energy > E_BFMI_OK else "warn",
        "How well the sampler moves between energy levels, in the worst chain.",
        "" if energy > E_BFMI_OK else "Run longer; a heavy-tailed prior may be the reason.",
    )


def _r_hat(value: float, chains: int) -> Check:
    threshold = f"< {R_HAT_OK}"
    if chains == 1:
        return Check(
            "R-hat",
            value,
            threshold,
            "warn",
            "One chain has nothing to agree with: convergence cannot be judged.",
            "Run four chains.",
        )
    good = value < R_HAT_OK
    return Check(
        "R-hat",
        value,
        threshold,
        "ok" if good else "warn" if value < R_HAT_FAIL else "fail",
        "The worst over all parameters after relabelling, and the log joint density: do the "
        "chains tell the same story?",
        ""
        if good
        else "Run longer; if it stays, the chains are in different modes: look at the trace and "
        "compare the log joint density of the chains.",
    )


def _of_approximation(info: VariationalInfo) -> Iterator[Check]:
    from stangmm.arviz_bridge import pareto_k

    final = float(info.elbo[-1]) if len(info.elbo) else float("nan")
    yield Check(
        "ELBO",
        final,
        "converged",
        "ok" if info.converged else "fail",
        "The evidence lower bound at the end of the optimization.",
        "" if info.converged else "Raise iterations, or loosen tolerance if the trace is flat.",
    )
    k = pareto_k(info)
    yield Check(
        "Pareto k-hat",
        k,
        f"< {PARETO_K_OK}",
        "ok" if k < PARETO_K_OK else "fail",
        "How far the approximation is from the posterior: at or above the threshold its draws "
        "cannot even be corrected by importance weights.",
        ""
        if k < PARETO_K_OK
        else 'Take means as rough and intervals as too narrow; use NUTS, or algorithm="fullrank".',
    )


def _of_restarts(info: RestartInfo) -> Iterator[Check]:
    best, n = info.best, len(info.values)
    yield Check(
        "converged",
        float(best.converged),
        "1",
        "ok" if best.converged else "fail",
        f"Whether the {info.objective} still grew when the best run ended.",
        "" if best.converged else "Raise max_iterations.",
    )
    yield Check(
        "restarts at the best optimum",
        best.restarts,
        "> 1",
        "ok" if best.restarts > 1 or n == 1 else "warn",
        f"How many of {n} restarts found the same maximum; {len(info.optima)} distinct maxima "
        "were found.",
        "" if best.restarts > 1 or n == 1 else "Raise restarts: a better optimum may be unseen.",
    )
    collapsed = int(info.collapsed.sum())
    many = collapsed > COLLAPSED_SHARE_OK * n
    yield Check(
        "collapsed restarts",
        collapsed,
        f"<= {COLLAPSED_SHARE_OK * n:g}",
        "warn" if many else "ok",
        f"Of {n} restarts, those left out because a component shrank onto a few rows.",
        "Use fewer components or a simpler covariance_type." if many else "",
    )
