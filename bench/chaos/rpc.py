"""Callers over gRPC: they ask, ask several at a time, and cancel."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from batchproof import load_model
from batchproof.service.server.grpc.messages import SERVICE, classes
from bench.chaos.callers import TIMEOUT_S
from bench.chaos.findings import NOTED_S, Findings
from bench.chaos.questions import VERSIONS, matrix, random_of
from bench.chaos.service import Service

REFUSALS = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
ENDED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
AT_A_TIME = 8


class RpcQuestion:
    """One call and, for each version, the bits of its answer."""

    def __init__(self, number: int, models: Sequence[Any]) -> None:
        """Draw rows, and run each of them alone in each version."""
        rows = matrix(random_of(1, number), 1 + number % 5)
        values = np.array([[np.nan if cell is None else cell for cell in row] for row in rows], np.float64)
        self.request = classes()["ModelInferRequest"](
            model_name="numbers",
            id=f"rpc-{number}",
            inputs=[{"name": "features", "datatype": "FP64", "shape": list(values.shape)}],
            raw_input_contents=[values.tobytes()],
        )
        self.expected = {
            str(version): np.float32(
                [list(model.predict([row])[0]["probabilities"].values()) for row in rows]
            ).tobytes()
            for version, model in zip(VERSIONS, models, strict=True)
        }

    def is_right(self, reply: Any) -> bool:
        """Return whether the answer has the id of this call and the bits of the version that it names."""
        names = [output.name for output in reply.outputs]
        bits = reply.raw_output_contents[names.index("probabilities")] if "probabilities" in names else b""
        return reply.id == self.request.id and bits == self.expected.get(reply.model_version)


def rpc_questions(count: int, models: Path) -> list[RpcQuestion]:
    """Return calls with the bits that are right."""
    loaded = [load_model(models / "numbers" / str(version)) for version in VERSIONS]
    return [RpcQuestion(number, loaded) for number in range(count)]


class RpcCaller:
    """Calls over one channel, which is made anew now and then.

    gRPC does not tell the ports of its connections, so a call that ends as a worker dies counts as ended with it.
    """

    def __init__(self, service: Service, asked: Sequence[RpcQuestion], findings: Findings, seed: int) -> None:
        """Choose among `asked`."""
        self._service, self._asked, self._findings = service, asked, findings
        self._random = np.random.default_rng(seed)

    def run(self, is_over: threading.Event, per_s: float) -> None:
        """Call until it is over, at most `per_s` times a second."""
        while not is_over.is_set():
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(f"127.0.0.1:{self._service.grpc_port}", options) as channel:
                call = channel.unary_unary(
                    f"/{SERVICE}/ModelInfer",
                    classes()["ModelInferRequest"].SerializeToString,
                    classes()["ModelInferResponse"].FromString,
                )
                for _ in range(int(self._random.integers(20, 400))):
                    if is_over.is_set():
                        break
                    count = int(self._random.integers(1, AT_A_TIME))
                    self._call(call, count)
                    is_over.wait(count / per_s)

    def _call(self, call: Any, count: int) -> None:
        began_s = time.monotonic()
        asked = [self._asked[int(self._random.integers(len(self._asked)))] for _ in range(count)]
        waiting = [call.future(question.request, timeout=TIMEOUT_S, wait_for_ready=True) for question in asked]
        for question, future in zip(asked, waiting, strict=True):
            if self._random.random() < 0.05:
                future.cancel()
                self._findings.count(self._findings.left, "cancelled call")
                continue
            self._wait(question, future, began_s)

    def _wait(self, question: RpcQuestion, future: Any, began_s: float) -> None:
        try:
            reply = future.result()
        except grpc.RpcError as error:
            self._fail(question, error, began_s)
            return
        if question.is_right(reply):
            self._findings.right("grpc")
        else:
            self._findings.add("crossed", f"{question.request.id} was answered {reply!s:.600}")

    def _fail(self, question: RpcQuestion, error: Any, began_s: float) -> None:
        code = error.code()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - began_s > TIMEOUT_S - 1:
            self._findings.add("hung", f"{question.request.id}: no answer in {TIMEOUT_S:.0f} s")
        elif code in REFUSALS or (code is grpc.StatusCode.UNAVAILABLE and "retry" in (error.details() or "")):
            self._findings.count(self._findings.refused, f"{code.name} grpc")
        elif code in ENDED and self._service.deaths.since(began_s - NOTED_S):
            self._findings.end_with_worker()
        else:
            self._findings.add("lost", f"{question.request.id}: {code.name} {error.details()}")
