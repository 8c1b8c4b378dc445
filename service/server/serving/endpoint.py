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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.admission import Ticket
from batchproof.service.inference.batcher import Batcher
from batchproof.service.protocols.head import TIMEOUT_HEADER, RequestHead
from batchproof.service.protocols.interface import Answer, Call, Codec, Decoded, HeavyRequestError, WireProtocol
from batchproof.service.runtime.logs import event, unforeseen
from batchproof.service.runtime.metrics import ModelKey, Tally
from batchproof.service.server.serving.codecs.large_requests import GOOD_BYTES, LargeCodec, LargeRequest
from batchproof.service.server.serving.codecs.remote_codec import RemoteCodec

if TYPE_CHECKING:
    from batchproof.service.drift.model_drift import ModelDrift
    from batchproof.service.journal.writing.recording import ModelJournal

# What the event loop reads and writes itself. Whatever is in so many bytes, refusing it takes a few milliseconds.
SMALL_BYTES = 8192
SMALL_ROWS = 2048

Reply: TypeAlias = Callable[[Answer], None]


class Work(NamedTuple):
    """One request on its way to its answer."""

    call: Call
    head: RequestHead
    reply: Reply
    started_s: float  # of time.perf_counter
    journal: "ModelJournal | None"  # which keeps the answer


