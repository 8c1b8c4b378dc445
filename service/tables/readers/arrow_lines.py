"""Lines of a text table parsed by Arrow, column by column. Loaded only where pyarrow is installed.

Arrow's parser of CSV takes half of the time that a parser of JSON takes for numbers, and runs beside other threads. It
reads the digits that most tables have, with the same bits. Whatever it reads in another way than the specification of
cells, or not at all, is left to the specification.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv

from batchproof.service.bundle.signature import Feature
from batchproof.service.errors import FeatureError
from batchproof.service.features.columns import encode_cells, reads_numbers
from batchproof.service.features.texts.text_cells import USUAL, missing_cells

TEXTS = pa.dictionary(pa.int32(), pa.string())  # each distinct text once
MOST_BLOCK_BYTES = (1 << 31) - 1  # that the parser takes at a time


class Source(NamedTuple):
    """Where the cells of one feature stand, and their reader."""

    feature: Feature
    place: int
    take: Callable[[str], Any]


class ArrowLines:
    """Parses lines of one table, which have no quotes and are not blank."""

    def __init__(self, sources: Sequence[Source], width: int, delimiter: str) -> None:
        """Read the columns of `sources` out of `width` that `delimiter` separates."""
        self._sources = sources
        self._names = [str(place) for place in range(width)]
        self._parsing = csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False)
        wanted = {str(source.place): pa.float64() if reads_numbers(source.feature) else TEXTS for source in sources}
        self._converting = csv.ConvertOptions(
            column_types=wanted, include_columns=list(wanted), null_values=sorted(missing_cells(USUAL))
        )

    def encoders(self, text: bytes, rows: int) -> list[Callable[[], np.ndarray]] | None:
        """Return a function for each source that encodes its column, [rows] float64, or raises FeatureError.

        A column with a fault, or with a number in rare digits, raises it too. None where Arrow does not read the lines.
        """
        if len(text) > MOST_BLOCK_BYTES:
            return None
        whole = csv.ReadOptions(use_threads=False, column_names=self._names, block_size=len(text))
        try:
            table = csv.read_csv(pa.BufferReader(text), whole, self._parsing, self._converting).combine_chunks()
        except pa.ArrowInvalid:  # cells are missing, or no numbers
            return None
        if len(table) != rows:
            return None
        columns = [table.column(str(source.place)).chunk(0) for source in self._sources]
        return [partial(_encode, source, column) for source, column in zip(self._sources, columns, strict=True)]


def _encode(source: Source, column: pa.Array) -> np.ndarray:
    if pa.types.is_dictionary(column.type):
        codes = encode_cells(source.feature, source.take, column.dictionary.to_pylist())  # [distinct texts]
        encoded: np.ndarray = codes[column.indices.to_numpy()]
        return encoded
    numbers: np.ndarray = column.to_numpy(zero_copy_only=False)  # NaN where missing
    is_right = np.count_nonzero(np.isfinite(numbers)) + column.null_count == len(numbers)
    if not is_right or (column.null_count and not source.feature.missing):
        raise FeatureError("a cell is missing, or is no finite number in the usual digits")
    return numbers
