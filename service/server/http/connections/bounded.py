"""What one connection may cost: bytes of heads and trailers, turns of the event loop, time to read and to write.

uvicorn's protocol parses whatever arrives, however much. Here what arrives is parsed in slices, so that one connection
leaves the loop to others; a head that does not end is refused, a caller that does not read is cut off, and the requests
that came before the end of the input or before garbage are answered before the connection is closed.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.http.connections.farewell import Discarding, Farewell
from batchproof.service.server.http.connections.read_timeout import Arrival
from batchproof.service.server.http.connections.uvicorn_parts import (
    Config,
    FlowControl,
    HttpToolsProtocol,
    ServerState,
    new_parser,
)
from batchproof.service.server.http.connections.write_timeout import WriteTimeout

SLICE_BYTES = 1 << 15  # parsed at once: at most a few milliseconds, whatever is in it
BODY_SLICE_BYTES = 1 << 18  # of a body, which costs less
FULL_BYTES = 1 << 17  # of one read, behind which more may be there: the transport would read that before anything else
TURN_S = 0.005  # after which the other connections have their turn
MOST_PIPELINED = 16  # requests of one connection that wait behind the one that is answered
LINGER_S = 2.0  # in which a caller can read a last answer while it still sends
NOTHING = memoryview(b"")


class EndedError(Exception):
    """The connection reads no further request; raised to end the parser's work on what has arrived."""


