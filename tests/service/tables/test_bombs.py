"""Small tables that would unpack to much: refused by what they say of themselves, before anything is unpacked."""

import io
import struct
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from service.errors import ServiceError
from service.features import Encoder
from service.tables.block import Reading
from service.tables.bounds import PIECE_BYTES
from service.tables.formats import ARROW_STREAM, PARQUET, Format
from service.tables.parameters import Parameters
from service.tables.table import blocks_of
from tests.bundles import INPUTS, random_rows, signature_of

SIGNATURE = signature_of("multiclass", INPUTS)
NAMES = [feature["name"] for feature in INPUTS]
LIMIT = 1 << 30
ROWS = 2000


def table_with(column: Any, rows: int = ROWS) -> pa.Table:
    """Return good rows with one more column."""
    good = random_rows(SIGNATURE, 1, seed=2) * rows
    table = pa.table({name: [row[place] for row in good] for place, name in enumerate(NAMES)})
    return table.append_column("note", column)


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def packed(table: pa.Table, **ways: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd", **ways)
    return sink.getvalue()


def rows_of(body: bytes, found: Format, max_bytes: int | None = LIMIT) -> int:
    """Return the rows of a table that a stranger sent; raises ServiceError."""
    reading = Reading(Encoder(SIGNATURE), Parameters(extra="ignore"), 2048, max_bytes)
    return sum(block.rows for block in blocks_of(io.BytesIO(body), found, reading))


LONG = "a" * (PIECE_BYTES + 1)
NAMED = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int8()), ["a" * (1 << 17)])


@pytest.mark.parametrize(
    "found,body",
    [
        (ARROW_STREAM, stream(table_with(pa.array([LONG]), 1), "zstd")),
        (ARROW_STREAM, stream(table_with(pa.array([LONG]), 1), "lz4")),
        (ARROW_STREAM, stream(table_with(pa.DictionaryArray.from_arrays([0], [LONG]), 1), "zstd")),
        (ARROW_STREAM, stream(table_with(NAMED))),
        (PARQUET, packed(table_with(pa.array([LONG]), 1), use_dictionary=False)),
        (PARQUET, packed(table_with(pa.array([LONG]), 1), use_dictionary=True)),
        (PARQUET, packed(table_with(pa.array([LONG]), 1), use_dictionary=False, data_page_version="2.0")),
        (PARQUET, packed(table_with(pa.array([[0] * (1 << 23)], pa.list_(pa.int8())), 1))),
        (PARQUET, packed(table_with(NAMED.cast(pa.string())))),
        (PARQUET, packed(table_with(pa.array([None] * ROWS, pa.binary(1 << 20))))),
    ],
    ids=["zstd", "lz4", "dictionary", "named", "page", "dictionary page", "page v2", "list", "one text", "fixed"],
)
def test_a_bomb_is_refused(found: Format, body: bytes) -> None:
    """A piece of a small body that would take more than PIECE_BYTES is refused with 413, whatever hides it."""
    assert len(body) < PIECE_BYTES / 100

    with pytest.raises(ServiceError, match="unpacks to") as refused:
        rows_of(body, found)
    assert (refused.value.status, refused.value.code) == (413, "batch_too_large")


@pytest.mark.parametrize("found", [ARROW_STREAM, PARQUET], ids=lambda one: one.name)
def test_many_pieces_have_a_bound_together(found: Format) -> None:
    """Pieces that each are small are refused where all of them unpack to more than a table may have."""
    table = table_with(pa.array(["a" * 1000] * ROWS))
    body = stream(table, "zstd") if found == ARROW_STREAM else packed(table, use_dictionary=False)

    assert rows_of(body, found) == ROWS
    with pytest.raises(ServiceError) as refused:
        rows_of(body, found, 1_000_000)
    assert refused.value.status == 413


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
def test_what_is_packed_well_is_taken(compression: str | None) -> None:
    """Tables of some bytes a value are read as they were, packed or not, by strangers and by ourselves."""
    table = table_with(pa.array([f"note {place}" for place in range(ROWS)]))

    assert rows_of(stream(table, compression), ARROW_STREAM) == ROWS
    assert rows_of(packed(table), PARQUET) == rows_of(packed(table), PARQUET, None) == ROWS


def test_a_stated_length_is_not_believed() -> None:
    """A buffer that states less, or nothing sensible, does not unpack to more: the body is refused."""
    body = bytearray(stream(table_with(pa.array(["a" * 1_000_000]), 1), "zstd"))
    at = body.rindex(struct.pack("<q", 1_000_000))
    for stated in (10, -5, 1 << 62):
        body[at : at + 8] = struct.pack("<q", stated)
        with pytest.raises(ServiceError) as refused:
            rows_of(bytes(body), ARROW_STREAM)
        assert refused.value.status in (400, 413)
