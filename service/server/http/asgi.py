"""The ASGI application: what a connection does not answer itself, already resolved there by its head.

A prediction awaits nothing but its body and its answer. FastAPI, which serves the pages and writes the OpenAPI
document, is imported when the first page is asked for: a prediction does not need it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from batchproof.service import errors
from batchproof.service.errors import CallerGoneError, ServiceError
from batchproof.service.protocols.accept import preferred
from batchproof.service.protocols.compression import ENCODING_HEADER, unpacked
from batchproof.service.protocols.head import HEAD_KEY, ID_HEADER, SHORT_BODY_BYTES, RequestHead
from batchproof.service.protocols.interface import Answer, ServerInfo
from batchproof.service.protocols.oip.metadata import index_answer
from batchproof.service.runtime.threads import in_thread
from batchproof.service.server.http.cors import PREFLIGHT
from batchproof.service.server.http.hosts import host_fault
from batchproof.service.server.http.monitoring.access_log import Message, Receive, Scope, Send, observed
from batchproof.service.server.http.monitoring.health import health
from batchproof.service.server.http.router import TARGET_KEY, Resolved, router_of, without_slash
from batchproof.service.server.http.rules import standard_gate
from batchproof.service.server.http.unforeseen import Sending, Unforeseen, break_off
from batchproof.service.server.reload.repository_control import (
    INDEX_PATH,
    carry_out,
    is_ready_wanted,
    order_of,
    parameters_of,
)
from batchproof.service.server.serving.app import App
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.server.serving.gate import Gate, Page, Refusal
from batchproof.service.server.serving.in_flight import Share
from batchproof.service.tables.streaming.endpoint import TableEndpoint
from batchproof.service.tables.streaming.interface import BrokenOffError

if TYPE_CHECKING:
    from batchproof.service.server.web.pages.assets import Assets

Pages = Callable[[Scope, Receive, Send], Awaitable[None]]
CLOSE = (b"connection", b"close")
UNPACKED_ON_LOOP_BYTES = 1024  # become a megabyte at most, in a few milliseconds


class AsgiApp:
    """One process's ASGI application."""

    def __init__(self, app: App, gate: Gate | None = None) -> None:
        """Serve what `app` has loaded behind `gate`; without one, behind the gate that the settings ask for."""
        self.app = app
        self.router = router_of(app, gate or standard_gate(app.settings, app.authorization))
        self._pages: asyncio.Future[Pages] | None = None
        self._assets: Assets | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; lifespan and WebSockets have no part here."""
        if scope["type"] != "http":
            await _refuse_scope(scope, receive, send)
            return
        head, target = self._resolved(scope)
        sending = Sending(send)
        with Unforeseen(self.app, scope, head) as guard:
            await self._route(head, target, scope, receive, sending)
        if guard.error is not None:
            await self._fail(head, target, guard.error, scope, sending)

    async def _route(self, head: RequestHead, target: Resolved, scope: Scope, receive: Receive, send: Send) -> None:
        cors = self.router.origins.headers(head)
        if isinstance(target, Refusal):
            closing = [] if head.has_short_body else [CLOSE]
            await _send(send, self.router.refuse(head, target), [*cors, *closing])
        elif isinstance(target, PredictEndpoint):
            await self._predict(target, head, receive, send, cors)
        elif self.router.observer is not None and head.seen is not None:
            answering = partial(self._answer, target, head, scope, cors)
            await observed(answering, self.router.observer, head, head.seen, receive, send)
        else:
            await self._answer(target, head, scope, cors, receive, send)

    async def _fail(
        self, head: RequestHead, target: Resolved, error: ServiceError, scope: Scope, sending: Sending
    ) -> None:
        """Answer 500 in the shape of the target's protocol, or break off an answer that has begun."""
        if sending.has_begun:
            break_off(scope)
        else:
            target = target.target if isinstance(target, Refusal) else target
            await _send(sending, self.router.refuse(head, Refusal(error, target)), [CLOSE])

    def _resolved(self, scope: Scope) -> tuple[RequestHead, Resolved]:
        """Return the head and what answers it, as the connection resolved it; only other servers leave it to do here."""
        if TARGET_KEY not in scope:
            head = RequestHead(scope["method"], scope["path"], scope["query_string"], scope["headers"])
            head.sender = self.router.senders.at(scope.get("client"))
            fault = host_fault(head.headers, scope["http_version"])
            refusal = None if fault is None else self.router.refusal(head, errors.broken_http(fault))
            scope[HEAD_KEY], scope[TARGET_KEY] = head, refusal or self.router.resolve(head)
        return scope[HEAD_KEY], scope[TARGET_KEY]

    async def _answer(
        self,
        target: TableEndpoint | Page,
        head: RequestHead,
        scope: Scope,
        cors: Sequence[tuple[bytes, bytes]],
        receive: Receive,
        send: Send,
    ) -> str | None:
        """Answer with a table or a page; returns the code of a refusal."""
        try:
            if isinstance(target, TableEndpoint):
                await target.answer(head, receive, send, cors)
                return None
            answer = await self._repository(head, target, receive) or self._page(head, target)
            if answer is None and target.kind in ("asset", "page"):
                answer = await self._page_file(head, target)
        except ServiceError as error:
            await _send(send, self.router.failure(head, error, target), cors)
            return error.code
        except (BrokenOffError, CallerGoneError) as error:
            break_off(scope)
            return error.code if isinstance(error, BrokenOffError) else "cancelled"
        extra_headers = cors if target.kind == "preflight" else [*cors, (ID_HEADER, head.request_id.encode())]
        if answer is None:
            if target.path != "/":
                scope = {**scope, "path": self.app.real_path(without_slash(scope["path"]))}
            await (await self._load_pages())(scope, receive, _with_headers(send, extra_headers))
        else:
            await _send(send, answer, extra_headers)
        return None

    def _page(self, head: RequestHead, page: Page) -> Answer | None:
        """Answer what needs no page of FastAPI's; None leaves the request to those. Raises ServiceError."""
        if page.kind == "preflight":
            return PREFLIGHT
        if page.kind == "asset":
            return None
        if page.kind in ("health", "metrics"):
            is_brief = self.app.authorization is not None and head.grant is None
            return health(self.app, head, page.path, None if is_brief else self._visible_to(head).registry)
        if page.kind in ("page", "web"):
            return _without_slash(head, page)
        answer = page.protocol.page(self._visible_to(head), head.method, page.path)
        if answer is None:
            raise ServiceError(404, "not_found", f"There is nothing at {page.path}.")
        return answer

    async def _page_file(self, head: RequestHead, page: Page) -> Answer:
        """Answer with a page for people or one of its files, which are read and packed in a thread. Raises ServiceError."""
        from batchproof.service.server.web.pages.assets import Assets

        if self._assets is None:
            self._assets = Assets()
        answer = await in_thread(None, self._assets.answer, head, page.path)
        if answer is None:
            raise ServiceError(404, "not_found", f"There is nothing at {page.path}; /docs lists what there is.")
        return answer

    async def _repository(self, head: RequestHead, page: Page, receive: Receive) -> Answer | None:
        """List models, or load or unload one and answer when that is done; None for another page. Raises ServiceError."""
        if page.kind != "protocol" or head.method != "POST":
            return None
        if page.path == INDEX_PATH:
            is_ready = is_ready_wanted(await read_body(receive, SHORT_BODY_BYTES))
            return index_answer(self._visible_to(head).registry, is_ready=is_ready)
        order = order_of(page.path)
        if order is None:
            return None
        parameters = parameters_of(await read_body(receive, SHORT_BODY_BYTES))
        await carry_out(self.app, *order, parameters)
        return Answer(200, (), b"")

    def _visible_to(self, head: RequestHead) -> ServerInfo:
        """Return what a protocol's pages may show this caller: the models of its grant."""
        info = self.app.server_info
        return info if head.grant is None else info.only(head.grant.covers)

    async def _predict(
        self,
        endpoint: PredictEndpoint,
        head: RequestHead,
        receive: Receive,
        send: Send,
        cors: Sequence[tuple[bytes, bytes]],
    ) -> None:
        with Share(self.app.shared.in_flight) as share:
            try:
                body = await self._read(endpoint, head, receive, share)
            except ServiceError as error:
                await _send(send, endpoint.refuse(error, head), cors)
                return
            except CallerGoneError:
                return
            await _send(send, await self._answer_of(endpoint, body, head), cors)

    async def _read(self, endpoint: PredictEndpoint, head: RequestHead, receive: Receive, share: Share) -> bytes:
        """Return the body, unpacked; raises ServiceError and CallerGoneError."""
        limit_bytes = self.app.shared.limits.max_body_bytes
        body = await read_body(receive, limit_bytes, share.take)
        if ENCODING_HEADER not in head.special:
            return body
        if head.seen is not None:
            head.seen.bytes_in = len(body)
        endpoint.check_room(len(body), head)  # an overload is refused before the work of unpacking
        unpack = partial(unpacked, body, head.headers, limit_bytes, share.take)
        if len(body) <= UNPACKED_ON_LOOP_BYTES:
            return unpack()
        return await in_thread(self.app.shared.reading_executor, unpack)

    async def _answer_of(self, endpoint: PredictEndpoint, body: bytes, head: RequestHead) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(answer: Answer) -> None:
            if not answered.done():  # its task was cancelled in this turn of the loop and has not run since
                answered.set_result(answer)

        work = endpoint.handle(body, head, reply)
        try:
            return await answered
        except asyncio.CancelledError:
            if work is not None:
                endpoint.cancel(work)
            raise

    async def _load_pages(self) -> Pages:
        """Return FastAPI's pages, made once for all who wait; where that fails, the next request tries again."""
        if self._pages is None:
            self._pages = in_thread(None, _make_pages, self.app)
            self._pages.add_done_callback(self._keep_pages)
        return await asyncio.shield(self._pages)

    def _keep_pages(self, made: "asyncio.Future[Pages]") -> None:
        if made.cancelled() or made.exception() is not None:
            self._pages = None


