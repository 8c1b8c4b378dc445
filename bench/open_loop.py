"""The open loop: requests leave at times fixed beforehand, whether or not earlier ones were answered.

Latency counts from the intended time, so a server that falls behind shows its queue (no coordinated omission). One
process, one thread, one epoll: 20 to 40 µs of CPU a request. Each connection has at most one request under way; a request
that finds none free waits for one, and that wait counts. `noticed_s` says when the generator itself saw that a request was
due: where that is late, the machine had no time for the generator, and its figures are the machine's.
"""

import collections
import gc
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.connection import Broken, Connection

Times = npt.NDArray[np.float64]  # [requests], seconds from the start of the loop


@dataclass(frozen=True)
class Sent:
    """What became of every request, in the order of their intended times."""

    kind: npt.NDArray[np.int64]  # [requests] index of the payload
    intended_s: Times
    noticed_s: Times  # NaN: never; later than intended where the generator was late
    sent_s: Times  # NaN: never sent; later than noticed where no connection was free
    done_s: Times  # NaN: never answered
    status: npt.NDArray[np.int64]  # [requests] 0: broken or unanswered
    cpu_share: float  # of one core, used by the generator

    def latency_ms(self, chosen: npt.NDArray[np.bool_]) -> Times:
        """Return the latencies of the chosen requests from their intended times."""
        latency: Times = (self.done_s[chosen] - self.intended_s[chosen]) * 1000
        return latency

    def good(self, kind: int = 0, begin_s: float = 0.0, end_s: float = np.inf) -> npt.NDArray[np.bool_]:
        """Mark the requests of `kind` meant for [begin_s, end_s) that got a 2xx answer."""
        good: npt.NDArray[np.bool_] = self.meant(kind, begin_s, end_s) & (self.status // 100 == 2)
        return good

    def meant(self, kind: int = 0, begin_s: float = 0.0, end_s: float = np.inf) -> npt.NDArray[np.bool_]:
        """Mark the requests of `kind` meant for [begin_s, end_s)."""
        chosen: npt.NDArray[np.bool_] = (self.kind == kind) & (self.intended_s >= begin_s) & (self.intended_s < end_s)
        return chosen

    def late_p99_ms(self) -> float:
        """Return how far behind its own schedule the generator was, 99 % of the time at most."""
        return float(np.nanpercentile(self.late_ms(), 99))

    def late_ms(self) -> Times:
        """Return how late the generator itself was with each request, not counting waits for a connection."""
        late: Times = (self.noticed_s - self.intended_s) * 1000
        return late


def poisson(rate_per_s: float, begin_s: float, end_s: float, seed: int) -> Times:
    """Return arrival times of a Poisson process: independent callers."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(begin_s, end_s, rng.poisson(rate_per_s * (end_s - begin_s))))


def evenly(rate_per_s: float, begin_s: float, end_s: float) -> Times:
    """Return arrival times at a fixed distance."""
    return np.arange(begin_s, end_s, 1 / rate_per_s)


def send(
    address: tuple[str, int],
    payloads: Sequence[bytes],
    arrivals: Sequence[Times],
    connections: Sequence[int],
    grace_s: float = 10,
) -> Sent:
    """Send payload i at the times arrivals[i] over connections[i] connections of its own.

    What is unanswered `grace_s` after the last intended time is given up.
    """
    kind = np.concatenate([np.full(len(times), index) for index, times in enumerate(arrivals)])
    intended = np.concatenate(list(arrivals))
    order = np.argsort(intended, kind="stable")
    loop = _Loop(address, payloads, kind[order], intended[order], connections)
    gc.collect()
    gc.disable()
    try:
        cpu, begun = time.process_time(), time.perf_counter()
        loop.run(grace_s)
        share = (time.process_time() - cpu) / (time.perf_counter() - begun)
    finally:
        gc.enable()
        loop.close()
    times = [np.array(found) for found in (loop.noticed, loop.sent, loop.done)]
    return Sent(loop.kind, loop.intended, *times, np.array(loop.status), share)


class _Loop:
    """The state of one run: what is due, who is free, what came back."""

    def __init__(
        self,
        address: tuple[str, int],
        payloads: Sequence[bytes],
        kind: npt.NDArray[np.int64],
        intended: Times,
        connections: Sequence[int],
    ) -> None:
        self.address, self.payloads, self.kind, self.intended = address, payloads, kind, intended
        self.noticed = [np.nan] * len(kind)
        self.sent = [np.nan] * len(kind)
        self.done = [np.nan] * len(kind)
        self.status = [0] * len(kind)
        self.epoll = select.epoll()
        self.open: dict[int, Connection] = {}
        self.free: list[collections.deque[Connection]] = [collections.deque() for _ in payloads]
        self.waiting: list[collections.deque[int]] = [collections.deque() for _ in payloads]
        self.under_way = 0
        for of_kind, count in enumerate(connections):
            for _ in range(count):
                self._connect(of_kind)

    def run(self, grace_s: float) -> None:
        """Send everything at its time and collect the answers."""
        due, total, self.start = 0, len(self.intended), time.perf_counter()
        intended, end_s = self.intended.tolist(), float(self.intended[-1]) + grace_s
        now = 0.0
        while (due < total or any(self.waiting) or self.under_way) and now < end_s:
            while due < total and intended[due] <= now:
                self.waiting[self.kind[due]].append(due)
                self.noticed[due] = now
                due += 1
            for free, waiting in zip(self.free, self.waiting, strict=True):
                while waiting and free:
                    self._send(free.popleft(), waiting.popleft())
            until_next_s = intended[due] - self._now() if due < total else 0.05
            if until_next_s > 0:  # epoll's own timeout counts milliseconds; select's on the epoll counts microseconds
                select.select([self.epoll], [], [], until_next_s)
            for number, event in self.epoll.poll(0):
                self._on_event(self.open[number], event)
            now = self._now()

    def close(self) -> None:
        """Close every connection."""
        for connection in self.open.values():
            connection.close()
        self.epoll.close()

    def _now(self) -> float:
        return time.perf_counter() - self.start

    def _connect(self, kind: int) -> None:
        connection = Connection(self.address, kind)
        self.open[connection.number] = connection
        self.epoll.register(connection.number, select.EPOLLIN)
        self.free[kind].append(connection)

    def _send(self, connection: Connection, request: int) -> None:
        self.under_way += 1
        self.sent[request] = self._now()
        connection.request = request
        try:
            if not connection.begin(self.payloads[connection.kind]):
                self.epoll.modify(connection.number, select.EPOLLIN | select.EPOLLOUT)
        except Broken:
            self._lost(connection)

    def _on_event(self, connection: Connection, event: int) -> None:
        try:
            if event & select.EPOLLOUT and connection.go_on():
                self.epoll.modify(connection.number, select.EPOLLIN)
            status = connection.read() if event & ~select.EPOLLOUT else None
        except Broken:
            self._lost(connection)
            return
        if status is not None and connection.request is not None:
            self.done[connection.request] = self._now()
            self.status[connection.request] = status
            self.under_way -= 1
            connection.request = None
            if connection.reusable:
                self.free[connection.kind].append(connection)
            else:
                self._replace(connection)

    def _lost(self, connection: Connection) -> None:
        if connection.request is None:
            self.free[connection.kind].remove(connection)
        else:
            self.under_way -= 1
        self._replace(connection)

    def _replace(self, connection: Connection) -> None:
        self.epoll.unregister(connection.number)
        del self.open[connection.number]
        connection.close()
        self._connect(connection.kind)
