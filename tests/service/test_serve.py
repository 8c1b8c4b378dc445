"""The end of a serving process."""

import signal
import subprocess
from pathlib import Path

from tests.bundles import make_bundle
from tests.live import free_port
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
