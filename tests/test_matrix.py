"""The versions that the tests are run with beside the pinned ones: `make matrix`."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "constraints"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_HERE = {
    "clusters",
    "dev",
    "docs",
    "gpu",
    "hub",
    "mlflow",
    "release",
}  # tools, the other engine, and what `make test-clusters` tries


def script(name: str) -> ModuleType:
    """Load a script of constraints/, which is no part of the package."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def bounds() -> dict[str, Version]:
    """Return the lower bound of each library, of all places that name it."""
    extras = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name not in NOT_HERE}
    requirements = [Requirement(line) for group in (PROJECT["dependencies"], *extras.values()) for line in group]
    found: dict[str, Version] = {}
    for one in requirements:
        (bound,) = [part for part in one.specifier if part.operator == ">="]
        assert found.setdefault(one.name.lower(), Version(bound.version)) == Version(bound.version), one.name
    return found


def test_every_lower_bound_is_among_the_lowest_versions() -> None:
    """constraints/lowest.txt has the lower bound of every library that the package names, but for PyTorch, and no other."""
    lines = [line.split("==") for line in (FOLDER / "lowest.txt").read_text(encoding="utf-8").splitlines()]
    wanted = {name: version for name, version in bounds().items() if name != "torch"}
    assert {name.lower(): Version(version) for name, version in lines} == wanted, "run `make lock`"
    assert list(script("lowest").lowest()) == ["==".join(line) for line in lines]


def test_what_is_left_out_of_the_lowest_versions_is_there() -> None:
    """A test file that is left out exists, and uses what the lowest versions do not have, or another such file."""
    matrix = script("matrix")
    modules = [path.removesuffix(".py").replace("/", ".") for path in matrix.LEFT_OUT]
    reasons = [*(name.replace("-", "_") for name in matrix.NEWEST_ONLY), *modules]
    for path in matrix.LEFT_OUT:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert any(re.search(rf"\b{re.escape(reason)}\b", text) for reason in reasons)


def test_without_pytorch_no_test_is_run_that_trains() -> None:
    """Every test file that trains a model is left out where there is no PyTorch, and what is left out trains."""
    matrix = script("matrix")
    trains = re.compile(
        r"training\.(pipeline|estimators|cli)\b|\"batchproof\.training\"|^import torch|browser\.everywhere",
        re.MULTILINE,
    )
    files = [path for folder in matrix.TESTS for path in (ROOT / folder).rglob("test_*.py")]
    training = {path for path in files if trains.search(path.read_text(encoding="utf-8"))}

    assert {path for path in training if not any(path.is_relative_to(ROOT / one) for one in matrix.TRAINED)} == set()
    assert all(any(path.is_relative_to(ROOT / one) for path in training) for one in matrix.TRAINED)


@pytest.mark.parametrize(("which", "lines"), [("newest", 1), ("lowest", 1 + len(bounds()) - 1)])
def test_pytorch_is_pinned_in_both(which: str, lines: int) -> None:
    """Neither run fetches another build of PyTorch; the lowest one has every other pin too."""
    pins = script("matrix").pins_of(which).splitlines()
    assert pins[0].startswith("torch==")
    assert len(pins) == lines
