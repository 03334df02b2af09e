"""Modes of the posterior: chains that do not mix are told apart, and weighed by evidence."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import LazyFits
from fitting import fit_quick
from html_pages import Page
from scipy.special import gammaln, logit, logsumexp
from scipy.stats import halfnorm
from sklearn.datasets import load_iris, load_wine

import stangmm as sg
from stangmm.base.arrays import FloatArray
from stangmm.base.thresholds import R_HAT_FAIL
from stangmm.judge.leave_one_out import psis_loo
from stangmm.methods.base import Run
from stangmm.methods.stan.regions import Region
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem
from stangmm.posterior.summary import convergence, measures_of
from stangmm.report.numbers import number

pytestmark = pytest.mark.stan

# Four tight groups of five rows at the corners of a rectangle, to be described by two components:
# either the left and the right side, or the upper and the lower one. No relabelling turns one
# into the other, and no chain gets from one to the other.
CORNERS = np.array([[-2.0, -2.1], [-2.0, 2.1], [2.0, -2.1], [2.0, 2.1]])
GROUP = np.array([[-0.3, 0.2], [-0.1, -0.3], [0.0, 0.3], [0.15, 0.0], [0.25, -0.2]])
X = (CORNERS[:, np.newaxis] + GROUP).reshape(-1, 2)
# The same on a square, and the same if its axes are exchanged: by symmetry each mode has one half.
SQUARE = np.concatenate([GROUP[:3], GROUP[:3, ::-1]])
SQUARE = (np.sign(CORNERS)[:, np.newaxis] * 2.0 + SQUARE).reshape(-1, 2)
# Three groups on a line for two components: the one in the middle goes left or right.
LINE = np.add.outer([-6.0, 0.0, 6.2], [*GROUP[:, 0], 0.4]).reshape(-1, 1)
LOCATION, WIDTH, SCALE = 0.0, 4.0, 2.0
# The sum over allocations knows no lower bound of the scales.
PRIORS = sg.Priors(means=sg.Normal(LOCATION, WIDTH), scales=sg.HalfNormal(SCALE), resolution=0.0)
MODEL = sg.GaussianMixture(2, "diag", PRIORS)


@dataclass(frozen=True)
class Truth:
    """What adding up all allocations of rows to two components says."""

    log_evidence: float
    first: float  # posterior probability of the first of two ways to part the rows


@cache
def brute_force(name: str) -> Truth:
    """Log evidence and the probability of one mode, by adding up all 2^N allocations.

    The rows that a component holds enter by their number, sum and sum of squares; its mean is
    integrated out exactly, its scale by the trapezoidal rule on the log scale.
    """
    rows, first, second = PARTED[name]
    n_rows, n_features = rows.shape
    log_scale = np.linspace(-7.0, 4.0, 221)
    step = log_scale[1] - log_scale[0]
    log_weight = halfnorm.logpdf(np.exp(log_scale), scale=SCALE) + log_scale + np.log(step)
    bits = ((np.arange(2**n_rows)[:, np.newaxis] >> np.arange(n_rows)) & 1).astype(bool)
    counts = bits.sum(axis=1)
    log_marginal = np.zeros(len(bits))
    for d in range(n_features):
        x = rows[:, d] - LOCATION
        moments = np.stack([counts, bits @ x, bits @ x**2], axis=1).round(9)
        distinct, index = np.unique(moments, axis=0, return_inverse=True)
        values = np.empty(len(distinct))
        for begin in range(0, len(distinct), 20_000):
            n, s1, s2 = distinct[begin : begin + 20_000].T[..., np.newaxis]
            variance = np.exp(2 * log_scale)
            precision = 1 / WIDTH**2 + n / variance
            log_p = (
                -0.5 * n * np.log(2 * np.pi * variance)
                - 0.5 * s2 / variance
                - 0.5 * np.log(WIDTH**2 * precision)
                + 0.5 * (s1 / variance) ** 2 / precision
            )
            values[begin : begin + 20_000] = logsumexp(log_p + log_weight, axis=1)
        log_marginal += values[index.ravel()]
    # Dirichlet(1): the weights integrated out.
    log_allocation = gammaln(counts + 1) + gammaln(n_rows - counts + 1) - gammaln(n_rows + 2)
    joint = log_allocation + log_marginal + log_marginal[::-1]
    near_first, near_second = (np.minimum(*_misplaced(bits, side)) for side in (first, second))
    evidence = float(logsumexp(joint))
    share = float(np.exp(logsumexp(joint[near_first < near_second]) - evidence))
    return Truth(evidence, share)


def _misplaced(bits: np.ndarray, side: np.ndarray) -> tuple[FloatArray, FloatArray]:
    wrong = (bits != side).sum(axis=1)
    return wrong, bits.shape[1] - wrong


PARTED = {
    "corners": (X, X[:, 0] > 0, X[:, 1] > 0),
    "line": (LINE, LINE[:, 0] > -3.0, LINE[:, 0] > 3.0),
}


@cache
def two_modes(seed: int, name: str = "corners") -> sg.Fit:
    # Longer chains may well move between the modes.
    settings = sg.NUTS(thin=1) if name == "corners" else sg.NUTS(thin=1, adapt_delta=0.99)
    return fit_quick(MODEL, PARTED[name][0], settings, seed=seed)


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
    assert fit.diagnose().computation.verdict == "ok"
    assert together(fit) < 0.01  # the truth is near the share of left and right:
    assert brute_force("corners").first > 0.8
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
    assert "2 different optima" in check.meaning
    assert "fit.combined()" in check.advice
    assert "4 chains are in 2 modes" in str(fit.modes)
    for mode in fit.modes:
        assert mode.lp.shape == (2, 1000)
        assert mode.diagnose()["modes"].verdict == "ok"
        # Two chains of a thousand draws: 1.01 is within what chance does to R-hat.
        assert mode.diagnose()["R-hat"].value < R_HAT_FAIL


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_evidence_weighs_the_modes_as_brute_force_does(seed: int) -> None:
    fit = two_modes(seed)
    truth = brute_force("corners")
    evidences = [mode.log_evidence(seed=seed) for mode in fit.modes]
    # Standard error of the log odds of the modes; four of them is the tolerance.
    error = float(np.hypot(*(e.standard_error for e in evidences)))
    assert error < 0.1
    weights = fit.modes.weights("evidence", seed=seed)
    assert weights.sum() == pytest.approx(1.0)
    log_odds = np.log(weights[0] / weights[1])
    assert log_odds == pytest.approx(logit(truth.first), abs=4 * error)
    total = logsumexp([e.log_evidence for e in evidences])
    assert total == pytest.approx(truth.log_evidence, abs=4 * error)


def test_stacking_weighs_the_modes_by_what_they_predict() -> None:
    """At the weights, the average log density of the rows left out is at its maximum."""
    fit = two_modes(1)
    weights = fit.modes.weights("stacking")
    pointwise = np.stack([psis_loo(mode).elpd_i for mode in fit.modes])

    def score(first: float) -> float:
        return float(logsumexp(pointwise + np.log([[first], [1 - first]]), axis=0).sum())

    grid = np.linspace(1e-3, 1 - 1e-3, 999)
    assert weights[0] == pytest.approx(grid[np.argmax([score(w) for w in grid])], abs=2e-3)
    with pytest.raises(sg.ModelError, match="stacking"):
        fit.modes.weights("equal")  # type: ignore[arg-type]


def test_chains_of_a_posterior_with_one_mode_are_one_group() -> None:
    fit = sg.GaussianMixture(2, "full").fit(sg.datasets.faithful(), seed=1, progress=False)
    assert fit.modes.chains == ((0, 1, 2, 3),)
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


# ---- combined --------------------------------------------------------------------------------


def combined(fit: sg.Fit) -> sg.Fit:
    """Combine, whatever the checks say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return fit.combined(progress=False)


