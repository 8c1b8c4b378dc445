"""Blocks of every format: the very arrays that rows get one by one, and every fault in its place."""

import csv
import io
import json
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from batchproof.service.errors import FeatureError, ServiceError
from batchproof.service.features.columns import encode_column
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.tables.block import CACHED_ROWS, Block, Column, Reading, read_columns
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, CSV, LINES, PARQUET, TSV, Format
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.readers.arrow import encode_array
from tests.bundles import INPUTS, random_rows, signature_of

SIGNATURE = signature_of("multiclass", INPUTS)
ENCODER = Encoder(SIGNATURE)
PLAIN = Parameters()
NAMES = list(ENCODER.names)
FORMATS = (CSV, TSV, LINES, ARROW_STREAM, ARROW_FILE, PARQUET)


def text_of(rows: list[list[Any]], names: list[str], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(names)
    for row in rows:
        writer.writerow(
            ["" if value is None else str(value).lower() if isinstance(value, bool) else value for value in row]
        )
    return text.getvalue().encode()


def table_of(rows: list[list[Any]], names: list[str], found: Format) -> bytes:
    """Return rows as a table of the format."""
    if found in (CSV, TSV):
        return text_of(rows, names, "," if found == CSV else "\t")
    if found == LINES:
        return b"\n".join(json.dumps(dict(zip(names, row, strict=True))).encode() for row in rows)
    table = pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})
    sink = io.BytesIO()
    if found == PARQUET:
        parquet.write_table(table, sink)
        return sink.getvalue()
    opened = ipc.new_stream(sink, table.schema) if found == ARROW_STREAM else ipc.new_file(sink, table.schema)
    with opened as writer:
        writer.write_table(table)
    return sink.getvalue()


def read(body: bytes, found: Format, parameters: Parameters = PLAIN, block_rows: int = 16) -> list[Block]:
    file: BinaryIO = io.BytesIO(body)
    return list(blocks_of(file, found, Reading(ENCODER, parameters, block_rows)))


def arrays_of(blocks: list[Block]) -> tuple[bytes, bytes]:
    read_blocks = [block.read() for block in blocks]
    assert [problem for one in read_blocks for problem in one.problems] == []
    numeric = np.concatenate([one.arrays.numeric for one in read_blocks if one.arrays.numeric is not None])
    codes = np.concatenate([one.arrays.categorical for one in read_blocks if one.arrays.categorical is not None])
    return numeric.tobytes(), codes.tobytes()


@pytest.mark.parametrize("found", FORMATS, ids=lambda one: one.name)
def test_every_format_gives_the_arrays_of_rows(found: Format) -> None:
    """Columns in any order, in blocks of any size, are the arrays that the precise path makes of the rows."""
    rows = random_rows(SIGNATURE, 100, seed=4)
    wanted = ENCODER.encode_rows(rows).arrays
    body = table_of([row[::-1] for row in rows], NAMES[::-1], found)

    assert wanted.numeric is not None
    assert wanted.categorical is not None
    for block_rows in (1, 7, 1000):
        found_arrays = arrays_of(read(body, found, block_rows=block_rows))
        assert found_arrays == (wanted.numeric.tobytes(), wanted.categorical.tobytes())


@pytest.mark.parametrize("found", FORMATS, ids=lambda one: one.name)
def test_an_extra_column_is_refused_or_ignored(found: Format) -> None:
    """A column that is no feature is refused by name, unless the caller says that it may be there."""
    rows = random_rows(SIGNATURE, 5, seed=4)
    body = table_of([[*row, "x"] for row in rows], [*NAMES, "lengt_mm"], found)

    assert len(arrays_of(read(body, found, Parameters(extra="ignore")))) == 2
    if found == LINES:
        problems = read(body, found)[0].read().problems
        assert {problem.message for problem in problems} == {"unknown feature; did you mean 'length_mm'?"}
    else:
        with pytest.raises(ServiceError, match=r"no feature 'lengt_mm'.*Did you mean 'length_mm'"):
            read(body, found)


