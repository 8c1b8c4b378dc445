"""Arrow streams, Arrow files and Parquet to record batches, checked and bounded. Knows columns, and no model.

Whatever a table's bytes are, reading raises ServiceError or gives batches whose every value may be followed. Parquet's
reader in pyarrow ends the process on some damaged files: the service reads Parquet in a process of its own (`sandbox`).
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import ipc, parquet

from batchproof.service.errors import ServiceError, first_line
from batchproof.service.tables.block import broken_table, invalid_table, out_of_memory
from batchproof.service.tables.limits.arrow_columns import check_flat, check_texts, is_text
from batchproof.service.tables.limits.arrow_messages import CheckedMessages
from batchproof.service.tables.limits.budget import Unpacking
from batchproof.service.tables.limits.parquet_pages import check_pages
from batchproof.service.tables.readers.arrow_types import index_names

SMALLER = "write smaller row groups and pages"  # where a table takes too much memory
BUFFER_BYTES = 1 << 18  # of one column of a Parquet file
# An INT96 timestamp of nanoseconds would wrap around outside of the years 1677 to 2262.
INT96_UNIT = "us"
# Column chunks are read piece by piece: pyarrow would else hold all bytes of a row group, or of the file.
# Damage of a page whose writer added a checksum is found; other damage may give other values.
PAGE_OPTIONS = {"pre_buffer": False, "buffer_size": BUFFER_BYTES, "page_checksum_verification": True}
PARQUET_OPTIONS = {**PAGE_OPTIONS, "coerce_int96_timestamp_unit": INT96_UNIT}
ENCRYPTED_MAGIC = b"PARE"  # at the end of a Parquet file whose footer is encrypted
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
TAIL_BYTES = 8  # of a Parquet file: the footer's length and the magic
PREFIXED = "DELTA_BYTE_ARRAY"
SIGNATURE_BYTES = 28  # behind a footer in plain text of a file with encrypted columns

# (names of the table's columns, which of them number the rows of a data frame) -> the columns to read; raises 422.
Choose = Callable[[Sequence[str], frozenset[str]], Sequence[str]]
Batches = Iterator[pa.RecordBatch]


def stream_batches(file: BinaryIO, choose: Choose, block_rows: int, unpacking: Unpacking) -> Batches:
    """Read an Arrow IPC stream; raises 400 where it is broken and 422 for columns that do not fit."""
    checked = io.BufferedReader(CheckedMessages(file, unpacking)) if unpacking.is_bounded else file
    with ArrowFaults("arrow_stream"), ipc.open_stream(checked) as stream:
        names = choose(stream.schema.names, index_names(stream.schema.metadata))
        yield from checked_batches(stream.schema, names, to_the_end(stream, file), block_rows, unpacking)


def to_the_end(stream: Iterable[pa.RecordBatch], file: BinaryIO) -> Batches:
    """Yield the batches; raises OSError where the stream and its file do not end together: rows would be lost.

    A file without the marker of the end may have been cut off between two batches. A body from a caller has its length.
    """
    yield from stream
    if file.read(1):
        raise OSError("bytes follow the end of the stream")
    if file.seekable():
        file.seek(-len(END_OF_STREAM), os.SEEK_END)
        if file.read() != END_OF_STREAM:
            raise OSError(
                "the marker of its end is missing, so batches may be missing too; close the writer of the stream"
            )


def file_batches(file: BinaryIO, choose: Choose, block_rows: int, unpacking: Unpacking) -> Batches:
    """Read an Arrow IPC file, which needs a file that can be searched."""
    with ArrowFaults("arrow_file"), ipc.open_file(file) as opened:
        names = choose(opened.schema.names, index_names(opened.schema.metadata))
        batches = (opened.get_batch(place) for place in range(opened.num_record_batches))
        yield from checked_batches(opened.schema, names, batches, block_rows, unpacking)


def parquet_batches(file: BinaryIO, choose: Choose, block_rows: int, unpacking: Unpacking) -> Batches:
    """Read a Parquet file, which needs a file that can be searched."""
    with ArrowFaults("parquet"), _parquet_file(file, unpacking) as opened:
        schema, metadata = opened.schema_arrow, opened.metadata
        if unpacking.is_bounded:
            check_pages(file, metadata, unpacking)
            fixed = sum(kind.byte_width for kind in schema.types if pa.types.is_fixed_size_binary(kind))
            unpacking.check(fixed * block_rows)
        names = choose(schema.names, index_names(schema.metadata))
        unpacking.check_values(metadata.num_rows * len(names))
        batches = opened.iter_batches(batch_size=block_rows, columns=names, use_threads=not unpacking.is_bounded)
        stated = as_many(batches, metadata.num_rows)
        chosen = pa.schema([schema.field(name) for name in names], schema.metadata)
        yield from checked_batches(chosen, names, stated, block_rows, unpacking)


def _parquet_file(file: BinaryIO, unpacking: Unpacking) -> parquet.ParquetFile:
    """Open a file whose column chunks are read piece by piece: a row group may be larger than memory.

    A stranger's texts stay what they are in the file, an index into a page of distinct ones: a short page may name one
    long text for every row. The reader cannot do so for texts that are written as what they share with the one before.
    """
    tail = _tail(file)
    if tail.endswith(ENCRYPTED_MAGIC):
        raise _encrypted()
    opened = parquet.ParquetFile(file, **PARQUET_OPTIONS)
    if int.from_bytes(tail[:4], "little") - opened.metadata.serialized_size == SIGNATURE_BYTES:
        raise _encrypted()
    if not unpacking.is_bounded:
        return opened
    shared = _prefixed_columns(opened.metadata)
    texts = [field.name for field in opened.schema_arrow if is_text(field.type) and field.name not in shared]
    return parquet.ParquetFile(file, read_dictionary=texts, **PARQUET_OPTIONS)


def _prefixed_columns(metadata: parquet.FileMetaData) -> frozenset[str]:
    """Return the columns of texts that anywhere in the file are written as what they share with the one before."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    columns = (group.column(place) for group in groups for place in range(metadata.num_columns))
    return frozenset(column.path_in_schema for column in columns if PREFIXED in column.encodings)


