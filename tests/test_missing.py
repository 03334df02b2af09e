"""Missing values: marginalized exactly, asked for by name, refused otherwise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fitting import ALL, fit_quick
from random_mixtures import COVARIANCE_TYPES, PlainMixture, random_mixture
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.data.groups import group_rows
from stangmm.model.mixture import log_likelihood


def with_holes(x: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The rows with a share of their values missing at random, at least one left in each."""
    rng = np.random.default_rng(seed)
    holes = rng.random(x.shape) < share
    holes[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] &= ~holes.all(axis=1)
    return np.where(holes, np.nan, x)


def component_log_density(mixture: PlainMixture, x: np.ndarray) -> np.ndarray:
    """Log p(observed part of x_n | k), shape (K, N), row by row, by scipy."""
    out = np.zeros((len(mixture.weights), len(x)))
    for n, row in enumerate(x):
        seen = np.flatnonzero(~np.isnan(row))
        for k, (mean, covariance) in enumerate(
            zip(mixture.means, mixture.covariances, strict=True)
        ):
            part = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)])
            out[k, n] = part.logpdf(row[seen])
    return out


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("k", "d"), [(1, 2), (3, 4)])
def test_densities_integrate_missing_values_out(covariance_type: str, k: int, d: int) -> None:
    rng = np.random.default_rng(3)
    plain = random_mixture(rng, covariance_type, k, d)
    x = with_holes(plain.sample(rng, 60), 0.4, seed=4)
    expected = component_log_density(plain, x)
    mixture = plain.mixture(covariance_type)
    np.testing.assert_allclose(mixture.component_log_density(x), expected, rtol=1e-12, atol=1e-12)
    joint = expected + np.log(plain.weights)[:, np.newaxis]
    density = logsumexp(joint, axis=0)
    np.testing.assert_allclose(mixture.log_density(x), density, rtol=1e-12)
    np.testing.assert_allclose(mixture.responsibilities(x), np.exp(joint - density), atol=1e-12)
    np.testing.assert_allclose(log_likelihood(mixture, x), density.sum(), rtol=1e-12)


def test_a_row_without_values_says_nothing() -> None:
    rng = np.random.default_rng(5)
    plain = random_mixture(rng, "full", 3, 2)
    blank = np.full((1, 2), np.nan)
    assert plain.mixture("full").log_density(blank) == pytest.approx(0.0, abs=1e-15)
    responsibilities = plain.mixture("full").responsibilities(blank)[:, 0]
    np.testing.assert_allclose(responsibilities, plain.weights)


def test_groups_cover_every_row_once_and_keep_the_order_within() -> None:
    rng = np.random.default_rng(6)
    x = with_holes(rng.normal(size=(200, 3)), 0.3, seed=7)
    labels = rng.integers(-1, 2, 200)
    order, groups = group_rows(x, labels)
    np.testing.assert_array_equal(np.sort(order), np.arange(200))
    assert [g.rows.start for g in groups] == [0, *(g.rows.stop for g in groups[:-1])]
    assert groups[-1].rows.stop == 200
    seen = set()
    for group in groups:
        rows = order[group.rows]
        assert (np.diff(rows) > 0).all()
        holes = np.isnan(x[rows])
        assert not holes[:, group.observed].any()
        assert np.delete(holes, group.observed, axis=1).all()
        assert (labels[rows] == (-1 if group.component is None else group.component)).all()
        seen.add((tuple(group.observed), group.component))
    assert len(seen) == len(groups)


def test_nan_is_an_error_that_names_the_option(no_cmdstan: None) -> None:
    x = with_holes(np.random.default_rng(1).normal(size=(30, 2)), 0.2, seed=2)
    for method in ALL:
        with pytest.raises(sg.DataError, match='missing="marginalize" uses what these rows have'):
            sg.GaussianMixture(2).fit(x, method, progress=False)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, np.nan], [np.nan, np.nan], [2.0, 3.0], [4.0, 7.0]], "row 1.*remove them"),
        ([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan]], r"got none in \['x2'\]"),
        ([[1.0, np.nan], [2.0, 5.0], [3.0, 5.0]], r"constant \['x2'\]"),
        ([[1.0, np.inf], [2.0, np.nan], [3.0, 4.0]], "1 infinite"),
        ([[1.0, np.nan], [1.0, np.nan], [2.0, 5.0], [2.0, 6.0]], "got 3 distinct among 4"),
    ],
    ids=["blank row", "blank feature", "constant", "infinite", "distinct rows"],
)
def test_what_cannot_be_marginalized_is_refused(x: Any, message: str, no_cmdstan: None) -> None:
    k = 4 if "distinct" in message else 2
    with pytest.raises(sg.DataError, match=message):
        sg.GaussianMixture(k, "diag").fit(x, missing="marginalize", progress=False)


