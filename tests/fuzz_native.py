"""Damaged bodies of every kind that is parsed natively, sent to a service: `python -m tests.fuzz_native --inputs 100000`.

Every bit is flipped, every cut is tried, then random damage. The service answers with the rows that it was sent, or with
a 4xx and one sentence; it lives, and another caller is answered all the while. Anything else is a finding. Damage is a
function of its number alone, so a finding is found again.
"""

import argparse
import contextlib
import csv
import http.client
import io
import json
import random
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
import pyarrow as pa
from pyarrow import ipc, parquet

from batchproof.service.server.grpc.messages import SERVICE
from tests.bundles import NUMBERS, make_bundle
from tests.live import Live, free_port, live
from tests.native_bodies import BODIES, LISTS_JSON, MESSAGES, NUMBERS_MODEL, ROWS, TABLES, Body

WAIT_S = 30.0  # for one answer, on a busy machine
OTHERS_WAIT_S = 5.0
OTHERS_PAUSE_S = 0.05
VALUES = (-1, 0, 1, 1 << 31, 1 << 62, -(1 << 63), (1 << 63) - 1, 0xFFFFFFFF)
ACCEPTS = (
    "application/json",
    "text/csv",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
)


class Result(NamedTuple):
    """What the service answered: rows where the status is 200, else the sentence."""

    status: int
    rows: int
    text: str


def damaged(data: bytes, number: int) -> bytes:
    """Return `data` with bit `number` flipped; beyond its bits cut, and beyond its cuts with random damage."""
    if number < 8 * len(data):
        place, bit = divmod(number, 8)
        return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
    number -= 8 * len(data)
    if number < len(data):
        return data[:number]
    rng, changed = random.Random(number), bytearray(data)
    for _ in range(rng.randint(1, 4)):
        _change(changed, rng)
    return bytes(changed)


def _change(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data))
    kind = rng.random()
    if kind < 0.5:
        data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif kind < 0.8:
        data[place : place + 8] = struct.pack("<Q", rng.choice(VALUES) & (1 << 64) - 1)[: len(data) - place]
    else:
        source = rng.randrange(len(data))
        data[place : place + 16] = data[source : source + 16]


class Caller:
    """A client of one service that sends bodies as they are."""

    def __init__(self, server: Live, channel: grpc.Channel) -> None:
        """Call over HTTP and over `channel`."""
        self._server = server
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=WAIT_S)
        self._infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")  # bytes go and come as they are

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(self, body: Body, data: bytes, accept: str) -> Result:
        """Send `data` as the body; raises OSError or HTTPException where no answer comes."""
        if not body.headers:
            return self._call(data)
        try:
            self._connection.request("POST", body.path, data, {**body.headers, "accept": accept})
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if answer.status != 200:
            return Result(answer.status, 0, sentence_of(content))
        return Result(200, rows_of(content, answer.headers.get_content_type()), values_of(content))

    def _call(self, data: bytes) -> Result:
        try:
            content = self._infer(data, timeout=WAIT_S)
        except grpc.RpcError as error:
            is_refusal = error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            return Result(400 if is_refusal else 500, 0, error.details())
        message = MESSAGES["ModelInferResponse"].FromString(content)
        return Result(200, message.outputs[0].shape[0], repr(content))


def rows_of(content: bytes, media_type: str) -> int:
    """Return the number of rows of an answer."""
    if media_type == "application/json":
        found = json.loads(content)
        return len(found["predictions"]) if "predictions" in found else int(found["outputs"][0]["shape"][0])
    if media_type == "text/csv":
        return sum(1 for _ in csv.reader(io.StringIO(content.decode(), newline=""))) - 1
    if media_type.endswith("parquet"):
        return int(parquet.read_table(io.BytesIO(content)).num_rows)
    if media_type.endswith("stream"):
        return int(ipc.open_stream(content).read_all().num_rows)
    return content.count(b"\n")


def values_of(content: bytes) -> str:
    """Return what an answer says of its rows, without what differs from call to call."""
    found = json.loads(content) if content.startswith(b"{") else {}
    return json.dumps(found["predictions"]) if "predictions" in found else content.decode("latin-1")


def sentence_of(content: bytes) -> str:
    """Return the sentence of a refusal of any dialect."""
    error = json.loads(content)
    for name in ("error", "message", "detail"):
        error = error.get(name, error) if isinstance(error, dict) else error
    return error if isinstance(error, str) else str(error.get("message", ""))


