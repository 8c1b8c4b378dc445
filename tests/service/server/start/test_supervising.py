"""What a supervisor has loaded before it forks its workers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from batchproof.service.errors import STARTUP_FAILED
from batchproof.service.inference.engine import library
from tests.live import live

MODELS = Path("models").absolute()
ENGINE = "onnxruntime_pybind11_state"


def forks(process: int) -> list[int]:
    """Return the processes that `process` has started."""
    tasks = Path(f"/proc/{process}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def pages_kb(process: int, kind: str) -> int:
    """Return the kilobytes of `kind` that the process has of the engine's library."""
    found, within = 0, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            within = ENGINE in line
        elif within and line.startswith(f"{kind}:"):
            found += int(line.split()[1])
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_share_the_engine_that_the_supervisor_loaded() -> None:
    """The supervisor, with one thread so that it may fork, has the library's relocated pages; its workers copy few of them."""
    with live(MODELS, "--workers", "2") as server:
        supervisor = server.process.pid
        assert len(list(Path(f"/proc/{supervisor}/task").iterdir())) == 1
        written = pages_kb(supervisor, "Anonymous")
        assert written > 100
        for worker in forks(supervisor):
            assert pages_kb(worker, "Private_Dirty") < written / 2


@pytest.mark.skipif("CUDAExecutionProvider" in library().get_available_providers(), reason="there is such a device")
def test_a_device_that_is_not_there_stops_the_service_before_it_forks() -> None:
    """One refusal, not one a worker."""
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(MODELS), "--port", "0"]
    ended = subprocess.run(
        [*command, "--workers", "2", "--device", "cuda"], capture_output=True, text=True, check=False
    )

    assert ended.returncode == STARTUP_FAILED
    assert ended.stderr.count("device cuda was asked for") == 1
