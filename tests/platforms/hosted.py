"""The service started as a hosting platform starts it: its command, its variables, its port, its way of stopping."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.http_client import ask
from tests.live import ROOT, Live


@contextmanager
def hosted(
    port: int,
    environment: Mapping[str, str],
    health: str,
    *,
    stop_within_s: float = 30.0,
    folder: Path | None = None,
    flags: Sequence[str] = (),
) -> Iterator[Live]:
    """Run `serve`, mostly without a flag, knock at `health` until it is 200, and end it with SIGTERM in the platform's time."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("BATCHPROOF_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "batchproof.service", "serve", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder or ROOT,
        env={**variables, "PYTHONPATH": str(ROOT), **environment},
    )
    server = Live("127.0.0.1", port, process)
    try:
        wait_for(server, health)
        yield server
        process.send_signal(signal.SIGTERM)
        assert process.wait(stop_within_s) == 0
    finally:
        process.kill()
        process.wait()


def wait_for(server: Live, health: str, within_s: float = 60.0) -> None:
    """Probe as a platform does, until the answer is 200."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        assert server.process.poll() is None, f"the server ended with {server.process.returncode}"
        with suppress(OSError):
            if ask(server, "GET", health).status == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"{health} was not 200 within {within_s} s")


def seconds_of(server: Live, method: str, path: str, body: object = b"") -> float:
    """Return how long one answer of 200 takes."""
    began_s = time.monotonic()
    assert ask(server, method, path, body).status == 200
    return time.monotonic() - began_s
