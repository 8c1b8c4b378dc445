"""What a process and the service tell each other over their socket: frames of a kind, a length and bytes."""

import io
import os
import select
import signal
import socket
import struct
from collections.abc import Callable

MESSAGE = b"t"  # goes with descriptors
HEAD = struct.Struct("<cQ")
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # are for the service, which ends its processes
PART_BYTES = 1 << 20  # sent or received at once
WAIT_S = 0.2  # between two questions whether the caller is still there


class PeerEndedError(Exception):
    """The other side ended within a job, is silent, or says what is not expected of it."""


def send(
    connection: socket.socket,
    kind: bytes,
    *parts: bytes | bytearray | memoryview,
    go_on: Callable[[], object] = lambda: None,
) -> None:
    """Send a frame whose payload is `parts`; waits while the other side does not read. Raises ConnectionError where it is gone.

    Raises PeerEndedError where it reads nothing for as long as the connection's timeout, and what `go_on`, asked while
    waiting, raises.
    """
    poller = select.poll()
    poller.register(connection, select.POLLOUT)
    silent_s = connection.gettimeout()
    for part in (HEAD.pack(kind, sum(memoryview(part).nbytes for part in parts)), *parts):
        left = memoryview(part)
        while left:
            _wait(poller, silent_s, go_on)
            left = left[connection.send(left[:PART_BYTES]) :]


class Frames:
    """The frames that come over a socket."""

    def __init__(self, connection: socket.socket, most_bytes: int, silent_s: float | None = None) -> None:
        """Take frames of at most `most_bytes`; a peer that says nothing for `silent_s` has ended; None: it may."""
        self._connection = connection
        self._most_bytes = most_bytes
        self._silent_s = silent_s
        can_wait = connection.gettimeout() is None  # then the kernel puts a frame together
        self._part_bytes, self._flags = (1 << 62, socket.MSG_WAITALL) if can_wait else (PART_BYTES, 0)
        self._poller = select.poll()
        self._poller.register(connection, select.POLLIN)

    def receive(self, go_on: Callable[[], object] = lambda: None) -> tuple[bytes, bytes]:
        """Return the next frame's kind and bytes; raises PeerEndedError, and what `go_on`, asked while waiting, raises."""
        kind, length = HEAD.unpack(self._exactly(HEAD.size, go_on))
        if length > self._most_bytes:
            raise PeerEndedError
        return kind, self._exactly(length, go_on)

    def fill(self, kind: bytes, buffer: memoryview, go_on: Callable[[], object] = lambda: None) -> None:
        """Receive a frame of this kind and of the buffer's length into it; raises as `receive` does."""
        if HEAD.unpack(self._exactly(HEAD.size, go_on)) != (kind, len(buffer)):
            raise PeerEndedError
        while buffer:
            _wait(self._poller, self._silent_s, go_on)
            try:
                count = self._connection.recv_into(buffer)
            except ConnectionError as error:
                raise PeerEndedError from error
            if not count:
                raise PeerEndedError
            buffer = buffer[count:]

    def _exactly(self, length: int, go_on: Callable[[], object]) -> bytes:
        whole = io.BytesIO()  # joins its parts as they come: at their end that would keep other threads waiting
        part = b""
        left = length
        while left:
            _wait(self._poller, self._silent_s, go_on)
            try:
                part = self._connection.recv(min(self._part_bytes, left), self._flags)
            except ConnectionError as error:
                raise PeerEndedError from error
            if not part:
                raise PeerEndedError
            left -= len(part)
            if len(part) < length:
                whole.write(part)
        return part if len(part) == length else whole.getvalue()


def _wait(poller: select.poll, silent_s: float | None, go_on: Callable[[], object]) -> None:
    """Wait until the other side has sent, or read, something; raises PeerEndedError after `silent_s` without that."""
    waited_s = 0.0
    while not poller.poll(1000 * WAIT_S):
        go_on()
        waited_s += WAIT_S
        if silent_s is not None and waited_s > silent_s:
            raise PeerEndedError


def exit_code(status: int, wait_s: float) -> int | None:
    """Return the exit code that comes over the pipe `status`, negative for a signal; None where none comes."""
    poller = select.poll()
    poller.register(status, select.POLLIN)
    text = os.read(status, 16) if poller.poll(1000 * wait_s) else b""
    return int(text) if text else None
