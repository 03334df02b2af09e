"""A sampler that is not HMC gets all that NUTS gets, and nothing is invented for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from either_arviz import az, group
from html_pages import Page
from metropolis import Metropolis
from scipy import stats

import stangmm as sg
from stangmm.judge.leave_one_out import psis_loo

HMC = ("diverg", "energy", "E-BFMI", "tree depth", "adapt_delta")


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    rng = np.random.default_rng(4)
    return np.r_[rng.normal(-3, 1, 40), rng.normal(3, 1, 60)]


@pytest.fixture(scope="module")
def fit(x: np.ndarray) -> sg.Fit:
    return sg.GaussianMixture(2, "diag").fit(x, method=Metropolis(), seed=1, progress=False)


def test_the_diagnosis_asks_only_what_the_sampler_can_answer(fit: sg.Fit) -> None:
    names = [check.name for check in fit.diagnose().computation]
    assert names == [
        "modes", "R-hat", "bulk ESS", "tail ESS", "labelling", "rows in the smallest component",
    ]  # fmt: skip
    assert fit.diagnose().verdict == "ok"
    assert not any(word in str(fit.diagnose()) for word in HMC)
    assert fit.diagnose() is fit.diagnose()


def test_its_posterior_is_right(x: np.ndarray, fit: sg.Fit) -> None:
    """Components that lie apart: the means are those of the rows of each, nearly."""
    for k, rows in enumerate((x[:40], x[40:])):
        draws = fit.mixture.means[:, k, 0]
        error = rows.std() / np.sqrt(len(rows))
        assert draws.mean() == pytest.approx(rows.mean(), abs=0.5 * error)
        assert draws.std() == pytest.approx(error, rel=0.25)


def test_its_evidence_is_that_of_the_integral() -> None:
    """One normal distribution: the integral over its mean and standard deviation, on a grid."""
    x = np.random.default_rng(5).normal(1.0, 2.0, 30)
    priors = sg.Priors(means=sg.Normal(0.0, 3.0), scales=sg.HalfNormal(2.0))
    fit = sg.GaussianMixture(1, "diag", priors).fit(x, Metropolis(), seed=1, progress=False)
    evidence = fit.log_evidence(progress=False)
    means, sds = np.linspace(-4, 6, 400), np.linspace(0.5, 6, 400)
    joint = stats.norm(means[:, None, None], sds[:, None]).logpdf(x).sum(axis=-1)
    joint += stats.norm(0, 3).logpdf(means)[:, None] + stats.halfnorm(0, 2).logpdf(sds)
    cell = (means[1] - means[0]) * (sds[1] - sds[0])
    exact = np.log(np.exp(joint - joint.max()).sum() * cell) + joint.max()
    assert evidence.reliable
    assert abs(evidence.log_evidence - exact) < 4 * evidence.standard_error < 0.5


def test_leave_one_out_is_near_that_of_the_data_generating_mixture(
    x: np.ndarray, fit: sg.Fit
) -> None:
    true = 0.4 * stats.norm(-3, 1).pdf(x) + 0.6 * stats.norm(3, 1).pdf(x)
    elpd = psis_loo(fit)
    assert (elpd.pareto_k < 0.7).all()
    assert elpd.elpd == pytest.approx(np.log(true).sum(), abs=8)


def test_its_report_says_nothing_of_what_it_has_not(fit: sg.Fit, tmp_path: Path) -> None:
    page = fit.report(tmp_path / "fit.html", progress=False).read_text()
    assert not any(word in Page(page).words for word in HMC)
    assert "metropolis" in page
    assert "method=Metropolis()" in page


def test_its_pictures_of_chains_can_be_drawn_and_that_of_energies_says_why_not(fit: sg.Fit) -> None:
    for picture in (fit.plot.trace, fit.plot.rank, fit.plot.pairs, fit.plot.density):
        picture().figure.draw_without_rendering()
    with pytest.raises(sg.ModelError, match=r'"metropolis" has none\. Use method="nuts"'):
        fit.plot.energy()


def test_arviz_gets_what_was_measured(fit: sg.Fit) -> None:
    stats = group(fit.to_arviz(), "sample_stats")
    assert list(stats.data_vars) == ["acceptance_rate"]
    assert 0.1 < float(stats["acceptance_rate"].mean()) < 0.6
    assert "r_hat" in az.summary(fit.to_arviz(), var_names=["means"])


def test_chains_can_be_chosen_and_modes_told(fit: sg.Fit) -> None:
    assert len(fit.modes) == 1
    assert fit.select_chains([0, 2]).lp.shape == (2, 500)


def test_its_file_comes_back_here(fit: sg.Fit, tmp_path: Path) -> None:
    loaded = sg.load(fit.save(tmp_path / "fit.nc"))
    assert loaded.settings == Metropolis()
    np.testing.assert_array_equal(loaded.lp, fit.lp)
    assert str(loaded.diagnose()) == str(fit.diagnose())


ELSEWHERE = """
import sys
import stangmm as sg

fit = sg.load(sys.argv[1])
assert (fit.method, fit.kind) == ("metropolis", "mcmc")
print(fit.diagnose().verdict, fit.settings.arguments["thin"])
fit.report(sys.argv[2])
fit.save(sys.argv[3])
try:
    fit.model.fit(fit.dataset, fit.settings, progress=False)
except sg.ModelError as error:
    print(error)
"""


def test_where_it_is_not_defined_its_file_can_be_looked_at(fit: sg.Fit, tmp_path: Path) -> None:
    file, report, again = (tmp_path / name for name in ("fit.nc", "fit.html", "again.nc"))
    fit.save(file)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, file, report, again], capture_output=True, text=True
    )
    assert done.stdout.startswith("ok 20\nThe method 'metropolis' is not defined here."), done
    assert "metropolis" in report.read_text()
    assert sg.load(again).settings == Metropolis()


def test_it_is_the_reference_of_a_comparison_and_can_choose_k(x: np.ndarray) -> None:
    quick = Metropolis(warmup=1000, draws=200)
    model = sg.GaussianMixture(2, "diag")
    comparison = sg.compare(model, x, ["em", quick], seed=1, progress=False)
    assert comparison.reference == "metropolis"
    assert comparison.table.loc["em", "distance"] < 1
    assert comparison.table["ess_bulk"]["metropolis"] > 100
    choice = sg.select_components(x, [1, 2], method=quick, seed=1, progress=False)
    assert (choice.criterion, choice.n_components) == ("loo", 2)
