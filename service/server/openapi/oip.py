"""The OpenAPI items of the Open Inference Protocol's infer routes. Loaded when the document is first asked for."""

from collections.abc import Sequence
from typing import Any

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.inference.model import Model
from batchproof.service.protocols.oip.metadata import inputs_of, outputs_of
from batchproof.service.protocols.oip.tensors import DATATYPES
from batchproof.service.server.openapi.errors import refusals

PARAMETERS: dict[str, Any] = {"type": "object", "additionalProperties": True}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
ENCODINGS = "The content encoding is not gzip or deflate"


def oip_paths(model: Model, paths: Sequence[str]) -> dict[str, Any]:
    """Return {path: item} for one model's infer routes."""
    manifest = model.manifest
    operation = {
        "summary": f"Infer with {manifest.name} (Open Inference Protocol)",
        "tags": ["Open Inference Protocol"],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _request(manifest)}}},
        "responses": {
            "200": {"description": "The outputs", "content": {"application/json": {"schema": _response(manifest)}}},
            **refusals(ERROR, "The request is not one of the protocol, or its tensors do not fit the model", ENCODINGS),
        },
    }
    return {path: {"post": operation} for path in paths}


def _tensor(required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            "datatype": {"type": "string", "enum": list(DATATYPES)},
            "parameters": PARAMETERS,
            "data": {"type": "array"},
        },
    }


def _request(manifest: Manifest) -> dict[str, Any]:
    names = ", ".join(f"{one['name']} {one['datatype']}" for one in inputs_of(manifest))
    return {
        "type": "object",
        "required": ["inputs"],
        "description": f"Inputs: {names}",
        "properties": {
            "id": {"type": "string"},
            "parameters": PARAMETERS,
            "inputs": {"type": "array", "items": _tensor(["name", "shape", "datatype"])},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"enum": [one["name"] for one in outputs_of(manifest)]},
                        "parameters": PARAMETERS,
                    },
                },
            },
        },
    }


def _response(manifest: Manifest) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"const": manifest.name},
            "model_version": {"const": str(manifest.version)},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _tensor(["name", "shape", "datatype"])},
        },
    }
