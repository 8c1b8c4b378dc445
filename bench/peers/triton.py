"""Triton Inference Server, the one that a user has: at an address, or as a program that is started here.

Two models of the reference network: `reference`, as `batchproof export --to triton` writes it (float64 rows in, requests
are never joined, so that rows keep their bits), and `reference_plain`, the bare ONNX model in the configuration that is
fast (float32 rows, dynamic batcher, two instances of one thread). Rows go through Triton's HTTP API: JSON for A to D,
binary tensors for E.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request as Ask
from urllib.request import urlopen

import numpy as np

from batchproof.service.bundle import reader
from batchproof.service.cli.publishing import triton as export
from bench import bodies
from bench.bodies import Request, expected
from bench.contenders import Contender
from bench.make_model import CLASSES, REFERENCE, rows_of
from bench.peers.catalogue import ROWS
from bench.server import Attached, Launch

INSTANCES = 2
PLAIN_CONFIG = f"""name: "reference_plain"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: 1024
input {{ name: "x" data_type: TYPE_FP32 dims: [ {REFERENCE.numeric} ] }}
output {{ name: "y" data_type: TYPE_FP32 dims: [ {len(CLASSES)} ] }}
instance_group {{ kind: KIND_CPU count: {INSTANCES} }}
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
"""


class Model(NamedTuple):
    """One of the two, as its requests name it."""

    name: str
    label: str
    input: str
    datatype: str
    output: str


MODELS = (
    Model("reference", "exported", "numeric", "FP64", "probabilities"),
    Model("reference_plain", f"plain model, {INSTANCES} instances, batcher", "x", "FP32", "y"),
)
NUMPY = {"FP64": np.float64, "FP32": np.float32}


def contenders(given: str, backends: Path | None, work: Path) -> Iterator[Contender]:
    """Yield both models in the Triton at an address, or in the one of a program; ends with a sentence where that fails."""
    repository = write_repository(work)
    if given.startswith(("http://", "https://")):
        launch: Launch | Attached = _attached(given, repository)
    else:
        launch = _started(Path(given), backends, repository)
    for model in MODELS:
        yield Contender(f"Triton, {model.label}", INSTANCES, launch, _requests(model, work))


def write_repository(work: Path) -> Path:
    """Return the model repository with both models, written on the first call: a server may be running on it."""
    repository = work / "triton"
    written = repository / "reference_plain" / "config.pbtxt"
    if written.exists():
        return repository
    shutil.rmtree(repository, ignore_errors=True)
    export.write(reader.read(work / "reference" / "reference" / "1"), repository, "cpu")
    version = repository / "reference_plain" / "1"
    version.mkdir(parents=True)
    shutil.copy2(work / "peer.onnx", version / "model.onnx")
    written.write_text(PLAIN_CONFIG)
    return repository


def _attached(url: str, repository: Path) -> Attached:
    """Return the address of a Triton that has both models, loaded now where its control mode allows it."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None or parts.path.strip("/"):
        sys.exit(
            f"--triton {url}: give http://HOST:PORT of Triton's HTTP service; the load generator speaks no TLS here."
        )
    attached = Attached(parts.hostname, parts.port or 8000)
    base = f"http://{attached.host}:{attached.port}/v2"
    for model in MODELS:
        if _ask(f"{base}/models/{model.name}/ready") != 200:
            _ask(f"{base}/repository/models/{model.name}/load", b"{}")
        if (status := _ask(f"{base}/models/{model.name}/ready")) != 200:
            sys.exit(
                f"The Triton at {url} has no model {model.name} that is ready (status {status}). Copy the folders of {repository} "
                "into its model repository, then load them or start it again."
            )
    return attached


def _ask(url: str, content: bytes | None = None) -> int:
    """Return the status of an answer; ends with a sentence where nothing answers."""
    try:
        with urlopen(Ask(url, content), timeout=60) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except (URLError, OSError) as error:
        sys.exit(f"Nothing answers at {url}: {error}")


def _started(program: Path, backends: Path | None, repository: Path) -> Launch:
    """Return how the program is started; its backends stand beside its folder, where no other folder is named."""
    program = program.absolute()
    if not program.is_file():
        sys.exit(f"--triton {program}: no such program; give http://HOST:PORT, or the path of tritonserver.")
    folder = (backends or program.parents[1] / "backends").absolute()
    if not (folder / "onnxruntime").is_dir():
        sys.exit(f"{folder} has no backend onnxruntime; name the folder of Triton's backends with --triton-backends.")
    flags: dict[str, Any] = {
        "model-repository": repository.absolute(),
        "backend-directory": folder,
        "http-address": "127.0.0.1",
        "http-port": "{port}",
        "allow-grpc": "false",
        "allow-metrics": "false",
        "exit-timeout-secs": 5,
    }
    command = (str(program), *(f"--{name}={value}" for name, value in flags.items()))
    return Launch(command, {"OMP_NUM_THREADS": "1"}, repository)


def _requests(model: Model, work: Path) -> dict[str, Request]:
    """Return A to D in JSON, and E as binary tensors."""
    found = {load: _request(model, rows, binary=False, work=work) for load, rows in ROWS.items()}
    return found | {"E": _request(model, ROWS["D"], binary=True, work=work)}


def _request(model: Model, rows: int, *, binary: bool, work: Path) -> Request:
    values = rows_of(REFERENCE, rows, rows)
    tensor: dict[str, Any] = {"name": model.input, "shape": [rows, REFERENCE.numeric], "datatype": model.datatype}
    asked: dict[str, Any] = {"name": model.output}
    headers, content = dict(bodies.JSON), b""
    if binary:
        content = np.array(values, dtype=NUMPY[model.datatype]).tobytes()
        tensor["parameters"] = {"binary_data_size": len(content)}
        asked["parameters"] = {"binary_data": True}
    else:
        tensor["data"] = np.array(values).ravel().tolist()
    head = json.dumps({"inputs": [tensor], "outputs": [asked]}, separators=(",", ":")).encode()
    if binary:
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    right = expected(REFERENCE, values, work / "reference")
    return Request(f"/v2/models/{model.name}/infer", headers, head + content, right, bodies.parse_oip)
