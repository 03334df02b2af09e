"""The native likelihood kernel says what the portable one says, in value and gradient."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cmdstanpy
import numpy as np
import pytest
from filelock import FileLock
from kernel.points import COVARIANCE_TYPES, Point, random_point, reference
from kernel.programs import build_driver, kernel_sources, key_of_sources

import stangmm as sg
from stangmm.cmdstan import find_cmdstan
from stangmm.cmdstan.build import cache_directory
from stangmm.cmdstan.compile import Kernel, compiled_model
from stangmm.methods.stan.data import group_data

pytestmark = pytest.mark.stan

TOLERANCE = 1e-10
NOTHING = 1e-30  # where all rows are noise, a component's gradient is lost by rounding


# ---- the programs that evaluate them -----------------------------------------------------------


@dataclass(frozen=True)
class Programs:
    """What the tests compile, all of it once."""

    driver: Path
    threaded: Path
    unthreaded: Path
    models: dict[str, cmdstanpy.CmdStanModel]

    def evaluate(self, kernel: str, points: list[Point], folder: Path) -> list[list[str]]:
        file = folder / f"{kernel}.txt"
        file.write_text("\n".join(p.text() for p in points))
        done = subprocess.run([self.driver, kernel, file], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [line.split(" ") for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def programs() -> Programs:
    """Compile what is not in the user's cache, where compiled models are kept, too."""
    try:
        cmdstan = find_cmdstan().path
    except sg.CmdStanNotFoundError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMDSTAN", str(cmdstan))  # where cmdstanpy is to look
        folder = cache_directory() / "kernel-tests"
        folder.mkdir(parents=True, exist_ok=True)
        built = folder / key_of_sources(cmdstan)
        with FileLock(folder / "lock"):  # one worker builds them, for all
            if not built.exists():
                for old in folder.iterdir():
                    if old.is_dir():
                        shutil.rmtree(old)
                build_programs(cmdstan, folder / "building")
                (folder / "building").rename(built)

        def model(kernel: Kernel) -> cmdstanpy.CmdStanModel:
            compiled = compiled_model(kernel=kernel, cmdstan_path=cmdstan, progress=False)
            return cmdstanpy.CmdStanModel(exe_file=compiled.exe)

        paths = [built / name for name in ("driver", "threaded", "unthreaded")]
        return Programs(*paths, {"native": model("native"), "portable": model("portable")})


def build_programs(cmdstan: Path, folder: Path) -> None:
    folder.mkdir()
    kernel_sources(cmdstan, folder)
    with ThreadPoolExecutor(2) as pool:
        builds = [
            pool.submit(build_driver, cmdstan, folder, *which)
            for which in (
                ("driver", "kernel_driver.cpp"),
                ("threaded", "thread_driver.cpp", "-DSTAN_THREADS"),
                ("unthreaded", "thread_driver.cpp"),
            )
        ]
        for build in builds:
            build.result()


def numbers(line: list[str]) -> tuple[float, float, np.ndarray]:
    """Value without a gradient, value with it, gradient."""
    assert line[0] != "error", " ".join(line)
    values = np.array([float(word) for word in line])
    return values[0], values[1], values[2:]


def assert_same(actual: list[str], expected: list[str], terms: np.ndarray, what: str) -> None:
    """Value and every gradient component agree, relative to their size or that of their terms."""
    alone, value, gradient = numbers(actual)
    _, expected_value, expected_gradient = numbers(expected)
    assert value == pytest.approx(expected_value, rel=TOLERANCE), what
    assert alone == value, what
    assert np.isfinite(gradient).all(), what
    bound = TOLERANCE * np.maximum(np.abs(expected_gradient), terms) + NOTHING
    wrong = np.flatnonzero(~(np.abs(gradient - expected_gradient) <= bound))
    assert not wrong.size, f"{what}: {wrong} {gradient[wrong]} {expected_gradient[wrong]}"


# ---- agreement ---------------------------------------------------------------------------------