def test_an_unknown_way_with_missing_values_is_refused(no_cmdstan: None) -> None:
    with pytest.raises(sg.ModelError, match=r"missing must be one of \['error', 'marginalize'\]"):
        sg.GaussianMixture(2).fit(np.arange(9.0), missing="drop", progress=False)  # type: ignore[arg-type]


def test_features_that_depend_on_each_other_are_found_between_holes(no_cmdstan: None) -> None:
    a = np.random.default_rng(1).normal(size=(60, 2))
    x = with_holes(np.column_stack([a, a.sum(axis=1)]), 0.2, seed=3)
    with pytest.raises(sg.DataError, match="determine each other"):
        sg.GaussianMixture(2, "full").fit(x, missing="marginalize", progress=False)


def test_moments_are_those_of_the_values_that_are_there() -> None:
    x = with_holes(np.random.default_rng(8).normal(2.0, 3.0, size=(50, 3)), 0.3, seed=9)
    weight = np.random.default_rng(9).integers(0, 4, 50).astype(float)
    mean, sd = Dataset.from_input(x, weight, missing="marginalize").mean_and_sd()
    for d in range(3):
        column = np.repeat(x[:, d], weight.astype(int))
        column = column[~np.isnan(column)]
        np.testing.assert_allclose([mean[d], sd[d]], [column.mean(), column.std()], rtol=1e-12)


def test_pandas_missing_values_of_every_kind_are_read() -> None:
    table = pd.DataFrame({"a": [1, None, 3, 4], "b": [1.0, 3.0, np.nan, 7.0]}).convert_dtypes()
    data = Dataset.from_input(table, missing="marginalize")
    np.testing.assert_array_equal(np.isnan(data.x).nonzero(), [[1, 2], [0, 1]])
    assert data.feature_names == ("a", "b")


def test_marginalizing_complete_data_changes_nothing() -> None:
    x = sg.datasets.faithful()
    model = sg.GaussianMixture(2)
    plain = fit_quick(model, x, "em")
    asked = fit_quick(model, x, "em", missing="marginalize")
    np.testing.assert_array_equal(asked.means, plain.means)


@pytest.mark.parametrize(
    "method", ["em", *(pytest.param(m, marks=pytest.mark.stan) for m in ALL[1:])]
)
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_everything_one_asks_of_a_fit_works_with_holes(method: str, covariance_type: str) -> None:
    frame = sg.datasets.faithful()
    x = with_holes(np.asarray(frame, dtype=float)[:120], 0.2, seed=11)
    fit = fit_quick(
        sg.GaussianMixture(2, covariance_type), x, method, missing="marginalize", relabel="ecr"
    )
    parts = [
        component_log_density(_plain(fit, s), x) for s in range(3 if fit.kind != "point" else 1)
    ]
    weights = fit.mixture.weights[: len(parts), :, np.newaxis]
    expected = logsumexp(np.stack(parts) + np.log(weights), axis=1)
    np.testing.assert_allclose(fit.log_likelihood()[: len(parts)], expected, rtol=1e-9)
    np.testing.assert_allclose(
        fit.total_log_likelihood.ravel()[: len(parts)], expected.sum(axis=1), rtol=1e-6
    )
    assert fit.predict_proba(x).shape == (120, 2)
    assert np.isfinite(fit.log_density([[np.nan, 70.0]])).all()
    assert fit.diagnose().verdict in ("ok", "warn", "fail")
    assert np.isfinite([fit.bic(), fit.icl()]).all()
    with warnings.catch_warnings():  # few draws
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        if fit.kind != "point":
            assert np.isfinite(fit.loo().elpd)
        if fit.kind == "mcmc":
            assert np.isfinite(float(fit.log_evidence(seed=1)))


def _plain(fit: sg.Fit, s: int) -> PlainMixture:
    draw = fit.mixture[s]
    return PlainMixture(draw.weights, draw.means, draw.covariances)


@pytest.mark.stan
@pytest.mark.statistical
def test_nuts_with_a_fifth_of_iris_missing_covers_what_all_of_it_says() -> None:
    """Every posterior mean of the complete data lies in the 95% interval of what is left."""
    datasets = pytest.importorskip("sklearn.datasets")
    iris = datasets.load_iris().data
    model = sg.GaussianMixture(3, "tied")
    complete = model.fit(iris, "nuts", seed=1, progress=False)
    holes = with_holes(iris, 0.2, seed=1)
    assert np.isnan(holes).mean() == pytest.approx(0.2, abs=0.02)
    fit = model.fit(holes, "nuts", seed=1, missing="marginalize", progress=False)
    assert fit.diagnose().computation.verdict == "ok"
    for name in ("weights", "means", "scales"):
        draws, told = getattr(fit.mixture, name), getattr(complete.mixture, name).mean(axis=0)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        assert (low <= told).all()
        assert (told <= high).all()
