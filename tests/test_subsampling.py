"""Leave-one-out of some rows against that of all rows, and its errors over all samples."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from either_arviz import IS_OLDER, az
from fitting import fit_quick
from normal_draws import NormalDraws
from random_mixtures import random_mixture

import stangmm as sg
from stangmm.judge import leave_one_out
from stangmm.judge.leave_one_out import psis_loo, subsampled_loo
from stangmm.judge.subsampling import (
    Parts,
    Subsample,
    completed,
    difference,
    draw_rows,
    pooled,
    summed,
)


def rows(n: int, seed: int = 1) -> np.ndarray:
    """Three overlapping clusters in two features, with some rows far out."""
    x = random_mixture(np.random.default_rng(seed), "full", 3, 2, spread=2.0).sample(
        np.random.default_rng(seed + 1), n
    )
    x[: n // 100] *= 3.0
    return x


def fit_normal(x: Any, k: int = 3, *, noise: bool = False, **options: Any) -> sg.Fit:
    return fit_quick(sg.GaussianMixture(k, noise=noise), x, NormalDraws(), **options)


@pytest.fixture(scope="module")
def fits() -> tuple[sg.Fit, sg.Fit]:
    return fit_normal(rows(2500)), fit_normal(rows(2500), 2)


# ---- the estimator ---------------------------------------------------------------------------


def made_parts(rng: np.random.Generator, drawn: np.ndarray, exact: np.ndarray) -> Parts:
    """Parts of which the drawn ones are known, with approximations near them."""
    each, approx = np.full(len(exact), np.nan), exact + 0.1 * rng.normal(size=len(exact))
    each[drawn] = exact[drawn]
    return Parts(each, Subsample(drawn, np.empty(0, dtype=int), approx, approx[drawn]))


@pytest.mark.parametrize("of", ["one sum", "a difference"])
def test_over_all_samples_sum_and_errors_are_right_on_average(of: str) -> None:
    """All 126 samples of four rows of nine; a tenth row does not count."""
    rng = np.random.default_rng(1)
    exact, other = rng.normal(size=10), rng.normal(size=10)
    weight = np.append(rng.integers(1, 4, 9), 0).astype(float)
    wanted = exact if of == "one sum" else exact - other
    total, error = pooled(wanted, weight)
    found = []
    for sample in itertools.combinations(range(9), 4):
        drawn = np.array(sample)
        one = made_parts(np.random.default_rng(2), drawn, exact)
        two = made_parts(np.random.default_rng(3), drawn, other)
        made = summed(one, weight) if of == "one sum" else difference(one, two, weight)
        found.append((made.value, made.subsampling_se**2, made.se**2))
        assert made.error == pytest.approx(np.hypot(made.se, made.subsampling_se))
    values, variances, squares = np.transpose(found)
    assert values.mean() == pytest.approx(total, rel=1e-12)
    assert variances.mean() == pytest.approx(values.var(), rel=1e-10)
    assert squares.mean() == pytest.approx(error**2, rel=1e-10)


def test_rows_of_fewer_are_among_those_of_more_and_only_rows_that_count_are_drawn() -> None:
    counted = np.flatnonzero(np.arange(1000) % 3)
    few, many = draw_rows(counted, 20), draw_rows(counted, 300)
    assert set(few) <= set(many) <= set(counted)
    assert (np.diff(many) > 0).all()
    np.testing.assert_array_equal(few, draw_rows(counted, 20))


# ---- leave-one-out of some rows --------------------------------------------------------------


def kinds_of_data() -> dict[str, tuple[Any, dict[str, Any]]]:
    x, rng = rows(120), np.random.default_rng(4)
    holes = x.copy()
    holes[rng.random(x.shape) < 0.1] = np.nan
    return {
        "plain": (x, {}),
        "weights": (x, {"sample_weight": rng.poisson(1.5, 120)}),
        "missing": (holes, {"missing": "marginalize"}),
        "labels": (x, {"labels": np.where(np.arange(120) % 4, -1, np.arange(120) % 3)}),
        "noise": (x, {"noise": True}),
        "one feature": (x[:, 0], {}),
    }


@pytest.mark.parametrize("kind", list(kinds_of_data()))
@pytest.mark.parametrize("certain", [0, 25])
def test_if_every_row_is_drawn_it_is_leave_one_out(kind: str, certain: int) -> None:
    x, options = kinds_of_data()[kind]
    fit = fit_normal(x, **options)
    weight = fit.dataset.sample_weight
    every = np.arange(120) if weight is None else np.flatnonzero(weight)
    # Whether sums over all rows come from the fit or from the rows makes no difference then.
    made, whole = subsampled_loo(fit, every, certain), psis_loo(fit)
    for name in ("elpd", "se", "p"):
        assert getattr(made, name) == pytest.approx(getattr(whole, name), rel=1e-9), name
    assert made.subsampling_se == 0
    assert made.warning == whole.warning
    np.testing.assert_allclose(made.elpd_i[every], whole.elpd_i[every], rtol=1e-12)
    np.testing.assert_allclose(made.pareto_k[every], whole.pareto_k[every], rtol=1e-9, atol=1e-9)


def test_rows_that_were_not_visited_are_nan(fits: tuple[sg.Fit, sg.Fit]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        made = fits[0].loo(subsample=400)
        whole = fits[0].loo(subsample=2500)
    assert whole.subsample is None
    assert whole.subsampling_se == 0
    sampled = made.subsample
    assert sampled is not None
    assert (len(sampled.drawn), len(sampled.certain)) == (300, 100)
    assert 300 < made.n_visited <= 400
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(made.elpd_i)), sampled.visited)
    np.testing.assert_allclose(
        made.elpd_i[sampled.visited], whole.elpd_i[sampled.visited], rtol=1e-12
    )
    assert f"visited {made.n_visited} of 2,500 rows" in repr(made)
    assert sampled.approx_i.sum() == pytest.approx(
        made.elpd - 2500 / 300 * (made.elpd_i - sampled.approx_i)[sampled.drawn].sum()
    )


def test_errors_cover_what_all_rows_give(fits: tuple[sg.Fit, sg.Fit]) -> None:
    """100 samples, of one fit, of another, of the difference, and where one visited all rows."""
    rng, whole = np.random.default_rng(5), [psis_loo(fit) for fit in fits]
    gap = difference(whole[0].parts, whole[1].parts, None)
    misses, squares = [], []
    for _ in range(100):
        drawn = np.sort(rng.choice(2500, 150, replace=False))
        made = [subsampled_loo(fit, drawn, 50) for fit in fits]
        ends = [
            (made[0].elpd - whole[0].elpd, made[0].subsampling_se),
            (made[1].elpd - whole[1].elpd, made[1].subsampling_se),
        ]
        for other in (made[1], whole[1]):
            apart = difference(made[0].parts, other.parts, None)
            ends.append((apart.value - gap.value, apart.subsampling_se))
            squares.append(apart.se**2)
        assert apart.value == pytest.approx(made[0].elpd - whole[1].elpd)
        misses.append(ends)
        assert made[0].se == pytest.approx(whole[0].se, rel=0.02)
        assert made[0].p == pytest.approx(whole[0].p, rel=0.2)
    miss, error = np.moveaxis(misses, -1, 0)
    assert (np.abs(miss.mean(axis=0)) < 4 * miss.std(axis=0) / np.sqrt(100)).all()
    # The errors are small besides: about a tenth of a nat, where leave-one-out has one of 60.
    assert (miss.std(axis=0) < 0.2).all()
    ratio = np.sqrt((miss**2).mean(axis=0) / (error**2).mean(axis=0))
    assert ((ratio > 0.75) & (ratio < 1.3)).all(), ratio
    within = (np.abs(miss) < 2 * error).mean(axis=0)
    assert (within > 0.84).all(), within
    assert np.sqrt(np.mean(squares)) == pytest.approx(gap.se, rel=0.05)


def test_the_rows_that_matter_most_are_visited_whatever_the_sample() -> None:
    x = np.random.default_rng(6).normal(size=(1000, 1))
    x[17], x[501] = 9.0, -11.0
    fit = fit_normal(x, 1)
    made = subsampled_loo(fit, np.array([2, 3, 5, 7]), 5)
    assert made.subsample is not None
    assert {17, 501} <= set(made.subsample.certain)
    np.testing.assert_array_equal(np.flatnonzero(made.pareto_k > 0.5), [17, 501])


def test_more_rows_are_visited_where_the_sample_is_the_main_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Draws far from one another, which is no posterior: 64 of them say little of all."""
    fit = fit_quick(sg.GaussianMixture(2), rows(3000), NormalDraws(width=16.0))
    monkeypatch.setattr(leave_one_out, "LARGEST_LOO", 0)
    monkeypatch.setattr(leave_one_out, "SUBSAMPLE", 8)
    few, made = psis_loo(fit, 8), psis_loo(fit)
    assert few.subsampling_se > 0.1 * few.se
    assert few.n_visited <= 8 < made.n_visited < 3000
    assert made.subsampling_se <= 0.1 * made.se


