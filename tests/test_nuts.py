"""What only NUTS has: threads within a chain, and chains of which one fails."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import numpy as np
import psutil
import pytest
from fitting import fit_quick

import stangmm as sg

pytestmark = pytest.mark.stan


def _two_groups(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 4.0 * rng.integers(2, size=(n, 1))


def test_draws_do_not_depend_on_the_number_of_threads() -> None:
    x = _two_groups(20_000)  # enough rows that the likelihood is cut into chunks
    before = os.environ.get("STAN_NUM_THREADS")
    fits = [
        fit_quick(
            sg.GaussianMixture(2),
            x,
            sg.NUTS(chains=1, warmup=30, draws=20, threads_per_chain=threads),
        )
        for threads in (1, 2, 3)
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.mixture.means, fits[0].mixture.means)
        np.testing.assert_array_equal(other.lp, fits[0].lp)
    assert os.environ.get("STAN_NUM_THREADS") == before


def _kill_first_chain() -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "id=1" in child.cmdline():
                    time.sleep(0.2)
                    child.kill()
                    return
        time.sleep(0.01)


def test_the_chains_that_finished_come_with_the_error() -> None:
    killer = threading.Thread(target=_kill_first_chain)
    killer.start()
    settings = sg.NUTS(chains=3, warmup=200, draws=300)
    with pytest.raises(sg.InferenceError, match="CmdStan failed") as caught:
        fit_quick(sg.GaussianMixture(2), _two_groups(20_000), settings)
    killer.join()
    partial = caught.value.partial
    assert isinstance(partial, sg.Fit)
    assert partial.lp.shape == (2, 300)
    assert "2 of 3 chains finished" in caught.value.__notes__[0]
    assert caught.value.log
