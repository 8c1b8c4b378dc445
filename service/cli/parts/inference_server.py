"""A model behind any server of the Open Inference Protocol v2 over HTTP, run like a graph: inputs, and one batch at a time."""

import http.client
import json
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import numpy as np

from batchproof.service.errors import EngineError, printable
from batchproof.service.inference.runner import Feeds
from batchproof.service.invariance.onnx_files.onnx_inputs import Node

WAIT_S = 60.0  # for an answer
ANSWER_BYTES = 256 << 20
SHOWN_CHARACTERS = 300
BINARY = "binary_tensor_data"  # the extension's name
LENGTH_HEADER = "Inference-Header-Content-Length"
DTYPES = {
    "BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "BYTES": "string",
}  # fmt: skip
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}


class Tensor(NamedTuple):
    """One input as a request describes it, and its elements where they are binary."""

    described: dict[str, Any]
    elements: bytes


class ServerSession:
    """One model of a server. Each thread has a connection of its own, kept open between batches."""

    def __init__(self, url: str) -> None:
        """Read what the server says of the model; raises ValueError for a URL of another form, EngineError."""
        self._url = _checked(url)
        self._local = threading.local()
        prefix = self._url.path.partition("/v2/models/")[0]
        server = self._read(f"{prefix}/v2")
        model = self._read(self._url.path)
        self.is_binary = BINARY in server.get("extensions", ())
        self._server = printable(f"{server.get('name', 'a server')} {server.get('version', '')}".strip())
        try:
            self.inputs: Sequence[Node] = [_node(tensor) for tensor in model["inputs"]]
        except (KeyError, TypeError) as error:
            raise EngineError(f"{url} does not describe its inputs as the Open Inference Protocol does") from error

    @property
    def description(self) -> Mapping[str, Any]:
        """Return what the bits are made by, as far as the server says."""
        return {"engine": self._server, "provider": self._url.geturl()}

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        """Return the outputs of one batch, {name: array}; raises EngineError."""
        arrays = [array for array in feeds if array is not None]
        tensors = [self._tensor(node, array) for node, array in zip(self.inputs, arrays, strict=True)]
        content: dict[str, Any] = {"inputs": [tensor.described for tensor in tensors]}
        if self.is_binary:
            content["parameters"] = {"binary_data_output": True}
        head = json.dumps(content).encode()
        body = b"".join([head, *(tensor.elements for tensor in tensors)])
        headers = {"Content-Type": "application/json"}
        if self.is_binary:
            headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(head))}
        answer, length = self._ask("POST", f"{self._url.path}/infer", body, headers)
        try:
            return _outputs(answer, length)
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"the server's answer is not one of the Open Inference Protocol: {error!r:.200}"
            ) from error

    def _tensor(self, node: Node, array: np.ndarray) -> Tensor:
        name, dtype, _ = node
        described = {"name": name, "shape": list(array.shape), "datatype": DATATYPES[dtype]}
        if self.is_binary and dtype != "string":
            elements = array.astype(array.dtype.newbyteorder("<")).tobytes()
            return Tensor({**described, "parameters": {"binary_data_size": len(elements)}}, elements)
        return Tensor({**described, "data": array.reshape(-1).tolist()}, b"")

    def _read(self, path: str) -> dict[str, Any]:
        answer, _ = self._ask("GET", path, b"", {})
        try:
            content = json.loads(answer)
        except ValueError as error:
            raise EngineError(f"GET {path} was not answered with JSON: {_shown(answer)}") from error
        if not isinstance(content, dict):
            raise EngineError(f"GET {path} was not answered with an object: {_shown(answer)}")
        return content

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[bytes, int | None]:
        """Return the answer's body, and the length of its JSON where tensors follow; raises EngineError."""
        try:
            response, content = self._sent(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._close()
            raise EngineError(f"{method} {path} was not answered: {str(error) or type(error).__name__}") from error
        if len(content) > ANSWER_BYTES:
            self._close()
            raise EngineError(f"the answer to {method} {path} has more than {ANSWER_BYTES >> 20} MiB")
        if response.status != http.client.OK:
            raise EngineError(f"{method} {path} was answered with {response.status}: {_shown(content)}")
        length = response.headers.get(LENGTH_HEADER)
        return content, int(length) if length and length.isdecimal() else None

    def _sent(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request; a second time where the server has closed the connection, which it may at any time between two."""
        is_reused = getattr(self._local, "connection", None) is not None
        try:
            connection = self._connection()
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response, response.read(ANSWER_BYTES + 1)
        except ConnectionError:  # http.client's RemoteDisconnected among them
            self._close()
            if not is_reused:
                raise
            return self._sent(method, path, body, headers)

    def _close(self) -> None:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            host, port = str(self._url.hostname), self._url.port
            if self._url.scheme == "https":
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(host, port, timeout=WAIT_S, context=context)
            else:
                connection = http.client.HTTPConnection(host, port, timeout=WAIT_S)
            self._local.connection = connection
        return connection


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url.rstrip("/"))
    name = parts.path.partition("/v2/models/")[2]
    if parts.username is not None:
        raise ValueError("--url must hold no user and no password")
    if parts.scheme not in ("http", "https") or not parts.hostname or not name or parts.query:
        example = "http://HOST:8000/v2/models/NAME"
        raise ValueError(f"--url {printable(url)!r:.200} must be the address of a model, such as {example}")
    return parts


def _node(tensor: Mapping[str, Any]) -> Node:
    """Return (name, type, shape) of an input; an axis of length -1 is free."""
    shape = [None if length == -1 else int(length) for length in tensor["shape"]]
    return str(tensor["name"]), DTYPES.get(tensor["datatype"], str(tensor["datatype"])), shape


def _outputs(answer: bytes, length: int | None) -> dict[str, np.ndarray]:
    start = len(answer) if length is None else length
    outputs: dict[str, np.ndarray] = {}
    for output in json.loads(answer[:start])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            dtype = DTYPES[output["datatype"]]
            values = np.array(output["data"], object if dtype == "string" else dtype)
        else:
            values = _elements(output["datatype"], answer[start : start + size])
            start += size
        outputs[output["name"]] = values.reshape(output["shape"])
    return outputs


def _elements(datatype: str, binary: bytes) -> np.ndarray:
    if datatype != "BYTES":
        return np.frombuffer(binary, np.dtype(DTYPES[datatype]).newbyteorder("<"))
    texts, start = [], 0
    while start < len(binary):
        size = int.from_bytes(binary[start : start + 4], "little")
        texts.append(binary[start + 4 : start + 4 + size].decode(errors="surrogateescape"))
        start += 4 + size
    return np.array(texts, object)


def _shown(content: bytes) -> str:
    return printable(content[:SHOWN_CHARACTERS].decode(errors="replace"))
