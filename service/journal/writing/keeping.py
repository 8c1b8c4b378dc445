"""How answers get into the journal: with `drop` after they left, with `refuse` before.

A `ModelJournal` is one deployment's way into the journal of its process. `keep` costs the hot path one tuple and an append
under a lock. `hold` hands the rows over too, and the answer goes out once they are written: the writer's thread calls back
for a whole batch, and the event loop sends its answers in one turn.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from batchproof.service.access.grant import Grant
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.journal.entries import Entry, Source
from batchproof.service.journal.writing.writer import Journal

Then = Callable[[ServiceError | None], None]  # sends the answer, or the error in its place
PAUSE_S = 0.01  # between two looks whether there is room
_draw = random.random


class Asker(Protocol):
    """What is kept of the head of a request."""

    request_id: str
    grant: Grant | None


class _Held:
    """One answer that waits for its rows to be written."""

    __slots__ = ("deadline_s", "then")

    def __init__(self, then: Then, deadline_s: float) -> None:
        self.then: Then | None = then  # None once it was called
        self.deadline_s = deadline_s


class HeldAnswers:
    """The answers of one process that wait until their rows are written. All methods are called on the event loop."""

    def __init__(self, longest_s: float) -> None:
        """Let an answer wait for `longest_s` at most: a disk that hangs must not leave its caller without any."""
        self.waiting = 0
        self.longest_s = longest_s
        self._written: deque[tuple[_Held, str | None]] = deque()
        self._by_deadline: deque[_Held] = deque()
        self._is_called = False  # whether a call of _deliver is scheduled
        self._is_timed = False  # whether a call of _expire is
        self._idle = asyncio.Event()
        self._idle.set()

    def hold(self, then: Then) -> Callable[[str | None], None]:
        """Return what the writer's thread calls when the rows are written; `then` is called on the loop, once."""
        loop = asyncio.get_running_loop()
        held = _Held(then, loop.time() + self.longest_s)
        self.waiting += 1
        self._idle.clear()
        self._by_deadline.append(held)
        if not self._is_timed:
            self._is_timed = True
            loop.call_later(self.longest_s, self._expire)
        return partial(self._on_written, loop, held)

    async def empty(self) -> None:
        """Return when no answer waits any more."""
        await self._idle.wait()

    def _on_written(self, loop: asyncio.AbstractEventLoop, held: _Held, failure: str | None) -> None:
        """Remember what became of an answer's rows; called in the writer's thread."""
        self._written.append((held, failure))
        if not self._is_called and not loop.is_closed():
            self._is_called = True  # before the call, which lowers it before it looks: none is overlooked
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        """Send what was written. A reply that raises ends this call, and the next one goes on behind it."""
        self._is_called = False
        is_delivered = False
        try:
            while self._written:
                held, failure = self._written.popleft()
                self._end(held, None if failure is None else journal_full())
            while self._by_deadline and self._by_deadline[0].then is None:
                self._by_deadline.popleft()
            is_delivered = True
        finally:
            if not is_delivered:
                asyncio.get_running_loop().call_soon(self._deliver)

    def _expire(self) -> None:
        """Refuse what has waited too long, though it may be written yet."""
        loop = asyncio.get_running_loop()
        waiting, now_s = self._by_deadline, loop.time()
        self._is_timed = False
        try:
            while waiting and (waiting[0].then is None or waiting[0].deadline_s <= now_s):
                self._end(waiting.popleft(), journal_full())
        finally:
            if waiting:
                self._is_timed = True
                loop.call_at(max(now_s, waiting[0].deadline_s), self._expire)

    def _end(self, held: _Held, error: ServiceError | None) -> None:
        then, held.then = held.then, None
        if then is not None:
            self.waiting -= 1
            if not self.waiting:
                self._idle.set()
            then(error)


class ModelJournal:
    """One deployment's way into the journal."""

    __slots__ = ("_held", "_is_whole", "_journal", "_share", "_source", "holds")

    def __init__(self, journal: Journal, source: Source, held: HeldAnswers, share: float) -> None:
        """Keep `share` of the requests."""
        self.holds = journal.options.full == "refuse"  # whether answers wait until they are written
        self._journal = journal
        self._source = source
        self._held = held
        self._share = share
        self._is_whole = share >= 1.0

    def retire(self) -> None:
        """Finish the segment: the deployment is drained. May be called in any thread."""
        self._journal.retire(self._source)

    def check_room(self) -> None:
        """Raise 503 where an answer would be refused later, so that the refusal costs no work."""
        if self.holds and not self._journal.has_room:
            raise journal_full()

    def keep(
        self,
        asker: Asker,
        protocol: str,
        arrays: Arrays,
        rows: int,
        outputs: Outputs,
        places: Sequence[int] | None = None,
        on_written: Callable[[str | None], None] | None = None,
    ) -> bool:
        """Hand over the first `rows` rows; returns False where there is no room.

        `places` are those of the rows in the request, where some of it were refused. The rows behind the first ones, of
        explanations, are not the caller's.
        """
        first = arrays[1] if arrays[0] is None else arrays[0]
        if not self._is_whole or first is None or len(first) != rows:
            arrays, outputs = _copied(arrays, rows, outputs)
        caller = "" if asker.grant is None else asker.grant.name
        entry = Entry(asker.request_id, time.time(), caller, protocol, rows, arrays, outputs, on_written, places)
        return self._journal.append(self._source, entry)

    def is_chosen(self) -> bool:
        """Draw whether a request is one of those that are kept."""
        return self._is_whole or _draw() < self._share

    def hold(
        self,
        then: Then,
        asker: Asker,
        protocol: str,
        arrays: Arrays,
        rows: int,
        outputs: Outputs,
        places: Sequence[int] | None = None,
    ) -> None:
        """Hand over the rows as `keep` does, and call `then` on the event loop when they are written, or why not."""
        released = self._held.hold(then)
        if not self.keep(asker, protocol, arrays, rows, outputs, places, released):
            released("there is no room for what waits to be written")

    async def kept(
        self,
        asker: Asker,
        protocol: str,
        arrays: Arrays,
        rows: int,
        outputs: Outputs,
        places: Sequence[int] | None = None,
    ) -> None:
        """Hand over the rows and, where answers wait for it, wait for room and until they are written; raises 503."""
        if not self.holds:
            self.keep(asker, protocol, arrays, rows, outputs, places)
            return
        late_s = time.monotonic() + self._held.longest_s
        while not self._journal.has_room:
            if time.monotonic() >= late_s:
                raise journal_full()
            await asyncio.sleep(PAUSE_S)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then(error: ServiceError | None) -> None:
            if written.done():  # its task was cancelled
                return
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

        self.hold(then, asker, protocol, arrays, rows, outputs, places)
        await written


def journal_full() -> ServiceError:
    """Return 503: the answer could not be written to the journal, and the service promises that none leaves without."""
    return ServiceError(
        503,
        "journal_full",
        "The service could not write the answer to its journal, and sends no answer that is not written; try again.",
        retry_after_s=1,
    )


def _copied(arrays: Arrays, rows: int, outputs: Outputs) -> tuple[Arrays, Outputs]:
    """Return the first rows in memory of their own: a view of a few rows would keep the whole batch."""
    own = Arrays(*(None if array is None else array[:rows].copy() for array in arrays))
    return own, {name: values[:rows].copy() for name, values in outputs.items()}
