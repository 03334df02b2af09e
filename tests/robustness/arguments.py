"""Call public functions with generated arguments: python -m robustness.arguments --inputs 100000.

Whatever comes, a function answers, or raises an error of stangmm; it warns only of convergence, and
what it answers about a fit of faithful is finite where its rows are.
"""

from __future__ import annotations

import argparse
import collections
import functools
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

import stangmm as sg
from robustness.strategies import ANYTHING, TABLE, WHOLE
from stangmm.saving.tree import number_type

Draw = Callable[[Any], Any]


@functools.cache
def fits() -> tuple[sg.Fit, sg.Fit]:
    """A point estimate of faithful, and a posterior of five draws in two chains."""
    from pathlib import Path

    comparison = sg.load(Path(__file__).parents[1] / "formats" / "2.nc")
    assert isinstance(comparison, sg.Comparison)
    return comparison.fits["em"], comparison.fits["nuts"]


def _fit(draw: Draw) -> sg.Fit:
    return draw(st.sampled_from(fits()))


def _quick(draw: Draw) -> sg.EM:
    return sg.EM(restarts=draw(st.integers(1, 3)), max_iterations=50)


FUNCTIONS: dict[str, Callable[[Draw], Any]] = {
    "Dirichlet": lambda draw: sg.Dirichlet(draw(ANYTHING)),
    "Normal": lambda draw: sg.Normal(draw(ANYTHING), draw(ANYTHING)),
    "HalfCauchy": lambda draw: sg.HalfCauchy(draw(ANYTHING)),
    "HalfNormal": lambda draw: sg.HalfNormal(draw(ANYTHING)),
    "InverseGamma": lambda draw: sg.InverseGamma(draw(ANYTHING), draw(ANYTHING)),
    "LKJ": lambda draw: sg.LKJ(draw(ANYTHING)),
    "Priors": lambda draw: sg.Priors(draw(ANYTHING), draw(ANYTHING), draw(ANYTHING), resolution=draw(ANYTHING)),
    "GaussianMixture": lambda draw: sg.GaussianMixture(draw(ANYTHING), draw(ANYTHING)),
    "EM": lambda draw: sg.EM(restarts=draw(ANYTHING), tolerance=draw(ANYTHING)),
    "NUTS": lambda draw: sg.NUTS(chains=draw(ANYTHING), draws=draw(ANYTHING), adapt_delta=draw(ANYTHING)),
    "ADVI": lambda draw: sg.ADVI(algorithm=draw(ANYTHING), draws=draw(ANYTHING), tolerance=draw(ANYTHING)),
    "Optimize": lambda draw: sg.Optimize(objective=draw(ANYTHING), restarts=draw(ANYTHING)),
    "Pathfinder": lambda draw: sg.Pathfinder(paths=draw(ANYTHING), draws=draw(ANYTHING)),
    "Laplace": lambda draw: sg.Laplace(draws=draw(ANYTHING)),
    "Auto": lambda draw: sg.Auto(draws=draw(ANYTHING)),
    "StanLaplace": lambda draw: sg.StanLaplace(
        draws=draw(ANYTHING), tolerance=draw(ANYTHING)
    ),
    "predict": lambda draw: _fit(draw).predict(draw(TABLE), max_draws=draw(st.none() | WHOLE)),
    "predict_proba": lambda draw: _fit(draw).predict_proba(draw(TABLE), interval=draw(st.none() | ANYTHING)),
    "log_density": lambda draw: _fit(draw).log_density(draw(TABLE)),
    "density": lambda draw: _fit(draw).density(draw(TABLE), interval=draw(st.none() | ANYTHING)),
    "score": lambda draw: _fit(draw).score(draw(TABLE), draw(st.none() | ANYTHING)),
    "sample": lambda draw: _fit(draw).sample(draw(WHOLE | ANYTHING), draw(st.none() | ANYTHING)),
    "marginal": lambda draw: _fit(draw).marginal(draw(ANYTHING)),
    "conditional": lambda draw: _fit(draw).conditional(
        draw(st.dictionaries(st.sampled_from([0, 1, "waiting_min"]), ANYTHING, max_size=2) | ANYTHING)
    ).mean(interval=draw(st.none() | ANYTHING)),
    "quantile": lambda draw: _fit(draw).marginal(0).quantile(draw(ANYTHING)),
    "interval": lambda draw: _fit(draw).marginal([0, 1]).interval(draw(ANYTHING)),
    "conditional sample": lambda draw: _fit(draw).conditional({0: [1.0, 2.0]}).sample(
        draw(WHOLE), draw(ANYTHING)
    ),
    "impute": lambda draw: _fit(draw).impute(
        draw(TABLE), draw(st.sampled_from(["mean", "draw"]) | ANYTHING), n=draw(st.none() | WHOLE),
        seed=draw(st.none() | ANYTHING), max_draws=draw(st.none() | WHOLE),
    ),
    "select_chains": lambda draw: _fit(draw).select_chains(draw(ANYTHING)),
    "reordered": lambda draw: _fit(draw).reordered(draw(st.permutations([0, 1]) | ANYTHING)),
    "relabel": lambda draw: _fit(draw).relabel(draw(ANYTHING)),
    "resample": lambda draw: _fit(draw).resample(draw(ANYTHING), seed=draw(ANYTHING)),
    "load": lambda draw: sg.load(draw(ANYTHING.filter(lambda v: not isinstance(v, int)))),
    "stack": lambda draw: sg.stack(draw(ANYTHING)),
    "stacking_weights": lambda draw: sg.stacking_weights(draw(ANYTHING), draw(st.none() | ANYTHING)),
    "compare": lambda draw: sg.compare(draw(ANYTHING), draw(TABLE), draw(ANYTHING)),
    "methods": lambda draw: sg.compare(sg.GaussianMixture(1), [1.0, 2.0], draw(ANYTHING)),
    "select": lambda draw: sg.select_components(
        draw(TABLE), draw(ANYTHING), method="em", criterion=draw(st.none() | ANYTHING)
    ),
    "prior_predictive": lambda draw: sg.GaussianMixture(2).prior_predictive(
        draw(TABLE), draw(st.integers(1, 3) | ANYTHING), seed=draw(st.none() | ANYTHING)
    ),
    "number_type": lambda draw: _refused(number_type, draw(st.text(max_size=6))),
    "fit of a table": lambda draw: _fitted(draw, draw(TABLE)),
    "fit, arguments": lambda draw: sg.GaussianMixture(draw(st.integers(1, 2))).fit(
        sg.datasets.galaxies()[:20], _quick(draw), seed=draw(ANYTHING), missing=draw(ANYTHING),
        relabel=draw(ANYTHING), sample_weight=draw(st.none() | ANYTHING), init=draw(st.none() | ANYTHING),
        labels=draw(st.none() | ANYTHING), progress=False,
    ),
}  # fmt: skip


