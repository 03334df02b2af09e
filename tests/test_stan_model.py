"""The Stan model says what the numpy one says: log density, with and without Jacobian, gradient.

CmdStan evaluates the model where it goes: each draw of a few NUTS steps comes with lp__, which has
the Jacobian of the unconstraining transforms; each iteration of the optimizer comes with lp__,
which leaves it out. The Jacobians are written here from the transforms' definitions in Stan's
reference manual, and are themselves tested by differentiating those definitions.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fitting import values_at_start
from random_mixtures import COVARIANCE_TYPES, SKLEARN_TYPES, random_mixture

import stangmm as sg
from stangmm.cmdstan import CompiledModel, cmdstan_run, compiled_model
from stangmm.data.dataset import Dataset
from stangmm.methods.stan.data import StanData, stan_parameters
from stangmm.methods.stan.pivots import Pivots
from stangmm.methods.stan.shared import read_mixtures
from stangmm.model.covariance import structure_named
from stangmm.model.joint import log_prior
from stangmm.model.mixture import log_likelihood
from stangmm.model.problem import Problem

SCALES = {
    "half-Cauchy": sg.HalfCauchy(1.5),
    "half-normal": sg.HalfNormal(2.5),
    "inverse gamma": sg.InverseGamma(2.5, 1.7),
}
RELATIVE = ABSOLUTE = 1e-8


# ---- the unconstraining transforms -----------------------------------------------------------


def stick_breaking(y: np.ndarray) -> np.ndarray:
    """Simplex of Stan up to 2.36: each number breaks its share off what is left of the stick."""
    k = len(y) + 1
    left, parts = 1.0, []
    for i, value in enumerate(y):
        share = 1 / (1 + np.exp(-(value - np.log(k - 1 - i))))
        parts.append(left * share)
        left = left - parts[-1]
    return np.array([*parts, left])


def stick_breaking_log_jacobian(x: np.ndarray) -> np.ndarray:
    left = np.cumsum(x[..., ::-1], axis=-1)[..., ::-1]  # left[k] = x[k] + ... + x[K]
    return np.log(x[..., :-1] * left[..., 1:] / left[..., :-1]).sum(axis=-1)


def isometric_log_ratio(y: np.ndarray) -> np.ndarray:
    """Simplex of Stan from 2.37 on: softmax of K numbers that sum to zero, isometric to y."""
    k = len(y) + 1
    basis = np.zeros((k, k - 1))
    for i in range(1, k):
        basis[:i, i - 1] = 1 / np.sqrt(i * (i + 1))
        basis[i, i - 1] = -i / np.sqrt(i * (i + 1))
    e = np.exp(basis @ y)
    return np.asarray(e / e.sum())


def isometric_log_ratio_log_jacobian(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * np.log(x.shape[-1]) + np.log(x).sum(axis=-1))


def cholesky_factor_corr(y: np.ndarray) -> np.ndarray:
    """Cholesky factor of a correlation matrix from canonical partial correlations tanh(y)."""
    d = int((1 + np.sqrt(1 + 8 * len(y))) / 2)
    factor = np.zeros((d, d), dtype=y.dtype)
    values = iter(np.tanh(y))
    for i in range(d):
        left = 1.0
        for j in range(i):
            factor[i, j] = next(values) * np.sqrt(left)
            left = left - factor[i, j] ** 2
        factor[i, i] = np.sqrt(left)
    return factor


def cholesky_factor_corr_log_jacobian(factor: np.ndarray) -> np.ndarray:
    """For each row, d L[i,j] / d y[i,j] = (1 - z[i,j]^2) sqrt(left); the (1 - z^2) telescope."""
    left = np.cumsum(factor[..., ::-1] ** 2, axis=-1)[..., ::-1]  # left[i,j]: before entry j
    total = np.zeros(factor.shape[:-2])
    for i in range(1, factor.shape[-1]):
        total += 2 * np.log(factor[..., i, i]) + 0.5 * np.log(left[..., i, :i]).sum(axis=-1)
    return total


def log_determinant(transform: Callable[[np.ndarray], np.ndarray], y: np.ndarray) -> float:
    """Log absolute Jacobian determinant at y, differentiated with a complex step."""
    step = 1e-30
    columns = [transform(y + 1j * step * unit).imag / step for unit in np.eye(len(y))]
    return float(np.linalg.slogdet(np.array(columns))[1])


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize(
    ("transform", "log_jacobian"),
    [
        (stick_breaking, stick_breaking_log_jacobian),
        (isometric_log_ratio, isometric_log_ratio_log_jacobian),
    ],
)
def test_simplex_jacobian_is_the_derivative(
    transform: Callable[[np.ndarray], np.ndarray],
    log_jacobian: Callable[[np.ndarray], np.ndarray],
    k: int,
) -> None:
    y = np.random.default_rng(k).normal(size=k - 1)
    assert transform(y).sum() == pytest.approx(1.0)
    derivative = log_determinant(lambda u: transform(u)[:-1], y)
    assert log_jacobian(transform(y)) == pytest.approx(derivative, abs=1e-11)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_cholesky_factor_jacobian_is_the_derivative(d: int) -> None:
    y = np.random.default_rng(d).normal(size=d * (d - 1) // 2)
    factor = cholesky_factor_corr(y)
    np.testing.assert_allclose(np.diag(factor @ factor.T), 1.0, rtol=1e-12)
    lower = np.tril_indices(d, -1)
    derivative = log_determinant(lambda u: cholesky_factor_corr(u)[lower], y)
    assert cholesky_factor_corr_log_jacobian(factor) == pytest.approx(derivative, abs=1e-11)


def log_jacobian(parameters: dict[str, np.ndarray], version: tuple[int, int, int]) -> np.ndarray:
    """Of all parameters of the model, leading axes kept; a lower bound of 0 is exp: log x."""
    simplex = (
        stick_breaking_log_jacobian if version < (2, 37, 0) else isometric_log_ratio_log_jacobian
    )
    total = np.log(parameters["excess"]).sum(axis=(-2, -1))
    total = total + cholesky_factor_corr_log_jacobian(parameters["corr_chol"]).sum(axis=-1)
    if parameters["weights"].shape[-1] > 1:
        total = total + simplex(parameters["weights"])
    return np.asarray(total)


# ---- the model -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["portable", "native"])
def model(request: pytest.FixtureRequest) -> CompiledModel:
    return compiled_model(kernel=request.param, progress=False)


def make_problem(
    covariance_type: str,
    family: str = "half-Cauchy",
    k: int = 3,
    d: int = 2,
    weighted: bool = True,
    noise: bool | float = False,
) -> Problem:
    """Random data in units far from 1, priors that differ between components and features.

    The resolution is so coarse that it bounds the scales.
    """
    seed = [COVARIANCE_TYPES.index(covariance_type), list(SCALES).index(family), k, d]
    rng = np.random.default_rng(seed)
    x = random_mixture(rng, covariance_type, 3, d).sample(rng, 25) * 40 + 1000
    structure = structure_named(covariance_type)
    width = rng.uniform(20, 60, structure.scale_shape(k, d))
    scales = replace(SCALES[family], scale=width**2 if family == "inverse gamma" else width)
    priors = sg.Priors(
        sg.Dirichlet(rng.uniform(0.5, 3, k + bool(noise))),
        sg.Normal(rng.normal(1000, 50, (k, d)), rng.uniform(30, 90, (k, d))),
        scales,
        sg.LKJ(1.7),
        resolution=rng.uniform(20, 60, d),
    )
    weight = rng.integers(0, 4, 25) + rng.random(25) if weighted else None
    return Problem.build(Dataset.from_input(x, weight), k, structure, priors, noise)


def expected_parts(
    columns: tuple[str, ...], draws: np.ndarray, problem: Problem, version: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log prior, log likelihood and log Jacobian at each draw, by numpy."""
    mixture, _ = read_mixtures(columns, draws, problem)
    jacobian = [
        log_jacobian(stan_parameters(mixture[i], problem.space), version) for i in range(len(draws))
    ]
    return (
        log_prior(mixture, problem.priors, problem.structure),
        log_likelihood(mixture, problem.x, problem.sample_weight),
        np.array(jacobian),
    )


