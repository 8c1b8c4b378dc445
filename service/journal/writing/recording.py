"""How answered requests get into the journal: batch by batch, as they come out of the engine.

A `ModelJournal` is one deployment's way into the journal of its process. A request that is to be recorded brings a note
along into the queue, and when its batch has run, `record` takes the notes and the rows. With `drop` those of several
batches become one frame after a few milliseconds, because each frame costs both processes a fixed time. With `refuse` a
frame goes out at once, so that the rows are written while the answers are encoded; each ticket gets a `Written`, and its
answer leaves when that is known.
"""

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.admission import Ticket
from batchproof.service.inference.runner import SplitOutputs
from batchproof.service.journal.entries import ROWS, Note, Source
from batchproof.service.journal.writing.chain import GATHER_S, RETRY_S, Counts, Options
from batchproof.service.journal.writing.channel import LOST, SEND_BYTES, Channel
from batchproof.service.journal.writing.frames import OPTIONS, RETIRE, SOURCE, Kept, Part, frame, group_frame
from batchproof.service.journal.writing.waiting import HeldAnswers, Written, journal_full, refused

if TYPE_CHECKING:
    from batchproof.service.access.grant import Grant

PAUSE_S = 0.01  # between two looks whether there is room
_draw = random.random


class Asker(Protocol):
    """What is kept of the head of a request."""

    request_id: str
    grant: "Grant | None"


