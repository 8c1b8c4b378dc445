"""A table of any format, opened for reading or begun for writing."""

from typing import BinaryIO

from batchproof.service.features.texts.csv_records import SIGNS
from batchproof.service.inference.model import Described
from batchproof.service.tables.block import Blocks, Reading
from batchproof.service.tables.formats import CSV, JSON, LINES, TSV, Format, pyarrow
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.readers.delimited import text_blocks
from batchproof.service.tables.readers.json_lines import line_blocks
from batchproof.service.tables.writers.text import JsonWriter, LinesWriter, TextWriter, Writer

DELIMITERS = {CSV: ",", TSV: "\t"}  # of answers, and CSV goes by its table


def blocks_of(file: BinaryIO, found: Format, reading: Reading) -> Blocks:
    """Read `file` block by block; raises ServiceError where it is not such a table or does not fit the model."""
    if found in DELIMITERS:
        return text_blocks(file, reading, SIGNS if found == CSV else DELIMITERS[found])
    if found == LINES:
        return line_blocks(file, reading)
    pyarrow(found)
    from batchproof.service.tables.readers.arrow import columnar_blocks

    return columnar_blocks(file, found, reading)


def body_blocks(file: BinaryIO, found: Format, reading: Reading, most_json_bytes: int) -> Blocks:
    """Do so for the body of a request, which may be native JSON of up to `most_json_bytes`."""
    if found != JSON:
        return blocks_of(file, found, reading)
    from batchproof.service.tables.readers.json_rows import object_blocks

    return object_blocks(file, reading, most_json_bytes)


def writer_of(
    wanted: Format,
    model: Described,
    parameters: Parameters,
    request_id: str = "",
    *,
    has_head: bool = True,
    file: BinaryIO | None = None,
) -> Writer:
    """Return the writer of an answer; raises 415 where its library is not installed.

    A text table without a header continues another one. Arrow writes directly into `file` if there is one.
    """
    if wanted in DELIMITERS:
        return TextWriter(model, parameters, None if wanted == CSV else DELIMITERS[wanted], has_head=has_head)
    if wanted == LINES:
        return LinesWriter(model, parameters)
    if wanted == JSON:
        return JsonWriter(model, request_id)
    pyarrow(wanted)
    from batchproof.service.tables.writers.arrow import ColumnarWriter

    return ColumnarWriter(model, parameters, wanted, file)
