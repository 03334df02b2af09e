"""Names of other packages lead to what the things are called here."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import stangmm as sg


@pytest.fixture(scope="module")
def fit() -> sg.Fit:
    return sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1)


X = sg.datasets.faithful()
CALLS: dict[str, Any] = {
    "random_state": lambda fit: sg.GaussianMixture(2, random_state=1),
    "seed": lambda fit: sg.GaussianMixture(2).fit(X, method="em", random_state=1),
    "restarts": lambda fit: sg.GaussianMixture(2, n_init=10),
    "max_iterations": lambda fit: sg.EM(max_iter=10),
    "n_components": lambda fit: sg.select_components(X, k=3),
    "covariance_type, which": lambda fit: sg.select_components(X, covariance_types=["full"]),
    "warmup": lambda fit: sg.NUTS(iter_warmup=100),
    "log_density": lambda fit: fit.score_samples(X),
    "fit.means": lambda fit: fit.means_,
    "predict": lambda fit: fit.labels_,
    "model.fit(X).predict(X)": lambda fit: sg.GaussianMixture(2).fit_predict(X),
}


def test_an_unknown_argument_gets_the_list_of_the_known_ones() -> None:
    from stangmm.sklearn import StanGaussianMixture

    unknown: Any = {"mean": sg.Normal(0.0, 1.0)}
    with pytest.raises(TypeError, match=r"Priors has no argument 'mean'; there are .*'means'"):
        sg.Priors(**unknown)
    unknown = {"n_init": 3}
    with pytest.raises(TypeError, match=r"no argument 'n_init'; .*method=EM\(restarts=") as caught:
        StanGaussianMixture(3, **unknown)
    assert "stangmm.sklearn" not in str(caught.value)


@pytest.mark.parametrize("here", CALLS)
def test_a_name_of_scikit_learn_says_what_it_is_called_here(here: str, fit: sg.Fit) -> None:
    with pytest.raises((TypeError, AttributeError)) as caught:
        CALLS[here](fit)
    assert "Here it is" in str(caught.value)
    assert here in str(caught.value) or here == "random_state"


def test_objects_are_copied_and_pickled_as_before(fit: sg.Fit) -> None:
    for thing in (fit.model, fit.settings, fit):
        for other in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):  # noqa: S301
            assert type(other) is type(thing)
            assert repr(other) == repr(thing)
    assert not hasattr(fit, "no_such_thing")


def test_the_estimator_has_words_of_its_own_for_missing_values() -> None:
    from stangmm.sklearn import StanGaussianMixture

    table = X.to_numpy().copy()
    masked = np.ma.masked_less(table, 2.0)
    table[0, 0] = np.nan
    for rows in (table, masked):
        with pytest.raises(sg.DataError, match="marginalize"):
            StanGaussianMixture(2).fit(rows)


def test_criteria_of_the_estimator_count_weights() -> None:
    from stangmm.sklearn import StanGaussianMixture

    estimator = StanGaussianMixture(2, random_state=1).fit(X)
    weight = np.arange(len(X)) % 3
    repeated = X.iloc[np.repeat(np.arange(len(X)), weight)]
    for criterion in (estimator.bic, estimator.aic):
        np.testing.assert_allclose(criterion(X, sample_weight=weight), criterion(repeated))
