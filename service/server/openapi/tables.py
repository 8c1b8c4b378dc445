"""Tables in the OpenAPI document: the media types of the predict routes, with the example rows and their very answer."""

import io
from collections.abc import Sequence
from typing import Any

import orjson

from batchproof.service.inference.model import Model
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import DELIMITERS, blocks_of, writer_of
from batchproof.service.tables.formats import CSV, IN_REQUESTS, LINES, TSV, Format
from batchproof.service.tables.parameters import CHOICES, Parameters
from batchproof.service.tables.readers.json_lines import LinesBlock, LinesTable
from batchproof.service.tables.writers.csv_text import csv_text
from batchproof.service.tables.writers.result_columns import Answered, ResultColumns

Json = dict[str, Any]
WORDS = {
    CSV: "UTF-8; the first line names the columns, in any order; an empty cell or NA is missing",
    TSV: "as CSV, with tabs",
    LINES: "each line is an object, or a list in signature order",
}
PACKED = "columns by name, in any order; needs the extra `tables` on the server"
MEANINGS = {
    "extra": "For a table: refuse columns that training did not know, or copy them to the answer.",
    "answer": "For a table: return its columns and the predictions, or only the predictions.",
    "on_error": "For a table: stop at a bad row, or write its error into the column `error`.",
}
REFUSALS = {
    "408": "The body of a table stopped arriving.",
    "415": "The Content-Encoding is not supported, or the format of the table needs a package that is not installed.",
}


def parameters() -> list[Json]:
    """Return the query parameters of tables."""
    chosen = [_parameter(name, MEANINGS[name], {"enum": list(CHOICES[name])}) for name in CHOICES]
    return [*chosen, _parameter("prefix", "For a table: text before the names of added columns.", {"type": "string"})]


def bodies(model: Model, rows: Sequence[Sequence[Any]]) -> tuple[Json, Json]:
    """Return {media type: description} of tables as requests, with `rows` in signature order as the example, and as answers."""
    examples = {one: _examples(model, rows, one) for one in IN_REQUESTS}
    requests = {one.media_type: _described(one, sent) for one, (sent, _) in examples.items()}
    return requests, {one.media_type: _described(one, answered) for one, (_, answered) in examples.items()}


def _described(found: Format, example: str) -> Json:
    if found.needs_pyarrow:
        return {"schema": {"type": "string", "format": "binary", "description": PACKED}}
    return {"schema": {"type": "string", "description": WORDS[found]}, "example": example}


def _examples(model: Model, rows: Sequence[Sequence[Any]], found: Format) -> tuple[str, str]:
    """Return the rows as a text table and the text that answers it."""
    if found.needs_pyarrow:
        return "", ""
    has_room = set(ResultColumns(model.manifest, Parameters()).names).isdisjoint(model.encoder.names)
    asked = Parameters(answer="append" if has_room else "alone")
    reading = Reading(model.encoder, asked, len(rows))
    block = LinesBlock(LinesTable(reading), [(number, orjson.dumps(row)) for number, row in enumerate(rows, 1)])
    if found in DELIMITERS:
        body = csv_text([block.names(), *block.cells()], DELIMITERS[found])
    else:
        body = b"".join(line + b"\n" for line in block.lines()).decode()
    (own,) = blocks_of(io.BytesIO(body.encode()), found, reading)
    read = own.read()
    (outputs,) = model.runner.run([read.arrays])
    writer = writer_of(found, model, asked)
    return body, (writer.write(Answered(own, read.kept, outputs, ())) + writer.end()).decode()


def _parameter(name: str, meaning: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": meaning, "schema": schema}
