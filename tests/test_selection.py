"""The choice of the number of components: the rule, the table, failures, and real grids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fitting import QUICK
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import stangmm as sg
from stangmm.base.tasks import Workers
from stangmm.data.dataset import Dataset
from stangmm.judge.criteria import CRITERIA, Score, aic, bic, icl, waic
from stangmm.judge.leave_one_out import psis_loo
from stangmm.many.choice import Selection
from stangmm.many.grid import Grid
from stangmm.many.selection import select_components
from stangmm.methods.base import Run


def three_blobs(n: int = 150) -> np.ndarray:
    """Three well separated components in two features."""
    rng = np.random.default_rng(1)
    centers = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    return centers[rng.integers(3, size=n)] + rng.normal(size=(n, 2))


def select_em(X: Any, components: Any = range(1, 6), **options: Any) -> Selection:
    settings = {"method": sg.EM(restarts=10), "seed": 1, "progress": False, "jobs": 1} | options
    return select_components(X, components, **settings)


def by_hand(
    criterion: str,
    scores: dict[Any, Score],
    failures: dict[Any, str] | None = None,
    weight: np.ndarray | None = None,
) -> Selection:
    """A selection whose numbers are given, with models but without fits."""
    fits: dict[Any, Any] = {
        k: SimpleNamespace(model=sg.GaussianMixture(*reversed(k if isinstance(k, tuple) else (k,))))
        for k in scores
    }
    n = next((len(s.pointwise) for s in scores.values() if s.pointwise is not None), 3)
    dataset = Dataset.from_input(np.arange(float(n)), weight)
    return Selection(criterion, dataset, fits, scores, failures or {}, 1)


def elpd(pointwise: Any, **facts: Any) -> Score:
    values = np.asarray(pointwise, dtype=float)
    return Score(float(values.sum()), 1.0, values, **facts)


# ---- the rule --------------------------------------------------------------------------------

WAVE = np.tile([1.0, -1.0], 50)  # 100 rows; its sum has standard error 10


def test_the_fewest_components_within_two_standard_errors_of_the_best_elpd_are_chosen() -> None:
    base = np.full(100, -2.0)
    selection = by_hand(
        "loo",
        {
            1: elpd(base - 0.20),  # 20 lower without any error
            2: elpd(base - 0.21 + WAVE),  # 21 lower, error 10: beyond two errors
            3: elpd(base - 0.19 + WAVE),  # 19 lower, error 10
            4: elpd(base - 0.01),
            5: elpd(base),
        },
    )
    assert selection.best_value == 5
    assert selection.n_components == 3
    assert selection.difference(3) == pytest.approx((-19.0, 10.0))
    assert selection.difference(5) == (0.0, 0.0)
    for words in ("K = 5 has the highest elpd_loo (-200.0)", "K = 3", "19.0 lower", "10.0"):
        assert words in selection.why
    assert "within two standard errors" in selection.why
    assert "the smaller model is chosen" in selection.why


def test_the_best_elpd_is_chosen_where_fewer_components_are_clearly_worse() -> None:
    base = np.full(100, -2.0)
    selection = by_hand("waic", {1: elpd(base - 0.3), 2: elpd(base), 3: elpd(base - 0.1)})
    assert selection.n_components == 2
    assert "K = 1 is 30.0 lower" in selection.why


def test_differences_of_weighted_rows_count_each_row_as_often_as_it_occurs() -> None:
    rng = np.random.default_rng(2)
    first, second, count = rng.normal(size=50), rng.normal(size=50), 1.0 + np.arange(50) % 4
    gap = np.repeat(first - second, count.astype(int))
    selection = by_hand(
        "loo",
        {1: elpd(first), 2: Score(1e6, 1.0, second)},
        weight=count,
    )
    expected = (gap.sum(), np.sqrt(len(gap)) * gap.std())
    assert selection.difference(1) == pytest.approx(expected)


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl"])
def test_the_lowest_information_criterion_is_chosen_whatever_is_near(criterion: str) -> None:
    scores = {1: Score(120.0), 2: Score(100.5), 3: Score(100.0), 4: Score(130.0)}
    selection = by_hand(criterion, scores)
    assert selection.n_components == selection.best_value == 3
    assert f"K = 3 has the lowest {criterion} (100.0); the next best, K = 2, is 0.5 worse" in (
        selection.why
    )


def test_a_weak_difference_of_bic_is_said_to_be_weak() -> None:
    near = by_hand("bic", {1: Score(101.5), 2: Score(100.0), 3: Score(100.1)})
    assert near.n_components == 2
    assert "But K = 1 is only 1.5 worse" in near.why
    assert "hardly worth" not in by_hand("bic", {1: Score(103.0), 2: Score(100.0)}).why


def test_the_highest_evidence_is_chosen_and_errors_of_both_enter_the_difference() -> None:
    scores = {1: Score(-30.0, 0.3), 2: Score(-20.0, 0.4), 3: Score(-20.1, 0.4)}
    selection = by_hand("evidence", scores)
    assert selection.n_components == 2
    assert selection.difference(1) == pytest.approx((-10.0, 0.5))
    assert "highest log_evidence" in selection.why
    near = by_hand("evidence", scores | {1: Score(-20.7, 0.3)})  # its error is 0.5
    assert (near.best_value, near.n_components) == (2, 1)
    assert "but K = 1 is only 0.7 lower" in near.why


def test_why_says_what_speaks_against_the_choice() -> None:
    base = np.full(10, -2.0)
    scores = {1: elpd(base - 1, doubt="noise"), 2: elpd(base, doubt="Pareto k.")}
    why = by_hand("loo", scores, failures={3: "collapsed"}).why
    assert "But the elpd_loo of K = 2 is doubtful: Pareto k." in why
    assert "noise" not in why
    assert "K = 3 failed" in why
    assert "try more" not in why
    assert "K = 2 is the largest number tried: try more" in by_hand("loo", scores).why
    assert "failed" not in by_hand("loo", scores).why


def test_a_small_difference_of_elpd_buys_no_component() -> None:
    base = np.full(100, -2.0)
    selection = by_hand("loo", {1: elpd(base - 0.02), 2: elpd(base)})
    assert (selection.best_value, selection.n_components) == (2, 1)
    assert "K = 1 is only 2.0 lower" in selection.why
    assert "less than 4, too little" in selection.why
    clear = by_hand("loo", {1: elpd(base - 0.05), 2: elpd(base)})
    assert clear.n_components == 2
    assert "small" not in clear.why


def test_a_single_number_of_components_needs_no_comparison() -> None:
    assert "only number" in by_hand("bic", {2: Score(3.0)}).why


# ---- real grids by EM ------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", [None, "bic", "icl"])
def test_three_separated_components_are_found_by_em(criterion: str | None) -> None:
    selection = select_em(three_blobs(), criterion=criterion)
    assert selection.criterion == (criterion or "bic")
    assert selection.n_components == 3
    assert selection.best is selection.fits[3]
    formula = {"bic": bic, "icl": icl}[selection.criterion]
    for k, fit in selection.fits.items():
        assert selection.scores[k].value == formula(fit)


def test_bic_chooses_three_tied_components_for_faithful_as_mclust_does() -> None:
    # summary(mclustBIC(faithful, modelNames = "EEE")): -2607.623, -2325.220, -2314.316, ...
    selection = select_em(
        sg.datasets.faithful(), range(1, 5), covariance_type="tied", method=sg.EM(restarts=15)
    )
    assert selection.n_components == 3
    assert selection.table["bic"].iloc[:3].tolist() == pytest.approx(
        [2607.623, 2325.220, 2314.316], abs=0.03
    )


def test_the_table_has_a_row_for_each_number_of_components() -> None:
    selection = select_em(three_blobs(), [3, 1, 2], criterion="aic")
    table = selection.table
    assert list(table.index) == [1, 2, 3]
    assert table.index.name == "n_components"
    assert list(table["aic"]) == [aic(selection.fits[k]) for k in (1, 2, 3)]
    assert (table["difference"] == table["aic"] - table["aic"].min()).all()
    assert (table["difference"] >= 0).all()
    assert list(table["n_parameters"]) == [5, 11, 17]
    assert list(table["status"]) == [selection.fits[k].diagnose().verdict for k in (1, 2, 3)]
    assert table["seconds"].gt(0).all()
    assert table[["se", "difference_se", "bad_k"]].isna().all(axis=None)
    assert table.attrs["better"] == "lower"
    shown = repr(selection)
    assert "3 components by aic (lower is better)" in shown
    assert "bad_k" not in shown


def test_the_table_does_not_depend_on_the_number_of_jobs() -> None:
    one, two = (select_em(three_blobs(), jobs=jobs).table for jobs in (1, 2))
    assert one.drop(columns="seconds").equals(two.drop(columns="seconds"))


def test_a_number_of_components_has_the_same_fit_in_every_grid() -> None:
    small, large = select_em(three_blobs(), [3]), select_em(three_blobs(), [2, 3, 4])
    assert small.fits[3].seed == large.fits[3].seed != large.fits[2].seed
    assert small.scores[3].value == large.scores[3].value
    assert select_em(three_blobs(), [3], seed=2).fits[3].seed != small.fits[3].seed


def test_sample_weights_count_in_the_grid() -> None:
    x, count = three_blobs(60), 1.0 + np.arange(60) % 2
    weighted = select_em(x, [1, 2, 3], sample_weight=count)
    repeated = select_em(np.repeat(x, count.astype(int), axis=0), [1, 2, 3])
    np.testing.assert_allclose(weighted.table["bic"], repeated.table["bic"], atol=1e-3)


# ---- over covariance types -------------------------------------------------------------------


def test_of_two_types_within_errors_the_one_with_fewer_parameters_is_chosen() -> None:
    base = np.full(100, -2.0)
    scores = {
        ("full", 2): elpd(base - 0.5),  # 5 parameters of one feature
        ("full", 3): elpd(base),  # 8
        ("tied", 3): elpd(base - 0.01),  # 6
        ("tied", 4): elpd(base + 0.005),  # 8: no smaller than K = 3, full, but higher
    }
    selection = by_hand("loo", scores, failures={("full", 4): "no", ("tied", 1): "no"})
    assert selection.best_value == ("tied", 4)
    assert selection.chosen == ("tied", 3)
    assert (selection.n_components, selection.covariance_type) == (3, "tied")
    assert "K = 4 (tied) has the highest elpd_loo" in selection.why
    assert "K = 3 (tied) is only 1.5 lower" in selection.why
    assert "K = 4 (full), K = 1 (tied) failed" in selection.why


def test_of_two_types_with_as_many_parameters_the_better_one_is_chosen() -> None:
    base = np.full(100, -2.0)
    scores = {("full", 3): elpd(base), ("tied", 4): elpd(base + 0.005)}
    assert by_hand("loo", scores).chosen == ("tied", 4)
    clear = {("full", 2): Score(110.0), ("tied", 2): Score(100.0)}
    why = by_hand("bic", clear).why
    assert "K = 2 (tied) has the lowest bic (100.0); the next best, K = 2 (full), is 10.0" in why


def test_type_and_number_are_chosen_together_as_by_mclust() -> None:
    # mclustBIC(faithful): EEE,3 -2314.316 (best), VVV,2 -2322.192; EEE,2 -2325.220
    data = sg.datasets.faithful()
    selection = select_em(data, [3, 2], covariance_type=["tied", "full"], method=sg.EM(restarts=15))
    table = selection.table
    assert list(table.index) == [("full", 2), ("full", 3), ("tied", 2), ("tied", 3)]
    assert table.index.names == ["covariance_type", "n_components"]
    assert selection.chosen == ("tied", 3)
    assert selection.best is selection.fits["tied", 3]
    assert [table["bic"][name, 2] for name in ("full", "tied")] == pytest.approx(
        [2322.192, 2325.220], abs=0.03
    )
    assert table["bic"]["tied", 3] == pytest.approx(2314.316, abs=0.03)
    assert table.index[table["chosen"]].tolist() == [("tied", 3)]
    assert repr(selection).startswith("Selection: 3 components (tied) by bic")
    assert [line.split()[-2] for line in repr(selection).splitlines()[-1:]] == ["*"]
    # The types do not disturb each other.
    alone = select_em(data, [2, 3], covariance_type="tied", method=sg.EM(restarts=15))
    assert alone.chosen == 3
    for k in (2, 3):
        assert alone.fits[k].bic() == selection.fits["tied", k].bic()
    two = select_em(
        data, [3, 2], covariance_type=["tied", "full"], method=sg.EM(restarts=15), jobs=2
    )
    assert two.table.drop(columns="seconds").equals(table.drop(columns="seconds"))


def test_models_that_fail_are_rows_of_their_type() -> None:
    x = np.random.default_rng(3).normal(size=(8, 2))
    selection = select_em(x, [1, 9], covariance_type=("full", "spherical"))
    assert list(selection.failures) == [("full", 9), ("spherical", 9)]
    assert selection.table["status"]["spherical", 9] == "error"
    assert "K = 9 (full), K = 9 (spherical) failed" in selection.why
    with pytest.raises(sg.InferenceError, match=r"K = 9 \(full\): .*9 rows"):
        select_em(x, [9], covariance_type=["full"])


# ---- failures and errors ---------------------------------------------------------------------


def test_numbers_of_components_that_fail_are_rows_with_the_reason() -> None:
    x = np.random.default_rng(3).normal(size=(8, 2))
    selection = select_em(x, [1, 4, 9])
    assert list(selection.fits) == [1]
    assert "maximum of the likelihood" in selection.table["note"][4]
    assert selection.table["status"][9] == "error"
    assert "at least 9 rows" in selection.table["note"][9]
    assert selection.n_components == 1
    assert "K = 4, 9 failed" in selection.why
    assert "error" in repr(selection)


def test_when_all_fail_the_error_gives_every_reason() -> None:
    x = np.random.default_rng(3).normal(size=(8, 2))
    with pytest.raises(
        sg.InferenceError, match=r"(?s)K = 4: .*maximum of the likelihood.*K = 9: .*9 rows"
    ):
        select_em(x, [4, 9])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"criterion": "loo"}, r'criterion="loo" cannot be computed from method "em".*\[\'bic\''),
        ({"criterion": "waic"}, "cannot be computed"),
        ({"criterion": "evidence"}, "cannot be computed"),
        ({"criterion": "evidence", "method": "advi"}, r"approximation.*'loo', 'waic', 'bic'"),
        ({"criterion": "dic"}, r"criterion must be one of \['loo'"),
        ({"method": "magic"}, "method must be one of"),
        ({"components": []}, r"sequence of numbers such as range\(1, 9\)"),
        ({"components": 5}, "sequence of numbers"),
        ({"components": [0, 1]}, "at least 1, got 0"),
        ({"components": [1.5]}, "whole number"),
        ({"covariance_type": "round"}, "covariance_type must be one of"),
        ({"covariance_type": ["full", "round"]}, "covariance_type must be one of"),
        ({"covariance_type": ["full", "VEE"], "method": "nuts"}, 'fitted by method="em" only'),
        ({"covariance_type": []}, 'name such as "full" or a list of names'),
        ({"covariance_type": 3}, 'name such as "full" or a list of names'),
        ({"priors": sg.Priors(weights=sg.Dirichlet([1.0, 2.0]))}, "Dirichlet concentration"),
        ({"jobs": 0}, "jobs must be a whole number"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, options: Any, words: str
) -> None:
    def started(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a fit was started")

    monkeypatch.setattr("stangmm.many.selection.fitted", started)
    with pytest.raises(sg.ModelError, match=words):
        select_em(three_blobs(), **options)


def test_an_error_that_is_no_failure_of_a_fit_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stangmm.many.selection.fitted", broken)
    for jobs in (1, 2):
        with pytest.raises(ZeroDivisionError):
            select_em(three_blobs(), jobs=jobs)


def test_data_that_cannot_be_used_are_refused_at_once() -> None:
    with pytest.raises(sg.DataError, match="must be finite"):
        select_em(np.array([1.0, np.nan, 2.0]))


# ---- fits that failed their checks ------------------------------------------------------------


def overlapping_blobs() -> np.ndarray:
    """Two blobs for which EM needs more than three iterations with two components or more."""
    shift = np.repeat([[0.0], [2.5]], 100, axis=0)
    return np.random.default_rng(5).normal(size=(200, 2)) + shift


HASTY = sg.EM(restarts=5, max_iterations=3)


class Stubborn(sg.EM):
    """EM whose second run is no longer than the first."""

    def longer(self, info: Any) -> Any:
        return self


def test_a_fit_that_failed_is_made_again_by_a_longer_run() -> None:
    selection = select_em(overlapping_blobs(), [1, 2], method=HASTY)
    assert selection.n_components == 2
    assert selection.best.settings == sg.EM(restarts=5, max_iterations=30)
    assert selection.best.diagnose()["converged"].verdict == "ok"
    for words in (selection.why, selection.table["note"][2]):
        assert "Run again, longer (max_iterations 30)." in words
    assert list(selection.mended) == [2]


def test_a_fit_that_failed_and_cannot_change_the_choice_is_left_out_as_it_is(
    tmp_path: Path,
) -> None:
    selection = select_em(overlapping_blobs(), [1, 2, 3], method=HASTY)
    assert selection.n_components == 2
    assert list(selection.fits) == list(selection.scores) == [1, 2]
    assert list(selection.left_out) == [3]
    row = selection.table.loc[3]
    assert (row["status"], row["n_parameters"]) == ("fail", 17)
    assert np.isnan(row["bic"])
    assert "failed checks (converged 0)" in row["note"]
    assert "not run again, since that would not change the choice" in row["note"]
    loaded = sg.load(selection.save(tmp_path / "selection.nc"))
    assert loaded.table.equals(selection.table)


@pytest.mark.parametrize(("below", "criterion", "again"), [
    (2.0, "evidence", [3]),  # a seventh as probable as the best
    (6.0, "evidence", []),
    (2.0, "loo", []),  # no choice hangs on it
])  # fmt: skip
def test_by_the_evidence_a_fit_that_may_be_probable_is_made_again(
    monkeypatch: pytest.MonkeyPatch, below: float, criterion: str, again: list[int]
) -> None:
    values = {1: -30.0, 2: -10.0, 3: -10.0 - below}

    def score(fit: sg.Fit, others: Any) -> Score:
        return Score(values[fit.model.n_components], 0.01, doubt="")

    monkeypatch.setattr(
        "stangmm.many.grid.left_out_because",
        lambda fit: "failed" if fit.model.n_components == 3 else "",
    )
    rule = replace(CRITERIA[criterion], score=score)
    fits = select_em(np.arange(20.0), [1, 2, 3], method=sg.EM(restarts=2), criterion="aic")
    made: Any = {**fits.fits, **fits.left_out}
    grid = Grid(rule, fits.dataset, 1, made)
    assert list(grid.wanted()) == again


def test_what_failed_twice_is_never_chosen() -> None:
    stubborn = Stubborn(restarts=5, max_iterations=3)
    selection = select_em(overlapping_blobs(), [1, 2], method=stubborn)
    assert selection.n_components == 1
    assert "K = 2 failed" in selection.why
    assert "not run again" not in selection.table["note"][2]
    with pytest.raises(sg.InferenceError, match=r"K = 2: The fit failed checks") as caught:
        select_em(overlapping_blobs(), [2], method=stubborn)
    assert caught.value.partial[2].diagnose().verdict == "fail"


# ---- processors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "jobs", "expected", "chains"),
    [
        (sg.NUTS(), None, 8, 1),  # fits at a time, chains at a time in each
        (sg.NUTS(), 1, 1, 4),
        (sg.NUTS(), 4, 4, 2),
        (sg.NUTS(), 100, 20, 1),
        (sg.NUTS(parallel_chains=4), None, 2, 4),
        (sg.NUTS(threads_per_chain=2), None, 4, 1),
        (sg.NUTS(threads_per_chain=16), None, 1, 1),
        (sg.EM(), None, 8, None),
        (sg.ADVI(), None, 8, None),
        (sg.Optimize(), None, 1, None),  # it uses all processors by itself
        (sg.Optimize(), 3, 3, None),
    ],
)
def test_fits_and_chains_together_use_the_processors_once(
    monkeypatch: pytest.MonkeyPatch, settings: Any, jobs: Any, expected: int, chains: Any
) -> None:
    monkeypatch.setattr("stangmm.base.tasks.n_processors", lambda: 8)
    workers = Workers.of(20, settings.processors, jobs)
    assert workers.at_a_time == expected
    if chains is not None:
        assert settings.chains_at_a_time(Run(1, processors=workers.processors)) == chains


# ---- grids by NUTS ---------------------------------------------------------------------------

SETTINGS = sg.NUTS(chains=2, draws=500)


@pytest.fixture(scope="module")
def by_nuts() -> Selection:
    return select_components(three_blobs(), [1, 2, 3, 4], method=SETTINGS, seed=1, progress=False)


@pytest.mark.stan
def test_three_separated_components_are_found_by_nuts_and_loo(by_nuts: Selection) -> None:
    assert by_nuts.criterion == "loo"
    assert by_nuts.n_components == 3
    table = by_nuts.table
    assert table["elpd_loo"].idxmax() in (3, 4)
    assert table["difference"].max() == 0
    for k, fit in by_nuts.fits.items():
        result = psis_loo(fit)
        assert table["elpd_loo"][k] == pytest.approx(result.elpd)
        assert table["se"][k] == pytest.approx(result.se)
        assert table["bad_k"][k] == (result.pareto_k > result.good_k).sum()
    best = psis_loo(by_nuts.fits[by_nuts.best_value]).elpd_i
    gap = psis_loo(by_nuts.fits[1]).elpd_i - best
    assert table["difference_se"][1] == pytest.approx(np.sqrt(150) * gap.std())
    assert table.attrs["better"] == "higher"
    assert by_nuts.fits[3].settings == SETTINGS.at_first()


@pytest.mark.stan
def test_jobs_change_neither_the_draws_nor_the_table_nor_the_process() -> None:
    filters, threads = list(warnings.filters), os.environ.get("STAN_NUM_THREADS")
    one, two = (
        select_components(
            three_blobs(), [1, 2, 3], method=QUICK["nuts"], seed=1, jobs=jobs, progress=False
        )
        for jobs in (1, 2)
    )
    assert list(warnings.filters) == filters
    assert os.environ.get("STAN_NUM_THREADS") == threads
    assert one.table.drop(columns="seconds").equals(two.table.drop(columns="seconds"))
    for k, fit in one.fits.items():
        np.testing.assert_array_equal(fit.lp, two.fits[k].lp)
        assert fit.settings == two.fits[k].settings


@pytest.mark.stan
@pytest.mark.parametrize("criterion", ["waic", "evidence"])
def test_other_criteria_of_posteriors_choose_three_as_well(
    by_nuts: Selection, criterion: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        scores = {k: CRITERIA[criterion].score(by_nuts.fits[k]) for k in (1, 2, 3)}
        expected = {
            "waic": lambda fit: waic(fit).elpd,
            "evidence": lambda fit: fit.log_evidence().log_evidence,
        }[criterion](by_nuts.fits[3])
    assert scores[3].value == expected
    assert by_hand(criterion, scores).n_components == 3


@pytest.mark.stan
def test_rows_of_high_pareto_k_are_counted_and_said() -> None:
    x = np.append(np.random.default_rng(9).normal(size=20), 9.0)
    selection = select_components(x, [1], method=SETTINGS, seed=1, progress=False)
    assert selection.table["bad_k"][1] == 1
    for words in (selection.why, selection.table["note"][1]):
        assert "Pareto k is too high for 1 row; loo(refit=True)" in words


@pytest.mark.stan
@pytest.mark.parametrize("method", ["advi", "optimize"])
def test_every_method_can_choose(method: str) -> None:
    selection = select_components(
        three_blobs(), [1, 3], method=QUICK[method], seed=1, progress=False
    )
    assert selection.criterion == {"advi": "loo", "optimize": "bic"}[method]
    assert selection.n_components == 3


PROGRAM = """
import numpy as np, stangmm as sg
x = np.random.default_rng(1).normal(size=100)
long = sg.NUTS(chains=2, draws=1_000_000)
print("began", flush=True)
sg.select_components(x, [1, 2, 3], method=long, seed=1, jobs=2, progress=False)
"""


@pytest.mark.stan
def test_an_interrupt_ends_the_fits_of_all_threads_at_once() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(3.0)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors


# ---- the picture -----------------------------------------------------------------------------


def drawn(ax: Axes) -> dict[str, Any]:
    """Render, and give what has a label."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    handles, labels = ax.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def test_the_picture_shows_values_errors_and_the_choice() -> None:
    base = np.full(100, -2.0)
    scores = {1: elpd(base - 0.5), 2: elpd(base - 0.09 + WAVE), 3: elpd(base)}
    selection = by_hand("loo", scores, failures={5: "collapsed"})
    ax = selection.plot()
    parts = drawn(ax)
    (curve,) = [line for line in ax.lines if len(line.get_xdata()) == 3]
    np.testing.assert_allclose(curve.get_xydata(), [[1, -250], [2, -209], [3, -200]])
    chosen = parts["chosen: 2 components"]
    np.testing.assert_allclose(chosen.get_xydata(), [[2, -209]])
    ends = [p.vertices[:, 1] for p in parts["1 SE of the difference"].get_paths()]
    np.testing.assert_allclose(ends, [[-250, -250], [-219, -199], [-200, -200]])
    boxes = [(b.get_y(), b.get_height()) for b in parts["within 1 SE of the best"]]
    np.testing.assert_allclose(boxes, [(-200, 0), (-210, 10), (-200, 0)])
    assert list(parts["failed"].get_xdata()) == [5]
    assert ax.get_ylabel() == "LOO elpd (higher is better)"


