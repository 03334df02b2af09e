"""Leapfrog steps that NUTS takes, warm-up and draws: with Stan's default start and with ours.

Counts do not depend on how busy the machine is. Both start at the same points; "default" is Stan's
unit metric and 1000 iterations of warm-up, "ours" what `NUTS()` chooses.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import Table, argument_parser, conclude, machine

import stangmm as sg
from stangmm.methods.stan.nuts import _Adaptation
from stangmm.methods.stan.regions import Region


@dataclass(frozen=True)
class StanDefault(sg.NUTS):
    """NUTS with Stan's own metric and warm-up."""

    def _adaptation(self, places: tuple[Region, ...], *_: Any) -> _Adaptation:
        return _Adaptation("diag_e", (np.ones(places[0].whole.space.size),) * self.chains, 1000)


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
    rows = []
    warnings.simplefilter("ignore", sg.ConvergenceWarning)
    sets = data_sets()
    chosen = ["galaxies", "faithful"] if arguments.quick else list(sets)
    for name, (x, k, covariance_type) in ((name, sets[name]) for name in chosen):
        model = sg.GaussianMixture(k, covariance_type)
        for label, nuts in {"default": StanDefault, "ours": sg.NUTS}.items():
            once = nuts(thin=1, adapt_delta=0.8, save_warmup=True)
            fit = model.fit(x, once, seed=1, progress=False)
            before, after = fit.info.warmup.sample_stats, fit.info.sample_stats
            steps = int(before["n_steps"].sum()), int(after["n_steps"].sum())
            least = fit.summary().filter(like="means", axis=0)["ess_bulk"].min()
            row = {
                "data": name,
                "start": label,
                "warmup": before["n_steps"].shape[1],
                "steps_warmup": steps[0],
                "steps_draws": steps[1],
                "ess_means": round(least),
                "ess_per_1000_steps": round(1000 * least / sum(steps), 1),
            }
            shown.row(list(row.values()))
            rows.append(row | {"seconds": fit.seconds})
    conclude(arguments, machine(["stangmm", "cmdstanpy"]), rows)


if __name__ == "__main__":
    main()
