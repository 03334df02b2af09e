"""Saving and loading: the same to the bit, in another process, and never half a file."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import LazyFits
from either_arviz import az, figure_of, from_dict, from_netcdf, group, group_names
from either_arviz import loo as loo_of_arviz
from fitting import ALL, fit_quick
from matplotlib.figure import Figure
from random_mixtures import COVARIANCE_TYPES
from scipy.io import netcdf_file

import stangmm as sg
from stangmm.data.dataset import Dataset
from stangmm.methods import Method
from stangmm.methods.draws import Draws, Info, McmcInfo, VariationalInfo
from stangmm.model.covariance import structure_named
from stangmm.model.joint import log_joint
from stangmm.model.mixture import Mixture, log_likelihood
from stangmm.posterior.fitted import record_of
from stangmm.saving import contents, schema, tree, writing

# Fits ---------------------------------------------------------------------------------------------


def em_fit(covariance_type: str = "full", k: int = 2, X: Any = None, **options: Any) -> sg.Fit:
    model = sg.GaussianMixture(k, covariance_type)
    return fit_quick(model, sg.datasets.faithful() if X is None else X, "em", **options)


def drawn_fit(kind: str, n_chains: int = 2, n_draws: int = 25) -> sg.Fit:
    """A fit with draws and all the facts of a run, made without Stan around EM's optimum."""
    rng = np.random.default_rng(3)
    at = em_fit()
    optimum = at.info.optima[0]
    priors = sg.Priors(sg.Dirichlet(2.0), correlation=sg.LKJ(3.0)).resolve(
        at.dataset, structure_named("full"), 2
    )
    shape = (n_chains if kind == "mcmc" else 1, n_draws)

    def around(values: np.ndarray, size: float) -> np.ndarray:
        return values * np.exp(size * rng.standard_normal((*shape, *values.shape)))

    weights = around(optimum.mixture.weights, 0.05)
    correlation = around(optimum.mixture.corr_chol[:, 1, 0], 0.05)
    chol = np.zeros((*shape, 2, 2, 2))
    chol[..., 0, 0], chol[..., 1, 0] = 1.0, correlation
    chol[..., 1, 1] = np.sqrt(1.0 - correlation**2)
    mixture = Mixture(
        weights / weights.sum(axis=-1, keepdims=True),
        around(optimum.mixture.means, 0.01),
        around(optimum.mixture.scales, 0.05),
        chol,
    ).permute(rng.permuted(np.tile([0, 1], (*shape, 1)), axis=-1))
    info: Info
    settings: Method
    if kind == "mcmc":
        settings = sg.NUTS(chains=n_chains, warmup=50, draws=n_draws)
        names = ("energy", "n_steps", "tree_depth", "acceptance_rate", "step_size", "lp")
        stats = {name: rng.standard_normal(shape) for name in names}
        stats["diverging"] = np.zeros(shape)
        info = McmcInfo(stats, 10, (optimum,) * n_chains)
    else:
        settings = sg.ADVI(draws=n_draws)
        steps = np.arange(1.0, 8.0)
        log_p = rng.standard_normal(n_draws)
        info = VariationalInfo(
            steps, -1 / steps, True, log_p, log_p + 0.1 * rng.random(n_draws), (optimum,)
        )
    return record_of(
        sg.Fit,
        replace(at.model, priors=sg.Priors(sg.Dirichlet(2.0), correlation=sg.LKJ(3.0))),
        at.dataset,
        settings,
        Draws(mixture, log_likelihood(mixture, at.dataset.x), info),
        priors=priors,
        relabel="stephens",
        seed=7,
        seconds=1.25,
        versions={"stangmm": "0.0"},
    )


@pytest.fixture(scope="module")
def em() -> sg.Fit:
    return em_fit()


@pytest.fixture(scope="module")
def mcmc() -> sg.Fit:
    return drawn_fit("mcmc")


@pytest.fixture(scope="module")
def approximation() -> sg.Fit:
    return drawn_fit("approximation")


@pytest.fixture
def saved(em: sg.Fit, tmp_path: Path) -> Path:
    return em.save(tmp_path / "fit.nc")


