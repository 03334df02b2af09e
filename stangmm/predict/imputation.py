"""Imputation: tables with their missing values filled in from the fitted mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.base.checked import check_choice, check_count, random_generator
from stangmm.base.errors import ModelError
from stangmm.base.memory import check_memory
from stangmm.base.progress import progress_bar
from stangmm.data.dataset import Dataset, as_new_rows
from stangmm.data.frames import column_names, eager, table_like
from stangmm.data.groups import group_rows
from stangmm.model.mixture import Mixture
from stangmm.predict.conditional import Conditional, one_of_each

How: TypeAlias = Literal["mean", "draw"]

ROWS = 10_000  # filled in at once


def impute(
    mixture: Mixture,
    dataset: Dataset,
    X: Any,
    how: How = "mean",
    *,
    n: int | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Any:
    """Fill in what is missing in X; see `Fit.impute`.

    Parameters
    ----------
    mixture : Mixture
        Batch (S,) of draws.
    dataset : Dataset
        The data of the fit, whose features X must have.
    """
    check_choice("how", how, get_args(How))
    if n is not None:
        check_count("n", n)
        if how == "mean":
            raise ModelError('There is one mean: n goes with how="draw" only.')
    X = eager(X)
    x = as_new_rows(X, replace(dataset, missing="marginalize"))
    missing = np.isnan(x)
    if n is not None:
        check_memory(f"n = {n} completions", 8.0 * n * x.size, "Ask for fewer at a time.")
    advance = progress_bar("imputation", int(missing.any(axis=1).sum()), shown=progress)
    if how == "mean":
        fill_means(mixture, x, advance)
        return _like(X, x, missing)
    rng = random_generator(seed)
    completed = drawn_completions(mixture, x, 1 if n is None else n, rng, advance)
    if n is None:
        return _like(X, completed[0], missing)
    if not isinstance(_like(X, completed[0], missing), np.ndarray):
        return [_like(X, each, missing) for each in completed]
    return completed


def fill_means(mixture: Mixture, x: FloatArray, advance: Callable[[int], None]) -> None:
    """Put in place of each NaN of x (N, D) its mean given what its row has, over all draws."""
    for rows, observed, missing in _incomplete_groups(x):
        conditional = Conditional.of(mixture, observed, missing)
        for chunk in _chunks(rows):
            given = x[np.ix_(chunk, observed)]
            # Rows without any value all have the same mean.
            known = given if len(observed) else given[:1]
            x[np.ix_(chunk, missing)] = conditional.mean(known)
            advance(len(chunk))


def drawn_completions(
    mixture: Mixture,
    x: FloatArray,
    n: int,
    rng: np.random.Generator,
    advance: Callable[[int], None],
) -> FloatArray:
    """Random completions of x, shape (n, N, D).

    Each takes one draw of the parameters for all rows and then draws the missing values, as
    multiple imputation asks for (Rubin 1987, doi:10.1002/9780470316696).
    """
    n_draws = mixture.batch_shape[0]
    chosen = mixture[rng.choice(n_draws, n, replace=n > n_draws)]
    completed = np.repeat(x[np.newaxis], n, axis=0)
    for rows, observed, missing in _incomplete_groups(x):
        conditional = Conditional.of(chosen, observed, missing)
        for chunk in _chunks(rows):
            given = x[np.ix_(chunk, observed)]
            for i in range(n):
                one_draw = conditional[i : i + 1].at(given)[0]
                completed[i][np.ix_(chunk, missing)] = one_of_each(one_draw, rng)[0]
            advance(len(chunk))
    return completed


def _incomplete_groups(x: FloatArray) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Rows that miss the same features, with the features that they have and that they miss."""
    order, groups = group_rows(x)
    for group in groups:
        missing = np.setdiff1d(np.arange(x.shape[1]), group.observed)
        if len(missing):
            yield order[group.rows], group.observed, missing


def _chunks(rows: IntArray) -> Iterator[IntArray]:
    for first in range(0, len(rows), ROWS):
        yield rows[first : first + ROWS]


def _like(X: Any, completed: FloatArray, missing: Any) -> Any:
    """The completed table as what X is: DataFrame, Series or array; what was there is not touched.

    Columns of floats keep their precision.
    """
    if hasattr(X, "isetitem"):
        table = X.copy()
        for j in np.flatnonzero(missing.any(axis=0)):
            own = X.dtypes.iloc[j]
            is_float = isinstance(own, np.dtype) and own.kind == "f"
            table.isetitem(j, completed[:, j].astype(own if is_float else float))
        return table
    names = column_names(X)
    if names is not None and not hasattr(X, "iloc"):
        table = table_like(X, {name: completed[:, j] for j, name in enumerate(names)})
        if table is not None:
            return table
    flat = completed[:, 0] if np.ndim(X) == 1 else completed
    return type(X)(flat, index=X.index, name=X.name) if hasattr(X, "iloc") else flat
