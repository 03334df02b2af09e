"""The criteria against scikit-learn, mclust, scipy, closed forms and quadrature."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from conftest import LazyFits
from either_arviz import IS_OLDER, from_dict, group
from either_arviz import loo as loo_of_arviz
from fitting import fit_quick
from random_mixtures import COVARIANCE_TYPES, SKLEARN_TYPES, PlainMixture, random_mixture
from scipy import stats
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture as SklearnMixture

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.judge import leave_one_out
from stangmm.judge.criteria import aic, bic, icl, waic
from stangmm.judge.leave_one_out import loo, psis_loo
from stangmm.judge.subsampling import pooled
from stangmm.model.covariance import structure_named


def fit_em(X: Any, k: int, covariance_type: str, **options: Any) -> sg.Fit:
    return fit_quick(sg.GaussianMixture(k, covariance_type), X, "em", **options)


# ---- AIC, BIC, ICL ---------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", SKLEARN_TYPES)
def test_aic_and_bic_are_those_of_scikit_learn_for_the_same_mixture(covariance_type: str) -> None:
    x = random_mixture(np.random.default_rng(1), covariance_type, 3, 2).sample(
        np.random.default_rng(2), 150
    )
    fit = fit_em(x, 3, covariance_type)
    covariances = {
        "full": fit.covariances,
        "tied": fit.covariances[0],
        "diag": fit.scales**2,
        "spherical": fit.scales[:, 0] ** 2,
    }[covariance_type]
    peer = SklearnMixture(3, covariance_type=covariance_type)
    peer.weights_, peer.means_, peer.covariances_ = fit.weights, fit.means, covariances
    peer.precisions_cholesky_ = (
        np.swapaxes(np.linalg.inv(np.linalg.cholesky(covariances)), -1, -2)
        if covariance_type in ("full", "tied")
        else 1 / np.sqrt(covariances)
    )
    assert aic(fit) == pytest.approx(peer.aic(x), rel=1e-10)
    assert bic(fit) == pytest.approx(peer.bic(x), rel=1e-10)


# R, mclust 5.4 and newer: mclustBIC(faithful), with the sign of this package. Its models EEE, VVV,
# VVI and VII are these covariance types.
MCLUST = {
    ("tied", 1): 2607.623,
    ("tied", 2): 2325.220,
    ("tied", 3): 2314.316,
    ("full", 1): 2607.623,
    ("full", 2): 2322.192,
    ("diag", 1): 3055.835,
    ("diag", 2): 2346.065,
    ("spherical", 1): 4024.721,
    ("spherical", 2): 3458.305,
}


@pytest.mark.parametrize(("covariance_type", "k"), list(MCLUST))
def test_bic_of_faithful_is_that_of_mclust(covariance_type: str, k: int) -> None:
    ours = bic(fit_em(sg.datasets.faithful(), k, covariance_type))
    assert ours == pytest.approx(MCLUST[covariance_type, k], abs=0.03)
    assert ours < MCLUST[covariance_type, k] + 1e-3  # mclust stops a little before the maximum


def test_icl_of_faithful_is_that_of_mclust() -> None:
    # summary(Mclust(faithful)): EEE, 3 components, log likelihood -1126.326, ICL -2357.824. It
    # stops 0.01 nats early, which moves the ICL by about 1; with the entropy in place of the
    # assigned rows it would be 2400.
    assert icl(fit_em(sg.datasets.faithful(), 3, "tied")) == pytest.approx(2357.824, abs=1.5)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_icl_adds_twice_the_surprise_of_the_assigned_components(covariance_type: str) -> None:
    x = random_mixture(np.random.default_rng(3), covariance_type, 3, 2, spread=1.5).sample(
        np.random.default_rng(4), 200
    )
    weight = np.random.default_rng(5).poisson(2.0, 200).astype(float)
    fit = fit_em(x, 3, covariance_type, sample_weight=weight)
    plain = PlainMixture(fit.weights, fit.means, fit.covariances)
    joint = plain.component_log_density(x) + np.log(plain.weights)[:, np.newaxis]
    log_posterior = joint - logsumexp(joint, axis=0)
    assigned = np.take_along_axis(log_posterior, joint.argmax(axis=0)[np.newaxis], axis=0)[0]
    assert icl(fit) == pytest.approx(bic(fit) - 2 * weight @ assigned, rel=1e-10)
    assert icl(fit) > bic(fit) + 1


def test_one_component_leaves_no_doubt_about_labels() -> None:
    fit = fit_em(sg.datasets.faithful(), 1, "full")
    assert icl(fit) == pytest.approx(bic(fit), rel=1e-14)


@pytest.mark.parametrize("criterion", [aic, bic, icl])
def test_a_row_of_weight_two_is_two_rows_for_information_criteria(criterion: Any) -> None:
    x = sg.datasets.galaxies().to_numpy()
    count = 1 + np.arange(len(x)) % 3
    weighted = fit_em(x, 3, "diag", sample_weight=count)
    repeated = fit_em(np.repeat(x, count, axis=0), 3, "diag")
    assert criterion(weighted) == pytest.approx(criterion(repeated), abs=1e-3)


@pytest.mark.stan
def test_information_criteria_of_draws_are_those_of_the_best_draw(fits_faithful: LazyFits) -> None:
    fit = fits_faithful["nuts"]
    best = np.unravel_index(np.argmax(fit.total_log_likelihood), fit.lp.shape)
    draw = {name: fit.posterior[name].values[best] for name in ("weights", "means", "covariances")}
    plain = PlainMixture(**draw)
    x = fits_faithful.X.to_numpy()
    deviance = -2 * plain.log_density(x).sum()
    assert aic(fit) == pytest.approx(deviance + 2 * 11, rel=1e-10)
    assert bic(fit) == pytest.approx(deviance + np.log(272) * 11, rel=1e-10)
    joint = plain.component_log_density(x) + np.log(plain.weights)[:, np.newaxis]
    surprise = logsumexp(joint, axis=0) - joint.max(axis=0)
    assert icl(fit) == pytest.approx(bic(fit) + 2 * surprise.sum(), rel=1e-10)


# ---- sums over rows --------------------------------------------------------------------------


def test_a_row_of_weight_w_is_w_rows_in_a_sum_and_its_error() -> None:
    values = np.random.default_rng(6).normal(size=30)
    count = np.random.default_rng(7).poisson(1.5, 30)
    repeated = np.repeat(values, count)
    total, error = pooled(values, count.astype(float))
    assert total == pytest.approx(repeated.sum())
    assert error == pytest.approx(np.sqrt(len(repeated)) * repeated.std())
    assert pooled(repeated, None) == pytest.approx((total, error))


@pytest.mark.parametrize("criterion", [loo, waic])
def test_a_point_has_no_loo_and_no_waic(fits_galaxies: LazyFits, criterion: Any) -> None:
    with pytest.raises(sg.ModelError, match='needs draws, and "em" gives a single point'):
        criterion(fits_galaxies["em"])


# ---- WAIC and LOO against ArviZ and closed forms ---------------------------------------------


def galaxies_by_hand(fit: sg.Fit) -> Any:
    """InferenceData of the galaxies' fit, with the log likelihood by scipy."""
    posterior = {n: fit.posterior[n].values for n in ("weights", "means", "scales")}
    x = fit.dataset.x[:, 0]
    component = stats.norm(posterior["means"], posterior["scales"]).logpdf(x)
    log_joint = component + np.log(posterior["weights"])[..., np.newaxis]
    return from_dict(posterior=posterior, log_likelihood={"x": logsumexp(log_joint, axis=2)})