@pytest.mark.parametrize("found", [one for one in FORMATS if one != LINES], ids=lambda one: one.name)
def test_a_missing_column_is_refused(found: Format) -> None:
    """A table without a feature's column is refused before any row is read."""
    rows = random_rows(SIGNATURE, 3, seed=4)

    with pytest.raises(ServiceError, match="The table has no column 'owned'"):
        read(table_of([row[:-1] for row in rows], NAMES[:-1], found), found)


@pytest.mark.parametrize("found", FORMATS, ids=lambda one: one.name)
def test_bad_rows_are_named_and_good_ones_kept(found: Format) -> None:
    """Every fault of a block is found with its row and feature; the other rows are encoded as if alone."""
    rows = random_rows(SIGNATURE, 12, seed=2)
    rows[3][2], rows[7][2] = None, None  # count is never missing
    (block,) = read(table_of(rows, NAMES, found), found, block_rows=20)
    result = block.read()
    wanted = ENCODER.encode_rows([row for place, row in enumerate(rows) if place not in (3, 7)]).arrays

    assert [(problem.row, problem.feature) for problem in result.problems] == [(3, "count"), (7, "count")]
    assert list(result.kept) == [place for place in range(12) if place not in (3, 7)]
    assert result.arrays.numeric is not None
    assert wanted.numeric is not None
    assert result.arrays.numeric.tobytes() == wanted.numeric.tobytes()
    expected = ("line", 5) if found in (CSV, TSV) else ("line", 4) if found == LINES else ("row", 3)
    assert block.place(3) == expected


def test_lines_are_counted_through_quotes_and_blanks() -> None:
    """A cell that spans lines and a blank line move the numbers of the lines behind them."""
    rows = random_rows(SIGNATURE, 3, seed=2)
    rows[0][1] = "on\ntwo lines"
    head, first, rest = table_of(rows, NAMES, CSV).decode().partition("two lines")
    body = (head + first + rest.replace("\r\n", "\r\n\r\n", 1)).encode()
    (block,) = read(body, CSV)

    assert [block.place(row) for row in range(3)] == [("line", 2), ("line", 5), ("line", 6)]


@pytest.mark.parametrize(
    "line,words",
    [
        ("1,2", "the line has 2 cells, but there are 7 columns"),
        ("inf,Oslo,1,2020-01-01,true,1,true", "finite"),
        ("1,Oslo,NA,2020-01-01,true,1,true", "null is not allowed, because the feature was never missing in training"),
        ("1_0,Oslo,1,2020-01-01,true,1,true", "expected a number"),
        ("1,Oslo,1,yesterday,true,1,true", "ISO 8601"),
        ("1,Oslo,1,2020-01-01,maybe,1,true", "true, false, 1 or 0"),
    ],
)
def test_cells_that_are_refused(line: str, words: str) -> None:
    """Each cell that stands for no value of its feature is refused with what would be right."""
    body = f"{','.join(NAMES)}\n30,Oslo,1,2020-01-01,true,1,true\n{line}\n".encode()
    (block,) = read(body, CSV)
    (problem,) = block.read().problems

    assert problem.row == 1
    assert words in problem.message


@pytest.mark.parametrize(
    "found,body,code",
    [
        (CSV, b"", "invalid_table"),
        (CSV, b"\xff\xfe", "broken_csv"),
        (CSV, b'length_mm,"island', "broken_csv"),
        (CSV, b"length_mm" + b"x" * (1 << 21), "broken_csv"),
        (LINES, b"x" * (1 << 21), "broken_json"),
        (ARROW_STREAM, b"", "broken_table"),
        (ARROW_STREAM, b"\xff\xff\xff\xff\x08\x00\x00\x00garbage!", "broken_table"),
        (ARROW_FILE, b"ARROW1", "broken_table"),
        (PARQUET, b"PAR1 no PAR1", "broken_table"),
    ],
)
def test_what_is_no_table_is_refused(found: Format, body: bytes, code: str) -> None:
    """Broken bytes are refused with a code of their own, whatever is broken."""
    with pytest.raises(ServiceError) as refused:
        read(body, found)

    assert refused.value.code == code