def _without_slash(head: RequestHead, page: Page) -> Answer | None:
    """Send a browser from /docs/ to /docs, since links in a page are relative to its path; None for other requests."""
    has_slash = head.path.endswith("/") and not head.path.endswith("//") and page.path != "/"
    if (
        head.method not in ("GET", "HEAD")
        or not has_slash
        or preferred(head.special.get(b"accept"), ("application/json", "text/html")) != "text/html"
    ):
        return None
    return Answer(308, ((b"location", b"../" + quote(page.path.rpartition("/")[2]).encode()),), b"")


async def read_body(receive: Receive, limit_bytes: int, take: Callable[[int], None] = lambda _: None) -> bytes:
    """Return the whole body; raises 413 as soon as it is longer than `limit_bytes`.

    `take` is called with the length of each part before it is kept, and may refuse it.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise errors.body_too_large(limit_bytes)
        take(len(part))
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send(send: Send, answer: Answer, extra_headers: Sequence[tuple[bytes, bytes]]) -> None:
    headers = [*answer.headers, *extra_headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _with_headers(send: Send, extra_headers: Sequence[tuple[bytes, bytes]]) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *extra_headers]}
        await send(message)

    return send_more


async def _refuse_scope(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError("the server's life is run by batchproof.service.server.start.process")
    await receive()
    await send({"type": "websocket.close", "code": 1003})


def _make_pages(app: App) -> Pages:
    from batchproof.service.server.web.site import make_pages

    return make_pages(app)