def spliced(fits: list[sg.Fit], chains: list[list[tuple[int, int, int, int]]]) -> sg.Fit:
    """A fit whose chains are made of parts (fit, chain, first, end) of others'."""

    def joined(arrays: list[np.ndarray]) -> np.ndarray:
        return np.stack(
            [np.concatenate([arrays[f][c, i:j] for f, c, i, j in parts]) for parts in chains]
        )

    fit, drawn = fits[0], [each.drawn for each in fits]
    names = ("weights", "means", "scales", "corr_chol")[: 3 if drawn[0].corr_chol is None else 4]
    mixture = Mixture(*(joined([getattr(each, name) for each in drawn]) for name in names))
    stats = {n: joined([f.info.sample_stats[n] for f in fits]) for n in fit.info.sample_stats}
    lp, total = joined([f.lp for f in fits]), joined([f.total_log_likelihood for f in fits])
    k = fit.model.n_components
    made = replace(
        fit,
        mixture=mixture.reshape(-1),
        permutations=np.tile(np.arange(k), (*lp.shape, 1)),
        lp=lp,
        total_log_likelihood=total,
        info=replace(fit.info, sample_stats=stats, starts=()),
    )
    return made.relabel()


def share_of(fit: sg.Fit, first: np.ndarray, second: np.ndarray) -> float:
    """Share of the draws that part the rows in the first way rather than in the second."""
    labels = fit.mixture.responsibilities(fit.dataset.x).argmax(axis=1)
    wrong = [(labels != side).sum(axis=1) for side in (first, second)]
    near = [np.minimum(each, len(first) - each) for each in wrong]
    return float((near[0] < near[1]).mean())


