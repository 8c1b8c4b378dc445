"""Messages between the supervisor and a worker: one socket pair a worker, message bounds kept (SOCK_SEQPACKET).

The worker's side is `SupervisorLink`. It confirms every connection before it reads a byte of it, so that the supervisor
knows which connections a worker that died or hangs has never touched, and gives those to another one.
"""

import array
import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterator

# From a worker.
BEAT = b"b"  # its event loop runs
TAKEN = b"t"  # it has the oldest connection that it has not confirmed yet
RETURNED = b"x"  # it has no descriptor left for that connection
CLOSED = b"c"  # a connection ended
# From the supervisor.
CONNECTION = b"f"  # with a descriptor
STOP = b"s"  # no connection follows: stop once those that are open are answered
# Both ways.
VIOLATED = b"v"  # then NAME/VERSION/SHA256: the audit saw other bits
MORE = b"+"  # then a part of the letter whose last part follows
# Letters, which may be long. From the supervisor.
LOAD = b"l"  # then NUMBER, a space and a plan: load it beside what is served
COMMIT = b"k"  # then NUMBER: serve it
ABORT = b"a"  # forget it
RESULT = b"r"  # then an order's result
# From a worker.
READY = b"R"  # then the plan that it serves
LOADED = b"L"  # then NUMBER, a space and the digests of all bits that were verified
FAILED = b"F"  # then NUMBER, a space and why
COMMITTED = b"C"  # then NUMBER
ORDER = b"o"  # then what a caller wants to be loaded or unloaded
LETTERS = (READY, LOAD, COMMIT, ABORT, RESULT, LOADED, FAILED, COMMITTED, ORDER)

MESSAGE_BYTES = 4096
BURST = 64  # messages that are read in one turn of the event loop


def parts(kind: bytes, body: bytes) -> Iterator[bytes]:
    """Yield the messages of one letter."""
    size = MESSAGE_BYTES - 1
    last = (len(body) - 1) // size * size if body else 0
    for start in range(0, last, size):
        yield MORE + body[start : start + size]
    yield kind + body[last:]


class Letters:
    """Joins the parts of the letters that come over one socket."""

    def __init__(self) -> None:
        """Begin with none."""
        self._parts: list[bytes] = []

    def add(self, message: bytes) -> tuple[bytes, bytes] | None:
        """Return (kind, body) where the message ends a letter."""
        if message.startswith(MORE):
            self._parts.append(message[1:])
        elif message.startswith(LETTERS):
            body = b"".join([*self._parts, message[1:]])
            self._parts.clear()
            return message[:1], body
        return None


class SupervisorLink:
    """A worker's end of its control socket. All methods are called on the event loop."""

    def __init__(
        self,
        control: socket.socket,
        *,
        beat_s: float,
        is_alive: Callable[[], bool],
        on_connection: Callable[[socket.socket], object],
        on_violated: Callable[[str, int, str], object],
        on_stop: Callable[[], object],
    ) -> None:
        """Beat every `beat_s` seconds while `is_alive`; `on_stop` is called too where the supervisor is gone."""
        self._control = control
        self._beat_s = beat_s
        self._is_alive = is_alive
        self._on_connection = on_connection
        self._on_violated = on_violated
        self._on_stop = on_stop
        self._letters = Letters()
        self.on_letter: Callable[[bytes, bytes], object] = lambda _kind, _body: None
        self._unsent: deque[tuple[bytes, socket.socket | None]] = deque()
        self._is_open = False

    def open(self, plan: bytes) -> None:
        """Begin to listen, and say that connections may come, for a worker that serves `plan`."""
        self._is_open = True
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._read)
        self.send_letter(READY, plan)
        self._beat()

    def close(self) -> None:
        """Listen no more."""
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._control)
            asyncio.get_running_loop().remove_writer(self._control)

    def tell_closed(self) -> None:
        """Say that a connection ended."""
        self._send(CLOSED)

    def tell_violation(self, name: str, version: int, sha256: str) -> None:
        """Say that the audit saw a model break its promise here."""
        self._send(VIOLATED + f"{name}/{version}/{sha256}".encode())

    def send_letter(self, kind: bytes, body: bytes) -> None:
        """Say what may be long."""
        for message in parts(kind, body):
            self._send(message)

    def _beat(self) -> None:
        if not self._is_open:
            return
        if self._is_alive() and not self._unsent:  # a supervisor that does not read needs no second beat
            self._send(BEAT)
        asyncio.get_running_loop().call_later(self._beat_s, self._beat)

    def _send(self, message: bytes, connection: socket.socket | None = None) -> None:
        """Send in order; `connection` is served once its message is on its way."""
        if self._is_open:
            self._unsent.append((message, connection))
            if len(self._unsent) == 1:
                self._flush()

    def _flush(self) -> None:
        while self._unsent:
            message, connection = self._unsent[0]
            try:
                self._control.send(message)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._control, self._flush)
                return
            except OSError:  # the supervisor is gone, which reading will say
                self._unsent.clear()
                break
            self._unsent.popleft()
            if connection is not None:
                self._on_connection(connection)
        if self._is_open:
            asyncio.get_running_loop().remove_writer(self._control)

    def _read(self) -> None:
        for message, descriptors in self._messages():
            if message == CONNECTION and not descriptors:  # the kernel had no number free for it
                self._send(RETURNED)
            for descriptor in descriptors:
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                self._send(TAKEN, connection)
            if message == STOP:
                self._on_stop()
            elif message.startswith(VIOLATED):
                name, version, sha256 = message.removeprefix(VIOLATED).decode().rsplit("/", 2)
                self._on_violated(name, int(version), sha256)
            elif letter := self._letters.add(message):
                self.on_letter(*letter)

    def _messages(self) -> Iterator[tuple[bytes, list[int]]]:
        """Yield messages with their descriptors; the end of the socket closes this link and stops the worker."""
        space = socket.CMSG_SPACE(array.array("i").itemsize)
        for _ in range(BURST):
            try:
                message, ancillary, _, _ = self._control.recvmsg(MESSAGE_BYTES, space)
            except BlockingIOError:
                return
            except OSError:  # a supervisor that was killed with messages unread resets the connection
                message, ancillary = b"", []
            if not message:
                self.close()
                self._on_stop()
                return
            numbers = array.array("i")
            for _, _, data in ancillary:
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            yield message, list(numbers)
