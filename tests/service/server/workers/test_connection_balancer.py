"""Which worker gets a connection, and that none is lost on its way."""

import errno
import os
import socket
import time
from typing import cast

import pytest

from batchproof.service.server.workers.connection_balancer import MOST_UNCONFIRMED, SLOW_S, ConnectionBalancer, Worker
from batchproof.service.server.workers.control import CONNECTION


class Full:
    """A control socket through which no descriptor passes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent: list[bytes] = []

    def sendmsg(self, parts: list[bytes], *_: object) -> int:
        """Refuse as the kernel does, or take the message."""
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        self.sent += parts
        return 1


def made_worker(control: Full) -> Worker:
    return Worker(0, 0, cast(socket.socket, control), time.monotonic(), is_ready=True)


@pytest.mark.parametrize("number", [errno.ETOOMANYREFS, errno.EMFILE, errno.EAGAIN, errno.EPIPE, errno.ENOBUFS])
def test_a_connection_that_cannot_be_handed_over_waits(number: int) -> None:
    """Whatever the kernel says to a descriptor, the connection stays open and is handed over when that is possible."""
    control, balancer = Full(number), ConnectionBalancer()
    worker = made_worker(control)
    ours, theirs = socket.socketpair()
    with theirs:
        balancer.waiting.append(ours)
        assert not balancer.dispatch([worker])
        assert ours.fileno() >= 0
        control.number = 0
        assert balancer.dispatch([worker])
        assert control.sent == [CONNECTION]
        balancer.confirm(worker, is_taken=True)
        assert ours.fileno() < 0


def test_a_worker_holds_up_few_connections_and_leaves_them_all_behind() -> None:
    """A worker that confirms nothing gets a bounded number of connections; when it dies, another one gets each of them."""
    balancer, stuck = ConnectionBalancer(), made_worker(Full(0))
    pairs = [socket.socketpair() for _ in range(MOST_UNCONFIRMED + 3)]
    balancer.waiting.extend(ours for ours, _ in pairs)
    assert not balancer.dispatch([stuck])
    assert (len(stuck.unconfirmed), len(balancer.waiting)) == (MOST_UNCONFIRMED, 3)
    balancer.take_back(stuck)
    assert list(balancer.waiting) == [ours for ours, _ in pairs]
    fresh = [made_worker(Full(0)) for _ in range(2)]
    assert balancer.dispatch(fresh)
    assert [len(worker.unconfirmed) for worker in fresh] == [18, 17]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_worker_without_descriptors_gives_a_connection_back() -> None:
    """A connection that its worker could not take waits for another one, and the worker's count is as before."""
    balancer, worker = ConnectionBalancer(), made_worker(Full(0))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        balancer.waiting.append(ours)
        balancer.dispatch([worker])
        balancer.confirm(worker, is_taken=False)
        assert list(balancer.waiting) == [ours]
        assert worker.connections == 0


def test_a_slow_worker_is_the_last_choice() -> None:
    """A worker that has left a connection unconfirmed gets the next one only when no other can take it."""
    balancer, slow, busy = ConnectionBalancer(), made_worker(Full(0)), made_worker(Full(0))
    busy.connections = 5
    pairs = [socket.socketpair() for _ in range(3)]
    slow.unconfirmed.append((time.monotonic() - 2 * SLOW_S, pairs[0][0]))
    balancer.waiting.append(pairs[1][0])
    assert balancer.dispatch([slow, busy])
    assert busy.connections == 6
    busy.is_killed = True
    balancer.waiting.append(pairs[2][0])
    assert balancer.dispatch([slow, busy])
    assert slow.connections == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
