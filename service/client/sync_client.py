"""The client that waits for its answers, on the standard library alone."""

import http.client
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload
from urllib.parse import urlsplit

from batchproof.service.client.messages import Request, Response, settled
from batchproof.service.client.model import Described, Prediction, Row
from batchproof.service.client.retries import Retries
from batchproof.service.client.sans_io import Dialogue, Result, Steps


class Client:
    """One model of one service, over one connection that is kept open. Not for several threads at once."""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        version: int | None = None,
        *,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Ask `model` at `url`, its newest version unless one is named; `headers` go with every request.

        Without `model` it is the service's default model: the only one, or the one that `default_model` names.
        `timeout_s` is how long one try may take to connect, and then to send or receive anything at all.
        """
        found = urlsplit(url)
        if found.scheme not in ("http", "https") or not found.hostname:
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8000")
        kind = http.client.HTTPSConnection if found.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(found.hostname, found.port, timeout=timeout_s)
        self._root = found.path.rstrip("/")
        self._dialogue = Dialogue(model, version)
        self._retries = retries or Retries()
        self._headers = dict(headers or {})

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def model(self) -> Described:
        """Return what the service says of the model; it is asked once."""
        return self._run(self._dialogue.model())

    @overload
    def predict(self, rows: Mapping[str, Any], *, on_error: str = ...) -> Prediction: ...
    @overload
    def predict(self, rows: Sequence[Row], *, on_error: str = ...) -> list[Prediction]: ...
    @overload
    def predict(self, rows: Any, *, on_error: str = ...) -> Any: ...

    def predict(self, rows: Any, *, on_error: str = "stop") -> Any:
        """Return the prediction of a row, a list of them for rows, or for a frame the frame with columns more.

        A row is {feature: value}, or a list in the model's order. With on_error "row" instead of "stop" a bad row gets
        {"error": ...} in its place; for a frame that is a ValueError. Raises RefusedError, TypeError for what is no
        rows, or OSError where the service cannot be reached.
        """
        return self._run(self._dialogue.predict(rows, on_error))

    def _run(self, steps: Steps[Result]) -> Result:
        try:
            request = next(steps)
            while True:
                request = steps.send(self._send(request))
        except StopIteration as done:
            result: Result = done.value
            return result

    def _send(self, request: Request) -> Response:
        tries = 0
        while True:
            tries += 1
            response, failure = None, None
            try:
                response = self._try(request)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                failure = error
            pause_s = settled(self._retries, tries, response, failure)
            if pause_s is None:
                assert response is not None, "what is settled has an answer"
                return response
            time.sleep(pause_s)

    def _try(self, request: Request) -> Response:
        headers = {**self._headers, **request.headers}
        self._connection.request(request.method, self._root + request.path, request.body or None, headers)
        answer = self._connection.getresponse()
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