# What is the same ---------------------------------------------------------------------------------


def facts_of(thing: Any) -> dict[str, Any]:
    """Attributes, but for what is computed once from the others."""
    return {field.name: getattr(thing, field.name) for field in fields(thing) if field.init}


def assert_same(one: Any, other: Any) -> None:
    """Every attribute down to the last array is of the same type and the same to the bit."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, strict=True)
    elif isinstance(one, Mapping):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for ours, theirs in zip(one, other, strict=True):
            assert_same(ours, theirs)
    elif isinstance(one, sg.Fit) or is_dataclass(one):
        assert_same(facts_of(one), facts_of(other))
    elif isinstance(one, float):
        np.testing.assert_equal(one, other)  # NaN is NaN
    else:
        assert one == other


def assert_answers_alike(one: sg.Fit, other: sg.Fit) -> None:
    """Predictions to the bit, and the same words and tables."""
    rng = np.random.default_rng(1)
    x = one.dataset.x[rng.integers(len(one.dataset.x), size=60)] + rng.normal(size=(60, 1))
    for name in ("predict", "predict_proba", "log_density"):
        np.testing.assert_array_equal(getattr(one, name)(x), getattr(other, name)(x), strict=True)
    for name in ("weights", "means", "scales", "covariances", "lp", "total_log_likelihood"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    np.testing.assert_array_equal(one.log_likelihood(), other.log_likelihood())
    assert_same(one.sample(20, seed=4), other.sample(20, seed=4))
    assert one.posterior.identical(other.posterior)
    assert (one.bic(), repr(one)) == (other.bic(), repr(other))
    assert str(one.diagnose()) == str(other.diagnose())
    pd.testing.assert_frame_equal(one.summary(), other.summary(), check_exact=True)


def assert_comes_back(fit: sg.Fit, path: Path) -> None:
    fit.save(path)
    loaded = sg.load(path)
    assert isinstance(loaded, sg.Fit)
    assert_same(fit, loaded)
    assert_answers_alike(fit, loaded)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_fit_by_em_comes_back_the_same(covariance_type: str, k: int, tmp_path: Path) -> None:
    assert_comes_back(em_fit(covariance_type, k), tmp_path / "fit.nc")


def test_one_feature_comes_back_the_same(tmp_path: Path) -> None:
    assert_comes_back(em_fit("diag", 3, sg.datasets.galaxies()), tmp_path / "fit.nc")


@pytest.mark.parametrize("kind", ["mcmc", "approximation"])
def test_draws_and_the_facts_of_their_run_come_back_the_same(kind: str, tmp_path: Path) -> None:
    assert_comes_back(drawn_fit(kind), tmp_path / "fit.nc")


@pytest.mark.stan
@pytest.mark.parametrize("method", ALL)
def test_a_fit_by_every_method_comes_back_the_same(
    fits_faithful: LazyFits, method: str, tmp_path: Path
) -> None:
    assert_comes_back(fits_faithful[method], tmp_path / "fit.nc")


CHANGED: dict[str, Callable[[sg.Fit], sg.Fit]] = {
    "relabelled": lambda fit: fit.relabel("means"),
    "as drawn": lambda fit: fit.relabel(None),
    "reordered": lambda fit: fit.reordered(np.array([1, 0])),
    "of one chain": lambda fit: fit.select_chains([1]),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_fit_made_of_another_comes_back_the_same(
    mcmc: sg.Fit, change: str, tmp_path: Path
) -> None:
    assert_comes_back(CHANGED[change](mcmc), tmp_path / "fit.nc")


def test_a_resampled_fit_comes_back_the_same(approximation: sg.Fit, tmp_path: Path) -> None:
    assert_comes_back(approximation.resample(30, seed=1), tmp_path / "fit.nc")


def test_a_loaded_fit_can_be_relabelled_as_before(mcmc: sg.Fit, tmp_path: Path) -> None:
    loaded = sg.load(mcmc.save(tmp_path / "fit.nc"))
    assert isinstance(loaded, sg.Fit)
    assert_same(mcmc.relabel("ecr"), loaded.relabel("ecr"))


def test_priors_of_every_family_come_back_the_same(em: sg.Fit, tmp_path: Path) -> None:
    for scales in (sg.HalfCauchy([1.0, 2.0]), sg.HalfNormal(3.0), sg.InverseGamma(2.5, [[1.0]])):
        priors = sg.Priors(sg.Dirichlet([1.0, 2.0]), sg.Normal(0.1, [3.0, 70.0]), scales)
        fit = replace(em, model=replace(em.model, priors=priors))
        loaded = sg.load(fit.save(tmp_path / "fit.nc"))
        assert_same(fit.model, loaded.model)
        assert repr(fit.model) == repr(loaded.model)


def test_weights_and_odd_names_come_back_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    names = ["a/b", "größe", "<script>", "", "x y.z"]
    X = pd.DataFrame(rng.normal(size=(60, 5)), columns=names)
    fit = em_fit("diag", 2, X, sample_weight=rng.integers(0, 3, 60))
    assert_comes_back(fit, tmp_path / "fit.nc")
    loaded = sg.load(tmp_path / "fit.nc")
    assert isinstance(loaded, sg.Fit)
    with pytest.raises(sg.DataError, match="größe"):
        loaded.predict(X[names[::-1]])
    in_file = group(az.from_netcdf(tmp_path / "fit.nc"), "posterior")["feature"].values
    assert list(in_file) == names


def test_names_and_seeds_that_hdf5_cannot_hold_come_back_the_same(tmp_path: Path) -> None:
    names = pd.Index(["n\0ul", "half \udc80"], dtype=object)  # pandas' own text cannot hold them
    X = sg.datasets.faithful().set_axis(names, axis=1)
    fit = em_fit("diag", 2, X, seed=2**70)
    assert_comes_back(fit, tmp_path / "fit.nc")
    posterior = group(az.from_netcdf(tmp_path / "fit.nc"), "posterior")
    assert list(posterior["feature"].values) == ["n?ul", "half ?"]
    assert posterior.attrs["seed"] == str(2**70)


def test_missing_values_and_known_labels_come_back_the_same(tmp_path: Path) -> None:
    X = sg.datasets.faithful().to_numpy().copy()
    X[::7, 0] = np.nan
    labels = np.full(len(X), -1)
    labels[:4] = [0, 1, 0, 1]
    fit = em_fit("full", 2, X, missing="marginalize", labels=labels)
    assert_comes_back(fit, tmp_path / "fit.nc")


def test_what_was_loaded_is_saved_as_the_same_file(
    em: sg.Fit, mcmc: sg.Fit, approximation: sg.Fit, tmp_path: Path
) -> None:
    for fit in (em, mcmc, approximation):
        first = fit.save(tmp_path / "1.nc").read_bytes()
        loaded = sg.load(tmp_path / "1.nc")
        assert isinstance(loaded, sg.Fit)
        assert fit.save(tmp_path / "2.nc").read_bytes() == first
        assert loaded.save(tmp_path / "3.nc").read_bytes() == first


def test_what_computing_adds_to_a_fit_is_not_saved(mcmc: sg.Fit, tmp_path: Path) -> None:
    fresh = drawn_fit("mcmc").save(tmp_path / "1.nc").read_bytes()
    for name in ("posterior", "covariances", "labelling", "modes"):
        getattr(mcmc, name)
    assert mcmc.save(tmp_path / "2.nc").read_bytes() == fresh


# Another process ----------------------------------------------------------------------------------

PROGRAM = """
import sys
import warnings
sys.modules["cmdstanpy"] = None  # importing it is an error
import numpy as np
import stangmm as sg

