"""Balance connections: each goes to the ready worker that has the fewest.

Neither a shared listening socket nor SO_REUSEPORT spreads a few long connections evenly: the first takes what wakes
first, the second what a hash says. Here 4 connections on 2 workers are 2 and 2.

A connection that was sent stays open here until its worker confirms it. A worker that dies or hangs leaves behind what it
never confirmed, and another worker gets it. A worker that confirms slowly gets a connection only when no other can.
"""

import os
import resource
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from batchproof.service.server.workers.control import CONNECTION, Letters

MOST_UNCONFIRMED = 32  # of one worker: what a worker that hangs can hold up, and descriptors on their way are few
SLOW_S = 0.1  # a worker that has not confirmed a connection for so long is the last choice
SPARE_DESCRIPTORS = 32  # of a process: for files, the log, the control sockets


@dataclass
class Worker:
    """One process as the supervisor sees it."""

    slot: int
    pid: int
    control: socket.socket
    last_sign_s: float  # of life: monotonic seconds of its last message
    is_ready: bool = False
    is_hung_up: bool = False  # SIGHUP came that it has not got yet
    is_killed: bool = False  # by the supervisor, because it hung or serves other models
    connections: int = 0
    unconfirmed: deque[tuple[float, socket.socket]] = field(default_factory=deque)  # by when they were sent
    unsent: deque[bytes] = field(default_factory=deque)  # messages that it has not got yet
    is_outdated: bool = False  # it started with a plan that others have left meanwhile
    letters: Letters = field(default_factory=Letters)

    def is_slow(self, now_s: float) -> bool:
        """Return whether it has left a connection unconfirmed for SLOW_S."""
        return bool(self.unconfirmed) and now_s - self.unconfirmed[0][0] > SLOW_S

    def pass_hangup_on(self) -> None:
        """Send it SIGHUP that it has not got yet, if it serves: before that it handles none, but may have read its files."""
        if self.is_ready and self.is_hung_up:
            self.is_hung_up = False
            os.kill(self.pid, signal.SIGHUP)

    def tell(self) -> None:
        """Send what it has not got yet; what finds no place is sent later."""
        while self.unsent:
            try:
                self.control.send(self.unsent[0])
            except OSError:  # its socket is full for a moment, or it has just died
                return
            self.unsent.popleft()


class ConnectionBalancer:
    """Sends connections to workers; those that no worker can take wait here."""

    def __init__(self) -> None:
        """Begin with none; how many a worker may hold follows from the limit on descriptors."""
        self.waiting: deque[socket.socket] = deque()
        self._most = max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS)

    def dispatch(self, workers: Iterable[Worker]) -> bool:
        """Send every waiting connection to a worker; return whether no connection waits."""
        ready = [worker for worker in workers if worker.is_ready and not worker.is_killed]
        while self.waiting and self._send(self.waiting[0], ready):
            self.waiting.popleft()
        return not self.waiting

    def confirm(self, worker: Worker, *, is_taken: bool) -> None:
        """Note that a worker has its oldest unconfirmed connection, or could not take it."""
        _, connection = worker.unconfirmed.popleft()
        if is_taken:
            connection.close()
        else:
            worker.connections -= 1
            self.waiting.append(connection)

    def take_back(self, worker: Worker) -> None:
        """Let the connections that a dead worker never confirmed wait for another one, first of all."""
        self.waiting.extendleft(connection for _, connection in reversed(worker.unconfirmed))
        worker.unconfirmed.clear()

    def close(self) -> None:
        """Close what waits."""
        while self.waiting:
            self.waiting.popleft().close()

    def _send(self, connection: socket.socket, ready: list[Worker]) -> bool:
        now_s = time.monotonic()
        for worker in sorted(ready, key=lambda worker: (worker.is_slow(now_s), worker.connections)):
            if len(worker.unconfirmed) >= MOST_UNCONFIRMED or worker.connections >= self._most:
                continue
            try:
                socket.send_fds(worker.control, [CONNECTION], [connection.fileno()])
            except OSError:  # it does not keep up or has died, or too many descriptors are on their way
                continue
            worker.unconfirmed.append((now_s, connection))
            worker.connections += 1
            return True
        return False
