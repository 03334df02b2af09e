"""Every picture, as a PNG of its own: Old Faithful by EM, ADVI and NUTS, iris, the choice of K."""

import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from sklearn.datasets import load_iris

import stangmm as sg

OUT = Path("out")


def main() -> None:
    eruptions = sg.datasets.faithful()
    model = sg.GaussianMixture(n_components=2)
    comparison = sg.compare(model, eruptions, seed=1)
    em, advi, nuts = (comparison.fits[method] for method in ("em", "advi", "nuts"))
    selection = sg.select_components(eruptions, range(1, 6), method="em", criterion="bic", seed=1)
    types = ["full", "tied", "diag"]
    over_types = sg.select_components(
        eruptions, range(1, 6), covariance_type=types, method="em", seed=1
    )
    models = [sg.GaussianMixture(2), sg.GaussianMixture(2, "tied"), sg.GaussianMixture(3, "tied")]
    compared = sg.compare(models, eruptions, seed=1)
    weighed = sg.select_components(
        sg.datasets.galaxies(),
        [2, 3],
        covariance_type=["full", "tied"],
        criterion="evidence",
        seed=1,
    )

    flowers = load_iris(as_frame=True).data
    iris = sg.GaussianMixture(3).fit(flowers, "em", seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five components are more than iris needs
        five = sg.GaussianMixture(5).fit(flowers, "em", seed=1)

    pictures: dict[str, Callable[[], Axes]] = {
        "density": nuts.plot.density,
        "components": em.plot.components,
        "responsibilities": nuts.plot.responsibilities,
        "partition": five.plot.partition,
        "merge_path": five.plot.merge_path,
        "forest": nuts.plot.forest,
        "profile": iris.plot.profile,
        "projection": iris.plot.projection,
        "em_path": em.plot.em_path,
        "elbo": advi.plot.elbo,
        "trace": nuts.plot.trace,
        "rank": nuts.plot.rank,
        "energy": nuts.plot.energy,
        "pairs": nuts.plot.pairs,
        "pit": nuts.plot.pit,
        "ppc": nuts.plot.ppc,
        "loo": nuts.plot.loo,
        "priors": nuts.plot.priors,
        "regression": lambda: nuts.plot.regression("waiting_min", given="eruption_min"),
        "densities": comparison.plot.densities,
        "estimates": comparison.plot.estimates,
        "time_accuracy": comparison.plot.time_accuracy,
        "selection": selection.plot,
        "selection_types": over_types.plot,
        "model_differences": compared.plot,
        "model_probabilities": weighed.posterior().plot,
        "prior_predictive": model.prior_predictive(eruptions, n=50, seed=1).plot,
    }
    OUT.mkdir(exist_ok=True)
    for name, draw in pictures.items():
        path = OUT / f"{name}.png"
        figure = draw().figure
        figure.savefig(path, dpi=160, bbox_inches="tight")
        plt.close(figure)
        print("picture:", path)


if __name__ == "__main__":
    main()