class Journal:
    """The journal of one process: what is on its way to the writing process, and who waits for it.

    All methods are called on the event loop, but `add` and `retire`, which any thread may call.
    """

    def __init__(self, options: Options, longest_s: float = 10.0, logs: tuple[str, str] = ("auto", "info")) -> None:
        """Start the writing process, which logs in this format and from this level on.

        An answer waits for `longest_s` at most: a disk that hangs must not leave its caller without any.
        """
        self.options = options
        self.counts = Counts()
        self.longest_s = longest_s
        self._logs = logs
        self._numbers = itertools.count(1)
        self._sources: dict[int, Source] = {}
        self._announced: set[int] = set()  # sources that the writing process knows
        # By source, the runs of its next frame: when they ended, and how many rows of them are kept.
        self._gathered: defaultdict[int, list[tuple[float, int, Kept]]] = defaultdict(list)
        self._gathered_bytes = 0
        self._is_timed = False  # whether a call of _end_gathering is scheduled
        self._held = HeldAnswers(longest_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failing_until_s = 0.0  # monotonic: until then nobody asks the disk again
        self._is_closing = False
        self._channel = Channel(self._greeting, self._count)

    @property
    def has_room(self) -> bool:
        """Return whether the next rows are likely to be written: there is room, and the disk did not just refuse."""
        return self._has_space and (not self._failing_until_s or time.monotonic() >= self._failing_until_s)

    @property
    def restarts(self) -> int:
        """Return how often the writing process ended and was started again."""
        return self._channel.restarts

    def attach(self) -> None:
        """Let the writing process begin; the first rows do so too."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._channel.attach(self._loop)

    def add(self, source: Source) -> int:
        """Take rows of this source from now on; returns its number."""
        number = next(self._numbers)
        self._sources[number] = source
        return number

    def retire(self, number: int) -> None:
        """Finish the segment of a source that has no more rows."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._retire, number)

    def record(self, number: int, kept: Kept, rows: int) -> Written | None:
        """Take the `rows` rows of answered requests; returns what their answers have to wait for, None where they need not."""
        if not self._has_space:
            self._count_lost(rows)
            return refused() if self.options.full == "refuse" else None
        self.attach()
        source = self._sources[number]
        if number not in self._announced:
            self._announced.add(number)
            self._channel.send(frame(SOURCE, [number, source.as_plain()]), _ignore)
        if self.options.full == "refuse":
            written = self._held.add()
            parts = group_frame(number, source, [kept], [(time.time(), len(kept.notes))])
            self._channel.send(parts, partial(self._on_held_done, rows, written))
            self._channel.flush()
            return written
        self._gather(number, kept, rows)
        return None

    def flush(self) -> None:
        """Send what was gathered."""
        for number, runs in self._gathered.items():
            times = [(time_s, len(kept.notes)) for time_s, _, kept in runs]
            parts = group_frame(number, self._sources[number], [kept for _, _, kept in runs], times)
            self._channel.send(parts, partial(self._on_done, sum([rows for _, rows, _ in runs])))
        self._gathered.clear()
        self._gathered_bytes = 0
        self._channel.flush()

    async def empty(self) -> None:
        """Return when no answer waits any more."""
        await self._held.empty()

    def close(self, timeout_s: float = 60.0) -> bool:
        """Write what waits, finish every segment and end the process; returns whether that was done in `timeout_s`."""
        self._is_closing = True
        self.flush()
        return self._channel.close(timeout_s)

    @property
    def _has_space(self) -> bool:
        waiting_bytes = self._channel.waiting_bytes + self._gathered_bytes
        return not self._is_closing and waiting_bytes < self.options.buffer_bytes

    def postpone(self, call: Callable[[], None]) -> bool:
        """Call `call` when the answers that are held now have left, or soon after; False where none is held."""
        return self._held.postpone(call)

    def _gather(self, number: int, kept: Kept, rows: int) -> None:
        """Keep the rows until they are enough for one call, or for GATHER_S."""
        self._gathered[number].append((time.time(), rows, kept))
        self._gathered_bytes += rows * self._sources[number].row_bytes
        if self._gathered_bytes >= SEND_BYTES:
            self.flush()
        elif not self._is_timed:
            self._is_timed = True
            asyncio.get_running_loop().call_later(GATHER_S, self._end_gathering)

    def _end_gathering(self) -> None:
        self._is_timed = False
        self.flush()

    def _on_done(self, rows: int, failure: str | None) -> None:
        """Count what became of rows."""
        if failure is None:
            self.counts.written_rows += rows
            self._failing_until_s = 0.0
        else:
            if failure != LOST:  # the disk is well, and the next process takes rows at once
                self._failing_until_s = time.monotonic() + RETRY_S
            self._count_lost(rows)

    def _on_held_done(self, rows: int, written: Written, failure: str | None) -> None:
        self._on_done(rows, failure)
        self._held.end(written, None if failure is None else journal_full())

    def _retire(self, number: int) -> None:
        def forget(_: str | None) -> None:
            self._announced.discard(number)
            self._sources.pop(number, None)

        if number in self._announced:
            self.flush()
            self._channel.send(frame(RETIRE, number), forget)
            self._channel.flush()
        else:
            forget(None)

    def _greeting(self) -> list[Part]:
        """Return what a new writing process must know first."""
        log_format, log_level = self._logs
        return frame(
            OPTIONS,
            {
                "options": {**asdict(self.options), "folder": str(self.options.folder)},
                "sources": [[number, self._sources[number].as_plain()] for number in self._announced],
                "log_format": log_format,
                "log_level": log_level,
            },
        )

    def _count(self, counts: Sequence[int]) -> None:
        failures, segments, uploads, upload_failures = counts
        self.counts.failures += failures
        self.counts.segments += segments
        self.counts.uploads += uploads
        self.counts.upload_failures += upload_failures

    def _count_lost(self, rows: int) -> None:
        if self.options.full == "drop":
            self.counts.dropped_rows += rows
        else:
            self.counts.refused_rows += rows


class ModelJournal:
    """One deployment's way into the journal."""

    __slots__ = ("_is_whole", "_journal", "_number", "_share", "holds")

    def __init__(self, journal: Journal, source: Source, share: float) -> None:
        """Keep `share` of the requests."""
        self.holds = journal.options.full == "refuse"  # whether answers wait until they are written
        self._journal = journal
        self._number = journal.add(source)
        self._share = share
        self._is_whole = share >= 1.0

    def retire(self) -> None:
        """Finish the segment: the deployment is drained. May be called in any thread."""
        self._journal.retire(self._number)

    def check_room(self) -> None:
        """Raise 503 where an answer would be refused later, so that the refusal costs no work."""
        if self.holds and not self._journal.has_room:
            raise journal_full()

    async def room(self) -> None:
        """Wait for room where answers would be refused for want of it; raises 503 after a while."""
        late_s = time.monotonic() + self._journal.longest_s
        while self.holds and not self._journal.has_room:
            if time.monotonic() >= late_s:
                raise journal_full()
            await asyncio.sleep(PAUSE_S)

    def postpone(self, run: Callable[[], None]) -> bool:
        """Call `run` when the answers that wait now have left, or soon after; False where none waits."""
        return self.holds and self._journal.postpone(run)

    def is_chosen(self) -> bool:
        """Draw whether a request is one of those that are kept."""
        return self._is_whole or _draw() < self._share

    def note(self, asker: Asker, protocol: str, rows: int, places: Sequence[int] | None = None) -> Note | None:
        """Return what is recorded of a request beside its rows, of which the first `rows` are the caller's; None without one.

        `places` are those of the rows in the request, where some of it were refused.
        """
        if not rows:
            return None
        caller = "" if asker.grant is None else asker.grant.name
        return (asker.request_id, caller, protocol, rows, None if places is None else list(map(int, places)))

    def record(self, tickets: Sequence[Ticket], outputs: Sequence[Outputs]) -> None:
        """Take those rows of a batch that are to be kept; their tickets get what their answers have to wait for."""
        notes = [ticket.note for ticket in tickets]
        if notes.count(None) == len(notes):
            return
        kept = None
        if isinstance(outputs, SplitOutputs) and None not in notes:  # the rows are joined already
            kept = Kept(notes, Arrays(*outputs.feeds), outputs.outputs)
            rows = sum([note[ROWS] for note in notes])
        if kept is None or rows != len(next(iter(kept.outputs.values()))):
            kept = _chosen(tickets, outputs)
            rows = len(next(iter(kept.outputs.values())))
        written = self._journal.record(self._number, kept, rows)
        if written is not None:
            for ticket in tickets:
                if ticket.note is not None:
                    ticket.written = written


def _chosen(tickets: Sequence[Ticket], outputs: Sequence[Outputs]) -> Kept:
    """Return the requests that have a note, without the rows behind the callers', which ran for explanations."""
    noted = [(ticket, own) for ticket, own in zip(tickets, outputs, strict=True) if ticket.note is not None]
    notes = [ticket.note for ticket, _ in noted]
    parts = [slice(0, note[ROWS]) for note in notes]
    arrays = [ticket.arrays.take(part) for (ticket, _), part in zip(noted, parts, strict=True)]
    return Kept(
        notes,
        Arrays(*(None if kind[0] is None else np.concatenate(kind) for kind in zip(*arrays, strict=True))),
        {
            name: np.concatenate([own[name][part] for (_, own), part in zip(noted, parts, strict=True)])
            for name in noted[0][1]
        },
    )


def _ignore(_: str | None) -> None:
    """Wait for nothing."""
