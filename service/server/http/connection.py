"""HTTP on one connection: predict requests are answered without a task, a scope or a middleware; the rest is uvicorn's.

uvicorn's protocol parses (httptools) and keeps its promises about pipelining, flow control and shutdown. When the
headers of a POST to a known predict path are complete and no other request of this connection is open, the request
stays here: its body is collected, `PredictEndpoint.handle` is called as the last byte arrives, and the answer is one write.
All requests that the loop reads in one turn are decoded in that turn and so run as one batch. Whatever is unusual
(a pipelined request, `Expect: 100-continue`, an Origin, a packed body, a table) goes the long way through the ASGI application, which answers
the same: tests send every case both ways.
"""

import asyncio
import http
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.inference.admission import Ticket
from batchproof.service.protocols.compression import ENCODING_HEADER
from batchproof.service.protocols.head import special
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.endpoint import PredictEndpoint
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.http.read_timeout import Arrival
from batchproof.service.tables.formats import wants_table

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in http.HTTPStatus}
LONG_BODY_BYTES = 65536  # shorter bodies are there as soon as their headers
UNUSUAL = frozenset({ENCODING_HEADER, b"expect", b"origin", b"upgrade"})


class PendingRequest:
    """One predict request of a connection, from its headers to its answer: what uvicorn asks of a cycle, and no more."""

    message_event = asyncio.Event()  # uvicorn sets it when a connection is lost; nobody waits for it here
    __slots__ = (
        "disconnected",
        "exchange",
        "found",
        "headers",
        "keep_alive",
        "parts",
        "refusal",
        "response_complete",
        "size",
        "ticket",
    )

    def __init__(
        self, exchange: PredictEndpoint, headers: list[tuple[bytes, bytes]], found: dict[bytes, bytes]
    ) -> None:
        """Begin with the headers."""
        self.exchange = exchange
        self.headers = headers
        self.found = found
        self.parts: list[bytes] = []
        self.size = 0  # bytes of body so far
        self.refusal: ServiceError | None = None  # known from the headers: the body is read and dropped
        self.ticket: Ticket | None = None
        self.keep_alive = True
        self.response_complete = False
        self.disconnected = False


class FastHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the short way for predict requests."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Serve one connection; `config.app` is the App whose routes are looked up."""
        super().__init__(config, server_state, app_state, _loop)
        application = config.app
        assert isinstance(application, AsgiApp), "batchproof.service.server.process makes the configuration"
        self._routes = application.service.routes
        self._application = application
        self._max_body_bytes = application.service.settings.max_body_bytes
        self._has_headers = False  # of the request that is being read
        self.cycle: Any = None  # uvicorn's cycle or a Turn: what is being read
        self._turn: PendingRequest | None = None  # the predict request that is being read or answered
        self._idle_since_s = 0.0
        self.on_closed: Callable[[], None] | None = None  # a worker tells its supervisor

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._arrival = Arrival(self.loop, self._application.service.settings.read_timeout_s, self._on_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place of a caller that went away to others."""
        self._arrival.stop()
        turn = self._turn
        if turn is not None and turn.ticket is not None:
            turn.exchange.cancel(turn.ticket)
            turn.ticket = None
        super().connection_lost(exc)
        if self.on_closed is not None:
            self.on_closed()

    def data_received(self, data: bytes) -> None:
        """Parse; the keep-alive timer is left running and looks at the clock when it fires."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade:
            self.send_400_response("No protocol to upgrade to is spoken here.")

    def on_message_begin(self) -> None:
        """Leave the scope to requests that need one."""
        self.url = b""
        self.headers = []
        self._has_headers = False
        self._arrival.begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; what it means is asked once, when all are there."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Keep a predict request here or send it the long way."""
        self._has_headers = True
        exchange = self._routes.get(self.url.decode("latin-1"))
        cycle = self.cycle
        if exchange is not None and (cycle is None or cycle.response_complete) and self.parser.get_method() == b"POST":
            found = special(self.headers)
            if UNUSUAL.isdisjoint(found) and not wants_table(found):
                self._begin(exchange, found)
                return
        url, headers = self.url, self.headers
        if self._is_table(url, headers):
            self._arrival.end()  # however long it is: the stream looks whether it goes on
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = (b"expect", b"100-continue") in headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect the body up to the limit."""
        turn = self._turn
        if turn is None or turn is not self.cycle:
            super().on_body(body)
            return
        turn.size += len(body)
        if turn.size <= self._max_body_bytes:
            if turn.refusal is None:
                turn.parts.append(body)
        elif not turn.response_complete:
            self._refuse_body(turn)

    def on_message_complete(self) -> None:
        """Hand the whole request over."""
        self._arrival.end()
        turn = self._turn
        if turn is None or turn is not self.cycle:
            super().on_message_complete()
        elif turn.response_complete:  # refused while it was read
            self.transport.close()
        elif turn.refusal is not None:
            self._answer(turn.exchange.refuse(turn.refusal, turn.headers))
        else:
            parts = turn.parts
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            turn.parts = []
            turn.ticket = turn.exchange.handle(body, turn.headers, turn.found, self._answer)

    def on_response_complete(self) -> None:
        """Go on after an answer of the long way, or with what was pipelined behind one of the short way."""
        super().on_response_complete()
        self._idle_since_s = self.loop.time()

    def resume_writing(self) -> None:
        """Read on once the caller has taken what was written."""
        super().resume_writing()
        self.flow.resume_reading()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for the whole time, else look again when it could be."""
        if self.transport.is_closing():
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            left_s = self.timeout_keep_alive
        if left_s <= 0:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)

    def _begin(self, exchange: PredictEndpoint, found: dict[bytes, bytes]) -> None:
        turn = self._turn = PendingRequest(exchange, self.headers, found)
        self.cycle = turn
        if not self.parser.should_keep_alive():
            turn.keep_alive = False
        length = int(found.get(b"content-length", b"0"))
        if length > self._max_body_bytes:
            self._refuse_body(turn)
        elif length > LONG_BODY_BYTES:
            self._look_for_room(turn, length)

    def _look_for_room(self, turn: PendingRequest, length: int) -> None:
        """Let a long body that would be refused take no memory while it comes."""
        try:
            turn.exchange.check_room(length, turn.found)
        except ServiceError as error:
            turn.refusal = error

    def _refuse_body(self, turn: PendingRequest) -> None:
        """Answer 413 at once; the rest of the body is read and dropped, so that the caller gets to see the answer."""
        turn.keep_alive = False
        turn.parts = []
        answer = turn.exchange.refuse(errors.body_too_large(self._max_body_bytes), turn.headers)
        self._write(answer, keep_alive=False)
        turn.response_complete = True

    def _is_table(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
        path = url.partition(b"?")[0].decode("latin-1")
        return path in self._application.service.tables and wants_table(special(headers))

    def _on_late(self) -> None:
        """Answer 408 for a request that does not arrive, and close; a connection that never began one is just closed."""
        cycle = self.cycle
        is_open = cycle is not None and not cycle.response_complete
        if self.pipeline or (is_open and not self._has_headers):
            return  # an earlier request of this connection is still being answered
        began = is_open and getattr(cycle, "response_started", False)
        if self.headers and not began and (is_open or not self._has_headers):
            self._write(self._late_answer(), keep_alive=False)
        self.transport.close()

    def _late_answer(self) -> Answer:
        error = errors.too_slow(self._application.service.settings.read_timeout_s)
        path = self.url.partition(b"?")[0].decode("latin-1")
        exchange = self._routes.get(path)
        if exchange is not None:
            return exchange.refuse(error, self.headers)
        return self._application.refuse(error, self.parser.get_method().decode("latin-1"), path, self.headers)

    def _answer(self, answer: Answer) -> None:
        """Write the answer of the open request and go on with what was pipelined behind it."""
        turn = self._turn
        assert turn is not None, "an answer belongs to an open request"
        turn.ticket = None
        self._write(answer, keep_alive=turn.keep_alive)
        turn.response_complete = True
        if not turn.keep_alive:
            self.transport.close()
        if self.pipeline:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._idle_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        if self.flow.write_paused:  # a caller that does not read its answers may not send more requests
            self.flow.pause_reading()

    def _write(self, answer: Answer, *, keep_alive: bool) -> None:
        status, headers, body = answer
        parts = [STATUS_LINES[status]]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if not keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        parts.append(body)
        self.transport.write(b"".join(parts))
