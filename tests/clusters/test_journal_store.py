"""A journal that goes to a real S3 server, and is read from there."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from tests.clusters.rows import ROOT
from tests.clusters.s3 import S3Server, s3_server
from tests.live import Live, live

ADDRESS = "s3://bucket/journal"
WAIT_S = 60.0
ROWS = json.loads((ROOT / "models" / "penguins" / "1" / "golden.json").read_text())["rows"]


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """Run an S3 server with an empty bucket."""
    with s3_server("bucket") as server:
        yield server


def segments(server: S3Server) -> list[str]:
    """Return the paths of the segments in the bucket."""
    found = server.files.get_file_info(fs.FileSelector("bucket/journal", recursive=True, allow_not_found=True))
    return sorted(one.path for one in found if one.path.endswith(".arrows"))


def ask(server: Live, request_id: str) -> None:
    request = urllib.request.Request(
        f"{server.url}/predict",
        json.dumps({"rows": ROWS}).encode(),
        {"X-Request-Id": request_id, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        assert response.status == 200


def uploads(server: Live) -> dict[str, float]:
    """Return what /metrics says of uploads."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=WAIT_S) as response:
        text = response.read().decode()
    return {
        name: float(value)
        for name, value in re.findall(r'batchproof_journal_uploads_total\{outcome="(\w+)"\} (\S+)', text)
    }


def wait_for(server: Live, outcome: str, count: int) -> None:
    end_s = time.monotonic() + WAIT_S
    while uploads(server)[outcome] < count:
        assert time.monotonic() < end_s, uploads(server)
        time.sleep(0.2)


def replay(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchproof.service", "replay", ADDRESS, "--models", str(ROOT / "models"), *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=2 * WAIT_S)


def test_a_journal_is_replayed_from_a_bucket(s3: S3Server, tmp_path: Path) -> None:
    """While the service runs and at its stop, segments go to the bucket; every bit is equal, and an altered object is named."""
    flags = ("--journal", str(tmp_path), "--journal-upload", ADDRESS, "--journal-segment-bytes", "1024")
    with live(ROOT / "models", *flags) as server:
        ask(server, "one")
        wait_for(server, "uploaded", 1)
        ask(server, "two")
    assert sorted(path.name for path in tmp_path.glob("*.arrows")) == [path.rpartition("/")[2] for path in segments(s3)]
    ended = replay("--json")
    assert ended.returncode == 0, ended.stderr
    (result,) = json.loads(ended.stdout)["results"]
    assert (result["rows"], result["equal"]) == (2 * len(ROWS), 2 * len(ROWS))
    assert replay("--id", "two", "--since", "2026-01-01").returncode == 0
    assert replay("--model", "other").returncode == 2

    altered = segments(s3)[0]
    with s3.files.open_input_stream(altered) as stream:
        content = bytearray(stream.read())
    content[-20] ^= 1
    with s3.files.open_output_stream(altered) as stream:
        stream.write(bytes(content))
    ended = replay("--json")
    assert ended.returncode == 1
    assert altered.rpartition("/")[2] in {problem["segment"] for problem in json.loads(ended.stdout)["problems"]}


def test_nothing_is_lost_while_the_store_is_away(s3: S3Server, tmp_path: Path) -> None:
    """Answers do not wait, failures are counted, and the next start uploads what is not there yet."""
    flags = ("--journal", str(tmp_path), "--journal-upload", ADDRESS, "--journal-segment-bytes", "1024")
    s3.stop()
    with live(ROOT / "models", *flags, "--journal-full", "refuse") as server:
        for number in range(3):
            ask(server, f"away-{number}")
        wait_for(server, "failed", 1)
        assert uploads(server)["uploaded"] == 0
    s3.start()
    s3.files.create_dir("bucket")
    here = sorted(path.name for path in tmp_path.glob("*.arrows"))
    assert here
    assert segments(s3) == []
    with live(ROOT / "models", *flags) as server:
        wait_for(server, "uploaded", len(here))
    assert [path.rpartition("/")[2] for path in segments(s3)] == here
    ended = replay("--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["results"][0]["equal"] == 3 * len(ROWS)


def test_what_is_no_journal_is_one_sentence(s3: S3Server) -> None:
    """Exit code 2 and the address."""
    del s3
    ended = replay()
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"{ADDRESS} holds no journal" in ended.stderr
