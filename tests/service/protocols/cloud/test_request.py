"""The bodies of scoring platforms: every form is the same rows, and each fault has its own refusal."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.protocols.cloud.npy import file_of
from batchproof.service.protocols.cloud.request import ScoringReader
from batchproof.service.protocols.interface import Call, Decoded, Limits
from tests.bundles import INPUTS, NUMBERS, random_rows, signature_of

NAMES = [feature["name"] for feature in INPUTS]
ENCODER = Encoder(signature_of())
READER = ScoringReader(ENCODER, Limits(max_rows=20, error_limit=3))
NUMBER_READER = ScoringReader(Encoder(signature_of(inputs=NUMBERS)), Limits())
ROWS = random_rows(signature_of(), 6, seed=4)
NAMED = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
CSV_LINES = [",".join("" if cell is None else str(cell) for cell in row) for row in ROWS]
CSV = b"text/csv"
LINES = b"application/jsonlines"


def ask(body: Any, kind: bytes = b"application/json", *headers: tuple[bytes, bytes]) -> Decoded:
    """Read a body, bytes as they are, text encoded and anything else as JSON."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return READER.read(Call(raw, [(b"content-type", kind), *headers], "id"))


def assert_rows(found: Decoded, rows: list[Any]) -> None:
    """Compare with what the precise path makes of JSON rows."""
    for array, right in zip(found.arrays, ENCODER.encode_rows(rows).arrays, strict=True):
        assert array is not None
        assert right is not None
        assert array.tobytes() == right.tobytes()
    assert found.rows == len(rows)


@pytest.mark.parametrize(
    "content",
    [
        {"instances": ROWS},
        {"instances": NAMED},
        {"instances": NAMED, "parameters": {"any": 1}},
        {"instances": ROWS, "signature_name": "serving_default"},
        {"inputs": ROWS, "params": {}},
        {"inputs": {name: [row[name] for row in NAMED] for name in reversed(NAMES)}},
        {"dataframe_split": {"columns": NAMES, "data": ROWS, "index": list(range(6))}},
        {"dataframe_split": {"columns": NAMES[::-1], "data": [row[::-1] for row in ROWS]}},
        {"dataframe_records": NAMED},
        {"input_data": {"columns": NAMES, "data": ROWS, "index": [0]}},
        {"input_data": ROWS},
        {"rows": ROWS},
    ],
)
def test_every_json_form_is_the_same_rows(content: dict[str, Any]) -> None:
    """The platforms' JSON forms give the arrays that native rows give."""
    assert_rows(ask(content), ROWS)


@pytest.mark.parametrize(
    "body, kind",
    [
        ("\n".join(CSV_LINES), CSV),
        ("\r\n".join([",".join(NAMES), *CSV_LINES]) + "\r\n", b"text/csv; charset=utf-8"),
        ("\ufeff" + ",".join(NAMES) + "\n" + "\n\n".join(CSV_LINES), CSV),
        ("\n".join(",".join(reversed(line.split(","))) for line in [",".join(NAMES), *CSV_LINES]), b"application/csv"),
        ("\n".join(CSV_LINES), b"text/plain"),
        ("\n".join(CSV_LINES), b"application/x-www-form-urlencoded"),
        ("\n".join(json.dumps(row) for row in NAMED), LINES),
        ("\n\n".join(json.dumps(row) for row in ROWS) + "\r\n", b"application/x-ndjson"),
        ("\n".join(json.dumps({"instances": [row]}) for row in ROWS), b"application/x-jsonlines"),
        (json.dumps({"instances": NAMED}), b""),
        (json.dumps({"instances": NAMED}), b"application/octet-stream"),
        (json.dumps({"instances": NAMED}), b'application/json; charset="UTF-8"'),
    ],
)
def test_every_text_form_is_the_same_rows(body: str, kind: bytes) -> None:
    """CSV with and without a header, in any order, and JSON Lines give the arrays that native rows give."""
    assert_rows(ask(body, kind), ROWS)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_has_the_structures_of_every_text_table(end: str, delimiter: str) -> None:
    """Line ends, separators, blanks after the separators of a header, and columns of the training table that are not features."""
    signature = signature_of().model_copy(update={"target": "species", "ignored": ("id", "")})
    reader = ScoringReader(Encoder(signature), Limits())
    bare = [line.replace(",", delimiter) for line in CSV_LINES]
    cells = [line.split(",") for line in CSV_LINES]
    header = [",".join(NAMES).replace(",", delimiter)]
    spaced = [f"{delimiter} ".join(row) for row in [NAMES, *cells]]
    more = [delimiter.join(["", " species", *NAMES, "id"])]
    more += [delimiter.join([str(number), "Adelie", *row, '"a\nb"']) for number, row in enumerate(cells)]
    for lines in (bare, header + bare, spaced, more):
        body = end.join(["", *lines, "", ""]).encode()
        assert_rows(reader.read(Call(body, [(b"content-type", CSV)], "id")), ROWS)


