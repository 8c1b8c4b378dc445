"""One OpenAPI document of all routes."""

from typing import Any

from fastapi import FastAPI

from batchproof.service.server.app import App
from batchproof.service.server.openapi.native import SCHEMAS, refusal


def openapi(app: FastAPI, service: App) -> dict[str, Any]:
    """Return one document of the pages' and all dialects' routes."""
    document = app.openapi()
    document["openapi"] = "3.1.0"
    document["tags"] = [{"name": "predict"}, {"name": "models"}, {"name": "health"}]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(SCHEMAS)
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None)
            operation["responses"]["404"] = refusal("There is no such model or version.")
    predict: dict[str, Any] = {}
    for versions in service.registry.models.values():
        for model in versions.values():
            for dialect in service.dialects:
                described = dialect.document(model)
                predict |= {path: described[path] for path in described if path in service.routes}
    document["paths"] = {**predict, **document["paths"], **_health()}
    return document


def _health() -> dict[str, Any]:
    answer = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "/health/live": {
            "get": {
                "tags": ["health"],
                "summary": "Is the process alive?",
                "responses": {"200": {"description": "It is.", **answer}},
            }
        },
        "/health/ready": {
            "get": {
                "tags": ["health"],
                "summary": "Are requests taken, and by which models?",
                "responses": {
                    "200": {"description": "They are.", **answer},
                    "503": {"description": "They are not.", **answer},
                },
            }
        },
    }
