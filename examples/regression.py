"""How long until the next eruption? Regression by a mixture, with intervals, and missing values."""

from pathlib import Path

import numpy as np

import stangmm as sg

OUT = Path("out")


def main() -> None:
    eruptions = sg.datasets.faithful()
    fit = sg.GaussianMixture(n_components=2).fit(eruptions, method="nuts", seed=1)

    minutes = np.array([2.0, 3.0, 4.0, 5.0])
    wait = fit.conditional({"eruption_min": minutes})
    means, least, most = wait.mean(interval=0.9)
    soonest, latest = wait.interval(0.9)
    print("wait (minutes) after an eruption of so many minutes:")
    for i, length in enumerate(minutes):
        print(
            f"  {length:.0f}: mean {means[i, 0]:.1f} (90% sure that it is {least[i, 0]:.1f} to "
            f"{most[i, 0]:.1f}), 9 of 10 waits {soonest[i, 0]:.1f} to {latest[i, 0]:.1f}"
        )
    print("the middle of all waits:", fit.marginal("waiting_min").quantile(0.5).round(1))

    unseen = eruptions.head(4).copy()
    unseen.loc[[0, 2], "waiting_min"] = np.nan
    print(fit.impute(unseen).round(1).to_string())

    OUT.mkdir(exist_ok=True)
    picture = OUT / "regression.png"
    fit.plot.regression("waiting_min", given="eruption_min").figure.savefig(picture, dpi=150)
    print("picture:", picture)


if __name__ == "__main__":
    main()
