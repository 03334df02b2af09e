"""The covariance family: parameters, M steps and optima against mclust's and scipy's."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from fitting import fit_quick
from random_mixtures import COVARIANCE_TYPES, random_mixture
from scipy.optimize import minimize
from scipy.stats import special_ortho_group
from sklearn.datasets import load_iris

import stangmm as sg
from stangmm.model.covariance import STRUCTURES, MclustName, structure_named

EM_ONLY = [name for name, structure in STRUCTURES.items() if structure.em_only]
TWELVE = [*get_args(MclustName), *EM_ONLY]

# R, mclust 5: mclustBIC(iris[, 1:4]) and mclustBIC(faithful), with the sign of this package. For
# K = 3 the lower of mclust's and of those of norMmix, which maximises the same likelihoods.
IRIS = {
    "EII": (1804.0854, 1123.4117, 878.7639),
    "VII": (1804.0854, 1012.2352, 853.8090),
    "EEI": (1522.1202, 1042.9679, 813.0425),
    "VEI": (1522.1202, 956.2823, 779.1502),
    "EVI": (1522.1202, 1007.3082, 797.8329),
    "VVI": (1522.1202, 857.5515, 743.9974),
    "EEE": (829.9782, 688.0972, 632.9633),
    "VEE": (829.9782, 656.3270, 605.3968),
    "EVV": (829.9782, 658.3306, 621.5184),
    "VVV": (829.9782, 574.0178, 580.8389),
}
FAITHFUL = {
    "EII": (4024.721, 3452.998),
    "VII": (4024.721, 3458.305),
    "EEI": (3055.835, 2354.601),
    "VEI": (3055.835, 2350.607),
    "EVI": (3055.835, 2352.618),
    "VVI": (3055.835, 2346.065),
    "EEE": (2607.623, 2325.220),
    "VEE": (2607.623, 2322.972),
    "EEV": (2607.623, 2329.115),
    "VEV": (2607.623, 2325.416),
    "VVV": (2607.623, 2322.192),
}


@pytest.mark.parametrize("kind", IRIS)
def test_bic_of_iris_is_that_of_mclust(kind: Any) -> None:
    for k, published in enumerate(IRIS[kind], 1):
        fit = fit_quick(sg.GaussianMixture(k, kind), load_iris().data, "em")
        assert fit.bic() == pytest.approx(published, abs=2e-3)


@pytest.mark.parametrize("kind", FAITHFUL)
def test_bic_of_faithful_is_that_of_mclust(kind: Any) -> None:
    for k, published in enumerate(FAITHFUL[kind], 1):
        fit = fit_quick(sg.GaussianMixture(k, kind), sg.datasets.faithful(), "em")
        assert fit.bic() == pytest.approx(published, abs=8e-3)


def test_parameters_are_counted_as_mclust_counts_them() -> None:
    """Of covariances, four features and three components: nVarParams of R's mclust."""
    counts = {"EII": 1, "VII": 3, "EEI": 4, "VEI": 6, "EVI": 10, "VVI": 12}
    counts |= {"EEE": 10, "VEE": 12, "EVV": 28, "EEV": 22, "VEV": 24, "VVV": 30}
    assert sorted(counts) == sorted(TWELVE)
    for kind, count in counts.items():
        assert sg.GaussianMixture(3, kind).n_parameters(4) == 2 + 12 + count  # type: ignore[arg-type]
    assert sg.GaussianMixture(3, "tied_correlation").n_parameters(4) == 2 + 12 + 12 + 6
    own = {"EII": 0, "VII": 1, "EEI": 0, "VEI": 1, "EVI": 3, "VVI": 4}
    own |= {"EEE": 0, "VEE": 1, "EVV": 9, "EEV": 6, "VEV": 7, "VVV": 10, "tied_correlation": 4}
    for kind, count in own.items():
        assert sg.GaussianMixture(3, kind).n_parameters_of_component(4) == 4 + count  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", TWELVE)
