"""Answers on their way into the journal: each leaves once, late or not, whatever others, the disk or the process do."""

import asyncio
import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from batchproof.service.access.grant import Grant
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.admission import Lane, Ticket
from batchproof.service.journal.writing import channel, recording, waiting
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.recording import Journal, ModelJournal
from batchproof.service.journal.writing.waiting import HeldAnswers
from tests.service.journal.test_journal import group, rows_of, source

Heard = list[ServiceError | None]
HEAD_BYTES = 256  # of a frame with one request: more than it has before its arrays


class Head:
    """What is kept of a request's head."""

    grant: Grant | None = None

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id


def opened(folder: Path, **options: object) -> Journal:
    folder.mkdir(exist_ok=True)
    return Journal(Options(folder, **options), longest_s=20.0)  # type: ignore[arg-type]


def batch(model: ModelJournal, *sizes: int, first: int = 0, added: int = 0) -> list[Ticket]:
    """Record one batch of requests with so many rows each, and `added` rows behind them, as the batcher does."""
    tickets, outputs = [], []
    for place, rows in enumerate(sizes):
        ran = group(rows + added, first + place)
        ticket = Ticket(ran.arrays, rows + added, Lane(), 0.0, 0.0, 1.0, lambda *_: None)
        ticket.note = model.note(Head(f"id-{first + place}"), "native", rows) if model.is_chosen() else None
        tickets.append(ticket)
        outputs.append(ran.outputs)
    model.record(tickets, outputs)
    return tickets


def wait(tickets: list[Ticket], heard: Heard) -> None:
    for ticket in tickets:
        assert ticket.written is not None
        ticket.written.then(heard.append)


async def until(is_so: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.005)


def pid_of(journal: Journal) -> int:
    process = journal._channel._process
    assert process is not None
    return process.pid


def ids(folder: Path) -> list[str]:
    return [row["request_id"] for row in rows_of(folder)]


def test_dropping_lets_no_answer_wait(tmp_path: Path) -> None:
    """With `drop` no ticket gets anything to wait for, and all rows of several models are written in order."""

    async def scene() -> None:
        models = [ModelJournal(journal, source(version=version), 1.0) for version in (1, 2)]
        for number in range(30):
            tickets = batch(models[number % 2], 1, 2, first=10 * number)
            assert all(ticket.written is None for ticket in tickets)
            if number % 10 == 9:
                await asyncio.sleep(0.03)

    journal = opened(tmp_path)
    asyncio.run(scene())
    assert journal.close()
    assert journal.counts.written_rows == 90
    assert journal.counts.segments == 2
    wanted = [
        f"id-{10 * number + place}" for parity in (0, 1) for number in range(parity, 30, 2) for place in (0, 1, 1)
    ]
    assert sorted(ids(tmp_path)) == sorted(wanted)


def test_refusing_lets_answers_wait_until_they_are_read_back(tmp_path: Path) -> None:
    """With `refuse` an answer may leave once its rows can be read from the disk, in the order of the batches."""

    async def scene() -> None:
        model = ModelJournal(journal, source(), 1.0)
        for number in range(20):
            heard: Heard = []
            wait(batch(model, 1, 3, first=2 * number), heard)
            assert heard == []
            await until(lambda heard=heard: len(heard) == 2)
            assert heard == [None, None]
            assert {f"id-{2 * number}", f"id-{2 * number + 1}"} <= set(ids(tmp_path))

    journal = opened(tmp_path, full="refuse")
    asyncio.run(scene())
    assert journal.close()
    assert journal.counts.written_rows == 80


def test_only_the_callers_rows_are_recorded(tmp_path: Path) -> None:
    """Rows behind the caller's, of explanations, are not recorded; nor is a request without a note or without rows."""

    async def scene() -> None:
        model = ModelJournal(journal, source(), 1.0)
        assert model.note(Head("none"), "native", 0) is None
        batch(model, 2, 1, added=5)

    journal = opened(tmp_path)
    asyncio.run(scene())
    journal.close()
    assert [(row["request_id"], row["row"]) for row in rows_of(tmp_path)] == [("id-0", 0), ("id-0", 1), ("id-1", 0)]
    assert rows_of(tmp_path)[2]["out:probabilities"] == group(6, 1).outputs["probabilities"][0].tolist()


