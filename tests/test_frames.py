"""Tables of other libraries: read by their columns, and answered in their own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr

import stangmm as sg

FRAME = sg.datasets.faithful()


class Stream:
    """Only an Arrow stream, as a query's result is."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.Table.from_pandas(FRAME).__arrow_c_stream__(requested_schema)


class Interchange:
    """Only the older protocol."""

    def __dataframe__(self, *arguments: Any, **options: Any) -> object:
        return FRAME.__dataframe__(*arguments, **options)


MAKE: dict[str, Any] = {
    "polars": lambda: pl.from_pandas(FRAME),
    "lazy": lambda: pl.from_pandas(FRAME).lazy(),
    "pyarrow": lambda: pa.Table.from_pandas(FRAME),
    "stream": Stream,
    "interchange": Interchange,
    "xarray": lambda: xr.Dataset({name: ("row", FRAME[name]) for name in FRAME}),
}
KIND = {"polars": pl, "lazy": pl, "pyarrow": pa, "stream": pa, "interchange": pd, "xarray": xr}


@pytest.fixture(scope="module")
def fit() -> sg.Fit:
    return sg.GaussianMixture(2).fit(FRAME, method="em", seed=1)


@pytest.mark.filterwarnings("ignore:.*interchange.*")
@pytest.mark.parametrize("kind", MAKE)
def test_a_table_is_read_by_its_columns_and_answered_in_kind(kind: str, fit: sg.Fit) -> None:
    X = MAKE[kind]()
    own = sg.GaussianMixture(2).fit(X, method="em", seed=1)
    assert own.dataset.feature_names == fit.dataset.feature_names
    np.testing.assert_array_equal(own.dataset.x, FRAME.to_numpy())
    assert own.total_log_likelihood == fit.total_log_likelihood
    labels, probabilities = fit.predict(X), fit.predict_proba(X)
    assert type(labels).__module__.split(".")[0] == KIND[kind].__name__
    assert type(probabilities).__module__.split(".")[0] == KIND[kind].__name__
    np.testing.assert_array_equal(np.asarray(labels), fit.predict(FRAME.to_numpy()))
    if kind == "polars":
        assert (labels.name, probabilities.columns) == ("component", ["0", "1"])


@pytest.mark.parametrize("kind", ["polars", "lazy", "pyarrow", "xarray"])
def test_missing_values_are_filled_in_and_given_back_in_kind(kind: str, fit: sg.Fit) -> None:
    gaps = FRAME.astype(float).mask(FRAME.iloc[3] == FRAME)
    X: Any = {
        "polars": lambda: pl.from_pandas(gaps),
        "lazy": lambda: pl.from_pandas(gaps).lazy(),
        "pyarrow": lambda: pa.Table.from_pandas(gaps),
        "xarray": lambda: xr.Dataset({name: ("row", gaps[name]) for name in gaps}),
    }[kind]()
    filled = fit.impute(X)
    columns = [np.asarray(filled[name]) for name in FRAME]
    np.testing.assert_array_equal(np.stack(columns, axis=1), fit.impute(gaps).to_numpy())


def test_text_and_other_columns_are_named_whatever_the_library(fit: sg.Fit) -> None:
    text = pl.DataFrame({"a": [1.0, 2.0], "t": ["x", "y"]})
    for X in (text, text.lazy(), text.to_arrow()):
        with pytest.raises(sg.DataError, match=r"got text or other objects in \['t'\]"):
            fit.predict(X)
    kinds = FRAME.head(2).assign(
        day=pd.date_range("2020", periods=2), kind=pd.Categorical(["a", "b"])
    )
    for X in (pl.from_pandas(kinds), pa.Table.from_pandas(kinds), kinds):
        with pytest.raises(sg.DataError, match=r"dates in \['day'\], categories in \['kind'\]"):
            fit.predict(X)
    with pytest.raises(sg.DataError, match="Select and order the columns"):
        fit.predict(pl.from_pandas(FRAME[FRAME.columns[::-1]]))


def test_a_series_is_one_feature_with_its_name() -> None:
    velocity = sg.datasets.galaxies()["velocity_1000km_s"]
    for X in (pl.Series(velocity.name, velocity.to_numpy()), velocity):
        own = sg.GaussianMixture(1).fit(X, method="em", seed=1)
        assert own.dataset.feature_names == ("velocity_1000km_s",)
        assert type(own.predict(X)) is type(X)
    weighted = sg.GaussianMixture(1).fit(
        velocity, method="em", seed=1, sample_weight=pl.Series([2] * 82)
    )
    assert weighted.dataset.total_weight == 164


def test_tables_of_rows_join_the_table_that_was_fitted() -> None:
    """Also where rows were sorted or left out, whatever the index."""
    own = FRAME.sort_values(FRAME.columns[0])
    named = FRAME.set_index(pd.Index([f"eruption {i}" for i in range(len(FRAME))], name="which"))
    weight = np.r_[0.0, np.ones(len(FRAME) - 1)]
    for table in (own, named, FRAME):
        made = sg.GaussianMixture(2).fit(table, method="em", seed=1, sample_weight=weight)
        component = made.predict(table)
        for found in (made.rows()["component"], made.partition().to_dataframe()["cluster"]):
            assert list(found.index) == list(table.index)
            pd.testing.assert_series_equal(
                table.join(found).iloc[:, -1], component, check_names=False, check_dtype=False
            )
    made = sg.GaussianMixture(2).fit(named, method="em", seed=1, sample_weight=weight)
    assert list(made.dataset.counted().index) == list(named.index[1:])
    classes = sg.DiscriminantAnalysis().fit(named, component, method="em", seed=1)
    assert list(classes.fits[0].rows().index) == list(named.index)
    made = sg.GaussianMixture(2).fit(FRAME.to_numpy(), method="em", seed=1)
    assert list(made.rows().index) == list(range(len(FRAME)))
