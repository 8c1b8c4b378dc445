"""What a supervisor has loaded before it forks its workers."""

import os
import re
import subprocess
import sys
from pathlib import Path

from batchproof.service.errors import STARTUP_FAILED
from tests.live import live

MODELS = Path("models").absolute()
ON_CPU = """
import sys, onnxruntime
onnxruntime.get_available_providers = lambda: ["CPUExecutionProvider"]
from batchproof.service.__main__ import main
sys.exit(main())
"""
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


def test_workers_share_the_engine_that_the_supervisor_loaded() -> None:
    """The supervisor has the library's relocated pages; its workers copy few of them."""
    with live(MODELS, "--workers", "2") as server:
        supervisor = server.process.pid
        written = pages_kb(supervisor, "Anonymous")
        assert written > 100
        for worker in forks(supervisor):
            assert pages_kb(worker, "Private_Dirty") < written / 2


def test_the_library_starts_no_thread() -> None:
    """A supervisor that has loaded it may fork."""
    count = "import os; from batchproof.service.inference.engine import library; library(); print(os.listdir('/proc/self/task'))"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as the service has it
    counted = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True, env=environment)

    assert counted.stdout.count("'") == 2


def test_a_device_that_is_not_there_stops_the_service_before_it_forks() -> None:
    """One refusal, not one a worker."""
    command = [sys.executable, "-c", ON_CPU, "serve", "--models", str(MODELS), "--port", "0"]
    ended = subprocess.run(
        [*command, "--workers", "2", "--device", "cuda"], capture_output=True, text=True, check=False
    )

    assert ended.returncode == STARTUP_FAILED
    assert ended.stderr.count("device cuda was asked for") == 1
