"""The hot path: one predict request from its bytes to its answer, the same for every protocol and every transport.

A `PredictEndpoint` is an entry of the table of routes: one model in one protocol. `handle` gets a whole request and
calls `reply` exactly once, at once or when the rows have run, unless the ticket that it returned is cancelled. Nothing
here awaits, so a request costs no task, no future and no middleware of its own.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from batchproof.service.drift.collector import ModelDrift
from batchproof.service.errors import ServiceError
from batchproof.service.inference.admission import Ticket
from batchproof.service.inference.batcher import Batcher
from batchproof.service.journal.keeping import ModelJournal
from batchproof.service.logs import event
from batchproof.service.metrics import ModelKey, Tally
from batchproof.service.protocols.head import TIMEOUT_HEADER, RequestHead
from batchproof.service.protocols.interface import Answer, Call, Codec, WireProtocol


class PredictEndpoint:
    """One model in one protocol."""

    __slots__ = (
        "_batcher",
        "_codec",
        "_drift",
        "_is_logged",
        "_journal",
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
        journal: ModelJournal | None = None,
        drift: ModelDrift | None = None,
    ) -> None:
        """Join the parts; `timeout_s` is the deadline of requests that name none, and the most that one may name.

        With `is_logged` every request gets a line in the log, a `journal` keeps every answer, and `drift` counts rows.
        """
        self.key = key
        self.protocol = protocol
        self._is_logged = is_logged
        self._journal = journal
        self._drift = drift
        self._codec = codec
        self._batcher = batcher
        self._tally = tally
        self._timeout_s = timeout_s
        self._rows_a_byte = 0.0  # of the last body: enough to tell a large request from a small one

    def check_room(self, body_bytes: int, head: RequestHead) -> None:
        """Raise at once what a body of this length would get after it was read: 429, 503, or 400 for its deadline."""
        if self._journal is not None:
            self._journal.check_room()
        self._batcher.check_room(body_bytes * self._rows_a_byte, head.timeout_s(self._timeout_s))

    def handle(self, body: bytes, head: RequestHead, reply: Callable[[Answer], None]) -> Ticket | None:
        """Decode, admit and later answer; None where the request was refused at once."""
        started_s = time.perf_counter()
        call = Call(body, head.headers, head.request_id)
        journal = self._journal if self._journal is not None and self._journal.is_chosen() else None
        try:
            if journal is not None:
                journal.check_room()
            timeout_s = head.timeout_s(self._timeout_s) if TIMEOUT_HEADER in head.special else self._timeout_s
            self._batcher.check_room(len(body) * self._rows_a_byte, timeout_s)
            decoded = self._codec.decode(call)
            self._rows_a_byte = decoded.rows / (len(body) or 1)
            self._tally.decode_s += time.perf_counter() - started_s
            if head.grant is not None:
                head.grant.charge(decoded.rows, decoded.added)

            def finish(outputs: Mapping[str, np.ndarray] | None, error: ServiceError | None) -> None:
                if outputs is None:
                    assert error is not None, "a reply has outputs or an error"
                    reply(self._refused(error, head, started_s))
                    return
                encoding_s = time.perf_counter()
                answer = self._codec.encode(call, decoded, outputs)
                rows = decoded.rows - decoded.added
                if self._drift is not None:
                    self._drift.offer(decoded.arrays, outputs, rows)
                if journal is not None and journal.holds and rows:
                    send = partial(self._send, answer, head, rows, encoding_s, started_s, reply)
                    release = partial(self._release, ticket, send, head, started_s, reply)
                    journal.hold(release, head, self.protocol.name, decoded.arrays, rows, outputs, decoded.places)
                    return
                self._send(answer, head, rows, encoding_s, started_s, reply)
                if journal is not None and rows:
                    journal.keep(head, self.protocol.name, decoded.arrays, rows, outputs, decoded.places)

            ticket = self._batcher.submit(decoded.arrays, decoded.rows, timeout_s, finish)
        except ServiceError as error:
            reply(self._refused(error, head, started_s))
            return None
        return ticket

    def refuse(self, error: ServiceError, head: RequestHead) -> Answer:
        """Return the refusal of a request that is not read to its end."""
        return self._refused(error, head, time.perf_counter())

    def cancel(self, ticket: Ticket) -> None:
        """Forget a caller that went away."""
        self._batcher.cancel(ticket)
        self._tally.cancelled()

    def _send(
        self,
        answer: Answer,
        head: RequestHead,
        rows: int,
        encoding_s: float,
        started_s: float,
        reply: Callable[[Answer], None],
    ) -> None:
        self._tally.answered(rows, encoding_s, started_s)
        if self._is_logged:
            self._log(head, answer.status, started_s, rows=rows)
        reply(answer)

    def _release(
        self,
        ticket: Ticket,
        send: Callable[[], None],
        head: RequestHead,
        started_s: float,
        reply: Callable[[Answer], None],
        error: ServiceError | None,
    ) -> None:
        """Send an answer that the journal has written, or the `error` that keeps it; nothing to a caller that left."""
        if ticket.is_gone:
            return
        if error is None:
            send()
        else:
            reply(self._refused(error, head, started_s))

    def _refused(self, error: ServiceError, head: RequestHead, started_s: float) -> Answer:
        self._tally.refused(error.code)
        if error.status >= 500:
            event("request_failed", 40, request_id=head.request_id, route=self.protocol.name, code=error.code)
        answer = self.protocol.failure(error, head.request_id)
        if self._is_logged:
            self._log(head, answer.status, started_s, code=error.code)
        return answer

    def _log(self, head: RequestHead, status: int, started_s: float, **fields: Any) -> None:
        seconds = round(time.perf_counter() - started_s, 6)
        caller = {} if head.grant is None else {"caller": head.grant.name}
        named = {**caller, "status": status, **fields, "seconds": seconds}
        event("request", request_id=head.request_id, route=self.protocol.name, **named)