def test_a_line_holds_one_object() -> None:
    """Lines that only together would be JSON are each refused."""
    good = json.dumps(dict(zip(NAMES, random_rows(SIGNATURE, 1)[0], strict=True)))
    first, last = good[:20], good[20:]
    (block,) = read(f"{first}\n{last}\n{good}{good}\n{good}\n".encode(), LINES)
    result = block.read()

    assert list(result.kept) == [3]
    assert [problem.row for problem in result.problems] == [0, 1, 2]


TEXTS = f"{','.join(NAMES)},note\n41,Oslo,3,2020-01-01,true,2,NA,007\n-0,NA,4.5,NA,0,1,false,NA\n".encode()


def test_cells_keep_their_types_in_json() -> None:
    """Whole numbers stay whole in JSON Lines, truth stays truth, missing cells are null, other columns stay text."""
    (block,) = read(TEXTS, CSV, Parameters(extra="ignore"))
    first, second = block.lines()

    assert first == (
        b'{"length_mm":41,"island":"Oslo","count":3,"seen":"2020-01-01","adult":true,"grade":2,"owned":null,"note":"007"}'
    )
    assert second == (
        b'{"length_mm":-0.0,"island":null,"count":4.5,"seen":null,"adult":false,"grade":1,"owned":false,"note":"NA"}'
    )


def test_a_cell_that_is_no_number_stays_text_in_json() -> None:
    """What was refused is in the answer as it came, and not as a null that hides it."""
    (block,) = read(TEXTS.replace(b"41,", b"1e999,"), CSV, Parameters(extra="ignore"))

    assert block.lines()[0].startswith(b'{"length_mm":"1e999",')


def test_cells_keep_their_types_through_a_typed_table() -> None:
    """Text to Arrow to text: truth is boolean in between, and whole numbers come back as they were written."""
    (block,) = read(TEXTS, CSV, Parameters(extra="ignore"))
    batch, sink = block.batch(), io.BytesIO()
    parquet.write_table(pa.Table.from_batches([batch]), sink)
    (again,) = read(sink.getvalue(), PARQUET, Parameters(extra="ignore"))

    assert [str(kind) for kind in batch.schema.types] == [
        "double", "string", "double", "string", "bool", "int64", "bool", "string",
    ]  # fmt: skip
    assert [list(row) for row in again.cells()] == [
        ["41.0", "Oslo", "3", "2020-01-01", "true", "2", "", "007"],
        ["-0.0", "", "4.5", "", "false", "1", "false", "NA"],
    ]
    assert [json.loads(line)["count"] for line in again.lines()] == [3, 4.5]
    assert b'"count":3,' in again.lines()[0]


def test_short_floats_have_short_digits_beside_the_features() -> None:
    """A float32 column that goes along has its own digits; a feature has those of the number that the model reads."""
    rows = random_rows(SIGNATURE, 3, seed=4)
    columns: dict[str, Any] = {name: [row[place] for row in rows] for place, name in enumerate(NAMES)}
    short = pa.array([0.1, None, -0.0], pa.float32())
    table = pa.table({**columns, "length_mm": short, "prediction": short})
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    (block,) = read(sink.getvalue(), PARQUET, Parameters(extra="ignore"))

    assert [[row[0], row[-1]] for row in block.cells()] == [["0.10000000149011612", "0.1"], ["", ""], ["-0.0", "-0.0"]]
    assert [json.loads(line)["prediction"] for line in block.lines()] == [0.1, None, -0.0]


def test_bytes_of_other_columns_are_base64_in_text() -> None:
    """Bytes go along, alone and in lists, in a form that any reader can decode."""
    rows = random_rows(SIGNATURE, 2, seed=5)
    columns: dict[str, Any] = {name: [row[place] for row in rows] for place, name in enumerate(NAMES)}
    parts = pa.array([[b"\xff", None], None], pa.list_(pa.binary()))
    sink = io.BytesIO()
    parquet.write_table(pa.table({**columns, "blob": pa.array([b"\x00\xff", None]), "parts": parts}), sink)
    (block,) = read(sink.getvalue(), PARQUET, Parameters(extra="ignore"))

    assert [row[-2:] for row in block.cells()] == [["AP8=", '["/w==",null]'], ["", ""]]
    lines = [json.loads(line) for line in block.lines()]
    assert [(line["blob"], line["parts"]) for line in lines] == [("AP8=", ["/w==", None]), (None, None)]


