"""One request to a server under test, and its answer."""

import http.client
import json
from typing import Any, NamedTuple

from tests.live import Live


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        """Return the JSON."""
        return json.loads(self.body)


def ask(server: Live, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
    """Send text or bytes as they are and anything else as JSON; header names have _ for -."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body if isinstance(body, str | bytes) else json.dumps(body), named)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()
