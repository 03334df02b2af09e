"""The evidence by bridge sampling against exact answers: quadrature, and all K^N allocations.

Given which row belongs to which component, the weights integrate to the Dirichlet-multinomial
probability of the allocation, the means integrate in closed form and the scales by quadrature. A
subset of the rows has one marginal likelihood, so that 2^N of them serve all K^N allocations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from conftest import LazyFits
from fitting import fit_quick
from scipy import integrate, stats
from scipy.special import gammaln, logsumexp

import stangmm as sg
from stangmm.judge.bridge import Bridge
from stangmm.judge.evidence import Evidence, Labelling, log_evidence
from stangmm.judge.whole import whole_evidence
from stangmm.model.empty import empty_share, log_times
from stangmm.model.mixture import Mixture

LogDensity = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PriorOfSd:
    """A prior of standard deviations without bound, and what scipy says of it."""

    prior: Any
    log_density: LogDensity
    log_above: LogDensity  # log probability above


# ---- exact answers ---------------------------------------------------------------------------

STEP = 0.02
LOG_EXCESS = np.arange(-18.0, 18.0, STEP)  # the trapezoid rule is exact to rounding here
COARSELY = slice(0, None, 10)


def _given_sd(
    rows: np.ndarray, location: np.ndarray, width: np.ndarray, sd: np.ndarray
) -> np.ndarray:
    """Log density of rows (n, D) by feature and sd, shape (D, grid); the mean is integrated out."""
    n = len(rows)
    variance = sd**2
    center = rows.mean(axis=0)
    within = ((rows - center) ** 2).sum(axis=0)[:, np.newaxis] / variance
    of_center = variance / n + width[:, np.newaxis] ** 2
    return (
        stats.norm.logpdf(center[:, np.newaxis], location[:, np.newaxis], np.sqrt(of_center))
        - 0.5 * within
        - 0.5 * (n - 1) * np.log(2 * np.pi * variance)
        - 0.5 * np.log(n)
    )


def _over_sd(log_density: np.ndarray) -> np.ndarray:
    return np.asarray(logsumexp(log_density + LOG_EXCESS, axis=-1) + np.log(STEP))


def _subsets(x: np.ndarray) -> list[np.ndarray]:
    """Rows of every subset but the empty one; bit n of a subset's number is row n."""
    n = len(x)
    bits = (np.arange(1, 2**n)[:, np.newaxis] >> np.arange(n)) & 1
    return [x[mask == 1] for mask in bits]


