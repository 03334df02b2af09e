"""EM against scikit-learn's GaussianMixture: time per iteration and to the same likelihood.

Run as ``python benchmarks/em.py [--json FILE] [--quick]``. Both start at the same mixture and run
the same algorithm, on one core with one BLAS thread, in turns; the tables show medians.

Per iteration: a fixed number of E and M steps, scikit-learn's by its own ``_e_step`` and
``_m_step``, so that what its ``fit`` does besides is not held against it. To convergence:
scikit-learn's public ``fit`` with a tolerance, and stangmm from the raw table (checking and
standardizing included) until its log likelihood is at least what scikit-learn reached. Nothing is
added to the covariances (``reg_covar=0``).
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable
from typing import Any

from common import (
    FloatArray,
    Table,
    argument_parser,
    conclude,
    in_turns,
    machine,
    mixture_data,
    restart_with_one_thread,
)

restart_with_one_thread()

import numpy as np  # noqa: E402

from stangmm.data.dataset import Dataset  # noqa: E402
from stangmm.methods.base import Run  # noqa: E402
from stangmm.methods.em.algebra import EMParameters  # noqa: E402
from stangmm.methods.em.em import EM  # noqa: E402
from stangmm.methods.em.steps import EMSpace  # noqa: E402
from stangmm.model.covariance import structure_named  # noqa: E402
from stangmm.model.mixture import Mixture  # noqa: E402
from stangmm.model.priors import Priors  # noqa: E402
from stangmm.model.problem import Problem  # noqa: E402

SIZES = [(1000, 1, 2), (1000, 2, 3), (10000, 2, 3), (10000, 8, 5), (100000, 8, 5), (10000, 32, 3)]
TYPES = ["full", "tied", "diag", "spherical"]  # those of scikit-learn
TOLERANCES = [1e-3, 1e-6]  # of the mean log likelihood; the first is scikit-learn's default
SPREAD = 1.5  # of the means, in standard deviations: overlap, so that EM has some way to go
ITERATIONS = 20
MAX_ITERATIONS = 5000
AGREE = 1e-6  # relative, of the log likelihood


class Task:
    """One data set with one covariance type, and the mixture from which both start."""

    def __init__(self, n: int, d: int, k: int, covariance_type: str) -> None:
        self.x: FloatArray = mixture_data(n, d, k, spread=SPREAD)
        self.k = k
        self.covariance_type = covariance_type
        self.problem = self.build()
        # As the search has it: covariances and weights near no optimum yet.
        self.start: Mixture = EM(restarts=1).starting_points(self.problem, Run(1))[0]

    def build(self) -> Problem:
        """Check and standardize the raw table."""
        dataset = Dataset.from_input(self.x)
        return Problem.build(dataset, self.k, structure_named(self.covariance_type), Priors())

    def sklearn_mixture(self, tolerance: float = 0.0) -> Any:
        """Scikit-learn's estimator with this start."""
        from sklearn.mixture import GaussianMixture

        user = self.problem.to_user_units(self.start)
        covariance = user.covariances
        precisions = {
            "full": lambda: np.linalg.inv(covariance),
            "tied": lambda: np.linalg.inv(covariance[0]),
            "diag": lambda: 1.0 / user.scales**2,
            "spherical": lambda: 1.0 / user.scales[:, 0] ** 2,
        }[self.covariance_type]()
        return GaussianMixture(
            self.k,
            covariance_type=self.covariance_type,
            tol=tolerance,
            reg_covar=0.0,
            max_iter=MAX_ITERATIONS,
            weights_init=user.weights / user.weights.sum(),
            means_init=user.means,
            precisions_init=precisions,
        )

    def iterations(self) -> dict[str, Callable[[], float]]:
        """Run a fixed number of iterations by each; gives the log likelihood before the last."""
        space = EMSpace(self.problem)
        start = space.parameters_of(self.start)
        peer = self.sklearn_mixture()
        initialize = peer._initialize_parameters

        def ours() -> float:
            parameters: EMParameters = start
            for _ in range(ITERATIONS):
                log_likelihood, sums = space.expectation(parameters)
                parameters, _ = space.maximization(sums)
            return float(log_likelihood[0]) + self.problem.log_likelihood_offset

        def theirs() -> float:
            initialize(self.x, np.random.RandomState(0))
            for _ in range(ITERATIONS):
                bound, log_responsibilities = peer._e_step(self.x)
                peer._m_step(self.x, log_responsibilities)
            return float(bound) * len(self.x)

        return {"stangmm": ours, "scikit-learn": theirs}

    def climb(self, target: float) -> tuple[float, int]:
        """Iterate from the raw table until the log likelihood reaches a target."""
        problem = self.build()
        space = EMSpace(problem)
        parameters = space.parameters_of(self.start)
        reached, iterations = -np.inf, 0
        while reached < target and iterations < MAX_ITERATIONS:
            log_likelihood, sums = space.expectation(parameters)
            parameters, _ = space.maximization(sums)
            reached = float(log_likelihood[0]) + problem.log_likelihood_offset
            iterations += 1
        space.mixture_of(parameters)
        return reached, iterations


