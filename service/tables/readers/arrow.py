"""Arrow streams, Arrow files and Parquet: typed columns, encoded whole. Loaded only where pyarrow is installed.

Categories, and other values of which many are equal, are made distinct by Arrow; the distinct ones go through the very
function that encodes training columns, so a code here is a code there.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from batchproof.service.bundle.signature import Feature
from batchproof.service.errors import first_line
from batchproof.service.features.columns import encode_column, json_value
from batchproof.service.runtime.json_bytes import compact
from batchproof.service.tables.block import Blocks, Column, Read, Reading, invalid_table, places_of, read_columns
from batchproof.service.tables.formats import Format
from batchproof.service.tables.limits.budget import Unpacking
from batchproof.service.tables.readers.arrow_types import index_names, plain_type
from batchproof.service.tables.readers.cells import cell_of, whole, written
from batchproof.service.tables.readers.record_batches import READERS, ArrowFaults, checked_batches

REPEATING = (  # types whose values are worth making distinct
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_dictionary,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
)


class ArrowBlock:
    """A record batch, or a part of one."""

    csv_delimiter = ","

    def __init__(
        self, batch: pa.RecordBatch, first: int, reading: Reading, places: Sequence[int], part: str = ""
    ) -> None:
        """Hold the batch, whose first row is row `first` of the table or its `part`, and the places of the features in it."""
        self._batch = batch
        self._first = first
        self._reading = reading
        self._places = places
        self._row = f"{part}, row" if part else "row"
        self.rows = batch.num_rows

    def read(self) -> Read:
        """Return the rows as arrays."""
        signature = self._reading.signature
        columns = []
        for feature, place in zip(signature.inputs, self._places, strict=True):
            column = plain_type(self._batch.column(place))
            columns.append(Column(partial(encode_array, feature, column), partial(json_values, column)))
        return read_columns(signature, self.rows, columns)

    def place(self, row: int) -> tuple[str, int]:
        """Return the row's number in the table or its part, the first one's is 0."""
        return self._row, self._first + row

    def names(self) -> Sequence[str]:
        """Return the columns' names."""
        names: list[str] = self._batch.schema.names
        return names

    def cells(self) -> Sequence[Sequence[str]]:
        """Return each row as text."""
        columns = [[cell_of(value) for value in values] for values in self._values()]
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[]] * self.rows

    def csv_lines(self, _delimiter: str) -> None:
        """Return None: the rows are no CSV yet."""

    def lines(self) -> Sequence[bytes]:
        """Return each row as a JSON object."""
        names = self.names()
        return [
            compact(dict(zip(names, row, strict=True)), default=written, option=orjson.OPT_PASSTHROUGH_DATETIME)
            for row in zip(*self._values(), strict=True)
        ]

    def batch(self) -> pa.RecordBatch:
        """Return the batch."""
        return self._batch

    def _values(self) -> list[list[Any]]:
        """Return each column's JSON values as they are written."""
        features = {feature.name: feature for feature in self._reading.signature.inputs}
        return [
            _written(column, features.get(name)) for name, column in zip(self.names(), self._batch.columns, strict=True)
        ]


def _written(column: pa.Array, feature: Feature | None) -> list[Any]:
    """Return JSON values: whole numbers where the feature's were whole in training, the short digits of a float32.

    A feature has the digits of its float64, which is what the model reads: shorter ones would be read as another number.
    """
    values = json_values(column)
    if feature is None:
        is_short = column.type == pa.float32()
        return [value and float(str(np.float32(value))) for value in values] if is_short else values
    return list(map(whole, values)) if feature.value_type == "integer" else values


def encode_array(feature: Feature, array: pa.Array) -> np.ndarray:
    """Encode one column to numbers, epoch seconds or category codes, [rows] float64. Raises FeatureError."""
    kind = array.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    is_boolean = pa.types.is_boolean(kind) and feature.value_type == "boolean"
    if feature.kind == "numeric" and (is_number or is_boolean):
        numbers = array.cast(pa.uint8()) if is_boolean else array
        return encode_column(feature, _plain(numbers.cast(pa.float64(), safe=False)))
    if feature.kind == "date" and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return encode_column(feature, _plain(_bounded(array)))
    if any(is_kind(kind) for is_kind in REPEATING):
        return _by_dictionary(feature, array)
    return encode_column(feature, json_values(array))


def json_values(array: pa.Array) -> list[Any]:
    """Return what the values would be in JSON: missing and NaN as None, dates as texts."""
    try:
        if pa.types.is_timestamp(array.type):  # Python has no nanoseconds
            array = _bounded(array).cast(pa.timestamp("us", array.type.tz), safe=False)
        return [json_value(value) for value in array.to_pylist()]
    except (pa.ArrowException, ValueError, ArithmeticError) as error:
        raise invalid_table(f"A column of {array.type} holds what JSON cannot: {first_line(error)}.") from error


def _bounded(array: pa.Array) -> pa.Array:
    """Return dates whose microseconds 64 bits hold; raises 422 for others, which would wrap around."""
    kind = array.type
    if pa.types.is_date32(kind):
        array = array.cast(pa.timestamp("s"))
    elif not pa.types.is_timestamp(kind) or kind.unit in ("us", "ns"):
        return array
    try:
        return array.cast(pa.timestamp("us", array.type.tz))
    except pa.ArrowInvalid as error:
        raise invalid_table(f"A column of {kind} holds a date beyond 64 bits of microseconds.") from error


def _plain(array: pa.Array) -> np.ndarray:
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values


def _by_dictionary(feature: Feature, array: pa.Array) -> np.ndarray:
    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    values = json_values(coded.dictionary)
    if array.null_count:
        values.append(None)
    codes = encode_column(feature, values)  # [distinct values] float64
    indices = coded.indices.cast(pa.int64())
    if array.null_count:
        indices = indices.fill_null(len(values) - 1)
    encoded: np.ndarray = codes[_plain(indices)]
    return encoded


def columnar_blocks(file: BinaryIO, table_format: Format, reading: Reading) -> Blocks:
    """Read a table of typed columns in this process; raises 400 where it is broken and 422 for columns that do not fit."""
    read = READERS[table_format.name]
    batches = read(file, partial(choose, reading), reading.block_rows, Unpacking(reading.max_bytes))
    yield from blocks_from(batches, reading)


def choose(reading: Reading, names: Sequence[str], index: frozenset[str]) -> Sequence[str]:
    """Return which of a table's columns are read: all where they are part of the answer; raises 422."""
    places_of(names, reading, index)
    return names if reading.parameters.answer == "append" else reading.encoder.names


def blocks_from(batches: Iterator[pa.RecordBatch], reading: Reading, part: str = "") -> Blocks:
    """Make blocks of checked record batches of a table or its `part`, short enough, with the columns of every feature."""
    first = 0
    places: Sequence[int] = ()
    for batch in batches:
        if not places:
            names = batch.schema.names
            places = [names.index(name) for name in reading.encoder.names]
        yield ArrowBlock(batch, first, reading, places, part)
        first += batch.num_rows


def batch_blocks(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], reading: Reading, name: str = "arrow", part: str = ""
) -> Blocks:
    """Read record batches of our own, which have any size; `part` names the file of a folder that they are from."""
    with ArrowFaults(name):
        names = choose(reading, schema.names, index_names(schema.metadata))
        checked = checked_batches(schema, names, batches, reading.block_rows, Unpacking(None))
        yield from blocks_from(checked, reading, part)
