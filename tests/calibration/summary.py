"""Sum up all replications: a table of checks, facts of the run, and a picture for each method."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stangmm.base.thresholds import EFFECTIVE_FAIL, MISSED_OK, PARETO_K_OK

from . import envelopes
from .configurations import CONFIGURATIONS, Configuration
from .picture import draw_ecdf_differences
from .records import read
from .replication import LEAST_ESS, RANKED_AMONG, SETTINGS

LEVELS = (0.5, 0.9)  # of the central intervals


@dataclass(frozen=True)
class Result:
    """All replications of one configuration with one method."""

    configuration: Configuration
    starts: list[dict[str, Any]]
    records: list[dict[str, Any]]

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """Replications that did not fail, and that the method's own checks did not refuse.

        The checks know the data and not the truth, so that the ranks of what is left are uniform.
        """
        return [record for record in self.records if "ranks" in record and not _refused(record)]

    @property
    def ranks(self) -> dict[str, NDArray[np.int64]]:
        """Ranks by quantity."""
        ranked = self.ranked
        return {
            name: np.array([record["ranks"][name] for record in ranked])
            for name in (ranked[0]["ranks"] if ranked else ())
        }


def _refused(record: Mapping[str, Any]) -> bool:
    """Whether the checks of importance weights say that draws are not the posterior."""
    return "effective" in record and not (
        record["pareto_k"] < PARETO_K_OK
        and record["effective"] >= EFFECTIVE_FAIL
        and record["missed"] < MISSED_OK
    )


def load(directory: Path, method: str) -> list[Result]:
    """Read what there is of a method, in the order of the configurations."""
    results = []
    for name, configuration in CONFIGURATIONS.items():
        found = read(directory / method / f"{name}.jsonl")
        if found.by_replication:
            ordered = [found.by_replication[i] for i in sorted(found.by_replication)]
            results.append(Result(configuration, found.starts, ordered))
    return results


def table(results: Sequence[Result], method: str) -> list[dict[str, Any]]:
    """One row for each configuration and quantity.

    ``p_holm`` is adjusted for all rows of the method: any below 0.05 contradicts, at 5%, that all
    of them are calibrated. ``inside_95`` looks at one row alone, and one in twenty of them is
    outside where nothing is wrong.
    """
    rows = []
    for result in results:
        for quantity, ranks in result.ranks.items():
            p = envelopes.p_value(ranks, RANKED_AMONG)
            row: dict[str, Any] = {
                "method": method,
                "covariance_type": result.configuration.kind,
                "scale_family": result.configuration.scale_family,
                "quantity": quantity,
                "replications": len(ranks),
                "p_value": p,
                "inside_95": p > 0.05,
                "p_holm": np.nan,
            }
            for level in LEVELS:
                row[_coverage(level)] = envelopes.coverage(ranks, RANKED_AMONG, level)
            rows.append(row)
    adjusted = envelopes.holm(np.array([row["p_value"] for row in rows]))
    for row, p_holm in zip(rows, adjusted, strict=True):
        row["p_holm"] = float(p_holm)
    return rows


def statement(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all rows say together."""
    said: dict[str, Any] = {
        "checks": len(rows),
        "outside_plain_95": sum(not row["inside_95"] for row in rows),
        "expected_outside_plain_95": round(0.05 * len(rows), 1),
        "outside_adjusted_95": sum(row["p_holm"] <= 0.05 for row in rows),
        "smallest_p_value": min(row["p_value"] for row in rows),
        "smallest_p_holm": min(row["p_holm"] for row in rows),
    }
    for level in LEVELS:
        shares = np.array([row[_coverage(level)] for row in rows])
        counts = np.array([row["replications"] for row in rows])
        p = np.array(
            [
                stats.binomtest(round(share * n), n, level).pvalue
                for share, n in zip(shares, counts.tolist(), strict=True)
            ]
        )
        said[_coverage(level)] = {
            "mean": float(shares.mean()),
            "least": float(shares.min()),
            "most": float(shares.max()),
            "monte_carlo_error": float(np.sqrt(level * (1 - level) / counts.min())),
            "smallest_p_holm": float(envelopes.holm(p).min()),
        }
    return said


def facts(result: Result) -> dict[str, Any]:
    """What happened in the replications of one configuration."""
    ranked = result.ranked
    seconds = [record["seconds"] for record in result.records]
    said: dict[str, Any] = {
        "configuration": result.configuration.name,
        "replications": len(result.records),
        "failures": [
            {key: record[key] for key in ("replication", "rows", "error")}
            for record in result.records
            if "error" in record
        ],
        "mean_seconds": round(float(np.mean(seconds)), 2),
    }
    if ranked and "ess" in ranked[0]:
        said |= {
            "run_longer": sum(record["longer"] > 1 for record in ranked),
            "too_few_effective_draws": sum(record["ess"] < LEAST_ESS for record in ranked),
            "r_hat_above_1.01": sum(record["r_hat"] > 1.01 for record in ranked),
            "with_divergences": sum(record["divergent"] > 0 for record in ranked),
            "dense_metric": sum(record["dense_metric"] for record in ranked),
        }
    elif ranked:
        k = np.array([record["pareto_k"] for record in ranked])
        said |= {
            "not_converged": sum(not record["converged"] for record in ranked),
            "median_pareto_k": round(float(np.median(k)), 2),
            "pareto_k_above_0.7": int((k > 0.7).sum()),
            "refused": sum(_refused(record) for record in result.records),
        }
    return said


def summarize(directory: Path, destination: Path) -> None:
    """Write ``results.csv``, ``results.json`` and ``<method>.png``, and print the statements."""
    rows: list[dict[str, Any]] = []
    document: dict[str, Any] = {}
    for method in SETTINGS:
        results = load(directory, method)
        if not any(result.ranked for result in results):
            print(f"{method}: nothing in {directory}")
            continue
        of_method = table(results, method)
        rows += of_method
        starts = [begun for result in results for begun in result.starts]
        document[method] = {
            "statement": statement(of_method),
            "commands": _distinct(begun["command"] for begun in starts),
            "versions": _distinct(begun["versions"] for begun in starts),
            "design": starts[0]["design"],
            "configurations": [facts(result) for result in results],
        }
        draw_ecdf_differences(
            {result.configuration: result.ranks for result in results},
            destination / f"{method}.png",
            title=f"{method.upper()}: ECDF of the ranks minus that of uniform ones",
        )
        print(method, json.dumps(document[method]["statement"], indent=1))
    if not rows:
        raise SystemExit("There are no results yet: run `simulate` first.")
    _write_csv(rows, destination / "results.csv")
    text = json.dumps(document, indent=1) + "\n"
    (destination / "results.json").write_text(text, encoding="utf-8")


def _write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def _coverage(level: float) -> str:
    return f"coverage_{level:.0%}".rstrip("%")


def _distinct(values: Any) -> list[Any]:
    seen: list[Any] = []
    for value in values:
        if value not in seen:
            seen.append(value)
    return seen
