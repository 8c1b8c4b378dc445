"""The end of a serving process."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import make_bundle
from tests.live import ROOT, free_port
from tests.platforms.hosted import hosted


def test_a_stop_that_is_asked_for_again_and_again_is_one_stop(tmp_path: Path) -> None:
    """However often and however late SIGTERM is repeated, the exit code is 0."""
    make_bundle(tmp_path / "models")
    port = free_port()
    with hosted(port, {"BATCHPROOF_PORT": str(port)}, "/health/ready", folder=tmp_path) as server:
        while server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
            try:
                server.process.wait(0.001)
            except subprocess.TimeoutExpired:
                continue
        assert server.process.returncode == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_is_told(tmp_path: Path, workers: int) -> None:
    """Each process that said it was ready says, when it is stopped, that it is so no more, in the same fields."""
    make_bundle(tmp_path)
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(tmp_path), "--port", "0"]
    options = ["--workers", str(workers), "--log-format", "json"]
    told: dict[str, list[dict[str, Any]]] = {"ready": [], "not_ready": []}
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        for text in process.stderr:
            line = json.loads(text)
            told.get(line["event"], []).append({name: line[name] for name in line if name not in ("time", "event")})
            if line["event"] == "ready" and len(told["ready"]) == workers:
                process.send_signal(signal.SIGTERM)

    by_pid = [sorted(lines, key=lambda line: line["pid"]) for lines in told.values()]
    assert process.returncode == 0
    assert len(told["ready"]) == workers
    assert by_pid[0] == by_pid[1]
