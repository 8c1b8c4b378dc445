"""What a reader's process and the service tell each other over their socket: frames of a kind, a length and bytes."""

import os
import select
import socket
import struct
from collections.abc import Callable

REQUEST, NAMES, BATCH, REFUSAL, END = b"R", b"N", b"B", b"E", b"Z"  # kinds
MESSAGE = b"t"  # goes with descriptors
HEAD = struct.Struct("<cQ")
PART_BYTES = 1 << 20  # received at once
WAIT_S = 0.2  # between two questions whether the caller is still there


class PeerEndedError(Exception):
    """The other side ended within a table, or is silent."""


def send(connection: socket.socket, kind: bytes, payload: bytes | memoryview) -> None:
    """Send a frame; waits while the other side does not read. Raises OSError where it is gone."""
    connection.sendall(HEAD.pack(kind, len(payload)))
    connection.sendall(payload)


class Frames:
    """The frames that come over a socket."""

    def __init__(self, connection: socket.socket, most_bytes: int, silent_s: float | None = None) -> None:
        """Take frames of at most `most_bytes`; a peer that says nothing for `silent_s` has ended; None: it may."""
        self._connection = connection
        self._most_bytes = most_bytes
        self._silent_s = silent_s
        self._poller = select.poll()
        self._poller.register(connection, select.POLLIN)

    def receive(self, go_on: Callable[[], object] = lambda: None) -> tuple[bytes, bytearray]:
        """Return the next frame's kind and bytes; raises PeerEndedError, and what `go_on`, asked while waiting, raises."""
        kind, length = HEAD.unpack(self._exactly(HEAD.size, go_on))
        if length > self._most_bytes:
            raise PeerEndedError
        return kind, self._exactly(length, go_on)

    def _exactly(self, length: int, go_on: Callable[[], object]) -> bytearray:
        data = bytearray()
        while len(data) < length:
            self._wait(go_on)
            try:
                part = self._connection.recv(min(PART_BYTES, length - len(data)))
            except ConnectionError as error:
                raise PeerEndedError from error
            if not part:
                raise PeerEndedError
            data += part
        return data

    def _wait(self, go_on: Callable[[], object]) -> None:
        waited_s = 0.0
        while not self._poller.poll(1000 * WAIT_S):
            go_on()
            waited_s += WAIT_S
            if self._silent_s is not None and waited_s > self._silent_s:
                raise PeerEndedError


def exit_code(status: int, wait_s: float) -> int | None:
    """Return the exit code that comes over the pipe `status`, negative for a signal; None where none comes."""
    poller = select.poll()
    poller.register(status, select.POLLIN)
    text = os.read(status, 16) if poller.poll(1000 * wait_s) else b""
    return int(text) if text else None
