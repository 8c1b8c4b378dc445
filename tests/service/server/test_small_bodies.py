"""What a small packed body may cost: a stranger pays a few kilobytes, so the service must not pay half a gigabyte."""

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.live import Live, live
from tests.service.server.http.connections.test_connection import ROW, request, talk, until_the_end

ROWS = 100_000  # the most of one request by default
MOST_MIB = 150  # of the 512 MiB that deploy/kubernetes.yaml grants, beside two processes of 100


def rows_of(row: object, ending: str = "") -> bytes:
    """Return a body of as many rows as are allowed, all the same."""
    return b'{"rows": [' + b",".join([json.dumps(row).encode()] * ROWS) + b"]" + ending.encode() + b"}"


def table_of(cells: list[object]) -> bytes:
    """Return as many lines of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(ROW)
    csv.writer(text, lineterminator="\n").writerows([cells] * 20_000)
    return text.getvalue().encode()


ON_ERROR = ', "on_error": "row"'
BAD_CELLS: list[object] = ["x"] * len(ROW)
CASES = {
    "empty rows": ("/predict", rows_of({}, ON_ERROR), ()),
    "no rows": ("/predict", rows_of(1, ON_ERROR), ()),
    "short rows": ("/predict", rows_of([1], ON_ERROR), ()),
    "wrong values": ("/predict", rows_of(dict.fromkeys(ROW, "x"), ON_ERROR), ()),
    "unknown features": ("/predict", rows_of({"q" * 20: 1}, ON_ERROR), ()),
    "good rows": ("/predict", rows_of(list(ROW.values())), ()),
    "good rows with details": ("/predict", rows_of(list(ROW.values()), ', "detail": true'), ()),
    "version 1": ("/v1/models/flowers:predict", rows_of(ROW).replace(b"rows", b"instances", 1), ()),
    "rows to CSV": ("/predict", rows_of(ROW), ("Accept: text/csv",)),
    "bad rows to CSV": ("/predict?on_error=row", rows_of({}), ("Accept: text/csv",)),
    "bad CSV to JSON": ("/predict?on_error=row", table_of(BAD_CELLS), ("Content-Type: text/csv", "Accept: application/json")),
    "one long row": ("/predict", b'{"rows": [[' + b"1," * 6_000_000 + b"1]]}", ()),
    "blanks": ("/predict", b'{"rows": [' + b" " * (31 << 20) + b"]}", ()),
    "nested lists": ("/predict", b'{"rows": [' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"]}", ()),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one model of every kind of feature with the bounds of a fresh installation."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    with live(models) as found:
        assert talk(found, request(json.dumps({"rows": [ROW]}).encode()))[0][0] == 200
        yield found


def memory_mib(server: Live, name: str) -> int:
    """Return VmRSS, what the server holds, or VmHWM, the most since `forget_peak`."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1]) >> 10


def forget_peak(server: Live) -> None:
    """Let VmHWM begin again at what is held now."""
    with os.fdopen(os.open(f"/proc/{server.process.pid}/clear_refs", os.O_WRONLY), "w") as file:
        file.write("5")


@pytest.mark.parametrize("case", CASES)
def test_a_small_packed_body_takes_little_memory(server: Live, case: str) -> None:
    """Whatever a body of some kilobytes unpacks to and is answered with, it takes no more memory than a pod has to spare."""
    path, body, headers = CASES[case]
    packed = gzip.compress(body, 6)
    assert len(packed) < 200_000
    forget_peak(server)
    before = memory_mib(server, "VmRSS")
    answer = until_the_end(
        server, request(packed, path, "POST", "Content-Encoding: gzip", "Connection: close", *headers)
    )
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 4"))
    assert memory_mib(server, "VmHWM") - before < MOST_MIB
