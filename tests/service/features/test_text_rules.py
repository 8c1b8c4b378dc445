"""A feature's text rule holds at every door: rows of JSON, tensors, arrays, cells and typed columns are one value."""

import csv
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from batchproof.service.bundle import reader
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Feature, Signature, TextRule
from batchproof.service.errors import BundleError, FeatureError
from batchproof.service.features.columns import encode_columns
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.features.texts.date_formats import DateFormatError, date_parser
from batchproof.service.features.texts.dates import epoch_seconds
from batchproof.service.features.texts.number_texts import parse_number
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.protocols.json_text.fast_rows import FastRows
from batchproof.service.protocols.oip.inputs import Inputs, Tensor
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import ARROW_STREAM, CSV, LINES, Format
from batchproof.service.tables.parameters import Parameters
from tests.bundles import make_bundle, reseal

MONEY = Feature(
    name="money",
    kind="numeric",
    value_type="float",
    missing=True,
    text_rule=TextRule(missing=("unknown", "-999", "inf"), affixes=("$",), thousands=","),
)
WHEN = Feature(
    name="when",
    kind="date",
    value_type="date",
    missing=True,
    text_rule=TextRule(missing=("0000-00-00", "1900-01-01"), date_format="%d/%m/%Y"),
)
WORD = Feature(
    name="word",
    kind="categorical",
    value_type="string",
    missing=True,
    categories=("a", "b"),
    text_rule=TextRule(missing=("none",), strip=True),
)
CODE = Feature(
    name="code",
    kind="categorical",
    value_type="integer",
    missing=True,
    categories=("1", "2"),
    text_rule=TextRule(missing=("-1",)),
)
SIGNATURE = Signature(inputs=(MONEY, WHEN, WORD, CODE), target="y", ignored=("id",))
DAY = epoch_seconds("2020-02-01")
ROWS: list[tuple[list[Any], tuple[float, float, int, int]]] = [
    (["$1,200.50", "01/02/2020", " a", 1], (1200.5, DAY, 0, 0)),
    ([1200.5, "2020-02-01", "b ", 2], (1200.5, DAY, 1, 1)),
    ([-999, "0000-00-00", "none", -1], (math.nan, math.nan, 2, 2)),
    (["unknown", "1900-01-01", " none ", None], (math.nan, math.nan, 2, 2)),
    ([-999.0, "01/01/1900", "c", 7], (math.nan, math.nan, 3, 3)),
    (["-999.0", "0000-00-00", "none", -1], (math.nan, math.nan, 2, 2)),
    (["$-999", "1900-01-01T00:00Z", "none", -1], (math.nan, math.nan, 2, 2)),
    (["1e999", "01/01/1900", "none", -1], (math.nan, math.nan, 2, 2)),
    ([None, None, None, -1.0], (math.nan, math.nan, 2, 2)),
]
NAMES = [feature.name for feature in SIGNATURE.inputs]
WANTED_NUMBERS = np.array([[numbers[0], numbers[1]] for _, numbers in ROWS])
WANTED_CODES = np.array([[numbers[2], numbers[3]] for _, numbers in ROWS])


def check(numeric: np.ndarray | None, categorical: np.ndarray | None) -> None:
    np.testing.assert_array_equal(numeric, WANTED_NUMBERS)
    np.testing.assert_array_equal(categorical, WANTED_CODES)


def test_rows_and_columns() -> None:
    """Rows one by one, and whole columns, are read by the rule."""
    encoded = Encoder(SIGNATURE).encode_rows([row for row, _ in ROWS])
    assert encoded.errors == []
    check(*encoded.arrays)
    check(*encode_columns(SIGNATURE, {name: [row[place] for row, _ in ROWS] for place, name in enumerate(NAMES)}))


def table_of(fmt: Format) -> bytes:
    if fmt == LINES:
        return b"\n".join(json.dumps(dict(zip(NAMES, row, strict=True))).encode() for row, _ in ROWS)
    text = io.StringIO()
    csv.writer(text).writerows([NAMES, *(["" if value is None else value for value in row] for row, _ in ROWS)])
    return text.getvalue().encode()


@pytest.mark.parametrize("fmt", [CSV, LINES], ids=lambda fmt: fmt.name)
def test_tables(fmt: Format) -> None:
    """Text tables and JSON Lines are read by the rule."""
    reading = Reading(Encoder(SIGNATURE), Parameters(), 100)
    (block,) = blocks_of(io.BytesIO(table_of(fmt)), fmt, reading)
    result = block.read()
    assert list(result.problems) == []
    check(*result.arrays)


