"""The floor: a bare ASGI app that takes the whole body and answers a constant of the size a real answer has."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
ROW = b'{"label":"low","probabilities":{"low":0.33333334,"middle":0.33333334,"high":0.33333334}}'


def _answer(rows: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    body = b'{"predictions":[' + b",".join([ROW] * rows) + b"]}"
    return body, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]


ONE, HUNDRED, THOUSAND = _answer(1), _answer(100), _answer(1000)
BINARY = bytes(12_000), [(b"content-type", b"application/octet-stream"), (b"content-length", b"12000")]
# Bodies: 1 row 0.3-0.5 kB, 100 rows 30-50 kB, 1000 rows 128 kB as float32 bytes, 300-500 kB as JSON.
ANSWERS = ((3_000, ONE), (100_000, HUNDRED), (200_000, BINARY), (10**9, THOUSAND))


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer every request with the constant that the length of its body calls for."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body, headers = next(answer for limit, answer in ANSWERS if size < limit)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
