"""Callers: they ask, pipeline, half-close, send slowly, send garbage behind a good request, and leave."""

import http.client
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.chaos.findings import Findings
from bench.chaos.questions import Question, pieces
from bench.chaos.service import Service
from bench.chaos.wire import CutError, HungError, Reply, Wire

TIMEOUT_S = 120.0  # longer than any time limit of the service, also where other programs take the processors
REFUSALS = {429, 503, 504}  # which a busy service may give
GARBAGE = b"\x00\x01 not HTTP\r\n\r\n"
MOST_PIPELINED = 24


class Caller:
    """One caller with a kept connection, which does at random what callers do."""

    def __init__(self, service: Service, asked: Sequence[Question], findings: Findings, seed: int) -> None:
        """Choose among `asked`."""
        self._service, self._asked, self._findings = service, asked, findings
        self._singles = [question for question in asked if question.kind == "native" and len(question.rows) == 1]
        self._random = np.random.default_rng(seed)
        self._wire: Wire | None = None

    def run(self, is_over: threading.Event, per_s: float, ways: Sequence[str]) -> None:
        """Act until it is over, at most `per_s` requests a second."""
        due_s = time.monotonic()
        while not is_over.is_set():
            way = ways[int(self._random.integers(len(ways)))]
            count = self._act(way)
            due_s = max(due_s + count / per_s, time.monotonic() - 1)
            is_over.wait(max(0.0, due_s - time.monotonic()))
        if self._wire is not None:
            self._wire.close()

    def _act(self, way: str) -> int:
        """Do one thing; returns for how many requests it counts."""
        actions: dict[str, Callable[[], int]] = {
            "single": self._single,
            "keep": self._keep,
            "pipeline": self._pipeline,
            "fresh": self._fresh,
            "half-close": lambda: self._fresh(is_half=True),
            "slow": self._slowly,
            "garbage": self._before_garbage,
            "leave": self._leave,
        }
        return actions[way]()

    def _pick(self) -> Question:
        return self._asked[int(self._random.integers(len(self._asked)))]

    def _kept(self) -> Wire:
        if self._wire is None:
            self._wire = Wire(self._service.address, TIMEOUT_S)
        return self._wire

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self._wire = None

    def _single(self) -> int:
        """Ask for one row on the kept connection, and note the time."""
        question = self._singles[int(self._random.integers(len(self._singles)))]
        began_s = time.perf_counter()
        if self._exchange([question]):
            self._findings.took(1000 * (time.perf_counter() - began_s))
        return 1

    def _keep(self) -> int:
        return self._exchange([self._pick()]) or 1

    def _pipeline(self) -> int:
        count = int(self._random.integers(2, MOST_PIPELINED))
        return self._exchange([self._pick() for _ in range(count)]) or 1

    def _exchange(self, asked: Sequence[Question]) -> int:
        """Send requests at once on the kept connection and read their answers in order; returns how many came."""
        came, port, opened_s = 0, 0, time.monotonic()
        try:
            wire = self._kept()
            port, opened_s = wire.port, wire.opened_s
            wire.send(b"".join(question.request for question in asked))
            for question in asked:
                reply = wire.reply()
                self._judge(question, reply)
                came += 1
                if reply.headers.get("connection") == "close":
                    self._drop()
                    break
        except (CutError, HungError, http.client.HTTPException) as error:
            self._drop()
            self._fail(error, asked[came], port, opened_s)
        return came

    def _fresh(self, *, is_half: bool = False) -> int:
        """Ask on a connection of its own; with `is_half` end the sending side behind the request."""
        return self._alone(self._pick(), lambda wire, question: self._send_all(wire, question, is_half=is_half))

    def _slowly(self) -> int:
        """Send a body in chunks with pauses."""
        tables = [question for question in self._asked if question.kind in ("csv", "native", "oip")]
        question = tables[int(self._random.integers(len(tables)))]
        return self._alone(question, self._send_slowly) * 5  # its time is worth more requests

    def _send_slowly(self, wire: Wire, question: Question) -> None:
        for piece in pieces(question, 5):
            wire.send(piece)
            time.sleep(float(self._random.uniform(0, 0.1)))

    @staticmethod
    def _send_all(wire: Wire, question: Question, *, is_half: bool) -> None:
        wire.send(question.request)
        if is_half:
            wire.end()

    def _alone(self, question: Question, send: Callable[[Wire, Question], None]) -> int:
        port, opened_s = 0, time.monotonic()
        try:
            with Wire(self._service.address, TIMEOUT_S) as wire:
                port = wire.port
                send(wire, question)
                self._judge(question, wire.reply())
        except (CutError, HungError, http.client.HTTPException) as error:
            self._fail(error, question, port, opened_s)
        return 1

    def _before_garbage(self) -> int:
        """Send what is not HTTP behind a good request: the request is answered, and then the garbage is refused."""
        question = self._pick()

        def send(wire: Wire, asked: Question) -> None:
            wire.send(asked.request + GARBAGE)

        port, opened_s = 0, time.monotonic()
        try:
            with Wire(self._service.address, TIMEOUT_S) as wire:
                port = wire.port
                send(wire, question)
                self._judge(question, wire.reply())
                if (status := wire.reply().status) != 400:
                    self._findings.add("crossed", f"garbage behind {question.kind} was answered with {status}")
        except (CutError, HungError, http.client.HTTPException) as error:
            self._fail(error, question, port, opened_s)
        return 2

    def _leave(self) -> int:
        """Send a request, or part of it, and hang up at a moment of its answer."""
        request, random = self._pick().request, self._random
        cut = int(random.integers(1, len(request))) if random.random() < 0.3 else len(request)
        reset = bool(random.random() < 0.5)
        try:
            with Wire(self._service.address, TIMEOUT_S) as wire:
                wire.send(request[:cut])
                time.sleep(float(random.exponential(0.001)))
                wire.close(reset=reset)
        except (CutError, HungError):
            pass
        self._findings.count(self._findings.left, "reset" if reset else "closed")
        return 1

    def _judge(self, question: Question, reply: Reply) -> None:
        """Count an answer."""
        if reply.status == 200 and question.is_right(reply):
            self._findings.right(question.kind)
        elif reply.status in REFUSALS:
            self._findings.count(self._findings.refused, f"{reply.status} {question.kind}")
        else:
            self._findings.add(
                "crossed",
                f"{question.request[:120]!r} was answered {reply.status} {reply.headers} {reply.body[:600]!r}",
            )

    def _fail(self, error: Exception, question: Question, port: int, opened_s: float) -> None:
        """Count an answer that did not come."""
        if isinstance(error, http.client.HTTPException):
            self._findings.add("crossed", f"{question.kind}: {error!r}")
        elif isinstance(error, HungError):
            self._findings.add("hung", f"{question.kind}: {error}")
        elif self._service.deaths.explain(port, opened_s):
            self._findings.end_with_worker()
        else:
            self._findings.add("lost", f"{question.kind}, connection from port {port}: {error}")