@pytest.mark.parametrize("name", PARTED)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_combined_fit_is_the_posterior_by_brute_force(name: str, seed: int) -> None:
    fit, truth = two_modes(seed, name), brute_force(name)
    whole = combined(fit)
    first, second = PARTED[name][1:]
    each = [share_of(mode, first, second) for mode in whole.modes]
    which = int(np.argmax(each))  # the mode that parts the rows in the first way
    mode = whole.combination.modes[which]
    error = float(np.hypot(*(m.log_evidence_error for m in whole.combination.modes)))
    assert error < 0.1  # of the log odds
    assert logit(mode.weight) == pytest.approx(logit(truth.first), abs=4 * error)
    assert share_of(whole, first, second) == pytest.approx(mode.weight, abs=0.01)
    evidence = whole.log_evidence()
    assert evidence.standard_error < 0.1
    assert float(evidence) == pytest.approx(truth.log_evidence, abs=4 * evidence.standard_error)
    check = whole.diagnose()["weights of the modes"]
    assert check.verdict == "ok" or name == "line"  # of which some draws diverge
    assert "2 modes were combined" in check.meaning
    assert f"combined of 2 modes, weights {whole.combination.modes[0].weight:.3g}" in repr(whole)


def test_modes_that_are_mirror_images_have_one_half_each() -> None:
    """They differ in nothing but who belongs together: not in height, weights or likelihood."""
    sides = [(SQUARE[:, d] > 0).astype(int) for d in (0, 1)]
    fits = [fit_quick(MODEL, SQUARE, sg.NUTS(chains=2), init=side) for side in sides]
    fit = spliced(fits, [[(f, c, 0, 1000)] for f in (0, 1) for c in (0, 1)])
    assert set(fit.modes.chains) == {(0, 1), (2, 3)}
    for mode in combined(fit).combination.modes:
        assert mode.weight_error < 0.05
        assert mode.weight == pytest.approx(0.5, abs=4 * mode.weight_error)


@pytest.mark.parametrize("stay", [300, 700])
def test_a_chain_that_moves_once_is_in_two_modes(stay: int) -> None:
    """The weights are those of chains that stay, wherever the chain moves."""
    fit = two_modes(1)
    one, other = fit.modes.chains
    moving = [(0, one[0], 0, stay), (0, other[0], stay, 1000)]
    made = spliced([fit], [[(0, c, 0, 1000)] for c in (one[1], other[1])] + [moving])
    assert set(made.modes.chains) == {(0, 2), (1, 2)}
    assert "chain 2 has moved" in str(made.modes)
    for chain, first, end in (piece for pieces in made.modes.pieces for piece in pieces):
        assert chain != 2 or end <= stay or first >= stay - 1
    whole, usual = combined(made), combined(fit)
    error = np.hypot(*(f.combination.modes[0].weight_error for f in (whole, usual)))
    assert whole.combination.modes[0].weight == pytest.approx(
        usual.combination.modes[0].weight, abs=4 * error
    )


def test_chains_that_move_freely_are_in_one_mode() -> None:
    """Ten moves of each chain between two basins: R-hat is bad, and they are not parted."""
    fit = two_modes(1)
    one, other = fit.modes.chains
    parts = [(0, (one if i % 2 else other)[0], 90 * i, 90 * (i + 1)) for i in range(11)]
    lazy = [(0, (one if i % 2 else other)[1], 90 * i, 90 * (i + 1)) for i in range(9)]
    lazy += [(0, other[1], 810, 990)]
    made = spliced([fit], [parts, lazy])
    assert made.modes.chains == ((0, 1),)


