"""One connection of a caller: requests as bytes, answers whole or not at all."""

import http.client
import socket
import struct
import time
from contextlib import suppress
from typing import NamedTuple, Self

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class CutError(Exception):
    """The connection ended before the answer was whole."""


class HungError(Exception):
    """No whole answer came in time."""


class Reply(NamedTuple):
    """One whole answer: its header names are in lower case, and its body is joined from its chunks."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection that reads answers in order."""

    def __init__(self, address: tuple[str, int], timeout_s: float) -> None:
        """Connect; raises HungError and CutError."""
        self.opened_s = time.monotonic()
        self._received = bytearray()
        self._timeout_s = timeout_s
        self._late_s = self.opened_s + timeout_s
        try:
            self._socket = socket.create_connection(address, timeout_s)
        except TimeoutError as error:
            raise HungError("no connection") from error
        except OSError as error:
            raise CutError(f"no connection: {error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]

    def send(self, content: bytes) -> None:
        """Send bytes of requests; from now on the next answer has its time. Raises HungError and CutError."""
        self._late_s = time.monotonic() + self._timeout_s
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(content)
        except TimeoutError as error:
            raise HungError("the request is not read") from error
        except OSError as error:
            raise CutError(str(error)) from error

    def end(self) -> None:
        """Say that nothing more is sent; answers can still come."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reply(self) -> Reply:
        """Return the next answer; raises HungError and CutError, http.client.HTTPException for what is no answer."""
        head = self._take(self._up_to(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, status = head[0].partition(" ")
        if version != "HTTP/1.1" or not status[:3].isdigit():
            raise http.client.BadStatusLine(head[0])
        pairs = [line.partition(":") for line in head[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        else:
            body = self._take(int(headers["content-length"]))
        return Reply(int(status[:3]), headers, body)

    def close(self, *, reset: bool = False) -> None:
        """Hang up; with `reset` what the kernel still holds is thrown away on both sides."""
        if reset:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.close()

    def __enter__(self) -> Self:
        """Begin the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._take(self._up_to(b"\r\n")), 16):
            parts.append(self._take(size))
            self._take(2)
        self._take(2)
        return b"".join(parts)

    def _up_to(self, mark: bytes) -> int:
        """Return how many bytes there are up to the end of the next `mark`."""
        start = 0
        while (place := self._received.find(mark, start)) < 0:
            start = max(0, len(self._received) - len(mark))
            self._more()
        return place + len(mark)

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            self._more()
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _more(self) -> None:
        left_s = self._late_s - time.monotonic()
        self._socket.settimeout(max(left_s, 0.001))  # a caller that comes late itself takes what is there
        try:
            part = self._socket.recv(1 << 18)
        except TimeoutError as error:
            raise HungError(f"no whole answer in {self._timeout_s:.0f} s") from error
        except OSError as error:
            raise CutError(str(error)) from error
        if not part:
            raise CutError("closed")
        self._received += part
