"""Lines that Arrow parses: the very numbers, codes and faults of the specification of cells, for every cell."""

import io
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import CSV
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.readers import delimited
from tests import hard_texts
from tests.bundles import INPUTS, signature_of

HARD = hard_texts.signature()
HARD_PLACES = range(len(HARD.inputs))
USUAL = signature_of("multiclass", INPUTS)
HEAD = ",".join(feature.name for feature in USUAL.inputs)
UNUSUAL = re.compile('[",\r\n\x1a\ud800-\udfff]')  # in lines that have no quotes and are UTF-8
GOOD = "4.5,Oslo,3,2020-01-01,true,2,false"


def outcome(signature: Signature, body: bytes, block_rows: int, *, by_arrow: bool) -> list[Any]:
    """Return all that a reader of the table is told: arrays as bytes, rows, faults, lines, cells.

    Arrow parses the blocks of a table that fills its first one.
    """
    reading = Reading(Encoder(signature), Parameters(extra="ignore"), block_rows, by_arrow=by_arrow)
    told: list[Any] = []
    for block in blocks_of(io.BytesIO(body), CSV, reading):
        read = block.read()
        arrays = [None if array is None else (array.shape, array.tobytes()) for array in read.arrays]
        cells = [list(row) for row in block.cells()]
        places = [block.place(row) for row in range(block.rows)]
        told.append((arrays, list(read.kept), read.problems, places, cells, block.csv_lines(",")))
    return told


@pytest.mark.parametrize("place", HARD_PLACES)
def test_every_cell_is_what_the_specification_says(place: int) -> None:
    """Hard and random cells of every rule: each alone in a block, so that no other keeps it from Arrow."""
    feature = HARD.inputs[place]
    signature = Signature.model_validate({"inputs": [feature], "target": "y"})
    texts = [value for value in hard_texts.values_of(place) if isinstance(value, str)]
    lines = [f"1,{text}" for text in texts if not UNUSUAL.search(text)]
    body = f"other,{feature.name}\n{lines[0]}\n{chr(10).join(lines)}\n".encode()

    assert outcome(signature, body, 1, by_arrow=True) == outcome(signature, body, 1, by_arrow=False)


NUMBERS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.from_regex(r"[ +-]?[0-9]{0,25}\.?[0-9]{0,25}([eE][+-]?[0-9]{1,4})?[ \t]?", fullmatch=True),
    st.sampled_from(
        ["", "NA", " NA", "nan", "NAN", "-nan", "inf", "Infinity", "-0", "1_0", "0x1p3", "1e400", "?", "\0"]
    ),
)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=4))
def test_numbers_have_the_bits_of_the_specification(rows: list[tuple[str, str]]) -> None:
    """Any spelling of a number, and of a missing one, also where the feature has no missing values."""
    inputs = [{"name": name, "kind": "numeric", "value_type": "float", "missing": name == "a"} for name in "ab"]
    signature = Signature.model_validate({"inputs": inputs, "target": "y"})
    body = "a,b\n" + 2 * "".join(f"{first},{second}\n" for first, second in rows)

    found = outcome(signature, body.encode(), len(rows), by_arrow=True)
    assert found == outcome(signature, body.encode(), len(rows), by_arrow=False)


@pytest.mark.parametrize(
    "lines",
    [
        [GOOD],
        [GOOD, ",,3,,true,2,"],  # missing values
        [GOOD, "NA,NA,3,NA,1,-3,true"],
        [GOOD, "4.5,Bergen,3,2020-01-01T12:00:00Z,false,77,true"],  # unseen categories
    ],
)
def test_usual_lines_are_parsed_by_arrow(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, texts, dates and missing values of every type do without the slower ways, with the same outcome."""
    body = "\n".join([HEAD, *lines, *lines]).encode()
    wanted = outcome(USUAL, body, len(lines), by_arrow=False)

    def refuse(*_: object) -> None:
        raise AssertionError("the slower way")

    reading = Reading(Encoder(USUAL), Parameters(), len(lines), by_arrow=True)
    _, block = blocks_of(io.BytesIO(body), CSV, reading)
    monkeypatch.setattr(delimited, "encode_cells", refuse)
    monkeypatch.setattr(delimited, "encode_lines", refuse)
    read = block.read()
    assert [None if array is None else (array.shape, array.tobytes()) for array in read.arrays] == wanted[1][0]


@pytest.mark.parametrize(
    "line",
    [
        "4.5,Oslo,3,2020-01-01,true,2",
        f"{GOOD},more",
        "4.5,Oslo,,2020-01-01,true,2,false",
        "inf,Oslo,3,2020-01-01,true,2,false",
        "4.5,Oslo,3,yesterday,true,2,false",
        "4.5,Oslo,3,2020-01-01,true,2.5,false",
        '4.5,"Oslo",3,2020-01-01,true,2,false',
        "4.5,Os\rlo,3,2020-01-01,true,2,false",
        "4.5,Os\0lo,3,2020-01-01,true,2,false",
        "4.5,\u2028Ærø\x0b,3,2020-01-01,true,2,false",
        "",
    ],
)
def test_other_lines_are_left_to_the_specification(line: str) -> None:
    """Lines with too few or too many cells, values that are refused, quotes, and ends of other kinds."""
    for end in ("\n", "\r\n"):
        body = end.join([HEAD, GOOD, GOOD, GOOD, GOOD, line, GOOD]).encode()
        assert outcome(USUAL, body, 3, by_arrow=True) == outcome(USUAL, body, 3, by_arrow=False)


def test_columns_are_found_by_their_names() -> None:
    """Columns stand in any order, and those that are no features may hold any text."""
    names = [feature.name for feature in USUAL.inputs]
    cells = dict(zip(names, GOOD.split(","), strict=True)) | {"first": "x", "last": ""}
    order = ["first", *reversed(names), "last"]
    body = "\n".join([",".join(order), *([",".join(map(cells.__getitem__, order))] * 20)]).encode()

    found = outcome(USUAL, body, 8, by_arrow=True)
    assert found == outcome(USUAL, body, 8, by_arrow=False)
    assert [len(kept) for _, kept, *_ in found] == [8, 8, 4]


def test_without_pyarrow_lines_are_read_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is not installed, or cannot be loaded, text needs it not."""
    monkeypatch.setitem(sys.modules, "batchproof.service.tables.readers.arrow_lines", None)
    body = "\n".join([HEAD, *[GOOD] * 9]).encode()

    assert outcome(USUAL, body, 4, by_arrow=True) == outcome(USUAL, body, 4, by_arrow=False)
