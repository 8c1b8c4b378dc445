"""Places for tables: a caller that sends a byte now and then keeps its place only while nobody needs it."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchproof.service.errors import ServiceError
from batchproof.service.tables.streaming import slots
from batchproof.service.tables.streaming.slots import TableSlot, TableSlots
from tests.bundles import make_bundle
from tests.live import Live, live
from tests.service.tables.streaming.test_endpoint import HEAD, ROW, opened, post, received, send_chunk


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(slots.time, "monotonic", lambda: now[0])
    return now


def waiting(table: TableSlot, ended: list[ServiceError]) -> TableSlot:
    table.give_up = ended.append
    table.wait()
    return table


def test_the_slowest_gives_its_place(clock: list[float]) -> None:
    """Where every place is taken the slowest slow caller is ended, once; fast and finished ones are not."""
    places = TableSlots(3)
    ended: dict[str, list[ServiceError]] = {"trickles": [], "stops": [], "flows": []}
    tables = {name: waiting(places.take(), errors) for name, errors in ended.items()}
    clock[0] += 10
    tables["trickles"].received(10)
    tables["trickles"].wait()
    tables["flows"].received(1 << 20)
    tables["flows"].wait()
    for expected in (["stops"], ["stops", "trickles"], ["stops", "trickles"]):
        with pytest.raises(ServiceError, match="3 tables are being answered"):
            places.take()
        assert [name for name in ("stops", "trickles", "flows") if ended[name]] == expected
    assert all(error.code == "body_stalled" for error in ended["stops"] + ended["trickles"])
    assert all(len(errors) <= 1 for errors in ended.values())
    places.leave(tables["stops"])
    places.take()


def test_only_waiting_counts(clock: list[float]) -> None:
    """A caller whose body waits for the engine is not slow, nor one within its grace, nor one whose body is whole."""
    ended: list[ServiceError] = []
    table = waiting(TableSlot(), ended)
    clock[0] += slots.GRACE_S - 0.1
    assert not table.is_slow
    table.received(1)
    clock[0] += 1000
    assert not table.is_slow
    table.wait()
    clock[0] += 1
    assert table.is_slow
    table.give_up = None
    assert not table.is_slow


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Live]:
    make_bundle(tmp_path)
    with live(tmp_path, "--table-requests", "2", "--timeout-s", "60") as server:
        yield server


def is_ended(connection: socket.socket) -> bool:
    """Return whether the table was refused for its slowness."""
    connection.settimeout(2)
    with contextlib.suppress(TimeoutError, OSError, AssertionError):
        return b"body_stalled" in received(connection, b"body_stalled")
    return False


def test_trickling_tables_do_not_keep_others_out(crowded: Live) -> None:
    """Tables that send a byte now and then lose their places to others, with 408; the others are answered."""
    trickling: list[socket.socket] = []
    for _ in range(2):
        connection = opened(crowded)
        send_chunk(connection, HEAD)
        trickling.append(connection)
    deadline_s = time.monotonic() + 60
    while (answer := post(crowded, HEAD + ROW)).status_code != 200:
        assert answer.status_code == 429
        assert time.monotonic() < deadline_s
        for connection in trickling:
            with contextlib.suppress(OSError):
                send_chunk(connection, " ")
        time.sleep(0.5)
    ended = [connection for connection in trickling if is_ended(connection)]
    assert ended
    for connection in trickling:
        connection.close()