def test_a_combined_fit_is_a_fit_like_any_other(tmp_path: Path) -> None:
    fit = two_modes(1)
    whole = combined(fit)
    assert isinstance(whole, sg.Fit)
    assert whole.lp.shape == fit.lp.shape
    assert whole.combination.source.lp is fit.lp
    # Its draws are the source's.
    chain, draw = np.divmod(whole.combination.draws, fit.lp.shape[1])
    np.testing.assert_array_equal(whole.lp, fit.lp[chain, draw])
    modes = [psis_loo(mode).elpd for mode in whole.modes]
    assert min(modes) - 1.0 < psis_loo(whole).elpd < max(modes) + 1.0
    table = whole.summary()
    assert (table["ess_bulk"] > 400).all()
    assert whole.combined() is whole
    for how in ("ecr", "means", None):
        other = whole.relabel(how)
        assert other.relabelling == how
        np.testing.assert_array_equal(other.lp, whole.lp)
        np.testing.assert_array_equal(other.drawn.means, whole.drawn.means)
        assert list(other.summary()["mean"][:2]) == list(other.weights)
    exchanged = whole.reordered(np.array([1, 0]))
    np.testing.assert_array_equal(exchanged.means, whole.means[::-1])
    np.testing.assert_allclose(
        exchanged.summary()["ess_bulk"].iloc[:2], table["ess_bulk"].iloc[[1, 0]]
    )
    assert whole.select_chains([1]).combination.draws.shape == (1, 1000)
    loaded = sg.load(whole.save(tmp_path / "whole.nc"))
    assert isinstance(loaded, sg.Fit)
    assert str(loaded.diagnose()) == str(whole.diagnose())
    assert str(loaded.modes) == str(whole.modes)
    assert loaded.log_evidence() == whole.log_evidence()
    report = whole.report(tmp_path / "whole.html", progress=False).read_text()
    assert "The posterior has 2 modes" in report
    assert "fit = fit.combined()" in report


def test_a_fit_of_one_mode_is_combined_already() -> None:
    fit = sg.GaussianMixture(2, "full").fit(sg.datasets.faithful(), seed=1, progress=False)
    assert fit.combined() is fit
    with pytest.raises(sg.ModelError, match="runs no chains"):
        fit_quick(fit.model, fit.dataset.x, "em").combined()


def test_the_error_of_a_mean_over_modes_is_that_of_their_evidence() -> None:
    """The weights sum to one, so that their errors are not independent."""
    whole = combined(two_modes(1))
    modes = tuple(
        replace(mode, log_evidence_error=0.1, doubt="") for mode in whole.combination.modes
    )
    made = replace(whole, combination=replace(whole.combination, modes=modes))
    means = np.stack([fit.lp.mean() for fit in made.combination.fits])
    errors = 0.1 * np.random.default_rng(1).normal(size=(100_000, len(modes)))
    weights = np.exp(np.log([mode.weight for mode in modes]) + errors)
    spread = (weights @ means / weights.sum(axis=1)).std()
    weight = np.array([mode.weight for mode in modes])
    variances = np.array([fit.lp.var() for fit in made.combination.fits])
    sizes = np.array([measures_of(fit)["lp"].ess_mean for fit in made.combination.fits])
    own = weight**2 @ (variances / sizes)
    # Not that of the draws of all modes together, which are drawn by lot.
    variance = weight @ (variances + (means - weight @ means) ** 2)
    between = variance / measures_of(made)["lp"].ess_mean - own
    assert between == pytest.approx(spread**2, rel=0.05)


@pytest.mark.parametrize(("below", "verdict"), [(30.0, "ok"), (8.0, "warn"), (0.0, "fail")])
def test_doubts_about_a_mode_count_as_far_as_it_may_matter(below: float, verdict: str) -> None:
    whole = combined(two_modes(1))
    one, other = whole.combination.modes
    weight = 1 / (1 + np.exp(below))
    error = weight * (1 - weight)
    doubtful = replace(
        other,
        weight=weight,
        weight_error=error,
        log_evidence=one.log_evidence - below,
        doubt="The draws are few.",
    )
    modes = (replace(one, weight=1 - weight, weight_error=error), doubtful)
    made = replace(whole, combination=replace(whole.combination, modes=modes))
    check = made.diagnose()["weights of the modes"]
    assert check.verdict == verdict
    assert ("The draws are few." in check.advice) == (verdict != "ok")


