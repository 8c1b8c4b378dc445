"""The hot path: one predict request from its bytes to its answer, the same for every dialect and every transport.

An `PredictEndpoint` is a path of the route table: one model in one dialect. `handle` takes a whole request and calls `reply`
exactly once, at once or when the rows have run, unless the ticket it returned is cancelled. Nothing here awaits, so a
request costs no task, no future and no middleware of its own.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from batchproof.service.errors import ServiceError
from batchproof.service.inference.admission import Ticket
from batchproof.service.inference.batcher import Batcher
from batchproof.service.inference.model import Model
from batchproof.service.logs import event
from batchproof.service.metrics import Tally
from batchproof.service.protocols.head import TIMEOUT_HEADER, parse_timeout, request_id_of, special
from batchproof.service.protocols.interface import Answer, Call, Codec, Headers, Limits, WireProtocol


class PredictEndpoint:
    """One model in one dialect."""

    __slots__ = ("_batcher", "_codec", "_dialect", "_is_logged", "_rows_a_byte", "_tally", "_timeout_s")

    def __init__(
        self,
        dialect: WireProtocol,
        codec: Codec,
        batcher: Batcher,
        tally: Tally,
        timeout_s: float,
        *,
        is_logged: bool = False,
    ) -> None:
        """Join the parts; `timeout_s` is the deadline of requests that name none, and the most that one may name.

        With `is_logged` every request gets a line in the log.
        """
        self._is_logged = is_logged
        self._dialect = dialect
        self._codec = codec
        self._batcher = batcher
        self._tally = tally
        self._timeout_s = timeout_s
        self._rows_a_byte = 0.0  # of the last body: enough to tell a large request from a small one

    def update_model(self, model: Model, limits: Limits) -> None:
        """Answer from now on with what `model` says of itself: its fingerprint may have changed, its bits have not."""
        self._codec = self._dialect.codec(model, limits)

    def check_room(self, body_bytes: int, found: Mapping[bytes, bytes]) -> None:
        """Raise at once what a body of this length would get after it was read: 429, 503, or 400 for its deadline."""
        self._batcher.check_room(body_bytes * self._rows_a_byte, self._timeout_of(found))

    def handle(
        self, body: bytes, headers: Headers, found: Mapping[bytes, bytes], reply: Callable[[Answer], None]
    ) -> Ticket | None:
        """Decode, admit and later answer; None where it was refused at once. `found` is special(headers)."""
        started_s = time.perf_counter()
        request_id = request_id_of(found)
        call = Call(body, headers, request_id)
        try:
            timeout_s = self._timeout_of(found)
            self._batcher.check_room(len(body) * self._rows_a_byte, timeout_s)
            decoded = self._codec.decode(call)
            self._rows_a_byte = decoded.rows / (len(body) or 1)
            self._tally.decode_s += time.perf_counter() - started_s

            def finish(outputs: Mapping[str, np.ndarray] | None, error: ServiceError | None) -> None:
                if outputs is None:
                    assert error is not None, "a reply has outputs or an error"
                    reply(self._refused(error, request_id, started_s))
                    return
                encoding_s = time.perf_counter()
                answer = self._codec.encode(call, decoded, outputs)
                rows = decoded.rows - decoded.added
                self._tally.answered(rows, encoding_s, started_s)
                if self._is_logged:
                    self._log(request_id, answer.status, started_s, rows=rows)
                reply(answer)

            return self._batcher.submit(decoded.arrays, decoded.rows, timeout_s, finish)
        except ServiceError as error:
            reply(self._refused(error, request_id, started_s))
            return None

    def refuse(self, error: ServiceError, headers: Headers) -> Answer:
        """Return the refusal of a request that is not read to its end."""
        return self._refused(error, request_id_of(special(headers)), time.perf_counter())

    def _timeout_of(self, found: Mapping[bytes, bytes]) -> float:
        given = found.get(TIMEOUT_HEADER)
        return self._timeout_s if given is None else parse_timeout(given, self._timeout_s)

    def cancel(self, ticket: Ticket) -> None:
        """Forget a caller that went away."""
        self._batcher.cancel(ticket)
        self._tally.cancelled()

    def _refused(self, error: ServiceError, request_id: str, started_s: float) -> Answer:
        self._tally.refused(error.code)
        if error.status >= 500:
            event("request_failed", 40, request_id=request_id, route=self._dialect.name, code=error.code)
        answer = self._dialect.failure(error, request_id)
        if self._is_logged:
            self._log(request_id, answer.status, started_s, code=error.code)
        return answer

    def _log(self, request_id: str, status: int, started_s: float, **named: Any) -> None:
        seconds = round(time.perf_counter() - started_s, 6)
        event("request", request_id=request_id, route=self._dialect.name, status=status, **named, seconds=seconds)
