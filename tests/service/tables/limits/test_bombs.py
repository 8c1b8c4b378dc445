"""Small tables that would unpack to much: refused by what they say of themselves, before anything is unpacked."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import ARROW_STREAM, PARQUET, Format
from batchproof.service.tables.limits import parquet_pages
from batchproof.service.tables.limits.budget import PIECE_BYTES
from batchproof.service.tables.parameters import Parameters
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


def rows_of(body: bytes, found: Format, max_bytes: int | None = LIMIT, answer: str = "append") -> int:
    """Return the rows of a table that a stranger sent; raises ServiceError."""
    reading = Reading(Encoder(SIGNATURE), Parameters(extra="ignore", answer=answer), 2048, max_bytes)
    return sum(block.rows for block in blocks_of(io.BytesIO(body), found, reading))


LONG = "a" * (PIECE_BYTES + 1)
BYTES = pa.DictionaryArray.from_arrays(
    pa.array([0] * ROWS, pa.int8()), pa.array([b"a" * (1 << 16)], pa.binary(1 << 16))
)
NAMED = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int8()), ["a" * (1 << 16)])


@pytest.mark.parametrize(
    "found,made",
    [
        (ARROW_STREAM, lambda: stream(table_with(pa.array([LONG]), 1), "zstd")),
        (ARROW_STREAM, lambda: stream(table_with(pa.array([LONG]), 1), "lz4")),
        (ARROW_STREAM, lambda: stream(table_with(pa.DictionaryArray.from_arrays([0], [LONG]), 1), "zstd")),
        (ARROW_STREAM, lambda: stream(table_with(NAMED))),
        (ARROW_STREAM, lambda: stream(table_with(BYTES))),
        (PARQUET, lambda: packed(table_with(pa.array([LONG]), 1), use_dictionary=False)),
        (PARQUET, lambda: packed(table_with(pa.array([LONG]), 1), use_dictionary=True)),
        (PARQUET, lambda: packed(table_with(pa.array([LONG]), 1), use_dictionary=False, data_page_version="2.0")),
        (PARQUET, lambda: packed(table_with(pa.array([[0] * (1 << 23)], pa.list_(pa.int8())), 1))),
        (PARQUET, lambda: packed(table_with(NAMED.cast(pa.string())))),
        (PARQUET, lambda: packed(table_with(pa.array([None] * ROWS, pa.binary(1 << 16))))),
    ],
    ids=[
        "zstd",
        "lz4",
        "dictionary",
        "named",
        "named bytes",
        "page",
        "dictionary page",
        "page v2",
        "list",
        "one text",
        "fixed",
    ],
)
def test_a_bomb_is_refused(found: Format, made: Callable[[], bytes]) -> None:
    """A piece of a small body that would take more than PIECE_BYTES is refused with 413, whatever hides it."""
    body = made()  # here: where tests are collected, each process would hold them all
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


SHORT = pa.array(["a" * (1 << 16)])
ZEROS = pa.array([0] * ROWS, pa.int32())
NESTED = {
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([ROWS], pa.int32()), SHORT),
    "struct": pa.StructArray.from_arrays([pa.DictionaryArray.from_arrays(ZEROS, SHORT)], ["x"]),
    "views": pa.ListViewArray.from_arrays(ZEROS, pa.array([1 << 16] * ROWS, pa.int32()), pa.nulls(1 << 16, pa.int8())),
    "texts of an extension": pa.ExtensionArray.from_storage(
        pa.opaque(pa.dictionary(pa.int32(), pa.string()), "t", "v"), pa.DictionaryArray.from_arrays(ZEROS, SHORT)
    ),
    "dictionary of views": pa.DictionaryArray.from_arrays(ZEROS, SHORT.cast(pa.string_view())),
    "nulls": pa.FixedSizeListArray.from_arrays(pa.nulls(ROWS << 12), 1 << 12),
}


@pytest.mark.parametrize("column", NESTED.values(), ids=NESTED)
def test_nested_columns_of_strangers_are_not_written_out(column: pa.Array) -> None:
    """A column that may name one long value for every row is refused by its name, and left alone where nobody asks."""
    body = stream(table_with(column))
    assert len(body) < PIECE_BYTES / 100

    with pytest.raises(ServiceError, match=r"The column 'note' is of type .*: lists, structs, runs"):
        rows_of(body, ARROW_STREAM)
    assert rows_of(body, ARROW_STREAM, answer="alone") == rows_of(body, ARROW_STREAM, None) == ROWS


def test_texts_in_lists_are_refused_before_they_are_unpacked() -> None:
    """A list in Parquet may name a long text of a short page many times: it is refused by the type of its column."""
    body = packed(table_with(pa.array([["a" * (1 << 16)]] * ROWS)))
    assert len(body) < PIECE_BYTES / 100

    with pytest.raises(ServiceError, match="The column 'note' is of type list<"):
        rows_of(body, PARQUET)
    assert rows_of(body, PARQUET, answer="alone") == ROWS


def runs(rows: int) -> bytes:
    """Return a Parquet file of so many equal rows, which has some bytes a page."""
    (row,) = random_rows(SIGNATURE, 1, seed=2)
    columns = {name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), [value])
               for name, value in zip(NAMES, row, strict=True)}  # fmt: skip
    return packed(pa.table(columns), row_group_size=rows)


def test_runs_are_read_in_blocks() -> None:
    """Millions of rows in a few bytes are read block by block: memory does not grow with their number."""
    body, most = runs(3_000_000), 0
    assert len(body) < 200_000
    reading = Reading(Encoder(SIGNATURE), Parameters(), 2048, LIMIT)
    before = pa.total_allocated_bytes()
    for block in blocks_of(io.BytesIO(body), PARQUET, reading):
        assert block.rows <= 2048
        most = max(most, pa.total_allocated_bytes() - before)

    assert most < 4_000_000  # of 7 columns, each with 1 byte a value where all of it is held: 21 000 000


@pytest.mark.parametrize("found", [ARROW_STREAM, PARQUET], ids=lambda one: one.name)
def test_values_without_bytes_have_a_bound(found: Format) -> None:
    """A table has at most as many values as it may have bytes, also where its values have none."""
    rows = 200_000
    body = runs(rows) if found == PARQUET else stream(pa.table({name: pa.nulls(rows) for name in NAMES}))

    assert rows_of(body, found, rows * len(NAMES)) == rows
    with pytest.raises(ServiceError, match=f"The table has {rows * len(NAMES)} values or more") as refused:
        rows_of(body, found, rows * len(NAMES) - 1)
    assert (refused.value.status, refused.value.code) == (413, "too_many_values")


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
def test_what_is_packed_well_is_taken(compression: str | None) -> None:
    """Tables of some bytes a value are read as they were, packed or not, by strangers and by ourselves."""
    table = table_with(pa.array([f"note {place}" for place in range(ROWS)]))

    assert rows_of(stream(table, compression), ARROW_STREAM) == ROWS
    assert rows_of(packed(table), PARQUET) == rows_of(packed(table), PARQUET, None) == ROWS


def test_pages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Parquet file of more pages than are looked at is refused."""
    monkeypatch.setattr(parquet_pages, "MOST_PAGES", 10)
    body = packed(table_with(pa.array(range(ROWS))), data_page_size=1, write_batch_size=100, use_dictionary=False)
    with pytest.raises(ServiceError) as error:
        rows_of(body, PARQUET)
    assert (error.value.status, error.value.code) == (413, "too_many_pages")


def test_rows_that_a_footer_does_not_count_are_refused() -> None:
    """A Parquet file whose pages end before the rows that its footer states is refused: rows would be lost."""
    body = packed(table_with(pa.array(range(8)), 8), use_dictionary=False)
    sentences = set()
    for bit in range(32, 320):  # of the first page's header
        place = bit >> 3
        data = body[:place] + bytes([body[place] ^ 1 << (bit & 7)]) + body[place + 1 :]
        try:
            assert rows_of(data, PARQUET) == 8
        except ServiceError as error:
            sentences.add(error.message)
    assert any("rows where its footer states 8" in sentence for sentence in sentences)


def test_a_stated_length_is_not_believed() -> None:
    """A buffer that states less, or nothing sensible, does not unpack to more: the body is refused."""
    body = bytearray(stream(table_with(pa.array(["a" * 1_000_000]), 1), "zstd"))
    at = body.rindex(struct.pack("<q", 1_000_000))
    for stated in (10, -5, 1 << 62):
        body[at : at + 8] = struct.pack("<q", stated)
        with pytest.raises(ServiceError) as refused:
            rows_of(bytes(body), ARROW_STREAM)
        assert refused.value.status in (400, 413)
