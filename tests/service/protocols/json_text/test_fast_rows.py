"""The fast reader of rows against the precise one."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproof.service.bundle.signature import Signature
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.protocols.json_text.fast_rows import FastRows
from batchproof.service.protocols.json_text.json_body import check_distinct
from tests.bundles import INPUTS, signature_of

PLAIN = [
    {"name": f"x{i}", "kind": "numeric", "value_type": "float", "missing": False, "range": [0, 1]} for i in range(3)
]
SPARSE = [{**feature, "missing": True} for feature in PLAIN]
SIGNATURES = {"plain": signature_of(inputs=PLAIN), "sparse": signature_of(inputs=SPARSE), "mixed": signature_of()}
READERS = {name: (FastRows(signature), Encoder(signature)) for name, signature in SIGNATURES.items()}

ODD_NUMBERS = st.sampled_from(
    "-0 -0.0 1e400 -1e400 1e-400 1E5 01 1. .5 +1 NaN Infinity 9007199254740993 18446744073709551615 "
    f"18446744073709551616 1{'0' * 400} 0.1e1 2.2250738585072011e-308 3.0 3.5".split()
)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(json.dumps), st.integers().map(str), ODD_NUMBERS
)
TEXTS = st.one_of(
    st.text(max_size=5).map(json.dumps),
    st.sampled_from(
        ['"Oslo"', '"Ærø"', '"2020-02-30"', '"2020-02-29T12:00:00Z"', '"\\ud800"', '"\\u0041"', '"\\ud83d\\ude00"']
    ),
)
ODDITIES = st.sampled_from(["null", "true", "false", "[]", "[1,2]", "{}", '{"x0":1}', ""])
VALUES = st.one_of(NUMBERS, TEXTS, ODDITIES)


@st.composite
def bodies(draw: st.DrawFn, signature: Signature) -> bytes:
    """Return a body that is nearly right: usual values, odd values, names left out, doubled or wrong."""
    usual = {"numeric": NUMBERS, "categorical": st.one_of(TEXTS, NUMBERS, ODDITIES), "date": TEXTS}
    rows = []
    is_named = draw(st.booleans())
    for _ in range(draw(st.integers(0, 3))):
        values = [draw(st.one_of(usual[f.kind], usual[f.kind], VALUES)) for f in signature.inputs]
        names = [json.dumps(f.name) for f in signature.inputs]
        for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
            place = draw(st.integers(0, len(values) - 1))
            change = draw(st.sampled_from(["drop", "double", "rename"]))
            if change == "drop":
                del values[place], names[place]
            elif change == "double":
                values.append(draw(VALUES))
                names.append(names[place])
            else:
                names[place] = draw(st.sampled_from(['"x9"', '"X0"', '"\\u0078\\u0030"', '"rows"']))
        pairs = [f"{name}: {value}" for name, value in zip(names, values, strict=True)]
        rows.append("{" + ",".join(pairs) + "}" if is_named else "[" + " ,".join(values) + "]")
    before, after = draw(
        st.sampled_from([("", ""), ("", ""), (" \n", " "), ("\ufeff", ""), ("", "x"), ("", ',"rows":[]')])
    )
    tail = after if after.startswith(",") else ""
    return (before + '{"rows": [' + ", ".join(rows) + "]" + tail + "}" + (after if not tail else "")).encode()


def precise(encoder: Encoder, body: bytes) -> Arrays | None:
    """Return what the precise path makes of a body, None where it refuses."""
    try:
        content: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    try:
        check_distinct(body, content)
    except ServiceError:
        return None
    encoded = encoder.encode_rows(content["rows"])
    return None if encoded.errors else encoded.arrays


def same_bits(one: Arrays, other: Arrays) -> bool:
    """Return whether two encodings hold the same bytes; NaN is NaN whatever its payload."""
    for a, b in zip(one, other, strict=True):
        if (a is None) != (b is None):
            return False
        if a is not None and b is not None:
            if a.dtype != b.dtype or a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
                return False
            if np.nan_to_num(a, nan=0.0).tobytes() != np.nan_to_num(b, nan=0.0).tobytes():
                return False
    return True


@pytest.mark.parametrize("name", SIGNATURES)
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_fast_rows_are_the_precise_rows(name: str, data: st.DataObject) -> None:
    """Whatever the fast reader accepts, the precise path accepts with the same bits."""
    fast, encoder = READERS[name]
    body = data.draw(bodies(SIGNATURES[name]))
    found = fast.decode(body)
    if found is not None:
        wanted = precise(encoder, body)
        assert wanted is not None, body
        assert same_bits(found, wanted), body


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("plain", [1, -2.5, 1e-3]),
        ("plain", {"x0": 1, "x1": -2.5, "x2": 1e-3}),
        ("sparse", [1, None, 2]),
        ("mixed", [40.5, "Oslo", 3, "2020-01-01", True, 1, None]),
        ("mixed", dict(zip([f["name"] for f in INPUTS], [None, "nowhere", 3, None, 0, 9, False], strict=True))),
    ],
)
def test_usual_rows_are_fast(name: str, row: Any) -> None:
    """Rows as clients send them are read by the fast path, one or many."""
    fast, encoder = READERS[name]
    for count in (1, 5):
        body = json.dumps({"rows": [row] * count}).encode()
        found, wanted = fast.decode(body), precise(encoder, body)
        assert found is not None
        assert wanted is not None
        assert same_bits(found, wanted)


@pytest.mark.parametrize(
    "body",
    [
        b'{"rows":[[1,2],[3,4,5,6]]}',  # as many numbers as two good rows
        b'{"rows":[[[1,2],[],3]]}',  # three places, three numbers, but nested
        b'{"rows":[[1,2,3]],"more":1}',
        b'{"rows":[[1,true,3]]}',
        b'{"rows":[[1,"2",3]]}',
        b'{"rows":[[1,null,3]]}',
        b'{"rows":[1,2,3]}',
        b'\xef\xbb\xbf{"rows":[[1,2,3]]}',
        b'{"rows":[[1,2,3]]}x',
        b'{"more":"[[","rows":[[1,2,3]]}',
        b"",
        b"[[1,2,3]]",
    ],
)
def test_flattening_hides_nothing(body: bytes) -> None:
    """Ragged, nested, mistyped and doubled rows never pass as numbers."""
    assert READERS["plain"][0].decode(body) is None


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("rows", b'{"rows":[[1,2,3]],"rows":[[4,5,6]]}'),
        ("rows", b'{"rows":[[1,2,3]],"ro\\u0077s":[[4,5,6]]}'),
        ("x1", b'{"rows":[{"x0":1,"x1":2,"x2":3},{"x0":1,"x1":2,"x1" : 9,"x2":3}]}'),
    ],
)
def test_doubled_keys_are_refused(key: str, body: bytes) -> None:
    """Neither path takes the last of two equal keys in silence; the refusal names the key."""
    assert READERS["plain"][0].decode(body) is None
    with pytest.raises(ServiceError, match=f"The key '{key}' is given twice in one object"):
        check_distinct(body, orjson.loads(body))


def test_colons_in_texts_are_no_keys() -> None:
    """Times of day and names with colons are read by the fast path."""
    row = [40.5, "a:b", 3, "2020-01-01T12:00:00Z", True, 1, None]
    for shape in (row, dict(zip([f["name"] for f in INPUTS], row, strict=True))):
        assert READERS["mixed"][0].decode(json.dumps({"rows": [shape] * 2}).encode()) is not None


def test_the_parser_is_free_after_a_refusal() -> None:
    """A refused body leaves nothing behind that stops the next one."""
    fast, _ = READERS["plain"]
    for _ in range(3):
        assert fast.decode(b'{"rows":[[1,2],[3]]}') is None
        assert fast.decode(b'{"rows":[[1,2,3]]}') is not None


@pytest.mark.parametrize("name", ['a "b"', "a\\b", "a\nb", "a\tb", "\x00\x1b[2J\u202e", "a\x7f", "é", "rows"])
def test_any_name_can_be_read(name: str) -> None:
    """A feature may have any name: what the fast reader cannot take is left to the precise path, never an error."""
    inputs = [{**PLAIN[0], "name": name}, *PLAIN[1:]]
    signature = signature_of(inputs=inputs)
    reader = FastRows(signature)
    row = dict.fromkeys((feature["name"] for feature in inputs), 0.5)
    named = reader.decode(json.dumps({"rows": [row]}).encode())
    lines = reader.lines(ignore_extra=False)([json.dumps(row).encode()])
    for arrays in (named, lines):
        assert arrays is None or np.array_equal(arrays.numeric, [[0.5, 0.5, 0.5]])
    listed = reader.decode(json.dumps({"rows": [[0.5, 0.5, 0.5]]}).encode())
    assert listed is not None
