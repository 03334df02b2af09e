"""The optimal bridge between a posterior and a proposal whose density is known in full.

Meng & Wong 1996 (http://www3.stat.sinica.edu.tw/statistica/j6n4/j6n43/j6n43.htm), with the error
of Fruehwirth-Schnatter 2004 (doi:10.1111/j.1368-423X.2004.00125.x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_expit

from stangmm.base.arrays import FloatArray
from stangmm.base.convergence import ess_mean, measures
from stangmm.model.mixture import log_sum_exp


@dataclass(frozen=True, eq=False)
class Bridge:
    """The optimal bridge between posterior and proposal.

    Attributes
    ----------
    log_ratio : float
        Log of the posterior's normalizing constant.
    standard_error : float
        The square root of its relative mean squared error.
    n_draws : float
        Effective draws of the posterior.
    overlap : float
        The integral of 2 p q / (p + q), for posterior p and proposal q.
    """

    log_ratio: float
    standard_error: float
    n_draws: float
    overlap: float

    @classmethod
    def between(cls, of_posterior: FloatArray, of_proposal: FloatArray) -> Bridge:
        """Build from log ratios of the unnormalized posterior's to the proposal's density.

        With l a log ratio and c = log (n_1 / n_2), n_1 the effective draws of the posterior and
        n_2 the proposal's, the optimal bridge's constant r solves

            n_2 mean_2 expit(l - log r + c) = n_1 mean_1 expit(-(l - log r + c)).

        The left side falls with r and the right side rises. Meng & Wong iterate; a bracketed root
        is found whether or not the iteration would get there.

        Parameters
        ----------
        of_posterior : ndarray, shape (C, S)
            At draws from the posterior; inf where the bridge shall not stand.
        of_proposal : ndarray, shape (n,)
            At draws from the proposal; -inf where the posterior has no mass, and where the bridge
            shall not stand.
        """
        from scipy.optimize import brentq  # slow to import

        n_proposal = of_proposal.size
        # By ranks: a ratio that is far off at a few draws bears on the bridge no more than others.
        n_draws = float(measures(of_posterior).ess_bulk)
        on_both = [side[np.isfinite(side)] for side in (of_posterior, of_proposal)]
        finite = np.concatenate(on_both)
        if not min(side.size for side in on_both):
            return cls(float("nan"), float("inf"), n_draws, 0.0)
        shift = np.log(n_draws / n_proposal)

        def excess(log_ratio: float) -> float:
            up, down = _sides(of_posterior, of_proposal, log_ratio - shift)
            return float(_log_mean_exp(up) - _log_mean_exp(down) - shift)

        room = 10.0 + abs(shift)
        log_ratio = float(brentq(excess, finite.min() - room, finite.max() + room, xtol=1e-10))
        up, down = (np.exp(side) for side in _sides(of_posterior, of_proposal, log_ratio - shift))
        # The relative mean squared error of Fruehwirth-Schnatter (2004), with the
        # autocorrelation of the posterior's draws in their effective number.
        from_proposal = up.var() / up.mean() ** 2 / n_proposal
        from_posterior = down.var() / down.mean() ** 2 / float(ess_mean(down))
        return cls(
            log_ratio=log_ratio,
            standard_error=float(np.sqrt(from_proposal + from_posterior)),
            n_draws=n_draws,
            overlap=float(2.0 * np.exp(log_expit(of_proposal - log_ratio)).mean()),
        )


def _sides(
    of_posterior: FloatArray, of_proposal: FloatArray, log_ratio: float
) -> tuple[FloatArray, FloatArray]:
    """Logs of the posterior's share at the proposal's draws, and the reverse."""
    return log_expit(of_proposal - log_ratio), log_expit(log_ratio - of_posterior)


def _log_mean_exp(values: FloatArray) -> float:
    return float(log_sum_exp(values.ravel(), axis=0)) - float(np.log(values.size))
