"""What is observed of a request that no predict endpoint answers: pages, probes, tables, wrong routes."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from batchproof.service import errors
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.runtime.tracing.observation import Observation

if TYPE_CHECKING:
    from batchproof.service.server.serving.observing.observer import Observer

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answering = Callable[[Receive, Send], Awaitable[str | None]]  # returns the code of a refusal


async def observed(
    answering: Answering, observer: "Observer", head: RequestHead, seen: Observation, receive: Receive, send: Send
) -> None:
    """Answer with `answering` and note the status and the bytes that were sent; a caller that left first has status 0."""
    started_s = time.perf_counter()
    status = 0

    async def receive_seen() -> Message:
        message = await receive()
        seen.bytes_in += len(message.get("body", b""))
        return message

    async def send_seen(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        seen.bytes_out += len(message.get("body", b""))
        await send(message)

    try:
        code = await answering(receive_seen, send_seen)
    except Exception:
        if status:  # otherwise the refusal that is still to come ends it
            observer.end(head, status, _where(head), started_s, errors.UNFORESEEN)
        raise
    observer.end(head, status, _where(head), started_s, code)


def log_answer(observer: "Observer", head: RequestHead, answer: Answer, started_s: float, code: str) -> None:
    """Note a refusal of one piece; `started_s` is of time.perf_counter."""
    if head.seen is not None:
        head.seen.bytes_out = len(answer.body)
    observer.end(head, answer.status, _where(head), started_s, code)


def _where(head: RequestHead) -> dict[str, Any]:
    return {"method": head.method, "path": head.path}