SHAPES = [  # N, D, K, how rows are weighted
    (1, 1, 1, "none"),
    (1, 3, 2, "fractions"),
    (7, 1, 3, "counts"),
    (50, 2, 1, "none"),
    (255, 2, 3, "none"),
    (256, 3, 2, "fractions"),
    (257, 4, 4, "none"),
    (100, 5, 3, "counts"),
    (90, 6, 2, "none"),
    (130, 7, 3, "fractions"),
    (300, 8, 5, "none"),
    (70, 13, 2, "counts"),
    (40, 17, 12, "none"),
    (9000, 2, 3, "none"),
    (3000, 9, 4, "fractions"),
]


def random_points() -> dict[str, Point]:
    rng = np.random.default_rng(20240501)
    return {
        f"{kind}, N={n}, D={d}, K={k}, {w}": random_point(rng, kind, n, d, k, sample_weight=w)
        for kind in COVARIANCE_TYPES
        for n, d, k, w in SHAPES
    }


GROUPED_SHAPES = [  # N, D, K, how rows are weighted, share of missing values, of known labels
    (60, 2, 2, "none", 0.3, 0.0),
    (200, 4, 3, "fractions", 0.2, 0.3),
    (150, 1, 3, "counts", 0.0, 0.5),
    (90, 3, 4, "none", 0.0, 0.4),
    (40, 3, 1, "none", 0.4, 0.3),
    (120, 10, 3, "counts", 0.2, 0.1),  # nearly every row a group of its own
    (2500, 6, 2, "none", 0.01, 0.2),  # groups of hundreds of rows
    (1500, 9, 3, "fractions", 0.01, 0.0),
    (200, 2, 3, "none", 0.7, 1.0),  # many rows of which the label alone is known
]


def grouped_points() -> dict[str, Point]:
    rng = np.random.default_rng(20261122)
    points = {}
    for kind in COVARIANCE_TYPES:
        for n, d, k, w, missing, known in GROUPED_SHAPES:
            p = random_point(rng, kind, n, d, k, sample_weight=w).grouped(rng, missing, known)
            name = f"{kind}, N={n}, D={d}, K={k}, {w}, missing {missing}, known {known}"
            points[name] = p
    return points


def noisy_points() -> dict[str, Point]:
    """Some of each of the others, with a uniform component."""
    rng = np.random.default_rng(20261126)
    others = {**random_points(), **grouped_points(), **extreme_points()}
    points = {f"{name}, noise": p.with_noise(rng) for name, p in [*others.items()][::3]}
    p = random_point(rng, "full", 300, 6, 2, noise=True)
    for weight in (1e-180, 1.0 - 1e-12):  # of the noise
        weights = np.append((1.0 - weight) * np.array([0.3, 0.7]), weight)
        points[f"noise of weight {weight}"] = replace(p, weights=weights)
        points[f"noise of weight {weight}, grouped"] = replace(p, weights=weights).grouped(
            rng, 0.2, 0.2
        )
    return points


def test_grouped_points_have_what_they_are_to_test() -> None:
    groups = [g for p in grouped_points().values() for g in p.groups]
    rows = [g.rows.stop - g.rows.start for g in groups]
    assert rows.count(1) > 100
    assert sum(n > 256 for n in rows) > 4
    assert any(len(g.observed) == 0 and g.component is not None for g in groups)
    assert any(len(g.observed) == 0 and g.component is None for g in groups)
    assert any(g.component is not None and 0 < len(g.observed) < 4 for g in groups)


def extreme_points(singular: float = 1e-9) -> dict[str, Point]:
    """Points at the edge of what the plain formula holds, but where it still gives an answer.

    One correlation matrix is so near a singular one.
    """
    rng = np.random.default_rng(7)
    points = {}
    for kind in COVARIANCE_TYPES:
        p = random_point(rng, kind, 300, 3, 3)
        x = p.x.copy()
        x[17] = 1e5
        x[18, 1] = -1e8
        points[f"{kind}, far outliers"] = replace(p, x=x)
        points[f"{kind}, tiny scales"] = replace(p, scales=p.scales * 1e-6)
        points[f"{kind}, huge scales"] = replace(p, scales=p.scales * 1e8)
        far = p.means + np.array([[0.0], [60.0], [1e4]])
        points[f"{kind}, components far from all rows"] = replace(p, means=far)
        scales = p.scales.copy()
        scales[0] *= 1e-12
        points[f"{kind}, a collapsed component"] = replace(p, scales=scales)
        small = np.array([1 - 1e-30, 1e-30, 1e-180])
        points[f"{kind}, tiny weights"] = replace(p, weights=small)
        points[f"{kind}, no weight on any row"] = replace(p, sample_weight=np.zeros(300))
        points[f"{kind}, data off centre"] = replace(p, x=p.x + 1e6, means=p.means + 1e6)
    p = random_point(rng, "full", 400, 4, 2)
    chol = p.corr_chol.copy()
    chol[0, 3] = [0.6, 0.8 - singular, 0.0, 0.0]
    chol[0, 3, 3] = np.sqrt(1 - (chol[0, 3, :3] ** 2).sum())
    points["full, nearly singular correlation"] = replace(p, corr_chol=chol)
    return points


