"""A connection from one answer to the next request: what is written, how long it stays idle, and which heads end it."""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from batchproof.service import errors
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.http.connections.bounded import BoundedConnection, EndedError
from batchproof.service.server.http.connections.uvicorn_parts import Config, ServerState
from batchproof.service.server.http.hosts import host_fault

VERSIONS = ("1.1", "1.0")
STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
JOINED_BYTES = 1 << 16  # of an answer that is copied behind its head: a longer one would keep others waiting


class LastingConnection(BoundedConnection):
    """A bounded connection that is kept alive."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Serve one connection."""
        super().__init__(config, server_state, app_state, _loop)
        self.cycle: Any = None  # what is being read: uvicorn's cycle, or one of `pending` or `farewell`
        self._now_s = self.loop.time
        self._idle_since_s = 0.0
        self._last_host = b""  # the last that was in order: nearly always that of the next request
        self._default_headers: object = None
        self._last_status = 0
        self._last_headers: Sequence[tuple[bytes, bytes]] = []
        self._head_text = b""  # of the last answer: its status, the default headers and its own

    def _may_keep_alive(self, head: RequestHead) -> bool:
        """Return whether the connection outlives the answer: not where the caller or a stop of the service says so.

        Connections of HTTP/1.0 end with their answer, although its callers may ask for more with `Connection`.
        """
        if not self.parser.should_keep_alive() or self._app.is_stopping:
            return False
        return b"connection" not in head.special or self.parser.get_http_version() != "1.0"

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

    def _become_idle(self) -> None:
        """Wait for the next request, and close when none comes for the whole time of keep-alive."""
        self.server_state.total_requests += 1
        self._idle_since_s = self._now_s()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        if self.flow.write_paused:  # a caller that does not read its answers may not send more requests
            self.flow.pause_reading()

    def _write(self, answer: Answer, *, keep_alive: bool, has_body: bool = True) -> None:
        status, headers, body = answer
        defaults = self.server_state.default_headers  # uvicorn makes them anew each second
        is_known = headers is self._last_headers and status == self._last_status and defaults is self._default_headers
        if not is_known or type(headers) is not tuple:  # a list may have changed
            self._default_headers, self._last_headers, self._last_status = defaults, headers, status
            lines = [b"%b: %b\r\n" % header for header in (*defaults, *headers)]
            self._head_text = b"".join([STATUS_LINES[status], *lines])
        end = b"content-length: %d\r\n\r\n" % len(body)
        if not keep_alive:
            end = b"connection: close\r\n" + end
        if has_body and len(body) > JOINED_BYTES:
            self.transport.write(self._head_text + end)
            self.transport.write(body)
        else:
            self.transport.write(b"".join((self._head_text, end, body if has_body else b"")))

    def _break_off(self, cycle: Callable[[], Any]) -> None:
        """Close the connection: the answer to this request does not come to its end."""
        if (open_cycle := cycle()) is not None:
            open_cycle.disconnected = True
        self.transport.close()

    def _check_target(self, head: RequestHead) -> None:
        """Refuse what is not a URL of a known version, unless it repeats the last one; raises EndedError."""
        version = self.parser.get_http_version()
        if version not in VERSIONS or not head.path:
            self._refuse_head("the request line must be METHOD URL HTTP/1.1 (or HTTP/1.0), with an ASCII URL")
        if version != "1.1":
            head.version = version

    def _check_host(self) -> None:
        """Refuse a request that names no host, several, or what is none; raises EndedError."""
        fault = host_fault(self.headers, self.parser.get_http_version())
        if fault is not None:
            self._refuse_head(fault)
        self._last_host = next((value for name, value in self.headers if name == b"host"), b"")

    def _refuse_head(self, why: str) -> None:
        """Refuse a request for what its head says; raises EndedError."""
        self._has_headers = False  # nothing was begun for it
        self._refuse_rest(errors.broken_http(why))
        raise EndedError