def test_a_share_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A request is kept where its draw is below the share, whatever batch it is in; with a share of 1 nothing is drawn."""
    draws = iter(np.linspace(0, 0.99, 100))
    monkeypatch.setattr(recording, "_draw", lambda: next(draws))

    async def scene() -> None:
        part, whole = (ModelJournal(journal, source(), share) for share in (0.25, 1.0))
        assert whole.is_chosen()
        for first in range(0, 100, 4):
            tickets = batch(part, 1, 1, 1, 1, first=first)
            assert all((ticket.written is None) == (ticket.note is None) for ticket in tickets)
        await journal.empty()

    journal = opened(tmp_path, full="refuse")
    asyncio.run(scene())
    journal.close()
    assert ids(tmp_path) == [f"id-{number}" for number in range(25)]


def test_the_next_run_waits_for_answers_that_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is postponed while answers are held: until they have left, and where the disk hangs, no longer than a moment."""

    async def scene() -> list[str]:
        model = ModelJournal(journal, source(), 1.0)
        seen: list[str] = []

        def hold(first: int) -> None:
            assert not model.postpone(lambda: seen.append("nothing is held"))
            (ticket,) = batch(model, 1, first=first)
            assert model.postpone(lambda: seen.append("run"))
            assert ticket.written is not None
            ticket.written.then(lambda _: seen.append("answer"))

        monkeypatch.setattr(waiting, "POSTPONED_S", 30.0)
        hold(0)
        await until(lambda: "run" in seen)
        monkeypatch.setattr(waiting, "POSTPONED_S", 0.01)
        os.kill(pid_of(journal), signal.SIGSTOP)
        hold(1)
        await until(lambda: seen.count("run") == 2)
        os.kill(pid_of(journal), signal.SIGCONT)
        await until(lambda: seen.count("answer") == 2)
        return seen

    journal = opened(tmp_path, full="refuse")
    seen = asyncio.run(scene())
    journal.close()
    assert seen == ["answer", "run", "run", "answer"]


def test_where_nothing_is_held_no_run_waits(tmp_path: Path) -> None:
    """With `drop` no run is postponed."""

    async def scene() -> None:
        model = ModelJournal(journal, source(), 1.0)
        batch(model, 1)
        assert not model.postpone(lambda: None)

    journal = opened(tmp_path)
    asyncio.run(scene())
    journal.close()


def test_a_disk_that_hangs_leaves_nobody_without_an_answer(tmp_path: Path) -> None:
    """After the longest wait a held answer is 503, once, even if its rows are written after all."""

    async def scene() -> Heard:
        model, heard = ModelJournal(journal, source(), 1.0), []
        wait(batch(model, 1), heard)
        await journal.empty()
        os.kill(pid_of(journal), signal.SIGSTOP)
        journal._held = HeldAnswers(longest_s=0.2)
        wait(batch(model, 1, 1, first=1), heard)
        await asyncio.wait_for(journal.empty(), 10)
        os.kill(pid_of(journal), signal.SIGCONT)
        await until(lambda: journal.counts.written_rows == 3)
        return heard

    journal = opened(tmp_path, full="refuse")
    heard = asyncio.run(scene())
    journal.close()
    assert [error and error.code for error in heard] == [None, "journal_full", "journal_full"]
    assert ids(tmp_path) == ["id-0", "id-1", "id-2"]


@pytest.mark.parametrize("full", ["drop", "refuse"])
def test_what_waits_is_bounded(tmp_path: Path, full: str) -> None:
    """While the disk takes nothing, no more than the buffer waits; the rest is dropped or refused, and counted."""
    heard: Heard = []

    async def scene() -> int:
        model = ModelJournal(journal, source(), 1.0)
        batch(model, 1)
        journal.flush()
        await until(lambda: journal.counts.written_rows == 1)
        os.kill(pid_of(journal), signal.SIGSTOP)
        most_bytes = 0
        for number in range(1, 60):
            tickets = batch(model, 2000, first=number)
            if full == "refuse":
                wait(tickets, heard)
            journal.flush()
            most_bytes = max(most_bytes, journal._channel.waiting_bytes)
        assert not journal.has_room
        if full == "refuse":
            with pytest.raises(ServiceError, match="journal"):
                model.check_room()
        else:
            model.check_room()
        os.kill(pid_of(journal), signal.SIGCONT)
        await until(lambda: journal._channel.waiting_bytes == 0)
        await journal.empty()
        return most_bytes

    journal = opened(tmp_path, full=full, buffer_bytes=1_000_000)
    most_bytes = asyncio.run(scene())
    journal.close()
    counts = journal.counts
    lost_rows = counts.dropped_rows if full == "drop" else counts.refused_rows
    assert most_bytes < 1_000_000 + 500_000
    assert lost_rows > 0
    assert counts.dropped_rows + counts.refused_rows == lost_rows
    assert counts.written_rows + lost_rows == 1 + 59 * 2000
    assert len(rows_of(tmp_path)) == counts.written_rows
    assert sum(error is not None for error in heard) * 2000 == (lost_rows if full == "refuse" else 0)


