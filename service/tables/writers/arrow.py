"""Answers as Arrow streams, Arrow files and Parquet. Loaded only where pyarrow is installed."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.errors import first_line
from batchproof.service.features.arrays import numbers_of
from batchproof.service.inference.model import Described
from batchproof.service.tables.block import invalid_table
from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, PARQUET, Format
from batchproof.service.tables.limits.arrow_columns import column_bytes
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.result_columns import Answered, ResultColumns, sentences

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 128 << 20  # of a wide table before it is compressed
TYPES = {"BOOL": pa.bool_(), "INT64": pa.int64(), "BYTES": pa.string(), "FP32": pa.float32()}


class Drain:
    """A file that is written by Arrow and emptied by us, into another file where there is one."""

    closed = False

    def __init__(self, file: BinaryIO | None) -> None:
        """Begin empty."""
        self._file = file
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        """Pass the bytes on, or keep a copy: Arrow reuses its buffers."""
        if self._file is not None:
            # A writer that was given up ends its table when it is collected, and the file is closed by then.
            return len(data) if self._file.closed else self._file.write(data)
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: `take` returns the rest."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


class ResultArrays:
    """The columns that an answer adds, as Arrow has them."""

    def __init__(self, manifest: Manifest, parameters: Parameters) -> None:
        """Name and type them."""
        self._names = ResultColumns(manifest, parameters)
        numbers = len(self._names.probabilities) + len(self._names.quantiles)
        added = [pa.float32()] * numbers + [pa.string()] * self._names.has_errors
        types = [*[TYPES[self._names.datatype]] * len(self._names.predictions), *added]
        self.fields = [pa.field(name, kind) for name, kind in zip(self._names.names, types, strict=True)]

    def check(self, names: Collection[str]) -> None:
        """Refuse with 422 a table that has a column of such a name already."""
        self._names.check(names)

    def arrays(self, answered: Answered) -> list[pa.Array]:
        """Return the added columns of a block; a row that did not run has nulls."""
        rows, kept = answered.block.rows, answered.kept
        places = None if len(kept) == rows else pa.array(_places(rows, kept), mask=_absent(rows, kept))
        if self._names.output not in answered.outputs:  # no row of the block ran
            columns = [pa.nulls(rows, field.type) for field in self.fields]
        else:
            values, columns = numbers_of(answered.outputs), []
            if self._names.output == "probabilities":
                winners = pa.array(self._names.manifest.label_places(values))
                labels = pa.array(self._names.labels, TYPES[self._names.datatype])
                columns = [_spread(labels.take(winners), places)]
            columns += [_spread(pa.array(np.ascontiguousarray(column)), places) for column in values.T]
        if self._names.has_errors:
            bad = sentences(answered.problems)
            errors = (
                pa.array([bad.get(row) for row in range(rows)], pa.string()) if bad else pa.nulls(rows, pa.string())
            )
            columns = [*columns[: len(self.fields) - 1], errors]
        return columns


class ColumnarWriter:
    """A table with types; the table's own columns keep theirs."""

    def __init__(self, model: Described, parameters: Parameters, wanted: Format, file: BinaryIO | None = None) -> None:
        """Begin when the first block says what the columns are; with a `file` nothing is left to return as bytes."""
        self._added = ResultArrays(model.manifest, parameters)
        self._appends = parameters.answer == "append"
        self._format = wanted
        self._drain = Drain(file)
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._schema = pa.schema([])

    def write(self, answered: Answered) -> bytes:
        """Return the bytes of one more batch, as far as the format has them ready."""
        columns = self._added.arrays(answered)
        table = answered.block.batch() if self._appends else None
        if self._writer is None:
            self._begin([] if table is None else list(table.schema))
        arrays = [*([] if table is None else table.columns), *columns]
        self._add(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        return self._drain.take()

    def end(self) -> bytes:
        """Return the end of the table."""
        if self._writer is None:
            self._begin([])
        self._flush()
        self._writer.close()
        return self._drain.take()

    def _add(self, batch: pa.RecordBatch) -> None:
        """Write a batch; in Parquet many small ones become one row group."""
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += sum(map(column_bytes, batch.columns))
        is_full = self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES
        if self._format != PARQUET or is_full:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            with _WriterFaults(self._format):
                self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
            self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0

    def _begin(self, table_fields: list[pa.Field]) -> None:
        self._added.check([field.name for field in table_fields])
        self._schema = pa.schema([*table_fields, *self._added.fields])
        with _WriterFaults(self._format):
            self._writer = _opened(pa.PythonFile(self._drain, mode="w"), self._schema, self._format)


class _WriterFaults:
    """Turns what Arrow raises on a column that a format has no type for into a refusal."""

    def __init__(self, table_format: Format) -> None:
        self._format = table_format

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        is_of_the_disk = isinstance(error, OSError) and error.errno is not None
        if isinstance(error, pa.ArrowException | OSError) and not is_of_the_disk:
            raise invalid_table(
                f"The answer cannot be written as {self._format.name}: {first_line(error)}; ask for another format, or "
                "leave that column out."
            ) from error


def join(paths: Sequence[Path], target: Path, written: Format) -> None:
    """Write the tables of `paths`, all of one schema, as one."""
    with pa.OSFile(str(target), "wb") as file:
        writer = None
        for path in paths:
            for batch in _batches(path, written):
                writer = writer or _opened(file, batch.schema, written)
                writer.write_table(pa.Table.from_batches([batch]))
        assert writer is not None, "a part that is not the only one has rows"
        writer.close()


def _batches(path: Path, written: Format) -> Iterator[pa.RecordBatch]:
    if written == PARQUET:
        with parquet.ParquetFile(path) as opened:
            yield from opened.iter_batches(ROW_GROUP_ROWS)
    elif written == ARROW_STREAM:
        with pa.OSFile(str(path)) as file, ipc.open_stream(file) as stream:
            yield from stream
    else:
        with pa.memory_map(str(path)) as file, ipc.open_file(file) as table:
            yield from (table.get_batch(place) for place in range(table.num_record_batches))


def _opened(file: Any, schema: pa.Schema, written: Format) -> Any:
    if written == ARROW_STREAM:
        return ipc.new_stream(file, schema)
    if written == ARROW_FILE:
        return ipc.new_file(file, schema)
    repeating = [field.name for field in schema if not pa.types.is_floating(field.type)]  # numbers hardly repeat
    return parquet.ParquetWriter(file, schema, use_dictionary=repeating)


def _spread(column: pa.Array, places: pa.Array | None) -> pa.Array:
    return column if places is None else column.take(places)


def _places(rows: int, kept: Sequence[int]) -> np.ndarray:
    places = np.zeros(rows, np.int64)
    places[kept] = np.arange(len(kept))
    return places


def _absent(rows: int, kept: Sequence[int]) -> np.ndarray:
    absent = np.ones(rows, np.bool_)
    absent[kept] = False
    return absent
