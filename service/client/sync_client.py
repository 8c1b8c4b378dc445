"""The client that waits for its answers; it needs only the standard library."""

import http.client
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack, overload

from batchproof.service.client.codecs.row_codec import Prediction
from batchproof.service.client.connection import (
    ClientCertificate,
    checked_url,
    request_headers,
    tls_context,
    with_trace,
)
from batchproof.service.client.messages import NO_RESPONSE, RefusedError, Request, Response, settled
from batchproof.service.client.model import Description, Summary
from batchproof.service.client.options import Options, PredictOptions
from batchproof.service.client.progress import Progress, progress_of
from batchproof.service.client.retries import Retries
from batchproof.service.client.sans_io import Dialogue, Result, Steps

Row = Mapping[str, Any] | Sequence[Any]


class Client:
    """One model of one service, over one connection that is kept open. Not for several threads at once."""

    def __init__(  # noqa: PLR0913 - each is a setting that callers name
        self,
        url: str,
        model: str | None = None,
        version: int | None = None,
        *,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        verify: bool = True,
        cafile: str | None = None,
        client_cert: ClientCertificate | None = None,
    ) -> None:
        """Use `model` at `url`, its newest version by default; `headers` are sent with every request.

        Without `model` it is the service's default model: the only one, or the one that `default_model` names.
        `timeout_s` is how long one attempt may take to connect, and then to send or receive each part. `api_key`
        is sent as `Authorization: Bearer`; its default is the environment variable BATCHPROOF_CLIENT_API_KEY. For https, `cafile`
        holds the certificates to trust instead of the system's, `verify=False` trusts any, and `client_cert` is the
        client's own certificate: a file, or (certificate, key), or (certificate, key, password).
        """
        address = checked_url(url)
        context = tls_context(address, verify, cafile, client_cert)
        host = address.hostname or ""
        self._connection = (
            http.client.HTTPConnection(host, address.port, timeout=timeout_s)
            if context is None
            else http.client.HTTPSConnection(host, address.port, timeout=timeout_s, context=context)
        )
        self._root = address.path.rstrip("/")
        self._dialogue = Dialogue(model, version)
        self._retries = retries or Retries()
        self._headers = request_headers(headers, api_key)

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

    def ready(self) -> bool:
        """Return whether the service answers predictions now; False where it cannot be reached."""
        return self._run(self._dialogue.ready())

    def models(self) -> list[Summary]:
        """Return the models that are served."""
        return self._run(self._dialogue.models())

    def model(self, name: str | None = None, version: int | None = None) -> Description:
        """Return what the service says of the model `name`, or of the client's own, for which it is asked once."""
        return self._run(self._dialogue.model(name, version))

    @overload
    def predict(self, rows: Mapping[str, Any], **options: Unpack[PredictOptions]) -> Prediction: ...
    @overload
    def predict(self, rows: Sequence[Row], **options: Unpack[PredictOptions]) -> list[Prediction]: ...
    @overload
    def predict(self, rows: Any, **options: Unpack[PredictOptions]) -> Any: ...

    def predict(
        self,
        rows: Any,
        *,
        on_error: str = "stop",
        coverage: float | None = None,
        explain: bool = False,
        detail: bool = False,
        progress: Progress | bool | None = None,
    ) -> Any:
        """Return the prediction of a row, a list of them for rows, or for a frame the frame with columns added.

        A row is {feature: value}, or a list in the model's order. With on_error "row" instead of "stop" a bad row gets
        {"error": ...} in its place; for a frame that is a ValueError. `coverage` adds a prediction set or interval,
        `explain` what each feature added, `detail` the saturation of exact arithmetic. `progress` is called with the
        rows answered and the rows in all after each request; True draws a bar. Raises RefusedError, TypeError for
        anything but rows, ValueError for a column that is there twice, or OSError where the service cannot be reached.
        """
        options = Options(on_error, coverage, explain, detail)
        return self._run(self._dialogue.predict(rows, options, progress_of(progress)))

    def _run(self, steps: Steps[Result]) -> Result:
        try:
            request = next(steps)
            while True:
                try:
                    response = self._send(request)
                except RefusedError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(response)
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
            pause_s = settled(self._retries, tries, request, response, failure)
            if pause_s is None:
                return response or NO_RESPONSE
            time.sleep(pause_s)

    def _try(self, request: Request) -> Response:
        headers = with_trace({**self._headers, **request.headers})
        self._connection.request(request.method, self._root + request.path, request.body or None, headers)
        answer = self._connection.getresponse()
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
