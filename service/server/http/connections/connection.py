"""HTTP on one connection: predict requests are answered without a task, a scope or a middleware; the rest is uvicorn's.

uvicorn's protocol parses (httptools) and keeps its promises about pipelining, flow control and shutdown; `bounded` says
what a connection may cost, and `known_head` spares the parser the heads that it has read before. When the headers of a
request are complete, the router says what answers it. A prediction stays here where no other request of this connection
is open: its body is collected, `PredictEndpoint.handle` is called as the last byte arrives, and the answer is one write.
All requests that the loop reads in one turn are decoded in that turn and so run as one batch. A refusal is answered here
too, before the body. Whatever is unusual (a pipelined request, `Expect: 100-continue`, an Origin, a packed body, a table,
a page) goes the long way through the ASGI application with what the router said, and is answered the same: tests send
every case both ways.
"""

import asyncio
import weakref
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import HEAD_KEY, SHORT_BODY_BYTES, UNUSUAL, RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.http.connections.heads import default_headers_of, name_host, read_target, without_upgrade
from batchproof.service.server.http.connections.known_head import RepeatingConnection
from batchproof.service.server.http.connections.pending import ANSWERED, CLOSING, NO_TRAILERS, PendingRequest
from batchproof.service.server.http.connections.uvicorn_parts import Config, ServerState
from batchproof.service.server.http.hosts import host_fault
from batchproof.service.server.http.router import TARGET_KEY, Resolved
from batchproof.service.server.http.unforeseen import ABANDON_KEY
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.server.serving.gate import Refusal
from batchproof.service.tables.streaming.endpoint import TableEndpoint

FAR_S = 1e12  # a time of the loop's clock that never comes


