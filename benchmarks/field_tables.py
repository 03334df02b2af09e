"""The field trial's tables: what is best known, a row for each case, and two runs side by side."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from common import Table
from field_data import CASES, Case

Row: TypeAlias = dict[str, Any]

NEAR = 0.1  # nats below the best known that are no matter
TIED = {case.name for case in CASES if case.source.ties}


class Known:
    """The best log likelihood that any run has reached, for each case, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._best: dict[str, Row] = json.loads(path.read_text()) if path.exists() else {}

    def learn(self, row: Row) -> None:
        """Remember what a row has reached, if nothing was higher."""
        reached = [row.get("log_likelihood"), row.get("polished")]
        values = [] if row.get("degenerate") else [v for v in reached if v is not None]
        before = self.best(row)
        if values and (before is None or max(values) > before):
            by = f"{row['method']}, seed {row['seed']}"
            best = {"log_likelihood": max(values), "by": by, "digest": row["digest"]}
            self._best[row["case"]] = best
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._best, indent=1) + "\n")

    def best(self, row: Row) -> float | None:
        """The best of this row's case; None if nothing is known of these very data."""
        best = self._best.get(row["case"])
        return best["log_likelihood"] if best and best["digest"] == row.get("digest") else None

    def below(self, row: Row) -> float | None:
        """How many nats a row is below the best."""
        best, reached = self.best(row), row.get("log_likelihood")
        return None if best is None or reached is None else best - reached


def read(path: Path) -> list[Row]:
    """Rows of a file of JSON lines; its facts on the machine are left out."""
    lines = map(json.loads, path.read_text().splitlines())
    return [line for line in lines if "case" in line]


def middle(values: Sequence[float | None], form: str = ".2f") -> str:
    """Median of the values that are there, as text."""
    there = [value for value in values if value is not None]
    return format(statistics.median(there), form) if there else ""


def of_method(rows: Sequence[Row], method: str) -> list[Row]:
    return [row for row in rows if row["method"] == method]


def reason(rows: Sequence[Row]) -> str:
    """Say what failed, or what is no maximum."""
    words = [f"{row['method']}: {row['failure']}" for row in rows if row.get("failure")]
    words += [f"{row['method']}: {row['degenerate']}" for row in rows if row.get("degenerate")]
    return "; ".join(dict.fromkeys(words))[:150]


def about(case: Case, rows: Sequence[Row]) -> list[str]:
    """First cells of every table: a star is for ties."""
    shape = next((row for row in rows if "N" in row), {})
    name = case.name + "*" * case.source.ties
    return [name, *(str(shape.get(key, "")) for key in "ND"), f"{shape.get('missing', 0):.0%}"]


def sklearn_cpu(rows: Sequence[Row]) -> float | None:
    """Processor seconds of scikit-learn's 20 default starts."""
    peers = [row for row in of_method(rows, "scikit-learn") if "inits" in row]
    return peers[0]["inits"]["kmeans"]["cpu_seconds"] if peers else None


def em_cells(case: Case, rows: Sequence[Row], known: Known) -> list[str]:
    ours, peers = of_method(rows, "em"), of_method(rows, "scikit-learn")
    others = of_method(rows, "optimize")
    below = [known.below(row) for row in ours]
    cpu, theirs = [row.get("cpu_seconds") for row in ours], sklearn_cpu(rows)
    worst = max((value for value in below if value is not None), default=None)
    return [
        *about(case, rows),
        middle([known.best(row) for row in rows if "digest" in row]),
        middle(below),
        middle([worst]),
        middle([known.below(row) for row in peers]),
        middle([known.below(row) for row in others]),
        middle(cpu),
        middle([theirs]),
        middle([c / theirs for c in cpu if c and theirs]),
        middle([row.get("cpu_seconds") for row in others]),
        middle([row.get("ari") for row in ours]),
        middle([row.get("ari") for row in peers]),
        reason(rows),
    ]


def nuts_cells(case: Case, rows: Sequence[Row], known: Known) -> list[str]:
    above = [
        row["best_draw"] - best
        for row in rows
        if "best_draw" in row and (best := known.best(row)) is not None
    ]
    return [
        *about(case, rows),
        ", ".join(row.get("verdict", "no answer") for row in rows),
        ", ".join(row.get("combined", "") for row in rows),
        ", ".join(row.get("goodness_of_fit", "") for row in rows),
        *(middle([row.get(key) for row in rows], form) for key, form in NUTS_NUMBERS),
        middle(above),
        ", ".join(dict.fromkeys(check for row in rows for check in row.get("checks", []))),
        reason(rows),
    ]


NUTS_NUMBERS = (
    ("r_hat", ".3f"), ("ess_bulk", ".0f"), ("modes", ".0f"), ("divergences", ".0f"),
    ("leapfrogs", ".1f"), ("seconds", ".1f"), ("cpu_seconds", ".1f"), ("ari", ".2f"),
    ("log_evidence", ".2f"),
)  # fmt: skip


def advi_cells(case: Case, rows: Sequence[Row], known: Known) -> list[str]:
    return [
        *about(case, rows),
        ", ".join(row.get("verdict", "no answer") for row in rows),
        middle([row.get("k_hat") for row in rows]),
        " ".join(middle([row.get("ari")]) for row in rows),
        middle([row.get("cpu_seconds") for row in rows], ".1f"),
        reason(rows),
    ]


SHAPE, SHAPE_WIDTHS = ["case", "N", "D", "missing"], [24, 6, 2, 7]
HEADINGS: dict[str, tuple[list[str], list[int]]] = {
    "em": (
        [
            *SHAPE, "best known", "EM below", "worst", "sklearn below", "optimize below",
            "EM cpu s", "sklearn cpu s", "ratio", "optimize cpu s", "ARI", "sklearn ARI", "remark",
        ],
        [*SHAPE_WIDTHS, 11, 8, 8, 8, 8, 7, 7, 6, 7, 5, 5, 0],
    ),
    "nuts": (
        [
            *SHAPE, "verdict", "combined", "goodness of fit", "R-hat", "ESS", "modes", "diverg.",
            "leapfrogs", "s", "cpu s", "ARI", "evidence", "best draw above known", "checks",
            "remark",
        ],
        [*SHAPE_WIDTHS, 9, 9, 9, 6, 5, 5, 5, 6, 6, 6, 5, 9, 8, 24, 0],
    ),
    "advi": (
        [*SHAPE, "verdict", "k-hat", "ARI", "cpu s", "remark"],
        [*SHAPE_WIDTHS, 9, 6, 6, 6, 0],
    ),
}  # fmt: skip
CELLS: dict[str, Callable[[Case, Sequence[Row], Known], list[str]]] = {
    "em": em_cells,
    "nuts": nuts_cells,
    "advi": advi_cells,
}


def em_summary(rows: Sequence[Row], known: Known) -> None:
    """Say how often EM is at the best known optimum, and what it costs."""
    ours = of_method(rows, "em")
    judged = [row for row in ours if row["case"] not in TIED]
    near = [
        row
        for row in judged
        if not row.get("degenerate") and (b := known.below(row)) is not None and b <= NEAR
    ]
    failed = sum(bool(row.get("failure")) for row in ours)
    print(f"\nEM at most {NEAR} nats below the best known: {len(near)} of {len(judged)} runs")
    print(f"(cases with ties, marked *, left out). No answer: {failed} of {len(ours)} runs.")
    ratios = []
    for name in dict.fromkeys(row["case"] for row in ours):
        mine = [row for row in rows if row["case"] == name]
        theirs = sklearn_cpu(mine)
        cpu = [row["cpu_seconds"] for row in of_method(mine, "em") if "cpu_seconds" in row]
        if theirs and cpu:
            ratios.append(statistics.median(cpu) / theirs)
    if ratios:
        print("Processor seconds, EM to scikit-learn's 20 starts by k-means: median ratio ", end="")
        print(f"{statistics.median(ratios):.2f}, largest {max(ratios):.2f},", end=" ")
        print(f"above 1 on {sum(r > 1 for r in ratios)} of {len(ratios)} cases.")


def verdict_summary(rows: Sequence[Row], known: Known) -> None:
    """Count the verdicts."""
    verdicts = [row.get("verdict", "no answer") for row in rows]
    counts = {v: verdicts.count(v) for v in ("ok", "warn", "fail", "no answer")}
    print("\n" + ", ".join(f"{v}: {n}" for v, n in counts.items()) + f", of {len(rows)} runs")


SUMMARIES: dict[str, Callable[[Sequence[Row], Known], None]] = {
    "em": em_summary,
    "nuts": verdict_summary,
    "advi": verdict_summary,
}


def compare(before: Sequence[Row], after: Sequence[Row], known: Known) -> None:
    """Put two runs side by side, each with its numbers before and after."""
    for row in (*before, *after):
        known.learn(row)
    methods = dict.fromkeys(row["method"] for row in after if row["method"] != "scikit-learn")
    for method in methods:
        point = method in ("em", "optimize")
        first = ["nats below", "ARI"] if point else ["verdict", "R-hat, k-hat", "ARI"]
        print(f"\n{method}: before, after\n")
        columns = [*first, "cpu s"]
        table = Table(
            ["case", *(c for name in columns for c in (name, "after")), "cpu ratio", "remark"],
            [24, *(8 for _ in range(2 * len(columns))), 6, 0],
        )
        for case in CASES:
            sides = [
                [row for row in of_method(rows, method) if row["case"] == case.name]
                for rows in (before, after)
            ]
            if all(sides):
                table.row(compared(case, sides, known, point))
    for title, rows in (("before", before), ("after", after)):
        peers = [] if of_method(rows, "scikit-learn") else of_method(before, "scikit-learn")
        for task in SUMMARIES:
            if of_method(rows, task):
                print(f"\n{task}, {title}:", end="")
                chosen = rows if task == "em" else of_method(rows, task)
                SUMMARIES[task]([*chosen, *peers], known)


def compared(case: Case, sides: Sequence[list[Row]], known: Known, point: bool) -> list[str]:
    """Cells of one case."""
    cells: list[str] = []

    def both(cell: Callable[[list[Row]], str]) -> None:
        cells.extend(map(cell, sides))

    if point:
        both(lambda rows: middle([known.below(row) for row in rows]))
    else:
        both(lambda rows: ", ".join(row.get("verdict", "no answer") for row in rows))
        both(lambda rows: middle([row.get("r_hat", row.get("k_hat")) for row in rows], ".3f"))
    both(lambda rows: middle([row.get("ari") for row in rows]))
    both(lambda rows: middle([row.get("cpu_seconds") for row in rows]))
    cpu = [[row["cpu_seconds"] for row in rows if "cpu_seconds" in row] for rows in sides]
    ratio = statistics.median(cpu[1]) / statistics.median(cpu[0]) if all(cpu) else None
    name = case.name + "*" * case.source.ties
    return [name, *cells, middle([ratio]), reason(sides[1])]
