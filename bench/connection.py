"""One non-blocking HTTP/1.1 connection with at most one request under way: the smallest client that can be trusted."""

import re
import socket

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
CHUNK = 1 << 18


class Broken(Exception):  # noqa: N818 — says what happened
    """The server closed the connection or answered with something that is not HTTP/1.1 with a Content-Length."""


class Connection:
    """A socket, the rest of the request to send and the part of the answer that has come."""

    def __init__(self, address: tuple[str, int], kind: int) -> None:
        self.kind = kind  # which payload it sends
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self.socket.fileno()
        self.request: int | None = None  # which one is under way
        self.reusable = True
        self._unsent = memoryview(b"")
        self._answer = b""

    def begin(self, payload: bytes) -> bool:
        """Start to send; true when all of it went out at once."""
        self._unsent, self._answer = memoryview(payload), b""
        return self.go_on()

    def go_on(self) -> bool:
        """Send what the socket takes; true when nothing is left."""
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        except OSError as error:
            raise Broken(str(error)) from error
        return not self._unsent

    def read(self) -> int | None:
        """Take what has come; the status once the answer is whole, else None."""
        try:
            part = self.socket.recv(CHUNK)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Broken(str(error)) from error
        if not part:
            raise Broken("the server closed the connection")
        self._answer += part
        return self._status()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def _status(self) -> int | None:
        head = self._answer.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = CONTENT_LENGTH.search(self._answer, 0, head + 2)
        if length is None or not self._answer.startswith(b"HTTP/1.1 "):
            raise Broken(f"not an answer with a length: {self._answer[:200]!r}")
        if len(self._answer) < head + 4 + int(length[1]):
            return None
        # An answer before the whole request is sent leaves the connection out of step.
        self.reusable = not self._unsent and CLOSES.search(self._answer, 0, head + 2) is None
        return int(self._answer[9:12])


def payload(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
