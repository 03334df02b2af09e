"""Bad input is refused before anything starts; good input is taken in every shape it comes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fitting import fit_quick

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.model.covariance import structure_named
from stangmm.model.problem import Problem

RNG = np.random.default_rng(1)
GOOD = RNG.normal(size=(30, 2))


def changed(value: float) -> np.ndarray:
    """Good data with one bad entry."""
    x = GOOD.copy()
    x[7, 1] = value
    return x


def test_without_cmdstan_good_input_gets_as_far_as_looking_for_it(no_cmdstan: None) -> None:
    # The control of all tests below: here is where NUTS stops when nothing is wrong before.
    with pytest.raises(sg.CmdStanNotFoundError, match="stangmm install-cmdstan"):
        sg.GaussianMixture(2).fit(GOOD, method="nuts", seed=1, progress=False)


BAD_DATA: dict[str, tuple[Any, str]] = {
    "NaN": (changed(np.nan), "1 missing .* row 7, feature 'x2'"),
    "infinity": (changed(np.inf), "1 infinite .* row 7, feature"),
    "minus infinity": (changed(-np.inf), "infinite"),
    "None": ([[1.0, 2.0], [None, 3.0], [2.0, 4.0]], "missing"),
    "masked entries": (np.ma.masked_greater(GOOD, 1.0), "missing"),
    "nullable missing": (
        pd.DataFrame({"a": [1, None, 3], "b": [1.0, 3.0, 2.0]}).convert_dtypes(),
        "cannot be read|missing",
    ),
    "no rows": (np.empty((0, 2)), "at least one row"),
    "no columns": (np.empty((5, 0)), "at least one row and one feature"),
    "an empty list": ([], "at least one row"),
    "an empty DataFrame": (pd.DataFrame(), "at least one row"),
    "text column": (
        pd.DataFrame({"a": GOOD[:, 0], "kind": ["x", "y", "z"] * 10}),
        r"text .*\['kind'\]",
    ),
    "text array": (np.array([["a", "b"], ["c", "d"]]), "real numbers.*text"),
    "digits as text": ([["1", "2"], ["3", "5"], ["5", "7"]], "real numbers.*text"),
    "digits as objects": (np.array([["1", 2], ["3", 5]], dtype=object), "real numbers.*text"),
    "digits in a Series": (pd.Series(["1", "2", "3"]), "real numbers.*text"),
    "digits in a DataFrame": (pd.DataFrame({"a": ["1", "2", "4"]}), r"text .*\['a'\]"),
    "categories": (pd.DataFrame({"a": pd.Categorical([1, 2, 3])}), r"got categories in \['a'\]"),
    "dates, and text": (
        pd.DataFrame({"when": pd.date_range("2020", periods=9, tz="UTC"), "who": "me"}),
        r"got dates in \['when'\], text or other objects in \['who'\]",
    ),
    "a column of durations": (
        pd.DataFrame({"took": pd.to_timedelta(np.arange(9), "s")}),
        r"got durations in \['took'\]",
    ),
    "durations": (np.arange(9).astype("timedelta64[s]"), "durations"),
    "complex numbers": (GOOD + 1j, "complex"),
    "a number beyond doubles": ([[10**400, 1], [3, 4], [5, 6]], "too large"),
    "ragged rows": ([[1.0, 2.0], [3.0]], "cannot be read"),
    "a path": ("data.csv", "real numbers"),
    "a dict": ({"a": [1, 2, 3]}, "real numbers"),
    "a generator": ((i for i in range(9)), "real numbers"),
    "one number": (5.0, "0 dimensions"),
    "nothing": (None, "got None"),
    "three dimensions": (np.zeros((4, 3, 2)), "3 dimensions"),
    "a constant feature": (np.column_stack([GOOD, np.full(30, 7.0)]), r"constant \['x3'\]"),
    "one repeated row": (np.tile([[1.0, 2.0]], (30, 1)), r"constant \['x1', 'x2'\]"),
    "one row": ([[1.0, 2.0]], "constant"),
    "duplicate column names": (pd.DataFrame(GOOD, columns=["a", "a"]), "names must differ"),
    "a span of 1e200": ([[0.0], [1e200], [3e199], [-1e200]], "1e150"),
    "a span of more than doubles hold": ([[-1.7e308], [1.7e308], [0.0]], "1e150"),
    "a span of 1e-200": (GOOD * 1e-200, "resolve"),
    "an offset that swallows the data": (1e17 + 16 * np.arange(50.0), "resolve"),
    "a fill value": (np.vstack([GOOD, [9.96921e36, 0.0]]), r"\['x1'\] have a value more.*NaN"),
    "dependent features": (np.column_stack([GOOD, GOOD.sum(axis=1)]), "determine each other"),
}


@pytest.mark.parametrize("case", BAD_DATA)
@pytest.mark.parametrize("method", ["em", "nuts"])
def test_bad_data_are_refused_before_anything_starts(
    case: str, method: str, no_cmdstan: None
) -> None:
    X, message = BAD_DATA[case]
    with pytest.raises(sg.DataError, match=message):
        sg.GaussianMixture(2).fit(X, method=method, seed=1, progress=False)


@pytest.mark.parametrize("method", ["em", "nuts"])
@pytest.mark.parametrize(
    ("X", "sample_weight"),
    [
        (GOOD[:4], None),
        (np.repeat(GOOD[:4], 5, axis=0), None),  # twenty rows, four different ones
        (GOOD, np.r_[np.ones(4), np.zeros(26)]),
        (np.repeat(GOOD[:4], 3000, axis=0), None),
    ],
    ids=["rows", "distinct rows", "rows that count", "distinct rows among many"],
)
def test_fewer_rows_than_components_are_refused(
    X: np.ndarray, sample_weight: Any, method: str, no_cmdstan: None
) -> None:
    with pytest.raises(sg.DataError, match=r"5 components need at least 5 .*Use fewer components"):
        sg.GaussianMixture(5, "diag").fit(
            X, method=method, sample_weight=sample_weight, progress=False
        )


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (np.r_[-1.0, np.ones(29)], "not negative"),
        (np.r_[np.nan, np.ones(29)], "finite"),
        (np.r_[np.inf, np.ones(29)], "finite"),
        (np.full(30, 1e308), r"2\*\*53.*Rescale"),
        (np.full(30, 1e17), r"2\*\*53.*Rescale"),
        (np.zeros(30), "only zeros"),
        (np.ones(29), r"shape \(30,\), got \(29,\)"),
        (np.ones((30, 1)), r"got \(30, 1\)"),
        (2.0, r"got \(\)"),
        (["many"] * 30, "numbers"),
        (["1"] * 30, "numbers"),
        (np.ma.masked_equal(np.arange(30), 3), "finite"),
        (np.r_[np.ones(1), np.zeros(29)], "constant"),
    ],
)
def test_bad_sample_weights_are_refused(sample_weight: Any, message: str, no_cmdstan: None) -> None:
    with pytest.raises(sg.DataError, match=message):
        sg.GaussianMixture(2).fit(GOOD, method="nuts", sample_weight=sample_weight, progress=False)


# ---- model, priors, settings -----------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, 1.5, 2.0, "3", None, True, np.nan])
def test_a_number_of_components_that_is_none_is_refused(k: Any) -> None:
    with pytest.raises(sg.ModelError, match="n_components must be a whole number of at least 1"):
        sg.GaussianMixture(k)


@pytest.mark.parametrize("covariance_type", ["Full", "sphere", "", None, 3, ["full"]])
def test_an_unknown_covariance_type_lists_the_known_ones(covariance_type: Any) -> None:
    with pytest.raises(sg.ModelError, match=r"full.*tied.*diag.*spherical"):
        sg.GaussianMixture(2, covariance_type)


@pytest.mark.parametrize("method", ["NUTS", "vb", "", None, 3, sg.NUTS, ["em"]])
def test_an_unknown_method_lists_the_known_ones(method: Any, no_cmdstan: None) -> None:
    with pytest.raises(sg.ModelError, match=r"em.*optimize.*advi.*nuts"):
        sg.GaussianMixture(2).fit(GOOD, method=method, progress=False)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
def test_a_bad_seed_is_refused(seed: Any, no_cmdstan: None) -> None:
    with pytest.raises(sg.ModelError, match="seed"):
        sg.GaussianMixture(2).fit(GOOD, method="nuts", seed=seed, progress=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sg.Dirichlet(0.0),
        lambda: sg.Dirichlet([1.0, -1.0]),
        lambda: sg.Dirichlet(np.inf),
        lambda: sg.Dirichlet([]),
        lambda: sg.Dirichlet("many"),
        lambda: sg.Dirichlet([[1.0, 2.0], [3.0]]),
        lambda: sg.Normal(np.nan, 1.0),
        lambda: sg.Normal(0.0, 0.0),
        lambda: sg.Normal(0.0, -1.0),
        lambda: sg.Normal(None, 1.0),
        lambda: sg.HalfCauchy(-2.5),
        lambda: sg.HalfCauchy([1.0, 0.0]),
        lambda: sg.HalfNormal(0.0),
        lambda: sg.InverseGamma(-1.0, 1.0),
        lambda: sg.InverseGamma(1.0, 0.0),
        lambda: sg.LKJ(0.0),
        lambda: sg.LKJ(-1.0),
        lambda: sg.LKJ([1.0, 2.0]),
        lambda: sg.Priors(weights=sg.Normal()),  # type: ignore[arg-type]
        lambda: sg.Priors(means=1.0),  # type: ignore[arg-type]
        lambda: sg.Priors(scales=sg.LKJ()),  # type: ignore[arg-type]
        lambda: sg.Priors(correlation=sg.HalfCauchy()),  # type: ignore[arg-type]
        lambda: sg.GaussianMixture(2, priors=sg.Dirichlet(1.0)),  # type: ignore[arg-type]
    ],
)
def test_a_prior_of_the_wrong_sign_or_kind_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(sg.ModelError, match="must be"):
        make()


@pytest.mark.parametrize(
    ("covariance_type", "priors"),
    [
        ("full", sg.Priors(weights=sg.Dirichlet([1.0, 1.0]))),
        ("full", sg.Priors(weights=sg.Dirichlet([[1.0, 1.0, 1.0]] * 2))),
        ("full", sg.Priors(means=sg.Normal([0.0, 0.0, 0.0], 1.0))),
        ("full", sg.Priors(means=sg.Normal(0.0, np.ones((2, 2))))),
        ("full", sg.Priors(scales=sg.HalfCauchy([1.0, 1.0, 1.0]))),
        ("diag", sg.Priors(scales=sg.HalfNormal(np.ones((2, 3))))),
        ("tied", sg.Priors(scales=sg.HalfCauchy(np.ones((3, 2))))),
        ("spherical", sg.Priors(scales=sg.HalfCauchy([1.0, 1.0]))),
        ("spherical", sg.Priors(scales=sg.InverseGamma(np.ones((3, 2)), 1.0))),
    ],
)
def test_a_prior_of_the_wrong_shape_is_refused_before_anything_starts(
    covariance_type: str, priors: sg.Priors, no_cmdstan: None
) -> None:
    with pytest.raises(sg.ModelError, match="must be a number or broadcast to"):
        sg.GaussianMixture(3, covariance_type, priors).fit(GOOD, method="nuts", progress=False)


@pytest.mark.parametrize(
    ("covariance_type", "scales"),
    [
        ("full", sg.HalfCauchy([1.0, 2.0])),
        ("full", sg.HalfCauchy(np.ones((3, 2)))),
        ("tied", sg.HalfNormal([1.0, 2.0])),
        ("spherical", sg.InverseGamma(2.0, np.ones((3, 1)))),
    ],
)
def test_a_prior_may_be_given_for_each_feature_or_component(
    covariance_type: str, scales: Any
) -> None:
    priors = sg.Priors(sg.Dirichlet([1.0, 2.0, 3.0]), sg.Normal(np.zeros((3, 2)), [1, 2]), scales)
    structure = structure_named(covariance_type)
    resolved = Problem.build(Dataset.from_input(GOOD), 3, structure, priors).user_priors
    np.testing.assert_array_equal(resolved.means.scale, [[1, 2]] * 3)
    shape = structure.scale_shape(3, 2)
    np.testing.assert_array_equal(
        resolved.scales.scale, np.broadcast_to(np.asarray(scales.scale), shape)
    )


# ---- rows given to a fitted model ------------------------------------------------------------


@pytest.fixture(scope="module")
def fit() -> sg.Fit:
    X = pd.DataFrame(GOOD, columns=["height", "width"])
    return fit_quick(sg.GaussianMixture(2, "diag"), X, sg.EM(restarts=8))


@pytest.mark.parametrize("function", ["predict", "predict_proba", "log_density"])
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((4, 3)), "fitted to 2 features .*height.*width.* got 3"),
        (np.ones((4, 1)), "got 1"),
        (np.ones(2), "got 1"),
        (np.empty((0, 2)), "at least one row"),
        ([[1.0, np.nan]], "missing"),
        ([["1", "2"]], "text"),
        (pd.DataFrame({"width": [1.0], "height": [2.0]}), "Select and order the columns"),
        (pd.DataFrame({"height": [1.0], "depth": [2.0]}), "depth"),
    ],
)
def test_rows_unlike_those_of_the_fit_are_refused(
    fit: sg.Fit, function: str, X: Any, message: str
) -> None:
    with pytest.raises(sg.DataError, match=message):
        getattr(fit, function)(X)


def test_a_single_row_and_constant_rows_can_be_predicted(fit: sg.Fit) -> None:
    assert fit.predict([[0.0, 0.0]]).shape == (1,)
    assert fit.log_density(np.zeros((5, 2))).shape == (5,)


# ---- good data in every shape ----------------------------------------------------------------

INTEGERS = RNG.integers(-50, 50, (20, 2))


@pytest.mark.parametrize(
    "X",
    [
        INTEGERS.tolist(),
        INTEGERS,
        INTEGERS.astype(np.int8),
        INTEGERS.astype(np.float32),
        INTEGERS.astype(np.float16),
        INTEGERS.astype(np.longdouble),
        INTEGERS.astype(object),
        np.asfortranarray(INTEGERS.astype(float)),
        np.repeat(INTEGERS, 2, axis=0)[::2],
        INTEGERS.astype(">f8"),
        np.ma.masked_array(INTEGERS),
        pd.DataFrame(INTEGERS),
        pd.DataFrame(INTEGERS).convert_dtypes(),
        pd.DataFrame(INTEGERS, dtype=object),
        pd.DataFrame({0: INTEGERS[:, 0], 1: INTEGERS[:, 1].astype(float)}, index=range(5, 25)),
        tuple(map(tuple, INTEGERS.tolist())),
    ],
    ids=lambda X: f"{type(X).__name__}-{getattr(X, 'dtype', '')}",
)
def test_every_kind_of_table_gives_the_same_numbers(X: Any) -> None:
    data = Dataset.from_input(X)
    assert data.x.dtype == np.float64
    assert data.x.flags.c_contiguous
    np.testing.assert_array_equal(data.x, INTEGERS)


def test_one_feature_may_come_as_a_vector_a_column_or_a_series() -> None:
    values = [3.0, 1.0, 4.0, 1.5]
    series = pd.Series(values, name="length")
    for X in (values, np.array(values), [[v] for v in values], series, series.to_frame()):
        data = Dataset.from_input(X)
        assert data.x.shape == (4, 1)
        np.testing.assert_array_equal(data.x[:, 0], values)
    assert Dataset.from_input(values).feature_names == ("x",)
    assert Dataset.from_input(series).feature_names == ("length",)
    assert Dataset.from_input(series.to_frame()).feature_names == ("length",)


def test_booleans_are_zero_and_one() -> None:
    np.testing.assert_array_equal(Dataset.from_input([True, False, True]).x[:, 0], [1, 0, 1])


def test_names_come_from_the_columns() -> None:
    assert Dataset.from_input(GOOD).feature_names == ("x1", "x2")
    assert Dataset.from_input(pd.DataFrame(GOOD, columns=["a", 7])).feature_names == ("a", "7")


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_input_is_never_modified_and_may_be_read_only(covariance_type: str) -> None:
    x, weight = GOOD.copy(), np.linspace(0, 2, 30)
    x.flags.writeable = weight.flags.writeable = False
    model = sg.GaussianMixture(2, covariance_type)
    fit = fit_quick(model, x, sg.EM(restarts=8), sample_weight=weight)
    fit.predict(x)
    np.testing.assert_array_equal(x, GOOD)
    np.testing.assert_array_equal(weight, np.linspace(0, 2, 30))


def test_later_changes_of_the_input_do_not_reach_the_fit() -> None:
    x = GOOD.copy()
    data = Dataset.from_input(x)
    x[:] = 0
    np.testing.assert_array_equal(data.x, GOOD)


# ---- moments and units -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-140, 1e-12, 1.0, 1e12, 1e140])
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_and_sd_hold_at_every_scale(scale: float, weighted: bool) -> None:
    count = RNG.integers(0, 4, 30)
    rows = np.repeat(GOOD, count, axis=0) if weighted else GOOD
    mean, sd = Dataset.from_input(GOOD * scale, count if weighted else None).mean_and_sd()
    np.testing.assert_allclose(mean / scale, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sd / scale, rows.std(axis=0), rtol=1e-12)


def test_mean_and_sd_lose_nothing_to_an_offset() -> None:
    x = np.round(GOOD * 2**20) / 2**20  # a grid that survives the offset exactly
    mean, sd = Dataset.from_input(x + 2**30).mean_and_sd()
    np.testing.assert_allclose(sd, x.std(axis=0), rtol=1e-13)
    np.testing.assert_allclose(mean - 2**30, x.mean(axis=0), atol=2e-7)


def test_rows_of_weight_zero_do_not_touch_the_fit_wherever_they_lie() -> None:
    far = np.vstack([GOOD, [[1e300, -1e300], [1e160, 5.0]]])
    weight = np.r_[np.ones(30), 0.0, 0.0]
    model = sg.GaussianMixture(2, "full")
    with_them = fit_quick(model, far, "em", sample_weight=weight)
    without = fit_quick(model, GOOD, "em", sample_weight=np.ones(30))
    np.testing.assert_array_equal(with_them.means, without.means)
    np.testing.assert_array_equal(with_them.lp, without.lp)
    np.testing.assert_array_equal(with_them.priors.means.scale, without.priors.means.scale)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize(("scale", "offset"), [(1e-12, 0), (1e12, 0), (1.0, 1e8)])
def test_methods_see_data_of_order_one(covariance_type: str, scale: float, offset: float) -> None:
    dataset = Dataset.from_input(offset + scale * GOOD)
    problem = Problem.build(dataset, 2, structure_named(covariance_type), sg.Priors())
    np.testing.assert_allclose(problem.x.mean(axis=0), 0, atol=1e-6)
    assert 0.3 < problem.x.std(axis=0).min() <= problem.x.std(axis=0).max() < 3
    back = problem.center + problem.unit * problem.x
    np.testing.assert_allclose(back, offset + scale * GOOD, rtol=1e-13)


def test_default_priors_follow_the_documented_rules() -> None:
    x = GOOD * [1.0, 100.0] + [5.0, -3.0]
    fit = fit_quick(sg.GaussianMixture(2, "full"), x, sg.EM(restarts=8))
    low, high = x.min(axis=0), x.max(axis=0)
    np.testing.assert_allclose(fit.priors.means.location, [(low + high) / 2] * 2, rtol=1e-12)
    np.testing.assert_allclose(fit.priors.means.scale, [high - low] * 2, rtol=1e-12)
    np.testing.assert_allclose(fit.priors.scales.scale, [x.std(axis=0)] * 2, rtol=1e-12)
    np.testing.assert_array_equal(fit.priors.weights.concentration, [1.0, 1.0])
    assert isinstance(fit.priors.scales, sg.HalfCauchy)
    assert fit.priors.correlation.shape == 2.0
