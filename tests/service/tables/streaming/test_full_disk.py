"""Tables while the temporary folder has no room: an end that is said, logged and counted, and nobody waits for ever."""

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from batchproof.service.errors import ServiceError
from batchproof.service.tables.streaming import response_buffer
from batchproof.service.tables.streaming.response_buffer import FULL_BYTES, ResponseBuffer
from tests.bundles import INPUTS, make_bundle
from tests.live import Live, start

HEAD = ",".join(feature["name"] for feature in INPUTS) + "\n"
ROW = "33.5,Oslo,3,2020-01-01,true,2,false\n"
# Every byte that is written to /dev/full is refused as by a full disk.
CODE = """
import sys, tempfile
tempfile.TemporaryFile = lambda **_: open("/dev/full", "r+b", buffering=0)
from batchproof.service.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one small model where no temporary file can be written."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    with start([sys.executable, "-c", CODE, "serve", "--models", str(models), "--port", "0"], {}) as found:
        yield found


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the connection is closed."""
    parts = []
    while part := connection.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def test_a_caller_that_sends_before_it_reads_gets_an_end_and_a_reason(server: Live) -> None:
    """An answer that cannot be kept ends with its code in the last line, in the log and in the metrics; none hangs."""
    body = (HEAD + 400_000 * ROW).encode()
    with socket.create_connection((server.host, server.port), timeout=60) as connection:
        head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/csv\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"code":"no_disk_space"' in answer[-1000:]
    assert not answer.endswith(b"0\r\n\r\n")  # every client reports a body without its end
    metrics = httpx.get(server.url + "/metrics").text
    counted = [line for line in metrics.splitlines() if 'outcome="no_disk_space"' in line]
    assert [line.rsplit(" ", 1)[1] for line in counted] == ["1.0"]
    assert server.process.stderr is not None
    logged = next(content for line in server.process.stderr if (content := json.loads(line))["event"] != "ready")
    assert (logged["event"], logged["code"]) == ("table_broken_off", "no_disk_space")


def test_tables_that_need_no_disk_are_answered(server: Live) -> None:
    """A table whose caller reads, and one row, are answered as on any other host."""
    answer = httpx.post(server.url + "/predict", content=HEAD + 50 * ROW, headers={"content-type": "text/csv"})
    assert answer.status_code == 200
    assert answer.text.count("\n") == 51


def test_a_body_that_has_to_be_kept_is_refused_with_507(server: Live) -> None:
    """Parquet is read from its end and so has to be kept: where it cannot be, the status says so."""
    answer = httpx.post(
        server.url + "/predict",
        content=b"PAR1" + bytes(1000),
        headers={"content-type": "application/vnd.apache.parquet"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "no_disk_space")


def test_what_was_accepted_before_the_disk_was_full_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes before the refused part arrive in order, then the last line, and no byte of the refused part."""

    class Small:
        """A file with room for a number of bytes."""

        def __init__(self, room: int) -> None:
            self.room = room
            self.file = (tmp_path / "small").open("w+b", buffering=0)

        def write(self, data: bytes) -> int:
            taken = min(len(data), self.room, 1000)  # as a disk that takes a part of a write
            if not taken:
                raise OSError(28, "No space left on device")
            self.room -= taken
            return self.file.write(data[:taken])

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    async def scene() -> None:
        monkeypatch.setattr(response_buffer.tempfile, "TemporaryFile", lambda **_: Small(FULL_BYTES + 500))
        sent: list[bytes] = []
        is_reading = asyncio.Event()

        async def send(data: bytes) -> None:
            await is_reading.wait()
            sent.append(data)

        buffer = ResponseBuffer(send, lambda: False)
        sending = asyncio.create_task(buffer.run())
        parts = [bytes([number]) * (FULL_BYTES // 2) for number in range(10)]
        accepted, refusal = 0, None
        for part in parts:
            try:
                await buffer.put(part)
            except ServiceError as error:
                refusal = error
                break
            accepted += 1
        assert refusal is not None
        assert refusal.status == 507
        await buffer.end(b"last")
        is_reading.set()
        await sending
        assert b"".join(sent) == b"".join(parts[:accepted]) + b"last"
        assert accepted >= 4

    asyncio.run(scene())
