"""Arguments that make no sense are named, with what was expected, before anything starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import stangmm as sg
from stangmm.base import memory
from stangmm.base.memory import check_disk
from stangmm.base.processors import n_processors
from stangmm.methods.base import Run

X = sg.datasets.faithful()
MODEL = sg.GaussianMixture(2)


@pytest.fixture(scope="module")
def fit() -> sg.Fit:
    return MODEL.fit(X, method="em", seed=1)


SEEDED: dict[str, Any] = {
    "sample": lambda fit, seed: fit.sample(3, seed),
    "impute": lambda fit, seed: fit.impute(X, "draw", seed=seed),
    "prior_predictive": lambda fit, seed: MODEL.prior_predictive(X, seed=seed),
    "conditional": lambda fit, seed: fit.conditional({0: 3.0}).sample(2, seed),
    "fit": lambda fit, seed: MODEL.fit(X, method="em", seed=seed),
}


@pytest.mark.parametrize("seed", [-1, 0.5, "one", True, 10**400])
@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_is_a_whole_number_wherever_one_is_taken(name: str, seed: Any, fit: sg.Fit) -> None:
    with pytest.raises(sg.ModelError, match="seed must be"):
        SEEDED[name](fit, seed)


CALLS: dict[str, tuple[Any, str]] = {
    "max_draws": (lambda fit: fit.impute(X, max_draws=0), "max_draws must be"),
    "no quantiles": (lambda fit: fit.marginal(0).quantile([]), "q must be probabilities"),
    "ragged": (lambda fit: fit.conditional({0: [[1.0], [1.0, 2.0]]}), "must be a number or an arr"),
    "no chains": (
        lambda fit: fit.select_chains(None),
        "chains must be a list of numbers from 0 to 0",
    ),
    "twice": (lambda fit: fit.reordered([0, 0]), "each of 0 to 1 once"),
    "no model": (lambda fit: sg.compare(None, X), "model must be a GaussianMixture"),
    "digits": (lambda fit: sg.GaussianMixture(10**400), "a number of some 400"),
    "dates": (lambda fit: sg.Normal(np.datetime64("2020-01-01")), "Normal location must be a num"),
    "an array": (lambda fit: MODEL.fit(X, method="em", missing=np.ones(3)), "missing must be one"),
    "no path": (lambda fit: fit.save(None), "A path must be text"),
    "NUL": (lambda fit: fit.save("a\0b"), "contain a NUL"),
    "too long": (lambda fit: fit.report("x" * 5000), "not a valid path"),
    "too long to load": (lambda fit: sg.load("x" * 5000), "not a valid path"),
    "sparse": (lambda fit: MODEL.fit(scipy.sparse.csr_array(X), method="em"), "X.toarray"),
    "text": (lambda fit: MODEL.fit(X, method="em", sample_weight="x" * 200_000), "must be numbers"),
    "one row": (lambda fit: MODEL.fit(X[:1], method="em"), "There is only one row"),
    "NaN in new rows": (
        lambda fit: fit.predict_proba([[np.nan, 1.0]]),
        r"'eruption_min'\. Fit the model with missing=.*Fit\.impute",
    ),
    "huge n": (lambda fit: fit.sample(10**14), "GB of memory"),
    "huge start": (lambda fit: MODEL.fit(X, method="em", init=np.full((2, 2), 1e308)), "Rescale"),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_makes_no_sense_is_named_in_few_words(name: str, fit: sg.Fit) -> None:
    ask, words = CALLS[name]
    with pytest.raises((sg.ModelError, sg.DataError), match=words) as caught:
        ask(fit)
    assert len(str(caught.value)) < 1000


def test_one_method_need_not_be_in_a_list() -> None:
    for method in ("em", sg.EM()):
        assert list(sg.compare(MODEL, X, method, seed=1, progress=False).fits) == ["em"]
    with pytest.raises(sg.ModelError, match=r"methods must be methods or fits.* got 3"):
        sg.compare(MODEL, X, 3, seed=1)  # type: ignore[call-overload]


def test_the_modes_of_a_point_estimate_are_words(fit: sg.Fit) -> None:
    assert '"em" gives a single point' in str(fit.modes)


def test_a_fit_that_memory_cannot_hold_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**26)
    rows = pd.DataFrame(np.random.default_rng(1).normal(size=(10**6, 3)))
    with pytest.raises(sg.ModelError, match=r"needs at least 0\.\d+ GB of memory, but only 0\.06"):
        MODEL.fit(rows, method="em", seed=1)


def test_memory_is_what_the_system_says() -> None:
    there = memory.available_memory()
    assert there is None or there > 2**20


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="macOS binds no processors")
def test_processors_are_those_that_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert n_processors() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert n_processors() == 1
        assert Run(seed=1).at_a_time(4) == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    check_disk("Files", 2.0**20, tmp_path, "Do.")  # too little to look
    with pytest.raises(sg.ModelError, match=r"Files take about 1\.07e\+09 GB, .* GB left\. Do\."):
        check_disk("Files", 2.0**60, tmp_path, "Do.")
    nuts = sg.NUTS(chains=3, draws=200)
    assert (nuts.n_draws, sg.EM().n_draws) == (600, 1)
