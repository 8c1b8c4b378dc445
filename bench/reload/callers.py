"""One caller of each protocol, each of which knows which version its answer names."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import numpy as np

from batchproof.service.server.grpc.messages import SERVICE, classes
from tests.live import Live

NAME, ID = "numbers", "same"
ROWS = [[0.1, -0.2, 0.3, None, 0.5], [1.0, 0.9, -0.8, 0.7, -0.6], [0.0, 0.0, 0.0, 0.0, 0.25]]
PLAIN = [[0.1, -0.2, 0.3, 0.4, 0.5]]
CSV = "f0,f1,f2,f3,f4\n" + "".join(",".join("" if v is None else str(v) for v in row) + "\n" for row in ROWS)
HEADERS = {"X-Request-Id": ID}
PIECES, PIECE_S = 6, 0.04  # of the slow table


class OverloadedError(Exception):
    """The service is busy beyond its limits: the same request may come again."""


class Answer(NamedTuple):
    """One answer: the version that it names, None where the protocol has no place for it, and its bytes."""

    version: int | None
    body: bytes


class HttpCaller:
    """One kind of request over one kept-alive connection."""

    def __init__(self, server: Live, path: str, body: Any, version_of: Callable[[Any, bytes], int | None]) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        self._path, self._body, self._version_of = path, body, version_of
        self.headers = dict(HEADERS)

    def ask(self) -> Answer:
        """Return the next answer; raises where it is none."""
        body = self._body() if callable(self._body) else self._body
        self._connection.request("POST", self._path, body, self.headers, encode_chunked=callable(self._body))
        reply = self._connection.getresponse()
        content = reply.read()
        if reply.status == 429:
            raise OverloadedError
        if reply.status != 200:
            raise ConnectionError(f"{reply.status}: {content[:200]!r}")
        return Answer(self._version_of(reply, content), content)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class RpcCaller:
    """Infer calls over one channel."""

    def __init__(self, port: int) -> None:
        self._messages = classes()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._call = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            self._messages["ModelInferRequest"].SerializeToString,
            self._messages["ModelInferResponse"].FromString,
        )
        values = np.array(PLAIN)
        self._request = self._messages["ModelInferRequest"](
            model_name=NAME,
            id=ID,
            inputs=[{"name": "features", "datatype": "FP64", "shape": list(values.shape)}],
            raw_input_contents=[values.tobytes()],
        )

    def ask(self) -> Answer:
        """Return the next answer."""
        try:
            reply = self._call(self._request, timeout=30.0, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise OverloadedError from error
            raise
        return Answer(int(reply.model_version), reply.SerializeToString(deterministic=True))

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


def callers(server: Live, rpc_port: int) -> dict[str, Any]:
    """Return one caller of each kind."""
    tensors = [{"name": "features", "datatype": "FP64", "shape": [1, 5], "data": PLAIN[0]}]
    made = {
        "native": HttpCaller(server, "/predict", json.dumps({"rows": ROWS}), _of_native),
        "oip": HttpCaller(server, f"/v2/models/{NAME}/infer", json.dumps({"id": ID, "inputs": tensors}), _of_oip),
        "v1": HttpCaller(server, f"/v1/models/{NAME}:predict", json.dumps({"instances": PLAIN}), lambda *_: None),
        "table": HttpCaller(server, "/predict", CSV, _of_header),
        "slow table": HttpCaller(server, "/predict", _slowly, _of_header),
        "grpc": RpcCaller(rpc_port),
    }
    for kind in ("table", "slow table"):
        made[kind].headers |= {"Content-Type": "text/csv"}
    made["slow table"].headers |= {"Transfer-Encoding": "chunked"}
    return made


def _slowly() -> Iterator[bytes]:
    lines = CSV.splitlines(keepends=True)
    yield lines[0].encode()
    for _ in range(PIECES):
        time.sleep(PIECE_S)
        yield "".join(lines[1:] * 200).encode()


def _of_native(_reply: Any, content: bytes) -> int:
    return int(json.loads(content)["model"]["version"])


def _of_oip(_reply: Any, content: bytes) -> int:
    return int(json.loads(content)["model_version"])


def _of_header(reply: Any, _content: bytes) -> int:
    return int(json.loads(reply.getheader("x-model"))["version"])
