"""The OpenAPI items of the scoring platforms' routes. Loaded when the document is first asked for."""

from collections.abc import Sequence
from typing import Any

from batchproof.service.inference.model import Model
from batchproof.service.protocols.cloud.request import FORMS
from batchproof.service.server.openapi.errors import refusals

TITLES = {
    "invocations": "Score (SageMaker, MLflow)",
    "vertex": "Score (Vertex AI)",
    "azure": "Score (Azure ML)",
    "v1": "Score (KServe version 1, TensorFlow Serving)",
    "v1_explain": "Score and explain (KServe version 1)",
}


def cloud_paths(name: str, _model: Model, paths: Sequence[str]) -> dict[str, Any]:
    """Return {path: item}."""
    operation = {
        "summary": TITLES[name],
        "tags": ["scoring platforms"],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _request()}, "text/csv": {"schema": {"type": "string"}}},
        },
        "responses": {
            "200": {"description": "One prediction for each row", "content": {"application/json": {"schema": ANSWER}}},
            **refusals(
                {"type": "object"}, "The body or a row is wrong", "The content type or encoding is not supported"
            ),
        },
    }
    return {path: {"post": operation} for path in paths}


ANSWER = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}


def _request() -> dict[str, Any]:
    forms = [{"required": [form], "properties": {form: {"type": ["array", "object"]}}} for form in FORMS]
    return {"type": "object", "oneOf": forms}
