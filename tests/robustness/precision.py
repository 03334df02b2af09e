"""Sums and densities against extended precision: PYTHONPATH=tests python -m robustness.precision.

Mixtures of up to 50 components in up to 200 features, and up to ten million rows. The reference has
long doubles (64 bits of mantissa on x86-64); it substitutes forward and adds up, and nothing else.
Directional derivatives come by a complex step, so that nothing cancels.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from kernel.points import COVARIANCE_TYPES, Point, random_point
from kernel.programs import build_driver, kernel_sources

import stangmm as sg
from stangmm.cmdstan import find_cmdstan
from stangmm.data.dataset import Dataset
from stangmm.methods.em.steps import EMSpace
from stangmm.model.covariance import structure_named
from stangmm.model.mixture import Mixture
from stangmm.model.problem import Problem

SHAPES = [  # N, D, K
    (400, 2, 3),
    (400, 20, 5),
    (300, 60, 10),
    (500, 200, 2),
    (400, 200, 50),
    (2000, 10, 50),
]
ROWS = 10_000_000


def main() -> None:
    """Print one line for each point, and one for the large data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    points = {
        f"{kind}, N={n}, D={d}, K={k}": well_conditioned(rng, random_point(rng, kind, n, d, k))
        for kind in COVARIANCE_TYPES
        for n, d, k in SHAPES
    }
    kernel = by_kernel(list(points.values()))
    print("| mixture | numpy | EM's step | kernel | its gradient |\n|---|---|---|---|---|")
    for (name, point), (value, gradient) in zip(points.items(), kernel, strict=True):
        exact = log_likelihood(point)
        direction = [rng.normal(size=a.shape) for a in parameters(point)]
        errors = [
            *(by_numpy(point) / exact - 1, by_em(name.split(",")[0], point) / exact - 1),
            value / exact - 1,
            float(np.concatenate([v.ravel() for v in direction]) @ gradient)
            / derivative(point, direction)
            - 1,
        ]
        print(
            f"| {name} | " + " | ".join(f"{abs(float(e)):.0e}" for e in errors) + " |", flush=True
        )
    print(many_rows(arguments.rows))


def well_conditioned(rng: np.random.Generator, point: Point) -> Point:
    """Give a point correlations whose matrices can be inverted in many features, too."""
    if not len(point.corr_chol):
        return point
    d = point.means.shape[1]
    factor = rng.normal(size=(len(point.corr_chol), d, 2 * d + 4))
    product = factor @ np.swapaxes(factor, 1, 2)
    root = np.sqrt(np.diagonal(product, axis1=1, axis2=2))
    chol = np.linalg.cholesky(product / (root[:, :, None] * root[:, None, :]))
    return replace(point, corr_chol=chol)


# ---- in long doubles ---------------------------------------------------------------------------


def parameters(point: Point) -> list[np.ndarray]:
    """In the order of the kernel's gradient."""
    return [point.weights, point.means, point.scales, point.corr_chol]


def log_likelihood(point: Point) -> np.longdouble:
    """Log likelihood, one component after the other."""
    return _log_likelihood(point, [a.astype(np.longdouble) for a in parameters(point)])


def derivative(point: Point, direction: list[np.ndarray]) -> np.longdouble:
    """Along a direction, by a step into the complex plane."""
    step = np.longdouble("1e-400")
    moved = [
        a.astype(np.clongdouble) + 1j * step * v.astype(np.longdouble)
        for a, v in zip(parameters(point), direction, strict=True)
    ]
    return np.longdouble(_log_likelihood(point, moved).imag / step)