def test_leave_one_out_of_many_rows_visits_some(
    fits: tuple[sg.Fit, sg.Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2500 * fits[0].lp.size
    monkeypatch.setattr(leave_one_out, "SUBSAMPLE", 400)
    monkeypatch.setattr(leave_one_out, "LARGEST_LOO", size)
    assert psis_loo(fits[0]).subsample is None
    monkeypatch.setattr(leave_one_out, "LARGEST_LOO", size - 1)
    assert psis_loo(fits[0]).n_visited <= 400


@pytest.mark.parametrize("subsample", [7, 2.5, True, "all"])
def test_a_subsample_is_a_number_of_rows(fits: tuple[sg.Fit, sg.Fit], subsample: Any) -> None:
    with pytest.raises(sg.ModelError, match="subsample must be a whole number of at least 8, got"):
        fits[0].loo(subsample=subsample)


def test_rows_of_high_k_are_computed_exactly_among_those_visited() -> None:
    x = np.random.default_rng(8).normal(size=(60, 1))
    x[17] = 30.0
    fit = fit_normal(x, 1)
    with pytest.warns(sg.ConvergenceWarning, match=r"for 1 of \d\d rows \(row 17\)"):
        made = fit.loo(subsample=20)
    exact = fit.loo(refit=True, subsample=20, progress=False)
    without = fit_normal(np.delete(x, 17), 1)
    assert exact.elpd_i[17] < made.elpd_i[17] - 10
    assert exact.elpd_i[17] == pytest.approx(float(without.log_density(x[17:18])[0]), rel=0.2)
    assert exact.elpd - made.elpd == pytest.approx(exact.elpd_i[17] - made.elpd_i[17])
    assert exact.p - made.p == pytest.approx(made.elpd - exact.elpd)
    assert exact.subsample is not None
    assert exact.subsample.approx_i[17] == exact.elpd_i[17]
    assert not exact.warning


# ---- what rests on it ------------------------------------------------------------------------


def test_the_parts_of_all_rows_add_up_to_the_estimate(fits: tuple[sg.Fit, sg.Fit]) -> None:
    made = psis_loo(fits[0], 400)
    each = completed(made.parts, None)
    assert made.subsample is not None
    visited = made.subsample.visited
    np.testing.assert_array_equal(each[visited], made.elpd_i[visited])
    assert each.sum() == pytest.approx(made.elpd, rel=1e-12)
    np.testing.assert_allclose(each, psis_loo(fits[0]).elpd_i, atol=0.05)


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have leave-one-out visit 400 rows of any data."""
    monkeypatch.setattr(leave_one_out, "LARGEST_LOO", 0)
    monkeypatch.setattr(leave_one_out, "SUBSAMPLE", 400)


@pytest.mark.usefixtures("sampled")
def test_comparisons_and_stacks_are_those_of_all_rows_within_errors(
    fits: tuple[sg.Fit, sg.Fit],
) -> None:
    x = fits[0].dataset
    made = sg.compare({"three": fits[0], "two": fits[1]}, x, seed=1, progress=False)
    whole = [psis_loo(fit, 2500) for fit in fits]
    gap = difference(whole[1].parts, whole[0].parts, None)
    table = made.table
    assert table["difference"]["two"] == pytest.approx(gap.value, abs=0.2)
    assert table["difference_se"]["two"] == pytest.approx(gap.se, rel=0.1)
    assert 0 < table["subsampling_se"].max() < 0.1
    assert "Leave-one-out visited" in table["note"]["two"]
    of_one = sg.compare(fits[0].model, x, [fits[0]], seed=1, progress=False).table
    assert of_one["subsampling_se"].iloc[0] == table["subsampling_se"]["three"]
    assert "Leave-one-out visited" in of_one["note"].iloc[0]
    alone = sg.stack([fits[0]])
    assert alone.elpd == pytest.approx(table["elpd_loo"]["three"], rel=1e-12)
    with warnings.catch_warnings():  # draws that are no posterior may have a row of high k
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        weights = sg.stack(list(fits)).weights
    by_row = np.stack([result.elpd_i for result in whole], axis=1)
    np.testing.assert_allclose(weights, sg.stacking_weights(by_row), atol=0.02)


@pytest.mark.usefixtures("sampled")
def test_a_selection_says_so_and_its_file_keeps_it(tmp_path: Path) -> None:
    made = sg.select_components(rows(1000), [1, 2], method=NormalDraws(), seed=1, progress=False)
    assert "Leave-one-out visited" in made.why
    assert "subsampling_se" in repr(made)
    score = made.scores[2]
    assert score.subsample is not None
    again = sg.load(made.save(tmp_path / "made.nc")).scores[2]
    assert again.subsampling_se == score.subsampling_se
    for name in ("drawn", "certain", "approx_i", "rough_i"):
        np.testing.assert_array_equal(
            getattr(again.subsample, name), getattr(score.subsample, name)
        )
    assert sg.load(tmp_path / "made.nc").difference(1) == made.difference(1)


def test_the_picture_shows_the_rows_that_were_visited(fits: tuple[sg.Fit, sg.Fit]) -> None:
    made = psis_loo(fits[0], 400)
    ax = fits[0].plot.loo(result=made)
    drawn = np.sort(np.concatenate([line.get_xdata() for line in ax.lines[:-1]]))
    assert made.subsample is not None
    np.testing.assert_array_equal(drawn, made.subsample.visited)
    (first, *_) = ax.get_legend().get_texts()
    assert f"of {made.n_visited} rows that were visited" in first.get_text()


def test_it_goes_to_arviz_where_arviz_knows_subsamples(fits: tuple[sg.Fit, sg.Fit]) -> None:
    made = [psis_loo(fit, 400) for fit in fits]
    if IS_OLDER:
        with pytest.raises(sg.ModelError, match=r"visit all rows: fit.loo\(subsample=2500\)"):
            made[0].to_arviz()
        return
    theirs = made[0].to_arviz()
    assert theirs.subsampling_se == made[0].subsampling_se
    assert theirs.subsample_size == 300
    table = az.compare({"three": theirs, "two": made[1].to_arviz()}, round_to="none")
    gap = difference(made[1].parts, made[0].parts, None)
    assert abs(table["elpd_diff"]["two"]) == pytest.approx(-gap.value, rel=1e-6)
    assert table["dse"]["two"] == pytest.approx(gap.se, rel=0.1)
    assert table["subsampling_dse"]["two"] == pytest.approx(gap.subsampling_se, rel=0.1)