class PredictEndpoint:
    """One model in one protocol."""

    __slots__ = (
        "_batcher",
        "_codec",
        "_decode_good",
        "_drift",
        "_executor",
        "_is_logged",
        "_journal",
        "_large",
        "_rows_a_byte",
        "_tally",
        "_timeout_s",
        "key",
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
        is_logged: bool = False,
        journal: "ModelJournal | None" = None,
        drift: "ModelDrift | None" = None,
        executor: Executor | None = None,
        remote: RemoteCodec | None = None,
    ) -> None:
        """Join the parts; `timeout_s` is the deadline of requests that name none, and the most that one may name.

        With `is_logged` every request gets a line in the log, a `journal` keeps every answer, and `drift` counts rows.
        Threads of `executor` serve large requests, by default those of the event loop, and give the largest ones to `remote`.
        """
        self.key = key
        self.protocol = protocol
        self._is_logged = is_logged
        self._journal = journal
        self._drift = drift
        self._codec = codec
        self._decode_good: Callable[[Call], Decoded | None] = getattr(codec, "decode_good", lambda _: None)
        self._executor = executor
        self._large = LargeCodec(codec, remote)
        self._batcher = batcher
        self._tally = tally
        self._timeout_s = timeout_s
        self._rows_a_byte = 0.0  # of the last body: enough to tell a large request from a small one

    def check_room(self, body_bytes: int, head: RequestHead) -> None:
        """Raise at once what a body of this length would get after it was read: 429, 503, or 400 for its deadline."""
        if self._journal is not None:
            self._journal.check_room()
        self._batcher.check_room(body_bytes * self._rows_a_byte, head.timeout_s(self._timeout_s))

    def handle(self, body: bytes, head: RequestHead, reply: Reply) -> Ticket | LargeRequest | None:
        """Decode, admit and later answer; None where the request was refused at once."""
        call = Call(body, head.headers, head.request_id, True)
        work = Work(call, head, reply, time.perf_counter(), self._chosen_journal())
        try:
            if work.journal is not None:
                work.journal.check_room()
            timeout_s = head.timeout_s(self._timeout_s) if TIMEOUT_HEADER in head.special else self._timeout_s
            self._batcher.check_room(len(body) * self._rows_a_byte, timeout_s)
            if len(body) <= SMALL_BYTES:
                decoded = self._codec.decode(work.call)
            elif len(body) > GOOD_BYTES or (good := self._decode_good(work.call)) is None:
                return self._decode_apart(work, timeout_s)
            else:
                decoded = good
            return self._submit(work, decoded, timeout_s, is_large=decoded.rows > SMALL_ROWS)
        except ServiceError as error:
            reply(self._refused(error, head, work.started_s))
            return None
        except HeavyRequestError:
            return self._decode_apart(work, timeout_s, is_heavy=True)

    def refuse(self, error: ServiceError, head: RequestHead) -> Answer:
        """Return the refusal of a request that is not read to its end."""
        return self._refused(error, head, time.perf_counter())

    def cancel(self, request: Ticket | LargeRequest) -> None:
        """Forget a caller that went away."""
        if isinstance(request, LargeRequest):
            request.is_cancelled = True
            ticket = request.ticket
        else:
            ticket = request
        if ticket is not None:
            self._batcher.cancel(ticket)
        self._tally.cancelled()

    def _chosen_journal(self) -> "ModelJournal | None":
        return self._journal if self._journal is not None and self._journal.is_chosen() else None

    def _submit(self, work: Work, decoded: Decoded, timeout_s: float, *, is_large: bool) -> Ticket:
        """Admit the rows; raises 429 or 503."""
        self._rows_a_byte = decoded.rows / (len(work.call.body) or 1)
        self._tally.decode_s += time.perf_counter() - work.started_s
        if work.head.grant is not None:
            work.head.grant.charge(decoded.rows, decoded.added)

        def finish(outputs: Outputs | None, error: ServiceError | None) -> None:
            if outputs is None:
                assert error is not None, "a reply has outputs or an error"
                work.reply(self._refused(error, work.head, work.started_s))
            elif is_large:
                self._encode_apart(work, decoded, outputs, ticket)
            else:
                self._encode(work, decoded, outputs, ticket)

        note = None
        if work.journal is not None:
            note = work.journal.note(work.head, self.protocol.name, decoded.rows - decoded.added, decoded.places)
        ticket = self._batcher.submit(decoded.arrays, decoded.rows, timeout_s, finish, note)
        return ticket

    def _encode(self, work: Work, decoded: Decoded, outputs: Outputs, ticket: Ticket) -> None:
        encoding_s = time.perf_counter()
        answer: Answer | None = None
        try:
            answer = self._codec.encode(work.call, decoded, outputs)
        finally:
            if answer is None:  # the error ends in the event loop's handler, and the caller has its answer
                error = sys.exc_info()[1]
                assert error is not None, "an answer or an error"
                error.add_note(f"request_id={work.head.request_id}")
                work.reply(self._refused(errors.internal(), work.head, work.started_s))
        self._answered(work, decoded, outputs, ticket, answer, encoding_s)

    def _answered(
        self, work: Work, decoded: Decoded, outputs: Outputs, ticket: Ticket, answer: Answer, encoding_s: float
    ) -> None:
        rows = decoded.rows - decoded.added
        if self._drift is not None:
            self._drift.offer(decoded.arrays, outputs, rows)
        if ticket.written is None:
            self._send(answer, work, rows, encoding_s)
        else:
            ticket.written.then(partial(self._release, ticket, answer, work, rows, encoding_s))

    def _decode_apart(self, work: Work, timeout_s: float, *, is_heavy: bool = False) -> LargeRequest:
        """Read the body in a thread or in another process, and go on from there on the loop."""
        request = LargeRequest()
        read = partial(self._large.read, work.call._replace(is_on_loop=False), request, is_heavy=is_heavy)
        reading = asyncio.get_running_loop().run_in_executor(self._executor, read)

        def submit(done: "asyncio.Future[Decoded]") -> None:
            if request.is_cancelled or done.cancelled():
                return
            try:
                decoded = self._result(done, work)
                if decoded is not None:
                    request.ticket = self._submit(work, decoded, timeout_s, is_large=True)
            except ServiceError as error:
                work.reply(self._refused(error, work.head, work.started_s))

        reading.add_done_callback(submit)
        return request

    def _encode_apart(self, work: Work, decoded: Decoded, outputs: Outputs, ticket: Ticket) -> None:
        """Write the answer in a thread or in another process, and send it from the loop, unless its caller has left."""
        encoding_s = time.perf_counter()
        encode = partial(self._large.write, work.call, decoded, outputs, ticket)
        writing = asyncio.get_running_loop().run_in_executor(self._executor, encode)

        def send(done: "asyncio.Future[Answer]") -> None:
            if ticket.is_gone or done.cancelled():
                return
            answer = self._result(done, work)
            if answer is not None:
                self._answered(work, decoded, outputs, ticket, answer, encoding_s)

        writing.add_done_callback(send)

    def _result(self, done: "asyncio.Future[Any]", work: Work) -> Any:
        """Return what was made apart, None after an error that nothing foresees was answered; raises ServiceError."""
        error = done.exception()
        if error is None or isinstance(error, ServiceError):
            return done.result()
        unforeseen("a large request", error, request_id=work.head.request_id)
        work.reply(self._refused(errors.internal(), work.head, work.started_s))
        return None

    def _send(self, answer: Answer, work: Work, rows: int, encoding_s: float) -> None:
        self._tally.answered(rows, encoding_s, work.started_s)
        if self._is_logged:
            self._log(work.head, answer.status, work.started_s, rows=rows)
        work.reply(answer)

    def _release(
        self, ticket: Ticket, answer: Answer, work: Work, rows: int, encoding_s: float, error: ServiceError | None
    ) -> None:
        """Send an answer that the journal has written, or the `error` that keeps it; nothing to a caller that left."""
        if ticket.is_gone:
            return
        if error is None:
            self._send(answer, work, rows, encoding_s)
        else:
            work.reply(self._refused(error, work.head, work.started_s))

    def _refused(self, error: ServiceError, head: RequestHead, started_s: float) -> Answer:
        self._tally.refused(error.code)
        if error.status >= 500 and error.code != errors.UNFORESEEN:
            event("request_failed", 40, request_id=head.request_id, route=self.protocol.name, code=error.code)
        answer = self.protocol.failure(error, head.request_id)
        if self._is_logged:
            self._log(head, answer.status, started_s, code=error.code)
        return answer

    def _log(self, head: RequestHead, status: int, started_s: float, **fields: Any) -> None:
        seconds = round(time.perf_counter() - started_s, 6)
        named = {**head.log_fields, "status": status, **fields, "seconds": seconds}
        event("request", request_id=head.request_id, route=self.protocol.name, **named)
