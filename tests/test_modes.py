"""Modes of the posterior: chains that do not mix are told apart, and weighed by evidence."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp
from scipy.stats import halfnorm

import stangmm as sg
from stangmm.base.arrays import FloatArray
from stangmm.base.thresholds import R_HAT_FAIL
from stangmm.judge.criteria import psis_loo
from stangmm.judge.modes import group_chains
from stangmm.posterior.arviz import convergence

pytestmark = pytest.mark.stan

# Four tight groups of five rows at the corners of a rectangle, to be described by two components:
# either the left and the right side, or the upper and the lower one. No relabelling turns one
# into the other, and no chain gets from one to the other.
CORNERS = np.array([[-2.0, -2.1], [-2.0, 2.1], [2.0, -2.1], [2.0, 2.1]])
GROUP = np.array([[-0.3, 0.2], [-0.1, -0.3], [0.0, 0.3], [0.15, 0.0], [0.25, -0.2]])
X = (CORNERS[:, np.newaxis] + GROUP).reshape(-1, 2)
LEFT_RIGHT = X[:, 0] > 0
LOCATION, WIDTH, SCALE = 0.0, 4.0, 2.0
PRIORS = sg.Priors(means=sg.Normal(LOCATION, WIDTH), scales=sg.HalfNormal(SCALE))
MODEL = sg.GaussianMixture(2, "diag", PRIORS)


@cache
def brute_force() -> tuple[float, float]:
    """Log evidence, and the posterior probability of left and right, by adding up 2^20 allocations.

    The rows that a component holds enter by their number, sum and sum of squares; its mean is
    integrated out exactly, its scale by the trapezoidal rule on the log scale.
    """
    n_rows, n_features = X.shape
    log_scale = np.linspace(-7.0, 4.0, 221)
    step = log_scale[1] - log_scale[0]
    log_weight = halfnorm.logpdf(np.exp(log_scale), scale=SCALE) + log_scale + np.log(step)
    bits = ((np.arange(2**n_rows)[:, np.newaxis] >> np.arange(n_rows)) & 1).astype(bool)
    counts = bits.sum(axis=1)
    log_marginal = np.zeros(len(bits))
    for d in range(n_features):
        x = X[:, d] - LOCATION
        moments = np.stack([counts, bits @ x, bits @ x**2], axis=1).round(9)
        distinct, index = np.unique(moments, axis=0, return_inverse=True)
        values = np.empty(len(distinct))
        for first in range(0, len(distinct), 20_000):
            n, s1, s2 = distinct[first : first + 20_000].T[..., np.newaxis]
            variance = np.exp(2 * log_scale)
            precision = 1 / WIDTH**2 + n / variance
            log_p = (
                -0.5 * n * np.log(2 * np.pi * variance)
                - 0.5 * s2 / variance
                - 0.5 * np.log(WIDTH**2 * precision)
                + 0.5 * (s1 / variance) ** 2 / precision
            )
            values[first : first + 20_000] = logsumexp(log_p + log_weight, axis=1)
        log_marginal += values[index.ravel()]
    # Dirichlet(1): the weights integrated out.
    log_allocation = gammaln(counts + 1) + gammaln(n_rows - counts + 1) - gammaln(n_rows + 2)
    joint = log_allocation + log_marginal + log_marginal[::-1]
    of_left_right = np.minimum(*_misplaced(bits, LEFT_RIGHT))
    of_up_down = np.minimum(*_misplaced(bits, X[:, 1] > 0))
    evidence = float(logsumexp(joint))
    share = float(np.exp(logsumexp(joint[of_left_right < of_up_down]) - evidence))
    return evidence, share


def _misplaced(bits: np.ndarray, side: np.ndarray) -> tuple[FloatArray, FloatArray]:
    wrong = (bits != side).sum(axis=1)
    return wrong, bits.shape[1] - wrong


@cache
def two_modes(seed: int) -> sg.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return MODEL.fit(X, seed=seed, progress=False)


def together(fit: sg.Fit) -> float:
    """Posterior probability that a left upper row is in the component of a left lower one."""
    responsibility = fit.mixture.responsibilities(X[[0, 5]])
    return float((responsibility[:, :, 0] * responsibility[:, :, 1]).sum(axis=1).mean())


def test_chains_from_one_start_agree_with_each_other_and_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What plain four-chain NUTS does, begun at the optimum of the lesser mode."""
    from stangmm.methods.stan import nuts

    starts = nuts.regions
    monkeypatch.setattr(nuts, "regions", lambda *a: starts(*a)[1:2])
    fit = MODEL.fit(X, seed=1, progress=False)
    assert convergence(fit)["r_hat"] < 1.01
    assert fit.diagnose().verdict == "ok"
    assert together(fit) < 0.01  # the truth is near the share of left and right:
    assert brute_force()[1] > 0.8
    # All that can be said of such a fit is where it began, and that is said.
    assert "all started around the one plausible optimum" in fit.diagnose()["modes"].meaning


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_mode_has_chains_of_its_own_and_is_told_from_the_other(seed: int) -> None:
    fit = two_modes(seed)
    assert len(fit.modes) == 2
    assert sorted(c for chains in fit.modes.chains for c in chains) == [0, 1, 2, 3]
    left_right, up_down = fit.modes
    assert together(left_right) > 0.99
    assert together(up_down) < 0.01
    assert len(set(fit.modes.table["starts"])) == 2
    check = fit.diagnose()["modes"]
    assert check.verdict == "fail"
    assert "2 distinct optima" in check.meaning
    assert 'weights("evidence")' in check.advice
    assert "4 chains are in 2 modes" in str(fit.modes)
    for mode in fit.modes:
        assert mode.lp.shape == (2, 1000)
        assert mode.diagnose()["modes"].verdict == "ok"
        # Two chains of a thousand draws: 1.01 is within what chance does to R-hat.
        assert mode.diagnose()["R-hat"].value < R_HAT_FAIL


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_evidence_weighs_the_modes_as_brute_force_does(seed: int) -> None:
    fit = two_modes(seed)
    log_evidence, share = brute_force()
    evidences = [mode.log_evidence(seed=seed) for mode in fit.modes]
    # Standard error of the log odds of the modes; four of them is the tolerance.
    error = float(np.hypot(*(e.standard_error for e in evidences)))
    assert error < 0.1
    weights = fit.modes.weights("evidence", seed=seed)
    assert weights.sum() == pytest.approx(1.0)
    log_odds = np.log(weights[0] / weights[1])
    assert log_odds == pytest.approx(np.log(share / (1 - share)), abs=4 * error)
    total = logsumexp([e.log_evidence for e in evidences])
    assert total == pytest.approx(log_evidence, abs=4 * error)


