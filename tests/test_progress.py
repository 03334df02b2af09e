"""Progress bars: when they appear, what they say, and that they go away."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

import stangmm as sg
from stangmm.base import progress
from stangmm.base.progress import progress_bar


class Clock:
    """A clock that stands still until it is told to go."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    monkeypatch.setattr(progress, "TICK", 3600.0)  # no ticking but where a test asks for it
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    return clock


def test_short_work_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    advance = progress_bar("work", 10, shown=True)
    for _ in range(10):
        clock.now += 0.09
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_long_work_says_how_far_it_is_and_how_long_it_still_takes(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    advance = progress_bar("work", 10, shown=True)
    for _ in range(4):
        clock.now += 15.0
        advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    last = err.split("\r")[-1]
    assert last.startswith("work:  40%")
    assert "4/10" in last
    assert "01:00<01:30" in last  # six more steps of 15 seconds


def test_the_time_left_counts_the_time_between_steps(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is looked at many times in each step of 30 seconds."""
    monkeypatch.setattr(progress, "TICK", 0.002)
    advance = progress_bar("work", 5, shown=True)
    seen: list[str] = []

    def shows(what: str) -> bool:
        seen.append(capsys.readouterr().err)
        return what in "".join(seen)

    for elapsed in ("00:15", "00:30", "00:45", "01:00"):
        clock.now += 15.0
        assert wait_for(lambda: shows(f"[{elapsed}"))  # noqa: B023
        if elapsed in {"00:30", "01:00"}:
            advance(1)
    clock.now += 15.0
    assert wait_for(lambda: shows("2/5 [01:15<01:52"))
    advance(3)


def test_the_bar_disappears_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    advance = progress_bar("work", 2, shown=True)
    for _ in range(2):
        clock.now += 5.0
        advance(1)
    lines = capsys.readouterr().err.split("\r")
    assert any("50%" in line for line in lines)
    assert lines[-1].strip() == ""
    assert lines[-2].strip() == ""  # written over with spaces


def test_the_bar_disappears_when_the_work_fails(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        advance = progress_bar("work", 10, shown=True)
        clock.now += 5.0
        advance(1)
        raise ValueError

    with contextlib.suppress(ValueError):
        work()
    gc.collect()
    lines = capsys.readouterr().err.split("\r")
    assert any("10%" in line for line in lines)
    assert lines[-1].strip() == ""


def test_without_progress_nothing_is_written(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    advance = progress_bar("work", 10, shown=False)
    clock.now += 60.0
    advance(5)
    assert capsys.readouterr() == ("", "")


def test_a_log_is_not_filled_with_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error is no terminal here, and no notebook."""
    advance = progress_bar("work", 10, shown=True)
    time.sleep(1.2)
    advance(1)
    assert capsys.readouterr() == ("", "")


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true within a minute of a real clock."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_long_first_step_is_seen_before_it_is_done(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "TICK", 0.01)
    advance = progress_bar("work", 3, shown=True)
    clock.now += 30.0
    seen: list[str] = []

    def appears() -> bool:
        seen.append(capsys.readouterr().err)
        return "0/3 [00:30" in "".join(seen)

    assert wait_for(appears)
    advance(3)


def test_no_thread_outlives_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def ticking() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name == "stangmm-progress"}

    monkeypatch.setattr(progress, "TICK", 0.01)
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    before = ticking()
    finished, forgotten = (progress_bar("work", 1, shown=True) for _ in range(2))
    begun = ticking() - before
    assert len(begun) == 2
    finished(1)
    del forgotten
    assert wait_for(lambda: not begun & ticking())


def test_steps_told_by_many_threads_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    class Bar:
        """As tqdm's, with a pause where two threads would overwrite each other."""

        disable = False
        n = 0

        def __init__(self, **_: object) -> None:
            self.n = 0

        def update(self, steps: int) -> None:
            n = self.n
            time.sleep(0.001)
            self.n = n + steps

        def close(self) -> None:
            self.disable = True
            counted.append(self.n)

    monkeypatch.setattr(progress, "find_tqdm", lambda: Bar)
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    monkeypatch.setattr(progress, "TICK", 0.001)
    advance = progress_bar("work", 40, shown=True)
    threads = [threading.Thread(target=lambda: [advance(1) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [40]


def test_a_notebook_without_widgets_gets_text_and_no_warning() -> None:
    """tqdm warns when it is imported by IPython's kernel and ipywidgets is not there."""
    code = (
        "import sys, types, warnings\n"
        "warnings.simplefilter('error')\n"
        "class Kernel:\n"
        "    config = {'IPKernelApp': {}}\n"
        "shell = types.ModuleType('IPython'); shell.get_ipython = Kernel\n"
        "shell.version_info = (8, 0)\n"
        "sys.modules['IPython'] = shell\n"
        "sys.modules['ipywidgets'] = None\n"
        "sys.modules['ipykernel'] = types.ModuleType('ipykernel')\n"
        "from stangmm.base.progress import progress_bar\n"
        "progress_bar('work', 1, shown=True)(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_fit_without_progress_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    model, X = sg.GaussianMixture(2), sg.datasets.faithful()
    fit = model.fit(X, sg.EM(restarts=4), seed=1, progress=False)
    fit.predict_proba(X), fit.summary(), fit.diagnose(), fit.bic()
    assert capfd.readouterr() == ("", "")