def fault_of(result: Result, body: Body, good: Result, length: int) -> str | None:
    """Return what is wrong with the answer to a damaged body of `length` bytes, or None."""
    if result.status == 200:
        # A stream needs no end mark: cut between two messages it is a whole table.
        is_shorter_table = body.has_parts and length < len(body.data) and result.rows < ROWS
        if result.rows != ROWS and not is_shorter_table:
            return f"200 with {result.rows} rows"
        is_same = not body.is_checked or result.text == good.text
        return None if is_same else "200 with other values, in spite of a checksum"
    if not 400 <= result.status < 500:
        return f"status {result.status}: {result.text[:80]}"
    return None if result.text and "\n" not in result.text else f"no sentence: {result.text[:80]!r}"


def findings(caller: Caller, body: Body, numbers: Iterator[int], counts: Counter[str]) -> Iterator[str]:
    """Send the damaged bodies of these numbers; yields what is wrong, and counts statuses."""
    good = {}
    accepts = ACCEPTS if "predict" in body.path and "json" not in body.headers["content-type"] else ACCEPTS[:1]
    for accept in accepts:
        good[accept] = caller.send(body, body.data, accept)
        if (good[accept].status, good[accept].rows) != (200, ROWS):
            yield f"{body.name}: the good body is answered with {good[accept][:2]}: {good[accept].text[:200]}"
    for count, number in enumerate(numbers):
        accept = accepts[count % len(accepts)]
        try:
            data = damaged(body.data, number)
            result = caller.send(body, data, accept)
        except http.client.IncompleteRead:  # its first rows were good: an answer that broke off says so
            counts["broken off"] += 1
            if not body.has_parts:
                yield f"{body.name} {number}: broken off"
            continue
        except (OSError, http.client.HTTPException, pa.ArrowException, ValueError) as error:
            yield f"{body.name} {number}: {type(error).__name__}: {error}"
            continue
        counts[str(result.status)] += 1
        fault = fault_of(result, body, good[accept], len(data))
        if fault is not None:
            yield f"{body.name} {number}, {accept}: {fault}"


class OtherCaller:
    """Somebody else, who asks for one row at a time and must be answered."""

    def __init__(self, server: Live) -> None:
        """Ask this server."""
        self._server = server
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answers = 0
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._server.host, self._server.port, timeout=OTHERS_WAIT_S)
        with contextlib.closing(connection):
            self._ask_on(connection)

    def _ask_on(self, connection: http.client.HTTPConnection) -> None:
        while not self._is_over.wait(OTHERS_PAUSE_S):
            try:
                connection.request("POST", TABLES, LISTS_JSON, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(f"another caller: {error!r}")
                connection.close()
                continue
            self.answers += 1
            if answer.status != 200:
                self.faults.append(f"another caller got {answer.status}")


@contextmanager
def callers() -> Iterator[tuple[Live, Caller]]:
    """Serve a model of each kind; yields the service and a caller of it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_bundle(folder, "flowers")
        make_bundle(folder, NUMBERS_MODEL, inputs=NUMBERS)
        port = free_port()
        server = stack.enter_context(live(folder, "--grpc-port", str(port), "--default-model", NUMBERS_MODEL))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        yield server, stack.enter_context(contextlib.closing(Caller(server, channel)))


def tried(caller: Caller, kind: str, numbers: Any, counts: Counter[str]) -> list[str]:
    """Return the findings of one kind; `numbers` makes those of a body of so many bytes."""
    return [
        f"{kind}: {line}" for body in BODIES[kind] for line in findings(caller, body, numbers(len(body.data)), counts)
    ]


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Send what the command line asks for and return 1 where there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", action="append", choices=BODIES, help="only this kind (may be given again)")
    parser.add_argument(
        "--inputs", type=int, default=30_000, help="inputs of each body; its bits and cuts are the first"
    )
    parser.add_argument("--step", type=int, default=1, help="every so many only")
    asked = parser.parse_args(arguments)
    lines: list[str] = []
    with callers() as (server, caller), OtherCaller(server) as other:
        for kind in asked.kind or BODIES:
            counts: Counter[str] = Counter()
            started_s = time.monotonic()
            found = tried(caller, kind, lambda _: islice(range(asked.inputs), 0, None, asked.step), counts)
            seconds = time.monotonic() - started_s
            _say(f"{kind}: {dict(counts)}, {len(found)} findings, {seconds:.0f} s", *found[:20])
            lines += found
        lines += other.faults
        _say(f"another caller: {other.answers} answers, {len(other.faults)} faults", *other.faults[:20])
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
