"""The requests that the loads send, the answers they must get, and the check that runs before every load."""

import http.client
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.make_model import CLASSES, MIXED, REFERENCE, Shape, arrays_of, rows_of, run

JSON = {"Content-Type": "application/json"}
SIZES = (1, 100, 1000)  # rows a request
TOLERANCE = 1e-5  # absolute, and relative to the value: what another batch size may change in float32

Answers = npt.NDArray[np.float32]  # probabilities [rows, 3]
Parse = Callable[[bytes, dict[str, str]], Any]


class WrongAnswer(Exception):  # noqa: N818 — says what happened, not what kind of class it is
    """The server answered, and not with the right probabilities."""


@dataclass(frozen=True)
class Request:
    """One HTTP request whose right answer is known."""

    path: str
    headers: dict[str, str]
    body: bytes
    expected: Answers | None  # None: any 2xx answer is right (the constant server)
    parse: Parse  # (body, headers of the answer) -> probabilities [rows, 3]

    @property
    def rows(self) -> int:
        """Rows that the answer must hold."""
        return 0 if self.expected is None else len(self.expected)

    def check(self, host: str, port: int) -> None:
        """Send it once; raises WrongAnswer, or OSError where nothing answers."""
        connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request("POST", self.path, self.body, self.headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise WrongAnswer(f"POST {self.path} gave {answer.status}: {content[:300]!r}")
        self.compare(content, {name.lower(): value for name, value in answer.getheaders()})

    def compare(self, content: bytes, headers: dict[str, str]) -> None:
        """Raise WrongAnswer unless every probability is the expected one within 1e-5 + 1e-5·|value|."""
        if self.expected is None:
            return
        got = np.asarray(self.parse(content, headers), dtype=np.float32)
        if got.shape != self.expected.shape or not np.allclose(got, self.expected, rtol=TOLERANCE, atol=TOLERANCE):
            raise WrongAnswer(f"POST {self.path}: wrong probabilities, shape {got.shape}, first {got[:1].tolist()}")


def native(shape: Shape, rows: int, *, named: bool, models: Path) -> Request:
    """Return `rows` rows for Batchproof's own route, positional or named."""
    values = rows_of(shape, rows, rows)
    names = [feature["name"] for feature in shape.features()]
    content: Sequence[Any] = [dict(zip(names, row, strict=True)) for row in values] if named else values
    return Request("/predict", JSON, dump({"rows": content}), expected(shape, values, models), parse_native)


def oip(rows: int, *, binary: bool, models: Path) -> Request:
    """Return `rows` rows of the reference model for the Open Inference Protocol: one FP32 matrix `features`."""
    values = rows_of(REFERENCE, rows, rows)
    matrix = np.array(values, dtype=np.float32)
    tensor: dict[str, Any] = {"name": "features", "shape": list(matrix.shape), "datatype": "FP32"}
    headers = dict(JSON)
    if binary:
        head = dump(
            {
                "inputs": [tensor | {"parameters": {"binary_data_size": matrix.nbytes}}],
                "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
            }
        )
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        body = head + matrix.tobytes()
    else:
        body = dump({"inputs": [tensor | {"data": np.array(values).ravel().tolist()}]})
    return Request("/v2/models/reference/infer", headers, body, expected(REFERENCE, values, models), parse_oip)


def expected(shape: Shape, values: Sequence[Sequence[float | str]], models: Path) -> Answers:
    """Return what onnxruntime gives in this process for `values`."""
    model = (models / shape.name / "1" / "model.onnx").read_bytes()
    return run(model, arrays_of(shape, values))["probabilities"].astype(np.float32)


def parse_native(content: bytes, _headers: dict[str, str]) -> list[list[float]]:
    """Read the probabilities of {"predictions": [{"probabilities": {class: p}}]}."""
    predictions = json.loads(content)["predictions"]
    return [[prediction["probabilities"][name] for name in CLASSES] for prediction in predictions]


def parse_oip(content: bytes, headers: dict[str, str]) -> Answers:
    """Read the output `probabilities` (or the only one), JSON or binary."""
    length = headers.get("inference-header-content-length")
    head = json.loads(content if length is None else content[: int(length)])
    offset = 0 if length is None else int(length)
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if output["name"] == "probabilities" or len(head["outputs"]) == 1:
            flat = output["data"] if size is None else np.frombuffer(content[offset : offset + size], np.float32)
            return np.asarray(flat, dtype=np.float32).reshape(-1, len(CLASSES))
        offset += size or 0
    raise WrongAnswer("the answer has no output named probabilities")


def dump(value: object) -> bytes:
    """Write JSON without spaces, as clients do."""
    return json.dumps(value, separators=(",", ":")).encode()


def own(models: Path) -> dict[str, Request]:
    """Return every request of the reference model under `models`, by name: positional_1, named_100, binary_1000."""
    found = {}
    for rows in SIZES:
        found[f"positional_{rows}"] = native(REFERENCE, rows, named=False, models=models)
        found[f"named_{rows}"] = native(REFERENCE, rows, named=True, models=models)
        found[f"oip_{rows}"] = oip(rows, binary=False, models=models)
        found[f"binary_{rows}"] = oip(rows, binary=True, models=models)
    return found


def mixed(models: Path) -> dict[str, Request]:
    """Return the requests of the model with categories: mixed_1, mixed_100, mixed_1000."""
    return {f"mixed_{rows}": native(MIXED, rows, named=True, models=models) for rows in SIZES}
