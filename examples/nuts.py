"""NUTS on Old Faithful: the posterior itself, predictions, and the way to ArviZ."""

from pathlib import Path

import stangmm as sg

OUT = Path("out")


def main() -> None:
    eruptions = sg.datasets.faithful()
    model = sg.GaussianMixture(
        n_components=2,
        covariance_type="full",
        priors=sg.Priors(scales=sg.HalfCauchy([1.0, 10.0]), correlation=sg.LKJ(2.0)),
    )
    fit = model.fit(eruptions, method=sg.NUTS(chains=4, draws=1000), seed=1)

    print(fit.summary().round(3).to_string())
    print(fit.diagnose())
    print(
        "wait after a 3-minute eruption: P(short), P(long) =", fit.predict_proba([[3.0, 65.0]])[0]
    )
    print(fit.loo())
    print(fit.to_arviz())

    OUT.mkdir(exist_ok=True)
    print("report:", fit.report(OUT / "nuts_faithful.html"))


if __name__ == "__main__":
    main()