def test_a_text_of_the_first_row_may_hold_separators() -> None:
    """Without a header, the separator is the one that gives as many cells as there are features."""
    body = "1,a|b|c|d|e|f|g|h,3,2020-01-01,true,1,true"
    assert_rows(ask(body, CSV), [[1, "a|b|c|d|e|f|g|h", 3, "2020-01-01", True, 1, True]])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_quoted_rows_without_a_header(delimiter: str) -> None:
    """Cells in quotes are read with the separator between them, whatever the cells hold."""
    cells = ["1", "a;b,c|d\te", "3", "2020-01-01", "true", "1", "true"]
    body = delimiter.join(f'"{cell}"' for cell in cells)
    assert_rows(ask(body, CSV), [[1, "a;b,c|d\te", 3, "2020-01-01", True, 1, True]])


def test_a_decimal_comma_is_no_separator() -> None:
    """Where two separators give as many cells as there are features, the cells decide."""
    inputs = [dict(NUMBERS[place], text_rule={"decimal": ","}) for place in range(2)]
    reader = ScoringReader(Encoder(signature_of(inputs=inputs)), Limits())
    for body, row in (("1,5;2", [1.5, 2.0]), ("1;2,5", [1.0, 2.5]), ("1,5;2,5", [1.5, 2.5]), ("1,2", [1.0, 2.0])):
        found = reader.read(Call(body.encode(), [(b"content-type", CSV)], "id")).arrays.numeric
        assert found is not None
        assert found.tolist() == [row]


def test_blanks_are_part_of_cells_where_no_header_has_them() -> None:
    """A row does not say whether its blanks are part of its texts: without a header they are, as under a header without blanks."""
    row = "1, Oslo, 3, 2020-01-01, true, 1, true"
    for body in (row, ",".join(NAMES) + "\n" + row):
        assert_rows(ask(body, CSV), [[1, " Oslo", 3, "2020-01-01", True, 1, True]])
    assert_rows(ask(", ".join(NAMES) + "\n" + row, CSV), [[1, "Oslo", 3, "2020-01-01", True, 1, True]])


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.floats(width=32), st.integers(), st.text(max_size=3)), max_size=6), max_size=3
    )
)
def test_the_fast_reading_refuses_nothing_and_changes_nothing(rows: list[list[Any]]) -> None:
    """`instances` alone, which may be read fast, is read or refused like `instances` with something beside it."""

    def outcome(content: dict[str, Any]) -> tuple[str, bytes]:
        try:
            found = NUMBER_READER.read(Call(json.dumps(content).encode(), [], "id")).arrays.numeric
        except ServiceError as error:
            return error.code, b""
        assert found is not None
        return "read", found.tobytes()

    assert outcome({"instances": rows}) == outcome({"instances": rows, "params": {}})


@pytest.mark.parametrize("kind", [b"application/json", b"", b"application/octet-stream", LINES])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_bare_nan_is_a_missing_value(kind: bytes, bom: bytes) -> None:
    """NaN, as the client of MLflow writes it, is null in every form; a byte order mark before the body is passed over."""
    row = [41.5, "Oslo", 3, "2020-01-01", True, 1, None]
    sent = bom + json.dumps({"instances": [[float("nan"), *row[1:]], row]}).encode()

    assert b"NaN" in sent
    assert_rows(ask(sent, kind), [[None, *row[1:]], row])


@pytest.mark.parametrize(
    ("form", "value"),
    [("instances", "Infinity"), ("instances", "-Infinity"), ("dataframe_records", "NaN")],
)
def test_an_infinite_number_has_a_row(form: str, value: str) -> None:
    """Infinity, and NaN where training saw no missing value, is a fault of its row and its feature."""
    rows = json.dumps([{**NAMED[0], "count": 1}, {**NAMED[0], "count": "?"}]).replace('"?"', value)
    with pytest.raises(ServiceError, match="row 1, feature 'count'") as refused:
        ask(f'{{"{form}": {rows}}}')
    assert (refused.value.status, refused.value.code) == (422, "invalid_rows")


