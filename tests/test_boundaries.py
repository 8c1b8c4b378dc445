"""The rules of the house that no linter knows."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import SLOW
from tests.programs import command_of

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "service").rglob("*.py"), *(ROOT / "training").rglob("*.py")])
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
PACKAGE = "batchproof"
MAX_ENTRIES, MAX_ENTRIES_AT_THE_TOP = 10, 16  # files and folders of one room
ROOMS = sorted({path.parent for path in SOURCES})
HEAVY = {"batchproof.training", "torch", "onnx", "pandas", "polars", "pyarrow", "scipy", "sklearn", "safetensors"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def body_lines(function: Function) -> int:
    """Count the lines from `def` to the end, less the docstring's."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_service_starts_without_training() -> None:
    """Importing all that `batchproof serve` needs loads neither training nor any library of a heavy set."""
    code = "import sys, batchproof.service.__main__, batchproof.service.server.serving.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)

    modules = loaded.stdout.split()
    assert HEAVY.isdisjoint({*modules, *(name.partition(".")[0] for name in modules)})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_read_in_one_sitting(path: Path) -> None:
    """No file passes 300 lines and no function 50."""
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
    assert [f"{f.name}: {body_lines(f)}" for f in functions(path) if body_lines(f) > MAX_FUNCTION_LINES] == []


def entry_of(module: str, room: str) -> str | None:
    """Return the file or folder of a room that a module stands in; None for another room's, and for the room itself."""
    return module.removeprefix(f"{room}.").partition(".")[0] if module.startswith(f"{room}.") else None


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of what a file imports of this package, where it does so for more than its types."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types and (node.module or "").startswith(PACKAGE):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_is_seen_at_a_glance(room: Path) -> None:
    """No room has more than 10 files and folders, and neither `service` nor `training` more than 16."""
    files = {path.stem for path in room.glob("*.py")} - {"__init__", "__main__"}
    folders = {path.name for path in room.iterdir() if path.is_dir() and path in ROOMS}

    assert len(files) + len(folders) <= (MAX_ENTRIES if room.parent != ROOT else MAX_ENTRIES_AT_THE_TOP)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_no_imports_run_in_a_circle(room: Path) -> None:
    """The files and folders of a room can be put in an order in which each imports only those before it."""
    name = ".".join([PACKAGE, *room.relative_to(ROOT).parts])
    uses: dict[str, set[str]] = {}
    for path in room.rglob("*.py"):
        own = entry_of(".".join([PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]), name)
        others = {entry_of(module, name) for module in imported(path)} - {own, None}
        if own not in ("__init__", "__main__", None):
            uses.setdefault(own, set()).update(str(other) for other in others)

    TopologicalSorter(uses).prepare()  # raises CycleError, which names the circle


def test_functions_are_short() -> None:
    """The median function has fewer than 10 lines, and nine of ten at most 30."""
    lengths = sorted(body_lines(function) for path in SOURCES for function in functions(path))

    assert statistics.median(lengths) < 10
    assert lengths[len(lengths) * 9 // 10] <= 30


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_test_states_its_rule(path: Path) -> None:
    """Every test has a docstring, and no test is skipped or expected to fail."""
    tests = [f for f in functions(path) if f.name.startswith("test_")]

    assert [f.name for f in tests if not ast.get_docstring(f)] == []
    assert re.search(r"mark\.(skip|xfail)|pytest\.(skip|xfail)\(", path.read_text()) is None


def test_slow_tests_are_there() -> None:
    """Each path that `make quick` leaves out names a file or a folder of tests."""
    assert [name for name in SLOW if not (ROOT / "tests" / name).exists()] == []


def test_only_browser_tests_may_be_skipped() -> None:
    """No helper of the tests skips but tests/programs.py, for a machine without Chromium, and CI demands that too."""
    skips = [
        path for path in (ROOT / "tests").rglob("*.py") if re.search(r"pytest\.skip\(|importorskip", path.read_text())
    ]

    assert [path for path in skips if path != Path(__file__)] == [ROOT / "tests" / "programs.py"]
    assert "TEST_PROGRAMS=required" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(("demanded", "outcome"), [("", pytest.skip.Exception), ("required", pytest.fail.Exception)])
def test_a_missing_browser_skips_or_fails(
    monkeypatch: pytest.MonkeyPatch, demanded: str, outcome: type[BaseException]
) -> None:
    """Without Chromium a browser test is skipped with the way to run it; where it is demanded, it fails."""
    monkeypatch.setenv("TEST_PROGRAMS", demanded)
    with pytest.raises(outcome, match="make programs"):
        command_of(["no-such-browser"])


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_parameters_are_the_same_each_time(path: Path) -> None:
    """No parameter of a test holds the time: test processes collect in different seconds and must agree on the names."""
    decorators = [part for function in functions(path) for part in function.decorator_list]
    calls = [node for part in decorators for node in ast.walk(part) if isinstance(node, ast.Call)]
    packed = [call for call in calls if ast.unparse(call.func) == "gzip.compress"]

    assert [ast.unparse(call) for call in packed if "mtime" not in {word.arg for word in call.keywords}] == []


def pins(path: Path) -> dict[str, str]:
    """Read `name==version` lines; names in their normal form."""
    found = re.findall(r"^([\w.-]+)==([^\s\\;]+)", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_image_holds_the_serving_pins(engine: str) -> None:
    """The image's hash lock and the serving constraints name the same versions; only the engine's wheel may differ."""
    serving = pins(ROOT / "constraints" / "serving.txt")
    locked = pins(ROOT / "constraints" / f"image-{engine}.lock")
    differing = {name for name in serving.keys() | locked.keys() if serving.get(name) != locked.get(name)}

    assert differing <= {"onnxruntime", "onnxruntime-gpu"}


def test_both_sets_agree() -> None:
    """What tests ran against is what is served: each serving pin is a pin of the full set."""
    assert pins(ROOT / "constraints" / "serving.txt").items() <= pins(ROOT / "constraints" / "all.txt").items()


def test_changelog_knows_the_version() -> None:
    """The package's version has its section in the changelog."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "batchproof" / "__init__.py").read_text())

    assert version is not None
    assert f"\n## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