def test_stacking_weighs_the_modes_by_what_they_predict() -> None:
    """At the weights, the average log density of the rows left out is at its maximum."""
    fit = two_modes(1)
    weights = fit.modes.weights("stacking")
    pointwise = np.stack([np.asarray(psis_loo(mode)["loo_i"]) for mode in fit.modes])

    def score(first: float) -> float:
        return float(logsumexp(pointwise + np.log([[first], [1 - first]]), axis=0).sum())

    grid = np.linspace(1e-3, 1 - 1e-3, 999)
    assert weights[0] == pytest.approx(grid[np.argmax([score(w) for w in grid])], abs=2e-3)
    with pytest.raises(sg.ModelError, match="stacking"):
        fit.modes.weights("equal")  # type: ignore[arg-type]


def test_chains_of_a_posterior_with_one_mode_are_one_group() -> None:
    fit = sg.GaussianMixture(2, "full").fit(sg.datasets.faithful(), seed=1, progress=False)
    assert group_chains(fit) == ((0, 1, 2, 3),)
    check = fit.diagnose()["modes"]
    assert (check.value, check.verdict) == (1, "ok")
    assert "All 4 chains are in one mode" in str(fit.modes)


def test_selected_chains_make_a_fit_of_their_own() -> None:
    fit = two_modes(1)
    part = fit.select_chains([2, 0])
    np.testing.assert_array_equal(part.lp, fit.lp[[2, 0]])
    np.testing.assert_array_equal(
        part.posterior["means"].values, fit.posterior["means"].values[[2, 0]]
    )
    assert part.info.starts == (fit.info.starts[2], fit.info.starts[0])
    assert part.diagnose()["modes"].verdict == "ok"
    assert fit.lp.shape == (4, 1000)  # as it was
    with pytest.raises(sg.ModelError, match="0 to 3"):
        fit.select_chains([4])
