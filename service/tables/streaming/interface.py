"""What a server holds for tables before the first one comes: its bounds, its threads, and how an answer can end."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, NamedTuple

from batchproof.service.inference.batcher import Batcher
from batchproof.service.protocols.interface import Limits
from batchproof.service.runtime.metrics import Tally

if TYPE_CHECKING:
    from batchproof.service.drift.model_drift import ModelDrift
    from batchproof.service.journal.writing.recording import ModelJournal
    from batchproof.service.tables.sandbox.remote import RemoteReader

ROUTE = "tables"  # of tables in metrics and in the journal
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BrokenOffError(Exception):
    """An answer that broke off after it began: its connection is closed without the end of the body."""

    def __init__(self, code: str) -> None:
        """Name the `code` of the error that ended it."""
        super().__init__(code)
        self.code = code


class Bounds(NamedTuple):
    """What one table may take."""

    limits: Limits
    max_bytes: int  # of a body, packed and unpacked
    timeout_s: float  # of one block in the queue, and of a body that does not go on


class TableWorkers(NamedTuple):
    """What one model's tables share."""

    batcher: Batcher
    tally: Tally
    executor: Executor
    error_limit: int  # how many bad rows a refusal lists
    remote: "Callable[[], RemoteReader]"  # made for the first table; called on the event loop
    journal: "ModelJournal | None" = None
    drift: "ModelDrift | None" = None

    async def step(self, make: Callable[[], Any]) -> Any:
        """Run in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, make)
