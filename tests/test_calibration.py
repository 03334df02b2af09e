"""Simulation-based calibration in small, and the statistics that judge it in full."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration import configurations, envelopes, records, replication, run, summary
from calibration.configurations import CONFIGURATIONS, Configuration, draw_rows
from calibration.quantities import quantities
from scipy import integrate, stats

import stangmm as sg
from stangmm.data.dataset import Dataset

# ------------------------------------------------------------------ the statistics of the ranks


def test_p_values_are_those_of_enumeration() -> None:
    """All 4^5 outcomes of 5 ranks among 3 draws, each as probable as any other."""
    outcomes = np.array(list(itertools.product(range(4), repeat=5)))
    gammas = np.array([envelopes.gamma(ranks, 3) for ranks in outcomes])
    for ranks in outcomes[::37]:
        as_small = gammas <= envelopes.gamma(ranks, 3) + 1e-12
        assert envelopes.p_value(ranks, 3) == pytest.approx(as_small.mean(), abs=1e-12)


def test_gamma_is_the_smallest_binomial_tail() -> None:
    ranks = np.array([0, 0, 1, 7, 9])
    tails = []
    for i in range(1, 10):
        test = stats.binom(5, i / 10)
        below = sum(rank < i for rank in ranks)
        tails += [2 * test.cdf(below), 2 * test.sf(below - 1)]
    assert envelopes.gamma(ranks, 9) == pytest.approx(min(tails), rel=1e-12)


def test_one_ecdf_in_twenty_leaves_the_envelope() -> None:
    rng = np.random.default_rng(1)
    low, high = envelopes.envelope(100, 99)
    outside = 0
    for ranks in rng.integers(0, 100, (4000, 100)):
        below = envelopes.counts_below(ranks, 99)
        outside += bool(((below < low) | (below > high)).any())
    # The counts are whole numbers, so that a little less than 5% may be out.
    exact = 1.0 - envelopes.probability_inside(low, high, 100)
    assert 0.045 < exact <= 0.05
    assert outside / 4000 == pytest.approx(exact, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


def test_leaving_the_envelope_is_a_p_value_below_its_level() -> None:
    rng = np.random.default_rng(2)
    low, high = envelopes.envelope(60, 19)
    verdicts = set()
    for power in (1.0, 1.3, 1.6):  # from uniform to skewed ranks
        for uniform in rng.random((20, 60)):
            ranks = (20 * uniform**power).astype(int)
            below = envelopes.counts_below(ranks, 19)
            outside = bool(((below < low) | (below > high)).any())
            assert outside == (envelopes.p_value(ranks, 19) <= 0.05)
            verdicts.add(outside)
    assert verdicts == {True, False}


@pytest.mark.parametrize("shape", [(1.0, 1.35), (1.35, 1.0), (1.5, 1.5), (0.75, 0.75)])
def test_the_envelope_sees_shifted_and_misjudged_posteriors(shape: tuple[float, float]) -> None:
    """Ranks of draws that lie too high or too low, spread too wide or too narrow."""
    rng = np.random.default_rng(3)
    ranks = (100 * rng.beta(*shape, 500)).astype(int)
    assert envelopes.p_value(ranks, 99) < 0.01


def test_holm_adjusts_as_published() -> None:
    """The example of R's `p.adjust` manual method, by hand: 4 p-values."""
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(envelopes.holm(p), [0.03, 0.06, 0.06, 0.02])


def test_coverage_counts_the_truths_between_the_quantiles() -> None:
    rng = np.random.default_rng(4)
    truths, draws = rng.normal(size=300), rng.normal(size=(300, 99))
    ranks = np.array([replication.rank(d, t) for d, t in zip(draws, truths, strict=True)])
    for level, first, last in [(0.5, 25, 75), (0.9, 5, 95)]:  # of the 99 ordered draws, from 1
        ordered = np.sort(draws, axis=1)
        inside = (truths > ordered[:, first - 1]) & (truths < ordered[:, last - 1])
        assert envelopes.coverage(ranks, 99, level) == inside.mean()
        assert envelopes.coverage(np.arange(100), 99, level) == pytest.approx(level)
    with pytest.raises(ValueError, match=r"99 draws"):
        envelopes.coverage(ranks, 99, 0.95)


# ------------------------------------------------------------------ what is simulated