def test_mclusts_letters_are_names(kind: Any) -> None:
    name = sg.GaussianMixture(2, kind).covariance_type
    assert STRUCTURES[name].mclust == kind or name == kind


@pytest.mark.parametrize("method", ["nuts", "advi", "optimize"])
@pytest.mark.parametrize("kind", EM_ONLY)
def test_what_the_stan_model_has_not_is_for_em(kind: Any, method: str) -> None:
    with pytest.raises(sg.ModelError, match=r'"em" only.*"full"'):
        sg.GaussianMixture(2, kind).fit(sg.datasets.faithful(), method=method, progress=False)


# ---- M steps ---------------------------------------------------------------------------------


def _own_covariances(rng: np.random.Generator, k: int, d: int) -> np.ndarray:
    factor = rng.normal(size=(k, d, d + 2)) * rng.lognormal(0.0, 0.7, (k, 1, 1))
    return factor @ np.swapaxes(factor, 1, 2)


def _misfit(share: np.ndarray, own: np.ndarray, covariances: np.ndarray) -> float:
    """Minus twice the log likelihood a row of groups with these own covariances."""
    trace = np.trace(np.linalg.solve(covariances, own), axis1=1, axis2=2)
    return float(share @ (np.linalg.slogdet(covariances)[1] + trace))


def _orientation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _of_two_features(kind: str, free: np.ndarray) -> np.ndarray:
    """Covariances (2, 2, 2) by volume, shape and angle, each shared or not."""
    volume = np.exp(free[[0, 0]] if kind[0] == "E" else free[[0, 1]])
    shape = np.exp(free[[2, 2]] if kind[1] == "E" else free[[2, 3]])
    angle = free[[4, 4]] if kind[2] == "E" else free[[4, 5]] * (kind[2] != "I")
    turned = [_orientation(a) @ np.diag([s, 1 / s]) for a, s in zip(angle, shape, strict=True)]
    return np.array([v * t @ t.T for v, t in zip(volume, turned, strict=True)])


@pytest.mark.parametrize("kind", TWELVE)
def test_no_optimizer_improves_on_an_m_step(kind: str) -> None:
    """Two groups of two features: volume, shape and angle by scipy, from anywhere."""
    rng = np.random.default_rng(TWELVE.index(kind))
    own, share = _own_covariances(rng, 2, 2), np.array([0.3, 0.7])
    structure = structure_named(kind)
    moments = own if structure.correlated else np.diagonal(own, axis1=1, axis2=2)
    found = structure.nearest(share[np.newaxis], moments[np.newaxis])[0]
    if not structure.correlated:
        found = found[..., np.newaxis] * np.eye(2)
    ours = _misfit(share, own, np.broadcast_to(found, own.shape))

    def theirs(free: np.ndarray) -> float:
        if kind[1] == "I":  # spheres
            free = free * [1, 1, 0, 0, 0, 0]
        return _misfit(share, own, _of_two_features(kind, free))

    to_the_end = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    best = min(
        minimize(theirs, start, bounds=[(-6, 6)] * 6, options=to_the_end).fun
        for start in rng.normal(size=(10, 6))
    )
    assert ours == pytest.approx(best, abs=1e-7)


def test_the_common_correlation_is_the_most_likely_one() -> None:
    """The gradient by the scales and the correlations vanishes, in four features."""
    rng = np.random.default_rng(1)
    own, share = _own_covariances(rng, 3, 4), np.array([0.2, 0.3, 0.5])
    found = structure_named("tied_correlation").nearest(share[np.newaxis], own[np.newaxis])[0]
    sd = np.sqrt(np.diagonal(found, axis1=1, axis2=2))
    correlations = found / (sd[:, :, np.newaxis] * sd[:, np.newaxis, :])
    np.testing.assert_allclose(correlations, correlations[:1].repeat(3, axis=0), atol=1e-12)

    def moved(step: np.ndarray) -> float:
        other = correlations[0].copy()
        i, j = np.tril_indices(4, -1)
        other[i, j] = other[j, i] = other[i, j] + step[12:]
        scales = sd * np.exp(step[:12].reshape(3, 4))
        return _misfit(share, own, other * scales[:, :, np.newaxis] * scales[:, np.newaxis, :])

    small = 1e-4 * np.eye(18)
    slope = [(moved(step) - moved(-step)) / 2e-4 for step in small]
    np.testing.assert_allclose(slope, 0.0, atol=1e-7)
    assert all(moved(step) > moved(np.zeros(18)) for step in 100 * small)


