"""Discriminant analysis against scikit-learn's, and against Bayes' rule by scipy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fitting import QUICK
from made_fits import known_mixture, made_fit, rows_of
from scipy.stats import multivariate_normal, norm
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import PredefinedSplit, cross_val_predict

import stangmm as sg

IRIS = load_iris(as_frame=True)
X, CODES = IRIS.data, IRIS.target.to_numpy()
NAMES = ["setosa", "versicolor", "virginica"]
SPECIES = np.array(NAMES)[CODES]
# Of the covariance by maximum likelihood, as a mixture's; solver="svd" divides by n - C.
LDA = LinearDiscriminantAnalysis(solver="lsqr")


def fitted(model: sg.DiscriminantAnalysis, **options: Any) -> sg.DiscriminantFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # iris's few rows for each parameter are another subject
        return model.fit(X, SPECIES, **{"method": "em", "seed": 1, "progress": False, **options})


def test_a_shared_covariance_is_linear_discriminant_analysis() -> None:
    fit = fitted(sg.DiscriminantAnalysis(covariance_type="tied"))
    expected = LDA.fit(X.to_numpy(), CODES).predict_proba(X.to_numpy())
    proba = fit.predict_proba(X)
    np.testing.assert_allclose(proba, expected, atol=1e-7)
    assert list(proba.columns) == NAMES
    assert fit.predict(X).name == "class"
    np.testing.assert_array_equal(fit.predict(X.to_numpy()), np.array(NAMES)[expected.argmax(1)])


def test_full_covariances_are_quadratic_discriminant_analysis() -> None:
    """Scikit-learn divides by n - 1, which a hundred copies of each row make n, nearly."""
    fit = fitted(sg.DiscriminantAnalysis())
    many = np.tile(X.to_numpy(), (100, 1)), np.tile(CODES, 100)
    expected = QuadraticDiscriminantAnalysis().fit(*many).predict_proba(X.to_numpy())
    np.testing.assert_allclose(fit.predict_proba(X), expected, atol=2e-3)


def test_edda_of_iris_is_mclusts() -> None:
    """Its vignette "A quick tour of mclust": VEV is best of all types, error 0.02.

    R: summary(MclustDA(iris[, 1:4], iris$Species, modelType = "EDDA")) prints the log likelihood
    -187.7097 (of the rows without their classes), df 36 (without the shares), BIC -555.8024.
    """
    fits = {
        name: fitted(sg.DiscriminantAnalysis(covariance_type=name))
        for name in ("full", "tied_correlation", "EEV", "VEV")
    }
    bic = {}
    for name, fit in fits.items():
        (one,) = fit.fits
        likelihood = one.log_density(X).sum()
        size = one.model.n_parameters(4) - 2
        bic[name] = 2 * likelihood - size * np.log(150)
    assert one.model.covariance_type == "VEV"
    assert likelihood == pytest.approx(-187.7097, abs=5e-5)
    assert size == 36
    assert bic["VEV"] == pytest.approx(-555.8024, abs=5e-5)
    assert max(bic, key=lambda name: bic[name]) == "VEV"
    assert (fits["VEV"].predict(X) != SPECIES).mean() == pytest.approx(0.02)


def test_one_component_a_class_is_a_mixture_with_known_labels() -> None:
    fit = fitted(sg.DiscriminantAnalysis())
    (own,) = fit.fits
    joint = np.zeros((3, 150))
    for c in range(3):
        rows = X.to_numpy()[c == CODES]
        covariance = np.cov(rows.T, bias=True)
        np.testing.assert_allclose(own.means[c], rows.mean(axis=0))
        np.testing.assert_allclose(own.covariances[c], covariance, rtol=1e-6)
        joint[c] = multivariate_normal(rows.mean(axis=0), covariance).logpdf(X) + np.log(1 / 3)
    assert own.total_log_likelihood.item() == pytest.approx(joint[CODES, np.arange(150)].sum())


def test_several_components_a_class_follow_bayes_rule() -> None:
    """The classes' densities are those of their own mixtures, their shares those of the rows."""
    kept = np.r_[0:150:2, 1:40:2]  # classes of unequal size
    model = sg.DiscriminantAnalysis({"setosa": 1, "versicolor": 2, "virginica": 2}, "diag")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit(X.iloc[kept], SPECIES[kept], "em", seed=1)
    assert [one.model.n_components for one in fit.fits] == [1, 2, 2]
    np.testing.assert_array_equal(fit.counts, [45, 25, 25])
    density = np.stack([np.exp(one.log_density(X)) for one in fit.fits], axis=1)
    expected = density * fit.counts
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fit.predict_proba(X), expected, atol=1e-9)
    assert (fit.predict(X) == SPECIES).mean() > 0.95


