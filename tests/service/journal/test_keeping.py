"""Answers that wait for the journal: each leaves once, late or not, whatever others do."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from batchproof.service.access.grant import Grant
from batchproof.service.errors import ServiceError
from batchproof.service.journal import segment
from batchproof.service.journal.writing import keeping
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.keeping import HeldAnswers, ModelJournal
from batchproof.service.journal.writing.writer import Journal
from tests.service.journal.test_journal import entry, rows_of, source


class Head:
    """What is kept of a request's head."""

    request_id = "mine"
    grant: Grant | None = None


def hand_over(journal: ModelJournal, heard: list[ServiceError | None], rows: int = 1) -> None:
    one = entry(rows)
    journal.hold(heard.append, Head(), "native", one.arrays, rows, one.outputs)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what lets a disk go on that takes no write before."""
    released = threading.Event()
    sound = segment.Segment.write
    monkeypatch.setattr(segment.Segment, "write", lambda self, batch: (released.wait(30), sound(self, batch))[1])
    return released


def test_a_disk_that_hangs_leaves_nobody_without_an_answer(tmp_path: Path, slow: threading.Event) -> None:
    """After the longest wait a held answer is 503, once, even if its rows are written after all."""
    writer = Journal(Options(tmp_path, full="refuse"))

    async def scene() -> list[ServiceError | None]:
        held = HeldAnswers(longest_s=0.2)
        heard: list[ServiceError | None] = []
        hand_over(ModelJournal(writer, source(), held, 1.0), heard)
        await asyncio.wait_for(held.empty(), 10)
        assert [error and error.code for error in heard] == ["journal_full"]
        slow.set()
        await asyncio.sleep(0.3)
        return heard

    heard = asyncio.run(scene())
    writer.close()
    assert len(heard) == 1
    assert [row["request_id"] for row in rows_of(tmp_path)] == ["mine"]


def test_a_slow_disk_refuses_what_has_no_room(tmp_path: Path, slow: threading.Event) -> None:
    """While the buffer is full no further answer is held: it is 503 at once, and what was held leaves once it is written."""
    writer = Journal(Options(tmp_path, full="refuse", buffer_bytes=3000))

    async def scene() -> tuple[int, int]:
        held = HeldAnswers(longest_s=20)
        journal, heard = ModelJournal(writer, source(), held, 1.0), []
        hand_over(journal, heard)
        while writer._waiting:  # noqa: ASYNC110 - the writer's thread empties it
            await asyncio.sleep(0.01)
        for _ in range(10):
            hand_over(journal, heard)
        await asyncio.sleep(0.1)
        refused = len(heard)
        with pytest.raises(ServiceError, match="journal"):
            journal.check_room()
        slow.set()
        await asyncio.wait_for(held.empty(), 20)
        assert all(error is not None for error in heard[:refused])
        assert heard[refused:] == [None] * (11 - refused)
        return refused, len(heard)

    refused, answered = asyncio.run(scene())
    writer.close()
    assert 0 < refused < answered == 11
    assert (writer.counts.refused_rows, writer.counts.written_rows) == (refused, 11 - refused)
    assert len(rows_of(tmp_path)) == 11 - refused


def test_a_reply_that_raises_keeps_no_other_from_its_caller(tmp_path: Path) -> None:
    """Where one held answer raises as it is sent, the others of the same write are sent still."""
    writer = Journal(Options(tmp_path, full="refuse"))
    unforeseen: list[object] = []

    async def scene() -> list[ServiceError | None]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unforeseen.append(context["exception"]))
        held = HeldAnswers(longest_s=20)
        journal = ModelJournal(writer, source(), held, 1.0)
        heard: list[ServiceError | None] = []

        def broken(_: ServiceError | None) -> None:
            raise ValueError("a reply that raises")

        one = entry()
        journal.hold(broken, Head(), "native", one.arrays, 1, one.outputs)
        for _ in range(5):
            hand_over(journal, heard)
        await asyncio.wait_for(held.empty(), 20)
        return heard

    assert asyncio.run(scene()) == [None] * 5
    writer.close()
    assert [str(error) for error in unforeseen] == ["a reply that raises"]


def test_a_sample_keeps_no_batch_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a sample, and rows before those of an explanation, are copied: a view would hold all of its batch."""
    entries = []
    monkeypatch.setattr(Journal, "append", lambda _self, _source, one: entries.append(one) or True)
    writer = Journal(Options(tmp_path))
    whole = entry(50)
    view = {name: values[:2] for name, values in whole.outputs.items()}
    for share, rows in ((0.5, 2), (1.0, 2)):
        journal = ModelJournal(writer, source(), HeldAnswers(1.0), share)
        journal.keep(Head(), "native", whole.arrays, rows, view)
    writer.close()

    for one in entries:
        assert all(array is None or (len(array), array.base) == (2, None) for array in one.arrays)
        assert all(values.base is None for values in one.outputs.values())


def test_a_share_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A request is kept where its draw is below the share; with a share of 1 nothing is drawn."""
    writer = Journal(Options(tmp_path))
    draws = iter(np.linspace(0, 0.99, 100))
    monkeypatch.setattr(keeping, "_draw", lambda: next(draws))
    part, whole = (ModelJournal(writer, source(), HeldAnswers(1.0), share) for share in (0.25, 1.0))
    writer.close()

    assert sum(part.is_chosen() for _ in range(100)) == 25
    assert whole.is_chosen()
