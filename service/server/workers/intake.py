"""Accepts connections for a supervisor, as long as somebody can take them; until then they wait in the kernel's backlog."""

import errno
import selectors
import socket
from collections.abc import Collection

from batchproof.service.server.workers.connection_balancer import ConnectionBalancer, Worker

ACCEPTS = 64  # connections accepted in one turn


class Intake:
    """The listening socket of a supervisor."""

    def __init__(self, listener: socket.socket, selector: selectors.BaseSelector, balancer: ConnectionBalancer) -> None:
        """Accept from `listener`, which listens, when `selector` says that there is something."""
        self._listener = listener
        self._selector = selector
        self._balancer = balancer
        self._workers: Collection[Worker] = ()
        self._is_accepting = False
        self.is_full = False  # whether this process has no descriptor for another connection

    @property
    def is_open(self) -> bool:
        """Return whether connections are still accepted at all."""
        return self._listener.fileno() >= 0

    def resume(self, workers: Collection[Worker]) -> None:
        """Accept if one of the workers can take a connection, else stop for now."""
        self._workers = workers
        has_room = self._balancer.dispatch(workers) and not self.is_full and self.is_open
        is_possible = has_room and any(worker.is_ready for worker in workers)
        if is_possible and not self._is_accepting:
            self._selector.register(self._listener, selectors.EVENT_READ, self._on_connection)
        elif self._is_accepting and not is_possible:
            self._selector.unregister(self._listener)
        self._is_accepting = is_possible

    def close(self) -> None:
        """Accept what the kernel has accepted, then no more."""
        self._on_connection()
        if self._is_accepting:
            self._selector.unregister(self._listener)
            self._is_accepting = False
        self._listener.close()

    def forget(self) -> None:
        """Let go of the socket, in a worker that was forked."""
        self._listener.close()

    def _on_connection(self) -> None:
        for _ in range(ACCEPTS):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError as error:  # no descriptor or memory is free: it waits in the backlog
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self.is_full = True
                break
            self._balancer.waiting.append(connection)
            if not self._balancer.dispatch(self._workers):
                break
        self.resume(self._workers)
