"""How many groups of galaxies? Leave-one-out, the evidence, and an average instead of a choice."""

from pathlib import Path

import stangmm as sg

OUT = Path("out")


def main() -> None:
    galaxies = sg.datasets.galaxies()
    choice = sg.select_components(
        galaxies, range(1, 6), method="nuts", covariance_type="diag", seed=1
    )
    print(choice)

    print("\nlog evidence by bridge sampling:")
    for k, fit in choice.fits.items():
        print(f"K = {k}: {fit.log_evidence()}")

    average = sg.stack(choice.fits)
    print(f"\n{average}")

    OUT.mkdir(exist_ok=True)
    picture = OUT / "choose_components.png"
    choice.plot().figure.savefig(picture, dpi=150)
    print("picture:", picture)


if __name__ == "__main__":
    main()
