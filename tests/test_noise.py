"""Noise: a uniform component beside the normal ones, by every method and in every question."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fitting import fit_quick
from random_mixtures import COVARIANCE_TYPES, PlainMixture, random_mixture
from scipy import integrate, optimize, stats
from scipy.special import logsumexp

import stangmm as sg
from stangmm.cli import main
from stangmm.data.dataset import Dataset
from stangmm.judge.allocations import SEARCHED, searched_rows
from stangmm.model.covariance import structure_named
from stangmm.model.joint import log_joint
from stangmm.model.mixture import Mixture
from stangmm.model.noise import Box, Noise
from stangmm.model.parameters import ParameterSpace

LOWER, UPPER = np.array([-8.0, -8.0]), np.array([14.0, 12.0])
CENTERS = np.array([[0.0, 0.0], [6.0, 3.0]])
COVARIANCES = np.array([[[1.0, 0.5], [0.5, 1.0]], [[1.0, -0.3], [-0.3, 0.5]]])


def two_clusters(share: float, n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two clusters and, as the last, a share of uniform noise; and where they are from."""
    rng = np.random.default_rng(seed)
    counts = [(n - round(share * n)) // 2] * 2
    clusters = [
        rng.multivariate_normal(m, c, k)
        for m, c, k in zip(CENTERS, COVARIANCES, counts, strict=True)
    ]
    noise = rng.uniform(LOWER, UPPER, (n - sum(counts), 2))
    return np.vstack([*clusters, noise]), np.repeat([0, 1, -1], [*counts, len(noise)])


def with_noise(mixture: Mixture, weight: Any, box: Box) -> Mixture:
    """A mixture of which noise takes a share."""
    share = np.broadcast_to(weight, mixture.batch_shape)
    return replace(mixture, weights=(1.0 - weight) * mixture.weights, noise=Noise(share, box))


def random_noisy(
    rng: np.random.Generator, covariance_type: str, k: int, d: int
) -> tuple[PlainMixture, Mixture, Box]:
    """A mixture as scipy has it, its noise left out, and as the package has it."""
    plain = random_mixture(rng, covariance_type, k, d)
    box = Box(rng.uniform(-9, -4, d), rng.uniform(4, 9, d))
    return plain, with_noise(plain.mixture(covariance_type), 0.15, box), box


def by_scipy(
    plain: PlainMixture, weight: float, box: Box, x: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Log density of rows (N,) that may miss values or have a known label."""
    out = np.empty(len(x))
    log_weights = np.log([*(1.0 - weight) * plain.weights, weight])
    patterns, which = np.unique(~np.isnan(x), axis=0, return_inverse=True)
    for pattern, seen in enumerate(patterns):
        own = np.flatnonzero(which == pattern)
        each = np.zeros((len(own), len(log_weights)))
        if seen.any():
            each[:, :-1] = np.transpose([
                stats.multivariate_normal(m[seen], c[np.ix_(seen, seen)]).logpdf(x[own][:, seen])
                for m, c in zip(plain.means, plain.covariances, strict=True)
            ])  # fmt: skip
            each[:, -1] = -np.log(box.upper - box.lower)[seen].sum()
        joint = log_weights + each
        known = joint[np.arange(len(own)), labels[own]]
        out[own] = np.where(labels[own] >= 0, known, logsumexp(joint, axis=1))
    return out


@pytest.fixture(scope="module")
def fit() -> sg.Fit:
    x, _ = two_clusters(0.2)
    frame = pd.DataFrame(x, columns=["a", "b"])
    return sg.GaussianMixture(2, noise=True).fit(frame, "em", seed=1)


# ---- the model -------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_log_density_equals_scipy_with_missing_values_and_labels(
    covariance_type: str, d: int
) -> None:
    rng = np.random.default_rng(d)
    plain, mixture, box = random_noisy(rng, covariance_type, 3, d)
    x = rng.uniform(-8, 8, (60, d))
    x[rng.random(x.shape) < 0.2] = np.nan
    labels = np.where(rng.random(60) < 0.3, rng.integers(3, size=60), -1)
    expected = by_scipy(plain, 0.15, box, x, labels)
    np.testing.assert_allclose(mixture.log_density(x, labels), expected, rtol=1e-10)
    responsibility = mixture.responsibilities(x, labels)
    assert responsibility.shape == (4, 60)
    np.testing.assert_allclose(responsibility.sum(axis=0), 1.0)
    assert (responsibility[3, labels >= 0] == 0).all()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_vectors_have_a_coordinate_more_and_its_jacobian(covariance_type: str) -> None:
    rng = np.random.default_rng(1)
    _, mixture, box = random_noisy(rng, covariance_type, 3, 2)
    structure = structure_named(covariance_type)
    space = ParameterSpace(3, 2, structure, box=box)
    without = ParameterSpace(3, 2, structure)
    assert space.size == without.size + 1
    vector = space.vectors(mixture)
    again = space.mixtures(vector)
    np.testing.assert_allclose(again.all_weights, mixture.all_weights, rtol=1e-12)
    np.testing.assert_allclose(again.covariances, mixture.covariances, rtol=1e-10, atol=1e-12)
    # All but the weights are as without noise, so that the difference is the weights' own.
    numbers = vector[:3] + 1e-6 * np.eye(3)[:, np.newaxis] * np.array([[1.0], [-1.0]])
    vectors = np.concatenate([numbers, np.broadcast_to(vector[3:], (3, 2, space.size - 3))], axis=2)
    moved = space.mixtures(vectors).all_weights[..., :3]
    jacobian = (moved[:, 0] - moved[:, 1]) / 2e-6
    others = without.log_jacobian(np.concatenate([np.zeros(2), vector[3:]]))
    others -= 0.5 * np.log(3) - 3 * np.log(3)  # of three equal weights
    own = space.log_jacobian(vector) - others
    assert own == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-7)


@pytest.mark.parametrize("share", [0.06, 0.2])
def test_the_partition_has_the_noise_apart_and_no_component_joins_it(share: float) -> None:
    rng = np.random.default_rng(8)
    clusters = [rng.normal(center, 1.0, (150, 2)) for center in ([-5, 0], [5, 1])]
    noise = rng.uniform(-30, 30, (round(300 * share), 2))
    x = np.vstack([*clusters, noise])
    fit = sg.GaussianMixture(2, noise=True).fit(x, method="em", seed=1, progress=False)
    found, truth = fit.partition(), np.repeat([0, 1, 2], [150, 150, len(noise)])
    assert found.n_clusters == 3
    assert found.distance(truth) < 0.2
    path = fit.merge_path()
    assert path.clusters == (((0, 1),), ((0,), (1,)))
    assert path.probabilities.shape == (len(x), 2)
    np.testing.assert_array_equal(path.labels(2) == -1, fit.predict(x) == -1)
    most = path.probabilities.sum(axis=1)
    np.testing.assert_array_equal(path.labels(1), np.where(most < 0.5, -1, 0))


def test_of_many_rows_with_noise_no_more_are_searched_than_without() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=2500), rng.uniform(-50.0, 50.0, 2500)])
    fit = sg.GaussianMixture(1, noise=True).fit(x, method="em", seed=1, progress=False)
    rows, share = searched_rows(fit, np.random.default_rng(2))
    assert len(rows) <= SEARCHED < len(x)
    assert share.sum() == pytest.approx(1.0)


def test_a_volume_stretches_the_box_evenly() -> None:
    x, _ = two_clusters(0.1)
    low, high = x.min(axis=0), x.max(axis=0)
    model = sg.GaussianMixture(2, noise=float(4.0 * np.prod(high - low)))
    box = model.priors.resolve(Dataset.from_input(x), model.structure, 2, model.noise).box
    assert box is not None
    np.testing.assert_allclose(box.upper - box.lower, 2.0 * (high - low))
    np.testing.assert_allclose(box.upper + box.lower, high + low)


def test_units_do_not_matter() -> None:
    x, _ = two_clusters(0.1)
    unit, center = np.array([1e-6, 1e5]), np.array([3.0, -1e6])
    one = sg.GaussianMixture(2, noise=True).fit(x, "em", seed=1)
    other = sg.GaussianMixture(2, noise=True).fit(center + unit * x, "em", seed=1)
    assert other.noise_weight == pytest.approx(one.noise_weight, rel=1e-5)
    expected = one.total_log_likelihood - len(x) * np.log(unit).sum()
    np.testing.assert_allclose(other.total_log_likelihood, expected, rtol=1e-8)


def test_rows_of_weight_zero_do_not_widen_the_box() -> None:
    x, _ = two_clusters(0.1)
    wide = np.vstack([x, [[1e6, 1e6]]])
    weight = np.append(np.ones(len(x)), 0.0)
    model = sg.GaussianMixture(2, noise=True)
    one = model.fit(x, "em", seed=1)
    other = model.fit(wide, "em", seed=1, sample_weight=weight)
    assert other.noise_weight == pytest.approx(one.noise_weight, rel=1e-6)


@pytest.mark.parametrize("noise", [-1, 0.0, np.nan, np.inf, "yes", [1.0], None])
def test_noise_that_is_none_is_named(noise: Any) -> None:
    with pytest.raises(sg.ModelError, match=r"noise must be True .*, False, or the volume"):
        sg.GaussianMixture(2, noise=noise)


def test_noise_needs_features_that_vary() -> None:
    x = np.column_stack([np.arange(20.0), np.ones(20)])
    with pytest.raises(sg.DataError, match=r"vary|one value|constant"):
        sg.GaussianMixture(2, "diag", noise=True).fit(x, "em")


def test_the_concentration_may_be_given_for_each_weight() -> None:
    x, _ = two_clusters(0.1)
    priors = sg.Priors(weights=sg.Dirichlet([1.0, 1.0, 3.0]))
    sg.GaussianMixture(2, priors=priors, noise=True).fit(x, "em", seed=1)
    priors = sg.Priors(weights=sg.Dirichlet([1.0, 1.0]))
    with pytest.raises(sg.ModelError, match=r"\(K \+ 1,\) = \(3,\)"):
        sg.GaussianMixture(2, priors=priors, noise=True).fit(x, "em", seed=1)


# ---- EM --------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.06, 0.2])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_em_finds_two_clusters_in_noise(covariance_type: str, share: float) -> None:
    x, labels = two_clusters(share, seed=round(100 * share))
    model = sg.GaussianMixture(2, covariance_type, noise=True)
    found = fit_quick(model, x, sg.EM())
    # A binomial share, and rows of the noise that lie within a cluster's ellipse.
    assert found.noise_weight == pytest.approx(share, abs=3 * np.sqrt(share / len(x)) + 0.01)
    np.testing.assert_allclose(found.means, CENTERS, atol=0.25)
    assert (found.predict(x) == labels).mean() > 0.94


def test_em_finds_no_noise_where_there_is_none() -> None:
    x, _ = two_clusters(0.0)
    found = fit_quick(sg.GaussianMixture(2, noise=True), x, sg.EM())
    without = fit_quick(sg.GaussianMixture(2), x, sg.EM())
    assert found.noise_weight < 0.01
    gain = found.total_log_likelihood - without.total_log_likelihood
    assert -1e-4 < gain.item() < 2.0


def test_em_finds_one_cluster_in_noise() -> None:
    x, labels = two_clusters(0.3)
    x, labels = x[labels != 1], labels[labels != 1]
    found = fit_quick(sg.GaussianMixture(1, noise=True), x, sg.EM())
    assert found.noise_weight == pytest.approx((labels < 0).mean(), abs=0.05)
    np.testing.assert_allclose(found.means[0], CENTERS[0], atol=0.25)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "tied_correlation", "tied_spherical"])
def test_em_with_missing_values_and_labels_ends_at_a_maximum(covariance_type: str) -> None:
    """The gradient of an independent likelihood vanishes, and no climb from nearby leads higher."""
    rng = np.random.default_rng(3)
    x, labels = two_clusters(0.2, n=120, seed=5)
    x[rng.random(120) < 0.2, 1] = np.nan
    known = np.where((rng.random(len(x)) < 0.2) & (labels >= 0), labels, -1)
    model = sg.GaussianMixture(2, covariance_type, noise=True)
    found = fit_quick(model, x, sg.EM(tolerance=1e-10), labels=known, missing="marginalize")
    box = found.priors.box
    assert box is not None
    space = found.priors.space(found.model.structure)

    def downhill(vector: np.ndarray) -> float:
        at = space.mixtures(vector)
        assert at.noise is not None
        weight = float(at.noise.weight)
        plain = PlainMixture(at.weights / (1.0 - weight), at.means, at.covariances)
        return -float(by_scipy(plain, weight, box, x, known).sum())

    top = space.vectors(found.mixture[0])
    assert downhill(top) == pytest.approx(-found.total_log_likelihood.item(), rel=1e-9)
    slope = optimize.approx_fprime(top, downhill, 1e-6)
    assert np.abs(slope).max() < 0.05
    start = top + 0.05 * rng.standard_normal(len(top))
    climbed = optimize.minimize(downhill, start, method="L-BFGS-B", options={"maxiter": 25})
    assert climbed.fun > downhill(top) - 1e-4
    assert climbed.fun < downhill(start)


def test_em_never_lowers_the_likelihood() -> None:
    x, _ = two_clusters(0.2, seed=4)
    found = fit_quick(sg.GaussianMixture(3, noise=True), x, sg.EM())
    for path in found.info.paths:
        assert (np.diff(path) > -1e-7).all()


def test_starts_by_hand_have_noise() -> None:
    x, labels = two_clusters(0.2)
    model = sg.GaussianMixture(2, noise=True)
    best = fit_quick(model, x, sg.EM())
    without = fit_quick(sg.GaussianMixture(2), x, sg.EM())
    for init in (CENTERS, np.maximum(labels, 0), best, without):
        found = fit_quick(model, x, sg.EM(), init=init)
        assert found.total_log_likelihood == pytest.approx(best.total_log_likelihood, abs=1e-3)


# ---- questions -------------------------------------------------------------------------------


def test_predictions_have_a_column_for_noise(fit: sg.Fit) -> None:
    x = pd.DataFrame(fit.dataset.x, columns=["a", "b"])
    probability = fit.predict_proba(x)
    assert list(probability.columns) == [0, 1, -1]
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)
    assert (probability.idxmax(axis=1) == fit.predict(x)).all()
    assert fit.predict([[1e3, 1e3]]) == [-1]
    rows = fit.rows()
    assert (rows["component"] == fit.predict(x).to_numpy()).all()
    np.testing.assert_allclose(rows["probability"], probability.max(axis=1))
    joint = fit.mixture[0].log_density(fit.dataset.x)
    np.testing.assert_allclose(fit.log_density(fit.dataset.x), joint, rtol=1e-9)


def test_samples_have_the_noise_and_its_box(fit: sg.Fit) -> None:
    x, component = fit.sample(20_000, seed=1)
    share = (component == -1).mean()
    assert share == pytest.approx(fit.noise_weight, abs=4 * np.sqrt(0.25 / 20_000))
    uniform = (x[component == -1] - fit.priors.box.lower) / np.ptp(fit.dataset.x, axis=0)
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-4


def test_distributions_have_the_noise(fit: sg.Fit) -> None:
    """Moments, quantiles and regression lines, against drawn rows and against integrals."""
    x, _ = fit.sample(200_000, seed=2)
    one = fit.marginal("a")
    np.testing.assert_allclose(one.mean(), x[:, 0].mean(), atol=5 * x[:, 0].std() / 447)
    np.testing.assert_allclose(
        fit.marginal(["a", "b"]).covariance(), np.cov(x.T), rtol=0.02, atol=0.1
    )
    levels = np.array([0.02, 0.3, 0.9, 0.99])
    reached = [(x[:, 0] < q).mean() for q in one.quantile(levels)]
    np.testing.assert_allclose(reached, levels, atol=5 * 0.5 / 447)
    box = fit.priors.box
    y = np.linspace(box.lower[1], box.upper[1], 4001)
    given = fit.conditional({"a": 3.2})
    density = np.exp(fit.log_density(np.column_stack([np.full_like(y, 3.2), y])))
    density /= integrate.trapezoid(density, y)
    mean = integrate.trapezoid(density * y, y)
    assert given.mean() == pytest.approx(mean, abs=1e-3)
    variance = integrate.trapezoid(density * (y - mean) ** 2, y)
    assert given.covariance() == pytest.approx(variance, rel=1e-3)
    inside = y <= given.quantile(0.7)
    assert integrate.trapezoid(density[inside], y[inside]) == pytest.approx(0.7, abs=2e-3)


def test_where_only_the_noise_reaches_quantiles_are_those_of_its_box(fit: sg.Fit) -> None:
    """So far out that the components' densities are zero in floating point."""
    box = fit.priors.box
    given = fit.conditional({"a": fit.means[:, 0].max() + 100.0 * fit.scales.max()})
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    expected = box.lower[1] + levels * (box.upper[1] - box.lower[1])
    np.testing.assert_allclose(given.quantile(levels), expected, rtol=1e-9)
    np.testing.assert_allclose(np.ravel(given.interval(0.9)), expected[[0, -1]], rtol=1e-9)


def test_several_models_may_have_a_concentration_for_the_noise() -> None:
    x = np.random.default_rng(3).normal(size=60)
    priors = sg.Priors(weights=sg.Dirichlet([4.0, 4.0, 1.0]))
    model = sg.GaussianMixture(2, noise=True, priors=priors)
    found = sg.compare([model, sg.GaussianMixture(1)], x, methods=["em"], seed=1, progress=False)
    assert len(found.fits) == 2


def test_imputation_draws_noise_too(fit: sg.Fit) -> None:
    x = np.array([[13.0, np.nan]] * 400)  # far from both clusters
    drawn = fit.impute(x, "draw", seed=1)
    box = fit.priors.box
    assert (
        stats.kstest((drawn[:, 1] - box.lower[1]) / (box.upper[1] - box.lower[1]), "uniform").pvalue
        > 1e-4
    )
    np.testing.assert_allclose(fit.impute(x[:1])[0, 1], box.center[1], atol=0.05)


def test_noise_is_a_row_of_the_table_and_of_the_words(fit: sg.Fit) -> None:
    table = fit.summary()
    assert table.loc["weights[noise]", "mean"] == fit.noise_weight
    assert list(table.index[:4]) == ["weights[0]", "weights[1]", "weights[noise]", "means[0, a]"]
    assert f"noise: weight {fit.noise_weight:.3f}" in repr(fit)
    assert "uniform noise component" in fit.describe()
    assert "noise_weight" in fit.posterior
    assert "noise=True" in repr(fit.model)


def test_noise_costs_a_parameter(fit: sg.Fit) -> None:
    assert fit.model.n_parameters(2) == sg.GaussianMixture(2).n_parameters(2) + 1
    expected = 12 * np.log(500) - 2 * fit.total_log_likelihood.item()
    assert fit.bic() == pytest.approx(expected)


def test_the_goodness_of_fit_knows_the_noise(fit: sg.Fit) -> None:
    assert fit.goodness_of_fit().verdict == "ok"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.MisfitWarning)
        without = sg.GaussianMixture(2).fit(fit.dataset.x, "em", seed=1)
    assert without.goodness_of_fit().p_value < 1e-6


def test_noise_is_kept_in_files(fit: sg.Fit, tmp_path: Path) -> None:
    again = sg.load(fit.save(tmp_path / "noise.nc"))
    assert again.model.noise is True
    assert again.mixture.noise.weight == fit.mixture.noise.weight
    np.testing.assert_array_equal(again.priors.box.lower, fit.priors.box.lower)
    np.testing.assert_array_equal(
        again.predict_proba([[1.0, 2.0]]), fit.predict_proba([[1.0, 2.0]])
    )


def test_the_report_says_what_the_noise_holds(fit: sg.Fit, tmp_path: Path) -> None:
    page = Path(fit.report(tmp_path / "noise.html")).read_text()
    assert "Uniform noise beside them holds" in page


def test_the_command_line_takes_noise(
    fit: sg.Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data.csv"
    pd.DataFrame(fit.dataset.x, columns=["a", "b"]).to_csv(file, index=False)
    arguments = ["fit", str(file), "-k", "2", "--method", "em", "--seed", "1"]
    assert main([*arguments, "--noise"]) == 0
    assert "Uniform noise beside them holds" in capsys.readouterr().out
    assert main([*arguments, "--noise", "1000"]) == 0
    with pytest.raises(SystemExit):
        main([*arguments, "--noise", "-3"])
    assert "must be a positive number" in capsys.readouterr().err


def test_the_estimator_labels_noise_as_clusterers_do(fit: sg.Fit) -> None:
    pytest.importorskip("sklearn")
    from stangmm.sklearn import StanGaussianMixture

    x = fit.dataset.x
    found = StanGaussianMixture(2, noise=True, random_state=1).fit(x)
    assert set(found.predict(x)) == {-1, 0, 1}
    assert found.predict_proba(x).shape == (len(x), 3)
    assert found.bic(x) == pytest.approx(fit.bic(), abs=1e-3)
    assert set(found.sample(200)[1]) == {-1, 0, 1}


# ---- the methods in CmdStan ------------------------------------------------------------------


@pytest.mark.stan
@pytest.mark.statistical
@pytest.mark.parametrize("share", [0.06, 0.2])
def test_nuts_finds_the_clusters_and_the_noise(share: float) -> None:
    x, labels = two_clusters(share, seed=round(100 * share))
    model = sg.GaussianMixture(2, noise=True)
    found = fit_quick(model, x, sg.NUTS(chains=2, draws=500))
    assert not found.diagnose().computation.failed
    row = found.summary().loc["weights[noise]"]
    assert row["q5"] < share < row["q95"]
    np.testing.assert_allclose(found.means, CENTERS, atol=0.25)
    assert (found.predict(x) == labels).mean() > 0.95
    # With the rows' labels known, the weight's posterior is Beta(1 + noise, 2 + others).
    n = (labels < 0).sum()
    assert row["sd"] > stats.beta(1 + n, 2 + len(x) - n).std()
    dataset = found.dataset
    expected = log_joint(found.mixture[7], dataset.x, None, found.priors, found.model.structure)
    assert found.lp.ravel()[7] == pytest.approx(float(expected), rel=1e-9)
    loo = found.loo(progress=False)
    without = fit_quick(sg.GaussianMixture(2), x, sg.NUTS(chains=2, draws=500))
    with warnings.catch_warnings():  # a row of noise may be too influential there
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        assert loo.elpd > without.loo(progress=False).elpd + 20


@pytest.mark.stan
def test_optimize_ends_where_em_ends() -> None:
    x, _ = two_clusters(0.2)
    model = sg.GaussianMixture(2, noise=True)
    best = fit_quick(model, x, sg.EM())
    found = fit_quick(model, x, sg.Optimize(objective="mle"))
    assert found.total_log_likelihood == pytest.approx(best.total_log_likelihood, abs=1e-3)
    assert found.noise_weight == pytest.approx(best.noise_weight, abs=1e-3)


@pytest.mark.stan
def test_advi_keeps_the_noise() -> None:
    x, labels = two_clusters(0.2)
    found = fit_quick(sg.GaussianMixture(2, noise=True), x, sg.ADVI(draws=400))
    assert found.noise_weight == pytest.approx((labels < 0).mean(), abs=0.05)
    assert found.summary().loc["weights[noise]", "sd"] == pytest.approx(0.02, abs=0.01)


@pytest.mark.stan
def test_chains_start_where_there_is_no_noise() -> None:
    """EM's weight is zero, which has no place on the unconstrained scale."""
    x, _ = two_clusters(0.0, n=200)
    found = fit_quick(sg.GaussianMixture(2, noise=True), x, sg.NUTS(chains=2, draws=400))
    row = found.summary().loc["weights[noise]"]
    assert row["mean"] < 0.04  # the prior's is 1/3
    assert row["ess_bulk"] > 100
