"""What a predict route may be refused with, whichever protocol it speaks: for the OpenAPI document."""

from typing import Any

SHARED = {
    "413": "The body is too large",
    "429": "The queue is full",
    "500": "The engine failed",
    "503": "The service is not ready or is shutting down",
    "504": "The deadline passed before the rows could run",
}


def refusals(schema: dict[str, Any], wrong: str, foreign: str) -> dict[str, Any]:
    """Return {status: response}; `wrong` tells of 400, `foreign` of 415, `schema` is of the protocol's error."""
    texts = {"400": wrong, "415": foreign, **SHARED}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": texts[status], "content": content} for status in sorted(texts)}