def extreme_grouped_points() -> dict[str, Point]:
    """With missing values the plain formula squares the factor, and loses as many digits more."""
    rng = np.random.default_rng(8)
    return {name: p.grouped(rng, 0.1, 0.05) for name, p in extreme_points(1e-7).items()}


@pytest.mark.parametrize(
    "points",
    [
        random_points(),
        extreme_points(),
        grouped_points(),
        extreme_grouped_points(),
        noisy_points(),
    ],
    ids=["random", "extreme", "grouped", "extreme, grouped", "noise"],
)
@pytest.mark.parametrize("kernel", ["native", "avx512", "avx2", "plain"])
def test_native_equals_portable(
    programs: Programs, tmp_path: Path, kernel: str, points: dict[str, Point]
) -> None:
    actual = programs.evaluate(kernel, list(points.values()), tmp_path)
    if actual == [["unusable"]]:
        pytest.skip(f"this machine has no {kernel}")
    expected = programs.evaluate("portable", list(points.values()), tmp_path)
    for (name, p), a, b in zip(points.items(), actual, expected, strict=True):
        assert_same(a, b, reference(p)[2], name)


@pytest.mark.parametrize(
    "points",
    [random_points(), extreme_points(), grouped_points(), noisy_points()],
    ids=["random", "extreme", "grouped", "noise"],
)
def test_avx512_and_avx2_give_the_same_bits(
    programs: Programs, tmp_path: Path, points: dict[str, Point]
) -> None:
    wide, narrow = (
        programs.evaluate(kernel, list(points.values()), tmp_path) for kernel in ("avx512", "avx2")
    )
    if [["unusable"]] in (wide, narrow):
        pytest.skip("this machine has no AVX-512")
    assert [name for name, a, b in zip(points, wide, narrow, strict=True) if a != b] == []


@pytest.mark.parametrize("kernel", ["native", "portable"])
def test_kernel_equals_scipy(programs: Programs, tmp_path: Path, kernel: str) -> None:
    points = random_points() | grouped_points() | noisy_points()
    lines = programs.evaluate(kernel, list(points.values()), tmp_path)
    for (name, p), line in zip(points.items(), lines, strict=True):
        _, value, gradient = numbers(line)
        expected_value, expected, terms = reference(p)
        assert value == pytest.approx(expected_value, rel=1e-9), name
        bound = 1e-8 * np.maximum(np.abs(expected), terms) + NOTHING
        assert (np.abs(gradient - expected) <= bound).all(), name