def test_a_report_of_several_modes_describes_each_and_pools_none(tmp_path: Path) -> None:
    fit = two_modes(1)
    page = Page(fit.report(tmp_path / "r.html", progress=False).read_text())
    answer = page.words.partition("do not rely on it")[2].partition("The mixture")[0]
    for title in ("Mode 0, chains", "Mode 1, chains"):
        assert title in answer
    sides = re.findall(r"x1 (\S+), x2 (\S+)", answer.partition("these means")[2])
    assert [[abs(float(mean.replace("−", "-"))) > 1 for mean in side] for side in sides] == (
        [[True, False]] * 2 + [[False, True]] * 2
    )
    for part in ("All parameters", "Which component each row belongs to", "Prior and posterior"):
        assert part not in page.words
    assert "Results (" not in fit.describe()
    assert "All parameters" in combined(fit).report(tmp_path / "r.html").read_text()


def test_what_a_divided_fit_shows_is_by_mode_or_says_that_it_is_pooled() -> None:
    fit = two_modes(1)
    own = [mode.means for mode in fit.modes]
    lines = repr(fit).splitlines()
    assert lines[1] == "  in 2 modes, not combined: combined() weights them"
    modes = [i for i, line in enumerate(lines) if re.match(r"  mode \d, chains \d, \d$", line)]
    assert modes == [2, 5]
    listed = [re.findall(r"x\d (\S+) \(sd", lines[i]) for i in (3, 4, 6, 7)]
    np.testing.assert_allclose(np.array(listed, float), np.concatenate(own), rtol=1e-3)

    page = Page(fit._repr_html_())
    assert "The chains are in two different modes" in page.words
    assert [tag for tag, _ in page.tags].count("svg") == 2
    for mode in fit.modes:
        for mean, unit in zip(mode.means.flat, mode.scales.flat, strict=True):
            assert number(mean, unit) in page.words

    with pytest.warns(sg.ConvergenceWarning, match=r"pooled over the modes.*fit\.combined\(\)"):
        table = fit.summary()
    for ask in (fit.rows, fit.partition, fit.merge_path):
        with pytest.warns(sg.ConvergenceWarning, match=r"pooled over the modes.*fit\.combined\(\)"):
            ask()
    assert "pooled over the" in str(table)
    assert "pooled over the" in str(table._repr_html_())
    whole = combined(fit)
    assert "pooled" not in str(whole.summary())  # and no warning
    assert "mode 0" not in repr(whole)


# ---- real data -------------------------------------------------------------------------------


def test_the_modes_of_iris_are_found_and_weighed_alike_from_two_seeds() -> None:
    """Three components: two thirds of the posterior lie where one of them holds no row."""
    x = load_iris().data
    model = sg.GaussianMixture(3, "full")
    fits = [fit_quick(model, x, sg.NUTS(thin=4), seed=seed) for seed in (1, 2)]
    wholes = [combined(fit) for fit in fits]
    for fit, whole in zip(fits, wholes, strict=True):
        assert convergence(fit)["r_hat"] > 1.2
        assert len(fit.modes) > 1
        assert whole.diagnose()["R-hat"].value < R_HAT_FAIL
        assert whole.diagnose()["weights of the modes"].verdict != "fail"
    one, two = (whole.log_evidence() for whole in wholes)
    error = np.hypot(one.standard_error, two.standard_error)
    assert float(one) == pytest.approx(float(two), abs=4 * error)
    one, two = (whole.combination.modes[0] for whole in wholes)
    error = np.hypot(one.weight_error, two.weight_error)
    assert one.weight == pytest.approx(two.weight, abs=4 * error)
    assert 0.5 < one.weight < 0.85


