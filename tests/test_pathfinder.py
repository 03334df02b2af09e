"""Pathfinder and Stan's Laplace: refused where CmdStan is too old, asked and read where it is not.

The CmdStan of the tests is 2.27, which has neither. A script stands in for a newer one's model: it
answers cmdstanpy's commands with the CSV files that a test lays out. Stan's own algorithms run in
`stan_versions/services.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stangmm as sg
from stangmm.cmdstan.compile import CompiledModel
from stangmm.cmdstan.find import CmdStan
from stangmm.methods.psis import pareto_k
from stangmm.methods.stan.laplace import StanLaplace
from stangmm.methods.stan.pathfinder import Pathfinder
from stangmm.methods.stan.recent import RecentStanMethod

METHODS = [Pathfinder, StanLaplace]
X = np.random.default_rng(1).normal(size=(40, 1))  # K = 1: no labels, three columns
COLUMNS = ["weights.1", "means.1.1", "scales.1.1", "log_likelihood"]

# A shell finds the interpreter: in a first line of its own, a path must not have blanks.
STAND_IN = f"""#!/bin/sh
"exec" "{sys.executable}" "$0" "$@"
import json, pathlib, shutil, sys
words = sys.argv[1:]
if words == ["info"]:
    print("stan_version_major = 2\\nstan_version_minor = 35\\nstan_version_patch = 0")
    sys.exit(0)
here = pathlib.Path(__file__).parent
out = pathlib.Path(next(w for w in words if w.startswith("file=") and w.endswith(".csv"))[5:])
method = next(w for w in words if w.startswith("method="))[7:]
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
answer = here / f"{{method}}-{{out.parent.name}}.csv"
if not answer.exists():
    answer = here / f"{{method}}.csv"
if not answer.exists():
    print("Error: nothing to answer")
    sys.exit(70)
