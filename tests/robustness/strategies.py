"""What hypothesis makes: values of any kind for arguments, tables of any kind for data."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import scipy.sparse
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# Numbers are small or so large that no memory holds so many of anything: between, work takes long.
WHOLE = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([2**31, 2**63, 2**64, 10**15, -(10**15), 10**30, 10**400, -(10**400)]),
)
NUMBERS = st.one_of(
    WHOLE,
    st.floats(),
    st.sampled_from([0.0, -0.0, 1e-320, 1e-300, 1e300, 0.5, 0.9, 1.0]),
    st.booleans(),
)
SCALARS = st.one_of(
    st.none(), NUMBERS, st.text(max_size=5), st.binary(max_size=5), st.complex_numbers(),
    st.sampled_from(["em", "mean", "draw", "full", "diag", "stephens", "error", "marginalize", "bic", "loo",
                     "waiting_min", "eruption_min", "x" * 30_000, "a\0b", "\udc80", pd.NA, pd.NaT,
                     datetime.date(2020, 1, 1), np.datetime64("2020-01-01"), np.float32(0.1), np.int8(3),
                     object(), type, len, range(3), set(), float("nan")]),
)  # fmt: skip
DTYPES = st.sampled_from(
    ["f8", "f4", "i8", "i1", "u8", "?", "c16", "U3", "S3", "O", "M8[ns]", "m8[s]"]
)


@st.composite
def arrays(draw: Any) -> Any:
    """Small arrays of any type and shape, contiguous or not, read-only or not."""
    dtype = np.dtype(draw(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if dtype.kind == "O":
        size = int(np.prod(shape))
        values = np.empty(size, dtype=object)
        values[:] = draw(st.lists(st.one_of(st.none(), st.floats(), st.text(max_size=2)), min_size=size,
                                  max_size=size))  # fmt: skip
        array = values.reshape(shape)
    else:
        array = draw(hnp.arrays(dtype, shape))
    how = draw(st.integers(0, 4))
    if how == 1 and array.ndim:
        array = array[::-1]
    if how == 2:
        array.setflags(write=False)
    if how == 3 and array.dtype.kind in "fiu":
        array = np.ma.masked_array(array, np.zeros(array.shape, bool) if array.ndim else False)
    return array


ANYTHING = st.one_of(
    SCALARS,
    arrays(),
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 3)), inner, max_size=2),
        ),
        max_leaves=6,
    ),
)


@st.composite
def tables(draw: Any, columns: int | None = None) -> Any:
    """Tables as users have them: shapes, magnitudes, ties, gaps, in any container."""
    n = draw(st.sampled_from([0, 1, 2, 3, 5, 8, 20, 30]))
    d = draw(st.integers(0, 4)) if columns is None else columns
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 10.0 ** draw(
        st.sampled_from([-320, -200, -150, -20, -3, 0, 0, 0, 3, 20, 140, 155, 300])
    )
    offset = 10.0 ** draw(st.sampled_from([-300, 0, 0, 0, 6, 12, 200]))
    with np.errstate(all="ignore"):
        x = rng.normal(size=(n, d)) * scale + offset * draw(st.sampled_from([0, 0, 0, 1]))
        if draw(st.booleans()):
            x = np.round(x, draw(st.integers(0, 2)))
    x[rng.random(x.shape) < draw(st.sampled_from([0, 0, 0, 0.1, 1.0]))] = draw(
        st.sampled_from([np.nan, np.inf, 0.0, -9999.0, 1e6])
    )
    if n and draw(st.integers(0, 5)) == 0:
        x[:, : d // 2 + 1] = x[:1, : d // 2 + 1]
    names = draw(
        st.sampled_from([None, list("abcd"), ["eruption_min", "waiting_min", "", "a"], ["a"] * 4])
    )
    container = draw(st.integers(0, 10))
    match container:
        case 0:
            return x.tolist()
        case 1:
            return pd.DataFrame(x, columns=None if names is None else names[:d])
        case 2:
            return np.asfortranarray(x)
        case 3:
            return np.ma.masked_invalid(x)
        case 4 if d == 1:
            return pd.Series(x[:, 0], name=None if names is None else names[0])
        case 5 if d and (names is None or len(set(names)) == 4):
            return pl.DataFrame({str(j): x[:, j] for j in range(d)})
        case 6 if n and d:
            return scipy.sparse.csr_array(x)
        case 7:
            with np.errstate(all="ignore"):
                return x.astype(draw(st.sampled_from(["f4", "f2", "O"])))
        case 8 if d == 1:
            return x[:, 0]
        case _:
            return x


TABLE = st.one_of(tables(), tables(2), tables(2), ANYTHING)
