"""Heads that a connection has parsed already: callers that keep a connection repeat them but for the Content-Length.

The same bytes at the same place mean the same, so a request under a known head needs no parser. All of the head is
compared but the digits of its length, so whatever else differs, such as a caller's own id, is parsed. What was decided on
the head before counts nothing: the gate is asked anew.
"""

import asyncio
import re
from abc import abstractmethod
from typing import Any, Self

from batchproof.service.protocols.head import LENGTH_HEADER, LONG_BODY_DIGITS, RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.http.connections.keep_alive import LastingConnection
from batchproof.service.server.http.connections.pending import ANSWERED, CLOSING, PendingRequest
from batchproof.service.server.http.connections.uvicorn_parts import Config, ServerState
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.server.serving.gate import Refusal

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})\r\n" % (LONG_BODY_DIGITS - 1), re.IGNORECASE)
END = b"\r\n\r\n"
MOST_BYTES = 4096  # of a head that is kept for as long as its connection
MOST_HEADS = 8  # that one connection learns: a caller whose heads all differ has none to know


class KnownHead:
    """The bytes of a head around the digits of its Content-Length, and what they mean."""

    __slots__ = ("_digits_at", "_end", "_head", "_start", "path")

    def __init__(self, start: bytes, end: bytes, head: RequestHead) -> None:
        """Know `head`, whose bytes are `start`, the digits of its length, and `end`."""
        self._start = start
        self._end = end
        self._digits_at = len(start)
        self._head = head
        self.path = head.path

    @classmethod
    def of(cls, data: bytes, head: RequestHead) -> Self | None:
        """Return the head of `data`, one whole request that was parsed to `head`; None where other bytes are in it.

        `head` is plain, and of HTTP/1.1 on a connection that is kept.
        """
        size = data.find(END) + len(END)
        text = data[:size]
        found = LENGTH.search(text)
        if found is None or size > MOST_BYTES or text.lower().count(LENGTH_HEADER) != 1:
            return None
        digits = found[1]
        if digits != head.special.get(LENGTH_HEADER) or len(data) != size + int(digits):
            return None
        return cls(text[: found.start(1)], text[found.end(1) :], head.again(digits))

    def split(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Return the head and the body of `data`, where it is one whole request under this head, else None."""
        if not data.startswith(self._start):
            return None
        begin = self._digits_at
        end = data.find(b"\r", begin, begin + LONG_BODY_DIGITS)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._end, end):
            return None
        body = data[end + len(self._end) :]
        return (self._head.again(digits), body) if len(body) == int(digits) else None


class RepeatingConnection(LastingConnection):
    """A connection that knows the head of its last prediction. A subclass parses the others, and writes answers."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Serve one connection."""
        super().__init__(config, server_state, app_state, _loop)
        self._router = self._application.router
        self._resolve = self._router.resolve
        self._max_body_bytes = self._app.shared.limits.max_body_bytes
        self._turn: PendingRequest | None = None  # the predict request that is being read or answered
        self._known: KnownHead | None = None
        self._left_heads = MOST_HEADS

    def data_received(self, data: bytes) -> None:
        """Take a request under the known head without the parser, and parse any other."""
        is_next = self.cycle is ANSWERED and self._arrival.since_s is None  # no other request is open or has begun
        if is_next and self._known is not None and self._take(self._known, data):
            return
        super().data_received(data)
        if is_next and self._left_heads:
            self._learn(data)

    def _take(self, known: KnownHead, data: bytes) -> bool:
        """Do what the parser's callbacks do for a whole request; returns whether `data` is one under the known head."""
        found = known.split(data)
        if found is None or known.path not in self._app.routes.endpoints or len(found[1]) > self._max_body_bytes:
            return False
        try:
            self._answer_known(*found)
        except Exception as error:  # noqa: BLE001 - as in the parser's callbacks: it is logged, and its caller is answered
            self._turn, self.cycle = None, CLOSING
            broken = self._app.unforeseen("a request on a connection", error, found[0].ids)
            self._write(self._router.refuse(found[0], self._router.refusal(found[0], broken)), keep_alive=False)
            self.transport.close()
        return True

    def _answer_known(self, head: RequestHead, body: bytes) -> None:
        target = self._resolve(head)
        if isinstance(target, PredictEndpoint):
            turn = self._turn = self.cycle = PendingRequest(target, head)
            turn.keep_alive = not self._app.is_stopping
            turn.work = target.handle(body, head, self._answer)
            return
        assert type(target) is Refusal, "where a POST has an endpoint, it is answered or refused"
        self._refuse(target, head)
        if self.cycle is CLOSING:
            self.transport.close()

    def _learn(self, data: bytes) -> None:
        """Know the head of the request that was parsed just now, where it is all of `data` and can be repeated."""
        turn = self._turn
        if turn is None or turn is not self.cycle or not turn.keep_alive or self._arrival.since_s is not None:
            return
        if turn.head.is_plain and turn.head.http_version == "1.1":
            self._left_heads -= 1
            self._known = KnownHead.of(data, turn.head)

    @abstractmethod
    def _answer(self, answer: Answer) -> None:
        """Write the answer of the open request."""

    @abstractmethod
    def _refuse(self, refusal: Refusal, head: RequestHead) -> None:
        """Answer a request before its body."""
