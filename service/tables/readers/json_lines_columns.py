"""The columns that JSON Lines are given where the answer has columns: the keys of the first line that is a row.

Extra keys keep the text of their value as it is written: any line may have a value of another type, and a float64 would
round a number of twenty digits.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from batchproof.service.tables.block import Reading, invalid_table

DECODE = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class LineColumns:
    """Which columns there are, and each line's values in them."""

    def __init__(self, reading: Reading) -> None:
        """Begin without a column."""
        self.names: tuple[str, ...] = ()
        self._held: frozenset[str] = frozenset()  # of the names
        self._features = reading.encoder.names
        self._known = frozenset(self._features)
        self._passing = reading.signature.passing
        self._takes_extra = reading.parameters.extra == "ignore"
        self._alone = reading.parameters.spelled("answer", "alone")

    def begin(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take the keys of the first of `rows` that has any, and the features that it lacks behind them.

        Nothing happens where that was done: a table has one header.
        """
        if not self.names:
            first = next(filter(None, rows), {})
            keys = [key for key in first if self._takes_extra or key in self._known or key in self._passing]
            self.names = tuple(dict.fromkeys([*keys, *self._features]))
            self._held = frozenset(self.names)

    def row(self, line: bytes, row: dict[str, Any], place: tuple[str, int]) -> Mapping[str, Any]:
        """Return what `line`, parsed to `row`, has for each column: text where it is not a feature, None for null.

        Raises 422 for a key without a column. Where extra keys are refused, the row is refused already.
        """
        if row.keys() <= self._known or not (self._takes_extra or row.keys() & self._passing):
            return row
        columnless = [key for key in row if key not in self._held and (self._takes_extra or key in self._passing)]
        if columnless:
            kind, number = place
            raise invalid_table(
                f"{kind.capitalize()} {number} has the key {columnless[0]!r:.200}, but the first {kind} "
                f"does not. Ask for the answer as JSON Lines to keep all keys, or set {self._alone} to keep none."
            )
        return {**row, **self._texts(line, place)}

    def _texts(self, line: bytes, place: tuple[str, int]) -> Mapping[str, str | None]:
        try:
            values = DECODE(line)
        except RecursionError as error:
            kind, number = place
            raise invalid_table(f"{kind.capitalize()} {number} is nested too deeply.") from error
        return {key: _text(raw) for key, raw in values.items() if key not in self._known}


def _text(raw: msgspec.Raw) -> str | None:
    """Return a text as it is, and what else JSON has as it is written there."""
    written = bytes(raw)
    if written.startswith(b'"'):
        return str(orjson.loads(written))
    return None if written == b"null" else written.decode()
