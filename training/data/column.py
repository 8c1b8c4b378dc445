"""One column of the table as typed values."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchproof.service.bundle.signature import Kind, TextRule, ValueType


@dataclass(frozen=True)
class Column:
    """The typed values of one column."""

    name: str
    kind: Kind
    value_type: ValueType
    values: np.ndarray  # [rows] float64, NaN = missing; categorical: int64 places in `levels`, -1 = missing
    levels: tuple[Any, ...] = ()  # categorical: the distinct values, as JSON has them
    note: str = ""  # how the column was read, in a few words
    rule: TextRule | None = None  # by which its texts are read, where the usual reading is not enough
    warnings: tuple[str, ...] = ()  # what its owner should know, each with what to do

    @property
    def is_missing(self) -> np.ndarray:
        """Which rows have no value [rows] bool."""
        return np.asarray(self.values < 0 if self.kind == "categorical" else np.isnan(self.values))

    def take(self, rows: np.ndarray) -> "Column":
        """Return the same column of other rows, by number [n] int64."""
        return replace(self, values=self.values[rows])


def distinct(arrow: pa.ChunkedArray) -> tuple[np.ndarray, list[Any]]:
    """Return each row's place among the distinct values [rows] int64, -1 where null, and the distinct values."""
    encoded = arrow.combine_chunks()
    encoded = encoded if pa.types.is_dictionary(encoded.type) else encoded.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    places = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return _merged(places, encoded.dictionary.to_pylist())


def _merged(places: np.ndarray, values: list[Any]) -> tuple[np.ndarray, list[Any]]:
    """Give a value that a dictionary holds twice one place, and null none."""
    kept = list(dict.fromkeys(value for value in values if value is not None))
    if len(kept) == len(values):
        return places, values
    order = {value: place for place, value in enumerate(kept)}
    table = np.asarray([*(-1 if value is None else order[value] for value in values), -1], np.int64)
    return table.take(places), kept