@pytest.mark.stan
def test_loo_sums_labels_out_and_is_that_of_arviz(fits_galaxies: LazyFits) -> None:
    fit = fits_galaxies["nuts"]
    with warnings.catch_warnings():  # chance may bring a row's k above 0.7
        warnings.simplefilter("ignore", UserWarning)
        ours, theirs = loo(fit), loo_of_arviz(galaxies_by_hand(fit))
    for name in ("elpd", "se", "p"):
        # ESS enters a little.
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=0.02), name
    np.testing.assert_allclose(ours.elpd_i, theirs.elpd_i, atol=0.02)
    assert ours.pareto_k.shape == (82,)
    np.testing.assert_allclose(ours.pareto_k, theirs.pareto_k, atol=0.1)
    assert ours.warning == (ours.pareto_k > 0.7).any()


@pytest.mark.stan
def test_loo_a_few_rows_at_a_time_is_that_of_arviz_for_all_rows(
    fits_galaxies: LazyFits, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = fits_galaxies["nuts"]
    told: list[int] = []
    monkeypatch.setattr(leave_one_out, "LOO_BLOCK", 7 * fit.lp.size)
    monkeypatch.setattr(leave_one_out, "progress_bar", lambda what, total, *, shown: told.append)
    ours = psis_loo(fit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        theirs = loo_of_arviz(fit.to_arviz())
    assert told == [7] * 11 + [5]
    off = 0.0 if IS_OLDER else 1e-3  # ArviZ 1 may take a tail that is shorter by one
    np.testing.assert_allclose(ours.elpd_i, theirs.elpd_i, rtol=1e-12, atol=off)
    np.testing.assert_allclose(ours.pareto_k, theirs.pareto_k, atol=1e-10 + 50 * off)
    for name in ("elpd", "se", "p", "n_samples", "good_k", "warning"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9, abs=off), name


@pytest.mark.stan
def test_waic_is_that_of_watanabe(fits_galaxies: LazyFits) -> None:
    fit = fits_galaxies["nuts"]
    with pytest.warns(sg.ConvergenceWarning, match=r"above 0\.4 for \d+ of 82 rows .*fit\.loo"):
        ours = waic(fit)
    by_row = group(galaxies_by_hand(fit), "log_likelihood")["x"].values.reshape(-1, 82)
    lppd = logsumexp(by_row, axis=0) - np.log(len(by_row))
    penalty = by_row.var(axis=0)
    assert ours.elpd == pytest.approx((lppd - penalty).sum(), rel=1e-8)
    assert ours.p == pytest.approx(penalty.sum(), rel=1e-8)
    assert ours.se == pytest.approx(np.sqrt(82) * (lppd - penalty).std(), rel=1e-8)
    np.testing.assert_allclose(ours.elpd_i, lppd - penalty, rtol=1e-8)
    assert ours.warning


@pytest.mark.stan
def test_loo_and_waic_of_a_conjugate_model_are_the_closed_forms() -> None:
    """One normal of known sd (a prior as good as a point): the mean's posterior is normal."""
    rng = np.random.default_rng(8)
    x, count, sd, width = rng.normal(1.0, 2.0, 40), 1.0 + np.arange(40) % 3, 2.0, 5.0
    priors = sg.Priors(means=sg.Normal(0.0, width), scales=sg.InverseGamma(1e4, 1e4 * sd**2))
    fit = fit_quick(
        sg.GaussianMixture(1, "diag", priors), x, sg.NUTS(draws=4000), sample_weight=count
    )

    def posterior(weight: np.ndarray) -> tuple[Any, Any]:
        precision = 1 / width**2 + weight.sum(axis=-1) / sd**2
        return (weight @ x) / sd**2 / precision, 1 / precision

    mean, variance = posterior(count - np.eye(40))
    exact = stats.norm(mean, np.sqrt(variance + sd**2)).logpdf(x)
    each = np.split(fit.log_likelihood(), 20)  # of the draws; five parts of each chain
    spread = np.std([count @ part.var(axis=0, ddof=1) for part in each], ddof=1)
    error = spread / np.sqrt(20)  # of the penalty, and nearly all of what an elpd may be off
    ours = loo(fit)
    np.testing.assert_allclose(ours.elpd_i, exact, atol=0.02)
    assert ours.elpd == pytest.approx(count @ exact, abs=4 * error)

    mean, variance = posterior(count)
    lppd = stats.norm(mean, np.sqrt(variance + sd**2)).logpdf(x)
    penalty = (4 * (x - mean) ** 2 * variance + 2 * variance**2) / (4 * sd**4)
    ours = waic(fit)
    np.testing.assert_allclose(ours.elpd_i, lppd - penalty, atol=0.02)
    assert ours.elpd == pytest.approx(count @ (lppd - penalty), abs=4 * error)
    assert ours.p == pytest.approx(count @ penalty, abs=4 * error)
    assert error < 0.05 * (count @ penalty)  # or nothing would be tested


# ---- rows of high Pareto k -------------------------------------------------------------------

OUTLIER = 9


def with_outlier() -> np.ndarray:
    x = np.random.default_rng(9).normal(0.0, 1.0, 10)
    x[OUTLIER] = 6.0
    return x


def exact_loo(x: np.ndarray, left: np.ndarray, row: int, priors: Any) -> tuple[float, float]:
    """Log predictive density of a row from the rows left, by quadrature over mean and log sd.

    Also the relative standard deviation over the posterior of the density that is averaged.
    """
    mean = np.linspace(-8, 8, 601)[:, np.newaxis]
    log_sd = np.linspace(np.log(0.2), np.log(60), 601)
    sd = np.exp(log_sd)
    location, width = float(priors.means.location[0, 0]), float(priors.means.scale[0, 0])
    median = float(priors.scales.scale[0, 0])
    log_posterior = stats.norm(location, width).logpdf(mean) + log_sd
    log_posterior = log_posterior + stats.halfcauchy(scale=median).logpdf(sd)
    for value, weight in zip(x, left, strict=True):
        log_posterior = log_posterior + weight * stats.norm(mean, sd).logpdf(value)
    log_posterior -= logsumexp(log_posterior)
    log_p = stats.norm(mean, sd).logpdf(x[row])
    first, second = logsumexp(log_posterior + log_p), logsumexp(log_posterior + 2 * log_p)
    return float(first), float(np.sqrt(np.exp(second - 2 * first) - 1))


@pytest.mark.stan
def test_refitting_gives_the_exact_leave_one_out_density_of_bad_rows() -> None:
    """The priors stay those of the fit, although the defaults depend on the row left out."""
    x = with_outlier()
    model = sg.GaussianMixture(1, "diag")
    fit = fit_quick(model, x, sg.NUTS(draws=5000))
    with pytest.warns(
        sg.ConvergenceWarning,
        match=rf"above 0\.70 for 1 of 10 rows \(row {OUTLIER}\).*refit=True\).* with 1 more",
    ):
        approximate = loo(fit)
    assert approximate.warning
    assert approximate.pareto_k[OUTLIER] > 0.7

    exact = loo(fit, refit=True, progress=False)
    without = np.ones(10) - np.eye(10)[OUTLIER]
    by_quadrature, relative_sd = exact_loo(x, without, OUTLIER, fit.priors)
    tolerance = 4 * relative_sd / np.sqrt(8000)  # the draws are worth more than 8000
    assert abs(exact.elpd_i[OUTLIER] - by_quadrature) < tolerance
    assert exact.elpd_i[OUTLIER] != approximate.elpd_i[OUTLIER]
    other = model.priors.resolve(Dataset.from_input(x[:OUTLIER]), structure_named("diag"), 1)
    assert abs(exact_loo(x, without, OUTLIER, other)[0] - by_quadrature) > 1.3 * tolerance

    others = np.arange(10) != OUTLIER
    np.testing.assert_array_equal(exact.elpd_i[others], approximate.elpd_i[others])
    row_0 = exact_loo(x, np.ones(10) - np.eye(10)[0], 0, fit.priors)[0]
    assert exact.elpd_i[0] == pytest.approx(row_0, abs=0.02)
    assert exact.elpd == pytest.approx(exact.elpd_i.sum(), rel=1e-12)
    in_sample = fit.log_density(x).sum()
    assert exact.p == pytest.approx(in_sample - exact.elpd, rel=1e-10)
    assert exact.pareto_k[OUTLIER] == 0
    assert not exact.warning


@pytest.mark.stan
def test_what_is_left_out_is_one_copy_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(9).normal(0.0, 1.0, 10)
    x[3] = 2.5
    copies = np.where(np.arange(10) == 3, 4.0, 1.0)
    fit = fit_quick(sg.GaussianMixture(1, "diag"), x, sg.NUTS(draws=2000), sample_weight=copies)
    one_less, none_left = (
        exact_loo(x, np.where(np.arange(10) == 3, left, 1.0), 3, fit.priors)[0] for left in (3, 0)
    )
    assert abs(one_less - none_left) > 1
    by_psis = psis_loo(fit)
    monkeypatch.setattr(leave_one_out, "bad_rows", lambda fit, result: np.array([3]))
    by_refit = loo(fit, refit=True, progress=False)
    assert by_psis.elpd_i[3] == pytest.approx(one_less, abs=0.03)
    assert by_refit.elpd_i[3] == pytest.approx(one_less, abs=0.03)
    assert by_refit.elpd == pytest.approx(copies @ by_refit.elpd_i)


@pytest.mark.stan
def test_rows_of_no_weight_do_not_count_in_loo() -> None:
    x = np.random.default_rng(10).normal(size=20)
    extended, weight = np.append(x, 30.0), np.append(np.ones(20), 0.0)
    model = sg.GaussianMixture(1, "diag")
    plain, weighted = (
        fit_quick(model, data, "nuts", sample_weight=w)
        for data, w in [(x, np.ones(20)), (extended, weight)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = loo(weighted)
    expected = loo(plain)
    for name in ("elpd", "se", "p"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), rel=1e-6), name


@pytest.mark.stan
def test_refits_that_fail_their_checks_are_named() -> None:
    """Two chains of 20 draws: enough to be reweighted, never enough to be believed."""
    settings = sg.NUTS(chains=2, warmup=20, draws=20)
    fit = fit_quick(sg.GaussianMixture(1, "diag"), with_outlier(), settings)
    bad = int((psis_loo(fit).pareto_k > psis_loo(fit).good_k).sum())
    assert bad
    with pytest.warns(sg.ConvergenceWarning, match=rf"Of {bad} fits without a row, \d+ failed"):
        result = loo(fit, refit=True, progress=False)
    assert result.warning