@pytest.mark.parametrize("rows", [1, 500, 20_000])
def test_all_that_is_in_memory_counts_as_waiting(tmp_path: Path, rows: int) -> None:
    """While the disk takes nothing, memory holds the buffer and one batch at most, however large batches are.

    Once the process has taken what waited, or was killed with it, nothing counts as waiting.
    """

    async def scene() -> None:
        model, channel = ModelJournal(journal, source(), 1.0), journal._channel
        ran = group(rows)
        ticket = Ticket(ran.arrays, rows, Lane(), 0.0, 0.0, 1.0, lambda *_: None)
        ticket.note = model.note(Head("id"), "native", rows)
        values = [*ran.arrays, *ran.outputs.values()]
        batch_bytes = sum(array.nbytes for array in values if array is not None) + HEAD_BYTES
        model.record([ticket], [ran.outputs])
        journal.flush()
        await until(lambda: journal.counts.written_rows == rows)
        for outcome in (signal.SIGCONT, signal.SIGKILL, signal.SIGCONT):
            os.kill(pid_of(journal), signal.SIGSTOP)
            while journal.has_room:
                model.record([ticket], [ran.outputs])
                journal.flush()
            kept = [channel._partial, *(frame.parts for frame in channel._unsent)]
            kept_bytes = sum(len(part) for parts in kept for part in parts)
            assert kept_bytes == channel.waiting_bytes
            assert kept_bytes < journal.options.buffer_bytes + batch_bytes
            os.kill(pid_of(journal), outcome)
            await until(lambda: channel.waiting_bytes == 0 and channel._socket is not None)

    journal = opened(tmp_path, buffer_bytes=200_000)
    asyncio.run(scene())
    assert journal.close()


def test_a_reply_that_raises_keeps_no_other_from_its_caller(tmp_path: Path) -> None:
    """Where one held answer raises as it is sent, the others of the same batch and of later ones are sent still."""
    unforeseen: list[object] = []

    def broken(_: ServiceError | None) -> None:
        raise ValueError("a reply that raises")

    async def scene() -> Heard:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unforeseen.append(context["exception"]))
        model, heard = ModelJournal(journal, source(), 1.0), []
        first, *others = batch(model, 1, 1, 1)
        assert first.written is not None
        first.written.then(broken)
        wait(others, heard)
        wait(batch(model, 1, 1, first=3), heard)
        await until(lambda: len(heard) == 4)
        return heard

    journal = opened(tmp_path, full="refuse")
    assert asyncio.run(scene()) == [None] * 4
    journal.close()
    assert [str(error) for error in unforeseen] == ["a reply that raises"]


@pytest.mark.parametrize("full", ["drop", "refuse"])
def test_a_killed_writing_process_is_started_again(tmp_path: Path, full: str) -> None:
    """What the process had not said to be written is refused or dropped and counted, and later rows are written."""

    async def scene() -> Heard:
        model, heard = ModelJournal(journal, source(), 1.0), []

        async def record(first: int) -> None:
            tickets = batch(model, 1, 1, first=first)
            if full == "refuse":
                wait(tickets, heard)
            journal.flush()

        await record(0)
        await until(lambda: journal.counts.written_rows == 2)
        os.kill(pid_of(journal), signal.SIGSTOP)
        await record(2)
        os.kill(pid_of(journal), signal.SIGKILL)
        await until(lambda: journal.restarts == 1)
        assert journal.has_room
        await record(4)
        await record(6)
        await until(lambda: journal.counts.written_rows == 6)
        return heard

    journal = opened(tmp_path, full=full)
    heard = asyncio.run(scene())
    journal.close()
    lost_rows = journal.counts.dropped_rows if full == "drop" else journal.counts.refused_rows
    assert lost_rows == 2
    assert ids(tmp_path) == [f"id-{number}" for number in (0, 1, 4, 5, 6, 7)] or set(ids(tmp_path)) == {
        f"id-{number}" for number in (0, 1, 4, 5, 6, 7)
    }
    if full == "refuse":
        assert [error and error.code for error in heard] == [None, None, "journal_full", "journal_full", *[None] * 4]


