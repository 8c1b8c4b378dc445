"""The native JSON body as a table, for answers that are one: it is held whole, so it has the limit of such bodies."""

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.json_text.json_body import check_distinct, parse
from batchproof.service.protocols.native.protocol import fields
from batchproof.service.protocols.options import Options
from batchproof.service.runtime.json_bytes import compact
from batchproof.service.tables.block import Blocks, Reading, places_of
from batchproof.service.tables.readers.json_lines import LinesBlock, LinesTable


def object_blocks(file: BinaryIO, reading: Reading, limit_bytes: int) -> Blocks:
    """Read {"rows": [...], "columns": [...]}; raises 400, 413 or 422."""
    body = file.read(limit_bytes + 1)
    if len(body) > limit_bytes:
        raise errors.body_too_large(limit_bytes)
    content = parse(body)
    rows, columns, on_error = fields(content, reading.signature)
    check_distinct(body, content)
    _check_asked(content, on_error)
    if columns is not None:
        names = [str(name) for name in columns]
        places_of(names, reading)
        rows = [_named(row, names) for row in rows]
    table = LinesTable(reading, "row")
    for start in range(0, len(rows), reading.block_rows):
        block = rows[start : start + reading.block_rows]
        yield LinesBlock(table, [(number, compact(row)) for number, row in enumerate(block, start)])


def _check_asked(content: Mapping[str, Any], on_error: str) -> None:
    """Raise 422 for fields that only a JSON response has a place for, so that the caller knows they do nothing here."""
    if on_error == "row":
        raise ServiceError(
            422, "invalid_request", "Where the answer is a table, on_error is a parameter: ?on_error=row."
        )
    for name, none in Options()._asdict().items():
        if content.get(name, none) is not none:
            sentence = f"Where the answer is a table, {name} has no column; ask for it with an answer in JSON."
            raise ServiceError(422, "invalid_request", sentence)


def _named(row: Any, names: Sequence[str]) -> Any:
    """Return a list in the order of `names` as an object; anything else becomes null, which the encoder refuses."""
    return dict(zip(names, row, strict=True)) if isinstance(row, list) and len(row) == len(names) else None