file, x, answers, report = sys.argv[1:]
warnings.simplefilter("ignore", sg.ConvergenceWarning)
fit = sg.load(file)
assert not {"arviz", "xarray", "matplotlib", "pandas"} & set(sys.modules)
X = np.load(x)
many = fit.kind == "mcmc" and fit.lp.size > 1000
np.savez(
    answers, proba=fit.predict_proba(X), labels=fit.predict(X), log_density=fit.log_density(X),
    sample=fit.sample(9, seed=1)[0], rows=fit.log_likelihood(), lp=fit.lp,
    relabelled=fit.relabel("means").means,
    elpd=0.0 if fit.kind == "point" else fit.loo().elpd,
    evidence=fit.log_evidence(seed=1).log_evidence if many else 0.0,
)
print(fit.diagnose(), fit.summary(), fit.to_arviz(), fit.plot.density())
fit.report(report)
"""


def in_new_process(program: str, folder: Path, *arguments: object) -> None:
    """Run a program in a process that has neither a home with CmdStan nor cmdstanpy."""
    home = folder / "empty"
    home.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    env.pop("CMDSTAN", None)
    env |= {"HOME": str(home), "MPLCONFIGDIR": mpl.get_configdir(), "MPLBACKEND": "agg"}
    command = [sys.executable, "-W", "error", "-W", "ignore:\nArviZ", "-c", program]
    done = subprocess.run(
        [*command, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def assert_predicts_alike_elsewhere(fit: sg.Fit, folder: Path) -> None:
    file, x, answers = (folder / name for name in ("fit.nc", "x.npy", "answers.npz"))
    X = fit.dataset.x[::3] + 0.25
    np.save(x, X)
    in_new_process(PROGRAM, folder, fit.save(file), x, answers, folder / "report.html")
    here = {
        "proba": fit.predict_proba(X),
        "labels": fit.predict(X),
        "log_density": fit.log_density(X),
        "sample": fit.sample(9, seed=1)[0],
        "rows": fit.log_likelihood(),
        "lp": fit.lp,
        "relabelled": fit.relabel("means").means,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        many = fit.kind == "mcmc" and fit.lp.size > 1000  # the evidence takes seconds
        evidence = fit.log_evidence(seed=1).log_evidence if many else 0.0
        elpd = 0.0 if fit.kind == "point" else fit.loo().elpd
    here |= {"elpd": np.asarray(elpd), "evidence": np.asarray(evidence)}
    with np.load(answers) as there:
        assert set(there) == set(here)
        for name, array in here.items():
            np.testing.assert_array_equal(there[name], array, strict=True)
    assert "</html>" in (folder / "report.html").read_text()


def test_a_new_process_without_cmdstan_predicts_the_same_to_the_bit(
    mcmc: sg.Fit, tmp_path: Path
) -> None:
    assert_predicts_alike_elsewhere(mcmc, tmp_path)


@pytest.mark.stan
@pytest.mark.parametrize("method", ALL)
def test_every_method_predicts_the_same_to_the_bit_in_a_new_process(
    fits_faithful: LazyFits, method: str, tmp_path: Path
) -> None:
    assert_predicts_alike_elsewhere(fits_faithful[method], tmp_path)


# ArviZ --------------------------------------------------------------------------------------------


def in_arviz(posterior: Any) -> Any:
    """A fit's posterior, with the name of the axis that is another in ArviZ's groups."""
    return posterior.rename(component="mixture_component")


def test_arviz_works_on_the_file_itself(mcmc: sg.Fit, tmp_path: Path) -> None:
    data = az.from_netcdf(mcmc.save(tmp_path / "fit.nc"))
    groups = {"posterior", "log_likelihood", "sample_stats", "observed_data"}
    assert groups <= group_names(data)
    posterior = group(data, "posterior")
    assert posterior["covariances"].dims == (
        "chain", "draw", "mixture_component", "feature", "feature_bis",
    )  # fmt: skip
    assert in_arviz(mcmc.posterior).equals(posterior)
    assert group(data, "sample_stats")["diverging"].dtype == bool
    np.testing.assert_array_equal(group(data, "observed_data")["x"], mcmc.dataset.x)
    assert mcmc.posterior.attrs.items() <= posterior.attrs.items()
    table = az.summary(data, var_names=["weights"], kind="stats", round_to="none")
    np.testing.assert_allclose(table["mean"], mcmc.weights)
    with pytest.warns(UserWarning, match="shape parameter"):  # so few draws
        theirs = loo_of_arviz(data)
    with pytest.warns(sg.ConvergenceWarning, match="Pareto k"):
        assert theirs.elpd == pytest.approx(mcmc.loo().elpd)
    with warnings.catch_warnings():  # ArviZ's own use of matplotlib
        warnings.simplefilter("ignore", mpl.MatplotlibDeprecationWarning)
        drawn = az.plot_trace(data, var_names=["weights"])
    assert isinstance(figure_of(drawn), Figure)


def test_a_log_likelihood_that_is_too_large_is_left_out_and_said_to_be(
    mcmc: sg.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LARGEST_LOG_LIKELIHOOD", mcmc.log_likelihood().size - 1)
    full = mcmc.log_likelihood()
    monkeypatch.setattr(sg.Fit, "log_likelihood", lambda fit: pytest.fail("it was computed"))
    mcmc.save(tmp_path / "fit.nc")
    monkeypatch.undo()
    data = az.from_netcdf(tmp_path / "fit.nc")
    assert "log_likelihood" not in group_names(data)
    assert "Left out" in group(data, "posterior").attrs["log_likelihood"]
    assert in_arviz(mcmc.posterior).equals(group(data, "posterior"))
    assert "log_likelihood" not in mcmc.posterior.attrs
    loaded = sg.load(tmp_path / "fit.nc")
    assert isinstance(loaded, sg.Fit)
    np.testing.assert_array_equal(loaded.log_likelihood(), full)


# Comparisons --------------------------------------------------------------------------------------


def test_a_comparison_comes_back_with_all_its_fits_and_failures(
    em: sg.Fit, mcmc: sg.Fit, approximation: sg.Fit, tmp_path: Path
) -> None:
    fits = [em, mcmc, approximation, mcmc.select_chains([0])]
    comparison = sg.compare(em.model, em.dataset.x, fits, seed=5)
    comparison = replace(comparison, failures={"optimize": "It <failed> at größe."})
    comparison.save(tmp_path / "cmp.nc")
    loaded = sg.load(tmp_path / "cmp.nc")
    assert isinstance(loaded, sg.Comparison)
    assert_same(comparison, loaded)
    pd.testing.assert_frame_equal(comparison.table, loaded.table, check_exact=True)
    assert loaded.table.loc["optimize", "note"] == "It <failed> at größe."
    for label, fit in comparison.fits.items():
        data = from_netcdf(tmp_path / "cmp.nc", label)
        assert in_arviz(fit.posterior).equals(group(data, "posterior"))
    loaded.save(tmp_path / "again.nc")
    assert (tmp_path / "again.nc").read_bytes() == (tmp_path / "cmp.nc").read_bytes()


def test_data_that_fits_share_are_stored_once_for_stangmm(em: sg.Fit, tmp_path: Path) -> None:
    one = sg.compare(em.model, em.dataset.x, [em], seed=5).save(tmp_path / "1.nc")
    two = sg.compare(em.model, em.dataset.x, [em, em_fit()], seed=5).save(tmp_path / "2.nc")
    with h5py.File(one) as alone, h5py.File(two) as both:
        assert both["stangmm/float64"].size == alone["stangmm/float64"].size


def test_a_selection_comes_back_with_its_choice(tmp_path: Path) -> None:
    selection = sg.select_components(
        sg.datasets.faithful(), range(1, 4), method=sg.EM(restarts=4), criterion="bic",
        seed=1, progress=False,
    )  # fmt: skip
    selection.save(tmp_path / "selection.nc")
    loaded = sg.load(tmp_path / "selection.nc")
    assert isinstance(loaded, sg.Selection)
    assert_same(selection, loaded)
    assert (loaded.n_components, loaded.why) == (selection.n_components, selection.why)
    pd.testing.assert_frame_equal(selection.table, loaded.table, check_exact=True)


def test_a_selection_over_types_and_a_comparison_of_models_come_back(tmp_path: Path) -> None:
    data = sg.datasets.faithful()
    selection = sg.select_components(
        data, [1, 2], covariance_type=["tied", "full"], method=sg.EM(restarts=4),
        seed=1, progress=False,
    )  # fmt: skip
    loaded = sg.load(selection.save(tmp_path / "selection.nc"))
    assert isinstance(loaded, sg.Selection)
    assert_same(selection, loaded)
    assert loaded.chosen == selection.chosen == ("full", 2)
    pd.testing.assert_frame_equal(selection.table, loaded.table, check_exact=True)
    fit = selection.fits["tied", 2]
    found = group(from_netcdf(tmp_path / "selection.nc", "tied_K2"), "posterior")
    assert in_arviz(fit.posterior).equals(found)
    models = {f"{name}/{k}": fit for (name, k), fit in selection.fits.items()}
    comparison = sg.compare(models, data, seed=1)
    loaded_comparison = sg.load(comparison.save(tmp_path / "models.nc"))
    assert isinstance(loaded_comparison, sg.ModelComparison)
    assert_same(comparison, loaded_comparison)
    pd.testing.assert_frame_equal(comparison.table, loaded_comparison.table, check_exact=True)


@pytest.mark.parametrize("wrong", [("full", 3), ("tied", 2), ("round", 2), 2])
def test_a_selection_whose_names_are_not_those_of_its_fits_is_refused(
    wrong: Any, tmp_path: Path
) -> None:
    selection = sg.select_components(
        sg.datasets.faithful(), [1, 2], covariance_type=["full"], method=sg.EM(restarts=4),
        seed=1, progress=False,
    )  # fmt: skip
    fits = {("full", 1): selection.fits["full", 1], wrong: selection.fits["full", 2]}
    scores = dict(zip(fits, selection.scores.values(), strict=True))
    bad = replace(selection, fits=fits, scores=scores)
    with pytest.raises(sg.DataError, match=r"another (number|covariance)|several kinds"):
        sg.load(bad.save(tmp_path / "selection.nc"))


# Files that are not as they should be -------------------------------------------------------------


def test_a_flipped_bit_is_an_error_or_changes_nothing(em: sg.Fit, saved: Path) -> None:
    whole = saved.read_bytes()
    rng = np.random.default_rng(11)
    refused = 0
    for place in rng.integers(len(whole), size=150):
        bad = bytearray(whole)
        bad[place] ^= 1 << rng.integers(8)
        saved.write_bytes(bad)
        try:
            loaded = sg.load(saved)
        except sg.DataError:
            refused += 1
        else:
            assert_same(em, loaded)
    assert refused > 15


def test_a_flipped_bit_in_a_draw_is_found_by_the_checksum(em: sg.Fit, saved: Path) -> None:
    whole = saved.read_bytes()
    place = whole.index(em.info.optima[0].mixture.means.tobytes())
    saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(sg.DataError, match="checksum"):
        sg.load(saved)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(sg.DataError, match=r"damaged.*Use an intact copy"):
        sg.load(saved)


def classic_netcdf(path: Path) -> None:
    with netcdf_file(path, "w") as file:
        file.createDimension("x", 2)


FOREIGN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.touch(), "is empty"),
    "text": (lambda path: path.write_text("a,b\n1,2\n"), r"begins with b'a,b"),
    "classic netCDF": (classic_netcdf, "begins with b'CDF"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "by ArviZ": (
        lambda path: from_dict(posterior={"mu": np.zeros((2, 5))}).to_netcdf(str(path)),
        r"not saved by stangmm.*\['posterior'\]",
    ),
    "a group of that name": (
        lambda path: h5py.File(path, "w").create_group("stangmm").file.close(),
        "damaged",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_with_what_was_found(kind: str, tmp_path: Path) -> None:
    write, message = FOREIGN[kind]
    write(tmp_path / "foreign.nc")
    with pytest.raises(sg.DataError, match=message):
        sg.load(tmp_path / "foreign.nc")


def test_no_file_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sg.load(tmp_path / "none.nc")


@pytest.mark.parametrize(("step", "remedy"), [(1, "Update stangmm"), (-1, "Load it with that")])
def test_another_format_is_refused_with_what_to_do(saved: Path, step: int, remedy: str) -> None:
    with h5py.File(saved, "a") as file:
        file["stangmm"].attrs["format"] = np.array([tree.FORMAT + step])
        file["stangmm"].attrs["stangmm_version"] = "7.8.9"
        del file["stangmm"]["json"]  # as another format may be anything
    with pytest.raises(sg.DataError, match=rf"written by stangmm 7\.8\.9 in format.*{remedy}"):
        sg.load(saved)


# What changes in later versions -------------------------------------------------------------------


def test_an_entry_that_is_added_later_is_saved_and_older_files_get_its_default(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Dataset` as it may become; the kind of before wrote the file."""
    later: type[Any] = make_dataclass(
        "LaterDataset", [("origin", tuple[str, ...] | None, None)], bases=(Dataset,), frozen=True
    )
    data = schema.BY_NAME["data"]
    words = contents.or_null(contents.tuple_of(contents.text))
    entries = (*data.entries, schema.Entry("origin", "origin", "tuple of words; null", words))
    monkeypatch.setitem(schema.BY_NAME, "data", replace(data, cls=later, entries=entries))
    loaded = sg.load(saved)
    assert isinstance(loaded, sg.Fit)
    assert loaded.dataset.origin is None
    loaded = replace(loaded, dataset=replace(loaded.dataset, origin=("here", "there")))
    again = sg.load(loaded.save(tmp_path / "later.nc"))
    assert again.dataset.origin == ("here", "there")
    assert_same(loaded, again)


