"""The requests and responses of both clients as plain values, independent of the transport."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from batchproof.service.client.retries import Retries

ROW = re.compile(r"^row (\d+)")


class Request(NamedTuple):
    """A request, ready to be sent."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    first_row: int = 0  # of the caller's rows, where a long list goes in several requests
    is_probe: bool = False  # not asked again; every answer is returned, a refusal or none (status 0) too


class Response(NamedTuple):
    """An answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


NO_RESPONSE = Response(0, {}, b"")


class RefusedError(Exception):
    """The service refused: its sentence, its status and code, and what it says of each bad row.

    A value that no request can hold is refused in the same form before anything is sent.
    """

    def __init__(self, status: int, code: str, message: str, details: list[dict[str, Any]]) -> None:
        """Hold what the service said."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it travel to another process."""
        return RefusedError, (self.status, self.code, self.message, self.details)


def checked(response: Response, first_row: int = 0) -> Response:
    """Return an answer with status 200; raises RefusedError for any other, its rows numbered as the caller's are."""
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
    error = renumbered(
        {"code": error.get("code", ""), "message": message, "details": error.get("details", [])}, first_row
    )
    raise RefusedError(response.status, error["code"], error["message"], error["details"])


def renumbered(error: dict[str, Any], first_row: int) -> dict[str, Any]:
    """Return an error of the service with `first_row` added to the rows that it names."""
    if not first_row:
        return error
    details = [
        {**detail, "row": detail["row"] + first_row} if isinstance(detail.get("row"), int) else detail
        for detail in error["details"]
    ]
    message = ROW.sub(lambda match: f"row {int(match[1]) + first_row}", error["message"])
    return {**error, "message": message, "details": details}


def settled(
    retries: Retries, tries: int, request: Request, response: Response | None, failure: Exception | None
) -> float | None:
    """Return how long to wait before asking again, or None where the answer is there and is final.

    Raises RefusedError for a refusal, and ConnectionError if there is no answer and no retry is left.
    """
    if request.is_probe:
        return 0.0 if response is None and tries == 1 else None  # a connection that was kept open may have ended
    status, headers = (response.status, response.headers) if response else (None, {})
    pause_s = retries.pause_s(tries, status, headers)
    if pause_s is None:
        if response is None:
            raise ConnectionError(f"the service does not answer: {failure}") from failure
        checked(response, request.first_row)
    return pause_s
