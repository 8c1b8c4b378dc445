"""Broken tables: whatever the bytes are, a reader refuses with a ServiceError or reads, and never anything else."""

import io

import orjson
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import ARROW_STREAM, CSV, IN_REQUESTS, LINES, PARQUET, Format
from batchproof.service.tables.parameters import Parameters
from tests.bundles import INPUTS, random_rows, signature_of

ENCODER = Encoder(signature_of("multiclass", INPUTS))
NAMES = list(ENCODER.names)
ROWS = random_rows(ENCODER.signature, 20, seed=6)
TABLE = pa.table({name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)})


def bytes_of(found: Format) -> bytes:
    sink = io.BytesIO()
    if found == PARQUET:
        parquet.write_table(TABLE, sink)
    elif found == ARROW_STREAM:
        with ipc.new_stream(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    elif found == LINES:
        return b'{"length_mm":1,"island":"Oslo","count":1,"seen":null,"adult":true,"grade":1,"owned":null}\n' * 9
    else:
        return ",".join(NAMES).encode() + b"\n30,Oslo,1,2020-01-01,true,1,true\n" * 9
    return sink.getvalue()


GOOD = {found: bytes_of(found) for found in IN_REQUESTS}
CUTS = st.tuples(st.integers(0, 1 << 16), st.integers(0, 40), st.binary(max_size=40))


def follow(body: bytes, found: Format) -> None:
    """Read a table and everything that an answer takes from it."""
    parameters = Parameters(extra="ignore", on_error="row")
    try:
        for block in blocks_of(io.BytesIO(body), found, Reading(ENCODER, parameters, 4)):
            result = block.read()
            assert len(result.kept) + len({problem.row for problem in result.problems}) == block.rows
            assert all(isinstance(orjson.loads(line), dict) for line in block.lines())
            assert len(block.lines()) == len(block.cells()) == block.batch().num_rows == block.rows
    except ServiceError as error:
        refused = error.status
    else:
        refused = 400
    assert 400 <= refused < 500


@given(found=st.sampled_from(IN_REQUESTS), cuts=st.lists(CUTS, min_size=1, max_size=3))
@settings(deadline=None, max_examples=1500)
def test_changed_tables_are_refused_or_read(found: Format, cuts: list[tuple[int, int, bytes]]) -> None:
    """A good table with bytes cut out and put in is refused with a 4xx or read row by row."""
    body = GOOD[found]
    for at, length, put in cuts:
        place = at % (len(body) + 1)
        body = body[:place] + put + body[place + length :]
    follow(body, found)


@given(found=st.sampled_from(IN_REQUESTS), body=st.binary(max_size=300))
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_refused_or_read(found: Format, body: bytes) -> None:
    """Bytes that never were a table are refused with a 4xx or read row by row."""
    follow(body, found)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), st.text(max_size=3), st.lists(st.none())
)


@given(cells=st.lists(st.lists(st.text(alphabet='a1.,"\n\r-:TZé _', max_size=6), max_size=9), max_size=6))
@example(cells=[["30", "Oslo", "\x1c1", "2020-01-01", "true", "1", "true"]])  # white space to float, and not to int
@settings(deadline=None, max_examples=500)
def test_any_cells_are_refused_or_read(cells: list[list[str]]) -> None:
    """Under a right header any cells are refused with a 4xx or read row by row."""
    lines = "\n".join(",".join(row) for row in cells)
    follow(f"{','.join(NAMES)}\n{lines}".encode(), CSV)


@given(columns=st.lists(st.lists(SCALARS, min_size=3, max_size=3), min_size=7, max_size=7))
@settings(deadline=None, max_examples=500)
def test_any_arrow_types_are_refused_or_read(columns: list[list[object]]) -> None:
    """Under the right names columns of any types are refused with a 4xx or read row by row."""
    arrays = []
    for column in columns:
        try:
            arrays.append(pa.array(column))
        except (pa.ArrowException, OverflowError):  # no Arrow type holds them all
            arrays.append(pa.array([str(value) for value in column]))
    table = pa.table(arrays, names=NAMES)
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    follow(sink.getvalue(), ARROW_STREAM)
