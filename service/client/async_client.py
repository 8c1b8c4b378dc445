"""The client for asyncio. It uses httpx, which is loaded when a client is created."""

import asyncio
from collections.abc import Mapping, Sequence
from types import ModuleType, TracebackType
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
from batchproof.service.client.sync_client import Row


def _httpx() -> ModuleType:
    """Return httpx; raises ImportError with the command that installs it."""
    try:
        import httpx
    except ImportError as error:
        from batchproof.installation import hint

        raise ImportError(f"AsyncClient needs httpx, which is not installed: {hint('client')}") from error
    return httpx


class AsyncClient:
    """One model of one service. Any number of tasks may use it at the same time; it keeps connections open."""

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
        """Ask `model` at `url`, its newest version unless one is named; everything is as for `Client`."""
        httpx = _httpx()
        context = tls_context(checked_url(url), verify, cafile, client_cert)
        self._headers = request_headers(headers, api_key)
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=timeout_s,
            verify=True if context is None else context,
        )
        # A server that refuses a certificate says so in the first read, and httpx passes that error on as it is.
        self._failures: tuple[type[Exception], ...] = (httpx.TransportError, OSError)
        self._dialogue = Dialogue(model, version)
        self._retries = retries or Retries()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ready(self) -> bool:
        """Return whether the service answers predictions now; False where it cannot be reached."""
        return await self._run(self._dialogue.ready())

    async def models(self) -> list[Summary]:
        """Return the models that are served."""
        return await self._run(self._dialogue.models())

    async def model(self, name: str | None = None, version: int | None = None) -> Description:
        """Return what the service says of the model `name`, or of the client's own, for which it is asked once."""
        return await self._run(self._dialogue.model(name, version))

    @overload
    async def predict(self, rows: Mapping[str, Any], **options: Unpack[PredictOptions]) -> Prediction: ...
    @overload
    async def predict(self, rows: Sequence[Row], **options: Unpack[PredictOptions]) -> list[Prediction]: ...
    @overload
    async def predict(self, rows: Any, **options: Unpack[PredictOptions]) -> Any: ...

    async def predict(
        self,
        rows: Any,
        *,
        on_error: str = "stop",
        coverage: float | None = None,
        explain: bool = False,
        detail: bool = False,
        progress: Progress | bool | None = None,
    ) -> Any:
        """Return what `Client.predict` returns."""
        options = Options(on_error, coverage, explain, detail)
        return await self._run(self._dialogue.predict(rows, options, progress_of(progress)))

    async def _run(self, steps: Steps[Result]) -> Result:
        try:
            request = next(steps)
            while True:
                try:
                    response = await self._send(request)
                except RefusedError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(response)
        except StopIteration as done:
            result: Result = done.value
            return result

    async def _send(self, request: Request) -> Response:
        tries = 0
        while True:
            tries += 1
            response, failure = None, None
            try:
                response = await self._try(request)
            except self._failures as error:
                failure = error
            pause_s = settled(self._retries, tries, request, response, failure)
            if pause_s is None:
                return response or NO_RESPONSE
            await asyncio.sleep(pause_s)

    async def _try(self, request: Request) -> Response:
        headers = with_trace({**self._headers, **request.headers})
        answer = await self._http.request(request.method, request.path, content=request.body or None, headers=headers)
        return Response(
            answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content
        )
