"""What the two clients send and get: plain values, whatever carries them."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from batchproof.service.client.retries import Retries


class Request(NamedTuple):
    """A request, ready to be sent."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]


class Response(NamedTuple):
    """An answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RefusedError(Exception):
    """The service refused: its sentence, its status and code, and what it says of each bad row."""

    def __init__(self, status: int, code: str, message: str, details: list[dict[str, Any]]) -> None:
        """Hold what the service said."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details


def checked(response: Response) -> Response:
    """Return an answer with status 200; raises RefusedError for any other."""
    if response.status == 200:
        return response
    try:
        content = json.loads(response.body)
    except ValueError:  # not the service's own: a proxy's page, say
        content = {}
    error = content.get("error", {}) if isinstance(content, dict) else {}
    if isinstance(error, str):  # as the Open Inference Protocol has it
        error = {"message": error}
    message = error.get("message", f"the service answered with status {response.status}")
    raise RefusedError(response.status, error.get("code", ""), message, error.get("details", []))


def settled(retries: Retries, tries: int, response: Response | None, failure: Exception | None) -> float | None:
    """Return how long to wait before asking again, or None where the answer is there and is taken.

    Raises RefusedError for an answer that is a refusal, and ConnectionError where there is none and no try is left.
    """
    status, headers = (response.status, response.headers) if response else (None, {})
    pause_s = retries.pause_s(tries, status, headers)
    if pause_s is None:
        if response is None:
            raise ConnectionError(f"the service does not answer: {failure}") from failure
        checked(response)
    return pause_s