def _tail(file: BinaryIO) -> bytes:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - TAIL_BYTES))
    tail = file.read(TAIL_BYTES)
    file.seek(0)
    return tail


def _encrypted() -> ServiceError:
    return ServiceError(
        400, "broken_table", "The Parquet file is encrypted, and the service has no key for it: write it unencrypted."
    )


def as_many(batches: Iterable[pa.RecordBatch], stated: int) -> Batches:
    """Yield the batches; raises OSError where they have not the rows that the file states: its reader may stop early."""
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        yield batch
    if rows != stated:
        raise OSError(f"its pages hold {rows} rows where its footer states {stated}")


def checked_batches(
    schema: pa.Schema, names: Sequence[str], batches: Iterable[pa.RecordBatch], block_rows: int, unpacking: Unpacking
) -> Batches:
    """Cut record batches to blocks of the columns `names`, each value of them checked; at least one, maybe without rows."""
    chosen = schema if names == schema.names else pa.schema([schema.field(name) for name in names], schema.metadata)
    if unpacking.is_bounded:
        check_flat(chosen)
    is_empty = True
    for batch in batches:
        unpacking.add_values(batch.num_rows * len(chosen))
        wanted = batch if batch.schema.names == names else batch.select(names)
        check_values(wanted, chosen)
        for start in range(0, wanted.num_rows, block_rows):
            part = wanted.slice(start, block_rows)
            if unpacking.is_bounded:
                check_texts(part, unpacking)
            is_empty = False
            yield _as_in(chosen, part)
    if is_empty:  # a table without a row has columns too
        yield pa.RecordBatch.from_pylist([], chosen)


def check_values(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    """Check all that a stranger wrote before anything follows it; raises ArrowInvalid."""
    batch.validate(full=True)
    for field, column in zip(schema, batch.columns, strict=True):
        if not field.nullable and (column.null_count or pa.types.is_null(field.type)):
            raise pa.ArrowInvalid(f"the column {field.name!r} has nulls, and its type says that it has none")


def _as_in(schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with the types of the table's own schema."""
    if batch.schema.types == schema.types:
        return batch
    columns = zip(batch.columns, schema.types, strict=True)
    return pa.RecordBatch.from_arrays([column.cast(kind) for column, kind in columns], schema=schema)


class ArrowFaults:
    """Turns what Arrow raises on broken input into a refusal."""

    def __init__(self, name: str) -> None:
        """Name the format of the input."""
        self._name = name

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Refuse."""
        if isinstance(error, MemoryError):
            raise out_of_memory(SMALLER) from error
        if isinstance(error, pa.ArrowNotImplementedError):
            raise invalid_table(
                f"The table has a column of a type that is not supported: {first_line(error)}."
            ) from error
        if isinstance(error, pa.ArrowException | OSError | UnicodeDecodeError):
            raise broken_table(self._name, first_line(error)) from error


READERS: dict[str, Any] = {"arrow_stream": stream_batches, "arrow_file": file_batches, "parquet": parquet_batches}
