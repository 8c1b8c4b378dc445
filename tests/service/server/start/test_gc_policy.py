"""What a serving process has imported, and when it looks for garbage, by the time it takes requests."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from batchproof.service.server.start.gc_policy import THRESHOLDS, paused

# The command line as it is, up to the moment at which the web server would listen.
CODE = """
import gc, json, sys
import batchproof.service.server.start.process
def tell(*_):
    state = {"modules": sorted(sys.modules), "on": gc.isenabled(), "frozen": gc.get_freeze_count(), "at": gc.get_threshold()}
    print(json.dumps(state))
batchproof.service.server.start.process.Server.run = tell
from batchproof.service.__main__ import main
main(["serve", "--port", "0"])
"""


@pytest.fixture(scope="module")
def state(root: Path) -> dict[str, object]:
    """Return what a process that starts to serve says of itself."""
    run = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True, cwd=root)
    found: dict[str, object] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "name",
    [
        "fastapi",
        "starlette",
        "numpy.random",
        "prometheus_client",
        "pyarrow",
        "batchproof.service.invariance.onnx_files.any_onnx",
        "batchproof.service.server.web",
        "batchproof.service.cli.predict",
        "batchproof.service.cli.verify",
        "tomllib",
    ],
)
def test_start_imports_no_more_than_a_prediction_needs(name: str, state: dict[str, object]) -> None:
    """Pages, metrics' text, tables' libraries and other commands come when somebody asks for them."""
    modules = state["modules"]
    assert isinstance(modules, list)
    assert {"batchproof.service.server.serving.app", "onnxruntime"} <= set(modules)
    assert name not in modules


def test_serving_process_looks_for_garbage_seldom(state: dict[str, object]) -> None:
    """What was loaded is frozen, and collection is on again with thresholds of its own."""
    assert state["on"] is True
    assert state["at"] == list(THRESHOLDS)
    assert isinstance(state["frozen"], int)
    assert state["frozen"] > 10_000


def test_pause_ends_with_its_block() -> None:
    """Collection is off within and on after it; a pause within a pause ends with the outer one."""
    with paused():
        with paused():
            assert not gc.isenabled()
        assert not gc.isenabled()

    assert gc.isenabled()


def test_pause_ends_with_an_exception() -> None:
    """A start that fails leaves collection on."""
    with pytest.raises(KeyError), paused():
        raise KeyError

    assert gc.isenabled()