def test_wines_modes_are_told_apart_by_who_belongs_together() -> None:
    """A chain from EM's second optimum stays in a mode 4 nats lower, in draws that vary by 6."""
    x = load_wine().data
    model = sg.GaussianMixture(3, "diag")
    best = fit_quick(model, x, sg.NUTS(chains=2))
    optimum = fit_quick(model, x, sg.EM()).info.optima[1]
    labels = optimum.mixture.responsibilities(x).argmax(axis=0)

    def below(fit: sg.Fit) -> float:
        return float(best.lp.mean() - fit.lp.mean(axis=1).min())

    seeds = range(1, 9)  # about every second chain leaves for the better mode
    there = (fit_quick(model, x, sg.NUTS(chains=2), init=labels, seed=seed) for seed in seeds)
    lower = next(fit for fit in there if below(fit) > 2.0)
    assert below(lower) < float(best.lp.std())
    stays = int(lower.lp.mean(axis=1).argmin())
    made = spliced([best, lower], [[(f, c, 0, 1000)] for f, c in ((0, 0), (0, 1), (1, stays))])
    assert set(made.modes.chains) == {(0, 1), (2,)}
    whole = combined(made)
    assert whole.combination.modes[0].chains == (0, 1)
    assert whole.combination.modes[1].weight < 0.02
    assert whole.diagnose().computation.verdict == "ok"
    pooled, single, own = (psis_loo(f).elpd for f in (made, best, whole))
    assert own == pytest.approx(single, abs=10.0)
    assert own > pooled + 5.0


# ---- better starts ---------------------------------------------------------------------------


def test_chains_that_lead_to_a_better_optimum_start_again_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both components on all the data is a saddle, which chains leave."""
    from stangmm.methods.stan import nuts

    x = sg.datasets.faithful()
    model = sg.GaussianMixture(2, "full")
    usual = fit_quick(model, x, sg.NUTS())
    assert usual.info.left == ()
    real = nuts.regions

    def at_a_saddle(problem: Problem, run: Run) -> tuple[Region, ...]:
        (place,) = real(problem, run)
        best = place.optimum
        alike = np.array([[0.1, 0.0], [-0.1, 0.0]])
        one = np.cov(problem.x.T)
        saddle = Mixture.from_covariances(np.full(2, 0.5), alike, np.stack([one, one]))
        lower = replace(best, mixture=saddle, objective=best.objective - 150.0)
        return (replace(place, optimum=lower),)

    monkeypatch.setattr(nuts, "regions", at_a_saddle)
    fit = fit_quick(model, x, sg.NUTS())
    best = usual.info.starts[0].objective
    assert fit.info.starts[0].objective == pytest.approx(best, abs=1e-3)
    assert fit.info.left[0].objective == pytest.approx(best - 150.0)
    assert fit.diagnose().computation.verdict == "ok"
    assert "A first run" in fit.diagnose()["modes"].meaning


def test_draws_above_the_best_start_are_told(fits_faithful: LazyFits) -> None:
    fit = fits_faithful["nuts"]
    assert "draws above the best start" not in [check.name for check in fit.diagnose()]
    low = [replace(s, objective=s.objective - 30.0) for s in fit.info.starts]
    check = replace(fit, info=replace(fit.info, starts=tuple(low))).diagnose()[
        "draws above the best start"
    ]
    assert check.verdict == "warn"
    assert 20 < check.value < 30
    assert "init=fit" in check.advice


def test_an_optimum_that_the_priors_outweigh_is_told(fits_faithful: LazyFits) -> None:
    fit = fits_faithful["nuts"]
    name = "optimum of the likelihood"
    assert name not in [check.name for check in fit.diagnose()]
    best = fit.info.starts[0]
    higher = replace(best, objective=best.objective + 30.0)
    told = replace(fit, info=replace(fit.info, outweighed=(higher,)))
    check = told.diagnose()[name]
    assert check.verdict == "warn"
    assert check.value == pytest.approx(30.0)
    assert "whitened" in check.advice
    assert "97" in check.meaning  # rows of a component
    assert check in told.diagnose().serious


def test_comparisons_and_selections_combine_modes_that_disagree() -> None:
    comparison = sg.compare(MODEL, X, [sg.NUTS(draws=500)], seed=1, progress=False)
    fit = comparison.fits["nuts"]
    assert fit.combination is not None
    assert comparison.table.loc["nuts", "status"] != "fail"
    selection = sg.select_components(
        X, [1, 2], method=sg.NUTS(draws=500), covariance_type="diag", seed=1, progress=False
    )
    chosen = selection.fits[2]
    assert chosen.combination is not None
    assert not chosen.diagnose().computation.failed
    assert not selection.mended
