"""The posterior over models: its arithmetic, priors, Monte Carlo errors, averages, published K."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.judge.criteria import Score
from stangmm.judge.leave_one_out import psis_loo
from stangmm.many.choice import Selection
from stangmm.many.posterior import model_probabilities, probability_errors


def by_hand(values: dict[Any, Any], failures: dict[Any, str] | None = None) -> Selection:
    """A selection by evidences (value, standard error) that are given, without fits."""
    scores = {key: Score(*np.atleast_1d(value)) for key, value in values.items()}
    fits: Any = {
        key: SimpleNamespace(
            model=sg.GaussianMixture(*((key, "full") if isinstance(key, int) else key[::-1]))
        )
        for key in scores
    }
    return Selection(
        "evidence", Dataset.from_input(np.arange(5.0)), fits, scores, failures or {}, 1
    )


# Log evidences of the galaxies under Chib's priors (1995, doi:10.1080/01621459.1995.10476635), with
# Monte Carlo standard errors, as corrected by Neal (1999), "Erroneous results in 'Marginal
# likelihood from the Gibbs output'", by 10^8 draws from the prior and more.
NEAL = {
    ("tied", 2): (-239.764, 0.005),
    ("tied", 3): (-226.803, 0.040),
    ("full", 3): (-226.791, 0.089),
}


def test_published_evidences_of_galaxies_give_their_probabilities() -> None:
    posterior = by_hand(NEAL).posterior()
    odds = {key: np.exp(value + 226.791) for key, (value, _) in NEAL.items()}
    for key, odd in odds.items():
        expected = odd / sum(odds.values())
        assert posterior.table["probability"][key] == pytest.approx(expected, rel=1e-9)
    two = posterior.by_components["probability"][2]
    assert two == pytest.approx(1.0 / (1.0 + np.exp(12.961) + np.exp(12.973)), rel=1e-9)
    assert posterior.by_components["probability"][3] == pytest.approx(1.0 - two)


def test_probabilities_hold_for_evidences_far_from_zero() -> None:
    values = np.array([-1e5, -1e5 - 1.0, -2e5])
    made = model_probabilities(values, np.array([0.2, 0.3, 0.5]))
    np.testing.assert_allclose(made, [0.2 / (0.2 + 0.3 / np.e), 0.3 / (0.3 + 0.2 * np.e), 0.0])
    np.testing.assert_allclose(model_probabilities(values, np.array([0.0, 1.0, 0.0])), [0, 1, 0])


def test_monte_carlo_errors_are_those_of_a_simulation() -> None:
    """Log evidences with normal errors, drawn 200,000 times."""
    rng = np.random.default_rng(1)
    values, errors = np.array([-3.0, -2.5, -2.0, -5.0]), np.array([0.05, 0.08, 0.02, 0.1])
    drawn = softmax(values + errors * rng.normal(size=(200_000, 4)), axis=1)
    groups = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]], dtype=bool)
    made = probability_errors(softmax(values), errors, groups)
    np.testing.assert_allclose(made, (drawn @ groups.T).std(axis=0), rtol=0.02, atol=1e-12)


PAIRS = {("full", 2): (-1.0, 0.1), ("tied", 2): (-2.0, 0.1), ("tied", 3): (-1.0, 0.1)}


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (None, [1 / 3, 1 / 3, 1 / 3]),
        (
            {2: 0.6, 3: 0.4},
            [0.3 / 0.8, 0.3 / 0.8, 0.2 / 0.8],
        ),  # full, K = 3 failed: its half is out
        ([0.6, 0.4], [0.3 / 0.8, 0.3 / 0.8, 0.2 / 0.8]),
        (np.array([3, 1, 2, 4]), [3 / 9, 2 / 9, 4 / 9]),  # in the order of the table
        (
            {("full", 2): 3.0, ("full", 3): 1.0, ("tied", 2): 2.0, ("tied", 3): 4},
            [3 / 9, 2 / 9, 4 / 9],
        ),
    ],
)
def test_priors_are_by_number_or_by_model(prior: Any, expected: Any) -> None:
    posterior = by_hand(PAIRS, {("full", 3): "failed"}).posterior(prior=prior)
    np.testing.assert_allclose(posterior.prior, expected)
    logs = np.array([-1.0, -2.0, -1.0]) + np.log(expected)
    np.testing.assert_allclose(posterior.probability, np.exp(logs - logsumexp(logs)))
    assert posterior.by_components["probability"].sum() == pytest.approx(1.0)
    assert "K = 3 (full) failed and cannot be weighed" in repr(posterior)


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({2: 1.0}, "a probability for each K that was tried"),
        ({2: 1.0, 3: 1.0, 4: 1.0}, "a probability for each K that was tried"),
        ({("full", 2): 1.0}, "or for each of the models"),
        ([1.0], "one number for each K"),
        ("full", "one number for each K"),
        (3, "one number for each K"),
        ({2: -1.0, 3: 1.0}, "must be numbers from 0, got -1"),
        ({2: np.nan, 3: 1.0}, "must be numbers from 0, got nan"),
        ({2: np.inf, 3: 1.0}, "must be numbers from 0, got inf"),
        ({2: "1", 3: 1.0}, "must be numbers from 0"),
        ({2: 0.0, 3: 0.0}, "zero for every model that has an evidence"),
    ],
)
def test_what_is_no_prior_of_the_models_is_refused(prior: Any, words: str) -> None:
    with pytest.raises(sg.ModelError, match=words):
        by_hand(PAIRS).posterior(prior=prior)


def test_doubtful_evidences_are_said() -> None:
    selection = by_hand({1: -1.0, 2: -1.5})
    scores = dict(selection.scores) | {2: Score(-1.5, 0.1, doubt="Chains disagree.")}
    doubtful = sg.ModelPosterior(selection.fits, scores, np.full(2, 0.5), {})
    assert doubtful.reservations == ["The evidence of K = 2 is doubtful: Chains disagree."]


def test_other_criteria_give_no_probabilities() -> None:
    fits: Any = {}
    selection = Selection("bic", Dataset.from_input(np.arange(5.0)), fits, {1: Score(2.0)}, {}, 1)
    with pytest.raises(sg.ModelError, match=r'criterion="evidence"'):
        selection.posterior()


def test_rows_with_weights_are_not_counted_in_components() -> None:
    selection = by_hand({1: -1.0, 2: -1.5})
    data = Dataset.from_input(np.arange(5.0), np.full(5, 2.0))
    for fit in selection.fits.values():
        vars(fit)["dataset"] = data
    posterior = sg.ModelPosterior(
        selection.fits, {1: Score(-1.0, 0.1), 2: Score(-1.5, 0.1)}, np.full(2, 0.5), {}
    )
    with pytest.raises(sg.ModelError, match="not defined with sample weights"):
        posterior.occupied  # noqa: B018
    labels = posterior.plot().get_legend_handles_labels()[1]
    assert labels == ["prior", "2 Monte Carlo errors", "K components"]


# ---- fits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def galaxies() -> Selection:
    """The models that Neal weighed, with Chib's priors and his copy of the data."""
    data = sg.datasets.galaxies()
    data.iloc[77] = 26.96  # R's copy has 26.69
    priors = sg.Priors(
        weights=sg.Dirichlet(1.0),
        means=sg.Normal(20.0, 10.0),
        scales=sg.InverseGamma(3.0, 20.0),
        resolution=0.0,
    )
    return sg.select_components(
        data,
        [2, 3],
        covariance_type=["full", "tied"],
        priors=priors,
        method=sg.NUTS(draws=500),
        criterion="evidence",
        seed=1,
        progress=False,
    )


