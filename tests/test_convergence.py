"""R-hat and effective sample sizes are ArviZ's, number by number, whatever the draws are like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from either_arviz import az
from made_fits import known_mixture, made_fit, rows_of
from scipy.stats import rankdata

import stangmm as sg
from stangmm.base.convergence import Convergence, e_bfmi, ess_mean, measures
from stangmm.base.ranks import mean_ranks
from stangmm.posterior.summary import relative_efficiency


def chains(n_chains: int, n_draws: int, correlation: float) -> np.ndarray:
    """Autoregressive draws of one quantity, shape (chain, draw)."""
    x = np.random.default_rng(n_draws).standard_normal((n_chains, n_draws))
    for t in range(1, n_draws):
        x[:, t] += correlation * x[:, t - 1]
    return x


# The same draws, as a sampler that goes wrong would give them.
DISTORTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as drawn": lambda x: x,
    "with ties": np.round,
    "constant": np.zeros_like,
    "each chain constant": lambda x: np.zeros_like(x) + np.arange(len(x))[:, np.newaxis],
    "chains apart": lambda x: x + 3.0 * np.arange(len(x))[:, np.newaxis],
    "chains of unequal width": lambda x: x * np.arange(1, len(x) + 1)[:, np.newaxis],
    "one is infinite": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 1, -np.inf, x),
    "one is missing": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 1, np.nan, x),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("correlation", [0.0, 0.9, -0.9])
@pytest.mark.parametrize("shape", [(4, 250), (4, 251), (1, 100), (2, 4), (3, 7)])
def test_measures_are_those_of_arviz(shape: tuple[int, int], correlation: float) -> None:
    draws = np.stack([of(chains(*shape, correlation)) for of in DISTORTED.values()], axis=-1)
    ours = measures(draws)
    for i, name in enumerate(DISTORTED):
        one = draws[..., i]
        theirs = Convergence(
            az.rhat(one) if shape[0] > 1 else np.nan,
            az.ess(one, method="bulk"),
            az.ess(one, method="tail", prob=(0.05, 0.95)),
            az.ess(one, method="mean"),
        )
        for value, expected in zip((of[i] for of in ours), theirs, strict=True):
            assert value == pytest.approx(float(expected), rel=1e-11, nan_ok=True), name
    np.testing.assert_array_equal(ess_mean(draws), ours.ess_mean)


def test_quantities_keep_their_shape_and_do_not_depend_on_how_many_are_taken_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draws = np.random.default_rng(1).standard_normal((4, 50, 3, 2))
    together = measures(draws)
    monkeypatch.setattr("stangmm.base.convergence.BLOCK", 1)
    for whole, one_by_one in zip(together, measures(draws), strict=True):
        assert whole.shape == (3, 2)
        np.testing.assert_allclose(whole, one_by_one, rtol=1e-12)


def test_three_draws_say_nothing() -> None:
    assert np.isnan(measures(np.zeros((4, 3, 2)))).all()


def test_e_bfmi_is_that_of_arviz() -> None:
    energy = 800.0 + chains(4, 300, 0.8)
    np.testing.assert_allclose(e_bfmi(energy), az.bfmi(energy), rtol=1e-12)


@pytest.fixture(scope="module")
def fit() -> sg.Fit:
    mixture = known_mixture(3, 2, None, 1)
    return made_fit("mcmc", mixture, rows_of(mixture, 60, 2), ["a", "b"], draws=100)


def test_efficiency_is_the_mean_over_all_of_the_posterior(fit: sg.Fit) -> None:
    ess = az.ess(fit.posterior, method="mean")
    each = np.concatenate([np.ravel(values) for values in ess.data_vars.values()])
    assert relative_efficiency(fit) == pytest.approx(each.mean() / fit.lp.size, rel=1e-12)
    assert relative_efficiency(fit.select_chains([1])) == 1.0


def test_efficiency_builds_no_data_set(fit: sg.Fit) -> None:
    fresh = fit.select_chains([0, 1])
    assert relative_efficiency(fresh) > 0
    assert "posterior" not in vars(fresh)  # xarray would import Dask for it


def test_the_summary_is_that_of_arviz(fit: sg.Fit) -> None:
    table = fit.summary()
    table = table[~table.index.str.startswith("correlations")]  # test_reported_tables has these
    posterior = fit.posterior[["weights", "means", "scales"]]
    for name, theirs in {
        "mean": posterior.mean(("chain", "draw")),
        "mcse": az.mcse(posterior),
        "ess_bulk": az.ess(posterior, method="bulk"),
        "ess_tail": az.ess(posterior, method="tail", prob=(0.05, 0.95)),
        "r_hat": az.rhat(posterior),
    }.items():
        flat = np.concatenate([np.ravel(values) for values in theirs.data_vars.values()])
        np.testing.assert_allclose(table[name], flat, rtol=1e-11, err_msg=name)
    assert list(table.index[[0, 3, 4, 9]]) == [
        "weights[0]", "means[0, a]", "means[0, b]", "scales[0, a]",
    ]  # fmt: skip


def test_a_fit_is_diagnosed_once_and_what_is_made_of_it_anew(fit: sg.Fit) -> None:
    whole = fit.select_chains([0, 1, 2, 3])
    assert whole.diagnose() is whole.diagnose()
    part = whole.select_chains([0, 1])
    assert part.diagnose() is not whole.diagnose()
    assert part.diagnose()["bulk ESS"].value != whole.diagnose()["bulk ESS"].value


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (2, 200)])
def test_equal_numbers_share_the_mean_of_their_ranks(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(2).integers(0, 7, shape).astype(float)
    np.testing.assert_array_equal(mean_ranks(values), rankdata(values, axis=1))