def test_true_and_false_may_be_written_as_numbers() -> None:
    """A feature of true and false takes 1 and 0, which its boolean column holds; another number is a fault of its row."""
    row = dict(zip(NAMES, random_rows(SIGNATURE, 1)[0], strict=True))
    blocks = [read(json.dumps({**row, "adult": value, "owned": value}).encode(), LINES)[0] for value in (1, 0.0, 7)]

    assert [block.batch()["adult"].to_pylist() for block in blocks] == [[True], [False], [None]]
    assert [block.batch()["owned"].to_pylist() for block in blocks] == [[True], [False], [None]]
    assert [(problem.feature, problem.message.partition(", got")[0]) for problem in blocks[2].read().problems] == [
        ("adult", "expected true, false, 1 or 0"),
        ("owned", "expected true, false, 1 or 0"),
    ]


VALUES = st.lists(
    st.one_of(st.none(), st.sampled_from(["Oslo", "Ærø", "oslo", "", " Oslo"]), st.text(max_size=4)), max_size=30
)
TYPES = st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])


@given(values=VALUES, kind=TYPES, start=st.integers(0, 3))
@settings(deadline=None, max_examples=300)
def test_arrow_codes_are_the_codes_of_training(values: list[str | None], kind: pa.DataType, start: int) -> None:
    """Any Arrow text column, sliced or not, gets the very codes that encode_column gives its values one by one."""
    feature = SIGNATURE.inputs[1]
    array = pa.array(values, pa.string())
    array = array.dictionary_encode() if pa.types.is_dictionary(kind) else array.cast(kind)

    assert encode_array(feature, array[start:]).tobytes() == encode_column(feature, values[start:]).tobytes()


NUMBERS = st.lists(st.one_of(st.none(), st.integers(-(1 << 62), 1 << 62), st.sampled_from([1, 2, -3, 77])), max_size=20)


@given(values=NUMBERS, place=st.sampled_from([0, 5]))
@settings(deadline=None, max_examples=300)
def test_arrow_integers_are_the_numbers_of_training(values: list[int | None], place: int) -> None:
    """Integers become the numbers, or the codes, that encode_column gives them; both refuse the same columns."""
    feature = SIGNATURE.inputs[place]
    try:
        wanted: bytes | None = encode_column(feature, values).tobytes()
    except FeatureError:
        wanted = None
    try:
        found: bytes | None = encode_array(feature, pa.array(values, pa.int64())).tobytes()
    except FeatureError:
        found = None

    assert found == wanted


@given(
    ticks=st.lists(st.one_of(st.none(), st.integers(-(1 << 62), 1 << 62)), max_size=10),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
)
@settings(deadline=None, max_examples=200)
def test_arrow_dates_are_the_seconds_of_training(ticks: list[int | None], unit: str) -> None:
    """Timestamps of any unit become the seconds that numpy's datetime64 of the same unit becomes."""
    feature = SIGNATURE.inputs[3]
    if unit in ("s", "ms"):
        ticks = [None if one is None else one >> 32 for one in ticks]
    values = np.array(["NaT" if one is None else one for one in ticks], f"datetime64[{unit}]")

    assert encode_array(feature, pa.array(values)).tobytes() == encode_column(feature, values).tobytes()


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_dates_beyond_their_bits_are_refused(unit: str) -> None:
    """A date whose microseconds would wrap around to another date is refused."""
    with pytest.raises(ServiceError, match="beyond 64 bits"):
        encode_array(SIGNATURE.inputs[3], pa.array([1 << 62], pa.timestamp(unit)))