def per_iteration(task: Task, budget: float) -> dict[str, Any]:
    """Microseconds of one iteration."""
    functions = task.iterations()
    reached = {name: function() for name, function in functions.items()}
    seconds = in_turns(functions, budget)
    micro = {name: 1e6 * statistics.median(s) / ITERATIONS for name, s in seconds.items()}
    return {"microseconds": micro, "log_likelihood": reached}


def to_convergence(task: Task, tolerance: float, budget: float) -> dict[str, Any]:
    """Seconds until scikit-learn has converged, and until stangmm is as far."""
    peer = task.sklearn_mixture(tolerance).fit(task.x)
    theirs = float(peer.lower_bound_) * len(task.x)
    # Summed in another order, the same likelihood differs in its last digits.
    target = theirs - 1e-12 * abs(theirs)
    ours, iterations = task.climb(target)
    seconds = in_turns(
        {
            "stangmm": lambda: task.climb(target),
            "scikit-learn": lambda: task.sklearn_mixture(tolerance).fit(task.x),
            "checks": task.build,
        },
        budget,
    )
    return {
        "tolerance": tolerance,
        "milliseconds": {name: 1e3 * statistics.median(s) for name, s in seconds.items()},
        "iterations": {"stangmm": iterations, "scikit-learn": int(peer.n_iter_)},
        "converged": bool(peer.converged_),
        "log_likelihood": {"stangmm": ours, "scikit-learn": theirs},
    }


def disagreement(result: dict[str, Any]) -> str:
    """Say by how much the two likelihoods differ, if they do."""
    ours, theirs = result["log_likelihood"]["stangmm"], result["log_likelihood"]["scikit-learn"]
    apart = abs(ours - theirs) / abs(theirs)
    return "" if apart <= AGREE else f"log likelihoods differ by {apart:.1e}: {ours} and {theirs}"


def main() -> None:
    arguments = argument_parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    facts = machine(["stangmm", "numpy", "scikit-learn"])
    if facts["scikit-learn"] == "missing":
        print("scikit-learn is missing: pip install scikit-learn")
        return
    sizes = SIZES[:2] if arguments.quick else SIZES
    seconds = 0.3 if arguments.quick else 3.0
    results: list[dict[str, Any]] = []
    notes: list[str] = []
    tasks = [(n, d, k, c) for n, d, k in sizes for c in TYPES]

    def keep(result: dict[str, Any], n: int, d: int, k: int, covariance_type: str) -> None:
        result.update(N=n, D=d, K=k, covariance_type=covariance_type)
        results.append(result)
        if note := disagreement(result):
            notes.append(f"({n}, {d}, {k}) {covariance_type}: {note}")

    print(f"microseconds of one iteration, medians over runs of {ITERATIONS}\n")
    table = Table(["(N, D, K)", "type", "stangmm", "scikit-learn", "ratio"], [14, 9, 8, 8, 6])
    for n, d, k, covariance_type in tasks:
        result = per_iteration(Task(n, d, k, covariance_type), seconds)
        keep(result, n, d, k, covariance_type)
        ours, theirs = result["microseconds"]["stangmm"], result["microseconds"]["scikit-learn"]
        cells = [f"{ours:.0f}", f"{theirs:.0f}", f"{theirs / ours:.2f}"]
        table.row([f"({n}, {d}, {k})", covariance_type, *cells])

    print("\nmilliseconds to convergence, medians; iterations in brackets; checks: stangmm's part")
    print("for checking and standardizing the table, before EM\n")
    table = Table(
        ["(N, D, K)", "type", "tol", "stangmm", "scikit-learn", "ratio", "checks"],
        [14, 9, 5, 14, 14, 6, 6],
    )
    for n, d, k, covariance_type in tasks:
        task = Task(n, d, k, covariance_type)
        for tolerance in TOLERANCES:
            result = to_convergence(task, tolerance, seconds)
            keep(result, n, d, k, covariance_type)
            ms, steps = result["milliseconds"], result["iterations"]
            table.row([
                f"({n}, {d}, {k})", covariance_type, f"{tolerance:g}",
                *(f"{ms[name]:.1f} ({steps[name]})" for name in steps),
                f"{ms['scikit-learn'] / ms['stangmm']:.2f}", f"{ms['checks']:.2f}",
            ])  # fmt: skip

    if notes:
        print()
        print("\n".join(notes))
    else:
        print(f"\nBoth reach the same log likelihood everywhere (relative difference < {AGREE:g}).")
    conclude(arguments, facts, results)


if __name__ == "__main__":
    main()