def _over_allocations(log_marginal: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Log evidence from log marginals of subsets (K, 2^N, ...) by all allocations."""
    k = len(alpha)
    n = int(np.log2(log_marginal.shape[1]))
    z = np.array(list(itertools.product(range(k), repeat=n)))
    total = gammaln(alpha.sum()) - gammaln(alpha.sum() + n)
    for component in range(k):
        member = z == component
        counts = member.sum(axis=1)
        subset = member @ 2 ** np.arange(n)
        prior = gammaln(alpha[component] + counts) - gammaln(alpha[component])
        log_m = log_marginal[component][subset]
        total = total + prior.reshape(-1, *(1,) * (log_m.ndim - 1)) + log_m
    return np.asarray(logsumexp(total, axis=0))


def _with_empty(log_marginals: list[Any]) -> np.ndarray:
    each = np.array(log_marginals)
    return np.concatenate([np.zeros_like(each[:1]), each])


def exact(
    structure: str,
    x: np.ndarray,
    alpha: np.ndarray,
    locations: np.ndarray,
    width: np.ndarray,
    prior: PriorOfSd,
    floor: float,
    noise: bool = False,
) -> float:
    """Log evidence of data (N, D) for alpha (K,), locations (K, D), width (D,).

    With noise, which is uniform over the range of the data, alpha has one more.
    """
    sd = floor + np.exp(LOG_EXCESS)
    log_prior = prior.log_density(sd) - prior.log_above(np.array(floor))
    subsets = _subsets(x)

    def marginal(rows: np.ndarray, location: np.ndarray) -> Any:
        given = _given_sd(rows, location, width, sd)
        if structure == "diag":
            return _over_sd(given + log_prior).sum()
        if structure == "spherical":
            return _over_sd(given.sum(axis=0) + log_prior)
        if structure == "tied_spherical":
            return given.sum(axis=0)
        if structure == "tied_diag":  # D = 2: a grid of both sds
            return given[0, COARSELY][:, np.newaxis] + given[1, COARSELY]
        return given[0]  # tied, D = 1: the sd is common to all components

    log_marginal = np.array(
        [_with_empty([marginal(rows, location) for rows in subsets]) for location in locations]
    )
    if noise:
        log_density = -np.log(np.ptp(x, axis=0)).sum()
        uniform = _with_empty([len(rows) * log_density for rows in subsets])
        log_marginal = np.concatenate([log_marginal, uniform[np.newaxis]])
    total = _over_allocations(log_marginal, alpha)
    if structure == "tied_diag":
        of_sd = (log_prior + LOG_EXCESS)[COARSELY]
        weighted = total + of_sd[:, np.newaxis] + of_sd
        return float(logsumexp(weighted) + 2 * np.log(COARSELY.step * STEP))
    return float(_over_sd(total + log_prior) if structure.startswith("tied") else total)


def exact_correlated(
    structure: str, x: np.ndarray, k: int, width: float, prior: PriorOfSd, floor: float
) -> float:
    """As `exact`, D = 2, alpha = 1, means around 0 and LKJ(2): two sds and a correlation on a grid.

    For "full", or for "tied_correlation", where components share the correlation.

    The second feature's sd given the first, sd_2 sqrt(1 - r^2), has the same lower bound.
    """
    step = 0.25
    log_excess = np.arange(np.log(floor) - 7.0, 5.0, step)
    each_r = np.arange(-6.0, 6.01, step)
    u_1, u_2, atanh_r = (a.ravel() for a in np.meshgrid(log_excess, log_excess, each_r))
    r = np.tanh(atanh_r)
    bound = floor * np.cosh(atanh_r)
    sd_1, sd_2 = floor + np.exp(u_1), bound + np.exp(u_2)
    # (1 + r) / 2 is Beta(2, 2) under LKJ(2); d r = (1 - r^2) d atanh r
    of_r = stats.beta(2, 2).logpdf((1 + np.tanh(each_r)) / 2) - np.log(2)
    of_r += np.log(step) - 2 * np.log(np.cosh(each_r))
    log_prior = prior.log_density(sd_1) - prior.log_above(np.array(floor)) + u_1
    log_prior += prior.log_density(sd_2) - prior.log_above(bound) + u_2

    def log_normal(u: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Log density of N(0, [[a, c], [c, b]]) at u, summed over the rows of u."""
        det = a * b / np.cosh(atanh_r) ** 2
        s = u.T @ u
        quadratic = (b * s[0, 0] + a * s[1, 1] - 2 * c * s[0, 1]) / det
        return -0.5 * quadratic - len(u) * (np.log(2 * np.pi) + 0.5 * np.log(det))

    def marginal(rows: np.ndarray) -> Any:
        """Given the correlation."""
        a, b, c = sd_1**2, sd_2**2, r * sd_1 * sd_2
        n, center = len(rows), rows.mean(axis=0)
        # Rows given the mean = rows about their centre, and the centre given the mean.
        within = log_normal(rows - center, a, b, c)
        at_center = log_normal(np.zeros((1, 2)), a / n, b / n, c / n)
        var_1, var_2 = a / n + width**2, b / n + width**2
        u = center
        det = var_1 * var_2 - (c / n) ** 2
        squared = (var_2 * u[0] ** 2 + var_1 * u[1] ** 2 - 2 * c / n * u[0] * u[1]) / det
        of_center = -0.5 * (squared + np.log(det)) - np.log(2 * np.pi)
        both = (within - at_center + of_center + log_prior).reshape(-1, len(each_r))
        return logsumexp(both, axis=0) + 2 * np.log(step)

    given_r = np.array([marginal(rows) for rows in _subsets(x)])
    if structure == "tied_correlation":
        one = _with_empty(list(given_r))
        together = _over_allocations(np.tile(one, (k, 1, 1)), np.ones(k))
        return float(logsumexp(together + of_r))
    one = _with_empty(list(logsumexp(given_r + of_r, axis=1)))
    return float(_over_allocations(np.tile(one, (k, 1)), np.ones(k)))


# ---- cases -----------------------------------------------------------------------------------

PRIORS_OF_SD = {
    "half-Cauchy": PriorOfSd(
        sg.HalfCauchy(1.0), stats.halfcauchy(scale=1.0).logpdf, stats.halfcauchy(scale=1.0).logsf
    ),
    "half-normal": PriorOfSd(
        sg.HalfNormal(2.0), stats.halfnorm(scale=2.0).logpdf, stats.halfnorm(scale=2.0).logsf
    ),
    "inverse gamma": PriorOfSd(
        sg.InverseGamma(2.0, 1.0),
        lambda sd: stats.invgamma(2.0, scale=1.0).logpdf(sd**2) + np.log(2 * sd),
        lambda sd: stats.invgamma(2.0, scale=1.0).logsf(sd**2),
    ),
}
SEVEN = np.array([-2.1, -1.6, -1.2, -0.3, 1.1, 1.9, 2.2])[:, np.newaxis]
EIGHT = np.append(SEVEN, [[4.5]], axis=0)
APART = np.array([-9.0, -8.5, -8.0, -0.3, 0.0, 0.5, 8.0, 9.2])[:, np.newaxis]
TIED = np.array([2.0, 2.0, 2.0, 3.0, 5.0, 6.0])[:, np.newaxis]
TIED_PLANE = np.array([[2.0, 1.0]] * 3 + [[3.0, 1.0], [5.0, 2.0], [6.0, 4.0]])
PLANE = np.array([[-2.0, -1.0], [-1.2, 0.3], [-1.6, -0.2], [0.4, 0.2], [1.5, 1.9], [2.1, 0.9]])
NUTS = sg.NUTS(adapt_delta=0.95)


@dataclass(frozen=True)
class Case:
    structure: str
    x: np.ndarray
    k: int
    family: str
    width: float = 3.0
    alpha: Sequence[float] = (1.0,)  # one for each component, or one for all
    locations: Sequence[float] = (0.0,)
    rounded_to: float = 0.1
    noise: bool = False  # its alpha is the last

    def fit(self, seed: int = 1, settings: sg.NUTS = NUTS) -> sg.Fit:
        locations = np.reshape(self.locations, (-1, 1))
        priors = sg.Priors(
            weights=sg.Dirichlet(np.array(self.alpha) if len(self.alpha) > 1 else self.alpha[0]),
            means=sg.Normal(locations if len(locations) > 1 else locations[0], self.width),
            scales=PRIORS_OF_SD[self.family].prior,
        )
        model = sg.GaussianMixture(self.k, self.structure, priors, self.noise)
        return fit_quick(model, self.x, settings, seed=seed)

    def exact(self) -> float:
        d = self.x.shape[1]
        prior, floor = PRIORS_OF_SD[self.family], self.rounded_to / np.sqrt(12)
        if self.structure in ("full", "tied_correlation"):
            return exact_correlated(self.structure, self.x, self.k, self.width, prior, floor / 2)
        return exact(
            self.structure,
            self.x,
            np.broadcast_to(self.alpha, self.k + self.noise),
            np.broadcast_to(np.reshape(self.locations, (-1, 1)), (self.k, d)),
            np.full(d, self.width),
            prior,
            floor,
            self.noise,
        )


CASES = {
    "K=2, overlapping, half-Cauchy": Case("diag", SEVEN, 2, "half-Cauchy"),
    "K=2, apart, inverse gamma": Case("diag", APART[[0, 1, 2, 6, 7]], 2, "inverse gamma", 8.0),
    "K=2, one shared sd": Case("tied", SEVEN, 2, "half-normal"),
    "K=2, D=2, spherical": Case("spherical", PLANE, 2, "half-Cauchy"),
    "K=2, D=2, full": Case("full", PLANE, 2, "inverse gamma"),
    "K=2, D=2, tied_correlation": Case("tied_correlation", PLANE, 2, "half-normal"),
    "K=2, D=2, tied_diag": Case("tied_diag", PLANE, 2, "half-Cauchy"),
    "K=2, D=2, tied_spherical": Case("tied_spherical", PLANE, 2, "inverse gamma"),
    "K=2, labels that mean something": Case(
        "diag", SEVEN, 2, "inverse gamma", 2.0, (1.0, 3.0), (-1.0, 2.0)
    ),
    "K=3, overlapping, inverse gamma": Case("diag", EIGHT, 3, "inverse gamma", alpha=(2.0,)),
    "K=3, overlapping, half-Cauchy": Case("diag", EIGHT, 3, "half-Cauchy", alpha=(2.0,)),
    "K=3, apart, half-normal": Case("diag", APART, 3, "half-normal", 8.0),
    "K=3, D=2, diag": Case("diag", PLANE, 3, "inverse gamma"),
    "K=1, equal values, half-Cauchy": Case("diag", TIED, 1, "half-Cauchy", rounded_to=1.0),
    "K=2, equal values, half-Cauchy": Case("diag", TIED, 2, "half-Cauchy", rounded_to=1.0),
    "K=2, equal values, half-normal": Case("diag", TIED, 2, "half-normal", rounded_to=1.0),
    "K=2, equal values, inverse gamma": Case("diag", TIED, 2, "inverse gamma", rounded_to=1.0),
    "K=2, D=2, full, equal rows": Case("full", TIED_PLANE, 2, "half-Cauchy", rounded_to=1.0),
    "K=1 and noise": Case("diag", EIGHT, 1, "half-Cauchy", alpha=(1.0, 2.0), noise=True),
    "K=2 and noise, D=2": Case(
        "spherical", PLANE, 2, "half-Cauchy", alpha=(2.0, 2.0, 0.7), noise=True
    ),
    "K=7, more than the data can tell": Case("diag", SEVEN, 7, "inverse gamma"),
}


@pytest.mark.parametrize("family", PRIORS_OF_SD)
def test_the_enumeration_for_one_component_is_scipys_integral(family: str) -> None:
    """What is compared with below, against an integral without any algebra."""
    prior, floor = PRIORS_OF_SD[family], 0.1 / np.sqrt(12)

    def likelihood_and_prior(mean: float, sd: float) -> float:
        squares = ((SEVEN - mean) ** 2).sum() / sd**2 + mean**2 / 9.0
        return float(np.exp(-0.5 * squares) / (sd ** len(SEVEN) * 3.0 * (2 * np.pi) ** 4))

    def of_sd(sd: float) -> float:
        over_means = integrate.quad(likelihood_and_prior, -15, 15, args=(sd,), points=[0.0])[0]
        return float(over_means * np.exp(prior.log_density(np.array(sd))))

    integral = sum(integrate.quad(of_sd, *limits)[0] for limits in ((0.2, 3), (3, 15), (15, 500)))
    enumerated = Case("diag", SEVEN, 1, family).exact()
    expected = np.log(integral) - prior.log_above(np.array(floor))
    assert enumerated == pytest.approx(expected, abs=1e-5)


@pytest.mark.stan
@pytest.mark.statistical
@pytest.mark.parametrize("family", PRIORS_OF_SD)
def test_one_component_agrees_with_quadrature(family: str) -> None:
    case = Case("diag", SEVEN, 1, family)
    evidence = log_evidence(case.fit())
    assert evidence.standard_error < 0.02
    assert abs(float(evidence) - case.exact()) < 3 * evidence.standard_error


@pytest.mark.stan
@pytest.mark.statistical
@pytest.mark.parametrize("name", CASES)
def test_evidence_agrees_with_the_sum_over_all_allocations(name: str) -> None:
    """Four standard errors, since the largest of 28 is looked at, and they are estimates, too.

    The error is far below log 2, so that a labelling too many or too few does not pass.
    """
    case = CASES[name]
    careful = replace(NUTS, adapt_delta=0.995)  # so that few draws diverge at a scale's bound
    evidence = log_evidence(case.fit(settings=careful if "equal rows" in name else NUTS))
    assert evidence.reliable
    assert evidence.standard_error < 0.1
    assert abs(float(evidence) - case.exact()) < 4 * evidence.standard_error


@pytest.mark.stan
@pytest.mark.statistical
def test_draws_and_evidence_have_their_share_of_empty_components() -> None:
    """The exact share where one of two components is empty: 2 r(2, 1) Z(1) / Z(2)."""
    case = CASES["K=2, overlapping, half-Cauchy"]
    fit = case.fit()
    exactly = log_times(2, 1, 1.0, len(SEVEN)) + replace(case, k=1).exact() - case.exact()
    share = empty_share(fit.mixture, fit.dataset.x, np.random.default_rng(1))
    # 4000 draws are worth 400 independent ones at least.
    assert abs(share - np.exp(exactly)) < 4 * np.sqrt(np.exp(exactly) / 400)
    evidence = whole_evidence(fit, progress=False)
    assert evidence.reliable
    assert evidence.added == 0.0
    assert abs(float(evidence) - case.exact()) < 3 * evidence.standard_error


@pytest.mark.stan
def test_the_posterior_of_k_agrees_with_the_sum_over_all_allocations() -> None:
    """P(K), and how many components hold rows: the allocations sorted by how many they use."""
    cases = {k: Case("diag", SEVEN, k, "inverse gamma") for k in (1, 2, 3)}
    selection = sg.select_components(
        SEVEN,
        list(cases),
        covariance_type="diag",
        priors=sg.Priors(
            weights=sg.Dirichlet(1.0), means=sg.Normal(0.0, 3.0), scales=sg.InverseGamma(2.0, 1.0)
        ),
        method=NUTS,
        criterion="evidence",
        seed=1,
        progress=False,
    )
    prior = np.array([0.5, 0.3, 0.2])
    posterior = selection.posterior(prior=prior)
    evidence = np.exp([case.exact() for case in cases.values()])
    exactly = prior * evidence / (prior @ evidence)
    error = posterior.by_components["probability_se"]
    assert error.max() < 0.01
    assert (np.abs(posterior.by_components["probability"] - exactly) < 4 * error).all()
    # Z(K) = sum over m of times(K, m) F(m), where F(m) is what m components make that all hold rows
    times = np.array([
        [np.exp(log_times(k, m, 1.0, len(SEVEN))) if m <= k else 0.0 for m in cases] for k in cases
    ])  # fmt: skip
    all_hold = np.linalg.solve(times, evidence)
    holding = prior @ (times * all_hold) / (prior @ evidence)
    occupied = posterior.occupied
    assert occupied["probability_se"].max() < 0.03
    assert holding.sum() == pytest.approx(1.0)
    assert (np.abs(occupied["probability"] - holding) < 4 * occupied["probability_se"]).all()


@pytest.mark.stan
@pytest.mark.statistical
def test_the_standard_error_is_the_spread_over_seeds() -> None:
    case = CASES["K=3, overlapping, inverse gamma"]
    settings = sg.NUTS(draws=300)
    each = [log_evidence(case.fit(seed, settings)) for seed in range(1, 9)]
    claimed = np.sqrt(np.mean([e.standard_error**2 for e in each]))
    values = np.array([float(e) for e in each])
    assert 0.5 < values.std(ddof=1) / claimed < 2.0
    off = (values - case.exact()) / [e.standard_error for e in each]
    assert 0.5 < np.sqrt((off**2).mean()) < 2.0


@pytest.mark.stan
@pytest.mark.statistical
def test_a_row_of_weight_two_is_two_rows() -> None:
    rows = SEVEN[[0, 2, 3, 5, 6]]
    twice = Case("diag", np.repeat(rows, 2, axis=0), 2, "inverse gamma")
    fit = fit_quick(
        twice.fit(settings=sg.NUTS(chains=1, draws=20)).model,
        rows,
        NUTS,
        sample_weight=np.full(len(rows), 2.0),
    )
    evidence = log_evidence(fit)
    assert abs(float(evidence) - twice.exact()) < 3 * evidence.standard_error


@pytest.mark.stan
@pytest.mark.statistical
def test_evidence_is_a_density_of_the_data_in_their_units() -> None:
    """With default priors, which follow the data: a factor a feature, and no other change."""
    x = np.random.default_rng(1).normal(size=(40, 2)) + np.repeat([[0, 0], [4, 3]], 20, axis=0)
    factor, offset = np.array([1e-3, 50.0]), np.array([7.0, -2e4])
    model = sg.GaussianMixture(2)
    before, after = (
        log_evidence(fit_quick(model, data, sg.NUTS())) for data in (x, offset + factor * x)
    )
    error = np.hypot(before.standard_error, after.standard_error)
    expected = -len(x) * np.log(factor).sum()
    assert error < 0.1
    assert abs(float(after) - float(before) - expected) < 3 * error


@pytest.mark.stan
@pytest.mark.statistical
def test_evidence_of_galaxies_does_not_depend_on_the_seed(fits_galaxies: LazyFits) -> None:
    fit = fits_galaxies["nuts"]
    other = fit_quick(fits_galaxies.model, fits_galaxies.X, sg.NUTS(), seed=2)
    one, two = log_evidence(fit), log_evidence(other)
    assert one.reliable
    assert two.reliable
    error = np.hypot(one.standard_error, two.standard_error)
    assert error < 0.1
    assert abs(float(one) - float(two)) < 3 * error
    assert log_evidence(fit) == one  # the fit's seed
    assert log_evidence(fit, seed=3) != one
    labels = fit.reordered(np.array([2, 0, 1]))
    assert abs(float(log_evidence(labels)) - float(one)) < 3 * error


# ---- when it is not to be trusted ------------------------------------------------------------


@pytest.mark.stan
def test_chains_in_different_modes_are_not_believed() -> None:
    """Three groups and two components: which two groups are one is settled by the start."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(m, 0.3, 25) for m in (-4.0, 0.0, 4.2)])
    fit = fit_quick(sg.GaussianMixture(2, "diag"), x, sg.NUTS(draws=300))
    with pytest.warns(sg.ConvergenceWarning, match="chains disagree") as caught:
        evidence = log_evidence(fit)
    assert not evidence.reliable
    assert evidence.why in str(caught[0].message)
    assert "It cannot be trusted: The chains disagree" in str(evidence)


@pytest.mark.stan
def test_few_draws_and_a_single_chain_are_not_believed() -> None:
    case = CASES["K=2, overlapping, half-Cauchy"]
    fit = case.fit(settings=sg.NUTS(chains=1, draws=60))
    with pytest.warns(sg.ConvergenceWarning) as caught:
        evidence = log_evidence(fit)
    assert not evidence.reliable
    for words in ("With a single chain", "independent draws", "increase the number of draws"):
        assert words in evidence.why
        assert words in str(caught[0].message)
    with pytest.raises(sg.ModelError, match="at least 20 draws of each chain, got 15"):
        log_evidence(case.fit(settings=sg.NUTS(chains=1, draws=15)))


def test_a_point_estimate_has_no_evidence() -> None:
    fit = fit_quick(sg.GaussianMixture(2, "diag"), APART, sg.EM(restarts=4))
    with pytest.raises(
        sg.ModelError, match=r'"em" gives a single point. Use method="nuts", or bic'
    ):
        log_evidence(fit)


def test_a_seed_must_be_a_whole_number(fits_galaxies: LazyFits) -> None:
    fit = fits_galaxies["em"]
    with pytest.raises(sg.ModelError):
        log_evidence(fit, seed=-1)


# ---- its parts -------------------------------------------------------------------------------


def _log_ratios(rng: np.random.Generator, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """exp(5) N(0.5, 1.3) as the posterior, chains of correlation rho; proposal N(0, 1)."""
    chains, draws = 4, 1000
    noise = rng.normal(0, np.sqrt(1 - rho**2), (chains, draws))
    noise[:, 0] = rng.standard_normal(chains)
    for t in range(1, draws):
        noise[:, t] += rho * noise[:, t - 1]

    def ratio(v: np.ndarray) -> np.ndarray:
        return np.asarray(5.0 + stats.norm(0.5, 1.3).logpdf(v) - stats.norm(0, 1).logpdf(v))

    return ratio(0.5 + 1.3 * noise), ratio(rng.standard_normal(400))


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_the_bridge_finds_a_known_constant_within_its_standard_error(rho: float) -> None:
    rng = np.random.default_rng(11)
    bridges = [Bridge.between(*_log_ratios(rng, rho)) for _ in range(100)]
    off = np.array([(b.log_ratio - 5.0) / b.standard_error for b in bridges])
    assert abs(off.mean()) < 3 / np.sqrt(len(off))
    assert 0.8 < off.std() < 1.25  # 100 of them: within 7% or so of 1
    same, far = stats.norm(0.5, 1.3).pdf, stats.norm(0, 1).pdf
    overlap = integrate.quad(lambda v: 2 * same(v) * far(v) / (same(v) + far(v)), -10, 10)[0]
    assert np.mean([b.overlap for b in bridges]) == pytest.approx(overlap, abs=0.01)


def test_a_proposal_that_never_meets_the_posterior_gives_no_answer() -> None:
    of_posterior = np.random.default_rng(12).normal(3, 1, (4, 100))
    bridge = Bridge.between(of_posterior, np.full(400, -np.inf))
    assert np.isnan(bridge.log_ratio)
    assert bridge.standard_error == np.inf
    assert bridge.overlap == 0


def test_the_labelling_rule_picks_one_of_all_labellings() -> None:
    """Whichever order a mixture's components come in: else regions would overlap or leave gaps."""
    rng = np.random.default_rng(13)
    n, k = 300, 4
    draws = Mixture(
        rng.dirichlet(np.ones(k), n),
        rng.normal(0, 1, (n, k, 2)) + np.arange(k)[:, np.newaxis],
        rng.lognormal(0, 0.5, (n, k, 2)),
    )
    rule = Labelling.of(draws, pivot=0, free=np.arange(k))
    meant = rule.relabelled(draws)
    assert rule.obeyed(meant).all()
    times = np.zeros(n)
    for order in itertools.permutations(range(k)):
        shuffled = draws.permute(np.array(order))
        np.testing.assert_array_equal(rule.relabelled(shuffled).means, meant.means)
        times += rule.obeyed(shuffled)
    np.testing.assert_array_equal(times, 1)


def test_evidence_is_a_number_and_a_sentence() -> None:
    good = Evidence(-226.3412, 0.0141, 1080.4, 0.87, True, "")
    assert float(good) == -226.3412
    assert str(good) == "log evidence -226.341 (standard error 0.014, 1080 effective draws)."
    bad = replace(good, reliable=False, why="One chain.")
    assert str(bad).endswith("effective draws). It cannot be trusted: One chain.")
