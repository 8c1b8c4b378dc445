"""What many workers would do on as many cores, from what few cores can measure.

    python -m bench.many_workers [--workers 1 2 8 16 32] [--seconds 3]

Measured for each number of workers: the start (first answer, and until all processes are at rest), memory, the processor
time of supervisor and workers that are idle, of GET /metrics, and of the supervisor for a new connection. The load B
(one row a request, 16 connections a worker) is measured for 1 and 2 workers.

The model: connections live long, so requests never meet the supervisor, and workers share nothing but the folder of
metrics. N workers on N cores, with the callers elsewhere, then answer

    N · (1 - idle) / t - scrape / (t · 15 s)

requests a second: t is a worker's processor time a request, `idle` the share of a core that a worker uses without requests, and
`scrape` the processor time of GET /metrics, asked for every 15 s. The supervisor ends at one core: 1 / c new connections a
second for c seconds of its time each. The model is checked where it can be measured: on this machine the load generator takes
g a request, so w workers on 2 cores give at most the lesser of w / t and 2 / (t + g). What the model leaves out: caches and
memory that cores share, interrupts of one network card, and NUMA.
"""

import argparse
import http.client
import os
import resource
import select
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import loads
from bench.bodies import Request, own
from bench.contenders import serve
from bench.loads import WORK, Load
from bench.make_model import write_missing
from bench.server import HOST, Running, members, started

CONNECTIONS = 16  # a worker, of load B
SCRAPE_EVERY_S = 15.0  # Prometheus asks so often by default here
PREDICTED = (8, 32)  # workers
SCRAPES, NEW_CONNECTIONS = 20, 300
AT_REST = 0.2  # of a core, all processes together
TIMES = 2000  # of each kernel call


@dataclass(frozen=True)
class Costs:
    """What was measured with so many workers."""

    workers: int
    first_answer_s: float
    at_rest_s: float  # after the first answer
    pss_mb: float
    supervisor_idle: float  # share of a core
    worker_idle: float  # share of a core, one worker
    scrape_s: float  # processor time of GET /metrics, all processes
    scrape_wall_s: float  # median
    connection_s: float  # processor time of the supervisor for a new connection; 0 with one worker, which has none


@dataclass(frozen=True)
class Rate:
    """Load B with so many workers."""

    workers: int
    per_s: float
    worker_s: float  # processor time of a worker a request
    supervisor_s: float
    generator_s: float


def predicted(workers: int, costs: Costs, worker_s: float) -> float:
    """Return the requests a second of `workers` workers on as many cores, with callers elsewhere."""
    return workers * (1 - costs.worker_idle) / worker_s - costs.scrape_s / (worker_s * SCRAPE_EVERY_S)


def bound_here(rate: Rate, cores: int) -> float:
    """Return the most requests a second on a machine whose cores the load generator needs too."""
    return min(rate.workers / rate.worker_s, cores / (rate.worker_s + rate.supervisor_s + rate.generator_s))


def cpu_s(pids: Sequence[int]) -> float:
    """Return the processor time of all threads of processes, in nanoseconds' resolution."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(thread.read_text().split()[0])
            except OSError:  # it ended meanwhile
                continue
    return total / 1e9


def main() -> None:
    """Measure, then print what was measured and what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each load, and of each idle time")
    parser.add_argument("--work", type=Path, default=WORK)
    chosen = parser.parse_args()
    loads.require_wrk()
    write_missing(chosen.work)
    request = own(chosen.work / "reference")["positional_1"]
    costs, rates = [], []
    for workers in chosen.workers:
        log = chosen.work / "logs" / f"workers_{workers}.log"
        with started(serve(chosen.work / "reference", workers), request, log, limit_s=180) as server:
            costs.append(measure(server, workers, chosen.seconds))
            print(f"{workers} workers are measured", flush=True)
            if workers <= 2:
                rates.append(loaded(server, workers, request, chosen.seconds))
    print(*report(costs, rates, kernel(), os.cpu_count() or 1), sep="\n")


def measure(server: Running, workers: int, seconds: float) -> Costs:
    """Measure what is not a load."""
    at_rest_s = wait_for_rest(server.mark)
    every = members(server.mark)
    others = [pid for pid in every if pid != server.pid] if workers > 1 else every
    supervisor = [server.pid] if workers > 1 else []
    before, before_others = cpu_s(supervisor), cpu_s(others)
    time.sleep(seconds)
    idle, idle_others = (cpu_s(supervisor) - before) / seconds, (cpu_s(others) - before_others) / seconds
    pss_mb = server.usage().pss_mb

    begun_s, before = time.monotonic(), cpu_s(every)
    walls = [asked(server.port, "/metrics") for _ in range(SCRAPES)]
    background = (idle + idle_others) * (time.monotonic() - begun_s)
    scrape_s = max(0.0, cpu_s(every) - before - background) / SCRAPES

    begun_s, before = time.monotonic(), cpu_s(supervisor)
    for _ in range(NEW_CONNECTIONS):
        asked(server.port, "/health/live")
    connection_s = max(0.0, cpu_s(supervisor) - before - idle * (time.monotonic() - begun_s)) / NEW_CONNECTIONS
    wall_s = statistics.median(walls)
    return Costs(
        workers,
        server.first_answer_s,
        at_rest_s,
        pss_mb,
        idle,
        idle_others / workers,
        scrape_s,
        wall_s,
        connection_s,
    )