def check_log_density(
    model: CompiledModel,
    problem: Problem,
    *,
    pivots: Pivots | None = None,
    use_prior: bool = True,
    use_likelihood: bool = True,
) -> None:
    """Compare lp__ and log_likelihood with numpy along a few steps of NUTS and of L-BFGS."""
    pivots = pivots or Pivots.none(problem.space)
    with cmdstan_run(model.exe, "test") as run:
        switches = {"use_prior": use_prior, "use_likelihood": use_likelihood}
        data = run.write_json("data", StanData.of(problem, pivots=pivots, **switches).values())
        folders = [run.directory / "sample", run.directory / "optimize"]
        for folder in folders:  # of their own: cmdstanpy names files by the second
            folder.mkdir()
        sampled = run.call(
            lambda stan: stan.sample(
                data=data,
                seed=5,
                chains=1,
                iter_warmup=0,
                iter_sampling=8,
                adapt_engaged=False,
                inits=0.5,
                step_size=0.002,  # so small that every step is taken
                max_treedepth=5,
                sig_figs=17,
                output_dir=folders[0],
                show_progress=False,
            )
        )
        optimized = run.call(
            lambda stan: stan.optimize(
                data=data,
                seed=6,
                algorithm="lbfgs",
                iter=6,
                save_iterations=True,
                jacobian=False,
                require_converged=False,
                sig_figs=17,
                output_dir=folders[1],
            )
        )
        tables = [
            (sampled.column_names, sampled.draws(concat_chains=True), 1.0),
            (optimized.column_names, optimized.optimized_iterations_np, 0.0),
        ]
    for columns, table, with_jacobian in tables:
        names = tuple(columns)
        assert len(np.unique(table[:, 0])) >= 5, "too few different points to compare at"
        prior, likelihood, jacobian = expected_parts(names, table, problem, model.cmdstan.version)
        expected = use_prior * prior + use_likelihood * likelihood + with_jacobian * jacobian
        expected += pivots.log_volume(read_mixtures(names, table, problem)[0])
        np.testing.assert_allclose(table[:, 0], expected, rtol=RELATIVE, atol=ABSOLUTE)
        reported = table[:, names.index("log_likelihood")]
        np.testing.assert_allclose(
            reported, use_likelihood * likelihood, rtol=RELATIVE, atol=ABSOLUTE
        )