def test_a_token_that_is_no_number_is_named() -> None:
    """A broken body with a NaN in it is refused for its fault."""
    with pytest.raises(ServiceError, match="Expecting") as refused:
        ask('{"instances": [[NaN,,1]]}')
    assert (refused.value.status, refused.value.code) == (400, "broken_json")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (b"application/json; charset=utf-8", 200),
        (b'application/json; charset="UTF-8"', 200),
        (b"Application/JSON;charset=US-ASCII", 200),
        (b"text/plain; charset=utf-8", 200),
        (b"application/json; odata=verbose", 200),
        (b"application/json; charset=utf-16", 415),
        (b"application/json; charset=latin-1", 415),
    ],
)
def test_content_types_have_parameters(kind: bytes, status: int) -> None:
    """UTF-8 and what is part of it are read whatever other parameters there are; another charset is refused."""
    if status == 200:
        assert_rows(ask({"instances": ROWS}, kind), ROWS)
    else:
        with pytest.raises(ServiceError, match="charset") as refused:
            ask({"instances": ROWS}, kind)
        assert refused.value.status == status


@pytest.mark.parametrize(
    "accept, kind, answer",
    [
        (b"", b"application/json", "json"),
        (b"*/*", CSV, "json"),
        (b"*/*", LINES, "lines"),
        (b"application/json", LINES, "json"),
        (b"text/csv", b"application/json", "csv"),
        (b"text/csv;q=0.9, application/json", b"application/json", "json"),
        (b"text/*, application/json;q=0.9", b"application/json", "csv"),
        (b"application/jsonlines", b"application/json", "lines"),
        (b"application/x-npy", CSV, "npy"),
        (b"image/png", b"application/json", "json"),
    ],
)
def test_the_answers_type(accept: bytes, kind: bytes, answer: str) -> None:
    """Accept decides; without a word in it that is known, JSON Lines are answered in kind and the rest with JSON."""
    body = json.dumps(NAMED[0]) if kind == LINES else CSV_LINES[0] if kind == CSV else json.dumps({"rows": ROWS})
    assert ask(body, kind, (b"accept", accept)).note == answer


@pytest.mark.parametrize(
    "body, kind, status, sentence",
    [
        ([NAMED[0]], b"", 422, "Expected a JSON object"),
        ({}, b"", 422, "exactly one of instances"),
        ({"instances": [], "inputs": []}, b"", 422, "exactly one of"),
        ({"instnces": []}, b"", 422, "Did you mean 'instances'"),
        ({"instances": 1}, b"", 422, "instances to be a list of rows"),
        ({"instances": [1]}, b"", 422, "row 0: a row is an object"),
        ({"instances": [{}]}, b"", 422, "row 0, feature 'length_mm'"),
        ({"instances": [[1]]}, b"", 422, "the row has 1 values"),
        ({"inputs": {"length_mm": 1}}, b"", 422, "one list for each feature"),
        ({"inputs": {"length_mm": [1], "count": []}}, b"", 422, "all of one length"),
        ({"inputs": {}}, b"", 422, "missing from columns"),
        ({"dataframe_split": {"columns": NAMES}}, b"", 422, "dataframe_split to be"),
        ({"dataframe_split": {"columns": NAMES, "data": [], "more": 1}}, b"", 422, "dataframe_split to be"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, b"", 422, "unknown feature"),
        ({"dataframe_split": {"columns": [*NAMES, NAMES[0]], "data": []}}, b"", 422, "not 2 times"),
        ({"dataframe_split": []}, b"", 422, "dataframe_split to be"),
        ({"instances": ROWS * 4}, b"", 422, "24 rows; at most 20"),
        ("{", b"application/json", 400, "not JSON"),
        ("", b"application/json", 400, "the body is empty"),
        ("", CSV, 422, "holds no row"),
        ("\n\n", CSV, 422, "holds no row"),
        (b"\xff", CSV, 400, "Line 1, name 1 of the columns, is not UTF-8"),
        (",".join(NAMES).encode() + b"\n1,\xe9", CSV, 400, "Line 2, column 'island', is not UTF-8 .*iconv -f latin1"),
        (CSV_LINES[0].encode() + b"\n1,\xe9", CSV, 400, "Line 2, cell 2, is not UTF-8"),
        ("a,b".encode("utf-16"), CSV, 400, "The table is UTF-16"),
        ('a,"b', CSV, 400, "Line 1 is not CSV in UTF-8: a quote is opened and never closed"),
        ('1,2\n"a"b,c', CSV, 400, "Line 2 is not CSV in UTF-8: text follows a closing quote"),
        ('"' + "x" * 200_000 + '"', CSV, 400, "a cell has more than 131072 characters"),
        ("1,2", CSV, 422, "the row has 2 values"),
        (CSV_LINES[0] + ",9", CSV, 422, "row 0: the row has 8 values, but there are 7 columns"),
        (
            "\n".join([",".join(["colour", *NAMES]), CSV_LINES[0]]),
            CSV,
            422,
            "the row has 7 values, but there are 8 columns",
        ),
        ("\n".join(CSV_LINES * 4), CSV, 422, "more than 20 rows"),
        (",".join([*NAMES[:-1], "ownd"]) + "\n" + CSV_LINES[0], CSV, 422, "did you mean 'owned'"),
        ("x,Oslo,1,2020-01-01,true,1,true", CSV, 422, "expected a number, got a string"),
        ("inf,Oslo,1,2020-01-01,true,1,true", CSV, 422, "finite"),
        ("1e999,Oslo,1,2020-01-01,true,1,true", CSV, 422, "finite"),
        ("1,Oslo,1,2020-01-01,maybe,1,true", CSV, 422, "feature 'adult'"),
        ("{}\nx", LINES, 400, "Line 2 is not JSON"),
        ("\n", LINES, 422, "holds no row"),
        ('{"instances": 1}', LINES, 422, "instances to be a list"),
        ("{}", b"application/xml", 415, "Content-Type 'application/xml' is not supported"),
        ("{}", b"application/json; charset=utf-16", 415, "charset 'utf-16' is not supported"),
    ],
)
def test_refusals(body: Any, kind: bytes, status: int, sentence: str) -> None:
    """Each fault has its status and a sentence that says what would be right."""
    with pytest.raises(ServiceError, match=sentence) as caught:
        ask(body, kind or b"application/json")
    assert caught.value.status == status