def test_an_entry_that_this_version_does_not_know_is_refused(
    em: sg.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = schema.BY_NAME["data"]
    entries = (*data.entries, schema.Entry("origin", "missing", "a word", contents.text))
    with monkeypatch.context() as later:
        later.setitem(schema.BY_NAME, "data", replace(data, entries=entries))
        em.save(tmp_path / "later.nc")
    with pytest.raises(sg.DataError, match=f"written by stangmm {sg.__version__}.*origin"):
        sg.load(tmp_path / "later.nc")


CLASSES = [(kind, kind.cls) for kind in schema.KINDS if kind.cls is not None]
CLASSES += [(schema.BY_NAME["fit"], sg.Fit), (schema.BY_NAME["model"], sg.GaussianMixture)]
CLASSES += [(schema.BY_NAME["comparison"], sg.Comparison)]
CLASSES += [(schema.BY_NAME["selection"], sg.Selection)]
CLASSES += [(schema.BY_NAME["model comparison"], sg.ModelComparison)]


@pytest.mark.parametrize(("kind", "cls"), CLASSES, ids=[kind.name for kind, _ in CLASSES])
def test_a_kind_has_an_entry_for_every_attribute(kind: schema.Kind, cls: type) -> None:
    """What is added to a class must be saved: an entry with a default, or a new `FORMAT`.

    But for the index of the user's table, which is of the session.
    """
    attributes = {field.name for field in fields(cls) if field.init}
    attributes -= {"index"} if cls is Dataset else set()
    assert {entry.attribute for entry in kind.entries} == attributes
    assert len({entry.name for entry in kind.entries}) == len(kind.entries)


def test_the_format_is_documented_as_it_is() -> None:
    page = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
    assert f"format {tree.FORMAT}" in page
    table = r"^### (.+)\n\n(.+)\n\n\| entry \| what it is \|\n\|.*\n((?:\|.*\n)+)"
    documented = {
        name: (about, [tuple(row.strip("| ").split(" | ")) for row in rows.splitlines()])
        for name, about, rows in re.findall(table, page, re.M)
    }
    assert documented == {
        kind.name: (kind.about, [(f"`{e.name}`", e.content) for e in kind.entries])
        for kind in schema.KINDS
    }


def test_a_file_of_this_format_is_read_for_ever() -> None:
    """``formats/2.nc`` was written when the format was made, and is never written anew."""
    comparison = sg.load(Path(__file__).parent / "formats" / "2.nc")
    assert isinstance(comparison, sg.Comparison)
    assert dict(comparison.failures) == {"optimize": "It failed."}
    em, advi, nuts = comparison.fits.values()
    assert [fit.method for fit in (em, advi, nuts)] == ["em", "advi", "nuts"]
    assert [fit.kind for fit in (em, advi, nuts)] == ["point", "approximation", "mcmc"]
    # Not the writer's CmdStan.
    assert nuts.settings == sg.NUTS(
        chains=2, warmup=50, draws=5, adapt_delta=0.8, max_tree_depth=10
    )
    assert nuts.lp.shape == nuts.permutations.shape[:2] == (2, 5)
    assert nuts.info.max_tree_depth == 10
    assert (nuts.relabelling, nuts.seed, nuts.seconds) == ("stephens", 7, 1.25)
    assert len(em.info.paths) == 10
    np.testing.assert_allclose(comparison.dataset.x[0], [3.6, 79.0])
    assert comparison.dataset.feature_names == ("eruption_min", "waiting_min")
    assert nuts.model.priors.weights.concentration == 2.0
    for fit in (em, advi, nuts):
        rows = fit.log_likelihood().sum(axis=1)
        np.testing.assert_allclose(rows, fit.total_log_likelihood.ravel(), rtol=1e-10)
        lp = log_joint(fit.shaped, fit.dataset.x, None, fit.priors, fit.model.structure)
        np.testing.assert_allclose(fit.lp, lp, rtol=1e-10)


def test_methods_that_have_no_name_of_their_own_are_refused_before_anything_is_written(
    em: sg.Fit, tmp_path: Path
) -> None:
    class MyEM(sg.EM):
        pass

    fit = replace(em, settings=MyEM())
    with pytest.raises(sg.ModelError, match="MyEM of test_saving"):
        fit.save(tmp_path / "fit.nc")
    assert list(tmp_path.iterdir()) == []


def test_a_fit_with_more_features_than_rows_comes_back_the_same(tmp_path: Path) -> None:
    from stangmm.sklearn import StanGaussianMixture

    X = np.random.default_rng(1).normal(size=(8, 12))
    with pytest.warns(sg.ConvergenceWarning, match="regularized"):
        estimator = StanGaussianMixture(2, random_state=1).fit(X)
    assert_comes_back(estimator.fit_, tmp_path / "fit.nc")


# Whole or not at all ------------------------------------------------------------------------------


def test_a_file_that_is_there_is_replaced(em: sg.Fit, mcmc: sg.Fit, tmp_path: Path) -> None:
    file = tmp_path / "fit.nc"
    em.save(file)
    assert mcmc.save(str(file)) == file
    assert_same(mcmc, sg.load(str(file)))
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_a_link(em: sg.Fit, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link, real = tmp_path / "link.nc", tmp_path / "folder" / "real.nc"
    link.symlink_to(real)
    em.save(link)
    assert link.is_symlink()
    assert_same(em, sg.load(real))


def test_a_failure_half_way_leaves_the_old_file_alone(
    em: sg.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = em.save(tmp_path / "fit.nc")
    before = file.read_bytes()

    def full(_: int) -> None:
        # The unfinished file is in the same folder, and has no name where the system can do that.
        assert len(list(tmp_path.iterdir())) in (1, 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"unchanged: No space left.*Make room") as caught:
        em.save(file)
    assert caught.value.errno == errno.ENOSPC
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


FULL_DISK = """
import resource, sys
import stangmm as sg

fit = sg.load(sys.argv[1])
fit.to_arviz()  # at its import ArviZ writes a file of its own
for limit in (0, 1_000, 30_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        fit.save(sys.argv[1])
    except OSError as error:
        assert "could not be written" in str(error), error
    else:
        sys.exit(f"saved in spite of a limit of {limit} bytes")
"""


def test_a_disk_that_is_full_leaves_the_old_file_alone(em: sg.Fit, tmp_path: Path) -> None:
    file = em.save(tmp_path / "fit.nc")
    before = file.read_bytes()
    assert len(before) > 30_000
    in_new_process(FULL_DISK, tmp_path, file)
    assert file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"fit.nc", "empty"}


def test_paths_that_cannot_be_written_say_what_to_do(em: sg.Fit, tmp_path: Path) -> None:
    with pytest.raises(sg.ModelError, match=r"folder '.*none' does not exist\. Create it"):
        em.save(tmp_path / "none" / "fit.nc")
    with pytest.raises(sg.ModelError, match=r"is a folder\. Give the path of a file"):
        em.save(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_an_error(em: sg.Fit, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="could not be written"):
        em.save(folder / "fit.nc")