def _log_likelihood(point: Point, values: list[np.ndarray]) -> np.longdouble:
    weights, means, scales, chol = values
    x = point.x.astype(np.longdouble)
    n, d = x.shape
    log_2pi = np.log(2 * np.longdouble("3.14159265358979323846264338327950288"))
    log_joint = []
    for k in range(len(weights)):
        scale = np.broadcast_to(scales[min(k, len(scales) - 1)], d)
        corr = chol[min(k, len(chol) - 1)] if len(chol) else np.eye(d, dtype=scales.dtype)
        z = (x - means[k]) / scale
        y = np.empty((d, n), dtype=scales.dtype)
        for i in range(d):
            y[i] = (z[:, i] - (corr[i, :i, None] * y[:i]).sum(axis=0)) / corr[i, i]
        log_det = np.log(scale).sum() + np.log(corr.diagonal()).sum()
        log_joint.append(np.log(weights[k]) - log_det - d * log_2pi / 2 - (y**2).sum(axis=0) / 2)
    joint = np.array(log_joint)
    top = joint.real.max(axis=0)
    return (np.log(np.exp(joint - top).sum(axis=0)) + top).sum()


# ---- by stangmm --------------------------------------------------------------------------------


def mixture_of(point: Point) -> Mixture:
    """The point's mixture, one scale for each component and feature."""
    k, d = point.means.shape
    chol = np.broadcast_to(point.corr_chol, (k, d, d)) if len(point.corr_chol) else None
    scales = np.broadcast_to(point.scales, (k, d)).copy()
    return Mixture(point.weights, point.means, scales, chol)


def by_numpy(point: Point) -> float:
    """As predictions have it."""
    return float(mixture_of(point).log_density(point.x).sum())


def by_em(covariance_type: str, point: Point) -> float:
    """As EM's step has it."""
    structure = structure_named(covariance_type)
    k = len(point.weights)
    problem = Problem.build(Dataset.from_input(point.x), k, structure, sg.Priors())
    space = EMSpace(problem)
    start = space.parameters_of(problem.from_user_units(mixture_of(point)))
    return float(space.expectation(start)[0][0] + problem.log_likelihood_offset)


def by_kernel(points: list[Point]) -> list[tuple[float, np.ndarray]]:
    """Values and gradients by the native kernel, as Stan calls it."""
    cmdstan = find_cmdstan().path
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kernel_sources(cmdstan, folder)
        program, file = build_driver(cmdstan, folder, "driver", "kernel_driver.cpp"), folder / "in"
        file.write_text("\n".join(point.text() for point in points))
        done = subprocess.run([program, "native", file], check=True, capture_output=True, text=True)
    lines = [np.array(line.split(" "), dtype=float) for line in done.stdout.splitlines()]
    return [(float(line[1]), line[2:]) for line in lines]


def many_rows(n: int) -> str:
    """Fit ten million rows by EM, and add up their log densities in long doubles."""
    rng = np.random.default_rng(2)
    x = np.where(rng.random(n) < 0.3, rng.normal(0, 1, n), rng.normal(4, 2, n))[:, np.newaxis]
    began = time.process_time()
    fit = sg.GaussianMixture(2, "diag").fit(x, "em", seed=1, progress=False)
    seconds = time.process_time() - began
    w, m = fit.weights.astype(np.longdouble), fit.means[:, 0].astype(np.longdouble)
    s = fit.scales[:, 0].astype(np.longdouble)
    total = np.longdouble(0)
    root = np.sqrt(2 * np.longdouble("3.14159265358979323846264338327950288"))
    for block in np.array_split(x[:, 0], 100):
        z = (block[:, np.newaxis].astype(np.longdouble) - m) / s
        total += np.log((w / (s * root) * np.exp(-(z**2) / 2)).sum(axis=1)).sum()
    error = abs(float(fit.total_log_likelihood.item() / total - 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{n:,} rows, K=2: weights {fit.weights.round(4).tolist()}, means "
        f"{fit.means[:, 0].round(4).tolist()}, scales {fit.scales[:, 0].round(4).tolist()}; log "
        f"likelihood off by {error:.0e} of itself; {seconds:.0f} s of a processor, peak {peak:.1f} GB"
    )


if __name__ == "__main__":
    main()
