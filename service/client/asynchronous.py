"""The client for asyncio, on httpx, which is loaded when one is made."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

from service.client.exchange import Request, Response, checked
from service.client.frames import extended, is_frame, parts
from service.client.model import ROWS_A_REQUEST, Address, Described, Prediction, Row, described, predictions
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
        found: list[Prediction] = []
        for start in range(0, len(rows), ROWS_A_REQUEST):
            request = self._address.rows(rows[start : start + ROWS_A_REQUEST], on_error)
            found += predictions(await self._send(request))
        return found

    async def _predict_frame(self, frame: Any) -> Any:
        from service.client.answers import joined
        from service.client.tensors import packed, unpacked

        model = await self.model()
        requests = [self._address.tensors(*packed(part, model)) for part in parts(frame, ROWS_A_REQUEST)]
        answers = [unpacked(await self._send(request), model) for request in requests]
        return extended(frame, joined(answers))

    async def _send(self, request: Request) -> Response:
        tries = 0
        while True:
            tries += 1
            response, failure = None, None
            try:
                response = await self._try(request)
            except self._failures as error:
                failure = error
            status, headers = (response.status, response.headers) if response else (None, {})
            pause_s = self._retries.pause_s(tries, status, headers)
            if pause_s is None:
                if response is None:
                    raise ConnectionError(f"the service does not answer: {failure}") from failure
                return checked(response)
            await asyncio.sleep(pause_s)

    async def _try(self, request: Request) -> Response:
        answer = await self._http.request(
            request.method, request.path, content=request.body or None, headers=dict(request.headers)
        )
        return Response(
            answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content
        )
