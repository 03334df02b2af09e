"""What users see first: the public names, an import that brings nothing heavy, the data sets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import stangmm as sg
from stangmm.methods import METHODS, MethodName
from stangmm.model.covariance import STRUCTURES, CovarianceType

HEAVY = ["arviz", "cmdstanpy", "jinja2", "matplotlib", "pandas", "scipy", "sklearn", "xarray"]


@pytest.mark.parametrize("name", sg.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(sg, name) is not None
    assert name in dir(sg)


def test_public_names_are_listed_once_and_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert len(sg.__all__) == len(set(sg.__all__))
    assert sg.__version__ == version("stangmm")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'GaussianMixtures'"):
        _ = sg.GaussianMixtures


def loaded_after(statement: str) -> set[str]:
    """Packages and modules that a fresh interpreter holds after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(list(sys.modules)))"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(printed.stdout))


def test_the_import_brings_nothing_heavy() -> None:
    loaded = loaded_after("import stangmm")
    assert "stangmm" in loaded
    assert not loaded.intersection(HEAVY)


def test_a_fit_by_em_imports_nothing_slow_that_it_does_not_need() -> None:
    loaded = loaded_after(
        "import stangmm as sg; sg.GaussianMixture(1).fit([1.0, 2, 4], method='em', progress=False)"
    )
    assert "scipy" in loaded
    assert not loaded.intersection(["arviz", "cmdstanpy", "matplotlib", "jinja2", "pandas"])
    assert not loaded.intersection(["scipy.ndimage", "scipy.optimize", "scipy.stats"])


def test_errors_are_value_errors_where_the_user_can_correct_a_value() -> None:
    for error in (sg.DataError, sg.ModelError):
        assert issubclass(error, sg.StangmmError)
        assert issubclass(error, ValueError)
    for error in (sg.CmdStanNotFoundError, sg.CompileError, sg.InferenceError):
        assert issubclass(error, sg.StangmmError)
        assert not issubclass(error, ValueError)
    assert issubclass(sg.ConvergenceWarning, UserWarning)


def test_a_type_checker_finds_a_misspelt_name_and_knows_what_predictions_are() -> None:
    file = Path(__file__).with_name("user_types.py")
    checked = subprocess.run(
        # With other versions of what it imports there may be errors in the package itself.
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", file],
        cwd=file.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_the_short_names_of_the_types_are_those_that_are_known() -> None:
    assert get_args(CovarianceType) == tuple(STRUCTURES)
    assert get_args(MethodName) == tuple(METHODS)


def test_galaxies_are_those_of_mass() -> None:
    velocity = sg.datasets.galaxies()["velocity_1000km_s"].to_numpy() * 1000
    # R: library(MASS); length(galaxies); mean(galaxies); range(galaxies); galaxies[78]
    assert velocity.shape == (82,)
    assert velocity.mean() == pytest.approx(20828.17, abs=0.005)
    np.testing.assert_allclose([velocity.min(), velocity.max()], [9172, 34279])
    assert velocity[77] == pytest.approx(26690)


def test_faithful_is_that_of_r() -> None:
    table = sg.datasets.faithful()
    # R: dim(faithful); colMeans(faithful); summary(faithful)
    assert table.shape == (272, 2)
    assert table.mean().iloc[0] == pytest.approx(3.487783, abs=5e-7)
    assert table.mean().iloc[1] == pytest.approx(70.89706, abs=5e-6)
    np.testing.assert_allclose(table.min(), [1.6, 43])
    np.testing.assert_allclose(table.max(), [5.1, 96])


def test_data_sets_are_fresh_copies() -> None:
    table = sg.datasets.galaxies()
    table.iloc[:] = 0
    assert sg.datasets.galaxies().to_numpy().min() > 9