shutil.copy(answer, out)
"""


class NewerStan:
    """The stand-in: what was asked of it, and what it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exe = folder / "gaussian_mixture"
        self.exe.write_text(STAND_IN)
        self.exe.chmod(0o755)

    def answers(self, name: str, columns: list[str], rows: np.ndarray) -> None:
        lines = [",".join(columns), *(",".join(map(repr, row)) for row in rows.tolist())]
        text = "# stan_version_major = 2\n# model = gaussian_mixture_model\n"
        (self.folder / f"{name}.csv").write_text(text + "\n".join(lines) + "\n")

    @property
    def calls(self) -> list[list[str]]:
        lines = (self.folder / "calls.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewerStan:
    stan = NewerStan(tmp_path)
    compiled = CompiledModel(stan.exe, "portable", CmdStan(tmp_path, (2, 35, 0)), threads=False)
    monkeypatch.setattr(RecentStanMethod, "compiled", lambda *_: compiled)
    return stan


def draws_of(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters near the posterior of X in standardized units, and log p and log q of them."""
    rng = np.random.default_rng(seed)
    means, log_scales = rng.normal(0.0, 0.16, n), rng.normal(0.0, 0.11, n)
    log_q = -0.5 * ((means / 0.16) ** 2 + (log_scales / 0.11) ** 2)
    log_p = log_q + rng.normal(0.0, 0.1, n)
    table = np.column_stack([np.ones(n), means, np.exp(log_scales), np.full(n, -50.0)])
    return table, log_p, log_q


def written(call: list[str]) -> str:
    """The CSV file that a call writes."""
    return next(w for w in call if w.startswith("file=") and w.endswith(".csv"))[5:]


def fit(method: Any) -> sg.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sg.ConvergenceWarning)
        return sg.GaussianMixture(1, "diag").fit(X, method, seed=1, progress=False)


# Too old.


@pytest.mark.stan
@pytest.mark.parametrize("method", METHODS)
def test_the_cmdstan_of_the_tests_is_refused_before_anything_starts(
    method: type[RecentStanMethod], monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(sg.ModelError) as caught:
        fit(method())
    text = str(caught.value)
    assert f'method="{method.name}" needs CmdStan 2.{method.since[1]} or newer' in text
    assert " is 2.27.0." in text
    assert "stangmm install-cmdstan --source github" in text
    assert 'method="advi"' in text


@pytest.mark.parametrize(
    ("version", "refused"), [("2.31.0", METHODS), ("2.32.2", [Pathfinder]), ("2.33.0", [])]
)
def test_each_method_says_since_when_it_is_there(
    version: str, refused: list[type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "makefile").write_text(f"CMDSTAN_VERSION := {version}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "stanc").write_text("")
    (tmp_path / "bin" / "stanc").chmod(0o755)

    class CompilingError(Exception):
        pass

    def compiling(*_: Any, **__: Any) -> None:
        raise CompilingError

    monkeypatch.setattr("stangmm.methods.stan.shared.compiled_model", compiling)
    for method in METHODS:
        with pytest.raises(sg.ModelError if method in refused else CompilingError):
            fit(method(cmdstan=tmp_path))


# What is asked of CmdStan.


def test_pathfinder_asks_for_raw_draws_of_single_paths(newer: NewerStan) -> None:
    table, log_p, log_q = draws_of(1)
    newer.answers(
        "pathfinder",
        ["lp_approx__", "lp__", *COLUMNS],
        np.column_stack([log_q, log_p, table]),
    )
    settings = Pathfinder(paths=3, draws=200, iterations=77, history=6, elbo_samples=33)
    fit(settings)
    assert len(newer.calls) == 3
    for call in newer.calls:
        asked = call[call.index("method=pathfinder") + 1 :]
        assert set(asked) == {
            "history_size=6",
            "num_psis_draws=200",
            "num_paths=1",
            "max_lbfgs_iters=77",
            "num_draws=200",
            "num_elbo_draws=33",
        }
        assert any(word.startswith("init=") for word in call)
    assert len({word for call in newer.calls for word in call if word.startswith("seed=")}) == 3


def test_laplace_asks_for_the_mode_on_the_scale_of_the_approximation(newer: NewerStan) -> None:
    table, log_p, log_q = draws_of(1)
    newer.answers("optimize", ["lp__", *COLUMNS], np.column_stack([log_p, table])[:1])
    newer.answers(
        "laplace", ["log_p__", "log_q__", *COLUMNS], np.column_stack([log_p, log_q, table])
    )
    fit(StanLaplace(draws=200, tolerance=1e-7, max_iterations=99))
    optimize, laplace = newer.calls
    assert {"jacobian=1", "iter=99", "tol_obj=1e-07"} <= set(optimize)
    assert "draws=200" in laplace
    assert "jacobian=0" not in laplace  # CmdStan's default is 1
    mode = next(word for word in laplace if word.startswith("mode="))[5:]
    assert mode == written(optimize)
    assert mode != written(laplace)  # cmdstanpy names files by the second


# What is read.


def test_the_path_with_the_highest_elbo_is_kept(newer: NewerStan) -> None:
    columns = ["lp_approx__", "lp__", "path__", *COLUMNS]  # path__ since Stan 2.36
    for i, elbo in enumerate([-70.0, -60.0, -65.0]):
        table, log_p, log_q = draws_of(i)
        path = np.full(len(table), 1.0)
        newer.answers(
            f"pathfinder-{i}", columns, np.column_stack([log_q, log_p + elbo, path, table])
        )
    best = draws_of(1)
    result = fit(Pathfinder(paths=3, draws=200))
    assert result.kind == "approximation"
    assert result.shaped.batch_shape == (1, 200)
    np.testing.assert_allclose(result.means[0, 0], X.mean() + X.std() * best[0][:, 1].mean())
    np.testing.assert_allclose(result.info.log_p - result.info.log_q, best[1] - best[2] - 60.0)


def test_paths_that_fail_are_left_out_and_if_all_do_that_is_an_error(newer: NewerStan) -> None:
    with pytest.raises(sg.InferenceError, match="None of 2 paths") as caught:
        fit(Pathfinder(paths=2))
    assert "nothing to answer" in str(caught.value.log)
    table, log_p, log_q = draws_of(1)
    columns = ["lp_approx__", "lp__", *COLUMNS]
    newer.answers("pathfinder-1", columns, np.column_stack([log_q, log_p, table]))
    assert fit(Pathfinder(paths=2)).mixture.batch_shape == (200,)


@pytest.mark.parametrize("method", METHODS)
def test_k_hat_and_resampling_take_the_two_log_densities(
    method: type[RecentStanMethod], newer: NewerStan
) -> None:
    """Draws from a normal that is too wide by half: weights bring the standard deviation back."""
    n = 4000
    z = 1.5 * np.random.default_rng(3).normal(size=n)
    log_p, log_q = -0.5 * z**2, -0.5 * (z / 1.5) ** 2
    table = np.column_stack([np.ones(n), 0.1 * z, np.ones(n), np.full(n, -50.0)])
    newer.answers("optimize", ["lp__", *COLUMNS], np.column_stack([log_p, table])[:1])
    newer.answers(
        "laplace", ["log_p__", "log_q__", *COLUMNS], np.column_stack([log_p, log_q, table])
    )
    newer.answers(
        "pathfinder", ["lp_approx__", "lp__", *COLUMNS], np.column_stack([log_q, log_p, table])
    )
    result = fit(method())
    assert pareto_k(result.info) < 0.5
    corrected = result.resample(seed=1)
    assert result.mixture.means.std() == pytest.approx(0.15 * X.std(), rel=0.05)
    assert corrected.mixture.means.std() == pytest.approx(0.10 * X.std(), rel=0.05)


def test_a_mode_without_curvature_is_an_error(newer: NewerStan) -> None:
    table, log_p, _ = draws_of(1)
    newer.answers("optimize", ["lp__", *COLUMNS], np.column_stack([log_p, table])[:1])
    nothing = np.full((5, 6), np.nan)
    newer.answers("laplace", ["log_p__", "log_q__", *COLUMNS], nothing)
    with pytest.raises(sg.InferenceError, match="no maximum where the search ended"):
        fit(StanLaplace(draws=5))


@pytest.mark.parametrize(
    "settings",
    [
        lambda: Pathfinder(paths=0),
        lambda: Pathfinder(draws=1),
        lambda: Pathfinder(iterations=0),
        lambda: Pathfinder(history=0),
        lambda: Pathfinder(elbo_samples=0),
        lambda: StanLaplace(draws=1),
        lambda: StanLaplace(tolerance=0.0),
        lambda: StanLaplace(max_iterations=0),
        lambda: StanLaplace(kernel="fast"),
    ],
)
def test_settings_are_checked_when_made(settings: Any) -> None:
    with pytest.raises(sg.ModelError):
        settings()
