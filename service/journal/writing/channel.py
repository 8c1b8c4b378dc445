"""A worker's connection with its writing process: frames out, answers back, and a new process where the last one ended.

Nothing here waits. What the process does not take at once waits in memory, and the socket says when it takes more.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from batchproof.service.errors import reason
from batchproof.service.journal.writing.chain import RETRY_S
from batchproof.service.journal.writing.frames import Part
from batchproof.service.runtime.logs import event

COMMAND = [sys.executable, "-m", "batchproof.service.journal.writing.process"]
BUFFER_BYTES = 1 << 20  # of the socket; the system may allow less
LOST = "the writing process ended"
READ_BYTES = 1 << 16
SEND_BYTES = 128 << 10  # that are sent at once: about what a socket takes
MOST_PARTS = 256  # of one call; the system takes 1024
Done = Callable[[str | None], None]  # what became of a frame: None, or why it failed


class _Frame(NamedTuple):
    parts: Sequence[Part]
    bytes: int
    done: Done


class Channel:
    """One worker's end. All methods are called on the event loop, where there is one."""

    def __init__(self, greeting: Callable[[], Sequence[Part]], on_counts: Callable[[Sequence[int]], None]) -> None:
        """Start the process. It is sent the frame that `greeting` returns, which it does not answer, before any other.

        Where the system has no room for a process, `attach` tries again, and later the loop does.
        `on_counts` hears how many writes failed, and how many segments were finished, uploaded and not uploaded.
        """
        self.restarts = 0
        self.waiting_bytes = 0  # that the process has not taken
        self._greeting = greeting
        self._on_counts = on_counts
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # that watches the socket
        self._is_writing = False  # whether it watches for room
        self._unsent: deque[_Frame] = deque()
        self._partial: list[Part] = []  # what is left of the frames that were begun
        self._greeting_bytes = 0  # in front of them, which are not counted as waiting
        self._begun: deque[Done] = deque()  # of the frames that were not answered, in order
        self._rest = b""  # of an answer
        self._started_s = 0.0
        self._start()

    def send(self, parts: Sequence[Part], done: Done) -> None:
        """Add a frame to what `flush` sends; `done` is called once it is known what became of it.

        The parts must stay as they are.
        """
        size = _size(parts)
        self._unsent.append(_Frame(parts, size, done))
        self.waiting_bytes += size

    def flush(self) -> None:
        """Send as much as the connection takes, and the rest as soon as it takes more."""
        if self._loop is not None and not self._is_writing:
            self._pump()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the loop, which runs, watch the connection; nothing is sent before."""
        self._loop = loop
        if self._socket is None:
            self._start()
        else:
            self._watch(loop, self._socket)

    def close(self, timeout_s: float) -> bool:
        """Send what waits, and wait until it is written and the process ended; returns whether it did in time."""
        end_s = time.monotonic() + timeout_s
        self._unwatch()
        self._loop = None
        connection, self._socket = self._socket, None
        if connection is None or self._process is None:
            return not self._unsent
        try:
            while self._partial or self._unsent:
                connection.settimeout(max(0.001, end_s - time.monotonic()))
                self._send_next(connection)
            connection.shutdown(socket.SHUT_WR)
            while True:
                connection.settimeout(max(0.001, end_s - time.monotonic()))
                if not (data := connection.recv(READ_BYTES)):
                    break
                self._hear(data)
            self._process.wait(max(0.001, end_s - time.monotonic()))
        except (OSError, subprocess.TimeoutExpired):  # it is left to finish what it has
            return False
        finally:
            connection.close()
        return self._process.returncode == 0

    def _start(self) -> None:
        """Start a process, or try again later where the system refuses one."""
        try:
            self._process, self._socket = _spawn()
        except OSError as error:
            self._started_s = time.monotonic()  # now: a refusal that took long must not be repeated at once
            self._try_again(reason(error))
            return
        self._started_s = time.monotonic()
        self._rest = b""
        self._partial = list(self._greeting())
        self._greeting_bytes = _size(self._partial)
        if self._loop is not None:
            self._watch(self._loop, self._socket)

    def _watch(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        """Send what waits, and hear the answers."""
        loop.add_reader(connection, self._on_readable)
        self._pump()

    def _unwatch(self) -> None:
        """Let the loop know nothing more of the socket."""
        if self._socket is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._is_writing = False

    def _pump(self) -> None:
        """Send until nothing is left or the socket takes no more."""
        connection = self._socket
        if connection is None:
            return
        try:
            while self._partial or self._unsent:
                self._send_next(connection)
        except BlockingIOError:
            if not self._is_writing and self._loop is not None:
                self._is_writing = True
                self._loop.add_writer(connection, self._pump)
            return
        except OSError:
            self._on_end()
            return
        if self._is_writing and self._loop is not None:
            self._is_writing = False
            self._loop.remove_writer(connection)

    def _send_next(self, connection: socket.socket) -> None:
        """Send some of the frames that were begun, or begin the next ones; raises OSError."""
        partial = self._partial
        if not partial:
            self._begin()
        sent = connection.sendmsg(partial[:MOST_PARTS])
        greeted = min(sent, self._greeting_bytes)
        self._greeting_bytes -= greeted
        self.waiting_bytes -= sent - greeted
        whole = 0
        while whole < len(partial) and sent >= len(partial[whole]):
            sent -= len(partial[whole])
            whole += 1
        del partial[:whole]
        if sent:
            partial[0] = memoryview(partial[0])[sent:]

    def _begin(self) -> None:
        """Take the next frames for one call, and no more: those that were begun are lost if the process ends."""
        size = 0
        while self._unsent and size < SEND_BYTES and len(self._partial) < MOST_PARTS:
            frame = self._unsent.popleft()
            self._begun.append(frame.done)
            self._partial += frame.parts
            size += frame.bytes

    def _on_readable(self) -> None:
        connection = self._socket
        if connection is None:
            return
        try:
            data = connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._hear(data)
        else:
            self._on_end()

    def _hear(self, data: bytes) -> None:
        """Pass on the answers that are whole."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            failures, *counts = orjson.loads(line)
            if any(counts):
                self._on_counts(counts)
            for failure in failures:
                self._begun.popleft()(failure)

    def _on_end(self) -> None:
        """Start again: what the old process had is lost or written, nobody knows; what it had not goes to the next one."""
        self._unwatch()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        code = None
        if self._process is not None:
            self._process.kill()  # it may have closed the socket only
            code = self._process.wait()
        self.waiting_bytes -= _size(self._partial) - self._greeting_bytes
        self._partial = []
        self._greeting_bytes = 0
        lost, self._begun = self._begun, deque()  # before the new process gets any
        self.restarts += 1
        try:
            self._try_again(f"its exit code is {code}")
        finally:  # whatever the start of the next one raises
            for done in lost:
                done(LOST)

    def _try_again(self, why: str) -> None:
        """Start a new process: at once, or where the last one did not last, a little later."""
        event("journal_writer_ended", 40, reason=why)
        pause_s = self._started_s + RETRY_S - time.monotonic()
        if pause_s <= 0:
            self._start()
        elif self._loop is not None:
            self._loop.call_later(pause_s, self._start_again)

    def _start_again(self) -> None:
        if self._loop is not None:
            self._start()


def _size(parts: Sequence[Part]) -> int:
    return sum([len(part) for part in parts])


def _spawn() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Return a new process and this end of its connection; raises OSError where the system refuses either."""
    ours, theirs = socket.socketpair()
    try:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        ours.setblocking(False)
        process = subprocess.Popen(  # noqa: S603 - our own module
            COMMAND,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt at the terminal is for the service, which ends it
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours
