"""Tables of text in other processes: the same rows, answers and refusals as in threads, and no end of one harms another."""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import ArrayBounds, Arrays
from batchproof.service.features.decoder import Decoder
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference.model import Description
from batchproof.service.runtime.processes import process_pool
from batchproof.service.runtime.processes.frames import PeerEndedError
from batchproof.service.runtime.processes.process_pool import ProcessPool
from batchproof.service.tables.formats import CSV, JSON
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.sandbox.text_messages import TextTable, pack_rows, unpack_rows
from batchproof.service.tables.sandbox.text_remote import (
    MODULE,
    MOST_WAITING,
    KnownModel,
    RemoteTable,
    TableFailedError,
)
from batchproof.service.tables.streaming.body.body_socket import BodySocket
from tests.bundles import INPUTS, make_bundle
from tests.live import Live, live

NAMES = [str(feature["name"]) for feature in INPUTS]
HEAD = ",".join(NAMES) + "\n"
ROW = "33.5,Oslo,3,2020-01-01,true,2,false\n"
BAD = "long,Oslo,3,2020-01-01,true,2,false\n"
LINE = json.dumps(dict(zip(NAMES, [33.5, "Oslo", 3, "2020-01-01", True, 2, False], strict=True))) + "\n"
BODIES: dict[str, tuple[str, str | bytes]] = {
    "good": ("text/csv", HEAD + 20 * ROW),
    "semicolons": ("text/csv", (HEAD + 3 * ROW).replace(",", ";")),
    "tabs": ("text/tab-separated-values", (HEAD + 3 * ROW).replace(",", "\t")),
    "lines": ("application/jsonlines", 3 * LINE),
    "JSON": ("application/json", json.dumps({"rows": [[33.5, "Oslo", 3, "2020-01-01", True, 2, False]] * 3})),
    "no rows": ("text/csv", HEAD),
    "nothing": ("text/csv", ""),
    "a bad row": ("text/csv", HEAD + ROW + BAD),
    "another header": ("text/csv", "a,b\n1,2\n"),
    "an extra column": ("text/csv", HEAD.replace("\n", ",more\n") + ROW.replace("\n", ",x\n")),
    "a broken quote": ("text/csv", HEAD + '"a"b,\n'),
    "no UTF-8": ("text/csv", (HEAD + ROW).encode() + b"\xff\n"),
    "no JSON": ("application/jsonlines", LINE + "{\n"),
    "broken JSON": ("application/json", '{"rows": ['),
    "an added column": ("application/jsonlines", LINE.replace("}", ', "prediction": 1}')),
    "packed": ("text/csv", gzip.compress((HEAD + ROW).encode())),
    "badly packed": ("text/csv", gzip.compress((HEAD + ROW).encode())[:-9]),
}
TARGETS = ("text/csv", "application/jsonlines", "application/json", "application/vnd.apache.arrow.stream")
QUERIES = ("", "?on_error=row", "?extra=ignore&answer=alone&prefix=m_")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> KnownModel:
    """Return a model with every kind of feature, as processes know it."""
    manifest = bundle.read(make_bundle(tmp_path_factory.mktemp("models"), "flowers")).manifest
    return KnownModel(Description(manifest, Encoder(manifest.signature), Decoder(manifest), {"sha256": "a"}))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server of that model."""
    models = tmp_path_factory.mktemp("served")
    make_bundle(models, "flowers")
    with live(models) as found:
        yield found


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    """Return processes that are ended afterwards."""
    made = ProcessPool(MODULE, 256 << 20)
    yield made
    made.close()


def table_of(model: KnownModel, **fields: Any) -> TextTable:
    whole = TextTable(model.number, CSV, CSV, Parameters(extra="ignore"), "id-1", b"", 16, 1 << 30, 1 << 20, 20, 20)
    return replace(whole, **fields)


def scene(
    pool: ProcessPool,
    model: KnownModel,
    table: TextTable,
    act: Callable[[RemoteTable, BodySocket], Coroutine[Any, Any, Any]],
) -> Any:
    """Return what `act` does with a table that a process has begun."""

    async def run() -> Any:
        inlet = BodySocket()
        remote = RemoteTable(pool, model, table, inlet.theirs)
        inlet.on_fault = remote.refuse
        try:
            await asyncio.to_thread(remote.begin)
            return await asyncio.wait_for(act(remote, inlet), 30)
        finally:
            inlet.let_go()
            remote.close()
            await asyncio.sleep(0)

    return asyncio.run(run())


def outputs_of(rows: int) -> dict[str, np.ndarray]:
    return {"probabilities": np.full((rows, 3), 0.25, np.float32)}


def answered(pool: ProcessPool, model: KnownModel, body: bytes, **fields: Any) -> bytes:
    """Return the answer to a table, or raise its refusal."""

    async def act(table: RemoteTable, inlet: BodySocket) -> bytes:
        async def fill() -> None:
            await inlet.put(body)
            inlet.end()

        filling, parts = asyncio.create_task(fill()), []
        try:
            while (rows := await table.next()) is not None:
                parts.append(await table.write(outputs_of(len(rows.kept)) if len(rows.kept) else {}))
        finally:
            filling.cancel()
        return b"".join([*parts, await table.end()])

    found: bytes = scene(pool, model, table_of(model, **fields), act)
    return found


def refused(pool: ProcessPool, model: KnownModel, body: bytes, **fields: Any) -> ServiceError:
    with pytest.raises(ServiceError) as error:
        answered(pool, model, body, **fields)
    return error.value


def processes_of(parent: int | None) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


def eventually(condition: Callable[[], object]) -> bool:
    end_s = time.monotonic() + 10
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.05)
    return bool(condition())


def asked(server: Live, path: str, body: bytes, headers: dict[str, str], *, is_chunked: bool) -> tuple[bytes, bytes]:
    """Return the head and the body of an answer; the head without what differs from one answer to the next."""
    size = "transfer-encoding: chunked" if is_chunked else f"content-length: {len(body)}"
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    sent = chunk + b"0\r\n\r\n" if is_chunked else body
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "connection: close", "x-request-id: id-1", size]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((server.host, server.port), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
        answer = b""
        while part := connection.recv(1 << 20):
            answer += part
    head, _, content = answer.partition(b"\r\n\r\n")
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"date")), content


def plain(content: bytes) -> bytes:
    """Return a chunked body as one piece: chunks may lie differently."""
    parts, rest = [], content
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)


@pytest.mark.parametrize("kind", BODIES)
def test_another_process_says_the_same(server: Live, kind: str) -> None:
    """A table that a process reads and writes has the head and the bytes of one that threads read, and its refusals."""
    content_type, text = BODIES[kind]
    body = text if isinstance(text, bytes) else text.encode()
    packing = {"content-encoding": "gzip"} if "packed" in kind else {}
    for target in TARGETS:
        for query in QUERIES:
            headers = {"content-type": content_type, "accept": target, **packing}
            short = asked(server, "/predict" + query, body, headers, is_chunked=False)
            apart = asked(server, "/predict" + query, body, headers, is_chunked=True)
            assert apart[0] == short[0]
            is_whole = b"chunked" in short[0]
            assert (plain(apart[1]) == plain(short[1])) if is_whole else (apart[1] == short[1])


def test_a_block_waits_for_the_outputs_before(pool: ProcessPool, model: KnownModel) -> None:
    """A process reads one block ahead of the outputs and no more, and the kernel holds little of the body."""

    async def act(table: RemoteTable, inlet: BodySocket) -> int:
        filling = asyncio.create_task(inlet.put((HEAD + 100_000 * ROW).encode()))
        first, second = await table.next(), await table.next()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(table.next(), 0.3)
        assert first is not None
        assert second is not None
        assert not filling.done()
        text = await table.write(outputs_of(16))
        filling.cancel()
        return text.count(b"\n")

    assert scene(pool, model, table_of(model), act) == 17


def test_an_answer_is_written_while_the_body_is_awaited(pool: ProcessPool, model: KnownModel) -> None:
    """A caller that sends no more before it was answered is answered."""

    async def act(table: RemoteTable, inlet: BodySocket) -> bytes:
        await inlet.put((HEAD + 16 * ROW + ROW[:5]).encode())
        assert await table.next() is not None
        return await table.write(outputs_of(16))

    assert scene(pool, model, table_of(model), act).count(b"Oslo") == 16


def test_a_fault_of_the_body_ends_the_table(pool: ProcessPool, model: KnownModel) -> None:
    """What ended the body is raised, and the process is given up."""

    async def act(table: RemoteTable, inlet: BodySocket) -> None:
        await inlet.put(HEAD.encode())
        inlet.end(ServiceError(408, "body_stalled", "No."))
        with pytest.raises(ServiceError, match="No") as error:
            await table.next()
        assert error.value.code == "body_stalled"

    scene(pool, model, table_of(model), act)
    assert eventually(lambda: not processes_of(pool.helper_pid))


def test_a_death_is_one_refusal(pool: ProcessPool, model: KnownModel) -> None:
    """A process that ends at a table refuses that one, as soon as somebody waits, and the next one is answered."""

    async def act(table: RemoteTable, inlet: BodySocket) -> None:
        await inlet.put((HEAD + 16 * ROW).encode())
        assert await table.next() is not None
        (pid,) = processes_of(pool.helper_pid)
        os.kill(pid, signal.SIGSEGV)
        for waiting in (table.next(), table.write(outputs_of(16))):
            with pytest.raises(ServiceError, match="it ended by SIGSEGV") as error:
                await waiting
            assert (error.value.status, error.value.code) == (400, "broken_table")

    scene(pool, model, table_of(model), act)
    assert answered(pool, model, (HEAD + ROW).encode()).count(b"Oslo") == 1


def test_memory_is_bounded(model: KnownModel) -> None:
    """A block whose lines take more memory than a process may have is 413, and the next table is answered."""
    lines = (HEAD.replace("\n", ",more\n") + 16 * ROW.replace("\n", f",{'x' * 100_000}\n")).encode()
    small = ProcessPool(MODULE, 2 << 20)
    try:
        error = refused(small, model, lines * 8, block_rows=1 << 20)
        assert (error.status, error.code) == (413, "batch_too_large")
        assert answered(small, model, (HEAD + ROW).encode()).count(b"Oslo") == 1
    finally:
        small.close()


def test_processor_time_is_bounded(model: KnownModel) -> None:
    """A process that is at one block for too long is ended, and its table refused, whatever memory it may take."""
    large = ProcessPool(MODULE, 2 << 30)
    try:
        error = refused(large, model, (HEAD + 1_000_000 * ROW).encode(), block_cpu_s=0, block_rows=1 << 20)
        assert (error.status, error.code) == (400, "broken_table")
        assert "processor time" in error.message
    finally:
        large.close()


def test_what_nothing_foresees_is_no_refusal(pool: ProcessPool, model: KnownModel) -> None:
    """An error in the code of a process comes back with its traceback."""
    with pytest.raises(TableFailedError, match="AttributeError"):
        answered(pool, model, HEAD.encode(), parameters=None)


def test_processes_are_used_again(pool: ProcessPool, model: KnownModel) -> None:
    """A process that answered a table to its end answers the next one; one that refused a table answers no other."""
    answered(pool, model, (HEAD + ROW).encode())
    (first,) = processes_of(pool.helper_pid)
    answered(pool, model, (HEAD + ROW).encode())
    assert processes_of(pool.helper_pid) == [first]
    assert refused(pool, model, (HEAD + BAD).encode()).code == "invalid_rows"
    assert eventually(lambda: not processes_of(pool.helper_pid))


def test_a_process_that_was_killed_meanwhile_costs_nobody_an_answer(pool: ProcessPool, model: KnownModel) -> None:
    """A process that waits for a table and is killed from outside, or its helper, is replaced without a refusal."""
    for _ in range(2):
        assert answered(pool, model, (HEAD + ROW).encode()).count(b"Oslo") == 1
        (pid,) = processes_of(pool.helper_pid)
        os.kill(pid, signal.SIGKILL)
        assert answered(pool, model, (HEAD + ROW).encode()).count(b"Oslo") == 1
        helper = pool.helper_pid
        assert helper is not None
        os.kill(helper, signal.SIGKILL)
        os.waitid(os.P_PID, helper, os.WEXITED | os.WNOWAIT)


def test_a_helper_that_cannot_start_is_503(model: KnownModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started the caller may try again."""
    monkeypatch.setattr(process_pool, "COMMAND", ["/nonexistent/python"])
    error = refused(ProcessPool(MODULE, 256 << 20), model, HEAD.encode())
    assert (error.status, error.code, error.retry_after_s) == (503, "reader_lost", 1)


