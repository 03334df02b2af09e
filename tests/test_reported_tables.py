"""What is reported of a fit: rows, correlations, how clear the classes are, a paragraph, modes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from either_arviz import az
from fitting import fit_quick
from made_fits import known_mixture, made_fit, rows_of
from scipy.stats import multivariate_normal

import stangmm as sg
from stangmm.judge.membership import classes_of

KINDS = ["point", "approximation", "mcmc"]


def made(kind: str, k: int = 3, d: int = 3) -> sg.Fit:
    mixture = known_mixture(k, d, None, seed=4)
    x = np.vstack([rows_of(mixture, 80, seed=5), np.full((1, d), 900.0)])  # the last is far out
    return made_fit(kind, mixture, x, [f"f{j}" for j in range(d)], draws=50)


def crabs_like() -> pd.DataFrame:
    """Two correlated blobs of three features."""
    rng = np.random.default_rng(3)
    factor = np.linalg.cholesky([[1.0, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 1.0]])
    x = rng.normal(size=(300, 3)) @ factor.T + np.repeat([[0.0], [6.0]], 150, axis=0)
    return pd.DataFrame(x, columns=["a", "b", "c"])


# ---- rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_rows_say_whose_each_row_is_and_how_unusual_it_is(kind: str) -> None:
    fit = made(kind)
    table, x = fit.rows(), fit.dataset.x
    probability = fit.predict_proba(x)
    np.testing.assert_array_equal(table["component"], fit.predict(x))
    np.testing.assert_allclose(table["probability"], probability.max(axis=1))
    np.testing.assert_array_equal(table["tail_probability"], fit.outlier_score(x).tail_probability)
    assert table["outlier"].iloc[-1]
    assert table["outlier"].sum() <= 2
    assert (table.index.name, len(table)) == ("row", len(x))
    if kind == "point":
        assert not {"q5", "q95"} & set(table)
        assert not table.isna().any(axis=None)
    else:
        each = fit.mixture.responsibilities(x)[:, table["component"], np.arange(len(x))]
        np.testing.assert_allclose(
            table[["q5", "q95"]].T, np.quantile(each, [0.05, 0.95], axis=0), atol=1e-9
        )


def test_a_row_of_known_component_belongs_to_it_for_sure() -> None:
    x = np.concatenate([np.linspace(-1, 1, 40), 5 + np.linspace(-1, 1, 40)])
    labels = np.full(80, -1)
    labels[[0, 79, 1]] = 0, 1, 1  # the last against what the row looks like
    fit = fit_quick(sg.GaussianMixture(2, "tied"), x, "em", labels=labels)
    table = fit.rows()
    assert table["component"].iloc[[0, 79, 1]].tolist() == [0, 1, 1]
    assert table["probability"].iloc[[0, 79, 1]].tolist() == [1.0, 1.0, 1.0]


# ---- classes ---------------------------------------------------------------------------------


def test_entropy_and_smallest_class_are_those_of_the_definitions() -> None:
    x = crabs_like().to_numpy() * [1.0, 1.0, 2.0]
    weight = np.linspace(0.5, 2.0, len(x))
    fit = fit_quick(sg.GaussianMixture(3), x, "em", sample_weight=weight)
    joint = np.stack(
        [
            w * multivariate_normal(m, c).pdf(x)
            for w, m, c in zip(fit.weights, fit.means, fit.covariances, strict=True)
        ],
        axis=1,
    )
    p = joint / joint.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        doubt = -np.nansum(p * np.log(p), axis=1)
    classes = classes_of(fit)
    assert classes.entropy == pytest.approx(1 - weight @ doubt / (weight.sum() * np.log(3)))
    rows = min(weight[p.argmax(axis=1) == k].sum() for k in range(3))
    assert classes.smallest_rows == pytest.approx(rows)
    assert classes.smallest_share == pytest.approx(rows / weight.sum())


def test_a_selection_says_how_clear_the_classes_are() -> None:
    selection = sg.select_components(
        crabs_like(), [1, 2], method=sg.EM(restarts=5), seed=1, progress=False
    )
    table = selection.table
    assert np.isnan(table["entropy"][1])
    assert table["entropy"][2] > 0.99
    assert table["smallest_rows"].tolist() == [300, 150]
    assert table["smallest_share"].tolist() == [1.0, 0.5]


# ---- correlations ----------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_the_summary_of_a_point_has_correlations_and_no_empty_column(covariance_type: str) -> None:
    fit = fit_quick(sg.GaussianMixture(2, covariance_type), crabs_like(), "em")
    table = fit.summary()
    assert list(table.columns) == ["mean"]
    assert not table.isna().any(axis=None)
    found = table[table.index.str.startswith("correlations")]["mean"]
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    expected = {}
    for k in range(2) if covariance_type in ("full", "tied") else []:
        covariance = pd.DataFrame(fit.covariances[k], index=list("abc"), columns=list("abc"))
        own = f"{k}, " if covariance_type == "full" else ""
        for a, b in pairs:
            scale = np.sqrt(covariance.loc[a, a] * covariance.loc[b, b])
            expected[f"correlations[{own}{a}, {b}]"] = covariance.loc[a, b] / scale
    assert found.to_dict() == pytest.approx(expected)


@pytest.mark.stan
@pytest.mark.parametrize("method", ["nuts", "advi"])
def test_correlations_of_draws_have_intervals(method: str) -> None:
    fit = fit_quick(sg.GaussianMixture(2), crabs_like(), method)
    table = fit.summary()
    covariances = fit.posterior["covariances"].sel(component=1)
    scale = np.sqrt(
        covariances.sel(feature="a", feature_bis="a")
        * covariances.sel(feature="b", feature_bis="b")
    )
    draws = (covariances.sel(feature="b", feature_bis="a") / scale).values
    row = table.loc["correlations[1, a, b]"]
    assert row["mean"] == pytest.approx(draws.mean())
    assert row["sd"] == pytest.approx(draws.std(ddof=1))
    assert row[["q5", "q95"]].tolist() == pytest.approx(np.quantile(draws, [0.05, 0.95]).tolist())
    assert row["q5"] < 0.8 < row["q95"]
    if method == "nuts":
        assert row["r_hat"] == pytest.approx(float(az.rhat(draws)))
        assert row["ess_bulk"] == pytest.approx(float(az.ess(draws)))
        assert row["mcse"] == pytest.approx(float(az.mcse(draws)), rel=1e-6)


# ---- the paragraph ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_has_methods_results_and_references_in_one_paragraph(
    kind: str, tmp_path: Path
) -> None:
    fit = made(kind)
    words = fit.describe()
    assert "\n" not in words
    assert words == sg.load(fit.save(tmp_path / "fit.nc")).describe()
    for part in (
        "three components",
        "81 rows of three features (f0, f1, f2)",
        f"component 2 holds {100 * fit.weights[2]:.0f}%",
        "relative entropy",
        "seed 1",
        "doi:10.1002/0471721182",
    ):
        assert part in words
    own = {
        "point": ["by EM", "10.1111/j.2517-6161.1977.tb01600.x", "BIC"],
        "approximation": ["by ADVI", "v18/16-107", "Pareto k-hat", "90% interval", "Dirichlet"],
        "mcmc": ["by NUTS", "hoffman14a", "largest R-hat", "four chains", "90% interval", "LKJ"],
    }[kind]
    for part in own:
        assert part.lower() in words.lower()
    assert ("90% interval" in words) == (kind != "point")


def test_a_description_names_weights_missing_values_known_rows_and_open_checks() -> None:
    x = crabs_like().to_numpy(copy=True)
    x[0, 0] = np.nan
    labels = np.full(300, -1)
    labels[[0, 299]] = 0, 1
    fit = fit_quick(
        sg.GaussianMixture(2),
        x,
        sg.EM(restarts=3, max_iterations=1),
        sample_weight=np.full(300, 2.0),
        labels=labels,
        missing="marginalize",
    )
    words = fit.describe()
    assert "sample weights that sum to 600" in words
    assert "one missing value integrated out" in words
    assert "two rows with a known component" in words
    assert re.search(r"did not pass these checks: [^.]*converged", words)


# ---- modes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "words"), [("point", "best of 2 maxima"), ("approximation", "")])
def test_modes_of_a_fit_without_chains_are_words(kind: str, words: str) -> None:
    shown = str(made(kind).modes)
    assert words in shown
    assert 'use method="nuts"' in shown
