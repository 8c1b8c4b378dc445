"""Answers that wait until their rows are written: each is sent once, or its caller gets 503. On the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from batchproof.service.errors import ServiceError

Then = Callable[[ServiceError | None], None]  # sends the answer, or the error in its place
POSTPONED_S = 0.001  # several times what a write takes that does not wait for a disk


class Written:
    """Rows on their way to the disk, and the answers that wait for them. On the event loop."""

    __slots__ = ("_answers", "deadline_s", "error", "is_known")

    def __init__(self, deadline_s: float) -> None:
        """Begin with nobody waiting; the journal says what happened, or after `deadline_s` (of the loop) that it is late."""
        self.deadline_s = deadline_s
        self.is_known = False
        self.error: ServiceError | None = None
        self._answers: list[Then] = []

    def then(self, answer: Then) -> None:
        """Call `answer` once it is known whether the rows were written: now, or later."""
        if self.is_known:
            answer(self.error)
        else:
            self._answers.append(answer)

    def end(self, error: ServiceError | None) -> None:
        """Say what became of the rows. Only the first call counts."""
        if not self.is_known:
            self.is_known, self.error = True, error
            answers, self._answers = self._answers, []
            if answers:  # in a turn of their own: one that raises must not end what else this turn has to do
                asyncio.get_running_loop().call_soon(_call_all, iter(answers), error)


def _call_all(answers: Iterator[Then], error: ServiceError | None) -> None:
    """Call each. One that raises ends this call, the loop's handler logs it, and the others go on behind it."""
    is_done = False
    try:
        for answer in answers:
            answer(error)
        is_done = True
    finally:
        if not is_done:
            asyncio.get_running_loop().call_soon(_call_all, answers, error)


class HeldAnswers:
    """All rows of one process that answers wait for."""

    def __init__(self, longest_s: float) -> None:
        """Let an answer wait for `longest_s` at most: a disk that hangs must not leave its caller without any."""
        self._longest_s = longest_s
        self._held: deque[Written] = deque()  # oldest first
        self._waiting = 0
        self._is_timed = False  # whether a call of _expire is scheduled
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self) -> Written:
        """Return what answers can wait for; `end` must be called with it."""
        loop = asyncio.get_running_loop()
        written = Written(loop.time() + self._longest_s)
        self._held.append(written)
        self._waiting += 1
        self._idle.clear()
        if not self._is_timed:
            self._is_timed = True
            loop.call_later(self._longest_s, self._expire)
        return written

    def end(self, written: Written, error: ServiceError | None) -> None:
        """Say what became of the rows; late words change nothing."""
        if written.is_known:
            return
        self._waiting -= 1
        if not self._waiting:
            self._idle.set()
        written.end(error)
        while self._held and self._held[0].is_known:
            self._held.popleft()

    def postpone(self, call: Callable[[], None]) -> bool:
        """Call `call` when all answers that wait now have left, but after POSTPONED_S at most; False where none waits."""
        if not self._waiting:
            return False
        _Postponed(call, self._held[-1])
        return True

    async def empty(self) -> None:
        """Return when no answer waits any more."""
        await self._idle.wait()

    def _expire(self) -> None:
        """Refuse the answers that have waited too long, though their rows may be written yet."""
        loop, held = asyncio.get_running_loop(), self._held
        now_s = loop.time()
        while held and (held[0].is_known or held[0].deadline_s <= now_s):
            self.end(held.popleft(), journal_full())
        self._is_timed = bool(held)
        if held:
            loop.call_at(held[0].deadline_s, self._expire)


class _Postponed:
    """A call that waits for answers to leave, or for its time: what comes first."""

    def __init__(self, call: Callable[[], None], written: Written) -> None:
        """Wait for the answers of `written`."""
        self._loop = asyncio.get_running_loop()
        self._call: Callable[[], None] | None = call
        self._timer = self._loop.call_later(POSTPONED_S, self._now)
        written.then(self._now)

    def _now(self, _: ServiceError | None = None) -> None:
        call, self._call = self._call, None
        if call is not None:
            self._timer.cancel()
            self._loop.call_soon(call)  # not at once: first the loop reads what answered callers have sent meanwhile


def journal_full() -> ServiceError:
    """Return 503: the answer could not be written to the journal, and the service promises that none leaves without."""
    return ServiceError(
        503,
        "journal_full",
        "The journal could not record this answer, so it was not sent; try again.",
        retry_after_s=1,
    )


def refused() -> Written:
    """Return what answers wait for in vain: it is known already that there is no room for their rows."""
    written = Written(0.0)
    written.end(journal_full())
    return written