def test_what_a_killed_process_had_not_taken_goes_to_the_next(tmp_path: Path) -> None:
    """Rows that were still in memory are written by the new process, and each answer hears of its own rows."""

    async def scene() -> dict[int, Heard]:
        model = ModelJournal(journal, source(), 1.0)
        batch(model, 1)
        await until(lambda: journal.counts.written_rows == 1)
        os.kill(pid_of(journal), signal.SIGSTOP)
        heard: dict[int, Heard] = {}
        for number in range(1, 9):
            heard[number] = []
            wait(batch(model, 10_000, first=number), heard[number])
        assert journal._channel._unsent
        os.kill(pid_of(journal), signal.SIGKILL)
        await asyncio.wait_for(journal.empty(), 20)
        await until(lambda: all(heard.values()))
        return heard

    journal = opened(tmp_path, full="refuse")
    heard = asyncio.run(scene())
    journal.close()
    kept = set(ids(tmp_path))
    outcomes = [errors[0] is None for errors in heard.values()]
    assert all(len(errors) == 1 for errors in heard.values())
    assert outcomes == sorted(outcomes)
    assert 0 < sum(outcomes) < len(outcomes)
    assert {f"id-{number}" for number, errors in heard.items() if errors[0] is None} <= kept
    assert journal.counts.written_rows + journal.counts.refused_rows == 80_001


def test_a_process_that_keeps_ending_is_not_started_without_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process ends as it begins, it is started once a pause, and answers wait no longer than they may."""
    monkeypatch.setattr("batchproof.service.journal.writing.channel.COMMAND", ["false"])
    monkeypatch.setattr("batchproof.service.journal.writing.channel.RETRY_S", 0.2)

    async def scene() -> Heard:
        model, heard = ModelJournal(journal, source(), 1.0), []
        journal._held = HeldAnswers(longest_s=0.5)
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s:
            wait(batch(model, 1), heard)
            await asyncio.sleep(0.05)
        await asyncio.wait_for(journal.empty(), 10)
        return heard

    journal = opened(tmp_path, full="refuse")
    heard = asyncio.run(scene())
    journal.close(0.1)
    assert heard
    assert all(error is not None and error.status == 503 for error in heard)
    assert 1 <= journal.restarts <= 10


def refusing_starts(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Let the system refuse each new process until `monkeypatch.undo`, as it does where it has no room for one."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    module, function = place.split(".")
    names = {**vars(getattr(channel, module)), function: refuse}
    monkeypatch.setattr(channel, module, SimpleNamespace(**names))  # there alone: the loop has sockets of its own


REFUSED = ["subprocess.Popen", "socket.socketpair"]


@pytest.mark.parametrize("place", REFUSED)
@pytest.mark.parametrize("refused", ["at the start", "and as the loop begins"])
@pytest.mark.parametrize("full", ["drop", "refuse"])
def test_a_start_that_the_system_refuses_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str, refused: str, place: str
) -> None:
    """Where the system has no room for a writing process, one is started as soon as it has, and takes what waited."""
    monkeypatch.setattr(channel, "RETRY_S", 0.1)
    with monkeypatch.context() as refusing:
        refusing_starts(refusing, place)
        journal = opened(tmp_path, full=full)
        if refused == "at the start":
            refusing.undo()

        async def scene() -> Heard:
            model, heard = ModelJournal(journal, source(), 1.0), []
            for first in (0, 2):
                tickets = batch(model, 1, 1, first=first)
                if full == "refuse":
                    wait(tickets, heard)
                journal.flush()
                if first == 0 and refused != "at the start":
                    assert journal._channel._process is None
                    refusing.undo()
                await until(lambda first=first: journal.counts.written_rows == first + 2)
            await journal.empty()
            return heard

        heard = asyncio.run(scene())
    assert journal.close()
    assert sorted(ids(tmp_path)) == [f"id-{number}" for number in range(4)]
    assert heard == ([None] * 4 if full == "refuse" else [])


@pytest.mark.parametrize("place", REFUSED)
def test_a_process_that_ends_while_the_system_has_no_room_is_replaced_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """What the ended process had is refused at once, and later rows are written by the next one, once there is room."""
    monkeypatch.setattr(channel, "RETRY_S", 0.1)

    async def scene(refusing: pytest.MonkeyPatch) -> tuple[Heard, Heard]:
        model = ModelJournal(journal, source(), 1.0)
        lost: Heard = []
        later: Heard = []
        wait(batch(model, 1), lost)
        await until(lambda: len(lost) == 1)
        await asyncio.sleep(channel.RETRY_S)  # the process has lasted, so the next start is at once
        os.kill(pid_of(journal), signal.SIGSTOP)
        wait(batch(model, 1, first=1), lost)
        refusing_starts(refusing, place)
        os.kill(pid_of(journal), signal.SIGKILL)
        await until(lambda: len(lost) == 2)
        wait(batch(model, 1, first=2), later)
        assert journal._channel._socket is None
        refusing.undo()
        await until(lambda: len(later) == 1)
        return lost, later

    journal = opened(tmp_path, full="refuse")
    with monkeypatch.context() as refusing:
        lost, later = asyncio.run(scene(refusing))
    assert journal.close()
    assert [error and error.code for error in lost] == [None, "journal_full"]
    assert later == [None]
    assert journal.restarts == 1


def test_a_start_that_raises_keeps_no_answer_from_its_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong as the next process is started, the answers that the ended one had are sent."""

    def broken() -> None:
        raise MemoryError

    async def scene() -> Heard:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        model, heard = ModelJournal(journal, source(), 1.0), []
        wait(batch(model, 1), heard)
        await until(lambda: len(heard) == 1)
        os.kill(pid_of(journal), signal.SIGSTOP)
        wait(batch(model, 1, first=1), heard)
        monkeypatch.setattr(channel, "RETRY_S", 0.0)
        monkeypatch.setattr(channel, "_spawn", broken)
        os.kill(pid_of(journal), signal.SIGKILL)
        await until(lambda: len(heard) == 2)
        return heard

    journal = opened(tmp_path, full="refuse")
    assert [error and error.code for error in asyncio.run(scene())] == [None, "journal_full"]


