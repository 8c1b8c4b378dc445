"""The client for asyncio, on httpx, which is loaded when one is made."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

from batchproof.service.client.messages import Request, Response, settled
from batchproof.service.client.model import Described, Prediction, Row
from batchproof.service.client.retries import Retries
from batchproof.service.client.sans_io import Dialogue, Result, Steps


class AsyncClient:
    """One model of one service. Any number of tasks may ask at once; it keeps their connections open."""

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

        Without `model` it is the service's default model, as for `Client`.
        """
        import httpx

        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_s, headers=dict(headers or {}))
        self._failures: type[Exception] = httpx.TransportError
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

    async def model(self) -> Described:
        """Return what the service says of the model; it is asked once."""
        return await self._run(self._dialogue.model())

    @overload
    async def predict(self, rows: Mapping[str, Any], *, on_error: str = ...) -> Prediction: ...
    @overload
    async def predict(self, rows: Sequence[Row], *, on_error: str = ...) -> list[Prediction]: ...
    @overload
    async def predict(self, rows: Any, *, on_error: str = ...) -> Any: ...

    async def predict(self, rows: Any, *, on_error: str = "stop") -> Any:
        """Return what `Client.predict` returns."""
        return await self._run(self._dialogue.predict(rows, on_error))

    async def _run(self, steps: Steps[Result]) -> Result:
        try:
            request = next(steps)
            while True:
                request = steps.send(await self._send(request))
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
            pause_s = settled(self._retries, tries, response, failure)
            if pause_s is None:
                assert response is not None, "what is settled has an answer"
                return response
            await asyncio.sleep(pause_s)

    async def _try(self, request: Request) -> Response:
        answer = await self._http.request(
            request.method, request.path, content=request.body or None, headers=dict(request.headers)
        )
        return Response(
            answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content
        )