def test_typed_tables() -> None:
    """Numbers, dates and texts of Arrow columns are read by the rule, and infinite numbers where it names them."""
    table = pa.table(
        {
            "money": [-999.0, math.inf, 3.0],
            "when": pa.array([epoch_seconds("1900-01-01"), DAY, None]).cast(pa.int64()).cast(pa.timestamp("s")),
            "word": [" a", "none", "b"],
            "code": [1, -1, None],
            "id": [1, 2, 3],
            "y": [1, 2, 3],
        }
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (block,) = blocks_of(io.BytesIO(sink.getvalue()), ARROW_STREAM, Reading(Encoder(SIGNATURE), Parameters(), 100))
    result = block.read()

    assert list(result.problems) == []
    np.testing.assert_array_equal(result.arrays.numeric, [[math.nan, math.nan], [math.nan, DAY], [3.0, math.nan]])
    np.testing.assert_array_equal(result.arrays.categorical, [[0, 0], [2, 2], [1, 2]])


def test_the_fast_reading_takes_no_value_that_a_rule_changes() -> None:
    """Fast rows are those of the precise reading, or are left to it."""
    fast, encoder = FastRows(SIGNATURE), Encoder(SIGNATURE)
    for row, _ in [*ROWS, ([1.5, "2020-02-01", "a", 1], (0, 0, 0, 0))]:
        arrays = fast.decode(json.dumps({"rows": [row]}).encode())
        wanted = encoder.encode_rows([row]).arrays
        assert arrays is None or all(map(np.array_equal, arrays, wanted))
    assert fast.decode(json.dumps({"rows": [[1.5, "2020-02-01", "a", 1]]}).encode()) is not None


def test_long_whole_numbers_that_stand_for_missing_values() -> None:
    """A number of a numeric feature is missing where its float64 is one of the rule's, at every door; a category is exact."""
    rule = TextRule(missing=("9007199254740992", "inf"))
    number, category = (
        Feature(name=name, kind=kind, value_type="integer", missing=True, categories=categories, text_rule=rule)
        for name, kind, categories in (("n", "numeric", None), ("c", "categorical", ("1",)))
    )
    signature = Signature(inputs=(number, category), target="y")
    values = [2**53, 2**53 + 1, 10**400, 2.0**53, 2**53 + 2]
    encoded = Encoder(signature).encode_rows([[value, value] for value in values])
    columns = encode_columns(signature, {"n": np.array(values[:2]), "c": values[:2]})

    assert encoded.errors == []
    assert encoded.arrays.numeric is not None
    assert np.isnan(encoded.arrays.numeric[:, 0]).tolist() == [True, True, True, True, False]
    assert encoded.arrays.categorical is not None
    assert encoded.arrays.categorical[:, 0].tolist() == [1, 2, 2, 1, 2]
    for rows, whole in zip(encoded.arrays, columns, strict=True):
        assert rows is not None
        np.testing.assert_array_equal(rows[:2], whole)


def test_a_number_is_no_date() -> None:
    """A number in the place of a date is refused, also where it counts the seconds of a date that is missing."""
    (problem,) = Encoder(SIGNATURE).encode_rows([[1, epoch_seconds("1900-01-01"), "a", 1]]).errors
    assert problem.message.endswith("got a number")


@pytest.mark.parametrize("date_format", ["%d/%m", "%d %Y", "%Y %Q", "%Y %Y"])
def test_a_bundle_whose_date_format_reads_no_date_is_refused(tmp_path: Path, date_format: str) -> None:
    """A date format that cannot be used is found when the bundle is loaded, not with the first row."""
    folder = make_bundle(tmp_path)
    reseal(folder, lambda content: content["signature"]["inputs"][3].update(text_rule={"date_format": date_format}))
    with pytest.raises(BundleError, match=r"signature\.inputs\.3\.text_rule\.date_format: the date format '%"):
        model.load(reader.read(folder), EngineOptions(), 64)


def test_texts_without_a_rule_stay_refused() -> None:
    """JSON has numbers: without a rule a text in their place is refused, and so is what the rule does not read."""
    plain = Encoder(Signature(inputs=(MONEY.model_copy(update={"text_rule": None}),), target="y"))
    assert plain.encode_rows([["$1"]]).errors[0].message == "expected a number, got a string"
    assert Encoder(SIGNATURE).encode_rows([["1 200", "2020-02-01", "a", 1]]).errors[0].feature == "money"
    (problem,) = Encoder(SIGNATURE).encode_rows([[1, "2020/02/01", "a", 1]]).errors
    assert problem.message == "expected a date in ISO 8601 or in the format %d/%m/%Y"
    with pytest.raises(FeatureError, match="finite"):
        encode_columns(SIGNATURE, {"money": np.array([-math.inf]), "when": [None], "word": [None], "code": [None]})


@pytest.mark.parametrize(
    "text, rule, number",
    [
        ("1,234.5", {"thousands": ","}, 1234.5),
        ("12,34.5", {"thousands": ","}, None),
        ("1.234,5", {"thousands": ".", "decimal": ","}, 1234.5),
        ("1.5", {"decimal": ","}, None),
        ("1,5e3", {"decimal": ","}, 1500.0),
        ("1\u202f234", {"thousands": " "}, 1234.0),
        ("-$5", {"affixes": ("$",)}, -5.0),
        ("$-5", {"affixes": ("$",)}, -5.0),
        ("-$-5", {"affixes": ("$",)}, None),
        ("12 kg", {"affixes": ("kg",)}, 12.0),
        ("$", {"affixes": ("$",)}, None),
        ("0x1F", {}, 31.0),
        ("0x" + "f" * 17, {}, None),
        ("1_000", {}, None),
        ("Infinity", {}, math.inf),
        ("", {}, None),
        ("\u0661", {}, None),
        ("\u0131nf", {}, None),
        ("\u0130NFINITY", {}, None),
        ("1,2e3", {"thousands": ","}, None),
        ("in,fin,ity", {"thousands": ","}, None),
        ("0x_1FF", {"thousands": "_"}, None),
        ("1,\u0661\u0661\u0661", {"thousands": ","}, None),
    ],
)
def test_numbers(text: str, rule: dict[str, Any], number: float | None) -> None:
    """A text is the number that its rule says, or not a number."""
    assert parse_number(text, TextRule.model_validate(rule)) == number


@pytest.mark.parametrize(
    "text, date_format, iso",
    [
        ("31.12.2020", "%d.%m.%Y", "2020-12-31"),
        ("1/2/21", "%m/%d/%y", "2021-01-02"),
        ("1/2/69", "%m/%d/%y", "1969-01-02"),
        ("Sept. 5, 2020", "%b %d, %Y", "2020-09-05"),
        ("MAR-2018", "%b-%Y", "2018-03-01"),
        ("12/31/2020 12:05 am", "%m/%d/%Y %I:%M %p", "2020-12-31T00:05"),
        ("2020-07-27 17:27:43 UTC", "%Y-%m-%d %H:%M:%S %z", "2020-07-27T17:27:43Z"),
        ("2020-07-27 17:27:43 +0200", "%Y-%m-%d %H:%M:%S %z", "2020-07-27T17:27:43+02:00"),
        ("Mon, 27 Jul 2020", "%a, %d %b %Y", "2020-07-27"),
        ("2020/02/30", "%Y/%m/%d", None),
        ("2020/02/03 ", "%Y/%m/%d", None),
        ("13:61 2020", "%H:%M %Y", None),
        ("12/31/2020 13:05 pm", "%m/%d/%Y %I:%M %p", None),
        ("12/31/2020 0:05 am", "%m/%d/%Y %I:%M %p", None),
        ("5 2020", "%b %Y", None),
        ("2020 +24:00", "%Y %z", None),
        ("2020 -01:60", "%Y %z", None),
    ],
)
def test_date_formats(text: str, date_format: str, iso: str | None) -> None:
    """A date in a format is the instant of its ISO 8601 text, in every locale; what does not exist is refused."""
    if iso is None:
        with pytest.raises(ValueError, match=r"it is neither|does not exist|out of range|must be in"):
            date_parser(date_format)(text)
    else:
        assert date_parser(date_format)(text) == epoch_seconds(iso)


@pytest.mark.parametrize(
    "date_format, sentence",
    [
        ("%d/%m", "has no year"),
        ("%d %Y", "has a day but no month"),
        ("%Q %Y", "has %Q: use only"),
        ("%Y %Y", "names a part of the date twice"),
        ("%Y %", "has %: use only"),
    ],
)
def test_formats_that_cannot_be_used(date_format: str, sentence: str) -> None:
    """A format without what a date needs is refused with what is wrong."""
    with pytest.raises(DateFormatError, match=sentence):
        date_parser(date_format)


def test_bundles_without_rules_have_no_such_fields() -> None:
    """A signature without rules is written as it always was, and one with them reads back as it is."""
    plain = Signature(inputs=(MONEY.model_copy(update={"text_rule": None}),), target="y").model_dump()
    assert "text_rule" not in plain["inputs"][0]
    assert "ignored" not in plain
    assert Signature.model_validate(json.loads(json.dumps(SIGNATURE.model_dump()))) == SIGNATURE
    with pytest.raises(ValueError, match="the same sign"):
        TextRule(decimal=",", thousands=",")


def test_matrices_of_the_open_inference_protocol() -> None:
    """A number of a matrix that a rule names is missing, as it is in every other request."""
    signature = Signature(inputs=(MONEY, MONEY.model_copy(update={"name": "other", "text_rule": None})), target="y")
    manifest = SimpleNamespace(signature=signature, name="m")
    tensor = Tensor("features", "FP64", (2, 2), np.array([[-999.0, -999.0], [1.5, 2.5]]))
    arrays, rows = Inputs(cast(Manifest, manifest)).arrays({"features": tensor})

    assert rows == 2
    np.testing.assert_array_equal(arrays.numeric, [[math.nan, -999.0], [1.5, 2.5]])
