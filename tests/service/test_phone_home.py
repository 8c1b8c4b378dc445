"""Nothing in the service reaches out."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.live import start

CLOSED = [sys.executable, str(Path(__file__).with_name("closed_network.py"))]
REACH_OUT = """\
import socket, sys
receiver = socket.create_server(("127.0.0.1", 0))
print("listening", flush=True)
if sys.argv[1] == "tcp":
    socket.create_connection(receiver.getsockname())
elif sys.argv[1] == "udp":
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"", receiver.getsockname())
"""


@pytest.mark.parametrize(
    ("attempt", "status"), [("tcp", -signal.SIGSYS), ("udp", -signal.SIGSYS), ("none", 0)], ids=["tcp", "udp", "none"]
)
def test_closed_network_ends_who_reaches_out(attempt: str, status: int, tmp_path: Path) -> None:
    """The closed network lets a process listen and kills it at its first attempt to connect or to send to an address."""
    (tmp_path / "reach_out.py").write_text(REACH_OUT)
    run = subprocess.run(
        [*CLOSED, "reach_out", attempt], check=False, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)}
    )

    assert run.stdout == "listening\n"
    assert run.returncode == status


def test_service_never_reaches_out(root: Path, penguins_bundle: Path) -> None:
    """From start to stop, answering and refusing on the way, the service makes no outgoing connection."""
    rows = json.loads((penguins_bundle / "golden.json").read_text())["rows"]
    command = [*CLOSED, "batchproof.service", "serve", "--models", str(root / "models"), "--port", "0"]
    with start(command, {"PYTHONPATH": str(root)}) as server:
        for path, body in (("/predict", json.dumps({"rows": rows}).encode()), ("/docs", None), ("/metrics", None)):
            with urllib.request.urlopen(server.url + path, body, timeout=30) as response:
                assert response.status == 200
