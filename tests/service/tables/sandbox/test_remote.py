"""Parquet of callers is read by processes that may end, be killed or never answer: the service refuses and goes on."""

import contextlib
import faulthandler
import io
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.runtime.processes import process_pool
from batchproof.service.runtime.processes.frames import PeerEndedError
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import PARQUET
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.sandbox import remote
from batchproof.service.tables.sandbox.remote import RemoteReader
from tests.fuzz_native import damaged
from tests.live import live
from tests.native_bodies import BODIES, NAMES, SIGNATURE, table

READING = Reading(Encoder(SIGNATURE), Parameters(extra="ignore", answer="append"), 2048, 1 << 30)
GOOD = BODIES["parquet"][0].data
NOT_GONE = lambda: None  # noqa: E731


@pytest.fixture
def reader() -> Iterator[RemoteReader]:
    """Return a reader whose helper is ended afterwards."""
    made = RemoteReader(256 << 20)
    yield made
    made.close()


def rows_of(reader: RemoteReader, data: bytes, reading: Reading = READING) -> int:
    with TemporaryFile(buffering=0) as file:
        file.write(data)
        return sum(block.rows for block in reader.blocks(file, PARQUET, reading, NOT_GONE))


def packed(content: pa.Table, **ways: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(content, sink, **ways)
    return sink.getvalue()


def refused(reader: RemoteReader, data: bytes, reading: Reading = READING) -> ServiceError:
    with pytest.raises(ServiceError) as error:
        rows_of(reader, data, reading)
    return error.value


@cache
def deadly(count: int = 3) -> list[bytes]:
    """Return tables that end the process which reads them: found by trying the bits of a footer."""
    return list(islice(_deadly(), count))


def _deadly() -> Iterator[bytes]:
    number, end = 8 * (len(GOOD) - 1200), 8 * len(GOOD)
    while number < end:
        numbers, sink = os.pipe()
        pid = os.fork()
        if not pid:
            _follow_footers(range(number, end), sink)
        os.close(sink)
        with os.fdopen(numbers) as file:
            number = int(file.read().split()[-1])  # the last one that was begun
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) < 0:
            yield damaged(GOOD, number)
        number += 1


def _follow_footers(numbers: range, sink: int) -> None:
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for number in numbers:
        os.write(sink, b"%d\n" % number)
        with contextlib.suppress(Exception):
            metadata = parquet.ParquetFile(io.BytesIO(damaged(GOOD, number))).metadata
            for group in range(metadata.num_row_groups):
                for place in range(metadata.num_columns):
                    metadata.row_group(group).column(place)
    os._exit(0)


def processes_of(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


def eventually(condition: Any) -> bool:
    end_s = time.monotonic() + 10
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.05)
    return bool(condition())


def helper_of(reader: RemoteReader) -> int:
    pid = reader.pool.helper_pid
    assert pid is not None
    return pid


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x91" * 100_000,  # lists in lists
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([["a"]]),
        msgspec.msgpack.encode([["a"], [], []]),
        msgspec.msgpack.encode([["a", 1], []]),
        msgspec.msgpack.encode(["a", []]),
        msgspec.msgpack.encode([["a"], []]) + b"\0",
    ],
)
def test_names_that_no_reader_says_go_no_further(payload: bytes) -> None:
    """A process that read a stranger's bytes may say anything: what is no list of names is as good as its end."""
    with pytest.raises(PeerEndedError):
        remote._names(payload)


def test_a_table_is_the_same_as_in_process(reader: RemoteReader) -> None:
    """Blocks of a process of its own have the bits, the types and the places of blocks that are read here."""
    for body in BODIES["parquet"][:2]:
        with TemporaryFile(buffering=0) as file:
            file.write(body.data)
            ours = list(blocks_of(io.BytesIO(body.data), PARQUET, READING))
            theirs = list(reader.blocks(file, PARQUET, READING, NOT_GONE))
        assert [block.batch() for block in theirs] == [block.batch() for block in ours]
        assert [block.batch().schema for block in theirs] == [block.batch().schema for block in ours]
        for block, other in zip(theirs, ours, strict=True):
            read, expected = block.read(), other.read()
            assert (block.place(0), list(read.kept)) == (other.place(0), list(expected.kept))
            for array, same in zip(read.arrays, expected.arrays, strict=True):
                assert array is not None
                assert same is not None
                assert array.tobytes() == same.tobytes()


def test_a_death_is_one_refusal(reader: RemoteReader) -> None:
    """Whoever sends what ends the reader's process gets 400 with a sentence, and the tables before and behind are read."""
    assert rows_of(reader, GOOD) == 12
    error = refused(reader, deadly()[0])
    assert (error.status, error.code) == (400, "broken_table")
    assert "the process that parsed it crashed or was killed; it ended by SIG" in error.message
    assert rows_of(reader, GOOD) == 12


def test_a_death_harms_no_other_table(reader: RemoteReader) -> None:
    """A table that is half read goes on to its end while others end their processes."""
    with TemporaryFile(buffering=0) as file:
        file.write(packed(pa.concat_tables([table()] * 1000)))
        blocks = reader.blocks(file, PARQUET, READING, NOT_GONE)
        rows = next(blocks).rows
        for fatal in deadly():
            assert refused(reader, fatal).code == "broken_table"
        assert rows + sum(block.rows for block in blocks) == 12_000


def test_columns_that_do_not_fit_are_refused_by_name(reader: RemoteReader) -> None:
    """What a model refuses of a table's columns has the sentence that it has in process."""
    error = refused(reader, packed(table().drop(["island"])))
    assert (error.status, error.code) == (422, "invalid_table")
    assert "no column 'island'" in error.message
    assert refused(reader, packed(table().rename_columns([*NAMES[:-1], "owned2"]))).code == "invalid_table"


