"""How much memory a table would take, by its files' sizes and samples of them: whether it is kept in memory."""

import gzip
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, LINES, PARQUET, Format
from batchproof.service.tables.limits.arrow_columns import column_bytes
from batchproof.service.tables.offline.sources import SourceError, open_source, packing_of
from batchproof.service.tables.readers.arrow_types import plain_type
from batchproof.service.tables.readers.record_batches import PARQUET_OPTIONS
from batchproof.training.data.tables.parts import Parts, parts_of
from batchproof.training.data.tables.storage import Memory, Scratch, allowed, shown
from batchproof.training.data.tables.table_error import TableError

OWN_BYTES = 1_000_000_000  # of the process, its libraries and engines, whatever the table's size
TIMES = 3  # the table in Arrow's form, its columns and its encoded rows, each about as large
SMALL_BYTES = 100_000_000  # of what a table needs that is kept in memory on any machine, unless --memory says otherwise
NUMBER_BYTES = 8
PLAIN_TIMES = 2  # as large as its file is a table of texts in Arrow's form, JSON Lines apart
SEPARATORS = (b",", b";", b"\t", b"|", b'":')  # of cells
SAMPLES, SAMPLE_ROWS = 8, 4_096  # row groups or blocks of a table that are looked at, and rows of a row group
SAMPLE_BYTES = 4 << 20  # of a text file or a stream
PACKED_BYTES, MOST_BYTES = 1 << 20, 256 << 20  # of a packed file, and of what it held, after which its start is known


def storage_for(paths: Iterable[Path], memory: str | None, say: Callable[[str], None]) -> Memory:
    """Return where the values of these tables are kept: in memory, unless a run would take more than `memory` says."""
    own, most = TIMES * sum(map(arrow_bytes, paths)), allowed(memory)
    wanted = OWN_BYTES + own
    if wanted <= most or (memory is None and own <= SMALL_BYTES):
        return Memory(most - wanted)
    scratch = Scratch(say, most - OWN_BYTES)
    say(
        f"reading through scratch files in {scratch.folder}: in memory, the run would take about {shown(wanted)}, and "
        f"{shown(most)} are planned{'' if memory else ' (--memory)'}"
    )
    return scratch


def arrow_bytes(path: Path) -> int:
    """Return about how large a table is in Arrow's form; 0 where it cannot be read, which its reader will say."""
    try:
        return _bytes_of(parts_of(path))
    except (TableError, SourceError, OSError, EOFError, zlib.error, pa.ArrowException):
        return 0


def _bytes_of(parts: Parts) -> int:
    if parts.format == PARQUET:
        return _parquet_bytes(parts.files)
    if parts.format in (ARROW_FILE, ARROW_STREAM):
        return sum(map(_arrow_file_bytes, parts.files))
    return sum(_text_bytes(file, parts.format) for file in parts.files)


def _parquet_bytes(files: Sequence[Path]) -> int:
    """Return the size by that of the first rows of some row groups; a footer counts a text that occurs often only once."""
    footers = [parquet.read_metadata(file) for file in files]
    groups = [
        (file, number) for file, footer in zip(files, footers, strict=True) for number in range(footer.num_row_groups)
    ]
    rows = sum(footer.num_rows for footer in footers)
    least = sum(max(_unpacked(footer), NUMBER_BYTES * footer.num_rows * footer.num_columns) for footer in footers)
    sampled = [_first_rows(*groups[place]) for place in spread(len(groups))]
    seen = sum(batch.num_rows for batch in sampled)
    return int(max(least, rows * sum(map(_plain_bytes, sampled)) // max(1, seen)))


def _first_rows(file: Path, group: int) -> pa.RecordBatch:
    with parquet.ParquetFile(file, **PARQUET_OPTIONS) as opened:
        empty = pa.RecordBatch.from_pylist([], opened.schema_arrow)
        return next(opened.iter_batches(SAMPLE_ROWS, row_groups=[group]), empty)


def _arrow_file_bytes(path: Path) -> int:
    """Return the size by that of some blocks, which may be packed in the file; a stream is read from its start."""
    source, fmt = open_source(path)
    with source, pa.ipc.open_file(source) if fmt == ARROW_FILE else pa.ipc.open_stream(source) as reader:
        if fmt == ARROW_FILE:
            blocks = [reader.get_batch(number) for number in spread(reader.num_record_batches)]
            return int(reader.num_record_batches * sum(map(_plain_bytes, blocks)) // max(1, len(blocks)))
        size = 0
        for block in reader:
            size += _plain_bytes(block)
            if size >= SAMPLE_BYTES:
                break
        return max(size, size * path.stat().st_size // max(1, source.tell()))


def _plain_bytes(batch: pa.RecordBatch) -> int:
    """Return the size of a block whose dictionaries are written out, as its columns will be."""
    columns = map(plain_type, batch.columns)
    plain = (
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column for column in columns
    )
    return sum(max(column_bytes(column), NUMBER_BYTES * len(column)) for column in plain)


def _text_bytes(path: Path, fmt: Format) -> int:
    """Return the size by the file's, unpacked, or by the number of cells where they are short. The file's start says both."""
    size, head = _plain_size(path)
    cells = head.count(b"\n") + max(map(head.count, SEPARATORS))
    times = 1 if fmt == LINES else PLAIN_TIMES
    return max(times * size, NUMBER_BYTES * cells * size // max(1, len(head)))


def _plain_size(path: Path) -> tuple[int, bytes]:
    """Return about how large a text file is, unpacked, and its start.

    A packed file is read until its start says how well it is packed: how large it was before, the file does not say.
    """
    packing, size = packing_of(path), path.stat().st_size
    with pa.OSFile(str(path)) as packed:
        if not packing:
            return size, packed.read(SAMPLE_BYTES)
        plain: Any = gzip.GzipFile(fileobj=packed) if packing == ".gz" else pa.CompressedInputStream(packed, "zstd")
        head = part = plain.read(SAMPLE_BYTES)
        length = len(head)
        while part and (packed.tell() < min(size, PACKED_BYTES) or packed.tell() == size) and length < MOST_BYTES:
            part = plain.read(SAMPLE_BYTES)
            length += len(part)
        return length if not part else max(length, length * size // packed.tell()), head


def spread(count: int) -> Sequence[int]:
    """Return at most SAMPLES of the numbers below `count`, from the first to the last."""
    if count <= SAMPLES:
        return range(count)
    return [place * (count - 1) // (SAMPLES - 1) for place in range(SAMPLES)]


def _unpacked(footer: parquet.FileMetaData) -> int:
    return sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
