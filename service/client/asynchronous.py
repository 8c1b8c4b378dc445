"""The client for asyncio, on httpx, which is loaded when one is made."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

from service.client.exchange import Request, Response, settled
from service.client.frames import is_frame
from service.client.model import Address, Described, Prediction, Row, described, predictions
from service.client.retries import Retries


class AsyncClient:
    """One model of one service. Any number of tasks may ask at once; it keeps their connections open."""

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None = None,
        *,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Ask `model` at `url`, its newest version unless one is named; `headers` go with every request."""
        import httpx

        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_s, headers=dict(headers or {}))
        self._failures: type[Exception] = httpx.TransportError
        self._address = Address(model, version)
        self._retries = retries or Retries()
        self._described: Described | None = None

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
        if self._described is None:
            self._described = described(await self._send(self._address.describe()))
        return self._described

    @overload
    async def predict(self, rows: Mapping[str, Any]) -> Prediction: ...
    @overload
    async def predict(self, rows: Sequence[Row], *, on_error: str = ...) -> list[Prediction]: ...
    @overload
    async def predict(self, rows: Any) -> Any: ...

    async def predict(self, rows: Any, *, on_error: str = "request") -> Any:
        """Return what `Client.predict` returns."""
        if is_frame(rows):
            return await self._predict_frame(rows)
        if isinstance(rows, Mapping):
            return (await self.predict([rows]))[0]
        answers = [await self._send(one) for one in self._address.requests(rows, on_error)]
        return [prediction for answer in answers for prediction in predictions(answer)]

    async def _predict_frame(self, frame: Any) -> Any:
        from service.client import framed

        model = await self.model()
        answers = [await self._send(one) for one in framed.requests(self._address, frame, model)]
        return framed.extended(frame, answers, model)

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
