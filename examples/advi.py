"""ADVI on Old Faithful: the ELBO, the approximate posterior, and whether to believe it."""

from pathlib import Path

import stangmm as sg

OUT = Path("out")


def main() -> None:
    eruptions = sg.datasets.faithful()
    model = sg.GaussianMixture(n_components=2, covariance_type="full")
    fit = model.fit(eruptions, method="advi", seed=1)

    print(fit.summary().round(3).to_string())
    print(f"ELBO {fit.info.elbo[-1]:.1f} after {fit.info.elbo_iterations[-1]:.0f} iterations")
    print(fit.diagnose())

    OUT.mkdir(exist_ok=True)
    print("report:", fit.report(OUT / "advi_faithful.html"))


if __name__ == "__main__":
    main()
