"""The scikit-learn estimator: scikit-learn's checks, its own mixture as reference, pipelines."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import stangmm as sg
from stangmm.sklearn import StanGaussianMixture

TYPES = ["full", "tied", "diag", "spherical"]
EXACT = sg.EM(restarts=10, tolerance=1e-12)
IN_PARAMETERS = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]


def fitted(X: Any, n_components: int = 2, **parameters: Any) -> StanGaussianMixture:
    parameters = {"method": EXACT, "random_state": 1, **parameters}
    return StanGaussianMixture(n_components, **parameters).fit(X)


def reference(X: Any, n_components: int, covariance_type: str = "full") -> GaussianMixture:
    """scikit-learn's mixture, run until nothing changes and not regularized."""
    mixture = GaussianMixture(
        n_components, covariance_type=covariance_type, reg_covar=0, tol=1e-14, max_iter=5000
    )
    return mixture.set_params(random_state=0).fit(X)


@parametrize_with_checks([StanGaussianMixture(covariance_type=c) for c in TYPES])
@pytest.mark.filterwarnings("ignore::stangmm.base.errors.ConvergenceWarning")
def test_scikit_learn_checks(estimator: StanGaussianMixture, check: Any) -> None:
    check(estimator)


def test_no_check_is_skipped_where_scipy_allows_the_array_api() -> None:
    # scikit-learn skips one check unless this variable is set before scipy is imported.
    program = """if True:
        import warnings
        from sklearn.utils.estimator_checks import check_estimator
        from stangmm.sklearn import StanGaussianMixture
        warnings.simplefilter("ignore")
        results = check_estimator(StanGaussianMixture(), on_skip=None)
        assert {r["status"] for r in results} == {"passed"}
        print(*sorted(r["check_name"] for r in results))
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "check_array_api_input" in done.stdout


@pytest.mark.filterwarnings("ignore::stangmm.base.errors.ConvergenceWarning")
@pytest.mark.parametrize("covariance_type", TYPES)
def test_three_components_pass_the_checks_too(covariance_type: str) -> None:
    estimator = StanGaussianMixture(3, covariance_type=covariance_type, method=sg.EM(restarts=4))
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    not_passed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert len(results) > 40
    assert not not_passed


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_weight_of_three_is_three_rows(covariance_type: str) -> None:
    X = sg.datasets.faithful().to_numpy()
    weight = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = StanGaussianMixture(
        2, covariance_type=covariance_type, method=EXACT, random_state=1
    ).fit(X, sample_weight=weight)
    repeated = fitted(X.repeat(weight, axis=0), covariance_type=covariance_type)
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-10)
    mean = np.average(weighted.score_samples(X), weights=weight)
    assert weighted.score(X, sample_weight=weight) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_attributes_and_scores_are_those_of_scikit_learn(covariance_type: str) -> None:
    X = sg.datasets.faithful().to_numpy()
    ours = fitted(X, covariance_type=covariance_type)
    theirs = reference(X, 2, covariance_type)
    order = np.argsort(theirs.means_[:, 0])
    for name in IN_PARAMETERS:
        expected = getattr(theirs, name)
        if len(expected) == 2 and not (covariance_type == "tied" and name not in IN_PARAMETERS[:2]):
            expected = expected[order]
        assert getattr(ours, name).shape == expected.shape, name
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-6, atol=1e-12)
    new = X[::7] + 0.1
    np.testing.assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-6)
    proba = theirs.predict_proba(new)[:, order]
    np.testing.assert_allclose(ours.predict_proba(new), proba, atol=1e-6)
    np.testing.assert_array_equal(ours.predict(new), proba.argmax(axis=1))
    for score in ("score", "bic", "aic"):
        assert getattr(ours, score)(new) == pytest.approx(getattr(theirs, score)(new), rel=1e-7)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, rel=1e-9)
    assert ours.converged_
    assert ours.n_iter_ is not None
    assert ours.n_iter_ > 1
    assert not ours.regularized_


@pytest.mark.filterwarnings("ignore::stangmm.ConvergenceWarning")
def test_a_grid_search_in_a_pipeline_finds_what_it_finds_with_scikit_learn() -> None:
    X = sg.datasets.faithful()

    def search(mixture: Any) -> GridSearchCV:
        name = type(mixture).__name__.lower()
        return GridSearchCV(
            make_pipeline(StandardScaler(), mixture),
            {f"{name}__n_components": [1, 2, 3]},
            cv=KFold(5, shuffle=True, random_state=0),
        ).fit(X)

    ours = search(StanGaussianMixture(covariance_type="full", method=EXACT, random_state=1))
    theirs = search(GaussianMixture(reg_covar=0, tol=1e-10, max_iter=2000, random_state=1))
    assert ours.best_params_ == {"stangaussianmixture__n_components": 2}
    assert list(ours.best_params_.values()) == list(theirs.best_params_.values())
    both = [search.cv_results_["mean_test_score"][:2] for search in (ours, theirs)]
    np.testing.assert_allclose(*both, rtol=1e-6)  # with K = 3 they may find different optima
    assert ours.score(X) == pytest.approx(theirs.score(X), rel=1e-6)


def test_without_a_maximum_one_component_has_the_covariance_of_the_data_but_no_flat_side() -> None:
    X = np.random.default_rng(2).normal(size=(5, 8)) * 10.0 ** np.arange(-4, 4)
    with pytest.warns(sg.ConvergenceWarning, match="more rows than features"):
        mixture = fitted(X, 1)
    unit = X.std(axis=0)
    values, vectors = np.linalg.eigh(np.cov((X / unit).T, bias=True))
    assert (values[:4] < 1e-14).all()
    expected = (vectors * np.maximum(values, (0.5e-3) ** 2)) @ vectors.T
    np.testing.assert_allclose(mixture.means_[0], X.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(mixture.covariances_[0] / np.outer(unit, unit), expected, atol=1e-9)
    assert mixture.regularized_
    assert np.isfinite(mixture.score(X + 1e-4 * X.std(axis=0)))


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_where_all_collapses_each_component_gets_one_pseudo_row(covariance_type: str) -> None:
    X = np.random.default_rng(5).normal(size=(4, 2)) * [1.0, 3.0]
    with warnings.catch_warnings():  # of another optimum near, too
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        mixture = fitted(X, 3, covariance_type=covariance_type)
    assert mixture.fit_.diagnose()["maximum of the likelihood"].verdict == "fail"
    # One M step in plain numpy, with a pseudo-row of the data's covariance shrunk to a third.
    resp = mixture.predict_proba(X)
    counts = resp.sum(axis=0)
    means = (resp.T @ X) / counts[:, np.newaxis]
    np.testing.assert_allclose(mixture.weights_, counts / len(X), atol=1e-5)
    np.testing.assert_allclose(mixture.means_, means, atol=1e-4)
    for k, count in enumerate(counts):
        deviation = X - means[k]
        own = np.einsum("n,ni,nj->ij", resp[:, k], deviation, deviation)
        expected = (own + np.cov(X.T, bias=True) / 3) / (count + 1)
        got = mixture.covariances_[k]
        if covariance_type == "full":
            np.testing.assert_allclose(got, expected, atol=1e-4)
        elif covariance_type == "diag":
            np.testing.assert_allclose(got, np.diag(expected), atol=1e-4)
        else:
            unit = np.trace(np.cov(X.T, bias=True)) / 2
            expected_variance = (np.trace(own) / 2 + unit / 3) / (count + 1)
            assert got == pytest.approx(expected_variance, abs=1e-4)
    assert mixture.regularized_
    density = sum(
        w
        * multivariate_normal(
            m, c * np.eye(2) if np.ndim(c) == 0 else (np.diag(c) if c.ndim == 1 else c)
        ).pdf(X)
        for w, m, c in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
    )
    assert mixture.lower_bound_ == pytest.approx(np.log(density).mean(), rel=1e-9)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
def test_a_feature_that_does_not_vary_has_the_variance_that_scikit_learn_gives_it(
    covariance_type: str,
) -> None:
    X = np.insert(make_blobs(120, 2, centers=2, random_state=3)[0], 1, 4.25, axis=1)
    with pytest.warns(sg.ConvergenceWarning, match=r"Features \[1\] do not vary"):
        ours = fitted(X, 2, covariance_type=covariance_type)
    theirs = GaussianMixture(2, covariance_type=covariance_type, tol=1e-9, random_state=0).fit(X)
    new = X + np.random.default_rng(1).normal(0, 1e-3, X.shape)
    order = np.argsort(ours.means_[:, 0]), np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(ours.means_[order[0]], theirs.means_[order[1]], atol=1e-4)
    np.testing.assert_allclose(
        np.sort(ours.covariances_.ravel()), np.sort(theirs.covariances_.ravel()), atol=1e-4
    )
    np.testing.assert_allclose(ours.score_samples(new), theirs.score_samples(new), atol=1e-2)
    np.testing.assert_allclose(
        ours.predict_proba(new)[:, order[0]], theirs.predict_proba(new)[:, order[1]], atol=1e-4
    )
    assert ours.lower_bound_ == pytest.approx(ours.score(X), rel=1e-9)
    assert ours.bic(X) == pytest.approx(
        np.log(120) * ours.fit_.model.n_parameters(2) - 240 * ours.score(X), rel=1e-9
    )
    drawn = ours.sample(400)[0]
    assert drawn[:, 1].mean() == pytest.approx(4.25, abs=2e-4)
    assert drawn[:, 1].std() == pytest.approx(1e-3, rel=0.15)
    assert ours.regularized_


def test_spherical_covariances_are_of_the_features_that_vary() -> None:
    X = make_blobs(120, 2, centers=2, random_state=3)[0]
    with pytest.warns(sg.ConvergenceWarning, match="do not vary"):
        mixture = fitted(np.insert(X, 0, 1.0, axis=1), 2, covariance_type="spherical")
    alone = fitted(X, 2, covariance_type="spherical")
    np.testing.assert_array_equal(mixture.covariances_, alone.covariances_)
    np.testing.assert_array_equal(mixture.means_[:, 1:], alone.means_)


def test_what_regularization_cannot_mend_stays_an_error() -> None:
    with pytest.raises(sg.DataError, match="constant"):
        fitted([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], 1)
    with pytest.raises(sg.DataError, match="distinct rows"):
        fitted([[1.0], [1.0], [2.0]], 3)


def test_an_integer_random_state_is_the_seed_of_the_model() -> None:
    X = sg.datasets.galaxies()
    mixture = StanGaussianMixture(3, covariance_type="diag", random_state=5).fit(X)
    fit = sg.GaussianMixture(3, "diag").fit(X, method="em", seed=5, progress=False)
    np.testing.assert_array_equal(mixture.means_, fit.means)
    assert mixture.fit_.seed == 5
    assert mixture.fit_.dataset.feature_names == tuple(mixture.feature_names_in_)


@pytest.mark.filterwarnings("ignore::stangmm.ConvergenceWarning")
def test_other_random_states_are_those_of_scikit_learn() -> None:
    X = sg.datasets.galaxies().to_numpy()
    first, second = (fitted(X, random_state=np.random.RandomState(3)) for _ in range(2))
    assert first.fit_.seed == second.fit_.seed
    state = np.random.RandomState(3)
    assert fitted(X, random_state=state).fit_.seed != fitted(X, random_state=state).fit_.seed


def test_samples_have_the_moments_of_the_mixture() -> None:
    mixture = fitted(sg.datasets.faithful().to_numpy())
    x, labels = mixture.sample(20_000)
    for k in range(2):
        rows = x[labels == k]
        error = np.sqrt(np.diag(mixture.covariances_[k]) / len(rows))
        assert (np.abs(rows.mean(axis=0) - mixture.means_[k]) < 4.5 * error).all()
    np.testing.assert_array_equal(x, mixture.sample(20_000)[0])
    with pytest.raises(ValueError, match="at least 1"):
        mixture.sample(0)


def test_a_clone_is_unfitted_and_a_pickle_predicts_the_same() -> None:
    X = sg.datasets.faithful()
    mixture = fitted(X, priors=sg.Priors(weights=sg.Dirichlet(2.0)))
    copy = pickle.loads(pickle.dumps(mixture))  # noqa: S301 our own bytes
    np.testing.assert_array_equal(copy.predict_proba(X), mixture.predict_proba(X))
    unfitted = clone(mixture)
    assert unfitted.method == EXACT
    with pytest.raises(NotFittedError):
        unfitted.predict(X)


def test_predictions_ask_for_the_names_of_the_fit() -> None:
    X = sg.datasets.faithful()
    with pytest.raises(ValueError, match="feature names"):
        fitted(X).predict(X[X.columns[::-1]])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"n_components": 0}, "n_components must be"),
        ({"covariance_type": "round"}, "covariance_type must be one of"),
        ({"method": "vb"}, "method must be one of"),
        ({"relabel": "size"}, "relabel"),
        ({"priors": "flat"}, "priors must be"),
        ({"random_state": -1}, "seed must be"),
    ],
)
def test_parameters_are_checked_when_fitting(parameters: dict[str, Any], words: str) -> None:
    mixture = StanGaussianMixture(**parameters)
    with pytest.raises(ValueError, match=words):
        mixture.fit([[1.0], [2.0], [4.0]])


def test_without_scikit_learn_the_import_says_what_to_install() -> None:
    program = "import sys; sys.modules['sklearn'] = None; import stangmm, stangmm.sklearn"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert 'pip install "stangmm[sklearn]"' in done.stderr.splitlines()[-1]


@pytest.mark.stan
@pytest.mark.parametrize(
    "method", [sg.NUTS(chains=2, warmup=200, draws=200), sg.ADVI(draws=200)], ids=["nuts", "advi"]
)
def test_draws_are_averaged(method: Any) -> None:
    X = sg.datasets.faithful().to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        mixture = fitted(X, method=method)
    draws = mixture.fit_.mixture
    np.testing.assert_allclose(mixture.covariances_, draws.covariances.mean(axis=0), rtol=1e-12)
    each = np.stack([draws[s].responsibilities(X).T for s in range(len(draws.weights))])
    np.testing.assert_allclose(mixture.predict_proba(X), each.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(
        mixture.precisions_ @ mixture.covariances_, [np.eye(2)] * 2, atol=1e-9
    )
    assert mixture.n_iter_ is None
    assert mixture.bic(X) == pytest.approx(mixture.fit_.bic(), rel=1e-10)
    theirs = reference(X, 2)
    assert mixture.score(X) == pytest.approx(theirs.score(X), abs=0.02)
