"""What a server holds for tables before the first one comes: its bounds, its threads, and how an answer can end."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.batcher import Batcher
from batchproof.service.protocols.interface import Limits
from batchproof.service.runtime.metrics import Tally

if TYPE_CHECKING:
    from batchproof.service.drift.model_drift import ModelDrift
    from batchproof.service.journal.writing.recording import ModelJournal
    from batchproof.service.runtime.processes.process_pool import ProcessPool
    from batchproof.service.tables.block import Rows
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


class Inlet(Protocol):
    """Where the parts of a body go. All methods are called on the event loop."""

    is_whole: bool  # whether the body has come to its end

    async def put(self, data: bytes) -> None:
        """Add a chunk and wait while there is too much."""
        ...

    def end(self, fault: Exception | None = None) -> None:
        """Say that nothing more comes, or why."""
        ...

    async def drop_rest(self) -> None:
        """Read the rest of the body and forget it, up to its end: a caller may read no answer before."""
        ...

    def let_go(self) -> None:
        """Let nobody wait for the rest: the request has ended."""
        ...


class Table(Protocol):
    """What reads the blocks of one table and writes the answer to each, in order."""

    async def next(self) -> "Rows | None":
        """Return the next block, None behind the last one; raises ServiceError."""
        ...

    async def write(self, outputs: Outputs) -> bytes:
        """Return the answer to the first block that has none yet, whose good rows have these outputs; raises ServiceError."""
        ...

    async def end(self) -> bytes:
        """Return what ends the answer; raises ServiceError."""
        ...

    def close(self) -> None:
        """Let go of all that it holds."""
        ...


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
    text_processes: "Callable[[], ProcessPool]"  # likewise, for the first long table of text
    journal: "ModelJournal | None" = None
    drift: "ModelDrift | None" = None

    async def step(self, make: Callable[[], Any]) -> Any:
        """Run in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, make)
