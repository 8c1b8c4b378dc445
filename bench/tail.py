"""How long callers of one row wait at half load, while others send what is large and the model is replaced.

    python -m bench.tail [--workers 1 2] [--rounds 3] [--seconds 5]

A closed loop of 32 connections finds the highest rate first. Then requests with one row leave at half of it, at random
times (Poisson, `bench/open_loop.py`); their latency counts from the intended times. Beside them, in turns: nobody; one
caller with 100 000 rows, as JSON, CSV or a npy array, back to back; and reloads, back to back. Generator, the other caller
and the service share this machine: with two cores, what the large body costs is taken from the others too. `late` is how late the
generator itself noticed that a request was due, in 99.9 % of them, and how long it then read its sockets: what is no longer than
that is the machine's.
"""

import argparse
import http.client
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import numpy as np

from bench import loads, open_loop
from bench.bodies import Request, own
from bench.connection import payload
from bench.loads import LOADS, require_wrk
from bench.loop_pause import bodies
from bench.make_model import REFERENCE, build, write_bundle
from bench.open_loop import Sent
from bench.reload.service import Service, served_copies
from tests.large_bodies import LargeBody

LARGE = ("native, lists", "table, CSV", "v1, npy")
COMPANIES = ("nobody", *LARGE, "reloads")
CONNECTIONS = 64
PAUSE_S = 0.3  # after the other caller has ended
Company = Callable[[], AbstractContextManager[list[int]]]
HEADS = ("requests/s", "p50 ms", "p99 ms", "p99.9 ms", "most ms", "late ms", "others")


def main() -> None:
    """Measure each number of workers."""
    parser = argparse.ArgumentParser(prog="python -m bench.tail", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each company; their requests are joined")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn")
    parser.add_argument("--beside", nargs="+", default=list(COMPANIES), choices=COMPANIES, help="all by default")
    parser.add_argument("--rate", type=float, help="requests a second, in place of half of what a closed loop reaches")
    chosen = parser.parse_args()
    require_wrk()
    print(f"{'workers, beside':24}" + "".join(f"{head:>12}" for head in HEADS))
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        write_bundle(REFERENCE, models, build(REFERENCE).SerializeToString())
        for workers in chosen.workers:
            copies = Path(folder, str(workers))
            with served_copies(copies, models / REFERENCE.name / "1", workers) as service:
                _measure(service, own(models)["positional_1"], workers, chosen)


def _measure(service: Service, request: Request, workers: int, chosen: argparse.Namespace) -> None:
    """Print a line for each company."""
    server = service.server
    others: dict[str, Company] = {"nobody": lambda: nullcontext([0])}
    for body in bodies(REFERENCE):
        if body.name in LARGE:
            others[body.name] = partial(_sending, server.host, server.port, body, body.make())
    others["reloads"] = partial(_reloading, service)
    others = {name: company for name, company in others.items() if name in chosen.beside}
    rate = chosen.rate
    if rate is None:
        rate = loads.run(LOADS["B"], request, server.host, server.port, chosen.seconds).requests_per_s / 2
    turns: dict[str, list[Sent]] = {name: [] for name in others}
    done = dict.fromkeys(others, 0)
    for number in range(chosen.rounds):
        for name, company in others.items():
            with company() as count:
                turns[name].append(_sent(server.host, server.port, request, rate, chosen.seconds, number))
            done[name] += count[0]
            time.sleep(PAUSE_S)
    for name, sent in turns.items():
        print(f"{workers}, {name:21}" + _line(sent, rate, done[name]), flush=True)


def _sent(host: str, port: int, request: Request, rate: float, seconds: float, seed: int) -> Sent:
    content = payload("POST", request.path, request.headers, request.body)
    return open_loop.send((host, port), [content], [open_loop.poisson(rate, 0, seconds, seed)], [CONNECTIONS])


@contextmanager
def _sending(host: str, port: int, body: LargeBody, data: bytes) -> Iterator[list[int]]:
    """Send a body again and again, from another process, while the block runs; gives how often it was answered."""
    count = [0]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_send, args=(host, port, body.path, dict(body.headers), data, theirs), daemon=True)
    process.start()
    ours.recv()  # it has started
    try:
        yield count
    finally:
        ours.send(None)
        count[0] = ours.recv()
        process.join()


def _send(host: str, port: int, path: str, headers: dict[str, str], data: bytes, control: Pipe) -> None:
    control.send(0)
    count = 0
    while not control.poll():
        connection = http.client.HTTPConnection(host, port, timeout=120)
        connection.request("POST", path, data, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        count += answer.status == 200
    control.send(count)


@contextmanager
def _reloading(service: Service) -> Iterator[list[int]]:
    """Swap the model again and again while the block runs; gives how often."""
    count, ended = [0], threading.Event()

    def swap() -> None:
        while not ended.is_set():
            service.swap()
            count[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        ended.set()
        thread.join()


def _line(turns: list[Sent], rate: float, others: int) -> str:
    latency = np.concatenate([sent.latency_ms(sent.good()) for sent in turns])
    bad = sum(int((~sent.good()).sum()) for sent in turns)
    late = np.concatenate([sent.late_ms() for sent in turns])
    figures = [*np.percentile(latency, [50, 99, 99.9, 100]), np.nanpercentile(late, 99.9)]
    shown = f"{rate:12.0f}" + "".join(f"{figure:12.2f}" for figure in figures) + f"{others:12}"
    return shown + (f"   {bad} NOT ANSWERED" if bad else "")


if __name__ == "__main__":
    main()
