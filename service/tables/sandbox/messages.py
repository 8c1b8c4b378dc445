"""What the service and a process that reads tables tell each other: kinds of frames, and the request."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

REQUEST, NAMES, BATCH, REFUSAL, END = b"R", b"N", b"B", b"E", b"Z"  # kinds


@dataclass(frozen=True)
class Request:
    """What to read of which kind of table, and what reading it may take."""

    table_format: str
    names: Sequence[str] | None  # of the columns to read; None: all
    block_rows: int
    max_bytes: int | None
    block_cpu_s: int  # processor time from one block to the next

    def as_json(self) -> bytes:
        """Return the request as it goes over the socket."""
        return json.dumps(asdict(self)).encode()
