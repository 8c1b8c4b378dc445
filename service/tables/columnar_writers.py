"""Answers as Arrow streams, Arrow files and Parquet. Loaded only where pyarrow is installed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

from service.model import Model
from service.tables.formats import ARROW_FILE, ARROW_STREAM, Format
from service.tables.parameters import Parameters
from service.tables.predictions import Added, Answered, sentences

TYPES = {"BOOL": pa.bool_(), "INT64": pa.int64(), "BYTES": pa.string(), "FP32": pa.float32()}


class Drain:
    """A file that is written by Arrow and emptied by us."""

    closed = False

    def __init__(self) -> None:
        """Begin empty."""
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        """Keep a copy: Arrow reuses its buffers."""
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: what is left is taken by `take`."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


class ColumnarWriter:
    """A table with types; the table's own columns keep theirs."""

    broken: bytes | None = None

    def __init__(self, model: Model, parameters: Parameters, wanted: Format) -> None:
        """Begin when the first block says what the columns are."""
        self._added = Added(model.manifest, parameters)
        self._appends = parameters.answer == "append"
        self._format = wanted
        self._drain = Drain()
        self._writer: Any = None
        self._schema = pa.schema([])
        added = [pa.float32()] * len(self._added.probabilities) + [pa.string()] * self._added.has_errors
        types = [TYPES[self._added.datatype], *added]
        self._fields = [pa.field(name, kind) for name, kind in zip(self._added.names, types, strict=True)]

    def write(self, answered: Answered) -> bytes:
        """Return the bytes of one more batch, as far as the format has them ready."""
        columns = self._columns(answered)
        own = answered.block.batch() if self._appends else None
        if self._writer is None:
            self._begin([] if own is None else list(own.schema))
        arrays = [*([] if own is None else own.columns), *columns]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        return self._drain.take()

    def end(self) -> bytes:
        """Return the end of the table."""
        if self._writer is None:
            self._begin([])
        self._writer.close()
        return self._drain.take()

    def _begin(self, own: list[pa.Field]) -> None:
        self._added.check([field.name for field in own])
        self._schema = pa.schema([*own, *self._fields])
        file = pa.PythonFile(self._drain, mode="w")
        if self._format == ARROW_STREAM:
            self._writer = ipc.new_stream(file, self._schema)
        elif self._format == ARROW_FILE:
            self._writer = ipc.new_file(file, self._schema)
        else:
            self._writer = parquet.ParquetWriter(file, self._schema)

    def _columns(self, answered: Answered) -> list[pa.Array]:
        rows, kept = answered.block.rows, answered.kept
        places = None if len(kept) == rows else pa.array(_places(rows, kept), mask=_absent(rows, kept))
        values = answered.outputs.get(self._added.output)
        columns = []
        if values is None:  # no row of the block ran
            columns = [pa.nulls(rows, field.type) for field in self._fields]
        elif self._added.output == "value":
            columns = [_spread(pa.array(values[:, 0]), places)]
        else:
            winners = pa.array(values.argmax(axis=1))
            labels = pa.array(self._added.labels, TYPES[self._added.datatype])
            columns = [_spread(labels.take(winners), places)]
            columns += [_spread(pa.array(np.ascontiguousarray(column)), places) for column in values.T]
        if self._added.has_errors:
            bad = sentences(answered.problems)
            errors = (
                pa.array([bad.get(row) for row in range(rows)], pa.string()) if bad else pa.nulls(rows, pa.string())
            )
            columns = [*columns[: len(self._fields) - 1], errors]
        return columns


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
