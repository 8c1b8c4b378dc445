"""Several processes behind one address: the supervisor accepts connections and hands each to the least busy worker.

Neither a shared listening socket nor SO_REUSEPORT spreads a few long connections evenly: the first takes what wakes
first, the second what a hash says. Here 4 connections on 2 workers are 2 and 2. A connection is handed over once, as a
file descriptor; its requests never pass through the supervisor, which imports no engine and holds no model.

What one worker's audit saw of a model, the supervisor tells all others, and later the ones that take a dead one's place:
they share the host, and a promise broken in one of them holds in none. Messages keep their bounds (SOCK_SEQPACKET).

A worker that dies takes only its own connections with it and is replaced at once. A worker that cannot start stops the
service. Workers tell of closed connections, and that they are ready, over the socket they get connections by; when the
supervisor is gone they see its end and stop.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from batchproof.service.errors import STARTUP_FAILED
from batchproof.service.logs import event

READY, CLOSED, CONNECTION = b"R", b"c", b"f"
VIOLATED = b"v"  # then the model as NAME/VERSION
MESSAGE_BYTES = 512
KILL_AFTER_S = 5.0  # beyond drain_s, a worker that still runs is killed
ACCEPTS = 64  # connections taken in one turn

Work = Callable[[socket.socket, int], int]  # (control, slot) -> exit code; runs in the worker


@dataclass
class Worker:
    """One process as the supervisor sees it."""

    slot: int
    pid: int
    control: socket.socket
    is_ready: bool = False
    connections: int = 0
    untold: list[bytes] = field(default_factory=list)  # what it is still to be told


class Supervisor:
    """Keeps `count` workers running and deals out connections."""

    def __init__(self, listener: socket.socket, count: int, work: Work, drain_s: float) -> None:
        """Listen on `listener`, which is bound; `work` is what a worker does."""
        self._listener = listener
        self._count = count
        self._work = work
        self._drain_s = drain_s
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, Worker] = {}  # by slot
        self._is_accepting = False
        self._is_stopping = False
        self._exit_code = 0
        self._violations: list[bytes] = []

    def run(self) -> int:
        """Supervise until a signal; returns the exit code."""
        self._listener.listen(2048)
        self._listener.setblocking(False)
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._on_signal(woken))
        for slot in range(self._count):
            self._start(slot)
        while self._workers:
            self._turn(None)
        return self._exit_code

    def _turn(self, timeout_s: float | None) -> None:
        for key, _ in self._selector.select(timeout_s):
            # An earlier event of this turn may have closed it, and its descriptor may be another's by now.
            if self._selector.get_map().get(key.fd) is key:
                key.data()

    def _start(self, slot: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            self._become_worker(ours, theirs, slot)
        theirs.close()
        ours.setblocking(False)
        worker = self._workers[slot] = Worker(slot, pid, ours, untold=list(self._violations))
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._on_word(worker))

    def _become_worker(self, ours: socket.socket, theirs: socket.socket, slot: int) -> None:
        """Run the work in the forked process and leave it, whatever happens, without the supervisor's own clean-up."""
        code = STARTUP_FAILED
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            self._listener.close()
            ours.close()
            for other in self._workers.values():
                other.control.close()
            code = self._work(theirs, slot)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _on_word(self, worker: Worker) -> None:
        for _ in range(ACCEPTS):
            try:
                word = worker.control.recv(MESSAGE_BYTES)
            except BlockingIOError:
                break
            except ConnectionResetError:
                word = b""
            if not word:
                self._on_end(worker)
                return
            self._hear(worker, word)
        self._tell(worker)
        self._accept_if_possible()

    def _hear(self, worker: Worker, word: bytes) -> None:
        if word == READY:
            worker.is_ready = True
        elif word == CLOSED:
            worker.connections -= 1
        elif word.startswith(VIOLATED) and word not in self._violations:
            self._violations.append(word)
            for other in self._workers.values():
                if other is not worker:
                    other.untold.append(word)
                    self._tell(other)

    def _tell(self, worker: Worker) -> None:
        """Pass on what a worker that takes messages has not been told; one that is busy is told when it speaks."""
        while worker.is_ready and worker.untold:
            try:
                worker.control.send(worker.untold[0])
            except OSError:  # its place will be full for a moment only, or it has just died
                return
            worker.untold.pop(0)

    def _on_end(self, worker: Worker) -> None:
        self._selector.unregister(worker.control)
        worker.control.close()
        _, status = os.waitpid(worker.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        del self._workers[worker.slot]
        if self._is_stopping:
            return
        if not worker.is_ready:
            self._exit_code = code if code > 0 else STARTUP_FAILED
            self._stop()
            return
        event("worker_replaced", 30, worker=worker.slot, pid=worker.pid, exit_code=code)
        self._start(worker.slot)
        self._accept_if_possible()

    def _accept_if_possible(self) -> None:
        """Listen only while somebody can take a connection: until then it waits in the backlog."""
        possible = not self._is_stopping and any(worker.is_ready for worker in self._workers.values())
        if possible and not self._is_accepting:
            self._selector.register(self._listener, selectors.EVENT_READ, self._on_connection)
        elif self._is_accepting and not possible:
            self._selector.unregister(self._listener)
        self._is_accepting = possible

    def _on_connection(self) -> None:
        for _ in range(ACCEPTS):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            with connection:
                self._hand_over(connection)

    def _hand_over(self, connection: socket.socket) -> None:
        ready = [worker for worker in self._workers.values() if worker.is_ready]
        for worker in sorted(ready, key=lambda one: one.connections):
            try:
                socket.send_fds(worker.control, [CONNECTION], [connection.fileno()])
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                continue  # it does not keep up, or died this moment: the next one takes it
            worker.connections += 1
            return

    def _on_signal(self, woken: socket.socket) -> None:
        numbers = woken.recv(64)
        if any(number in (signal.SIGTERM, signal.SIGINT) for number in numbers):
            self._stop()

    def _stop(self) -> None:
        """Take no more connections and let every worker answer what it has."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._accept_if_possible()
        self._listener.close()
        for worker in self._workers.values():
            os.kill(worker.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + self._drain_s + KILL_AFTER_S
        while self._workers and (left_s := deadline_s - time.monotonic()) > 0:
            self._turn(left_s)
        for worker in self._workers.values():
            os.kill(worker.pid, signal.SIGKILL)
