"""Await the outputs of a batch from a task: for tables and gRPC. The HTTP hot path has no task and needs none."""

import asyncio

from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.batcher import Batcher

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.25  # between two attempts to enter the queue


async def run(batcher: Batcher, arrays: Arrays, rows: int, timeout_s: float) -> Outputs:
    """Admit rows and return their outputs; raises ServiceError. A cancelled task gives its place in the queue back."""
    answered: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

    def reply(outputs: Outputs | None, error: ServiceError | None) -> None:
        if answered.done():  # its task was cancelled in this turn of the loop and has not run since
            return
        if outputs is not None:
            answered.set_result(outputs)
        else:
            assert error is not None, "a reply has outputs or an error"
            answered.set_exception(error)

    ticket = batcher.submit(arrays, rows, timeout_s, reply)
    try:
        return await answered
    except asyncio.CancelledError:
        batcher.cancel(ticket)
        raise


async def run_patiently(batcher: Batcher, arrays: Arrays, rows: int, timeout_s: float) -> Outputs:
    """Do as `run` does, but retry while the queue is full."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await run(batcher, arrays, rows, timeout_s)
        except ServiceError as error:
            if error.status != 429:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