def test_a_retired_model_is_finished(tmp_path: Path) -> None:
    """The segment of a model that left is finished, with all that was recorded of it, from whatever thread it is said."""

    async def scene() -> None:
        first, second = (ModelJournal(journal, source(version=version), 1.0) for version in (1, 2))
        batch(first, 3)
        await asyncio.to_thread(first.retire)
        await until(lambda: journal.counts.segments == 1)
        assert journal.counts.written_rows == 3
        batch(second, 2, first=1)

    journal = opened(tmp_path)
    asyncio.run(scene())
    journal.close()
    assert (journal.counts.segments, journal.counts.written_rows) == (2, 5)


def test_large_rows_go_in_parts(tmp_path: Path) -> None:
    """A batch of many times what a socket takes arrives whole, while the loop goes on."""

    async def scene() -> Outputs:
        model = ModelJournal(journal, source(), 1.0)
        (ticket,) = batch(model, 30_000)
        heard: Heard = []
        wait([ticket], heard)
        turns = 0
        while not heard:
            await asyncio.sleep(0)
            turns += 1
        assert heard == [None]
        assert turns > 10
        return group(30_000).outputs

    journal = opened(tmp_path, full="refuse")
    outputs = asyncio.run(scene())
    journal.close()
    rows = rows_of(tmp_path)
    kept = np.array([row["out:probabilities"] for row in rows], np.float32)
    assert kept.tobytes() == outputs["probabilities"].tobytes()


def test_a_journal_that_is_closed_takes_nothing(tmp_path: Path) -> None:
    """After the end no rows are taken, and they are counted."""

    async def scene() -> None:
        model = ModelJournal(journal, source(), 1.0)
        assert journal.close()
        batch(model, 4)
        assert not journal.has_room

    journal = opened(tmp_path)
    asyncio.run(scene())
    assert journal.counts.dropped_rows == 4


def test_a_stop_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    """Where the disk hangs, closing gives up after its time and says so; the process finishes what it has later."""

    async def scene() -> bool:
        model = ModelJournal(journal, source(), 1.0)
        batch(model, 1)
        journal.flush()
        await until(lambda: journal.counts.written_rows == 1)
        os.kill(pid_of(journal), signal.SIGSTOP)
        batch(model, 1, first=1)
        is_finished = journal.close(0.2)
        os.kill(pid_of(journal), signal.SIGCONT)
        return is_finished

    journal = opened(tmp_path)
    assert not asyncio.run(scene())
    assert journal._channel._process is not None
    assert journal._channel._process.wait(20) == 0
    assert ids(tmp_path) == ["id-0", "id-1"]
