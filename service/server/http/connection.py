"""HTTP on one connection: predict requests are answered without a task, a scope or a middleware; the rest is uvicorn's.

uvicorn's protocol parses (httptools) and keeps its promises about pipelining, flow control and shutdown. When the
headers of a request are complete, the router says what answers it. A prediction stays here where no other request of
this connection is open: its body is collected, `PredictEndpoint.handle` is called as the last byte arrives, and the
answer is one write. All requests that the loop reads in one turn are decoded in that turn and so run as one batch. A
refusal is answered here too, before the body. Whatever is unusual (a pipelined request, `Expect: 100-continue`, an
Origin, a packed body, a table, a page) goes the long way through the ASGI application with what the router said, and is
answered the same: tests send every case both ways.
"""

import asyncio
import http
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import HEAD_KEY, SHORT_BODY_BYTES, UNUSUAL, RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.endpoint import PredictEndpoint
from batchproof.service.server.gate import Refusal
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.http.pending import ANSWERED, CLOSING, PendingRequest
from batchproof.service.server.http.read_timeout import Arrival
from batchproof.service.server.http.router import TARGET_KEY, Resolved
from batchproof.service.server.tls import names_of
from batchproof.service.tables.streaming.endpoint import TableEndpoint

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in http.HTTPStatus}


class FastHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a short way for predict requests and refusals."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Serve one connection; the router of `config.app` is asked about each of its requests."""
        super().__init__(config, server_state, app_state, _loop)
        application = config.app
        assert isinstance(application, AsgiApp), "batchproof.service.server.process makes the configuration"
        self._router, self._resolve = application.router, application.router.resolve
        self._last_url, self._last_path = b"", ""  # of a request without a query: nearly always that of the next one
        self._app = application.app
        self._max_body_bytes, self._has_headers = application.app.settings.max_body_bytes, False
        self.cycle: Any = None  # uvicorn's cycle or one of the above: what is being read
        self._turn: PendingRequest | None = None  # the predict request that is being read or answered
        self._now_s, self._idle_since_s = self.loop.time, 0.0
        self._default_headers: object = None  # of which the next is the text
        self._default_text = b""
        self.on_closed: Callable[[], None] | None = None  # a worker tells its supervisor

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._peer = names_of(transport.get_extra_info("peercert"))
        self._arrival = Arrival(self.loop, self._app.settings.read_timeout_s, self._on_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request of a caller that went away: its place in the queue is for others."""
        self._arrival.stop()
        turn = self._turn
        if turn is not None and turn.ticket is not None:
            turn.endpoint.cancel(turn.ticket)
            turn.ticket = None
        super().connection_lost(exc)
        if self.on_closed is not None:
            self.on_closed()

    def data_received(self, data: bytes) -> None:
        """Parse; the keep-alive timer is left running and looks at the clock when it fires."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if self.cycle is CLOSING:  # it has its answer
                self.transport.close()
            else:
                self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade:
            self.send_400_response("No protocol to upgrade to is spoken here.")

    def on_message_begin(self) -> None:
        """Leave the scope to requests that need one."""
        self.url = b""
        self.headers = []
        self._has_headers = False
        self._arrival.since_s = self._now_s()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; what it means is asked once, when all are there."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Keep a prediction or a refusal here, or send the request the long way."""
        self._has_headers = True
        if self.url == self._last_url:
            method = self.parser.get_method()
            head = RequestHead("POST" if method == b"POST" else method.decode(), self._last_path, b"", self.headers)
        else:
            head = self._head()
        if self._peer:
            head.peer = self._peer
        target = self._resolve(head)
        cycle = self.cycle
        is_free = cycle is None or cycle.response_complete
        if is_free and type(target) is PredictEndpoint and (head.is_plain or UNUSUAL.isdisjoint(head.special)):
            self._begin(target, head)
        elif self.parser.should_upgrade():  # the parser stops here, and the request is refused as a whole
            self.cycle = ANSWERED if is_free else cycle
        elif is_free and type(target) is Refusal:
            self._refuse(target, head)
        else:
            self._hand_over(target, head)

    def on_body(self, body: bytes) -> None:
        """Collect the body up to the limit."""
        turn = self._turn
        if turn is None or turn is not self.cycle:
            super().on_body(body)
            return
        turn.size += len(body)
        if turn.size > self._max_body_bytes:
            self._refuse_body(turn)
        elif turn.refusal is None:
            turn.parts.append(body)

    def on_message_complete(self) -> None:
        """Hand the whole request over."""
        self._arrival.since_s = None
        turn = self._turn
        if turn is None or turn is not self.cycle:
            super().on_message_complete()
            if self.cycle is CLOSING:  # refused before or while its body was read
                self.transport.close()
        elif turn.refusal is not None:
            self._answer(turn.endpoint.refuse(turn.refusal, turn.head))
        else:
            parts = turn.parts
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            turn.parts = []
            turn.ticket = turn.endpoint.handle(body, turn.head, self._answer)

    def on_response_complete(self) -> None:
        """Go on after an answer of the long way, or with what was pipelined behind one of the short way."""
        if self.cycle.response_complete:
            self.cycle = ANSWERED
            self.scope = {}  # type: ignore[typeddict-item]  # it held what answered
        super().on_response_complete()
        self._idle_since_s = self._now_s()

    def resume_writing(self) -> None:
        """Read on once the caller has taken what was written."""
        super().resume_writing()
        self.flow.resume_reading()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for the whole time, else look again when it could be."""
        if self.transport.is_closing():
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self._now_s()
        if self.cycle is not None and not self.cycle.response_complete:
            left_s = self.timeout_keep_alive
        if left_s <= 0:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)

    def _head(self) -> RequestHead:
        """Return the head of the request that is being read."""
        method = self.parser.get_method().decode("ascii")
        try:
            parsed = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            return RequestHead(method, self.url.decode("latin-1"), b"", self.headers)  # uvicorn refuses it
        path = unquote((parsed.path or b"").decode("latin-1"))
        if not parsed.query:
            self._last_url, self._last_path = self.url, path
        return RequestHead(method, path, parsed.query or b"", self.headers)

    def _may_keep_alive(self) -> bool:
        """Return whether the connection outlives the answer: not where the caller or a stop of the service says so."""
        return self.parser.should_keep_alive() and not self._app.is_stopping

    def _begin(self, endpoint: PredictEndpoint, head: RequestHead) -> None:
        """Begin to collect the body of a prediction."""
        turn = self._turn = self.cycle = PendingRequest(endpoint, head)
        turn.keep_alive = self._may_keep_alive()
        if not head.is_plain and head.content_length > SHORT_BODY_BYTES:
            self._look_for_room(turn, head.content_length)

    def _refuse(self, refusal: Refusal, head: RequestHead) -> None:
        """Answer before the body, which is dropped as it comes; after a long one the connection is closed.

        A caller that waits to be asked for its body may never send it, so its connection is closed at once.
        """
        keep_alive = head.has_short_body and self._may_keep_alive()
        self._write(self._router.refuse(head, refusal), keep_alive=keep_alive, has_body=head.method != "HEAD")
        self.cycle = ANSWERED if keep_alive else CLOSING
        if head.waits_to_continue:
            self.transport.close()
        self._become_idle()

    def _hand_over(self, target: Resolved, head: RequestHead) -> None:
        """Let uvicorn make a task of the request for the ASGI application, which learns what it was resolved to."""
        if isinstance(target, TableEndpoint):
            self._arrival.since_s = None  # however long it is: the stream looks whether it goes on
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        scope: MutableMapping[str, Any] = self.scope  # type: ignore[assignment]
        scope[HEAD_KEY], scope[TARGET_KEY] = head, target
        self.expect_100_continue = head.waits_to_continue
        super().on_headers_complete()
        self.cycle.keep_alive &= self._may_keep_alive()

    def _look_for_room(self, turn: PendingRequest, length: int) -> None:
        """Let a long body that would be refused take no memory while it comes."""
        try:
            turn.endpoint.check_room(length, turn.head)
        except ServiceError as error:
            turn.refusal = error

    def _refuse_body(self, turn: PendingRequest) -> None:
        """Answer 413 at once; the rest of the body is read and dropped, so that the caller gets to see the answer."""
        answer = turn.endpoint.refuse(errors.body_too_large(self._max_body_bytes), turn.head)
        self._write(answer, keep_alive=False)
        self._turn, self.cycle = None, CLOSING

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
        turn, error = self._turn, errors.too_slow(self._app.settings.read_timeout_s)
        if turn is not None and turn is self.cycle:
            return turn.endpoint.refuse(error, turn.head)
        head = self.scope.get(HEAD_KEY) if self._has_headers and self.scope else None
        head = head if isinstance(head, RequestHead) else self._head()
        place = self._router.locate(head)
        return self._router.refuse(head, Refusal(error, place.target if isinstance(place, Refusal) else place))

    def _answer(self, answer: Answer) -> None:
        """Write the answer of the open request and go on with what was pipelined behind it."""
        turn = self._turn
        assert turn is not None, "an answer belongs to an open request"
        self._turn = None
        self._write(answer, keep_alive=turn.keep_alive)
        if not turn.keep_alive:
            self.transport.close()
        if self.cycle is turn:
            self.cycle = ANSWERED
        if self.pipeline:
            self.on_response_complete()
        else:
            self._become_idle()

    def _become_idle(self) -> None:
        """Wait for the next request, and close when none comes for the whole time of keep-alive."""
        self.server_state.total_requests += 1
        self._idle_since_s = self._now_s()
        if self.timeout_keep_alive_task is None:
            left_s = self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        if self.flow.write_paused:  # a caller that does not read its answers may not send more requests
            self.flow.pause_reading()

    def _write(self, answer: Answer, *, keep_alive: bool, has_body: bool = True) -> None:
        status, headers, body = answer
        parts = [STATUS_LINES[status]]
        if self.server_state.default_headers is not self._default_headers:  # uvicorn makes them anew each second
            self._default_headers = self.server_state.default_headers
            self._default_text = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        parts.append(self._default_text)
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if not keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        if has_body:
            parts.append(body)
        self.transport.write(b"".join(parts))
