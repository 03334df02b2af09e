"""Pictures of components beside each other: profiles, and the plane that shows them apart."""

from __future__ import annotations

import numpy as np
import pytest
from fitting import fit_quick
from made_fits import known_mixture, made_fit, rows_of
from matplotlib.axes import Axes
from scipy.linalg import subspace_angles
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import stangmm as sg
from stangmm.judge.directions import directions_of
from stangmm.model.mixture import Mixture


def offsets(ax: Axes) -> np.ndarray:
    """The rows that a scatter shows, in the order in which they were drawn."""
    return np.concatenate([np.asarray(part.get_offsets()) for part in ax.collections])


# ---- the plane -------------------------------------------------------------------------------


def test_where_covariances_are_shared_the_plane_is_fishers() -> None:
    iris = load_iris()
    labels = iris.target.astype(float)
    fit = fit_quick(sg.GaussianMixture(3, "tied"), iris.data, "em", labels=labels)
    fisher = LinearDiscriminantAnalysis(solver="eigen").fit(iris.data, iris.target).scalings_[:, :2]
    assert subspace_angles(directions_of(fit).vectors, fisher).max() < 1e-4
    assert directions_of(fit).shares[0] > 0.9
    assert fit.dataset.feature_names[directions_of(fit).nearest[0]] == "x3"  # petal length


def around(means: np.ndarray, scales: np.ndarray) -> sg.Fit:
    k, d = means.shape
    mixture = Mixture(np.full(k, 1 / k), means, scales, np.tile(np.eye(d), (k, 1, 1)))
    x = rows_of(mixture, 60, seed=1)
    return made_fit("point", mixture, x, [f"f{j}" for j in range(d)])


def test_components_with_one_mean_are_shown_where_their_variances_differ() -> None:
    scales = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 5.0]])
    plane = directions_of(around(np.zeros((2, 3)), scales))
    assert plane.nearest[0] == 2
    assert np.abs(plane.vectors[:2, 0]).max() < 1e-3 * abs(plane.vectors[2, 0])
    assert plane.shares[0] > 0.999


def test_the_plane_does_not_hang_on_the_units() -> None:
    means, scales = np.array([[0.0, 0, 0], [3, 1, 0], [0, 4, 1]]), np.ones((3, 3))
    unit = np.array([1e-6, 1.0, 1e4])
    one, other = (directions_of(around(means * u, scales * u)) for u in (1.0, unit))
    np.testing.assert_allclose(one.vectors, other.vectors * unit[:, np.newaxis], atol=1e-6)
    np.testing.assert_allclose(one.shares, other.shares, atol=1e-9)


def test_one_component_is_shown_where_the_data_are_widest() -> None:
    plane = directions_of(around(np.zeros((1, 4)), np.array([[1.0, 1.0, 1.0, 1.0]])))
    assert plane.shares.tolist() == [0.0, 0.0]
    assert np.linalg.matrix_rank(plane.vectors) == 2


def test_the_projection_shows_the_rows_in_the_plane() -> None:
    mixture = known_mixture(3, 4, None, 1)
    fit = made_fit("mcmc", mixture, rows_of(mixture, 90, 2), "abcd", draws=20)
    plane = directions_of(fit)
    np.testing.assert_allclose(
        np.var((fit.dataset.x - plane.center) @ plane.vectors, axis=0), [1, 1], rtol=0.4
    )
    ax = fit.plot.projection()
    expected = (fit.dataset.x - plane.center) @ plane.vectors
    shown = offsets(ax)
    for row in expected:
        assert np.abs(shown - row).max(axis=1).min() < 1e-9
    assert "direction 1 (" in ax.get_xlabel()
    assert f"along {'abcd'[plane.nearest[0]]}" in ax.get_xlabel()


def test_rows_that_miss_values_are_shown_at_the_mean_of_what_is_missing() -> None:
    x = rows_of(known_mixture(2, 3, None, 1), 80, 2)
    x[5, 1] = np.nan
    fit = fit_quick(sg.GaussianMixture(2), x, "em", missing="marginalize")
    plane = directions_of(fit)
    row = (fit.impute(x)[5] - plane.center) @ plane.vectors
    assert np.abs(offsets(fit.plot.projection()) - row).max(axis=1).min() < 1e-9


def test_one_feature_has_no_plane() -> None:
    fit = fit_quick(sg.GaussianMixture(2, "diag"), sg.datasets.galaxies(), "em")
    with pytest.raises(sg.ModelError, match="at least two features"):
        fit.plot.projection()


# ---- profiles --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["point", "mcmc"])
def test_profiles_are_standardized_means_with_intervals(kind: str) -> None:
    mixture = known_mixture(2, 3, None, 1)
    fit = made_fit(kind, mixture, rows_of(mixture, 90, 2), "abc", draws=50)
    x = fit.dataset.x
    ax = fit.plot.profile()
    for k in range(2):
        (line,) = [line for line in ax.lines if line.get_label() == f"component {k}"]
        expected = (fit.means[k] - x.mean(axis=0)) / x.std(axis=0)
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert np.round(np.asarray(line.get_xdata(), dtype=float)).tolist() == [0, 1, 2]
    bars = [np.asarray(part.get_segments())[:, :, 1] for part in ax.collections]
    if kind == "point":
        assert bars == []
    else:
        scaled = (fit.mixture.means - x.mean(axis=0)) / x.std(axis=0)
        np.testing.assert_allclose(bars[1], np.quantile(scaled[:, 1], [0.05, 0.95], axis=0).T)
    assert [label.get_text() for label in ax.get_xticklabels()] == list("abc")


def test_profiles_of_weighted_rows_with_missing_values_use_what_is_there() -> None:
    x = rows_of(known_mixture(2, 2, None, 1), 60, 2)
    weight = np.arange(60) % 3.0
    x[4, 0] = np.nan
    fit = fit_quick(
        sg.GaussianMixture(2, "diag"), x, "em", sample_weight=weight, missing="marginalize"
    )
    seen = np.repeat(x[:, 0], weight.astype(int))
    seen = seen[~np.isnan(seen)]
    line = fit.plot.profile().lines[1]
    assert line.get_ydata()[0] == pytest.approx((fit.means[0, 0] - seen.mean()) / seen.std())


def test_long_names_stand_upright_and_many_features_are_said() -> None:
    mixture = known_mixture(2, 14, None, 1)
    names = [f"measurement number {j}" for j in range(14)]
    fit = made_fit("point", mixture, rows_of(mixture, 90, 2), names)
    ax = fit.plot.profile()
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90.0}
    assert len(ax.get_xticks()) == 12
    assert "first 12 of 14 features" in ax.get_legend_handles_labels()[1]
