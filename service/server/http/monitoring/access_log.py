"""The line in the log for a request that no predict endpoint answers and logs: pages, probes, tables, wrong routes."""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from batchproof.service.protocols.head import RequestHead
from batchproof.service.runtime.logs import event

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answering = Callable[[Receive, Send], Awaitable[Mapping[str, Any]]]  # returns further fields of the line


async def logged(answering: Answering, head: RequestHead, receive: Receive, send: Send) -> None:
    """Answer with `answering` and log the status that was sent; a caller that left before that gets no line."""
    started_s = time.perf_counter()
    status: int | None = None

    async def send_seen(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)

    fields = await answering(receive, send_seen)
    if status is not None:
        log_answer(head, status, started_s, **fields)


def log_answer(head: RequestHead, status: int, started_s: float, **fields: Any) -> None:
    """Log one answer; `started_s` is of time.perf_counter."""
    event(
        "request",
        request_id=head.request_id,
        method=head.method,
        path=head.path,
        **head.log_fields,
        status=status,
        **fields,
        seconds=round(time.perf_counter() - started_s, 6),
    )