def test_a_silent_process_is_given_up(pool: ProcessPool, model: KnownModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not answer outputs is given up, and its caller may try again."""

    async def act(table: RemoteTable, inlet: BodySocket) -> None:
        await inlet.put((HEAD + 16 * ROW).encode())
        assert await table.next() is not None
        (pid,) = processes_of(pool.helper_pid)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(process_pool, "SILENT_S", 0.3)
        with pytest.raises(ServiceError) as error:
            await table.write(outputs_of(16))
        assert error.value.code == "reader_lost"

    scene(pool, model, table_of(model), act)
    assert eventually(lambda: not processes_of(pool.helper_pid))


def test_a_table_whose_caller_left_ends_its_process(server: Live) -> None:
    """A caller that closes its connection in the middle leaves no process behind that is at its table."""
    length = len(HEAD) + 1_000_000 * len(ROW)
    head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/csv\r\ncontent-length: {length}\r\n\r\n"
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        connection.sendall((head + HEAD + 6000 * ROW).encode())
        assert connection.recv(1 << 10).startswith(b"HTTP/1.1 200")
        (helper,) = processes_of(server.process.pid)
        busy = processes_of(helper)
        assert busy
    idle = min(len(busy) - 1, process_pool.MOST_IDLE)
    assert eventually(lambda: len(processes_of(helper)) <= idle)


BOUNDS = ArrayBounds(2, np.array([3]))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        msgspec.msgpack.encode((1, None, bytes(8), bytes(8))),
        msgspec.msgpack.encode((1, None, bytes(16), None)),
        msgspec.msgpack.encode((1, None, bytes(16), np.array([3]).tobytes())),
        msgspec.msgpack.encode((1, None, bytes(16), np.array([-1]).tobytes())),
        msgspec.msgpack.encode((17, None, bytes(16 * 17), bytes(8 * 17))),
        msgspec.msgpack.encode((2, [1, 0], bytes(32), bytes(16))),
        msgspec.msgpack.encode((2, [2], bytes(16), bytes(8))),
        msgspec.msgpack.encode((-1, None, bytes(16), bytes(8))),
        msgspec.msgpack.encode((1 << 31, [0], bytes(16), bytes(8))),
    ],
)
def test_what_no_process_says_goes_no_further(payload: bytes) -> None:
    """A process that read a stranger's bytes may say anything: rows that the model does not have are as good as its end."""
    with pytest.raises(PeerEndedError):
        unpack_rows(payload, BOUNDS, 16)


def test_what_a_process_says_is_within_bounds() -> None:
    """The bounds refuse no rows that a model has."""
    arrays = Arrays(np.arange(4.0).reshape(2, 2), np.array([[2], [0]]))
    for total, kept in ((2, range(2)), (16, [3, 15])):
        found = unpack_rows(pack_rows(total, kept, arrays), BOUNDS, 16)
        assert (found.total, list(found.kept)) == (total, list(kept))
        assert [array.tolist() for array in found.arrays if array is not None] == [
            array.tolist() for array in arrays if array is not None
        ]


@pytest.mark.parametrize(("kind", "payload"), [(b"?", b""), (b"b", b"{"), (b"r", b"[200]"), (b"R", b"no")])
def test_frames_of_no_kind_are_an_end(model: KnownModel, kind: bytes, payload: bytes) -> None:
    """A frame that no process sends, or that holds what none says, is as good as the end of its process."""

    async def accept() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(PeerEndedError):
            RemoteTable(ProcessPool(MODULE, 1), model, table_of(model), theirs)._accept(kind, payload)

    asyncio.run(accept())


def test_a_process_is_not_far_ahead(model: KnownModel) -> None:
    """Frames that nobody waits for pile up only so far."""

    async def accept() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            table = RemoteTable(ProcessPool(MODULE, 1), model, table_of(model, source=JSON), theirs)
            for _ in range(MOST_WAITING + 1):
                table._accept(b"a", b"text")
            with pytest.raises(PeerEndedError):
                table._accept(b"a", b"text")

    asyncio.run(accept())


def test_nothing_is_started_before_the_first_long_table(tmp_path: Path) -> None:
    """A service has no helper until a caller sends a long table, and none outlives a service that is killed."""
    make_bundle(tmp_path, "flowers")
    with contextlib.suppress(AssertionError), live(tmp_path) as server:
        headers = {"content-type": "text/csv"}
        assert asked(server, "/predict", (HEAD + ROW).encode(), headers, is_chunked=False)[0].startswith(
            b"HTTP/1.1 200"
        )
        assert processes_of(server.process.pid) == []
        long = (HEAD + 3000 * ROW).encode()
        assert asked(server, "/predict", long, headers, is_chunked=False)[0].startswith(b"HTTP/1.1 200")
        (helper,) = processes_of(server.process.pid)
        server.process.kill()
        assert eventually(lambda: not Path(f"/proc/{helper}").exists())
        server.process.wait()
