"""The hot path: one predict request from its bytes to its answer, the same for every protocol and every transport.

A `PredictEndpoint` is an entry of the table of routes: one model in one protocol. `handle` gets a whole request and
calls `reply` exactly once, at once or when the rows have run, unless the request that it returned is cancelled. Nothing
here awaits, so a small request costs no task, no future and no middleware of its own. A large one is read, and its answer
is written, in another process, or in a thread where that takes a few milliseconds: the event loop has other callers.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from batchproof.service import errors
from batchproof.service.errors import CallerGoneError, ServiceError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.admission import Ticket
from batchproof.service.inference.batcher import Batcher
from batchproof.service.protocols.head import TIMEOUT_HEADER, RequestHead
from batchproof.service.protocols.interface import Answer, Call, Codec, Decoded, HeavyRequestError, WireProtocol
from batchproof.service.runtime.logs import event, unforeseen
from batchproof.service.runtime.metrics import ModelKey, Tally
from batchproof.service.server.serving.codecs.large_requests import GOOD_BYTES, LargeCall, LargeCodec

if TYPE_CHECKING:
    from batchproof.service.drift.model_drift import ModelDrift
    from batchproof.service.journal.writing.recording import ModelJournal
    from batchproof.service.server.serving.codecs.remote_codec import RemoteCodec

# What the event loop reads and writes itself. Whatever is in so many bytes, refusing it takes a few milliseconds.
SMALL_BYTES = 8192
SMALL_ROWS = 2048
RAW_BYTES = 1 << 18  # of numbers as bytes, which take .05 ms for 128 KB: a thread costs more

Reply: TypeAlias = Callable[[Answer], None]


class Work(LargeCall):
    """One request on its way to its answer: what its protocol sees, and what the endpoint knows of it."""

    __slots__ = ("decoded", "encoding_s", "head", "is_large", "journal", "reply", "started_s", "ticket")

    decoded: Decoded

    def __init__(self, body: bytes, head: RequestHead, reply: Reply, journal: "ModelJournal | None") -> None:
        """Begin with a whole request; `journal` keeps its answer."""
        self.body = body
        self.headers = head.headers
        self.request_id = head.request_id
        self.head = head
        self.reply = reply
        self.journal = journal
        self.ticket: Ticket | None = None  # once its rows are admitted
        self.is_gone = False  # whether its caller went away
        self.is_large = False  # whether the body is read apart from the event loop; the answer is written so too
        self.is_on_loop = True
        self.started_s = self.encoding_s = time.perf_counter()


class PredictEndpoint:
    """One model in one protocol."""

    __slots__ = (
        "_batcher",
        "_codec",
        "_decode_good",
        "_decode_raw",
        "_drift",
        "_executor",
        "_journal",
        "_large",
        "_rows_a_byte",
        "_tally",
        "_timeout_s",
        "key",
        "observed",
        "protocol",
    )

    def __init__(  # noqa: PLR0913 - the parts that an endpoint joins, the optional ones by name
        self,
        key: ModelKey,
        protocol: WireProtocol,
        codec: Codec,
        batcher: Batcher,
        tally: Tally,
        timeout_s: float,
        *,
        journal: "ModelJournal | None" = None,
        drift: "ModelDrift | None" = None,
        executor: Executor | None = None,
        make_remote: "Callable[[], RemoteCodec] | None" = None,
    ) -> None:
        """Join the parts; `timeout_s` is the deadline of requests that name none, and the most that one may name.

        A `journal` keeps every answer, and `drift` counts rows. Threads of `executor` serve large requests, by default
        those of the event loop, and give the largest ones to what `make_remote` makes for them.
        """
        self.key = key
        self.protocol = protocol
        self.observed: PredictEndpoint | None = None  # its twin for requests that are traced or logged
        self._journal = journal
        self._drift = drift
        self._codec = codec
        self._decode_good: Callable[[Call], Decoded | None] = getattr(codec, "decode_good", lambda _: None)
        self._decode_raw: Callable[[Call], Decoded | None] = getattr(codec, "decode_raw", lambda _: None)
        self._executor = executor
        self._large = LargeCodec(codec, make_remote)
        self._batcher = batcher
        self._tally = tally
        self._timeout_s = timeout_s
        self._rows_a_byte = 0.0  # of the last body: enough to tell a large request from a small one

    def check_room(self, body_bytes: int, head: RequestHead) -> None:
        """Raise at once what a body of this length would get after it was read: 429, 503, or 400 for its deadline."""
        if self._journal is not None:
            self._journal.check_room()
        self._batcher.check_room(body_bytes * self._rows_a_byte, head.timeout_s(self._timeout_s))

    def handle(self, body: bytes, head: RequestHead, reply: Reply) -> Work | None:
        """Decode, admit and later answer; None where the request was refused at once."""
        journal = None if self._journal is None or not self._journal.is_chosen() else self._journal
        work = Work(body, head, reply, journal)
        try:
            if journal is not None:
                journal.check_room()
            timeout_s = head.timeout_s(self._timeout_s) if TIMEOUT_HEADER in head.special else self._timeout_s
            self._batcher.check_room(len(body) * self._rows_a_byte, timeout_s)
            decoded = self._codec.decode(work) if len(body) <= SMALL_BYTES else self._decode_if_good(work)
            if decoded is None:
                return self._decode_apart(work, timeout_s)
            self._submit(work, decoded, timeout_s)
        except ServiceError as error:
            reply(self._refused(error, head, work))
            return None
        except HeavyRequestError:
            return self._decode_apart(work, timeout_s, is_heavy=True)
        return work

    def refuse(self, error: ServiceError, head: RequestHead) -> Answer:
        """Return the refusal of a request that is not read to its end."""
        return self._refused(error, head)

    def cancel(self, work: Work) -> None:
        """Forget a caller that went away."""
        work.is_gone = True
        if work.ticket is not None:
            self._batcher.cancel(work.ticket)
        self._tally.cancelled()

    def _decode_if_good(self, work: Work) -> Decoded | None:
        if len(work.body) > RAW_BYTES:
            return None
        decoded = self._decode_raw(work)
        return self._decode_good(work) if decoded is None and len(work.body) <= GOOD_BYTES else decoded

    def _submit(self, work: Work, decoded: Decoded, timeout_s: float) -> None:
        """Admit the rows; raises 429 or 503."""
        work.decoded = decoded
        self._rows_a_byte = decoded.rows / (len(work.body) or 1)
        self._tally.decode_s += time.perf_counter() - work.started_s
        if work.head.grant is not None:
            work.head.grant.charge(decoded.rows, decoded.added)
        note = None
        if work.journal is not None:
            note = work.journal.note(work.head, self.protocol.name, decoded.rows - decoded.added, decoded.places)
        work.ticket = self._batcher.submit(decoded.arrays, decoded.rows, timeout_s, partial(self._finish, work), note)

    def _finish(self, work: Work, outputs: Outputs | None, error: ServiceError | None) -> None:
        """Answer with the outputs of the rows, or with why there are none."""
        if outputs is None:
            assert error is not None, "a reply has outputs or an error"
            work.reply(self._refused(error, work.head, work))
            return
        work.encoding_s = time.perf_counter()
        if work.is_large or work.decoded.rows > SMALL_ROWS:
            self._encode_apart(work, outputs)
            return
        answer: Answer | None = None
        try:
            answer = self._codec.encode(work, work.decoded, outputs)
        finally:
            if answer is None:  # the error ends in the event loop's handler, and the caller has its answer
                error_now = sys.exc_info()[1]
                assert error_now is not None, "an answer or an error"
                error_now.add_note(" ".join(f"{name}={value}" for name, value in work.head.ids.items()))
                work.reply(self._refused(errors.internal(), work.head, work))
        self._answered(work, outputs, answer)

    def _answered(self, work: Work, outputs: Outputs, answer: Answer) -> None:
        """Send the answer, once the journal has it where it must; drift takes the caller's own rows."""
        decoded, ticket = work.decoded, work.ticket
        assert ticket is not None, "outputs are of admitted rows"
        rows = decoded.rows - decoded.added
        if self._drift is not None:
            self._drift.offer(decoded.arrays, outputs, rows)
        if ticket.written is None:
            self._send(work, rows, answer)
        else:
            ticket.written.then(partial(self._release, work, rows, answer))

    def _decode_apart(self, work: Work, timeout_s: float, *, is_heavy: bool = False) -> Work | None:
        """Read the body in a thread or in another process, and go on from there on the loop; None where that is refused."""
        work.is_large, work.is_on_loop = True, False
        read = partial(self._large.read, work, is_heavy=is_heavy)
        return self._apart(work, read, lambda decoded: self._submit(work, decoded, timeout_s))

    def _encode_apart(self, work: Work, outputs: Outputs) -> None:
        """Write the answer in a thread or in another process, and send it from the loop."""
        encode = partial(self._large.write, work, work.decoded, outputs)
        self._apart(work, encode, partial(self._answered, work, outputs))

    def _apart(self, work: Work, make: Callable[[], Any], then: Callable[[Any], None]) -> Work | None:
        """Call `make` in a thread and `then` on the loop with what it returned; None where no thread can be started."""
        try:
            making = asyncio.get_running_loop().run_in_executor(self._executor, make)
        except RuntimeError as error:
            self._fail(work, error)
            work.is_gone = True  # a thread that is busy now may take up the work later: nobody waits for it
            return None
        making.add_done_callback(partial(self._made, work, then))
        return work

    def _made(self, work: Work, then: Callable[[Any], None], done: "asyncio.Future[Any]") -> None:
        """Go on with what was made apart, unless its caller has left; an error that nothing foresees is always logged."""
        if done.cancelled():
            return
        error = done.exception()  # asyncio logs an error that nobody takes
        is_foreseen = error is None or isinstance(error, (ServiceError, CallerGoneError))
        if not is_foreseen:
            self._fail(work, error)
        elif not work.is_gone:
            try:
                then(done.result())
            except ServiceError as refusal:
                work.reply(self._refused(refusal, work.head, work))

    def _fail(self, work: Work, error: BaseException | None) -> None:
        """Log an error that nothing foresees, and answer the caller who still waits."""
        unforeseen("a large request", error, **work.head.ids)
        if not work.is_gone:
            work.reply(self._refused(errors.internal(), work.head, work))

    def _send(self, work: Work, rows: int, answer: Answer) -> None:
        """Count and send the answer to `rows` rows of the caller."""
        self._tally.answered(rows, work.encoding_s, work.started_s)
        work.reply(answer)

    def _release(self, work: Work, rows: int, answer: Answer, error: ServiceError | None) -> None:
        """Send an answer that the journal has written, or the `error` that keeps it; nothing to a caller that left."""
        if work.is_gone:
            return
        if error is None:
            self._send(work, rows, answer)
        else:
            work.reply(self._refused(error, work.head, work))

    def _refused(self, error: ServiceError, head: RequestHead, _work: Work | None = None) -> Answer:
        """Return the refusal, counted; `_work` is there where the request was whole."""
        self._tally.refused(error.code)
        if error.status >= 500 and error.code != errors.UNFORESEEN:
            event("request_failed", 40, **head.ids, route=self.protocol.name, code=error.code)
        return self.protocol.failure(error, head.request_id)
