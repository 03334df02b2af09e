"""What many tests use: fits, each made once in a session when it is asked for; no CmdStan."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fitting import skip_where_lacking

import stangmm as sg
from stangmm.cmdstan.compile import CompiledModel
from stangmm.cmdstan.find import CmdStan
from stangmm.methods import METHODS
from stangmm.methods.stan.recent import RecentStanMethod

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so in a shell's background, and inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Set by stan_versions/services.py: a version, and a program that is a newer Stan's services.
if services := os.environ.get("STANGMM_STAN_SERVICES"):
    _version, _, _program = services.partition(":")
    _cmdstan = CmdStan(Path(_program).parent, tuple(map(int, _version.split("."))))
    _compiled = CompiledModel(Path(_program), "native", _cmdstan, threads=False)
    RecentStanMethod.compiled = lambda *_: _compiled  # type: ignore[method-assign]
    RecentStanMethod.check_available = lambda *_: None  # type: ignore[method-assign]


class LazyFits(Mapping[str, sg.Fit]):
    """Fits of one model to one data set by method name; a fit is made at its first use.

    There is one of every method; those that every CmdStan has are listed. NUTS draws more than by
    default, so that no check hangs on chance.
    """

    names = ("em", "optimize", "advi", "nuts")
    settings: ClassVar = METHODS | {"nuts": partial(sg.NUTS, draws=2000)}

    def __init__(self, model: sg.GaussianMixture, X: Any) -> None:
        self.model = model
        self.X = X
        self._made: dict[str, sg.Fit] = {}

    def __getitem__(self, name: str) -> sg.Fit:
        settings = self.settings[name]()
        if name not in self._made:
            skip_where_lacking(settings)
            with warnings.catch_warnings():
                if settings.kind == "approximation":  # it may say of itself that it is poor
                    warnings.simplefilter("ignore", sg.ConvergenceWarning)
                self._made[name] = self.model.fit(self.X, settings, seed=1, progress=False)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@pytest.fixture(scope="session")
def fits_galaxies() -> LazyFits:
    """Galaxies (N = 82, D = 1) with K = 3, variances free."""
    return LazyFits(sg.GaussianMixture(3, "diag"), sg.datasets.galaxies())


@pytest.fixture(scope="session")
def fits_faithful() -> LazyFits:
    """Old Faithful (N = 272, D = 2) with K = 2, covariances free."""
    return LazyFits(sg.GaussianMixture(2, "full"), sg.datasets.faithful())


@pytest.fixture(params=["galaxies", "faithful"])
def fits(request: pytest.FixtureRequest) -> LazyFits:
    value = request.getfixturevalue(f"fits_{request.param}")
    assert isinstance(value, LazyFits)
    return value


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    """Pyplot keeps figures until they are closed, and warns of many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def no_cmdstan(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A machine where looking for CmdStan or a compiler fails, and starting a process is seen."""

    def started(*args: Any, **kwargs: Any) -> None:
        pytest.fail("a process was started")

    monkeypatch.setenv("CMDSTAN", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("subprocess.Popen", started)