@pytest.mark.parametrize("kind", ["tied_correlation", *EM_ONLY])
def test_em_climbs_where_an_m_step_is_an_iteration(kind: Any) -> None:
    rng = np.random.default_rng(3)
    x = random_mixture(rng, "full", 3, 3, spread=2.0).sample(rng, 200)
    x[rng.random(x.shape) < 0.05] = np.nan  # what is missing is integrated out
    x = x[~np.isnan(x).all(axis=1)]
    fit = fit_quick(sg.GaussianMixture(3, kind), x, sg.EM(restarts=20), missing="marginalize")
    for path in fit.info.paths:
        assert (np.diff(path) >= -1e-9 * np.abs(path[1:])).all()
    again = fit_quick(
        sg.GaussianMixture(3, kind), x, sg.EM(restarts=1), missing="marginalize", init=fit
    )
    assert again.total_log_likelihood == pytest.approx(fit.total_log_likelihood, abs=1e-5)


@pytest.mark.parametrize("kind", ["tied_correlation", *EM_ONLY])
def test_components_on_zeros_end_nothing(kind: Any) -> None:
    """Two skewed features with four zeros in ten: some groups have no variance at all."""
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(120, 2)) * (rng.random((120, 2)) > 0.4)
    for k in (2, 4):
        fit = fit_quick(sg.GaussianMixture(k, kind), x, sg.EM(restarts=12))
        assert np.isfinite(fit.total_log_likelihood).all()


def test_shapes_in_directions_of_their_own_follow_a_rotation() -> None:
    """EEV and VEV change with a feature's unit, but not when all features turn together."""
    x = load_iris().data
    turn = special_ortho_group(4, seed=2).rvs()
    for kind in ("EEV", "VEV"):
        one, other = (
            fit_quick(sg.GaussianMixture(2, kind), data, "em")  # type: ignore[arg-type]
            for data in (x, 100.0 * x @ turn.T)
        )
        expected = one.total_log_likelihood - x.size * np.log(100.0)
        assert other.total_log_likelihood == pytest.approx(expected, abs=1e-3)


# ---- what is said of them --------------------------------------------------------------------


def test_the_check_of_the_fit_knows_what_a_common_correlation_leaves_out() -> None:
    rng = np.random.default_rng(4)
    half = np.repeat([0, 1], 300)
    noise = rng.normal(size=(600, 2))
    apart = np.where(half[:, np.newaxis], [12.0, 0.0], [0.0, 0.0])
    opposite = noise.copy()
    opposite[:, 1] = 0.8 * np.where(half, 1, -1) * noise[:, 0] + 0.6 * noise[:, 1]
    alike = noise * np.where(half[:, np.newaxis], [1.0, 3.0], [2.0, 0.5])
    model = sg.GaussianMixture(2, "tied_correlation")
    assert fit_quick(model, apart + alike, "em").goodness_of_fit().verdict == "ok"
    found = fit_quick(model, apart + opposite, "em").goodness_of_fit()
    assert found.verdict == "fail"
    assert "correlation" in {misfit.kind for misfit in found.misfits}


def test_the_description_has_words_for_each_type() -> None:
    words = [structure.words for structure in STRUCTURES.values()]
    assert len(set(words)) == len(words) == len(COVARIANCE_TYPES) + len(EM_ONLY)