def test_the_picture_has_a_line_for_each_type() -> None:
    scores = {(t, k): Score(100.0 + k + len(t)) for t in ("full", "diag", "tied") for k in (1, 2)}
    scores["tied", 1] = Score(90.0)
    ax = by_hand("bic", scores, failures={("diag", 3): "no"}).plot()
    parts = drawn(ax)
    assert list(parts) == ["full", "tied", "diag", "chosen: 1 component, tied", "failed, diag"]
    np.testing.assert_allclose(parts["tied"].get_xydata(), [[1, 90], [2, 106]])
    np.testing.assert_allclose(parts["chosen: 1 component, tied"].get_xydata(), [[1, 90]])
    assert len({parts[t].get_color() for t in ("full", "diag", "tied")}) == 3


def test_types_with_errors_stand_beside_each_other() -> None:
    base = np.full(100, -2.0)
    scores = {(t, 1): elpd(base + WAVE * i) for i, t in enumerate(("full", "diag"))}
    at = [drawn(by_hand("loo", scores).plot())[t].get_xdata()[0] for t in ("full", "diag")]
    assert at[0] < 1 < at[1]


def test_the_picture_of_a_criterion_without_errors_has_none_and_draws_on_given_axes() -> None:
    given = Figure().add_subplot()
    selection = by_hand("bic", {1: Score(120.0), 2: Score(100.0)})
    assert selection.plot(given) is given
    assert set(drawn(given)) == {"chosen: 2 components"}
    assert given.get_ylabel() == "BIC (lower is better)"


# ---- spikes ----------------------------------------------------------------------------------


@pytest.mark.stan
@pytest.mark.parametrize(("share", "chosen"), [(0.1, 1), (0.4, 2)])
def test_a_component_on_few_equal_values_is_chosen_only_where_it_is_a_cluster(
    share: float, chosen: int
) -> None:
    rng = np.random.default_rng(12)
    x = rng.normal(0.0, 3.0, 200).round(3)
    x[: int(200 * share)] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        selection = sg.select_components(
            x,
            [1, 2],
            method=sg.NUTS(chains=2, warmup=300, draws=300),
            covariance_type="diag",
            seed=1,
            progress=False,
        )
    assert selection.n_components == chosen
    if chosen == 1:
        assert "how finely the data were rounded" in selection.table["note"][2]
        assert list(selection.left_out) == [2]