@pytest.mark.stan
def test_evidences_of_galaxies_are_the_published_ones(galaxies: Selection) -> None:
    for key, (published, its_error) in NEAL.items():
        value, error = galaxies.scores[key].value, galaxies.scores[key].standard_error
        assert error < 0.06
        assert abs(value - published) < 4 * np.hypot(error, its_error)
    posterior = galaxies.posterior(prior={key: float(key in NEAL) for key in galaxies.candidates})
    published_posterior = by_hand(NEAL).posterior()
    for key, row in published_posterior.table.iterrows():
        error = np.hypot(row["probability_se"], posterior.table["probability_se"][key])
        assert abs(posterior.table["probability"][key] - row["probability"]) < 4 * error


@pytest.mark.stan
def test_the_table_of_a_selection_by_evidence_has_the_probabilities(galaxies: Selection) -> None:
    posterior = galaxies.posterior()
    table = galaxies.table
    assert table["probability"].tolist() == posterior.probability.tolist()
    assert table["probability_se"].tolist() == posterior.table["probability_se"].tolist()
    assert "probability" in repr(galaxies)


@pytest.mark.stan
@pytest.mark.filterwarnings("ignore:The elpd of the average")
def test_the_average_is_that_of_the_densities_by_the_probabilities(galaxies: Selection) -> None:
    posterior = galaxies.posterior(prior={2: 1.0, 3: 1e-3})
    average = posterior.average()
    assert average.weights.tolist() == posterior.probability.tolist()
    rows = np.linspace(8.0, 36.0, 15)
    densities = np.exp([fit.log_density(rows) for fit in galaxies.fits.values()])
    expected = posterior.probability @ densities
    np.testing.assert_allclose(np.exp(average.log_density(rows)), expected, rtol=1e-10)
    left_out = np.exp([psis_loo(fit).elpd_i for fit in galaxies.fits.values()])
    assert average.elpd == pytest.approx(np.log(posterior.probability @ left_out).sum())


@pytest.mark.stan
def test_the_picture_has_the_probabilities(galaxies: Selection) -> None:
    posterior = galaxies.posterior()
    ax = posterior.plot()
    handles, labels = ax.get_legend_handles_labels()
    parts = dict(zip(labels, handles, strict=True))
    full, tied = (
        np.array([bar.get_height() for bar in parts[f"K components, {name}"]])
        for name in ("full", "tied")
    )
    np.testing.assert_allclose(full + tied, posterior.by_components["probability"])
    holding = [bar.get_height() for bar in parts["K components hold rows"]]
    np.testing.assert_allclose(holding, posterior.occupied["probability"])