@pytest.mark.parametrize("line", [1, 2, 5, 9])
@pytest.mark.parametrize("fault", [b"\xff", b"x" * (1 << 20)], ids=["byte", "length"])
def test_what_is_no_text_is_told_by_its_own_line(line: int, fault: bytes) -> None:
    """A byte that is not UTF-8, or a line without end, has its own line, also inside a record of several lines."""
    rows = [[f"{name}"] for name in ("a", "b", "c", '"d', "e", "f", "g", 'h"', "i")]
    lines = [
        ",".join([*NAMES, "note"]).encode(),
        *[b"33.5,Oslo,3,2020-01-01,true,2,false," + row[0].encode() for row in rows],
    ]
    lines[5:9] = [b"e", b"f", b"g", b'h"']
    lines[line - 1] += fault

    where = {1: ", name 8 of the columns,", 9: ""}.get(line, ", column 'note',")  # behind a quote is no column
    sentence = f"Line {line}{where} is not UTF-8" if fault == b"\xff" else f"Line {line} is not CSV in UTF-8"
    with pytest.raises(ServiceError, match=f"^{sentence}") as refused:
        read(b"\n".join(lines), CSV, Parameters(extra="ignore"))
    assert refused.value.code == "broken_csv"


def lines_of(*lines: str | bytes, extra: str = "ignore") -> tuple[list[tuple[int | None, str]], list[int]]:
    """Return what is wrong with which of the lines, and which are kept."""
    body = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    (block,) = read(body, LINES, Parameters(extra=extra))
    result = block.read()
    return [(problem.row, problem.message) for problem in result.problems], list(result.kept)


GOOD = '"island":"Oslo","count":3,"seen":"2020-01-01T12:30:00Z","adult":true,"grade":2,"owned":false}'


@pytest.mark.parametrize("extra", ["ignore", "refuse"])
def test_a_key_that_comes_twice_is_refused_in_its_line(extra: str) -> None:
    """Which of two values of a key is meant nobody can say: the line is refused by the key's name, others are not."""
    one, two = '{"length_mm":1,' + GOOD, '{"length_mm":1,"length_mm":2,' + GOOD
    escaped = '{"length_mm":1,"length\\u005fmm":2,' + GOOD
    hidden = two.replace("T12:30:00Z", "").replace('"length_mm":2', '"length_mm"\t\r :2')
    sentence = "the key 'length_mm' is given twice in one object"

    assert lines_of(one, one, extra=extra) == ([], [0, 1])
    assert lines_of(one, two, hidden, escaped, one, extra=extra) == ([(place, sentence) for place in (1, 2, 3)], [0, 4])


def test_a_key_twice_is_found_among_extra_columns() -> None:
    """Columns that go along unread are read for it too, and nested objects in them."""
    told = '{"note":"a: b","length_mm":1,' + GOOD
    twice = '{"note":1,"note":2,"length_mm":1,' + GOOD
    nested = '{"note":{"x":1,"x":2},"length_mm":1,' + GOOD

    assert lines_of(told, twice, nested) == (
        [
            (1, "the key 'note' is given twice in one object"),
            (2, "the key 'x' is given twice in one object"),
        ],
        [0],
    )


def test_a_line_of_another_encoding_is_told() -> None:
    """A line of JSON that is not UTF-8 is refused with the byte and what to do, and the others are kept."""
    (found,), kept = lines_of('{"length_mm":1,' + GOOD, b'{"note":"\xe9",' + GOOD.encode())

    sentence = "the line is not UTF-8 (byte 0xe9): convert the table with iconv -f latin1 -t utf-8"
    assert found == (1, sentence)
    assert lines_of(b'{"note":"\xe9","length_mm":1,' + GOOD.encode()) == ([(0, sentence)], [])
    assert kept == [0]


@pytest.mark.parametrize("rows", [0, 1, CACHED_ROWS - 1, CACHED_ROWS, 2 * CACHED_ROWS + 1])
def test_columns_stand_side_by_side_in_blocks_of_any_length(rows: int) -> None:
    """Each value is in its row and its feature's place, also where a block is joined piece by piece; codes are integers."""
    columns = [np.arange(rows) + place * 1e6 for place in range(len(SIGNATURE.inputs))]
    read = read_columns(SIGNATURE, rows, [Column(column.copy, list) for column in columns])

    for array, is_code in zip(read.arrays, (False, True), strict=True):
        kinds = [feature.kind == "categorical" for feature in SIGNATURE.inputs]
        wanted = [column for column, kind in zip(columns, kinds, strict=True) if kind == is_code]
        assert array is not None
        assert array.dtype == (np.int64 if is_code else np.float64)
        assert array.flags.c_contiguous
        assert array.tolist() == np.transpose(wanted).tolist()
