"""One model fitted to many data sets: the table, the fits, and what becomes of a bad data set."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.mixture import GaussianMixture as ScikitLearn

import stangmm as sg

MODEL = sg.GaussianMixture(2)


def samples(n: int) -> list[np.ndarray]:
    """Tables (120, 1) of two clusters with weights 1/3 and 2/3, means 0 and 4, variance 1."""
    rng = np.random.default_rng(4)
    return [4.0 * (rng.random((120, 1)) < 2 / 3) + rng.normal(size=(120, 1)) for _ in range(n)]


@pytest.fixture(scope="module")
def study() -> sg.ManyFits:
    return sg.fit_many(MODEL, samples(30), seed=1, progress=False)


def test_each_fit_is_the_one_that_its_seed_gives_alone(study: sg.ManyFits) -> None:
    alone = MODEL.fit(samples(8)[7], "em", seed=int(study.table.loc[7, "seed"]))
    np.testing.assert_array_equal(study.fits[7].means, alone.means)
    assert study.table.loc[7, "log_likelihood"] == alone.total_log_likelihood.item()
    assert study.table["seed"].nunique() == 30


def test_fits_in_other_processes_are_the_same(study: sg.ManyFits) -> None:
    with joblib.parallel_config("loky", n_jobs=2):
        apart = sg.fit_many(MODEL, samples(30), seed=1, progress=False)
    same = [name for name in study.table if name != "seconds"]
    pd.testing.assert_frame_equal(apart.table[same], study.table[same], rtol=1e-9)


def test_no_fit_is_below_that_of_scikit_learn(study: sg.ManyFits) -> None:
    for x, reached in zip(samples(30), study.table["log_likelihood"], strict=True):
        theirs = ScikitLearn(2, n_init=3, random_state=0, reg_covar=0.0, tol=1e-6).fit(x)
        assert reached > 120 * theirs.score(x) - 1e-4


def test_estimates_scatter_about_what_the_samples_come_from(study: sg.ManyFits) -> None:
    names = ["weights[0]", "means[0, x]", "means[1, x]"]
    found = study.table[names]
    error = (found.mean() - [1 / 3, 0.0, 4.0]) / (found.std() / np.sqrt(30))
    assert (error.abs() < 4).all(), found.describe()
    assert (study.table["status"] == "ok").sum() > 25
    pd.testing.assert_series_equal(
        study.table.loc[0, study.fits[0].summary().index].astype(float),
        study.fits[0].summary()["mean"],
        check_names=False,
    )


def test_a_bad_data_set_is_named_and_the_others_are_fitted() -> None:
    bad = {"gap": [1.0, 2.0, np.nan], ("good", 1): samples(1)[0], "one value": [3.0, 3.0, 3.0]}
    with pytest.warns(sg.ConvergenceWarning, match="2 of 3 data sets .* the first is 'gap'"):
        made = sg.fit_many(MODEL, bad, seed=1)
    assert list(made.table.index) == list(bad)
    assert list(made.table["status"]) == ["error", "ok", "error"]
    assert list(made.fits) == [("good", 1)]
    assert "missing" in made.failures["gap"]
    assert made.table["note"].iloc[2] == made.failures["one value"]
    assert "2 error, 1 ok" in repr(made)


def test_data_sets_may_be_one_array_and_have_other_sizes_and_names() -> None:
    stacked = sg.fit_many(MODEL, np.stack(samples(2)), seed=3)
    apart = sg.fit_many(MODEL, samples(2), seed=3)
    columns = apart.table.columns.drop("seconds")
    pd.testing.assert_frame_equal(stacked.table[columns], apart.table[columns])
    mixed = sg.fit_many(MODEL, [samples(1)[0][:60], pd.Series(samples(1)[0][:, 0], name="y")])
    assert list(mixed.table["n_observations"]) == [60, 120]
    assert np.isnan(mixed.table.loc[0, "means[0, y]"])
    assert np.isfinite(mixed.table.loc[1, "means[0, y]"])


@pytest.mark.parametrize("datasets", [samples(1)[0], pd.DataFrame({"a": [1.0]}), [], {}, "x", 3])
def test_one_table_or_none_is_refused(datasets: object) -> None:
    with pytest.raises(sg.DataError, match="datasets must be a list or dict of tables"):
        sg.fit_many(MODEL, datasets)


def test_a_method_that_cannot_fit_the_model_is_refused_before_anything_starts() -> None:
    with pytest.raises(sg.ModelError, match='fitted by method="em" only'):
        sg.fit_many(sg.GaussianMixture(2, "VEV"), samples(2), "nuts")
    with pytest.raises(sg.ModelError, match="model must be a GaussianMixture"):
        sg.fit_many("full", samples(2))  # type: ignore[arg-type]


@pytest.mark.stan
def test_nuts_gives_posterior_means_and_the_worst_chain_a_word() -> None:
    made = sg.fit_many(MODEL, samples(2), sg.NUTS(draws=250), seed=1, progress=False)
    posterior, likely = made.table, sg.fit_many(MODEL, samples(2), seed=1).table
    names = ["weights[0]", "means[0, x]", "means[1, x]"]
    sd = np.stack([made.fits[i].summary().loc[names, "sd"] for i in (0, 1)])
    assert ((posterior[names] - likely[names]).abs() < sd).all(axis=None)
    assert set(posterior["status"]) <= {"ok", "warn"}