class Flow(FlowControl):
    """uvicorn's flow control, which goes on reading only while few requests are pipelined."""

    def __init__(
        self, transport: asyncio.Transport, may_resume: Callable[[], bool], on_resumed: Callable[[], None]
    ) -> None:
        """Ask `may_resume` first, and call `on_resumed` when reading goes on."""
        super().__init__(transport)
        self._may_resume = may_resume
        self._on_resumed = on_resumed

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`."""
        if not self._transport.is_closing():
            super().pause_reading()

    def resume_reading(self) -> None:
        """Read on, where this is possible."""
        if self.read_paused and not self._transport.is_closing() and self._may_resume():
            super().resume_reading()
            self._on_resumed()


class BoundedConnection(HttpToolsProtocol, ABC):
    """uvicorn's protocol within bounds. A subclass says how to refuse the request that is being read."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Serve one connection within the bounds that the settings of `config.app` name."""
        super().__init__(config, server_state, app_state, _loop)
        application = config.app
        assert isinstance(application, AsgiApp), "batchproof.service.server.start.process makes the configuration"
        self._application = application
        self._app = application.app
        settings = application.app.settings
        self._max_head_bytes = settings.max_head_bytes
        self._max_headers = settings.max_headers
        self._slice_bytes = min(SLICE_BYTES, self._max_head_bytes)
        self.url = b""
        self.headers = []
        self._held = NOTHING  # received and not yet parsed
        self._open_cycles: deque[Any] = deque()  # of the long way, in order: uvicorn knows only the last one
        self._has_ended = False  # whether the caller has said that it sends no more
        self._has_headers = False  # of the request that is being read
        self._has_body = False  # whether a part of a body came since the last look
        self._measured: object = None  # the headers of the request that is measured
        self._head_bytes = 0  # of it so far, or of trailers and chunk headers since the last part of its body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.flow = Flow(transport, lambda: len(self.pipeline) < MOST_PIPELINED, self._on_resumed)
        self._delivery = WriteTimeout(self.loop, transport, self._app)
        self._arrival = Arrival(self.loop, self._app.settings.read_timeout_s, self._on_late, self._delivery.start)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers, and tell every request of the long way that its caller is gone."""
        self._arrival.stop()
        self._delivery.stop()
        self._held = NOTHING
        for cycle in self._open_cycles:
            if not cycle.response_complete:
                BoundedConnection._abandon(self, cycle)
        self._open_cycles.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; the keep-alive timer is left running and looks at the clock when it fires."""
        if not self._held and len(data) <= self._slice_bytes:
            self._feed(data)
            return
        self._held = memoryview(bytes(self._held) + data if self._held else data)
        self._read_held()
        if self._held or len(data) >= FULL_BYTES:
            self._give_way()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what was asked before the caller ended its side; returns whether the connection stays open for that."""
        if self.scheme == "https":  # TLS has no half-closed connections
            return False
        self._has_ended = True
        return bool(self._held) or self._answers_rest()

    def pause_writing(self) -> None:
        """Look whether the caller reads what waits for it."""
        super().pause_writing()
        self._delivery.start()

    def resume_writing(self) -> None:
        """Read on once the caller has taken what was written."""
        super().resume_writing()
        self._delivery.resumed()
        self.flow.resume_reading()

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            self._read_on(data, end)
        except httptools.HttpParserError as error:
            self._on_parser_error(error)
        if self._arrival.since_s is not None:
            self._measure(data)

    def _read_on(self, data: bytes | memoryview, end: httptools.HttpParserUpgrade | None) -> None:
        """Read a request that asks for another protocol as one that does not, and what is behind its head."""
        while end is not None:
            data, end = self._head_again() + bytes(data[end.args[0] :]), None
            self.parser = new_parser(self)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as another:
                end = another
            except httptools.HttpParserError as error:
                self._on_parser_error(error)

    def _read_held(self) -> None:
        """Parse what is held, slice by slice, while the request that is read has room and the loop time."""
        end_s = time.perf_counter() + TURN_S
        while self._held and not self.flow.read_paused:
            size = BODY_SLICE_BYTES if self._is_reading() else self._slice_bytes
            piece, self._held = self._held[:size], self._held[size:]
            self._feed(piece)
            if self._held and time.perf_counter() > end_s:
                self._give_way()
        if self._has_ended and not self._held and not self._answers_rest():
            self.transport.close()

    def _give_way(self) -> None:
        """Read on in the next turn of the loop: sockets that always have bytes would leave no time for others."""
        if not self.flow.read_paused and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_soon(self.flow.resume_reading)

    def _on_resumed(self) -> None:
        if self._held:
            self.loop.call_soon(self._read_held)

    def _measure(self, data: bytes | memoryview) -> None:
        """Count bytes of a request that is not whole, and refuse it where its head or its trailers do not end."""
        if self.url and not self._has_headers and data[-1:] == b"\n" and self.parser.get_http_version() == "0.0":
            self._refuse_rest(errors.broken_http("its version of HTTP is not 1.0 or 1.1"))  # 0.9, which names none
        elif self.headers is not self._measured:  # a new one: how much of `data` is of it is not known
            self._measured, self._head_bytes = self.headers, 0
        elif self._has_body:
            self._has_body, self._head_bytes = False, 0
        else:
            self._head_bytes += len(data)
            if self._head_bytes > self._max_head_bytes:
                self._refuse_rest(self._head_too_large())

    def _check_head(self) -> None:
        """Refuse a head that is too large or has too many headers; raises EndedError then."""
        size = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
        if size > self._max_head_bytes or len(self.headers) > self._max_headers:
            self._refuse_rest(self._head_too_large())
            raise EndedError
        self._head_bytes = 0

    def _head_too_large(self) -> ServiceError:
        if not self._has_headers and (len(self.url) > self._max_head_bytes or not self.headers):
            return errors.url_too_long(self._max_head_bytes)
        return errors.head_too_large(self._max_head_bytes, self._max_headers)

    def _on_parser_error(self, error: httptools.HttpParserError) -> None:
        if isinstance(self.parser, Discarding):
            return
        if isinstance(error, httptools.HttpParserCallbackError):
            self._refuse_rest(self._app.unforeseen("a request on a connection", error.__context__))
        else:
            self._refuse_rest(errors.broken_http("what came is not a request of HTTP/1.1"))

    def _refuse_rest(self, error: ServiceError) -> None:
        """Refuse the request that is being read, behind the answers of those before it, and read no further one."""
        cycle = self.cycle
        has_begun = self._is_reading() and (cycle.response_complete or getattr(cycle, "response_started", False))
        last = None if has_begun else self._refusal_of_current(error)
        self._end(last, is_busy=self._drop_current())

    def _answers_rest(self) -> bool:
        """Return whether an answer is still to come, after which the connection is closed."""
        if not isinstance(self.parser, Discarding):
            is_busy = self._drop_current()
            if is_busy:
                self._end(None, is_busy=True)
            return is_busy
        return not self.cycle.response_complete

    def _end(self, last: Answer | None, *, is_busy: bool) -> None:
        self.parser = Discarding()  # type: ignore[assignment]
        self._arrival.since_s = None
        self._held = NOTHING
        farewell = Farewell(last, self._say)
        self.cycle = farewell  # type: ignore[assignment]
        if is_busy:
            self.pipeline.appendleft((farewell, self._app))  # type: ignore[arg-type]
        else:
            farewell.say()

    def _say(self, last: Answer | None) -> None:
        """Write a last answer and give the caller time to read it; without one, close."""
        if last is None or self.transport.is_closing():
            self.transport.close()
            return
        self._write(last, keep_alive=False)
        if self._has_ended:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)  # closed at once, the answer could be lost on its way

    def _is_reading(self) -> bool:
        """Return whether a request is being read whose head is whole."""
        return self._has_headers and self._arrival.since_s is not None

    def _drop_current(self) -> bool:
        """Let go of the request that is being read, if there is one; returns whether earlier ones are still open."""
        if not self._is_reading():
            return self._is_open()
        if self.pipeline:
            self.pipeline.popleft()
            return True
        self._abandon(self.cycle)
        return False

    def _is_open(self) -> bool:
        """Return whether the last request that was read, or one before it, is still to be answered."""
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _abandon(self, cycle: Any) -> None:
        """Answer a request of the long way no more: its task learns that the caller is gone."""
        cycle.disconnected = True
        cycle.message_event.set()

    @abstractmethod
    def _head_again(self) -> bytes:
        """Return the head of the request that was set aside, without its wish for another protocol."""

    @abstractmethod
    def _on_late(self) -> None:
        """Refuse the request that has not arrived in time."""

    @abstractmethod
    def _refusal_of_current(self, error: ServiceError) -> Answer:
        """Return the refusal of the request that is being read, in the form of its protocol."""

    @abstractmethod
    def _write(self, answer: Answer, *, keep_alive: bool, has_body: bool = True) -> None:
        """Write an answer; without `keep_alive` it tells the caller that the connection ends."""