def wait_for_rest(mark: str, limit_s: float = 120) -> float:
    """Return how long it took until all processes together used less than AT_REST of a core, twice in a row."""
    begun_s, quiet = time.monotonic(), 0
    while quiet < 2 and time.monotonic() - begun_s < limit_s:
        pids = members(mark)
        before, at_s = cpu_s(pids), time.monotonic()
        time.sleep(0.5)
        used = (cpu_s(pids) - before) / (time.monotonic() - at_s)
        quiet = quiet + 1 if used < AT_REST and pids == members(mark) else 0
    return time.monotonic() - begun_s - 1.0


def asked(port: int, path: str) -> float:
    """Send a GET on a connection of its own; return the seconds until the whole answer is there."""
    begun_s = time.perf_counter()
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise SystemExit(f"GET {path} gave {answer.status}")
    return time.perf_counter() - begun_s


def loaded(server: Running, workers: int, request: Request, seconds: float) -> Rate:
    """Measure load B with as many connections for each worker."""
    load = Load("B", 1, CONNECTIONS * workers, "positional_1")
    every = members(server.mark)
    supervisor = [server.pid] if workers > 1 else []
    others = [pid for pid in every if pid not in supervisor]
    before, before_others, begun = cpu_s(supervisor), cpu_s(others), time.perf_counter()
    generator = children_s()
    result = loads.run(load, request, HOST, server.port, seconds)
    requests = result.requests_per_s * (time.perf_counter() - begun)  # the warm-up's too
    return Rate(
        workers,
        result.requests_per_s,
        (cpu_s(others) - before_others) / requests,
        (cpu_s(supervisor) - before) / requests,
        (children_s() - generator) / requests,
    )


def children_s() -> float:
    """Return the processor time of the load generators that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kernel() -> dict[str, float]:
    """Return the processor time, here and in the kernel, of one connection and of one request that an epoll waits for."""
    with socket.create_server((HOST, 0), backlog=16) as listener:
        begun = time.process_time()
        for _ in range(TIMES):
            with socket.create_connection(listener.getsockname()):
                listener.accept()[0].close()
        connection_s = (time.process_time() - begun) / TIMES
    ours, theirs = socket.socketpair()
    epoll = select.epoll()
    epoll.register(ours, select.EPOLLIN)
    begun = time.process_time()
    for _ in range(TIMES):
        theirs.send(b"x" * 300)
        epoll.poll()
        ours.recv(4096)
        ours.send(b"x" * 300)
        theirs.recv(4096)
    request_s = (time.process_time() - begun) / TIMES
    epoll.close()
    ours.close()
    theirs.close()
    return {"connect, accept and close": connection_s, "send, epoll, receive, and back": request_s}


def report(costs: Sequence[Costs], rates: Sequence[Rate], kernel_s: dict[str, float], cores: int) -> list[str]:
    """Return what was measured as Markdown tables, and what follows from it in sentences."""
    titles = "workers | first answer s | at rest after s | PSS MB | supervisor idle, ms/s | a worker idle, ms/s"
    titles += " | GET /metrics ms | its CPU ms | supervisor CPU µs a connection"
    lines = ["", f"| {titles} |", "|--:" * 9 + "|"]
    for one in costs:
        cells = [f"{one.first_answer_s:.2f}", f"{one.at_rest_s:.1f}", f"{one.pss_mb:.0f}"]
        cells += [f"{one.supervisor_idle * 1e3:.2f}", f"{one.worker_idle * 1e3:.2f}", f"{one.scrape_wall_s * 1e3:.1f}"]
        cells += [f"{one.scrape_s * 1e3:.2f}", f"{one.connection_s * 1e6:.0f}"]
        lines.append(f"| {one.workers} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| workers | requests/s | worker CPU µs | supervisor CPU µs | generator CPU µs | model's bound here | measured / bound |",
    ]
    lines += ["|--:" * 7 + "|"]
    for rate in rates:
        bound = bound_here(rate, cores)
        cells = [f"{seconds * 1e6:.1f}" for seconds in (rate.worker_s, rate.supervisor_s, rate.generator_s)]
        lines.append(
            f"| {rate.workers} | {rate.per_s:,.0f} | "
            + " | ".join(cells)
            + f" | {bound:,.0f} | {rate.per_s / bound:.2f} |"
        )
    lines += ["", *(f"Kernel and Python, {what}: {seconds * 1e6:.1f} µs" for what, seconds in kernel_s.items()), ""]
    known = {one.workers: one for one in costs}
    if rates:
        worker_s = rates[-1].worker_s
        lines += [_sentence(known[count], worker_s) for count in PREDICTED if count in known]
    return lines


def _sentence(costs: Costs, worker_s: float) -> str:
    per_s = predicted(costs.workers, costs, worker_s)
    share = per_s * worker_s / costs.workers
    ends = f"{1 / costs.connection_s:,.0f} new connections/s" if costs.connection_s else "no limit that was measured"
    return (
        f"{costs.workers} workers on {costs.workers} cores, callers elsewhere: {per_s:,.0f} requests/s, {share:.3f} of {costs.workers} times one "
        f"worker. GET /metrics every {SCRAPE_EVERY_S:.0f} s takes {costs.scrape_s / SCRAPE_EVERY_S:.5f} of a core, the idle supervisor "
        f"{costs.supervisor_idle:.4f}; the supervisor ends at {ends}."
    )


if __name__ == "__main__":
    main()
