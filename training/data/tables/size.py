"""How much memory a table would take, by its files' sizes: whether it is kept in memory."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from batchproof.service.tables.formats import LINES, PARQUET
from batchproof.service.tables.offline.sources import SourceError, packing_of
from batchproof.training.data.tables.parts import Parts, parts_of
from batchproof.training.data.tables.storage import Memory, Scratch, allowed, shown
from batchproof.training.data.tables.table_error import TableError

OWN_BYTES = 1_000_000_000  # of the process, its libraries and engines, whatever the table's size
TIMES = 3  # the table in Arrow's form, its columns and its encoded rows, each about as large
SMALL_BYTES = 100_000_000  # of what a table needs that is kept in memory on any machine, unless --memory says otherwise
NUMBER_BYTES = 8
PLAIN_TIMES, PACKED_TIMES = 2, 10  # as large as its file is a table of texts in Arrow's form


def storage_for(paths: Iterable[Path], memory: str | None, say: Callable[[str], None]) -> Memory:
    """Return where the values of these tables are kept: in memory, unless a run would take more than `memory` says."""
    own, most = TIMES * sum(map(arrow_bytes, paths)), allowed(memory)
    wanted = OWN_BYTES + own
    if wanted <= most or (memory is None and own <= SMALL_BYTES):
        return Memory(most - wanted)
    scratch = Scratch(say, most - OWN_BYTES)
    say(
        f"reading through scratch files in {scratch.folder}: in memory, the run would take about {shown(wanted)}, and "
        f"{shown(most)} are allowed{'' if memory else ' (--memory)'}"
    )
    return scratch


def arrow_bytes(path: Path) -> int:
    """Return about how large a table is in Arrow's form; 0 where it cannot be read, which its reader will say."""
    try:
        return _bytes_of(parts_of(path))
    except (TableError, SourceError, OSError, pa.ArrowException):
        return 0


def _bytes_of(parts: Parts) -> int:
    if parts.format == PARQUET:
        footers = [parquet.read_metadata(file) for file in parts.files]
        return sum(max(_unpacked(footer), NUMBER_BYTES * footer.num_rows * footer.num_columns) for footer in footers)
    times = 1 if parts.format == LINES else PLAIN_TIMES
    return sum((PACKED_TIMES if packing_of(file) else times) * file.stat().st_size for file in parts.files)


def _unpacked(footer: parquet.FileMetaData) -> int:
    return sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