class FastHttpProtocol(RepeatingConnection):
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
        self._last_url, self._last_path = b"", ""  # of a request without a query: nearly always that of the next one
        self._in_flight = self._app.shared.in_flight
        self._aside: tuple[str, PendingRequest | None] | None = None  # a method, and the turn before it
        self.on_closed: Callable[[], None] | None = None  # a worker tells its supervisor

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._sender = self._router.senders.of(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request of a caller that went away: its place in the queue is for others."""
        turn = self._turn
        if turn is not None:
            turn.cancel()
            self._let_go(turn)
        super().connection_lost(exc)
        if self.on_closed is not None:
            self.on_closed()

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
        if len(self.headers) > self._max_headers or self.headers is self._measured:
            self._check_head()
        self._has_headers = True
        if self.url == self._last_url:
            method = self.parser.get_method()
            head = RequestHead("POST" if method == b"POST" else method.decode(), self._last_path, b"", self.headers)
        else:
            head = self._head()
            self._check_target(head)
        if head.special.get(b"host") != self._last_host or len(head.special) < len(self.headers):
            self._check_host()
        if self._sender is not None:
            head.sender = self._sender
        coding = head.special.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            self._refuse_head("chunked is the only Transfer-Encoding that is read")
        if (not head.is_plain or head.method == "CONNECT") and self.parser.should_upgrade():
            self._set_aside(head)
            return
        target = self._resolve(head)
        cycle = self.cycle
        is_free = cycle is None or cycle.response_complete
        if is_free and isinstance(target, PredictEndpoint) and (head.is_plain or UNUSUAL.isdisjoint(head.special)):
            self._begin(target, head)
        elif is_free and type(target) is Refusal:
            self._refuse(target, head)
        else:
            self._hand_over(target, head)
        if coding is not None:
            self.headers = NO_TRAILERS

    def on_body(self, body: bytes) -> None:
        """Collect the body up to the limit."""
        self._has_body = True
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
            if self._aside is not None:  # what was read is the head of a request that is read again
                return
            super().on_message_complete()
            if self.cycle is CLOSING:  # refused before or while its body was read
                self.transport.close()
        elif turn.refusal is not None:
            self._answer(turn.endpoint.refuse(turn.refusal, turn.head))
        else:
            parts = turn.parts
            body = parts.pop() if len(parts) == 1 and not turn.received else turn.whole_body()
            turn.work = turn.endpoint.handle(body, turn.head, self._answer)

    def on_response_complete(self) -> None:
        """Go on after an answer of the long way, or with what was pipelined behind one of the short way."""
        while self._open_cycles and self._open_cycles[0].response_complete:
            self._open_cycles.popleft()
        if self.cycle.response_complete:
            self.cycle = ANSWERED
            self.scope = {}  # type: ignore[typeddict-item]  # it held what answered
        super().on_response_complete()
        self._idle_since_s = self._now_s()

    def _head(self) -> RequestHead:
        """Return the head of the request that is being read; its path is empty where the target is not a URL."""
        method = self.parser.get_method().decode("ascii")
        target = read_target(self.url, method)
        if target.host:
            if host_fault(self.headers, self.parser.get_http_version()) is None:
                name_host(self.headers, target.host)
            self.url = target.short
        elif target.path and not target.query:
            self._last_url, self._last_path = self.url, target.path
        return RequestHead(method, target.path, target.query, self.headers)

    def _set_aside(self, head: RequestHead) -> None:
        """Read this request again without its wish for another protocol; raises EndedError for CONNECT."""
        if head.method == "CONNECT":
            self._refuse_head("the method CONNECT is not supported")  # it is for proxies
        self._aside, self._turn = (head.method, self._turn), None

    def _head_again(self) -> bytes:
        assert self._aside is not None, "the parser ends behind a head that was set aside"
        method, self._turn = self._aside
        self._aside = None
        return without_upgrade(method.encode(), self.url, self.parser.get_http_version(), self.headers)

    def _begin(self, endpoint: PredictEndpoint, head: RequestHead) -> None:
        """Begin to collect the body of a prediction."""
        turn = self._turn = self.cycle = PendingRequest(endpoint, head)
        turn.keep_alive = self._may_keep_alive(head)
        if not head.is_plain and head.content_length > SHORT_BODY_BYTES:
            self._look_for_room(turn, head.content_length)

    def _refuse(self, refusal: Refusal, head: RequestHead) -> None:
        """Answer before the body, which is dropped as it comes; after a long one the connection is closed.

        A caller that waits to be asked for its body may never send it, so its connection is closed at once.
        """
        keep_alive = head.has_short_body and self._may_keep_alive(head)
        self._write(self._router.refuse(head, refusal), keep_alive=keep_alive, has_body=head.method != "HEAD")
        self.cycle = ANSWERED if keep_alive else CLOSING
        if head.waits_to_continue:
            self.transport.close()
        self._become_idle()

    def _hand_over(self, target: Resolved, head: RequestHead) -> None:
        """Let uvicorn make a task of the request for the ASGI application, which learns what it was resolved to."""
        if isinstance(target, TableEndpoint):
            self._arrival.since_s = FAR_S  # however long it is: the stream looks whether it goes on
        url = self.url
        super().on_message_begin()
        self.url = url
        self.headers.extend(head.headers)
        scope: MutableMapping[str, Any] = self.scope  # type: ignore[assignment]
        scope[HEAD_KEY], scope[TARGET_KEY] = head, target
        self.expect_100_continue = head.waits_to_continue and self.parser.get_http_version() != "1.0"
        super().on_headers_complete()
        self._open_cycles.append(self.cycle)
        scope[ABANDON_KEY] = partial(self._break_off, weakref.ref(self.cycle))  # the cycle holds the scope
        self.cycle.keep_alive &= self._may_keep_alive(head)
        self.cycle.default_headers = default_headers_of(target, self.cycle.default_headers)

    def _look_for_room(self, turn: PendingRequest, length: int) -> None:
        """Let a long body that would be refused take no memory while it comes."""
        try:
            turn.endpoint.check_room(length, turn.head)
            self._in_flight.check(length)
        except ServiceError as error:
            turn.refusal = error

    def _refuse_body(self, turn: PendingRequest) -> None:
        """Answer 413 at once; the rest of the body is read and dropped, so that the caller gets to see the answer."""
        self._write(turn.endpoint.refuse(errors.body_too_large(self._max_body_bytes), turn.head), keep_alive=False)
        self._let_go(turn)
        self._turn, self.cycle = None, CLOSING

    def _on_late(self) -> None:
        """Answer 408 for a request that does not arrive, and close; a connection that never began one is just closed."""
        cycle = self.cycle
        is_open = cycle is not None and not cycle.response_complete
        if self.pipeline or (is_open and not self._has_headers):
            return  # an earlier request of this connection is still being answered
        began = is_open and getattr(cycle, "response_started", False)
        if self.url and not began and (is_open or not self._has_headers):
            self._write(self._refusal_of_current(errors.too_slow(self._app.settings.read_timeout_s)), keep_alive=False)
        self.transport.close()

    def _refusal_of_current(self, error: ServiceError) -> Answer:
        """Return the refusal of the request that is being read, in the shape of what would answer it."""
        turn = self._turn
        if turn is not None and turn is self.cycle and self._is_reading():
            return turn.endpoint.refuse(error, turn.head)
        self.headers = self.headers or []
        head = self.scope.get(HEAD_KEY) if self._has_headers and self.scope else None
        head = head if isinstance(head, RequestHead) else self._head()
        return self._router.refuse(head, self._router.refusal(head, error))

    def _abandon(self, cycle: Any) -> None:
        """Let go of the request that is being read."""
        turn = self._turn
        if turn is not None and turn is cycle:
            self._turn = None
            self._let_go(turn)
        elif not cycle.response_complete:
            super()._abandon(cycle)

    def _let_go(self, turn: PendingRequest) -> None:
        """Give the bytes of its body back."""
        self._in_flight.give(turn.counted)
        turn.counted = 0

    def _measure(self, data: bytes | memoryview) -> None:
        """Count the bytes of a body that is not whole among those in flight."""
        super()._measure(data)
        turn = self._turn
        if turn is None or turn is not self.cycle or turn.refusal is not None:
            return
        turn.join_parts()
        try:
            self._in_flight.take(turn.size - turn.counted)
            turn.counted = turn.size
        except ServiceError as error:
            turn.refuse(error)
            self._let_go(turn)

    def _answer(self, answer: Answer) -> None:
        """Write the answer of the open request and go on with what was pipelined behind it."""
        turn = self._turn
        assert turn is not None, "an answer belongs to an open request"
        self._turn = None
        if turn.counted:
            self._let_go(turn)
        self._write(answer, keep_alive=turn.keep_alive)
        if not turn.keep_alive:
            self.transport.close()
        if self.cycle is turn:
            self.cycle = ANSWERED
        if self.pipeline:
            self.on_response_complete()
        else:
            self._become_idle()