def test_memory_is_bounded(reader: RemoteReader) -> None:
    """A table that takes more memory than its process may have is 413, whatever took it."""
    wide = {f"c{place}": pa.array([f"{place:08}" * 6000] * 12) for place in range(40)}
    content = table()
    for name, column in wide.items():
        content = content.append_column(name, column)
    small = RemoteReader(8 << 20)
    try:
        error = refused(small, packed(content, compression="zstd", use_dictionary=False))
        assert (error.status, error.code) == (413, "batch_too_large")
        assert rows_of(small, GOOD) == 12
    finally:
        small.close()


def test_processor_time_is_bounded(reader: RemoteReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is at one block for too long is refused: its process is ended."""
    monkeypatch.setattr(remote, "BLOCK_CPU_S", 0)
    many = packed(pa.concat_tables([table()] * 1100), data_page_size=1, write_batch_size=1, use_dictionary=False)
    error = refused(reader, many, READING._replace(block_rows=1 << 20))
    assert (error.status, error.code) == (400, "broken_table")
    assert "processor time" in error.message


def test_an_ended_helper_is_replaced(reader: RemoteReader) -> None:
    """Where the helper was killed from outside, the next table is read by another one."""
    assert rows_of(reader, GOOD) == 12
    first = helper_of(reader)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert rows_of(reader, GOOD) == 12
    assert helper_of(reader) != first


def test_a_helper_that_cannot_start_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started the caller may try again."""
    monkeypatch.setattr(process_pool, "COMMAND", ["/nonexistent/python"])
    error = refused(RemoteReader(256 << 20), GOOD)
    assert (error.status, error.code, error.retry_after_s) == (503, "reader_lost", 1)


def test_a_caller_that_leaves_ends_the_process(reader: RemoteReader) -> None:
    """A table that nobody waits for is not read on, however far its process was."""
    with TemporaryFile(buffering=0) as file:
        file.write(packed(pa.concat_tables([table()] * 5000)))
        blocks = reader.blocks(file, PARQUET, READING, NOT_GONE)
        next(blocks)
        assert len(processes_of(helper_of(reader))) == 1
        blocks.close()  # type: ignore[attr-defined]
        assert eventually(lambda: not processes_of(helper_of(reader)))


def test_a_process_is_not_far_ahead(reader: RemoteReader) -> None:
    """A table that is not read on waits in its process: it sends no more than its socket holds."""
    with TemporaryFile(buffering=0) as file:
        file.write(packed(pa.concat_tables([table()] * 50_000)))
        blocks = reader.blocks(file, PARQUET, READING, NOT_GONE)
        next(blocks)
        (pid,) = processes_of(helper_of(reader))
        assert eventually(lambda: " S " in Path(f"/proc/{pid}/stat").read_text())
        time.sleep(0.3)
        used = Path(f"/proc/{pid}/stat").read_text().split()[13]
        time.sleep(0.3)
        assert Path(f"/proc/{pid}/stat").read_text().split()[13] == used
        assert 2048 + sum(block.rows for block in blocks) == 600_000


def test_a_question_whether_to_go_on_ends_a_table(reader: RemoteReader) -> None:
    """While a process is silent the caller's departure is noticed, and the table given up."""
    rows_of(reader, GOOD)
    (pid,) = processes_of(helper_of(reader))
    os.kill(pid, signal.SIGSTOP)

    def gone() -> None:
        raise TimeoutError

    with TemporaryFile(buffering=0) as file:
        file.write(GOOD)
        blocks = reader.blocks(file, PARQUET, READING, gone)
        with pytest.raises(TimeoutError):
            next(blocks)
    assert eventually(lambda: pid not in processes_of(helper_of(reader)))


def test_a_silent_process_is_given_up(reader: RemoteReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that says nothing is ended, and the table that it had not begun is read by another one."""
    rows_of(reader, GOOD)
    (pid,) = processes_of(helper_of(reader))
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(process_pool, "SILENT_S", 5.0)
    monkeypatch.setattr(process_pool, "EXIT_S", 0.2)
    assert rows_of(reader, GOOD) == 12
    assert eventually(lambda: pid not in processes_of(helper_of(reader)))


def test_processes_are_used_again_until_they_are_old(reader: RemoteReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that read a table to its end reads the next ones, so many; one that refused a table reads no other."""
    monkeypatch.setattr(process_pool, "MOST_JOBS", 3)
    rows_of(reader, GOOD)
    (first,) = processes_of(helper_of(reader))
    rows_of(reader, GOOD)
    assert processes_of(helper_of(reader)) == [first]
    rows_of(reader, GOOD)
    assert eventually(lambda: processes_of(helper_of(reader)) == [])
    refused(reader, GOOD[:-1])
    assert eventually(lambda: processes_of(helper_of(reader)) == [])


def test_nothing_is_started_before_the_first_parquet(tmp_path: Path) -> None:
    """A service has no helper until a caller sends Parquet, and none outlives a service that is killed."""
    from tests.bundles import make_bundle
    from tests.http_client import ask

    make_bundle(tmp_path, "flowers")
    line = ",".join(NAMES) + "\n30,Oslo,1,2020-01-01,true,1,true\n"
    with contextlib.suppress(AssertionError), live(tmp_path) as server:
        assert ask(server, "POST", "/predict", line, content_type="text/csv").status == 200
        assert processes_of(server.process.pid) == []
        answer = ask(server, "POST", "/predict?extra=ignore", GOOD, content_type="application/vnd.apache.parquet")
        assert answer.status == 200
        (helper,) = processes_of(server.process.pid)
        server.process.kill()
        assert eventually(lambda: not Path(f"/proc/{helper}").exists())
        server.process.wait()
