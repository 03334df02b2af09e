"""The README's picture: the galaxies with the posterior mixture density, as `make picture` does."""

from pathlib import Path

import stangmm as sg


def main() -> None:
    model = sg.GaussianMixture(n_components=3, covariance_type="diag")
    fit = model.fit(sg.datasets.galaxies(), method="nuts", seed=1)
    path = Path(__file__).parent.parent / "docs" / "galaxies.png"
    path.parent.mkdir(exist_ok=True)
    fit.plot.density().figure.savefig(path, dpi=160)
    print("picture:", path)


if __name__ == "__main__":
    main()
