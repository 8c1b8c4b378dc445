"""The line in the log for a request that no `Exchange` answers and logs: pages, probes, tables, wrong routes."""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from batchproof.service.logs import event
from batchproof.service.protocols.head import request_id_of, special
from batchproof.service.protocols.interface import Headers

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answering = Callable[[Scope, Receive, Send], Awaitable[Mapping[str, Any]]]  # returns what else the line says


async def logged(answering: Answering, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with `answering` and log the status that was sent; a caller that went away before has no line."""
    started_s = time.perf_counter()
    status: int | None = None

    async def send_seen(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)

    further = await answering(scope, receive, send_seen)
    if status is not None:
        tell(scope["method"], scope["path"], scope["headers"], status, started_s, **further)


def tell(method: str, path: str, headers: Headers, status: int, started_s: float, **further: Any) -> None:
    """Log one answer; `started_s` is of time.perf_counter."""
    event(
        "request",
        request_id=request_id_of(special(headers)),
        method=method,
        path=path,
        status=status,
        **further,
        seconds=round(time.perf_counter() - started_s, 6),
    )
