"""What the end of a process says of the table that it was at."""

import signal

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.processes import process_pool
from batchproof.service.runtime.processes.process_pool import described
from batchproof.service.tables.block import broken_table, out_of_memory
from batchproof.service.tables.formats import Format

BLOCK_CPU_S = 20  # processor time from one block of a table to the next


def refusal_of(table_format: Format, code: int | None, advice: str) -> ServiceError:
    """Return what a process without a result means: its exit code is None where nobody could say it.

    `advice` says, as a clause, how to write a table that takes less memory.
    """
    if code is None:
        return process_pool.lost()
    how = described(code)
    event("table_reader_ended", 30, format=table_format.name, reason=f"ended {how}")
    if code == -signal.SIGKILL:  # by the system: there was no memory left
        return out_of_memory(advice)
    if code == -signal.SIGXCPU:
        why = f"the process that parsed it was ended after {BLOCK_CPU_S} s of processor time for one block of rows"
    else:
        why = f"the process that parsed it crashed or was killed; it ended {how}"
    return broken_table(table_format.name, why)