def test_a_component_of_weight_zero_has_a_finite_gradient(
    programs: Programs, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    points = [
        replace(random_point(rng, kind, 500, 2, 3), weights=np.array(w))
        for kind in COVARIANCE_TYPES
        for w in ([0.0, 0.25, 0.75], [1e-310, 0.5, 0.5], [0.0, 0.0, 1.0])
    ]
    points += [
        replace(p.with_noise(rng), weights=np.array(w))
        for p in points[:3]
        for w in ([0.2, 0.3, 0.5, 0.0], [0.0, 0.3, 0.5, 0.2])
    ]
    points += [p.grouped(rng, 0.2, 0.0) for p in points]
    for p, line in zip(points, programs.evaluate("native", points, tmp_path), strict=True):
        _, value, gradient = numbers(line)
        expected_value, expected, terms = reference(p)
        assert value == pytest.approx(expected_value, rel=1e-9)
        assert (np.abs(gradient - expected) <= 1e-8 * np.maximum(np.abs(expected), terms)).all()


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("field", ["means", "scales"])
def test_a_component_too_far_for_doubles_only_rules_itself_out(
    programs: Programs, tmp_path: Path, kind: str, field: str
) -> None:
    p = random_point(np.random.default_rng(4), kind, 300, 3, 2)
    array = getattr(p, field).copy()
    array[0] = {"means": 1e308, "scales": 1e-200}[field]  # squared distances are no doubles
    alone = replace(p, weights=p.weights[1:], means=p.means[1:], scales=p.scales[1:])
    alone = replace(alone, corr_chol=p.corr_chol[1:])
    lines = programs.evaluate("native", [replace(p, **{field: array}), alone], tmp_path)
    (_, value, gradient), (_, expected, expected_gradient) = map(numbers, lines)
    assert value == pytest.approx(expected, rel=TOLERANCE)
    assert np.isfinite(gradient).all()
    assert (gradient[2:5] == 0).all()
    assert gradient[5:8] == pytest.approx(expected_gradient[1:4], rel=TOLERANCE)


def impossible_points() -> dict[str, Point]:
    p = random_point(np.random.default_rng(5), "full", 200, 2, 2)

    def changed(name: str, index: tuple[int, ...], value: float) -> Point:
        array = getattr(p, name).copy()
        array[index] = value
        return replace(p, **{name: array})

    return {
        "weights": changed("weights", (0,), np.nan),
        "means": changed("means", (1, 0), np.inf),
        "scales": changed("scales", (0, 1), 0.0),
        "scales, negative": changed("scales", (0, 1), -1.0),
        "scales, infinite": changed("scales", (1, 1), np.inf),
        "scales, NaN": changed("scales", (1, 1), np.nan),
        "corr_chol": changed("corr_chol", (0, 1, 0), np.nan),
        "corr_chol, singular": changed("corr_chol", (0, 1, 1), 0.0),
        "-inf": changed("x", (100, 1), 1e200),
        "-inf, data": changed("x", (199, 0), np.nan),
        "-inf, a known component of weight zero": replace(
            p.grouped(np.random.default_rng(6), 0.1, 0.1), weights=np.array([0.0, 1.0])
        ),
    }


@pytest.mark.parametrize(("name", "p"), impossible_points().items())
def test_an_impossible_point_is_rejected_with_its_reason(
    programs: Programs, tmp_path: Path, name: str, p: Point
) -> None:
    (line,) = programs.evaluate("native", [p], tmp_path)
    assert line[:2] == ["error", "-inf"]
    assert name.split(",")[0] in " ".join(line[2:])


# ---- the transform to Cholesky factors ---------------------------------------------------------


def factor_and_log_jacobian(y: np.ndarray, d: int) -> tuple[np.ndarray, complex]:
    """Stan's definition (Stan reference manual, "Cholesky factors of correlation matrices")."""
    factor = np.zeros((d, d), dtype=complex)
    factor[0, 0] = 1
    log_jacobian, numbers = 0j, iter(y)
    for i in range(1, d):
        rest = 1 + 0j  # 1 - the squares so far, as a product: a difference would lose its digits
        for j in range(i):
            number = next(numbers)
            if j:
                log_jacobian += 0.5 * np.log(rest)
            log_jacobian -= 2 * np.log(np.cosh(number))
            factor[i, j] = np.tanh(number) * np.sqrt(rest)
            rest /= np.cosh(number) ** 2
        factor[i, i] = np.sqrt(rest)
    return factor, log_jacobian


@pytest.mark.parametrize("d", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("size", [0.0, 1e-9, 0.3, 1.0, 2.0])
def test_the_transform_to_a_cholesky_factor(
    programs: Programs, tmp_path: Path, d: int, size: float
) -> None:
    rng = np.random.default_rng(d)
    # Correlations near 1 would lose digits, in Stan's steps as in these.
    y = size / np.sqrt(d) * rng.normal(size=d * (d - 1) // 2)
    c = rng.normal(size=(d, d))
    (tmp_path / "transform").write_text(" ".join(map(repr, [d, *y.tolist(), *c.ravel().tolist()])))
    command = [programs.driver, "factor", tmp_path / "transform"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    actual = np.array(words, dtype=float)
    value, factor, rest = actual[0], actual[1 : 1 + d * d].reshape(d, d), actual[1 + d * d :]
    with_jacobian, without, (nodes, same_bits) = rest[: len(y)], rest[len(y) : -2], rest[-2:]
    expected_factor, expected_value = factor_and_log_jacobian(y, d)
    assert value == pytest.approx(expected_value.real, rel=1e-12, abs=1e-12)
    assert factor == pytest.approx(expected_factor.real, rel=1e-12, abs=0)
    for k in range(len(y)):
        step = y.astype(complex)
        step[k] += 1e-200j
        moved, log_jacobian = factor_and_log_jacobian(step, d)
        terms = c * moved.imag * 1e200
        bound = 1e-12 * (np.abs(terms).sum() + d)
        assert abs(without[k] - terms.sum()) < bound
        assert abs(with_jacobian[k] - terms.sum() - log_jacobian.imag * 1e200) < bound
    assert nodes <= 3  # Stan's own makes half a dozen of every element
    assert same_bits == 1  # of the factor that is written as the draw


# ---- threads and sampling ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    ["100000 2 3 1 0", "20000 8 4 1 0", "50000 5 6 0 0", "3000 12 3 1 0", "40000 7 3 1 300"],
)
def test_results_are_the_same_bits_on_any_number_of_threads(
    programs: Programs, problem: str
) -> None:
    def run(program: Path, threads: int) -> str:
        command = [str(program), str(threads), *problem.split()]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    single = run(programs.unthreaded, 1)
    assert single.count(" ") > 10
    assert {run(programs.threaded, threads) for threads in (1, 2, 3)} == {single}


def stan_data(covariance_type: str) -> dict[str, Any]:
    rng = np.random.default_rng(11)
    n, d, k = 150, 2, 2
    x = np.array([[-2.0, 0.0], [2.0, 1.0]])[rng.integers(k, size=n)] + rng.normal(0, 1, (n, d))
    components = 1 if covariance_type in ("tied", "tied_diag", "tied_spherical") else k
    features = 1 if covariance_type.endswith("spherical") else d
    return {
        "N": n, "D": d, "K": k, "x": x, "n_sample_weights": 0, "sample_weight": [],
        **group_data((), d), "noise": 0, "noise_log_density": [],
        "scale_components": components, "scale_features": features,
        "n_correlations": {"full": k, "tied": 1, "tied_correlation": 1}.get(covariance_type, 0),
        "weights_concentration": np.full(k, 2.0),
        "means_location": np.zeros((k, d)), "means_scale": np.full((k, d), 4.0),
        "scale_family": 1, "scale_shape": np.zeros((components, features)),
        "scale_scale": np.ones((components, features)), "scale_floor": np.full(features, 0.1),
        "correlation_shape": 2.0, "means_relative": [0, 0], "pivot": np.zeros((k, d)),
        "use_prior": 1, "use_likelihood": 1,
    }  # fmt: skip


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_nuts_takes_the_same_steps_on_both_kernels(
    programs: Programs, tmp_path: Path, covariance_type: str
) -> None:
    # A short warm-up: adaptation doubles a difference in the last bit with every transition.
    data = stan_data(covariance_type)
    start = {
        "weights": [0.5, 0.5],
        "location": [[-2.0, 0.0], [2.0, 1.0]],
        "excess": np.ones((data["scale_components"], data["scale_features"])).tolist(),
        "corr_chol": [np.eye(2).tolist()] * data["n_correlations"],
    }
    draws = {}
    for kernel, model in programs.models.items():
        fit = model.sample(
            data, chains=1, seed=5, iter_warmup=20, iter_sampling=80, save_warmup=True, inits=start,
            step_size=0.1, output_dir=tmp_path / kernel, sig_figs=15, show_progress=False,
        )  # fmt: skip
        draws[kernel] = fit.draws_pd(inc_warmup=True)
    native, portable = draws["native"], draws["portable"]
    assert len(native) == 100
    assert native["n_leapfrog__"].max() > 5
    assert (native["n_leapfrog__"] == portable["n_leapfrog__"]).all()
    assert native["lp__"].to_numpy() == pytest.approx(portable["lp__"].to_numpy(), rel=1e-8)
    assert (native["log_likelihood"] - portable["log_likelihood"]).abs().max() < 1e-6