def _density(configuration: Configuration, part: str, value: float) -> float:
    """Density of one parameter by the package's priors."""
    priors = configuration.priors
    if part == "weight":
        assert priors.weights is not None
        weights = np.array([value, 1.0 - value])
        alpha = np.full(2, float(np.asarray(priors.weights.concentration)))
        return float(np.exp(sg.Dirichlet(alpha).log_density(weights)))
    if part == "mean":
        assert priors.means is not None
        return float(np.exp(priors.means.log_density(np.array([[value]]))))
    if part == "scale":
        assert priors.scales is not None
        return float(np.exp(priors.scales.log_density(np.array([[value]]))))
    assert priors.correlation is not None
    factor = np.array([[[1.0, 0.0], [value, np.sqrt(1.0 - value**2)]]])
    return float(np.exp(priors.correlation.log_density(factor)))


@pytest.mark.parametrize("part", ["weight", "mean", "scale", "correlation"])
@pytest.mark.parametrize("name", ["full-HalfCauchy", "full-HalfNormal", "full-InverseGamma"])
def test_draws_from_the_prior_have_the_density_of_the_prior(name: str, part: str) -> None:
    """Kolmogorov-Smirnov, against the integral of the density that the package states."""
    configuration = CONFIGURATIONS[name]
    rng = np.random.default_rng(5)
    mixtures = [configuration.draw(rng) for _ in range(2000)]
    values = {
        "weight": [m.weights[0] for m in mixtures],
        "mean": [m.means[1, 0] for m in mixtures],
        "scale": [m.scales[0, 1] for m in mixtures],
        "correlation": [m.corr_chol[1, 1, 0] for m in mixtures if m.corr_chol is not None],
    }[part]
    lower = {"weight": 0.0, "mean": -30.0, "scale": 1e-9, "correlation": -1.0}[part]
    points = np.quantile(values, np.linspace(0.005, 0.995, 60))
    pieces = [
        integrate.quad(lambda v: _density(configuration, part, v), a, b)[0]
        for a, b in itertools.pairwise([lower, *points])
    ]
    expected = np.cumsum(pieces)
    found = np.array([np.mean(np.asarray(values) <= point) for point in points])
    assert np.abs(found - expected).max() < stats.kstwo(2000).ppf(0.999)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_draws_share_what_the_covariance_type_says(name: str) -> None:
    configuration = CONFIGURATIONS[name]
    mixture = configuration.draw(np.random.default_rng(6))
    covariances = mixture.covariances
    kind = configuration.covariance_type
    sd = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    correlation = covariances[:, 0, 1] / sd.prod(axis=1)
    same = np.array_equal(covariances[0], covariances[1])
    assert same == (kind in ("tied", "tied_diag", "tied_spherical"))
    assert (sd[0] != sd[1]).all() == (not same)
    assert (correlation == 0).all() == kind.endswith(("diag", "spherical"))
    assert np.isclose(correlation[0], correlation[1], atol=1e-12) == (kind != "full")
    assert np.array_equal(sd[:, 0], sd[:, 1]) == kind.endswith("spherical")


def test_rows_have_the_moments_of_the_mixture() -> None:
    configuration = CONFIGURATIONS["full-HalfNormal"]
    rng = np.random.default_rng(7)
    mixture = configuration.draw(rng)
    x = draw_rows(mixture, 200_000, rng)
    mean = mixture.weights @ mixture.means
    deviation = mixture.means - mean
    covariance = np.einsum(
        "k,kij->ij",
        mixture.weights,
        mixture.covariances + deviation[:, :, None] * deviation[:, None],
    )
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=5 * np.sqrt(covariance.max() / 2e5))
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.02 * covariance.max())


@pytest.mark.parametrize("name", ["full-HalfCauchy", "tied-InverseGamma", "spherical-HalfNormal"])
def test_quantities_do_not_depend_on_labels(name: str) -> None:
    configuration = CONFIGURATIONS[name]
    rng = np.random.default_rng(8)
    mixture = configuration.draw(rng)
    x = draw_rows(mixture, 20, rng)
    structure = configuration.structure
    priors = configuration.priors.resolve(Dataset.from_input(x), structure, 2)
    one = quantities(mixture, x, priors, structure)
    other = quantities(mixture.permute(np.array([1, 0])), x, priors, structure)
    for quantity, value in one.items():
        assert np.ndim(value) == 0
        assert other[quantity] == pytest.approx(value, rel=1e-12), quantity


# ------------------------------------------------------------------ the records


