"""The scoring contracts of cloud platforms, each at its own paths: SageMaker and MLflow, Vertex AI, Azure ML, KServe.

They share one reading of rows (service/protocols/cloud/request.py) and one answer, {"predictions": [...]} with the native
prediction of each row in order, or CSV, JSON Lines or a NumPy array file where the client asks for it. Only paths, health pages and the
shape of a refusal differ. All of them are alive at once; service/configuration/platforms.py says what their environments set.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

import batchproof
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import numbers_of
from batchproof.service.inference.catalogue.registry import unknown_model
from batchproof.service.inference.model import Described, Model
from batchproof.service.protocols.cloud import npy
from batchproof.service.protocols.cloud.request import ScoringReader, content_type
from batchproof.service.protocols.interface import JSON, Answer, Call, Codec, Decoded, Limits, ServerInfo
from batchproof.service.protocols.json_text.prediction_text import PredictionText

TEXT = (b"content-type", b"text/plain; charset=utf-8")
CSV = (b"content-type", b"text/csv; charset=utf-8")
LINES = (b"content-type", b"application/jsonlines")
NPY = (b"content-type", b"application/x-npy")


class ScoringCodec:
    """One model's scoring requests and answers."""

    note_type = str

    def __init__(self, model: Described, limits: Limits, label: str = "") -> None:
        """Prebuild the reader and the text of predictions; an answer to a `label` says in a header which version it is."""
        self._label_header = label_header(model, label)
        self._reader = ScoringReader(model.encoder, limits)
        self._text = PredictionText(model.manifest)
        self._is_value = model.manifest.signature.classes is None
        self._labels = model.decoder.keys
        self._places = model.manifest.label_places

    def decode(self, call: Call) -> Decoded:
        """Return the request's rows; raises ServiceError."""
        return self._reader.read(call)

    def decode_good(self, call: Call) -> Decoded | None:
        """Read a body of good rows in the usual form; None for any other. Raises ServiceError."""
        return self._reader.read_good(call, content_type(call, call.body))

    def decode_raw(self, call: Call) -> Decoded | None:
        """Read an array file of numbers; None for any other body. Raises ServiceError."""
        return self._reader.read_raw(call)

    def encode(self, call: Call, decoded: Decoded, outputs: Mapping[str, np.ndarray]) -> Answer:
        """Return the predictions in the form that is asked for; the header is what Azure ML's callers trace by."""
        own = ((b"x-request-id", call.request_id.encode()), *self._label_header)
        if decoded.note == "csv":
            return Answer(200, (CSV, *own), self._csv(outputs))
        if decoded.note == "npy":
            return Answer(200, (NPY, *own), npy.file_of(numbers_of(outputs)))
        if decoded.note == "lines":
            return Answer(200, (LINES, *own), b"".join([text + b"\n" for text in self._text.each(outputs)]))
        return Answer(200, (JSON, *own), b'{"predictions":[' + self._text.write(outputs) + b"]}")

    def _csv(self, outputs: Mapping[str, np.ndarray]) -> bytes:
        """Return a line for each row, without a header: the value and its quantiles, the values of all targets, or the label and the probabilities."""
        if self._is_value:
            return b"".join([digits + b"\n" for digits in _digit_rows(numbers_of(outputs))])
        winners = self._places(outputs["probabilities"]).tolist()
        quoted = [_csv_cell(label) for label in self._labels]
        rows = zip(winners, _digit_rows(outputs["probabilities"]), strict=True)
        return b"".join([quoted[winner] + b"," + digits + b"\n" for winner, digits in rows])


def label_header(model: Described, label: str) -> Sequence[tuple[bytes, bytes]]:
    """Return the header that says which version a label stood for; none where no label was asked for."""
    described = {"name": model.manifest.name, "version": model.manifest.version, "label": label}
    return ((b"x-model", orjson.dumps(described)),) if label else ()


class Scoring:
    """What the platforms' protocols have in common; each subclass says where it answers and how it refuses."""

    name = "scoring"
    probe_path = ""

    def paths(self, model: Model, *, is_default: bool, is_newest: bool) -> Sequence[str]:
        """Return the predict paths of one model."""
        return self.predict_paths() if is_default and is_newest else []

    def predict_paths(self) -> Sequence[str]:
        """Return the paths at which the default model answers."""
        return ()

    def label_paths(self, model: Model, label: str) -> Sequence[str]:
        """Return none: most platforms know one model only."""
        return []

    def codec(self, model: Described, limits: Limits, label: str = "") -> Codec:
        """Return the codec of one model."""
        return ScoringCodec(model, limits, label)

    def claims(self, path: str) -> bool:
        """Return whether the path is one of the platform's."""
        return path in self.predict_paths()

    def page(self, site: ServerInfo, method: str, path: str) -> Answer | None:
        """Say why a predict path does not answer."""
        if path in self.predict_paths():
            names = ", ".join(site.registry.models) or "none is loaded"
            raise ServiceError(404, "no_default_model", f"Set default_model: there is no default among models {names}.")
        return None

    def failure(self, error: ServiceError, request_id: str) -> Answer:
        """Return the refusal with the code and sentence that MLflow's clients look for."""
        code = "BAD_REQUEST" if error.status < 500 else "INTERNAL_ERROR"
        body = {"error_code": code, "message": error.message, "details": list(error.details)}
        return _refusal(error, request_id, body)


