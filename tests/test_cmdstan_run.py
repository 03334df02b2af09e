"""Whatever ends a run of CmdStan, no process and no file is left behind."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from cmdstanpy.utils import stancsv

from stangmm.base.environment import unchanged_environment
from stangmm.base.errors import InferenceError
from stangmm.cmdstan import cmdstan_run, compile_stan, find_cmdstan
from stangmm.cmdstan import run as run_module
from stangmm.cmdstan.watchdog import processes_using

pytestmark = pytest.mark.stan

PROGRAM = """\
data { int<lower=0, upper=1> fail; }
parameters { real x; }
model {
  if (fail) reject("told to fail");
  x ~ std_normal();
}
"""

# Four chains, two at a time, that would take hours.
ENDLESS = """\
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup, and that is inherited
from pathlib import Path
from stangmm.cmdstan import cmdstan_run
with cmdstan_run(Path(sys.argv[1]), "test") as run:
    print(run.directory, flush=True)
    run.call(lambda model: model.sample(
        data=run.write_json("data", {"fail": 0}), chains=4, parallel_chains=2,
        iter_sampling=10**9, refresh=10**9, output_dir=run.directory, show_progress=False))
"""


@pytest.fixture(scope="session")
def exe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile a small program, in the user's cache: the second time it is there."""
    file = tmp_path_factory.mktemp("stan") / "stangmm_test_run.stan"
    file.write_text(PROGRAM)
    return compile_stan(file, cmdstan=find_cmdstan(), progress=False)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have all temporary files in a folder of the test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def mentioning(text: str) -> list[psutil.Process]:
    """List the processes, the watchdog too, whose command line mentions a text."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if text in " ".join(process.cmdline()):
                found.append(process)
    return found


def start_endless(exe: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a fit that does not end, and wait until its chains run."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(exe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    directory = Path(process.stdout.readline().strip())
    wait_for(lambda: len(processes_using(directory)) == 2)
    return process, directory


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_signal_to_python_alone_leaves_no_process_and_no_file(
    end: signal.Signals, exe: Path, scratch: Path
):
    process, directory = start_endless(exe)
    try:
        assert len(mentioning(str(directory))) == 3  # two chains and the watchdog
        start = time.monotonic()
        process.send_signal(end)
        _, errors = process.communicate(timeout=90)
    finally:
        process.kill()  # where the test has failed before
    assert time.monotonic() - start < 5
    assert process.returncode != 0
    if end == signal.SIGINT:
        assert "KeyboardInterrupt" in errors
    wait_for(lambda: mentioning(str(directory)) == [])
    wait_for(lambda: list(scratch.iterdir()) == [])


def test_the_chains_of_another_run_are_left_alone(exe: Path):
    first, first_directory = start_endless(exe)
    second, second_directory = start_endless(exe)
    try:
        first.kill()
        first.communicate()
        wait_for(lambda: not first_directory.exists())
        assert len(processes_using(second_directory)) == 2
    finally:
        second.kill()
        second.communicate()
    wait_for(lambda: not second_directory.exists())


def test_a_run_that_ends_well_leaves_nothing_and_no_zombie(exe: Path, scratch: Path):
    with cmdstan_run(exe, "test") as run:
        data = run.write_json("data", {"fail": 0})
        mcmc = run.call(
            lambda model: model.sample(
                data=data, seed=1, output_dir=run.directory, show_progress=False
            )
        )
        assert mcmc.draws().shape[:2] == (1000, 4)
        assert "Elapsed Time" in run.console()
        assert mentioning(str(run.directory)) != []
    assert not run.directory.exists()
    assert mentioning(str(run.directory)) == []
    assert [child for child in psutil.Process().children() if child.status() == "zombie"] == []
    assert not [path for path in scratch.iterdir() if path.name.startswith("stangmm")]


def test_chains_that_stand_still_are_ended_and_said(exe: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_module, "IDLE_SECONDS", 3.0)

    def stop(directory: Path) -> None:
        wait_for(lambda: processes_using(directory))
        os.kill(processes_using(directory)[0], signal.SIGSTOP)

    with cmdstan_run(exe, "test") as run:
        threading.Thread(target=stop, args=(run.directory,), daemon=True).start()
        data = run.write_json("data", {"fail": 0})
        with pytest.raises(InferenceError, match="neither computed nor written"):
            run.call(
                lambda model: model.sample(
                    data=data,
                    chains=1,
                    iter_sampling=10**8,
                    refresh=10**7,
                    output_dir=run.directory,
                    show_progress=False,
                )
            )
        assert processes_using(run.directory) == []


def test_an_exception_out_of_the_callers_block_cleans_up_too(exe: Path):
    with pytest.raises(ZeroDivisionError), cmdstan_run(exe, "test") as run:
        1 / 0  # noqa: B018
    assert not run.directory.exists()
    assert mentioning(str(run.directory)) == []


def test_an_exception_while_the_chains_run_ends_them_before_the_call_is_over(exe: Path):
    def interrupt(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with cmdstan_run(exe, "test") as run:
            data = run.write_json("data", {"fail": 0})
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            with pytest.raises(InterruptedError):
                run.call(
                    lambda model: model.sample(
                        data=data,
                        chains=4,
                        parallel_chains=1,
                        iter_sampling=10**9,
                        refresh=10**9,
                        output_dir=run.directory,
                        show_progress=False,
                    )
                )
            assert processes_using(run.directory) == []
            wait_for(lambda: not [t for t in threading.enumerate() if t.name == "stangmm-cmdstan"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert mentioning(str(run.directory)) == []
    assert not run.directory.exists()


def test_a_failure_carries_what_cmdstan_printed(exe: Path):
    with cmdstan_run(exe, "test") as run:
        data = run.write_json("data", {"fail": 1})
        with pytest.raises(InferenceError, match="CmdStan failed") as error:
            run.call(
                lambda model: model.sample(
                    data=data, chains=1, output_dir=run.directory, show_progress=False
                )
            )
        assert run.directory.exists()
    assert "told to fail" in error.value.log


def test_a_mistake_of_the_caller_is_not_called_a_failure_of_cmdstan(exe: Path):
    with pytest.raises(TypeError), cmdstan_run(exe, "test") as run:
        run.call(lambda model: model.sample(no_such_argument=1))


def test_cmdstanpy_is_quiet_during_a_run_and_itself_again_afterwards(exe: Path):
    logger = logging.getLogger("cmdstanpy")
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    logger.addHandler(handler)
    try:
        before = (list(logger.handlers), logger.propagate, logger.disabled)
        with cmdstan_run(exe, "test") as run:
            data = run.write_json("data", {"fail": 1})
            with pytest.raises(InferenceError):
                run.call(
                    lambda model: model.sample(
                        data=data, chains=1, output_dir=run.directory, show_progress=False
                    )
                )
            assert "error" in run.console()
        assert shown.getvalue() == ""
        assert (list(logger.handlers), logger.propagate, logger.disabled) == before
        logger.warning("heard again")
        assert shown.getvalue() == "heard again\n"
    finally:
        logger.removeHandler(handler)


def test_runs_in_several_threads_do_not_disturb_each_other(exe: Path):
    logger = logging.getLogger("cmdstanpy")
    before = (list(logger.handlers), logger.propagate, logger.disabled)
    sums: dict[int, float] = {}

    def fit(seed: int) -> None:
        with cmdstan_run(exe, "test") as run:
            data = run.write_json("data", {"fail": 0})
            mcmc = run.call(
                lambda model: model.sample(
                    data=data,
                    chains=1,
                    iter_sampling=100,
                    seed=1 + seed % 2,
                    output_dir=run.directory,
                    show_progress=False,
                )
            )
            sums[seed] = float(mcmc.draws().sum())

    threads = [threading.Thread(target=fit, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums[0] == sums[2] != sums[1] == sums[3]
    assert (list(logger.handlers), logger.propagate, logger.disabled) == before


def test_the_guard_costs_a_fit_hardly_any_time(exe: Path):
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        with cmdstan_run(exe, "test") as run:
            run.call(lambda model: None)
        seconds.append(time.perf_counter() - start)
    # About 5 ms on an idle machine; the bound is for a busy one.
    assert min(seconds) < 0.05


def test_a_process_that_only_shows_a_file_of_the_run_is_not_one_of_its_processes(exe: Path):
    with cmdstan_run(exe, "test") as run:
        file = run.directory / "shown.txt"
        file.touch()
        pager = subprocess.Popen(["tail", "-f", str(file)], stdout=subprocess.DEVNULL)
        try:
            assert pager.pid not in processes_using(run.directory)
            assert os.getpid() not in processes_using(run.directory)
        finally:
            pager.kill()
            pager.wait()


def test_runs_that_overlap_put_the_environment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAN_NUM_THREADS", raising=False)
    first, second = (unchanged_environment("STAN_NUM_THREADS") for _ in range(2))
    first.__enter__()
    os.environ["STAN_NUM_THREADS"] = "1"
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert "STAN_NUM_THREADS" not in os.environ


FORKED = """
import multiprocessing, sys
import stangmm as sg

