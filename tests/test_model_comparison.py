"""`compare` of several models: the table, its order, labels, and what cannot be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import LazyFits
from fitting import fit_quick

import stangmm as sg
from stangmm.judge.criteria import bic, icl
from stangmm.judge.leave_one_out import psis_loo

FAITHFUL = sg.datasets.faithful()
EM = sg.EM(restarts=10)
MODELS = {
    "one": sg.GaussianMixture(1),
    "two": sg.GaussianMixture(2),
    "three": sg.GaussianMixture(3, "tied"),
}


def compared(models: Any, methods: Any = (EM,), **options: Any) -> sg.ModelComparison:
    made = sg.compare(models, FAITHFUL, methods, **{"seed": 1, "progress": False, **options})
    assert isinstance(made, sg.ModelComparison)
    return made


def test_point_estimates_are_in_the_order_of_bic() -> None:
    # mclustBIC(faithful): EEE,3 -2314.316; VVV,2 -2322.192; XXN,1 -2607.623
    table = compared(MODELS).table
    assert list(table.index) == ["three", "two", "one"]
    assert table["bic"].tolist() == pytest.approx([2314.316, 2322.192, 2607.623], abs=0.03)
    assert table["n_parameters"].tolist() == [11, 11, 5]
    assert table[["elpd_loo", "difference", "weight"]].isna().all(axis=None)


def test_a_list_has_labels_of_type_and_number_and_methods_where_there_are_several() -> None:
    models = [MODELS["two"], MODELS["two"], MODELS["three"]]
    made = compared(models, [EM, sg.EM(restarts=5)])
    assert list(made.fits) == [
        "K = 2 (full), em", "K = 2 (full), em 2", "K = 2 (full) 2, em", "K = 2 (full) 2, em 2",
        "K = 3 (tied), em", "K = 3 (tied), em 2",
    ]  # fmt: skip
    for label, fit in made.fits.items():
        assert (made.table["bic"][label], made.table["icl"][label]) == (bic(fit), icl(fit))


def test_a_model_that_cannot_be_fitted_has_a_row_that_says_why() -> None:
    x = np.random.default_rng(3).normal(size=(8, 2))
    models = {"good": sg.GaussianMixture(1), "bad": sg.GaussianMixture(9)}
    made = sg.compare(models, x, [EM], seed=1, progress=False)
    assert list(made.table.index) == ["good", "bad"]
    assert made.table["status"]["bad"] == "error"
    assert "at least 9 rows" in made.table["note"]["bad"]
    assert "error" in repr(made)


@pytest.mark.stan
def test_posteriors_are_in_the_order_of_leave_one_out(fits_faithful: LazyFits) -> None:
    fit = fits_faithful["nuts"]
    other = fit_quick(sg.GaussianMixture(1), FAITHFUL, sg.NUTS(draws=250))
    made = compared({"one": other, "two": fit, "two, em": fits_faithful["em"]})
    table = made.table
    assert made.fits["two"] is fit
    assert list(table.index) == ["two", "one", "two, em"]
    gap = psis_loo(other).elpd_i - psis_loo(fit).elpd_i
    assert table["difference"].tolist()[:2] == [0.0, pytest.approx(gap.sum())]
    assert table["difference_se"]["one"] == pytest.approx(np.sqrt(len(gap)) * gap.std())
    stacked = sg.stack({"one": other, "two": fit})
    np.testing.assert_allclose(table["weight"][["one", "two"]], stacked.weights, atol=1e-12)
    ax = made.plot()
    (points,) = [line for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points.get_xdata(), -table["difference"][:2])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["two", "one"]


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        ([], {}, "a dict or list of them, with at least one"),
        ({}, {}, "a dict or list of them, with at least one"),
        (3, {}, "a dict or list of them, with at least one"),
        ([3], {}, "must hold models or fits, got 3"),
        ({1: MODELS["one"]}, {}, "Labels of models must be text, got 1"),
        (MODELS, {"init": np.zeros(272)}, "init is for one model"),
        ([sg.GaussianMixture(2, "VEE")], {"methods": ["nuts"]}, 'fitted by method="em" only'),
        (MODELS, {"methods": []}, "methods must be methods or fits.*got \\[\\]"),
        (MODELS, {"methods": ["magic"]}, "method must be one of"),
        (
            [sg.GaussianMixture(2, priors=sg.Priors(weights=sg.Dirichlet([1.0, 2.0, 3.0])))],
            {},
            "Dirichlet concentration",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(models: Any, options: Any, words: str) -> None:
    with pytest.raises(sg.ModelError, match=words):
        compared(models, **options)


def test_fits_stand_in_place_of_their_models_and_are_of_the_same_data() -> None:
    fit = fit_quick(MODELS["two"], FAITHFUL, EM)
    with pytest.raises(sg.ModelError, match="in place of their models"):
        compared(MODELS, [fit])
    with pytest.raises(sg.DataError, match="of the data given"):
        sg.compare({"two": fit}, FAITHFUL[:200], seed=1)