class Invocations(Scoring):
    """SageMaker and MLflow: POST /invocations, GET /ping, and MLflow's GET /version and /health."""

    name = "invocations"

    def predict_paths(self) -> Sequence[str]:
        """Return the one path."""
        return ("/invocations",)

    def claims(self, path: str) -> bool:
        """Return whether the path is one of the platform's."""
        return path in ("/invocations", "/ping", "/version", "/health")

    def page(self, site: ServerInfo, method: str, path: str) -> Answer | None:
        """Answer /ping and /health, 200 once ready, and /version."""
        if path == "/invocations":
            return super().page(site, method, path)
        if method not in ("GET", "HEAD"):
            message = f"Method {method:.20} not allowed; use GET."
            raise ServiceError(405, "method_not_allowed", message, allow="GET, HEAD")
        if path == "/version":
            return Answer(200, (TEXT,), batchproof.__version__.encode())
        return Answer(200 if site.is_ready else 503, (TEXT,), b"\n")


class Vertex(Scoring):
    """Vertex AI: the routes that AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE name, where they are set."""

    name = "vertex"

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Take the routes from the platform's environment.

        A predict route of another protocol, with a model's name in it, is left to that protocol: rawPredict sends any body.
        """
        route = environment.get("AIP_PREDICT_ROUTE", "")
        self._predict = "" if route.startswith(("/v1/models/", "/v2/")) else route
        self.probe_path = environment.get("AIP_HEALTH_ROUTE", "")

    def predict_paths(self) -> Sequence[str]:
        """Return the predict route, where there is one."""
        return (self._predict,) if self._predict else ()

    def claims(self, path: str) -> bool:
        """Return whether the path is one of the two routes."""
        return bool(path) and path in (self._predict, self.probe_path)

    def page(self, site: ServerInfo, method: str, path: str) -> Answer | None:
        """Answer the health route, 200 once ready; the platform's default is one route for both, and the method decides."""
        if path == self.probe_path and method in ("GET", "HEAD"):
            return Answer(200 if site.is_ready else 503, (JSON,), b"{}")
        return super().page(site, method, path)


class AzureMachineLearning(Scoring):
    """Azure ML: POST /score; its health routes may be any, and `GET /` answers."""

    name = "azure"

    def predict_paths(self) -> Sequence[str]:
        """Return the scoring route of Microsoft's own server."""
        return ("/score",)

    def failure(self, error: ServiceError, request_id: str) -> Answer:
        """Return {"message": sentence}."""
        return _refusal(error, request_id, {"message": error.message})


class Version1(Scoring):
    """KServe's first protocol and TensorFlow Serving's: POST /v1/models/{name}:predict."""

    name = "v1"

    def paths(self, model: Model, *, is_default: bool, is_newest: bool) -> Sequence[str]:
        """Return the predict paths of one model."""
        name, version = model.manifest.name, model.manifest.version
        paths = [f"/v1/models/{name}/versions/{version}:predict"]
        return [*paths, f"/v1/models/{name}:predict"] if is_newest else paths

    def label_paths(self, model: Model, label: str) -> Sequence[str]:
        """Return the path of one label, as TensorFlow Serving has it."""
        return [f"/v1/models/{model.manifest.name}/labels/{label}:predict"]

    def claims(self, path: str) -> bool:
        """Return whether the path is under the protocol's root."""
        return path.startswith("/v1/models")

    def page(self, site: ServerInfo, method: str, path: str) -> Answer | None:
        """List the models, and say of one whether it is ready."""
        name = path.removeprefix("/v1/models").strip("/").split("/")[0].split(":")[0]
        if name and name not in site.registry.models:
            raise unknown_model(name, list(site.registry.models))
        if method not in ("GET", "HEAD"):
            return None
        content = {"name": name, "ready": site.is_ready} if name else {"models": list(site.registry.models)}
        return Answer(200, (JSON,), orjson.dumps(content))

    def failure(self, error: ServiceError, request_id: str) -> Answer:
        """Return {"error": sentence}."""
        return _refusal(error, request_id, {"error": error.message})


def _refusal(error: ServiceError, request_id: str, body: Mapping[str, Any]) -> Answer:
    """Return a refusal in a platform's own shape; the platforms know 400 where the native routes say 422."""
    status = 400 if error.status == 422 else error.status
    return Answer(status, [JSON, *error.headers, (b"x-request-id", request_id.encode())], orjson.dumps(body))


def _digit_rows(values: np.ndarray) -> list[bytes]:
    """Return the shortest digits of each row of `values` [rows, width], with commas between."""
    if not len(values):
        return []
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[2:-2].split(b"],[")


def _csv_cell(text: str) -> bytes:
    needs_quotes = any(character in text for character in ',"\r\n')
    return (f'"{text.replace(chr(34), chr(34) * 2)}"' if needs_quotes else text).encode()
