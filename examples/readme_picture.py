"""The README's picture: Old Faithful with its two components, as `make picture` does."""

from pathlib import Path

import stangmm as sg


def main() -> None:
    names = {
        "eruption_min": "length of the eruption (min)",
        "waiting_min": "wait until the next (min)",
    }
    eruptions = sg.datasets.faithful().rename(columns=names)
    fit = sg.GaussianMixture(n_components=2).fit(eruptions, method="nuts", seed=1)
    path = Path(__file__).parent.parent / "docs" / "faithful.png"
    fit.plot.density().figure.savefig(path, dpi=160)
    print("picture:", path)


if __name__ == "__main__":
    main()
