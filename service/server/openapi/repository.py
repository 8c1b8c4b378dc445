"""The OpenAPI items of the model repository extension. Loaded when the document is first asked for."""

from typing import Any

from batchproof.service.inference.catalogue.registry import Registry
from batchproof.service.server.openapi.oip import ERROR
from batchproof.service.server.reload.repository_control import INDEX_PATH

TAGS = ["model repository"]
WRONG_BODY = "The body is not JSON, or has other keys"


def repository_paths(registry: Registry, *, is_explicit: bool) -> dict[str, Any]:
    """Return {path: item}: the index, and where callers may load and unload models, both for each known model."""
    paths = {INDEX_PATH: {"post": _index()}}
    if is_explicit:
        for name in sorted({*registry.names, *(name for name, _ in registry.unloaded)}):
            paths |= {
                f"/v2/repository/models/{name}/{kind}": {"post": _order(kind, name)} for kind in ("load", "unload")
            }
    return paths


def _index() -> dict[str, Any]:
    version = {
        "type": "object",
        "required": ["name", "version", "state", "reason"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "state": {"enum": ["READY", "UNAVAILABLE"]},
            "reason": {"type": "string"},
        },
    }
    ready = {"type": "boolean", "description": "Whether to list only versions that answer"}
    return {
        "summary": "List every version that is known, its state and the reason",
        "tags": TAGS,
        "requestBody": _body("ready", ready),
        "responses": {
            "200": {"description": "The versions", **_json({"type": "array", "items": version})},
            "400": {"description": WRONG_BODY, **_json(ERROR)},
            "413": {"description": "The body is too large", **_json(ERROR)},
        },
    }


def _order(kind: str, name: str) -> dict[str, Any]:
    done = {
        "load": "The version of the folder that the settings choose answers in every process",
        "unload": "The model answers in no process",
    }
    failed = {
        "load": "It cannot be served, and the reason; what was served before still is. Or: the body is wrong",
        "unload": "No such model is loaded, or the body is wrong",
    }
    properties = {"unload_dependents": {"type": "boolean"}} if kind == "unload" else {}
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return {
        "summary": f"{kind.capitalize()} {name}",
        "tags": TAGS,
        "requestBody": _body("parameters", parameters),
        "responses": {
            "200": {"description": done[kind]},
            "400": {"description": failed[kind], **_json(ERROR)},
            "413": {"description": "The body is too large", **_json(ERROR)},
        },
    }


def _body(key: str, schema: dict[str, Any]) -> dict[str, Any]:
    content = {"type": "object", "properties": {key: schema}, "additionalProperties": False}
    return {"required": False, **_json(content)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}
