"""The ASGI application: predict routes are looked up in one table; everything else goes to the pages.

The predict path awaits nothing but the body and the answer. FastAPI, which serves the pages and writes the OpenAPI
document, is imported when the first page is asked for: a prediction does not need it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.logs import event
from batchproof.service.protocols.compression import ENCODING_HEADER, unpacked
from batchproof.service.protocols.head import ID_HEADER, identified, request_id_of, special
from batchproof.service.protocols.interface import Answer, Headers, WireProtocol
from batchproof.service.server.app import App
from batchproof.service.server.endpoint import PredictEndpoint
from batchproof.service.server.http.access_log import Message, Receive, Scope, Send, logged, tell
from batchproof.service.server.http.cors import Origins
from batchproof.service.server.http.health import health
from batchproof.service.server.http.router import check_query
from batchproof.service.tables.formats import wants_table
from batchproof.service.tables.streaming.body import GoneError
from batchproof.service.tables.streaming.endpoint import TableRoute
from batchproof.service.tables.streaming.stream import BrokenOffError

Pages = Callable[[Scope, Receive, Send], Awaitable[None]]


class CallerGoneError(Exception):
    """The caller closed the connection before its request was whole."""


class AsgiApp:
    """One process's ASGI application."""

    def __init__(self, service: App) -> None:
        """Serve what `service` has loaded."""
        self.service = service
        self.origins = Origins(service.settings.allowed_origins)
        self._max_body_bytes = service.settings.max_body_bytes
        self._pages: asyncio.Future[Pages] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; lifespan and WebSockets have no part here."""
        if scope["type"] != "http":
            await _refuse_protocol(scope, receive, send)
            return
        scope["headers"] = identified(scope["headers"])
        route = self._route(scope)
        answering = partial(self._answer, route)
        if self.service.settings.access_log and not isinstance(route, PredictEndpoint):
            await logged(answering, scope, receive, send)
        else:
            await answering(scope, receive, send)

    def refuse(self, error: ServiceError, method: str, path: str, headers: Headers) -> Answer:
        """Return, and log, the refusal of a request that is not read to its end."""
        headers = identified(headers)
        started_s = time.perf_counter()
        answer = self._failure(error, path, headers)
        if self.service.settings.access_log:
            tell(method, path, headers, answer.status, started_s, code=error.code)
        return answer

    async def _answer(
        self, route: PredictEndpoint | TableRoute | None, scope: Scope, receive: Receive, send: Send
    ) -> dict[str, Any]:
        """Answer one request; returns what the log may say of it: `rows` of a table, `code` of a refusal."""
        headers, path = scope["headers"], scope["path"]
        answer: Answer | None
        further: dict[str, Any] = {}
        try:
            cors = self.origins.check(headers)
            if isinstance(route, PredictEndpoint):
                if scope["query_string"] and path in self.service.tables:
                    check_query(scope["query_string"])
                answer = await self._predict(route, headers, receive)
            elif route is not None:
                return {"rows": await route.answer(scope["query_string"], headers, receive, send, cors)}
            elif cors and scope["method"] == "OPTIONS":
                answer = self.origins.preflight()
            else:
                cors = [*cors, (ID_HEADER, request_id_of(special(headers)).encode())]
                answer = self._page(scope["method"], path)
        except ServiceError as error:
            cors, further = [], {"code": error.code}
            answer = (
                route.refuse(error, headers)
                if isinstance(route, PredictEndpoint)
                else self._failure(error, path, headers)
            )
        except (CallerGoneError, GoneError, BrokenOffError):
            return further
        if answer is None:
            await (await self._load_pages())(scope, receive, _with_headers(send, cors))
        else:
            await _send(send, answer, cors)
        return further

    def _route(self, scope: Scope) -> PredictEndpoint | TableRoute | None:
        """Return what answers, counts and logs a prediction, or answers where a table comes or is wanted."""
        if scope["method"] != "POST":
            return None
        path = scope["path"]
        table = self.service.tables.get(path)
        return table if table and wants_table(special(scope["headers"])) else self.service.routes.get(path)

    def _failure(self, error: ServiceError, path: str, headers: Headers) -> Answer:
        """Return a refusal in the shape of the dialect that the path belongs to."""
        dialect, request_id = self.dialect_of(path), request_id_of(special(headers))
        if error.status >= 500:
            event("request_failed", 40, request_id=request_id, route=dialect.name, code=error.code)
        return dialect.failure(error, request_id)

    def dialect_of(self, path: str) -> WireProtocol:
        """Return the dialect that claims `path`, else the native one."""
        return self._claiming(self._local(path)) or self.service.dialects[0]

    def _claiming(self, path: str) -> WireProtocol | None:
        """Return the last dialect that claims `path`: as in the route table, a later one has it its way."""
        return next((dialect for dialect in reversed(self.service.dialects) if dialect.claims(path)), None)

    def _local(self, path: str) -> str:
        """Return the path without the prefix that a proxy put before it."""
        prefix = self.service.settings.root_path
        return path.removeprefix(prefix) if path.startswith(prefix + "/") else path

    def _page(self, method: str, path: str) -> Answer | None:
        """Answer what needs no page; None sends the request to the pages."""
        is_predict_route = path in self.service.routes
        path = self._local(path)
        dialect = self._claiming(path)
        is_probe = dialect is not None and path == dialect.probe_path and method in ("GET", "HEAD")
        if is_predict_route and not is_probe:
            raise ServiceError(405, "method_not_allowed", f"{method} is not taken here; POST is.", allow="POST")
        if answer := health(self.service, method, path):
            return answer
        if dialect is None:
            return None
        answer = dialect.page(self.service.site, method, path)
        if answer is None:
            raise ServiceError(404, "not_found", f"There is nothing at {path}.")
        return answer

    async def _predict(self, exchange: PredictEndpoint, headers: Headers, receive: Receive) -> Answer:
        found = special(headers)
        try:
            body = await read_body(receive, headers, self._max_body_bytes)
            if ENCODING_HEADER in found:
                exchange.check_room(len(body), found)  # an overload is told before the work of unpacking
                body = unpacked(body, headers, self._max_body_bytes)
        except ServiceError as error:
            return exchange.refuse(error, headers)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        ticket = exchange.handle(body, headers, found, answered.set_result)
        try:
            return await answered
        except asyncio.CancelledError:
            if ticket is not None:
                exchange.cancel(ticket)
            raise

    async def _load_pages(self) -> Pages:
        loop = asyncio.get_running_loop()
        if self._pages is None:
            self._pages = loop.run_in_executor(None, _make_pages, self.service)
        return await asyncio.shield(self._pages)


async def read_body(receive: Receive, headers: Headers, limit_bytes: int) -> bytes:
    """Return the whole body; raises 413 as soon as it is, or is announced to be, longer than `limit_bytes`."""
    for name, value in headers:
        if name == b"content-length" and int(value) > limit_bytes:
            raise errors.body_too_large(limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body") or message["type"] != "http.request" or len(body) > limit_bytes:
        return await _read_rest(message, receive, limit_bytes)
    return body


async def _read_rest(message: Message, receive: Receive, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit_bytes:
            raise errors.body_too_large(limit_bytes)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def _send(send: Send, answer: Answer, further: Sequence[tuple[bytes, bytes]]) -> None:
    headers = [*answer.headers, *further, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _with_headers(send: Send, further: Sequence[tuple[bytes, bytes]]) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *further]}
        await send(message)

    return send_more if further else send


async def _refuse_protocol(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError("the server's life is run by batchproof.service.server.process")
    await receive()
    await send({"type": "websocket.close", "code": 1003})


def _make_pages(service: App) -> Pages:
    from batchproof.service.server.web import make_pages

    return make_pages(service)
