"""Mending: what is done with a fit that failed its checks, before it is left out of a choice."""

from __future__ import annotations

import warnings

from stangmm.base.errors import ConvergenceWarning, InferenceError, ModelError
from stangmm.fit import Fit
from stangmm.judge.chains import pieces_by_mode
from stangmm.judge.diagnostics import diagnose
from stangmm.judge.ties import has_spike
from stangmm.methods.draws import McmcInfo


def with_modes_combined(fit: Fit, *, progress: bool = False) -> Fit:
    """Combine the modes of a fit where its chains disagree, and they can be weighed.

    Parameters
    ----------
    fit : Fit
    progress : bool

    Returns
    -------
    Fit
        The fit itself where there is one mode, or where its modes cannot be weighed.
    """
    if not isinstance(fit.info, McmcInfo) or len(pieces_by_mode(fit)) == 1:
        return fit
    with warnings.catch_warnings():  # said by its own checks
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            return fit.combined(progress=progress)
        except (InferenceError, ModelError):
            return fit


def spike_words(fit: Fit, label: str) -> str:
    """Say that a criterion cannot be believed where a component is a spike; empty where it can."""
    if not has_spike(fit):
        return ""
    return (
        f"A component rests on a few equal values, so its {label} depends on how finely the "
        "data were rounded."
    )


def left_out_because(fit: Fit) -> str:
    """Say which checks a fit failed, so that it cannot be chosen; empty where it can."""
    failed = [f"{check.name} {check.value:.3g}" for check in diagnose(fit).computation.failed]
    return f"The fit failed checks ({', '.join(failed)})." if failed else ""
