"""EM on the galaxies: many restarts, which maxima they found, and how the best one looks."""

from pathlib import Path

import stangmm as sg

OUT = Path("out")


def main() -> None:
    velocity = sg.datasets.galaxies()
    model = sg.GaussianMixture(n_components=3, covariance_type="diag")
    fit = model.fit(velocity, method=sg.EM(restarts=50), seed=1)

    print(fit)
    print(f"log likelihood {fit.total_log_likelihood.item():.4f}, BIC {fit.bic():.1f}")
    tried = len(fit.info.values)
    for optimum in fit.info.optima:
        print(f"  {optimum.restarts:3d} of {tried} restarts ended at {optimum.objective:.4f}")
    print(fit.diagnose())

    OUT.mkdir(exist_ok=True)
    print("report:", fit.report(OUT / "em_galaxies.html"))


if __name__ == "__main__":
    main()