def test_intervals_are_those_of_the_draws() -> None:
    mixtures = [known_mixture(2, 1, None, seed) for seed in (1, 2)]
    fits = tuple(
        made_fit("mcmc", one, rows_of(one, 50, 3), ["x"], draws=50, seed=4) for one in mixtures
    )
    # So many rows that the draws of the classes' shares are 3/4 and 1/4.
    counts = np.array([3 * 10**9, 10**9])
    model = sg.DiscriminantAnalysis(2)
    fit = sg.DiscriminantFit(model, np.array(["a", "b"]), counts, fits, 1)
    x = np.linspace(30, 70, 9)[:, np.newaxis]
    density = [
        np.einsum(
            "sk,skn->sn",
            one.mixture.weights,
            norm.pdf(x[:, 0], one.mixture.means, one.mixture.scales),
        )
        for one in fits
    ]
    first = 3 * density[0] / (3 * density[0] + density[1])
    band = fit.predict_proba(x, interval=0.8)
    np.testing.assert_allclose(band.mean[:, 0], first.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(band.lower[:, 0], np.quantile(first, 0.1, axis=0), atol=1e-4)
    np.testing.assert_allclose(band.upper[:, 1], np.quantile(1 - first, 0.9, axis=0), atol=1e-4)
    np.testing.assert_allclose(fit.predict_proba(x), band.mean)
    with pytest.raises(sg.ModelError, match="interval must be a positive number and below 1"):
        fit.predict_proba(x, interval=2)


def test_shares_of_classes_are_as_uncertain_as_their_rows_make_them() -> None:
    """Equal densities: the probability is the share, whose posterior is Dirichlet(1 + n)."""
    one = known_mixture(1, 1, None, 1)
    alone = made_fit("mcmc", one, rows_of(one, 50, 3), ["x"], draws=1000)
    fit = sg.DiscriminantFit(
        sg.DiscriminantAnalysis(1), np.array(["a", "b"]), np.array([3, 5]), (alone, alone), 1
    )
    share = fit.predict_proba([[50.0]], interval=0.9)
    assert share.mean[0, 0] == pytest.approx(4 / 10, abs=0.01)
    # scipy: beta(4, 6).ppf([0.05, 0.95])
    assert share.lower[0, 0] == pytest.approx(0.1687, abs=0.02)
    assert share.upper[0, 0] == pytest.approx(0.6551, abs=0.02)


def test_draws_of_one_class_say_nothing_about_those_of_another() -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(center, 1.0, 60) for center in (0.0, 6.0, 1.0, 7.0)])
    fit = sg.DiscriminantAnalysis(2).fit(x, np.repeat([0, 1], 120), "laplace", seed=1)
    assert fit.fits[0].seed != fit.fits[1].seed
    of_class = [one.mixture.means.reshape(-1, 2).T for one in fit.fits]
    across = np.corrcoef(np.vstack(of_class))[:2, 2:]
    assert np.abs(across).max() < 5 / np.sqrt(fit.fits[0].lp.size)


@pytest.mark.stan
@pytest.mark.parametrize("n_components", [1, 2])
def test_draws_give_intervals_of_the_probabilities(n_components: int) -> None:
    model = sg.DiscriminantAnalysis(n_components, "diag")
    fit = fitted(model, method=QUICK["nuts"])
    band = fit.predict_proba(X, interval=0.9)
    np.testing.assert_allclose(band.mean.sum(axis=1), 1.0)
    assert (band.lower <= band.upper).all(axis=None)
    assert (fit.predict(X) == SPECIES).mean() > 0.93
    unsure = band.mean.max(axis=1) < 0.9
    width = (band.upper - band.lower).max(axis=1)
    assert width[unsure].min() > width[~unsure].median()
    np.testing.assert_allclose(fit.predict_proba(X), band.mean)


# ---- cross-validation ------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [10, 150])
def test_the_cross_validated_error_is_that_of_scikit_learn_on_the_same_folds(folds: int) -> None:
    """Leaving one row out, linear discriminant analysis of iris is wrong in three."""
    model = sg.DiscriminantAnalysis(covariance_type="tied")
    found = model.cross_validate(X, SPECIES, folds, seed=1)
    split = PredefinedSplit(found.fold)
    expected = cross_val_predict(LDA, X.to_numpy(), CODES, cv=split, method="predict_proba")
    np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    wrong = (expected.argmax(axis=1) != CODES).sum()
    assert found.error == pytest.approx(wrong / 150)
    assert found.brier == pytest.approx(
        sum(brier_score_loss(c == CODES, expected[:, c]) for c in range(3)), abs=1e-6
    )
    assert found.standard_error == pytest.approx(np.sqrt(found.error * (1 - found.error) / 150))
    np.testing.assert_array_equal(found.confusion.sum(axis=1), 50)
    np.testing.assert_array_equal(found.predicted != SPECIES, expected.argmax(axis=1) != CODES)
    if folds == 150:
        assert wrong == 3