ROW = json.dumps(NAMED[0])
TWICE = ROW[:-1] + ', "owned": false}'


@pytest.mark.parametrize(
    "key, start, body, kind",
    [
        ("instances", "The", f'{{"instances": [], "instances": [{ROW}]}}', b""),
        ("instances", "The", f'{{"in\\u0073tances": [], "instances": [{ROW}]}}', b""),
        ("owned", "The", f'{{"instances": [{ROW}, {TWICE}]}}', b""),
        ("owned", "The", f'{{"dataframe_records": [{TWICE}]}}', b""),
        ("a", "The", f'{{"instances": [{ROW}], "parameters": {{"a": 1, "a": 2}}}}', b""),
        ("a", "The", f'{{"instances": [{ROW}], "parameters": {{"b": {{"a": 1, "a": 2}}}}}}', b""),
        ("owned", "The", '{"inputs": {"owned": [true], "owned": [false]}}', b""),
        ("data", "The", '{"dataframe_split": {"columns": [], "data": [], "data": []}}', b""),
        ("data", "The", '{"input_data": {"columns": [], "data": [], "data": []}}', b""),
        ("owned", "Line 2: the", f"{ROW}\n{TWICE}", LINES),
        ("owned", "Line 1: the", f'{{"instances": [{TWICE}]}}', LINES),
    ],
)
def test_repeated_keys_are_refused(key: str, start: str, body: str, kind: bytes) -> None:
    """Of two equal keys neither is taken: the key is named, and the line where lines are sent."""
    with pytest.raises(ServiceError, match=f"^{start} key '{key}' is given twice in one object") as caught:
        ask(body, kind or b"application/json")
    assert (caught.value.status, caught.value.code) == (422, "invalid_request")


def test_repeated_keys_cannot_hide_in_depth() -> None:
    """A body that is nested deep is refused for its repeated keys, or for its depth where Python cannot look there."""
    deep = "[" * 1000 + "]" * 1000
    with pytest.raises(ServiceError, match=r"nested too deep|given twice"):
        ask(f'{{"instances": [{ROW}], "parameters": {{"a": {deep}, "a": 1}}}}')


def test_colons_in_texts_are_no_keys() -> None:
    """Texts with colons are read, and so are objects that are not looked into."""
    row = {**NAMED[0], "island": "a:b"}
    assert ask({"instances": [row], "parameters": {"x": {"y": {"z": ":"}}}}).rows == 1
    assert ask(json.dumps(row), LINES).rows == 1


@pytest.mark.parametrize("kind", [b"application/x-npy", b"application/octet-stream"])
def test_an_array_file_is_the_same_rows(kind: bytes) -> None:
    """NumPy's array file, by its type or by its first bytes, gives the arrays that JSON rows give; JSON is answered."""
    rows = [[0.5, 1, 2, 3, 4], [-1, 0, 1e-3, 7, 8]]
    wanted = NUMBER_READER.read(Call(json.dumps({"rows": rows}).encode(), [], "id")).arrays.numeric
    found = NUMBER_READER.read(Call(file_of(np.array(rows)), [(b"content-type", kind)], "id"))
    assert wanted is not None
    assert found.arrays.numeric is not None
    assert (found.arrays.numeric.tobytes(), found.rows, found.note) == (wanted.tobytes(), 2, "json")


def test_faults_are_listed_up_to_the_limit() -> None:
    """A refusal lists as many faults as the setting says, and says that there are more."""
    with pytest.raises(ServiceError) as caught:
        ask({"instances": [{}] * 5})
    assert (len(caught.value.details), caught.value.truncated) == (3, True)