def _record(number: int, **more: Any) -> dict[str, Any]:
    return {"replication": number, "rows": 20, "seconds": 0.1, **more}


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "nuts" / "full.jsonl"
    begun = {"design": {"rows": [20]}, "versions": {}, "command": "run"}
    assert records.start(path, begun).by_replication == {}
    records.append(path, _record(0, ranks={"log joint": 3}))
    with path.open("a") as file:
        file.write('{"replication": 1, "ro')  # killed in the middle of a line
    assert set(records.start(path, begun).by_replication) == {0}
    records.append(path, _record(1, error="InferenceError: no"))
    found = records.read(path)
    assert found.by_replication[0]["ranks"] == {"log joint": 3}
    assert found.by_replication[1]["error"] == "InferenceError: no"
    assert len(found.starts) == 2
    with pytest.raises(SystemExit, match="another design"):
        records.start(path, {**begun, "design": {"rows": [30]}})


def test_a_failure_is_recorded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise sg.InferenceError("no draws")

    monkeypatch.setattr(sg.NUTS, "run", fails)
    configuration = CONFIGURATIONS["diag-HalfNormal"]
    record = replication.replicate(configuration, "nuts", 4)
    assert record["error"] == "InferenceError: no draws"
    assert "ranks" not in record
    said = summary.facts(summary.Result(configuration, [], [record]))
    assert said["failures"] == [
        {"replication": 4, "rows": record["rows"], "error": record["error"]}
    ]


@pytest.mark.stan  # which the versions name
def test_replications_are_the_same_in_processes_and_not_done_twice(tmp_path: Path) -> None:
    name = "spherical-HalfNormal"
    command = ["simulate", "--method", "laplace", "--configurations", name]
    command += ["--workers", "2", "--directory", str(tmp_path), "--replications"]
    for n in ("1", "3"):
        run.main([*command, n])
    lines = (tmp_path / "laplace" / f"{name}.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if "ranks" in line]
    assert sorted(record["replication"] for record in found) == [0, 1, 2]
    for record in found:
        alone = replication.replicate(CONFIGURATIONS[name], "laplace", record["replication"])
        assert alone["ranks"] == record["ranks"]


def test_the_summary_tells_calibrated_from_misjudged(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    for name, upper in [("full-HalfCauchy", 100), ("diag-HalfNormal", 80)]:
        path = tmp_path / "nuts" / f"{name}.jsonl"
        records.start(path, {"design": {}, "versions": {}, "command": "run"})
        for i in range(200):
            ranks = {
                "log joint": int(rng.integers(upper)),
                "log likelihood": int(rng.integers(100)),
            }
            records.append(path, _record(i, ranks=ranks))
    results = summary.load(tmp_path, "nuts")
    rows = summary.table(results, "nuts")
    adjusted = {(row["covariance_type"], row["quantity"]): row["p_holm"] for row in rows}
    assert min(adjusted, key=adjusted.__getitem__) == ("diag", "log joint")
    assert [p <= 0.05 for p in adjusted.values()].count(True) == 1
    said = summary.statement(rows)
    assert (said["checks"], said["outside_adjusted_95"]) == (4, 1)


# ------------------------------------------------------------------ the sampler

REPLICATIONS = 20
N_ROWS = 20  # few, so that the prior is seen


def _p_values(
    configuration: Configuration, n: int, fitted: sg.Priors | None = None
) -> dict[str, float]:
    found = [
        replication.replicate(configuration, "nuts", i, n_rows=N_ROWS, fitted=fitted)
        for i in range(n)
    ]
    assert [record for record in found if "error" in record] == []
    return {
        name: envelopes.p_value(
            np.array([record["ranks"][name] for record in found]), replication.RANKED_AMONG
        )
        for name in found[0]["ranks"]
    }


@pytest.mark.stan
@pytest.mark.statistical
@pytest.mark.parametrize("name", ["full-HalfCauchy", "tied-InverseGamma", "spherical-HalfNormal"])
def test_nuts_is_calibrated(name: str) -> None:
    """All quantities within their joint envelope, for seeds that are fixed."""
    p = _p_values(CONFIGURATIONS[name], REPLICATIONS)
    assert min(p.values()) > 0.01 / len(p), p


@pytest.mark.stan
@pytest.mark.statistical
@pytest.mark.parametrize(
    ("part", "prior"),
    [("scales", sg.HalfNormal(0.2)), ("means", sg.Normal(0.0, configurations.MEANS_SCALE / 5))],
)
def test_a_wrong_prior_is_detected(part: str, prior: Any) -> None:
    configuration = CONFIGURATIONS["spherical-HalfNormal"]
    priors = configuration.priors
    wrong = sg.Priors(**{**vars(priors), part: prior})
    p = _p_values(configuration, 10, wrong)
    assert min(p.values()) < 0.01 / len(p), p
