"""CSV on the scoring routes: read as every text table is, with a header or with the columns in signature order."""

import io
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from batchproof.service.bundle.signature import Signature
from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import value_of
from batchproof.service.features.texts.csv_records import SIGNS, Record, Records, column_names
from batchproof.service.features.texts.text_cells import reader_of
from batchproof.service.features.value_encoder import InvalidValueError
from batchproof.service.protocols.json_text.json_body import more_rows


class CsvRows:
    """One model's CSV bodies."""

    def __init__(self, signature: Signature, max_rows: int) -> None:
        """Prepare the reader of each feature's cells; a body may have `max_rows` rows."""
        self._features = signature.inputs
        self._names = tuple(feature.name for feature in signature.inputs)
        self._readers = {feature.name: reader_of(feature) for feature in signature.inputs}
        self._max_rows = max_rows

    def read(self, body: bytes) -> tuple[list[list[Any]], Sequence[str]]:
        """Return the rows as JSON values, and the name of each of their columns.

        The first line is a header if it names a feature; the columns are then found by name. Raises ServiceError: 400
        with the line of what is not CSV in UTF-8, 422 for a body without a row or with too many.
        """
        rows, columns = self._records(body)
        takes = [self._readers.get(name, str) for name in columns]
        values = [
            [take(cell) for take, cell in zip(takes, cells, strict=False)] + cells[len(takes) :]
            for _, cells in islice(rows, self._max_rows + 1)
        ]
        if len(values) > self._max_rows:
            raise more_rows(self._max_rows)
        return values, columns

    def _records(self, body: bytes) -> tuple[Iterator[Record], Sequence[str]]:
        """Return the records of the rows, and the names of their columns."""
        (_, header), records = _opened(body, SIGNS, has_header=True)
        names = column_names(header, self._names)
        if set(names) & set(self._names):
            return records, names
        first, records = _opened(body, self._sign(body), has_header=False)
        return chain([first], records), self._names

    def _sign(self, body: bytes) -> str:
        """Return the separator of a body without a header: the sign that makes a row for the model of the first line.

        If several do, as in `0,5;7`, it is the first with which every feature accepts its cell; if none does, a comma.
        """
        rows = {sign: _first_row(body, sign) for sign in SIGNS}
        fitting = [sign for sign, cells in rows.items() if len(cells) == len(self._names)]
        return next((sign for sign in fitting if self._accepts(rows[sign])), next(iter(fitting), ","))

    def _accepts(self, cells: Sequence[str]) -> bool:
        try:
            for feature, cell in zip(self._features, cells, strict=True):
                value_of(feature, feature.codes, self._readers[feature.name](cell))
        except InvalidValueError:
            return False
        return True


def _first_row(body: bytes, sign: str) -> list[str]:
    """Return the cells of the first row; none where it is not CSV with this separator."""
    try:
        return _opened(body, sign, has_header=False)[0][1]
    except ServiceError:
        return []


def _opened(body: bytes, signs: str, *, has_header: bool) -> tuple[Record, Iterator[Record]]:
    """Return the first record and those behind it; raises ServiceError."""
    records = iter(Records(io.BytesIO(body), signs, has_header=has_header))
    first = next(records, None)
    if first is None:
        raise ServiceError(422, "invalid_request", "The body holds no row.")
    return first, records
