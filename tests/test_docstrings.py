"""Every public name says what it is, with shapes and an example; the examples are run."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import stangmm as sg
from stangmm import plots
from stangmm.judge import labelling, modes
from stangmm.judge.diagnostics import Check, Diagnosis
from stangmm.methods.base import Method
from stangmm.model.priors import ScalePrior

_NEEDS_CMDSTAN = re.compile(
    r"\"(nuts|advi|optimize|pathfinder|stan_laplace)\"|sg\.(NUTS|ADVI|Optimize|Pathfinder|StanLaplace)\("
)

# Made by calls on other objects, so not among the public names of the package.
GIVEN = [Check, Diagnosis, labelling.Labelling, modes.Modes, plots.FitPlots, plots.ComparisonPlots]
GIVEN += [plots.SelectionPlots, plots.PriorPlots]


def public() -> dict[str, Any]:
    named = {f"stangmm.{name}": getattr(sg, name) for name in sg.__all__ if name != "datasets"}
    data = {
        f"stangmm.datasets.{name}": getattr(sg.datasets, name) for name in ("faithful", "galaxies")
    }
    given = {f"{each.__module__}.{each.__name__}": each for each in GIVEN}
    return named | data | given


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that stangmm itself defines, inherited ones too."""
    for name, value in inspect.getmembers_static(owner):
        own = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "func", None) or value)
        own = getattr(own, "__func__", own)
        described = callable(own) and str(getattr(own, "__module__", "")).startswith("stangmm")
        if not name.startswith("_") and described and not inspect.isclass(own):
            yield name, own


def everything() -> dict[str, Any]:
    found = {}
    for name, thing in public().items():
        found[name] = thing
        if inspect.isclass(thing):
            found |= {f"{name}.{member}": value for member, value in members(thing)}
    return found


def is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, Exception)


def parameters(thing: Any) -> list[str]:
    """Names that a docstring must explain."""
    if is_error(thing):
        return []
    try:
        signature = inspect.signature(thing)
    except ValueError:
        return []
    return [name for name in signature.parameters if name not in ("self", "cls")]


def section(doc: str, title: str) -> str | None:
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", doc, re.M | re.S)
    return match[1] if match else None


@pytest.mark.parametrize("name", everything())
def test_it_has_a_summary_of_one_line(name: str) -> None:
    doc = inspect.getdoc(everything()[name])
    assert doc
    first, *rest = doc.splitlines()
    assert first.endswith(".")
    assert not rest or rest[0] == ""


def sections_of(name: str) -> tuple[Any, str]:
    thing = everything()[name]
    return thing, inspect.getdoc(thing) or ""


# Only the package makes these: their docstrings explain what they hold, not how to make them.
MADE_INSIDE = [
    "Band",
    "Check",
    "Comparison",
    "Diagnosis",
    "Elpd",
    "Evidence",
    "Fit",
    "FitPlots",
    "Labelling",
    "Loo",
]
MADE_INSIDE += [
    "ComparisonPlots",
    "CrossValidation",
    "ManyFits",
    "DiscriminantFit",
    "MergePath",
    "Partition",
    "PriorPlots",
    "SelectionPlots",
    "MixtureDistribution",
    "Modes",
    "OutlierScore",
    "ModelComparison",
    "ModelComparisonPlots",
    "ModelPosterior",
    "PosteriorPlots",
    "Selection",
    "Stack",
]


@pytest.mark.parametrize("name", [n for n in public() if n.rpartition(".")[2] in MADE_INSIDE])
def test_its_attributes_are_explained(name: str) -> None:
    thing, doc = sections_of(name)
    text = section(doc, "Attributes") or doc.partition("\n")[0]
    fields = getattr(thing, "_fields", ())  # of a named tuple
    if dataclasses.is_dataclass(thing):
        fields = tuple(f.name for f in dataclasses.fields(thing))
    assert [field for field in fields if not re.search(rf"\b{field}\b", text)] == []


# A settings object's or a prior's methods are the package's own protocol; users make these objects
# and hand them over. Their summaries say the shapes.
_PROTOCOL = (Method, sg.Dirichlet, sg.Normal, ScalePrior, sg.LKJ)
# An argument that the summary explains alone, in words like "each row" or "a new figure".
_SAYS_ITSELF = {"X", "ax", "name", "how"}


def with_parameters() -> Iterator[str]:
    for name, thing in everything().items():
        owner = public().get(name.rpartition(".")[0])
        internal = inspect.isclass(owner) and issubclass(owner, _PROTOCOL)
        if parameters(thing) and not internal and name.rpartition(".")[2] not in MADE_INSIDE:
            yield name


@pytest.mark.parametrize("name", list(with_parameters()))
def test_its_parameters_are_explained(name: str) -> None:
    thing, doc = sections_of(name)
    text = section(doc, "Parameters")
    if text is None:
        assert set(parameters(thing)) <= _SAYS_ITSELF
        return
    explained = re.findall(r"^(\w[\w, ]*?)(?: :.*)?$", text, re.M)
    known = {word for line in explained for word in line.split(", ")}
    assert [p for p in parameters(thing) if p not in known] == []


FUNCTIONS = [name for name, thing in public().items() if inspect.isfunction(thing)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_gives_is_explained(name: str) -> None:
    assert section(sections_of(name)[1], "Returns")


@pytest.mark.parametrize(
    "name", [n for n, t in public().items() if not is_error(t) and t not in GIVEN]
)
def test_it_has_an_example(name: str) -> None:
    text = section(inspect.getdoc(public()[name]) or "", "Examples")
    assert text
    assert ">>> " in text
    assert "+SKIP" not in text


def doctests() -> list[Any]:
    finder, found = doctest.DocTestFinder(exclude_empty=True), {}
    for module in pkgutil.walk_packages(sg.__path__, "stangmm."):
        if module.name == "stangmm.sklearn":
            pytest.importorskip("sklearn")
        for test in finder.find(importlib.import_module(module.name), module.name):
            if test.examples:
                found[test.name] = test
    return [
        pytest.param(
            test,
            id=name,
            marks=[pytest.mark.stan] * any(_NEEDS_CMDSTAN.search(e.source) for e in test.examples),
        )
        for name, test in sorted(found.items())
    ]


@pytest.mark.parametrize("example", doctests())
def test_the_example_prints_what_it_says(
    example: doctest.DocTest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=flags)
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)
