"""Dask: data that come chunk by chunk, and many fits on the workers of a real cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import psutil
import pytest

import stangmm as sg
from stangmm.base import memory
from stangmm.base.tasks import Workers, run_tasks
from stangmm.data.dataset import Dataset
from stangmm.methods.base import Run
from stangmm.methods.draws import Draws
from stangmm.model.problem import Problem

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("dask.distributed")

NAMES = ["height", "width"]
CENTERS, OFFSET = np.array([[0.0, 0.0], [3.0, 3.0], [6.0, -2.0]]), np.array([1000.0, -5.0])
SETTINGS = sg.EM(restarts=8)


def blobs(n: int) -> np.ndarray:
    """Three clusters of known shape, far from zero."""
    rng = np.random.default_rng(1)
    z = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    scales = np.array([[1.0, 0.5], [0.7, 1.0], [1.5, 1.0]])
    return CENTERS[z] + scales[z] * rng.normal(size=(n, 2)) + OFFSET


ROWS = blobs(70_000)  # more than a sample has


def arrays() -> Any:
    """In chunks of unequal size, which part the features, too."""
    return da.from_array(ROWS, chunks=(20_001, 1))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    dask.config.set({"distributed.scheduler.allowed-failures": 1})
    with distributed.LocalCluster(processes=True, **options) as made, made.get_client() as client:
        yield client


@pytest.fixture(scope="module")
def in_memory() -> sg.Fit:
    return sg.GaussianMixture(3).fit(ROWS, SETTINGS, seed=1, progress=False)


# ---- rows in chunks --------------------------------------------------------------------------


def test_em_on_a_cluster_reaches_the_optimum_that_it_reaches_in_memory(
    cluster: Any, in_memory: sg.Fit
) -> None:
    fit = sg.GaussianMixture(3).fit(arrays(), SETTINGS, seed=1, progress=False)
    expected = in_memory.total_log_likelihood.item()
    assert fit.total_log_likelihood.item() == pytest.approx(expected, rel=1e-10)
    assert fit.bic() == pytest.approx(in_memory.bic(), rel=1e-10)
    assert fit.icl() == pytest.approx(in_memory.icl(), rel=1e-7)
    np.testing.assert_allclose(fit.means, in_memory.means, rtol=1e-7)
    np.testing.assert_allclose(fit.covariances, in_memory.covariances, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("covariance_type", "noise"), [("tied", False), ("diag", False), ("EEV", False), ("full", True)]
)
def test_every_kind_of_model_has_the_same_optimum(covariance_type: str, noise: bool) -> None:
    rows = blobs(70_000)
    if noise:
        rows[:700] = np.random.default_rng(2).uniform(-20, 20, (700, 2)) + OFFSET
    model = sg.GaussianMixture(3, covariance_type, noise=noise)  # type: ignore[arg-type]
    init = CENTERS + OFFSET
    heights = [
        model.fit(x, "em", init=init, seed=1, progress=False).total_log_likelihood.item()
        for x in (rows, da.from_array(rows, chunks=(30_000, 2)))
    ]
    assert heights[1] == pytest.approx(heights[0], rel=1e-10)


def test_narrow_components_lose_no_digits_in_chunks() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(size=50_000), 0.3 + 1e-6 * rng.normal(size=20_000)])
    rng.shuffle(x)
    init = [[0.0], [0.3]]
    model = sg.GaussianMixture(2)
    fits = [model.fit(each, "em", init=init, seed=1, progress=False)
            for each in (x, da.from_array(x, chunks=20_000))]  # fmt: skip
    heights = [fit.total_log_likelihood.item() for fit in fits]
    assert heights[1] == pytest.approx(heights[0], rel=1e-10)
    assert fits[1].scales.min() == pytest.approx(1e-6, rel=0.02)


def powers(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return np.array(len(x)), x.sum(axis=0), x.T @ x


def test_sums_are_those_of_all_rows_and_the_same_to_the_bit(cluster: Any) -> None:
    model = sg.GaussianMixture(2)
    which = 2, model.structure, model.priors
    in_chunks = Problem.build(Dataset.from_input(arrays()), *which)
    whole = Problem.build(Dataset.from_input(ROWS), *which)
    first, second = (in_chunks.sums(powers) for _ in range(2))
    for one, other, expected in zip(first, second, whole.sums(powers), strict=True):
        assert one.tobytes() == other.tobytes()
        np.testing.assert_allclose(one, expected, rtol=1e-10, atol=1e-6)


def test_facts_of_all_rows_are_those_of_the_rows_in_memory() -> None:
    dataset, whole = Dataset.from_input(arrays()), Dataset.from_input(ROWS)
    assert dataset.n_rows == dataset.total_weight == len(ROWS)
    np.testing.assert_array_equal(dataset.range(), whole.range())
    np.testing.assert_allclose(dataset.mean_and_sd(), whole.mean_and_sd(), rtol=1e-13)


def test_the_sample_is_of_rows_at_random_and_the_same_each_time() -> None:
    n = 200_000
    column = da.arange(n, chunks=(150_000,))  # chunks of very unequal size
    one, two = (Dataset.from_input(column) for _ in range(2))
    assert one.same_as(two)
    sample = one.x[:, 0]
    assert len(np.unique(sample)) == len(sample) < n / 2
    assert (np.diff(sample) > 0).all()
    # Without replacement, so that the mean's variance is (n / m - 1) / n of that of the rows.
    error = n / np.sqrt(12) * np.sqrt((n / len(sample) - 1) / n)
    assert abs(sample.mean() - (n - 1) / 2) < 4 * error


def test_few_rows_are_read_whole_and_any_method_fits_them() -> None:
    frame = dd.from_pandas(pd.DataFrame(blobs(300), columns=NAMES), npartitions=3)
    dataset = Dataset.from_input(frame[frame["height"] > -np.inf])
    assert dataset.all_rows is None
    assert dataset.feature_names == tuple(NAMES)
    np.testing.assert_array_equal(dataset.x, blobs(300))


def test_a_fit_speaks_of_all_rows_and_says_what_shows_a_sample(tmp_path: Path) -> None:
    fit = sg.GaussianMixture(3).fit(arrays(), SETTINGS, seed=1, progress=False)
    assert "N=70000, " in repr(fit)
    assert "a random sample of 65,536 rows" in repr(fit)
    loaded = sg.load(fit.save(tmp_path / "fit.nc"))
    assert repr(loaded) == repr(fit)
    assert loaded.bic() == fit.bic()
    with pytest.raises(sg.ModelError, match=r"The file has only a sample of the 70,000 rows"):
        loaded.icl()


def test_predictions_of_dask_rows_are_lazy_and_those_of_the_rows(in_memory: sg.Fit) -> None:
    frame = pd.DataFrame(ROWS[:1000], columns=NAMES)
    for name in ("predict", "predict_proba", "log_density"):
        ask = getattr(in_memory, name)
        lazy = ask(da.from_array(ROWS[:1000], chunks=(300, 1)))
        assert isinstance(lazy, da.Array)
        assert lazy.shape == ask(ROWS[:1000]).shape
        np.testing.assert_array_equal(lazy.compute(), ask(ROWS[:1000]))
        table = ask(dd.from_pandas(frame, npartitions=3))
        assert not isinstance(table, pd.DataFrame | pd.Series)
        expected = ask(frame)
        compared = pd.testing.assert_series_equal
        if expected.ndim == 2:
            compared = pd.testing.assert_frame_equal
        compared(table.compute(), expected, check_freq=False)
    with pytest.raises(sg.DataError, match="fitted to 2 features"):
        in_memory.predict(da.zeros((10, 3)))
    with pytest.raises(sg.ModelError, match="interval cannot be used with Dask rows"):
        in_memory.predict_proba(arrays(), interval=0.9)


def bad(change: Any) -> Any:
    rows = ROWS.copy()
    change(rows)
    return da.from_array(rows, chunks=(30_000, 2))


@pytest.mark.parametrize(
    ("X", "options", "words"),
    [
        (bad(lambda x: x.__setitem__((60_000, 1), np.nan)), {}, r"In chunk 2: X must be finite"),
        (bad(lambda x: x.__setitem__(np.s_[:, 0], 1.0)), {}, r"constant \['x1'\] over 70000 rows"),
        (arrays()[:0], {}, "at least one row"),
        (arrays()[:, :, np.newaxis], {}, "must have shape"),
        (arrays(), {"sample_weight": np.ones(70_000)}, "sample_weight cannot be used with Dask"),
        (arrays(), {"missing": "marginalize"}, "cannot be used with Dask data"),
        (arrays(), {"init": np.zeros(65_536)}, r"init must be means of shape \(3, 2\), or a Fit"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_fitted_are_named(X: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(sg.DataError, match=words):
        sg.GaussianMixture(3).fit(X, "em", seed=1, progress=False, **options)


def test_methods_that_need_all_rows_at_once_read_them_if_they_fit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    many = da.arange(4_000_000, chunks=1_000_000)
    with pytest.raises(sg.ModelError, match=r"4,000,000 rows in memory needs.*method=\"em\""):
        sg.GaussianMixture(1).fit(many, "nuts", seed=1)
    monkeypatch.undo()
    np.testing.assert_array_equal(Dataset.from_input(arrays()).in_memory().x, ROWS)
    assert "70000 rows are read into memory" in caplog.text


# ---- many fits -------------------------------------------------------------------------------


def chosen_among(method: Any = "em") -> pd.DataFrame:
    data, types = sg.datasets.faithful(), ["full", "diag"]
    choice = sg.select_components(
        data, [1, 2, 3], method=method, covariance_type=types, seed=1, progress=False
    )
    return choice.table.drop(columns="seconds")


@pytest.fixture(scope="module")
def expected() -> pd.DataFrame:
    return chosen_among()


def test_fits_on_a_cluster_are_those_made_here(cluster: Any, expected: pd.DataFrame) -> None:
    data = sg.datasets.faithful()
    models = [sg.GaussianMixture(2), sg.GaussianMixture(2, "tied")]
    options: dict[str, Any] = {"seed": 1, "progress": False}
    here = sg.compare(models, data, ["em"], **options)
    folds = sg.DiscriminantAnalysis().cross_validate
    long = data["eruption_min"] > 3
    with joblib.parallel_config("dask"):
        pd.testing.assert_frame_equal(chosen_among(), expected, check_exact=True)
        there = sg.compare(models, data, ["em"], **options)
        probability = folds(data[["waiting_min"]], long, **options).probability
    assert all(fit.dataset is there.dataset for fit in there.fits.values())
    pd.testing.assert_frame_equal(
        there.table.drop(columns="seconds"), here.table.drop(columns="seconds"), check_exact=True
    )
    np.testing.assert_array_equal(
        probability, folds(data[["waiting_min"]], long, **options).probability
    )


def test_rows_in_chunks_are_fitted_one_model_after_the_other(cluster: Any) -> None:
    with joblib.parallel_config("dask"):
        choice = sg.select_components(arrays(), [1, 2], method=SETTINGS, seed=1, progress=False)
    alone = sg.GaussianMixture(1).fit(ROWS, "em", seed=1, progress=False)
    assert choice.fits[1].bic() == pytest.approx(alone.bic(), rel=1e-10)
    assert choice.n_components == 2


@dataclass(frozen=True)
class Mortal(sg.EM):
    """EM that kills its process, once, unless that is this one."""

    file: str = ""
    here: int = 0

    def run(self, problem: Problem, run: Run) -> Draws:
        if os.getpid() != self.here and not os.path.exists(self.file):
            Path(self.file).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(problem, run)


@pytest.mark.parametrize("backend", ["dask", "loky"])
def test_a_killed_process_costs_no_result(
    backend: str, cluster: Any, expected: pd.DataFrame, tmp_path: Path
) -> None:
    method = Mortal(file=str(tmp_path / "killed"), here=os.getpid())
    with joblib.parallel_config(backend, n_jobs=2):
        table = chosen_among(method)
    assert (tmp_path / "killed").exists()
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_a_task_that_always_kills_its_worker_is_an_error(cluster: Any) -> None:
    with joblib.parallel_config("dask"):
        workers = Workers.of(2)
        assert (workers.at_a_time, workers.processors) == (2, 1)
        with pytest.raises(sg.InferenceError, match="Processes were killed"):
            list(run_tasks(_die, None, [(), ()], workers))


def _die(shared: None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


PROGRAM = """
import joblib, numpy as np, stangmm as sg
from dask.distributed import LocalCluster
if __name__ == "__main__":
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(n_workers=1, **options) as made, made.get_client():
        long = sg.NUTS(chains=2, draws=1_000_000)
        x = np.random.default_rng(1).normal(size=100)
        print("began", flush=True)
        with joblib.parallel_config("dask"):
            try:
                sg.select_components(x, [1, 2], method=long, seed=1, progress=False)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
                input()
"""


def sampling(parent: int) -> list[int]:
    """Processes of CmdStan below one."""
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            found += [child.pid] * ("output" in child.cmdline())
    return found


@pytest.mark.stan
def test_an_interrupt_ends_the_fits_of_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, file], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "began\n"
            until(lambda: bool(sampling(process.pid)))
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            until(lambda: not sampling(process.pid))
            process.communicate("\n", timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0


def until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)
