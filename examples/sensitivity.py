"""Old Faithful in ArviZ: how much the priors matter (power-scaling), and models compared by LOO."""

import logging
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # an announcement of ArviZ 0.23
    import arviz as az
import numpy as np

import stangmm as sg

NUTS = sg.NUTS(draws=500)
IS_ARVIZ_1 = not az.__version__.startswith("0.")
PARAMETERS = ["weights", "means", "scales"]


def sensitivity(data: Any) -> float:
    """How fast the posterior moves with the prior's power, at most; 0.05 is where that matters.

    Kallioinen et al. 2024 (doi:10.1007/s11222-023-10366-5).
    """
    if IS_ARVIZ_1:
        return float(az.psense_summary(data, var_names=PARAMETERS)["prior"].max())
    by_name = az.psens(data, component="prior", var_names=PARAMETERS)
    return float(max(values.max() for values in by_name.values()))


def main() -> None:
    logging.getLogger("arviz_stats").setLevel(logging.ERROR)  # what it found is printed below
    eruptions = sg.datasets.faithful()
    default = sg.GaussianMixture(n_components=2).fit(eruptions, method=NUTS, seed=1)
    # That every kind of eruption takes about 3.5 minutes and comes after 70 is not so.
    narrow = sg.Priors(means=sg.Normal([3.5, 70.0], [0.2, 2.0]))
    wrong = sg.GaussianMixture(n_components=2, priors=narrow).fit(eruptions, method=NUTS, seed=1)
    for name, fit in (("default priors", default), ("narrow priors of the means", wrong)):
        value = sensitivity(fit.to_arviz())
        print(f"{name}: sensitivity {value:.3f}, {'too much' if value >= 0.05 else 'little'}")

    tied = sg.GaussianMixture(2, "tied").fit(eruptions, method=NUTS, seed=1)
    fits = {"default": default, "one covariance matrix": tied, "narrow priors": wrong}
    table = az.compare({name: fit.to_arviz() for name, fit in fits.items()})
    print(table[["rank", "weight"]].round(2).to_string())

    # Leave-one-out probability transforms of one feature: even, where the model is right.
    waits = default.to_arviz().sel(feature="waiting_min")
    pit = az.loo_pit(waits)["x"] if IS_ARVIZ_1 else az.loo_pit(waits, y="x")
    print("waits by tenth of their LOO-PIT:", np.histogram(pit, np.linspace(0, 1, 11))[0])


if __name__ == "__main__":
    main()
