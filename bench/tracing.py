"""What tracing costs a request: in this process, and as loads A and B on services side by side.

    python -m bench.tracing --rounds 6 --seconds 2

In process, the router and an endpoint answer the same one-row request: without a receiver of spans; with one, and a request
that is not traced (no header; a caller that is not sampled); and a traced one. Each case has processes of its own, in turns,
since one program with both kinds of queue is slower than either. The CPU time of the event loop's thread counts, in the best
turn. Then wrk asks services that run side by side, one at a time: what is compared
is the CPU time of the service for one request, and the rate, as the median over the rounds of the ratio to the service
without tracing. The receiver takes spans and drops them. Needs the extra `tracing`.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from batchproof.service.server.serving.endpoint import PredictEndpoint
from bench.bodies import own
from bench.loads import WORK, require_wrk
from bench.make_model import write_missing
from bench.server import HOST
from bench.side_by_side import Variant, served, take_turns

PROCESSES, TURNS, TURN = 4, 200, 100
PLAIN = (b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")
SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"
RECEIVER = "OTEL_EXPORTER_OTLP_ENDPOINT"
SHARES = {"traced 1 %": "0.01", "traced 100 %": "1"}


class Case(NamedTuple):
    """One kind of request in process."""

    has_receiver: bool
    traceparent: str = ""


CASES = {
    "no receiver": Case(False),
    "no receiver, traceparent": Case(False, SAMPLED),
    "receiver, no traceparent": Case(True),
    "receiver, not sampled": Case(True, UNSAMPLED),
    "receiver, traced": Case(True, SAMPLED),
}


class Receiver(BaseHTTPRequestHandler):
    """Takes spans."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Drop them."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def receiving() -> Iterator[str]:
    """Receive until the block ends; gives the address."""
    server = ThreadingHTTPServer((HOST, 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()


def in_process(work: Path, receiver: str) -> None:
    """Print the microseconds of one request in each case."""
    best = dict.fromkeys(CASES, (float("inf"), float("inf")))
    for _ in range(PROCESSES):
        for name, case in CASES.items():
            command = [sys.executable, "-m", "bench.tracing", "--case", name, "--work", str(work)]
            address = receiver if case.has_receiver else ""
            variables = {**os.environ, RECEIVER: address}
            done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
            whole_us, route_us = map(float, done.stdout.split())
            best[name] = min(best[name][0], whole_us), min(best[name][1], route_us)
    without = best["no receiver"]
    for name, taken in best.items():
        whole, route = (f"{us:6.2f} us ({us - off:+.2f})" for us, off in zip(taken, without, strict=True))
        print(f"in process  {name:26} a request {whole}  its head and route alone {route}", flush=True)


def best_route(application: AsgiApp, headers: Sequence[tuple[bytes, bytes]]) -> float:
    """Return the microseconds of reading a head and finding its route, in the best turn of this process."""
    best, sent = float("inf"), list(headers)
    for _ in range(TURNS // 4):
        start_s = time.thread_time()
        for _ in range(10 * TURN):
            application.router.resolve(RequestHead("POST", "/predict", b"", sent))
        best = min(best, (time.thread_time() - start_s) / (10 * TURN) * 1e6)
    return best


async def best_turn(application: AsgiApp, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> float:
    """Return the microseconds of a request in the best turn of this process."""
    best = float("inf")
    for _ in range(TURNS):
        best = min(best, await turn(application, list(headers), body))
    return best


async def turn(served: AsgiApp, headers: list[tuple[bytes, bytes]], body: bytes) -> float:
    """Return the microseconds of a request, over one turn."""
    loop = asyncio.get_running_loop()
    answers: list[Answer] = []
    start_s = time.thread_time()  # of the event loop's thread: others do not count
    for _ in range(TURN):
        done = loop.create_future()

        def reply(answer: Answer, done: "asyncio.Future[None]" = done) -> None:
            answers.append(answer)
            done.set_result(None)

        head = RequestHead("POST", "/predict", b"", headers)
        endpoint = served.router.resolve(head)
        assert isinstance(endpoint, PredictEndpoint), "the route of a prediction"
        endpoint.handle(body, head, reply)
        await done
    seconds = time.thread_time() - start_s
    assert {answer.status for answer in answers} == {200}, "predictions"
    return seconds / TURN * 1e6


def variants(receiver: str) -> list[Variant]:
    """Return what is compared, the service without tracing first. Shares are chosen by the service: wrk sends one header.

    The same service twice says how far figures differ by chance, and a header costs its reading without a receiver too.
    """
    traced, header = {RECEIVER: receiver}, (f"traceparent: {UNSAMPLED}",)
    return [
        Variant("off"),
        Variant("off again"),
        Variant("off, header", headers=header),
        Variant("on, no header", environment=traced),
        Variant("on, header", environment=traced, headers=header),
        *(
            Variant(
                name, environment={**traced, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": share}
            )
            for name, share in SHARES.items()
        ),
    ]


def compare(load: str, compared: dict[str, tuple[Variant, int, int]], body: Path, rounds: int, seconds: float) -> None:
    """Let the services take turns, and print medians."""
    taken = take_turns(compared, load, body, rounds, seconds)
    for name, figures in taken.items():
        cpu_us, rate, p99_ms = (statistics.median(column) for column in zip(*figures, strict=True))
        pairs = list(zip(figures, taken["off"], strict=True))
        cpu, rates = (statistics.median(one[place] / off[place] for one, off in pairs) for place in (0, 1))
        print(
            f"load {load}  {name:13} {cpu_us:6.1f} us of CPU a request ({cpu:.3f} of off)  "
            f"{rate:7.0f} requests/s ({rates:.3f})  p99 {p99_ms:.2f} ms",
            flush=True,
        )


def main(arguments: list[str]) -> None:
    """Print one line for each case."""
    parser = argparse.ArgumentParser(prog="python -m bench.tracing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="how often each service is asked; 0: in process alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each load")
    parser.add_argument("--loads", default="AB", help="loads A and B, or one of them")
    parser.add_argument("--case", choices=CASES, help="print the microseconds of one case in this process")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles")
    chosen = parser.parse_args(arguments)
    require_wrk()
    write_missing(chosen.work)
    models = chosen.work / "reference"
    request = own(models)["positional_1"]
    if chosen.case:
        header = CASES[chosen.case].traceparent.encode()
        headers = (*PLAIN, *([(b"traceparent", header)] if header else []))
        application = AsgiApp(app.load(Settings(models=models)))
        whole_us = asyncio.run(best_turn(application, request.body, headers))
        sys.stdout.write(f"{whole_us} {best_route(application, headers)}\n")
        sys.stdout.flush()
        os._exit(0)  # spans that wait need not be sent
    with receiving() as receiver, tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        body = Path(folder) / "body"
        body.write_bytes(request.body)
        in_process(chosen.work, receiver)
        if not chosen.rounds:
            return
        compared = {
            variant.name: (variant, *stack.enter_context(served(variant, models))) for variant in variants(receiver)
        }
        for load in chosen.loads:
            compare(load, compared, body, chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