def test_folds_are_of_one_size_and_have_each_class_evenly() -> None:
    y = np.repeat(["a", "b", "c"], [50, 33, 17])
    x = np.random.default_rng(1).normal(size=(100, 1))
    found = sg.DiscriminantAnalysis().cross_validate(x, y, 7, seed=3)
    table = pd.crosstab(y, found.fold)
    assert np.ptp(table.sum(axis=0)) <= 1
    assert np.ptp(table, axis=1).max() <= 1
    again = sg.DiscriminantAnalysis().cross_validate(x, y, 7, seed=3)
    np.testing.assert_array_equal(found.fold, again.fold)
    assert "in 7 folds by em" in repr(found)
    assert (found.fold[:50] != np.sort(found.fold[:50])).any()


def test_the_classes_may_be_numbers_and_rows_may_miss_values() -> None:
    holes = X.mask(np.random.default_rng(2).random(X.shape) < 0.1)
    holes = holes[holes.notna().any(axis=1)]
    y = CODES[holes.index] * 10
    fit = sg.DiscriminantAnalysis(covariance_type="tied").fit(
        holes, y, "em", seed=1, missing="marginalize"
    )
    np.testing.assert_array_equal(fit.classes, [0, 10, 20])
    assert (fit.predict(holes) == y).mean() > 0.93
    assert "rows 0: 50, 10: 50" in repr(fit)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (SPECIES[:149], sg.DataError, r"shape \(150,\), got \(149,\)"),
        (np.where(CODES == 0, np.nan, CODES), sg.DataError, "got none in 50 rows, the first in"),
        (np.array([*SPECIES[:149], None], dtype=object), sg.DataError, "got none in 1 rows"),
        (np.array([*SPECIES[:149], 3], dtype=object), sg.DataError, "all be numbers or all be"),
        (np.zeros(150), sg.DataError, "at least two classes, got only"),
        (CODES, sg.ModelError, "a number for each class"),
        ((np.arange(150) == 0), sg.DataError, "has only one row"),
    ],
)
def test_classes_that_make_no_sense_are_refused(y: Any, error: Any, message: str) -> None:
    named = {"a": 1, "b": 2} if y is CODES else 1
    with pytest.raises(error, match=message):
        sg.DiscriminantAnalysis(named).cross_validate(X, y, seed=1)


def test_a_class_in_which_a_feature_is_constant_is_named() -> None:
    x = X.copy()
    x.loc[CODES == 1, "petal width (cm)"] = 1.0
    with pytest.raises(sg.DataError, match=r"Class .*versicolor.*: .*constant .*petal width"):
        sg.DiscriminantAnalysis(2).fit(x, SPECIES, "em", seed=1)
    with pytest.raises(sg.ModelError, match="n_components must be a whole number"):
        sg.DiscriminantAnalysis({"a": 0})
    with pytest.raises(sg.ModelError, match="folds must be at most 150"):
        sg.DiscriminantAnalysis().cross_validate(X, SPECIES, 151)


def test_continuous_numbers_are_no_classes() -> None:
    model = sg.DiscriminantAnalysis()
    for ask in (model.fit, model.cross_validate):
        for y in (X.iloc[:, 0], X.iloc[:, 0].astype("Float64"), CODES + 0.5):
            with pytest.raises(sg.DataError, match="got continuous numbers such as"):
                ask(X, y, method="em")
    fit = fitted(model)
    same = model.fit(X, CODES.astype(float), method="em", seed=1, progress=False)
    np.testing.assert_array_equal(same.predict_proba(X), fit.predict_proba(X))


@pytest.mark.parametrize(("covariance_type", "needed"), [("full", 6), ("diag", 3), ("tied", 1)])
def test_a_class_of_too_few_rows_for_em_is_named(covariance_type: Any, needed: int) -> None:
    model = sg.DiscriminantAnalysis(covariance_type=covariance_type)

    def fit(rows: int) -> sg.DiscriminantFit:
        kept = np.r_[0:100, 100 : 100 + rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sg.MisfitWarning)  # but not that EM was regularized
            return model.fit(X.iloc[kept], SPECIES[kept], method="em", seed=1, progress=False)

    assert fit(needed).counts[2] == needed
    if needed > 1:
        words = rf"'virginica' has only {needed - 1} rows, but {needed} are needed"
        with pytest.raises(sg.DataError, match=words):
            fit(needed - 1)
        kept = np.r_[0:100, 100 : 100 + needed]
        with pytest.raises(sg.DataError, match=rf"beside a fold only {needed - 1} row"):
            model.cross_validate(X.iloc[kept], SPECIES[kept], len(kept), seed=1)