@pytest.mark.stan
@pytest.mark.parametrize("weighted", [False, True], ids=["rows", "weighted rows"])
@pytest.mark.parametrize("family", SCALES)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_log_density_equals_numpy(
    model: CompiledModel, covariance_type: str, family: str, weighted: bool
) -> None:
    check_log_density(model, make_problem(covariance_type, family, weighted=weighted))


@pytest.mark.stan
@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 3), (3, 1), (2, 4)])
@pytest.mark.parametrize("family", SCALES)
@pytest.mark.parametrize("covariance_type", [*SKLEARN_TYPES, "tied_correlation"])
def test_log_density_equals_numpy_for_every_size(
    model: CompiledModel, covariance_type: str, family: str, k: int, d: int
) -> None:
    check_log_density(model, make_problem(covariance_type, family, k, d))


@pytest.mark.stan
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_log_density_with_noise_equals_numpy(
    model: CompiledModel, covariance_type: str, k: int
) -> None:
    check_log_density(model, make_problem(covariance_type, k=k, noise=1e5))


@pytest.mark.stan
@pytest.mark.parametrize("which", [(1,), (0, 2)])
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical", "tied_correlation"])
def test_log_density_with_means_relative_to_pivots_equals_numpy(
    model: CompiledModel, covariance_type: str, which: tuple[int, ...]
) -> None:
    problem = make_problem(covariance_type)
    relative = np.isin(np.arange(problem.n_components), which)
    at = np.where(relative[:, np.newaxis], problem.x[: len(relative)], 0.0)
    check_log_density(model, problem, pivots=Pivots(relative, at, problem.priors.means))


@pytest.mark.stan
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_prior_alone_equals_numpy(model: CompiledModel, covariance_type: str) -> None:
    check_log_density(model, make_problem(covariance_type), use_likelihood=False)


@pytest.mark.stan
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_likelihood_alone_equals_numpy(model: CompiledModel, covariance_type: str) -> None:
    check_log_density(model, make_problem(covariance_type), use_prior=False)


@pytest.mark.stan
@pytest.mark.parametrize("covariance_type", [*SKLEARN_TYPES, "tied_correlation"])
@pytest.mark.parametrize(("k", "d"), [(3, 2), (1, 1)])
def test_the_start_that_is_written_is_the_start_that_is_used(
    model: CompiledModel, covariance_type: str, k: int, d: int
) -> None:
    problem = make_problem(covariance_type, k=k, d=d)
    mixture = random_mixture(np.random.default_rng(9), covariance_type, k, d).mixture(
        covariance_type
    )
    with cmdstan_run(model.exe, "test") as run:
        data = run.write_json("data", StanData.of(problem).values())
        start = run.write_json("start", stan_parameters(mixture, problem.space))
        columns, table = values_at_start(run, data, start)
    read, likelihood = read_mixtures(columns, table, problem)
    np.testing.assert_allclose(read.weights[0], mixture.weights, rtol=1e-12)
    np.testing.assert_allclose(read.means[0], mixture.means, rtol=1e-12)
    np.testing.assert_allclose(read.covariances[0], mixture.covariances, rtol=1e-10, atol=1e-12)
    expected = log_likelihood(mixture, problem.x, problem.sample_weight)
    np.testing.assert_allclose(likelihood[0], expected, rtol=1e-10)


@pytest.mark.stan
@pytest.mark.parametrize("family", SCALES)
@pytest.mark.parametrize("covariance_type", [*SKLEARN_TYPES, "tied_correlation"])
@pytest.mark.parametrize(("k", "d"), [(3, 2), (2, 3), (1, 1)])
def test_gradient_equals_finite_differences(
    model: CompiledModel, covariance_type: str, family: str, k: int, d: int
) -> None:
    # Noise in some of the cases, so that each type and each size has it once.
    noise = list(SCALES).index(family) == k - 1
    problem = make_problem(covariance_type, family, k, d, noise=noise)
    with cmdstan_run(model.exe, "test") as run:
        data = run.write_json("data", StanData.of(problem).values())
        command = [model.exe, "diagnose", "test=gradient", "data", f"file={data}", "init=1"]
        command += ["random", "seed=4", "output", f"file={run.directory / 'out.csv'}"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Lines of: number of the parameter, value, gradient, finite difference, error.
    lines = re.findall(r"^ +\d+(?: +\S+){4}$", printed.partition("param idx")[2], re.MULTILINE)
    table = np.array([line.split() for line in lines], dtype=float)
    assert len(table) == problem.space.size
    assert np.abs(table[:, 2]).max() > 1
    assert np.abs(table[:, 4]).max() < 1e-6 * np.abs(table[:, 2]).max()
