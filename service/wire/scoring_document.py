"""The OpenAPI items of the scoring platforms' routes. Loaded when the document is first asked for."""

from collections.abc import Sequence
from typing import Any

from service.wire.scoring_request import FORMS

TITLES = {
    "invocations": "Score (SageMaker, MLflow)",
    "vertex": "Score (Vertex AI)",
    "azure": "Score (Azure ML)",
    "v1": "Score (KServe version 1, TensorFlow Serving)",
}
REFUSALS = {
    "400": "The body or a row is wrong",
    "413": "The body is too large",
    "415": "The content type or encoding is not taken",
    "429": "The queue is full",
    "500": "The engine failed",
    "503": "The service is not ready or is shutting down",
    "504": "The deadline passed before the rows could run",
}


def paths_of(name: str, paths: Sequence[str]) -> dict[str, Any]:
    """Return {path: item}."""
    error = {"application/json": {"schema": {"type": "object"}}}
    operation = {
        "summary": TITLES[name],
        "tags": ["Scoring platforms"],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _request()}, "text/csv": {"schema": {"type": "string"}}},
        },
        "responses": {
            "200": {"description": "One prediction for each row", "content": {"application/json": {"schema": ANSWER}}},
            **{status: {"description": text, "content": error} for status, text in REFUSALS.items()},
        },
    }
    return {path: {"post": operation} for path in paths}


ANSWER = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}


def _request() -> dict[str, Any]:
    forms = [{"required": [form], "properties": {form: {"type": ["array", "object"]}}} for form in FORMS]
    return {"type": "object", "oneOf": forms}
