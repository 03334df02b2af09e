"""The demo: EM, optimize, ADVI and NUTS on one model, for galaxies and for Old Faithful."""

from pathlib import Path

import stangmm as sg

OUT = Path("out")


def main() -> None:
    OUT.mkdir(exist_ok=True)
    tasks = {
        "galaxies": (sg.datasets.galaxies(), sg.GaussianMixture(3, "diag")),
        "faithful": (sg.datasets.faithful(), sg.GaussianMixture(2, "full")),
    }
    for name, (data, model) in tasks.items():
        comparison = sg.compare(model, data, methods=["em", "optimize", "advi", "nuts"], seed=1)
        print(f"\n{name}: {comparison!r}")
        for method, note in comparison.table["note"].items():
            if note:
                print(f"  {method}: {note}")
        print("report:", comparison.report(OUT / f"compare_{name}.html"))


if __name__ == "__main__":
    main()
