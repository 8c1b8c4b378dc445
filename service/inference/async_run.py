"""Await the outputs of a batch from a task: for tables and gRPC. The HTTP hot path has no task and needs none."""

import asyncio
from functools import partial
from typing import Any

from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.batcher import Batcher
from batchproof.service.inference.timed_batcher import TimedBatcher
from batchproof.service.runtime.tracing.observation import Observation

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.25  # between two attempts to enter the queue


async def run(
    batcher: Batcher,
    arrays: Arrays,
    rows: int,
    timeout_s: float,
    note: Any = None,
    seen: Observation | None = None,
) -> Outputs:
    """Admit rows and return their outputs; raises ServiceError. A cancelled task gives its place in the queue back.

    `seen` notes how long the rows waited and ran.

    Rows with a `note` are recorded first where the batcher has a recorder that lets answers wait.
    """
    answered: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

    def settle(outputs: Outputs | None, error: ServiceError | None) -> None:
        if answered.done():  # its task was cancelled in this turn of the loop and has not run since
            return
        if error is not None:
            answered.set_exception(error)
        else:
            assert outputs is not None, "a reply has outputs or an error"
            answered.set_result(outputs)

    def reply(outputs: Outputs | None, error: ServiceError | None) -> None:
        if error is None and ticket.written is not None:
            ticket.written.then(partial(settle, outputs))
        else:
            settle(outputs, error)

    ticket = batcher.submit(arrays, rows, timeout_s, reply, note)
    if seen is not None and isinstance(batcher, TimedBatcher):
        batcher.observed[ticket] = seen
    try:
        return await answered
    except asyncio.CancelledError:
        batcher.cancel(ticket)
        raise
    finally:
        if seen is not None and isinstance(batcher, TimedBatcher):
            del batcher.observed[ticket]
            seen.waited(ticket.admitted_s)


async def run_patiently(
    batcher: Batcher,
    arrays: Arrays,
    rows: int,
    timeout_s: float,
    note: Any = None,
    seen: Observation | None = None,
) -> Outputs:
    """Do as `run` does, but retry while the queue is full."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await run(batcher, arrays, rows, timeout_s, note, seen)
        except ServiceError as error:
            if error.status != 429:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
