"""A real server in a process of its own, on a free port, for tests that need sockets."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Live:
    """A server that is ready."""

    host: str
    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Return the address with its scheme."""
        return f"http://{self.host}:{self.port}"


@contextmanager
def live(models: Path | str, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[Live]:
    """Serve `models` until the block ends; then the server must stop on SIGTERM with exit code 0."""
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", "0", *flags]
    with start(command, environment or {}) as found:
        yield found


@contextmanager
def start(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Live]:
    """Run a serve command, wait for its event `ready`, and end it."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "BATCHPROOF_LOG_FORMAT": "json", **environment},
    )
    try:
        ready = _ready(process)
        host = "127.0.0.1" if ready["host"] == "0.0.0.0" else ready["host"]
        yield Live(host, ready["port"], process)
        assert process.poll() is None, f"the server ended by itself with {process.returncode}"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()


def _ready(process: subprocess.Popen[str]) -> dict[str, object]:
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "ready":
            return event
    raise AssertionError(f"the server did not start: {''.join(lines)}")
