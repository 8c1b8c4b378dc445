"""The Open Inference Protocol, version 2, over HTTP: what KServe, Triton and MLServer clients speak.

POST /v2/models/{name}[/versions/{version}]/infer, and the pages in service/protocols/oip/metadata.py. Rows come as one tensor a
feature (numbers, or BYTES for categories and dates), or as the matrix `features` [rows, features] where every feature
is numeric. The outputs are `label` and `probabilities` for classes, `value` for a regression.
"""

from collections.abc import Mapping

import numpy as np
import orjson

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.errors import ServiceError
from batchproof.service.inference.model import Described, Model
from batchproof.service.protocols.interface import JSON, Answer, Call, Codec, Decoded, Limits, ServerInfo
from batchproof.service.protocols.oip.metadata import page
from batchproof.service.protocols.oip.request import RequestReader, Wanted
from batchproof.service.protocols.oip.response import ResponseWriter

# What the protocol answers with 400, the native routes with a status of their own.
AS_BAD_REQUEST = {422}


class OpenInference:
    """The protocol."""

    name = "oip"
    probe_path = ""

    def paths(self, model: Model, *, is_default: bool, is_newest: bool) -> list[str]:
        """Return the infer paths of one model."""
        name, version = model.manifest.name, model.manifest.version
        paths = [f"/v2/models/{name}/versions/{version}/infer"]
        return [*paths, f"/v2/models/{name}/infer"] if is_newest else paths

    def label_paths(self, model: Model, label: str) -> list[str]:
        """Return none: the protocol knows versions only."""
        return []

    def codec(self, model: Described, limits: Limits, label: str = "") -> Codec:
        """Return the codec of one model."""
        return OpenInferenceCodec(model.manifest, limits)

    def claims(self, path: str) -> bool:
        """Return whether the path is one of the protocol's."""
        return path == "/v2" or path.startswith("/v2/")

    def page(self, site: ServerInfo, method: str, path: str) -> Answer | None:
        """Answer health, metadata and what else Triton's client asks for."""
        return page(site, method, path)

    def failure(self, error: ServiceError, request_id: str) -> Answer:
        """Return {"error": sentence}, which clients of the protocol need on every failure."""
        status = 400 if error.status in AS_BAD_REQUEST else error.status
        headers = [JSON, *error.headers, (b"x-request-id", request_id.encode())]
        return Answer(status, headers, orjson.dumps({"error": error.message}))


class OpenInferenceCodec:
    """One model's infer requests and answers."""

    note_type = Wanted

    def __init__(self, manifest: Manifest, limits: Limits) -> None:
        """Prebuild the reader and the writer."""
        self._reader = RequestReader(manifest, output_names(manifest), limits)
        self._writer = ResponseWriter(manifest)

    def decode(self, call: Call) -> Decoded:
        """Return the request's rows; raises ServiceError."""
        return self._reader.read(call)

    def decode_good(self, call: Call) -> Decoded | None:
        """Read a matrix of good rows in JSON; None for any other body. Raises ServiceError."""
        return self._reader.read_good(call)

    def decode_raw(self, call: Call) -> Decoded | None:
        """Read rows that are numbers as bytes; None for any other body. Raises ServiceError."""
        return self._reader.read_raw(call)

    def encode(self, call: Call, decoded: Decoded, outputs: Mapping[str, np.ndarray]) -> Answer:
        """Return the outputs that the request asked for."""
        return self._writer.write(call, decoded.note, outputs)


def output_names(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the outputs that a request may ask for; all of them are the default."""
    if manifest.signature.classes is None:
        return ("value", "quantiles") if manifest.quantiles else ("value",)
    return ("label", "probabilities")