def _refused(function: Callable[[Any], Any], value: Any) -> None:
    try:
        function(value)
    except (ValueError, TypeError, SyntaxError):
        return


def _fitted(draw: Draw, table: Any) -> None:
    k = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["full", "tied", "diag", "spherical"]))
    missing = draw(st.sampled_from(["error", "marginalize"]))
    n = int(np.prod(getattr(table, "shape", (len(table) if isinstance(table, list) else 0,))[:1]))
    weight = draw(
        st.none() | st.lists(st.floats(0, 1e300) | st.integers(0, 3), min_size=n, max_size=n)
    )
    model = sg.GaussianMixture(k, kind)
    fit = model.fit(
        table, _quick(draw), seed=1, missing=missing, sample_weight=weight, progress=False
    )
    assert np.isfinite(fit.weights).all()
    assert np.isfinite(fit.means).all()
    assert np.isfinite(fit.scales).all()
    assert (fit.scales >= 0).all()
    assert np.isfinite(fit.total_log_likelihood).all()
    repr(fit)
    str(fit.diagnose())
    fit.summary()
    fit.predict(fit.dataset.x)


def call(name: str, draw: Draw) -> str:
    """Call a function; the kind of its answer, or an exception that nobody should see."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        warnings.simplefilter("ignore", HypothesisWarning)  # of values with long names
        warnings.filterwarnings("ignore", ".*ArviZ is undergoing.*")
        try:
            FUNCTIONS[name](draw)
        except sg.StangmmError as error:
            if len(str(error)) > 20_000:
                raise AssertionError("a message of more than 20,000 letters") from None
            return type(error).__name__
        except FileNotFoundError:
            return "no such file"
    return "answered"


def campaign(name: str, many: int, number: int, told: set[str]) -> collections.Counter[str]:
    """Call one function so often; count the kinds of answers, and print each fault once."""
    counted: collections.Counter[str] = collections.Counter()

    @seed(number)
    @settings(max_examples=many, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.data())
    def each(data: Any) -> None:
        try:
            counted[call(name, data.draw)] += 1
        except Exception as error:
            if type(error).__module__.startswith("hypothesis"):
                raise
            counted["FAULT"] += 1
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "stangmm" in f.filename and "tests" not in f.filename]
            where = f"{name}: {type(error).__name__} in " + " < ".join(
                f"{f.filename.split('/')[-1]}:{f.lineno}" for f in [frames[-1], *ours[::-1][:4]]
            )
            if where not in told:
                told.add(where)
                print(f"{where}: {str(error)[:200]!r}", flush=True)

    each()
    return counted


def main() -> None:
    """Share the inputs among the functions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--functions", nargs="*", default=list(FUNCTIONS))
    arguments = parser.parse_args()
    slow = {"fit of a table": 0.04, "fit, arguments": 0.1, "select": 0.3}  # shares of the others'
    shares = {name: slow.get(name, 1.0) for name in arguments.functions}
    told: set[str] = set()
    total: collections.Counter[str] = collections.Counter()
    for name in arguments.functions:
        many = max(1, round(arguments.inputs * shares[name] / sum(shares.values())))
        counted = campaign(name, many, arguments.seed, told)
        total += counted
        print(
            f"  {name}: " + ", ".join(f"{n} {what}" for what, n in counted.most_common()),
            flush=True,
        )
    print(sum(total.values()), "inputs:", dict(total))


if __name__ == "__main__":
    main()
