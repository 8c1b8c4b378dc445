"""A violation that one worker's audit sees is the whole service's: real processes, and an audit that sees one on demand."""

import http.client
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import make_bundle
from tests.live import Live, start

ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": None, "adult": True, "grade": 1, "owned": None}
BODY = json.dumps({"rows": [ROW, ROW]})
# The service, whose audit sees a violation in the one worker that is first to take the file away.
CODE = """
import pathlib, sys
from batchproof.service.invariance import audit
from batchproof.service.invariance.bitwise import Difference
from batchproof.service.invariance.violations import Violation
from batchproof.service.__main__ import main

file = pathlib.Path(sys.argv.pop(1))
sound = audit.Audit.audit_batch

def look(self, runner, requests, outputs):
    try:
        file.unlink()
    except FileNotFoundError:
        return sound(self, runner, requests, outputs)
    difference = Difference("scores", 2, 0, 0, "00", "01")
    return Violation(difference, (2,), tuple(requests), "2026-11-22T00:00:00.000+00:00")

audit.Audit.audit_batch = look
sys.exit(main())
"""


@contextmanager
def served(folder: Path, policy: str) -> Iterator[Live]:
    """Serve one model with two workers; the file `violate` in `folder` makes one of them see a violation."""
    make_bundle(folder / "models")
    flags = ["--workers", "2", "--audit-every", "1", "--audit-folder", str(folder / "records"), "--invariance", policy]
    command = [sys.executable, "-c", CODE, str(folder / "violate"), "serve", "--models", str(folder / "models")]
    with start([*command, "--port", "0", *flags], {}) as found:
        yield found


def ask(connection: http.client.HTTPConnection) -> tuple[int, dict[str, Any]]:
    connection.request("POST", "/predict", BODY)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def worker_of(content: dict[str, Any]) -> str:
    return str(content["request_id"]).split("-")[0]


@contextmanager
def both(server: Live) -> Iterator[list[http.client.HTTPConnection]]:
    """Open a connection to each of the two workers."""
    for _ in range(1000):
        pair = [http.client.HTTPConnection(server.host, server.port, timeout=30) for _ in range(2)]
        try:
            if len({worker_of(ask(connection)[1]) for connection in pair}) == 2:
                yield pair
                return
        finally:
            for connection in pair:
                connection.close()
    raise AssertionError("one worker takes every connection")


def replace_a_worker(server: Live) -> None:
    """Kill one of the workers, and return when another in its place has said that it is ready."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    pids = [int(pid) for pid in children.split()]
    os.kill(pids[0], signal.SIGKILL)
    assert server.process.stderr is not None
    events = (json.loads(line) for line in server.process.stderr)
    next(event for event in events if event["event"] == "ready" and event["pid"] not in pids)


def test_withdrawal_reaches_every_worker(tmp_path: Path) -> None:
    """Both workers refuse the model after one of them saw a violation, and so does one that takes a dead one's place."""
    with served(tmp_path, "require") as server:
        with both(server) as pair:
            (tmp_path / "violate").touch()
            assert ask(pair[0])[0] in (200, 503)  # 503: the audit of an earlier request came to the file first
            for connection in pair:
                codes = (ask(connection)[1].get("error", {}).get("code") for _ in range(5000))
                assert "withdrawn" in codes
        assert len(list((tmp_path / "records").iterdir())) == 1
        replace_a_worker(server)
        with both(server) as pair:
            assert [ask(connection)[1]["error"]["code"] for connection in pair] == ["withdrawn", "withdrawn"]


def test_fingerprint_of_every_worker_says_so(tmp_path: Path) -> None:
    """Under `report` both go on, with a fingerprint that says `violated`, in JSON and in the header of tables."""
    with served(tmp_path, "report") as server, both(server) as pair:
        before = ask(pair[0])[1]["model"]["fingerprint"]
        (tmp_path / "violate").touch()
        ask(pair[0])
        for connection in pair:
            told = (ask(connection)[1]["model"]["fingerprint"] for _ in range(5000))
            assert {**before, "invariance": "violated"} in told
            connection.request("POST", "/predict", BODY, {"Accept": "text/csv"})
            reply = connection.getresponse()
            reply.read()
            assert json.loads(reply.headers["x-model"])["invariance"] == "violated"


@pytest.mark.parametrize("policy", ["require", "report"])
def test_sound_model_says_verified(tmp_path: Path, policy: str) -> None:
    """Without a violation, no worker says that there was one."""
    with served(tmp_path, policy) as server, both(server) as pair:
        found = [ask(connection)[1]["model"]["fingerprint"]["invariance"] for connection in pair]
    assert found == ["verified", "verified"]
