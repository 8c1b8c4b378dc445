"""The body of a request for a table, from the connection into what it is read from."""

import asyncio
from collections.abc import Callable

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.tables.streaming.interface import Bounds, Inlet, Receive
from batchproof.service.tables.streaming.slots import TableSlot


async def pump(receive: Receive, inlet: Inlet, bounds: Bounds, slot: TableSlot, on_gone: Callable[[], object]) -> None:
    """Put the body into the inlet; after its end, watch for a caller that goes away."""
    size, is_whole = 0, False

    def give_up(error: ServiceError) -> None:
        nonlocal is_whole
        is_whole = True
        inlet.end(error)

    slot.give_up = give_up
    while True:
        slot.wait()
        try:
            message = await asyncio.wait_for(receive(), None if is_whole else bounds.timeout_s)
        except TimeoutError:
            inlet.end(ServiceError(408, "body_stalled", f"No part of the body arrived for {bounds.timeout_s:g} s."))
            is_whole = True
            continue
        if message["type"] == "http.disconnect":
            on_gone()
            return
        if is_whole:
            continue
        data = message.get("body", b"")
        size += len(data)
        slot.received(len(data))
        if size > bounds.max_bytes:
            inlet.end(errors.body_too_large(bounds.max_bytes))
            is_whole = True
            continue
        await inlet.put(data)
        if not message.get("more_body"):
            inlet.end()
            is_whole, slot.give_up = True, None