def fit(seed):
    settings = sg.NUTS(chains=1, draws=50, warmup=50)
    model = sg.GaussianMixture(1)
    return float(model.fit(sg.datasets.galaxies(), settings, seed=seed, progress=False).lp.sum())

fit(1)
with multiprocessing.get_context("fork").Pool(2) as pool:
    one, other = pool.map_async(fit, [2, 2]).get(120)
assert one == other
"""


def test_a_process_that_was_forked_after_a_fit_can_fit():
    """polars, which cmdstanpy takes where it is installed, would wait for ever there."""
    program = [sys.executable, "-W", "ignore", "-c", FORKED]
    subprocess.run(program, check=True, timeout=180)


@pytest.mark.parametrize("last", [1.0, -np.inf, np.nan])
def test_every_bit_of_draws_is_read(last: float, exe: Path):
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((15_000, 5)) * 10.0 ** rng.integers(-300, 300, (15_000, 5))
    draws[-1, -1] = last
    lines = [",".join(map("{:.17g}".format, row)).encode() + b"\n" for row in draws]
    with cmdstan_run(exe, "test"):
        np.testing.assert_array_equal(stancsv.csv_bytes_list_to_numpy(lines), draws)
        with pytest.raises(ValueError, match="column"):  # a line that was cut off
            stancsv.csv_bytes_list_to_numpy([*lines, b"1,2\n"])
        assert stancsv.csv_bytes_list_to_numpy([]).shape == (0, 0)


UNCHANGED = """
import os
before = dict(os.environ)
import stangmm as sg
settings = sg.NUTS(chains=1, draws=50, warmup=50)
sg.GaussianMixture(1).fit(sg.datasets.galaxies(), settings, seed=1, progress=False)
assert dict(os.environ) == before, set(os.environ) ^ set(before)
"""


def test_a_fit_leaves_the_environment_as_it_was():
    environment = {name: value for name, value in os.environ.items() if name != "CMDSTAN"}
    program = [sys.executable, "-W", "ignore", "-c", UNCHANGED]
    subprocess.run(program, check=True, timeout=180, env=environment)
