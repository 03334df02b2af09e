"""Leapfrog steps that NUTS takes, warm-up and draws: with Stan's default start and with ours.

Counts do not depend on how busy the machine is. Both start at the same points; "default" is Stan's
unit metric and 1000 iterations of warm-up, "ours" what `NUTS()` chooses.
"""

from __future__ import annotations

import arviz as az
import numpy as np
from common import Table, argument_parser, conclude, machine

import stangmm as sg
from stangmm.cmdstan.compile import compiled_model
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.stan.shared import (
    jittered,
    plausible_starts,
    read_mixtures,
    stan_inits,
    stan_run,
)
from stangmm.model.covariance import structure_named
from stangmm.model.problem import Problem
from stangmm.posterior.relabel import relabelled


def data_sets() -> dict[str, tuple[np.ndarray, int, str]]:
    rng = np.random.default_rng(0)
    apart = np.array([[-3.0, 0.0], [0.0, 3.0], [3.0, -1.0]])[rng.integers(3, size=10_000)]
    overlapping = (2.0 * rng.normal(size=(4, 4)))[rng.integers(4, size=10_000)]
    return {
        "galaxies": (sg.datasets.galaxies().to_numpy(), 3, "diag"),
        "faithful": (sg.datasets.faithful().to_numpy(), 2, "full"),
        "N=1e4 D=2 K=3, apart": (apart + rng.normal(size=apart.shape), 3, "full"),
        "N=1e4 D=4 K=4, overlapping": (overlapping + rng.normal(size=overlapping.shape), 4, "full"),
    }


def main() -> None:
    arguments = argument_parser(__doc__).parse_args()
    columns_shown = [
        "data",
        "start",
        "warm-up",
        "steps warm-up",
        "steps draws",
        "least ESS of means",
    ]
    shown = Table([*columns_shown, "ESS per 1000 steps"], widths=[26, 16, 0, 0, 0, 0, 0])
    model, rows = compiled_model(), []
    for name, (x, k, covariance_type) in data_sets().items():
        dataset, structure = Dataset.from_input(x), structure_named(covariance_type)
        problem = Problem.build(dataset, k, structure, sg.Priors())
        run = Run(1)
        optimum = plausible_starts(problem, run)[0]
        rng = run.rng("nuts jitter")
        points = [jittered(optimum.mixture, problem, rng) for _ in range(4)]
        start = sg.NUTS()._adaptation((optimum,) * 4, problem, run, model.cmdstan.version)
        ours = {
            "metric": start.metric,
            "inv_metric": list(start.inverse_metrics),
            "iter_warmup": start.warmup,
        }
        for label, options in {"default": {"iter_warmup": 1000}, "ours": ours}.items():
            with stan_run(model, problem, "warmup") as (cmdstan, data):
                inits = stan_inits(cmdstan, points, problem)
                mcmc = cmdstan.call(
                    lambda stan, options=options, data=data, inits=inits, cmdstan=cmdstan: (
                        stan.sample(
                            data=data,
                            inits=inits,
                            seed=1,
                            chains=4,
                            save_warmup=True,
                            sig_figs=17,
                            show_progress=False,
                            output_dir=cmdstan.directory,
                            **options,
                        )
                    )
                )
                draws = np.swapaxes(mcmc.draws(inc_warmup=True), 0, 1)
                columns = tuple(mcmc.column_names)
            warmup = options["iter_warmup"]
            steps = draws[..., columns.index("n_leapfrog__")]
            kept = draws[:, warmup:]
            mixture = read_mixtures(columns, kept, problem)[0].reshape(-1)
            settled = mixture.permute(relabelled("stephens", mixture, problem.x, pivot=0))
            means = settled.reshape(4, -1).means
            ess = [
                float(az.ess(means[:, :, i, j])) for i in range(k) for j in range(means.shape[-1])
            ]
            row = {
                "data": name,
                "start": f"{label}, {options.get('metric', 'diag_e')}",
                "warmup": warmup,
                "steps_warmup": int(steps[:, :warmup].sum()),
                "steps_draws": int(steps[:, warmup:].sum()),
                "ess_means": round(min(ess)),
                "ess_per_1000_steps": round(1000 * min(ess) / float(steps.sum()), 1),
            }
            shown.row(list(row.values()))
            rows.append(row)
    conclude(arguments, machine(["stangmm", "cmdstanpy"]), rows)


if __name__ == "__main__":
    main()
